//! What each kind of behaviour demands of a person's events.

use roaring::RoaringBitmap;

use super::events::{Hit, Selector, hits, persons as anybody, persons_where};
use crate::plan::{Behavior, Count, Target};
use crate::source::Source;
use crate::window::{Moment, Range};

/// The persons who showed the behaviour; they need not all be known to the project.
pub(super) fn persons<S: Source>(
    source: &S,
    target: &Target,
    rule: &Behavior,
    at: &Moment,
) -> Result<RoaringBitmap, S::Error> {
    let own = Selector::resolve(source, target, true, at)?;
    let found = |range: Range, own: Selector| hits(source, &[own], range);
    Ok(match rule {
        Behavior::Performed(range) => anybody(source, own, *range)?,
        Behavior::Counted(range, count) => {
            persons_where(&found(*range, own)?, |hits| count.admits(hits.len()))
        }
        Behavior::FirstTime(range) => {
            let unfiltered = Selector::resolve(source, target, false, at)?;
            let ever = Range {
                from: None,
                ..*range
            };
            let hits = hits(source, &[unfiltered, own], ever)?;
            persons_where(&hits, |hits| is_first_time(hits, range))
        }
        Behavior::Sequence {
            range,
            second,
            within,
        } => {
            let second = Selector::resolve(source, second, true, at)?;
            let hits = hits(source, &[own, second], *range)?;
            persons_where(&hits, |hits| is_sequence(hits, *within))
        }
        Behavior::Regularly {
            starts,
            count,
            min_periods,
        } => {
            let range = Range {
                from: starts.last().copied(),
                to: starts[0] - 1,
            };
            let hits = found(range, own)?;
            persons_where(&hits, |hits| {
                qualifying(hits, starts, *count) >= *min_periods
            })
        }
        Behavior::Stopped { outer, inner } => {
            let both = Range {
                from: outer.from.min(inner.from),
                to: outer.to,
            };
            persons_where(&found(both, own)?, |hits| {
                any_in(hits, outer) && !any_in(hits, inner)
            })
        }
        Behavior::Restarted { recent, pause } => {
            let ever = Range {
                from: None,
                ..*recent
            };
            persons_where(&found(ever, own)?, |hits| {
                let before = recent.from.is_some_and(|from| hits[0].time < from);
                before && any_in(hits, recent) && !any_in(hits, pause)
            })
        }
    })
}

fn any_in(hits: &[Hit], range: &Range) -> bool {
    hits.iter().any(|hit| range.contains(hit.time))
}

/// Selector 0 is the event by name, selector 1 the same with its filters. Of several events at
/// the very first instant, one that passes the filters is enough.
fn is_first_time(hits: &[Hit], range: &Range) -> bool {
    let first = hits[0].time;
    let mut earliest = hits.iter().take_while(|hit| hit.time == first);
    range.contains(first) && earliest.any(|hit| hit.is(1))
}

/// Selector 0 starts a sequence and selector 1 ends it, with two different events no further
/// apart than `within`; at one instant the order of storage does not matter.
fn is_sequence(hits: &[Hit], within: i64) -> bool {
    let mut last_start: Option<i64> = None;
    for instant in hits.chunk_by(|a, b| a.time == b.time) {
        let time = instant[0].time;
        let starts = instant.iter().filter(|hit| hit.is(0)).count();
        let ends = instant.iter().filter(|hit| hit.is(1)).count();
        let lone = starts == 1 && ends == 1 && instant.iter().any(|hit| hit.is(0) && hit.is(1));
        if starts > 0 && ends > 0 && !lone {
            return true;
        }
        let near = |start: i64| time.saturating_sub(start) <= within;
        if ends > 0 && last_start.is_some_and(near) {
            return true;
        }
        if starts > 0 {
            last_start = Some(time);
        }
    }
    false
}

/// How many periods hold a number of events that the count admits.
fn qualifying(hits: &[Hit], starts: &[i64], count: Count) -> usize {
    let period = |hit: &Hit| starts.partition_point(|start| *start > hit.time);
    let periods = hits.chunk_by(|a, b| period(a) == period(b));
    periods.filter(|hits| count.admits(hits.len())).count()
}
