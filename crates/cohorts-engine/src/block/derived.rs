//! Orders of a block by time or by date, which are made on first use.
//!
//! Blocks are immutable, so an order is made once. Most blocks never need one.

use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, OnceLock};

use jiff::tz::TimeZone;

use super::TimeSpan;

/// A value that follows from the rows of a block. Clones of the block share it.
pub(super) struct Derived<T>(Arc<OnceLock<T>>);

impl<T> Derived<T> {
    pub fn get_or_make<E>(&self, make: impl FnOnce() -> Result<T, E>) -> Result<&T, E> {
        if let Some(value) = self.0.get() {
            return Ok(value);
        }
        let value = make()?;
        Ok(self.0.get_or_init(|| value))
    }

    /// The value, if it was made.
    pub fn get(&self) -> Option<&T> {
        self.0.get()
    }
}

impl Derived<DateOrder> {
    /// The dates for a time zone, by `make`; kept for the first time zone.
    pub fn for_zone<E>(
        &self,
        time_zone: &TimeZone,
        make: impl Fn() -> Result<DateOrder, E>,
    ) -> Result<Cow<'_, DateOrder>, E> {
        let dates = self.get_or_make(&make)?;
        Ok(if dates.time_zone == *time_zone {
            Cow::Borrowed(dates)
        } else {
            Cow::Owned(make()?)
        })
    }
}

impl<T> Default for Derived<T> {
    fn default() -> Self {
        Derived(Arc::default())
    }
}

impl<T> Clone for Derived<T> {
    fn clone(&self) -> Self {
        Derived(Arc::clone(&self.0))
    }
}

/// The rows decide alone whether blocks are equal.
impl<T> PartialEq for Derived<T> {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl<T> fmt::Debug for Derived<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.get().is_some() {
            "made"
        } else {
            "not made"
        })
    }
}

/// Values by the instant that they mean as dates. Values that are no dates are left out.
#[derive(Clone)]
pub(super) struct DateOrder {
    /// Dates without an offset are local to it.
    time_zone: TimeZone,
    /// Instants, each with what has the date: an index of the dictionary, or an ordinal.
    entries: Vec<(i64, u32)>,
}

impl DateOrder {
    pub fn new(time_zone: &TimeZone, mut entries: Vec<(i64, u32)>) -> DateOrder {
        entries.sort_unstable();
        DateOrder {
            time_zone: time_zone.clone(),
            entries,
        }
    }

    /// Replaces indexes of a dictionary of `values` values by the ordinals that have the values.
    pub fn by_ordinal(self, values: usize, pairs: &[(u32, u32)]) -> DateOrder {
        let mut instants = vec![None; values];
        for (instant, index) in self.entries {
            instants[index as usize] = Some(instant);
        }
        let dated = pairs.iter().filter_map(|(ordinal, index)| {
            let instant = instants[*index as usize]?;
            Some((instant, *ordinal))
        });
        DateOrder::new(&self.time_zone, dated.collect())
    }

    /// The entries with an instant in `span`.
    pub fn within(&self, span: TimeSpan) -> impl Iterator<Item = u32> {
        let start = self.entries.partition_point(|entry| entry.0 < span.first);
        let entries = self.entries[start..].iter();
        entries
            .take_while(move |entry| entry.0 <= span.last)
            .map(|entry| entry.1)
    }

    /// The first instant from `instant` on.
    pub fn first_from(&self, instant: i64) -> Option<i64> {
        let start = self.entries.partition_point(|entry| entry.0 < instant);
        self.entries.get(start).map(|entry| entry.0)
    }

    pub fn bytes(&self) -> usize {
        size_of_val(self.entries.as_slice())
    }
}

/// The number of items at the start of `sorted` for which `is_before` holds. Few steps if there are few.
pub(super) fn seek<T>(sorted: &[T], is_before: impl Fn(&T) -> bool) -> usize {
    let mut end = 1;
    while end < sorted.len() && is_before(&sorted[end]) {
        end *= 2;
    }
    let window = &sorted[end / 2..sorted.len().min(end + 1)];
    end / 2 + window.partition_point(is_before)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeking_finds_the_first_item_that_is_not_before() {
        for length in 0..40_u32 {
            let sorted: Vec<u32> = (0..length).map(|nth| nth * 2).collect();
            for bound in 0..=2 * length + 1 {
                let expected = sorted.iter().filter(|item| **item < bound).count();
                assert_eq!(seek(&sorted, |item| *item < bound), expected);
            }
        }
    }
}
