//! After kills of processes no acknowledged event is lost or counted twice, and no cohort is stuck.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use reqwest::Method;
use serde_json::json;
use tempfile::TempDir;

use crate::changes::assert_log_is_right;
use crate::harness::{
    Access, Location, Service, count, database, event, often, sent, signal, until, well,
};

/// A pseudo-random number below `below`, the same in each run.
fn chance(nth: u64, below: u64) -> u64 {
    (nth + 1)
        .wrapping_mul(0x9E37_79B9_7F4A_7C15)
        .rotate_left(23)
        % below
}

/// Sends batches of ten events, repeats each until it is acknowledged, and returns the number of events.
fn write(access: &Access, writer: u128, url: &Mutex<String>, stop: &AtomicBool) -> usize {
    let mut batches = 0;
    while !stop.load(Ordering::Relaxed) {
        let person = format!("w{writer}");
        let first = writer << 40 | (batches as u128 * 10);
        let batch = (0..10).map(|nth| event(&person, first + nth)).collect();
        // Each batch is repeated until it is acknowledged; otherwise its result would be unknown.
        until("a batch is acknowledged", || {
            let url = url.lock().unwrap().clone();
            sent(&url, access, &batch)
        });
        batches += 1;
    }
    batches * 10
}

fn postmaster(directory: &Path) -> Option<PathBuf> {
    let file = directory.join("postgres/data/postmaster.pid");
    file.exists().then_some(file)
}

#[test]
fn acknowledged_events_survive_kills_of_service_and_postgres() {
    let directory = TempDir::new().unwrap();
    let at = Location::Directory(directory.path().to_owned());
    let access = at.project();
    let service = Service::start(&at, &["--freshness", "1"]);
    let cohorts: Vec<i64> = [1, 100, 1_000_000]
        .map(|least| {
            let body = json!({"name": "c", "filters": often(least)});
            let creation = well(&service.url, &access, Method::POST, "cohorts/", Some(&body));
            creation["id"].as_i64().unwrap()
        })
        .to_vec();
    let url = Mutex::new(service.url.clone());
    let mut running = Some(service);
    let stop = AtomicBool::new(false);
    let done: Vec<usize> = thread::scope(|scope| {
        let (access, url, stop) = (&access, &url, &stop);
        let writers: Vec<_> = (1..4)
            .map(|writer| scope.spawn(move || write(access, writer, url, stop)))
            .collect();
        for nth in 0..20 {
            thread::sleep(Duration::from_millis(50 + chance(nth, 500)));
            if nth % 4 == 3 {
                let file = until_there(directory.path());
                let text = fs::read_to_string(file).unwrap();
                signal("KILL", text.lines().next().unwrap().trim().parse().unwrap());
            } else {
                running.take().unwrap().kill();
                let service = running.insert(Service::start(&at, &["--freshness", "1"]));
                (*url.lock().unwrap()).clone_from(&service.url);
            }
        }
        stop.store(true, Ordering::Relaxed);
        writers
            .into_iter()
            .map(|writer| writer.join().unwrap())
            .collect()
    });
    let service = running.unwrap();
    assert!(done.iter().all(|events| *events > 0), "{done:?}");
    // Each writer has exactly its acknowledged events.
    for (events, nth) in done.iter().zip(1..) {
        let exact = json!({"properties": {"type": "AND", "values": [
            {"type": "person", "key": "distinct_id", "operator": "exact", "value": format!("w{nth}")},
            {"type": "behavioral", "value": "performed_event_multiple", "key": "x", "event_type": "events",
                "time_value": 30, "time_interval": "day", "operator": "exact", "operator_value": events}]}});
        assert_eq!(
            count(&service.url, &access, &exact),
            1,
            "writer {nth}, {events} events"
        );
    }
    for (id, least) in cohorts.iter().zip([1, 100, 1_000_000]) {
        let expected = done.iter().filter(|events| **events >= least).count();
        until("a cohort is right", || {
            let cohort = well(
                &service.url,
                &access,
                Method::GET,
                &format!("cohorts/{id}/"),
                None,
            );
            cohort["is_calculating"] == false && cohort["count"] == expected
        });
    }
    assert!(service.stop());
    assert_log_is_right(&at);
}

