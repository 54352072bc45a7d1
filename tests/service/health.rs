//! Liveness, readiness, metrics and request ids.

use reqwest::Method;

use crate::harness::{Project, get, request};

#[test]
fn liveness_and_readiness_are_reported() {
    let lives = get("/_livez");
    assert_eq!((lives.status, lives.text.as_str()), (200, "ok\n"));
    let ready = get("/_readyz");
    assert_eq!(ready.status, 200);
    let waits = ready.text.strip_prefix("ok\n").expect("ok");
    assert!(waits.contains(" cohorts wait, the first for "), "{waits}");
}

/// Load balancers ask by HEAD.
#[test]
fn head_is_answered_like_get() {
    for path in [
        "/_livez",
        "/_readyz",
        "/metrics",
        "/api/schema/",
        "/api/schema/filters/",
    ] {
        let head = request(Method::HEAD, path).send().expect("a response");
        let seen = |headers: &reqwest::header::HeaderMap| headers["content-type"].clone();
        let get = request(Method::GET, path).send().expect("a response");
        assert_eq!(
            (head.status(), seen(head.headers())),
            (get.status(), seen(get.headers())),
            "{path}"
        );
        assert_eq!(head.text().expect("a text"), "", "{path}");
    }
}

#[test]
fn request_metrics_have_path_patterns_and_no_ids() {
    let project = Project::new();
    project.get("cohorts/424242/");
    let metrics = get("/metrics").text;
    let series = r#"cohorts_request_seconds_count{method="GET",path="/api/projects/{project_id}/cohorts/{id}/",status="404"}"#;
    assert!(metrics.contains(series), "{metrics}");
    assert!(!metrics.contains("424242"), "{metrics}");
}

#[test]
fn every_response_has_its_own_request_id() {
    let (one, other) = (get("/_livez"), get("/nowhere"));
    let id =
        |answer: &crate::harness::Answer| answer.header("x-request-id").expect("an id").to_owned();
    assert_ne!(id(&one), id(&other));
}
