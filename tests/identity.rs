//! Who is one and the same person, and what an event's identity is.

use chrono::{TimeDelta, Utc};
use reqwest::Method;
use serde_json::{Value, json};

use cohorts_server::EventRetention;

use crate::harness::{Project, any_of, did, person, request, send, server};

fn identify(id: &str, other: &str) -> Value {
    json!({"event": "$identify", "distinct_id": id, "properties": {"$anon_distinct_id": other}})
}

fn alias(id: &str, other: &str) -> Value {
    json!({"event": "$create_alias", "distinct_id": id, "properties": {"alias": other}})
}

fn force(id: &str, other: &str) -> Value {
    json!({"event": "$merge_dangerously", "distinct_id": id, "properties": {"alias": other}})
}

fn set(id: &str, properties: Value) -> Value {
    json!({"event": "$set", "distinct_id": id, "properties": {"$set": properties}})
}

fn plain(event: &str, id: &str) -> Value {
    json!({"event": event, "distinct_id": id})
}

/// The person with that distinct id, as the API shows them.
fn shown(project: &Project, id: &str) -> Option<Value> {
    let page = project.get(&format!("persons/?distinct_id={id}")).json();
    page["results"].as_array().expect("people").first().cloned()
}

fn count(project: &Project, leaves: Value) -> i64 {
    let preview = project.post("cohorts/preview/", json!({"filters": any_of(leaves)}));
    preview.json()["count"].as_i64().expect("a count")
}

fn everybody(project: &Project) -> usize {
    let page = project.get("persons/").json();
    page["results"].as_array().expect("people").len()
}

fn metric(name: &str) -> u64 {
    let metrics = send(&Method::GET, request(Method::GET, "/metrics")).text;
    let value = metrics.lines().find_map(|line| line.strip_prefix(name));
    value.map_or(0, |value| value.trim().parse().expect("a number"))
}

#[test]
fn two_people_become_one_with_all_that_both_have() {
    let project = Project::new();
    project.capture(json!([
        {"event": "x", "distinct_id": "anon", "timestamp": "2026-01-01T00:00:00Z"},
        set("anon", json!({"plan": "free", "source": "letter"})),
        plain("only anon", "anon"),
        set("ann", json!({"plan": "pro"})),
        plain("only ann", "ann"),
    ]));
    let survivor = shown(&project, "ann").expect("ann");
    let both = |event: &str| json!([did(event, 1)]);
    let listed = project.cohort(json!({"is_static": true, "_create_static_person_ids":
        [shown(&project, "anon").expect("anon")["id"]]}));
    let found = project.cohort(json!({"filters": any_of(both("only anon"))}));
    project.settle(found);
    assert_eq!(everybody(&project), 2);

    project.capture(json!([identify("ann", "anon")]));

    assert_eq!(everybody(&project), 1);
    let one = shown(&project, "anon").expect("one");
    assert_eq!(one, shown(&project, "ann").expect("the same"));
    assert_eq!(one["id"], survivor["id"]);
    assert_eq!(one["distinct_ids"], json!(["ann", "anon"]));
    assert_eq!(
        one["properties"],
        json!({"plan": "pro", "source": "letter"})
    );
    assert_eq!(one["created_at"], "2026-01-01T00:00:00Z");
    // Lists change at once, criteria at the next calculation.
    let list = project.get(&format!("cohorts/{listed}/")).json();
    assert_eq!(
        (&list["count"], project.members(listed)),
        (&json!(1), vec!["ann".to_owned()])
    );
    for event in ["only anon", "only ann"] {
        assert_eq!(count(&project, both(event)), 1, "{event}");
    }
    project.post(&format!("cohorts/{found}/recalculate/"), json!({}));
    project.patch(
        &format!("cohorts/{found}/"),
        json!({"filters": any_of(both("only anon"))}),
    );
    assert_eq!(project.settle(found)["count"], 1);
    assert_eq!(project.members(found), ["ann"]);
    // Later events of either id are the one person's.
    project.capture(json!([plain("late", "anon"), plain("late", "ann")]));
    let twice = json!([{"type": "behavioral", "key": "late", "value": "performed_event_multiple", "event_type": "events",
        "time_value": 1, "time_interval": "day", "operator": "exact", "operator_value": 2}]);
    assert_eq!(count(&project, twice), 1);
}

