//! Bodies: which key counts, when a body is refused, and methods that change nothing.

use reqwest::Method;
use reqwest::blocking::multipart::{Form, Part};
use serde_json::json;

use crate::harness::{Project, assert_invalid, cohort_names, id_of, request, send};

/// Conformance case 113.
#[test]
fn key_counts_in_the_order_header_body_query() {
    let project = Project::new();
    let other = project.with_key(project.key_with(&["cohort:read"]));
    let path = project.path("cohorts/");
    let post = |header: Option<&str>, body: &str, query: &str| {
        let path = format!("{path}?personal_api_key={query}");
        let call =
            request(Method::POST, &path).json(&json!({"name": "A", "personal_api_key": body}));
        let call = match header {
            Some(key) => call.bearer_auth(key),
            None => call,
        };
        send(&Method::POST, call).status
    };
    let (writer, reader) = (project.key.as_str(), other.key.as_str());
    assert_eq!(post(Some(writer), reader, "phx_no"), 201);
    assert_eq!(post(Some(reader), writer, writer), 403);
    assert_eq!(post(None, writer, reader), 201);
    assert_eq!(post(None, reader, writer), 403);
    assert_eq!(post(None, "phx_no", writer), 401);
    assert_eq!(post(None, "", writer), 201);
}

#[test]
fn large_body_needs_its_key_in_the_header_or_at_its_start() {
    let project = Project::new();
    let path = project.path("cohorts/");
    let text = "a".repeat(100_000);
    let key = &project.key;
    let post = |body: String| {
        let call = request(Method::POST, &path).header("content-type", "application/json");
        send(&Method::POST, call.body(body))
    };
    let early = post(format!(
        r#"{{"personal_api_key": "{key}", "other": "{text}"}}"#
    ));
    assert_eq!(early.status, 201, "{}", early.text);
    let late = post(format!(
        r#"{{"other": "{text}", "personal_api_key": "{key}"}}"#
    ));
    let detail = late.is_error(401, "not_authenticated", None).detail();
    assert!(
        detail.starts_with("Authentication credentials were not provided."),
        "{detail}"
    );
    assert!(detail.contains("send the key in the header"), "{detail}");
}

#[test]
fn multipart_key_is_accepted_before_the_file() {
    let project = Project::new();
    project.persons([("d1", json!({}))]);
    let post = |form: Form| {
        let call = request(Method::POST, &project.path("cohorts/"));
        send(&Method::POST, call.multipart(form))
    };
    let file = || Part::bytes(b"d1\n".to_vec()).file_name("persons.csv");
    let key = || Form::new().text("personal_api_key", project.key.clone());
    let cohort = post(key().text("is_static", "true").part("csv", file()));
    assert_eq!(cohort.status, 201, "{}", cohort.text);
    assert_eq!(project.members(id_of(&cohort)), ["d1"]);
    let late = Form::new().part("csv", file());
    let late = post(late.text("personal_api_key", project.key.clone()));
    late.is_error(401, "not_authenticated", None);
}

#[test]
fn large_fields_are_read_as_small_ones() {
    let project = Project::new();
    let ids: Vec<String> = (0..5_000)
        .map(|_| uuid::Uuid::new_v4().to_string())
        .collect();
    let body = json!({"name": "A", "is_static": true, "_create_static_person_ids": ids});
    let cohort = project.post("cohorts/", body);
    assert_eq!(cohort.json()["count"], 0, "{}", cohort.text);
    let wrong = project.post("cohorts/", json!({"name": {"a": ids}}));
    assert_invalid(&wrong, Some("name"), "Not a valid string.");
    let deep = format!(
        r#"{{"filters": {}{}, "x": "{}"}}"#,
        "[".repeat(200),
        "]".repeat(200),
        "a".repeat(100_000)
    );
    let call = request(Method::POST, &project.path("cohorts/"))
        .bearer_auth(&project.key)
        .header("content-type", "application/json");
    let deep = send(&Method::POST, call.body(deep));
    deep.is_error(400, "parse_error", None);
}

#[test]
fn body_with_very_many_values_is_refused() {
    let project = Project::new();
    let lists = "[0],".repeat(1_000_000);
    let call = request(Method::POST, &project.path("cohorts/"))
        .bearer_auth(&project.key)
        .header("content-type", "application/json");
    let refused = send(
        &Method::POST,
        call.body(format!(r#"{{"filters": [{lists}[0]]}}"#)),
    );
    let detail = refused.is_error(400, "too_complex", None).detail();
    assert!(detail.contains("too many values"), "{detail}");
}

#[test]
fn head_creates_no_copy_of_a_cohort() {
    let project = Project::new();
    let id = project.cohort(json!({"name": "A"}));
    let path = project.path(&format!("cohorts/{id}/duplicate_as_static_cohort/"));
    let head = request(Method::HEAD, &path).bearer_auth(&project.key);
    let response = head.send().expect("a response");
    assert_eq!(response.status().as_u16(), 405);
    assert_eq!(response.headers()["allow"], "GET, OPTIONS");
    assert_eq!(cohort_names(&project, ""), ["A"]);
    let get = request(Method::GET, &path).bearer_auth(&project.key);
    assert_eq!(send(&Method::GET, get).status, 200);
    assert_eq!(cohort_names(&project, ""), ["A (static copy)", "A"]);
}
