//! What becomes of the rows of an uploaded file, and that it can be read afterwards.

use serde_json::{Value, json};

use crate::harness::Project;

fn with_people() -> Project {
    let project = Project::new();
    project.people([
        ("d1", json!({"email": "one@x.io"})),
        ("d2", json!({"email": "two@x.io"})),
        ("d3", json!({"email": "two@x.io"})),
    ]);
    project
}

/// Uploads to a new cohort, and gives its number and the answer.
pub fn upload(
    project: &Project,
    content: &str,
    fields: &[(&'static str, &'static str)],
) -> (i64, Value) {
    let made = project.upload(None, content, fields);
    assert_eq!(made.status, 201, "{}", made.text);
    let made = made.json();
    (made["id"].as_i64().expect("an id"), made)
}

fn again(
    project: &Project,
    id: i64,
    content: &str,
    fields: &[(&'static str, &'static str)],
) -> Value {
    let changed = project.upload(Some(id), content, fields);
    assert_eq!(changed.status, 200, "{}", changed.text);
    changed.json()
}

/// How many rows had each outcome: all, added, already members, unknown, bad, created, removed.
fn counts(answer: &Value) -> [i64; 7] {
    let names = [
        "rows",
        "added",
        "already_members",
        "unknown",
        "bad_rows",
        "created_people",
        "removed",
    ];
    names.map(|name| answer["upload"][name].as_i64().expect(name))
}

#[test]
fn every_row_is_in_one_class_and_the_outcome_is_kept() {
    let project = with_people();
    let file = "name,distinct_id\nAnn,d1\nAgain,d1\nNobody,d9\n\"Li\nne\",\nBob,d2\n";
    let (id, made) = upload(&project, file, &[]);
    assert_eq!(counts(&made), [5, 2, 1, 1, 1, 0, 0]);
    assert_eq!(
        (&made["count"], &made["is_calculating"]),
        (&json!(2), &json!(false))
    );
    let problems = json!([
        {"line": 4, "outcome": "unknown", "id": "d9", "reason": "No person of the project has this id."},
        {"line": 5, "outcome": "bad", "id": "", "reason": "The row has no id."},
    ]);
    assert_eq!(made["upload"]["problems"], problems);
    assert_eq!(made["upload"]["id_kind"], "distinct_id");

    let number = &made["upload"]["id"];
    let one = project
        .get(&format!("cohorts/{id}/uploads/{number}/"))
        .json();
    assert_eq!(one, made["upload"]);
    let repeated = again(&project, id, file, &[]);
    assert_eq!(counts(&repeated), [5, 0, 3, 1, 1, 0, 0]);
    assert_eq!(repeated["count"], 2);
    let page = project
        .get(&format!("cohorts/{id}/uploads/?limit=1"))
        .json();
    assert_eq!(
        (&page["count"], &page["results"][0]),
        (&json!(2), &repeated["upload"])
    );
    assert!(page["next"].is_string());
    // It is told once, with the upload.
    let shown = project.get(&format!("cohorts/{id}/")).json();
    assert!(shown.get("upload").is_none(), "{shown}");
}

#[test]
fn an_address_names_all_who_have_it() {
    let project = with_people();
    let (id, made) = upload(&project, "email\ntwo@x.io\none@x.io\nnobody@x.io\n", &[]);
    assert_eq!(counts(&made), [3, 3, 0, 1, 0, 0, 0]);
    assert_eq!(project.members(id), ["d1", "d2", "d3"]);
}

#[test]
fn what_can_be_no_uuid_is_a_bad_row_and_one_that_nobody_has_is_unknown() {
    let project = with_people();
    let ann = project.person("d1");
    let file = format!(
        "person_id\n{}\nd1\n{}\n",
        ann.to_uppercase(),
        crate::spec::NOBODY
    );
    let (id, made) = upload(&project, &file, &[]);
    assert_eq!(counts(&made), [3, 1, 0, 1, 1, 0, 0]);
    assert_eq!(project.members(id), ["d1"]);
}

