use serde_json::json;

use super::*;
use crate::cases::{Project, at};

fn predicate(operator: &str, value: Value) -> Predicate {
    let moment = at("2025-06-18T15:30:00Z", "UTC");
    Predicate::compile("p", Some(operator), Some(&value), &moment).unwrap()
}

/// Data that sets no limit to the work.
fn unbounded() -> Project {
    Project::default()
}

fn universe() -> RoaringBitmap {
    (0..4).collect()
}

#[test]
fn equal_values_share_one_code_whichever_way_they_come() {
    let mut builder = PropertyBlockBuilder::new();
    builder.push(2, &json!("a"));
    builder.push_raw(0, "\"a\"");
    builder.push(1, &json!(["a", 1]));
    builder.push_raw(1, "[\"a\",1]");
    let block = builder.finish();
    let values = vec![json!("a"), json!(["a", 1])];
    assert_eq!(block.dictionary, Dictionary::Mixed(values));
    let bitmaps = [[0, 2].into_iter().collect(), [1].into_iter().collect()];
    assert_eq!(block.postings, Postings::Bitmaps(bitmaps.to_vec()));
}

#[test]
fn few_values_and_many_are_looked_at_alike() {
    let source = unbounded();
    let universe: RoaringBitmap = (0..1_000).collect();
    for values in [10, 900] {
        let mut builder = PropertyBlockBuilder::new();
        for person in (0..900).rev() {
            builder.push(person, &json!(person % values));
        }
        let block = builder.finish();
        for (operator, value) in [
            ("exact", json!(7)),
            ("gt", json!(7)),
            ("is_not", json!([1, 2])),
        ] {
            let predicate = predicate(operator, value);
            let Ok(found) = block.matching(&predicate, &universe, &Meter::new(&source));
            let holds = |person: &u32| match *person < 900 {
                true => predicate.matches(&json!(person % values)),
                false => predicate.matches_missing(),
            };
            assert_eq!(
                found,
                (0..1_000).filter(holds).collect(),
                "{operator} {values}"
            );
        }
    }
}

#[test]
fn numbers_are_compared_together_as_each_by_itself() {
    let numbers = [
        json!(0),
        json!(-0.0),
        json!(1),
        json!(1.5),
        json!(-3),
        json!(9_007_199_254_740_992_i64),
        json!(1e300),
    ];
    let mut builder = PropertyBlockBuilder::new();
    (0..)
        .zip(&numbers)
        .for_each(|(person, number)| builder.push(person, number));
    let (block, source) = (builder.finish(), unbounded());
    assert!(matches!(block.dictionary, Dictionary::Doubles(_)));
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
            let bound = match operator.ends_with("between") {
                true => json!([bound, 2e300]),
                false => bound.clone(),
            };
            let predicate = predicate(operator, bound.clone());
            let Ok(found) = block.matching(&predicate, &(0..7).collect(), &Meter::new(&source));
            let each = (0..7).filter(|person| predicate.matches(&numbers[*person as usize]));
            assert_eq!(found, each.collect(), "{operator} {bound}");
        }
    }
}

proptest::proptest! {
    #[test]
    fn a_bitmap_is_the_same_however_it_is_made(
        first in proptest::prelude::any::<u32>(), steps in proptest::collection::vec(0..40_u32, 0..3_000)
    ) {
        let mut person = first;
        let mut sorted = vec![person];
        for step in steps {
            person = person.saturating_add(step);
            sorted.push(person);
        }
        proptest::prop_assert_eq!(bitmap_of(&sorted), bitmap(sorted.iter().copied()));
    }
}

#[test]
fn changes_lie_upon_what_was_before() {
    let source = unbounded();
    let block = |rows: &[(u32, &str)]| {
        let mut builder = PropertyBlockBuilder::new();
        rows.iter()
            .for_each(|(person, value)| builder.push(*person, &json!(value)));
        builder.finish()
    };
    let first = block(&[(0, "a"), (1, "b"), (2, "a")]);
    // Person 1 has another value, 2 has none any more, 3 is new; then 0 changes and 1 once more.
    let second = first.with_changes(
        &[1, 2, 3].into_iter().collect(),
        block(&[(1, "a"), (3, "b")]),
    );
    let third = second.with_changes(&[0, 1].into_iter().collect(), block(&[(0, "c"), (1, "c")]));
    for (block, plain) in [
        (second, block(&[(0, "a"), (1, "a"), (3, "b")])),
        (third, block(&[(0, "c"), (1, "c"), (3, "b")])),
    ] {
        for (operator, value) in [
            ("exact", "a"),
            ("exact", "b"),
            ("exact", "c"),
            ("is_not", "a"),
            ("is_not_set", ""),
        ] {
            let predicate = predicate(operator, json!(value));
            let find = |block: &PropertyBlock| {
                let Ok(found) = block.matching(&predicate, &universe(), &Meter::new(&source));
                found
            };
            assert_eq!(find(&block), find(&plain), "{operator} {value}");
            assert_eq!(find(&block.flattened()), find(&plain), "{operator} {value}");
            assert_eq!(block.flattened().dictionary.len(), plain.dictionary.len());
        }
    }
}

