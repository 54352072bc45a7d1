//! The type of a cohort, which follows from its criteria.

use serde_json::json;

use crate::harness::{Project, any_of, assert_invalid, cohort_path, did, only, person};

/// Conformance case 78.
#[test]
fn rename_keeps_the_cohort_type() {
    let project = Project::new();
    let id = project.cohort(json!({"filters": only(did("open", 1))}));
    assert_eq!(
        project.get(&cohort_path(id)).json()["cohort_type"],
        "realtime"
    );
    let renamed = project.patch(&cohort_path(id), json!({"name": "A"})).json();
    assert_eq!(renamed["cohort_type"], "realtime");
    // A type that was sent is kept too.
    let typed = project.patch(&cohort_path(id), json!({"cohort_type": "behavioral"}));
    assert_eq!(typed.json()["cohort_type"], "behavioral");
    let renamed = project.patch(&cohort_path(id), json!({"name": "B"})).json();
    assert_eq!(
        (&renamed["name"], &renamed["cohort_type"]),
        (&json!("B"), &json!("behavioral"))
    );
}

/// Conformance case 79.
#[test]
fn property_criterion_makes_a_cohort_realtime() {
    let project = Project::new();
    let filters = only(person("plan", "exact", "pro"));
    let cohort = project.post("cohorts/", json!({"filters": filters}));
    assert_eq!(cohort.status, 201, "{}", cohort.text);
    assert_eq!(cohort.json()["cohort_type"], "realtime");
}

/// Conformance case 80.
#[test]
fn cohort_type_that_does_not_match_the_filters_is_rejected() {
    let project = Project::new();
    let body = json!({"cohort_type": "person_property", "filters": only(did("open", 1))});
    let answer = project.post("cohorts/", body);
    for part in ["does not match the filters", "Expected type: 'behavioral'"] {
        assert_invalid(&answer, Some("cohort_type"), part);
    }
    assert_eq!(project.get("cohorts/").json()["count"], 0);
}

#[test]
fn error_of_a_mismatched_cohort_type_names_the_expected_type() {
    let project = Project::new();
    let body = json!({"cohort_type": "person_property", "filters": any_of(json!([did("x", 1)]))});
    let detail = project
        .post("cohorts/", body)
        .is_error(400, "invalid_input", Some("cohort_type"))
        .detail();
    assert_eq!(
        detail,
        "Cohort type 'person_property' does not match the filters. Expected type: 'behavioral'"
    );
}

/// Conformance case 81.
#[test]
fn unknown_cohort_type_is_rejected() {
    let project = Project::new();
    let answer = project.post("cohorts/", json!({"cohort_type": "nope"}));
    answer.is_error(400, "invalid_choice", Some("cohort_type"));
}
