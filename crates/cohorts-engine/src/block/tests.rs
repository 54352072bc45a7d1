//! Blocks: their contents, changes and memory.

use roaring::RoaringBitmap;
use serde_json::{Value, json};

use super::bitmap::from_sorted_iter;
use super::dictionary::Dictionary;
use super::postings::Postings;
use super::*;
use crate::cases::{Project, at};
use crate::interrupt::Meter;
use crate::predicate::Predicate;

fn predicate(operator: &str, value: Value) -> Predicate {
    let moment = at("2025-06-18T15:30:00Z", "UTC");
    Predicate::compile("p", Some(operator), Some(&value), &moment).unwrap()
}

/// A source that never interrupts.
fn unlimited() -> Project {
    Project::default()
}

fn universe() -> RoaringBitmap {
    (0..4).collect()
}

/// The block of some values.
fn property<T: Into<Value> + Clone>(rows: &[(u32, T)]) -> PropertyBlock {
    let mut builder = PropertyBlockBuilder::new();
    for (person, value) in rows {
        builder.push(*person, &value.clone().into());
    }
    builder.finish()
}

/// The persons of `universe` with a value for which the operator holds.
fn matching(
    block: &PropertyBlock,
    universe: &RoaringBitmap,
    predicate: &Predicate,
) -> RoaringBitmap {
    let Ok(matches) = block.matching(predicate, universe, &Meter::new(&unlimited()));
    matches
}

#[test]
fn equal_values_share_one_dictionary_entry() {
    let mut builder = PropertyBlockBuilder::new();
    builder.push(2, &json!("a"));
    builder.push_raw(0, "\"a\"");
    builder.push(1, &json!(["a", 1]));
    builder.push_raw(1, "[\"a\",1]");
    let block = builder.finish();
    let values = vec![json!("a"), json!(["a", 1])];
    assert_eq!(block.values().dictionary(), &Dictionary::Mixed(values));
    let bitmaps = [[0, 2].into_iter().collect(), [1].into_iter().collect()];
    assert_eq!(
        block.values().postings(),
        &Postings::Bitmaps(bitmaps.to_vec())
    );
}

#[test]
fn bitmaps_and_pairs_match_the_same_persons() {
    let universe: RoaringBitmap = (0..1_000).collect();
    for values in [10, 900] {
        let rows: Vec<(u32, u32)> = (0..900).rev().map(|nth| (nth, nth % values)).collect();
        let block = property(&rows);
        for (operator, value) in [
            ("exact", json!(7)),
            ("gt", json!(7)),
            ("is_not", json!([1, 2])),
        ] {
            let predicate = predicate(operator, value);
            let holds = |person: &u32| {
                if *person < 900 {
                    predicate.matches(&json!(person % values))
                } else {
                    predicate.matches_missing()
                }
            };
            assert_eq!(
                matching(&block, &universe, &predicate),
                (0..1_000).filter(holds).collect(),
                "{operator} {values}"
            );
        }
    }
}

#[test]
fn a_column_of_numbers_matches_like_its_values() {
    let numbers = [
        json!(0),
        json!(-0.0),
        json!(1),
        json!(1.5),
        json!(-3),
        json!(9_007_199_254_740_992_i64),
        json!(1e300),
    ];
    let rows: Vec<(u32, Value)> = (0..).zip(numbers.clone()).collect();
    let block = property(&rows);
    assert!(matches!(
        block.values().dictionary(),
        Dictionary::Doubles(_)
    ));
    for operator in [
        "exact",
        "is_not",
        "gt",
        "gte",
        "lt",
        "lte",
        "between",
        "not_between",
    ] {
        for bound in &numbers {
            let bound = if operator.ends_with("between") {
                json!([bound, 2e300])
            } else {
                bound.clone()
            };
            let predicate = predicate(operator, bound.clone());
            let expected = (0..7).filter(|person| predicate.matches(&numbers[*person as usize]));
            let matches = matching(&block, &(0..7).collect(), &predicate);
            assert_eq!(matches, expected.collect(), "{operator} {bound}");
        }
    }
}

