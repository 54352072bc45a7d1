//! Previews: an evaluation that stores nothing.

use std::sync::atomic::{AtomicI64, Ordering};

use serde_json::{Value, json};

use crate::harness::{Project, any_of, did, person};

#[test]
fn preview_is_evaluated_at_as_of_and_stores_nothing() {
    let project = Project::in_zone("Europe/Berlin");
    project.capture(
        json!([{"event": "open", "distinct_id": "ann", "timestamp": "2026-02-20T12:00:00Z"}]),
    );
    let preview = |as_of: &str| {
        let body = json!({"filters": any_of(json!([did("open", 7)])), "as_of": as_of, "sample": 1});
        project.post("cohorts/preview/", body).json()
    };
    assert_eq!(preview("2026-02-25T12:00:00Z")["count"], 1);
    let later = preview("2026-03-25T12:00:00Z");
    assert_eq!(
        (&later["count"], &later["sample"], &later["as_of"]),
        (&json!(0), &json!([]), &json!("2026-03-25T12:00:00Z"))
    );
    assert_eq!(project.get("cohorts/").json()["count"], 0);
}

#[test]
fn preview_requires_person_read() {
    let project = Project::new();
    let reader = project.key_with(&["cohort:read"]);
    let both = project.key_with(&["cohort:read", "person:read"]);
    let ask = |key: &str, sample: i64| {
        let body = json!({"filters": any_of(json!([did("x", 1)])), "sample": sample});
        let call =
            crate::harness::request(reqwest::Method::POST, &project.path("cohorts/preview/"));
        crate::harness::send(&reqwest::Method::POST, call.bearer_auth(key).json(&body))
    };
    for sample in [0, 1] {
        let refused = ask(&reader, sample);
        refused.is_error(403, "permission_denied", None);
        assert_eq!(
            refused.detail(),
            "API key missing required scope 'person:read'"
        );
    }
    assert_eq!(ask(&both, 1).status, 200);
    ask(&both, 101).is_error(400, "max_value", Some("sample"));
}

#[test]
fn preview_reports_criteria_that_cannot_be_calculated() {
    let project = Project::new();
    let body = json!({"filters": any_of(json!([person("plan", "sounds_like", "pro")]))});
    let detail = project
        .post("cohorts/preview/", body)
        .is_error(400, "invalid_input", Some("filters"))
        .detail();
    assert_eq!(
        detail,
        "properties.values[0]: unknown operator 'sounds_like'"
    );
}

#[test]
fn preview_counts_each_criterion() {
    let project = Project::new();
    project.persons([
        ("a", json!({"plan": "pro"})),
        ("b", json!({"plan": "pro"})),
        ("c", json!({"plan": "free"})),
    ]);
    project.capture(
        json!([{"event": "open", "distinct_id": "a"}, {"event": "open", "distinct_id": "c"}]),
    );
    let mut opened = did("open", 1);
    opened["negation"] = json!(true);
    let pro = person("plan", "exact", "pro");
    let free = person("plan", "exact", "free");
    let all = json!({"properties": {"type": "AND", "values": [pro, {"type": "AND", "values": [opened, {"type": "OR", "values": [free, pro]}]}]}});
    let preview = project
        .post("cohorts/preview/", json!({"filters": all}))
        .json();
    assert_eq!(preview["count"], 1);
    let expected = json!([
        {"path": "properties.values[0]", "count": 2},
        {"path": "properties.values[1].values[0]", "count": 1},
        {"path": "properties.values[1].values[1].values[0]", "count": 1},
        {"path": "properties.values[1].values[1].values[1]", "count": 2},
    ]);
    assert_eq!(preview["criteria"], expected);
}

/// The in-memory index is neither behind the event log nor ahead of it while writers and readers run concurrently.
#[test]
fn preview_includes_acknowledged_events_and_excludes_unsent_ones() {
    const WRITERS: i64 = 3;
    const EACH: i64 = 40;
    let project = Project::new();
    let (sent, acknowledged) = (AtomicI64::new(0), AtomicI64::new(0));
    let criteria = [did("seen", 7), person("plan", "exact", "pro")];
    let count = |leaf: &Value| {
        let answer = project.post(
            "cohorts/preview/",
            json!({"filters": any_of(json!([leaf]))}),
        );
        answer.json()["count"].as_i64().expect("a count")
    };
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (project, sent, acknowledged) = (&project, &sent, &acknowledged);
            scope.spawn(move || {
                for nth in 0..EACH {
                    sent.fetch_add(1, Ordering::SeqCst);
                    project.capture(
                        json!([{"event": "seen", "distinct_id": format!("p{writer} {nth}"),
                        "properties": {"$set": {"plan": "pro"}}}]),
                    );
                    acknowledged.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        for leaf in &criteria {
            let (count, sent, acknowledged) = (&count, &sent, &acknowledged);
            scope.spawn(move || {
                let mut last = 0;
                while last < WRITERS * EACH {
                    let before = acknowledged.load(Ordering::SeqCst);
                    last = count(leaf);
                    let after = sent.load(Ordering::SeqCst);
                    assert!(
                        (before..=after).contains(&last),
                        "{before} <= {last} <= {after}"
                    );
                }
            });
        }
    });
    for leaf in &criteria {
        assert_eq!(count(leaf), WRITERS * EACH);
    }
}
