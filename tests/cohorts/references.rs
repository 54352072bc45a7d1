//! Cohorts with criteria that reference other cohorts.

use std::sync::LazyLock;

use cohorts_server::Server;
use serde_json::{Value, json};

use crate::harness::{
    Answer, Project, any_of, assert_detail, assert_invalid, cohort_path, did, id_of, in_cohort,
    only, start,
};

/// Creates a cohort that references another.
fn create_dependent(project: &Project, cohort: i64, name: &str) -> i64 {
    project.cohort(json!({"name": name, "filters": only(in_cohort(cohort))}))
}

fn references_to(ids: &[i64]) -> Value {
    let leaf = |id: &i64| json!({"type": "cohort", "key": "id", "value": id});
    any_of(ids.iter().map(leaf).collect())
}

/// The dependents of a cohort, in blocks by kind.
fn used_in(project: &Project, cohort: i64) -> Value {
    let answer = project.get(&format!("cohorts/{cohort}/used_in"));
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()
}

fn empty_block() -> Value {
    json!({"results": [], "total": 0, "has_more": false})
}

/// Conformance case 71.
#[test]
fn create_may_reference_an_unknown_cohort() {
    Project::new().cohort(json!({"filters": only(in_cohort(999_999))}));
}

/// Conformance case 72.
#[test]
fn reference_loop_is_rejected_and_requests_no_calculation() {
    let project = Project::new();
    let a = project.cohort(json!({"name": "A", "filters": only(did("open", 1))}));
    let b = create_dependent(&project, a, "B");
    let c = create_dependent(&project, b, "C");
    let all = || [a, b, c].map(|id| project.get(&cohort_path(id)).json());
    let before = all();
    let body = json!({"name": "new", "filters": only(in_cohort(c))});
    let answer = project.patch(&cohort_path(a), body);
    let detail = "Cohorts cannot reference other cohorts in a loop.";
    assert_detail(&answer, None, detail);
    assert!(before[0]["pending_version"].is_number());
    assert_eq!(all(), before);
}

#[test]
fn loops_and_self_references_are_rejected_and_diamonds_accepted() {
    let project = Project::new();
    let a = project.cohort(json!({"name": "A", "filters": any_of(json!([did("x", 1)]))}));
    let b = project.cohort(json!({"name": "B", "filters": references_to(&[a])}));
    let c = project.cohort(json!({"name": "C", "filters": references_to(&[b])}));
    let path = format!("cohorts/{a}/");
    let before = project.get(&path).json();
    for filters in [references_to(&[c]), references_to(&[a])] {
        let answer = project.patch(&path, json!({"name": "changed", "filters": filters}));
        let detail = answer.is_error(400, "invalid_input", None).detail();
        assert_eq!(detail, "Cohorts cannot reference other cohorts in a loop.");
    }
    assert_eq!(project.get(&path).json(), before);
    // Two paths to the same cohort are not a loop.
    assert_eq!(
        project
            .patch(
                &format!("cohorts/{c}/"),
                json!({"filters": references_to(&[a, b])})
            )
            .status,
        200
    );
}

/// A server of its own, so that the ids of new cohorts are known.
static COUNTING: LazyLock<Server> = LazyLock::new(|| start(|_| {}));

#[test]
fn a_new_cohort_closes_no_loop() {
    let project = Project::on(&COUNTING);
    let last = project.cohort(json!({"name": "last"}));
    let create = |ids: &[i64]| project.post("cohorts/", json!({"filters": references_to(ids)}));
    let by_query = |id: i64| {
        let text = format!("select person_id from cohort_people where cohort_id = {id}");
        let query = json!({"kind": "HogQLQuery", "query": text});
        project.post("cohorts/", json!({"query": query}))
    };
    let is_loop = |answer: &Answer| {
        let detail = "Cohorts cannot reference other cohorts in a loop.";
        assert_detail(answer, None, detail);
    };
    is_loop(&create(&[last + 1]));
    let later: Vec<i64> = (last + 4..last + 9).collect();
    let first = id_of(&create(&later));
    let second = id_of(&create(&[first]));
    assert_eq!([first, second], [last + 2, last + 3]);
    is_loop(&create(&[first]));
    is_loop(&create(&[second]));
    is_loop(&by_query(second));
    // A refused cohort has used its id.
    assert_eq!(id_of(&create(&[last])), last + 7);
    assert_eq!(project.get("cohorts/").json()["count"], 4);
    let query = by_query(last + 7);
    assert_eq!(id_of(&query), last + 8);
    is_loop(&create(&[last + 9]));
}

