//! The criteria of a plan: the positive meaning of its leaves, with all instants resolved.
//!
//! Negation is never part of a criterion; the tree of the plan holds it.

use std::collections::BTreeSet;

use bigdecimal::BigDecimal;

use super::{Count, Tree};
use crate::condition::Condition;
use crate::predicate::{Comparison, Predicate};
use crate::source::PlannedReads;
use crate::window::Range;

/// The positive meaning of one leaf.
#[derive(Clone, Debug)]
pub(crate) enum Criterion {
    Property { key: String, predicate: Predicate },
    DistinctId(Predicate),
    CreatedAt(Predicate),
    Cohort(i64),
    Behavior { target: Target, rule: Behavior },
    Rows(Box<RowCriterion>),
}

/// Selects persons by their events: `condition` chooses events, and the chosen events of one
/// person must satisfy `having`.
#[derive(Clone, Debug)]
pub(crate) struct RowCriterion {
    pub condition: Condition<RowTest>,
    pub having: Condition<GroupTest>,
}

/// A test of one event. `P` represents a set of persons: a tree in a plan, a bitmap in evaluation.
#[derive(Clone, Debug)]
pub(crate) enum RowTest<P = Tree> {
    Named(BTreeSet<String>),
    Name(Predicate),
    Property(String, Predicate),
    Time(Comparison, i64),
    /// The person of the event is in the set.
    Person(P),
}

/// A test of the chosen events of one person: their number, their first and last instant, and the
/// values of their properties. A sum and an average fail if no event has a number.
#[derive(Clone, Debug)]
pub(crate) enum GroupTest {
    Count(Comparison, i64),
    First(Comparison, i64),
    Last(Comparison, i64),
    Sum(String, Comparison, BigDecimal),
    Average(String, Comparison, BigDecimal),
    /// The number of different values.
    Distinct(String, Comparison, i64),
}

/// The events that a behaviour concerns.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub source: EventSource,
    /// Tests of properties; one event must satisfy all of them.
    pub filters: Vec<(String, Predicate)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum EventSource {
    Event(String),
    Action(i64),
}

/// The rule that a person's events of the target must satisfy.
#[derive(Clone, Debug)]
pub(crate) enum Behavior {
    Performed(Range),
    Counted(Range, Count),
    FirstTime(Range),
    Sequence {
        range: Range,
        second: Target,
        /// The longest time between the two events, in microseconds.
        within: i64,
    },
    Regularly {
        /// Latest first; period `k` is `starts[k + 1]..starts[k]`.
        starts: Vec<i64>,
        count: Count,
        min_periods: usize,
    },
    Stopped {
        outer: Range,
        inner: Range,
    },
    Restarted {
        recent: Range,
        pause: Range,
    },
}

/// The data that the members of a plan depend on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dependencies {
    /// Names of events, whole and case-sensitive.
    pub events: BTreeSet<String>,
    /// Events of any name; `events` may then be incomplete.
    pub every_event: bool,
    /// The existence, properties, distinct ids or creation times of persons.
    pub persons: bool,
    /// Other cohorts or actions; their definitions can change without any event.
    pub definitions: bool,
}

impl Criterion {
    /// The predicates with patterns that count against the budget of the filter.
    pub(super) fn predicates(&self) -> Vec<&Predicate> {
        match self {
            Criterion::Property { predicate, .. }
            | Criterion::DistinctId(predicate)
            | Criterion::CreatedAt(predicate) => vec![predicate],
            Criterion::Behavior { target, .. } => {
                target.filters.iter().map(|(_, test)| test).collect()
            }
            Criterion::Cohort(_) | Criterion::Rows(_) => Vec::new(),
        }
    }

    /// The names of properties and events that the criterion reads.
    pub(super) fn names(&self) -> Vec<&str> {
        match self {
            Criterion::Property { key, .. } => vec![key],
            Criterion::Behavior { target, rule } => {
                let second = match rule {
                    Behavior::Sequence { second, .. } => Some(second),
                    _ => None,
                };
                let targets = [target].into_iter().chain(second);
                targets.flat_map(Target::names).collect()
            }
            Criterion::Rows(rows) => {
                let tests = rows.condition.tests().into_iter();
                let having = rows.having.tests().into_iter();
                let values = having.filter_map(GroupTest::property);
                tests.flat_map(RowTest::names).chain(values).collect()
            }
            Criterion::DistinctId(_) | Criterion::CreatedAt(_) | Criterion::Cohort(_) => Vec::new(),
        }
    }

    /// A rank: a criterion of lower cost is evaluated first.
    pub(super) fn cost(&self) -> u8 {
        match self {
            Criterion::Cohort(_) => 0,
            Criterion::CreatedAt(_) => 1,
            Criterion::Property { .. } => 2,
            Criterion::DistinctId(_) => 3,
            Criterion::Behavior { rule, .. } => match rule {
                Behavior::Performed(_) | Behavior::Counted(..) => 4,
                Behavior::Sequence { .. } | Behavior::Regularly { .. } => 5,
                Behavior::Stopped { .. } => 5,
                // These read all events before the window too.
                Behavior::FirstTime(_) | Behavior::Restarted { .. } => 6,
            },
            Criterion::Rows(_) => 7,
        }
    }

