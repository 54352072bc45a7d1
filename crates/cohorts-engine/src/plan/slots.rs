//! The instants that a plan compares with, each with what it is compared to.
//!
//! The slots are read from the same ranges, predicates and selectors that the evaluation reads, so
//! an instant of the evaluation without a slot cannot exist. A new kind of criterion must add its
//! slots here. As time passes, a person's membership changes only if an instant of a slot passes
//! an instant in the person's data.

use std::collections::BTreeSet;

use super::selector::{self, Selector};
use super::{Behavior, Criterion, EventSource, GroupTest, Plan, RowCriterion, RowTest, Target};
use crate::predicate::{Comparison, Predicate};
use crate::source::Action;
use crate::window::{Moment, Range};

/// Names of events. `None` means every name.
pub(crate) type Names = Option<BTreeSet<String>>;

/// One instant of a plan. The plans of one definition for two moments have the same slots in the
/// same order, and only the instants differ.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    pub instant: i64,
    pub turn: Turn,
    pub subject: Subject,
    /// The earliest event with a date that counts.
    pub from: i64,
}

/// When a comparison of a value with a rising instant changes its result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// When the instant reaches the value.
    Reached,
    /// When the instant is greater than the value.
    Passed,
    Both,
}

/// What an instant is compared to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Subject {
    /// The times of events.
    Times(Names),
    /// A property of events, as a date.
    EventDate(Names, String),
    /// A property of persons, as a date.
    PersonDate(String),
    CreatedAt,
    DistinctId,
    /// A name of an event, as a date.
    EventName,
}

impl Subject {
    /// The subject for each name of its events.
    pub fn by_name(&self) -> Vec<Subject> {
        let one = |name: &String| Some(BTreeSet::from([name.clone()]));
        match self {
            Subject::Times(Some(names)) => {
                let names = names.iter();
                names.map(|name| Subject::Times(one(name))).collect()
            }
            Subject::EventDate(Some(names), property) => {
                let date = |name| Subject::EventDate(one(name), property.clone());
                names.iter().map(date).collect()
            }
            other => vec![other.clone()],
        }
    }
}

impl Turn {
    fn of(comparison: Comparison) -> Turn {
        match comparison {
            Comparison::Greater | Comparison::LessOrEqual => Turn::Reached,
            Comparison::GreaterOrEqual | Comparison::Less => Turn::Passed,
            Comparison::Equal => Turn::Both,
        }
    }
}

/// Collects the slots of plans.
pub(crate) struct SlotReader<'a, F> {
    pub moment: &'a Moment,
    /// Returns the action of an id.
    action: F,
    pub slots: Vec<Slot>,
    /// The names of the events that the plans read.
    pub names: Names,
    /// Whether the plans read persons.
    pub reads_persons: bool,
    /// The properties of events that the plans read.
    pub properties: BTreeSet<String>,
    /// The earliest event that the plans read.
    pub earliest: i64,
}

