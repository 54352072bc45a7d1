//! Several processes keep the cohorts of one database live, and continue for each other without a calculation.

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};
use reqwest::Method;
use reqwest::blocking::Client;
use serde_json::{Value, json};

use crate::changes::assert_log_is_right;
use crate::harness::{Access, Location, Service, database, event, often, sent, until, well};

/// A cohort that two services share.
struct SharedCohort {
    at: Location,
    access: Access,
    id: Value,
    sent: u128,
}

#[derive(QueryableByName)]
struct LeaseHolder {
    #[diesel(sql_type = Text)]
    process: String,
}

#[derive(QueryableByName)]
struct LiveCount {
    #[diesel(sql_type = BigInt)]
    count: i64,
}

impl SharedCohort {
    fn create() -> (Self, Service) {
        let at = Location::Url(database());
        let access = at.project();
        let service = Service::start(&at, &[]);
        let body = json!({"name": "c", "filters": often(1)});
        let created = well(&service.url, &access, Method::POST, "cohorts/", Some(&body));
        let cohort = Self {
            at,
            access,
            id: created["id"].clone(),
            sent: 0,
        };
        until("the cohort is live", || cohort.live_cohorts() == 1);
        (cohort, service)
    }

    fn conn(&self) -> PgConnection {
        let Location::Url(url) = &self.at else {
            unreachable!()
        };
        PgConnection::establish(url).unwrap()
    }

    fn live_cohorts(&self) -> i64 {
        let statement = "select count(*) as count from cohorts where is_live";
        let counted: LiveCount = diesel::sql_query(statement)
            .get_result(&mut self.conn())
            .unwrap();
        counted.count
    }

    /// The id of the process with the lease.
    fn holder(&self) -> u32 {
        let statement = "select process from live_projects";
        let holder: LeaseHolder = diesel::sql_query(statement)
            .get_result(&mut self.conn())
            .unwrap();
        holder.process.split(' ').next().unwrap().parse().unwrap()
    }

    /// Sends an event of another person, and waits until the cohort has all of them.
    fn follows(&mut self, service: &Service) {
        self.sent += 1;
        let person = format!("p{}", self.sent);
        assert!(sent(
            &service.url,
            &self.access,
            &json!([event(&person, self.sent)])
        ));
        let path = format!("cohorts/{}/", self.id);
        until("the person is a member", || {
            let shown = well(&service.url, &self.access, Method::GET, &path, None);
            shown["count"] == self.sent as u64
        });
    }

    /// The number of calculations of the cohort.
    fn calculations(&self, service: &Service) -> Value {
        let path = format!("cohorts/{}/calculation_history/", self.id);
        well(&service.url, &self.access, Method::GET, &path, None)["count"].clone()
    }
}

#[test]
fn another_process_continues_where_a_killed_one_was() {
    let (mut cohort, first) = SharedCohort::create();
    let second = Service::start(&cohort.at, &[]);
    cohort.follows(&first);
    assert_eq!(cohort.holder(), first.pid());
    first.kill();
    cohort.follows(&second);
    assert_eq!(cohort.holder(), second.pid());
    assert_eq!(cohort.calculations(&second), 1, "only the first one");
    let metrics = Client::new().get(format!("{}/metrics", second.url)).send();
    let metrics = metrics.unwrap().text().unwrap();
    assert!(
        !metrics.contains("cohorts_full_evaluations_total{"),
        "{metrics}"
    );
    assert!(second.stop());
    assert_log_is_right(&cohort.at);
}

#[test]
fn a_process_that_ends_gives_its_projects_to_another_one() {
    let (mut cohort, first) = SharedCohort::create();
    let second = Service::start(&cohort.at, &[]);
    cohort.follows(&first);
    assert!(first.stop());
    cohort.follows(&second);
    assert_eq!(cohort.holder(), second.pid());
    let third = Service::start(&cohort.at, &[]);
    assert!(second.stop());
    cohort.follows(&third);
    assert_eq!(cohort.calculations(&third), 1);
}

#[test]
fn writes_of_one_process_show_through_the_passes_of_another() {
    let (mut cohort, first) = SharedCohort::create();
    let others = [(); 2].map(|()| Service::start(&cohort.at, &[]));
    for _ in 0..3 {
        others.iter().for_each(|service| cohort.follows(service));
    }
    assert_eq!(cohort.holder(), first.pid());
    assert_eq!(cohort.calculations(&first), 1);
}
