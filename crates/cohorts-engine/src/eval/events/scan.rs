//! Scans of blocks: which rows are hits, and which persons they have.
//!
//! Nothing here is generic over the source, and no caller outside of this file passes a closure
//! that runs once per row.

use std::ops::Range as Interval;
use std::sync::Arc;

use roaring::RoaringBitmap;

use crate::block::{EventBlock, RowMatches, from_sorted, select};
use crate::plan::Count;
use crate::window::Range;

/// A range of rows of a block.
type RowRange = Interval<usize>;

/// A range of ordinals of persons.
pub(super) type OrdinalRange = Interval<usize>;

/// An event that belongs to at least one of the selectors.
#[derive(Clone, Copy, Debug)]
pub(in crate::eval) struct Hit {
    pub person: u32,
    pub time: i64,
    /// One bit per selector.
    selectors: u8,
}

impl Hit {
    /// Whether the event belongs to the selector with this index.
    pub fn is(&self, selector: usize) -> bool {
        self.selectors & (1 << selector) != 0
    }
}

/// A block that may contain hits.
pub(super) struct BlockScan<'a> {
    pub block: &'a Arc<EventBlock>,
    /// One selection per selector. There are at most eight.
    pub selections: Vec<Selection<'a>>,
    pub range: Range,
}

/// The events of a block that belong to a selector.
pub(super) enum Selection<'a> {
    All,
    /// The events that meet all conditions of any step.
    AnyOf(Vec<Vec<RowMatches<'a>>>),
}

/// Rows are read in batches, one column at a time. Tests use small batches, to cover the ends.
const BATCH_ROWS: usize = if cfg!(test) { 4 } else { 1_024 };

impl Selection<'_> {
    /// Sets `bit` in the marks of the rows that are selected.
    fn mark(&self, bit: u8, rows: &RowRange, marks: &mut [u8; BATCH_ROWS]) {
        let marks = &mut marks[..rows.len()];
        let Selection::AnyOf(steps) = self else {
            return marks.iter_mut().for_each(|mark| *mark |= bit);
        };
        for conditions in steps {
            let mut flags = [true; BATCH_ROWS];
            let flags = &mut flags[..rows.len()];
            for condition in conditions {
                condition.filter(rows.clone(), flags);
            }
            for (mark, flag) in marks.iter_mut().zip(flags) {
                *mark |= bit * u8::from(*flag);
            }
        }
    }

    fn work(&self) -> u64 {
        match self {
            Selection::All => 0,
            Selection::AnyOf(steps) => steps
                .iter()
                .map(|conditions| 1 + conditions.len() as u64)
                .sum(),
        }
    }
}

impl BlockScan<'_> {
    /// Whether all events of the block are hits.
    pub fn is_complete(&self) -> bool {
        self.is_inside() && matches!(self.selections.as_slice(), [Selection::All])
    }

    fn is_inside(&self) -> bool {
        let span = self.block.span();
        self.range.contains(span.first) && self.range.contains(span.last)
    }

    /// The work of visiting all hits, in units of [`Meter`](crate::interrupt::Meter).
    pub fn work(&self) -> u64 {
        let row = 1 + self.selections.iter().map(Selection::work).sum::<u64>();
        row * self.block.rows() as u64 / 4
    }

    /// The persons with a hit.
    pub fn persons(&self) -> RoaringBitmap {
        let mut ordinals = Vec::new();
        let rows = 0..self.block.rows();
        self.visit(rows, |_| true, |hit| ordinals.push(hit.person));
        from_sorted(&ordinals)
    }

    /// The rows that are hits.
    pub fn rows(&self) -> Vec<usize> {
        let mut rows = Vec::new();
        for start in (0..self.block.rows()).step_by(BATCH_ROWS) {
            let batch = start..self.block.rows().min(start + BATCH_ROWS);
            let mut marks = [0; BATCH_ROWS];
            for selection in &self.selections {
                selection.mark(1, &batch, &mut marks);
            }
            let is_hit = |row: &usize| {
                marks[row - start] != 0 && self.range.contains(self.block.row(*row).1)
            };
            rows.extend(batch.filter(is_hit));
        }
        rows
    }

    fn rows_of(&self, ordinals: &OrdinalRange) -> RowRange {
        let before = |ordinal: usize| self.block.rows_before(ordinal);
        before(ordinals.start)..before(ordinals.end)
    }

    /// Visits the hits of candidates among `rows`, sorted by person and time.
    #[inline]
    fn visit(
        &self,
        rows: RowRange,
        is_candidate: impl Fn(u32) -> bool,
        mut visit: impl FnMut(Hit),
    ) {
        let is_inside = self.is_inside();
        for start in rows.clone().step_by(BATCH_ROWS) {
            let batch = start..rows.end.min(start + BATCH_ROWS);
            let mut marks = [0; BATCH_ROWS];
            for (index, selection) in self.selections.iter().enumerate() {
                selection.mark(1 << index, &batch, &mut marks);
            }
            // First the offsets of the rows, without a branch, because marks are unpredictable.
            let (mut offsets, mut count) = ([0_u16; BATCH_ROWS], 0);
            let ordinals = &self.block.ordinals()[batch];
            for (offset, (ordinal, mark)) in ordinals.iter().zip(&marks).enumerate() {
                offsets[count] = offset as u16;
                count += usize::from((*mark != 0) & is_candidate(*ordinal));
            }
            for offset in &offsets[..count] {
                let offset = usize::from(*offset);
                let ((person, time), selectors) = (self.block.row(start + offset), marks[offset]);
                if is_inside || self.range.contains(time) {
                    visit(Hit {
                        person,
                        time,
                        selectors,
                    });
                }
            }
        }
    }
}