fn until_there(directory: &Path) -> PathBuf {
    let mut file = None;
    until("Postgres runs", || {
        file = postmaster(directory);
        file.is_some()
    });
    file.unwrap()
}

#[test]
fn replicas_take_over_the_cohorts_of_a_killed_one() {
    let at = Location::Url(database());
    let access = at.project();
    let start = || Service::start(&at, &["--freshness", "1"]);
    let mut replicas = vec![start(), start(), start()];
    for round in 0..10_u128 {
        let batch = (0..100)
            .map(|nth| event(&format!("p{nth}"), round << 32 | nth))
            .collect();
        assert!(sent(&replicas[0].url, &access, &batch));
    }
    let cohorts: Vec<(i64, usize)> = (0..60)
        .map(|nth| {
            let (url, least) = (&replicas[nth % 3].url, nth % 20);
            let body = json!({"name": format!("c{nth}"), "filters": often(least.max(1))});
            let creation = well(url, &access, Method::POST, "cohorts/", Some(&body));
            (creation["id"].as_i64().unwrap(), least)
        })
        .collect();
    for nth in 0..12_usize {
        thread::sleep(Duration::from_millis(chance(nth as u64, 400)));
        let body = json!({"filters": often((nth % 20).max(1))});
        let path = format!("cohorts/{}/", cohorts[nth % 20].0);
        well(
            &replicas[(nth + 1) % 3].url,
            &access,
            Method::PATCH,
            &path,
            Some(&body),
        );
        let place = nth % 3;
        replicas.remove(place).kill();
        replicas.insert(place, start());
    }
    // All are calculated within 30 seconds of the last kill.
    let took = until("all cohorts are calculated", || {
        cohorts.iter().all(|(id, least)| {
            let cohort = well(
                &replicas[0].url,
                &access,
                Method::GET,
                &format!("cohorts/{id}/"),
                None,
            );
            let expected = if *least <= 10 { 100 } else { 0 };
            cohort["is_calculating"] == false
                && cohort["count"] == expected
                && cohort["errors_calculating"] == 0
        })
    });
    assert_log_is_right(&at);
    assert!(took < Duration::from_secs(30), "{took:?}");
}

#[test]
fn slow_cohort_does_not_delay_a_thousand_others() {
    const COHORTS: usize = 1_000;
    let directory = TempDir::new().unwrap();
    let at = Location::Directory(directory.path().to_owned());
    let access = at.project();
    let service = Service::start(&at, &[]);
    let long = "ab".repeat(15_000);
    for round in 0..100_u128 {
        let people: serde_json::Value = (0..20)
            .map(|nth| {
                let mut event = event(&format!("p{}", round * 20 + nth), round << 32 | nth);
                event["properties"]["$set"] = json!({"long": format!("{long}{round}-{nth}")});
                event
            })
            .collect();
        assert!(sent(&service.url, &access, &people));
    }
    let patterns: Vec<String> = (0..1_000)
        .map(|nth| {
            format!(
                "[a-m]{{2}}[^a-z]{{{}}}[n-z]{{{}}}",
                nth % 40 + 3,
                nth / 40 + 1
            )
        })
        .collect();
    let poison = json!({"properties": {"type": "AND", "values": [
        {"type": "person", "key": "long", "operator": "regex", "value": patterns}]}});
    let make = |filters: &serde_json::Value| {
        let body = json!({"name": "c", "filters": filters});
        let creation = well(&service.url, &access, Method::POST, "cohorts/", Some(&body));
        creation["id"].as_i64().unwrap()
    };
    let show = |id: i64| {
        well(
            &service.url,
            &access,
            Method::GET,
            &format!("cohorts/{id}/"),
            None,
        )
    };
    let poisonous = make(&poison);
    for nth in 1..COHORTS {
        make(&often(nth % 3 + 1));
    }
    until("all but one are calculated", || {
        let path = format!("cohorts/?limit={COHORTS}");
        let list = well(&service.url, &access, Method::GET, &path, None);
        let cohorts = list["results"].as_array().unwrap();
        assert_eq!(cohorts.len(), COHORTS);
        let mut others = cohorts.iter().filter(|one| one["id"] != poisonous);
        others.all(|one| !one["last_calculation"].is_null())
    });
    let still = show(poisonous);
    assert_eq!(
        still["is_calculating"], true,
        "it did not take long enough to be of any harm: {still}"
    );
}
