//! The events of a source that belong to a target: who has one in a range of time, how many, and
//! which.
//!
//! If the name of an event decides alone, a block needs only its bitmap of persons.
//! Rows are read only at the edges of a range, and if properties matter. The loops over rows are
//! in `scan`: they do not depend on the type of the source, so they are compiled once.

mod scan;

use std::sync::Arc;

use rayon::prelude::*;
use roaring::{MultiOps, RoaringBitmap};

use super::{LeafCache, is_empty};
use crate::block::EventBlock;
use crate::interrupt::Meter;
use crate::plan::{Count, Selector, names, properties};
use crate::source::{EventQuery, Source};
use crate::window::Range;
pub(super) use scan::Hit;
use scan::{BlockScan, CountFilter, OrdinalRange, PersonBitset, Selection};

/// Work below this limit is not worth a second thread, in units of [`Meter`].
const MIN_PARALLEL_WORK: u64 = 20_000;
/// The work of one step between two interrupts, in units of [`Meter`].
const MAX_STEP_WORK: u64 = 1_000_000;

/// Reads the events of a source.
pub(super) struct Events<'a, S> {
    source: &'a S,
    cache: &'a LeafCache,
    meter: Meter<'a, S>,
}

/// A block with the name of its events.
struct NamedBlock {
    event: String,
    block: Arc<EventBlock>,
}

