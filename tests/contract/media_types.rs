//! Each operation with a body in each media type that the contract lists, and the effect of the request.

use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::Method;
use reqwest::blocking::RequestBuilder;
use reqwest::blocking::multipart::{Form, Part};
use serde_json::{Value, json};

use crate::contract::spec;
use crate::harness::{Project, any_of, cohort_path, first_ids, id_of, person, request, send};
use crate::service::console;

const JSON: &str = "application/json";
const TEXT: &str = "text/plain";
const FORM: &str = "application/x-www-form-urlencoded";
const MULTIPART: &str = "multipart/form-data";

type Check = fn(&Project);

/// An operation, a media type, and a request with its effect.
const ROWS: &[(&str, &str, Check)] = &[
    ("cohorts_create", JSON, |p| {
        assert_eq!(created(p, |call| call.json(&json!({"name": "a"}))), "a");
    }),
    ("cohorts_create", FORM, |p| {
        assert_eq!(created(p, |call| call.form(&[("name", "b")])), "b");
    }),
    ("cohorts_create", MULTIPART, |p| {
        assert_eq!(
            created(p, |call| call.multipart(file().text("name", "c"))),
            "c"
        );
    }),
    ("cohorts_preview", JSON, |p| {
        p.persons([("d1", json!({"plan": "pro"})), ("d2", json!({}))]);
        let filters = any_of(json!([person("plan", "exact", "pro")]));
        let preview = p.post("cohorts/preview/", json!({"filters": filters}));
        assert_eq!(preview.json()["count"], 1);
    }),
    ("cohorts_explain_create", JSON, |p| {
        p.persons([("d1", json!({"plan": "pro"}))]);
        let filters = any_of(json!([person("plan", "exact", "pro")]));
        let body = json!({"filters": filters, "distinct_id": "d1"});
        assert_eq!(p.post("cohorts/explain/", body).json()["member"], true);
    }),
    ("cohorts_memberships", JSON, |p| {
        let cohort = static_cohort(p);
        let body = json!({"distinct_ids": ["d1"], "cohort_ids": [cohort]});
        let memberships = p.post("cohorts/memberships/", body).json();
        assert_eq!(memberships["results"][0]["person_id"], p.person("d1"));
    }),
    ("cohorts_overlap", JSON, |p| {
        let body = json!({"cohort_ids": [static_cohort(p)]});
        let overlap = p.post("cohorts/overlap/", body).json();
        assert_eq!(overlap, json!({"counts": [0], "intersections": [[0]]}));
    }),
    ("cohorts_compare", JSON, |p| {
        let path = format!("cohorts/{}/compare/", static_cohort(p));
        let compared = p.post(&path, json!({"keys": ["plan"]})).json();
        assert_eq!(
            (&compared["inside"], &compared["outside"]),
            (&json!(0), &json!(1))
        );
        assert_eq!(compared["properties"][0]["key"], "plan");
    }),
    ("cohorts_update", JSON, |p| renamed(p, Method::PUT, JSON)),
    ("cohorts_update", FORM, |p| renamed(p, Method::PUT, FORM)),
    ("cohorts_update", MULTIPART, |p| filled(p, Method::PUT)),
    ("cohorts_partial_update", JSON, |p| {
        renamed(p, Method::PATCH, JSON);
    }),
    ("cohorts_partial_update", FORM, |p| {
        renamed(p, Method::PATCH, FORM);
    }),
    ("cohorts_partial_update", MULTIPART, |p| {
        filled(p, Method::PATCH);
    }),
    (
        "cohorts_add_persons_to_static_cohort_partial_update",
        JSON,
        |p| {
            let id = static_cohort(p);
            let body = json!({"person_ids": [p.person("d1")]});
            let path = format!("cohorts/{id}/add_persons_to_static_cohort/");
            assert_eq!(p.patch(&path, body).status, 200);
            assert_eq!(p.members(id), ["d1"]);
        },
    ),
    (
        "cohorts_remove_person_from_static_cohort_partial_update",
        JSON,
        |p| {
            p.persons([("d1", json!({}))]);
            let id = id_of(&p.upload(None, "d1\n", &[]));
            let body = json!({"person_id": p.person("d1")});
            let path = format!("cohorts/{id}/remove_person_from_static_cohort/");
            assert_eq!(p.patch(&path, body).status, 200);
            assert_eq!(p.members(id), [""; 0]);
        },
    ),
    ("persons_bulk_delete_create", JSON, |p| {
        p.persons([("d1", json!({})), ("d2", json!({}))]);
        let body = json!({"distinct_ids": ["d1"]});
        assert_eq!(p.post("persons/bulk_delete/", body).status, 202);
        assert_eq!(first_ids(&p.get("persons/").json()["results"]), ["d2"]);
    }),
    ("persons_update_property_create", JSON, |p| {
        let body = json!({"key": "plan", "value": "pro"});
        let properties = changed(p, "update_property", body);
        assert_eq!(properties, json!({"plan": "pro", "seats": 2}));
    }),
    ("persons_delete_property_create", JSON, |p| {
        let properties = changed(p, "delete_property", json!({"$unset": "plan"}));
        assert_eq!(properties, json!({"seats": 2}));
    }),
    ("actions_create", JSON, |p| {
        let action = p.post("actions/", json!({"name": "a"})).json();
        assert_eq!(action["name"], "a");
    }),
    ("actions_partial_update", JSON, |p| {
        let path = format!("actions/{}/", id_of(&p.post("actions/", json!({}))));
        assert_eq!(p.patch(&path, json!({"name": "b"})).status, 200);
        assert_eq!(p.get(&path).json()["name"], "b");
    }),
    ("webhooks_create", JSON, |p| {
        let body = json!({"url": "https://hooks.example.org/a"});
        let webhook = p.post("webhooks/", body).json();
        assert_eq!(webhook["url"], "https://hooks.example.org/a");
    }),
    ("webhooks_partial_update", JSON, |p| {
        let path = webhook(p);
        assert_eq!(p.patch(&path, json!({"enabled": false})).status, 200);
        assert_eq!(p.get(&path).json()["enabled"], false);
    }),
    ("webhooks_replay", JSON, |p| {
        let path = format!("{}replay/", webhook(p));
        let replayed = p.post(&path, json!({"from": "2026-03-02T08:00:00Z"}));
        assert_eq!(replayed.status, 200, "{}", replayed.text);
    }),
    ("capture_batch", JSON, |p| captured(p, "/batch/", JSON)),
    ("capture_batch", TEXT, |p| captured(p, "/batch/", TEXT)),
    ("capture_batch", FORM, |p| captured(p, "/batch/", FORM)),
    ("capture_event", JSON, |p| captured(p, "/capture/", JSON)),
    ("capture_event", TEXT, |p| captured(p, "/capture/", TEXT)),
    ("capture_event", FORM, |p| captured(p, "/capture/", FORM)),
    ("capture_browser_event", JSON, |p| captured(p, "/e/", JSON)),
    ("capture_browser_event", TEXT, |p| captured(p, "/e/", TEXT)),
    ("capture_browser_event", FORM, |p| captured(p, "/e/", FORM)),
    ("capture_event_v0", JSON, |p| captured(p, "/i/v0/e/", JSON)),
    ("capture_event_v0", TEXT, |p| captured(p, "/i/v0/e/", TEXT)),
    ("capture_event_v0", FORM, |p| captured(p, "/i/v0/e/", FORM)),
    ("capture_track", JSON, |p| captured(p, "/track/", JSON)),
    ("capture_track", TEXT, |p| captured(p, "/track/", TEXT)),
    ("capture_track", FORM, |p| captured(p, "/track/", FORM)),
    ("capture_analytics", JSON, |p| {
        let path = "/i/v1/analytics/events";
        let call = request(Method::POST, path).bearer_auth(&p.token);
        let answer = send(&Method::POST, call.json(&json!({"batch": [event()]})));
        assert_eq!(answer.status, 200, "{}", answer.text);
        p.person("d1");
    }),
    ("console_session_create", JSON, |p| {
        let code = console::code(p.server, p.id);
        let call = request(Method::POST, console::SESSION).json(&json!({"code": code}));
        assert_eq!(send(&Method::POST, call).json()["label"], "test");
    }),
    ("flags", JSON, |p| flags(p, "/flags/?v=2", JSON)),
    ("flags", TEXT, |p| flags(p, "/flags/?v=2", TEXT)),
    ("flags", FORM, |p| flags(p, "/flags/?v=2", FORM)),
    ("decide", JSON, |p| flags(p, "/decide/?v=3", JSON)),
    ("decide", TEXT, |p| flags(p, "/decide/?v=3", TEXT)),
    ("decide", FORM, |p| flags(p, "/decide/?v=3", FORM)),
];

