//! Headers that protect browsers. Every response of every test is also checked for `nosniff`.

use reqwest::Method;

use crate::harness::{Answer, get, request, send};

const CREDENTIALS: &str = "access-control-allow-credentials";

#[test]
fn no_page_can_be_shown_in_a_frame() {
    for path in ["/docs/", "/docs/index.html"] {
        let page = get(path);
        assert_eq!(page.status, 200);
        let policy = page.header("content-security-policy");
        assert_eq!(policy, Some("frame-ancestors 'none'"), "{path}");
        assert_eq!(page.header("x-frame-options"), Some("DENY"), "{path}");
    }
    assert_eq!(get("/_livez").header("x-frame-options"), None);
}

#[test]
fn credentials_are_allowed_only_to_an_allowed_origin() {
    let from = |path: &str, origin: Option<&str>| -> Answer {
        let call = request(Method::GET, path);
        let call = origin
            .into_iter()
            .fold(call, |call, origin| call.header("origin", origin));
        send(&Method::GET, call)
    };
    let origin = Some("https://shop.example");
    for (path, origin) in [
        ("/_livez", None),
        ("/nowhere", None),
        ("/array/phc_x/config", None),
        ("/_livez", origin),
        ("/api/projects/@current/cohorts/", origin),
    ] {
        let answer = from(path, origin);
        assert_eq!(answer.header(CREDENTIALS), None, "{path} {origin:?}");
    }
    let allowed = from("/array/phc_x/config", origin);
    assert_eq!(allowed.header(CREDENTIALS), Some("true"));
    assert_eq!(allowed.header("access-control-allow-origin"), origin);
}
