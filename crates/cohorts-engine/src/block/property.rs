//! One property of persons.

use std::borrow::Cow;

use jiff::tz::TimeZone;
use roaring::{MultiOps, RoaringBitmap};
use serde_json::Value;

use super::bitmap::{from_sorted, from_sorted_iter, intersection, select};
use super::codes::code_of;
use super::column::{Column, ColumnBuilder};
use super::derived::{DateOrder, Derived, seek};
use super::dictionary::Dictionary;
use super::times::{SPARSE, TimeSpan};
use crate::interrupt::{Interrupt, Meter};
use crate::predicate::Predicate;

/// The values of one person property. A person may have several values.
///
/// A block is immutable. [`PropertyBlock::with_changes`] adds a layer with the new values of some
/// persons, and [`PropertyBlock::flattened`] merges the layers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PropertyBlock {
    dictionary: Dictionary,
    postings: Postings,
    /// The persons with a value, without those of the layer.
    present: RoaringBitmap,
    layer: Option<Box<Layer>>,
    /// The dates of this block without the layer: indexes of the dictionary if there is a bitmap
    /// per value, or else ordinals.
    by_date: Derived<DateOrder>,
}

/// The values of some persons, in a block of their own.
#[derive(Clone, Debug, PartialEq)]
struct Layer {
    persons: RoaringBitmap,
    block: PropertyBlock,
}

/// The persons with each value of a dictionary.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Postings {
    /// A bitmap of persons per value, if the dictionary is small.
    Bitmaps(Vec<RoaringBitmap>),
    /// Pairs of an ordinal and an index of the dictionary, sorted by ordinal.
    Pairs(Vec<(u32, u32)>),
}

impl Default for Postings {
    fn default() -> Postings {
        Postings::Pairs(Vec::new())
    }
}

/// The largest dictionary with a bitmap per value.
const MAX_BITMAPS: usize = 256;

impl Postings {
    fn new(values: usize, mut pairs: Vec<(u32, u32)>) -> Postings {
        if !pairs.is_sorted() {
            pairs.sort_unstable();
        }
        if values > MAX_BITMAPS {
            return Postings::Pairs(pairs);
        }
        let mut bitmaps = vec![RoaringBitmap::new(); values];
        for (ordinal, index) in pairs {
            bitmaps[index as usize].insert(ordinal);
        }
        Postings::Bitmaps(bitmaps)
    }

    fn persons(&self) -> RoaringBitmap {
        match self {
            Postings::Bitmaps(bitmaps) => bitmaps.union(),
            Postings::Pairs(pairs) => {
                let ordinals: Vec<u32> = pairs.iter().map(|(ordinal, _)| *ordinal).collect();
                from_sorted(&ordinals)
            }
        }
    }

    /// The persons with a value that matches, given the matches by index.
    fn persons_with(&self, matches: &[bool]) -> RoaringBitmap {
        match self {
            Postings::Bitmaps(bitmaps) => {
                let bitmaps = bitmaps.iter().zip(matches);
                bitmaps
                    .filter(|(_, matches)| **matches)
                    .map(|(bitmap, _)| bitmap)
                    .union()
            }
            Postings::Pairs(pairs) => {
                let pairs = pairs.iter();
                from_sorted(&select(
                    pairs.map(|(ordinal, index)| (*ordinal, matches[*index as usize])),
                ))
            }
        }
    }

    fn pairs(&self) -> Vec<(u32, u32)> {
        match self {
            Postings::Pairs(pairs) => pairs.clone(),
            Postings::Bitmaps(bitmaps) => (0..)
                .zip(bitmaps)
                .flat_map(|(index, bitmap)| bitmap.iter().map(move |ordinal| (ordinal, index)))
                .collect(),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Postings::Bitmaps(bitmaps) => bitmaps.iter().map(RoaringBitmap::serialized_size).sum(),
            Postings::Pairs(pairs) => size_of_val(pairs.as_slice()),
        }
    }
}

impl PropertyBlock {
    pub(super) fn new(dictionary: Dictionary, postings: Postings) -> PropertyBlock {
        PropertyBlock {
            present: postings.persons(),
            dictionary,
            postings,
            layer: None,
            by_date: Derived::default(),
        }
    }

    /// From pairs of an ordinal and an index of the dictionary, in any order.
    fn from_pairs(dictionary: Dictionary, pairs: Vec<(u32, u32)>) -> PropertyBlock {
        let postings = Postings::new(dictionary.len(), pairs);
        PropertyBlock::new(dictionary, postings)
    }

