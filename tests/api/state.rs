//! Cases 104 to 107: what is told of calculations.

use serde_json::{Value, json};

use super::{at, only, rows};
use crate::harness::{Project, did, person};

/// A cohort whose only calculation failed.
fn failed(project: &Project) -> i64 {
    let filters = only(person("plan", "sounds_like", "pro"));
    let id = project.cohort(json!({"filters": filters}));
    assert_eq!(project.settle(id)["errors_calculating"], 1);
    id
}

/// That a message asks to review the criteria.
fn asks_for_review(cohort: &Value) {
    let message = cohort["last_error_message"].as_str().expect("a message");
    assert!(message.to_lowercase().contains("review"), "{message}");
}

/// How many calculations of a cohort were begun.
fn begun(project: &Project, cohort: i64) -> Value {
    let page = project.get(&format!("cohorts/{cohort}/calculation_history"));
    assert_eq!(page.status, 200, "{}", page.text);
    page.json()["count"].clone()
}

#[test]
fn case_104_a_cohort_tells_why_its_calculation_failed() {
    let project = Project::new();
    let id = failed(&project);
    asks_for_review(&project.get(&at(id)).json());
    let good = project.cohort(json!({"filters": only(did("open", 1))}));
    assert_eq!(project.settle(good)["last_error_message"], Value::Null);
}

#[test]
fn case_105_a_list_tells_why_calculations_failed() {
    let project = Project::new();
    let good = project.cohort(json!({"filters": only(did("open", 1))}));
    let bad = failed(&project);
    let page = project.get("cohorts/").json();
    let ids: Vec<&Value> = rows(&page).iter().map(|row| &row["id"]).collect();
    assert_eq!(ids, [&json!(bad), &json!(good)]);
    asks_for_review(&rows(&page)[0]);
    assert_eq!(rows(&page)[1]["last_error_message"], Value::Null);
}

#[test]
fn case_106_calculations_are_paged_with_the_newest_first() {
    let project = Project::new();
    let id = project.cohort(json!({"filters": only(did("first", 1))}));
    project.settle(id);
    for event in ["second", "third"] {
        project.patch(&at(id), json!({"filters": only(did(event, 1))}));
        project.settle(id);
    }
    let page = project.get(&format!("cohorts/{id}/calculation_history?limit=2"));
    let page = page.json();
    assert_eq!(
        (&page["count"], &page["next"], &page["previous"]),
        (&json!(3), &json!("?limit=2&offset=2"), &Value::Null)
    );
    let key = |row: &Value| row["filters"]["properties"]["values"][0]["key"].clone();
    let keys: Vec<Value> = rows(&page).iter().map(key).collect();
    assert_eq!(keys, ["third", "second"]);
}

#[test]
fn case_107_a_live_dynamic_cohort_is_calculated_and_once_for_each_request() {
    let project = Project::new();
    let live = project.cohort(json!({"filters": only(did("open", 1))}));
    let deleted = project.cohort(json!({"deleted": true, "filters": only(did("open", 1))}));
    let fixed = project.cohort(json!({"is_static": true}));
    for _ in 0..2 {
        // The second time nothing waits any more.
        let settled = project.settle(live);
        assert_eq!(
            (&settled["version"], &settled["is_calculating"]),
            (&json!(1), &json!(false))
        );
        for (id, count) in [(live, 1), (deleted, 0), (fixed, 0)] {
            assert_eq!(begun(&project, id), count);
        }
    }
}
