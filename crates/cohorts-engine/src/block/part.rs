//! The values of one property of the persons of one part.
//!
//! Blocks share parts, so the order of the dates of a part is made once for all of them.

use std::borrow::Cow;
use std::collections::HashSet;
use std::ops::RangeInclusive;
use std::sync::Arc;

use jiff::tz::TimeZone;
use roaring::{MultiOps, RoaringBitmap};

use super::bitmap::{from_sorted_iter, intersection};
use super::codes::code_of;
use super::column::Column;
use super::derived::{DateOrder, Derived, seek};
use super::dictionary::Dictionary;
use super::postings::Postings;
use super::times::{SPARSE, TimeSpan};
use super::value_counts::MAX_LISTED_VALUES;
use crate::interrupt::{Interrupt, Meter};
use crate::lift::{GroupCounts, Groups};
use crate::predicate::Predicate;
use crate::value::{Stored, text};

/// The persons of a bitmap that are counted with one unit of work of [`Meter`].
const PERSONS_PER_WORK: u64 = 64;
/// The work of one pair of an ordinal and a value, and of one value, that is counted.
const WORK_OF_PAIR: u64 = 4;
const WORK_OF_VALUE: u64 = 20;
/// The work to decide whether a value is counted.
const WORK_OF_CHECK: u64 = 4;
/// The pairs that [`PartValues::shows_more`] looks at.
const FIRST_PAIRS: usize = 4 * MAX_LISTED_VALUES;

/// Some values of a dictionary. Often they are few among many, so only they have counts.
struct Wanted {
    /// Their indexes in the dictionary, sorted.
    indexes: Vec<u32>,
    /// For each value of the dictionary its position in `indexes`, or [`Wanted::NONE`].
    positions: Vec<u32>,
}

impl Wanted {
    const NONE: u32 = u32::MAX;

    fn of_none(values: usize) -> Wanted {
        Wanted {
            indexes: Vec::new(),
            positions: vec![Wanted::NONE; values],
        }
    }

    fn add(&mut self, index: u32) {
        self.positions[index as usize] = self.indexes.len() as u32;
        self.indexes.push(index);
    }

    fn position(&self, index: u32) -> Option<usize> {
        let position = self.positions[index as usize];
        (position != Wanted::NONE).then_some(position as usize)
    }
}

/// The values of the persons of one part.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct PartValues {
    dictionary: Dictionary,
    postings: Postings,
    /// The persons with a value.
    present: RoaringBitmap,
    /// The dates: indexes of the dictionary if there is a bitmap per value, or else ordinals.
    by_date: Derived<DateOrder>,
}

impl PartValues {
    pub fn new(dictionary: Dictionary, postings: Postings) -> PartValues {
        PartValues {
            present: postings.persons(),
            dictionary,
            postings,
            by_date: Derived::default(),
        }
    }

    pub fn dictionary(&self) -> &Dictionary {
        &self.dictionary
    }

    pub fn postings(&self) -> &Postings {
        &self.postings
    }

    /// The persons with a value.
    pub fn present(&self) -> &RoaringBitmap {
        &self.present
    }

    /// From a column without missing values, and the person of each row, in any order.
    pub fn from_column(ordinals: &[u32], column: Column) -> PartValues {
        let indexes = column.codes.iter().map(|code| code - 1);
        let pairs = ordinals.iter().copied().zip(indexes).collect();
        let postings = Postings::new(column.dictionary.len(), pairs);
        PartValues::new(column.dictionary, postings)
    }

    /// From pairs of an ordinal and an index of the dictionary. Values without a person are removed.
    fn from_pairs(dictionary: Dictionary, pairs: impl Iterator<Item = (u32, u32)>) -> PartValues {
        let (ordinals, indexes): (Vec<u32>, Vec<u32>) = pairs.unzip();
        let column = Column::new(dictionary, indexes.into_iter().map(code_of)).compact();
        PartValues::from_column(&ordinals, column)
    }

