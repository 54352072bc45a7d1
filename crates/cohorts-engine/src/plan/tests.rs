//! Plans: windows, instants, dependencies and budgets.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::*;
use crate::cases::at;
use crate::{Filter, FilterError};

fn now() -> Moment {
    at("2025-06-18T15:30:00Z", "UTC")
}

fn planned(tree: Value) -> Result<Plan, FilterError> {
    let filter = Filter::parse(&json!({"properties": tree})).unwrap();
    plan(&filter, &now())
}

#[track_caller]
fn refused(leaf: Value) -> String {
    let error = planned(json!({"type": "OR", "values": [leaf]})).unwrap_err();
    assert_eq!(error.code, "validation_error");
    assert_eq!(error.path, "properties.values[0]");
    let sentence = error.detail.strip_prefix("properties.values[0]: ");
    sentence
        .unwrap_or_else(|| panic!("{} starts with the path", error.detail))
        .to_owned()
}

fn person(negation: bool) -> Value {
    json!({"type": "person", "key": "x", "operator": "exact", "value": 1, "negation": negation})
}

/// A valid leaf with the members of `more` replaced; null removes a member.
fn behavior(value: &str, more: Value) -> Value {
    let mut leaf = json!({"type": "behavioral", "value": value, "key": "e",
        "event_type": "events", "operator": "gte", "operator_value": 1, "time_value": 7,
        "time_interval": "day", "seq_event": "f", "seq_event_type": "events",
        "seq_time_value": 3, "seq_time_interval": "day", "min_periods": 1, "total_periods": 3});
    for (key, value) in more.as_object().unwrap() {
        leaf[key] = value.clone();
    }
    leaf
}

const KINDS: [&str; 7] = [
    "performed_event",
    "performed_event_multiple",
    "performed_event_first_time",
    "performed_event_sequence",
    "performed_event_regularly",
    "stopped_performing_event",
    "restarted_performing_event",
];

#[test]
fn every_kind_of_behaviour_can_be_planned() {
    for kind in KINDS {
        let leaf = behavior(kind, json!({}));
        assert!(
            planned(json!({"type": "OR", "values": [leaf]})).is_ok(),
            "{kind}"
        );
    }
}

#[test]
fn a_definition_as_a_whole_must_not_be_negative() {
    let negative = [
        json!({"type": "AND", "values": [person(true)]}),
        json!({"type": "OR", "values": [person(false), person(true)]}),
        json!({"type": "OR", "values": [
            {"type": "AND", "values": [person(false)]},
            {"type": "AND", "values": [{"type": "OR", "values": [person(true)]},
                {"type": "OR", "values": [person(true)]}]}]}),
        json!({"type": "AND", "values": [{"type": "OR", "values": [person(false), person(true)]}]}),
    ];
    for tree in negative {
        let error = planned(tree).unwrap_err();
        assert_eq!(error.code, "validation_error");
        assert!(
            error
                .detail
                .contains("top level condition cannot be negated"),
            "{error}"
        );
    }
    let positive = json!({"type": "AND", "values": [
        {"type": "OR", "values": [person(false)]},
        {"type": "AND", "values": [person(true), person(true)]}]});
    assert!(planned(positive).is_ok());
}

#[test]
fn an_empty_root_has_no_members_and_an_empty_group_is_an_error() {
    assert!(planned(json!({"type": "AND", "values": []})).is_ok());
    let inner = json!({"type": "AND", "values": [person(false), {"type": "OR", "values": []}]});
    let error = planned(inner).unwrap_err();
    assert_eq!(error.code, "no_properties");
    assert_eq!(error.path, "properties.values[1]");
    assert_eq!(
        error.detail,
        "properties.values[1]: a group has no criteria in it"
    );
}

#[test]
fn windows_need_a_positive_amount_and_a_known_unit() {
    let no_window = "no time window: expected time_value with time_interval, or explicit_datetime";
    for kind in [
        "performed_event",
        "performed_event_multiple",
        "performed_event_first_time",
    ] {
        for missing in ["time_value", "time_interval"] {
            let more = json!({missing: null, "explicit_datetime_to": "-1d"});
            assert_eq!(refused(behavior(kind, more)), no_window, "{kind}");
        }
    }
    for kind in KINDS {
        assert_eq!(
            refused(behavior(kind, json!({"time_value": 0}))),
            "'time_value' must be greater than zero, got 0",
            "{kind}"
        );
        for interval in ["minute", "fortnight"] {
            assert_eq!(
                refused(behavior(kind, json!({"time_interval": interval}))),
                format!(
                    "unknown 'time_interval' '{interval}'; expected one of hour, day, week, \
                    month, year"
                ),
                "{kind}"
            );
        }
        assert_eq!(
            refused(behavior(
                kind,
                json!({"time_value": i64::MAX, "time_interval": "year"})
            )),
            "the time window reaches beyond the calendar",
            "{kind}"
        );
    }
}