impl<'a, S: Source> Events<'a, S> {
    pub fn new(source: &'a S, cache: &'a LeafCache) -> Events<'a, S> {
        Events {
            source,
            cache,
            meter: Meter::new(source),
        }
    }

    /// The persons with an event in a range.
    pub fn any(&self, selector: &Selector, range: Range) -> Result<RoaringBitmap, S::Error> {
        let blocks = self.blocks(&[selector], range, true)?;
        let scans = self.scans(&[selector], range, &blocks)?;
        let (complete, partial): (Vec<_>, Vec<_>) =
            scans.into_iter().partition(BlockScan::is_complete);
        let persons = self.persons(&partial)?;
        let mut bitmaps: Vec<&RoaringBitmap> = persons.iter().collect();
        bitmaps.extend(complete.iter().map(|scan| scan.block.persons()));
        Ok(bitmaps.union())
    }

    /// The persons with a number of events in a range that `count` admits. The number is at least
    /// one.
    pub fn counted(
        &self,
        selector: &Selector,
        range: Range,
        count: Count,
    ) -> Result<RoaringBitmap, S::Error> {
        let blocks = self.blocks(&[selector], range, false)?;
        let scans = self.scans(&[selector], range, &blocks)?;
        let filter = CountFilter::new(count);
        self.by_ordinals(&scans, |ordinals| scan::counted(&scans, ordinals, &filter))
    }

    /// The persons of `candidates` with events in a range that meet `test`. The events come in the
    /// order of time.
    pub fn persons_where(
        &self,
        selectors: &[&Selector],
        range: Range,
        candidates: &RoaringBitmap,
        test: &(dyn Fn(&[Hit]) -> bool + Sync),
    ) -> Result<RoaringBitmap, S::Error> {
        if candidates.is_empty() {
            return Ok(RoaringBitmap::new());
        }
        let candidates = PersonBitset::new(candidates);
        let blocks = self.blocks(selectors, range, false)?;
        let scans = self.scans(selectors, range, &blocks)?;
        self.by_ordinals(&scans, |ordinals| {
            scan::persons_where(&scans, ordinals, &candidates, test)
        })
    }

    /// The rows of the events in a range, per block with its name.
    pub fn rows(
        &self,
        selectors: &[&Selector],
        range: Range,
    ) -> Result<Vec<(String, Vec<usize>)>, S::Error> {
        let blocks = self.blocks(selectors, range, false)?;
        let scans = self.scans(selectors, range, &blocks)?;
        let names = blocks.iter().map(|named| named.event.clone());
        Ok(names.zip(scans.iter().map(BlockScan::rows)).collect())
    }

    /// Runs `work` for consecutive ranges of ordinals, on all threads if there is enough work.
    fn by_ordinals(
        &self,
        scans: &[BlockScan],
        work: impl Fn(OrdinalRange) -> RoaringBitmap + Sync,
    ) -> Result<RoaringBitmap, S::Error> {
        let last = scans
            .iter()
            .filter_map(|scan| scan.block.persons().max())
            .max();
        let end = last.map_or(0, |last| last as usize + 1);
        let total: u64 = scans.iter().map(BlockScan::work).sum();
        let threads = rayon::current_num_threads();
        let count = if total < MIN_PARALLEL_WORK {
            1
        } else {
            threads.max((total / MAX_STEP_WORK) as usize)
        };
        let width = end.div_ceil(count).max(1);
        let ranges: Vec<OrdinalRange> = (0..end)
            .step_by(width)
            .map(|start| start..end.min(start + width))
            .collect();
        let mut persons = Vec::new();
        for step in ranges.chunks(threads) {
            self.meter.spend(total / ranges.len() as u64)?;
            match step {
                [range] => persons.push(work(range.clone())),
                ranges => persons.par_extend(ranges.par_iter().map(|range| work(range.clone()))),
            }
        }
        Ok(persons.iter().union())
    }

    /// The blocks that may contain events of the selectors in a range. With `persons_only`,
    /// blocks without other events may consist of their persons.
    fn blocks(
        &self,
        selectors: &[&Selector],
        range: Range,
        persons_only: bool,
    ) -> Result<Vec<NamedBlock>, S::Error> {
        let mut blocks = Vec::new();
        if is_empty(&range) {
            return Ok(blocks);
        }
        let names = match names(selectors) {
            Some(names) => names,
            None => self.source.event_names()?.into_iter().collect(),
        };
        let is_single = names.len() == 1;
        let mut bytes = 0;
        for event in names {
            let is_complete = |selector: &&Selector| selector.takes_all(&event);
            let query = EventQuery {
                persons_only: persons_only && selectors.iter().all(is_complete),
                properties: properties(selectors, &event),
                from: range.from,
                to: range.to,
                event,
            };
            let first = blocks.len();
            for block in self.cache.events(self.source, &query, &self.meter)? {
                let span = block.span();
                if span.last >= range.from.unwrap_or(i64::MIN) && range.to >= span.first {
                    let event = query.event.clone();
                    blocks.push(NamedBlock { event, block });
                }
            }
            if !is_single {
                bytes += blocks[first..]
                    .iter()
                    .map(|named| named.block.bytes())
                    .sum::<usize>();
                self.source.check_memory(bytes)?;
            }
        }
        Ok(blocks)
    }

    /// Evaluates the conditions of the selectors over `blocks`.
    fn scans<'b>(
        &self,
        selectors: &[&Selector],
        range: Range,
        blocks: &'b [NamedBlock],
    ) -> Result<Vec<BlockScan<'b>>, S::Error> {
        let scan = |named: &'b NamedBlock| {
            self.meter.spend(100)?;
            let (event, block) = (&named.event, &named.block);
            let selections = selectors
                .iter()
                .map(|selector| select(selector, block, event, &self.meter));
            Ok(BlockScan {
                block,
                selections: selections.collect::<Result<_, _>>()?,
                range,
            })
        };
        blocks.iter().map(scan).collect()
    }

    /// The persons with a hit, per scan, on all threads if there is enough work.
    fn persons(&self, scans: &[BlockScan]) -> Result<Vec<RoaringBitmap>, S::Error> {
        let mut persons = Vec::with_capacity(scans.len());
        let threads = rayon::current_num_threads();
        let mut rest = scans;
        while !rest.is_empty() {
            // Large steps, because waking a thread costs time; but interrupts must be frequent.
            let (mut count, mut work) = (0, 0);
            while count < rest.len() && (count < threads || work < MAX_STEP_WORK) {
                work += rest[count].work();
                count += 1;
            }
            self.meter.spend(work / threads as u64)?;
            let (step, later) = rest.split_at(count);
            if work < MIN_PARALLEL_WORK {
                persons.extend(step.iter().map(BlockScan::persons));
            } else {
                persons.par_extend(step.par_iter().map(BlockScan::persons));
            }
            rest = later;
        }
        Ok(persons)
    }
}

/// Evaluates the conditions of a selector over a block of events with this name.
fn select<'a, S: Source>(
    selector: &Selector,
    block: &'a EventBlock,
    event: &str,
    meter: &Meter<S>,
) -> Result<Selection<'a>, S::Error> {
    if selector.takes_all(event) {
        return Ok(Selection::All);
    }
    let mut steps = Vec::new();
    let of_event = selector
        .steps
        .iter()
        .filter(|step| step.matches_name(event));
    for step in of_event {
        let conditions = step.conditions.iter();
        let conditions = conditions.map(|(key, predicate)| block.matches(key, predicate, meter));
        steps.push(conditions.collect::<Result<Vec<_>, _>>()?);
    }
    Ok(Selection::AnyOf(steps))
}
