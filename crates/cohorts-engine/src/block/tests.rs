use serde_json::json;

use super::*;
use crate::cases::{Project, at};

fn predicate(operator: &str, value: Value) -> Predicate {
    let moment = at("2025-06-18T15:30:00Z", "UTC");
    Predicate::compile("p", Some(operator), Some(&value), &moment).unwrap()
}

/// Data that sets no bound to the work.
fn unbounded() -> Project {
    Project::default()
}

fn everyone() -> RoaringBitmap {
    (0..4).collect()
}

fn query(properties: &[&str]) -> EventQuery {
    EventQuery {
        event: None,
        from: None,
        to: i64::MAX,
        properties: properties.iter().map(|key| (*key).to_owned()).collect(),
    }
}

#[test]
fn equal_values_share_one_code_whichever_way_they_come() {
    let mut builder = PropertyBlockBuilder::new();
    builder.push(2, &json!("a"));
    builder.push_raw(0, "\"a\"");
    builder.push(1, &json!(["a", 1]));
    builder.push_raw(1, "[\"a\",1]");
    let block = builder.finish();
    assert_eq!(block.persons, [0, 1, 1, 2]);
    assert_eq!(block.column.values.len(), 2);
    assert_eq!(block.column.codes, [0, 1, 1, 0]);
}

#[test]
fn null_and_broken_text_are_no_rows() {
    let mut builder = PropertyBlockBuilder::new();
    builder.push(0, &json!(null));
    builder.push_raw(1, "null");
    builder.push_raw(2, "{broken");
    builder.push_raw(3, "0");
    let block = builder.finish();
    assert_eq!(block.rows(), 1);
    let source = unbounded();
    let unset = predicate("is_not_set", json!(""));
    let Ok(unset) = block.matching(&unset, &everyone(), &Meter::new(&source));
    assert_eq!(Vec::from_iter(unset), [0, 1, 2]);
}

#[test]
fn a_person_with_several_rows_matches_by_any_of_them() {
    let mut builder = PropertyBlockBuilder::new();
    for (person, value) in [(3, "b"), (1, "a"), (1, "b"), (9, "b")] {
        builder.push(person, &json!(value));
    }
    let block = builder.finish();
    let matching = |operator, value| {
        let source = unbounded();
        let predicate = predicate(operator, json!(value));
        let Ok(found) = block.matching(&predicate, &everyone(), &Meter::new(&source));
        Vec::from_iter(found)
    };
    assert_eq!(matching("exact", "b"), [1, 3]);
    assert_eq!(matching("is_not", "b"), [0, 1, 2]);
}

#[test]
fn of_several_times_of_a_person_the_earliest_counts() {
    let block = TimesBlock::new([(1, 50), (0, 20), (1, 10), (9, 10)]);
    let found = block.matching(
        &predicate("is_date_before", json!("2000-01-01")),
        &everyone(),
    );
    assert_eq!(Vec::from_iter(found), [0, 1]);
    assert_eq!(block.rows, [(0, 20), (1, 10), (9, 10)]);
}

#[test]
fn events_are_sorted_with_their_columns() {
    let mut builder = EventBlockBuilder::new(&query(&["a", "b"]));
    builder.push(1, 20, "late", &json!({"a": 1, "b": null, "c": 3}));
    builder.push_raw(1, 10, "early", [None, Some("\"x\"")]);
    builder.push_raw(0, 30, "other", [Some("1")]);
    let block = builder.finish();
    let rows: Vec<(u32, i64)> = (0..block.rows()).map(|row| block.row(row)).collect();
    assert_eq!(rows, [(0, 30), (1, 10), (1, 20)]);
    let all = |answers: Answers| Vec::from_iter((0..3).map(|row| answers.at(row)));
    assert_eq!(
        all(block.named(|name| name == "early")),
        [false, true, false]
    );
    let source = unbounded();
    let answers = |property, operator, value| {
        let predicate = predicate(operator, value);
        let Ok(answers) = block.answers(property, &predicate, &Meter::new(&source));
        all(answers)
    };
    assert_eq!(answers("a", "exact", json!(1)), [true, false, true]);
    assert_eq!(answers("b", "is_not_set", json!("")), [true, false, true]);
    // The query did not ask for this property, so the block does not know it.
    assert_eq!(answers("c", "is_set", json!("")), [false; 3]);
}
