//! Rate limits per key.

use cohorts_server::{Config, RateLimit, Server};
use reqwest::Method;
use serde_json::json;

use crate::harness::{Answer, key, request_to, send, start};

fn server(change: impl FnOnce(&mut Config)) -> (Server, String) {
    let server = start(change);
    let admin = server.data().admin();
    let project = admin.create_project("P", "UTC").expect("a project").id;
    let key = key(&server, &[project], &["*"]);
    (server, key)
}

const LIST: &str = "/api/projects/@current/cohorts/?limit=1";

fn list(server: &Server, key: &str, headers: &[(&str, &str)]) -> Answer {
    let call = request_to(server, Method::GET, LIST).bearer_auth(key);
    let call = headers
        .iter()
        .fold(call, |call, (name, value)| call.header(*name, *value));
    send(&Method::GET, call)
}

#[test]
fn throttled_key_is_told_when_to_retry() {
    let limit = RateLimit {
        per_minute: 3,
        per_hour: 9,
    };
    let (server, first) = server(|config| config.rate_limit = Some(limit));
    for _ in 0..3 {
        assert_eq!(list(&server, &first, &[]).status, 200);
    }
    let refused = list(&server, &first, &[]);
    refused.is_error(429, "throttled", None);
    let seconds: u64 = refused
        .header("retry-after")
        .expect("a time")
        .parse()
        .expect("seconds");
    assert!((1..=60).contains(&seconds), "{seconds}");
    let unit = if seconds == 1 { "second" } else { "seconds" };
    let text = format!("Request was throttled. Expected available in {seconds} {unit}.");
    assert_eq!(refused.detail(), text);

    // Each key has its own limit, and a wrong key is reported before the limit.
    let projects = server
        .data()
        .admin()
        .create_project("Q", "UTC")
        .expect("a project")
        .id;
    assert_eq!(
        list(&server, &key(&server, &[projects], &["*"]), &[]).status,
        200
    );
    list(&server, "phx_unknown", &[]).is_error(401, "authentication_failed", None);
    let method = Method::POST;
    let call = request_to(&server, method.clone(), "/api/projects/@current/cohorts/");
    let broken = call.bearer_auth(&first).json(&json!({"deleted": "banana"}));
    send(&method, broken).is_error(429, "throttled", None);
    server.stop().expect("a clean end");
}

#[test]
fn hourly_limit_applies_beside_the_minute_limit() {
    let limit = RateLimit {
        per_minute: 9,
        per_hour: 1,
    };
    let (server, key) = server(|config| config.rate_limit = Some(limit));
    assert_eq!(list(&server, &key, &[]).status, 200);
    let refused = list(&server, &key, &[]);
    let seconds: u64 = refused
        .header("retry-after")
        .expect("a time")
        .parse()
        .expect("seconds");
    assert!((3_000..=3_600).contains(&seconds), "{seconds}");
    server.stop().expect("a clean end");
}
