//! Dynamic cohorts by query: live like those with filters, and referred to like these.

use std::thread;
use std::time::{Duration, Instant};

use chrono::TimeDelta;
use reqwest::Method;
use serde_json::{Value, json};

use super::{hogql, shop, shop_queries};
use crate::harness::{
    Project, any_of, assert_detail, assert_invalid, cohort_names, cohort_path, did, in_cohort, key,
    only, person, request_to, rows, send, start,
};

const BOTH: &str = "Cannot set both query and filters at the same time.";
const LOOP: &str = "Cohorts cannot reference other cohorts in a loop.";

/// Creates a dynamic cohort by query, and checks its fields.
fn by_query(project: &Project, query: Value) -> i64 {
    let creation = project.post("cohorts/", json!({"name": "Q", "query": query}));
    assert_eq!(creation.status, 201, "{}", creation.text);
    let cohort = creation.json();
    assert_eq!(cohort["is_static"], false);
    assert_eq!(cohort["query"], query);
    assert_eq!(cohort["filters"], json!({"properties": {}}));
    assert_eq!(cohort["cohort_type"], "analytical");
    assert_eq!(cohort["is_calculating"], true);
    cohort["id"].as_i64().expect("an id")
}

fn members_of(cohort: i64) -> String {
    format!("SELECT person_id FROM cohort_people WHERE cohort_id = {cohort}")
}

fn change(project: &Project, cohort: i64, body: Value) -> Value {
    let answer = project.patch(&cohort_path(cohort), body);
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()
}

/// Conformance case 37 refused such a cohort.
#[test]
fn a_query_gives_a_dynamic_cohort_the_members_that_it_gives_a_static_one() {
    let project = shop();
    let cohorts: Vec<(Value, i64, i64)> = shop_queries()
        .into_iter()
        .map(|(query, _)| {
            let fixed = project.cohort(json!({"is_static": true, "query": query}));
            let dynamic = by_query(&project, query.clone());
            (query, fixed, dynamic)
        })
        .collect();
    for (query, fixed, dynamic) in &cohorts {
        let (fixed, dynamic) = (project.settle(*fixed), project.settle(*dynamic));
        for cohort in [&fixed, &dynamic] {
            assert_eq!(cohort["errors_calculating"], 0, "{cohort}");
        }
        assert_eq!(fixed["count"], dynamic["count"], "{query}");
    }
    let expected = shop_queries().into_iter().map(|(_, members)| members);
    for ((query, fixed, dynamic), expected) in cohorts.iter().zip(expected) {
        assert_eq!(project.members(*dynamic), expected, "{query}");
        assert_eq!(project.members(*fixed), expected, "{query}");
    }
    // Only the dynamic cohorts follow the data.
    project.persons([
        ("ada", json!({"plan": "free"})),
        ("eve", json!({"plan": "pro"})),
    ]);
    project.capture(json!([
        {"event": "paid", "distinct_id": "cy", "properties": {"amount": 60}},
        {"event": "paid", "distinct_id": "cy", "properties": {"amount": 50}}
    ]));
    for (query, fixed, dynamic) in &cohorts {
        let before = project.members(*fixed);
        change(&project, *dynamic, json!({"description": "Again"}));
        project.settle(*dynamic);
        let copy = project.cohort(json!({"is_static": true, "query": query}));
        project.settle(copy);
        assert_eq!(project.members(*dynamic), project.members(copy), "{query}");
        assert_eq!(project.members(*fixed), before, "{query}");
    }
}

#[test]
fn a_dynamic_cohort_by_query_follows_events_without_a_request() {
    let server = start(|config| {
        config.calculate = true;
        config.freshness = TimeDelta::seconds(1);
    });
    let admin = server.data().admin();
    let project = admin.create_project("P", "UTC").expect("a project");
    let key = key(&server, &[project.id], &["*"]);
    let ask = |method: Method, rest: &str, body: Option<Value>| {
        let path = format!("/api/projects/{}/{rest}", project.id);
        let request = request_to(&server, method.clone(), &path).bearer_auth(&key);
        let request = match body {
            Some(body) => request.json(&body),
            None => request,
        };
        let answer = send(&method, request);
        assert!(answer.status < 300, "{}", answer.text);
        answer.json()
    };
    let pay = |id: &str, amount: Value| {
        let event = json!({"event": "paid", "distinct_id": id, "properties": {"amount": amount}});
        let body = json!({"api_key": project.token, "batch": [event]});
        let request = request_to(&server, Method::POST, "/batch/").json(&body);
        assert_eq!(send(&Method::POST, request).status, 200);
    };
    let create = |body: Value| ask(Method::POST, "cohorts/", Some(body))["id"].clone();
    let until = |cohort: &Value, count: i64| {
        let start = Instant::now();
        let show = || ask(Method::GET, &format!("cohorts/{cohort}/"), None);
        while show()["count"] != count {
            assert!(start.elapsed() < Duration::from_secs(30), "{}", show());
            thread::sleep(Duration::from_millis(50));
        }
    };
    pay("ada", json!(60));
    let spent = hogql(
        "SELECT person_id FROM events WHERE event = 'paid' AND timestamp > now() - INTERVAL 1 MONTH \
         GROUP BY person_id HAVING sum(properties.amount) >= 100",
    );
    let spenders = create(json!({"query": spent}));
    let outer = create(json!({"filters": only(in_cohort(spenders.as_i64().expect("an id")))}));
    until(&spenders, 0);
    pay("ada", json!("39.9"));
    pay("bob", json!(1000));
    until(&spenders, 1);
    until(&outer, 1);
    pay("ada", json!(0.1));
    until(&spenders, 2);
    until(&outer, 2);
}

