//! Cases 78 to 81: the type of a cohort.

use serde_json::json;

use super::{at, is_bad, only};
use crate::harness::{Project, did, person};

#[test]
fn case_078_a_new_name_leaves_the_type_as_it_is() {
    let project = Project::new();
    let id = project.cohort(json!({"filters": only(did("open", 1))}));
    assert_eq!(project.get(&at(id)).json()["cohort_type"], "realtime");
    let renamed = project.patch(&at(id), json!({"name": "A"})).json();
    assert_eq!(renamed["cohort_type"], "realtime");
    // One that was sent is kept as well.
    let typed = project.patch(&at(id), json!({"cohort_type": "behavioral"}));
    assert_eq!(typed.json()["cohort_type"], "behavioral");
    let renamed = project.patch(&at(id), json!({"name": "B"})).json();
    assert_eq!(
        (&renamed["name"], &renamed["cohort_type"]),
        (&json!("B"), &json!("behavioral"))
    );
}

#[test]
fn case_079_a_criterion_on_a_property_makes_a_cohort_realtime() {
    let project = Project::new();
    let filters = only(person("plan", "exact", "pro"));
    let made = project.post("cohorts/", json!({"filters": filters}));
    assert_eq!(made.status, 201, "{}", made.text);
    assert_eq!(made.json()["cohort_type"], "realtime");
}

#[test]
fn case_080_a_type_that_the_criteria_do_not_need_is_refused() {
    let project = Project::new();
    let body = json!({"cohort_type": "person_property", "filters": only(did("open", 1))});
    let answer = project.post("cohorts/", body);
    for part in ["does not match the filters", "Expected type: 'behavioral'"] {
        is_bad(&answer, Some("cohort_type"), part);
    }
    assert_eq!(project.get("cohorts/").json()["count"], 0);
}

#[test]
fn case_081_a_type_that_there_is_not_is_refused() {
    let project = Project::new();
    let answer = project.post("cohorts/", json!({"cohort_type": "nope"}));
    answer.is_error(400, "invalid_choice", Some("cohort_type"));
}
