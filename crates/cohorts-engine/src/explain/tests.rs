//! Explanations against full evaluation and the naive evaluator.

mod facts;
mod random;

use std::convert::Infallible;

use serde_json::{Value, json};

use super::{
    EventRows, Explainer, NextChange, PersonEvent, PersonExplanation, PersonRows, PersonSource,
};
use crate::cases::Project;
use crate::delta::Definition;
use crate::{Action, Filter, Interrupt, Moment, Reference, Source};

/// One person of a project. The uuid of an event is its position in the list of events.
struct OnePerson<'a> {
    project: &'a Project,
    ordinal: u32,
}

impl Interrupt for OnePerson<'_> {
    type Error = Infallible;
}

impl PersonRows for OnePerson<'_> {
    fn ordinal(&self) -> u32 {
        self.ordinal
    }

    fn created_at(&self) -> i64 {
        self.project.persons[self.ordinal as usize].created_at
    }

    fn property(&self, key: &str) -> Result<Option<Value>, Infallible> {
        let properties = &self.project.persons[self.ordinal as usize].properties;
        Ok(properties.get(key).cloned())
    }

    fn distinct_ids(&self) -> Result<Vec<String>, Infallible> {
        Ok(self.project.persons[self.ordinal as usize]
            .distinct_ids
            .clone())
    }

    fn events(&self, rows: &EventRows) -> Result<Vec<PersonEvent>, Infallible> {
        let events = self.project.events.iter().enumerate();
        let wanted = events.filter(|(_, event)| {
            let names = rows.names.as_ref();
            event.person == self.ordinal
                && event.time >= rows.from
                && names.is_none_or(|names| names.contains(&event.name))
        });
        let event = wanted.map(|(nth, event)| {
            let values = rows.properties.iter().map(|key| event.properties.get(key));
            PersonEvent {
                uuid: nth as u128,
                name: event.name.clone(),
                time: event.time,
                properties: values.map(|value| value.map(Value::to_string)).collect(),
            }
        });
        Ok(event.collect())
    }

    fn cohort(&self, id: i64) -> Result<Option<Reference>, Infallible> {
        Source::cohort(self.project, id)
    }

    fn action(&self, id: i64) -> Result<Option<Action>, Infallible> {
        Source::action(self.project, id)
    }
}

/// The explanation of a person, and the next change.
fn explain(
    project: &Project,
    definition: &Definition,
    ordinal: u32,
    at: &Moment,
) -> (PersonExplanation, Option<NextChange>) {
    let source = PersonSource::new(OnePerson { project, ordinal });
    let Ok(explainer) = Explainer::new(definition.clone(), &source, at);
    let plan = explainer.plan(at).unwrap();
    let Ok(explanation) = explainer.explain(&plan);
    let Ok(change) = explainer.next_change(at, explanation.member);
    (explanation, change)
}

fn filter(filters: &Value) -> Definition {
    Definition::Filter(Filter::parse(filters).unwrap())
}

fn all_of(leaves: Value) -> Definition {
    filter(&json!({"properties": {"type": "AND", "values": leaves}}))
}
