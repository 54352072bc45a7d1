//! Filters: what parses, and what is refused.

mod verdicts;

use serde_json::{Value, json};

use super::*;

fn tree(values: Value) -> Value {
    json!({"properties": {"type": "OR", "values": values}})
}

fn person(key: &str, operator: &str, value: &str) -> Value {
    json!({"type": "person", "key": key, "operator": operator, "value": value})
}

#[test]
fn stored_filters_are_parsed_leniently() {
    let stored = tree(json!([
        {"type": "person", "key": "x", "value": 1, "label": "old"},
        {"type": "cohort", "key": "id", "value": 4, "operator": "not_in"},
        {"type": "cohort", "key": "id", "value": 5, "operator": "in"},
    ]));
    assert!(Filter::parse(&stored).is_err());
    let filter = Filter::parse_stored(&stored).unwrap();
    let negated: Vec<bool> = filter
        .leaves()
        .into_iter()
        .map(|leaf| leaf.negated())
        .collect();
    assert_eq!(negated, [false, true, false]);
    assert!(
        Filter::parse_stored(&json!({"properties": {}}))
            .unwrap()
            .is_empty()
    );
}

#[test]
fn a_filter_lists_the_names_and_ids_in_its_leaves() {
    let filters = tree(json!([
        person("a", "exact", "1"),
        {"type": "AND", "values": [
            {"type": "behavioral", "key": "e", "value": "performed_event", "event_type": "events",
                "seq_event": 5, "seq_event_type": "actions"},
            {"type": "cohort", "key": "id", "value": 9},
            {"type": "cohort", "key": "id", "value": 4},
            {"type": "cohort", "key": "id", "value": "9"},
        ]},
    ]));
    let filter = Filter::parse(&filters).unwrap();
    assert_eq!(filter.cohort_references(), [9, 4]);
    assert_eq!(Vec::from_iter(filter.event_names()), ["e"]);
    assert_eq!(Vec::from_iter(filter.action_ids()), [5]);
    assert_eq!(Vec::from_iter(filter.person_keys()), ["a"]);
    assert!(filter.has_behavioral() && filter.depends_on_time());
}

#[test]
fn only_dates_and_behaviour_depend_on_time() {
    let depends = |leaf| {
        Filter::parse(&tree(json!([leaf])))
            .unwrap()
            .depends_on_time()
    };
    assert!(!depends(person("a", "exact", "1")));
    assert!(depends(person("a", "is_date_after", "-7d")));
    assert!(!depends(json!({"type": "cohort", "key": "id", "value": 1})));
}

#[test]
fn criteria_are_detected_in_unparsed_filters() {
    for empty in [
        json!(null),
        json!({}),
        json!({"properties": {}}),
        tree(json!([])),
    ] {
        assert!(!has_criteria(&empty), "{empty}");
    }
    assert!(has_criteria(&tree(json!([1]))));
}
