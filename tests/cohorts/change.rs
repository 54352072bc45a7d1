//! Changing, deleting and restoring cohorts.

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{
    Project, any_of, assert_detail, cohort_names, cohort_path, did, id_of, only, person, upload,
};

/// The body of a cohort with legacy groups.
fn trialists() -> Value {
    json!({"name": "Trialists", "groups": [{"properties": {"plan": "trial"}}]})
}

/// Conformance case 3.
#[test]
fn rename_requests_a_second_calculation() {
    let project = Project::new();
    let cohort = project.post("cohorts", trialists());
    let body = json!({"name": "Trial users", "description": "on a trial"});
    let changed = project.patch(&cohort_path(id_of(&cohort)), body);
    assert_eq!(changed.status, 200, "{}", changed.text);
    let changed = changed.json();
    assert_eq!(changed["name"], "Trial users");
    assert_eq!(changed["description"], "on a trial");
    assert_eq!(changed["filters"], cohort.json()["filters"]);
    assert_eq!(changed["pending_version"], 2);
}

#[test]
fn update_changes_only_the_sent_fields() {
    let project = Project::new();
    let id = project
        .cohort(json!({"name": "A", "description": "b", "filters": any_of(json!([did("x", 1)]))}));
    let before = project.settle(id);
    let path = format!("cohorts/{id}/");

    let changed = project.patch(&path, json!({"name": null})).json();
    assert_eq!(
        (&changed["name"], &changed["description"]),
        (&Value::Null, &json!("b"))
    );
    assert_eq!(changed["filters"], before["filters"]);
    assert_eq!(
        (&changed["pending_version"], &changed["version"]),
        (&json!(2), &json!(1))
    );
    assert_eq!(changed["is_calculating"], true);

    let same = project.patch(&path, json!({})).json();
    assert_eq!(
        (&same["name"], &same["pending_version"]),
        (&Value::Null, &json!(3))
    );
    project
        .patch(&path, json!({"description": null}))
        .is_error(400, "null", Some("description"));
    project.patch(&path, json!({"filters": null})).is_error(
        400,
        "invalid_input",
        Some("filters__detail"),
    );
    assert_eq!(project.get(&path).json()["pending_version"], 3);
}

/// Conformance case 9.
#[test]
fn update_with_text_filters_is_rejected_and_changes_nothing() {
    let project = Project::new();
    let id = project.cohort(json!({"name": "A"}));
    let answer = project.patch(
        &cohort_path(id),
        json!({"filters": "[not json]", "name": "n"}),
    );
    let detail = "Must contain a 'properties' key with type and values";
    assert_detail(&answer, Some("filters__detail"), detail);
    assert_eq!(project.get(&cohort_path(id)).json()["name"], "A");
}

/// Conformance case 7.
#[test]
fn delete_method_is_not_allowed_and_deletes_nothing() {
    let project = Project::new();
    let id = project.cohort(json!({"name": "A"}));
    let answer = project.ask(Method::DELETE, &cohort_path(id), None);
    assert_eq!((answer.status, answer.text.as_str()), (405, ""));
    let shown = project.get(&cohort_path(id));
    assert_eq!(shown.status, 200);
    assert_eq!(shown.json()["deleted"], false);
}

#[test]
fn delete_method_returns_405_for_known_and_unknown_ids() {
    let project = Project::new();
    let id = project.cohort(json!({}));
    for id in [id, 999_999_999] {
        let answer = project.ask(Method::DELETE, &format!("cohorts/{id}/"), None);
        assert_eq!((answer.status, answer.text.as_str()), (405, ""));
    }
    assert_eq!(
        project.get(&format!("cohorts/{id}/")).json()["deleted"],
        false
    );
}

/// Conformance case 8.
#[test]
fn deleted_cohort_is_retrievable_and_not_listed() {
    let project = Project::new();
    let id = project.cohort(json!({"name": "gone"}));
    project.cohort(json!({"name": "live"}));
    project.patch(&cohort_path(id), json!({"deleted": true}));
    let shown = project.get(&cohort_path(id));
    assert_eq!(shown.status, 200);
    assert_eq!(shown.json()["deleted"], true);
    assert_eq!(cohort_names(&project, ""), ["live"]);
}

#[test]
fn deletion_cancels_the_calculation_and_restore_requests_it_again() {
    let project = Project::new();
    // The cohort is deleted while its calculation is pending.
    let id = project.cohort(json!({"name": "A"}));
    let path = format!("cohorts/{id}/");
    let deleted = project.patch(&path, json!({"deleted": true})).json();
    assert_eq!(
        (&deleted["deleted"], &deleted["is_calculating"]),
        (&json!(true), &json!(false))
    );
    assert_eq!(project.get(&path).json()["deleted"], true);
    assert_eq!(project.get("cohorts/").json()["count"], 0);
    let restored = project.patch(&path, json!({"deleted": false})).json();
    assert_eq!(
        (&restored["deleted"], &restored["is_calculating"]),
        (&json!(false), &json!(true))
    );
    assert_eq!(project.get("cohorts/").json()["count"], 1);
}

/// Conformance case 77.
#[test]
fn restored_cohort_has_its_members() {
    let project = Project::new();
    project.persons([("d1", json!({"plan": "pro"})), ("d2", json!({}))]);
    let filters = only(person("plan", "exact", "pro"));
    let moving = project.cohort(json!({"filters": filters}));
    project.settle(moving);
    let fixed = id_of(&upload(&project, None, "d1\nd2\n"));
    for (id, members) in [(moving, vec!["d1"]), (fixed, vec!["d1", "d2"])] {
        for deleted in [true, false] {
            let answer = project.patch(&cohort_path(id), json!({"deleted": deleted}));
            assert_eq!(answer.status, 200, "{}", answer.text);
            assert_eq!(answer.json()["deleted"], deleted);
        }
        assert_eq!(project.settle(id)["count"], members.len());
        assert_eq!(project.members(id), members);
    }
}
