//! The kinds of the criteria of a cohort, which PostHog calls its condition type.

use serde_json::{Value, json};

use crate::harness::{Project, any_of, cohort_path, did, id_of, in_cohort, only, person, rows};

fn flags(person_properties: bool, behavioral: bool, lifecycle: bool, cohorts: bool) -> Value {
    json!({
        "person_properties": person_properties, "behavioral": behavioral, "lifecycle": lifecycle, "cohorts": cohorts,
    })
}

fn behavior(value: &str) -> Value {
    let mut leaf = did("open", 7);
    leaf["value"] = json!(value);
    leaf
}

#[test]
fn each_kind_of_criterion_has_a_flag_at_any_depth() {
    let project = Project::new();
    let other = project.cohort(json!({}));
    let created = json!({"type": "person_metadata", "key": "created_at", "operator": "is_date_after", "value": "-7d"});
    let group = json!({"type": "AND", "values": [{"type": "OR", "values": [in_cohort(other)]}]});
    for (leaves, expected) in [
        (
            json!([person("plan", "exact", "pro")]),
            flags(true, false, false, false),
        ),
        (json!([created]), flags(true, false, false, false)),
        (json!([did("open", 1)]), flags(false, true, false, false)),
        (
            json!([behavior("performed_event_sequence")]),
            flags(false, true, false, false),
        ),
        (
            json!([behavior("performed_event_first_time")]),
            flags(false, false, true, false),
        ),
        (
            json!([behavior("performed_event_regularly")]),
            flags(false, false, true, false),
        ),
        (
            json!([behavior("stopped_performing_event")]),
            flags(false, false, true, false),
        ),
        (
            json!([
                behavior("restarted_performing_event"),
                did("open", 1),
                group
            ]),
            flags(false, true, true, true),
        ),
        (json!([in_cohort(other)]), flags(false, false, false, true)),
    ] {
        let cohort = project.post("cohorts/", json!({"filters": any_of(leaves)}));
        let path = cohort_path(id_of(&cohort));
        let basic = project.get("cohorts/?basic=true").json();
        for shown in [&cohort.json(), &project.get(&path).json(), &rows(&basic)[0]] {
            assert_eq!(shown["condition_type"], expected, "{shown}");
        }
    }
}

#[test]
fn flags_follow_a_change_and_are_null_without_filters() {
    let project = Project::new();
    let groups = json!([{"properties": {"plan": "trial"}}]);
    for body in [
        json!({}),
        json!({"is_static": true}),
        json!({"is_static": true, "filters": {"properties": {}}}),
        json!({"filters": any_of(json!([]))}),
        json!({"groups": groups}),
    ] {
        let cohort = project.post("cohorts/", body.clone()).json();
        assert_eq!(cohort.get("condition_type"), Some(&Value::Null), "{body}");
    }
    let filled =
        json!({"is_static": true, "condition_type": "ignored", "filters": only(did("open", 1))});
    let filled = project.post("cohorts/", filled).json();
    assert_eq!(filled["condition_type"], flags(false, true, false, false));
    let path = cohort_path(project.cohort(json!({"filters": only(did("open", 1))})));
    let filters = only(person("plan", "exact", "pro"));
    let changed = project.patch(&path, json!({"filters": filters})).json();
    assert_eq!(changed["condition_type"], flags(true, false, false, false));
    assert_eq!(
        changed.get("search_match_type"),
        Some(&Value::Null),
        "{changed}"
    );
}
