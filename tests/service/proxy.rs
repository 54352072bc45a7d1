//! The origin of links behind a proxy.

use cohorts_server::{Config, Origin, Server};
use reqwest::Method;
use serde_json::json;

use crate::harness::{Answer, key, request_to, send, start};

fn server(change: impl FnOnce(&mut Config)) -> (Server, String) {
    let server = start(change);
    let admin = server.data().admin();
    let project = admin.create_project("P", "UTC").expect("a project").id;
    let key = key(&server, &[project], &["*"]);
    (server, key)
}

const LIST: &str = "/api/projects/@current/cohorts/?limit=1";

fn list(server: &Server, key: &str, headers: &[(&str, &str)]) -> Answer {
    let call = request_to(server, Method::GET, LIST).bearer_auth(key);
    let call = headers
        .iter()
        .fold(call, |call, (name, value)| call.header(*name, *value));
    send(&Method::GET, call)
}

const PROXY: [(&str, &str); 2] = [
    ("X-Forwarded-Host", "a.org"),
    ("X-Forwarded-Proto", "https"),
];

/// The target of the link to the next page.
fn next(server: &Server, key: &str, headers: &[(&str, &str)]) -> String {
    let page = list(server, key, headers).json();
    page["next"].as_str().expect("a link").to_owned()
}

fn with_cohorts(change: impl FnOnce(&mut Config)) -> (Server, String) {
    let (server, key) = server(change);
    for _ in 0..2 {
        let method = Method::POST;
        let call = request_to(&server, method.clone(), "/api/projects/@current/cohorts/");
        send(&method, call.bearer_auth(&key).json(&json!({})));
    }
    (server, key)
}

#[test]
fn forwarded_headers_are_trusted_only_if_configured() {
    let path = "/api/projects/@current/cohorts/?limit=1&offset=1";
    let (plain, key) = with_cohorts(|_| {});
    assert_eq!(next(&plain, &key, &PROXY), format!("{}{path}", plain.url()));
    plain.stop().expect("a clean end");

    let (trusting, key) = with_cohorts(|config| config.origin = Origin::Proxy);
    assert_eq!(
        next(&trusting, &key, &PROXY),
        format!("https://a.org{path}")
    );
    let forwarded = [("Forwarded", "for=1.2.3.4;host=b.org;proto=https")];
    assert_eq!(
        next(&trusting, &key, &forwarded),
        format!("https://b.org{path}")
    );
    assert_eq!(
        next(&trusting, &key, &[]),
        format!("{}{path}", trusting.url())
    );
    trusting.stop().expect("a clean end");
}

#[test]
fn configured_public_address_is_in_all_links() {
    let origin = Origin::fixed("https://c.org/audience/").expect("an address");
    let (server, key) = with_cohorts(|config| config.origin = origin);
    let path = "/api/projects/@current/cohorts/?limit=1&offset=1";
    assert_eq!(
        next(&server, &key, &PROXY),
        format!("https://c.org/audience{path}")
    );
    server.stop().expect("a clean end");
}
