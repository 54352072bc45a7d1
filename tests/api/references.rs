//! Cases 72 to 77 and 125 to 127: cohorts that build on others.

use serde_json::{Value, json};

use super::{at, id_of, in_cohort, is_bad, only, says, upload};
use crate::harness::{Project, did, person};

/// Makes a cohort that builds on another.
fn on(project: &Project, cohort: i64, name: &str) -> i64 {
    project.cohort(json!({"name": name, "filters": only(in_cohort(cohort))}))
}

#[test]
fn case_072_a_loop_is_refused_and_nothing_is_calculated() {
    let project = Project::new();
    let a = project.cohort(json!({"name": "A", "filters": only(did("open", 1))}));
    let b = on(&project, a, "B");
    let c = on(&project, b, "C");
    let all = || [a, b, c].map(|id| project.get(&at(id)).json());
    let before = all();
    let body = json!({"name": "new", "filters": only(in_cohort(c))});
    let answer = project.patch(&at(a), body);
    let detail = "Cohorts cannot reference other cohorts in a loop.";
    says(&answer, None, detail);
    assert!(before[0]["pending_version"].is_number());
    assert_eq!(all(), before);
}

#[test]
fn case_073_a_cohort_that_is_not_there_cannot_be_named_later() {
    let project = Project::new();
    let id = project.cohort(json!({"filters": only(did("open", 1))}));
    for unknown in [json!(999_999), json!("999999")] {
        let leaf = json!({"type": "cohort", "key": "id", "value": unknown});
        let answer = project.patch(&at(id), json!({"filters": only(leaf)}));
        says(&answer, None, "Invalid Cohort ID in filter");
    }
}

#[test]
fn case_074_a_cohort_that_another_builds_on_is_not_deleted() {
    let project = Project::new();
    let a = project.cohort(json!({"name": "A"}));
    on(&project, a, "B");
    let answer = project.patch(&at(a), json!({"deleted": true}));
    let part = "This cohort is used as criteria in 1 other cohort(s): B";
    is_bad(&answer, None, part);
    assert_eq!(project.get(&at(a)).json()["deleted"], false);
}

#[test]
fn case_075_all_cohorts_that_build_on_one_are_counted() {
    let project = Project::new();
    let a = project.cohort(json!({"name": "A"}));
    for name in ["B", "C", "D"] {
        on(&project, a, name);
    }
    let answer = project.patch(&at(a), json!({"deleted": true}));
    is_bad(&answer, None, "in 3 other cohort(s):");
}

#[test]
fn case_076_a_cohort_that_nothing_builds_on_is_deleted() {
    let project = Project::new();
    let a = project.cohort(json!({"name": "A"}));
    let b = project.cohort(json!({"name": "B"}));
    on(&project, b, "C");
    let answer = project.patch(&at(a), json!({"deleted": true}));
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(answer.json()["deleted"], true);
}

#[test]
fn case_077_a_restored_cohort_has_its_members_again() {
    let project = Project::new();
    project.people([("d1", json!({"plan": "pro"})), ("d2", json!({}))]);
    let filters = only(person("plan", "exact", "pro"));
    let moving = project.cohort(json!({"filters": filters}));
    project.settle(moving);
    let fixed = id_of(&upload(&project, None, "d1\nd2\n"));
    for (id, members) in [(moving, vec!["d1"]), (fixed, vec!["d1", "d2"])] {
        for deleted in [true, false] {
            let answer = project.patch(&at(id), json!({"deleted": deleted}));
            assert_eq!(answer.status, 200, "{}", answer.text);
            assert_eq!(answer.json()["deleted"], deleted);
        }
        assert_eq!(project.settle(id)["count"], members.len());
        assert_eq!(project.members(id), members);
    }
}

/// What builds on a cohort.
fn used_in(project: &Project, cohort: i64) -> Value {
    let answer = project.get(&format!("cohorts/{cohort}/used_in"));
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()
}

fn nothing() -> Value {
    json!({"results": [], "total": 0, "has_more": false})
}

#[test]
fn case_125_what_builds_on_a_cohort_is_listed_in_three_blocks() {
    let project = Project::new();
    let a = project.cohort(json!({"name": "A"}));
    let none = json!({"feature_flags": nothing(), "insights": nothing(), "cohorts": nothing()});
    assert_eq!(used_in(&project, a), none);
    let b = on(&project, a, "B");
    let block = json!({"results": [{"id": b, "name": "B"}], "total": 1, "has_more": false});
    let expected = json!({"feature_flags": nothing(), "insights": nothing(), "cohorts": block});
    assert_eq!(used_in(&project, a), expected);
}

#[test]
fn case_126_a_hundred_are_listed_and_all_are_counted() {
    let project = Project::new();
    let a = project.cohort(json!({"name": "A"}));
    for number in 0..101 {
        on(&project, a, &format!("B{number}"));
    }
    let block = &used_in(&project, a)["cohorts"];
    assert_eq!(block["results"].as_array().map(Vec::len), Some(100));
    assert_eq!(
        (&block["total"], &block["has_more"]),
        (&json!(101), &json!(true))
    );
}

#[test]
fn case_127_what_another_project_builds_on_a_cohort_is_hidden() {
    let (project, other) = (Project::new(), Project::new());
    let a = project.cohort(json!({"name": "A"}));
    on(&other, a, "theirs");
    assert_eq!(used_in(&project, a)["cohorts"], nothing());
    let b = on(&project, a, "ours");
    let listed = used_in(&project, a)["cohorts"]["results"].clone();
    assert_eq!(listed, json!([{"id": b, "name": "ours"}]));
}