proptest::proptest! {
    #[test]
    fn dense_and_sparse_bitmaps_are_equal(
        first in proptest::prelude::any::<u32>(), steps in proptest::collection::vec(0..40_u32, 0..3_000)
    ) {
        let mut ordinal = first;
        let mut sorted = vec![ordinal];
        for step in steps {
            ordinal = ordinal.saturating_add(step);
            sorted.push(ordinal);
        }
        proptest::prop_assert_eq!(from_sorted(&sorted), from_sorted_iter(sorted.iter().copied()));
    }
}

#[test]
fn layers_match_like_a_block_of_the_current_values() {
    let first = property(&[(0, "a"), (1, "b"), (2, "a")]);
    // The value of person 1 changes, person 2 loses its value, and person 3 is new.
    let second = first.with_changes(
        &[1, 2, 3].into_iter().collect(),
        property(&[(1, "a"), (3, "b")]),
    );
    // Person 0 changes, and person 1 changes again.
    let third = second.with_changes(
        &[0, 1].into_iter().collect(),
        property(&[(0, "c"), (1, "c")]),
    );
    for (block, expected) in [
        (second, property(&[(0, "a"), (1, "a"), (3, "b")])),
        (third, property(&[(0, "c"), (1, "c"), (3, "b")])),
    ] {
        let flattened = block.flattened();
        assert_eq!(
            flattened.values().dictionary().len(),
            expected.values().dictionary().len()
        );
        for (operator, value) in [
            ("exact", "a"),
            ("exact", "b"),
            ("exact", "c"),
            ("is_not", "a"),
            ("is_not_set", ""),
        ] {
            let predicate = predicate(operator, json!(value));
            let [layered, flattened, expected] = [&block, &flattened, &expected]
                .map(|block| matching(block, &universe(), &predicate));
            assert_eq!(layered, expected, "{operator} {value}");
            assert_eq!(flattened, expected, "{operator} {value}");
        }
    }
}

/// A block in parts of four ordinals, and the same block with a single part.
fn in_parts(rows: &[(u32, &str)]) -> [PropertyBlock; 2] {
    [
        PropertyBlockBuilder::with_parts(2),
        PropertyBlockBuilder::new(),
    ]
    .map(|mut builder| {
        for (person, value) in rows {
            builder.push(*person, &json!(value));
        }
        builder.finish()
    })
}

#[test]
fn a_block_in_parts_equals_a_block_with_a_single_part() {
    let first = [(0, "a"), (3, "b"), (4, "a"), (9, "b"), (9, "c"), (21, "a")];
    let changes = [
        (
            RoaringBitmap::from_iter([3_u32, 4, 30]),
            vec![(4, "c"), (30, "d")],
        ),
        (
            RoaringBitmap::from_iter([9_u32, 10, 30]),
            vec![(10, "b"), (30, "e")],
        ),
    ];
    let universe: RoaringBitmap = (0..40).collect();
    let mut blocks = in_parts(&first);
    for (persons, values) in &changes {
        blocks = blocks.map(|block| block.with_changes(persons, property(values)));
    }
    let [parts, single] = blocks;
    let flattened = parts.flattened();
    let stored = (0..10).map(|number| {
        let ordinals = number * 4..=number * 4 + 3;
        let block = PropertyBlock::decode(&parts.within(&ordinals).encode()).unwrap();
        assert!(block.is_within(&ordinals) && (number != 7 || !block.is_within(&(0..=3))));
        (number, block)
    });
    let stored = PropertyBlock::from_parts(2, stored);
    assert_eq!((stored.layers(), stored.person_count()), (0, 5));
    for (operator, value) in [
        ("exact", "a"),
        ("exact", "d"),
        ("is_not", "b"),
        ("is_not_set", ""),
    ] {
        let predicate = predicate(operator, json!(value));
        let expected = matching(&single, &universe, &predicate);
        for block in [&parts, &flattened, &stored] {
            assert_eq!(
                matching(block, &universe, &predicate),
                expected,
                "{operator} {value}"
            );
        }
        let some: RoaringBitmap = (3..10).collect();
        assert_eq!(matching(&parts, &some, &predicate), expected & &some);
    }
}