/// A file with the persons `d1` and `new`, who are created.
fn file() -> Form {
    let file = Part::bytes(&b"distinct_id\nd1\nnew\n"[..]).file_name("persons.csv");
    let form = Form::new().part("csv", file).text("is_static", "true");
    form.text("create_people", "true")
}

fn static_cohort(project: &Project) -> i64 {
    project.persons([("d1", json!({}))]);
    project.cohort(json!({"is_static": true}))
}

/// The path of a new webhook.
fn webhook(project: &Project) -> String {
    let body = json!({"url": "https://hooks.example.org/"});
    format!("webhooks/{}/", id_of(&project.post("webhooks/", body)))
}

/// Changes a property of a person with two properties, and returns the properties.
fn changed(project: &Project, operation: &str, body: Value) -> Value {
    project.persons([("d1", json!({"plan": "free", "seats": 2}))]);
    let path = format!("persons/{}/", project.person("d1"));
    let change = project.post(&format!("{path}{operation}/"), body);
    assert!(change.status < 300, "{}", change.text);
    project.get(&path).json()["properties"].take()
}

/// Creates a cohort and returns its name, as it was stored.
fn created(project: &Project, body: fn(RequestBuilder) -> RequestBuilder) -> Value {
    let call = request(Method::POST, &project.path("cohorts/")).bearer_auth(&project.key);
    let id = id_of(&send(&Method::POST, body(call)));
    project.get(&cohort_path(id)).json()["name"].take()
}

