//! The shared filter cases, and a project in memory that evaluates them. For tests only.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::sync::Arc;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use roaring::RoaringBitmap;
use serde_json::{Value, json};

use crate::{
    Action, EventBlock, EventBlockBuilder, EventQuery, Filter, FilterError, Interrupt, Moment,
    PropertyBlock, PropertyBlockBuilder, Reference, Source, TimesBlock, plan,
};

const CASES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/cases/filters");

/// An event of a project.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub name: String,
    pub person: u32,
    pub time: i64,
    pub properties: Value,
}

/// A person of a project. Its ordinal is its position in the list.
#[derive(Clone, Debug, Default)]
pub(crate) struct Person {
    pub distinct_ids: Vec<String>,
    pub properties: Value,
    pub created_at: i64,
}

/// A project in memory.
#[derive(Clone, Debug, Default)]
pub(crate) struct Project {
    pub persons: Vec<Person>,
    pub events: Vec<Event>,
    pub cohorts: HashMap<i64, Reference>,
    pub actions: HashMap<i64, Action>,
}

impl Interrupt for Project {
    type Error = Infallible;
}

impl Source for Project {
    fn persons(&self) -> Result<Arc<RoaringBitmap>, Infallible> {
        Ok(Arc::new((0..self.persons.len() as u32).collect()))
    }

    fn person_property(&self, key: &str) -> Result<Arc<PropertyBlock>, Infallible> {
        let mut block = PropertyBlockBuilder::new();
        for (ordinal, person) in self.persons.iter().enumerate().rev() {
            if let Some(value) = person.properties.get(key) {
                block.push_raw(ordinal as u32, &value.to_string());
            }
        }
        Ok(Arc::new(block.finish()))
    }

    fn created_at(&self) -> Result<Arc<TimesBlock>, Infallible> {
        let persons = self.persons.iter().enumerate();
        let rows = persons.map(|(ordinal, person)| (ordinal as u32, person.created_at));
        Ok(Arc::new(TimesBlock::new(rows)))
    }

    fn distinct_ids(&self) -> Result<Arc<PropertyBlock>, Infallible> {
        let mut block = PropertyBlockBuilder::new();
        for (ordinal, person) in self.persons.iter().enumerate() {
            for id in &person.distinct_ids {
                block.push(ordinal as u32, &json!(id));
            }
        }
        Ok(Arc::new(block.finish()))
    }

    fn events(&self, query: &EventQuery) -> Result<Vec<Arc<EventBlock>>, Infallible> {
        let blocks = day_blocks(&self.events, &query.event, &query.properties);
        Ok(answer(blocks, query))
    }

    fn event_names(&self) -> Result<Vec<String>, Infallible> {
        Ok(self.events.iter().map(|event| event.name.clone()).collect())
    }

    fn cohort(&self, id: i64) -> Result<Option<Reference>, Infallible> {
        Ok(self.cohorts.get(&id).cloned())
    }

    fn action(&self, id: i64) -> Result<Option<Action>, Infallible> {
        Ok(self.actions.get(&id).cloned())
    }
}

const DAY: i64 = 86_400_000_000;

/// The events of a name: two blocks per day.
pub(crate) fn day_blocks(
    events: &[Event],
    name: &str,
    properties: &[String],
) -> Vec<Arc<EventBlock>> {
    let mut days: BTreeMap<(i64, usize), EventBlockBuilder> = BTreeMap::new();
    let events = events.iter().filter(|event| event.name == name);
    for (nth, event) in events.enumerate() {
        let day = days.entry((event.time.div_euclid(DAY), nth % 2));
        let block = day.or_insert_with(|| EventBlockBuilder::new(properties));
        block.push(event.person, event.time, &event.properties);
    }
    let blocks = days.into_values().map(|block| Arc::new(block.finish()));
    blocks.collect()
}

/// The answer to a query. With `persons_only`, the blocks inside the range are combined.
pub(crate) fn answer(blocks: Vec<Arc<EventBlock>>, query: &EventQuery) -> Vec<Arc<EventBlock>> {
    let days = [query.from.unwrap_or(i64::MIN), query.to].map(|end| end.div_euclid(DAY));
    let is_inside = |block: &Arc<EventBlock>| {
        let span = block.span();
        days[0] < span.first.div_euclid(DAY) && span.last.div_euclid(DAY) < days[1]
    };
    let blocks = blocks.into_iter();
    let (inside, mut blocks): (Vec<_>, Vec<_>) =
        blocks.partition(|block| query.persons_only && is_inside(block));
    blocks.push(Arc::new(EventBlock::persons_of(&inside)));
    blocks
}

impl Project {
    fn ordinal_of(&self, distinct_id: &str) -> Option<u32> {
        let has_id = |person: &Person| person.distinct_ids.iter().any(|id| id == distinct_id);
        self.persons
            .iter()
            .position(has_id)
            .map(|ordinal| ordinal as u32)
    }

