//! How many statements a request sends to the database: as many for one row as for a hundred.

use cohorts_server::Server;
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{key, request_to, scratch_dir, send, start};

struct Asker {
    server: Server,
    key: String,
    token: String,
}

impl Asker {
    /// A server of its own, since all requests count.
    fn new() -> Self {
        let server = start(&scratch_dir("statements"), false);
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
        let asked = request_to(&self.server, Method::POST, path).bearer_auth(&self.key);
        let answer = send(&Method::POST, asked.json(&body));
        assert!(answer.status < 300, "{}", answer.text);
        answer.json()
    }

    fn statements(&self) -> u64 {
        let asked = request_to(&self.server, Method::GET, "/metrics");
        let text = send(&Method::GET, asked).text;
        let count = text
            .lines()
            .find_map(|line| line.strip_prefix("cohorts_database_statements_total "));
        count.expect("a count").parse().expect("a number")
    }

    /// The statements of one request, and how many rows it showed.
    fn count(&self, path: &str) -> (u64, usize) {
        let before = self.statements();
        let asked = request_to(&self.server, Method::GET, path).bearer_auth(&self.key);
        let page = send(&Method::GET, asked);
        assert_eq!(page.status, 200, "{path}: {}", page.text);
        let rows = page.json()["results"].as_array().map_or(1, Vec::len);
        (self.statements() - before, rows)
    }

    fn people(&self, count: usize, from: usize) {
        let one = |number: usize| json!({"event": "x", "distinct_id": format!("d{number}")});
        let batch: Vec<Value> = (from..count).map(one).collect();
        self.post("/batch/", json!({"api_key": self.token, "batch": batch}));
    }

    fn cohorts(&self, count: usize, first: i64) -> i64 {
        let leaf = json!({"type": "cohort", "key": "id", "value": first});
        let filters = json!({"properties": {"type": "OR", "values": [leaf]}});
        let mut last = 0;
        for _ in 0..count {
            let made = self.post(COHORTS, json!({"name": "A", "filters": filters}));
            last = made["id"].as_i64().expect("an id");
        }
        last
    }
}

const COHORTS: &str = "/api/projects/@current/cohorts/";

#[test]
fn the_number_of_statements_does_not_grow_with_the_rows() {
    let asker = Asker::new();
    asker.people(1, 0);
    let list = json!({"is_static": true, "name": "A"});
    let first = asker.post(COHORTS, list)["id"].as_i64().expect("an id");
    asker.cohorts(1, first);
    let paths = [
        COHORTS.to_owned(),
        format!("{COHORTS}?search=a&hide_behavioral_cohorts=true&basic=true"),
        format!("{COHORTS}activity/?limit=1000"),
        format!("{COHORTS}{first}/used_in/"),
        "/api/projects/@current/persons/".to_owned(),
        "/api/projects/@current/persons/?search=d".to_owned(),
        "/api/projects/".to_owned(),
    ];
    // What is kept in memory is there from the second time on.
    for path in &paths {
        asker.count(path);
    }
    let few: Vec<(u64, usize)> = paths.iter().map(|path| asker.count(path)).collect();
    asker.people(60, 1);
    asker.cohorts(30, first);
    for path in &paths {
        asker.count(path);
    }
    let many: Vec<(u64, usize)> = paths.iter().map(|path| asker.count(path)).collect();
    for ((path, few), many) in paths.iter().zip(&few).zip(&many) {
        assert_eq!(few.0, many.0, "{path}: {few:?} {many:?}");
        assert!(few.0 > 0, "{path}");
    }
    assert!(many[0].1 > 30 && many[4].1 == 60, "{many:?}");

    // One cohort or change costs as much, whatever it refers to.
    let before = asker.statements();
    let one = asker.cohorts(1, first);
    let for_one = asker.statements() - before;
    let leaf = |id: i64| json!({"type": "cohort", "key": "id", "value": id});
    let leaves: Vec<Value> = (first..=one).map(leaf).collect();
    let filters = json!({"properties": {"type": "OR", "values": leaves}});
    let before = asker.statements();
    asker.post(COHORTS, json!({"name": "A", "filters": filters}));
    assert_eq!(asker.statements() - before, for_one);
    asker.server.stop().expect("a clean end");
}
