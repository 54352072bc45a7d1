//! Explanations of one membership.

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Project, any_of, did, in_cohort, only, person, request, send};

/// A person on the plan `pro` with an event `paid` three days ago and one forty days ago.
fn with_ana() -> Project {
    let project = Project::new();
    project.persons([("ana", json!({"plan": "pro"})), ("ben", json!({}))]);
    let days_ago = |days: i64| (chrono::Utc::now() - chrono::TimeDelta::days(days)).to_rfc3339();
    project.capture(json!([
        {"event": "paid", "distinct_id": "ana", "timestamp": days_ago(3), "uuid": NEWER},
        {"event": "paid", "distinct_id": "ana", "timestamp": days_ago(40)},
    ]));
    project
}

const NEWER: &str = "0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b";

fn pro() -> Value {
    person("plan", "exact", "pro")
}

fn negated(mut leaf: Value) -> Value {
    leaf["negation"] = json!(true);
    leaf
}

fn all_of(leaves: Value) -> Value {
    json!({"properties": {"type": "AND", "values": leaves}})
}

fn explain(project: &Project, cohort: i64, distinct_id: &str) -> Value {
    let path = format!("cohorts/{cohort}/explain/?distinct_id={distinct_id}");
    let answer = project.get(&path);
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()
}

#[test]
fn explanation_names_what_each_criterion_found() {
    let project = with_ana();
    let filters = all_of(json!([pro(), did("paid", 7), negated(did("left", 7))]));
    let cohort = project.cohort(json!({"filters": filters}));
    let before = explain(&project, cohort, "ana");
    assert_eq!(
        (&before["member"], &before["published"], &before["since"]),
        (&json!(true), &json!(false), &Value::Null)
    );
    project.settle(cohort);
    let ana = explain(&project, cohort, "ana");
    assert_eq!(
        (&ana["member"], &ana["published"]),
        (&json!(true), &json!(true))
    );
    assert_eq!(ana["person"]["distinct_ids"], json!(["ana"]));
    assert!(ana["since"].is_string(), "{ana}");
    let criteria = &ana["criteria"];
    let expected = json!({"path": "properties.values[0]", "holds": true, "negated": false, "found": {"value": "pro"}});
    assert_eq!(criteria[0], expected);
    let found = &criteria[1]["found"];
    assert_eq!(
        (&found["count"], &criteria[1]["holds"]),
        (&json!(1), &json!(true))
    );
    assert_eq!(found["events"][0]["uuid"], NEWER);
    assert_eq!(found["first_at"], found["last_at"]);
    let none = json!({"path": "properties.values[2]", "holds": true, "negated": true, "found": {"count": 0, "events": []}});
    assert_eq!(criteria[2], none);
    assert_eq!(ana["changes_at"]["member"], false);
    let ben = explain(&project, cohort, "ben");
    assert_eq!(
        (&ben["member"], &ben["published"], &ben["since"]),
        (&json!(false), &json!(true), &Value::Null)
    );
    assert_eq!(ben["criteria"][0]["found"], json!({"value": null}));
    // She is still among the stored members.
    project.persons([("ana", json!({"plan": "free"}))]);
    let ana = explain(&project, cohort, "ana");
    assert_eq!(
        (&ana["member"], &ana["published"], &ana["since"]),
        (&json!(false), &json!(false), &Value::Null)
    );
}

#[test]
fn explanation_counts_all_events_and_names_ten() {
    let project = Project::new();
    let event = |_| json!({"event": "paid", "distinct_id": "ana"});
    project.capture((0..12).map(event).collect());
    let cohort = project.cohort(json!({"filters": only(did("paid", 7))}));
    let found = &explain(&project, cohort, "ana")["criteria"][0]["found"];
    assert_eq!(found["count"], 12);
    assert_eq!(found["events"].as_array().expect("events").len(), 10);
}

#[test]
fn explanation_is_by_the_id_of_the_person_too_and_follows_merges() {
    let project = with_ana();
    let cohort = project.cohort(json!({"filters": only(did("paid", 7))}));
    let id = project.person("ben");
    let path = format!("cohorts/{cohort}/explain/?person_id={id}");
    assert_eq!(project.get(&path).json()["member"], false);
    project.capture(json!([{"event": "$merge_dangerously", "distinct_id": "ben",
        "properties": {"alias": "ana"}}]));
    let merged = explain(&project, cohort, "ben");
    assert_eq!(merged["member"], true);
    assert_eq!(merged["person"]["distinct_ids"], json!(["ana", "ben"]));
    assert_eq!(merged["criteria"][0]["found"]["events"][0]["uuid"], NEWER);
}

#[test]
fn the_next_change_proves_true() {
    let project = with_ana();
    let ask = |as_of: &Value| {
        let body = json!({"filters": only(did("paid", 7)), "distinct_id": "ana", "as_of": as_of});
        let answer = project.post("cohorts/explain/", body);
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.json()
    };
    let now = ask(&Value::Null);
    assert_eq!(
        (&now["member"], &now["published"], &now["since"]),
        (&json!(true), &Value::Null, &Value::Null)
    );
    let change = &now["changes_at"];
    assert_eq!(change["member"], false);
    assert_eq!(ask(&change["at"])["member"], false);
    let at: chrono::DateTime<chrono::Utc> = change["at"].as_str().unwrap().parse().unwrap();
    let before = at - chrono::TimeDelta::microseconds(1);
    assert_eq!(ask(&json!(before))["member"], true);
}

