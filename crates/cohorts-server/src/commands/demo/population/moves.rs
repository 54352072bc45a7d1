//! What the persons of a population do while the demo serves: an endless sequence of items, so that cohorts move.
//!
//! Some persons begin or end a plan, some return after weeks, some sign up or leave, and the others do what they always
//! do. The sequence depends only on the seed. The items have no time and no uuid, because they happen when they are sent.

use rand::RngExt;
use rand::rngs::StdRng;
use serde_json::{Value, json};

use super::Population;
use super::words;

/// Persons have done something at this time before now, in days. It only has to be after the last event of quiet persons.
const RECENTLY: f64 = 0.01;

/// An endless sequence of items.
pub struct Moves<'a> {
    population: &'a Population,
    rng: StdRng,
    /// For each person, whether the plan costs something.
    is_paying: Vec<bool>,
    /// The persons without events in the last days.
    quiet: Vec<u32>,
    /// How many persons have signed up.
    sign_ups: u32,
}

impl<'a> Moves<'a> {
    pub(super) fn new(population: &'a Population, rng: StdRng) -> Self {
        let persons = &population.persons;
        let is_paying = persons.iter().map(|person| person.is_paying()).collect();
        let quiet = (0..).zip(persons);
        let quiet = quiet.filter(|(_, person)| person.is_active() && !person.is_present(RECENTLY));
        Self {
            population,
            rng,
            is_paying,
            quiet: quiet.map(|(number, _)| number).collect(),
            sign_ups: 0,
        }
    }

    /// A person begins or ends a plan.
    fn change_plan(&mut self) -> Value {
        let number = self.rng.random_range(0..self.is_paying.len());
        let is_paying = !self.is_paying[number];
        self.is_paying[number] = is_paying;
        let plan = if is_paying { "starter" } else { "free" };
        item(
            "plan_changed",
            &id_of(number as u32),
            json!({"$set": {"plan": plan}}),
        )
    }

    /// A quiet person visits a page; without quiet persons, any active person does something.
    fn return_once(&mut self) -> Value {
        if self.quiet.is_empty() {
            return self.act();
        }
        let position = self.rng.random_range(0..self.quiet.len());
        let number = self.quiet.swap_remove(position);
        let path = words::pick(&words::PATHS, &mut self.rng);
        item("$pageview", &id_of(number), json!({"$pathname": path}))
    }

    fn sign_up(&mut self) -> Value {
        let number = self.sign_ups;
        self.sign_ups += 1;
        let rng = &mut self.rng;
        let properties = json!({
            "name": words::pick(&words::GIVEN_NAMES, rng),
            "plan": if rng.random_bool(0.3) { "starter" } else { "free" },
            "country": words::pick(&words::COUNTRIES, rng),
        });
        let method = words::pick(&words::LOGIN_METHODS, rng);
        let properties = json!({"$set": properties, "method": method});
        item("signup_completed", &format!("new-{number:06}"), properties)
    }

    fn leave(&mut self) -> Value {
        let number = self.active_person();
        let reason = words::pick(&words::REASONS, &mut self.rng);
        item("churn_survey", &id_of(number), json!({"reason": reason}))
    }

    fn act(&mut self) -> Value {
        let number = self.active_person();
        let person = &self.population.persons[number as usize];
        let (event, properties) = person.next_event(RECENTLY, &mut self.rng);
        item(event, &id_of(number), properties)
    }

    /// An active person, or the first one if all are inactive.
    fn active_person(&mut self) -> u32 {
        if self.population.active.is_empty() {
            return 0;
        }
        self.population.pick_active_person(RECENTLY, &mut self.rng)
    }
}

impl Iterator for Moves<'_> {
    type Item = Value;

    /// The next item. `None` only if the population has no persons.
    fn next(&mut self) -> Option<Value> {
        if self.is_paying.is_empty() {
            return None;
        }
        Some(match self.rng.random_range(0..100) {
            0..25 => self.change_plan(),
            25..33 => self.return_once(),
            33..41 => self.sign_up(),
            41..45 => self.leave(),
            _ => self.act(),
        })
    }
}

fn id_of(number: u32) -> String {
    format!("u-{number:06}")
}

fn item(event: &str, distinct_id: &str, properties: Value) -> Value {
    json!({"event": event, "distinct_id": distinct_id, "properties": properties})
}