#[test]
fn filters_and_query_together_are_refused() {
    let project = shop();
    let query = hogql("SELECT id FROM persons");
    let filters = only(person("plan", "exact", "pro"));
    let groups = json!([{"properties": {"plan": "pro"}}]);
    let by_filters = project.cohort(json!({"filters": filters}));
    let dynamic = by_query(&project, query.clone());
    let before = [by_filters, dynamic].map(|id| project.get(&cohort_path(id)).json());
    for (key, criteria) in [("filters", filters), ("groups", groups)] {
        let mut body = json!({"query": query});
        body[key] = criteria;
        assert_detail(&project.post("cohorts/", body.clone()), None, BOTH);
        for id in [by_filters, dynamic] {
            assert_detail(&project.patch(&cohort_path(id), body.clone()), None, BOTH);
        }
    }
    let after = [by_filters, dynamic].map(|id| project.get(&cohort_path(id)).json());
    assert_eq!(before, after);
    assert_eq!(project.get("cohorts/").json()["count"], 2);
}

#[test]
fn a_query_replaces_the_criteria_and_criteria_replace_the_query() {
    let project = shop();
    let seen = only(did("seen", 7));
    let cohort = project.cohort(json!({"name": "A", "filters": seen}));
    project.settle(cohort);
    assert_eq!(project.members(cohort), ["cy"]);
    let query = hogql("SELECT id FROM persons WHERE properties.plan = 'pro'");
    let changed = change(&project, cohort, json!({"query": query}));
    assert_eq!(changed["query"], query);
    assert_eq!(changed["filters"], json!({"properties": {}}));
    assert_eq!(changed["cohort_type"], "analytical");
    project.settle(cohort);
    assert_eq!(project.members(cohort), ["ada", "dan"]);
    // A whole cohort that is sent back stays as it is.
    let shown = project.get(&cohort_path(cohort)).json();
    let sent = project.ask(Method::PUT, &cohort_path(cohort), Some(shown.clone()));
    assert_eq!(sent.status, 200, "{}", sent.text);
    assert_eq!(sent.json()["query"], query);
    let renamed = change(
        &project,
        cohort,
        json!({"name": "B", "filters": {"properties": {}}}),
    );
    assert_eq!((&renamed["query"], &renamed["name"]), (&query, &json!("B")));
    for filters in [
        Value::Null,
        json!({"properties": {"type": "OR", "values": []}}),
    ] {
        let kept = change(&project, cohort, json!({"filters": filters}));
        assert_eq!(kept["query"], query);
        let sent = json!({"query": query, "filters": filters});
        assert_eq!(change(&project, cohort, sent.clone())["query"], query);
        let created = project.post("cohorts/", sent);
        assert_eq!(created.status, 201, "{}", created.text);
    }
    let back = change(&project, cohort, json!({"filters": seen}));
    assert_eq!(back["query"], Value::Null);
    assert_eq!(back["cohort_type"], "realtime");
    project.settle(cohort);
    assert_eq!(project.members(cohort), ["cy"]);
    // The legacy groups are criteria too.
    change(&project, cohort, json!({"query": query}));
    let pro = json!([{"properties": {"plan": "free"}}]);
    let grouped = change(&project, cohort, json!({"groups": pro}));
    assert_eq!(grouped["query"], Value::Null);
    project.settle(cohort);
    assert_eq!(project.members(cohort), ["bob", "cy"]);
}

#[test]
fn a_removed_query_leaves_a_cohort_without_members() {
    let project = shop();
    let cohort = by_query(&project, hogql("SELECT id FROM persons"));
    assert_eq!(project.settle(cohort)["count"], 4);
    let changed = change(&project, cohort, json!({"query": null}));
    assert_eq!(
        (&changed["query"], &changed["cohort_type"]),
        (&Value::Null, &Value::Null)
    );
    assert_eq!(project.settle(cohort)["count"], 0);
}

