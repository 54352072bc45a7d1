//! Deleting persons.

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Project, any_of, count, did, find_person, first_ids, person};

fn with_persons() -> Project {
    let project = Project::new();
    project.persons([
        ("ann", json!({"email": "ann@x.io", "plan": "pro"})),
        ("bob", json!({"plan": "free"})),
        ("cid", json!({"plan": "pro"})),
    ]);
    project
}

fn ids(project: &Project, query: &str) -> Vec<String> {
    let page = project.get(&format!("persons/{query}"));
    assert_eq!(page.status, 200, "{}", page.text);
    first_ids(&page.json()["results"])
}

fn delete(project: &Project, distinct_id: &str) {
    let path = format!("persons/{}/", project.person(distinct_id));
    let deleted = project.ask(Method::DELETE, &path, None);
    assert_eq!((deleted.status, deleted.text.as_str()), (204, ""));
    project.get(&path).is_error(404, "not_found", None);
}

#[test]
fn deleted_person_leaves_all_lists_counts_and_cohorts() {
    let project = with_persons();
    project.capture(json!([
        {"event": "paid", "distinct_id": "ann"},
        {"event": "paid", "distinct_id": "bob"},
    ]));
    let ann = project.person("ann");
    let listed = project.cohort(json!({"is_static": true,
        "_create_static_person_ids": [ann, project.person("bob")]}));
    let pros = any_of(json!([person("plan", "exact", "pro")]));
    let dynamic = project.cohort(json!({"filters": pros}));
    let payers = project.cohort(json!({"filters": any_of(json!([did("paid", 7)]))}));
    project.settle(payers);
    delete(&project, "ann");

    // The counts are correct at once, and after the next calculation.
    for calculated in [false, true] {
        for (cohort, left) in [(listed, "bob"), (dynamic, "cid"), (payers, "bob")] {
            if calculated {
                project.patch(&format!("cohorts/{cohort}/"), json!({}));
                project.settle(cohort);
            }
            assert_eq!(project.members(cohort), [left]);
            assert_eq!(
                project.get(&format!("cohorts/{cohort}/")).json()["count"],
                1
            );
        }
    }
    assert_eq!(ids(&project, ""), ["bob", "cid"]);

    // The distinct id creates a new person without earlier events.
    project.persons([("ann", json!({}))]);
    assert_ne!(project.person("ann"), ann);
    project.settle(payers);
    assert_eq!(project.members(payers), ["bob"]);
}

#[test]
fn deleted_person_cannot_become_a_member() {
    let project = with_persons();
    let ann = project.person("ann");
    delete(&project, "ann");
    let cohort = project.cohort(json!({"is_static": true, "_create_static_person_ids": [ann]}));
    assert_eq!(
        project.get(&format!("cohorts/{cohort}/")).json()["count"],
        0
    );
}

fn alias(id: &str, other: &str) -> Value {
    json!({"event": "$create_alias", "distinct_id": id, "properties": {"alias": other}})
}

fn force(id: &str, other: &str) -> Value {
    json!({"event": "$merge_dangerously", "distinct_id": id, "properties": {"alias": other}})
}

fn plain(event: &str, id: &str) -> Value {
    json!({"event": event, "distinct_id": id})
}

#[test]
fn deletion_includes_persons_that_were_merged_before() {
    let project = Project::new();
    project.capture(json!([
        plain("x", "a"),
        plain("x", "b"),
        plain("x", "c"),
        plain("x", "other")
    ]));
    project.capture(json!([alias("b", "a")]));
    project.capture(json!([force("c", "b")]));
    let one = find_person(&project, "a").expect("one")["id"].clone();
    let path = format!("persons/{}/", one.as_str().expect("an id"));
    assert_eq!(project.ask(Method::DELETE, &path, None).status, 204);
    for id in ["a", "b", "c"] {
        assert_eq!(find_person(&project, id), None, "{id}");
    }
    assert_eq!(count(&project, json!([did("x", 1)])), 1);
    // An event of a deleted distinct id creates a new person.
    project.capture(json!([plain("y", "a")]));
    assert_ne!(find_person(&project, "a").expect("a person")["id"], one);
    assert_eq!(count(&project, json!([did("x", 1)])), 1);
}
