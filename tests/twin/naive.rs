//! A second evaluator of filters, without blocks, bitmaps or types: it tests one person at a time,
//! directly on the JSON of the filter.
//!
//! The tests of the engine and the HTTP tests compare the service with it. It shares no code with
//! the service. It supports the filters of `generators.rs`, and panics for all others.

use std::collections::BTreeMap;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, ZonedDateTime};
use serde_json::{Value, json};

/// A person, identified by its position in the list of persons.
#[derive(Clone, Debug)]
pub struct NaivePerson {
    pub properties: Value,
}

/// An event. Its time is in microseconds since the Unix epoch.
#[derive(Clone, Debug)]
pub struct NaiveEvent {
    pub name: String,
    pub person: usize,
    pub time: i64,
    pub properties: Value,
}

/// The data of a project.
#[derive(Clone, Debug, Default)]
pub struct Population {
    pub persons: Vec<NaivePerson>,
    pub events: Vec<NaiveEvent>,
    /// The members of static cohorts, by id.
    pub lists: BTreeMap<i64, Vec<usize>>,
    /// The filters of dynamic cohorts, by id.
    pub filters: BTreeMap<i64, Value>,
    /// The steps of actions, by id.
    pub actions: BTreeMap<i64, Value>,
}

/// The members of a filter at an instant in microseconds, in the time zone of the project.
pub fn members(population: &Population, filters: &Value, now: i64, zone: &str) -> Vec<usize> {
    let zone = TimeZone::get(zone).expect("a zone");
    let now = instant(now).to_zoned_datetime(zone);
    let is_member = |person: &usize| {
        let evaluator = NaiveEvaluator {
            population,
            person: *person,
            now: now.clone(),
        };
        evaluator.node(&filters["properties"])
    };
    (0..population.persons.len()).filter(is_member).collect()
}

fn instant(micros: i64) -> Timestamp {
    Timestamp::from_microsecond(micros).expect("an instant")
}

/// The elements of an array. Every other value has none.
fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

pub(super) fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}

fn number(value: &Value) -> i64 {
    value.as_i64().expect("a number")
}

/// The evaluation of a filter for one person at one moment.
pub(super) struct NaiveEvaluator<'a> {
    population: &'a Population,
    person: usize,
    now: ZonedDateTime,
}

