//! Made-up but plausible people and what they did, for the demo: the same seed gives the same population.
//!
//! Items come in the wire format of a batch, so that the demo takes the very path that captured events take.
//! Their ids hang on the seed alone, so sending a population again adds nothing. No I/O, and no clock of its own.

use chrono::{DateTime, Duration, SecondsFormat, Utc};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use uuid::Uuid;

mod cohorts;
mod people;
#[cfg(test)]
mod tests;
mod time;
mod words;

pub use cohorts::{Definition, cohorts, resolve};

use people::Person;
use time::Course;

/// How far back the population's events reach.
pub const DAYS: u16 = 60;

/// A population that is made item by item, and never held whole.
pub struct Population {
    seed: u64,
    now: DateTime<Utc>,
    events: u64,
    people: Vec<Person>,
    /// The active ones' places in `people`; the earlier here, the more active.
    active: Vec<u32>,
}

impl Population {
    /// `people` people and `events` further events, none of them later than `now`.
    pub fn new(people: u32, events: u64, seed: u64, now: DateTime<Utc>) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let people: Vec<Person> = (0..people).map(|_| Person::made_up(&mut rng)).collect();
        let mut active: Vec<u32> = (0..)
            .zip(&people)
            .filter(|(_, one)| one.is_active())
            .map(|(at, _)| at)
            .collect();
        // Who is most active has nothing to do with who came first.
        for place in (1..active.len()).rev() {
            active.swap(place, rng.random_range(0..=place));
        }
        Self {
            seed,
            now,
            events,
            people,
            active,
        }
    }

    /// How many items there are: one for each person, and the events.
    #[allow(
        clippy::len_without_is_empty,
        reason = "nobody asks whether there are any"
    )]
    pub fn len(&self) -> u64 {
        self.people.len() as u64 + self.later_events()
    }

    /// First what makes each person known, then what they did, in the order of time.
    pub fn items(&self) -> impl Iterator<Item = Value> + '_ {
        let people = (0..)
            .zip(&self.people)
            .map(|(number, person)| self.introduction(number, person));
        people.chain(self.happenings())
    }

    fn later_events(&self) -> u64 {
        if self.active.is_empty() {
            0
        } else {
            self.events
        }
    }

    /// A person's sign-up, or for one who signed up before the window opens just the properties.
    fn introduction(&self, number: u32, person: &Person) -> Value {
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

    fn happenings(&self) -> impl Iterator<Item = Value> + '_ {
        let mut rng = StdRng::seed_from_u64(self.seed.wrapping_add(1));
        let course = Course::new(self.now, DAYS, self.later_events());
        course.enumerate().map(move |(index, at)| {
            let days_ago = (self.now - at).num_seconds() as f64 / 86_400.0;
            let number = self.someone_active(days_ago, &mut rng);
            let person = &self.people[number as usize];
            let (event, properties) = person.act(days_ago, &mut rng);
            self.item(event, number, at, format!("event/{index}"), properties)
        })
    }

    /// Somebody who had signed up by then and had not left yet. A few people do much and many do little.
    fn someone_active(&self, days_ago: f64, rng: &mut StdRng) -> u32 {
        const TRIES: usize = 40;
        let mut number = 0;
        for _ in 0..TRIES {
            let spread: f64 = rng.random();
            let share = if rng.random_bool(0.6) {
                // The place is as likely to have any number of digits as any other: Zipf's law.
                ((self.active.len() as f64).powf(spread) - 1.0) / self.active.len() as f64
            } else {
                spread
            };
            let place = (share * self.active.len() as f64) as usize;
            number = self.active[place.min(self.active.len() - 1)];
            if self.people[number as usize].is_here(days_ago) {
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
