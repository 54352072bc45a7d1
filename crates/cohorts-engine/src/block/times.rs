//! Instants: one per person, or one per event.

use rayon::prelude::*;
use roaring::RoaringBitmap;

use super::bitmap::{from_sorted, from_sorted_iter};
use super::derived::{Derived, seek};
use crate::interrupt::{Interrupt, Meter};
use crate::predicate::Predicate;

/// One instant per person, such as the time of creation.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TimesBlock {
    /// Ordinals and microseconds, sorted by ordinal.
    rows: Vec<(u32, i64)>,
    /// The rows by time.
    by_time: Derived<Vec<(i64, u32)>>,
}

/// If fewer than one in this number of rows belongs to a set of persons, each of them is looked up.
pub(super) const SPARSE: usize = 32;

impl TimesBlock {
    /// Creates a block from ordinals and instants, in any order. The instants are microseconds
    /// since the Unix epoch. If an ordinal repeats, the earliest instant counts.
    pub fn new(rows: impl IntoIterator<Item = (u32, i64)>) -> TimesBlock {
        let mut rows: Vec<(u32, i64)> = rows.into_iter().collect();
        rows.sort_unstable();
        rows.dedup_by_key(|(ordinal, _)| *ordinal);
        TimesBlock {
            rows,
            by_time: Derived::default(),
        }
    }

    /// Returns the block with the instants of `persons` replaced by `rows`. A person of
    /// `persons` without a row has no instant afterwards.
    pub fn with_changes(
        &self,
        persons: &RoaringBitmap,
        rows: impl IntoIterator<Item = (u32, i64)>,
    ) -> TimesBlock {
        let unchanged = self
            .rows
            .iter()
            .filter(|(ordinal, _)| !persons.contains(*ordinal));
        TimesBlock::new(unchanged.copied().chain(rows))
    }

    /// The memory that the rows take, in bytes.
    pub fn bytes(&self) -> usize {
        let by_time = self.by_time.get().map_or(0, |rows| size_of_val(&rows[..]));
        size_of_val(self.rows.as_slice()) + by_time
    }

    fn by_time<I: Interrupt>(&self, meter: &Meter<I>) -> Result<&[(i64, u32)], I::Error> {
        let rows = self.by_time.get_or_make(|| {
            meter.spend(self.rows.len() as u64)?;
            let rows = self.rows.iter().map(|(ordinal, time)| (*time, *ordinal));
            let mut rows = Vec::from_iter(rows);
            rows.par_sort_unstable();
            Ok(rows)
        })?;
        Ok(rows)
    }

    /// The persons with an instant in `span`. The first call sorts the rows.
    pub(crate) fn persons_between<I: Interrupt>(
        &self,
        span: TimeSpan,
        meter: &Meter<I>,
    ) -> Result<RoaringBitmap, I::Error> {
        let rows = self.by_time(meter)?;
        let rows = &rows[rows.partition_point(|row| row.0 < span.first)..];
        let rows = &rows[..seek(rows, |row| row.0 <= span.last)];
        meter.spend(1 + rows.len() as u64)?;
        Ok(rows.iter().map(|row| row.1).collect())
    }

    /// The first instant from `instant` on. The first call sorts the rows.
    pub(crate) fn first_from<I: Interrupt>(
        &self,
        instant: i64,
        meter: &Meter<I>,
    ) -> Result<Option<i64>, I::Error> {
        let rows = self.by_time(meter)?;
        let first = rows.get(rows.partition_point(|row| row.0 < instant));
        Ok(first.map(|row| row.0))
    }

    /// The rows of `persons`.
    fn rows_of(&self, persons: &RoaringBitmap) -> Vec<(u32, i64)> {
        let (mut rows, mut start) = (Vec::new(), 0);
        for person in persons {
            start += seek(&self.rows[start..], |row| row.0 < person);
            rows.extend(self.rows.get(start).filter(|row| row.0 == person));
        }
        rows
    }

