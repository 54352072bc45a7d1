//! The cohorts of a person: a look-up after a merge, a deletion or a new person has the person of that moment.

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::Project;

/// A project with a static cohort for each distinct id.
fn with_lists<const N: usize>(ids: [&str; N]) -> (Project, [i64; N]) {
    let project = Project::new();
    project.persons(ids.map(|id| (id, json!({}))));
    let lists = ids.map(|id| list(&project, id));
    (project, lists)
}

fn list(project: &Project, id: &str) -> i64 {
    let members = [project.person(id)];
    project.cohort(json!({"is_static": true, "_create_static_person_ids": members}))
}

/// The ids of the cohorts of a person, or the status without a person. Each look-up is made twice; the second one may take
/// the person from memory.
fn cohorts(project: &Project, person: &str) -> Result<Vec<i64>, u16> {
    let look_up = || {
        let answer = project.get(&format!("persons/cohorts/?{person}"));
        if answer.status != 200 {
            return Err(answer.status);
        }
        let page = answer.json();
        let rows = page["results"].as_array().expect("cohorts");
        Ok(rows.iter().filter_map(|row| row["id"].as_i64()).collect())
    };
    let first = look_up();
    assert_eq!(look_up(), first, "{person}");
    first
}

#[test]
fn look_ups_follow_each_merge() {
    let (project, [a, b, c]) = with_lists(["a", "b", "c"]);
    let [first, second, third] =
        ["a", "b", "c"].map(|id| format!("person_id={}", project.person(id)));
    assert_eq!(cohorts(&project, "distinct_id=a"), Ok(vec![a]));
    assert_eq!(cohorts(&project, "distinct_id=b"), Ok(vec![b]));
    assert_eq!(cohorts(&project, &second), Ok(vec![b]));
    project.capture(json!([
        {"event": "$create_alias", "distinct_id": "a", "properties": {"alias": "b"}}
    ]));
    for person in ["distinct_id=a", "distinct_id=b", first.as_str()] {
        assert_eq!(cohorts(&project, person), Ok(vec![a, b]), "{person}");
    }
    assert_eq!(cohorts(&project, &second), Err(404));
    assert_eq!(cohorts(&project, &third), Ok(vec![c]));
    // The survivor of the first merge is merged too.
    project.capture(json!([
        {"event": "$merge_dangerously", "distinct_id": "c", "properties": {"alias": "a"}}
    ]));
    for person in ["distinct_id=a", "distinct_id=b", "distinct_id=c"] {
        assert_eq!(cohorts(&project, person), Ok(vec![a, b, c]), "{person}");
    }
    let gone = [first, second, third].map(|person| cohorts(&project, &person).err());
    assert_eq!(
        gone.iter().filter(|status| **status == Some(404)).count(),
        2
    );
}

#[test]
fn look_ups_follow_a_deletion_and_a_new_person_of_the_id() {
    let (project, [a]) = with_lists(["a"]);
    let uuid = project.person("a");
    assert_eq!(cohorts(&project, "distinct_id=a"), Ok(vec![a]));
    assert_eq!(cohorts(&project, &format!("person_id={uuid}")), Ok(vec![a]));
    let deleted = project.ask(Method::DELETE, &format!("persons/{uuid}/"), None);
    assert_eq!(deleted.status, 204, "{}", deleted.text);
    assert_eq!(cohorts(&project, "distinct_id=a"), Err(404));
    assert_eq!(cohorts(&project, &format!("person_id={uuid}")), Err(404));
    let again: Value = json!([{"event": "x", "distinct_id": "a"}]);
    project.capture(again);
    assert_eq!(cohorts(&project, "distinct_id=a"), Ok(vec![]));
    let new = list(&project, "a");
    assert_eq!(cohorts(&project, "distinct_id=a"), Ok(vec![new]));
}

#[test]
fn look_ups_of_two_projects_are_separate() {
    let (project, [a]) = with_lists(["a"]);
    let (other, [of_other]) = with_lists(["a"]);
    for _ in 0..2 {
        assert_eq!(cohorts(&project, "distinct_id=a"), Ok(vec![a]));
        assert_eq!(cohorts(&other, "distinct_id=a"), Ok(vec![of_other]));
    }
    let person = format!("person_id={}", project.person("a"));
    assert_eq!(cohorts(&project, &person), Ok(vec![a]));
    assert_eq!(cohorts(&other, &person), Err(404));
}
