//! Persons chosen by any condition on their events, as queries state them.

use std::collections::BTreeSet;
use std::sync::Arc;

use roaring::RoaringBitmap;
use serde_json::Value;

use crate::block::{EventBlock, RowMatches};
use crate::condition::Condition;
use crate::interrupt::Meter;
use crate::plan::{GroupTest, RowTest};
use crate::predicate::Comparison;
use crate::source::{EventQuery, Source};
use crate::window::Range;

/// Above so many names it is better to know which there are.
const MANY_NAMES: usize = 16;

/// A test of an event; those of its person are answered already.
pub(super) type Test = RowTest<Arc<RoaringBitmap>>;

/// Everybody with events that meet the condition, and who meet the other one by all of these.
pub(super) fn persons<S: Source>(
    source: &S,
    condition: &Condition<Test>,
    having: &Condition<GroupTest>,
) -> Result<RoaringBitmap, S::Error> {
    let range = range(condition);
    if range.from.is_some_and(|from| from > range.to) {
        return Ok(RoaringBitmap::new());
    }
    let names = match names(condition) {
        Some(names) if names.len() <= MANY_NAMES => names,
        wanted => {
            let known: BTreeSet<String> = source.event_names()?.into_iter().collect();
            wanted.map_or_else(|| known.clone(), |wanted| &wanted & &known)
        }
    };
    let tests = 1 + condition.tests().len() as u64;
    let meter = Meter::new(source);
    let mut found: Vec<(u32, i64)> = Vec::new();
    for event in names {
        let query = EventQuery {
            event,
            from: range.from,
            to: range.to,
            properties: properties(condition).into_iter().collect(),
            persons_only: false,
        };
        for block in source.events(&query)? {
            let event = Value::from(query.event.as_str());
            let answered = condition.try_map(&mut |test| answered(test, &event, &block, &meter))?;
            for row in 0..block.rows() {
                meter.spend(tests)?;
                let (person, time) = block.row(row);
                if answered.holds(&|answer| answer.at(row, person, time)) {
                    found.push((person, time));
                }
            }
        }
    }
    found.sort_unstable();
    let groups = found.chunk_by(|a, b| a.0 == b.0);
    let chosen = groups.filter(|group| having.holds(&|test| admits(test, group)));
    Ok(chosen.map(|group| group[0].0).collect())
}

fn admits(test: &GroupTest, group: &[(u32, i64)]) -> bool {
    let count = i64::try_from(group.len()).unwrap_or(i64::MAX);
    match test {
        GroupTest::Count(comparison, bound) => comparison.holds(count.cmp(bound)),
        GroupTest::First(comparison, bound) => comparison.holds(group[0].1.cmp(bound)),
        GroupTest::Last(comparison, bound) => {
            let last = group[group.len() - 1].1;
            comparison.holds(last.cmp(bound))
        }
    }
}

/// A test as it is answered for one block.
enum Answer<'a> {
    Column(RowMatches<'a>),
    Time(Comparison, i64),
    Person(&'a RoaringBitmap),
}

impl Answer<'_> {
    fn at(&self, row: usize, person: u32, time: i64) -> bool {
        match self {
            Answer::Column(answers) => answers.at(row),
            Answer::Time(comparison, bound) => comparison.holds(time.cmp(bound)),
            Answer::Person(persons) => persons.contains(person),
        }
    }
}

fn answered<'a, S: Source>(
    test: &'a Test,
    event: &Value,
    block: &'a EventBlock,
    meter: &Meter<S>,
) -> Result<Condition<Answer<'a>>, S::Error> {
    let named = |names: &BTreeSet<String>| event.as_str().is_some_and(|name| names.contains(name));
    Ok(Condition::Test(match test {
        RowTest::Named(names) => Answer::Column(RowMatches::constant(named(names))),
        RowTest::Name(predicate) => Answer::Column(RowMatches::constant(predicate.matches(event))),
        RowTest::Property(key, test) => Answer::Column(block.answers(key, test, meter)?),
        RowTest::Time(comparison, bound) => Answer::Time(*comparison, *bound),
        RowTest::Person(persons) => Answer::Person(persons),
    }))
}

fn properties(condition: &Condition<Test>) -> BTreeSet<String> {
    let keys = condition.tests().into_iter().filter_map(|test| match test {
        RowTest::Property(key, _) => Some(key.clone()),
        _ => None,
    });
    keys.collect()
}

/// The names outside of which no event meets the condition, or nothing where any might.
fn names(condition: &Condition<Test>) -> Option<BTreeSet<String>> {
    match condition {
        Condition::Test(RowTest::Named(names)) => Some(names.clone()),
        Condition::Test(_) | Condition::Not(_) => None,
        Condition::All(parts) => {
            let known = parts.iter().filter_map(names);
            known.reduce(|a, b| &a & &b)
        }
        Condition::Any(parts) => {
            let all: Option<Vec<_>> = parts.iter().map(names).collect();
            Some(all?.into_iter().flatten().collect())
        }
    }
}

/// The instants outside of which no event meets the condition.
fn range(condition: &Condition<Test>) -> Range {
    let (from, to) = bounds(condition);
    Range {
        from: (from > i64::MIN).then_some(from),
        to,
    }
}

fn bounds(condition: &Condition<Test>) -> (i64, i64) {
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
