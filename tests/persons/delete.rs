//! Deleting persons.

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{
    Project, any_of, assert_detail, count, did, find_person, first_ids, person, rows,
};

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

fn bulk_delete(project: &Project, body: Value) -> (u64, u64) {
    let answer = project.post("persons/bulk_delete/", body);
    assert_eq!(answer.status, 202, "{}", answer.text);
    let answer = answer.json();
    for queued in [
        "events_queued_for_deletion",
        "recordings_queued_for_deletion",
    ] {
        assert_eq!(answer[queued], false);
    }
    assert_eq!(answer["deletion_errors"], json!([]));
    let number = |field: &str| answer[field].as_u64().expect("a number");
    (number("persons_found"), number("persons_deleted"))
}

#[test]
fn bulk_deletion_deletes_persons_as_single_deletions_do() {
    let (project, other) = (Project::new(), Project::new());
    other.persons([("p000", json!({}))]);
    let events = (0..120).map(|number| plain("x", &format!("p{number:03}")));
    project.capture(events.collect());
    project.capture(json!([alias("p000", "second id"), force("p001", "p002")]));
    let all: Vec<String> = rows(&project.get("persons/?limit=1000").json())
        .iter()
        .map(|person| person["id"].as_str().expect("an id").to_owned())
        .collect();
    assert_eq!(all.len(), 119);
    let listed = json!({"is_static": true, "_create_static_person_ids": all});
    let listed = project.cohort(listed);
    let dynamic = project.cohort(json!({"filters": any_of(json!([did("x", 1)]))}));
    project.settle(dynamic);

    // Ids of one person, of no person, and of a person of another project.
    let ids: Vec<String> = (0..115).map(|number| format!("p{number:03}")).collect();
    let more = ["second id", "unknown", ""].map(str::to_owned);
    let ids: Vec<String> = ids.into_iter().chain(more).collect();
    assert_eq!(
        bulk_delete(&project, json!({"distinct_ids": ids, "ids": []})),
        (114, 114)
    );
    let left = ["p115", "p116", "p117", "p118", "p119"];
    assert_eq!(ids_of(&project), left);
    for cohort in [listed, dynamic] {
        assert_eq!(project.members(cohort), left);
        let cohort = project.get(&format!("cohorts/{cohort}/")).json();
        assert_eq!(cohort["count"], 5);
    }
    assert_eq!(count(&project, json!([did("x", 1)])), 5);
    assert_eq!(bulk_delete(&project, json!({"distinct_ids": ids})), (0, 0));

    let uuid = project.person("p115");
    let theirs = other.person("p000");
    let body = json!({"ids": [uuid, uuid.to_uppercase(), theirs, "p116"], "delete_events": false});
    assert_eq!(bulk_delete(&project, body), (1, 1));
    assert_eq!(ids_of(&project), left[1..]);
    assert_eq!(ids_of(&other), ["p000"]);
    // The distinct ids create new persons without the earlier events.
    project.capture(json!([plain("y", "p000"), plain("y", "p002")]));
    assert_eq!(count(&project, json!([did("x", 1)])), 4);
}

fn ids_of(project: &Project) -> Vec<String> {
    ids(project, "")
}

#[test]
fn bulk_deletion_refuses_what_it_cannot_do() {
    let project = with_persons();
    let answer = |body: Value| project.post("persons/bulk_delete/", body);
    let many = vec!["ann"; 1_001];
    for (body, detail) in [
        (json!({}), "You need to specify either distinct_ids or ids"),
        (
            json!({"ids": [], "distinct_ids": null}),
            "You need to specify either distinct_ids or ids",
        ),
        (
            json!({"ids": ["a"], "distinct_ids": ["ann"]}),
            "You must provide either distinct_ids or ids, not both",
        ),
        (
            json!({"distinct_ids": many}),
            "You can only pass 1000 distinct_ids in one call",
        ),
        (
            json!({"ids": many}),
            "You can only pass 1000 ids in one call",
        ),
    ] {
        assert_detail(&answer(body), None, detail);
    }
    for option in ["delete_events", "delete_recordings", "keep_person"] {
        let body = json!({"distinct_ids": ["ann"], option: true});
        answer(body).is_error(400, "invalid_input", Some(option));
        let path = format!("persons/bulk_delete/?{option}=true");
        let answer = project.post(&path, json!({"distinct_ids": ["ann"]}));
        answer.is_error(400, "invalid_input", Some(option));
    }
    answer(json!({"distinct_ids": "ann"})).is_error(400, "not_a_list", Some("distinct_ids"));
    assert_eq!(ids_of(&project), ["ann", "bob", "cid"]);
    assert_eq!(
        bulk_delete(&project, json!({"distinct_ids": many[..1000]})),
        (1, 1)
    );
}

#[test]
fn deletion_refuses_parameters_that_would_keep_the_person() {
    let project = with_persons();
    let path = format!("persons/{}/", project.person("ann"));
    for (query, attr) in [
        ("keep_person=true", "keep_person"),
        ("delete_events=true&keep_person=1", "keep_person"),
        ("delete_recordings", "delete_recordings"),
    ] {
        let answer = project.ask(Method::DELETE, &format!("{path}?{query}"), None);
        answer.is_error(400, "invalid_input", Some(attr));
    }
    let query = "delete_events=true&keep_person=false";
    let answer = project.ask(Method::DELETE, &format!("{path}?{query}"), None);
    assert_eq!(answer.status, 204, "{}", answer.text);
}
