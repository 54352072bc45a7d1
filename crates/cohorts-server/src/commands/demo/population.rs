//! Generated persons and their events. The same seed gives the same population.
//!
//! Items are in the wire format of a batch, so the demo uses the path of captured events. Their uuids depend only on the
//! seed, so sending a population again adds nothing. This module does no I/O and reads no clock.

use chrono::{DateTime, Duration, SecondsFormat, Utc};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use uuid::Uuid;

mod cohorts;
mod moves;
mod person;
#[cfg(test)]
mod tests;
mod time;
mod words;

pub use cohorts::{SampleCohort, cohorts, resolve};

use moves::Moves;
use person::SyntheticPerson;
use time::EventTimes;

/// The days before `now` in which events happen.
pub const DAYS: u16 = 60;

/// A population. Its items are generated one at a time.
pub struct Population {
    seed: u64,
    now: DateTime<Utc>,
    events: u64,
    persons: Vec<SyntheticPerson>,
    /// The active persons as positions in `persons`, the most active first.
    active: Vec<u32>,
}

impl Population {
    /// A population of `persons` persons with `events` events besides sign-ups, none later than `now`.
    pub fn new(persons: u32, events: u64, seed: u64, now: DateTime<Utc>) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let persons: Vec<SyntheticPerson> = (0..persons)
            .map(|_| SyntheticPerson::generate(&mut rng))
            .collect();
        let mut active: Vec<u32> = (0..)
            .zip(&persons)
            .filter(|(_, person)| person.is_active())
            .map(|(position, _)| position)
            .collect();
        // Shuffled, so activity does not depend on the order of persons.
        for position in (1..active.len()).rev() {
            active.swap(position, rng.random_range(0..=position));
        }
        Self {
            seed,
            now,
            events,
            persons,
            active,
        }
    }

    /// The number of items: one per person, and the events.
    pub fn item_count(&self) -> u64 {
        self.persons.len() as u64 + self.event_count()
    }

    /// An item that creates each person, then the events by time.
    pub fn items(&self) -> impl Iterator<Item = Value> + '_ {
        let sign_ups = (0..)
            .zip(&self.persons)
            .map(|(number, person)| self.sign_up(number, person));
        sign_ups.chain(self.events())
    }

    /// What the persons do from now on, without an end.
    pub fn moves(&self, seed: u64) -> Moves<'_> {
        Moves::new(self, StdRng::seed_from_u64(seed))
    }

    fn event_count(&self) -> u64 {
        if self.active.is_empty() {
            0
        } else {
            self.events
        }
    }

    /// The sign-up event of a person, or only the properties if the person signed up before the window.
    fn sign_up(&self, number: u32, person: &SyntheticPerson) -> Value {
        let mut rng = StdRng::seed_from_u64(
            self.seed ^ (u64::from(number) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15),
        );
        let signed_up = self.now - Duration::minutes(person.signed_up_minutes_ago());
        let (event, at) = if person.signed_up_days_ago() < f64::from(DAYS) {
            ("signup_completed", signed_up)
        } else {
            ("$set", self.now - Duration::days(i64::from(DAYS)))
        };
        let properties = json!({
            "$set": person.properties(number, signed_up.date_naive(), &mut rng),
            "$browser": person.browser(),
            "method": words::pick(&words::LOGIN_METHODS, &mut rng),
        });
        self.item(event, number, at, format!("person/{number}"), properties)
    }

    fn events(&self) -> impl Iterator<Item = Value> + '_ {
        let mut rng = StdRng::seed_from_u64(self.seed.wrapping_add(1));
        let times = EventTimes::new(self.now, DAYS, self.event_count());
        times.enumerate().map(move |(index, at)| {
            let days_ago = (self.now - at).num_seconds() as f64 / 86_400.0;
            let number = self.pick_active_person(days_ago, &mut rng);
            let person = &self.persons[number as usize];
            let (event, properties) = person.next_event(days_ago, &mut rng);
            self.item(event, number, at, format!("event/{index}"), properties)
        })
    }

    /// A random person who is present `days_ago`. Few persons cause many events, many persons few.
    fn pick_active_person(&self, days_ago: f64, rng: &mut StdRng) -> u32 {
        const TRIES: usize = 40;
        let mut number = 0;
        for _ in 0..TRIES {
            let spread: f64 = rng.random();
            let share = if rng.random_bool(0.6) {
                // A uniform exponent gives a distribution like Zipf's law.
                ((self.active.len() as f64).powf(spread) - 1.0) / self.active.len() as f64
            } else {
                spread
            };
            let position = (share * self.active.len() as f64) as usize;
            number = self.active[position.min(self.active.len() - 1)];
            if self.persons[number as usize].is_present(days_ago) {
                break;
            }
        }
        number
    }

    fn item(
        &self,
        event: &str,
        number: u32,
        at: DateTime<Utc>,
        name: String,
        properties: Value,
    ) -> Value {
        let name = format!("cohorts demo/{}/{name}", self.seed);
        json!({
            "event": event,
            "distinct_id": format!("u-{number:06}"),
            "timestamp": at.to_rfc3339_opts(SecondsFormat::Millis, true),
            "uuid": Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes()),
            "properties": properties,
        })
    }
}
