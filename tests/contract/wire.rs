//! The wire format where it is easy to get wrong: methods, slashes, links, malformed bodies.

use reqwest::Method;
use reqwest::header::CONTENT_TYPE;
use serde_json::json;

use crate::harness::{Project, any_of, get, key, person, request, send};

#[test]
fn options_and_unsupported_methods_require_a_key() {
    let project = Project::new();
    let list = project.path("cohorts/");
    let reader = project.key_with(&["activity_log:read"]);
    for method in [Method::OPTIONS, Method::PUT] {
        let ask = |path: &str, key: Option<&str>| {
            let call = request(method.clone(), path);
            send(
                &method,
                key.iter().fold(call, |call, key| call.bearer_auth(key)),
            )
        };
        ask(&list, None).is_error(401, "not_authenticated", None);
        ask(&list, Some("phx_no")).is_error(401, "authentication_failed", None);
        ask("/api/projects/999999999/cohorts/", Some(&project.key)).is_error(
            404,
            "not_found",
            None,
        );
    }
    let ask = |key: &str| {
        let call = request(Method::OPTIONS, &list).bearer_auth(key);
        send(&Method::OPTIONS, call)
    };
    assert_eq!(ask(&project.key).status, 200);
    let refused = ask(&reader);
    refused.is_error(403, "permission_denied", None);
    assert!(refused.detail().contains("cohort:read"));
}

/// Conformance case 118.
#[test]
fn put_on_a_list_is_not_allowed() {
    let project = Project::new();
    let answer = project.ask(Method::PUT, "cohorts", None);
    let detail = answer.is_error(405, "method_not_allowed", None).detail();
    assert_eq!(detail, r#"Method "PUT" not allowed."#);
    let allowed: Vec<&str> = answer
        .header("allow")
        .expect("a header")
        .split(", ")
        .collect();
    for method in ["GET", "POST", "HEAD", "OPTIONS"] {
        assert!(allowed.contains(&method), "{allowed:?}");
    }
}

#[test]
fn allow_header_has_the_methods_in_order() {
    let project = Project::new();
    let answer = project.ask(Method::PUT, "cohorts/", None);
    answer.is_error(405, "method_not_allowed", None);
    assert_eq!(answer.detail(), "Method \"PUT\" not allowed.");
    assert_eq!(answer.header("allow"), Some("GET, POST, HEAD, OPTIONS"));
}

/// Conformance case 116.
#[test]
fn malformed_json_is_a_parse_error() {
    let project = Project::new();
    let call = request(Method::POST, &project.path("cohorts")).bearer_auth(&project.key);
    let call = call.header(CONTENT_TYPE, "application/json");
    let answer = send(&Method::POST, call.body(r#"{"name": "#));
    let detail = answer.is_error(400, "parse_error", None).detail();
    assert!(detail.contains("JSON parse error"), "{detail}");
    assert_eq!(answer.json()["type"], "invalid_request");
}

#[test]
fn links_repeat_the_requested_path() {
    let project = Project::new();
    let id = project.cohort(json!({}));
    project.cohort(json!({}));
    project.persons([("a", json!({})), ("b", json!({}))]);
    let key = key(project.server, &[project.id], &["*"]);
    let next = |path: &str| {
        let answer = send(&Method::GET, request(Method::GET, path).bearer_auth(&key));
        let next = answer.json()["next"].as_str().expect("a link").to_owned();
        next.strip_prefix(&project.server.url())
            .expect("this server")
            .to_owned()
    };
    assert_eq!(
        next("/api/cohort/?limit=1"),
        "/api/cohort/?limit=1&offset=1"
    );
    let activity = next("/api/cohort/activity?limit=1");
    assert_eq!(activity, "/api/cohort/activity?limit=1&page=2");
    let everyone = any_of(json!([person("nothing", "is_not_set", "")]));
    project.patch(&format!("cohorts/{id}/"), json!({"filters": everyone}));
    project.settle(id);
    let persons = project.path(&format!("cohorts/{id}/persons.json"));
    assert_eq!(
        next(&format!("{persons}?limit=1")),
        format!("{persons}?limit=1&offset=1")
    );
    assert_eq!(
        project.get(&format!("cohorts/{id}/persons.csv/")).status,
        200
    );
    assert_eq!(
        next("/api/cohort/?limit=1&a=~*%20b"),
        "/api/cohort/?a=~%2A+b&limit=1&offset=1"
    );
}

#[test]
fn trailing_slash_is_optional_and_never_redirected() {
    let project = Project::new();
    for path in ["cohorts", "cohorts/", "cohorts?limit=1", "cohorts/?limit=1"] {
        assert_eq!(project.get(path).status, 200, "{path}");
    }
}

#[test]
fn unknown_path_is_answered_with_the_error_envelope() {
    for path in ["/nowhere", "/api/nowhere/", "/api/projects/1/nowhere/"] {
        get(path).is_error(404, "not_found", None);
    }
}
