//! Random projects, filters and moments: members, evidence and changes agree with the naive
//! evaluator.

use std::cmp::Reverse;

use proptest::prelude::*;
use serde_json::Value;

use super::super::{ExplainedCriterion, Found, FoundEvents};
use super::{explain, filter};
use crate::Moment;
use crate::cases::Project;
use crate::eval::tests::generators::{PERSONS, ZonedMoment};
use crate::eval::tests::naive::{self, Population};
use crate::eval::tests::random::{project, setting};

const DAY: i64 = 86_400_000_000;

/// The number of triples of a person, a filter and a moment.
fn triples() -> u32 {
    let number = std::env::var("COHORTS_EXPLAIN_TRIPLES").ok();
    let number = number.and_then(|number| number.parse().ok());
    number.unwrap_or(250)
}

/// Checks that the events are those of the person, the newest first.
fn check_events(project: &Project, ordinal: u32, found: &FoundEvents) {
    assert_eq!(found.events.len(), found.count.min(10));
    assert!(found.events.is_sorted_by_key(|event| Reverse(event.time)));
    for event in &found.events {
        let row = &project.events[event.uuid as usize];
        let expected = (ordinal, &event.name, event.time);
        assert_eq!((row.person, &row.name, row.time), expected);
    }
    assert_eq!(found.last_at, found.events.first().map(|event| event.time));
    assert!(found.first_at <= found.last_at);
    let of_person = |time| {
        let mut events = project.events.iter();
        events.any(|event| event.person == ordinal && event.time == time)
    };
    assert!(found.first_at.is_none_or(of_person));
}

fn check_criterion(
    project: &Project,
    ordinal: u32,
    filters: &Value,
    criterion: &ExplainedCriterion,
) {
    let pointer = criterion.path.replace(".values[", "/values/");
    let pointer = format!("/{}", pointer.replace(']', ""));
    let leaf = filters.pointer(&pointer).unwrap();
    assert_eq!(leaf["negation"] == true, criterion.negated);
    let is_met = criterion.holds != criterion.negated;
    match &criterion.found {
        Found::Value(value) => {
            let properties = &project.persons[ordinal as usize].properties;
            assert_eq!(value, &properties[leaf["key"].as_str().unwrap()]);
        }
        Found::Events(events) => {
            check_events(project, ordinal, events);
            if leaf["value"] == "performed_event" {
                assert_eq!(is_met, events.count > 0);
            }
            assert!(!is_met || events.count > 0);
        }
        Found::Cohort {
            cohort_id,
            member,
            criteria,
        } => {
            assert_eq!(leaf["value"], *cohort_id);
            assert_eq!(*member, is_met);
            assert_eq!(criteria.is_empty(), *cohort_id != 3);
        }
    }
}

/// Checks an explanation, and its next change at that instant, just before it, and on the way.
fn check(population: &Population, filters: &Value, (now, zone): ZonedMoment, ordinal: u32) {
    let project = project(population);
    let at = Moment::new(now, zone).unwrap();
    let (explanation, change) = explain(&project, &filter(filters), ordinal, &at);
    let person = ordinal as usize;
    let is_member = |now| naive::members(population, filters, now, zone).contains(&person);
    assert_eq!(explanation.member, is_member(now));
    for criterion in &explanation.criteria {
        check_criterion(&project, ordinal, filters, criterion);
    }
    let end = match change {
        Some(change) => {
            assert!(change.at > now);
            assert_eq!(change.member, is_member(change.at));
            assert_eq!(explanation.member, !change.member);
            change.at - 1
        }
        None => now + 1_000 * DAY,
    };
    for part in 1..=4 {
        let instant = now + (end - now) / 4 * part + (end - now) % 4;
        assert_eq!(
            explanation.member,
            is_member(instant),
            "{instant} {change:?}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(triples()))]

    #[test]
    fn explanations_agree_with_the_naive_evaluator(
        (at, population, filters) in setting(),
        person in 0..PERSONS as u32,
    ) {
        check(&population, &filters, at, person);
    }
}
