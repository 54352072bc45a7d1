//! The generated population: shape, reproducibility and the sizes of the demo cohorts.

use std::collections::{HashMap, HashSet};

use super::*;

fn now() -> DateTime<Utc> {
    "2026-03-04T11:22:33Z".parse().unwrap()
}

fn time_of(item: &Value) -> DateTime<Utc> {
    item["timestamp"].as_str().unwrap().parse().unwrap()
}

#[test]
fn the_same_seed_gives_the_same_population() {
    let items = |seed| {
        Population::new(50, 400, seed, now())
            .items()
            .collect::<Vec<_>>()
    };
    assert_eq!(items(7), items(7));
    assert_ne!(items(7), items(8));
}

#[test]
fn uuids_depend_on_the_seed_and_not_on_the_day() {
    let ids = |now| {
        let population = Population::new(50, 400, 7, now);
        population
            .items()
            .map(|item| item["uuid"].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(ids(now()), ids(now() + Duration::days(3)));
}

#[test]
fn the_requested_number_of_items_is_generated_with_distinct_uuids() {
    let population = Population::new(200, 3_000, 1, now());
    let ids: HashSet<String> = population
        .items()
        .map(|item| item["uuid"].to_string())
        .collect();
    assert_eq!(ids.len(), 3_200);
    assert_eq!(population.item_count(), 3_200);
    assert_eq!(Population::new(0, 100, 1, now()).items().count(), 0);
}

#[test]
fn events_are_in_the_window_and_after_the_sign_up() {
    let population = Population::new(500, 5_000, 3, now());
    let start = now() - Duration::days(i64::from(DAYS));
    let mut signed_up = HashMap::new();
    let mut last = start;
    for item in population.items() {
        let at = time_of(&item);
        assert!((start..=now()).contains(&at), "{item}");
        let person = item["distinct_id"].as_str().unwrap().to_owned();
        if item["properties"]["$set"].is_object() {
            signed_up.insert(person, at);
        } else {
            assert!(at >= signed_up[&person] && at >= last, "{item}");
            last = at;
        }
    }
    assert_eq!(signed_up.len(), 500);
}

#[test]
fn few_persons_cause_many_events_and_some_have_none() {
    let mut counts: HashMap<String, u32> = HashMap::new();
    for item in Population::new(1_000, 20_000, 3, now()).items().skip(1_000) {
        *counts.entry(item["distinct_id"].to_string()).or_default() += 1;
    }
    assert!(counts.len() < 950, "{}", counts.len());
    assert!(counts.values().max().unwrap() > &400);
}

#[test]
fn every_cohort_has_some_persons_as_members_but_not_most() {
    let samples = cohorts();
    for (persons, events) in [(300, 3_000), (2_000, 40_000)] {
        let histories = histories(persons, events);
        for sample in &samples {
            let members = histories
                .values()
                .filter(|history| history.is_in(&sample.filters["properties"]))
                .count();
            let share = members as f64 / f64::from(persons);
            assert!(
                (0.002..0.9).contains(&share),
                "{}: {members} of {persons}",
                sample.name
            );
        }
    }
}

#[test]
fn moves_depend_on_the_seed_and_change_plans_in_both_directions() {
    let population = Population::new(300, 0, 7, now());
    let moves = |seed| population.moves(seed).take(500).collect::<Vec<_>>();
    assert_eq!(moves(7), moves(7));
    assert_ne!(moves(7), moves(8));
    let names: HashSet<String> = moves(7)
        .iter()
        .map(|item| item["event"].as_str().unwrap().to_owned())
        .collect();
    for name in ["plan_changed", "signup_completed", "churn_survey", "upload"] {
        assert!(names.contains(name), "{name} is not in {names:?}");
    }
    let plans: HashSet<String> = moves(7)
        .iter()
        .filter(|item| item["event"] == "plan_changed")
        .map(|item| item["properties"]["$set"]["plan"].to_string())
        .collect();
    assert_eq!(plans.len(), 2, "{plans:?}");
    assert_eq!(Population::new(0, 0, 7, now()).moves(7).count(), 0);
    assert_eq!(Population::new(1, 0, 7, now()).moves(7).take(9).count(), 9);
}

#[test]
fn names_of_cohorts_are_replaced_by_ids() {
    let mut filters = cohorts().pop().unwrap().filters;
    resolve(&mut filters, &|name| (name == "Gone quiet").then_some(12));
    let values = &filters["properties"]["values"][0]["values"];
    assert_eq!(
        (&values[0]["value"], &values[1]["value"]),
        (&json!("Paying customers"), &json!(12))
    );
}

/// The properties and the events of a person.
#[derive(Default)]
struct PersonHistory {
    properties: Value,
    events: Vec<(String, DateTime<Utc>)>,
}

fn histories(persons: u32, events: u64) -> HashMap<String, PersonHistory> {
    let mut histories: HashMap<String, PersonHistory> = HashMap::new();
    for item in Population::new(persons, events, 5, now()).items() {
        let history = histories
            .entry(item["distinct_id"].to_string())
            .or_default();
        if item["properties"]["$set"].is_object() {
            history.properties = item["properties"]["$set"].clone();
        }
        history
            .events
            .push((item["event"].as_str().unwrap().to_owned(), time_of(&item)));
    }
    histories
}

impl PersonHistory {
    /// Evaluates the part of the filter language that the example cohorts use.
    fn is_in(&self, node: &Value) -> bool {
        let positive = match node["type"].as_str().unwrap() {
            "AND" => node["values"]
                .as_array()
                .unwrap()
                .iter()
                .all(|child| self.is_in(child)),
            "OR" => node["values"]
                .as_array()
                .unwrap()
                .iter()
                .any(|child| self.is_in(child)),
            "person" => self.matches(&self.properties[node["key"].as_str().unwrap()], node),
            "cohort" => {
                let mut referred = cohorts()
                    .into_iter()
                    .filter(|sample| node["value"] == sample.name);
                self.is_in(&referred.next().unwrap().filters["properties"])
            }
            _ => self.event_count(node) >= node["operator_value"].as_u64().unwrap_or(1),
        };
        positive != node["negation"].as_bool().unwrap_or(false)
    }

    fn matches(&self, stored: &Value, leaf: &Value) -> bool {
        let value = &leaf["value"];
        match leaf["operator"].as_str().unwrap() {
            "exact" => {
                value == stored || value.as_array().is_some_and(|list| list.contains(stored))
            }
            "icontains" => {
                let text = stored.as_str().unwrap_or_default().to_lowercase();
                text.contains(value.as_str().unwrap())
            }
            "lt" => stored
                .as_f64()
                .is_some_and(|number| number < value.as_f64().unwrap()),
            "is_set" => !stored.is_null(),
            other => panic!("{other}"),
        }
    }

    fn event_count(&self, leaf: &Value) -> u64 {
        let since = now() - Duration::days(leaf["time_value"].as_i64().unwrap());
        self.events
            .iter()
            .filter(|(event, at)| leaf["key"] == **event && *at >= since)
            .count() as u64
    }
}