    pub(super) fn collect_dependencies(&self, dependencies: &mut Dependencies) {
        match self {
            Criterion::Property { .. } | Criterion::DistinctId(_) | Criterion::CreatedAt(_) => {
                dependencies.persons = true;
            }
            Criterion::Cohort(_) => dependencies.definitions = true,
            Criterion::Rows(_) => {
                dependencies.every_event = true;
                dependencies.persons = true;
                dependencies.definitions = true;
            }
            Criterion::Behavior { target, rule } => {
                target.source.collect_dependencies(dependencies);
                if let Behavior::Sequence { second, .. } = rule {
                    second.source.collect_dependencies(dependencies);
                }
            }
        }
    }

    pub(super) fn collect_reads(&self, reads: &mut PlannedReads) {
        match self {
            Criterion::Property { key, .. } => drop(reads.properties.insert(key.clone())),
            Criterion::Behavior { target, rule } => {
                let EventSource::Event(event) = &target.source else {
                    return;
                };
                let keys = target.filters.iter().map(|(key, _)| key.clone());
                let keys: BTreeSet<String> = keys.collect();
                let from = rule.earliest();
                let key = (event.clone(), Vec::from_iter(keys));
                let earliest = reads.events.entry(key).or_insert(from);
                *earliest = from.min(*earliest);
            }
            _ => {}
        }
    }
}

impl Target {
    fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.filters.iter().map(|(key, _)| key.as_str()).collect();
        if let EventSource::Event(event) = &self.source {
            names.push(event);
        }
        names
    }
}

impl RowTest {
    fn names(&self) -> Vec<&str> {
        match self {
            RowTest::Named(names) => names.iter().map(String::as_str).collect(),
            RowTest::Property(key, _) => vec![key],
            RowTest::Name(_) | RowTest::Time(..) | RowTest::Person(_) => Vec::new(),
        }
    }
}

impl GroupTest {
    pub fn comparison(&self) -> Comparison {
        match self {
            GroupTest::Count(comparison, _)
            | GroupTest::First(comparison, _)
            | GroupTest::Last(comparison, _)
            | GroupTest::Sum(_, comparison, _)
            | GroupTest::Average(_, comparison, _)
            | GroupTest::Distinct(_, comparison, _) => *comparison,
        }
    }

    /// The property with the values that are tested.
    pub fn property(&self) -> Option<&str> {
        match self {
            GroupTest::Sum(key, ..)
            | GroupTest::Average(key, ..)
            | GroupTest::Distinct(key, ..) => Some(key),
            GroupTest::Count(..) | GroupTest::First(..) | GroupTest::Last(..) => None,
        }
    }
}

impl Behavior {
    /// The earliest instant of the events that the rule reads.
    pub(super) fn earliest(&self) -> i64 {
        let from = match self {
            Behavior::Performed(range)
            | Behavior::Counted(range, _)
            | Behavior::Sequence { range, .. }
            | Behavior::Stopped { outer: range, .. } => range.from,
            Behavior::Regularly { starts, .. } => starts.last().copied(),
            Behavior::FirstTime(_) | Behavior::Restarted { .. } => None,
        };
        from.unwrap_or(i64::MIN)
    }

    /// The earliest instant of the events that the filters are tested for.
    pub(super) fn first_filtered(&self) -> i64 {
        match self {
            Behavior::FirstTime(range) => range.from.unwrap_or(i64::MIN),
            other => other.earliest(),
        }
    }
}

impl RowCriterion {
    /// The properties of events that the criterion reads.
    pub fn properties(&self) -> BTreeSet<String> {
        properties(&self.condition, &self.having)
    }
}

/// The properties of events that a condition on events and a condition on groups read.
pub(crate) fn properties<P>(
    condition: &Condition<RowTest<P>>,
    having: &Condition<GroupTest>,
) -> BTreeSet<String> {
    let tested = condition.tests().into_iter().filter_map(|test| match test {
        RowTest::Property(key, _) => Some(key.as_str()),
        _ => None,
    });
    let grouped = having.tests().into_iter().filter_map(GroupTest::property);
    tested.chain(grouped).map(str::to_owned).collect()
}

impl<P> Condition<RowTest<P>> {
    /// The names that an event must have to meet the condition, or `None` if it may have any name.
    pub fn event_names(&self) -> Option<BTreeSet<String>> {
        match self {
            Condition::Test(RowTest::Named(names)) => Some(names.clone()),
            Condition::Test(_) | Condition::Not(_) => None,
            Condition::All(parts) => {
                let known = parts.iter().filter_map(Condition::event_names);
                known.reduce(|a, b| &a & &b)
            }
            Condition::Any(parts) => {
                let all: Option<Vec<_>> = parts.iter().map(Condition::event_names).collect();
                Some(all?.into_iter().flatten().collect())
            }
        }
    }
}

impl EventSource {
    fn collect_dependencies(&self, dependencies: &mut Dependencies) {
        match self {
            EventSource::Event(name) => drop(dependencies.events.insert(name.clone())),
            // The steps may name any event, and may change.
            EventSource::Action(_) => {
                dependencies.every_event = true;
                dependencies.definitions = true;
            }
        }
    }
}
