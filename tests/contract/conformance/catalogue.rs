//! The operations of the catalogue and of events with each of their statuses.

use reqwest::Method;
use serde_json::json;

use super::{Row, in_unknown_project};
use crate::harness::{Answer, Project};

pub const ROWS: &[Row] = &[
    ("event_definitions_list", 200, |p| {
        with_names(p, "event_definitions/?search=paid")
    }),
    ("event_definitions_list", 404, |p| {
        in_unknown_project(p, Method::GET, "event_definitions/")
    }),
    ("property_definitions_list", 200, |p| {
        with_names(p, "property_definitions/?event_names=%5B%22paid%22%5D")
    }),
    ("property_definitions_list", 400, |p| {
        p.get("property_definitions/?type=group")
    }),
    ("property_definitions_list", 404, |p| {
        in_unknown_project(p, Method::GET, "property_definitions/")
    }),
    ("events_list", 200, |p| {
        with_names(p, "events/?distinct_id=d1")
    }),
    ("events_list", 400, |p| p.get("events/")),
    ("events_list", 404, |p| p.get("events/?distinct_id=d0")),
    ("events_values_retrieve", 200, |p| {
        with_names(p, "events/values/?key=amount&event_name=paid")
    }),
    ("events_values_retrieve", 400, |p| {
        many_values(p, "events/values/?key=n")
    }),
    ("events_values_retrieve", 404, |p| {
        in_unknown_project(p, Method::GET, "events/values/")
    }),
    ("persons_values_retrieve", 200, |p| {
        p.get("persons/values/?key=plan")
    }),
    ("persons_values_retrieve", 400, |p| {
        many_values(p, "persons/values/?key=n")
    }),
    ("persons_values_retrieve", 404, |p| {
        in_unknown_project(p, Method::GET, "persons/values/")
    }),
];

fn with_names(project: &Project, path: &str) -> Answer {
    let event =
        json!({"event": "paid", "distinct_id": "d1", "properties": {"amount": 1, "tags": []}});
    project.capture(json!([event]));
    let updated = project.server.update_catalogue(project.id);
    updated.expect("a catalogue");
    project.get(path)
}

/// More than 10,000 values of events and of persons.
fn many_values(project: &Project, path: &str) -> Answer {
    for part in 0..11 {
        let event = |number| {
            let n = part * 1_000 + number;
            json!({"event": "x", "distinct_id": format!("d{n}"), "properties": {"n": n, "$set": {"n": n}}})
        };
        project.capture((0..1_000).map(event).collect());
    }
    project.get(path)
}