#[test]
fn each_change_of_the_definition_is_one_activity() {
    let project = shop();
    let filters = only(did("seen", 7));
    let cohort = project.cohort(json!({"filters": filters}));
    let query = hogql("SELECT id FROM persons");
    change(&project, cohort, json!({"query": query}));
    change(&project, cohort, json!({"filters": filters}));
    let log = project.get(&format!("cohorts/{cohort}/activity/")).json();
    assert_eq!(rows(&log).len(), 3, "{log}");
    let changed = |entry: &Value| -> Vec<(String, String)> {
        let changes = rows(&json!({"results": entry["detail"]["changes"]})).to_vec();
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        let changes = changes.iter();
        changes
            .map(|change| (text(&change["field"]), text(&change["action"])))
            .collect()
    };
    let named = |changes: [(&str, &str); 3]| {
        changes.map(|(field, action)| (field.to_owned(), action.to_owned()))
    };
    let to_query = named([
        ("filters", "deleted"),
        ("query", "created"),
        ("cohort_type", "changed"),
    ]);
    let to_filters = named([
        ("filters", "created"),
        ("query", "deleted"),
        ("cohort_type", "changed"),
    ]);
    assert_eq!(changed(&log["results"][0]), to_filters);
    assert_eq!(changed(&log["results"][1]), to_query);
}

#[test]
fn a_cohort_by_query_is_analytical() {
    let project = shop();
    let query = hogql("SELECT id FROM persons");
    let body = json!({"query": query, "cohort_type": "behavioral"});
    let refused = project.post("cohorts/", body);
    assert_invalid(&refused, Some("cohort_type"), "Expected type: 'analytical'");
    let cohort = project.cohort(json!({"query": query, "cohort_type": "analytical"}));
    let outer = json!({"filters": only(in_cohort(cohort)), "cohort_type": "person_property"});
    let refused = project.post("cohorts/", outer);
    assert_invalid(&refused, Some("cohort_type"), "Expected type: 'analytical'");
    project.cohort(json!({"name": "plain", "filters": only(person("plan", "exact", "pro"))}));
    project.cohort(json!({"name": "outer", "filters": only(in_cohort(cohort))}));
    assert_eq!(
        cohort_names(&project, "hide_behavioral_cohorts=true"),
        ["plain"]
    );
}

#[test]
fn filters_and_queries_refer_to_dynamic_cohorts_by_query() {
    let project = shop();
    let payers = by_query(
        &project,
        hogql(
            "SELECT person_id FROM events GROUP BY person_id HAVING sum(properties.amount) >= 50",
        ),
    );
    let by_filter = project.cohort(json!({"filters": any_of(json!([in_cohort(payers)]))}));
    let copy = by_query(&project, hogql(&members_of(by_filter)));
    let others = by_query(
        &project,
        hogql(&format!(
            "SELECT id FROM persons WHERE id NOT IN COHORT {copy}"
        )),
    );
    let fixed = project.cohort(json!({"is_static": true, "query": hogql(&members_of(copy))}));
    project.settle(others);
    for cohort in [payers, by_filter, copy, fixed] {
        assert_eq!(project.members(cohort), ["ada", "bob"], "{cohort}");
    }
    assert_eq!(project.members(others), ["cy", "dan"]);
    // An edit of the innermost cohort reaches all dynamic cohorts.
    let pros = hogql("SELECT id FROM persons WHERE properties.plan = 'pro'");
    change(&project, payers, json!({"query": pros}));
    project.settle(others);
    assert_eq!(project.members(copy), ["ada", "dan"]);
    assert_eq!(project.members(others), ["bob", "cy"]);
    assert_eq!(project.members(fixed), ["ada", "bob"]);
}

#[test]
fn a_loop_through_queries_is_refused() {
    let project = shop();
    let a = by_query(&project, hogql("SELECT id FROM persons"));
    let b = project.cohort(json!({"filters": only(in_cohort(a))}));
    let c = by_query(
        &project,
        hogql(&format!("SELECT id FROM persons WHERE id IN COHORT {b}")),
    );
    let before = project.get(&cohort_path(a)).json();
    for id in [a, b, c] {
        let query = hogql(&members_of(id));
        let answer = project.patch(&cohort_path(a), json!({"query": query}));
        assert_detail(&answer, None, LOOP);
    }
    let actors = json!({"kind": "ActorsQuery", "properties": [in_cohort(c)]});
    let answer = project.patch(&cohort_path(a), json!({"query": actors}));
    assert_detail(&answer, None, LOOP);
    let answer = project.patch(&cohort_path(a), json!({"filters": only(in_cohort(c))}));
    assert_detail(&answer, None, LOOP);
    assert_eq!(project.get(&cohort_path(a)).json(), before);
    // A static cohort that becomes dynamic with its query can close a loop too.
    let list = project.cohort(json!({"is_static": true, "query": hogql(&members_of(c))}));
    change(&project, a, json!({"filters": only(in_cohort(list))}));
    let answer = project.patch(&cohort_path(list), json!({"is_static": false}));
    assert_detail(&answer, None, LOOP);
    // The query of a static cohort closes none, because it is evaluated once.
    change(&project, list, json!({"query": hogql(&members_of(a))}));
}