#[test]
fn explanation_follows_other_cohorts() {
    let project = with_ana();
    let inner = project.cohort(json!({"filters": only(pro())}));
    let list = project
        .cohort(json!({"is_static": true, "_create_static_person_ids": [project.person("ben")]}));
    let filters = any_of(json!([in_cohort(inner), in_cohort(list)]));
    let cohort = project.cohort(json!({"filters": filters}));
    let ana = explain(&project, cohort, "ana");
    let expected = json!([
        {"path": "properties.values[0]", "holds": true, "negated": false, "found": {
            "cohort_id": inner, "member": true, "criteria": [
                {"path": "properties.values[0]", "holds": true, "negated": false, "found": {"value": "pro"}}]}},
        {"path": "properties.values[1]", "holds": false, "negated": false, "found": {
            "cohort_id": list, "member": false, "criteria": []}},
    ]);
    assert_eq!(ana["criteria"], expected);
    let ben = explain(&project, cohort, "ben");
    assert_eq!(ben["member"], true);
    assert_eq!(ben["criteria"][1]["found"]["member"], true);
}

#[test]
fn explanation_of_a_dynamic_cohort_by_query_is_one_criterion() {
    let project = with_ana();
    let text =
        "SELECT person_id FROM events WHERE event = 'paid' GROUP BY person_id HAVING count() >= 2";
    let query = json!({"kind": "HogQLQuery", "query": text});
    let cohort = project.cohort(json!({"query": query}));
    let ana = explain(&project, cohort, "ana");
    assert_eq!(ana["member"], true);
    let [criterion] = &ana["criteria"].as_array().expect("criteria")[..] else {
        panic!("{ana}");
    };
    assert_eq!(
        (&criterion["path"], &criterion["holds"]),
        (&json!("query"), &json!(true))
    );
    assert_eq!(criterion["found"]["count"], 2);
    let body = json!({"query": {"kind": "HogQLQuery", "query": text.replace("2", "3")}});
    let dry = project.patch(&format!("cohorts/{cohort}/?dry_run=true"), body);
    assert_eq!(
        dry.json()["compared"],
        json!({"entering": 0, "leaving": 1, "staying": 0})
    );
}

#[test]
fn explanation_of_a_static_cohort_tells_when_and_why_the_person_was_added() {
    let project = with_ana();
    let cohort = project
        .cohort(json!({"is_static": true, "_create_static_person_ids": [project.person("ana")]}));
    let ana = explain(&project, cohort, "ana");
    assert_eq!(
        (&ana["member"], &ana["published"], &ana["criteria"]),
        (&json!(true), &json!(true), &json!([]))
    );
    assert_eq!(ana["found"]["cause"], "manual");
    assert_eq!(ana["found"]["added_at"], ana["since"]);
    let ben = explain(&project, cohort, "ben");
    assert_eq!((&ben["member"], ben.get("found")), (&json!(false), None));
}

#[test]
fn explanation_refuses_unknown_persons_and_unclear_requests() {
    let project = with_ana();
    let cohort = project.cohort(json!({"filters": only(pro())}));
    let get = |query: &str| project.get(&format!("cohorts/{cohort}/explain/{query}"));
    get("?distinct_id=unknown").is_error(404, "not_found", None);
    get("?person_id=0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5f").is_error(404, "not_found", None);
    get("").is_error(400, "invalid_input", Some("person_id"));
    get("?person_id=ana").is_error(400, "invalid_input", Some("person_id"));
    let both = "?person_id=0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5f&distinct_id=ana";
    get(both).is_error(400, "invalid_input", Some("distinct_id"));
    let unknown = project.get("cohorts/999999/explain/?distinct_id=ana");
    unknown.is_error(404, "not_found", None);
    let filters = only(person("plan", "sounds_like", "pro"));
    let body = json!({"filters": filters, "distinct_id": "ana"});
    let refused = project.post("cohorts/explain/", body);
    refused.is_error(400, "invalid_input", Some("filters"));
}

/// Whatever the person: the cohort that cannot be calculated is the second criterion, and the first one decides already.
#[test]
fn explanation_refuses_a_cohort_that_refers_to_one_that_cannot_be_calculated() {
    let project = with_ana();
    let inner = project.cohort(json!({"filters": only(person("plan", "sounds_like", "pro"))}));
    let filters = any_of(json!([pro(), in_cohort(inner)]));
    let body = json!({"filters": filters, "distinct_id": "ana"});
    let unsaved = project.post("cohorts/explain/", body);
    unsaved.is_error(400, "invalid_input", Some("filters"));
    let cohort = project.cohort(json!({"filters": filters}));
    let saved = project.get(&format!("cohorts/{cohort}/explain/?distinct_id=ana"));
    saved.is_error(400, "invalid_input", Some("filters"));
    let of_preview = project.post("cohorts/preview/", json!({"filters": filters}));
    for explained in [&unsaved, &saved] {
        assert_eq!(explained.json()["detail"], of_preview.json()["detail"]);
    }
}

#[test]
fn explanation_ignores_events_that_retention_deletes() {
    let project = with_ana();
    let admin = project.server.data().admin();
    let retention = "30d".parse().expect("a retention");
    admin
        .set_event_retention(project.id, retention)
        .expect("a project");
    let cohort = project.cohort(json!({"filters": only(did("paid", 60))}));
    let found = explain(&project, cohort, "ana")["criteria"][0]["found"].clone();
    assert_eq!(found["count"], 1);
}

#[test]
fn explanation_requires_person_read() {
    let project = with_ana();
    let cohort = project.cohort(json!({"filters": only(pro())}));
    let path = project.path(&format!("cohorts/{cohort}/explain/?distinct_id=ana"));
    let reader = project.key_with(&["cohort:read"]);
    let answer = send(
        &Method::GET,
        request(Method::GET, &path).bearer_auth(reader),
    );
    answer.is_error(403, "permission_denied", None);
}
