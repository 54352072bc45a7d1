//! How a cohort gets its members.

use std::sync::atomic::{AtomicI64, Ordering};

use serde_json::{Value, json};

use crate::harness::{Project, any_of, did, person};

#[test]
fn members_are_those_who_meet_the_criteria() {
    let project = Project::new();
    let ago = |hours: i64| (chrono::Utc::now() - chrono::TimeDelta::hours(hours)).to_rfc3339();
    project.people([
        ("ann", json!({"team": "red"})),
        ("bob", json!({"team": "blue"})),
        ("cid", json!({})),
    ]);
    project.capture(json!([
        {"event": "open", "distinct_id": "bob", "timestamp": ago(12)},
        {"event": "open", "distinct_id": "cid", "timestamp": ago(12 * 24)},
    ]));
    let id = project.cohort(
        json!({"filters": any_of(json!([person("team", "exact", "red"), did("open", 1)]))}),
    );
    let settled = project.settle(id);
    assert_eq!(project.members(id), ["ann", "bob"]);
    assert_eq!(
        (
            &settled["count"],
            &settled["version"],
            &settled["is_calculating"]
        ),
        (&json!(2), &json!(1), &json!(false))
    );
    assert_ne!(settled["last_calculation"], Value::Null);
}

#[test]
fn each_request_is_answered_by_the_criteria_of_its_time() {
    let project = Project::new();
    project.people([
        ("ann", json!({"plan": "pro"})),
        ("bob", json!({"plan": "free"})),
    ]);
    let plan = |plan: &str| any_of(json!([person("plan", "exact", plan)]));
    let id = project.cohort(json!({"filters": plan("pro")}));
    project.settle(id);
    let patched = project
        .patch(&format!("cohorts/{id}/"), json!({"filters": plan("free")}))
        .json();
    // Until the new calculation has ended, the former members stand.
    assert_eq!(
        (
            &patched["count"],
            &patched["version"],
            &patched["pending_version"]
        ),
        (&json!(1), &json!(1), &json!(2))
    );
    assert_eq!(project.members(id), ["ann"]);
    project.settle(id);
    assert_eq!(project.members(id), ["bob"]);
}

#[test]
fn members_leave_and_come_with_the_data() {
    let project = Project::new();
    project.people([
        ("ann", json!({"plan": "pro"})),
        ("bob", json!({"plan": "free"})),
    ]);
    let id = project.cohort(json!({"filters": any_of(json!([person("plan", "exact", "pro")]))}));
    project.settle(id);
    project.people([
        ("ann", json!({"plan": "free"})),
        ("bob", json!({"plan": "pro"})),
        ("cid", json!({"plan": "pro"})),
    ]);
    project.patch(&format!("cohorts/{id}/"), json!({}));
    assert_eq!(project.settle(id)["count"], 2);
    assert_eq!(project.members(id), ["bob", "cid"]);
    project.people([
        ("bob", json!({"plan": "free"})),
        ("cid", json!({"plan": "free"})),
    ]);
    project.patch(&format!("cohorts/{id}/"), json!({}));
    assert_eq!(project.settle(id)["count"], 0);
    assert_eq!(project.members(id), Vec::<String>::new());
}

#[test]
fn a_failed_calculation_keeps_the_members_and_says_why() {
    let project = Project::new();
    project.people([("ann", json!({"plan": "pro"}))]);
    let id = project.cohort(json!({"filters": any_of(json!([person("plan", "exact", "pro")]))}));
    project.settle(id);
    let path = format!("cohorts/{id}/");
    let bad = any_of(json!([person("plan", "sounds_like", "pro")]));
    project.patch(&path, json!({"filters": bad}));
    let failed = project.settle(id);
    assert_eq!(
        (&failed["errors_calculating"], &failed["is_calculating"]),
        (&json!(1), &json!(false))
    );
    assert_eq!(
        (&failed["count"], &failed["version"]),
        (&json!(1), &json!(1))
    );
    let why = failed["last_error_message"].as_str().expect("a message");
    assert!(
        why.contains("properties.values[0]: unknown operator 'sounds_like'"),
        "{why}"
    );
    assert_eq!(project.members(id), ["ann"]);

    let good = any_of(json!([person("plan", "exact", "pro")]));
    project.patch(&path, json!({"filters": good}));
    let mended = project.settle(id);
    assert_eq!(
        (&mended["errors_calculating"], &mended["version"]),
        (&json!(0), &json!(3))
    );
    let listed = project.get("cohorts/").json();
    assert_eq!(listed["results"][0]["last_error_message"], why);
}

