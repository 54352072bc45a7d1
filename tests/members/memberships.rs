//! The cohorts of many persons in one request.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::harness::{Answer, Project, cohort_path, only, person};

const PATH: &str = "cohorts/memberships/";
/// A valid `id` without a person.
const UNKNOWN_PERSON: &str = "0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b";

fn memberships(project: &Project, body: Value) -> Value {
    let answer = project.post(PATH, body);
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()["results"].take()
}

fn static_of(project: &Project, ids: &[&str]) -> i64 {
    let ids: Vec<String> = ids.iter().map(|id| project.person(id)).collect();
    project.cohort(json!({"is_static": true, "_create_static_person_ids": ids}))
}

fn add(project: &Project, cohort: i64, id: &str) -> Answer {
    let path = format!("{}add_persons_to_static_cohort/", cohort_path(cohort));
    project.patch(&path, json!({"person_ids": [project.person(id)]}))
}

fn with_persons() -> Project {
    let project = Project::new();
    project.persons([
        ("a", json!({"plan": "pro"})),
        ("b", json!({"plan": "pro"})),
        ("c", json!({})),
    ]);
    project
}

#[test]
fn results_are_in_the_order_of_the_request() {
    let project = with_persons();
    let pros = project.cohort(json!({"filters": only(person("plan", "exact", "pro"))}));
    project.settle(pros);
    let list = static_of(&project, &["b", "c"]);
    let entry = |id: &str, cohorts: &[i64]| json!({"distinct_id": id, "person_id": project.person(id), "cohort_ids": cohorts});
    let unknown = json!({"distinct_id": "unknown", "person_id": null, "cohort_ids": []});
    assert_eq!(
        memberships(
            &project,
            json!({"distinct_ids": ["c", "unknown", "b", "a", "c"]})
        ),
        json!([
            entry("c", &[list]),
            unknown,
            entry("b", &[pros, list]),
            entry("a", &[pros]),
            entry("c", &[list])
        ])
    );
    assert_eq!(
        memberships(
            &project,
            json!({"distinct_ids": ["b"], "cohort_ids": [list, list]})
        ),
        json!([entry("b", &[list])])
    );
    // An id is stored without the spaces around it.
    let spaced = memberships(&project, json!({"distinct_ids": [" b\u{a0}"]}));
    assert_eq!(spaced[0]["person_id"], json!(project.person("b")));
    let ids = json!([project.person("b"), "no uuid", UNKNOWN_PERSON]);
    let unknown = json!({"distinct_id": null, "person_id": null, "cohort_ids": []});
    let by_uuid =
        json!({"distinct_id": null, "person_id": project.person("b"), "cohort_ids": [pros, list]});
    assert_eq!(
        memberships(&project, json!({"person_ids": ids})),
        json!([by_uuid, unknown, unknown])
    );
}

#[test]
fn each_change_of_the_members_is_seen_at_once() {
    let project = with_persons();
    let (first, second) = (static_of(&project, &["a"]), static_of(&project, &["b"]));
    let of = |id: &str| {
        let results = memberships(&project, json!({"distinct_ids": [id]}));
        results[0]["cohort_ids"].clone()
    };
    assert_eq!(of("b"), json!([second]));
    assert_eq!(add(&project, first, "b").status, 200);
    assert_eq!(of("b"), json!([first, second]));
    let path = format!("{}remove_person_from_static_cohort/", cohort_path(second));
    let body = json!({"person_id": project.person("b")});
    assert_eq!(project.patch(&path, body).status, 200);
    assert_eq!(of("b"), json!([first]));
    assert_eq!(of("a"), json!([first]));
    let deleted = project.patch(&cohort_path(first), json!({"deleted": true}));
    assert_eq!(deleted.status, 200);
    assert_eq!(of("b"), json!([]));
}

#[test]
fn memberships_are_those_of_each_person() {
    let project = with_persons();
    for members in [&["a"][..], &["a", "b"], &[], &["c"], &["b", "c"]] {
        static_of(&project, members);
    }
    let results = memberships(&project, json!({"distinct_ids": ["a", "b", "c"]}));
    for (id, result) in ["a", "b", "c"].iter().zip(results.as_array().unwrap()) {
        let path = format!("persons/cohorts/?distinct_id={id}");
        let cohorts = project.get(&path).json()["results"].take();
        let ids = cohorts.as_array().unwrap().iter();
        let ids: BTreeSet<i64> = ids.map(|cohort| cohort["id"].as_i64().unwrap()).collect();
        assert_eq!(result["cohort_ids"], json!(ids), "{id}");
    }
}

/// The members of more than 64 cohorts are not in memory for look-ups.
#[test]
fn memberships_of_many_cohorts_are_complete() {
    let project = with_persons();
    let mut ids: Vec<i64> = (0..70).map(|_| static_of(&project, &["a"])).collect();
    ids.push(static_of(&project, &["a", "b"]));
    let of = |body: Value| {
        let results = memberships(&project, body);
        let cohorts = results.as_array().unwrap().iter();
        let cohorts = cohorts.map(|entry| entry["cohort_ids"].clone());
        cohorts.collect::<Vec<_>>()
    };
    let all = json!({"distinct_ids": ["a", "b", "c"]});
    assert_eq!(of(all), [json!(ids), json!([ids[70]]), json!([])]);
    let some = json!({"distinct_ids": ["a"], "cohort_ids": [ids[70], ids[3]]});
    assert_eq!(of(some), [json!([ids[3], ids[70]])]);
}

#[test]
fn limits_and_unknown_cohorts_are_refused() {
    let project = with_persons();
    let ids = |count: usize| vec!["a"; count];
    let numbers = |count: i64| (0..count).collect::<Vec<_>>();
    for (body, attr) in [
        (json!({}), "distinct_ids"),
        (
            json!({"distinct_ids": ["a"], "person_ids": []}),
            "distinct_ids",
        ),
        (json!({"distinct_ids": ids(1_001)}), "distinct_ids"),
        (json!({"person_ids": ids(1_001)}), "person_ids"),
        (
            json!({"distinct_ids": ["a"], "cohort_ids": numbers(101)}),
            "cohort_ids",
        ),
        (
            json!({"distinct_ids": ["a"], "cohort_ids": [999_999_999]}),
            "cohort_ids",
        ),
    ] {
        let refused = project.post(PATH, body);
        refused.is_error(400, "invalid_input", Some(attr));
    }
    let many = project.post(
        PATH,
        json!({"distinct_ids": [], "cohort_ids": numbers(101)}),
    );
    assert!(many.text.contains("At most 100 cohorts"), "{}", many.text);
    let most = memberships(&project, json!({"distinct_ids": ids(1_000)}));
    assert_eq!(most.as_array().unwrap().len(), 1_000);
    assert_eq!(
        memberships(&project, json!({"distinct_ids": []})),
        json!([])
    );
}
