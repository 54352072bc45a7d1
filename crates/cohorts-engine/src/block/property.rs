//! One property of persons.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ops::RangeInclusive;
use std::sync::Arc;

use jiff::tz::TimeZone;
use rayon::prelude::*;
use roaring::{MultiOps, RoaringBitmap};
use serde_json::Value;

use super::column::ColumnBuilder;
use super::part::PartValues;
use super::times::TimeSpan;
use crate::interrupt::{Interrupt, Meter};
use crate::lift::{GroupCounts, Groups};
use crate::predicate::Predicate;
use crate::value::Stored;

/// The values of one person property. A person may have several values.
///
/// A block is immutable. The persons are divided into parts by their ordinals, each with values of
/// its own, which blocks share. [`PropertyBlock::with_changes`] adds a layer with the new values of
/// some persons, and [`PropertyBlock::flattened`] merges the layers.
#[derive(Clone, Debug, PartialEq)]
pub struct PropertyBlock {
    /// The number of the lowest bits of an ordinal that do not decide its part.
    part_bits: u32,
    /// Parts that have values, by their number.
    parts: BTreeMap<u32, Arc<PartValues>>,
    layer: Option<Box<Layer>>,
}

/// The bits of a block with a single part.
const ONE_PART: u32 = u32::BITS;

/// If the layers have more than one in this many of the persons, they are merged into the parts.
const PERSONS_PER_CHANGE: u64 = 8;

impl Default for PropertyBlock {
    fn default() -> PropertyBlock {
        PropertyBlock::of_parts(ONE_PART, BTreeMap::new())
    }
}

/// The values of some persons, in a block of their own.
#[derive(Clone, Debug, PartialEq)]
struct Layer {
    persons: RoaringBitmap,
    block: PropertyBlock,
}

impl PropertyBlock {
    fn of_parts(part_bits: u32, mut parts: BTreeMap<u32, Arc<PartValues>>) -> PropertyBlock {
        parts.retain(|_, values| !values.present().is_empty());
        PropertyBlock {
            part_bits,
            parts,
            layer: None,
        }
    }

    /// A block with a single part.
    pub(super) fn of_values(values: PartValues) -> PropertyBlock {
        PropertyBlock::of_parts(ONE_PART, BTreeMap::from([(0, Arc::new(values))]))
    }

    /// A block of parts with 2^`part_bits` ordinals each, from the values of each part. The persons of
    /// a block must belong to its part: see [`PropertyBlock::is_within`].
    pub fn from_parts(
        part_bits: u32,
        parts: impl IntoIterator<Item = (u32, PropertyBlock)>,
    ) -> PropertyBlock {
        let parts = parts.into_iter();
        let parts = parts.map(|(number, block)| (number, block.values()));
        PropertyBlock::of_parts(part_bits, parts.collect())
    }

    /// The values of the persons of a range, in a block with a single part.
    pub fn within(&self, ordinals: &RangeInclusive<u32>) -> PropertyBlock {
        let values = self.values_within(ordinals);
        PropertyBlock::of_parts(ONE_PART, BTreeMap::from([(0, values)]))
    }

    /// Whether all persons belong to the range.
    pub fn is_within(&self, ordinals: &RangeInclusive<u32>) -> bool {
        let layer = self.layer.as_ref();
        let is_inside = |persons: &RoaringBitmap| {
            let ends = [persons.min(), persons.max()];
            ends.into_iter()
                .flatten()
                .all(|end| ordinals.contains(&end))
        };
        self.parts
            .values()
            .all(|values| is_inside(values.present()))
            && layer.is_none_or(|layer| is_inside(&layer.persons))
    }

    /// The values of all persons, with the layers merged.
    pub(super) fn values(&self) -> Arc<PartValues> {
        self.values_within(&(0..=u32::MAX))
    }

    fn values_within(&self, ordinals: &RangeInclusive<u32>) -> Arc<PartValues> {
        let parts = self.parts.values().map(|values| values.within(ordinals));
        let mut parts = parts.filter(|values| !values.present().is_empty());
        let first = parts.next().unwrap_or_default();
        let none = RoaringBitmap::new();
        let values = parts.fold(first, |values, more| {
            Arc::new(values.with_changes(&none, &more))
        });
        match &self.layer {
            Some(layer) if layer.persons.range_cardinality(ordinals.clone()) > 0 => {
                let changes = layer.block.values_within(ordinals);
                Arc::new(values.with_changes(&layer.persons, &changes))
            }
            _ => values,
        }
    }

    /// The number of the part of an ordinal.
    fn part_of(&self, ordinal: u32) -> u32 {
        part_of(self.part_bits, ordinal)
    }

