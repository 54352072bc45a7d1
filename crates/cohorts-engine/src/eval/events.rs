//! Which events of a source a target means: who has any in a range of time, how many, and which.
//!
//! Where a name alone decides, whole blocks are taken by the bitmaps of their people; only at the edges of a range, and
//! where properties matter, single events are looked at.

mod scan;
mod selector;

use std::sync::Arc;

use rayon::prelude::*;
use roaring::{MultiOps, RoaringBitmap};

use crate::block::{EventBlock, bitmap_of, chosen};
use crate::interrupt::Meter;
use crate::source::{EventQuery, Source};
use crate::window::Range;
pub(super) use scan::Hit;
use scan::{BlockScan, PersonBitset, Rows, by_person};
pub(super) use selector::Selector;
use selector::{names, properties};

/// Looks events of a source up.
pub(super) struct Events<'a, S> {
    source: &'a S,
    meter: Meter<'a, S>,
}

impl<'a, S: Source> Events<'a, S> {
    pub fn new(source: &'a S) -> Events<'a, S> {
        Events {
            source,
            meter: Meter::new(source),
        }
    }

    /// Everybody with an event in a range.
    pub fn any(&self, selector: &Selector, range: Range) -> Result<RoaringBitmap, S::Error> {
        let blocks = self.blocks(&[selector], range, true)?;
        let parts = self.parts(&[selector], range, &blocks)?;
        let (whole, parts): (Vec<_>, Vec<_>) = parts.into_iter().partition(BlockScan::is_whole);
        let found = self.each(&parts, |part| {
            let mut people = Vec::new();
            part.hits(
                0..part.block.rows(),
                |_| true,
                |hit| people.push(hit.person),
            );
            bitmap_of(&people)
        })?;
        let mut sets: Vec<&RoaringBitmap> = whole.iter().map(|part| part.block.persons()).collect();
        sets.extend(&found);
        Ok(sets.union())
    }

    /// Those whose number of events in a range is admitted; it is never none.
    pub fn counted(
        &self,
        selector: &Selector,
        range: Range,
        admits: impl Fn(u32) -> bool + Sync,
    ) -> Result<RoaringBitmap, S::Error> {
        let blocks = self.blocks(&[selector], range, false)?;
        let parts = self.parts(&[selector], range, &blocks)?;
        // Nearly all numbers are small, and asked about once for all.
        let small: Vec<bool> = (0..256).map(|count| count > 0 && admits(count)).collect();
        let admits = |count: u32| match small.get(count as usize) {
            Some(admitted) => *admitted,
            None => admits(count),
        };
        self.by_people(&parts, |people| {
            let mut counts = vec![0_u32; people.len()];
            for part in &parts {
                part.hits(
                    part.rows_of(&people),
                    |_| true,
                    |hit| {
                        let count = &mut counts[hit.person as usize - people.start];
                        *count = count.saturating_add(1);
                    },
                );
            }
            let counts = counts.into_iter().zip(people);
            bitmap_of(&chosen(
                counts.map(|(count, person)| (person as u32, admits(count))),
            ))
        })
    }

    /// Those of some people for whom a test of their events in a range holds, which come in the order of time.
    pub fn persons_where(
        &self,
        selectors: &[&Selector],
        range: Range,
        among: &RoaringBitmap,
        test: impl Fn(&[Hit]) -> bool + Sync,
    ) -> Result<RoaringBitmap, S::Error> {
        if among.is_empty() {
            return Ok(RoaringBitmap::new());
        }
        let among = PersonBitset::new(among);
        let blocks = self.blocks(selectors, range, false)?;
        let parts = self.parts(selectors, range, &blocks)?;
        self.by_people(&parts, |people| {
            let mut found = Vec::new();
            for part in &parts {
                let wanted = |person| among.contains(person);
                part.hits(part.rows_of(&people), wanted, |hit| found.push(hit));
            }
            let mut found = by_person(found, people.start);
            let own = found.chunk_by_mut(|a, b| a.person == b.person);
            let own = own.filter_map(|own| {
                if !own.is_sorted_by_key(|hit| hit.time) {
                    own.sort_unstable_by_key(|hit| hit.time);
                }
                test(own).then_some(own[0].person)
            });
            bitmap_of(&own.collect::<Vec<_>>())
        })
    }

    /// Goes through the events of some people after others, on all processors where that is worth it.
    fn by_people(
        &self,
        parts: &[BlockScan],
        work: impl Fn(Rows) -> RoaringBitmap + Sync,
    ) -> Result<RoaringBitmap, S::Error> {
        let last = parts
            .iter()
            .filter_map(|part| part.block.persons().max())
            .max();
        let end = last.map_or(0, |last| last as usize + 1);
        let all: u64 = parts.iter().map(BlockScan::work).sum();
        let threads = rayon::current_num_threads();
        // So many that it is asked often enough whether to go on.
        let count = match all < LITTLE_WORK {
            true => 1,
            false => threads.max((all / MOST_WORK) as usize),
        };
        let width = end.div_ceil(count).max(1);
        let ranges: Vec<_> = (0..end)
            .step_by(width)
            .map(|start| start..end.min(start + width))
            .collect();
        let mut found = Vec::new();
        for some in ranges.chunks(threads) {
            self.meter.spend(all / ranges.len() as u64)?;
            match some {
                [one] => found.push(work(one.clone())),
                some => found.par_extend(some.par_iter().map(|people| work(people.clone()))),
            }
        }
        Ok(found.iter().union())
    }

    /// The blocks that may hold events of a selector in a range, with the names of their events; or only the people of
    /// those where every event is one.
    fn blocks(
        &self,
        selectors: &[&Selector],
        range: Range,
        persons_only: bool,
    ) -> Result<Vec<(String, Arc<EventBlock>)>, S::Error> {
        let (mut found, mut bytes) = (Vec::new(), 0);
        if range.from.is_some_and(|from| from > range.to) {
            return Ok(found);
        }
        let names = match names(selectors) {
            Some(names) => names,
            None => self.source.event_names()?.into_iter().collect(),
        };
        let is_one = names.len() == 1;
        for event in names {
            let all = |selector: &&Selector| selector.takes_all(&event);
            let query = EventQuery {
                persons_only: persons_only && selectors.iter().all(all),
                properties: properties(selectors, &event),
                from: range.from,
                to: range.to,
                event,
            };
            let blocks = self.source.events(&query)?.into_iter();
            let reached = blocks.filter(|block| {
                let span = block.span();
                span.last >= range.from.unwrap_or(i64::MIN) && range.to >= span.first
            });
            let before = found.len();
            found.extend(reached.map(|block| (query.event.clone(), block)));
            if !is_one {
                let new = found[before..].iter().map(|(_, block)| block.bytes());
                bytes += new.sum::<usize>();
                self.source.check_memory(bytes)?;
            }
        }
        Ok(found)
    }

    /// Blocks with the answers to what the selectors ask of their events.
    fn parts<'b>(
        &self,
        selectors: &[&Selector],
        range: Range,
        blocks: &'b [(String, Arc<EventBlock>)],
    ) -> Result<Vec<BlockScan<'b>>, S::Error> {
        let part = |(event, block): &'b (String, Arc<EventBlock>)| {
            self.meter.spend(100)?;
            let marks = selectors
                .iter()
                .map(|selector| selector.marks(block, event, &self.meter));
            Ok(BlockScan {
                block,
                marks: marks.collect::<Result<_, _>>()?,
                range,
            })
        };
        blocks.iter().map(part).collect()
    }

    /// Does something with each part, on all processors where that is worth it.
    fn each<T: Send>(
        &self,
        parts: &[BlockScan],
        work: impl Fn(&BlockScan) -> T + Sync,
    ) -> Result<Vec<T>, S::Error> {
        let mut done = Vec::with_capacity(parts.len());
        let threads = rayon::current_num_threads();
        let mut rest = parts;
        while !rest.is_empty() {
            // Much at once, as threads cost time to wake, and not all, as it is asked in between whether to go on.
            let (mut count, mut all) = (0, 0);
            while count < rest.len() && (count < threads || all < MOST_WORK) {
                all += rest[count].work();
                count += 1;
            }
            self.meter.spend(all / threads as u64)?;
            let some;
            (some, rest) = rest.split_at(count);
            match all < LITTLE_WORK {
                true => done.extend(some.iter().map(&work)),
                false => done.par_extend(some.par_iter().map(&work)),
            }
        }
        Ok(done)
    }
}

/// Less is not worth a second thread, in units of `Meter`.
const LITTLE_WORK: u64 = 20_000;
/// And so much is done by one thread before it is asked whether to go on.
const MOST_WORK: u64 = 1_000_000;
