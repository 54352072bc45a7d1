//! After random histories, the catalogue and the values equal those of a model that has all events and persons.

use std::collections::{BTreeMap, BTreeSet};

use reqwest::Method;
use serde_json::{Value, json};

use super::definitions::{list, types};
use crate::harness::{Project, find_person, rows};

/// Numbers that depend on a seed only.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) % limit
    }
}

/// The events of persons that are not deleted: distinct id, name, properties.
#[derive(Default)]
struct Model(Vec<(String, String, Value)>);

fn type_of(value: &Value) -> Option<&'static str> {
    match value {
        Value::Number(_) => Some("Numeric"),
        Value::Bool(_) => Some("Boolean"),
        Value::String(text) if text.is_empty() => None,
        Value::String(text) if text == "true" => Some("Boolean"),
        Value::String(text) if text.starts_with("2026-") => Some("DateTime"),
        Value::String(_) => Some("String"),
        _ => None,
    }
}

/// The name and the type of each property of some objects.
fn types_in<'a>(objects: impl Iterator<Item = &'a Value>) -> Vec<(String, Option<String>)> {
    let mut found: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for object in objects {
        for (name, value) in object.as_object().expect("an object") {
            if !name.starts_with("$set") && !name.starts_with("$unset") {
                found
                    .entry(name.clone())
                    .or_default()
                    .extend(type_of(value));
            }
        }
    }
    let type_of_all = |types: BTreeSet<&str>| match types.len() {
        0 => None,
        1 => types.first().map(|one| (*one).to_owned()),
        _ => Some("String".to_owned()),
    };
    found
        .into_iter()
        .map(|(name, types)| (name, type_of_all(types)))
        .collect()
}

fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => (!text.is_empty()).then(|| text.clone()),
        other => Some(other.to_string()),
    }
}

/// The counts of the values, as a response has them.
fn counts<'a>(values: impl Iterator<Item = &'a Value>) -> Vec<(String, i64)> {
    let mut counts: BTreeMap<String, i64> = BTreeMap::new();
    for text in values.filter_map(text_of) {
        *counts.entry(text).or_default() += 1;
    }
    let mut counts: Vec<(String, i64)> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| -count);
    counts
}

fn listed_counts(project: &Project, path: &str) -> Vec<(String, i64)> {
    let answer = project.get(path);
    assert_eq!(answer.status, 200, "{path}: {}", answer.text);
    let pair = |row: &Value| {
        let name = row["name"].as_str().expect("a text").to_owned();
        (name, row["count"].as_i64().expect("a number"))
    };
    answer
        .json()
        .as_array()
        .expect("a list")
        .iter()
        .map(pair)
        .collect()
}

impl Model {
    fn capture(&mut self, project: &Project, numbers: &mut Numbers) {
        const VALUES: [&str; 7] = [
            "1",
            "true",
            "null",
            "\"\"",
            "\"2026-03-01\"",
            "\"a\"",
            "[\"b\"]",
        ];
        let count = numbers.below(5) + 1;
        let mut batch = Vec::new();
        for _ in 0..count {
            let mut value = || {
                let text = VALUES[numbers.below(VALUES.len() as u64) as usize];
                serde_json::from_str::<Value>(text).expect("JSON")
            };
            let (first, second) = (value(), value());
            let key = |numbers: &mut Numbers, letter: &str| format!("{letter}{}", numbers.below(4));
            let mut properties = json!({});
            properties[key(numbers, "k")] = first;
            match numbers.below(4) {
                0 => properties["$unset"] = json!([key(numbers, "s")]),
                1 => properties["$set_once"] = json!({key(numbers, "s"): second}),
                _ => properties["$set"] = json!({key(numbers, "s"): second}),
            }
            let (id, event) = (key(numbers, "p"), key(numbers, "e"));
            batch.push(json!({"event": event, "distinct_id": id, "properties": properties}));
            self.0.push((id, event, properties));
        }
        project.capture(json!(batch));
    }

    fn merge(&mut self, project: &Project, numbers: &mut Numbers) {
        let (into, from) = (numbers.below(4), numbers.below(4));
        let properties = json!({"alias": format!("p{from}")});
        let id = format!("p{into}");
        let event =
            json!({"event": "$merge_dangerously", "distinct_id": id, "properties": properties});
        project.capture(json!([event]));
        self.0
            .push((id, "$merge_dangerously".to_owned(), properties));
    }

    fn delete(&mut self, project: &Project, id: &str) {
        let Some(person) = find_person(project, id) else {
            return;
        };
        let ids = person["distinct_ids"].as_array().expect("ids");
        let ids: Vec<&str> = ids.iter().filter_map(Value::as_str).collect();
        let path = format!("persons/{}/", person["id"].as_str().expect("an id"));
        assert_eq!(project.ask(Method::DELETE, &path, None).status, 204);
        self.0.retain(|(id, _, _)| !ids.contains(&id.as_str()));
    }

    fn check(&self, project: &Project, seed: u64) {
        let page = list(project, "event_definitions/");
        let events: BTreeSet<&str> = self.0.iter().map(|(_, event, _)| &**event).collect();
        let listed = rows(&page);
        let listed: Vec<&str> = listed
            .iter()
            .filter_map(|row| row["name"].as_str())
            .collect();
        assert_eq!(
            listed,
            Vec::from_iter(events.iter().copied()),
            "seed {seed}"
        );
        let of_events = types(&list(project, "property_definitions/"));
        assert_eq!(
            of_events,
            types_in(self.0.iter().map(|(_, _, properties)| properties)),
            "seed {seed}"
        );
        for event in events {
            let query = format!(
                "property_definitions/?filter_by_event_names=1&event_names=%5B%22{event}%22%5D"
            );
            let of_event = self.0.iter().filter(|(_, name, _)| name == event);
            let expected = types_in(of_event.map(|(_, _, properties)| properties));
            let names = |list: Vec<(String, Option<String>)>| -> Vec<String> {
                list.into_iter().map(|(name, _)| name).collect()
            };
            assert_eq!(
                names(types(&list(project, &query))),
                names(expected),
                "seed {seed}"
            );
        }
        let persons = project.get("persons/").json();
        let properties = || rows(&persons).iter().map(|person| &person["properties"]);
        let of_persons = types(&list(project, "property_definitions/?type=person"));
        assert_eq!(of_persons, types_in(properties()), "seed {seed}");
        for number in 0..4 {
            let key = format!("k{number}");
            let values = self
                .0
                .iter()
                .filter_map(|(_, _, properties)| properties.get(&key));
            let listed = listed_counts(project, &format!("events/values/?key={key}"));
            assert_eq!(listed, counts(values), "seed {seed}");
            let key = format!("s{number}");
            let values = properties().filter_map(|properties| properties.get(&key));
            let listed = listed_counts(project, &format!("persons/values/?key={key}"));
            assert_eq!(listed, counts(values), "seed {seed}");
        }
    }
}

#[test]
fn catalogue_and_values_equal_a_scan_after_random_histories() {
    for seed in 0..4 {
        let project = Project::new();
        let (mut numbers, mut model) = (Numbers(seed), Model::default());
        for step in 0..40 {
            match numbers.below(8) {
                0 => model.delete(&project, &format!("p{}", numbers.below(4))),
                1 => model.merge(&project, &mut numbers),
                _ => model.capture(&project, &mut numbers),
            }
            if step % 8 == 7 {
                model.check(&project, seed);
            }
        }
        for number in 0..4 {
            model.delete(&project, &format!("p{number}"));
        }
        assert!(model.0.is_empty());
        model.check(&project, seed);
    }
}