fn renamed(project: &Project, method: Method, media_type: &str) {
    let path = cohort_path(project.cohort(json!({"name": "old", "description": "kept"})));
    let call = request(method.clone(), &project.path(&path)).bearer_auth(&project.key);
    let call = match media_type {
        JSON => call.json(&json!({"name": "new"})),
        _ => call.form(&[("name", "new")]),
    };
    assert_eq!(send(&method, call).status, 200);
    let cohort = project.get(&path).json();
    assert_eq!([&cohort["name"], &cohort["description"]], ["new", "kept"]);
}

fn filled(project: &Project, method: Method) {
    let id = static_cohort(project);
    let call = request(method.clone(), &project.path(&cohort_path(id))).bearer_auth(&project.key);
    let answer = send(&method, call.multipart(file()));
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(answer.json()["upload"]["added"], 2);
    assert_eq!(project.members(id), ["d1", "new"]);
}

fn event() -> Value {
    json!({"event": "x", "distinct_id": "d1"})
}

/// Sends a JSON text in a media type: as it is, or in Base64 as the field `data` of a form.
fn post(path: &str, media_type: &str, body: &Value) -> Value {
    let call = request(Method::POST, path);
    let call = match media_type {
        FORM => call.form(&[("data", STANDARD.encode(body.to_string()))]),
        _ => call
            .header("content-type", media_type)
            .body(body.to_string()),
    };
    let answer = send(&Method::POST, call);
    assert_eq!(answer.status, 200, "{path}: {}", answer.text);
    answer.json()
}

fn captured(project: &Project, path: &str, media_type: &str) {
    let mut body = event();
    if path == "/batch/" {
        body = json!({"batch": [body]});
    }
    body["api_key"] = json!(project.token);
    post(path, media_type, &body);
    project.person("d1");
}

fn flags(project: &Project, path: &str, media_type: &str) {
    let body = json!({"api_key": project.token, "distinct_id": "d1"});
    assert_eq!(
        post(path, media_type, &body)["errorsWhileComputingFlags"],
        false
    );
}

#[test]
fn bodies_in_every_media_type_have_their_effect() {
    for (_, _, check) in ROWS {
        check(&Project::new());
    }
}

#[test]
fn rows_are_the_operations_and_media_types_of_the_contract() {
    let operations = spec::operations();
    let documented = operations.iter().flat_map(|operation| {
        let media_types = operation.media_types().into_iter();
        media_types.map(|media_type| (operation.id, media_type))
    });
    let documented: BTreeSet<(&str, &str)> = documented.collect();
    let rows = ROWS.iter().map(|(id, media_type, _)| (*id, *media_type));
    let rows: BTreeSet<(&str, &str)> = rows.collect();
    assert_eq!(rows, documented);
}
