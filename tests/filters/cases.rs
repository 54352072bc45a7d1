//! The shared filter cases over HTTP. Capture loads persons and events, and a preview at the case's instant gives the
//! members. The unit tests of the engine read the same files.

use std::collections::HashMap;
use std::fs;

use serde_json::{Value, json};

use crate::harness::{Answer, Project, first_ids};

struct Case {
    name: String,
    value: Value,
}

fn cases() -> Vec<Case> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/cases/filters");
    let mut cases = Vec::new();
    for file in fs::read_dir(folder).expect("a folder") {
        let text = fs::read_to_string(file.expect("a file").path()).expect("a text");
        let topic: Value = serde_json::from_str(&text).expect("JSON");
        for value in list(&topic["cases"]) {
            let name = format!("{}: {}", topic["topic"], value["name"]);
            cases.push(Case {
                name,
                value: value.clone(),
            });
        }
    }
    cases
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn load(project: &Project, case: &Value) {
    let persons = list(&case["persons"]).iter().map(|person| {
        json!({"event": "$set", "distinct_id": person["distinct_ids"][0], "timestamp": "2001-01-01T00:00:00Z",
            "properties": {"$set": person["properties"]}})
    });
    let known = |event: &&Value| {
        let bears = |person: &Value| list(&person["distinct_ids"]).contains(&event["distinct_id"]);
        list(&case["persons"]).iter().any(bears)
    };
    let events = list(&case["events"]).iter().filter(known).cloned();
    let others = list(&case["persons"]).iter().flat_map(|person| {
        let (first, others) = list(&person["distinct_ids"]).split_first().expect("an id");
        others.iter().map(move |other| {
            json!({"event": "$merge_dangerously", "distinct_id": first, "timestamp": "2001-01-01T00:00:00Z",
                "properties": {"alias": other}})
        })
    });
    // The merges come last, when both distinct ids have events.
    project.capture(persons.chain(events).chain(others).collect());
}

/// Creates the actions of the case, and replaces their ids in the filters by the assigned ids.
fn with_actions(project: &Project, case: &Value, filters: &Value) -> Value {
    let ids = list(&case["actions"]).iter().map(|action| {
        let answer = project.post("actions/", json!({"steps": action["steps"]}));
        assert_eq!(answer.status, 201, "{}", answer.text);
        (action["id"].to_string(), answer.json()["id"].clone())
    });
    let ids: HashMap<String, Value> = ids.collect();
    replace_ids(filters, &ids)
}

fn replace_ids(node: &Value, ids: &HashMap<String, Value>) -> Value {
    match node {
        Value::Array(list) => list.iter().map(|one| replace_ids(one, ids)).collect(),
        Value::Object(map) => {
            let is_action = |name: &str| map.get(name) == Some(&json!("actions"));
            let member = |(name, value): (&String, &Value)| {
                let named = (name == "key" && is_action("event_type"))
                    || (name == "seq_event" && is_action("seq_event_type"));
                let id = value.as_str().map_or(value.to_string(), str::to_owned);
                let value = match ids.get(&id).filter(|_| named) {
                    Some(id) if value.is_string() => json!(id.to_string()),
                    Some(id) => id.clone(),
                    None => replace_ids(value, ids),
                };
                (name.clone(), value)
            };
            Value::Object(map.iter().map(member).collect())
        }
        other => other.clone(),
    }
}

/// The returned persons, each by its first distinct id in the case.
fn first_ids_in_case(case: &Value, shown: &Value) -> Vec<String> {
    let first = |id: String| {
        let bears = |person: &&Value| list(&person["distinct_ids"]).contains(&json!(id));
        let person = list(&case["persons"]).iter().find(bears);
        let first = person.and_then(|person| person["distinct_ids"][0].as_str());
        first.map_or(id.clone(), str::to_owned)
    };
    let mut names: Vec<String> = first_ids(shown).into_iter().map(first).collect();
    names.sort_unstable();
    names
}

/// Creates the referenced cohorts of the case, and replaces their names in the filters by the assigned ids.
fn with_references(project: &Project, case: &Value) -> Value {
    let mut ids: HashMap<String, i64> = HashMap::new();
    for cohort in list(&case["cohorts"]) {
        let members = list(&cohort["members"]).iter().filter_map(Value::as_str);
        let members: Vec<String> = members.map(|id| project.person(id)).collect();
        let body = json!({
            "is_static": cohort["is_static"].as_bool().unwrap_or(false),
            "filters": with_ids(&cohort["filters"], &ids),
            "_create_static_person_ids": members,
        });
        let name = cohort["ref"].as_str().expect("a name");
        ids.insert(format!("@{name}"), project.cohort(body));
    }
    with_ids(&case["filters"], &ids)
}

fn with_ids(filters: &Value, ids: &HashMap<String, i64>) -> Value {
    let mut text = filters.to_string();
    for (name, id) in ids {
        text = text.replace(&json!(name).to_string(), &id.to_string());
    }
    serde_json::from_str(&text).expect("JSON")
}

fn preview(project: &Project, case: &Value) -> Answer {
    let filters = with_references(project, case);
    let filters = with_actions(project, case, &filters);
    let body = json!({"filters": filters, "as_of": case["now"], "sample": 100});
    project.post("cohorts/preview/", body)
}

fn difference(case: &Value) -> Option<String> {
    let project = Project::in_zone(case["timezone"].as_str().expect("a zone"));
    load(&project, case);
    let answer = preview(&project, case);
    let right = match case["expect_error"].as_str() {
        None if answer.status == 200 => {
            let body = answer.json();
            let mut expected: Vec<&str> = list(&case["expect"])
                .iter()
                .filter_map(Value::as_str)
                .collect();
            expected.sort_unstable();
            first_ids_in_case(case, &body["sample"]) == expected && body["count"] == expected.len()
        }
        None => false,
        Some("write") => {
            let created = project.post("cohorts/", json!({"filters": case["filters"]}));
            answer.status == 400 && created.status == 400
        }
        Some(_) => answer.status == 400,
    };
    let expected = || format!("expected {} {}", case["expect"], case["expect_error"]);
    (!right).then(|| format!("{} {}, {}", answer.status, answer.text, expected()))
}

#[test]
fn shared_cases_give_the_expected_members_over_http() {
    let cases = cases();
    assert!(cases.len() >= 128, "only {} cases were found", cases.len());
    let failed: Vec<String> = cases
        .iter()
        .filter_map(|case| Some(format!("{}: {}", case.name, difference(&case.value)?)))
        .collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}
