//! The shared cases of the filter language over HTTP: people and events come in by capture, and a preview at the
//! case's instant gives the members. The engine's own tests read the same files.

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

/// What a case needs that the service does not offer yet.
fn missing(case: &Value) -> Option<&'static str> {
    let several = |person: &Value| list(&person["distinct_ids"]).len() > 1;
    if list(&case["persons"]).iter().any(several) {
        return Some("people with several distinct ids");
    }
    if !list(&case["actions"]).is_empty() {
        return Some("actions");
    }
    None
}

fn load(project: &Project, case: &Value) {
    let people = list(&case["persons"]).iter().map(|person| {
        json!({"event": "$set", "distinct_id": person["distinct_ids"][0], "timestamp": "2001-01-01T00:00:00Z",
            "properties": {"$set": person["properties"]}})
    });
    let known = |event: &&Value| {
        let bears = |person: &Value| list(&person["distinct_ids"]).contains(&event["distinct_id"]);
        list(&case["persons"]).iter().any(bears)
    };
    let events = list(&case["events"]).iter().filter(known).cloned();
    project.capture(people.chain(events).collect());
}

/// Makes the cohorts that the case refers to, and puts their ids in the place of their names.
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
    let body = json!({"filters": filters, "as_of": case["now"], "sample": 100});
    project.post("cohorts/preview/", body)
}

fn complaint(case: &Value) -> Option<String> {
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
            first_ids(&body["sample"]) == expected && body["count"] == expected.len()
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
fn every_shared_case_gives_over_http_what_it_expects() {
    let cases = cases();
    assert!(cases.len() >= 128, "only {} cases were found", cases.len());
    let offered: Vec<&Case> = cases
        .iter()
        .filter(|case| missing(&case.value).is_none())
        .collect();
    assert!(offered.len() >= 115, "only {} cases can run", offered.len());
    let failed: Vec<String> = offered
        .iter()
        .filter_map(|case| Some(format!("{}: {}", case.name, complaint(&case.value)?)))
        .collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}
