//! Encoded blocks: round trips, and the refusal of damaged bytes.

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::block::{EventBlockBuilder, PropertyBlockBuilder};
use crate::value::Stored;

/// Decodes the bytes of one block.
fn decoded(bytes: &[u8]) -> Option<EventBlock> {
    let mut blocks = EventBlock::decode_all(bytes)?;
    assert_eq!(blocks.len(), 1);
    blocks.pop()
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
        prop_assert_eq!(decoded(&block.encode()), Some(block));
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
        for version in [EVENTS, WIDE_EVENTS, BLOCKS, PROPERTIES] {
            if let Some(first) = bytes.first_mut() {
                *first = version;
            }
            let _ = (EventBlock::decode_all(&bytes), PropertyBlock::decode(&bytes));
        }
        let mut damaged = block(&[(1, 1_000, json!("a")), (2, 5_000, json!(3))]).encode();
        let position = position % damaged.len();
        damaged[position] = if is_increment { damaged[position].wrapping_add(1) } else { 0xFF };
        let _ = (decoded(&damaged), PropertyBlock::decode(&damaged));
    }
}

#[test]
fn events_of_the_wide_version_are_decoded() {
    let block = block(&[(1, 1_000, json!("a")), (2, 5_000, json!(3))]);
    let mut wide = block.encode();
    wide[0] = WIDE_EVENTS;
    // A column ends with the length of its codes and one byte for each of two rows. Three more
    // byte planes follow in the wide version.
    let ends = [wide.len(), wide.len() - column_bytes(&block, "b")];
    for end in ends {
        wide.splice(end..end, [0; 6]);
    }
    assert_eq!(decoded(&wide), Some(block));
}

/// The size of an encoded column.
fn column_bytes(block: &EventBlock, key: &str) -> usize {
    let column = &block.columns()[key];
    let mut writer = BlockWriter::new(0);
    writer.bytes(key.as_bytes());
    writer.dictionary(&column.dictionary);
    writer.finish().len() - 1 + 8 + column.codes.len()
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
        assert_eq!(decoded(&block.encode()).as_ref(), Some(&block));
        let parts = [numbered(0..values - 1), numbered(values - 1..values)];
        let merged = EventBlock::merged(&parts.map(Arc::new));
        let resolved = merged.resolved(|person| (person != 7).then_some(person));
        let decoded = decoded(&resolved.encode()).unwrap();
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
fn several_blocks_round_trip_only_if_none_is_missing_or_added() {
    let numbered = |time: i64| Arc::new(block(&[(1, time, json!("a")), (2, 5_000, json!(time))]));
    for count in [0, 1, 2, 5] {
        let blocks: Vec<_> = (0..count).map(numbered).collect();
        let pieces: Vec<Vec<u8>> = EventBlock::encode_all(&blocks).collect();
        let bytes = pieces.concat();
        let decoded = EventBlock::decode_all(&bytes).unwrap();
        let expected = blocks.iter().map(|block| &**block);
        assert!(decoded.iter().eq(expected), "{count}");
        let without_last = bytes.len() - pieces.last().unwrap().len();
        assert_eq!(EventBlock::decode_all(&bytes[..without_last]), None);
        let with_another = [bytes, numbered(9).encode()].concat();
        assert_eq!(EventBlock::decode_all(&with_another), None);
    }
}

#[test]
fn truncated_bytes_are_refused() {
    let bytes = block(&[(1, 1_000, json!("a")), (2, 5_000, json!(3))]).encode();
    for length in 0..bytes.len() {
        assert_eq!(decoded(&bytes[..length]), None, "{length}");
    }
}
