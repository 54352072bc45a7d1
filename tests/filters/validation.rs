//! Validation of criteria when a cohort is created or changed.

use serde_json::{Value, json};

use crate::harness::{
    Answer, Project, any_of, assert_detail, assert_invalid, cohort_path, did, id_of, only, person,
};

const FILTERS: Option<&str> = Some("filters");

/// Creates a cohort with one criterion in a new project.
fn post(leaf: Value) -> Answer {
    Project::new().post("cohorts/", json!({"filters": only(leaf)}))
}

fn assert_accepted(leaf: Value) {
    let answer = post(leaf);
    assert_eq!(answer.status, 201, "{}", answer.text);
}

/// The leaf with more members.
fn with(mut leaf: Value, more: &Value) -> Value {
    for (key, value) in more.as_object().expect("an object") {
        leaf[key] = value.clone();
    }
    leaf
}

/// Conformance case 56.
#[test]
fn person_criterion_requires_an_operator() {
    let answer = post(json!({"type": "person", "key": "plan", "value": "pro"}));
    let detail = "Missing required keys for person filter: operator";
    assert_detail(&answer, FILTERS, detail);
}

/// Conformance case 57.
#[test]
fn person_criterion_requires_a_value() {
    let answer = post(json!({"type": "person", "key": "plan", "operator": "exact"}));
    let detail = "Missing required keys for person filter: value";
    assert_detail(&answer, FILTERS, detail);
}

/// Conformance case 58.
#[test]
fn behavioral_criterion_requires_an_event_type() {
    let mut leaf = did("open", 1);
    leaf.as_object_mut().expect("a leaf").remove("event_type");
    let answer = post(leaf);
    let detail = "Missing required keys for behavioral filter: event_type";
    assert_detail(&answer, FILTERS, detail);
}

/// Conformance case 59.
#[test]
fn is_set_requires_no_value() {
    assert_accepted(json!({"type": "person", "key": "plan", "operator": "is_set"}));
}

/// Conformance case 60.
#[test]
fn unreadable_date_is_rejected() {
    for value in ["garbage", "", "-99999d"] {
        let answer = post(person("since", "is_date_after", value));
        assert_invalid(&answer, FILTERS, "Invalid date value");
    }
}

/// Conformance case 61.
#[test]
fn relative_and_absolute_dates_are_accepted() {
    for operator in ["is_date_after", "is_date_before"] {
        for value in [
            "-7d",
            "30d",
            "-1w",
            "-24h",
            "2025-03-02",
            "2025-03-02T10:00:00Z",
        ] {
            assert_accepted(person("since", operator, value));
        }
    }
}

/// Conformance case 62.
#[test]
fn text_operators_accept_any_text() {
    for operator in ["exact", "icontains", "regex"] {
        assert_accepted(person("since", operator, "garbage"));
    }
}

/// Conformance case 63.
#[test]
fn count_with_an_operator_is_accepted() {
    let more = json!({"operator": "gte", "operator_value": 5});
    assert_accepted(with(did("open", 1), &more));
}

/// Conformance case 64.
#[test]
fn count_without_an_operator_is_accepted() {
    assert_accepted(with(did("open", 1), &json!({"operator_value": 5})));
}

/// Conformance case 65.
#[test]
fn unknown_key_of_a_criterion_is_named() {
    let answer = post(with(did("open", 1), &json!({"colour": "red"})));
    assert_invalid(&answer, FILTERS, "colour");
}

/// Conformance case 66.
#[test]
fn second_event_is_a_name_or_the_id_of_an_action() {
    for more in [
        json!({"seq_event": "close", "seq_event_type": "events"}),
        json!({"seq_event": 7, "seq_event_type": "actions"}),
    ] {
        let sequence = json!({"value": "performed_event_sequence", "seq_time_value": 1,
            "seq_time_interval": "day"});
        assert_accepted(with(with(did("open", 7), &sequence), &more));
    }
}

/// Conformance case 67.
#[test]
fn unknown_type_of_a_criterion_is_named() {
    let answer = post(json!({"type": "event", "key": "plan", "operator": "exact", "value": "pro"}));
    assert_invalid(&answer, FILTERS, "event");
}

/// Conformance case 68.
#[test]
fn group_type_must_be_upper_case() {
    let project = Project::new();
    let group = json!({"type": "or", "values": [person("plan", "exact", "pro")]});
    for filters in [json!({"properties": group}), only(group.clone())] {
        let answer = project.post("cohorts/", json!({"filters": filters}));
        answer.is_error(400, "invalid_input", FILTERS);
    }
}

