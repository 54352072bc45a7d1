//! The rows of webhooks.

use reqwest::Method;
use serde_json::json;

use super::{Row, as_xml, in_unknown_project, too_large};
use crate::harness::{Project, id_of};

pub const ROWS: &[Row] = &[
    ("webhooks_list", 200, |p| p.get("webhooks/")),
    ("webhooks_list", 400, |p| p.get("webhooks/?limit=0")),
    ("webhooks_list", 404, |p| {
        in_unknown_project(p, Method::GET, "webhooks/")
    }),
    ("webhooks_create", 201, |p| {
        p.post("webhooks/", json!({"url": "https://hooks.example.org/"}))
    }),
    ("webhooks_create", 400, |p| {
        p.post("webhooks/", json!({"url": "http://hooks.example.org/"}))
    }),
    ("webhooks_create", 404, |p| {
        in_unknown_project(p, Method::POST, "webhooks/")
    }),
    ("webhooks_create", 413, |p| {
        too_large(p, Method::POST, "webhooks/")
    }),
    ("webhooks_create", 415, |p| {
        as_xml(p, Method::POST, "webhooks/")
    }),
    ("webhooks_activity_retrieve", 200, |p| {
        p.get("webhooks/activity/")
    }),
    ("webhooks_activity_retrieve", 400, |p| {
        p.get("webhooks/activity/?page=0")
    }),
    ("webhooks_activity_retrieve", 404, |p| {
        in_unknown_project(p, Method::GET, "webhooks/activity/")
    }),
    ("webhooks_retrieve", 200, |p| p.get(&of_webhook(p, ""))),
    ("webhooks_retrieve", 404, |p| p.get("webhooks/999999/")),
    ("webhooks_partial_update", 200, |p| {
        p.patch(&of_webhook(p, ""), json!({"enabled": false}))
    }),
    ("webhooks_partial_update", 400, |p| {
        p.patch(&of_webhook(p, ""), json!({"cohort_ids": []}))
    }),
    ("webhooks_partial_update", 404, |p| {
        p.patch("webhooks/999999/", json!({}))
    }),
    ("webhooks_partial_update", 413, |p| {
        too_large(p, Method::PATCH, "webhooks/1/")
    }),
    ("webhooks_partial_update", 415, |p| {
        as_xml(p, Method::PATCH, "webhooks/1/")
    }),
    ("webhooks_destroy", 204, |p| {
        p.ask(Method::DELETE, &of_webhook(p, ""), None)
    }),
    ("webhooks_destroy", 404, |p| {
        p.ask(Method::DELETE, "webhooks/999999/", None)
    }),
    ("webhooks_deliveries", 200, |p| {
        p.get(&of_webhook(p, "deliveries/"))
    }),
    ("webhooks_deliveries", 400, |p| {
        p.get(&of_webhook(p, "deliveries/?offset=-1"))
    }),
    ("webhooks_deliveries", 404, |p| {
        p.get("webhooks/999999/deliveries/")
    }),
    ("webhooks_test", 200, |p| {
        p.ask(Method::POST, &of_webhook(p, "test/"), None)
    }),
    ("webhooks_test", 404, |p| {
        p.ask(Method::POST, "webhooks/999999/test/", None)
    }),
    ("webhooks_replay", 200, |p| {
        let from = json!({"from": "2026-03-02T08:00:00Z"});
        p.post(&of_webhook(p, "replay/"), from)
    }),
    ("webhooks_replay", 400, |p| {
        p.post(&of_webhook(p, "replay/"), json!({"from": "yesterday"}))
    }),
    ("webhooks_replay", 404, |p| {
        let from = json!({"from": "2026-03-02T08:00:00Z"});
        p.post("webhooks/999999/replay/", from)
    }),
    ("webhooks_replay", 413, |p| {
        too_large(p, Method::POST, "webhooks/1/replay/")
    }),
    ("webhooks_replay", 415, |p| {
        as_xml(p, Method::POST, "webhooks/1/replay/")
    }),
    ("webhooks_rotate_secret", 200, |p| {
        p.ask(Method::POST, &of_webhook(p, "rotate_secret/"), None)
    }),
    ("webhooks_rotate_secret", 404, |p| {
        p.ask(Method::POST, "webhooks/999999/rotate_secret/", None)
    }),
];

/// A path of a new webhook with a host that does not exist.
fn of_webhook(project: &Project, rest: &str) -> String {
    let body = json!({"url": "https://unknown.invalid/"});
    let id = id_of(&project.post("webhooks/", body));
    format!("webhooks/{id}/{rest}")
}
