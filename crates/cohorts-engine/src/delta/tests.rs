//! Delta evaluation against full evaluation and the naive evaluator.

mod histories;
mod next;
mod queries;
mod reasons;
mod restricted;
mod touched;
mod world;

use serde_json::{Value, json};

use super::Settings;
use crate::cases::micros;

const SECOND: i64 = 1_000_000;
const HOUR: i64 = 3_600 * SECOND;
const DAY: i64 = 24 * HOUR;

fn now() -> i64 {
    micros("2025-06-18T15:30:00Z")
}

fn settings(time_zone: &str) -> Settings {
    Settings {
        time_zone: time_zone.to_owned(),
        ..Settings::default()
    }
}

/// A filter of criteria that are joined by AND.
fn all_of(leaves: Value) -> Value {
    json!({"properties": {"type": "AND", "values": leaves}})
}

/// A criterion of behaviour on the event `e` in the last seven days.
fn behavior(value: &str, more: Value) -> Value {
    let mut leaf = json!({"type": "behavioral", "value": value, "key": "e", "event_type": "events",
        "time_value": 7, "time_interval": "day", "operator": "gte", "operator_value": 1});
    for (key, value) in more.as_object().unwrap() {
        leaf[key] = value.clone();
    }
    leaf
}

/// A test of a property of persons.
fn person(key: &str, operator: &str, value: Value) -> Value {
    json!({"type": "person", "key": key, "operator": operator, "value": value})
}

fn cohort(id: i64) -> Value {
    json!({"type": "cohort", "key": "id", "value": id})
}
