//! Dynamic cohorts follow the data at once, by passes, without calculations.

use std::thread;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{any_of, did, key, person, request_to, send, start};

const FRESHNESS: TimeDelta = TimeDelta::zero();

#[test]
fn dynamic_cohorts_follow_only_the_data_that_they_read() {
    let server = start(|config| {
        config.calculate = true;
        config.freshness = FRESHNESS;
    });
    let project = server
        .data()
        .admin()
        .create_project("P", "UTC")
        .expect("a project");
    let key = key(&server, &[project.id], &["*"]);
    let ask = |method: Method, rest: &str, body: Option<Value>| {
        let path = format!("/api/projects/{}/{rest}", project.id);
        let mut request = request_to(&server, method.clone(), &path).bearer_auth(&key);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = send(&method, request);
        assert!(answer.status < 300, "{}", answer.text);
        answer.json()
    };
    let capture = |event: &str, id: &str, properties: Value| {
        let batch = json!([{"event": event, "distinct_id": id, "properties": properties}]);
        let body = json!({"api_key": project.token, "batch": batch});
        let request = request_to(&server, Method::POST, "/batch/").json(&body);
        assert_eq!(send(&Method::POST, request).status, 200);
    };
    let send_event = |event: &str, id: &str, set: Value| capture(event, id, json!({"$set": set}));
    let create = |leaf: Value| {
        let body = json!({"name": "c", "filters": any_of(json!([leaf]))});
        ask(Method::POST, "cohorts/", Some(body))["id"]
            .as_i64()
            .expect("an id")
    };
    let show = |id: i64| ask(Method::GET, &format!("cohorts/{id}/"), None);
    let time = |cohort: &Value, name: &str| -> Option<DateTime<Utc>> {
        cohort[name]
            .as_str()
            .map(|text| text.parse().expect("a time"))
    };
    let until = |what: &str, holds: &dyn Fn() -> bool| {
        let start = Instant::now();
        while !holds() {
            assert!(start.elapsed() < Duration::from_secs(30), "{what}");
            thread::sleep(Duration::from_millis(50));
        }
    };
    let runs = |id: i64| {
        let history = ask(
            Method::GET,
            &format!("cohorts/{id}/calculation_history/"),
            None,
        );
        history["count"].as_i64().expect("a count")
    };

    send_event("paid", "a", json!({"plan": "pro"}));
    let paid = create(did("paid", 7));
    let pro = create(person("plan", "exact", "pro"));
    let other = create(json!({"type": "cohort", "key": "id", "value": paid}));
    let all = [paid, pro, other];
    until("all have one member", &|| {
        all.iter().all(|id| show(*id)["count"] == 1)
    });
    until("no cohort needs another calculation", &|| {
        all.iter().all(|id| show(*id)["next_calculation"].is_null())
    });

    // A new person becomes a member of all cohorts without a request.
    send_event("paid", "b", json!({"plan": "pro"}));
    until("all have two members", &|| {
        all.iter().all(|id| show(*id)["count"] == 2)
    });

    // An event that no cohort reads changes only the time up to which the members are right.
    until("all are idle", &|| {
        all.iter().all(|id| show(*id)["is_calculating"] == false)
    });
    let (paid_runs, pro_runs) = (runs(paid), runs(pro));
    send_event("looked", "a", json!({}));
    let sent = Utc::now();
    let is_fresh = |id: i64| time(&show(id), "last_calculation").is_some_and(|last| last > sent);
    until("both are fresh again", &|| is_fresh(paid) && is_fresh(pro));
    assert_eq!((runs(paid), runs(pro)), (paid_runs, pro_runs));

    // A pass is no calculation.
    send_event("looked", "a", json!({"plan": "free"}));
    until("one member has left", &|| show(pro)["count"] == 1);
    assert_eq!((runs(paid), runs(pro)), (paid_runs, pro_runs));
    assert_eq!(show(pro)["version"], 1);

    // A new person has the earlier events of its distinct id.
    capture("paid", "z", json!({"$process_person_profile": false}));
    let sent = Utc::now();
    let is_fresh = |id: i64| time(&show(id), "last_calculation").is_some_and(|last| last > sent);
    until("it is fresh again", &|| is_fresh(paid));
    assert_eq!(show(paid)["count"], 2);
    send_event("looked", "z", json!({}));
    until("there are three members", &|| show(paid)["count"] == 3);

    // Merged persons are counted once.
    capture("$merge_dangerously", "b", json!({"alias": "a"}));
    until("two members became one", &|| {
        show(paid)["count"] == 2 && show(other)["count"] == 2
    });
    server.stop().expect("a clean end");
}