    /// The values of the persons of a range.
    pub fn within(self: &Arc<Self>, ordinals: &RangeInclusive<u32>) -> Arc<PartValues> {
        let is_inside =
            |ordinal: Option<u32>| ordinal.is_none_or(|ordinal| ordinals.contains(&ordinal));
        if is_inside(self.present.min()) && is_inside(self.present.max()) {
            return Arc::clone(self);
        }
        let pairs = self.postings.pairs_within(ordinals);
        Arc::new(PartValues::from_pairs(
            self.dictionary.clone(),
            pairs.into_iter(),
        ))
    }

    /// These values, with those of `persons` replaced by `changes`.
    pub fn with_changes(&self, persons: &RoaringBitmap, changes: &PartValues) -> PartValues {
        let mut dictionary = self.dictionary.clone();
        let indexes = dictionary.merge_dictionary(&changes.dictionary);
        let unchanged = self.postings.pairs().into_iter();
        let unchanged = unchanged.filter(|(ordinal, _)| !persons.contains(*ordinal));
        let changed = changes.postings.pairs().into_iter();
        let changed = changed.map(|(ordinal, index)| (ordinal, indexes[index as usize]));
        PartValues::from_pairs(dictionary, unchanged.chain(changed))
    }

    /// The persons of `universe` within `ordinals` that match `predicate` with any of their values.
    /// If they are few, only their values are tested.
    pub fn matching<I: Interrupt>(
        &self,
        predicate: &Predicate,
        universe: &RoaringBitmap,
        ordinals: &RangeInclusive<u32>,
        meter: &Meter<I>,
    ) -> Result<RoaringBitmap, I::Error> {
        if universe.range_cardinality(ordinals.clone()) < self.present.len() / SPARSE as u64 {
            let persons = from_sorted_iter(universe.range(ordinals.clone()));
            return self.sparse_matching(predicate, &persons, meter);
        }
        let by_index = self.dictionary.evaluate(predicate, meter)?;
        Ok(self.postings.persons_with(&by_index) & universe)
    }

    fn sparse_matching<I: Interrupt>(
        &self,
        predicate: &Predicate,
        persons: &RoaringBitmap,
        meter: &Meter<I>,
    ) -> Result<RoaringBitmap, I::Error> {
        let pairs = match &self.postings {
            Postings::Bitmaps(bitmaps) => {
                let by_index = self.dictionary.evaluate(predicate, meter)?;
                let bitmaps = bitmaps.iter().zip(by_index);
                let matching = bitmaps.filter(|(_, matches)| *matches);
                return Ok(matching
                    .map(|(bitmap, _)| intersection(bitmap, persons))
                    .union());
            }
            Postings::Pairs(pairs) => pairs_of(pairs, persons),
        };
        let mut indexes: Vec<u32> = pairs.iter().map(|(_, index)| *index).collect();
        indexes.sort_unstable();
        indexes.dedup();
        let matches = self.dictionary.taken(&indexes).evaluate(predicate, meter)?;
        let is_match = |index: &u32| indexes.binary_search(index).is_ok_and(|nth| matches[nth]);
        let pairs = pairs.iter().filter(|(_, index)| is_match(index));
        Ok(from_sorted_iter(pairs.map(|(ordinal, _)| *ordinal)))
    }

