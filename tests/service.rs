//! The service's own endpoints, and what every answer has.

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Project, any_of, did, person, request, send};
use crate::spec;

fn get(path: &str) -> crate::harness::Answer {
    send(&Method::GET, request(Method::GET, path))
}

#[test]
fn it_says_that_it_lives_and_is_ready() {
    let lives = get("/_livez");
    assert_eq!((lives.status, lives.text.as_str()), (200, "ok\n"));
    let ready = get("/_readyz");
    assert_eq!(ready.status, 200);
    let waits = ready.text.strip_prefix("ok\n").expect("ok");
    assert!(waits.contains(" cohorts wait, the first for "), "{waits}");
}

#[test]
fn it_counts_requests_by_pattern_and_never_by_id() {
    let project = Project::new();
    project.get("cohorts/424242/");
    let metrics = get("/metrics").text;
    let series = r#"cohorts_request_seconds_count{method="GET",path="/api/projects/{project_id}/cohorts/{id}/",status="404"}"#;
    assert!(metrics.contains(series), "{metrics}");
    assert!(!metrics.contains("424242"), "{metrics}");
}

#[test]
fn the_document_is_the_contract_in_both_forms() {
    let json = get("/api/schema/").json();
    assert_eq!(json, *spec::DOCUMENT);
    let yaml: Value = serde_yaml_ng::from_str(&get("/api/schema/?format=yaml").text).expect("YAML");
    assert_eq!(yaml, *spec::DOCUMENT);
}

#[test]
fn editors_are_told_what_a_filter_is() {
    let schema = get("/api/schema/filters/").json();
    let schema = jsonschema::draft202012::new(&schema).expect("a schema");
    let filters = any_of(json!([person("plan", "exact", "pro"), did("paid", 7)]));
    assert!(schema.is_valid(&filters));
    for wrong in [
        json!({}),
        any_of(json!([{"type": "person", "key": "plan"}])),
    ] {
        assert!(!schema.is_valid(&wrong), "{wrong}");
    }
}

#[test]
fn the_own_endpoints_are_described_apart_from_the_contract() {
    let document = get("/api/schema/service/").json();
    let paths: Vec<&String> = document["paths"]
        .as_object()
        .expect("paths")
        .keys()
        .collect();
    assert_eq!(
        paths,
        [
            "/_livez",
            "/_readyz",
            "/api/schema/filters/",
            "/array/{token}/config.js",
            "/metrics"
        ]
    );
}

#[test]
fn every_answer_names_its_request() {
    let (one, other) = (get("/_livez"), get("/nowhere"));
    let id =
        |answer: &crate::harness::Answer| answer.header("x-request-id").expect("an id").to_owned();
    assert_ne!(id(&one), id(&other));
}

#[test]
fn an_unknown_path_is_answered_in_the_envelope() {
    for path in ["/nowhere", "/api/nowhere/", "/api/projects/1/nowhere/"] {
        get(path).is_error(404, "not_found", None);
    }
}

#[test]
fn both_slash_forms_are_answered_without_a_redirect() {
    let project = Project::new();
    for path in ["cohorts", "cohorts/", "cohorts?limit=1", "cohorts/?limit=1"] {
        assert_eq!(project.get(path).status, 200, "{path}");
    }
}
