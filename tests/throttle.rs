//! How often a key may ask, and what links begin with where a proxy stands before the service.

use cohorts_server::{Config, Origin, RateLimit, Server};
use reqwest::Method;
use serde_json::json;

use crate::harness::{Answer, key, request_to, scratch_dir, send, start_with};

fn server(name: &str, change: impl FnOnce(&mut Config)) -> (Server, String) {
    let server = start_with(&scratch_dir(name), false, change);
    let admin = server.data().admin();
    let project = admin.create_project("P", "UTC").expect("a project").id;
    let key = key(&server, &[project], &["*"]);
    (server, key)
}

const LIST: &str = "/api/projects/@current/cohorts/?limit=1";

fn list(server: &Server, key: &str, headers: &[(&str, &str)]) -> Answer {
    let asked = request_to(server, Method::GET, LIST).bearer_auth(key);
    let asked = headers
        .iter()
        .fold(asked, |asked, (name, value)| asked.header(*name, *value));
    send(&Method::GET, asked)
}

#[test]
fn a_key_that_asks_too_often_is_told_when_to_come_back() {
    let limit = RateLimit {
        per_minute: 3,
        per_hour: 9,
    };
    let (server, first) = server("throttled", |config| config.rate_limit = Some(limit));
    for _ in 0..3 {
        assert_eq!(list(&server, &first, &[]).status, 200);
    }
    let refused = list(&server, &first, &[]);
    refused.is_error(429, "throttled", None);
    let seconds: u64 = refused
        .header("retry-after")
        .expect("a time")
        .parse()
        .expect("seconds");
    assert!((1..=60).contains(&seconds), "{seconds}");
    let unit = if seconds == 1 { "second" } else { "seconds" };
    let said = format!("Request was throttled. Expected available in {seconds} {unit}.");
    assert_eq!(refused.detail(), said);

    // A key is counted for itself, and what is wrong with it comes first.
    let projects = server
        .data()
        .admin()
        .create_project("Q", "UTC")
        .expect("a project")
        .id;
    assert_eq!(
        list(&server, &key(&server, &[projects], &["*"]), &[]).status,
        200
    );
    list(&server, "phx_nobody", &[]).is_error(401, "authentication_failed", None);
    let method = Method::POST;
    let asked = request_to(&server, method.clone(), "/api/projects/@current/cohorts/");
    let broken = asked
        .bearer_auth(&first)
        .json(&json!({"deleted": "banana"}));
    send(&method, broken).is_error(429, "throttled", None);
    server.stop().expect("a clean end");
}

#[test]
fn per_hour_has_a_limit_of_its_own() {
    let limit = RateLimit {
        per_minute: 9,
        per_hour: 1,
    };
    let (server, key) = server("hourly", |config| config.rate_limit = Some(limit));
    assert_eq!(list(&server, &key, &[]).status, 200);
    let refused = list(&server, &key, &[]);
    let seconds: u64 = refused
        .header("retry-after")
        .expect("a time")
        .parse()
        .expect("seconds");
    assert!((3_000..=3_600).contains(&seconds), "{seconds}");
    server.stop().expect("a clean end");
}

const PROXY: [(&str, &str); 2] = [
    ("X-Forwarded-Host", "a.org"),
    ("X-Forwarded-Proto", "https"),
];

/// Where the link to the next page leads.
fn next(server: &Server, key: &str, headers: &[(&str, &str)]) -> String {
    let page = list(server, key, headers).json();
    page["next"].as_str().expect("a link").to_owned()
}

fn with_cohorts(name: &str, change: impl FnOnce(&mut Config)) -> (Server, String) {
    let (server, key) = server(name, change);
    for _ in 0..2 {
        let method = Method::POST;
        let asked = request_to(&server, method.clone(), "/api/projects/@current/cohorts/");
        send(&method, asked.bearer_auth(&key).json(&json!({})));
    }
    (server, key)
}

#[test]
fn a_proxy_is_believed_only_where_that_is_said() {
    let path = "/api/projects/@current/cohorts/?limit=1&offset=1";
    let (plain, key) = with_cohorts("unproxied", |_| {});
    assert_eq!(next(&plain, &key, &PROXY), format!("{}{path}", plain.url()));
    plain.stop().expect("a clean end");

    let (trusting, key) = with_cohorts("proxied", |config| config.origin = Origin::Proxy);
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
fn a_public_address_is_in_all_links() {
    let origin = Origin::fixed("https://c.org/audience/").expect("an address");
    let (server, key) = with_cohorts("public", |config| config.origin = origin);
    let path = "/api/projects/@current/cohorts/?limit=1&offset=1";
    assert_eq!(
        next(&server, &key, &PROXY),
        format!("https://c.org/audience{path}")
    );
    server.stop().expect("a clean end");
}
