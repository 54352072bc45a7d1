//! Captures beyond the memory limit are rejected, and senders that retry lose nothing.

use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::harness::{any_of, key, person, request_to, send, start};

#[test]
fn captures_over_the_memory_limit_are_rejected_and_succeed_on_retry() {
    let server = start(|config| {
        config.request_memory = 1 << 20;
    });
    let project = server
        .data()
        .admin()
        .create_project("P", "UTC")
        .expect("a project");
    let batch = |sender: usize, round: usize| {
        let event = |number: usize| {
            json!({"event": "x", "distinct_id": format!("p{sender}"), "uuid": Uuid::new_v4(),
                "properties": {"text": "a".repeat(10_000), "$set": {format!("k{round}"): number}}})
        };
        let events: Vec<Value> = (0..20).map(event).collect();
        json!({"api_key": project.token, "batch": events})
    };
    let refused: usize = std::thread::scope(|scope| {
        let sender = |sender| {
            let (server, batch) = (&server, &batch);
            scope.spawn(move || {
                let mut refused = 0;
                for round in 0..4 {
                    let body = batch(sender, round);
                    loop {
                        let call = request_to(server, Method::POST, "/batch/").json(&body);
                        let answer = send(&Method::POST, call);
                        if answer.status == 200 {
                            break;
                        }
                        answer.is_error(503, "overloaded", None);
                        // The memory of all requests, or the share of the project, is used up.
                        assert!(matches!(answer.header("retry-after"), Some("1" | "5")));
                        refused += 1;
                    }
                }
                refused
            })
        };
        let senders: Vec<_> = (0..8).map(sender).collect();
        senders
            .into_iter()
            .map(|sender| sender.join().expect("an end"))
            .sum()
    });
    assert!(refused > 0, "the memory was never used up");
    let key = key(&server, &[project.id], &["*"]);
    let times = json!({"type": "behavioral", "key": "x", "value": "performed_event_multiple",
        "event_type": "events", "time_value": 1, "time_interval": "day",
        "operator": "exact", "operator_value": 80});
    for leaf in [times, person("k3", "exact", 19)] {
        let path = format!("/api/projects/{}/cohorts/preview/", project.id);
        let call = request_to(&server, Method::POST, &path).bearer_auth(&key);
        let actual = send(
            &Method::POST,
            call.json(&json!({"filters": any_of(json!([leaf]))})),
        );
        assert_eq!(actual.json()["count"], 8, "{}", actual.text);
    }
    server.stop().expect("a clean end");
}