impl NaiveEvaluator<'_> {
    fn node(&self, node: &Value) -> bool {
        let mut values = list(&node["values"]).iter().map(|value| self.node(value));
        match text(&node["type"]) {
            "AND" => values.all(|holds| holds),
            "OR" => values.any(|holds| holds),
            kind => self.leaf(kind, node) != (node["negation"] == true),
        }
    }

    fn leaf(&self, kind: &str, leaf: &Value) -> bool {
        match kind {
            "person" => self.holds(leaf, &self.population.persons[self.person].properties),
            "behavioral" => self.behavioral(leaf),
            "cohort" => {
                let id = number(&leaf["value"]);
                match self.population.lists.get(&id) {
                    Some(list) => list.contains(&self.person),
                    None => self.node(&self.population.filters[&id]["properties"]),
                }
            }
            other => panic!("{other} is not generated"),
        }
    }

    /// The events of the person that belong to a name or an action, and pass the filters.
    fn events(&self, key: &Value, event_type: &Value, filters: &Value) -> Vec<&NaiveEvent> {
        let is_target = |event: &&NaiveEvent| match text(event_type) {
            "events" => event.name == text(key),
            _ => {
                let steps = list(&self.population.actions[&number(key)]);
                steps.iter().any(|step| {
                    let named = step["event"].is_null() || event.name == text(&step["event"]);
                    named && self.passes(&step["properties"], event)
                })
            }
        };
        self.population
            .events
            .iter()
            .filter(|event| event.person == self.person)
            .filter(is_target)
            .filter(|event| self.passes(filters, event))
            .collect()
    }

    fn passes(&self, filters: &Value, event: &NaiveEvent) -> bool {
        list(filters)
            .iter()
            .all(|filter| self.holds(filter, &event.properties))
    }

    /// The moment that lies `amount` units before now, on the wall clock.
    pub(super) fn back(&self, amount: &Value, unit: &Value) -> ZonedDateTime {
        let amount = number(amount);
        let span = match text(unit) {
            "hour" => {
                let local = self
                    .now
                    .datetime()
                    .checked_sub(Span::new().hours(amount))
                    .expect("a time");
                return local
                    .to_zoned_datetime(self.now.time_zone().clone())
                    .expect("a time");
            }
            "day" => Span::new().days(amount),
            "week" => Span::new().weeks(amount),
            "month" => Span::new().months(amount),
            "year" => Span::new().years(amount),
            other => panic!("{other} is not generated"),
        };
        self.now.checked_sub(span).expect("a time")
    }

    fn today_end(&self) -> i64 {
        let end = self.now.end_of_day().expect("an end");
        end.timestamp().as_microsecond()
    }

    /// The first and the last instant of the window of a leaf. Windows of counts have exact bounds,
    /// both exclusive; other windows have whole days, both inclusive.
    fn window(&self, leaf: &Value, counts: bool) -> (i64, i64) {
        let micros = |zoned: ZonedDateTime| zoned.timestamp().as_microsecond();
        let date = |text: &str| match text.parse::<Timestamp>() {
            Ok(instant) => (
                instant.to_zoned_datetime(self.now.time_zone().clone()),
                false,
            ),
            Err(_) => {
                let (amount, unit) = text.trim_start_matches('-').split_at(text.len() - 2);
                let unit = match unit {
                    "h" => "hour",
                    "d" => "day",
                    "w" => "week",
                    "m" => "month",
                    other => panic!("{other} is not generated"),
                };
                let amount: i64 = amount.parse().expect("a number");
                let back = self.back(&json!(amount), &json!(unit));
                (back, unit != "hour")
            }
        };
        let to = match leaf["explicit_datetime_to"].as_str() {
            Some(to) if counts => micros(date(to).0),
            Some(to) => micros(date(to).0.end_of_day().expect("an end")),
            None if counts => micros(self.now.clone()) + 5_000_000,
            None => self.today_end(),
        };
        let from = match leaf["explicit_datetime"].as_str() {
            Some(from) => {
                let absolute = from.parse::<Timestamp>().is_ok();
                let (from, days) = date(from);
                match (counts || absolute, days) {
                    (true, _) => from,
                    (false, true) => from.start_of_day().expect("a start"),
                    (false, false) => hour_start(&from),
                }
            }
            None => {
                let from = self.back(&leaf["time_value"], &leaf["time_interval"]);
                match (counts, text(&leaf["time_interval"])) {
                    (true, _) => from,
                    (false, "hour") => hour_start(&from),
                    (false, _) => from.start_of_day().expect("a start"),
                }
            }
        };
        (micros(from), to)
    }

    fn behavioral(&self, leaf: &Value) -> bool {
        let filters = &leaf["event_filters"];
        let events = self.events(&leaf["key"], &leaf["event_type"], filters);
        let micros = |zoned: ZonedDateTime| zoned.timestamp().as_microsecond();
        let inner = || self.back(&leaf["seq_time_value"], &leaf["seq_time_interval"]);
        let inner_start = || match text(&leaf["seq_time_interval"]) {
            "hour" => micros(hour_start(&inner())),
            _ => micros(inner().start_of_day().expect("a start")),
        };
        let today = self.today_end();
        let within =
            |from: i64, to: i64| move |event: &&&NaiveEvent| from <= event.time && event.time <= to;
        match text(&leaf["value"]) {
            "performed_event" => {
                let (from, to) = self.window(leaf, false);
                events.iter().any(|event| within(from, to)(&event))
            }
            "performed_event_multiple" => {
                let (from, to) = self.window(leaf, true);
                let counted = events
                    .iter()
                    .filter(|event| from < event.time && event.time < to);
                admits(leaf, counted.count() as i64)
            }
            "performed_event_first_time" => {
                let (from, to) = self.window(leaf, false);
                let ever = self.events(&leaf["key"], &leaf["event_type"], &json!([]));
                let ever = ever.iter().filter(|event| event.time <= to);
                let first = ever.clone().map(|event| event.time).min();
                first.is_some_and(|first| {
                    let mut firsts = ever.filter(|event| event.time == first);
                    first >= from && firsts.any(|event| self.passes(filters, event))
                })
            }
            "performed_event_sequence" => {
                let (from, to) = self.window(leaf, false);
                self.sequence(leaf, &events, from, to)
            }
            "performed_event_regularly" => self.regularly(leaf, &events),
            "stopped_performing_event" => {
                let (from, _) = self.window(leaf, false);
                let inner = inner_start();
                events.iter().any(|event| within(from, today)(&event))
                    && !events.iter().any(|event| within(inner, today)(&event))
            }
            "restarted_performing_event" => {
                // The pause has whole days, even if the unit is hours.
                let outer = self.back(&leaf["time_value"], &leaf["time_interval"]);
                let from = micros(outer.start_of_day().expect("a start"));
                let pause_end = micros(inner().end_of_day().expect("an end"));
                let recent = inner_start();
                let first = events.iter().map(|event| event.time).min();
                events.iter().any(|event| within(recent, today)(&event))
                    && first.is_some_and(|first| first < recent)
                    && !events.iter().any(|event| within(from, pause_end)(&event))
            }
            other => panic!("{other} is not generated"),
        }
    }

    fn sequence(&self, leaf: &Value, events: &[&NaiveEvent], from: i64, to: i64) -> bool {
        let seconds = match text(&leaf["seq_time_interval"]) {
            "hour" => 3_600,
            "day" => 86_400,
            "week" => 7 * 86_400,
            "month" => 30 * 86_400,
            _ => 365 * 86_400,
        };
        let longest = number(&leaf["seq_time_value"]) * seconds * 1_000_000;
        let ends = self.events(&leaf["seq_event"], &leaf["seq_event_type"], &json!([]));
        let inside = |event: &NaiveEvent| from <= event.time && event.time <= to;
        events.iter().any(|a| {
            ends.iter().any(|b| {
                let distance = b.time - a.time;
                !std::ptr::eq(*a, *b) && inside(a) && inside(b) && (0..=longest).contains(&distance)
            })
        })
    }

    fn regularly(&self, leaf: &Value, events: &[&NaiveEvent]) -> bool {
        let amount = number(&leaf["time_value"]);
        let yesterday = self.now.date().yesterday().expect("a day");
        let end = |k: i64| {
            let span = match text(&leaf["time_interval"]) {
                "day" => Span::new().days(k * amount),
                "week" => Span::new().days(k * amount * 7),
                "month" => Span::new().months(k * amount),
                _ => Span::new().months(k * amount * 12),
            };
            yesterday.checked_sub(span).expect("a day")
        };
        let date = |event: &NaiveEvent| -> Date {
            instant(event.time)
                .to_zoned_datetime(self.now.time_zone().clone())
                .date()
        };
        let qualifies = |k: i64| {
            let inside = |event: &&&NaiveEvent| end(k + 1) < date(event) && date(event) <= end(k);
            admits(leaf, events.iter().filter(inside).count() as i64)
        };
        let periods = 0..number(&leaf["total_periods"]);
        periods.filter(|k| qualifies(*k)).count() as i64 >= number(&leaf["min_periods"])
    }
}

fn hour_start(zoned: &ZonedDateTime) -> ZonedDateTime {
    let local = zoned.datetime().date().at(zoned.hour(), 0, 0, 0);
    local
        .to_zoned_datetime(zoned.time_zone().clone())
        .expect("an hour")
}

fn admits(leaf: &Value, count: i64) -> bool {
    let bound = number(&leaf["operator_value"]);
    count > 0
        && match text(&leaf["operator"]) {
            "gte" => count >= bound,
            "lte" => count <= bound,
            "gt" => count > bound,
            "lt" => count < bound,
            _ => count == bound,
        }
}
