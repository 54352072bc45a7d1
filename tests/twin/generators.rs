//! Generators of persons, events and filters. They use few names and values, so that filters often
//! match.

use std::collections::BTreeMap;

use jiff::Timestamp;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

use super::naive::Population;

/// The number of persons.
pub const PERSONS: usize = 5;

/// An instant in microseconds, and the time zone of the project.
pub type ZonedMoment = (i64, &'static str);

fn value() -> impl Strategy<Value = Value> {
    select(vec![
        json!(1),
        json!("1"),
        json!(2),
        json!(-3),
        json!("Red"),
        json!("red"),
        json!(""),
        json!(true),
        json!("true"),
        json!("2025-03-01T00:00:00Z"),
        json!(null),
    ])
}

pub fn properties() -> impl Strategy<Value = Value> {
    let member = (select(vec!["p", "q"]), value());
    vec(member, 0..3).prop_map(|members| {
        let members = members.into_iter();
        Value::Object(
            members
                .map(|(key, value)| (key.to_owned(), value))
                .collect(),
        )
    })
}

/// A moment on or next to the day of a clock change, or on the last day of a month.
pub fn moment() -> impl Strategy<Value = ZonedMoment> {
    let days = [
        "2025-03-09T16:00:00Z",
        "2025-03-30T12:15:00Z",
        "2025-05-31T05:30:00Z",
        "2025-11-03T03:30:00Z",
        "2024-02-29T18:00:00Z",
    ];
    let zones = ["UTC", "America/New_York", "Europe/Berlin", "Asia/Kolkata"];
    let micros = |day: &str| {
        day.parse::<Timestamp>()
            .expect("an instant")
            .as_microsecond()
    };
    (select(days.map(micros).to_vec()), select(zones.to_vec()))
}

/// An instant near now, often next to the bound of a window.
pub fn time(now: i64) -> impl Strategy<Value = i64> + Clone + use<> {
    let hours = prop_oneof![
        -30..100_i64,
        0..2_000_i64,
        (0..30_i64).prop_map(|days| days * 24)
    ];
    (hours, -1..=1_i64).prop_map(move |(hours, micros)| now - hours * 3_600_000_000 + micros)
}

/// The name of an event.
pub fn name() -> impl Strategy<Value = &'static str> {
    select(vec!["e", "f"])
}

/// The cohorts and actions that filters refer to: two static cohorts, a dynamic one, two actions.
pub fn named() -> impl Strategy<Value = Population> {
    let lists = vec(select((0..PERSONS).collect::<Vec<_>>()), 0..4);
    let steps = (event_filters(), event_filters(), name());
    (lists, filter_of(plain_leaf().boxed()), steps).prop_map(
        |(list, filter, (first, second, name))| {
            let one_step = json!([{"event": name, "properties": first}]);
            let two_steps = json!([{"event": "f"}, {"properties": second}]);
            Population {
                lists: BTreeMap::from([(1, list), (2, (0..PERSONS).collect())]),
                filters: BTreeMap::from([(3, filter)]),
                actions: BTreeMap::from([(1, one_step), (2, two_steps)]),
                ..Population::default()
            }
        },
    )
}

/// An operator and its value.
fn condition() -> impl Strategy<Value = (&'static str, Value)> {
    let single = || value().prop_filter("null is no value", |value| !value.is_null());
    let values = prop_oneof![3 => single(), 1 => vec(single(), 0..4).prop_map(Value::Array)];
    let operators = [
        "exact",
        "is_not",
        "in",
        "not_in",
        "icontains",
        "not_icontains",
        "starts_with",
        "not_ends_with",
        "gt",
        "gte",
        "lt",
        "lte",
        "is_set",
        "is_not_set",
    ];
    let dates = vec![
        "2025-03-01T00:00:00Z",
        "2025-03-01T01:00:00+01:00",
        "-10d",
        "30d",
    ];
    let dates = (
        select(vec!["is_date_before", "is_date_after"]),
        select(dates),
    );
    let bounds = (select(vec!["between", "not_between"]), -4..3_i64, 0..4_i64);
    prop_oneof![
        5 => (select(operators.to_vec()), values),
        1 => dates.prop_map(|(operator, date)| (operator, json!(date))),
        1 => bounds.prop_map(|(operator, low, more)| (operator, json!([low, low + more]))),
    ]
}

fn person() -> impl Strategy<Value = Value> {
    (select(vec!["p", "q", "r"]), condition()).prop_map(|(key, (operator, value))| {
        json!({"type": "person", "key": key, "operator": operator, "value": value})
    })
}