/// Decides which numbers of events are admitted.
pub(super) struct CountFilter {
    count: Count,
    /// The results for small numbers, which are by far the most frequent.
    small: Vec<bool>,
}

impl CountFilter {
    pub fn new(count: Count) -> CountFilter {
        let is_admitted = |number: usize| number > 0 && count.admits(number);
        CountFilter {
            count,
            small: (0..256).map(is_admitted).collect(),
        }
    }

    #[inline]
    fn admits(&self, number: u32) -> bool {
        match self.small.get(number as usize) {
            Some(is_admitted) => *is_admitted,
            None => self.count.admits(number as usize),
        }
    }
}

/// The persons of a range with an admitted number of hits.
pub(super) fn counted(
    scans: &[BlockScan],
    ordinals: OrdinalRange,
    filter: &CountFilter,
) -> RoaringBitmap {
    let rows = scans.iter().map(|scan| scan.rows_of(&ordinals).len());
    if rows.sum::<usize>() < ordinals.len() / MAX_PERSONS_PER_HIT {
        return sparsely_counted(scans, &ordinals, filter);
    }
    let mut counts = vec![0_u32; ordinals.len()];
    for scan in scans {
        let increment = |hit: Hit| {
            let count = &mut counts[hit.person as usize - ordinals.start];
            *count = count.saturating_add(1);
        };
        scan.visit(scan.rows_of(&ordinals), |_| true, increment);
    }
    let counts = counts.into_iter().zip(ordinals);
    from_sorted(&select(
        counts.map(|(count, ordinal)| (ordinal as u32, filter.admits(count))),
    ))
}

/// As [`counted`], for few rows.
fn sparsely_counted(
    scans: &[BlockScan],
    ordinals: &OrdinalRange,
    filter: &CountFilter,
) -> RoaringBitmap {
    let mut hits = Vec::new();
    for scan in scans {
        scan.visit(
            scan.rows_of(ordinals),
            |_| true,
            |hit| hits.push(hit.person),
        );
    }
    hits.sort_unstable();
    let persons = hits.chunk_by(|a, b| a == b);
    let admitted = persons.filter(|hits| filter.admits(hits.len() as u32));
    admitted.map(|hits| hits[0]).collect()
}

/// The candidates of a range with hits that meet `test`. The hits come in the order of time.
pub(super) fn persons_where(
    scans: &[BlockScan],
    ordinals: OrdinalRange,
    candidates: &PersonBitset,
    test: &dyn Fn(&[Hit]) -> bool,
) -> RoaringBitmap {
    let mut hits = Vec::new();
    for scan in scans {
        let is_candidate = |person| candidates.contains(person);
        scan.visit(scan.rows_of(&ordinals), is_candidate, |hit| hits.push(hit));
    }
    let mut hits = by_person(hits, ordinals.start);
    let mut persons = Vec::new();
    for hits in hits.chunk_by_mut(|a, b| a.person == b.person) {
        if !hits.is_sorted_by_key(|hit| hit.time) {
            hits.sort_unstable_by_key(|hit| hit.time);
        }
        if test(hits) {
            persons.push(hits[0].person);
        }
    }
    from_sorted(&persons)
}

/// Counting sort is used if there is at least one hit per this number of persons.
const MAX_PERSONS_PER_HIT: usize = 16;

/// Sorts hits by person. No ordinal is below `first`.
fn by_person(mut hits: Vec<Hit>, first: usize) -> Vec<Hit> {
    let offset = |hit: &Hit| hit.person as usize - first;
    let width = hits.iter().map(offset).max().map_or(0, |last| last + 1);
    if hits.len() < width / MAX_PERSONS_PER_HIT {
        hits.sort_unstable_by_key(|hit| hit.person);
        return hits;
    }
    let mut positions = vec![0_u32; width];
    hits.iter().for_each(|hit| positions[offset(hit)] += 1);
    let mut next = 0;
    for position in &mut positions {
        next += std::mem::replace(position, next);
    }
    let placeholder = Hit {
        person: 0,
        time: 0,
        selectors: 0,
    };
    let mut sorted = vec![placeholder; hits.len()];
    for hit in &hits {
        let position = &mut positions[offset(hit)];
        sorted[*position as usize] = *hit;
        *position += 1;
    }
    sorted
}

/// If fewer than one in this number of ordinals is a candidate, no bits are stored for the others.
const MAX_ORDINALS_PER_CANDIDATE: u64 = 1_024;

/// A set of persons with fast lookups.
pub(super) enum PersonBitset {
    /// One bit per ordinal.
    Dense(Vec<u64>),
    /// The few persons.
    Sparse(RoaringBitmap),
}

impl PersonBitset {
    pub fn new(persons: &RoaringBitmap) -> PersonBitset {
        let last = persons.max().unwrap_or(0);
        if persons.len() * MAX_ORDINALS_PER_CANDIDATE < u64::from(last) {
            return PersonBitset::Sparse(persons.clone());
        }
        let mut words = vec![0; persons.max().map_or(0, |last| last as usize / 64 + 1)];
        for person in persons {
            words[person as usize / 64] |= 1 << (person % 64);
        }
        PersonBitset::Dense(words)
    }

    #[inline]
    pub fn contains(&self, person: u32) -> bool {
        match self {
            PersonBitset::Dense(words) => {
                let word = words.get(person as usize / 64).copied().unwrap_or(0);
                word & (1 << (person % 64)) != 0
            }
            PersonBitset::Sparse(persons) => persons.contains(person),
        }
    }
}