/// Conformance case 73.
#[test]
fn update_cannot_reference_an_unknown_cohort() {
    let project = Project::new();
    let id = project.cohort(json!({"filters": only(did("open", 1))}));
    for unknown in [json!(999_999), json!("999999")] {
        let leaf = json!({"type": "cohort", "key": "id", "value": unknown});
        let answer = project.patch(&cohort_path(id), json!({"filters": only(leaf)}));
        assert_detail(&answer, None, "Invalid Cohort ID in filter");
    }
}

#[test]
fn unknown_reference_of_a_new_cohort_cannot_be_sent_again() {
    let (project, other) = (Project::new(), Project::new());
    let theirs = other.cohort(json!({}));
    let id = project.cohort(json!({"filters": references_to(&[999_999_999])}));
    let path = format!("cohorts/{id}/");
    for filters in [references_to(&[999_999_999]), references_to(&[theirs])] {
        let answer = project.patch(&path, json!({"filters": filters}));
        assert_eq!(
            answer.is_error(400, "invalid_input", None).detail(),
            "Invalid Cohort ID in filter"
        );
    }
    assert_eq!(project.settle(id)["count"], 0);
}

/// Conformance case 74.
#[test]
fn referenced_cohort_cannot_be_deleted() {
    let project = Project::new();
    let a = project.cohort(json!({"name": "A"}));
    create_dependent(&project, a, "B");
    let answer = project.patch(&cohort_path(a), json!({"deleted": true}));
    let part = "This cohort is used as criteria in 1 other cohort(s): B";
    assert_invalid(&answer, None, part);
    assert_eq!(project.get(&cohort_path(a)).json()["deleted"], false);
}

/// Conformance case 75.
#[test]
fn deletion_error_counts_all_dependents() {
    let project = Project::new();
    let a = project.cohort(json!({"name": "A"}));
    for name in ["B", "C", "D"] {
        create_dependent(&project, a, name);
    }
    let answer = project.patch(&cohort_path(a), json!({"deleted": true}));
    assert_invalid(&answer, None, "in 3 other cohort(s):");
}

#[test]
fn deletion_error_names_five_dependents() {
    let project = Project::new();
    let a = project.cohort(json!({"filters": any_of(json!([did("x", 1)]))}));
    let path = format!("cohorts/{a}/");
    let users: Vec<i64> = (0..7)
        .map(|number| {
            project.cohort(json!({"name": format!("B{number}"), "filters": references_to(&[a])}))
        })
        .collect();
    let detail = project
        .patch(&path, json!({"deleted": true}))
        .is_error(400, "invalid_input", None)
        .detail();
    assert!(
        detail.starts_with(
            "This cohort is used as criteria in 7 other cohort(s): B0, B1, B2, B3, B4, and 2 more."
        ),
        "{detail}"
    );
    for user in users {
        assert_eq!(
            project
                .patch(&format!("cohorts/{user}/"), json!({"deleted": true}))
                .status,
            200
        );
    }
    assert_eq!(
        project.patch(&path, json!({"deleted": true})).json()["deleted"],
        true
    );
}

/// Conformance case 76.
#[test]
fn unreferenced_cohort_is_deleted() {
    let project = Project::new();
    let a = project.cohort(json!({"name": "A"}));
    let b = project.cohort(json!({"name": "B"}));
    create_dependent(&project, b, "C");
    let answer = project.patch(&cohort_path(a), json!({"deleted": true}));
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(answer.json()["deleted"], true);
}

