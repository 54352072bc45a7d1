//! A population that is the same each time: who there is, and what they did until an instant.
//!
//! Sign-ups grow over two years; people differ widely in how much they do; days and hours have their rhythm; events,
//! countries, companies and pages are of unequal weight.

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
const BOUGHT: usize = 4;
const SIGNED_UP: usize = 29;
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
const DAYS: i64 = 90;
const DAY: i64 = 86_400_000;

/// How many there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    pub people: usize,
    pub events: usize,
}

pub struct Person {
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
    pub person: usize,
    pub name: usize,
    pub browser: &'static str,
    pub page: usize,
    /// In cents; of purchases alone.
    pub price: Option<u32>,
}

/// Chances by weight.
struct Weighted(Vec<f64>);

impl Weighted {
    fn new(weights: impl IntoIterator<Item = f64>) -> Weighted {
        let mut sum = 0.0;
        let mut sums: Vec<f64> = weights
            .into_iter()
            .map(|weight| {
                sum += weight;
                sum
            })
            .collect();
        sums.iter_mut().for_each(|one| *one /= sum);
        Weighted(sums)
    }

    /// The n-th is n to that power as rare as the first.
    fn falling(count: usize, power: f64) -> Weighted {
        Weighted::new((1..=count).map(|nth| 1.0 / (nth as f64).powf(power)))
    }

    fn pick(&self, rng: &mut StdRng) -> usize {
        let chance: f64 = rng.random();
        self.0
            .partition_point(|sum| *sum < chance)
            .min(self.0.len() - 1)
    }
}

fn choose<T: Copy>(from: &[(T, f64)], rng: &mut StdRng) -> T {
    let mut chance: f64 = rng.random();
    for (one, weight) in from {
        chance -= weight;
        if chance < 0.0 {
            return *one;
        }
    }
    from[from.len() - 1].0
}

/// The people in order of their sign-up, and the events in order of time, all before `now`.
pub fn make_up(size: Size, now: i64) -> (Vec<Person>, Vec<Event>) {
    let rng = &mut StdRng::seed_from_u64(SEED);
    let people = people(size.people, now, rng);
    let mut events = events(&people, size.events, now, rng);
    events.sort_by_key(|event| event.time);
    (people, events)
}

fn people(count: usize, now: i64, rng: &mut StdRng) -> Vec<Person> {
    let span = 720 * DAY;
    let mut sign_ups: Vec<i64> = (0..count)
        .map(|_| now - span + (rng.random::<f64>().sqrt() * (span - 60_000) as f64) as i64)
        .collect();
    sign_ups.sort_unstable();
    let countries = Weighted::falling(COUNTRIES.len(), 1.0);
    let companies = Weighted::falling(20_000, 0.7);
    let person = |(number, signed_up)| {
        let first = FIRST_NAMES[rng.random_range(0..FIRST_NAMES.len())];
        let last = LAST_NAMES[rng.random_range(0..LAST_NAMES.len())];
        Person {
            signed_up,
            plan: choose(&PLANS, rng),
            country: COUNTRIES[countries.pick(rng)],
            age: rng.random_range(16..80),
            email: format!("{first}.{last}{number}@{}", choose(&DOMAINS, rng)),
            company: companies.pick(rng),
        }
    };
    sign_ups.into_iter().enumerate().map(person).collect()
}

fn events(people: &[Person], count: usize, now: i64, rng: &mut StdRng) -> Vec<Event> {
    let start = now - DAYS * DAY;
    // Who does most is spread over the numbers.
    let mut ranks: Vec<usize> = (0..people.len()).collect();
    for nth in (1..ranks.len()).rev() {
        ranks.swap(nth, rng.random_range(0..=nth));
    }
    let activity = Weighted::new(
        ranks
            .iter()
            .map(|rank| 1.0 / (*rank as f64 + 50.0).powf(0.75)),
    );
    let names = Weighted::falling(SIGNED_UP, 1.0);
    let pages = Weighted::falling(2_000, 0.9);
    let hours = Weighted::new((0..DAYS * 24).map(|hour| rhythm(start + hour * 3_600_000)));
    let new = people.partition_point(|person| person.signed_up < start);
    let mut all = Vec::with_capacity(count);
    for (number, person) in people.iter().enumerate().skip(new) {
        all.push((number, SIGNED_UP, person.signed_up));
    }
    for _ in 0..count / 500 {
        let number = rng.random_range(0..people.len());
        let from = people[number].signed_up.max(start) + 1;
        all.push((number, SIGNED_UP, rng.random_range(from..now)));
    }
    while all.len() < count {
        let number = activity.pick(rng);
        let mut time = start + hours.pick(rng) as i64 * 3_600_000 + rng.random_range(0..3_600_000);
        let signed_up = people[number].signed_up;
        if time <= signed_up {
            time =
                signed_up + 1 + (rng.random::<f64>().powi(2) * (now - signed_up - 2) as f64) as i64;
        }
        all.push((number, names.pick(rng), time));
    }
    all.into_iter()
        .map(|(person, name, time)| event_of(person, name, time, &pages, rng))
        .collect()
}