    /// The values of this block, without the layer.
    pub(super) fn dictionary(&self) -> &Dictionary {
        &self.dictionary
    }

    /// The postings of this block, without the layer.
    pub(super) fn postings(&self) -> &Postings {
        &self.postings
    }

    /// Returns the block with all layers merged. Values without a person are removed.
    pub fn flattened(&self) -> PropertyBlock {
        let Some(layer) = &self.layer else {
            return self.clone();
        };
        let changes = layer.block.flattened();
        let mut dictionary = self.dictionary.clone();
        let indexes = dictionary.merge_dictionary(&changes.dictionary);
        let unchanged = self.postings.pairs().into_iter();
        let unchanged = unchanged.filter(|(ordinal, _)| !layer.persons.contains(*ordinal));
        let changed = changes.postings.pairs().into_iter();
        let changed = changed.map(|(ordinal, index)| (ordinal, indexes[index as usize]));
        let (ordinals, indexes): (Vec<u32>, Vec<u32>) = unchanged.chain(changed).unzip();
        let column = Column::new(dictionary, indexes.into_iter().map(code_of)).compact();
        PropertyBlock::from_column(&ordinals, column)
    }

    /// From a column without missing values, and the person of each row.
    fn from_column(ordinals: &[u32], column: Column) -> PropertyBlock {
        let indexes = column.codes.iter().map(|code| code - 1);
        let pairs = ordinals.iter().copied().zip(indexes).collect();
        PropertyBlock::from_pairs(column.dictionary, pairs)
    }

    /// Returns the block with the values of `persons` replaced by those in `changes`. A person
    /// of `persons` that is missing in `changes` has no value afterwards. `changes` must contain
    /// only persons of `persons`.
    pub fn with_changes(&self, persons: &RoaringBitmap, changes: PropertyBlock) -> PropertyBlock {
        let mut block = self.clone();
        block.layer = Some(Box::new(match block.layer.take() {
            None => Layer {
                persons: persons.clone(),
                block: changes,
            },
            Some(layer) => Layer {
                persons: layer.persons | persons,
                block: layer.block.with_changes(persons, changes),
            },
        }));
        block
    }

    /// The number of layers. Each layer makes reads slower.
    pub fn layers(&self) -> usize {
        self.layer
            .as_ref()
            .map_or(0, |layer| 1 + layer.block.layers())
    }

    /// The persons of `universe` that match `predicate` with any of their values, or without a
    /// value if missing values match.
    pub(crate) fn matching<I: Interrupt>(
        &self,
        predicate: &Predicate,
        universe: &RoaringBitmap,
        meter: &Meter<I>,
    ) -> Result<RoaringBitmap, I::Error> {
        let mut matches = if self.is_sparse(universe) {
            self.sparse_matching(predicate, universe, meter)?
        } else {
            let by_index = self.dictionary.evaluate(predicate, meter)?;
            self.postings.persons_with(&by_index) & universe
        };
        if predicate.matches_missing() {
            matches |= universe - &self.present;
        }
        if let Some(layer) = &self.layer {
            matches -= &layer.persons;
            let universe = universe & &layer.persons;
            matches |= layer.block.matching(predicate, &universe, meter)?;
        }
        Ok(matches)
    }

    /// Whether few of the persons with a value are in `universe`.
    fn is_sparse(&self, universe: &RoaringBitmap) -> bool {
        universe.len() < self.present.len() / SPARSE as u64
    }

    /// As [`PropertyBlock::matching`] without the layer, for few persons: tests their values only.
    fn sparse_matching<I: Interrupt>(
        &self,
        predicate: &Predicate,
        universe: &RoaringBitmap,
        meter: &Meter<I>,
    ) -> Result<RoaringBitmap, I::Error> {
        let pairs = match &self.postings {
            Postings::Bitmaps(bitmaps) => {
                let by_index = self.dictionary.evaluate(predicate, meter)?;
                let bitmaps = bitmaps.iter().zip(by_index);
                let matching = bitmaps.filter(|(_, matches)| *matches);
                return Ok(matching
                    .map(|(bitmap, _)| intersection(bitmap, universe))
                    .union());
            }
            Postings::Pairs(pairs) => pairs_of(pairs, universe),
        };
        let mut indexes: Vec<u32> = pairs.iter().map(|(_, index)| *index).collect();
        indexes.sort_unstable();
        indexes.dedup();
        let matches = self.dictionary.taken(&indexes).evaluate(predicate, meter)?;
        let is_match = |index: &u32| indexes.binary_search(index).is_ok_and(|nth| matches[nth]);
        let pairs = pairs.iter().filter(|(_, index)| is_match(index));
        Ok(from_sorted_iter(pairs.map(|(ordinal, _)| *ordinal)))
    }

