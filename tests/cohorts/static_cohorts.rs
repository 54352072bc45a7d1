//! Static cohorts: how criteria fill them once, and the change between static and dynamic.

use serde_json::{Value, json};

use crate::harness::{
    Project, any_of, assert_invalid, cohort_names, cohort_path, did, id_of, only, person, upload,
};

/// The start of the error for criteria that are sent to an existing static cohort.
const FROZEN: &str = "Editing the criteria of a static cohort is not supported yet";

/// A project with one person on the plan `pro` and one on `free`.
fn with_two_plans() -> Project {
    let project = Project::new();
    project.persons([
        ("d1", json!({"plan": "pro", "email": "e@x.io"})),
        ("d2", json!({"plan": "free"})),
    ]);
    project
}

fn with_persons() -> Project {
    let project = Project::new();
    project.persons([
        ("d1", json!({"plan": "pro"})),
        ("d2", json!({"plan": "pro"})),
        ("d3", json!({})),
    ]);
    project
}

fn paying() -> Value {
    only(person("plan", "exact", "pro"))
}

#[test]
fn static_cohort_without_criteria_is_complete_at_creation() {
    let project = Project::new();
    let body = json!({"is_static": true, "filters": {"colour": "red"}});
    let cohort = project.post("cohorts/", body).json();
    assert_eq!(cohort["filters"], json!({"properties": {}}));
    assert_eq!(
        (&cohort["count"], &cohort["is_calculating"]),
        (&json!(0), &json!(false))
    );
    assert_ne!(cohort["last_calculation"], Value::Null);
}

/// Conformance case 35.
#[test]
fn static_cohort_may_be_empty() {
    let project = Project::new();
    let cohort = project.post("cohorts/", json!({"name": "empty", "is_static": true}));
    assert_eq!(cohort.status, 201, "{}", cohort.text);
    let cohort = cohort.json();
    assert_eq!(
        (&cohort["count"], &cohort["is_calculating"]),
        (&json!(0), &json!(false))
    );
    assert_eq!(cohort_names(&project, "type=static"), ["empty"]);
}

/// Conformance case 34.
#[test]
fn initial_members_are_counted_in_the_response() {
    let project = with_two_plans();
    project.persons([("d3", json!({}))]);
    let ids = json!([project.person("d1"), project.person("d3")]);
    let body = json!({"is_static": true, "_create_static_person_ids": ids});
    let cohort = project.post("cohorts/", body);
    let id = id_of(&cohort);
    assert_eq!(cohort.json()["count"].as_i64(), Some(2));
    assert_eq!(project.members(id), ["d1", "d3"]);
}

/// Conformance case 30.
#[test]
fn criteria_fill_a_static_cohort() {
    let project = with_two_plans();
    let cohort = project.post("cohorts/", json!({"is_static": true, "filters": paying()}));
    let id = id_of(&cohort);
    let settled = project.settle(id);
    assert_eq!(
        (&settled["count"], &settled["is_static"]),
        (&json!(1), &json!(true))
    );
    assert_eq!(project.members(id), ["d1"]);
}

/// Conformance case 31.
#[test]
fn behavioral_criterion_without_negation_fills_a_static_cohort() {
    let project = with_two_plans();
    project.capture(json!([{"event": "open", "distinct_id": "d2"}]));
    let leaf = did("open", 1);
    assert_eq!(leaf.get("negation"), None);
    let id = project.cohort(json!({"is_static": true, "filters": only(leaf)}));
    project.settle(id);
    assert_eq!(project.members(id), ["d2"]);
}

#[test]
fn criteria_fill_a_static_cohort_only_once() {
    let project = Project::new();
    project.persons([("ann", json!({"plan": "pro"}))]);
    let body =
        json!({"is_static": true, "filters": any_of(json!([person("plan", "exact", "pro")]))});
    let id = project.cohort(body);
    project.settle(id);
    project.persons([("bob", json!({"plan": "pro"}))]);
    let settled = project.settle(id);
    assert_eq!(
        (&settled["count"], &settled["version"]),
        (&json!(1), &Value::Null)
    );
    assert_eq!(project.members(id), ["ann"]);
}

#[test]
fn persons_added_before_the_first_fill_stay_members() {
    let project = with_persons();
    let id = project.cohort(
        json!({"is_static": true, "filters": any_of(json!([person("plan", "exact", "pro")]))}),
    );
    let body = json!({"person_ids": [project.person("d3")]});
    project.patch(&format!("cohorts/{id}/add_persons_to_static_cohort/"), body);
    assert_eq!(project.settle(id)["count"], 3);
    assert_eq!(project.members(id), ["d1", "d2", "d3"]);
}

#[test]
fn fill_of_a_deleted_cohort_happens_after_restore() {
    let project = Project::new();
    project.persons([("d1", json!({"a": 1}))]);
    let id = project
        .cohort(json!({"is_static": true, "filters": any_of(json!([person("a", "exact", 1)]))}));
    for deleted in [true, false] {
        project.patch(&format!("cohorts/{id}/"), json!({"deleted": deleted}));
    }
    assert_eq!(project.settle(id)["count"], 1);
}

