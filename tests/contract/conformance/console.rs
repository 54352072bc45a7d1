//! The rows of the start of a console session, which needs no key.

use cohorts_server::Server;
use reqwest::Method;
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use serde_json::json;

use super::Row;
use crate::harness::{Answer, request, request_to, send, server, start};
use crate::service::console::{SESSION, code};

pub const ROWS: &[Row] = &[
    ("console_session_create", 201, |p| {
        exchange(server(), &code(server(), p.id))
    }),
    ("console_session_create", 400, |_| {
        let call = request(Method::POST, SESSION).json(&json!({}));
        send(&Method::POST, call)
    }),
    ("console_session_create", 401, |_| {
        exchange(server(), "unknown")
    }),
    ("console_session_create", 404, |_| {
        let server = start(|config| config.console = false);
        let answer = exchange(&server, "unknown");
        server.stop().expect("an end");
        answer
    }),
    ("console_session_create", 406, |_| {
        let call = request(Method::POST, SESSION).header(ACCEPT, "image/png");
        send(&Method::POST, call.json(&json!({"code": "unknown"})))
    }),
    ("console_session_create", 413, |_| {
        exchange(server(), &"a".repeat(5 << 20))
    }),
    ("console_session_create", 415, |_| {
        let call = request(Method::POST, SESSION).header(CONTENT_TYPE, "application/xml");
        send(&Method::POST, call.body("<a/>"))
    }),
    ("console_session_create", 429, |_| {
        let server = start(|config| config.wrong_keys_per_minute = 1);
        exchange(&server, "unknown").is_error(401, "authentication_failed", None);
        let answer = exchange(&server, "unknown too");
        server.stop().expect("an end");
        answer
    }),
];

fn exchange(server: &Server, code: &str) -> Answer {
    let call = request_to(server, Method::POST, SESSION);
    send(&Method::POST, call.json(&json!({"code": code})))
}