#[test]
fn required_fields_of_each_kind_must_be_present() {
    let required: [(&str, &[&str]); 5] = [
        ("performed_event_multiple", &["operator_value"]),
        (
            "performed_event_sequence",
            &[
                "time_value",
                "time_interval",
                "seq_event",
                "seq_event_type",
                "seq_time_value",
                "seq_time_interval",
            ],
        ),
        (
            "performed_event_regularly",
            &[
                "time_value",
                "time_interval",
                "operator_value",
                "min_periods",
                "total_periods",
            ],
        ),
        (
            "stopped_performing_event",
            &[
                "time_value",
                "time_interval",
                "seq_time_value",
                "seq_time_interval",
            ],
        ),
        (
            "restarted_performing_event",
            &[
                "time_value",
                "time_interval",
                "seq_time_value",
                "seq_time_interval",
            ],
        ),
    ];
    for (kind, fields) in required {
        for field in fields {
            // The field is required even with an explicit window.
            let more = json!({*field: null, "explicit_datetime": "-7d"});
            assert_eq!(
                refused(behavior(kind, more)),
                format!("'{field}' is missing"),
                "{kind}"
            );
        }
    }
}

#[test]
fn counts_must_be_positive_and_their_operators_known() {
    for kind in ["performed_event_multiple", "performed_event_regularly"] {
        assert_eq!(
            refused(behavior(kind, json!({"operator_value": 0}))),
            "'operator_value' must be greater than zero, got 0"
        );
        assert_eq!(
            refused(behavior(kind, json!({"operator": "is_not"}))),
            "unknown count operator 'is_not'; expected one of exact, eq, gte, lte, gt, lt"
        );
    }
}

#[test]
fn periods_must_be_consistent() {
    let refused = |more: Value| refused(behavior("performed_event_regularly", more));
    assert_eq!(
        refused(json!({"min_periods": 4})),
        "'min_periods' (4) is greater than 'total_periods' (3)"
    );
    assert_eq!(
        refused(json!({"time_interval": "hour"})),
        "periods are whole days; 'time_interval' cannot be hour"
    );
    assert_eq!(
        refused(json!({"total_periods": 10_001})),
        "'total_periods' may be 10000 at most, got 10001"
    );
    assert_eq!(
        refused(json!({"min_periods": 0})),
        "'min_periods' must be greater than zero, got 0"
    );
}

#[test]
fn the_inner_window_must_not_be_longer_than_the_outer() {
    for kind in ["stopped_performing_event", "restarted_performing_event"] {
        for (value, interval) in [(8, "day"), (2, "week"), (1, "month"), (169, "hour")] {
            let more = json!({"seq_time_value": value, "seq_time_interval": interval});
            assert_eq!(
                refused(behavior(kind, more)),
                "the window of seq_time_value is longer than the window of time_value"
            );
        }
        let equal = json!({"seq_time_value": 1, "seq_time_interval": "week"});
        let leaf = behavior(kind, equal);
        assert!(planned(json!({"type": "OR", "values": [leaf]})).is_ok());
    }
}

#[test]
fn kinds_event_types_and_actions_must_be_known() {
    assert_eq!(
        refused(behavior("levitated", json!({}))),
        "unknown behavioral value 'levitated'"
    );
    assert_eq!(
        refused(behavior("performed_event", json!({"event_type": "pages"}))),
        "'event_type' must be events or actions, got 'pages'"
    );
    assert_eq!(
        refused(behavior(
            "performed_event_sequence",
            json!({"seq_event_type": "pages"})
        )),
        "'seq_event_type' must be events or actions, got 'pages'"
    );
    assert_eq!(
        refused(behavior(
            "performed_event",
            json!({"event_type": "actions"})
        )),
        "'e' is not the id of an action"
    );
}

#[test]
fn explicit_dates_must_be_valid() {
    for (kind, field) in [
        ("performed_event", "explicit_datetime"),
        ("performed_event", "explicit_datetime_to"),
        ("performed_event_multiple", "explicit_datetime"),
        ("performed_event_multiple", "explicit_datetime_to"),
    ] {
        let mut leaf = behavior(kind, json!({"explicit_datetime": "-3d"}));
        leaf[field] = json!("soon");
        assert_eq!(refused(leaf), format!("'{field}' is no date: 'soon'"));
    }
}

