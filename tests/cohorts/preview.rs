//! Previews: an evaluation that stores nothing.

use std::sync::atomic::{AtomicI64, Ordering};

use serde_json::{Value, json};

use crate::harness::{Project, any_of, did, first_ids, person};

#[test]
fn preview_is_evaluated_at_as_of_and_stores_nothing() {
    let project = Project::in_zone("Europe/Berlin");
    project.capture(
        json!([{"event": "open", "distinct_id": "ann", "timestamp": "2026-02-20T12:00:00Z"}]),
    );
    let preview = |as_of: &str| {
        let body = json!({"filters": any_of(json!([did("open", 7)])), "as_of": as_of, "sample": 1});
        project.post("cohorts/preview/", body).json()
    };
    assert_eq!(preview("2026-02-25T12:00:00Z")["count"], 1);
    let later = preview("2026-03-25T12:00:00Z");
    assert_eq!(
        (&later["count"], &later["sample"], &later["as_of"]),
        (&json!(0), &json!([]), &json!("2026-03-25T12:00:00Z"))
    );
    assert_eq!(project.get("cohorts/").json()["count"], 0);
}

#[test]
fn preview_requires_person_read() {
    let project = Project::new();
    let reader = project.key_with(&["cohort:read"]);
    let both = project.key_with(&["cohort:read", "person:read"]);
    let ask = |key: &str, sample: i64| {
        let body = json!({"filters": any_of(json!([did("x", 1)])), "sample": sample});
        let call =
            crate::harness::request(reqwest::Method::POST, &project.path("cohorts/preview/"));
        crate::harness::send(&reqwest::Method::POST, call.bearer_auth(key).json(&body))
    };
    for sample in [0, 1] {
        let refused = ask(&reader, sample);
        refused.is_error(403, "permission_denied", None);
        assert_eq!(
            refused.detail(),
            "API key missing required scope 'person:read'"
        );
    }
    assert_eq!(ask(&both, 1).status, 200);
    ask(&both, 101).is_error(400, "max_value", Some("sample"));
}

#[test]
fn preview_reports_criteria_that_cannot_be_calculated() {
    let project = Project::new();
    let body = json!({"filters": any_of(json!([person("plan", "sounds_like", "pro")]))});
    let detail = project
        .post("cohorts/preview/", body)
        .is_error(400, "invalid_input", Some("filters"))
        .detail();
    assert_eq!(
        detail,
        "properties.values[0]: unknown operator 'sounds_like'"
    );
}

#[test]
fn preview_counts_each_criterion() {
    let project = Project::new();
    project.persons([
        ("a", json!({"plan": "pro"})),
        ("b", json!({"plan": "pro"})),
        ("c", json!({"plan": "free"})),
    ]);
    project.capture(
        json!([{"event": "open", "distinct_id": "a"}, {"event": "open", "distinct_id": "c"}]),
    );
    let mut opened = did("open", 1);
    opened["negation"] = json!(true);
    let pro = person("plan", "exact", "pro");
    let free = person("plan", "exact", "free");
    let all = json!({"properties": {"type": "AND", "values": [pro, {"type": "AND", "values": [opened, {"type": "OR", "values": [free, pro]}]}]}});
    let preview = project
        .post("cohorts/preview/", json!({"filters": all}))
        .json();
    assert_eq!(preview["count"], 1);
    let expected = json!([
        {"path": "properties.values[0]", "count": 2},
        {"path": "properties.values[1].values[0]", "count": 1},
        {"path": "properties.values[1].values[1].values[0]", "count": 1},
        {"path": "properties.values[1].values[1].values[1]", "count": 2},
    ]);
    assert_eq!(preview["criteria"], expected);
}

