//! Calculations: members, versions, failures, history.

use serde_json::{Value, json};

use crate::harness::{Project, any_of, cohort_path, did, id_of, only, person, rows};

/// A cohort with one calculation, which failed.
fn failing_cohort(project: &Project) -> i64 {
    let filters = only(person("plan", "sounds_like", "pro"));
    let id = project.cohort(json!({"filters": filters}));
    assert_eq!(project.settle(id)["errors_calculating"], 1);
    id
}

/// Asserts that the error message asks for a review of the criteria.
fn assert_asks_for_review(cohort: &Value) {
    let message = cohort["last_error_message"].as_str().expect("a message");
    assert!(message.to_lowercase().contains("review"), "{message}");
}

/// The number of started calculations of a cohort.
fn calculations(project: &Project, cohort: i64) -> Value {
    let page = project.get(&format!("cohorts/{cohort}/calculation_history"));
    assert_eq!(page.status, 200, "{}", page.text);
    page.json()["count"].clone()
}

fn refers_to(cohort: i64) -> Value {
    any_of(json!([{"type": "cohort", "key": "id", "value": cohort}]))
}

/// Conformance case 6.
#[test]
fn members_match_the_property_or_the_recent_event() {
    let project = Project::new();
    project.persons([
        ("red", json!({"team": "red"})),
        ("blue", json!({"team": "blue"})),
        ("late", json!({})),
    ]);
    let opened = |id: &str, hours: i64| {
        let time = chrono::Utc::now() - chrono::TimeDelta::hours(hours);
        json!({"event": "open", "distinct_id": id, "timestamp": time.to_rfc3339()})
    };
    project.capture(json!([opened("blue", 12), opened("late", 12 * 24)]));
    let filters = any_of(json!([person("team", "exact", "red"), did("open", 1)]));
    let cohort = project.post("cohorts/", json!({"filters": filters}));
    let id = id_of(&cohort);
    assert_eq!(project.settle(id)["is_calculating"], false);
    assert_eq!(project.members(id), ["blue", "red"]);
}

