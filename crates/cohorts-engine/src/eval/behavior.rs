//! What each kind of behaviour demands of a person's events.

mod counter;

use roaring::RoaringBitmap;

use super::events::{Events, Hit, Selector};
use crate::plan::{Behavior, Count, Target};
use crate::source::Source;
use crate::window::{Moment, Range};
use counter::BitSlicedCounter;

/// The persons who showed the behaviour; they need not all be known to the project.
pub(super) fn persons<S: Source>(
    source: &S,
    target: &Target,
    rule: &Behavior,
    at: &Moment,
) -> Result<RoaringBitmap, S::Error> {
    let own = Selector::resolve(source, target, true, at)?;
    let events = Events::new(source);
    Ok(match rule {
        Behavior::Performed(range) => events.any(&own, *range)?,
        Behavior::Counted(range, count) => counted(&events, &own, *range, *count)?,
        Behavior::FirstTime(range) => {
            let unfiltered = Selector::resolve(source, target, false, at)?;
            // What reaches back furthest is asked for first, so that a source reads it once.
            let earlier = events.any(&unfiltered, before(range))?;
            let found = events.any(&own, *range)? - earlier;
            if target.filters.is_empty() {
                return Ok(found);
            }
            events.persons_where(&[&unfiltered, &own], *range, &found, is_first)?
        }
        Behavior::Sequence {
            range,
            second,
            within,
        } => {
            let second = Selector::resolve(source, second, true, at)?;
            let both = events.any(&own, *range)? & events.any(&second, *range)?;
            events.persons_where(&[&own, &second], *range, &both, |hits| {
                is_sequence(hits, *within)
            })?
        }
        Behavior::Regularly {
            starts,
            count,
            min_periods,
        } => {
            let mut counter = BitSlicedCounter::default();
            for period in starts.windows(2).rev() {
                let range = Range {
                    from: Some(period[1]),
                    to: period[0] - 1,
                };
                counter.add(counted(&events, &own, range, *count)?);
            }
            counter.at_least(*min_periods)
        }
        Behavior::Stopped { outer, inner } => {
            events.any(&own, *outer)? - events.any(&own, *inner)?
        }
        Behavior::Restarted { recent, pause } => {
            let returned = events.any(&own, before(recent))? & events.any(&own, *recent)?;
            returned - events.any(&own, *pause)?
        }
    })
}

/// All time before a range.
fn before(range: &Range) -> Range {
    Range {
        from: None,
        to: range.from.map_or(i64::MIN, |from| from.saturating_sub(1)),
    }
}

/// Those whose number of events in a range a count admits.
fn counted<S: Source>(
    events: &Events<S>,
    own: &Selector,
    range: Range,
    count: Count,
) -> Result<RoaringBitmap, S::Error> {
    if count.admits_any() {
        return events.any(own, range);
    }
    events.counted(own, range, |number| count.admits(number as usize))
}

/// Selector 0 is the event by name, selector 1 the same with its filters; there is none before. Of several events at the
/// very first instant, one that passes the filters is enough.
fn is_first(hits: &[Hit]) -> bool {
    let first = hits[0].time;
    let mut earliest = hits.iter().take_while(|hit| hit.time == first);
    earliest.any(|hit| hit.is(1))
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
