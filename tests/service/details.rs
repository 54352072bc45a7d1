//! The texts of errors are short, however long the texts of the request are.

use serde_json::{Value, json};

use crate::harness::{Answer, Project, only, person};

/// The most bytes of the response of an error: 500 characters of up to six bytes, and the other fields.
const MAX_BYTES: usize = 4_000;

fn assert_short(answer: &Answer, case: &str) {
    assert_eq!(answer.status, 400, "{case}: {}", answer.text.len());
    let bytes = answer.text.len();
    assert!(bytes <= MAX_BYTES, "{case}: {bytes} bytes");
    let error = answer.json();
    for text in ["detail", "attr"].map(|field| error[field].as_str().unwrap_or_default()) {
        assert!(text.chars().count() <= 500, "{case}: {text}");
    }
}

/// A filter with one leaf, which has another member.
fn leaf(member: &str, value: &str) -> Value {
    let mut leaf = person("plan", "exact", "pro");
    leaf[member] = value.into();
    json!({"filters": only(leaf)})
}

fn step(member: &str, value: &str) -> Value {
    json!({"name": "A", "steps": [{member: value}]})
}

fn step_property(member: &str, value: &str) -> Value {
    let mut property = json!({"key": "a", "value": 1});
    property[member] = value.into();
    json!({"name": "A", "steps": [{"properties": [property]}]})
}

#[test]
fn errors_of_huge_texts_are_short() {
    let project = Project::new();
    for huge in ["x".repeat(2 << 20), "\u{1}".repeat(600_000)] {
        let huge = huge.as_str();
        let query = |kind: &str, text: &str| {
            let query = json!({"kind": kind, "query": text});
            json!({"is_static": true, "query": query})
        };
        for (case, path, body) in [
            ("type of a cohort", "cohorts/", json!({"cohort_type": huge})),
            ("operator", "cohorts/", leaf("operator", huge)),
            ("key", "cohorts/", leaf("key", huge)),
            ("type of a leaf", "cohorts/", leaf("type", huge)),
            ("unknown member", "cohorts/", leaf(huge, "x")),
            ("negation", "cohorts/", leaf("negation", huge)),
            ("preview", "cohorts/preview/", leaf("operator", huge)),
            ("filters", "cohorts/", json!({"filters": huge})),
            ("group", "cohorts/", json!({"groups": [{huge: 1}]})),
            ("groups", "cohorts/", json!({"groups": huge})),
            ("kind of a query", "cohorts/", query(huge, "select 1")),
            ("query", "cohorts/", query("HogQLQuery", huge)),
            ("matching", "actions/", step("url_matching", huge)),
            ("event", "actions/", step("event", huge)),
            (
                "operator of a step",
                "actions/",
                step_property("operator", huge),
            ),
            ("type of a step", "actions/", step_property("type", huge)),
        ] {
            assert_short(&project.post(path, body), case);
        }
    }
}

#[test]
fn words_of_criteria_are_short_or_refused() {
    let project = Project::new();
    let behavior = |member: &str, value: &str| {
        let mut leaf = json!({"type": "behavioral", "key": "paid", "value": "performed_event", "event_type": "events",
            "time_value": 7, "time_interval": "day"});
        leaf[member] = value.into();
        json!({"filters": only(leaf)})
    };
    let groups =
        |member: &str, value: &str| json!({"groups": [{"event_id": "paid", member: value}]});
    let create = |body: Value| project.post("cohorts/", body);
    let (word, long) = ("x".repeat(400), "x".repeat(401));
    for (body, long) in [
        (leaf("operator", &word), leaf("operator", &long)),
        (behavior("value", &word), behavior("value", &long)),
        (behavior("event_type", &word), behavior("event_type", &long)),
        (
            groups("count_operator", &word),
            groups("count_operator", &long),
        ),
    ] {
        assert_eq!(create(body.clone()).status, 201, "{body}");
        let attr = if long["groups"].is_array() {
            "groups"
        } else {
            "filters"
        };
        let detail = create(long)
            .is_error(400, "invalid_input", Some(attr))
            .detail();
        assert!(
            detail.contains("has 401 bytes; at most 400 are allowed"),
            "{detail}"
        );
    }
}
