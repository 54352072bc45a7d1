//! Adding members to static cohorts, removing them, and copying dynamic cohorts.

use serde_json::{Value, json};

use crate::harness::{
    Answer, Project, any_of, assert_detail, assert_invalid, cohort_path, id_of, only, person,
    upload,
};

/// A valid `id` without a person.
const UNKNOWN_PERSON: &str = "0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b";

/// A project with two persons on the plan `pro`.
fn with_two_persons() -> Project {
    let project = Project::new();
    project.persons([
        ("d1", json!({"plan": "pro"})),
        ("d2", json!({"plan": "pro"})),
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

fn remove(project: &Project, cohort: i64, body: Value) -> Answer {
    let path = format!("cohorts/{cohort}/remove_person_from_static_cohort");
    project.patch(&path, body)
}

fn add(project: &Project, cohort: i64, ids: Value) -> Answer {
    let path = format!("cohorts/{cohort}/add_persons_to_static_cohort");
    project.patch(&path, json!({"person_ids": ids}))
}

#[test]
fn initial_members_skip_unknown_and_malformed_ids() {
    let project = with_persons();
    let ids = json!([
        project.person("d1"),
        project.person("d3"),
        UNKNOWN_PERSON,
        "no uuid"
    ]);
    let cohort = project
        .post(
            "cohorts/",
            json!({"is_static": true, "_create_static_person_ids": ids}),
        )
        .json();
    assert_eq!(
        (&cohort["count"], &cohort["is_calculating"]),
        (&json!(2), &json!(false))
    );
    assert!(cohort.get("_create_static_person_ids").is_none());
    assert_eq!(
        project.members(cohort["id"].as_i64().expect("an id")),
        ["d1", "d3"]
    );
    let wrong = project.post(
        "cohorts/",
        json!({"is_static": true, "_create_static_person_ids": "x"}),
    );
    wrong.is_error(400, "not_a_list", Some("_create_static_person_ids"));
}

/// Conformance case 101.
#[test]
fn person_added_twice_is_counted_once() {
    let project = with_two_persons();
    let id = project.cohort(json!({"is_static": true}));
    for _ in 0..2 {
        let answer = add(&project, id, json!([project.person("d1")]));
        assert_eq!(answer.status, 200, "{}", answer.text);
    }
    assert_eq!(project.get(&cohort_path(id)).json()["count"], 1);
    assert_eq!(project.members(id), ["d1"]);
}

#[test]
fn additions_skip_unknown_ids_and_are_logged() {
    let project = with_persons();
    let id = project.cohort(json!({"is_static": true}));
    let path = format!("cohorts/{id}/add_persons_to_static_cohort");
    for _ in 0..2 {
        let answer = project.patch(
            &path,
            json!({"person_ids": [project.person("d1"), UNKNOWN_PERSON]}),
        );
        assert_eq!(
            (answer.status, answer.json()),
            (200, json!({"success": true}))
        );
        assert_eq!(project.get(&format!("cohorts/{id}/")).json()["count"], 1);
    }
    project.patch(&path, json!({"person_ids": [project.person("d2")]}));
    assert_eq!(project.members(id), ["d1", "d2"]);
    let newest = project.get(&format!("cohorts/{id}/activity/")).json()["results"][0].clone();
    assert_eq!(
        (&newest["activity"], &newest["detail"]["name"]),
        (&json!("persons_added_manually"), &Value::Null)
    );
    let change = json!([{"type": "Cohort", "action": "changed", "field": null, "before": null, "after": null}]);
    assert_eq!(newest["detail"]["changes"], change);
}

/// Conformance case 100.
#[test]
fn invalid_additions_are_rejected() {
    let project = with_two_persons();
    let moving = project.cohort(json!({}));
    let fixed = project.cohort(json!({"is_static": true}));
    let known = json!([project.person("d1")]);
    let many: Vec<&str> = vec![UNKNOWN_PERSON; 1_001];
    for (cohort, ids, detail) in [
        (moving, known, "Can only add users to static cohorts"),
        (fixed, json!("x"), "person_ids must be a list"),
        (fixed, json!([]), "person_ids cannot be empty"),
        (fixed, json!(many), "List size exceeds limit"),
        (
            fixed,
            json!([UNKNOWN_PERSON]),
            "No valid users to add to cohort",
        ),
    ] {
        assert_detail(&add(&project, cohort, ids), None, detail);
    }
    assert_eq!(project.get(&cohort_path(fixed)).json()["count"], 0);
}

#[test]
fn invalid_additions_are_rejected_in_order_of_the_checks() {
    let project = with_persons();
    let of = |id: i64| format!("cohorts/{id}/add_persons_to_static_cohort/");
    let dynamic = of(project.cohort(json!({})));
    let fixed = of(project.cohort(json!({"is_static": true})));
    let many: Vec<&str> = vec![UNKNOWN_PERSON; 1_001];
    for (path, body, detail) in [
        (
            &dynamic,
            json!({"person_ids": "x"}),
            "Can only add users to static cohorts",
        ),
        (&fixed, json!({}), "person_ids must be a list"),
        (
            &fixed,
            json!({"person_ids": "x"}),
            "person_ids must be a list",
        ),
        (
            &fixed,
            json!({"person_ids": []}),
            "person_ids cannot be empty",
        ),
        (
            &fixed,
            json!({"person_ids": many}),
            "List size exceeds limit",
        ),
        (
            &fixed,
            json!({"person_ids": [UNKNOWN_PERSON, 7, "x"]}),
            "No valid users to add to cohort",
        ),
    ] {
        let answer = project.patch(path, body);
        assert_eq!(answer.is_error(400, "invalid_input", None).detail(), detail);
    }
}

#[test]
fn person_of_another_project_cannot_be_added_or_removed() {
    let (project, other) = (with_persons(), with_persons());
    let id = project.cohort(json!({"is_static": true}));
    let body = json!({"person_ids": [other.person("d1")]});
    project
        .patch(&format!("cohorts/{id}/add_persons_to_static_cohort/"), body)
        .is_error(400, "invalid_input", None);
    let body = json!({"person_id": other.person("d1")});
    let answer = project.patch(
        &format!("cohorts/{id}/remove_person_from_static_cohort/"),
        body,
    );
    answer.is_error(404, "not_found", None);
}

/// Conformance case 97.
#[test]
fn removed_person_leaves_and_others_stay() {
    let project = with_two_persons();
    let id = id_of(&upload(&project, None, "d1\nd2\n"));
    let answer = remove(&project, id, json!({"person_id": project.person("d1")}));
    assert_eq!(
        (answer.status, answer.json()),
        (200, json!({"success": true}))
    );
    assert_eq!(project.members(id), ["d2"]);
}

#[test]
fn second_removal_changes_nothing_and_is_not_logged() {
    let project = with_persons();
    let ids = json!([project.person("d1"), project.person("d2")]);
    let id = project.cohort(json!({"is_static": true, "_create_static_person_ids": ids}));
    let path = format!("cohorts/{id}/remove_person_from_static_cohort");
    for _ in 0..2 {
        let answer = project.patch(&path, json!({"person_id": project.person("d1")}));
        assert_eq!(
            (answer.status, answer.json()),
            (200, json!({"success": true}))
        );
    }
    assert_eq!(project.members(id), ["d2"]);
    assert_eq!(project.get(&format!("cohorts/{id}/")).json()["count"], 1);
    // The second removal changed nothing and has no entry.
    let log = project.get(&format!("cohorts/{id}/activity/")).json();
    assert_eq!(
        (&log["total_count"], &log["results"][0]["activity"]),
        (&json!(2), &json!("person_removed_manually"))
    );
}

/// Conformance case 98.
#[test]
fn invalid_person_id_cannot_be_removed() {
    let project = with_two_persons();
    let id = id_of(&upload(&project, None, "d1\n"));
    for (body, part) in [
        (json!({}), "person_id is required"),
        (json!({"person_id": 123}), "must be a string"),
        (json!({"person_id": "a"}), "must be a valid UUID"),
    ] {
        assert_invalid(&remove(&project, id, body), None, part);
    }
}

/// Conformance case 99.
#[test]
fn unknown_person_cannot_be_removed() {
    let project = with_two_persons();
    let id = id_of(&upload(&project, None, "d1\n"));
    let answer = remove(&project, id, json!({"person_id": UNKNOWN_PERSON}));
    let detail = answer.is_error(404, "not_found", None).detail();
    assert!(
        detail.contains("Person with this UUID does not exist"),
        "{detail}"
    );
}

#[test]
fn invalid_removals_are_rejected() {
    let project = with_persons();
    let of = |id: i64| format!("cohorts/{id}/remove_person_from_static_cohort/");
    let dynamic = of(project.cohort(json!({})));
    let fixed = of(project.cohort(json!({"is_static": true})));
    for (path, body, detail) in [
        (
            &dynamic,
            json!({"person_id": 1}),
            "Can only remove users from static cohorts",
        ),
        (&fixed, json!({}), "person_id is required"),
        (&fixed, json!({"person_id": ""}), "person_id is required"),
        (
            &fixed,
            json!({"person_id": 123}),
            "person_id must be a string",
        ),
        (
            &fixed,
            json!({"person_id": "a"}),
            "person_id must be a valid UUID",
        ),
    ] {
        let answer = project.patch(path, body);
        assert_eq!(answer.is_error(400, "invalid_input", None).detail(), detail);
    }
    let unknown = project.patch(&fixed, json!({"person_id": UNKNOWN_PERSON}));
    let detail = unknown.is_error(404, "not_found", None).detail();
    assert_eq!(
        detail,
        "Person with this UUID does not exist in the cohort's team"
    );
}

#[test]
fn null_and_blank_ids_are_rejected_as_missing() {
    let project = Project::new();
    let id = project.cohort(json!({"is_static": true}));
    let says = |operation: &str, body: Value, detail: &str| {
        let answer = project.patch(&format!("cohorts/{id}/{operation}/"), body);
        assert_eq!(answer.is_error(400, "invalid_input", None).detail(), detail);
    };
    let null = json!({"person_ids": null});
    says(
        "add_persons_to_static_cohort",
        null,
        "person_ids must be a list",
    );
    for blank in [json!(null), json!(""), json!(0), json!(false), json!([])] {
        let body = json!({"person_id": blank});
        says(
            "remove_person_from_static_cohort",
            body,
            "person_id is required",
        );
    }
    project
        .patch(
            &format!("cohorts/{id}/"),
            json!({"_create_static_person_ids": "x"}),
        )
        .is_error(400, "not_a_list", Some("_create_static_person_ids"));
}

/// Conformance case 102.
#[test]
fn dynamic_cohort_is_copied_as_a_static_one() {
    let project = with_two_persons();
    let filters = only(person("plan", "exact", "pro"));
    let id = project.cohort(json!({"name": "Alpha", "filters": filters}));
    assert_eq!(project.settle(id)["count"], 2);
    let copy = project.get(&format!("cohorts/{id}/duplicate_as_static_cohort"));
    assert_eq!(copy.status, 200, "{}", copy.text);
    let copy = copy.json();
    assert_eq!(
        (&copy["name"], &copy["is_static"]),
        (&json!("Alpha (static copy)"), &json!(true))
    );
    let copied = copy["id"].as_i64().expect("an id");
    assert_ne!(copied, id);
    let settled = project.settle(copied);
    assert_eq!(
        (&settled["count"], &settled["errors_calculating"]),
        (&json!(2), &json!(0))
    );
    assert_eq!(project.members(copied), ["d1", "d2"]);
}

#[test]
fn copy_keeps_the_members_at_the_time_of_the_copy() {
    let project = with_persons();
    let id = project.cohort(json!({"name": "Alpha", "description": "x", "filters": any_of(json!([person("plan", "exact", "pro")]))}));
    project.settle(id);
    let copy = project
        .get(&format!("cohorts/{id}/duplicate_as_static_cohort"))
        .json();
    let shown = (
        &copy["name"],
        &copy["is_static"],
        &copy["count"],
        &copy["description"],
        &copy["is_calculating"],
    );
    assert_eq!(
        shown,
        (
            &json!("Alpha (static copy)"),
            &json!(true),
            &json!(2),
            &json!(""),
            &json!(false)
        )
    );
    let copied = copy["id"].as_i64().expect("an id");
    assert_ne!(copied, id);
    project.persons([("d1", json!({"plan": "free"}))]);
    project.patch(&format!("cohorts/{id}/"), json!({}));
    project.settle(id);
    assert_eq!(
        (project.members(id).len(), project.members(copied).len()),
        (1, 2)
    );
    let again = project.get(&format!("cohorts/{copied}/duplicate_as_static_cohort/"));
    let detail = again.is_error(400, "invalid_input", None).detail();
    assert_eq!(
        detail,
        "Cannot duplicate a static cohort as a static cohort."
    );
}

/// Conformance case 103.
#[test]
fn static_cohort_cannot_be_copied() {
    let project = with_two_persons();
    let id = id_of(&upload(&project, None, "d1\n"));
    let answer = project.get(&format!("cohorts/{id}/duplicate_as_static_cohort"));
    let detail = "Cannot duplicate a static cohort as a static cohort.";
    assert_detail(&answer, None, detail);
    assert_eq!(project.get("cohorts/").json()["count"], 1);
}
