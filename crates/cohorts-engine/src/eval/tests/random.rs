//! Random projects and filters: plans over blocks agree with the naive evaluator.

use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;

use super::generators::{PERSONS, ZonedMoment, filters, moment, name, named, properties, time};
use super::naive::{self, NaiveEvent, NaivePerson, Population};
use crate::cases::{self, Project};
use crate::{Action, Filter, LeafCache, Reference, plan};

/// A population as a project.
pub(crate) fn project(population: &Population) -> Project {
    let ordinal = |person: &usize| *person as u32;
    let lists = population.lists.iter().map(|(id, list)| {
        let members = list.iter().map(ordinal).collect();
        (*id, Reference::Members(Arc::new(members)))
    });
    let filters = population
        .filters
        .iter()
        .map(|(id, filter)| (*id, Reference::Filter(Filter::parse(filter).unwrap())));
    Project {
        persons: population
            .persons
            .iter()
            .map(|person| cases::Person {
                properties: person.properties.clone(),
                ..cases::Person::default()
            })
            .collect(),
        events: population
            .events
            .iter()
            .map(|event| cases::Event {
                name: event.name.clone(),
                person: ordinal(&event.person),
                time: event.time,
                properties: event.properties.clone(),
            })
            .collect(),
        cohorts: lists.chain(filters).collect(),
        actions: population
            .actions
            .iter()
            .map(|(id, steps)| (*id, Action::parse(steps).unwrap()))
            .collect(),
    }
}

fn event(now: i64) -> impl Strategy<Value = NaiveEvent> + use<> {
    let event = (name(), 0..PERSONS, time(now), properties());
    event.prop_map(|(name, person, time, properties)| NaiveEvent {
        name: name.to_owned(),
        person,
        time,
        properties,
    })
}

/// Persons, their events, and the cohorts and actions that filters may refer to.
fn population(now: i64) -> impl Strategy<Value = Population> + use<> {
    let persons = vec(
        properties().prop_map(|properties| NaivePerson { properties }),
        PERSONS,
    );
    (persons, vec(event(now), 0..40), named()).prop_map(|(persons, events, named)| Population {
        persons,
        events,
        ..named
    })
}

/// A moment, a population and a filter.
pub(crate) fn setting() -> impl Strategy<Value = (ZonedMoment, Population, serde_json::Value)> {
    moment().prop_flat_map(|at| (Just(at), population(at.0), filters()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn plans_over_blocks_agree_with_the_naive_evaluator(
        ((now, zone), population, filters) in setting()
    ) {
        let at = crate::Moment::new(now, zone).unwrap();
        let plan = plan(&Filter::parse(&filters).unwrap(), &at).unwrap();
        let project = project(&population);
        let Ok(members) = plan.evaluate(&project);
        // All leaves are shared with another plan.
        let cache = LeafCache::new([&plan, &plan]);
        for _ in 0..2 {
            let Ok(cached) = plan.evaluate_with(&project, &cache);
            prop_assert_eq!(&cached, &members);
        }
        let members: Vec<usize> = members.iter().map(|person| person as usize).collect();
        prop_assert_eq!(members, naive::members(&population, &filters, now, zone));
    }
}
