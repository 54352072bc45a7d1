//! Requests that SDKs in browsers send: encodings, configuration, flags, CORS.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use reqwest::Method;
use serde_json::json;

use crate::harness::{Answer, Project, first_ids, request, send};

/// Sends a body unchanged.
fn send_raw(path: &str, media_type: &str, body: impl Into<Vec<u8>>) -> Answer {
    let call = request(Method::POST, path).header("content-type", media_type);
    send(&Method::POST, call.body(body.into()))
}

#[test]
fn every_capture_path_accepts_the_encodings_of_browsers() {
    let project = Project::new();
    let one = |id: &str| json!({"api_key": project.token, "event": "x", "distinct_id": id});
    let list = json!([{"event": "x", "distinct_id": "l1", "properties": {"token": project.token}},
        {"event": "x", "distinct_id": "l2", "api_key": project.token}]);
    let encoded = |text: &str| BASE64_STANDARD.encode(text);
    for (path, media_type, body) in [
        ("/capture/", "application/json", one("a").to_string()),
        ("/capture", "text/plain;charset=UTF-8", one("b").to_string()),
        (
            "/e/?ip=1&_=17&ver=1",
            "text/plain",
            encoded(&one("c").to_string()),
        ),
        (
            "/e/?compression=base64",
            "application/x-www-form-urlencoded",
            format!(
                "data={}",
                encoded(&one("d").to_string()).replace('+', "%2B")
            ),
        ),
        ("/i/v0/e/", "application/json", list.to_string()),
        ("/track/", "application/json", one("f").to_string()),
    ] {
        let answer = send_raw(path, media_type, body);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text);
    }
    let query = format!("/e/?token={}", project.token);
    let bare = json!({"event": "x", "distinct_id": "g"}).to_string();
    assert_eq!(send_raw(&query, "application/json", bare).status, 200);
    let persons = project.get("persons/").json();
    assert_eq!(
        first_ids(&persons["results"]),
        ["a", "b", "c", "d", "f", "g", "l1", "l2"]
    );
}

#[test]
fn cors_allows_capture_from_any_origin_and_nothing_else() {
    let preflight = |path: &str| {
        let call = request(Method::OPTIONS, path)
            .header("origin", "https://shop.example")
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "content-type");
        call.send().expect("an answer")
    };
    for path in [
        "/e/",
        "/batch",
        "/i/v0/e/?ip=1",
        "/flags/",
        "/array/phc_x/config",
    ] {
        let answer = preflight(path);
        assert_eq!(answer.status(), 200, "{path}");
        let allowed = answer.headers().get("access-control-allow-origin");
        assert_eq!(
            allowed.expect("an origin"),
            "https://shop.example",
            "{path}"
        );
    }
    let refused = preflight("/api/projects/@current/cohorts/");
    assert_eq!(refused.headers().get("access-control-allow-origin"), None);

    let project = Project::new();
    let body = json!({"api_key": project.token, "event": "x", "distinct_id": "a"});
    let call = request(Method::POST, "/e/").header("origin", "https://shop.example");
    let answer = send(&Method::POST, call.json(&body));
    assert_eq!(
        answer.header("access-control-allow-origin"),
        Some("https://shop.example")
    );
}

#[test]
fn config_has_no_flags_and_config_script_rejects_injection() {
    let config = send(&Method::GET, request(Method::GET, "/array/phc_x/config"));
    assert_eq!(config.json()["hasFeatureFlags"], false);
    let script = |token: &str| {
        let call = request(Method::GET, &format!("/array/{token}/config.js"));
        call.send().expect("an answer")
    };
    let answer = script("phc_x-1");
    assert_eq!(answer.headers()["content-type"], "application/javascript");
    let text = answer.text().expect("a script");
    assert!(
        text.contains(r#"["phc_x-1"] = {config: {"supportedCompression":["gzip","gzip-js"],"#),
        "{text}"
    );
    for hostile in ["%22%5D;alert(1);//", "a%3C"] {
        assert_eq!(script(hostile).status(), 404, "{hostile}");
    }
}

#[test]
fn flag_endpoints_return_no_flags() {
    for path in ["/flags/?v=2", "/flags", "/decide/?v=3"] {
        let answer = send_raw(
            path,
            "application/json",
            r#"{"api_key": "x", "distinct_id": "a"}"#,
        );
        assert_eq!(answer.json()["flags"], json!({}), "{path}");
        assert_eq!(answer.json()["errorsWhileComputingFlags"], false);
    }
}
