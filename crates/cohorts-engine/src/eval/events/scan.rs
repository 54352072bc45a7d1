//! A block, and which of its events belong to selectors.

use std::ops;
use std::sync::Arc;

use roaring::RoaringBitmap;

use crate::block::{EventBlock, RowMatches};
use crate::window::Range;

/// Some of the rows of a block, or of the numbers of people.
pub(super) type Rows = ops::Range<usize>;

/// An event that belongs to some of the selectors it was looked up for.
#[derive(Clone, Copy, Debug)]
pub(in crate::eval) struct Hit {
    pub person: u32,
    pub time: i64,
    marks: u8,
}

impl Hit {
    /// Whether the event belongs to the selector of that index.
    pub fn is(&self, selector: usize) -> bool {
        self.marks & (1 << selector) != 0
    }
}

/// A block of which some events may be hits.
pub(super) struct BlockScan<'a> {
    pub block: &'a Arc<EventBlock>,
    /// By selector.
    pub marks: Vec<Selection<'a>>,
    pub range: Range,
}

/// Which events of a block belong to a selector.
pub(super) enum Selection<'a> {
    All,
    /// Those that meet all tests of any of the steps.
    AnyOf(Vec<Vec<RowMatches<'a>>>),
}

/// Rows are looked at by so many at a time, column after column; by few in tests, so that these see where one part ends.
const ROWS: usize = if cfg!(test) { 4 } else { 1_024 };

impl Selection<'_> {
    /// Adds a bit to the marks of the rows that belong.
    fn add(&self, bit: u8, rows: &Rows, marks: &mut [u8; ROWS]) {
        let marks = &mut marks[..rows.len()];
        let Selection::AnyOf(steps) = self else {
            return marks.iter_mut().for_each(|mark| *mark |= bit);
        };
        for tests in steps {
            let mut holds = [true; ROWS];
            let holds = &mut holds[..rows.len()];
            for test in tests {
                test.filter(rows.clone(), holds);
            }
            for (mark, holds) in marks.iter_mut().zip(holds) {
                *mark |= bit * u8::from(*holds);
            }
        }
    }

    fn work(&self) -> u64 {
        match self {
            Selection::All => 0,
            Selection::AnyOf(steps) => steps.iter().map(|tests| 1 + tests.len() as u64).sum(),
        }
    }
}

impl BlockScan<'_> {
    /// Whether everything in the block is a hit.
    pub fn is_whole(&self) -> bool {
        self.is_inside() && matches!(self.marks.as_slice(), [Selection::All])
    }

    fn is_inside(&self) -> bool {
        let span = self.block.span();
        self.range.contains(span.first) && self.range.contains(span.last)
    }

    /// How much work it is to visit the hits, in units of `Meter`.
    pub fn work(&self) -> u64 {
        let row = 1 + self.marks.iter().map(Selection::work).sum::<u64>();
        row * self.block.rows() as u64 / 4
    }

    /// The rows of some people.
    pub fn rows_of(&self, people: &Rows) -> Rows {
        let before = |end: usize| self.block.rows_before(end);
        before(people.start)..before(people.end)
    }

    /// Visits the hits of some rows that are somebody's who is wanted, sorted by person and time.
    pub fn hits(&self, rows: Rows, wanted: impl Fn(u32) -> bool, mut visit: impl FnMut(Hit)) {
        let inside = self.is_inside();
        for start in rows.clone().step_by(ROWS) {
            let some = start..rows.end.min(start + ROWS);
            let mut marks = [0; ROWS];
            for (index, selector) in self.marks.iter().enumerate() {
                selector.add(1 << index, &some, &mut marks);
            }
            // First which, and without a branch, since nobody could guess it.
            let (mut kept, mut count) = ([0_u16; ROWS], 0);
            let ordinals = &self.block.ordinals()[some];
            for (nth, (person, marks)) in ordinals.iter().zip(&marks).enumerate() {
                kept[count] = nth as u16;
                count += usize::from((*marks != 0) & wanted(*person));
            }
            for nth in &kept[..count] {
                let nth = usize::from(*nth);
                let ((person, time), marks) = (self.block.row(start + nth), marks[nth]);
                if inside || self.range.contains(time) {
                    visit(Hit {
                        person,
                        time,
                        marks,
                    });
                }
            }
        }
    }
}

/// Of so many people one has a hit at least where these are sorted by counting.
const SPARSE: usize = 16;

/// Hits by their people, whose numbers are not below the first.
pub(super) fn by_person(mut hits: Vec<Hit>, first: usize) -> Vec<Hit> {
    let of = |hit: &Hit| hit.person as usize - first;
    let people = hits.iter().map(of).max().map_or(0, |last| last + 1);
    if hits.len() < people / SPARSE {
        hits.sort_unstable_by_key(|hit| hit.person);
        return hits;
    }
    let mut places = vec![0_u32; people];
    hits.iter().for_each(|hit| places[of(hit)] += 1);
    let mut next = 0;
    for place in &mut places {
        next += std::mem::replace(place, next);
    }
    let nobody = Hit {
        person: 0,
        time: 0,
        marks: 0,
    };
    let mut sorted = vec![nobody; hits.len()];
    for hit in &hits {
        let place = &mut places[of(hit)];
        sorted[*place as usize] = *hit;
        *place += 1;
    }
    sorted
}

/// A set of people that is asked about very often: a bit for each number.
pub(super) struct PersonBitset(Vec<u64>);

impl PersonBitset {
    pub fn new(people: &RoaringBitmap) -> PersonBitset {
        let mut bits = vec![0; people.max().map_or(0, |last| last as usize / 64 + 1)];
        for person in people {
            bits[person as usize / 64] |= 1 << (person % 64);
        }
        PersonBitset(bits)
    }

    pub fn contains(&self, person: u32) -> bool {
        let bits = self.0.get(person as usize / 64).copied().unwrap_or(0);
        bits & (1 << (person % 64)) != 0
    }
}
