//! Cases 97 to 103: people are added, removed and copied.

use serde_json::{Value, json};

use super::{at, id_of, is_bad, only, says, upload};
use crate::harness::{Answer, Project, person};

/// An `id` that no person has.
const NOBODY: &str = "0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b";

/// A project with two paying people.
fn with_people() -> Project {
    let project = Project::new();
    project.people([
        ("d1", json!({"plan": "pro"})),
        ("d2", json!({"plan": "pro"})),
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
fn case_097_one_is_removed_and_the_other_stays() {
    let project = with_people();
    let id = id_of(&upload(&project, None, "d1\nd2\n"));
    let answer = remove(&project, id, json!({"person_id": project.person("d1")}));
    assert_eq!(
        (answer.status, answer.json()),
        (200, json!({"success": true}))
    );
    assert_eq!(project.members(id), ["d2"]);
}

#[test]
fn case_098_what_is_no_person_cannot_be_removed() {
    let project = with_people();
    let id = id_of(&upload(&project, None, "d1\n"));
    for (body, part) in [
        (json!({}), "person_id is required"),
        (json!({"person_id": 123}), "must be a string"),
        (json!({"person_id": "a"}), "must be a valid UUID"),
    ] {
        is_bad(&remove(&project, id, body), None, part);
    }
}

#[test]
fn case_099_a_person_that_is_not_there_cannot_be_removed() {
    let project = with_people();
    let id = id_of(&upload(&project, None, "d1\n"));
    let answer = remove(&project, id, json!({"person_id": NOBODY}));
    let detail = answer.is_error(404, "not_found", None).detail();
    assert!(
        detail.contains("Person with this UUID does not exist"),
        "{detail}"
    );
}

#[test]
fn case_100_what_cannot_be_added_is_refused_in_words() {
    let project = with_people();
    let moving = project.cohort(json!({}));
    let fixed = project.cohort(json!({"is_static": true}));
    let known = json!([project.person("d1")]);
    let many: Vec<&str> = vec![NOBODY; 1_001];
    for (cohort, ids, detail) in [
        (moving, known, "Can only add users to static cohorts"),
        (fixed, json!("x"), "person_ids must be a list"),
        (fixed, json!([]), "person_ids cannot be empty"),
        (fixed, json!(many), "List size exceeds limit"),
        (fixed, json!([NOBODY]), "No valid users to add to cohort"),
    ] {
        says(&add(&project, cohort, ids), None, detail);
    }
    assert_eq!(project.get(&at(fixed)).json()["count"], 0);
}

#[test]
fn case_101_a_person_is_a_member_once_however_often_added() {
    let project = with_people();
    let id = project.cohort(json!({"is_static": true}));
    for _ in 0..2 {
        let answer = add(&project, id, json!([project.person("d1")]));
        assert_eq!(answer.status, 200, "{}", answer.text);
    }
    assert_eq!(project.get(&at(id)).json()["count"], 1);
    assert_eq!(project.members(id), ["d1"]);
}

#[test]
fn case_102_a_dynamic_cohort_is_copied_as_a_static_one() {
    let project = with_people();
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
fn case_103_a_static_cohort_is_not_copied() {
    let project = with_people();
    let id = id_of(&upload(&project, None, "d1\n"));
    let answer = project.get(&format!("cohorts/{id}/duplicate_as_static_cohort"));
    let detail = "Cannot duplicate a static cohort as a static cohort.";
    says(&answer, None, detail);
    assert_eq!(project.get("cohorts/").json()["count"], 1);
}
