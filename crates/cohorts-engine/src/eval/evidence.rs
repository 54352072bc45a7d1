//! The events that a leaf is about, for its explanation.
//!
//! They are found by the selectors, ranges and conditions of the evaluation itself.

use super::events::Events;
use super::{Evaluation, LeafCache, rows};
use crate::plan::{Behavior, Criterion, Plan, Selector, Target};
use crate::source::Source;
use crate::window::{Moment, Range};

/// Rows of blocks of events, each block with the name of its events.
pub(crate) type NamedRows = Vec<(String, Vec<usize>)>;

impl Plan {
    /// The events that a leaf reads and that its filters admit; `None` if it reads no events. The
    /// source must return one block per name.
    pub(crate) fn events_of<S: Source>(
        &self,
        leaf: usize,
        source: &S,
    ) -> Result<Option<NamedRows>, S::Error> {
        let cache = LeafCache::default();
        Ok(match &self.leaves[leaf] {
            Criterion::Behavior { target, rule } => {
                Some(of_behavior(source, &cache, target, rule, &self.moment)?)
            }
            Criterion::Rows(criterion) => {
                let mut evaluation = Evaluation::new(self, source, &cache, source.persons()?);
                let mut resolve = |test: &_| evaluation.resolved(test);
                let condition = criterion.condition.try_map(&mut resolve)?;
                Some(rows::chosen(source, &cache, &condition)?)
            }
            _ => None,
        })
    }
}

fn of_behavior<S: Source>(
    source: &S,
    cache: &LeafCache,
    target: &Target,
    rule: &Behavior,
    at: &Moment,
) -> Result<NamedRows, S::Error> {
    // The first event counts, even if the filters do not admit it.
    let is_filtered = !matches!(rule, Behavior::FirstTime(_));
    let selector = Selector::resolve(source, target, is_filtered, at)?;
    let events = Events::new(source, cache);
    if let Behavior::Sequence { range, second, .. } = rule {
        let second = Selector::resolve(source, second, true, at)?;
        return events.rows(&[&selector, &second], *range);
    }
    events.rows(&[&selector], rule.whole_range())
}

impl Behavior {
    /// The range of the events that decide the rule.
    fn whole_range(&self) -> Range {
        let up_to = |to: i64| Range { from: None, to };
        match self {
            Behavior::Performed(range)
            | Behavior::Counted(range, _)
            | Behavior::Sequence { range, .. } => *range,
            Behavior::FirstTime(range) => up_to(range.to),
            Behavior::Regularly { starts, .. } => Range {
                from: starts.last().copied(),
                to: starts.first().map_or(i64::MIN, |start| start - 1),
            },
            Behavior::Stopped { outer, inner } => Range {
                from: outer.from,
                to: outer.to.max(inner.to),
            },
            Behavior::Restarted { recent, pause } => up_to(recent.to.max(pause.to)),
        }
    }
}
