//! Restricted evaluation over many persons: the members among the set, at a cost that depends on
//! the set.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::convert::Infallible;

use roaring::RoaringBitmap;
use serde_json::json;

use super::histories::Random;
use super::world::World;
use super::{HOUR, now, settings};
use crate::interrupt::{Interrupt, Meter};
use crate::predicate::Predicate;
use crate::{Filter, LeafCache, PropertyBlock, PropertyBlockBuilder, TimeSpan, plan};

/// Persons with sparse ordinals, so that sets of them are sparse.
fn world(random: &mut Random) -> World {
    let mut world = World::default();
    for nth in 0..2_000 {
        let mut properties = random.properties(now());
        properties["p"] = json!(nth % 700);
        world.create(nth * 61, properties);
        let created_at = random.time(now());
        world.change(nth * 61, |person| person.created_at = created_at);
    }
    for _ in 0..4_000 {
        let person = random.below(2_000) as u32 * 61;
        let (name, time) = (random.one_of(&["e", "f"]), random.time(now()));
        let properties = random.properties(now());
        world.event(person, name, time, properties);
    }
    world
}

#[test]
fn restricted_evaluation_finds_the_members_among_the_set() {
    let mut random = Random(7);
    let mut world = world(&mut random);
    world.upload(1, (0..500).map(|nth| nth * 61));
    world.upload(2, (300..900).map(|nth| nth * 61));
    for id in [1, 2] {
        world.actions.insert(id, random.action());
    }
    for id in [3, 4] {
        world.dynamic.insert(id, random.filter(id - 1));
    }
    let at = settings("UTC").moment(now()).unwrap();
    for nth in 0..60 {
        let filter = Filter::parse(&random.filter(4)).unwrap();
        let plan = plan(&filter, &at).unwrap();
        let Ok(all) = plan.evaluate(&world);
        for size in [3, 40, 600] {
            let set: RoaringBitmap = (0..size).map(|_| random.below(2_000) as u32 * 61).collect();
            let cache = LeafCache::within([&plan, &plan], set.clone());
            for _ in 0..2 {
                let Ok(members) = plan.evaluate_with(&world, &cache);
                assert_eq!(members, &all & &set, "{nth} {size}");
            }
        }
    }
}

#[test]
fn restricted_evaluation_reads_the_events_of_the_set_only() {
    let mut random = Random(11);
    let world = world(&mut random);
    let set = RoaringBitmap::from([61, 610, 6_100]);
    let properties = ["p".to_owned()];
    let query = crate::EventQuery {
        event: "e".to_owned(),
        from: None,
        to: i64::MAX,
        properties: properties.to_vec(),
        persons_only: false,
    };
    let Ok(blocks) = crate::Source::events(&world, &query);
    let mut rows = BTreeSet::new();
    for block in &blocks {
        let narrowed = block.narrowed(&set);
        let expected: Vec<(u32, i64)> = (0..block.rows())
            .map(|row| block.row(row))
            .filter(|(person, _)| set.contains(*person))
            .collect();
        let found: Vec<(u32, i64)> = (0..narrowed.rows()).map(|row| narrowed.row(row)).collect();
        assert_eq!(found, expected);
        rows.extend(found);
    }
    assert!(!rows.is_empty());
}

#[test]
fn an_advance_beyond_the_set_of_the_cache_is_evaluated_without_the_cache() {
    let world = World::of(&[json!({"p": 1}), json!({"p": 1})]);
    let at = settings("UTC").moment(now()).unwrap();
    let filter = super::all_of(json!([super::person("p", "exact", json!(1))]));
    let plan = plan(&Filter::parse(&filter).unwrap(), &at).unwrap();
    let cache = LeafCache::within([&plan], RoaringBitmap::from([0]));
    let (members, touched) = (RoaringBitmap::new(), RoaringBitmap::from([0, 1]));
    let Ok(advance) = plan.advance(&members, &touched, &world, &cache);
    assert_eq!(advance.entered, touched);
}

#[test]
fn few_persons_of_a_property_are_tested_one_by_one() {
    let block = |part_bits: u32, values: u32| {
        let mut block = PropertyBlockBuilder::with_parts(part_bits);
        for ordinal in 0..5_000 {
            block.push(ordinal, &json!(ordinal % values));
        }
        block.finish()
    };
    let at = settings("UTC").moment(now()).unwrap();
    let changed: RoaringBitmap = (0..3_000).step_by(7).collect();
    for (values, operator) in [(5, "exact"), (900, "exact"), (5, "is_not"), (900, "is_not")] {
        let value = json!([1, 2, 3, 4, 850]);
        let predicate = Predicate::compile("", Some(operator), Some(&value), &at).unwrap();
        let mut changes = PropertyBlockBuilder::new();
        changed
            .iter()
            .for_each(|person| changes.push(person, &json!(person % 3)));
        let plain = [u32::BITS, 10].map(|part_bits| block(part_bits, values));
        let changes = changes.finish();
        let layered = plain
            .each_ref()
            .map(|block| block.with_changes(&changed, changes.clone()));
        let world = World::default();
        let meter = Meter::new(&world);
        let all: RoaringBitmap = (0..6_000).collect();
        let few: RoaringBitmap = (0..6_000).step_by(97).collect();
        for block in plain.into_iter().chain(layered) {
            let Ok(expected) = block.matching(&predicate, &all, &meter);
            let Ok(found) = block.matching(&predicate, &few, &meter);
            assert_eq!(found, expected & &few, "{values} {operator}");
        }
    }
}

