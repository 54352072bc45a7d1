//! Generated histories with merges and deletions, and generated filters: the service must agree with a naive evaluator
//! that reads only the result of the history.

mod generators;
mod naive;
mod operators;

use std::collections::{BTreeMap, BTreeSet};

use chrono::DateTime;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use reqwest::Method;
use serde_json::{Map, Value, json};

use crate::harness::Project;
use generators::{ZonedMoment, filters, moment, name, named, properties, time};
use naive::{NaiveEvent, NaivePerson, Population};

const IDS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

/// One change to the persons of a project.
#[derive(Clone, Debug)]
enum Step {
    Did(&'static str, &'static str, i64, Value),
    Set(&'static str, Value),
    /// The second person is merged into the first.
    Merge(&'static str, &'static str),
    Delete(&'static str),
}

fn step(now: i64) -> impl Strategy<Value = Step> + use<> {
    let id = || select(IDS.to_vec());
    let did = (id(), name(), time(now), properties());
    prop_oneof![
        10 => did.prop_map(|(id, name, time, properties)| Step::Did(id, name, time, properties)),
        4 => (id(), properties()).prop_map(|(id, properties)| Step::Set(id, properties)),
        2 => (id(), id()).prop_map(|(into, from)| Step::Merge(into, from)),
        1 => id().prop_map(Step::Delete),
    ]
}

/// The first steps, the distinct ids of a static cohort that is created after them, and the later steps.
type History = (Vec<Step>, Vec<&'static str>, Vec<Step>);

fn setting() -> impl Strategy<Value = (ZonedMoment, History, Population, Vec<Value>)> {
    moment().prop_flat_map(|at| {
        let history = (
            vec(step(at.0), 1..20),
            vec(select(IDS.to_vec()), 0..4),
            vec(step(at.0), 0..20),
        );
        (Just(at), history, named(), vec(filters(), 10))
    })
}

/// The expected persons by number, without merged and deleted ones.
#[derive(Default)]
struct Model {
    people: BTreeMap<usize, Map<String, Value>>,
    ids: BTreeMap<&'static str, usize>,
    events: Vec<NaiveEvent>,
    list: BTreeSet<usize>,
}

impl Model {
    fn person(&mut self, id: &'static str) -> usize {
        let next = self.people.keys().last().map_or(0, |last| last + 1);
        // Numbers of deleted persons are not reused.
        let next = next.max(
            self.events
                .iter()
                .map(|event| event.person + 1)
                .max()
                .unwrap_or(0),
        );
        let person = *self.ids.entry(id).or_insert(next);
        self.people.entry(person).or_default();
        person
    }

    fn happens(&mut self, name: &str, person: usize, time: i64, properties: &Value) {
        self.events.push(NaiveEvent {
            name: name.to_owned(),
            person,
            time,
            properties: properties.clone(),
        });
    }

    fn take(&mut self, step: &Step, now: i64) {
        match step {
            Step::Did(id, name, time, properties) => {
                let person = self.person(id);
                self.happens(name, person, *time, properties);
            }
            Step::Set(id, properties) => {
                let person = self.person(id);
                let own = self.people.get_mut(&person).expect("a person");
                own.extend(properties.as_object().expect("properties").clone());
                self.happens("$set", person, now, &json!({}));
            }
            Step::Merge(into, from) => {
                let person = self.merge(into, from);
                self.happens("$merge_dangerously", person, now, &json!({}));
            }
            Step::Delete(id) => {
                if let Some(person) = self.ids.get(id).copied() {
                    self.people.remove(&person);
                    self.list.remove(&person);
                    self.ids.retain(|_, other| *other != person);
                    self.events.retain(|event| event.person != person);
                }
            }
        }
    }

    fn merge(&mut self, into: &'static str, from: &'static str) -> usize {
        let (a, b) = match (self.ids.get(into), self.ids.get(from)) {
            (Some(a), Some(b)) => (*a, *b),
            (None, Some(b)) => (*b, *b),
            _ => {
                let a = self.person(into);
                (a, a)
            }
        };
        self.ids.extend([(into, a), (from, a)]);
        if a != b {
            let mut properties = self.people.remove(&b).expect("a person");
            properties.append(self.people.get_mut(&a).expect("a person"));
            self.people.insert(a, properties);
            let others = self.ids.values_mut().filter(|person| **person == b);
            others.for_each(|person| *person = a);
            let events = self.events.iter_mut().filter(|event| event.person == b);
            events.for_each(|event| event.person = a);
            if self.list.remove(&b) {
                self.list.insert(a);
            }
        }
        a
    }

    /// The remaining persons and events for the naive evaluator, and the number of each of its persons.
    fn population(&self, named: &Population) -> (Population, Vec<usize>) {
        let numbers: Vec<usize> = self.people.keys().copied().collect();
        let place = |person: &usize| numbers.iter().position(|one| one == person);
        let events = self.events.iter().filter_map(|event| {
            Some(NaiveEvent {
                person: place(&event.person)?,
                ..event.clone()
            })
        });
        let person = |properties: &Map<String, Value>| NaivePerson {
            properties: Value::Object(properties.clone()),
        };
        let population = Population {
            persons: self.people.values().map(person).collect(),
            events: events.collect(),
            lists: BTreeMap::from([
                (1, self.list.iter().filter_map(place).collect()),
                (2, (0..numbers.len()).collect()),
            ]),
            ..named.clone()
        };
        (population, numbers)
    }
}

/// Applies the steps to the service and to the model.
fn apply(project: &Project, model: &mut Model, steps: &[Step], now: i64) {
    let mut batch = Vec::new();
    let item = |event: &str, id: &str, time: i64, properties: Value| {
        let time = DateTime::from_timestamp_micros(time).expect("an instant");
        json!({"event": event, "distinct_id": id, "timestamp": time.to_rfc3339(), "properties": properties})
    };
    for step in steps {
        match step {
            Step::Did(id, name, time, properties) => {
                batch.push(item(name, id, *time, properties.clone()));
            }
            Step::Set(id, properties) => {
                batch.push(item("$set", id, now, json!({"$set": properties})))
            }
            Step::Merge(into, from) => {
                batch.push(item(
                    "$merge_dangerously",
                    into,
                    now,
                    json!({"alias": from}),
                ));
            }
            Step::Delete(id) => {
                send(project, &mut batch);
                if model.ids.contains_key(id) {
                    let path = format!("persons/{}/", project.person(id));
                    let answer = project.ask(Method::DELETE, &path, None);
                    assert!(answer.status < 300, "{}", answer.text);
                }
            }
        }
        model.take(step, now);
    }
    send(project, &mut batch);
}

fn send(project: &Project, batch: &mut Vec<Value>) {
    if !batch.is_empty() {
        project.capture(std::mem::take(batch).into());
    }
}

fn static_cohort(project: &Project, ids: impl Iterator<Item = &'static str>) -> i64 {
    let ids: Vec<String> = ids.map(|id| project.person(id)).collect();
    project.cohort(json!({"is_static": true, "_create_static_person_ids": ids}))
}

/// The filter with the ids that the service assigned to its cohorts and actions.
fn replace_ids(node: &Value, cohorts: &BTreeMap<i64, i64>, actions: &BTreeMap<i64, i64>) -> Value {
    let given = |ids: &BTreeMap<i64, i64>, id: &Value| json!(ids[&id.as_i64().expect("an id")]);
    match node {
        Value::Array(list) => list
            .iter()
            .map(|one| replace_ids(one, cohorts, actions))
            .collect(),
        Value::Object(map) => {
            let is = |key: &str, value: &str| map.get(key) == Some(&json!(value));
            let member = |(key, value): (&String, &Value)| {
                let value = match key.as_str() {
                    "value" if is("type", "cohort") => given(cohorts, value),
                    "key" if is("event_type", "actions") => given(actions, value),
                    "seq_event" if is("seq_event_type", "actions") => given(actions, value),
                    _ => replace_ids(value, cohorts, actions),
                };
                (key.clone(), value)
            };
            Value::Object(map.iter().map(member).collect())
        }
        other => other.clone(),
    }
}

/// The members of a filter according to the service, as numbers of the model.
fn members(project: &Project, model: &Model, filters: &Value, now: i64) -> BTreeSet<usize> {
    let as_of = DateTime::from_timestamp_micros(now)
        .expect("an instant")
        .to_rfc3339();
    let body = json!({"filters": filters, "as_of": as_of, "sample": 100});
    let answer = project.post("cohorts/preview/", body);
    assert_eq!(answer.status, 200, "{}", answer.text);
    let answer = answer.json();
    let shown = answer["sample"]
        .as_array()
        .expect("persons")
        .iter()
        .map(|person| {
            let id = person["distinct_ids"][0].as_str().expect("an id");
            model.ids[id]
        });
    let members: BTreeSet<usize> = shown.collect();
    assert_eq!(answer["count"], members.len(), "{filters}");
    members
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn service_and_naive_evaluator_agree(
        ((now, zone), (first, list, then), named, filters) in setting()
    ) {
        let project = Project::in_zone(zone);
        let mut model = Model::default();
        apply(&project, &mut model, &first, now);
        let listed: BTreeSet<&str> = list.into_iter().filter(|id| model.ids.contains_key(id)).collect();
        model.list = listed.iter().map(|id| model.ids[id]).collect();
        let list = static_cohort(&project, listed.into_iter());
        let action = |steps: &Value| {
            let action = project.post("actions/", json!({"steps": steps}));
            action.json()["id"].as_i64().expect("an id")
        };
        let actions = named.actions.iter().map(|(id, steps)| (*id, action(steps))).collect();
        // The filters are evaluated before and after the later steps.
        for steps in [Vec::new(), then] {
            apply(&project, &mut model, &steps, now);
            let all = static_cohort(&project, model.ids.keys().copied());
            let mut cohorts = BTreeMap::from([(1, list), (2, all)]);
            let dynamic = replace_ids(&named.filters[&3], &cohorts, &actions);
            cohorts.insert(3, project.cohort(json!({"filters": dynamic})));
            for filter in &filters {
                let replaced = replace_ids(filter, &cohorts, &actions);
                let actual = members(&project, &model, &replaced, now);
                let (population, numbers) = model.population(&named);
                let members = naive::members(&population, filter, now, zone);
                let expected: BTreeSet<usize> = members.into_iter().map(|place| numbers[place]).collect();
                prop_assert_eq!(actual, expected, "{}", filter);
            }
        }
    }
}