    /// The numbers of the parts with these persons, sorted.
    fn parts_of(&self, persons: &RoaringBitmap) -> Vec<u32> {
        let mut numbers = Vec::new();
        let mut next = persons.min();
        while let Some(ordinal) = next {
            numbers.push(self.part_of(ordinal));
            let last = *self.ordinals(self.part_of(ordinal)).end();
            next = last
                .checked_add(1)
                .and_then(|first| persons.range(first..).next());
        }
        numbers
    }

    /// The ordinals of a part.
    fn ordinals(&self, number: u32) -> RangeInclusive<u32> {
        let size = 1_u64 << self.part_bits;
        let first = u64::from(number) * size;
        first as u32..=(first + size - 1).min(u64::from(u32::MAX)) as u32
    }

    /// Returns the block with all layers merged. Values without a person are removed.
    pub fn flattened(&self) -> PropertyBlock {
        let Some(layer) = &self.layer else {
            return self.clone();
        };
        let changed = self.parts_of(&layer.persons).into_par_iter();
        let changed = changed.map(|number| (number, self.values_within(&self.ordinals(number))));
        let mut parts = self.parts.clone();
        parts.extend(changed.collect::<Vec<_>>());
        PropertyBlock::of_parts(self.part_bits, parts)
    }

    /// Returns the block with its layers merged into one, or into the parts if they have many persons. So the cost depends
    /// on the number of changes, whatever the size of the block.
    pub fn compacted(&self) -> PropertyBlock {
        match &self.layer {
            Some(layer)
                if layer.persons.len() < self.person_count() as u64 / PERSONS_PER_CHANGE =>
            {
                let mut block = self.clone();
                block.layer = Some(Box::new(Layer {
                    persons: layer.persons.clone(),
                    block: layer.block.flattened(),
                }));
                block
            }
            _ => self.flattened(),
        }
    }

    /// Returns the block without the values of `persons`, and with all layers merged.
    pub fn without(&self, persons: &RoaringBitmap) -> PropertyBlock {
        self.with_changes(persons, PropertyBlock::default())
            .flattened()
    }