#[test]
fn operators_of_criteria_must_be_known() {
    let unknown = json!({"type": "person", "key": "x", "operator": "like", "value": 1});
    assert_eq!(refused(unknown), "unknown operator 'like'");
    let created = json!({"type": "person_metadata", "key": "created_at", "operator": "exact",
        "value": "2025-01-01"});
    assert_eq!(
        refused(created),
        "operator 'exact' cannot be used with created_at; expected one of is_date_exact, \
         is_date_before, is_date_after"
    );
    let filters = json!([{"type": "event", "key": "k", "operator": "like", "value": 1}]);
    let leaf = behavior("performed_event", json!({"event_filters": filters}));
    let error = planned(json!({"type": "OR", "values": [leaf]})).unwrap_err();
    assert_eq!(
        error.detail,
        "properties.values[0].event_filters[0]: unknown operator 'like'"
    );
}

#[test]
fn equal_leaves_are_planned_once_with_or_without_negation() {
    let tree = json!({"type": "AND", "values": [
        person(false),
        {"type": "OR", "values": [person(false), behavior("performed_event", json!({}))]},
        {"type": "AND", "values": [person(true), person(false)]}]});
    let plan = planned(tree).unwrap();
    assert_eq!(plan.leaves.len(), 2);
    let signs: Vec<(&str, bool)> = plan
        .criteria()
        .iter()
        .map(|placed| (placed.path.as_str(), placed.negated))
        .collect();
    let expected = [
        ("properties.values[0]", false),
        ("properties.values[1].values[0]", false),
        ("properties.values[1].values[1]", false),
        ("properties.values[2].values[0]", true),
        ("properties.values[2].values[1]", false),
    ];
    assert_eq!(signs, expected);
}

#[test]
fn cheap_leaves_come_first() {
    let cohort = json!({"type": "cohort", "key": "id", "value": 1});
    let tree = json!({"type": "AND", "values": [
        behavior("performed_event_first_time", json!({})),
        {"type": "OR", "values": [behavior("performed_event", json!({})), cohort]},
        person(false)]});
    let plan = planned(tree).unwrap();
    let Tree::And(trees) = &plan.root else {
        panic!("{:?} is an AND", plan.root);
    };
    let costs: Vec<u8> = trees
        .iter()
        .map(|tree| match tree {
            Tree::Leaf { leaf, .. } => plan.leaves[*leaf].cost(),
            _ => 100,
        })
        .collect();
    assert_eq!(costs, [2, 100, 6]);
}

#[test]
fn a_moment_outside_the_calendar_is_an_error() {
    let filter = Filter::parse(&json!({"properties": {"type": "OR", "values": []}})).unwrap();
    for now in [i64::MAX, i64::MIN] {
        let moment = Moment {
            now,
            time_zone: jiff::tz::TimeZone::UTC,
        };
        let error = plan(&filter, &moment).unwrap_err();
        assert_eq!(
            error.detail,
            "the moment of the calculation is outside the calendar"
        );
    }
}

fn planned_at(leaf: Value, moment: &str) -> Plan {
    let filter = Filter::parse(&json!({"properties": {"type": "AND", "values": [leaf]}})).unwrap();
    plan(&filter, &at(moment, "UTC")).unwrap()
}

fn behavior_in_a_week(value: &str, more: Value) -> Value {
    let mut leaf = json!({"type": "behavioral", "value": value, "key": "e", "event_type": "events",
        "time_value": 7, "time_interval": "day"});
    leaf.as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    leaf
}

#[test]
fn a_plan_lists_the_data_that_its_members_depend_on() {
    let dependencies = |leaf: Value| planned_at(leaf, "2025-06-18T12:00:00Z").dependencies();
    let second = json!({"seq_event": "f", "seq_event_type": "events", "seq_time_value": 1, "seq_time_interval": "day"});
    let sequence = dependencies(behavior_in_a_week("performed_event_sequence", second));
    let names = ["e", "f"].map(str::to_owned);
    assert_eq!(sequence.events, BTreeSet::from(names));
    assert!(!sequence.persons && !sequence.definitions && !sequence.every_event);
    assert!(dependencies(json!({"type": "cohort", "key": "id", "value": 3})).definitions);
    let action = json!({"key": "3", "event_type": "actions"});
    assert!(dependencies(behavior_in_a_week("performed_event", action)).every_event);
    assert!(dependencies(json!({"type": "person_metadata", "key": "created_at", "operator": "is_set", "value": "is_set"})).persons);
}