#[test]
fn times_and_dates_of_blocks_are_found_by_order() {
    let mut random = Random(3);
    let world = world(&mut random);
    let at = settings("UTC").moment(now()).unwrap();
    let Ok(created) = crate::Source::created_at(&world);
    let Ok(dates) = crate::Source::person_property(&world, "d");
    let meter = Meter::new(&world);
    for _ in 0..50 {
        let first = now() - random.within(0, 90) * 24 * HOUR;
        let span = TimeSpan {
            first,
            last: first + random.within(0, 30) * HOUR,
        };
        let is_inside = |time: i64| span.first <= time && time <= span.last;
        let persons = world.persons.iter();
        let by_creation = persons
            .clone()
            .filter(|(_, person)| is_inside(person.created_at));
        let by_creation: RoaringBitmap = by_creation.map(|(ordinal, _)| *ordinal).collect();
        let Ok(found) = created.persons_between(span, &meter);
        assert_eq!(found, by_creation);
        let date = |properties: &serde_json::Value| {
            let date = properties["d"].as_str();
            date.is_some_and(|date| is_inside(crate::cases::micros(date)))
        };
        let by_date = persons.filter(|(_, person)| date(&person.properties));
        let by_date: RoaringBitmap = by_date.map(|(ordinal, _)| *ordinal).collect();
        let Ok(found) = dates.persons_with_dates(span, &at.time_zone, &meter);
        assert_eq!(found, by_date);
    }
}

/// Counts the interrupts of an evaluation: its work.
#[derive(Default)]
struct Work(Cell<usize>);

impl Interrupt for Work {
    type Error = Infallible;

    fn interrupt(&self) -> Result<(), Infallible> {
        self.0.update(|count| count + 1);
        Ok(())
    }
}

#[test]
fn few_persons_read_only_their_parts_of_a_property() {
    // Evaluating the value of a part takes the work of an interrupt.
    let value = json!("a".repeat(1 << 18));
    let mut builder = PropertyBlockBuilder::with_parts(6);
    (0..256).for_each(|ordinal| builder.push(ordinal, &value));
    let block = builder.finish();
    let at = settings("UTC").moment(now()).unwrap();
    let predicate = Predicate::compile("", Some("regex"), Some(&json!("^a+$")), &at).unwrap();
    let sets = [
        (RoaringBitmap::from([3]), 1),
        (RoaringBitmap::from([64, 65, 255, 300]), 2),
        (RoaringBitmap::from([300]), 0),
        ((64..128).collect(), 1),
        ((0..300).collect(), 4),
    ];
    for (universe, parts) in sets {
        let work = Work::default();
        let Ok(found) = block.matching(&predicate, &universe, &Meter::new(&work));
        assert_eq!(found, universe.iter().filter(|nth| *nth < 256).collect());
        assert_eq!(work.0.get(), parts, "{universe:?}");
    }
}

/// The date of a person, in seconds after midnight.
fn dated(part_bits: u32, persons: impl Iterator<Item = u32>, shift: u32) -> PropertyBlock {
    let mut builder = PropertyBlockBuilder::with_parts(part_bits);
    for ordinal in persons {
        let second = ordinal * 2 + shift;
        let (hour, minute) = (second / 3_600, second / 60 % 60);
        let date = format!("2025-06-18T{hour:02}:{minute:02}:{:02}Z", second % 60);
        builder.push(ordinal, &json!(date));
    }
    builder.finish()
}

#[test]
fn dates_are_sorted_once_per_part_and_successors_share_them() {
    // The dates of a part take the work of an interrupt.
    let persons = 0..3 << 13;
    let [parts, single] = [13, u32::BITS].map(|part_bits| dated(part_bits, persons.clone(), 0));
    let changed = RoaringBitmap::from([8_192, 9_000]);
    let changes = dated(u32::BITS, changed.iter(), 1);
    let [parts_after, single_after] =
        [&parts, &single].map(|block| block.with_changes(&changed, changes.clone()));
    let zone = settings("UTC").moment(now()).unwrap().time_zone;
    let midnight = crate::cases::micros("2025-06-18T00:00:00Z");
    let span = |first: i64, last: i64| TimeSpan {
        first: midnight + first * 1_000_000,
        last: midnight + last * 1_000_000,
    };
    let [flattened, single_flattened] =
        [&parts_after, &single_after].map(|block| block.flattened());
    let blocks = [
        (&parts, &single, 3),
        (&parts, &single, 0),
        (&parts_after, &single_after, 0),
        (&flattened, &single_flattened, 1),
        (&flattened, &single_flattened, 0),
    ];
    for (block, expected, parts) in blocks {
        let (work, other) = (Work::default(), Work::default());
        let (meter, other) = (Meter::new(&work), Meter::new(&other));
        for span in [span(16_380, 16_385), span(17_999, 32_770), span(-9, 70_000)] {
            let Ok(found) = block.persons_with_dates(span, &zone, &meter);
            let Ok(wanted) = expected.persons_with_dates(span, &zone, &other);
            assert_eq!(found, wanted);
            assert!(!found.is_empty());
            let Ok(found) = block.first_date_from(span.first, &zone, &meter);
            let Ok(wanted) = expected.first_date_from(span.first, &zone, &other);
            assert_eq!(found, wanted);
        }
        assert_eq!(work.0.get(), parts);
    }
}
