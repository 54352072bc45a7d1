//! Cases 56 to 71: which criteria are taken, and what is said of others.

use serde_json::{Value, json};

use super::{at, id_of, in_cohort, is_bad, only, says};
use crate::harness::{Answer, Project, did, person};

const FILTERS: Option<&str> = Some("filters");

/// Asks for a cohort with one criterion.
fn post(leaf: Value) -> Answer {
    Project::new().post("cohorts/", json!({"filters": only(leaf)}))
}

fn is_taken(leaf: Value) {
    let answer = post(leaf);
    assert_eq!(answer.status, 201, "{}", answer.text);
}

/// A leaf with more members.
fn with(mut leaf: Value, more: &Value) -> Value {
    for (key, value) in more.as_object().expect("an object") {
        leaf[key] = value.clone();
    }
    leaf
}

#[test]
fn case_056_a_person_criterion_wants_an_operator() {
    let answer = post(json!({"type": "person", "key": "plan", "value": "pro"}));
    let detail = "Missing required keys for person filter: operator";
    says(&answer, FILTERS, detail);
}

#[test]
fn case_057_a_person_criterion_wants_a_value() {
    let answer = post(json!({"type": "person", "key": "plan", "operator": "exact"}));
    let detail = "Missing required keys for person filter: value";
    says(&answer, FILTERS, detail);
}

#[test]
fn case_058_a_behavioral_criterion_wants_an_event_type() {
    let mut leaf = did("open", 1);
    leaf.as_object_mut().expect("a leaf").remove("event_type");
    let answer = post(leaf);
    let detail = "Missing required keys for behavioral filter: event_type";
    says(&answer, FILTERS, detail);
}

#[test]
fn case_059_is_set_wants_no_value() {
    is_taken(json!({"type": "person", "key": "plan", "operator": "is_set"}));
}

#[test]
fn case_060_a_date_that_cannot_be_read_is_refused() {
    for value in ["garbage", "", "-99999d"] {
        let answer = post(person("since", "is_date_after", value));
        is_bad(&answer, FILTERS, "Invalid date value");
    }
}

#[test]
fn case_061_a_date_is_relative_or_absolute() {
    for operator in ["is_date_after", "is_date_before"] {
        for value in [
            "-7d",
            "30d",
            "-1w",
            "-24h",
            "2025-03-02",
            "2025-03-02T10:00:00Z",
        ] {
            is_taken(person("since", operator, value));
        }
    }
}

#[test]
fn case_062_other_operators_take_any_text() {
    for operator in ["exact", "icontains", "regex"] {
        is_taken(person("since", operator, "garbage"));
    }
}

#[test]
fn case_063_a_count_is_taken_with_its_operator() {
    let more = json!({"operator": "gte", "operator_value": 5});
    is_taken(with(did("open", 1), &more));
}

#[test]
fn case_064_a_count_is_taken_without_an_operator() {
    is_taken(with(did("open", 1), &json!({"operator_value": 5})));
}

#[test]
fn case_065_a_key_that_no_criterion_has_is_refused_by_its_name() {
    let answer = post(with(did("open", 1), &json!({"colour": "red"})));
    is_bad(&answer, FILTERS, "colour");
}

#[test]
fn case_066_the_second_event_is_a_name_or_the_number_of_an_action() {
    for more in [
        json!({"seq_event": "close", "seq_event_type": "events"}),
        json!({"seq_event": 7, "seq_event_type": "actions"}),
    ] {
        let sequence = json!({"value": "performed_event_sequence", "seq_time_value": 1,
            "seq_time_interval": "day"});
        is_taken(with(with(did("open", 7), &sequence), &more));
    }
}

#[test]
fn case_067_an_unknown_type_of_criterion_is_refused_by_its_name() {
    let answer = post(json!({"type": "event", "key": "plan", "operator": "exact", "value": "pro"}));
    is_bad(&answer, FILTERS, "event");
}

#[test]
fn case_068_a_group_is_joined_in_capitals() {
    let project = Project::new();
    let group = json!({"type": "or", "values": [person("plan", "exact", "pro")]});
    for filters in [json!({"properties": group}), only(group.clone())] {
        let answer = project.post("cohorts/", json!({"filters": filters}));
        answer.is_error(400, "invalid_input", FILTERS);
    }
}

#[test]
fn case_069_criteria_are_stored_in_a_normal_form() {
    let project = Project::new();
    let more = json!({"time_value": "30", "seq_event": null});
    let sent = with(did("open", 1), &more);
    assert_eq!(sent.get("negation"), None);
    let id = project.cohort(json!({"filters": only(sent)}));
    let shown = project.get(&at(id)).json()["filters"]["properties"]["values"][0].clone();
    assert_eq!(shown, with(did("open", 30), &json!({"negation": false})));
}

#[test]
fn case_070_the_number_of_a_cohort_may_be_text_and_must_be_a_number() {
    let project = Project::new();
    let named = |value: &str| {
        let leaf = json!({"type": "cohort", "key": "id", "value": value});
        project.post("cohorts/", json!({"filters": only(leaf)}))
    };
    let id = id_of(&named("12"));
    let shown = project.get(&at(id)).json();
    assert_eq!(shown["filters"]["properties"]["values"][0]["value"], 12);
    named("zz").is_error(400, "invalid_input", FILTERS);
}

#[test]
fn case_071_a_new_cohort_may_name_one_that_is_not_there() {
    is_taken(in_cohort(999_999));
}
