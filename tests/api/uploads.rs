//! Cases 42 to 55: static cohorts are filled from CSV files.

use serde_json::json;

use super::{at, id_of, is_bad, upload};
use crate::harness::Project;

/// A project with two people, and a third who has an e-mail address.
fn with_people() -> Project {
    let project = Project::new();
    project.people([
        ("d1", json!({})),
        ("d2", json!({})),
        ("e1", json!({"email": "e@x.io"})),
    ]);
    project
}

/// The members of a new cohort that is filled from a file.
fn filled(project: &Project, content: &str) -> Vec<String> {
    let id = id_of(&upload(project, None, content));
    assert_eq!(project.settle(id)["is_calculating"], false);
    project.members(id)
}

#[test]
fn case_042_in_a_single_column_an_address_is_read_as_a_distinct_id() {
    let project = with_people();
    assert_eq!(filled(&project, "User ID\ne@x.io\nd1\n"), ["d1"]);
}

#[test]
fn case_043_a_second_file_adds_people() {
    let project = with_people();
    let id = id_of(&upload(&project, None, "User ID\ne@x.io\nd1\n"));
    let changed = upload(&project, Some(id), "d2\n");
    assert_eq!(changed.status, 200, "{}", changed.text);
    assert_eq!(project.settle(id)["is_calculating"], false);
    assert_eq!(project.members(id), ["d1", "d2"]);
}

#[test]
fn case_044_people_are_found_by_the_column_of_distinct_ids() {
    let project = with_people();
    for column in ["distinct_id", "distinct-id"] {
        let content = format!("name,{column},email\nAnn,d1,e@x.io\nBob,d2,b@x.io\n");
        assert_eq!(filled(&project, &content), ["d1", "d2"], "{column}");
    }
}

#[test]
fn case_045_a_file_without_a_column_of_ids_is_refused_whole() {
    let project = with_people();
    let id = id_of(&upload(&project, None, "d1\n"));
    for cohort in [None, Some(id)] {
        let answer = upload(&project, cohort, "name,age\nd2,30\n");
        for part in [
            "distinct_id",
            "person_id",
            "at least one column with a supported ID header",
            "name, age",
        ] {
            is_bad(&answer, Some("csv"), part);
        }
    }
    assert_eq!(project.get("cohorts/").json()["count"], 1);
    assert_eq!(project.members(id), ["d1"]);
}

#[test]
fn case_046_people_are_found_by_the_column_of_person_ids() {
    let project = with_people();
    let (one, two) = (project.person("d1"), project.person("d2"));
    for column in ["person_id", "person-id"] {
        let content = format!("name,{column},email\nAnn,{one},e@x.io\nBob,{two},b@x.io\n");
        assert_eq!(filled(&project, &content), ["d1", "d2"], "{column}");
    }
}

#[test]
fn case_047_a_distinct_id_counts_before_an_address() {
    let project = with_people();
    for content in [
        "distinct_id,email\nd1,e@x.io\n",
        "email,distinct_id\ne@x.io,d1\n",
    ] {
        assert_eq!(filled(&project, content), ["d1"], "{content}");
    }
}

#[test]
fn case_048_a_person_id_counts_before_a_distinct_id() {
    let project = with_people();
    let one = project.person("d1");
    for content in [
        format!("person_id,distinct_id\n{one},d2\n"),
        format!("distinct_id,person_id\nd2,{one}\n"),
    ] {
        assert_eq!(filled(&project, &content), ["d1"], "{content}");
    }
}

#[test]
fn case_049_an_empty_file_is_refused() {
    let project = with_people();
    is_bad(&upload(&project, None, ""), Some("csv"), "empty");
}

#[test]
fn case_050_without_a_header_the_first_row_is_an_id_too() {
    let project = Project::new();
    project.people([("old1", json!({})), ("old2", json!({}))]);
    assert_eq!(filled(&project, "old1\nold2\n"), ["old1", "old2"]);
}

#[test]
fn case_051_a_single_column_can_be_headed_as_person_ids() {
    let project = with_people();
    let (one, two) = (project.person("d1"), project.person("d2"));
    let id = id_of(&upload(
        &project,
        None,
        format!("person_id\n{one}\n{two}\n"),
    ));
    assert_eq!(project.settle(id)["count"], 2);
    assert_eq!(project.members(id), ["d1", "d2"]);
}

#[test]
fn case_052_spaces_and_tabs_around_an_id_do_not_count() {
    let project = with_people();
    for content in [
        "  d1 \n\td2\t\n",
        "name,distinct_id\nAnn,  d1 \nBob,\td2\t\n",
    ] {
        assert_eq!(filled(&project, content), ["d1", "d2"], "{content}");
    }
}

#[test]
fn case_053_an_id_with_a_comma_can_be_quoted() {
    let project = Project::new();
    project.people([("a,1", json!({})), ("a", json!({})), ("1", json!({}))]);
    assert_eq!(filled(&project, "\"a,1\"\n"), ["a,1"]);
}

#[test]
fn case_054_an_accepted_upload_is_wholly_there_in_its_answer() {
    let project = with_people();
    let made = upload(&project, None, "d1\nd2\nnobody\n");
    let id = id_of(&made);
    for cohort in [made.json(), project.get(&at(id)).json()] {
        assert_eq!(
            (&cohort["is_calculating"], &cohort["count"]),
            (&json!(false), &json!(2))
        );
    }
    assert_eq!(project.members(id), ["d1", "d2"]);
}

#[test]
fn case_055_a_file_that_is_not_utf_8_is_refused() {
    let project = with_people();
    let content = b"d1\nJos\xe9\n".to_vec();
    let answer = upload(&project, None, content);
    is_bad(&answer, Some("csv"), "encoding is not supported");
}
