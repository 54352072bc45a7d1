//! Properties of persons: set, set once, unset, limits, and values that Postgres or JSON libraries cannot hold.

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{
    Answer, Project, any_of, count, did, find_person, metric, person, person_count, request, send,
};

/// The properties of the only person of the project.
fn properties(project: &Project) -> Value {
    let body =
        json!({"filters": any_of(json!([person("nothing", "is_not_set", "")])), "sample": 2});
    let preview = project.post("cohorts/preview/", body).json();
    assert_eq!(preview["count"], 1, "{preview}");
    preview["sample"][0]["properties"].clone()
}

/// Sends a body unchanged.
fn send_raw(path: &str, media_type: &str, body: impl Into<Vec<u8>>) -> Answer {
    let call = request(Method::POST, path).header("content-type", media_type);
    send(&Method::POST, call.body(body.into()))
}

fn set(id: &str, properties: Value) -> Value {
    json!({"event": "$set", "distinct_id": id, "properties": {"$set": properties}})
}

#[test]
fn set_replaces_and_set_once_adds() {
    let project = Project::new();
    let event =
        |properties: Value| json!({"event": "x", "distinct_id": "ann", "properties": properties});
    project.capture(json!([
        event(json!({"$set": {"plan": "free", "a": 1}, "$set_once": {"plan": "never", "source": "letter"}})),
        event(json!({"$set": {"plan": "pro"}})),
    ]));
    project.capture(json!([
        event(json!({"$set_once": {"source": "poster", "late": true}})),
        {"event": "y", "distinct_id": "ann", "$set": {"a": [2]}},
    ]));
    let expected = json!({"plan": "pro", "a": [2], "source": "letter", "late": true});
    assert_eq!(properties(&project), expected);
}

#[test]
fn unset_is_applied_after_set_of_the_same_event() {
    let project = Project::new();
    project.capture(json!([set("ann", json!({"a": 5, "b": 1}))]));
    project.capture(json!([
        {"event": "x", "distinct_id": "ann", "properties": {"$set_once": {"a": 9, "c": 1, "d": 1}, "$set": {"c": 2}, "$unset": ["a"]}},
        {"event": "$exception", "distinct_id": "ann", "properties": {"$set": {"e": 1}}},
    ]));
    let properties = find_person(&project, "ann").expect("ann")["properties"].clone();
    assert_eq!(properties, json!({"b": 1, "c": 2, "d": 1}));
}

#[test]
fn unset_removes_properties_and_lone_surrogates_are_replaced() {
    let project = Project::new();
    project.persons([("ann", json!({"plan": "pro", "seats": 3, "old": 1}))]);
    project.capture(
        json!([{"event": "x", "distinct_id": "ann", "properties": {"$unset": ["plan"]}},
        {"event": "x", "distinct_id": "ann", "$unset": {"old": ""}}]),
    );
    let body = format!(
        r#"{{"api_key":"{}","event":"x","distinct_id":"ann","properties":{{"$set":{{"odd":"a\ud800b\udc00\ud83d\ude00"}}}}}}"#,
        project.token
    );
    assert_eq!(send_raw("/capture/", "application/json", body).status, 200);
    let shown = project.get("persons/?distinct_id=ann").json();
    let expected = json!({"seats": 3, "odd": "a\u{fffd}b\u{fffd}😀"});
    assert_eq!(shown["results"][0]["properties"], expected);
}

#[test]
fn nul_characters_are_replaced() {
    let project = Project::new();
    project.capture(json!([{"event": "a\u{0}b", "distinct_id": "x\u{0}y", "properties": {"$set": {"k\u{0}": "v\u{0}"}}}]));
    assert_eq!(properties(&project), json!({"k\u{fffd}": "v\u{fffd}"}));
}

#[test]
fn numbers_are_returned_as_sent() {
    let project = Project::new();
    let sent = json!({"large": 9007199254740993_i64, "small": -0.25, "whole": 5.0, "text": "5"});
    project.persons([("ann", sent.clone())]);
    assert_eq!(properties(&project), sent);
}