impl<'a, 'b, F: Fn(i64) -> Option<&'b Action>> SlotReader<'a, F> {
    pub fn new(moment: &'a Moment, action: F) -> SlotReader<'a, F> {
        SlotReader {
            moment,
            action,
            slots: Vec::new(),
            names: Some(BTreeSet::new()),
            reads_persons: false,
            properties: BTreeSet::new(),
            earliest: i64::MAX,
        }
    }

    pub fn add_plan(&mut self, plan: &Plan) {
        plan.leaves.iter().for_each(|leaf| self.criterion(leaf));
    }

    fn criterion(&mut self, criterion: &Criterion) {
        match criterion {
            Criterion::Property { key, predicate } => {
                self.person_dates(predicate, || Subject::PersonDate(key.clone()));
            }
            Criterion::DistinctId(predicate) => {
                self.person_dates(predicate, || Subject::DistinctId);
            }
            Criterion::CreatedAt(predicate) => self.person_dates(predicate, || Subject::CreatedAt),
            Criterion::Cohort(_) => {}
            Criterion::Behavior { target, rule } => self.behavior(target, rule),
            Criterion::Rows(rows) => self.rows(rows),
        }
    }

    fn person_dates(&mut self, predicate: &Predicate, subject: impl Fn() -> Subject) {
        self.reads_persons = true;
        self.dates(predicate, i64::MIN, subject);
    }

    fn dates(&mut self, predicate: &Predicate, from: i64, subject: impl Fn() -> Subject) {
        for (comparison, instant) in predicate.dates() {
            self.add(instant, Turn::of(comparison), from, subject());
        }
    }

    fn add(&mut self, instant: i64, turn: Turn, from: i64, subject: Subject) {
        self.slots.push(Slot {
            instant,
            turn,
            subject,
            from,
        });
    }

    fn add_names(&mut self, names: &Names) {
        self.names = match (self.names.take(), names) {
            (Some(known), Some(names)) => Some(&known | names),
            _ => None,
        };
    }

    fn behavior(&mut self, target: &Target, rule: &Behavior) {
        self.earliest = self.earliest.min(rule.earliest());
        let names = self.target(target, rule.first_filtered());
        let ranges: &[Range] = match rule {
            Behavior::Performed(range)
            | Behavior::Counted(range, _)
            | Behavior::FirstTime(range) => &[*range],
            Behavior::Sequence { range, second, .. } => {
                let second = self.target(second, rule.first_filtered());
                self.edges(range, &second);
                &[*range]
            }
            Behavior::Regularly { starts, .. } => {
                for start in starts {
                    let times = Subject::Times(names.clone());
                    self.add(*start, Turn::Passed, i64::MIN, times);
                }
                &[]
            }
            Behavior::Stopped { outer, inner } => &[*outer, *inner],
            Behavior::Restarted { recent, pause } => &[*recent, *pause],
        };
        for range in ranges {
            self.edges(range, &names);
        }
    }

    fn edges(&mut self, range: &Range, names: &Names) {
        if let Some(from) = range.from {
            let times = Subject::Times(names.clone());
            self.add(from, Turn::Passed, i64::MIN, times);
        }
        let times = Subject::Times(names.clone());
        self.add(range.to, Turn::Reached, i64::MIN, times);
    }

    /// Adds the slots of the filters of a target, and returns the names of its events.
    fn target(&mut self, target: &Target, from: i64) -> Names {
        let action = match target.source {
            EventSource::Event(_) => None,
            EventSource::Action(id) => (self.action)(id),
        };
        let selector = Selector::new(&target.source, action, &target.filters, self.moment);
        for step in &selector.steps {
            let names = || step.event.clone().map(|event| BTreeSet::from([event]));
            for (key, predicate) in &step.conditions {
                self.properties.insert(key.clone());
                let subject = || Subject::EventDate(names(), key.clone());
                self.dates(predicate, from, subject);
            }
        }
        let names = selector::names(&[&selector]);
        self.add_names(&names);
        names
    }

    fn rows(&mut self, rows: &RowCriterion) {
        self.earliest = i64::MIN;
        let names = rows.condition.event_names();
        self.add_names(&names);
        let times = || Subject::Times(names.clone());
        for test in rows.condition.tests() {
            match test {
                RowTest::Time(comparison, instant) => {
                    self.add(*instant, Turn::of(*comparison), i64::MIN, times());
                }
                RowTest::Property(key, predicate) => {
                    self.properties.insert(key.clone());
                    let subject = || Subject::EventDate(names.clone(), key.clone());
                    self.dates(predicate, i64::MIN, subject);
                }
                RowTest::Name(predicate) => {
                    self.dates(predicate, i64::MIN, || Subject::EventName);
                }
                // The tree consists of leaves of the plan.
                RowTest::Named(_) | RowTest::Person(_) => {}
            }
        }
        for test in rows.having.tests() {
            if let GroupTest::First(comparison, instant) | GroupTest::Last(comparison, instant) =
                test
            {
                self.add(*instant, Turn::of(*comparison), i64::MIN, times());
            }
        }
    }
}