    /// Calls `each` with each value that `is_wanted` and that a person of the groups has, and the number of these persons.
    pub fn count_groups<I: Interrupt>(
        &self,
        groups: &Groups,
        is_wanted: &impl Fn(Stored<'_>) -> bool,
        meter: &Meter<I>,
        each: &mut impl FnMut(Stored<'_>, GroupCounts),
    ) -> Result<(), I::Error> {
        let mut wanted = Wanted::of_none(self.dictionary.len());
        for (value, index) in self.dictionary.iter().zip(0..) {
            meter.spend(WORK_OF_CHECK)?;
            if is_wanted(value) {
                wanted.add(index);
            }
        }
        let mut counts = vec![GroupCounts::default(); wanted.indexes.len()];
        match &self.postings {
            Postings::Bitmaps(bitmaps) => {
                for (counts, index) in counts.iter_mut().zip(&wanted.indexes) {
                    let persons = &bitmaps[*index as usize];
                    meter.spend(persons.len() / PERSONS_PER_WORK)?;
                    *counts = groups.count(persons);
                }
            }
            Postings::Pairs(pairs) => {
                // To skip a pair takes one unit.
                meter.spend(pairs.len() as u64)?;
                for (ordinal, index) in pairs {
                    if let Some(position) = wanted.position(*index) {
                        meter.spend(WORK_OF_PAIR)?;
                        counts[position].inside += u64::from(groups.inside.contains(*ordinal));
                        counts[position].outside += u64::from(groups.outside.contains(*ordinal));
                    }
                }
            }
        }
        for (index, counts) in wanted.indexes.into_iter().zip(counts) {
            if !counts.is_zero() {
                meter.spend(WORK_OF_VALUE)?;
                each(self.dictionary.value(index as usize), counts);
            }
        }
        Ok(())
    }

    /// Whether the first persons of the groups have more than `most` texts that are counted.
    pub fn shows_more<I: Interrupt>(
        &self,
        groups: &Groups,
        is_counted: &impl Fn(&str) -> bool,
        most: usize,
        meter: &Meter<I>,
    ) -> Result<bool, I::Error> {
        let pairs = match &self.postings {
            Postings::Pairs(pairs) if self.dictionary.len() > most => pairs,
            _ => return Ok(false),
        };
        let mut is_found = vec![false; self.dictionary.len()];
        // Texts of the dictionary are distinct. Two other values may have one text, and may have that of a text.
        let (mut texts, mut others) = (0, HashSet::new());
        let of_persons = pairs
            .iter()
            .filter(|(ordinal, _)| groups.contains(*ordinal));
        for (_, index) in of_persons.take(FIRST_PAIRS) {
            meter.spend(WORK_OF_PAIR)?;
            let index = *index as usize;
            if std::mem::replace(&mut is_found[index], true) {
                continue;
            }
            let value = self.dictionary.value(index);
            let text = text(value);
            if is_counted(&text) {
                match value {
                    Stored::Text(_) => texts += 1,
                    _ => drop(others.insert(text)),
                }
            }
            if texts.max(others.len()) > most {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The persons with a date in `span`. Dates without an offset are local to `time_zone`. The
    /// first call sorts the dates.
    pub fn persons_with_dates<I: Interrupt>(
        &self,
        span: TimeSpan,
        time_zone: &TimeZone,
        meter: &Meter<I>,
    ) -> Result<RoaringBitmap, I::Error> {
        let dates = self.dates(time_zone, meter)?;
        let found = dates.within(span);
        Ok(match &self.postings {
            Postings::Bitmaps(bitmaps) => found.map(|index| &bitmaps[index as usize]).union(),
            Postings::Pairs(_) => found.collect(),
        })
    }

    /// The first date from `instant` on.
    pub fn first_date_from<I: Interrupt>(
        &self,
        instant: i64,
        time_zone: &TimeZone,
        meter: &Meter<I>,
    ) -> Result<Option<i64>, I::Error> {
        Ok(self.dates(time_zone, meter)?.first_from(instant))
    }

    /// The dates of the part.
    fn dates<I: Interrupt>(
        &self,
        time_zone: &TimeZone,
        meter: &Meter<I>,
    ) -> Result<Cow<'_, DateOrder>, I::Error> {
        self.by_date.for_zone(time_zone, || {
            let dates = self.dictionary.dates(time_zone, meter)?;
            Ok(match &self.postings {
                Postings::Bitmaps(_) => dates,
                Postings::Pairs(pairs) => dates.by_ordinal(self.dictionary.len(), pairs),
            })
        })
    }

    /// The memory of the values, in bytes, approximately.
    pub fn bytes(&self) -> usize {
        let by_date = self.by_date.get().map_or(0, DateOrder::bytes);
        let values = self.dictionary.bytes() + self.postings.bytes();
        values + self.present.serialized_size() + by_date
    }
}

/// The pairs of `persons`.
fn pairs_of(pairs: &[(u32, u32)], persons: &RoaringBitmap) -> Vec<(u32, u32)> {
    let (mut found, mut start) = (Vec::new(), 0);
    for person in persons {
        start += seek(&pairs[start..], |pair| pair.0 < person);
        let of_person = pairs[start..].iter().take_while(|pair| pair.0 == person);
        found.extend(of_person);
    }
    found
}
