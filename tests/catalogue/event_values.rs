//! The values of an event property.

use serde_json::{Value, json};

use crate::harness::Project;

fn values(project: &Project, query: &str) -> Vec<(String, i64)> {
    let answer = project.get(&format!("events/values/?{query}"));
    assert_eq!(answer.status, 200, "{query}: {}", answer.text);
    let answer = answer.json();
    let pair = |row: &Value| {
        let name = row["name"].as_str().expect("a text").to_owned();
        (name, row["count"].as_i64().expect("a number"))
    };
    let rows = answer.as_array().expect("a list");
    rows.iter().map(pair).collect()
}

fn pair(name: &str, count: i64) -> (String, i64) {
    (name.to_owned(), count)
}

#[test]
fn values_are_counted_once_per_event() {
    let project = Project::new();
    let event = |name: &str, id: &str, plan: Value| json!({"event": name, "distinct_id": id, "properties": {"plan": plan}});
    project.capture(json!([
        event("paid", "a", json!("pro")),
        event("paid", "a", json!("pro")),
        event("paid", "b", json!("Prom")),
        event("paid", "b", json!("")),
        event("paid", "b", json!(null)),
        event("visit", "b", json!("Prom")),
        event("visit", "c", json!("Prom")),
        event("visit", "c", json!([1, 2])),
    ]));
    assert_eq!(
        values(&project, "key=plan&event_name=paid"),
        [pair("pro", 2), pair("Prom", 1)]
    );
    let all = [pair("Prom", 3), pair("pro", 2), pair("[1,2]", 1)];
    assert_eq!(values(&project, "key=plan"), all);
    assert_eq!(values(&project, "key=plan&value=PRO"), all[..2]);
    assert_eq!(
        values(&project, "key=plan&value=prom&event_name=visit"),
        [pair("Prom", 2)]
    );
    for empty in [
        "",
        "key=",
        "key=unknown",
        "key=a%00b",
        "key=plan&value=r",
        "key=plan&event_name=other",
    ] {
        assert_eq!(values(&project, empty), [], "{empty}");
    }
    // The values of a deleted person are gone at once.
    let path = format!("persons/{}/", project.person("a"));
    assert_eq!(
        project.ask(reqwest::Method::DELETE, &path, None).status,
        204
    );
    assert_eq!(
        values(&project, "key=plan&event_name=paid"),
        [pair("Prom", 1)]
    );
    assert_eq!(values(&Project::new(), "key=plan"), []);
}

#[test]
fn a_property_with_very_many_values_is_answered_for_a_prefix() {
    let project = Project::new();
    for part in 0..11 {
        let events = (0..1_000).map(|number| {
            let id = format!("{part:02}-{number:03}");
            json!({"event": "x", "distinct_id": "a", "properties": {"id": id, "$set": {"last": id}}})
        });
        project.capture(events.collect());
    }
    let answer = project.get("events/values/?key=id");
    answer.is_error(400, "too_many_values", Some("value"));
    assert!(
        answer.detail().contains("more than 10,000 values"),
        "{}",
        answer.text
    );
    let found = values(&project, "key=id&value=10-99");
    assert_eq!((found.len(), &found[0]), (10, &pair("10-990", 1)));
    assert_eq!(values(&project, "key=id&value=1").len(), 20);
}