#[test]
fn values_of_removed_persons_are_removed_from_the_bytes() {
    for block in in_parts(&[(0, "secret"), (1, "open"), (9, "secret"), (10, "hidden")]) {
        let removed = RoaringBitmap::from_iter([0_u32, 10]);
        assert!(block.has_any_of(&removed) && !block.has_any_of(&(2..8).collect()));
        let bytes = block.without(&removed).encode();
        let contains = |text: &str| {
            bytes
                .windows(text.len())
                .any(|part| part == text.as_bytes())
        };
        assert!(contains("secret") && contains("open") && !contains("hidden"));
        let removed = &removed | RoaringBitmap::from_iter([9_u32]);
        assert!(!block.without(&removed).has_any_of(&removed));
        assert_eq!(block.without(&removed).values().dictionary().len(), 1);
    }
}

#[test]
fn a_change_shares_the_unchanged_parts() {
    let [block, _] = in_parts(&[(0, "a"), (4, "b"), (9, "c")]);
    let changed = block.with_changes(&RoaringBitmap::from_iter([4_u32]), property(&[(4, "d")]));
    assert!(changed.flattened().shares_part_with(&block, 0));
    assert!(!changed.flattened().shares_part_with(&block, 1));
    assert!(changed.shares_part_with(&block, 1) && changed.flattened().shares_part_with(&block, 2));
}

#[test]
fn few_changes_are_merged_into_one_layer_and_many_into_the_parts() {
    let rows: Vec<(u32, String)> = (0..100)
        .map(|person| (person, format!("v{}", person % 7)))
        .collect();
    let mut block = property(&rows);
    for person in 0..30_u32 {
        let changes = property(&[(person % 9, format!("w{person}"))]);
        block = block.with_changes(&RoaringBitmap::from_iter([person % 9]), changes);
        if block.layers() == 4 {
            block = block.compacted();
            assert_eq!(block.layers(), 1);
        }
    }
    let universe: RoaringBitmap = (0..101).collect();
    for (operator, value) in [
        ("icontains", "w"),
        ("exact", "w29"),
        ("exact", "w2"),
        ("is_not_set", ""),
    ] {
        let predicate = predicate(operator, json!(value));
        let expected = matching(&block.flattened(), &universe, &predicate);
        assert_eq!(matching(&block, &universe, &predicate), expected);
        assert_eq!(
            matching(&block.compacted(), &universe, &predicate),
            expected
        );
    }
    let many: RoaringBitmap = (0..20).collect();
    assert_eq!(
        block
            .with_changes(&many, PropertyBlock::default())
            .compacted()
            .layers(),
        0
    );
}

#[test]
fn null_and_invalid_json_are_missing_values() {
    let mut builder = PropertyBlockBuilder::new();
    builder.push(0, &json!(null));
    builder.push_raw(1, "null");
    builder.push_raw(2, "{broken");
    builder.push_raw(3, "0");
    let block = builder.finish();
    assert_eq!(block.person_count(), 1);
    let unset = matching(&block, &universe(), &predicate("is_not_set", json!("")));
    assert_eq!(Vec::from_iter(unset), [0, 1, 2]);
}

#[test]
fn a_person_matches_by_any_of_several_values() {
    let block = property(&[(3, "b"), (1, "a"), (1, "b"), (9, "b")]);
    let matching = |operator, value| {
        let predicate = predicate(operator, json!(value));
        Vec::from_iter(matching(&block, &universe(), &predicate))
    };
    assert_eq!(matching("exact", "b"), [1, 3]);
    assert_eq!(matching("is_not", "b"), [0, 1, 2]);
}

#[test]
fn the_earliest_of_several_times_of_a_person_counts() {
    let block = TimesBlock::new([(1, 50), (0, 20), (1, 10), (9, 10)]);
    assert_eq!(block, TimesBlock::new([(0, 20), (1, 10), (9, 10)]));
    let source = unlimited();
    let before = predicate("is_date_before", json!("2000-01-01"));
    let Ok(matches) = block.matching(&before, &universe(), &Meter::new(&source));
    assert_eq!(Vec::from_iter(matches), [0, 1]);
}

fn events(rows: &[(u32, i64, Value)]) -> EventBlock {
    let mut builder = EventBlockBuilder::new(&["a".to_owned(), "b".to_owned()]);
    for (person, time, properties) in rows {
        builder.push(*person, *time, properties);
    }
    builder.finish()
}

