//! The rows of capture, and of what SDKs ask for next to it.

use reqwest::Method;
use reqwest::header::CONTENT_TYPE;
use serde_json::json;

use super::{Row, get_path};
use crate::harness::{Answer, Project, request, send};

pub const ROWS: &[Row] = &[
    ("capture_batch", 200, |p| {
        let body = json!({"api_key": p.token, "batch": []});
        send_events("/batch/", &body.to_string())
    }),
    ("capture_batch", 400, |_| send_events("/batch/", "{")),
    ("capture_batch", 401, |_| send_events("/batch/", UNKNOWN)),
    ("capture_batch", 413, |_| {
        send_events("/batch/", &oversized())
    }),
    ("capture_event", 200, |p| {
        send_events("/capture/", &event_of(p))
    }),
    ("capture_event", 400, |_| send_events("/capture/", "{")),
    ("capture_event", 401, |_| send_events("/capture/", UNKNOWN)),
    ("capture_event", 413, |_| {
        send_events("/capture/", &oversized())
    }),
    ("capture_browser_event", 200, |p| {
        send_events("/e/", &event_of(p))
    }),
    ("capture_browser_event", 400, |_| send_events("/e/", "{")),
    ("capture_browser_event", 401, |_| {
        send_events("/e/", UNKNOWN)
    }),
    ("capture_browser_event", 413, |_| {
        send_events("/e/", &oversized())
    }),
    ("capture_event_v0", 200, |p| {
        send_events("/i/v0/e/", &event_of(p))
    }),
    ("capture_event_v0", 400, |_| send_events("/i/v0/e/", "{")),
    ("capture_event_v0", 401, |_| {
        send_events("/i/v0/e/", UNKNOWN)
    }),
    ("capture_event_v0", 413, |_| {
        send_events("/i/v0/e/", &oversized())
    }),
    ("capture_track", 200, |p| {
        send_events("/track/", &event_of(p))
    }),
    ("capture_track", 400, |_| send_events("/track/", "{")),
    ("capture_track", 401, |_| send_events("/track/", UNKNOWN)),
    ("capture_track", 413, |_| {
        send_events("/track/", &oversized())
    }),
    ("capture_analytics", 200, |p| {
        let call = request(Method::POST, ANALYTICS).bearer_auth(&p.token);
        send(&Method::POST, call.json(&json!({"batch": []})))
    }),
    ("capture_analytics", 400, |_| send_events(ANALYTICS, "{")),
    ("capture_analytics", 401, |_| {
        send_events(ANALYTICS, r#"{"batch": []}"#)
    }),
    ("capture_analytics", 413, |_| {
        send_events(ANALYTICS, &oversized())
    }),
    ("flags", 200, |_| send_events("/flags/?v=2", "{}")),
    ("flags", 413, |_| send_events("/flags/", &oversized())),
    ("decide", 200, |_| send_events("/decide/?v=3", "{}")),
    ("decide", 413, |_| send_events("/decide/", &oversized())),
    ("capture_config", 200, |p| {
        get_path(p, "/array/phc_x/config")
    }),
    ("capture_config", 404, |p| {
        get_path(p, "/array/a%22b/config")
    }),
];

const ANALYTICS: &str = "/i/v1/analytics/events";
const UNKNOWN: &str =
    r#"{"api_key": "phc_unknown", "event": "x", "distinct_id": "a", "batch": []}"#;

fn event_of(project: &Project) -> String {
    json!({"api_key": project.token, "event": "x", "distinct_id": "a"}).to_string()
}

fn oversized() -> String {
    " ".repeat((20 << 20) + 1)
}

fn send_events(path: &str, body: &str) -> Answer {
    let call = request(Method::POST, path).header(CONTENT_TYPE, "application/json");
    send(&Method::POST, call.body(body.to_owned()))
}