/// Conformance case 125.
#[test]
fn used_in_lists_dependents_in_three_blocks() {
    let project = Project::new();
    let a = project.cohort(json!({"name": "A"}));
    let none = json!({"feature_flags": empty_block(), "insights": empty_block(), "cohorts": empty_block()});
    assert_eq!(used_in(&project, a), none);
    let b = create_dependent(&project, a, "B");
    let block = json!({"results": [{"id": b, "name": "B"}], "total": 1, "has_more": false});
    let expected =
        json!({"feature_flags": empty_block(), "insights": empty_block(), "cohorts": block});
    assert_eq!(used_in(&project, a), expected);
}

/// Conformance case 126.
#[test]
fn used_in_lists_100_dependents_and_counts_all() {
    let project = Project::new();
    let a = project.cohort(json!({"name": "A"}));
    for number in 0..101 {
        create_dependent(&project, a, &format!("B{number}"));
    }
    let block = &used_in(&project, a)["cohorts"];
    assert_eq!(block["results"].as_array().map(Vec::len), Some(100));
    assert_eq!(
        (&block["total"], &block["has_more"]),
        (&json!(101), &json!(true))
    );
}

/// Conformance case 127.
#[test]
fn used_in_hides_dependents_of_other_projects() {
    let (project, other) = (Project::new(), Project::new());
    let a = project.cohort(json!({"name": "A"}));
    create_dependent(&other, a, "theirs");
    assert_eq!(used_in(&project, a)["cohorts"], empty_block());
    let b = create_dependent(&project, a, "ours");
    let listed = used_in(&project, a)["cohorts"]["results"].clone();
    assert_eq!(listed, json!([{"id": b, "name": "ours"}]));
}

#[test]
fn used_in_names_dependents_without_a_name() {
    let project = Project::new();
    let a = project.cohort(json!({}));
    let nothing = json!({"results": [], "total": 0, "has_more": false});
    let path = format!("cohorts/{a}/used_in");
    let expected = json!({"feature_flags": nothing, "insights": nothing, "cohorts": nothing});
    assert_eq!(project.get(&path).json(), expected);
    let b = project.cohort(json!({"name": "B", "filters": references_to(&[a])}));
    let c = project.cohort(json!({"filters": references_to(&[a])}));
    let cohorts = &project.get(&path).json()["cohorts"];
    assert_eq!(
        cohorts["results"],
        json!([{"id": b, "name": "B"}, {"id": c, "name": "Unnamed"}])
    );
    for _ in 0..99 {
        project.cohort(json!({"filters": references_to(&[a])}));
    }
    let cohorts = &project.get(&path).json()["cohorts"];
    let listed = cohorts["results"].as_array().map(Vec::len);
    assert_eq!(
        (listed, &cohorts["total"], &cohorts["has_more"]),
        (Some(100), &json!(101), &json!(true))
    );
}

#[test]
fn deeply_nested_cohorts_have_the_members_of_the_innermost_in_any_order() {
    let project = Project::new();
    project.capture(json!([{"event": "open", "distinct_id": "ann"}]));
    let mut ids = vec![project.cohort(json!({"filters": only(did("open", 1))}))];
    for depth in 1..=25 {
        let id = create_dependent(&project, ids[depth - 1], &format!("depth {depth}"));
        ids.push(id);
    }
    for order in [[5, 20], [20, 5], [25, 0], [0, 25]] {
        let body = json!({"filters": references_to(&order.map(|depth| ids[depth]))});
        let preview = project.post("cohorts/preview/", body).json();
        let counts: Vec<&Value> = [0, 1]
            .map(|nth| &preview["criteria"][nth]["count"])
            .to_vec();
        assert_eq!(
            (&preview["count"], counts),
            (&json!(1), vec![&json!(1); 2]),
            "{order:?}"
        );
    }
}
