//! Generates a synthetic population: persons, and their events until an instant. The result is deterministic.
//!
//! Sign-ups grow over two years. Activity differs widely between persons and varies by hour and weekday.
//! Event names, countries, companies and pages have unequal weights.

use std::fmt::Write as _;
use std::io::Write;

use anyhow::Result;
use chrono::{DateTime, SecondsFormat, TimeDelta, Timelike, Utc};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

pub const EVENTS: [&str; 30] = [
    "$pageview",
    "$autocapture",
    "$pageleave",
    "$identify",
    "purchase",
    "add_to_cart",
    "search",
    "$feature_flag_called",
    "view_item",
    "checkout_started",
    "video_played",
    "share",
    "comment",
    "like",
    "follow",
    "export",
    "invite_sent",
    "settings_changed",
    "upload",
    "churn_survey",
    "download",
    "login",
    "logout",
    "help_opened",
    "trial_started",
    "plan_changed",
    "api_key_created",
    "webhook_added",
    "error_seen",
    "signup_completed",
];
/// The index of `purchase` in [`EVENTS`].
const PURCHASE: usize = 4;
/// The index of `signup_completed` in [`EVENTS`].
const SIGNUP: usize = 29;
const BROWSERS: [(&str, f64); 6] = [
    ("Chrome", 0.62),
    ("Safari", 0.2),
    ("Firefox", 0.07),
    ("Edge", 0.06),
    ("Opera", 0.03),
    ("Samsung Internet", 0.02),
];
const PLANS: [(&str, f64); 4] = [
    ("free", 0.7),
    ("starter", 0.17),
    ("pro", 0.1),
    ("enterprise", 0.03),
];
const COUNTRIES: [&str; 20] = [
    "US", "DE", "GB", "FR", "IN", "BR", "CA", "AU", "NL", "ES", "IT", "PL", "SE", "JP", "KR", "MX",
    "CH", "AT", "BE", "DK",
];
const FIRST_NAMES: [&str; 16] = [
    "anna", "ben", "carla", "dan", "eva", "finn", "gina", "hans", "ida", "jon", "kim", "leo",
    "mia", "noah", "olga", "Paul",
];
const LAST_NAMES: [&str; 16] = [
    "smith", "jones", "meyer", "schmidt", "silva", "garcia", "brown", "lee", "patel", "novak",
    "rossi", "dubois", "larsen", "sato", "costa", "Goldman",
];
const DOMAINS: [(&str, f64); 5] = [
    ("gmail.com", 0.45),
    ("outlook.com", 0.25),
    ("yahoo.com", 0.15),
    ("example.org", 0.1),
    ("acme.io", 0.05),
];
const SEED: u64 = 20_260_630;
/// The days before `now` that have events.
const EVENT_DAYS: i64 = 90;
/// The days before `now` that have sign-ups.
const SIGNUP_DAYS: i64 = 720;
const MILLIS_PER_HOUR: i64 = 3_600_000;
const MILLIS_PER_DAY: i64 = 24 * MILLIS_PER_HOUR;

/// The numbers of persons and events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    pub persons: usize,
    pub events: usize,
}