#[test]
fn a_list_with_both_has_one_less_after_a_merge() {
    let project = Project::new();
    project.capture(json!([plain("x", "a"), plain("x", "b"), plain("x", "c")]));
    let ids: Vec<Value> = ["a", "b", "c"]
        .map(|id| shown(&project, id).expect("somebody")["id"].clone())
        .to_vec();
    let list = project.cohort(json!({"is_static": true, "_create_static_person_ids": ids}));
    project.capture(json!([alias("a", "b")]));
    assert_eq!(project.get(&format!("cohorts/{list}/")).json()["count"], 2);
    assert_eq!(project.members(list), ["a", "c"]);
    let of = |id: &str| {
        project
            .get(&format!("persons/cohorts/?person_id={id}"))
            .json()
    };
    let survivor = ids[0].as_str().expect("an id");
    assert_eq!(of(survivor)["results"][0]["id"], list);
    let gone = project.get(&format!("persons/{}/", ids[1].as_str().expect("an id")));
    assert_eq!(gone.status, 404);
}

#[test]
fn somebody_identified_is_merged_by_force_alone() {
    let project = Project::new();
    project.capture(json!([identify("ann", "a1"), identify("bob", "b1")]));
    let before = metric(r#"cohorts_events_denied_total{reason="merge_of_identified"}"#);
    project.capture(json!([
        identify("ann", "bob"),
        alias("ann", "bob"),
        alias("ann", "b1")
    ]));
    assert_eq!(everybody(&project), 2);
    let after = metric(r#"cohorts_events_denied_total{reason="merge_of_identified"}"#);
    assert!(after >= before + 3, "{before} {after}");
    project.capture(json!([force("ann", "b1")]));
    assert_eq!(everybody(&project), 1);
    let one = shown(&project, "bob").expect("one");
    assert_eq!(one["distinct_ids"], json!(["a1", "ann", "b1", "bob"]));
    assert_eq!(one["is_identified"], true);
}

#[test]
fn merges_in_a_row_and_in_one_batch_end_in_one_person() {
    let project = Project::new();
    project.capture((0..6).map(|id| plain("x", &format!("p{id}"))).collect());
    project.capture(json!([
        force("p1", "p0"),
        force("p2", "p1"),
        plain("y", "p0"),
        force("new", "p3")
    ]));
    project.capture(json!([
        force("p4", "p2"),
        force("p4", "new"),
        force("p0", "p5")
    ]));
    assert_eq!(everybody(&project), 1);
    let one = shown(&project, "p5").expect("one");
    assert_eq!(one["distinct_ids"].as_array().map(Vec::len), Some(7));
    let times = |event: &str, times: u32| {
        json!([{"type": "behavioral", "key": event, "value": "performed_event_multiple", "event_type": "events",
            "time_value": 1, "time_interval": "day", "operator": "exact", "operator_value": times}])
    };
    assert_eq!(count(&project, times("x", 6)), 1);
    assert_eq!(count(&project, times("y", 1)), 1);
    // The same again changes nothing.
    project.capture(json!([force("p1", "p0"), alias("p3", "p5")]));
    assert_eq!(everybody(&project), 1);
}

#[test]
fn whoever_is_deleted_takes_along_what_was_merged_into_them() {
    let project = Project::new();
    project.capture(json!([
        plain("x", "a"),
        plain("x", "b"),
        plain("x", "c"),
        plain("x", "other")
    ]));
    project.capture(json!([alias("b", "a")]));
    project.capture(json!([force("c", "b")]));
    let one = shown(&project, "a").expect("one")["id"].clone();
    let path = format!("persons/{}/", one.as_str().expect("an id"));
    assert_eq!(project.ask(Method::DELETE, &path, None).status, 204);
    for id in ["a", "b", "c"] {
        assert_eq!(shown(&project, id), None, "{id}");
    }
    assert_eq!(count(&project, json!([did("x", 1)])), 1);
    // Who comes back under an old id is somebody new.
    project.capture(json!([plain("y", "a")]));
    assert_ne!(shown(&project, "a").expect("somebody")["id"], one);
    assert_eq!(count(&project, json!([did("x", 1)])), 1);
}

#[test]
fn an_event_without_a_person_makes_nobody_until_there_is_one() {
    let project = Project::new();
    let personless = |event: &str, id: &str| {
        json!({"event": event, "distinct_id": id,
            "properties": {"$process_person_profile": false, "$set": {"ignored": true}}})
    };
    let by_option =
        json!({"event": "x", "distinct_id": "opt", "options": {"process_person_profile": false}});
    project.capture(json!([
        personless("x", "anon"),
        personless("x", "anon2"),
        by_option
    ]));
    assert_eq!(everybody(&project), 0);
    assert_eq!(count(&project, json!([did("x", 1)])), 0);
    // Of somebody known it counts, and says nothing of them.
    project.capture(json!([
        set("ann", json!({"plan": "pro"})),
        personless("y", "ann")
    ]));
    assert_eq!(count(&project, json!([did("y", 1)])), 1);
    // What an id did before there was a person is the person's.
    project.capture(json!([plain("z", "anon"), identify("ann", "anon2")]));
    assert_eq!(everybody(&project), 2);
    assert_eq!(count(&project, json!([did("x", 1)])), 2);
    assert_eq!(
        shown(&project, "ann").expect("ann")["properties"],
        json!({"plan": "pro"})
    );
    // A list may name them only when there is somebody.
    let upload = project.upload(None, "opt\nanon\n", &[]).json();
    assert_eq!(
        (&upload["count"], &upload["upload"]["unknown"]),
        (&json!(1), &json!(1))
    );
}

#[test]
fn what_is_about_a_person_needs_one() {
    let project = Project::new();
    let events = [
        "$identify",
        "$create_alias",
        "$merge_dangerously",
        "$groupidentify",
    ];
    let item = |event: &&str| {
        json!({"event": event, "distinct_id": "a", "properties":
            {"$process_person_profile": false, "alias": "b", "$anon_distinct_id": "b"}})
    };
    let name = r#"cohorts_events_refused_total{reason="needs_person"}"#;
    let before = metric(name);
    project.capture(events.iter().map(item).collect());
    assert!(metric(name) >= before + 4);
    assert_eq!(everybody(&project), 0);
}

#[test]
fn what_is_told_of_a_group_is_an_event_like_others() {
    let project = Project::new();
    let group = json!({"event": "$groupidentify", "distinct_id": "ann", "properties":
        {"$group_type": "company", "$group_key": "acme", "$group_set": {"size": 9}}});
    project.capture(json!([group]));
    assert_eq!(count(&project, json!([did("$groupidentify", 1)])), 1);
    assert_eq!(
        shown(&project, "ann").expect("ann")["properties"],
        json!({})
    );
}

#[test]
fn an_event_is_known_by_its_uuid_whatever_its_time() {
    let project = Project::new();
    let event = |day: u32, plan: &str| {
        json!([{"event": "x", "distinct_id": "ann", "uuid": "0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a77",
            "timestamp": format!("2026-03-{day:02}T23:59:59Z"), "properties": {"$set": {"plan": plan}}}])
    };
    project.capture(event(1, "first"));
    project.capture(event(2, "second"));
    assert_eq!(
        shown(&project, "ann").expect("ann")["properties"],
        json!({"plan": "first"})
    );
    let counted = |times: u32| {
        json!([{"type": "behavioral", "key": "x", "value": "performed_event_multiple", "event_type": "events",
            "explicit_datetime": "2026-01-01", "operator": "exact", "operator_value": times}])
    };
    assert_eq!(count(&project, counted(1)), 1);
    // Another project has its own events.
    let other = Project::new();
    other.capture(event(1, "other"));
    assert_eq!(count(&other, counted(1)), 1);
}

#[test]
fn what_a_value_may_be_is_stored_safely_or_refused() {
    let project = Project::new();
    let name = r#"cohorts_events_refused_total{reason="not_json"}"#;
    let before = metric(name);
    let deep = |levels: usize| format!("{}1{}", "[".repeat(levels), "]".repeat(levels));
    let item = |id: &str, value: &str| {
        format!(
            r#"{{"event": "x", "distinct_id": "{id}", "properties": {{"$set": {{"v": {value}}}}}}}"#
        )
    };
    let digits = "9".repeat(300);
    let batch = [
        item("deep", &deep(5_000)),
        item("huge", "1e400"),
        item("digits", &"9".repeat(400)),
        item("shallow", &deep(100)),
        item("large", "1.5e300"),
        item("long", &digits),
        item("small", "1e-400"),
        item("halves", r#""\ud800 \udc00 \ud83d\ude00 \u0000 \\u0000""#),
    ];
    let body = format!(
        r#"{{"api_key": "{}", "batch": [{}]}}"#,
        project.token,
        batch.join(",")
    );
    let answer = send(
        &Method::POST,
        request(Method::POST, "/batch/")
            .header("content-type", "application/json")
            .body(body),
    );
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert!(metric(name) >= before + 3);
    assert_eq!(everybody(&project), 5);
    let value = |id: &str| shown(&project, id).expect("somebody")["properties"]["v"].clone();
    assert_eq!(value("large"), json!(1.5e300));
    assert_eq!(value("long"), json!(1e300));
    assert_eq!(value("small"), json!(0.0));
    assert_eq!(value("shallow").to_string(), deep(100));
    assert_eq!(
        value("halves"),
        "\u{fffd} \u{fffd} \u{1f600} \u{fffd} \\u0000"
    );
}

#[test]
fn nobody_has_properties_without_bounds() {
    let project = Project::new();
    let name = r#"cohorts_events_denied_total{reason="too_many_properties"}"#;
    let before = metric(name);
    let text = "a".repeat(400_000);
    project.capture(json!([
        set("ann", json!({"a": text})),
        set("ann", json!({"b": text}))
    ]));
    project.capture(json!([
        set("ann", json!({"c": text})),
        set("ann", json!({"plan": "pro", "a": 1}))
    ]));
    assert!(metric(name) > before);
    let properties = shown(&project, "ann").expect("ann")["properties"].clone();
    let names: Vec<&String> = properties.as_object().expect("an object").keys().collect();
    assert_eq!(names, ["a", "b", "plan"]);
    let nothing = json!([person("c", "is_set", "")]);
    assert_eq!(count(&project, nothing), 0);
    assert_eq!(count(&project, json!([did("$set", 1)])), 1);
}

#[test]
fn what_is_older_than_a_project_keeps_counts_no_more() {
    let project = Project::new();
    let ago = |days: i64| (Utc::now() - TimeDelta::days(days)).to_rfc3339();
    project.capture(json!([
        {"event": "x", "distinct_id": "old", "timestamp": ago(40)},
        {"event": "x", "distinct_id": "new", "timestamp": ago(20)},
    ]));
    let done = || count(&project, json!([did("x", 60)]));
    assert_eq!(done(), 2);
    let keep = |text: &str| {
        let retention: EventRetention = text.parse().expect("a retention");
        let admin = server().data().admin();
        admin.set_event_retention(project.id, retention).expect("a project");
    };
    keep("30d");
    assert_eq!(done(), 1);
    keep("10");
    assert_eq!(done(), 0);
    assert_eq!(everybody(&project), 2);
    keep("all");
    assert!("0".parse::<EventRetention>().is_err() && "x".parse::<EventRetention>().is_err());
}

#[test]
fn whoever_was_not_identified_by_another_id_may_be_merged() {
    let project = Project::new();
    let bare = |id: &str| json!({"event": "$identify", "distinct_id": id, "properties": {"$set": {"of": id}}});
    project.capture(json!([
        bare("a"),
        bare("b"),
        identify("b", "b"),
        alias("b", "null")
    ]));
    assert_eq!(shown(&project, "b").expect("b")["is_identified"], false);
    project.capture(json!([alias("a", "b")]));
    assert_eq!(everybody(&project), 1);
    assert_eq!(
        shown(&project, "b").expect("one")["properties"],
        json!({"of": "a"})
    );
}

#[test]
fn one_event_takes_away_after_it_has_set() {
    let project = Project::new();
    project.capture(json!([set("ann", json!({"a": 5, "b": 1}))]));
    project.capture(json!([
        {"event": "x", "distinct_id": "ann", "properties": {"$set_once": {"a": 9, "c": 1, "d": 1}, "$set": {"c": 2}, "$unset": ["a"]}},
        {"event": "$exception", "distinct_id": "ann", "properties": {"$set": {"e": 1}}},
    ]));
    let properties = shown(&project, "ann").expect("ann")["properties"].clone();
    assert_eq!(properties, json!({"b": 1, "c": 2, "d": 1}));
}

#[test]
fn a_list_made_of_a_dynamic_cohort_has_whom_its_people_became() {
    let project = Project::new();
    let pro = json!({"plan": "pro"});
    project.people([("a", pro.clone()), ("c", pro), ("b", json!({}))]);
    let filters = any_of(json!([person("plan", "exact", "pro")]));
    let cohorts = [(); 2].map(|()| project.cohort(json!({"filters": filters})));
    project.settle(cohorts[0]);
    project.capture(json!([alias("b", "a")]));
    let copied = project
        .get(&format!(
            "cohorts/{}/duplicate_as_static_cohort/",
            cohorts[0]
        ))
        .json();
    let copy = copied["id"].as_i64().expect("an id");
    project.patch(
        &format!("cohorts/{}/", cohorts[1]),
        json!({"is_static": true}),
    );
    for list in [copy, cohorts[1]] {
        assert_eq!(project.members(list), ["a", "c"], "{copied}");
        assert_eq!(project.get(&format!("cohorts/{list}/")).json()["count"], 2);
    }
}

#[test]
fn names_that_json_libraries_keep_for_themselves_lose_nothing() {
    let project = Project::new();
    let long = "a".repeat(40);
    let nested = json!({"nest": {long: 1, "$serde_json::private::RawValue": "x"}});
    project.capture(json!([set("ann", json!({"keep": 1})), set("ann", nested)]));
    project.capture(json!([set("ann", json!({"plan": "pro"}))]));
    let properties = shown(&project, "ann").expect("ann")["properties"].clone();
    assert_eq!(
        (&properties["keep"], &properties["plan"]),
        (&json!(1), &json!("pro"))
    );
    assert_eq!(properties["nest"]["_serde_json::private::RawValue"], "x");
}

#[test]
fn many_names_that_are_set_and_taken_away_take_no_time() {
    let project = Project::new();
    let names: Vec<String> = (0..40_000).map(|number| format!("k{number}")).collect();
    let all: serde_json::Map<String, Value> =
        names.iter().map(|name| (name.clone(), json!(1))).collect();
    project.capture(
        json!([{"event": "x", "distinct_id": "ann", "properties": {"$set": all, "$unset": names}}]),
    );
    assert_eq!(
        shown(&project, "ann").expect("ann")["properties"],
        json!({})
    );
    // A number counts by all its digits.
    let digits: Vec<f64> = vec![1e308; 2_000];
    let items = (0..3).map(|k| set("bob", json!({format!("n{k}"): digits})));
    project.capture(items.collect());
    let properties = shown(&project, "bob").expect("bob")["properties"].clone();
    let names: Vec<&String> = properties.as_object().expect("an object").keys().collect();
    assert_eq!(names, ["n0"]);
}

#[test]
fn a_dynamic_cohort_becomes_a_list_and_takes_a_file_at_once() {
    let project = Project::new();
    project.people([("a", json!({"plan": "pro"})), ("b", json!({}))]);
    let filters = any_of(json!([person("plan", "exact", "pro")]));
    let cohort = project.cohort(json!({"filters": filters}));
    project.settle(cohort);
    let answer = project.upload(Some(cohort), "b\n", &[]);
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(project.members(cohort), ["a", "b"]);
}
