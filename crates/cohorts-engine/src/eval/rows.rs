//! The persons with events that meet any condition, as queries state them.

mod groups;

use std::collections::BTreeSet;
use std::sync::Arc;

use roaring::RoaringBitmap;
use serde_json::Value;

use groups::Groups;

use super::{LeafCache, is_empty};
use crate::block::{EventBlock, RowMatches};
use crate::condition::Condition;
use crate::interrupt::Meter;
use crate::plan::{GroupTest, RowTest, row_properties};
use crate::predicate::Comparison;
use crate::source::{EventQuery, Source};
use crate::window::Range;

/// If a condition has more names of events, only those that the source knows are read.
const MAX_NAMES: usize = 16;

/// A test of an event, with tests of its person replaced by their results.
pub(super) type ResolvedTest = RowTest<Arc<RoaringBitmap>>;

/// The persons with events that meet `condition`, if these events together meet `having`.
pub(super) fn persons<S: Source>(
    source: &S,
    cache: &LeafCache,
    condition: &Condition<ResolvedTest>,
    having: &Condition<GroupTest>,
) -> Result<RoaringBitmap, S::Error> {
    let range = range(condition);
    if is_empty(&range) {
        return Ok(RoaringBitmap::new());
    }
    let tests = 1 + condition.tests().len() as u64;
    let meter = Meter::new(source);
    let mut groups = Groups::new(having);
    for event in names_of(source, condition)? {
        let query = EventQuery {
            event,
            from: range.from,
            to: range.to,
            properties: row_properties(condition, having).into_iter().collect(),
            persons_only: false,
        };
        let event = Value::from(query.event.as_str());
        for block in cache.events(source, &query, &meter)? {
            let condition = condition.try_map(&mut |test| bind(test, &event, &block, &meter))?;
            let mut chosen = groups.of_block(&block);
            for row in 0..block.rows() {
                meter.spend(tests)?;
                let (person, time) = block.row(row);
                if condition.holds(&|test| test.holds(row, person, time)) {
                    chosen.push(row, person, time);
                }
            }
            source.check_memory(groups.bytes())?;
        }
    }
    groups.persons(&meter)
}

/// The rows of the events that meet `condition`, per block with its name.
pub(super) fn chosen<S: Source>(
    source: &S,
    cache: &LeafCache,
    condition: &Condition<ResolvedTest>,
) -> Result<Vec<(String, Vec<usize>)>, S::Error> {
    let range = range(condition);
    let (meter, mut chosen) = (Meter::new(source), Vec::new());
    if is_empty(&range) {
        return Ok(chosen);
    }
    for event in names_of(source, condition)? {
        let query = EventQuery {
            event,
            from: range.from,
            to: range.to,
            properties: row_properties(condition, &Condition::All(Vec::new()))
                .into_iter()
                .collect(),
            persons_only: false,
        };
        let event = Value::from(query.event.as_str());
        for block in cache.events(source, &query, &meter)? {
            let condition = condition.try_map(&mut |test| bind(test, &event, &block, &meter))?;
            let is_chosen = |row: &usize| {
                let (person, time) = block.row(*row);
                condition.holds(&|test| test.holds(*row, person, time))
            };
            let rows = (0..block.rows()).filter(is_chosen).collect();
            chosen.push((query.event.clone(), rows));
        }
    }
    Ok(chosen)
}

/// The names of the events to read.
fn names_of<S: Source>(
    source: &S,
    condition: &Condition<ResolvedTest>,
) -> Result<BTreeSet<String>, S::Error> {
    let names = condition.event_names();
    match names {
        Some(names) if names.len() <= MAX_NAMES => Ok(names),
        names => {
            let known: BTreeSet<String> = source.event_names()?.into_iter().collect();
            Ok(match names {
                Some(names) => &names & &known,
                None => known,
            })
        }
    }
}

/// A test with its results for the rows of one block.
enum BoundTest<'a> {
    Column(RowMatches<'a>),
    Time(Comparison, i64),
    Person(&'a RoaringBitmap),
}

impl BoundTest<'_> {
    #[inline]
    fn holds(&self, row: usize, person: u32, time: i64) -> bool {
        match self {
            BoundTest::Column(matches) => matches.at(row),
            BoundTest::Time(comparison, bound) => comparison.holds(time.cmp(bound)),
            BoundTest::Person(persons) => persons.contains(person),
        }
    }
}

/// Evaluates a test for the rows of a block of events named `event`.
fn bind<'a, S: Source>(
    test: &'a ResolvedTest,
    event: &Value,
    block: &'a EventBlock,
    meter: &Meter<S>,
) -> Result<Condition<BoundTest<'a>>, S::Error> {
    let constant = |holds| BoundTest::Column(RowMatches::constant(holds));
    let is_one_of =
        |names: &BTreeSet<String>| event.as_str().is_some_and(|name| names.contains(name));
    Ok(Condition::Test(match test {
        RowTest::Named(names) => constant(is_one_of(names)),
        RowTest::Name(predicate) => constant(predicate.matches(event)),
        RowTest::Property(key, predicate) => {
            BoundTest::Column(block.matches(key, predicate, meter)?)
        }
        RowTest::Time(comparison, bound) => BoundTest::Time(*comparison, *bound),
        RowTest::Person(persons) => BoundTest::Person(persons),
    }))
}

/// The range of time that an event must be in to meet the condition.
fn range(condition: &Condition<ResolvedTest>) -> Range {
    let (from, to) = bounds(condition);
    Range {
        from: (from > i64::MIN).then_some(from),
        to,
    }
}

fn bounds(condition: &Condition<ResolvedTest>) -> (i64, i64) {
    const ALL: (i64, i64) = (i64::MIN, i64::MAX);
    const NONE: (i64, i64) = (i64::MAX, i64::MIN);
    match condition {
        Condition::Test(RowTest::Time(comparison, bound)) => match comparison {
            Comparison::Equal => (*bound, *bound),
            Comparison::Greater | Comparison::GreaterOrEqual => (*bound, i64::MAX),
            Comparison::Less | Comparison::LessOrEqual => (i64::MIN, *bound),
        },
        Condition::Test(_) | Condition::Not(_) => ALL,
        Condition::All(parts) => {
            let narrow = |a: (i64, i64), b: (i64, i64)| (a.0.max(b.0), a.1.min(b.1));
            parts.iter().map(bounds).fold(ALL, narrow)
        }
        Condition::Any(parts) => {
            let widen = |a: (i64, i64), b: (i64, i64)| (a.0.min(b.0), a.1.max(b.1));
            parts.iter().map(bounds).fold(NONE, widen)
        }
    }
}
