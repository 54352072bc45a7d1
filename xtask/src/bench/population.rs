//! Generates a synthetic population: persons, and their events until an instant. The result is deterministic.
//!
//! Sign-ups grow over two years. Activity differs widely between persons and varies by hour and weekday.
//! Event names, countries, companies and pages have unequal weights. Persons come in order of sign-up and events in order
//! of time, one by one, so a population of any size takes little memory.

mod lines;
mod words;

use chrono::{DateTime, TimeDelta, Timelike, Utc};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

pub use lines::{write_event, write_person, write_tables};
use words::{BROWSERS, COUNTRIES, DOMAINS, FIRST_NAMES, LAST_NAMES, PLANS};
pub use words::{EVENTS, PAGEVIEW, PURCHASE, SIGNUP, SURVEY};

const SEED: u64 = 20_260_630;
/// The days before `now` that have events.
const EVENT_DAYS: i64 = 90;
/// The days before `now` that have sign-ups.
const SIGNUP_DAYS: i64 = 720;
const MILLIS_PER_HOUR: i64 = 3_600_000;
const MILLIS_PER_DAY: i64 = 24 * MILLIS_PER_HOUR;
/// One of this number of events is a repeated sign-up.
const REPEATED_SIGNUPS: usize = 500;
/// A prime number that spreads the most active persons over all indexes.
const SPREAD: u128 = 2_654_435_761;

/// The numbers of persons and events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    pub persons: usize,
    pub events: usize,
}

pub struct Person {
    pub index: usize,
    /// Milliseconds since the Unix epoch.
    pub signed_up: i64,
    pub plan: &'static str,
    pub country: &'static str,
    pub age: u32,
    pub email: String,
    pub company: usize,
}

pub struct Event {
    /// Milliseconds since the Unix epoch.
    pub time: i64,
    /// The index of the person.
    pub person: usize,
    /// The index of the name in [`EVENTS`].
    pub name: usize,
    pub browser: &'static str,
    pub page: usize,
    /// The price in cents; only purchases have one.
    pub price: Option<u32>,
}

/// A discrete distribution, as cumulative probabilities.
struct Distribution(Vec<f64>);

impl Distribution {
    fn new(weights: impl IntoIterator<Item = f64>) -> Distribution {
        let mut sum = 0.0;
        let mut sums: Vec<f64> = weights
            .into_iter()
            .map(|weight| {
                sum += weight;
                sum
            })
            .collect();
        sums.iter_mut().for_each(|total| *total /= sum);
        Distribution(sums)
    }

    /// A Zipf distribution: the weight of the n-th of `count` values is `1 / n^exponent`.
    fn zipf(count: usize, exponent: f64) -> Distribution {
        Distribution::new((1..=count).map(|nth| 1.0 / (nth as f64).powf(exponent)))
    }

    fn sample(&self, rng: &mut StdRng) -> usize {
        let point: f64 = rng.random();
        self.0
            .partition_point(|sum| *sum < point)
            .min(self.0.len() - 1)
    }

    /// How many of `total` fall on the n-th value. All values together get exactly `total`.
    fn share(&self, nth: usize, total: usize) -> usize {
        let through = |sum: f64| (sum * total as f64).round() as usize;
        let before = nth.checked_sub(1).map_or(0, |last| through(self.0[last]));
        through(self.0[nth]) - before
    }
}

/// Chooses a value. The weights add up to 1.
fn choose<T: Copy>(values: &[(T, f64)], rng: &mut StdRng) -> T {
    let mut point: f64 = rng.random();
    for (value, weight) in values {
        point -= weight;
        if point < 0.0 {
            return *value;
        }
    }
    values[values.len() - 1].0
}

/// A population, which generates its persons and events again at each call.
pub struct Population {
    pub size: Size,
    /// The end of the generation, in milliseconds since the Unix epoch. All times are before it.
    now: i64,
    names: Distribution,
    pages: Distribution,
    hours: Distribution,
}

impl Population {
    /// `now` is in milliseconds since the Unix epoch.
    pub fn new(size: Size, now: i64) -> Population {
        let start = now - EVENT_DAYS * MILLIS_PER_DAY;
        let hours = 0..EVENT_DAYS * 24;
        Population {
            size,
            now,
            names: Distribution::zipf(SIGNUP, 1.0),
            pages: Distribution::zipf(2_000, 0.9),
            hours: Distribution::new(hours.map(|hour| hour_weight(start + hour * MILLIS_PER_HOUR))),
        }
    }

    /// The end of the generation.
    pub fn now(&self) -> DateTime<Utc> {
        instant(self.now)
    }

    /// The persons in order of sign-up.
    pub fn persons(&self) -> impl Iterator<Item = Person> {
        let mut rng = StdRng::seed_from_u64(SEED);
        let countries = Distribution::zipf(COUNTRIES.len(), 1.0);
        let companies = Distribution::zipf(20_000, 0.7);
        (0..self.size.persons).map(move |index| {
            let rng = &mut rng;
            let first = FIRST_NAMES[rng.random_range(0..FIRST_NAMES.len())];
            let last = LAST_NAMES[rng.random_range(0..LAST_NAMES.len())];
            Person {
                index,
                signed_up: self.signed_up(index),
                plan: choose(&PLANS, rng),
                country: COUNTRIES[countries.sample(rng)],
                age: rng.random_range(16..80),
                email: format!("{first}.{last}{index}@{}", choose(&DOMAINS, rng)),
                company: companies.sample(rng),
            }
        })
    }

