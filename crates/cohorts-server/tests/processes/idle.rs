//! What a service costs that has nothing to do.

use std::thread;
use std::time::{Duration, Instant};

use reqwest::Method;
use reqwest::blocking::Client;
use serde_json::json;

use crate::harness::{Location, Service, database, event, often, sent, until, well};

/// As long as the slowest regular task of an idle service.
const WINDOW: Duration = Duration::from_secs(10);
const MOST_STATEMENTS: f64 = 8.0;

/// The sum of the values of a metric.
fn metric(service: &Service, name: &str) -> f64 {
    let text = Client::new().get(format!("{}/metrics", service.url)).send();
    let text = text.unwrap().text().unwrap();
    let lines = text.lines().filter(|line| line.starts_with(name));
    let values = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    values.sum()
}

/// The statements of the service a second, over a window. A slow machine only makes them fewer.
fn statements_per_second(service: &Service) -> f64 {
    let count = || metric(service, "cohorts_database_statements_total");
    let (before, begun) = (count(), Instant::now());
    thread::sleep(WINDOW);
    (count() - before) / begun.elapsed().as_secs_f64()
}

#[test]
fn an_idle_service_sends_few_statements() {
    const COHORTS: usize = 20;
    let at = Location::Url(database());
    let access = at.project();
    let service = Service::start(&at, &[]);
    for least in 1..=COHORTS {
        let body = json!({"name": "counting", "filters": often(least)});
        well(&service.url, &access, Method::POST, "cohorts/", Some(&body));
    }
    assert!(sent(&service.url, &access, &json!([event("p0", 0)])));
    until("all cohorts are live", || {
        metric(&service, "cohorts_live{live=\"true\"}") >= COHORTS as f64
    });
    // The hints are checked, and the first of all regular tasks have run, after a while.
    until("the service is idle", || {
        statements_per_second(&service) < MOST_STATEMENTS
    });
    assert!(service.stop());
}
