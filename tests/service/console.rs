//! The console: its page and assets with their headers, the paths that stay errors, and the start of a session by a code.

use chrono::{DateTime, TimeDelta, Utc};
use cohorts_server::{KeyGrant, Server};
use reqwest::Method;
use serde_json::json;

use crate::harness::{Answer, Project, get, request, request_to, send, start};

pub const SESSION: &str = "/api/console/session/";

/// A code for a session with every scope in the project.
pub fn code(server: &Server, project: i64) -> String {
    let grant = KeyGrant {
        projects: vec![project],
        scopes: vec!["*".to_owned()],
        label: "test".to_owned(),
        email: "ana@example.org".to_owned(),
        first_name: String::new(),
        expires_in: None,
    };
    let code = server.data().admin().create_console_code(&grant);
    code.expect("a code")
}

fn exchange(code: &str) -> Answer {
    let call = request(Method::POST, SESSION).json(&json!({"code": code}));
    send(&Method::POST, call)
}

fn asset_of(page: &Answer) -> String {
    let (_, rest) = page.text.split_once("src=\"").expect("a script");
    rest.split('"').next().expect("a path").to_owned()
}

#[test]
fn the_page_has_strict_headers() {
    for path in [
        "/",
        "/cohorts",
        "/cohorts/12/activity",
        "/changes",
        "/webhooks/3",
        "/people/",
        "/?project=2",
    ] {
        let page = get(path);
        assert_eq!(page.status, 200, "{path}");
        assert_eq!(
            page.header("content-type"),
            Some("text/html; charset=utf-8")
        );
        assert_eq!(page.header("cache-control"), Some("no-store"));
        assert_eq!(page.header("referrer-policy"), Some("no-referrer"));
        assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(page.header("x-frame-options"), Some("DENY"));
        let policy = page.header("content-security-policy").unwrap();
        for directive in [
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        ] {
            assert!(policy.split("; ").any(|part| part == directive), "{policy}");
        }
        assert!(
            !policy.contains("unsafe") && !policy.contains('*'),
            "{policy}"
        );
    }
}

#[test]
fn assets_are_cached_and_compressed() {
    let path = asset_of(&get("/"));
    let asset = get(&path);
    assert_eq!(asset.status, 200);
    let caching = asset.header("cache-control").unwrap();
    assert_eq!(caching, "public, max-age=31536000, immutable");
    let etag = asset.header("etag").unwrap();
    let gzipped = request(Method::GET, &path).header("accept-encoding", "br, gzip;q=0.8");
    let gzipped = send(&Method::GET, gzipped);
    assert_eq!(gzipped.header("content-encoding"), Some("gzip"));
    let vary = gzipped.header("vary").unwrap();
    assert!(
        vary.split(", ").any(|name| name == "Accept-Encoding"),
        "{vary}"
    );
    assert!(gzipped.text.len() < asset.text.len());
    let plain = request(Method::GET, &path).header("accept-encoding", "gzip;q=0");
    assert_eq!(send(&Method::GET, plain).header("content-encoding"), None);
    let known = request(Method::GET, &path).header("if-none-match", etag);
    let known = send(&Method::GET, known);
    assert_eq!((known.status, known.text.len()), (304, 0));
    let head = send(&Method::HEAD, request(Method::HEAD, &path));
    assert_eq!((head.status, head.text.len()), (200, 0));
}

#[test]
fn all_other_paths_and_methods_stay_errors() {
    for path in [
        "/nowhere",
        "/cohort",
        "/index.html",
        "/assets/console.js",
        "/assets/..%2findex.html",
        "/api/",
    ] {
        get(path).is_error(404, "not_found", None);
    }
    for path in ["/", "/cohorts"] {
        for method in [Method::POST, Method::DELETE] {
            let answer = send(&method, request(method.clone(), path));
            answer.is_error(404, "not_found", None);
        }
    }
}

#[test]
fn a_service_without_the_console_has_no_page() {
    let server = start(|config| config.console = false);
    for path in ["/", "/cohorts", "/people", &asset_of(&get("/"))] {
        let answer = send(&Method::GET, request_to(&server, Method::GET, path));
        answer.is_error(404, "not_found", None);
    }
    server.stop().unwrap();
}

#[test]
fn a_code_gives_one_session_key_of_its_project() {
    let (project, other) = (Project::new(), Project::new());
    let code = code(project.server, project.id);
    // A code is no key.
    let with_code = project.with_key(code.clone()).get("cohorts/");
    with_code.is_error(401, "authentication_failed", None);

    let session = exchange(&code);
    assert_eq!(session.status, 201, "{}", session.text);
    let session = session.json();
    let end: DateTime<Utc> = session["expires_at"].as_str().unwrap().parse().unwrap();
    let age = end - Utc::now();
    assert!(
        age > TimeDelta::hours(11) && age <= TimeDelta::hours(12),
        "{age}"
    );
    let key = session["key"].as_str().unwrap().to_owned();
    let (ours, theirs) = (project.with_key(key.clone()), other.with_key(key));
    assert_eq!(ours.get("cohorts/").status, 200);
    theirs
        .get("cohorts/")
        .is_error(403, "permission_denied", None);

    let again = exchange(&code);
    again.is_error(401, "authentication_failed", None);
    assert!(again.detail().contains("cohorts console"), "{}", again.text);
    assert_eq!(ours.get("cohorts/").status, 200);
}

#[test]
fn of_several_browsers_with_one_code_only_one_signs_in() {
    let project = Project::new();
    let code = code(project.server, project.id);
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let browsers: Vec<_> = (0..6)
            .map(|_| scope.spawn(|| exchange(&code).status))
            .collect();
        let statuses = browsers.into_iter().map(|browser| browser.join());
        statuses.map(|status| status.expect("a status")).collect()
    });
    let signed_in = statuses.iter().filter(|status| **status == 201);
    assert_eq!(signed_in.count(), 1, "{statuses:?}");
    assert!(statuses.iter().all(|status| [201, 401].contains(status)));
}

#[test]
fn the_key_of_a_code_that_was_not_used_can_be_revoked() {
    let server = start(|_| {});
    let admin = server.data().admin();
    let project = admin.create_project("P", "UTC").expect("a project").id;
    let code = code(&server, project);
    let keys = admin.list_keys().expect("the keys");
    let key = keys.last().expect("a key");
    assert_eq!(
        (key.label.as_str(), key.projects.as_deref()),
        ("test", Some(&[project][..]))
    );
    assert!(key.expires_at.expect("an end") <= Utc::now() + TimeDelta::minutes(10));
    admin.revoke_key(&key.id).expect("a revocation");
    let call = request_to(&server, Method::POST, SESSION).json(&json!({"code": code}));
    send(&Method::POST, call).is_error(401, "authentication_failed", None);
    server.stop().expect("an end");
}

#[test]
fn a_service_without_the_console_starts_no_session() {
    let server = start(|config| config.console = false);
    let project = server.data().admin().create_project("P", "UTC");
    let code = code(&server, project.expect("a project").id);
    let call = request_to(&server, Method::POST, SESSION).json(&json!({"code": code}));
    send(&Method::POST, call).is_error(404, "not_found", None);
    let docs = send(&Method::GET, request_to(&server, Method::GET, "/docs/"));
    assert!(!docs.text.contains("to-console"), "{}", docs.text);
    server.stop().expect("an end");
}