#[test]
fn extreme_values_are_rejected_or_stored_safely() {
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
    assert_eq!(person_count(&project), 5);
    let value = |id: &str| find_person(&project, id).expect("a person")["properties"]["v"].clone();
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
fn names_reserved_by_a_json_library_lose_no_properties() {
    let project = Project::new();
    let long = "a".repeat(40);
    let nested = json!({"nest": {long: 1, "$serde_json::private::RawValue": "x"}});
    project.capture(json!([set("ann", json!({"keep": 1})), set("ann", nested)]));
    project.capture(json!([set("ann", json!({"plan": "pro"}))]));
    let properties = find_person(&project, "ann").expect("ann")["properties"].clone();
    assert_eq!(
        (&properties["keep"], &properties["plan"]),
        (&json!(1), &json!("pro"))
    );
    assert_eq!(properties["nest"]["_serde_json::private::RawValue"], "x");
}

#[test]
fn properties_of_a_person_are_bounded_in_size() {
    let project = Project::new();
    let name = r#"cohorts_events_denied_total{reason="too_many_properties"}"#;
    let before = metric(name);
    let text = "a".repeat(200_000);
    project.capture(json!([
        set("ann", json!({"a": text})),
        set("ann", json!({"b": text}))
    ]));
    project.capture(json!([
        set("ann", json!({"c": text})),
        set("ann", json!({"plan": "pro", "a": 1}))
    ]));
    assert!(metric(name) > before);
    let properties = find_person(&project, "ann").expect("ann")["properties"].clone();
    let names: Vec<&String> = properties.as_object().expect("an object").keys().collect();
    assert_eq!(names, ["a", "b", "plan"]);
    let nothing = json!([person("c", "is_set", "")]);
    assert_eq!(count(&project, nothing), 0);
    assert_eq!(count(&project, json!([did("$set", 1)])), 1);
}

#[test]
fn many_names_are_set_and_unset_and_digits_count_towards_the_bound() {
    let project = Project::new();
    let names: Vec<String> = (0..40_000).map(|number| format!("k{number}")).collect();
    let all: serde_json::Map<String, Value> =
        names.iter().map(|name| (name.clone(), json!(1))).collect();
    project.capture(
        json!([{"event": "x", "distinct_id": "ann", "properties": {"$set": all, "$unset": names}}]),
    );
    assert_eq!(
        find_person(&project, "ann").expect("ann")["properties"],
        json!({})
    );
    // A number counts with all its digits.
    let digits: Vec<f64> = vec![1e308; 1_000];
    let items = (0..3).map(|k| set("bob", json!({format!("n{k}"): digits})));
    project.capture(items.collect());
    let properties = find_person(&project, "bob").expect("bob")["properties"].clone();
    let names: Vec<&String> = properties.as_object().expect("an object").keys().collect();
    assert_eq!(names, ["n0"]);
}

#[test]
fn properties_with_long_names_are_dropped_and_counted() {
    let project = Project::new();
    let name = "cohorts_properties_dropped_total";
    let before = metric(name);
    let (longest, long) = ("a".repeat(1_000), "b".repeat(1_001));
    project.capture(json!([
        {"event": "x", "distinct_id": "ann", "properties": {&long: 1, "$set": {&long: 2, &longest: 3}}},
        {"event": "x", "distinct_id": "ann", "$set_once": {&long: 4, "plan": "pro"}},
    ]));
    assert!(metric(name) >= before + 3);
    let properties = find_person(&project, "ann").expect("ann")["properties"].clone();
    assert_eq!(properties, json!({longest: 3, "plan": "pro"}));
}

#[test]
fn nested_values_that_are_set_again_are_the_same() {
    let project = Project::new();
    let nested = json!({"address": {"zip": "1", "city": ["a", {"b": 2.5}]}, "text": "\u{8}"});
    project.capture(json!([set("ann", nested.clone())]));
    project.capture(json!([
        set("ann", nested.clone()),
        set("ann", json!({"n": 1}))
    ]));
    let properties = find_person(&project, "ann").expect("ann")["properties"].clone();
    let mut expected = nested;
    expected["n"] = json!(1);
    assert_eq!(properties, expected);
}
