//! The headers of each response: the contract describes them, except those that HTTP, browsers or CORS define.

use serde_json::Value;

use crate::contract::spec;
use crate::harness::Answer;

/// Headers that the contract does not describe, with the reason.
const STANDARD: &[(&str, &str)] = &[
    ("connection", "about the connection, not the response"),
    (
        "transfer-encoding",
        "about the connection, not the response",
    ),
    ("content-length", "the length of every body"),
    (
        "content-type",
        "in the contract, the media type of the body",
    ),
    ("date", "every server sends it"),
    ("vary", "for caches; added for CORS"),
    ("access-control-allow-credentials", "CORS"),
    ("access-control-allow-origin", "CORS"),
    ("access-control-expose-headers", "CORS"),
    ("cache-control", "no cache stores a stream"),
    (
        "x-accel-buffering",
        "proxies pass the events of a stream on",
    ),
    ("x-content-type-options", "every response protects browsers"),
];

/// Asserts that the contract describes the headers of this response, and that it has the required ones.
pub fn check(place: &str, response: &'static Value, answer: &Answer) {
    let differences = differences(response, answer);
    assert!(
        differences.is_empty(),
        "{place}: {}: {}",
        differences.join("; "),
        answer.text
    );
}

fn differences(response: &'static Value, answer: &Answer) -> Vec<String> {
    let documented: Vec<(String, &Value)> = spec::members(&response["headers"])
        .map(|(name, header)| (name.to_lowercase(), spec::resolve(header)))
        .collect();
    let of_documented = documented.iter().flat_map(|(name, header)| {
        let values: Vec<_> = answer.headers.get_all(name).iter().collect();
        let is_missing = values.is_empty() && header["required"] == true;
        let missing = is_missing.then(|| format!("the header `{name}` is missing"));
        let wrong = values.into_iter().flat_map(|value| {
            let text = value.to_str().unwrap_or_default();
            let value = typed(&header["schema"], text);
            let errors = spec::differences_of(&header["schema"], &value).into_iter();
            errors.map(move |error| format!("the header `{name}: {text}` does not fit: {error}"))
        });
        missing.into_iter().chain(wrong).collect::<Vec<_>>()
    });
    let names = answer.headers.keys().map(|name| name.as_str());
    let undocumented = names.filter(|name| {
        let mut standard = STANDARD.iter().map(|(name, _)| *name);
        !documented.iter().any(|(one, _)| one == name) && !standard.any(|one| one == *name)
    });
    let undocumented = undocumented.map(|name| format!("the header `{name}` is not documented"));
    of_documented.chain(undocumented).collect()
}

/// The value of a header, as its schema calls for it.
fn typed(schema: &'static Value, text: &str) -> Value {
    let parsed = || serde_json::from_str(text).ok();
    let parsed = match spec::resolve(schema)["type"].as_str() {
        Some("integer" | "number" | "boolean") => parsed(),
        _ => None,
    };
    parsed.unwrap_or_else(|| Value::from(text))
}

/// The check itself must be able to fail.
#[test]
fn missing_wrong_and_undocumented_headers_are_detected() {
    let response: &'static Value = Box::leak(Box::new(serde_json::json!({"headers": {
        "X-Request-Id": {"required": true, "schema": {"type": "string", "maxLength": 3}},
        "Retry-After": {"schema": {"type": "integer", "minimum": 1}},
    }})));
    let differences = |headers: &[(&'static str, &'static str)]| {
        let headers = headers.iter().map(|(name, value)| {
            let name = name.parse().expect("a name");
            (name, reqwest::header::HeaderValue::from_static(value))
        });
        let answer = Answer {
            status: 200,
            headers: headers.collect(),
            text: String::new(),
        };
        super::headers::differences(response, &answer).len()
    };
    let id = ("x-request-id", "abc");
    assert_eq!(differences(&[id]), 0);
    assert_eq!(
        differences(&[id, ("retry-after", "2"), ("date", "today")]),
        0
    );
    assert_eq!(differences(&[]), 1);
    assert_eq!(differences(&[("x-request-id", "abcd")]), 1);
    assert_eq!(differences(&[id, ("retry-after", "soon")]), 1);
    assert_eq!(differences(&[id, ("retry-after", "0")]), 1);
    assert_eq!(differences(&[id, ("x-powered-by", "Rust")]), 1);
}