    /// The persons with a date in `span`. Dates without an offset are local to `time_zone`. The
    /// first call sorts the dates.
    pub(crate) fn persons_with_dates<I: Interrupt>(
        &self,
        span: TimeSpan,
        time_zone: &TimeZone,
        meter: &Meter<I>,
    ) -> Result<RoaringBitmap, I::Error> {
        let dates = self.dates(time_zone, meter)?;
        let found = dates.within(span);
        let mut persons: RoaringBitmap = match &self.postings {
            Postings::Bitmaps(bitmaps) => found.map(|index| &bitmaps[index as usize]).union(),
            Postings::Pairs(_) => found.collect(),
        };
        if let Some(layer) = &self.layer {
            persons -= &layer.persons;
            persons |= layer.block.persons_with_dates(span, time_zone, meter)?;
        }
        Ok(persons)
    }

    /// The first date from `instant` on. The date may belong to a person with a newer value.
    pub(crate) fn first_date_from<I: Interrupt>(
        &self,
        instant: i64,
        time_zone: &TimeZone,
        meter: &Meter<I>,
    ) -> Result<Option<i64>, I::Error> {
        let first = self.dates(time_zone, meter)?.first_from(instant);
        let later = match &self.layer {
            Some(layer) => layer.block.first_date_from(instant, time_zone, meter)?,
            None => None,
        };
        Ok(first.into_iter().chain(later).min())
    }

    /// The dates of this block; kept for the first time zone.
    fn dates<I: Interrupt>(
        &self,
        time_zone: &TimeZone,
        meter: &Meter<I>,
    ) -> Result<Cow<'_, DateOrder>, I::Error> {
        let make = || {
            let dates = self.dictionary.dates(time_zone, meter)?;
            Ok(match &self.postings {
                Postings::Bitmaps(_) => dates,
                Postings::Pairs(pairs) => dates.by_ordinal(self.dictionary.len(), pairs),
            })
        };
        let dates = self.by_date.get_or_make(make)?;
        Ok(if dates.is_for(time_zone) {
            Cow::Borrowed(dates)
        } else {
            Cow::Owned(make()?)
        })
    }

    /// The number of persons with a value, without those of the layers.
    pub fn person_count(&self) -> usize {
        self.present.len() as usize
    }

    /// The memory that the block and its layers take, in bytes, approximately.
    pub fn bytes(&self) -> usize {
        let layer = self.layer.as_ref().map_or(0, |layer| {
            layer.persons.serialized_size() + layer.block.bytes()
        });
        let values = self.dictionary.bytes() + self.postings.bytes();
        let by_date = self.by_date.get().map_or(0, DateOrder::bytes);
        values + self.present.serialized_size() + layer + by_date
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

/// Collects the values of a property.
///
/// # Examples
///
/// ```
/// use cohorts_engine::PropertyBlockBuilder;
/// use serde_json::json;
///
/// let mut builder = PropertyBlockBuilder::new();
/// builder.push(7, &json!("pro"));
/// builder.push_raw(3, r#""free""#);
/// assert_eq!(builder.finish().person_count(), 2);
/// ```
#[derive(Debug, Default)]
pub struct PropertyBlockBuilder {
    ordinals: Vec<u32>,
    column: ColumnBuilder,
}

impl PropertyBlockBuilder {
    /// Creates a builder without rows.
    pub fn new() -> PropertyBlockBuilder {
        PropertyBlockBuilder::default()
    }

    /// Adds a value of the person `ordinal`. Rows may come in any order. JSON null adds nothing.
    pub fn push(&mut self, ordinal: u32, value: &Value) {
        if !value.is_null() {
            self.ordinals.push(ordinal);
            self.column.push(Some(value));
        }
    }

    /// Adds a value of the person `ordinal` as JSON text. JSON null, and text that is not JSON,
    /// add nothing.
    pub fn push_raw(&mut self, ordinal: u32, json: &str) {
        if self.column.push_raw(Some(json)) {
            self.ordinals.push(ordinal);
        } else {
            self.column.pop();
        }
    }

    /// The memory that the builder takes, in bytes, approximately.
    pub fn bytes(&self) -> usize {
        size_of_val(self.ordinals.as_slice()) + self.column.bytes()
    }

    /// Returns the block of all rows.
    pub fn finish(self) -> PropertyBlock {
        PropertyBlock::from_column(&self.ordinals, self.column.finish())
    }
}