#[test]
fn people_are_made_for_unknown_ids_if_that_is_asked_for() {
    let project = with_people();
    let (id, made) = upload(&project, "d1\nn1\nn2\nn1\n", &[("create_people", "true")]);
    assert_eq!(counts(&made), [4, 3, 1, 0, 0, 2, 0]);
    assert_eq!(project.members(id), ["d1", "n1", "n2"]);
    // Whoever sends events under that id later is the same person.
    project.people([("n1", json!({"plan": "pro"}))]);
    assert_eq!(project.members(id), ["d1", "n1", "n2"]);
    let shown = project.get("persons/?distinct_id=n1").json();
    assert_eq!(shown["results"][0]["properties"], json!({"plan": "pro"}));

    let (id, made) = upload(&project, "email\nnew@x.io\n", &[("create_people", "true")]);
    assert_eq!(counts(&made), [1, 1, 0, 0, 0, 1, 0]);
    assert_eq!(project.members(id), ["new@x.io"]);
    let shown = project.get("persons/?search=new@x").json();
    assert_eq!(shown["results"][0]["properties"]["email"], "new@x.io");

    // Nobody has a person id that was not given out.
    let file = format!("person_id\n{}\n", crate::spec::NOBODY);
    let (_, made) = upload(&project, &file, &[("create_people", "true")]);
    assert_eq!(counts(&made), [1, 0, 0, 1, 0, 0, 0]);
}

#[test]
fn nobody_is_made_for_a_file_that_cannot_be_read_to_its_end() {
    let project = with_people();
    let mut file = b"n1\nn2\n".to_vec();
    file.extend(b"Jos\xe9\n");
    let refused = project.upload(None, file, &[("create_people", "true")]);
    refused.is_error(400, "invalid_input", Some("csv"));
    let found = project.get("persons/?distinct_id=n1").json();
    assert_eq!(found["results"], json!([]));
}

#[test]
fn a_file_replaces_all_members_if_that_is_asked_for() {
    let project = with_people();
    let (id, _) = upload(&project, "d1\nd2\n", &[]);
    let changed = again(&project, id, "d2\nd3\n", &[("replace_members", "true")]);
    assert_eq!(counts(&changed), [2, 1, 1, 0, 0, 0, 1]);
    assert_eq!(changed["count"], 2);
    assert_eq!(project.members(id), ["d2", "d3"]);
}

#[test]
fn problems_are_listed_up_to_a_hundred_and_the_others_counted() {
    let project = with_people();
    let unknown: String = (0..150).map(|number| format!("nobody{number}\n")).collect();
    let (_, made) = upload(&project, &format!("d1\n{unknown}"), &[]);
    assert_eq!(counts(&made), [151, 1, 0, 150, 0, 0, 0]);
    let listed = made["upload"]["problems"].as_array().map(Vec::len);
    assert_eq!(listed, Some(100));
    assert_eq!(made["upload"]["problems_left_out"], 50);
}

#[test]
fn the_uploads_of_another_cohort_are_not_shown() {
    let project = with_people();
    let (_, made) = upload(&project, "d1\n", &[]);
    let other = project.cohort(json!({"is_static": true}));
    let path = format!("cohorts/{other}/uploads/{}/", made["upload"]["id"]);
    project.get(&path).is_error(404, "not_found", None);
}

#[test]
fn an_export_uploaded_again_gives_the_same_cohort() {
    let project = with_people();
    project.people([(
        "42",
        json!({"name": "A \"quoted\", name", "nested": {"a": [1, 2]}}),
    )]);
    let (id, _) = upload(&project, "d1\n42\n", &[]);
    let export = project.get(&format!("cohorts/{id}/persons.csv"));
    let (copy, made) = upload(&project, &export.text, &[]);
    assert_eq!(counts(&made), [2, 2, 0, 0, 0, 0, 0]);
    assert_eq!(project.members(copy), project.members(id));
}