/// The in-memory index is neither behind the event log nor ahead of it while writers and readers run concurrently.
#[test]
fn preview_includes_acknowledged_events_and_excludes_unsent_ones() {
    const WRITERS: i64 = 3;
    const EACH: i64 = 40;
    let project = Project::new();
    let (sent, acknowledged) = (AtomicI64::new(0), AtomicI64::new(0));
    let criteria = [did("seen", 7), person("plan", "exact", "pro")];
    let count = |leaf: &Value| {
        let answer = project.post(
            "cohorts/preview/",
            json!({"filters": any_of(json!([leaf]))}),
        );
        answer.json()["count"].as_i64().expect("a count")
    };
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (project, sent, acknowledged) = (&project, &sent, &acknowledged);
            scope.spawn(move || {
                for nth in 0..EACH {
                    sent.fetch_add(1, Ordering::SeqCst);
                    project.capture(
                        json!([{"event": "seen", "distinct_id": format!("p{writer} {nth}"),
                        "properties": {"$set": {"plan": "pro"}}}]),
                    );
                    acknowledged.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        for leaf in &criteria {
            let (count, sent, acknowledged) = (&count, &sent, &acknowledged);
            scope.spawn(move || {
                let mut last = 0;
                while last < WRITERS * EACH {
                    let before = acknowledged.load(Ordering::SeqCst);
                    last = count(leaf);
                    let after = sent.load(Ordering::SeqCst);
                    assert!(
                        (before..=after).contains(&last),
                        "{before} <= {last} <= {after}"
                    );
                }
            });
        }
    });
    for leaf in &criteria {
        assert_eq!(count(leaf), WRITERS * EACH);
    }
}

fn hogql(text: &str) -> Value {
    json!({"kind": "HogQLQuery", "query": text})
}

#[test]
fn a_query_is_evaluated_as_that_of_a_dynamic_cohort() {
    let project = Project::new();
    project.persons([
        ("a", json!({"plan": "pro"})),
        ("b", json!({"plan": "free"})),
    ]);
    project.capture(
        json!([{"event": "paid", "distinct_id": "a", "timestamp": "2026-02-20T12:00:00Z"}]),
    );
    let paid = hogql(
        "select person_id from events where event = 'paid' group by person_id having count() >= 1",
    );
    let actors = json!({"kind": "ActorsQuery", "properties": [
        person("plan", "exact", "pro"), person("plan", "is_set", "")]});
    for query in [paid, actors] {
        let body = json!({"query": query, "sample": 2});
        let preview = project.post("cohorts/preview/", body).json();
        assert_eq!(preview["count"], 1, "{preview}");
        let whole = json!([{"path": "query", "count": 1}]);
        assert_eq!(preview["criteria"], whole, "one entry for the query");
        assert_eq!(first_ids(&preview["sample"]), ["a"]);
        let cohort = project.cohort(json!({"query": query}));
        assert_eq!(project.settle(cohort)["count"], 1);
    }
    assert_eq!(project.get("cohorts/").json()["count"], 2);
}

#[test]
fn the_instants_of_a_query_are_those_of_as_of() {
    let project = Project::new();
    project.capture(
        json!([{"event": "open", "distinct_id": "ann", "timestamp": "2026-02-20T12:00:00Z"}]),
    );
    let week = hogql(
        "select person_id from events where event = 'open' and timestamp > now() - interval 7 day",
    );
    let count = |as_of: &str| {
        let body = json!({"query": week, "as_of": as_of});
        project.post("cohorts/preview/", body).json()["count"].clone()
    };
    assert_eq!(count("2026-02-25T12:00:00Z"), 1);
    assert_eq!(count("2026-03-25T12:00:00Z"), 0);
}

#[test]
fn a_query_that_cannot_be_calculated_is_refused_with_the_place() {
    let project = Project::new();
    let query_error = |query: Value| {
        let answer = project.post("cohorts/preview/", json!({"query": query}));
        let detail = answer
            .is_error(400, "invalid_input", Some("query"))
            .detail();
        let creation = project.post("cohorts/", json!({"query": query}));
        assert_eq!(
            creation
                .is_error(400, "invalid_input", Some("query"))
                .detail(),
            detail
        );
        detail
    };
    let syntax = query_error(hogql("select person_id\nfrom events where"));
    assert!(syntax.starts_with("query: "), "{syntax}");
    let construct = query_error(hogql("select person_id from events limit 5"));
    assert!(construct.contains("LIMIT"), "{construct}");
    let cohort = query_error(hogql(
        "select person_id from cohort_people where cohort_id = 999999999",
    ));
    assert_eq!(
        cohort,
        "query: there is no cohort 999999999 in this project"
    );
    assert_eq!(
        query_error(json!({"kind": "EventsQuery"})),
        "Query must be an ActorsQuery or HogQLQuery. Got: EventsQuery"
    );
    query_error(json!([]));
}

#[test]
fn filters_or_a_query_are_required_and_not_both() {
    let project = Project::new();
    let query = hogql("select person_id from events where event = 'paid'");
    let filters = any_of(json!([did("x", 1)]));
    let both = project.post(
        "cohorts/preview/",
        json!({"filters": filters, "query": query}),
    );
    let detail = both.is_error(400, "invalid_input", None).detail();
    assert_eq!(
        detail,
        "Cannot set both query and filters at the same time."
    );
    for body in [json!({}), json!({"filters": null, "query": null})] {
        let refused = project.post("cohorts/preview/", body);
        refused.is_error(400, "required", Some("filters"));
    }
    for filters in [json!(null), json!({}), any_of(json!([]))] {
        let body = json!({"filters": filters, "query": query});
        assert_eq!(project.post("cohorts/preview/", body).status, 200);
    }
}

#[test]
fn drafts_and_cohorts_by_query_are_compared() {
    let project = Project::new();
    project.persons([
        ("a", json!({"plan": "pro"})),
        ("b", json!({"plan": "pro"})),
        ("c", json!({})),
    ]);
    project.capture(
        json!([{"event": "paid", "distinct_id": "a"}, {"event": "paid", "distinct_id": "c"}]),
    );
    let paid = hogql("select person_id from events where event = 'paid'");
    let pros = any_of(json!([person("plan", "exact", "pro")]));
    let by_query = project.cohort(json!({"query": paid}));
    let by_filters = project.cohort(json!({"filters": pros}));
    for body in [
        json!({"filters": pros, "compare_to": by_query, "sample": 5}),
        json!({"query": {"kind": "ActorsQuery", "properties": [person("plan", "exact", "pro")]},
            "compare_to": by_query, "sample": 5}),
    ] {
        let preview = project.post("cohorts/preview/", body).json();
        let counts = json!({"entering": 1, "leaving": 1, "staying": 1});
        assert_eq!(preview["compared"], counts, "{preview}");
        assert_eq!(first_ids(&preview["entering_sample"]), ["b"]);
        assert_eq!(first_ids(&preview["leaving_sample"]), ["c"]);
    }
    let body = json!({"query": paid, "compare_to": by_filters});
    let preview = project.post("cohorts/preview/", body).json();
    assert_eq!(
        preview["compared"],
        json!({"entering": 1, "leaving": 1, "staying": 1})
    );
}