fn event_filters() -> impl Strategy<Value = Value> {
    let filter = (select(vec!["p", "q"]), condition()).prop_map(|(key, (operator, value))| {
        json!({"type": "event", "key": key, "operator": operator, "value": value})
    });
    vec(filter, 0..3).prop_map(Value::Array)
}

/// The name of an event or the id of an action, and the type of the target.
fn target(actions: bool) -> impl Strategy<Value = (Value, &'static str)> {
    let events = name().prop_map(|name| (json!(name), "events"));
    let named = (1..=2_i64).prop_map(|id| (json!(id), "actions"));
    prop_oneof![3 => events, u32::from(actions) => named]
}

/// Two lengths of time as amount and unit, the longer one first.
fn windows() -> impl Strategy<Value = [(i64, &'static str); 2]> {
    let window = || {
        (
            1..12_i64,
            select(vec![
                ("hour", 1),
                ("day", 24),
                ("week", 168),
                ("month", 720),
            ]),
        )
    };
    [window(), window()].prop_map(|mut both| {
        both.sort_by_key(|(amount, (_, hours))| -amount * hours);
        both.map(|(amount, (unit, _))| (amount, unit))
    })
}

fn behavioral(actions: bool) -> impl Strategy<Value = Value> {
    let kinds = [
        "performed_event",
        "performed_event_multiple",
        "performed_event_first_time",
        "performed_event_sequence",
        "performed_event_regularly",
        "stopped_performing_event",
        "restarted_performing_event",
    ];
    let operators = select(vec!["gte", "lte", "gt", "lt", "exact", "eq"]);
    let periods = (1..5_i64, 0..4_i64);
    let dates = vec!["-3d", "-12d", "-5h", "-2w", "2025-03-01T10:00:00Z"];
    let explicit = prop::option::weighted(
        0.3,
        (select(dates.clone()), prop::option::of(select(dates))),
    );
    let event = (
        select(kinds.to_vec()),
        target(actions),
        target(actions),
        event_filters(),
    );
    (event, windows(), operators, 1..4_i64, periods, explicit).prop_map(
        |((kind, key, second, filters), [long, short], operator, count, periods, explicit)| {
            // Periods of hours are not supported.
            let unit = if kind == "performed_event_regularly" && long.1 == "hour" { "day" } else { long.1 };
            let mut leaf = json!({"type": "behavioral", "value": kind, "key": key.0, "event_type": key.1,
                "time_value": long.0, "time_interval": unit, "seq_event": second.0,
                "seq_event_type": second.1, "seq_time_value": short.0,
                "seq_time_interval": short.1, "operator": operator, "operator_value": count,
                "min_periods": periods.0, "total_periods": periods.0 + periods.1,
                "event_filters": filters});
            let dated = ["performed_event", "performed_event_multiple", "performed_event_first_time", "performed_event_sequence"];
            if let Some((from, to)) = explicit.filter(|_| dated.contains(&kind)) {
                leaf["explicit_datetime"] = json!(from);
                leaf["explicit_datetime_to"] = json!(to);
            }
            leaf
        },
    )
}

/// A leaf that refers neither to cohorts nor to actions.
fn plain_leaf() -> impl Strategy<Value = Value> {
    signed(prop_oneof![1 => person(), 2 => behavioral(false)])
}

fn leaf() -> impl Strategy<Value = Value> {
    let cohort = (1..=3_i64).prop_map(|id| json!({"type": "cohort", "key": "id", "value": id}));
    signed(prop_oneof![2 => person(), 4 => behavioral(true), 1 => cohort])
}

fn signed(leaf: impl Strategy<Value = Value>) -> impl Strategy<Value = Value> {
    (leaf, any::<bool>()).prop_map(|(mut leaf, negation)| {
        leaf["negation"] = json!(negation);
        leaf
    })
}

/// A filter of any tree, joined by AND with a positive leaf that all persons match.
fn filter_of(leaf: BoxedStrategy<Value>) -> impl Strategy<Value = Value> {
    let tree = leaf.prop_recursive(3, 12, 4, |node| {
        (select(vec!["AND", "OR"]), vec(node, 1..4))
            .prop_map(|(join, values)| json!({"type": join, "values": values}))
    });
    tree.prop_map(|tree| {
        let all_persons = json!({"type": "person", "key": "none", "operator": "is_not_set"});
        json!({"properties": {"type": "AND", "values": [tree, all_persons]}})
    })
}

/// A filter.
pub fn filters() -> impl Strategy<Value = Value> {
    filter_of(leaf().boxed())
}
