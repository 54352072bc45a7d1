//! Encoded blocks: round trips, and the refusal of damaged bytes.

use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::block::{EventBlockBuilder, PropertyBlockBuilder};
use crate::value::Stored;

/// The encoded rows and columns of a block.
fn encoded(block: &EventBlock) -> (Vec<u8>, Vec<(String, Vec<u8>)>) {
    let column = |key: &str| (key.to_owned(), block.encode_column(key).unwrap());
    (
        block.encode_rows(),
        block.properties().map(column).collect(),
    )
}

fn decoded((rows, columns): &(Vec<u8>, Vec<(String, Vec<u8>)>)) -> Option<EventBlock> {
    let mut block = EventBlock::decode_rows(rows)?;
    for (key, bytes) in columns {
        block.decode_column(key, bytes)?;
    }
    Some(block)
}

fn block(rows: &[(u32, i64, Value)]) -> EventBlock {
    let mut builder = EventBlockBuilder::new(&["a".to_owned(), "b".to_owned()]);
    for (person, time, value) in rows {
        builder.push(*person, *time, &json!({"a": value, "b": person}));
    }
    builder.finish()
}

fn value() -> impl Strategy<Value = Value> {
    let number = (0..9).prop_map(|number| json!(number * 3 / 2));
    prop_oneof![
        "[aäß]{0,3}".prop_map(Value::from),
        number,
        Just(Value::Null),
        Just(json!(["x", {"y": 0.12345678901234567}]))
    ]
}

fn text() -> impl Strategy<Value = Value> {
    "[aäß]{0,3}".prop_map(Value::from)
}

fn number() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<f64>().prop_map(Value::from),
        (0..9).prop_map(Value::from)
    ]
}

proptest! {
    #[test]
    fn event_blocks_round_trip(
        rows in prop_oneof![
            vec((any::<u32>(), any::<i64>(), value()), 0..50),
            vec((0..9_u32, (0..9_i64).prop_map(|hours| hours * 3_600_000_000), text()), 0..50),
        ]
    ) {
        let block = block(&rows);
        prop_assert_eq!(decoded(&encoded(&block)), Some(block));
    }

    #[test]
    fn property_blocks_round_trip(
        rows in prop_oneof![vec((any::<u32>(), value()), 0..50), vec((0..2_000_u32, text()), 0..50), vec((0..9_u32, number()), 0..50)],
        has_pairs in any::<bool>(),
        changes in vec((0..2_000_u32, value()), 0..9),
    ) {
        let build = |rows: &[(u32, Value)], has_pairs: bool| {
            let mut builder = PropertyBlockBuilder::new();
            rows.iter().for_each(|(person, value)| builder.push(*person, value));
            // Enough values for postings of pairs.
            (0..300 * u32::from(has_pairs)).for_each(|nth| builder.push(nth, &json!(format!("v{nth}"))));
            builder.finish()
        };
        let block = build(&rows, has_pairs);
        prop_assert_eq!(PropertyBlock::decode(&block.encode()), Some(block.clone()));
        let persons = changes.iter().map(|(person, _)| *person).collect();
        let changed = block.with_changes(&persons, build(&changes, false));
        prop_assert_eq!(PropertyBlock::decode(&changed.encode()), Some(changed.flattened()));
    }

    #[test]
    fn decoding_arbitrary_or_damaged_bytes_does_not_panic(bytes in vec(any::<u8>(), 0..200), position in 0..200_usize, is_increment in any::<bool>()) {
        let mut bytes = bytes;
        let rows = [(1, 1_000, json!("a")), (2, 5_000, json!(3))];
        let mut block = block(&rows);
        for version in [EVENT_ROWS, EVENT_COLUMN, PROPERTIES] {
            if let Some(first) = bytes.first_mut() {
                *first = version;
            }
            let _ = (EventBlock::decode_rows(&bytes), PropertyBlock::decode(&bytes));
            let _ = block.decode_column("a", &bytes);
        }
        for mut damaged in [block.encode_rows(), block.encode_column("b").unwrap()] {
            let position = position % damaged.len();
            damaged[position] = if is_increment { damaged[position].wrapping_add(1) } else { 0xFF };
            let _ = (EventBlock::decode_rows(&damaged), block.decode_column("b", &damaged));
        }
    }
}

#[test]
fn merged_and_resolved_columns_round_trip_at_each_code_width() {
    for values in [254, 255, 256, 257, 65_534, 65_535, 65_536] {
        let numbered = |ordinals: std::ops::Range<u32>| {
            let row = |ordinal: u32| {
                let value = json!(format!("v{ordinal}"));
                (ordinal, i64::from(ordinal) * 1_000, value)
            };
            let rows = ordinals.map(row).chain([(7, 9, Value::Null)]);
            block(&rows.collect::<Vec<_>>())
        };
        let block = numbered(0..values);
        assert_eq!(decoded(&encoded(&block)).as_ref(), Some(&block));
        let parts = [numbered(0..values - 1), numbered(values - 1..values)];
        let merged = EventBlock::merged(&parts.map(Arc::new));
        let resolved = merged.resolved(|person| (person != 7).then_some(person));
        let decoded = decoded(&encoded(&resolved)).unwrap();
        assert_eq!(decoded.rows() as u32, values - 1);
        let column = &decoded.columns()["a"];
        for row in 0..decoded.rows() {
            let expected = format!("v{}", decoded.ordinals()[row]);
            let index = column.codes.code(row) as usize - 1;
            assert_eq!(column.dictionary.value(index), Stored::Text(&expected));
        }
    }
}

#[test]
fn truncated_bytes_and_columns_of_other_rows_are_refused() {
    let events = block(&[(1, 1_000, json!("a")), (2, 5_000, json!(3))]);
    let (rows, column) = (events.encode_rows(), events.encode_column("a").unwrap());
    let mut one_event = block(&[(1, 1_000, json!("a"))]);
    assert_eq!(one_event.decode_column("a", &column), None);
    let mut events = EventBlock::decode_rows(&rows).unwrap();
    for length in 0..rows.len() {
        assert_eq!(EventBlock::decode_rows(&rows[..length]), None, "{length}");
    }
    for length in 0..column.len() {
        assert_eq!(
            events.decode_column("a", &column[..length]),
            None,
            "{length}"
        );
    }
    assert_eq!(events.decode_column("a", &column), Some(()));
}
