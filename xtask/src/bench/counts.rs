//! The numbers of persons with one and with two events of a name, which show lost and repeated events.

use anyhow::{Result, ensure};
use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Value, json};

use super::population::{EVENTS, Event, PAGEVIEW, PURCHASE, SIGNUP, SURVEY};
use crate::service::{Access, Service};

/// The counted names, as indexes of [`EVENTS`].
const NAMES: [usize; 3] = [PURCHASE, SURVEY, SIGNUP];

/// A set of persons.
struct PersonSet(Vec<u64>);

impl PersonSet {
    fn new(persons: usize) -> PersonSet {
        PersonSet(vec![0; persons.div_ceil(64)])
    }

    /// Adds a person, and returns whether the set did not have it.
    fn insert(&mut self, person: usize) -> bool {
        let (word, bit) = (&mut self.0[person / 64], 1 << (person % 64));
        let is_new = *word & bit == 0;
        *word |= bit;
        is_new
    }

    fn len(&self) -> u64 {
        self.0.iter().map(|word| u64::from(word.count_ones())).sum()
    }
}

/// The persons of the generated events.
pub struct Counts {
    persons: usize,
    pageviews: usize,
    /// For each of [`NAMES`], the persons with at least one and with at least two events.
    sets: [[PersonSet; 2]; NAMES.len()],
}

impl Counts {
    pub fn new(persons: usize) -> Counts {
        Counts {
            persons,
            pageviews: 0,
            sets: NAMES.map(|_| [PersonSet::new(persons), PersonSet::new(persons)]),
        }
    }

    pub fn add(&mut self, event: &Event) {
        self.pageviews += usize::from(event.name == PAGEVIEW);
        let counted = NAMES.iter().zip(&mut self.sets);
        for (_, [once, twice]) in counted.filter(|(name, _)| **name == event.name) {
            if !once.insert(event.person) {
                twice.insert(event.person);
            }
        }
    }

    /// The numbers of persons with at least one and with at least two events, by name.
    pub fn expected(&self) -> Vec<ExpectedCount> {
        let sets = NAMES.iter().zip(&self.sets);
        let counts = sets.flat_map(|(name, sets)| {
            sets.iter().zip(1..).map(|(set, least)| ExpectedCount {
                event: EVENTS[*name],
                least,
                persons: set.len(),
            })
        });
        counts.collect()
    }

    pub fn persons(&self) -> usize {
        self.persons
    }

    /// The number of `$pageview` events.
    pub fn pageviews(&self) -> usize {
        self.pageviews
    }
}

/// The number of persons with at least `least` events of a name.
pub struct ExpectedCount {
    pub event: &'static str,
    pub least: u64,
    pub persons: u64,
}

impl ExpectedCount {
    /// The filter that matches these persons, with events from `from` on.
    pub fn filter_since(&self, from: DateTime<Utc>) -> Value {
        let from = from.to_rfc3339_opts(SecondsFormat::Millis, true);
        json!({"properties": {"type": "AND", "values": [
            {"type": "behavioral", "value": "performed_event_multiple", "key": self.event, "event_type": "events",
                "operator": "gte", "operator_value": self.least, "explicit_datetime": from}]}})
    }
}

/// Checks the number of persons, and the numbers of persons with one and two events.
pub fn check(
    service: &Service,
    access: &Access,
    (persons, expected): (usize, &[ExpectedCount]),
    now: DateTime<Utc>,
) -> Result<Value> {
    let page = service.get(access, "persons/?limit=1&include_total=true")?;
    ensure!(
        page["count"] == persons,
        "{} persons instead of {persons}",
        page["count"]
    );
    let mut counts = Vec::new();
    for count in expected {
        let filter = count.filter_since(DateTime::UNIX_EPOCH);
        let preview = service.preview_when_loaded(access, &filter, now)?;
        let (event, least) = (count.event, count.least);
        ensure!(
            preview.count == count.persons,
            "{} persons with at least {least} events {event} instead of {}",
            preview.count,
            count.persons
        );
        counts.push(json!({"event": event, "at_least": least, "persons": count.persons}));
    }
    Ok(json!({"persons": persons, "events": counts}))
}
