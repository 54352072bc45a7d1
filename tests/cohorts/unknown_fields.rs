//! Unknown fields of a body: those near a known one are refused, and all others are ignored.

use reqwest::Method;
use reqwest::blocking::multipart::Form;
use serde_json::{Value, json};

use crate::harness::{
    Answer, Project, assert_invalid, cohort_names, cohort_path, only, person, request, send,
};

fn refused(answer: &Answer, name: &str, meant: &str) {
    let detail = answer.is_error(400, "unknown_field", Some(name)).detail();
    let expected = format!("`{name}` is not a field of this body. Did you mean `{meant}`?");
    assert_eq!(detail, expected);
}

fn with_field(name: &str) -> Value {
    let mut body = json!({"name": "A"});
    body[name] = json!(1);
    body
}

const MISTAKES: [(&str, &str); 6] = [
    ("filterz", "filters"),
    ("is_Static", "is_static"),
    ("isStatic", "is_static"),
    ("descripton", "description"),
    ("qurey", "query"),
    ("group", "groups"),
];

#[test]
fn field_near_a_known_one_is_refused_by_all_operations_on_a_cohort() {
    let project = Project::new();
    let id = project.cohort(json!({"name": "before"}));
    for (name, meant) in MISTAKES {
        let body = with_field(name);
        refused(&project.post("cohorts/", body.clone()), name, meant);
        refused(&project.patch(&cohort_path(id), body.clone()), name, meant);
        let put = project.ask(Method::PUT, &cohort_path(id), Some(body));
        refused(&put, name, meant);
    }
    assert_eq!(cohort_names(&project, ""), ["before"]);
    let filters = only(person("plan", "exact", "pro"));
    let preview = |body: Value| project.post("cohorts/preview/", body);
    refused(
        &preview(json!({"filters": filters, "samples": 3})),
        "samples",
        "sample",
    );
    refused(
        &preview(json!({"filters": filters, "asOf": "2026-01-01"})),
        "asOf",
        "as_of",
    );
}

#[test]
fn field_near_a_known_one_is_refused_in_forms() {
    let project = Project::new();
    let call = || request(Method::POST, &project.path("cohorts/")).bearer_auth(&project.key);
    let form = call().form(&[("name", "A"), ("filterz", "{}")]);
    refused(&send(&Method::POST, form), "filterz", "filters");
    let parts = Form::new().text("name", "A").text("is_statik", "true");
    refused(
        &send(&Method::POST, call().multipart(parts)),
        "is_statik",
        "is_static",
    );
    assert_eq!(cohort_names(&project, ""), Vec::<String>::new());
}

/// The options of a file are fields of forms only, because a JSON body has no file.
#[test]
fn options_of_a_file_are_fields_of_forms_only() {
    let project = Project::new();
    let call = || request(Method::POST, &project.path("cohorts/")).bearer_auth(&project.key);
    let form = |fields: &[(&str, &str)]| send(&Method::POST, call().form(fields));
    for name in ["create_people", "replace_members", "allow_empty"] {
        let wrong = form(&[("name", "A"), (name, "banana")]);
        assert_invalid(&wrong, Some(name), "Must be a valid boolean.");
        let parts = Form::new().text("name", "A").text(name, "banana");
        let wrong = send(&Method::POST, call().multipart(parts));
        assert_invalid(&wrong, Some(name), "Must be a valid boolean.");
        assert_eq!(form(&[("name", "form"), (name, "true")]).status, 201);
        let json = project.post("cohorts/", json!({"name": "json", name: "banana"}));
        assert_eq!(json.status, 201, "{}", json.text);
    }
    let near = form(&[("name", "A"), ("create_peeple", "true")]);
    refused(&near, "create_peeple", "create_people");
}

#[test]
fn response_can_be_sent_back() {
    let project = Project::new();
    let id = project.cohort(json!({"name": "A", "filters": only(person("plan", "exact", "pro"))}));
    let mut cohort = project.settle(id);
    // The stored type is never a valid one to send, as in PostHog.
    cohort["cohort_type"] = Value::Null;
    for method in [Method::PUT, Method::PATCH] {
        let answer = project.ask(method, &cohort_path(id), Some(cohort.clone()));
        assert_eq!(answer.status, 200, "{}", answer.text);
    }
    let created = project.post("cohorts/", cohort.clone());
    assert_eq!(created.status, 201, "{}", created.text);
    let preview = project.post("cohorts/preview/", cohort);
    assert_eq!(preview.status, 200, "{}", preview.text);
}

#[test]
fn fields_of_posthog_and_other_fields_are_ignored() {
    let project = Project::new();
    let body = json!({"name": "A", "team_id": 1, "user_access_level": "editor", "people": [], "kind": "x",
        "_create_in_folder": "A/B", "_create_static_person_ids": [], "last_backfill_events_at": null,
        "x": 1, "properties": {}, "comment": "c", "": 1, "filters_of_another_product": 1});
    let cohort = project.post("cohorts/", body);
    assert_eq!(cohort.status, 201, "{}", cohort.text);
}

#[test]
fn invalid_known_field_is_reported_first() {
    let project = Project::new();
    let body = json!({"filterz": 1, "is_static": "banana"});
    let answer = project.post("cohorts/", body);
    assert_invalid(&answer, Some("is_static"), "Must be a valid boolean.");
    let answer = project.post("cohorts/", json!({"filterz": 1, "filters": {"x": 1}}));
    answer.is_error(400, "invalid_input", Some("filters__detail"));
}
