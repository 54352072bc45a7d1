//! Random projects and filters: the plan over blocks gives what the naive evaluator gives.

use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

use super::naive;
use crate::cases::{Event, Person, Project, at};
use crate::{Filter, Moment, plan};

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
        json!(null),
    ])
}

fn properties() -> impl Strategy<Value = Value> {
    let member = (select(vec!["p", "q"]), value());
    prop::collection::vec(member, 0..3).prop_map(|members| {
        let members = members
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value));
        Value::Object(members.collect())
    })
}

fn moment() -> impl Strategy<Value = Moment> {
    // Days on and beside clock changes, and the last day of a long month.
    let days = [
        "2025-03-09T16:00:00Z",
        "2025-03-30T12:15:00Z",
        "2025-05-31T05:30:00Z",
        "2025-11-03T03:30:00Z",
        "2024-02-29T18:00:00Z",
    ];
    let zones = ["UTC", "America/New_York", "Europe/Berlin", "Asia/Kolkata"];
    (select(days.to_vec()), select(zones.to_vec())).prop_map(|(now, zone)| at(now, zone))
}

/// Steps of an hour back from shortly after now, dense near now, so that bounds are often hit.
fn hours_back() -> impl Strategy<Value = i64> {
    prop_oneof![
        -30..100_i64,
        0..2_000_i64,
        (0..30_i64).prop_map(|days| days * 24)
    ]
}

fn project(at: &Moment) -> impl Strategy<Value = Project> + use<> {
    let now = at.now;
    let event = (
        select(vec!["e", "f"]),
        0..5_u32,
        hours_back(),
        -1..=1_i64,
        properties(),
    );
    let event = event.prop_map(move |(name, person, hours, micros, properties)| Event {
        name: name.to_owned(),
        person,
        time: now - hours * 3_600_000_000 + micros,
        properties,
    });
    let persons = prop::collection::vec(properties(), 5);
    (persons, prop::collection::vec(event, 0..40)).prop_map(|(persons, events)| {
        let person = |properties| Person {
            properties,
            ..Person::default()
        };
        Project {
            persons: persons.into_iter().map(person).collect(),
            events,
            ..Project::default()
        }
    })
}

fn test() -> impl Strategy<Value = (&'static str, Value)> {
    let operators = [
        "exact",
        "is_not",
        "in",
        "not_in",
        "icontains",
        "not_icontains",
        "gt",
        "lte",
        "is_set",
        "is_not_set",
    ];
    let one = || value().prop_filter("null is no value", |value| !value.is_null());
    let values = prop_oneof![
        3 => one(),
        1 => prop::collection::vec(one(), 0..4).prop_map(Value::Array),
    ];
    (select(operators.to_vec()), values)
}

fn person() -> impl Strategy<Value = Value> {
    (select(vec!["p", "q", "r"]), test()).prop_map(|(key, (operator, value))| {
        json!({"type": "person", "key": key, "operator": operator, "value": value})
    })
}

fn event_filters() -> impl Strategy<Value = Value> {
    let filter = (select(vec!["p", "q"]), test()).prop_map(|(key, (operator, value))| {
        json!({"type": "event", "key": key, "operator": operator, "value": value})
    });
    prop::collection::vec(filter, 0..3).prop_map(Value::Array)
}

fn behavioral() -> impl Strategy<Value = Value> {
    let kinds = [
        "performed_event",
        "performed_event_multiple",
        "performed_event_first_time",
        "performed_event_sequence",
        "performed_event_regularly",
        "stopped_performing_event",
        "restarted_performing_event",
    ];
    let units = || select(vec!["day", "week", "month"]);
    let names = || select(vec!["e", "f"]);
    let operators = select(vec!["gte", "lte", "gt", "lt", "exact", "eq"]);
    let periods = (1..5_i64, 0..4_i64);
    let window = (1..12_i64, units(), 1..12_i64, units());
    let event = (select(kinds.to_vec()), names(), names(), event_filters());
    (event, window, operators, 1..4_i64, periods).prop_map(
        |((kind, key, second, filters), (long, unit, short, inner), operator, count, periods)| {
            json!({"type": "behavioral", "value": kind, "key": key, "event_type": "events",
                "time_value": long, "time_interval": unit, "seq_event": second,
                "seq_event_type": "events", "seq_time_value": short,
                "seq_time_interval": inner, "operator": operator, "operator_value": count,
                "min_periods": periods.0, "total_periods": periods.0 + periods.1,
                "event_filters": filters})
        },
    )
}

fn leaf() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![1 => person(), 2 => behavioral()];
    (leaf, any::<bool>()).prop_map(|(mut leaf, negation)| {
        leaf["negation"] = json!(negation);
        leaf
    })
}

/// Any tree, next to a positive criterion that everyone meets.
fn filters() -> impl Strategy<Value = Value> {
    let tree = leaf().prop_recursive(3, 12, 4, |node| {
        (select(vec!["AND", "OR"]), prop::collection::vec(node, 1..4))
            .prop_map(|(join, values)| json!({"type": join, "values": values}))
    });
    tree.prop_map(|tree| {
        let everyone = json!({"type": "person", "key": "none", "operator": "is_not_set"});
        json!({"properties": {"type": "AND", "values": [tree, everyone]}})
    })
}

fn setting() -> impl Strategy<Value = (Moment, Project, Value)> {
    let project = |at: Moment| (Just(at.clone()), project(&at), filters());
    moment().prop_flat_map(project)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn plans_over_blocks_agree_with_one_look_at_each_person((at, project, filters) in setting()) {
        let filter = Filter::parse(&filters).unwrap();
        // An inner window that is longer than the outer one is the only error generated.
        let Ok(plan) = plan(&filter, &at) else {
            return Ok(());
        };
        let Ok(members) = plan.evaluate(&project);
        let members: Vec<u32> = members.iter().collect();
        prop_assert_eq!(members, naive::members(&project, &filter, &at));
    }
}