pub struct Person {
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

/// Generates persons in order of sign-up and events in order of time.
///
/// `now` is in milliseconds since the Unix epoch, and all times are before it.
pub fn generate(size: Size, now: i64) -> (Vec<Person>, Vec<Event>) {
    let rng = &mut StdRng::seed_from_u64(SEED);
    let persons = persons(size.persons, now, rng);
    let mut events = events(&persons, size.events, now, rng);
    events.sort_by_key(|event| event.time);
    (persons, events)
}

fn persons(count: usize, now: i64, rng: &mut StdRng) -> Vec<Person> {
    let span = SIGNUP_DAYS * MILLIS_PER_DAY;
    let mut signups: Vec<i64> = (0..count)
        .map(|_| now - span + (rng.random::<f64>().sqrt() * (span - 60_000) as f64) as i64)
        .collect();
    signups.sort_unstable();
    let countries = Distribution::zipf(COUNTRIES.len(), 1.0);
    let companies = Distribution::zipf(20_000, 0.7);
    let person = |(number, signed_up)| {
        let first = FIRST_NAMES[rng.random_range(0..FIRST_NAMES.len())];
        let last = LAST_NAMES[rng.random_range(0..LAST_NAMES.len())];
        Person {
            signed_up,
            plan: choose(&PLANS, rng),
            country: COUNTRIES[countries.sample(rng)],
            age: rng.random_range(16..80),
            email: format!("{first}.{last}{number}@{}", choose(&DOMAINS, rng)),
            company: companies.sample(rng),
        }
    };
    signups.into_iter().enumerate().map(person).collect()
}

fn events(persons: &[Person], count: usize, now: i64, rng: &mut StdRng) -> Vec<Event> {
    let start = now - EVENT_DAYS * MILLIS_PER_DAY;
    // The shuffle spreads the most active persons over all indexes.
    let mut ranks: Vec<usize> = (0..persons.len()).collect();
    for index in (1..ranks.len()).rev() {
        ranks.swap(index, rng.random_range(0..=index));
    }
    let activity = Distribution::new(
        ranks
            .iter()
            .map(|rank| 1.0 / (*rank as f64 + 50.0).powf(0.75)),
    );
    let names = Distribution::zipf(SIGNUP, 1.0);
    let pages = Distribution::zipf(2_000, 0.9);
    let hours = Distribution::new(
        (0..EVENT_DAYS * 24).map(|hour| hour_weight(start + hour * MILLIS_PER_HOUR)),
    );
    let first_new = persons.partition_point(|person| person.signed_up < start);
    let mut occurrences = Vec::with_capacity(count);
    for (index, person) in persons.iter().enumerate().skip(first_new) {
        occurrences.push((index, SIGNUP, person.signed_up));
    }
    for _ in 0..count / 500 {
        let index = rng.random_range(0..persons.len());
        let earliest = persons[index].signed_up.max(start) + 1;
        occurrences.push((index, SIGNUP, rng.random_range(earliest..now)));
    }
    while occurrences.len() < count {
        let index = activity.sample(rng);
        let hour = start + hours.sample(rng) as i64 * MILLIS_PER_HOUR;
        let mut time = hour + rng.random_range(0..MILLIS_PER_HOUR);
        let signed_up = persons[index].signed_up;
        if time <= signed_up {
            time =
                signed_up + 1 + (rng.random::<f64>().powi(2) * (now - signed_up - 2) as f64) as i64;
        }
        occurrences.push((index, names.sample(rng), time));
    }
    occurrences
        .into_iter()
        .map(|(person, name, time)| event_of(person, name, time, &pages, rng))
        .collect()
}

fn event_of(
    person: usize,
    name: usize,
    time: i64,
    pages: &Distribution,
    rng: &mut StdRng,
) -> Event {
    Event {
        time,
        person,
        name,
        browser: choose(&BROWSERS, rng),
        page: pages.sample(rng),
        price: (name == PURCHASE).then(|| (rng.random::<f64>().powi(3) * 40_000.0) as u32 + 99),
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

/// Writes one line per person and per event, in the format of `cohorts import`.
pub fn write_items(
    persons: &[Person],
    events: &[Event],
    now: i64,
    out: &mut impl Write,
) -> Result<()> {
    let mut line = String::new();
    for (index, person) in persons.iter().enumerate() {
        line.clear();
        write!(
            line,
            r#"{{"event":"$set","distinct_id":"p{index}","uuid":"{}","timestamp":"{}","properties":{{"$set":{{"plan":"{}","country":"{}","age":{},"email":"{}","company":"company-{}","signed_up":"{}"}}}}}}"#,
            uuid(
                person.signed_up.max(now - SIGNUP_DAYS * MILLIS_PER_DAY),
                index,
                0
            ),
            instant(person.signed_up).to_rfc3339(),
            person.plan,
            person.country,
            person.age,
            person.email,
            person.company,
            instant(person.signed_up).to_rfc3339(),
        )?;
        writeln!(out, "{line}")?;
    }
    for (index, event) in events.iter().enumerate() {
        line.clear();
        write!(
            line,
            r#"{{"event":"{}","distinct_id":"p{}","uuid":"{}","timestamp":"{}","properties":{{"$browser":"{}","$current_url":"https://app.example.com/p/{}/section-{}""#,
            EVENTS[event.name],
            event.person,
            uuid(event.time, index, 1),
            instant(event.time).to_rfc3339(),
            event.browser,
            event.page % 40,
            event.page,
        )?;
        if let Some(cents) = event.price {
            write!(line, r#","price":{}"#, f64::from(cents) / 100.0)?;
        }
        writeln!(out, "{line}}}}}")?;
    }
    Ok(())
}

/// Writes the population as two CSV tables with header lines. No value needs quotes.
pub fn write_tables(
    persons: &[Person],
    events: &[Event],
    person_table: &mut impl Write,
    event_table: &mut impl Write,
) -> Result<()> {
    let text = |time: i64| instant(time).to_rfc3339_opts(SecondsFormat::Millis, true);
    writeln!(
        person_table,
        "person,plan,country,age,email,company,signed_up"
    )?;
    for (index, person) in persons.iter().enumerate() {
        let Person {
            plan,
            country,
            age,
            email,
            company,
            ..
        } = person;
        let time = text(person.signed_up);
        writeln!(
            person_table,
            "{index},{plan},{country},{age},{email},company-{company},{time}"
        )?;
    }
    person_table.flush()?;
    writeln!(event_table, "event,name,time,person,browser,url,price")?;
    for event in events {
        let Event {
            person,
            name,
            browser,
            page,
            ..
        } = event;
        let (name_text, time, section) = (EVENTS[*name], text(event.time), page % 40);
        write!(
            event_table,
            "{name},{name_text},{time},{person},{browser},https://app.example.com/p/{section}/section-{page},"
        )?;
        match event.price {
            Some(cents) => writeln!(event_table, "{}", f64::from(cents) / 100.0)?,
            None => writeln!(event_table)?,
        }
    }
    Ok(event_table.flush()?)
}

/// Returns a deterministic version 7 UUID. `kind` is 0 for persons and 1 for events.
fn uuid(millis: i64, index: usize, kind: u64) -> String {
    let tail = (index as u64) << 1 | kind;
    format!(
        "{:08x}-{:04x}-7{:03x}-8{:03x}-{:012x}",
        millis >> 16,
        millis & 0xffff,
        tail & 0xfff,
        (tail >> 12) & 0xfff,
        tail
    )
}