#[test]
fn a_cohort_that_a_query_refers_to_cannot_be_deleted() {
    let project = shop();
    let inner = project.cohort(json!({"filters": only(did("seen", 7))}));
    let outer = by_query(&project, hogql(&members_of(inner)));
    project.cohort(json!({"is_static": true, "query": hogql(&members_of(inner))}));
    let used = project.get(&format!("cohorts/{inner}/used_in")).json();
    assert_eq!(used["cohorts"]["total"], 1, "{used}");
    assert_eq!(used["cohorts"]["results"][0]["id"], outer, "{used}");
    let answer = project.patch(&cohort_path(inner), json!({"deleted": true}));
    let detail = "This cohort is used as criteria in 1 other cohort(s): Q. Remove it from their criteria first.";
    assert_detail(&answer, None, detail);
    change(
        &project,
        outer,
        json!({"query": hogql("SELECT id FROM persons")}),
    );
    change(&project, inner, json!({"deleted": true}));
    let missing = by_query(&project, hogql(&members_of(inner)));
    let failed = project.settle(missing);
    assert_eq!(
        (&failed["errors_calculating"], &failed["count"]),
        (&json!(0), &json!(1))
    );
}

#[test]
fn a_reference_to_a_query_that_fails_names_the_path() {
    let project = shop();
    let broken = project
        .cohort(json!({"filters": any_of(json!([person("plan", "between", json!([5, 1]))]))}));
    let middle = by_query(&project, hogql(&members_of(broken)));
    let outer = project.cohort(json!({"filters": only(in_cohort(middle))}));
    let failed = project.settle(outer);
    let message = failed["last_error_message"].as_str().expect("a message");
    let path = format!("cohort {middle} → query → cohort {broken} → properties.values[0]: ");
    assert!(message.contains(&path), "{message}");
}

#[test]
fn a_cohort_by_query_is_copied_and_changes_its_kind() {
    let project = shop();
    let query = hogql("SELECT person_id FROM events WHERE event = 'paid'");
    let cohort = by_query(&project, query.clone());
    project.settle(cohort);
    let path = format!("cohorts/{cohort}/duplicate_as_static_cohort/");
    let copy = project.get(&path).json();
    assert_eq!(
        (&copy["is_static"], &copy["query"]),
        (&json!(true), &Value::Null)
    );
    let copy = copy["id"].as_i64().expect("an id");
    assert_eq!(project.members(copy), ["ada", "bob"]);
    // It keeps its members as a static cohort until the query is sent again.
    change(&project, cohort, json!({"is_static": true}));
    project.capture(json!([{"event": "paid", "distinct_id": "cy"}]));
    project.settle(cohort);
    assert_eq!(project.members(cohort), ["ada", "bob"]);
    change(&project, cohort, json!({"query": query}));
    assert_eq!(project.settle(cohort)["count"], 3);
    // As a dynamic cohort it follows its query again.
    let dynamic = change(&project, cohort, json!({"is_static": false}));
    assert_eq!(dynamic["cohort_type"], "analytical");
    project.capture(json!([{"event": "paid", "distinct_id": "dan"}]));
    change(&project, cohort, json!({"name": "Again"}));
    assert_eq!(project.settle(cohort)["count"], 4);
}

#[test]
fn a_deleted_cohort_by_query_is_calculated_after_its_restore() {
    let project = shop();
    let cohort = by_query(&project, hogql("SELECT id FROM persons"));
    let deleted = change(&project, cohort, json!({"deleted": true}));
    assert_eq!(deleted["is_calculating"], false);
    let restored = change(&project, cohort, json!({"deleted": false}));
    assert_eq!(restored["is_calculating"], true);
    assert_eq!(project.settle(cohort)["count"], 4);
}

#[test]
fn an_invalid_query_of_a_dynamic_cohort_is_refused() {
    let project = shop();
    let limit = hogql("SELECT id FROM persons LIMIT 5");
    let detail = "query: LIMIT is not supported in the query of a cohort";
    assert_invalid(
        &project.post("cohorts/", json!({"query": limit})),
        Some("query"),
        detail,
    );
    let unknown = json!({"query": hogql(&members_of(999_999_999))});
    let detail = "query: there is no cohort 999999999 in this project";
    assert_invalid(&project.post("cohorts/", unknown), Some("query"), detail);
    assert_eq!(project.get("cohorts/").json()["count"], 0);
}