#[test]
fn one_cohort_that_fails_does_not_keep_others_from_theirs() {
    let project = Project::new();
    project.people([("ann", json!({"plan": "pro"}))]);
    let negative = json!({"properties": {"type": "AND", "values": [{"type": "person", "key": "plan", "operator": "is_set", "negation": true}]}});
    let bad = project.cohort(json!({"filters": negative}));
    let good = project.cohort(json!({"filters": any_of(json!([person("plan", "is_set", "")]))}));
    assert_eq!(project.settle(good)["count"], 1);
    assert_eq!(project.settle(bad)["errors_calculating"], 1);
}

#[test]
fn a_cohort_may_build_on_others_that_are_calculated_later() {
    let project = Project::new();
    project.people([
        ("ann", json!({"plan": "pro", "age": 30})),
        ("bob", json!({"plan": "pro", "age": 20})),
    ]);
    let below = project.cohort(json!({"filters": any_of(json!([person("age", "gt", 25)]))}));
    let above = project.cohort(json!({"filters": {"properties": {"type": "AND", "values": [
        person("plan", "exact", "pro"), {"type": "cohort", "key": "id", "value": below, "negation": true},
    ]}}}));
    project.settle(above);
    assert_eq!(project.members(above), ["bob"]);
}

#[test]
fn a_preview_stores_nothing_and_stands_for_its_instant() {
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
fn a_preview_shows_people_only_to_who_may_see_them() {
    let project = Project::new();
    let reader = project.key_with(&["cohort:read"]);
    let ask = |sample: i64| {
        let body = json!({"filters": any_of(json!([did("x", 1)])), "sample": sample});
        let asked =
            crate::harness::request(reqwest::Method::POST, &project.path("cohorts/preview/"));
        crate::harness::send(
            &reqwest::Method::POST,
            asked.bearer_auth(&reader).json(&body),
        )
    };
    assert_eq!(ask(0).status, 200);
    let refused = ask(1);
    refused.is_error(403, "permission_denied", None);
    assert_eq!(
        refused.detail(),
        "API key missing required scope 'person:read'"
    );
    ask(101).is_error(400, "max_value", Some("sample"));
}

#[test]
fn a_preview_says_what_cannot_be_calculated() {
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
fn more_people_than_one_chunk_holds_are_all_members() {
    let project = Project::new();
    for start in (0..70_000).step_by(10_000) {
        let events = (start..start + 10_000)
            .map(|number| json!({"event": "x", "distinct_id": format!("p{number}")}));
        project.capture(events.collect());
    }
    let id = project.cohort(json!({"filters": any_of(json!([did("x", 1)]))}));
    assert_eq!(project.settle(id)["count"], 70_000);
    let last = project
        .get(&format!("cohorts/{id}/persons/?offset=69995"))
        .json();
    assert_eq!(last["results"].as_array().map(Vec::len), Some(5));
}

#[test]
fn a_preview_tells_what_each_criterion_contributes() {
    let project = Project::new();
    project.people([
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

/// What is kept in memory is neither behind the log nor ahead of it, whoever writes and asks at the same time.
#[test]
fn an_answer_knows_of_all_that_was_acknowledged_before_it_and_of_nothing_that_was_not_sent() {
    const WRITERS: i64 = 3;
    const EACH: i64 = 40;
    let project = Project::new();
    let (sent, kept) = (AtomicI64::new(0), AtomicI64::new(0));
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
            let (project, sent, kept) = (&project, &sent, &kept);
            scope.spawn(move || {
                for nth in 0..EACH {
                    sent.fetch_add(1, Ordering::SeqCst);
                    project.capture(
                        json!([{"event": "seen", "distinct_id": format!("p{writer} {nth}"),
                        "properties": {"$set": {"plan": "pro"}}}]),
                    );
                    kept.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        for leaf in &criteria {
            let (count, sent, kept) = (&count, &sent, &kept);
            scope.spawn(move || {
                let mut last = 0;
                while last < WRITERS * EACH {
                    let before = kept.load(Ordering::SeqCst);
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