/// Conformance case 32.
#[test]
fn criteria_of_a_static_cohort_cannot_be_changed() {
    let project = with_two_plans();
    let id = project.cohort(json!({"is_static": true, "filters": paying()}));
    let before = project.settle(id);
    let other = only(person("plan", "exact", "free"));
    let answer = project.patch(&cohort_path(id), json!({"filters": other}));
    assert_invalid(&answer, None, FROZEN);
    assert_eq!(project.get(&cohort_path(id)).json(), before);
}

/// Conformance case 33.
#[test]
fn uploaded_cohort_rejects_later_criteria() {
    let project = with_two_plans();
    let id = id_of(&upload(&project, None, "d1\n"));
    let answer = project.patch(&cohort_path(id), json!({"filters": paying()}));
    assert_invalid(&answer, None, FROZEN);
    assert_eq!(project.members(id), ["d1"]);
}

#[test]
fn static_cohort_rejects_other_criteria_and_accepts_a_rename() {
    let project = with_persons();
    let pro = any_of(json!([person("plan", "exact", "pro")]));
    let id = project.cohort(json!({"is_static": true, "filters": pro}));
    let path = format!("cohorts/{id}/");
    for filters in [
        any_of(json!([person("plan", "exact", "free")])),
        json!({"properties": {}}),
    ] {
        let answer = project.patch(&path, json!({"filters": filters}));
        let detail = answer.is_error(400, "invalid_input", None).detail();
        assert!(
            detail.starts_with("Editing the criteria of a static cohort is not supported yet"),
            "{detail}"
        );
    }
    assert_eq!(
        project
            .patch(&path, json!({"name": "B", "filters": pro}))
            .status,
        200
    );
    let bare = project.cohort(json!({"is_static": true, "filters": {"properties": {}}}));
    project
        .patch(&format!("cohorts/{bare}/"), json!({"filters": pro}))
        .is_error(400, "invalid_input", None);
}

/// Conformance case 41.
#[test]
fn unchanged_criteria_of_a_static_cohort_are_accepted() {
    let project = with_two_plans();
    let id = project.cohort(json!({"is_static": true, "filters": paying()}));
    let stored = project.settle(id)["filters"].clone();
    for (name, filters) in [("as sent", paying()), ("as shown", stored)] {
        let changed = project.patch(&cohort_path(id), json!({"name": name, "filters": filters}));
        assert_eq!(changed.status, 200, "{}", changed.text);
        assert_eq!(changed.json()["name"], name);
    }
    assert_eq!(project.members(id), ["d1"]);
}

#[test]
fn static_cohort_keeps_an_empty_criteria_tree() {
    let project = Project::new();
    let tree = any_of(json!([]));
    let id = project.cohort(json!({"is_static": true, "filters": tree}));
    assert_eq!(
        project.get(&format!("cohorts/{id}/")).json()["filters"],
        tree
    );
    for nothing in [
        json!({}),
        json!("x"),
        json!(null),
        json!({"properties": {}}),
    ] {
        let id = project.cohort(json!({"is_static": true, "filters": nothing}));
        let shown = project.get(&format!("cohorts/{id}/")).json();
        assert_eq!(shown["filters"], json!({"properties": {}}), "{nothing}");
    }
}

/// Conformance case 40.
#[test]
fn uploaded_cohort_can_become_dynamic() {
    let project = with_two_plans();
    let id = id_of(&upload(&project, None, "d2\n"));
    assert_eq!(
        project.get(&cohort_path(id)).json()["pending_version"],
        Value::Null
    );
    let groups = json!([{"properties": [{"key": "email", "value": "e@x.io"}]}]);
    let body = json!({"is_static": false, "groups": groups});
    let changed = project.patch(&cohort_path(id), body);
    assert_eq!(changed.status, 200, "{}", changed.text);
    let changed = changed.json();
    assert_eq!(
        (&changed["is_static"], &changed["is_calculating"]),
        (&json!(false), &json!(true))
    );
    assert_eq!(changed["pending_version"], 1);
    project.settle(id);
    assert_eq!(project.members(id), ["d1"]);
}

#[test]
fn static_cohort_can_become_dynamic_and_back() {
    let project = with_persons();
    let id = project
        .cohort(json!({"is_static": true, "_create_static_person_ids": [project.person("d3")]}));
    let path = format!("cohorts/{id}/");
    let groups = json!([{"properties": [{"key": "plan", "value": "pro"}]}]);
    let flipped = project
        .patch(&path, json!({"is_static": false, "groups": groups}))
        .json();
    assert_eq!(
        (&flipped["is_calculating"], &flipped["pending_version"]),
        (&json!(true), &json!(1))
    );
    project.settle(id);
    assert_eq!(project.members(id), ["d1", "d2"]);
    let back = project.patch(&path, json!({"is_static": true})).json();
    assert_eq!(
        (&back["is_calculating"], &back["count"]),
        (&json!(false), &json!(2))
    );
    assert_eq!(project.members(id), ["d1", "d2"]);
}

#[test]
fn dynamic_cohort_turned_static_while_pending_is_not_calculated() {
    let project = Project::new();
    project.persons([("d1", json!({"a": 1}))]);
    let id = project.cohort(json!({"filters": any_of(json!([person("a", "exact", 1)]))}));
    let turned = project
        .patch(&format!("cohorts/{id}/"), json!({"is_static": true}))
        .json();
    assert_eq!(turned["is_calculating"], false);
    project.settle(id);
    assert_eq!(project.members(id).len(), 0);
}
