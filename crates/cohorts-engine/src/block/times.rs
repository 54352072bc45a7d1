//! Instants: one per person, or one per event.

use roaring::RoaringBitmap;

use super::bitmap::{from_sorted, from_sorted_iter};
use crate::interrupt::{Interrupt, Meter};
use crate::predicate::Predicate;

/// One instant per person, such as the time of creation.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TimesBlock {
    /// Ordinals and microseconds, sorted by ordinal.
    rows: Vec<(u32, i64)>,
}

impl TimesBlock {
    /// Creates a block from ordinals and instants, in any order. The instants are microseconds
    /// since the Unix epoch. If an ordinal repeats, the earliest instant counts.
    pub fn new(rows: impl IntoIterator<Item = (u32, i64)>) -> TimesBlock {
        let mut rows: Vec<(u32, i64)> = rows.into_iter().collect();
        rows.sort_unstable();
        rows.dedup_by_key(|(ordinal, _)| *ordinal);
        TimesBlock { rows }
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
        size_of_val(self.rows.as_slice())
    }

    /// The persons of `universe` that match `predicate`.
    pub(crate) fn matching<I: Interrupt>(
        &self,
        predicate: &Predicate,
        universe: &RoaringBitmap,
        meter: &Meter<I>,
    ) -> Result<RoaringBitmap, I::Error> {
        let work = predicate.work_of_instant();
        let mut ordinals = Vec::new();
        for (ordinal, time) in &self.rows {
            meter.spend(work)?;
            if predicate.matches_instant(*time) {
                ordinals.push(*ordinal);
            }
        }
        let mut matches = from_sorted(&ordinals) & universe;
        if predicate.matches_missing() {
            let present = from_sorted_iter(self.rows.iter().map(|(ordinal, _)| *ordinal));
            matches |= universe - present;
        }
        Ok(matches)
    }
}

/// The first and the last instant of some events, in microseconds since the Unix epoch.
///
/// Without events, `first` is greater than `last`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