/// The rows of a block, each with the results of four predicates.
fn rows(block: &EventBlock) -> Vec<(u32, i64, Vec<bool>)> {
    let source = unlimited();
    let meter = Meter::new(&source);
    let tests = [
        ("a", "exact", json!(1)),
        ("a", "is_not_set", json!("")),
        ("b", "icontains", json!("x")),
        ("c", "is_set", json!("")),
    ];
    let matches = tests.map(|(property, operator, value)| {
        let Ok(matches) = block.matches(property, &predicate(operator, value), &meter);
        matches
    });
    let row = |row: usize| {
        let (person, time) = block.row(row);
        let results = matches.iter().map(|matches| matches.at(row));
        (person, time, results.collect())
    };
    (0..block.rows()).map(row).collect()
}

#[test]
fn events_are_sorted_together_with_their_columns() {
    let mut builder = EventBlockBuilder::new(&["a".to_owned(), "b".to_owned()]);
    builder.push(1, 20, &json!({"a": 1, "b": null, "c": 3}));
    builder.push_raw(1, 10, [None, Some("\"x\"")]);
    builder.push_raw(0, 30, [Some("1")]);
    let block = builder.finish();
    let expected = vec![
        (0, 30, vec![true, false, false, false]),
        (1, 10, vec![false, true, true, false]),
        (1, 20, vec![true, false, false, false]),
    ];
    assert_eq!(rows(&block), expected);
    assert_eq!((block.span().first, block.span().last), (10, 30));
    assert_eq!(Vec::from_iter(block.persons()), [0, 1]);
}

#[test]
fn instants_are_exact_to_the_microsecond() {
    for times in [
        [1_000, 5_000_000_000, -7_000],
        [1, 2, 3],
        [i64::MIN, 0, i64::MAX],
    ] {
        let block = events(&times.map(|time| (0, time, json!({}))));
        let stored = rows(&block).into_iter().map(|(_, time, _)| time);
        let mut sorted = times.to_vec();
        sorted.sort_unstable();
        assert_eq!(stored.collect::<Vec<_>>(), sorted);
    }
}

#[test]
fn merged_blocks_equal_a_block_of_all_events() {
    let first = [
        (3, 10, json!({"a": 1})),
        (1, 20, json!({"b": "x"})),
        (1, 20, json!({"a": 2})),
    ];
    let second = [
        (1, 5, json!({"a": 2, "b": "xy"})),
        (7, 1, json!({"a": 1})),
        (3, 10, json!({})),
    ];
    let merged = EventBlock::merged(&[events(&first).into(), events(&second).into()]);
    let all: Vec<_> = first.into_iter().chain(second).collect();
    assert_eq!(rows(&merged), rows(&events(&all)));
}

#[test]
fn events_of_merged_persons_are_resolved_and_those_of_deleted_persons_removed() {
    let block = events(&[
        (3, 10, json!({"a": 1})),
        (1, 20, json!({"b": "x"})),
        (2, 15, json!({})),
        (2, 25, json!({"a": 1})),
    ]);
    let block = block.resolved(|person| match person {
        3 => None,
        2 => Some(1),
        other => Some(other),
    });
    let expected = events(&[
        (1, 20, json!({"b": "x"})),
        (1, 15, json!({})),
        (1, 25, json!({"a": 1})),
    ]);
    assert_eq!(rows(&block), rows(&expected));
    assert_eq!(Vec::from_iter(block.persons()), [1]);
}

#[test]
fn large_dictionaries_are_evaluated_in_order() {
    let rows: Vec<_> = (0..40_000)
        .map(|person| (person, format!("p{person}")))
        .collect();
    let block = property(&rows);
    let universe: RoaringBitmap = (0..40_000).collect();
    for pattern in ["7$", "^p3.*9$"] {
        let predicate = predicate("regex", json!(pattern));
        let holds = |person: &u32| predicate.matches(&json!(format!("p{person}")));
        assert_eq!(
            matching(&block, &universe, &predicate),
            (0..40_000).filter(holds).collect(),
            "{pattern}"
        );
    }
}
