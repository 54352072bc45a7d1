//! What one cohort, or all cohorts of a pass, need to know.

use std::collections::{BTreeMap, BTreeSet};

use super::definitions::SlotPairs;
use super::source::VersionSpan;
use crate::block::TimeSpan;
use crate::plan::{Names, Slot, Subject};
use crate::source::PlannedReads;

/// The questions of one cohort, or of all.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    /// The names of events with new performers.
    pub names: Names,
    /// Whether changed persons count.
    pub persons: bool,
    /// Spans of time by what is in them. A subject has one name of events, or every name.
    pub spans: BTreeMap<Subject, Spans>,
    /// Static cohorts with other members than before.
    pub members: BTreeSet<(i64, VersionSpan)>,
}

/// Spans of the values of one subject.
#[derive(Clone, Debug)]
pub(super) struct Spans {
    /// The earliest event with a value that counts.
    pub from: i64,
    pub spans: BTreeSet<TimeSpan>,
}

impl Default for Wanted {
    fn default() -> Wanted {
        Wanted {
            names: Some(BTreeSet::new()),
            persons: false,
            spans: BTreeMap::new(),
            members: BTreeSet::new(),
        }
    }
}

impl Wanted {
    pub fn add(&mut self, other: &Wanted) {
        self.names = match (self.names.take(), &other.names) {
            (Some(names), Some(more)) => Some(&names | more),
            _ => None,
        };
        self.persons |= other.persons;
        self.members.extend(&other.members);
        for (subject, more) in &other.spans {
            self.add_spans(subject.clone(), more.from, more.spans.iter().copied());
        }
    }

    /// Adds the spans between the instants of two moments.
    pub fn add_slivers(&mut self, slots: SlotPairs) {
        let mut slivers: BTreeMap<&Subject, (i64, Vec<TimeSpan>)> = BTreeMap::new();
        for (then, now) in slots {
            if let Some(sliver) = sliver(then, now) {
                let from = then.from.min(now.from);
                let (earliest, spans) = slivers.entry(&now.subject).or_insert((from, Vec::new()));
                *earliest = from.min(*earliest);
                spans.push(sliver);
            }
        }
        for (subject, (from, spans)) in slivers {
            let spans = merged(spans);
            for subject in subject.by_name() {
                self.add_spans(subject, from, spans.iter().copied());
            }
        }
    }

    fn add_spans(&mut self, subject: Subject, from: i64, spans: impl Iterator<Item = TimeSpan>) {
        let first = || Spans {
            from,
            spans: BTreeSet::new(),
        };
        let known = self.spans.entry(subject).or_insert_with(first);
        known.from = from.min(known.from);
        known.spans.extend(spans);
    }

    /// The events that the source will be asked for.
    pub fn reads(&self) -> PlannedReads {
        let mut reads = PlannedReads::default();
        for (subject, spans) in &self.spans {
            let (names, property, from) = match subject {
                Subject::Times(names) => (names, None, spans.spans.first().map(|span| span.first)),
                Subject::EventDate(names, property) => (names, Some(property), Some(spans.from)),
                _ => continue,
            };
            for name in names.iter().flatten() {
                let key = (name.clone(), property.cloned().into_iter().collect());
                reads.events.insert(key, from.unwrap_or(i64::MIN));
            }
        }
        reads
    }
}

/// The closed span between an instant at two moments; `None` if it is the same. At the end of
/// summer time, and at the end of a month, the later moment may have the smaller instant.
fn sliver(then: &Slot, now: &Slot) -> Option<TimeSpan> {
    let span = TimeSpan {
        first: then.instant.min(now.instant),
        last: then.instant.max(now.instant),
    };
    (span.first < span.last).then_some(span)
}

/// The spans in rising order; those that touch are one.
fn merged(mut spans: Vec<TimeSpan>) -> Vec<TimeSpan> {
    spans.sort_unstable();
    let mut merged: Vec<TimeSpan> = Vec::new();
    for span in spans {
        match merged.last_mut() {
            Some(last) if span.first <= last.last.saturating_add(1) => {
                last.last = last.last.max(span.last);
            }
            _ => merged.push(span),
        }
    }
    merged
}
