//! The console: its page and assets with their headers, and the paths that stay errors.

use reqwest::Method;

use crate::harness::{Answer, get, request, request_to, send, start};

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