    /// The events in order of time.
    pub fn events(&self) -> impl Iterator<Item = Event> {
        let mut rng = StdRng::seed_from_u64(SEED + 1);
        let hours = 0..self.hours.0.len();
        let events = hours.flat_map(move |hour| self.events_of_hour(hour, &mut rng));
        events.take(self.size.events)
    }

    /// `count` events with times from `from` to `until`, in order of time.
    pub fn burst(&self, count: usize, (from, until): (i64, i64)) -> impl Iterator<Item = Event> {
        let mut rng = StdRng::seed_from_u64(SEED + 2);
        let length = (until - from) as f64 / count.max(1) as f64;
        (0..count).map(move |nth| {
            let time = from + (nth as f64 * length) as i64;
            let name = self.names.sample(&mut rng);
            let person = self.active_person(time, &mut rng);
            self.event(person, name, time, &mut rng)
        })
    }

    /// The time of a person's sign-up. It rises with the index.
    fn signed_up(&self, index: usize) -> i64 {
        let span = SIGNUP_DAYS * MILLIS_PER_DAY;
        let part = (index as f64 + 0.5) / self.size.persons as f64;
        self.now - span + (part.sqrt() * (span - 60_000) as f64) as i64
    }

    /// The number of persons who signed up before `time`.
    fn signed_up_before(&self, time: i64) -> usize {
        let (mut low, mut high) = (0, self.size.persons);
        while low < high {
            let middle = low.midpoint(high);
            if self.signed_up(middle) < time {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    /// A person who signed up before `time`. A few persons are far more active than the others.
    fn active_person(&self, time: i64, rng: &mut StdRng) -> usize {
        // The weight of a person is 1 / (rank + 50)^0.75, so the sum of the weights grows with the fourth root.
        let root = |rank: f64| (rank + 50.0).powf(0.25);
        let (least, most) = (root(0.0), root(self.size.persons as f64));
        let rank = (least + rng.random::<f64>() * (most - least)).powi(4) - 50.0;
        let index = (rank.max(0.0) as u128 * SPREAD + 7) % self.size.persons as u128;
        let index = index as usize;
        if self.signed_up(index) < time {
            index
        } else {
            index % self.signed_up_before(time).max(1)
        }
    }

    fn events_of_hour(&self, hour: usize, rng: &mut StdRng) -> Vec<Event> {
        let start = self.now - (EVENT_DAYS * 24 - hour as i64) * MILLIS_PER_HOUR;
        let end = start + MILLIS_PER_HOUR;
        let new = self.signed_up_before(start)..self.signed_up_before(end);
        let first_new = self.signed_up_before(self.now - EVENT_DAYS * MILLIS_PER_DAY);
        let signups = self.size.persons - first_new;
        let others = self
            .hours
            .share(hour, self.size.events.saturating_sub(signups));
        let mut events: Vec<Event> = new
            .map(|person| self.event(person, SIGNUP, self.signed_up(person), rng))
            .collect();
        for _ in 0..others {
            let time = rng.random_range(start..end);
            let person = self.active_person(time, rng);
            let name = if rng.random_range(0..REPEATED_SIGNUPS) == 0 {
                SIGNUP
            } else {
                self.names.sample(rng)
            };
            events.push(self.event(person, name, time, rng));
        }
        events.sort_by_key(|event| event.time);
        events
    }

    fn event(&self, person: usize, name: usize, time: i64, rng: &mut StdRng) -> Event {
        Event {
            time,
            person,
            name,
            browser: choose(&BROWSERS, rng),
            page: self.pages.sample(rng),
            price: (name == PURCHASE).then(|| (rng.random::<f64>().powi(3) * 40_000.0) as u32 + 99),
        }
    }
}

/// The activity at a time: lower at night and on weekends.
fn hour_weight(time: i64) -> f64 {
    let hour_of_day = instant(time).hour();
    let weight = 1.0 + 0.85 * ((f64::from(hour_of_day) - 8.0) / 24.0 * std::f64::consts::TAU).sin();
    let is_weekend = (time / MILLIS_PER_DAY + 3) % 7 >= 5;
    weight * if is_weekend { 0.55 } else { 1.0 }
}

fn instant(millis: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::milliseconds(millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_in_order_and_of_persons_who_signed_up() {
        let size = Size {
            persons: 500,
            events: 5_000,
        };
        let now = 1_782_831_600_000;
        let population = Population::new(size, now);
        let persons: Vec<Person> = population.persons().collect();
        let events: Vec<Event> = population.events().collect();
        assert_eq!((persons.len(), events.len()), (size.persons, size.events));
        assert!(events.is_sorted_by_key(|event| event.time));
        assert!(persons.is_sorted_by_key(|person| person.signed_up));
        let is_later = |event: &Event| event.time >= persons[event.person].signed_up;
        assert!(events.iter().all(is_later));
        assert!(events.iter().all(|event| event.time < now));
        let again = population.events().zip(&events);
        assert!(
            again
                .into_iter()
                .all(|(left, right)| left.person == right.person)
        );
    }
}