#[test]
fn calculation_sets_count_version_and_time() {
    let project = Project::new();
    let ago = |hours: i64| (chrono::Utc::now() - chrono::TimeDelta::hours(hours)).to_rfc3339();
    project.persons([
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
fn members_stay_until_the_new_calculation_ends() {
    let project = Project::new();
    project.persons([
        ("ann", json!({"plan": "pro"})),
        ("bob", json!({"plan": "free"})),
    ]);
    let plan = |plan: &str| any_of(json!([person("plan", "exact", plan)]));
    let id = project.cohort(json!({"filters": plan("pro")}));
    project.settle(id);
    let patched = project
        .patch(&format!("cohorts/{id}/"), json!({"filters": plan("free")}))
        .json();
    // The old members stay until the new calculation ends.
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
fn members_follow_the_data() {
    let project = Project::new();
    project.persons([
        ("ann", json!({"plan": "pro"})),
        ("bob", json!({"plan": "free"})),
    ]);
    let id = project.cohort(json!({"filters": any_of(json!([person("plan", "exact", "pro")]))}));
    project.settle(id);
    project.persons([
        ("ann", json!({"plan": "free"})),
        ("bob", json!({"plan": "pro"})),
        ("cid", json!({"plan": "pro"})),
    ]);
    project.patch(&format!("cohorts/{id}/"), json!({}));
    assert_eq!(project.settle(id)["count"], 2);
    assert_eq!(project.members(id), ["bob", "cid"]);
    project.persons([
        ("bob", json!({"plan": "free"})),
        ("cid", json!({"plan": "free"})),
    ]);
    project.patch(&format!("cohorts/{id}/"), json!({}));
    assert_eq!(project.settle(id)["count"], 0);
    assert_eq!(project.members(id), Vec::<String>::new());
}

#[test]
fn cohort_larger_than_one_chunk_has_all_members() {
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
fn dependent_cohort_is_calculated_with_its_reference() {
    let project = Project::new();
    project.persons([
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
fn calculation_includes_references_and_dependents() {
    let project = Project::new();
    let pro = any_of(json!([person("plan", "exact", "pro")]));
    let bottom = project.cohort(json!({"filters": pro}));
    let listed = project.cohort(json!({"is_static": true}));
    let middle = project.cohort(json!({"filters": refers_to(bottom)}));
    let top = project.cohort(json!({"filters": refers_to(middle)}));
    let other = project.cohort(json!({"filters": pro}));
    project.settle(top);
    project.persons([("ann", json!({"plan": "pro"}))]);
    let states = || {
        [bottom, middle, top, other, listed].map(|id| {
            let cohort = project.get(&format!("cohorts/{id}/")).json();
            (cohort["count"].clone(), cohort["pending_version"].as_i64())
        })
    };
    let before = states();
    project.patch(&format!("cohorts/{middle}/"), json!({"name": "go"}));
    project.settle(middle);
    let after = states();
    for (before, after) in before[..3].iter().zip(&after[..3]) {
        assert_eq!(after, &(json!(1), before.1.map(|version| version + 1)));
    }
    assert_eq!(before[3..], after[3..]);
}

/// Conformance case 107.
#[test]
fn only_live_dynamic_cohorts_are_calculated_once_per_request() {
    let project = Project::new();
    let live = project.cohort(json!({"filters": only(did("open", 1))}));
    let deleted = project.cohort(json!({"deleted": true, "filters": only(did("open", 1))}));
    let fixed = project.cohort(json!({"is_static": true}));
    for _ in 0..2 {
        // The second round has no pending request.
        let settled = project.settle(live);
        assert_eq!(
            (&settled["version"], &settled["is_calculating"]),
            (&json!(1), &json!(false))
        );
        for (id, count) in [(live, 1), (deleted, 0), (fixed, 0)] {
            assert_eq!(calculations(&project, id), count);
        }
    }
}

#[test]
fn failed_calculation_keeps_the_members_and_reports_the_error() {
    let project = Project::new();
    project.persons([("ann", json!({"plan": "pro"}))]);
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
fn error_of_a_cohort_is_one_short_line() {
    let project = Project::new();
    let operator = format!(
        "a\r\n2026-01-01 ERROR forged\u{1b}[2J{}",
        "b".repeat(3) + &"\u{1b}".repeat(300)
    );
    let id = project.cohort(json!({"filters": any_of(json!([person("plan", &operator, "pro")]))}));
    let failed = project.settle(id);
    let listed = project.get("cohorts/").json();
    let history = project
        .get(&format!("cohorts/{id}/calculation_history"))
        .json();
    for message in [
        &failed["last_error_message"],
        &listed["results"][0]["last_error_message"],
        &history["results"][0]["error"],
    ] {
        let message = message.as_str().expect("a message");
        assert!(
            message.contains(r"a\r\n2026-01-01 ERROR forged\u{1b}[2Jbbb"),
            "{message}"
        );
        assert!(!message.contains(char::is_control), "{message}");
        assert!(message.chars().count() < 600, "{message}");
        assert!(message.ends_with('…'), "{message}");
    }
}

#[test]
fn failing_cohort_does_not_block_others() {
    let project = Project::new();
    project.persons([("ann", json!({"plan": "pro"}))]);
    let negative = json!({"properties": {"type": "AND", "values": [{"type": "person", "key": "plan", "operator": "is_set", "negation": true}]}});
    let bad = project.cohort(json!({"filters": negative}));
    let good = project.cohort(json!({"filters": any_of(json!([person("plan", "is_set", "")]))}));
    assert_eq!(project.settle(good)["count"], 1);
    assert_eq!(project.settle(bad)["errors_calculating"], 1);
}

/// Conformance case 104.
#[test]
fn failed_cohort_has_an_error_message() {
    let project = Project::new();
    let id = failing_cohort(&project);
    assert_asks_for_review(&project.get(&cohort_path(id)).json());
    let good = project.cohort(json!({"filters": only(did("open", 1))}));
    assert_eq!(project.settle(good)["last_error_message"], Value::Null);
}

/// Conformance case 105.
#[test]
fn list_rows_have_error_messages() {
    let project = Project::new();
    let good = project.cohort(json!({"filters": only(did("open", 1))}));
    let bad = failing_cohort(&project);
    let page = project.get("cohorts/").json();
    let ids: Vec<&Value> = rows(&page).iter().map(|row| &row["id"]).collect();
    assert_eq!(ids, [&json!(bad), &json!(good)]);
    assert_asks_for_review(&rows(&page)[0]);
    assert_eq!(rows(&page)[1]["last_error_message"], Value::Null);
}

/// Conformance case 106.
#[test]
fn calculation_history_is_paged_newest_first() {
    let project = Project::new();
    let id = project.cohort(json!({"filters": only(did("first", 1))}));
    project.settle(id);
    for event in ["second", "third"] {
        project.patch(&cohort_path(id), json!({"filters": only(did(event, 1))}));
        project.settle(id);
    }
    let page = project.get(&format!("cohorts/{id}/calculation_history?limit=2"));
    let page = page.json();
    assert_eq!(
        (&page["count"], &page["next"], &page["previous"]),
        (&json!(3), &json!("?limit=2&offset=2"), &Value::Null)
    );
    let key = |row: &Value| row["filters"]["properties"]["values"][0]["key"].clone();
    let keys: Vec<Value> = rows(&page).iter().map(key).collect();
    assert_eq!(keys, ["third", "second"]);
}

#[test]
fn calculation_history_has_successes_and_failures() {
    let project = Project::new();
    let id = project.cohort(json!({"filters": any_of(json!([did("x", 1)]))}));
    let path = format!("cohorts/{id}/");
    project.settle(id);
    project.patch(&path, json!({"filters": any_of(json!([{"type": "behavioral", "key": "x", "value": "dreamt", "event_type": "events"}]))}));
    project.settle(id);
    project.patch(&path, json!({"filters": any_of(json!([did("y", 1)]))}));
    project.settle(id);
    let page = project
        .get(&format!("cohorts/{id}/calculation_history?limit=2"))
        .json();
    assert_eq!(
        (&page["count"], &page["next"], &page["previous"]),
        (&json!(3), &json!("?limit=2&offset=2"), &Value::Null)
    );
    let rows = page["results"].as_array().expect("rows");
    assert_eq!(
        (&rows[0]["is_successful"], &rows[0]["count"]),
        (&json!(true), &json!(0))
    );
    assert_eq!(
        (&rows[1]["is_completed"], &rows[1]["is_successful"]),
        (&json!(true), &json!(false))
    );
    assert!(
        rows[1]["error"]
            .as_str()
            .is_some_and(|error| error.contains("dreamt")),
        "{}",
        rows[1]
    );
    assert_eq!(rows[0]["filters"]["properties"]["values"][0]["key"], "y");
    let last = project
        .get(&format!(
            "cohorts/{id}/calculation_history?limit=2&offset=2"
        ))
        .json();
    assert_eq!(
        (&last["next"], &last["previous"]),
        (&Value::Null, &json!("?limit=2&offset=0"))
    );
}
