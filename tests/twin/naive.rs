//! The meaning of a filter once more, written without blocks, bitmaps or types: one person at a time, straight from
//! the JSON. The engine's tests and those over HTTP set it against the service, which knows nothing of it.
//!
//! It answers what `generators.rs` generates, and panics at anything else.

use std::collections::BTreeMap;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, ZonedDateTime};
use serde_json::{Value, json};

/// Somebody, known by a place in the list of people.
#[derive(Clone, Debug)]
pub struct NaivePerson {
    pub properties: Value,
}

/// Something that somebody did, at an instant in microseconds.
#[derive(Clone, Debug)]
pub struct NaiveEvent {
    pub name: String,
    pub person: usize,
    pub time: i64,
    pub properties: Value,
}

/// All there is to be asked about.
#[derive(Clone, Debug, Default)]
pub struct Population {
    pub persons: Vec<NaivePerson>,
    pub events: Vec<NaiveEvent>,
    /// The lists of static cohorts, and the filters of dynamic ones, by id.
    pub lists: BTreeMap<i64, Vec<usize>>,
    pub filters: BTreeMap<i64, Value>,
    /// The steps of actions by id.
    pub actions: BTreeMap<i64, Value>,
}

/// Who meets a filter at an instant, in the zone of the project.
pub fn members(population: &Population, filters: &Value, now: i64, zone: &str) -> Vec<usize> {
    let zone = TimeZone::get(zone).expect("a zone");
    let now = instant(now).to_zoned_datetime(zone);
    let everybody = 0..population.persons.len();
    let meets = |person: &usize| {
        let naive = NaiveEvaluator {
            population,
            person: *person,
            now: now.clone(),
        };
        naive.node(&filters["properties"])
    };
    everybody.filter(meets).collect()
}

fn instant(micros: i64) -> Timestamp {
    Timestamp::from_microsecond(micros).expect("an instant")
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}

fn number(value: &Value) -> i64 {
    value.as_i64().expect("a number")
}