    /// Whether one of `persons` has a value, or had one before a layer.
    pub fn has_any_of(&self, persons: &RoaringBitmap) -> bool {
        let mut parts = self.parts.values();
        let layer = self.layer.as_ref();
        parts.any(|values| !values.present().is_disjoint(persons))
            || layer.is_some_and(|layer| layer.block.has_any_of(persons))
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

    /// Whether both blocks have the same memory for a part.
    #[cfg(test)]
    pub(super) fn shares_part_with(&self, other: &PropertyBlock, number: u32) -> bool {
        Arc::ptr_eq(&self.parts[&number], &other.parts[&number])
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
        let mut matches = RoaringBitmap::new();
        let mut missing = RoaringBitmap::new();
        if predicate.matches_missing() {
            missing.clone_from(universe);
        }
        for number in self.parts_of(universe) {
            if let Some(values) = self.parts.get(&number) {
                let ordinals = self.ordinals(number);
                matches |= values.matching(predicate, universe, &ordinals, meter)?;
                missing -= values.present();
            }
        }
        matches |= missing;
        if let Some(layer) = &self.layer {
            matches -= &layer.persons;
            let universe = universe & &layer.persons;
            matches |= layer.block.matching(predicate, &universe, meter)?;
        }
        Ok(matches)
    }

    /// The persons with a date in `span`. Dates without an offset are local to `time_zone`. The
    /// first call for a part sorts its dates.
    pub(crate) fn persons_with_dates<I: Interrupt>(
        &self,
        span: TimeSpan,
        time_zone: &TimeZone,
        meter: &Meter<I>,
    ) -> Result<RoaringBitmap, I::Error> {
        let parts = self.parts.values();
        let found = parts.map(|values| values.persons_with_dates(span, time_zone, meter));
        let mut persons = found.collect::<Result<Vec<_>, _>>()?.union();
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
        let mut first = None;
        for values in self.parts.values() {
            let date = values.first_date_from(instant, time_zone, meter)?;
            first = first.into_iter().chain(date).min();
        }
        let later = match &self.layer {
            Some(layer) => layer.block.first_date_from(instant, time_zone, meter)?,
            None => None,
        };
        Ok(first.into_iter().chain(later).min())
    }

    /// Calls `each` with each value that `is_wanted`, and the number of persons of the groups that have it. A value may come
    /// several times.
    pub(crate) fn count_groups<I: Interrupt>(
        &self,
        groups: &Groups,
        is_wanted: &impl Fn(Stored<'_>) -> bool,
        meter: &Meter<I>,
        each: &mut impl FnMut(Stored<'_>, GroupCounts),
    ) -> Result<(), I::Error> {
        self.for_each_part(groups, &mut |values, groups| {
            values.count_groups(groups, is_wanted, meter, each)
        })
    }

    /// The number of persons of the groups with any value.
    pub(crate) fn count_present(&self, groups: &Groups) -> GroupCounts {
        let mut present = GroupCounts::default();
        let Ok(()) = self.for_each_part(groups, &mut |values, groups| {
            present.add(groups.count(values.present()));
            Ok::<_, Infallible>(())
        });
        present
    }

    /// Calls `visit` with each part, also of the layers, and with the groups without persons that have their values elsewhere.
    pub(super) fn for_each_part<E>(
        &self,
        groups: &Groups,
        visit: &mut impl FnMut(&PartValues, &Groups) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut parts = self.parts.values();
        let Some(layer) = &self.layer else {
            return parts.try_for_each(|values| visit(values, groups));
        };
        let unchanged = groups.map(|group| group - &layer.persons);
        parts.try_for_each(|values| visit(values, &unchanged))?;
        let changed = groups.map(|group| group & &layer.persons);
        layer.block.for_each_part(&changed, visit)
    }

    /// The number of persons with a value, without those of the layers.
    pub fn person_count(&self) -> usize {
        let counts = self.parts.values().map(|values| values.present().len());
        counts.sum::<u64>() as usize
    }

    /// The memory that the block and its layers take, in bytes, approximately.
    pub fn bytes(&self) -> usize {
        let layer = self.layer.as_ref().map_or(0, |layer| {
            layer.persons.serialized_size() + layer.block.bytes()
        });
        let parts = self.parts.values().map(|values| values.bytes());
        parts.sum::<usize>() + layer
    }
}

/// The number of the part of an ordinal, if its lowest `part_bits` bits do not decide it.
fn part_of(part_bits: u32, ordinal: u32) -> u32 {
    ordinal.checked_shr(part_bits).unwrap_or(0)
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
#[derive(Debug)]
pub struct PropertyBlockBuilder {
    part_bits: u32,
    parts: BTreeMap<u32, PartBuilder>,
}

impl Default for PropertyBlockBuilder {
    fn default() -> PropertyBlockBuilder {
        PropertyBlockBuilder::with_parts(ONE_PART)
    }
}

#[derive(Debug, Default)]
struct PartBuilder {
    ordinals: Vec<u32>,
    column: ColumnBuilder,
}

impl PropertyBlockBuilder {
    /// Creates a builder without rows.
    pub fn new() -> PropertyBlockBuilder {
        PropertyBlockBuilder::default()
    }

    /// Creates a builder of a block of parts with 2^`part_bits` ordinals each.
    pub fn with_parts(part_bits: u32) -> PropertyBlockBuilder {
        PropertyBlockBuilder {
            part_bits,
            parts: BTreeMap::new(),
        }
    }

    fn part(&mut self, ordinal: u32) -> &mut PartBuilder {
        let number = part_of(self.part_bits, ordinal);
        self.parts.entry(number).or_default()
    }

    /// Adds a value of the person `ordinal`. Rows may come in any order. JSON null adds nothing.
    pub fn push(&mut self, ordinal: u32, value: &Value) {
        if !value.is_null() {
            let part = self.part(ordinal);
            part.ordinals.push(ordinal);
            part.column.push(Some(value));
        }
    }

    /// Adds a value of the person `ordinal` as JSON text. JSON null, and text that is not JSON,
    /// add nothing.
    pub fn push_raw(&mut self, ordinal: u32, json: &str) {
        let part = self.part(ordinal);
        if part.column.push_raw(Some(json)) {
            part.ordinals.push(ordinal);
        } else {
            part.column.pop();
        }
    }

    /// The memory that the builder takes, in bytes, approximately.
    pub fn bytes(&self) -> usize {
        let parts = self.parts.values();
        let bytes =
            |part: &PartBuilder| size_of_val(part.ordinals.as_slice()) + part.column.bytes();
        parts.map(bytes).sum()
    }

    /// Returns the block of all rows.
    pub fn finish(self) -> PropertyBlock {
        let finish = |(number, part): (u32, PartBuilder)| {
            let values = PartValues::from_column(&part.ordinals, part.column.finish());
            (number, Arc::new(values))
        };
        let parts: Vec<_> = self.parts.into_par_iter().map(finish).collect();
        PropertyBlock::of_parts(self.part_bits, parts.into_iter().collect())
    }
}
