//! A service that keeps no changes of members, so that the past of a cohort has expired.

use std::sync::LazyLock;
use std::thread;
use std::time::{Duration, Instant};

use cohorts_server::Server;
use reqwest::Method;
use serde_json::json;

use crate::harness::{Answer, id_of, key, only, person, request_to, send, start};

/// A server with a cohort with members, and a log that lacks their entry.
struct ForgetfulServer {
    server: Server,
    key: String,
    /// The path of the cohort.
    path: String,
}

static FORGETFUL: LazyLock<ForgetfulServer> = LazyLock::new(|| {
    let server = start(|config| {
        config.calculate = true;
        config.change_limit = Some(0);
    });
    let admin = server.data().admin();
    let project = admin.create_project("Forgetful", "UTC").expect("a project");
    let key = key(&server, &[project.id], &["*"]);
    let events = json!({"api_key": project.token, "batch": [{"event": "x", "distinct_id": "a"}]});
    let call = request_to(&server, Method::POST, "/batch/").json(&events);
    assert_eq!(send(&Method::POST, call).status, 200);
    let cohorts = format!("/api/projects/{}/cohorts/", project.id);
    let body = json!({"filters": only(person("plan", "is_not_set", ""))});
    let call = request_to(&server, Method::POST, &cohorts).bearer_auth(&key);
    let cohort = id_of(&send(&Method::POST, call.json(&body)));
    let forgetful = ForgetfulServer {
        path: format!("{cohorts}{cohort}/"),
        server,
        key,
    };
    let start = Instant::now();
    while forgetful.ask("persons/").status != 410 {
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "no change expires"
        );
        thread::sleep(Duration::from_millis(50));
    }
    forgetful
});

impl ForgetfulServer {
    fn ask(&self, list: &str) -> Answer {
        let path = format!("{}{list}?as_of=2020-01-01T00:00:00Z", self.path);
        let call = request_to(&self.server, Method::GET, &path).bearer_auth(&self.key);
        send(&Method::GET, call)
    }
}

/// Asks a list of members for a time before the oldest change.
pub fn members(list: &str) -> Answer {
    FORGETFUL.ask(list)
}

#[test]
fn members_that_the_log_no_longer_has_are_gone() {
    for list in ["persons/", "persons.csv", "persons.ndjson"] {
        let answer = members(list);
        let detail = answer
            .is_error(410, "as_of_expired", Some("as_of"))
            .detail();
        assert!(detail.contains("Send a later `as_of`"), "{detail}");
    }
    // The sizes stay.
    let path = format!("{}sizes/", FORGETFUL.path);
    let call = request_to(&FORGETFUL.server, Method::GET, &path).bearer_auth(&FORGETFUL.key);
    let sizes = send(&Method::GET, call).json();
    assert_eq!(
        sizes["results"]
            .as_array()
            .and_then(|rows| rows.last())
            .map(|row| &row["count"]),
        Some(&json!(1))
    );
}