struct NaiveEvaluator<'a> {
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

    /// The person's events that are meant by a name or an action, and pass the filters.
    fn events(&self, key: &Value, event_type: &Value, filters: &Value) -> Vec<&NaiveEvent> {
        let meant = |event: &&NaiveEvent| match text(event_type) {
            "events" => event.name == text(key),
            _ => {
                let steps = list(&self.population.actions[&number(key)]);
                steps.iter().any(|step| {
                    let named = step["event"].is_null() || event.name == text(&step["event"]);
                    named && self.passes(&step["properties"], event)
                })
            }
        };
        let own = self.population.events.iter();
        let own = own.filter(|event| event.person == self.person);
        own.filter(meant)
            .filter(|event| self.passes(filters, event))
            .collect()
    }

    fn passes(&self, filters: &Value, event: &NaiveEvent) -> bool {
        list(filters)
            .iter()
            .all(|filter| self.holds(filter, &event.properties))
    }

    fn back(&self, amount: &Value, unit: &Value) -> ZonedDateTime {
        let amount = number(amount);
        let span = match text(unit) {
            "hour" => {
                // Wall clock, not elapsed time.
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

    /// First and last instant of the window of whole days, both inclusive; exact bounds for counts, both exclusive.
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
        let own = self.events(&leaf["key"], &leaf["event_type"], filters);
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
                own.iter().any(|event| within(from, to)(&event))
            }
            "performed_event_multiple" => {
                let (from, to) = self.window(leaf, true);
                let counted = own
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
                self.sequence(leaf, &own, from, to)
            }
            "performed_event_regularly" => self.regularly(leaf, &own),
            "stopped_performing_event" => {
                let (from, _) = self.window(leaf, false);
                let inner = inner_start();
                own.iter().any(|event| within(from, today)(&event))
                    && !own.iter().any(|event| within(inner, today)(&event))
            }
            "restarted_performing_event" => {
                // The pause is of whole days, whatever the unit.
                let outer = self.back(&leaf["time_value"], &leaf["time_interval"]);
                let from = micros(outer.start_of_day().expect("a start"));
                let pause_end = micros(inner().end_of_day().expect("an end"));
                let recent = inner_start();
                let first = own.iter().map(|event| event.time).min();
                own.iter().any(|event| within(recent, today)(&event))
                    && first.is_some_and(|first| first < recent)
                    && !own.iter().any(|event| within(from, pause_end)(&event))
            }
            other => panic!("{other} is not generated"),
        }
    }

    fn sequence(&self, leaf: &Value, own: &[&NaiveEvent], from: i64, to: i64) -> bool {
        let seconds = match text(&leaf["seq_time_interval"]) {
            "hour" => 3_600,
            "day" => 86_400,
            "week" => 7 * 86_400,
            "month" => 30 * 86_400,
            _ => 365 * 86_400,
        };
        let longest = number(&leaf["seq_time_value"]) * seconds * 1_000_000;
        let seconds = self.events(&leaf["seq_event"], &leaf["seq_event_type"], &json!([]));
        let inside = |event: &NaiveEvent| from <= event.time && event.time <= to;
        own.iter().any(|a| {
            seconds.iter().any(|b| {
                let way = b.time - a.time;
                !std::ptr::eq(*a, *b) && inside(a) && inside(b) && (0..=longest).contains(&way)
            })
        })
    }

    fn regularly(&self, leaf: &Value, own: &[&NaiveEvent]) -> bool {
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
            admits(leaf, own.iter().filter(inside).count() as i64)
        };
        let periods = 0..number(&leaf["total_periods"]);
        periods.filter(|k| qualifies(*k)).count() as i64 >= number(&leaf["min_periods"])
    }

    /// An operator over numbers, booleans, texts without much in them, dates, and null.
    fn holds(&self, test: &Value, properties: &Value) -> bool {
        let operator = text(&test["operator"]);
        let stored = properties
            .get(text(&test["key"]))
            .filter(|stored| !stored.is_null());
        let values: Vec<&Value> = match &test["value"] {
            Value::Array(list) => list.iter().collect(),
            Value::Null => Vec::new(),
            value => vec![value],
        };
        let any = |hits: &dyn Fn(&Value, &Value) -> bool| {
            stored.is_some_and(|stored| values.iter().any(|value| hits(stored, value)))
        };
        let ordered = |wanted: &dyn Fn(f64, f64) -> bool| {
            any(&|stored, value| {
                decimal(stored)
                    .zip(decimal(value))
                    .is_some_and(|(a, b)| wanted(a, b))
            })
        };
        let dated = |wanted: &dyn Fn(i64, i64) -> bool| {
            any(&|stored, value| {
                // A number, also as text, counts seconds.
                let stored = match decimal(stored) {
                    Some(seconds) => Some((seconds * 1e6) as i64),
                    None => text_of(stored)
                        .parse::<Timestamp>()
                        .ok()
                        .map(|at| at.as_microsecond()),
                };
                stored.is_some_and(|stored| wanted(stored, self.date(text(value))))
            })
        };
        match operator {
            "is_set" => stored.is_some(),
            "is_not_set" => stored.is_none(),
            "between" | "not_between" => {
                let bounds = (decimal(values[0]), decimal(values[1]));
                let (Some(low), Some(high)) = bounds else {
                    panic!("{test} is not generated");
                };
                let inside = |n: f64| low <= n && n <= high;
                match (operator, stored) {
                    ("not_between", None) => true,
                    (_, None) => false,
                    ("between", Some(stored)) => decimal(stored).is_some_and(inside),
                    (_, Some(stored)) => decimal(stored).is_some_and(|n| !inside(n)),
                }
            }
            // An empty list drops the condition.
            _ if values.is_empty() => true,
            "exact" | "in" => any(&|stored, value| text_of(stored) == text_of(value)),
            "is_not" | "not_in" => !any(&|stored, value| text_of(stored) == text_of(value)),
            "icontains" => any(&|stored, value| lower(stored).contains(&lower(value))),
            "not_icontains" => !any(&|stored, value| lower(stored).contains(&lower(value))),
            "starts_with" => any(&|stored, value| lower(stored).starts_with(&lower(value))),
            "not_ends_with" => !any(&|stored, value| lower(stored).ends_with(&lower(value))),
            "gt" => ordered(&|a, b| a > b),
            "gte" => ordered(&|a, b| a >= b),
            "lt" => ordered(&|a, b| a < b),
            "lte" => ordered(&|a, b| a <= b),
            "is_date_before" => dated(&|a, b| a < b),
            "is_date_after" => dated(&|a, b| a > b),
            other => panic!("{other} is not generated"),
        }
    }

    /// A date of a filter: an instant, or days back from now to the second.
    fn date(&self, text: &str) -> i64 {
        if let Ok(instant) = text.parse::<Timestamp>() {
            return instant.as_microsecond();
        }
        let days: i64 = text.trim_matches(['-', 'd']).parse().expect("days");
        let back = self
            .back(&json!(days), &json!("day"))
            .timestamp()
            .as_microsecond();
        back - back.rem_euclid(1_000_000)
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

fn text_of(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

fn lower(value: &Value) -> String {
    text_of(value).to_lowercase()
}

fn decimal(value: &Value) -> Option<f64> {
    match value {
        Value::Bool(_) => None,
        value => text_of(value).parse().ok(),
    }
}