fn event_of(person: usize, name: usize, time: i64, pages: &Weighted, rng: &mut StdRng) -> Event {
    Event {
        time,
        person,
        name,
        browser: choose(&BROWSERS, rng),
        page: pages.pick(rng),
        price: (name == BOUGHT).then(|| (rng.random::<f64>().powi(3) * 40_000.0) as u32 + 99),
    }
}

/// How much happens in an hour: less at night and at weekends, more as time goes on.
fn rhythm(time: i64) -> f64 {
    let at = instant(time);
    let hour = 1.0 + 0.85 * ((f64::from(at.hour()) - 8.0) / 24.0 * std::f64::consts::TAU).sin();
    let weekend = (time / DAY + 3) % 7 >= 5;
    hour * if weekend { 0.55 } else { 1.0 }
}

pub fn instant(millis: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::milliseconds(millis)
}

/// One line of an import per person and per event.
pub fn write_items(
    people: &[Person],
    events: &[Event],
    now: i64,
    out: &mut impl Write,
) -> Result<()> {
    let mut line = String::new();
    for (number, person) in people.iter().enumerate() {
        line.clear();
        write!(
            line,
            r#"{{"event":"$set","distinct_id":"p{number}","uuid":"{}","timestamp":"{}","properties":{{"$set":{{"plan":"{}","country":"{}","age":{},"email":"{}","company":"company-{}","signed_up":"{}"}}}}}}"#,
            uuid(person.signed_up.max(now - 720 * DAY), number, 0),
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
    for (number, event) in events.iter().enumerate() {
        line.clear();
        write!(
            line,
            r#"{{"event":"{}","distinct_id":"p{}","uuid":"{}","timestamp":"{}","properties":{{"$browser":"{}","$current_url":"https://app.example.com/p/{}/section-{}""#,
            EVENTS[event.name],
            event.person,
            uuid(event.time, number, 1),
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

/// The same as two tables with a heading, as CSV: nothing in them needs quotes.
pub fn write_tables(
    all: &[Person],
    happened: &[Event],
    people: &mut impl Write,
    events: &mut impl Write,
) -> Result<()> {
    let text = |time: i64| instant(time).to_rfc3339_opts(SecondsFormat::Millis, true);
    writeln!(people, "person,plan,country,age,email,company,signed_up")?;
    for (number, one) in all.iter().enumerate() {
        let (plan, country, age, email) = (one.plan, one.country, one.age, &one.email);
        let (company, time) = (one.company, text(one.signed_up));
        writeln!(
            people,
            "{number},{plan},{country},{age},{email},company-{company},{time}"
        )?;
    }
    people.flush()?;
    writeln!(events, "event,name,time,person,browser,url,price")?;
    for one in happened {
        let (event, time, person, browser) = (one.name, text(one.time), one.person, one.browser);
        let (name, page) = (EVENTS[event], one.page);
        write!(events, "{event},{name},{time},{person},{browser},")?;
        write!(
            events,
            "https://app.example.com/p/{}/section-{page},",
            page % 40
        )?;
        match one.price {
            Some(cents) => writeln!(events, "{}", f64::from(cents) / 100.0)?,
            None => writeln!(events)?,
        }
    }
    Ok(events.flush()?)
}

/// A uuid of version 7, in the order of time, and the same each time.
fn uuid(millis: i64, number: usize, kind: u64) -> String {
    let tail = (number as u64) << 1 | kind;
    format!(
        "{:08x}-{:04x}-7{:03x}-8{:03x}-{:012x}",
        millis >> 16,
        millis & 0xffff,
        tail & 0xfff,
        (tail >> 12) & 0xfff,
        tail
    )
}