    /// The persons of `universe` that match `predicate`.
    pub(crate) fn matching<I: Interrupt>(
        &self,
        predicate: &Predicate,
        universe: &RoaringBitmap,
        meter: &Meter<I>,
    ) -> Result<RoaringBitmap, I::Error> {
        let work = predicate.work_of_instant();
        let sparse;
        let rows = if (universe.len() as usize) < self.rows.len() / SPARSE {
            sparse = self.rows_of(universe);
            &sparse
        } else {
            &self.rows
        };
        let mut ordinals = Vec::new();
        for (ordinal, time) in rows {
            meter.spend(work)?;
            if predicate.matches_instant(*time) {
                ordinals.push(*ordinal);
            }
        }
        let mut matches = from_sorted(&ordinals) & universe;
        if predicate.matches_missing() {
            let present = from_sorted_iter(rows.iter().map(|(ordinal, _)| *ordinal));
            matches |= universe - present;
        }
        Ok(matches)
    }
}

/// A closed range of instants, such as the first and the last one of some events, in microseconds
/// since the Unix epoch.
///
/// Without events, `first` is greater than `last`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimeSpan {
    /// The first instant, inclusive.
    pub first: i64,
    /// The last instant, inclusive.
    pub last: i64,
}

impl TimeSpan {
    pub(super) const EMPTY: TimeSpan = TimeSpan {
        first: i64::MAX,
        last: i64::MIN,
    };

    /// Whether an instant is in both spans.
    pub(crate) fn overlaps(self, other: TimeSpan) -> bool {
        self.first <= other.last && other.first <= self.last
    }

    /// Whether all instants of `other` are in this span.
    pub(crate) fn contains(self, other: TimeSpan) -> bool {
        self.first <= other.first && other.last <= self.last
    }

    pub(super) fn union(self, other: TimeSpan) -> TimeSpan {
        TimeSpan {
            first: self.first.min(other.first),
            last: self.last.max(other.last),
        }
    }
}

impl Default for TimeSpan {
    fn default() -> TimeSpan {
        TimeSpan::EMPTY
    }
}

/// One instant per event, in microseconds. Instants that are whole milliseconds within about
/// seven weeks take four bytes instead of eight.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Times {
    Millis { base: i64, offsets: Vec<u32> },
    Micros(Vec<i64>),
}

impl Default for Times {
    fn default() -> Times {
        Times::Micros(Vec::new())
    }
}

impl Times {
    pub fn new(times: Vec<i64>) -> Times {
        let base = times.iter().copied().min().unwrap_or_default();
        let offset = |time: &i64| {
            let micros = time.checked_sub(base)?;
            (micros % 1_000 == 0).then_some(())?;
            u32::try_from(micros / 1_000).ok()
        };
        match times.iter().map(offset).collect() {
            Some(offsets) => Times::Millis { base, offsets },
            None => Times::Micros(times),
        }
    }

    #[inline]
    pub fn at(&self, row: usize) -> i64 {
        match self {
            Times::Millis { base, offsets } => base + i64::from(offsets[row]) * 1_000,
            Times::Micros(times) => times[row],
        }
    }

    pub fn len(&self) -> usize {
        match self {
            Times::Millis { offsets, .. } => offsets.len(),
            Times::Micros(times) => times.len(),
        }
    }

    pub fn span(&self) -> TimeSpan {
        let (first, last) = match self {
            Times::Millis { base, offsets } => {
                let at = |offset: &u32| base + i64::from(*offset) * 1_000;
                (offsets.iter().min().map(at), offsets.iter().max().map(at))
            }
            Times::Micros(times) => (times.iter().min().copied(), times.iter().max().copied()),
        };
        TimeSpan {
            first: first.unwrap_or(TimeSpan::EMPTY.first),
            last: last.unwrap_or(TimeSpan::EMPTY.last),
        }
    }

    /// The memory that the instants take, in bytes.
    pub fn bytes(&self) -> usize {
        match self {
            Times::Millis { offsets, .. } => offsets.len() * size_of::<u32>(),
            Times::Micros(times) => times.len() * size_of::<i64>(),
        }
    }
}