#[test]
fn null_and_broken_text_are_no_rows() {
    let mut builder = PropertyBlockBuilder::new();
    builder.push(0, &json!(null));
    builder.push_raw(1, "null");
    builder.push_raw(2, "{broken");
    builder.push_raw(3, "0");
    let block = builder.finish();
    assert_eq!(block.person_count(), 1);
    let source = unbounded();
    let unset = predicate("is_not_set", json!(""));
    let Ok(unset) = block.matching(&unset, &universe(), &Meter::new(&source));
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
        let Ok(found) = block.matching(&predicate, &universe(), &Meter::new(&source));
        Vec::from_iter(found)
    };
    assert_eq!(matching("exact", "b"), [1, 3]);
    assert_eq!(matching("is_not", "b"), [0, 1, 2]);
}

#[test]
fn of_several_times_of_a_person_the_earliest_counts() {
    let block = TimesBlock::new([(1, 50), (0, 20), (1, 10), (9, 10)]);
    let source = unbounded();
    let early = predicate("is_date_before", json!("2000-01-01"));
    let Ok(found) = block.matching(&early, &universe(), &Meter::new(&source));
    assert_eq!(Vec::from_iter(found), [0, 1]);
    assert_eq!(block.rows, [(0, 20), (1, 10), (9, 10)]);
}

fn events(rows: &[(u32, i64, Value)]) -> EventBlock {
    let mut builder = EventBlockBuilder::new(&["a".to_owned(), "b".to_owned()]);
    for (person, time, properties) in rows {
        builder.push(*person, *time, properties);
    }
    builder.finish()
}

/// Rows, and for each whether some tests of its columns hold.
fn shown(block: &EventBlock) -> Vec<(u32, i64, Vec<bool>)> {
    let source = unbounded();
    let tests = [
        ("a", "exact", json!(1)),
        ("a", "is_not_set", json!("")),
        ("b", "icontains", json!("x")),
        ("c", "is_set", json!("")),
    ];
    let meter = Meter::new(&source);
    let answers = tests.map(|(property, operator, value)| {
        let Ok(answers) = block.answers(property, &predicate(operator, value), &meter);
        Vec::from_iter((0..block.rows()).map(|row| answers.at(row)))
    });
    let row = |row: usize| {
        let (person, time) = block.row(row);
        (
            person,
            time,
            answers.iter().map(|answer| answer[row]).collect(),
        )
    };
    (0..block.rows()).map(row).collect()
}

#[test]
fn events_are_sorted_with_their_columns() {
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
    assert_eq!(shown(&block), expected);
    let span = TimeSpan {
        first: 10,
        last: 30,
    };
    assert_eq!(block.span(), span);
    assert_eq!(Vec::from_iter(block.persons()), [0, 1]);
}

#[test]
fn instants_are_kept_to_the_microsecond() {
    for times in [
        [1_000, 5_000_000_000, -7_000],
        [1, 2, 3],
        [i64::MIN, 0, i64::MAX],
    ] {
        let rows = times.map(|time| (0, time, json!({})));
        let kept: Vec<i64> = shown(&events(&rows))
            .into_iter()
            .map(|(_, time, _)| time)
            .collect();
        let mut times = times.to_vec();
        times.sort_unstable();
        assert_eq!(kept, times);
    }
}

#[test]
fn a_block_that_grew_is_the_one_made_of_all() {
    let some = [
        (3, 10, json!({"a": 1})),
        (1, 20, json!({"b": "x"})),
        (1, 20, json!({"a": 2})),
    ];
    let more = [
        (1, 5, json!({"a": 2, "b": "xy"})),
        (7, 1, json!({"a": 1})),
        (3, 10, json!({})),
    ];
    let grown = EventBlock::merged(&[events(&some).into(), events(&more).into()]);
    let all: Vec<_> = some.into_iter().chain(more).collect();
    assert_eq!(shown(&grown), shown(&events(&all)));
}

#[test]
fn events_follow_people_to_other_numbers() {
    let rows = [
        (3, 10, json!({"a": 1})),
        (1, 20, json!({"b": "x"})),
        (2, 15, json!({})),
        (2, 25, json!({"a": 1})),
    ];
    let block = events(&rows).resolved(|person| match person {
        3 => None,
        2 => Some(1),
        other => Some(other),
    });
    let expected = [
        (1, 20, json!({"b": "x"})),
        (1, 15, json!({})),
        (1, 25, json!({"a": 1})),
    ];
    assert_eq!(shown(&block), shown(&events(&expected)));
    assert_eq!(Vec::from_iter(block.persons()), [1]);
}

#[test]
fn many_values_are_answered_in_their_order() {
    let source = unbounded();
    let mut builder = PropertyBlockBuilder::new();
    for person in 0..40_000_u32 {
        builder.push(person, &json!(format!("p{person}")));
    }
    let block = builder.finish();
    let universe: RoaringBitmap = (0..40_000).collect();
    for pattern in ["7$", "^p3.*9$"] {
        let predicate = predicate("regex", json!(pattern));
        let Ok(found) = block.matching(&predicate, &universe, &Meter::new(&source));
        let holds = |person: &u32| predicate.matches(&json!(format!("p{person}")));
        assert_eq!(found, (0..40_000).filter(holds).collect(), "{pattern}");
    }
}
