//! Cases 30 to 41: what a static cohort can be filled from, and how its criteria are kept.

use serde_json::{Value, json};

use super::{at, id_of, is_bad, names, only, says, upload};
use crate::harness::{Project, did, person};

/// What is said of criteria that are sent to a static cohort later.
const FROZEN: &str = "Editing the criteria of a static cohort is not supported yet";

/// A project with a paying person and another.
fn with_people() -> Project {
    let project = Project::new();
    project.people([
        ("d1", json!({"plan": "pro", "email": "e@x.io"})),
        ("d2", json!({"plan": "free"})),
    ]);
    project
}

fn paying() -> Value {
    only(person("plan", "exact", "pro"))
}

/// A query for the paying people.
fn query() -> Value {
    json!({"kind": "ActorsQuery", "select": ["id"], "properties": [
        {"type": "person", "key": "plan", "operator": "exact", "value": "pro"},
    ]})
}

#[test]
fn case_030_criteria_fill_a_static_cohort() {
    let project = with_people();
    let made = project.post("cohorts/", json!({"is_static": true, "filters": paying()}));
    let id = id_of(&made);
    let settled = project.settle(id);
    assert_eq!(
        (&settled["count"], &settled["is_static"]),
        (&json!(1), &json!(true))
    );
    assert_eq!(project.members(id), ["d1"]);
}

#[test]
fn case_031_a_behavioral_criterion_fills_a_static_cohort_without_saying_negation() {
    let project = with_people();
    project.capture(json!([{"event": "open", "distinct_id": "d2"}]));
    let leaf = did("open", 1);
    assert_eq!(leaf.get("negation"), None);
    let id = project.cohort(json!({"is_static": true, "filters": only(leaf)}));
    project.settle(id);
    assert_eq!(project.members(id), ["d2"]);
}

#[test]
fn case_032_the_criteria_of_a_static_cohort_cannot_be_changed() {
    let project = with_people();
    let id = project.cohort(json!({"is_static": true, "filters": paying()}));
    let before = project.settle(id);
    let other = only(person("plan", "exact", "free"));
    let answer = project.patch(&at(id), json!({"filters": other}));
    is_bad(&answer, None, FROZEN);
    assert_eq!(project.get(&at(id)).json(), before);
}

#[test]
fn case_033_an_uploaded_cohort_gets_no_criteria_later() {
    let project = with_people();
    let id = id_of(&upload(&project, None, "d1\n"));
    let answer = project.patch(&at(id), json!({"filters": paying()}));
    is_bad(&answer, None, FROZEN);
    assert_eq!(project.members(id), ["d1"]);
}

#[test]
fn case_034_the_first_members_are_counted_in_the_answer() {
    let project = with_people();
    project.people([("d3", json!({}))]);
    let ids = json!([project.person("d1"), project.person("d3")]);
    let body = json!({"is_static": true, "_create_static_person_ids": ids});
    let made = project.post("cohorts/", body);
    let id = id_of(&made);
    assert_eq!(made.json()["count"].as_i64(), Some(2));
    assert_eq!(project.members(id), ["d1", "d3"]);
}

#[test]
fn case_035_a_static_cohort_may_be_empty() {
    let project = Project::new();
    let made = project.post("cohorts/", json!({"name": "empty", "is_static": true}));
    assert_eq!(made.status, 201, "{}", made.text);
    let made = made.json();
    assert_eq!(
        (&made["count"], &made["is_calculating"]),
        (&json!(0), &json!(false))
    );
    assert_eq!(names(&project, "type=static"), ["empty"]);
}

#[test]
fn case_036_a_query_of_people_fills_a_static_cohort() {
    let project = with_people();
    let made = project.post("cohorts/", json!({"is_static": true, "query": query()}));
    assert_eq!(made.status, 201, "{}", made.text);
    let id = made.json()["id"].as_i64().expect("an id");
    assert_eq!(project.settle(id)["count"], 1);
}

#[test]
fn case_037_a_dynamic_cohort_has_no_query_and_is_not_made_with_one() {
    let project = with_people();
    let answer = project.post("cohorts/", json!({"name": "A", "query": query()}));
    assert_eq!(answer.status, 400, "{}", answer.text);
    assert_eq!(project.get("cohorts/").json()["count"], 0);
}

#[test]
fn case_038_a_query_and_criteria_do_not_go_together() {
    let project = with_people();
    let body = json!({"is_static": true, "query": query(), "filters": paying()});
    let answer = project.post("cohorts/", body);
    let detail = "Cannot set both query and filters at the same time.";
    says(&answer, None, detail);
}

#[test]
fn case_039_a_query_of_another_kind_is_refused_by_its_name() {
    let project = with_people();
    let body = json!({"is_static": true, "query": {"kind": "TrendsQuery"}});
    let answer = project.post("cohorts/", body);
    is_bad(&answer, Some("query"), "Got: TrendsQuery");
}

#[test]
fn case_040_an_uploaded_cohort_can_become_dynamic() {
    let project = with_people();
    let id = id_of(&upload(&project, None, "d2\n"));
    assert_eq!(project.get(&at(id)).json()["pending_version"], Value::Null);
    let groups = json!([{"properties": [{"key": "email", "value": "e@x.io"}]}]);
    let body = json!({"is_static": false, "groups": groups});
    let changed = project.patch(&at(id), body);
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
fn case_041_the_criteria_of_a_static_cohort_may_be_sent_unchanged() {
    let project = with_people();
    let id = project.cohort(json!({"is_static": true, "filters": paying()}));
    let stored = project.settle(id)["filters"].clone();
    for (name, filters) in [("as sent", paying()), ("as shown", stored)] {
        let changed = project.patch(&at(id), json!({"name": name, "filters": filters}));
        assert_eq!(changed.status, 200, "{}", changed.text);
        assert_eq!(changed.json()["name"], name);
    }
    assert_eq!(project.members(id), ["d1"]);
}