    /// Reads the persons, events and actions of a case.
    pub(crate) fn read(case: &Value) -> Project {
        let mut project = Project::default();
        for person in list(&case["persons"]) {
            project.persons.push(Person {
                distinct_ids: serde_json::from_value(person["distinct_ids"].clone()).unwrap(),
                properties: person["properties"].clone(),
                created_at: 0,
            });
        }
        for event in list(&case["events"]) {
            if let Some(person) = project.ordinal_of(event["distinct_id"].as_str().unwrap()) {
                project.events.push(Event {
                    name: event["event"].as_str().unwrap().to_owned(),
                    person,
                    time: micros(event["timestamp"].as_str().unwrap()),
                    properties: event["properties"].clone(),
                });
            }
        }
        for action in list(&case["actions"]) {
            let steps = serde_json::from_value(action.clone()).unwrap();
            project
                .actions
                .insert(action["id"].as_i64().unwrap(), steps);
        }
        project
    }

    /// Adds the cohorts of a case, and their ids to `ids`, by name.
    fn add_cohorts(&mut self, case: &Value, ids: &mut HashMap<String, i64>) {
        for cohort in list(&case["cohorts"]) {
            let id = 1_000 + ids.len() as i64;
            let reference = match cohort["is_static"].as_bool() {
                Some(true) => {
                    let members = list(&cohort["members"]).iter();
                    let members = members.filter_map(|id| self.ordinal_of(id.as_str().unwrap()));
                    Reference::Members(Arc::new(members.collect()))
                }
                _ => {
                    let filters = with_ids(&cohort["filters"], ids);
                    Reference::Filter(Filter::parse(&filters).unwrap())
                }
            };
            ids.insert(format!("@{}", cohort["ref"].as_str().unwrap()), id);
            self.cohorts.insert(id, reference);
        }
    }

    /// The ordinals of the members of a filter at a moment.
    pub(crate) fn members(&self, filters: &Value, at: &Moment) -> Result<Vec<u32>, FilterError> {
        let plan = plan(&Filter::parse(filters)?, at)?;
        let Ok(members) = plan.evaluate(self);
        Ok(members.iter().collect())
    }
}

pub(crate) fn micros(text: &str) -> i64 {
    text.parse::<Timestamp>().unwrap().as_microsecond()
}

/// A moment from an instant and the name of a time zone.
pub(crate) fn at(now: &str, zone: &str) -> Moment {
    Moment {
        now: micros(now),
        time_zone: TimeZone::get(zone).unwrap(),
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn with_ids(filters: &Value, ids: &HashMap<String, i64>) -> Value {
    let mut text = filters.to_string();
    for (name, id) in ids {
        text = text.replace(&json!(name).to_string(), &id.to_string());
    }
    serde_json::from_str(&text).unwrap()
}

/// All cases, named by their topic and their own name.
pub(crate) fn all() -> Vec<(String, Value)> {
    let mut cases = Vec::new();
    for file in std::fs::read_dir(CASES).unwrap() {
        let path = file.unwrap().path();
        let topic: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        for case in list(&topic["cases"]) {
            let name = format!("{}/{}", topic["topic"], case["name"]).replace('"', "");
            cases.push((name, case.clone()));
        }
    }
    cases
}

/// The result of a case: the first distinct id of each member, or the step that failed.
fn outcome(case: &Value) -> Result<Vec<String>, String> {
    let mut project = Project::read(case);
    let mut ids = HashMap::new();
    project.add_cohorts(case, &mut ids);
    let filters = with_ids(&case["filters"], &ids);
    let moment = at(
        case["now"].as_str().unwrap(),
        case["timezone"].as_str().unwrap(),
    );
    let filter = Filter::parse(&filters).map_err(|error| format!("write: {error}"))?;
    let plan = plan(&filter, &moment).map_err(|error| format!("plan: {error}"))?;
    let Ok(members) = plan.evaluate(&project);
    let first = |ordinal: u32| project.persons[ordinal as usize].distinct_ids[0].clone();
    Ok(members.iter().map(first).collect())
}

/// The difference between the result of a case and the expected result, if any.
fn mismatch(case: &Value) -> Option<String> {
    let outcome = outcome(case);
    let is_expected = match (&outcome, case["expect_error"].as_str()) {
        (Ok(members), None) => {
            let mut expected: Vec<&str> = list(&case["expect"])
                .iter()
                .filter_map(Value::as_str)
                .collect();
            let mut members: Vec<&str> = members.iter().map(String::as_str).collect();
            expected.sort_unstable();
            members.sort_unstable();
            expected == members
        }
        (Err(error), Some("write")) => error.starts_with("write: "),
        (Err(_), Some("any")) => true,
        _ => false,
    };
    (!is_expected).then(|| {
        format!(
            "{outcome:?}, expected {} {}",
            case["expect"], case["expect_error"]
        )
    })
}

#[test]
fn every_shared_case_has_the_expected_result() {
    let cases = all();
    assert!(cases.len() >= 128, "only {} cases", cases.len());
    let failed: Vec<String> = cases
        .iter()
        .filter_map(|(name, case)| Some(format!("{name}: {}", mismatch(case)?)))
        .collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}