/// Conformance case 69.
#[test]
fn criteria_are_stored_normalised() {
    let project = Project::new();
    let more = json!({"time_value": "30", "seq_event": null});
    let sent = with(did("open", 1), &more);
    assert_eq!(sent.get("negation"), None);
    let id = project.cohort(json!({"filters": only(sent)}));
    let shown = project.get(&cohort_path(id)).json()["filters"]["properties"]["values"][0].clone();
    assert_eq!(shown, with(did("open", 30), &json!({"negation": false})));
}

/// Conformance case 70.
#[test]
fn cohort_reference_is_a_number_or_numeric_text() {
    let project = Project::new();
    let named = |value: &str| {
        let leaf = json!({"type": "cohort", "key": "id", "value": value});
        project.post("cohorts/", json!({"filters": only(leaf)}))
    };
    let id = id_of(&named("12"));
    let shown = project.get(&cohort_path(id)).json();
    assert_eq!(shown["filters"]["properties"]["values"][0]["value"], 12);
    named("zz").is_error(400, "invalid_input", FILTERS);
}

#[test]
fn invalid_filter_is_rejected_with_its_path() {
    let project = Project::new();
    let cases = [
        (
            any_of(json!([{"type": "event"}])),
            "filters",
            "properties.values[0]: unknown filter type 'event'",
        ),
        (
            any_of(json!([{"type": "person", "key": "a"}])),
            "filters",
            "Missing required keys for person filter: value, operator",
        ),
        (
            json!("[not json]"),
            "filters__detail",
            "Must contain a 'properties' key with type and values",
        ),
        (
            json!({"properties": {"type": "or", "values": []}}),
            "filters",
            "unknown group type 'or'",
        ),
    ];
    for (filters, attr, part) in cases {
        let answer = project.post("cohorts/", json!({"filters": filters}));
        let detail = answer.is_error(400, "invalid_input", Some(attr)).detail();
        assert!(detail.contains(part), "{detail}");
    }
    assert_eq!(project.get("cohorts/").json()["count"], 0);
}

#[test]
fn criteria_with_nul_characters_are_rejected() {
    let project = Project::new();
    let mut unknown = did("x", 1);
    unknown["value"] = json!("performed\u{0}");
    for leaf in [
        person("a\u{0}", "exact", 1),
        person("a", "exact", "\u{0}"),
        unknown,
    ] {
        let filters = any_of(json!([leaf]));
        for path in ["cohorts/", "cohorts/preview/"] {
            let answer = project.post(path, json!({"filters": filters}));
            let detail = answer
                .is_error(400, "invalid_input", Some("filters"))
                .detail();
            assert!(detail.contains("NUL"), "{detail}");
        }
    }
}

#[test]
fn names_have_at_most_1000_bytes() {
    let project = Project::new();
    let name = |bytes: usize| "n".repeat(bytes);
    let sentence = "has 1001 bytes; the name of a property or an event may have 1000 at most";
    let ask = |leaf: Value| project.post("cohorts/preview/", json!({"filters": only(leaf)}));
    for leaf in [person(&name(1_000), "exact", 1), did(&name(1_000), 1)] {
        assert_eq!(ask(leaf).status, 200);
    }
    for leaf in [person(&name(1_001), "exact", 1), did(&name(1_001), 1)] {
        let detail = format!("properties.values[0]: 'key' {sentence}");
        assert_detail(&ask(leaf.clone()), FILTERS, &detail);
        let created = project.post("cohorts/", json!({"filters": only(leaf)}));
        assert_detail(&created, FILTERS, &detail);
    }
    let groups = json!([{"properties": {name(1_001): 1}}]);
    let refused = project.post("cohorts/", json!({"groups": groups}));
    assert_detail(
        &refused,
        Some("groups"),
        &format!("groups[0]: a key {sentence}"),
    );
    let steps = json!([{"event": name(1_001)}]);
    let refused = project.post("actions/", json!({"name": "long", "steps": steps}));
    assert_eq!(refused.status, 400, "{}", refused.text);
    let query = format!(
        "select distinct person_id from events where event = '{}'",
        name(1_001)
    );
    let query = json!({"kind": "HogQLQuery", "query": query});
    let refused = project.post("cohorts/", json!({"is_static": true, "query": query}));
    assert_detail(
        &refused,
        Some("query"),
        &format!("query: a name {sentence}"),
    );
}

#[test]
fn filters_of_very_many_objects_are_refused() {
    let project = Project::new();
    let groups = vec![json!({"event_id": "x"}); 100_000];
    let refused = project.post("cohorts/", json!({"groups": groups}));
    let detail = "groups: a filter may hold 50000 JSON objects at most";
    assert_detail(&refused, Some("groups"), detail);
    let leaf = person("plan", "exact", json!([vec![json!({}); 60_000]]));
    let refused = project.post("cohorts/preview/", json!({"filters": only(leaf)}));
    let detail = "properties: a filter may hold 50000 JSON objects at most";
    assert_detail(&refused, FILTERS, detail);
}
