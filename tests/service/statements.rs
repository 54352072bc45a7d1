//! The number of statements that a request sends to the database does not depend on the number of rows.

use cohorts_server::Server;
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{key, request_to, send, start};

struct Session {
    server: Server,
    key: String,
    token: String,
}

impl Session {
    /// Starts a separate server, because requests of other tests would be counted too.
    fn new() -> Self {
        let server = start(|_| {});
        let project = server
            .data()
            .admin()
            .create_project("P", "UTC")
            .expect("a project");
        let key = key(&server, &[project.id], &["*"]);
        Self {
            server,
            key,
            token: project.token,
        }
    }

    fn post(&self, path: &str, body: Value) -> Value {
        let call = request_to(&self.server, Method::POST, path).bearer_auth(&self.key);
        let answer = send(&Method::POST, call.json(&body));
        assert!(answer.status < 300, "{}", answer.text);
        answer.json()
    }

    fn statements(&self) -> u64 {
        let call = request_to(&self.server, Method::GET, "/metrics");
        let text = send(&Method::GET, call).text;
        let count = text
            .lines()
            .find_map(|line| line.strip_prefix("cohorts_database_statements_total "));
        count.expect("a count").parse().expect("a number")
    }

    /// The statements of a request with a key that was looked up a moment ago, and the rows in its response.
    fn count(&self, path: &str) -> (u64, usize) {
        let counts = [(); 3].map(|()| self.count_once(path));
        counts.into_iter().min().expect("three counts")
    }

    fn count_once(&self, path: &str) -> (u64, usize) {
        let before = self.statements();
        let call = request_to(&self.server, Method::GET, path).bearer_auth(&self.key);
        let page = send(&Method::GET, call);
        assert_eq!(page.status, 200, "{path}: {}", page.text);
        let rows = page.json()["results"].as_array().map_or(1, Vec::len);
        (self.statements() - before, rows)
    }

    /// The statements that create a cohort, with a key that was looked up a moment ago.
    fn count_creation(&self, filters: &Value) -> u64 {
        let counts = [(); 3].map(|()| {
            let before = self.statements();
            self.post(COHORTS, json!({"name": "A", "filters": filters}));
            self.statements() - before
        });
        counts.into_iter().min().expect("three counts")
    }

    fn persons(&self, count: usize, from: usize) {
        let one = |number: usize| json!({"event": "x", "distinct_id": format!("d{number}")});
        let batch: Vec<Value> = (from..count).map(one).collect();
        self.post("/batch/", json!({"api_key": self.token, "batch": batch}));
    }

    fn cohorts(&self, count: usize, first: i64) -> i64 {
        let leaf = json!({"type": "cohort", "key": "id", "value": first});
        let filters = json!({"properties": {"type": "OR", "values": [leaf]}});
        let mut last = 0;
        for _ in 0..count {
            let cohort = self.post(COHORTS, json!({"name": "A", "filters": filters}));
            last = cohort["id"].as_i64().expect("an id");
        }
        last
    }
}

#[test]
fn a_second_look_up_of_a_person_needs_no_statement() {
    let session = Session::new();
    session.persons(2, 0);
    let body = json!({"is_static": true, "name": "A"});
    session.post(COHORTS, body);
    let page = request_to(
        &session.server,
        Method::GET,
        "/api/projects/@current/persons/",
    );
    let page = send(&Method::GET, page.bearer_auth(&session.key)).json();
    let uuid = page["results"][0]["id"].as_str().expect("a person");
    for person in [format!("person_id={uuid}"), "distinct_id=d0".to_owned()] {
        let path = format!("/api/projects/@current/persons/cohorts/?{person}");
        let counts = (0..20).map(|_| session.count_once(&path).0);
        assert_eq!(counts.min(), Some(0), "{path}");
    }
    session.server.stop().expect("a clean end");
}

const COHORTS: &str = "/api/projects/@current/cohorts/";

#[test]
fn statement_count_does_not_grow_with_rows() {
    let session = Session::new();
    session.persons(1, 0);
    let list = json!({"is_static": true, "name": "A"});
    let first = session.post(COHORTS, list)["id"].as_i64().expect("an id");
    session.cohorts(1, first);
    let paths = [
        COHORTS.to_owned(),
        format!("{COHORTS}?search=a&hide_behavioral_cohorts=true&basic=true"),
        format!("{COHORTS}activity/?limit=1000"),
        format!("{COHORTS}{first}/used_in/"),
        "/api/projects/@current/persons/".to_owned(),
        "/api/projects/@current/persons/?search=d".to_owned(),
        "/api/projects/".to_owned(),
    ];
    // The first request of each path fills the caches.
    for path in &paths {
        session.count(path);
    }
    let few: Vec<(u64, usize)> = paths.iter().map(|path| session.count(path)).collect();
    session.persons(60, 1);
    session.cohorts(30, first);
    for path in &paths {
        session.count(path);
    }
    let many: Vec<(u64, usize)> = paths.iter().map(|path| session.count(path)).collect();
    for ((path, few), many) in paths.iter().zip(&few).zip(&many) {
        assert_eq!(few.0, many.0, "{path}: {few:?} {many:?}");
        assert!(few.0 > 0, "{path}");
    }
    assert!(many[0].1 > 30 && many[4].1 == 60, "{many:?}");

    // Creating a cohort takes the same number of statements for any number of references.
    let leaf = |id: i64| json!({"type": "cohort", "key": "id", "value": id});
    let one = session.cohorts(1, first);
    let filters = json!({"properties": {"type": "OR", "values": [leaf(first)]}});
    let statements_for_one = session.count_creation(&filters);
    let leaves: Vec<Value> = (first..=one).map(leaf).collect();
    let filters = json!({"properties": {"type": "OR", "values": leaves}});
    assert_eq!(session.count_creation(&filters), statements_for_one);
    session.server.stop().expect("a clean end");
}
