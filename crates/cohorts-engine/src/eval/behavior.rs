//! The persons with a behaviour, by kind of behaviour.

mod counter;

use roaring::RoaringBitmap;

use super::LeafCache;
use super::events::{Events, Hit};
use crate::plan::{Behavior, Count, Selector, Target};
use crate::source::Source;
use crate::window::{Moment, Range};
use counter::BitSlicedCounter;

/// The persons with the behaviour. The source may not know all of them as persons.
pub(super) fn persons<S: Source>(
    source: &S,
    cache: &LeafCache,
    target: &Target,
    rule: &Behavior,
    at: &Moment,
) -> Result<RoaringBitmap, S::Error> {
    let selector = Selector::resolve(source, target, true, at)?;
    let events = Events::new(source, cache);
    Ok(match rule {
        Behavior::Performed(range) => events.any(&selector, *range)?,
        Behavior::Counted(range, count) => counted(&events, &selector, *range, *count)?,
        Behavior::FirstTime(range) => {
            let unfiltered = Selector::resolve(source, target, false, at)?;
            // The longest range is read first, so that the source reads each event once.
            let earlier = events.any(&unfiltered, before(range))?;
            let persons = events.any(&selector, *range)? - earlier;
            if target.filters.is_empty() {
                return Ok(persons);
            }
            events.persons_where(&[&unfiltered, &selector], *range, &persons, &is_first)?
        }
        Behavior::Sequence {
            range,
            second,
            within,
        } => {
            let second = Selector::resolve(source, second, true, at)?;
            let both = events.any(&selector, *range)? & events.any(&second, *range)?;
            events.persons_where(&[&selector, &second], *range, &both, &|hits| {
                is_sequence(hits, *within)
            })?
        }
        Behavior::Regularly {
            starts,
            count,
            min_periods,
        } => {
            let mut periods = BitSlicedCounter::default();
            for period in starts.windows(2).rev() {
                let range = Range {
                    from: Some(period[1]),
                    to: period[0] - 1,
                };
                periods.add(counted(&events, &selector, range, *count)?);
            }
            periods.at_least(*min_periods)
        }
        Behavior::Stopped { outer, inner } => {
            events.any(&selector, *outer)? - events.any(&selector, *inner)?
        }
        Behavior::Restarted { recent, pause } => {
            let earlier = events.any(&selector, before(recent))?;
            let returned = earlier & events.any(&selector, *recent)?;
            returned - events.any(&selector, *pause)?
        }
    })
}

/// All instants before a range.
fn before(range: &Range) -> Range {
    Range {
        from: None,
        to: range.from.map_or(i64::MIN, |from| from.saturating_sub(1)),
    }
}

/// The persons with a number of events in a range that `count` admits.
fn counted<S: Source>(
    events: &Events<S>,
    selector: &Selector,
    range: Range,
    count: Count,
) -> Result<RoaringBitmap, S::Error> {
    if count.admits_any() {
        return events.any(selector, range);
    }
    events.counted(selector, range, count)
}

/// Whether the first event passes the filters. Selector 0 is the event without its filters, and
/// selector 1 with them. Of several events at the first instant, one must pass.
fn is_first(hits: &[Hit]) -> bool {
    let first = hits[0].time;
    let mut earliest = hits.iter().take_while(|hit| hit.time == first);
    earliest.any(|hit| hit.is(1))
}

/// Whether an event of selector 1 follows a different event of selector 0 within `within`
/// microseconds. Events at the same instant have no order.
fn is_sequence(hits: &[Hit], within: i64) -> bool {
    let mut last_start: Option<i64> = None;
    for instant in hits.chunk_by(|a, b| a.time == b.time) {
        let time = instant[0].time;
        let starts = instant.iter().filter(|hit| hit.is(0)).count();
        let ends = instant.iter().filter(|hit| hit.is(1)).count();
        let is_same_event =
            starts == 1 && ends == 1 && instant.iter().any(|hit| hit.is(0) && hit.is(1));
        if starts > 0 && ends > 0 && !is_same_event {
            return true;
        }
        let is_near = |start: i64| time.saturating_sub(start) <= within;
        if ends > 0 && last_start.is_some_and(is_near) {
            return true;
        }
        if starts > 0 {
            last_start = Some(time);
        }
    }
    false
}
