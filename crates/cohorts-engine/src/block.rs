//! Rows turned into columns: distinct values once, in a dictionary, and a small code per row.
//! An operator is evaluated once per distinct value; after that only codes are compared.

mod column;
mod encode;
mod events;

use roaring::{MultiOps, RoaringBitmap};
use serde_json::Value;

use crate::interrupt::{Interrupt, Meter};
use crate::predicate::Predicate;

pub(crate) use column::RowMatches;
use column::{Column, ColumnBuilder, Dictionary, answered};
pub use events::{EventBlock, EventBlockBuilder, TimeSpan};

/// One property of persons.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PropertyBlock {
    dictionary: Dictionary,
    postings: Postings,
    /// Who has any value.
    present: RoaringBitmap,
    /// People who are not as above, and how they are now.
    changed: Option<Box<(RoaringBitmap, PropertyBlock)>>,
}

/// Who has which value.
#[derive(Clone, Debug, PartialEq)]
enum Postings {
    /// Of few values, everybody for each.
    Bitmaps(Vec<RoaringBitmap>),
    /// Of many, rows of a person and a code, by rising person; a person may have several.
    Pairs(Vec<(u32, u32)>),
}

impl Default for Postings {
    fn default() -> Postings {
        Postings::Pairs(Vec::new())
    }
}

/// Up to so many values there is a set for each.
const FEW_VALUES: usize = 256;

impl PropertyBlock {
    /// From a column without missing values, with the person of each row.
    fn new(persons: Vec<u32>, column: Column) -> PropertyBlock {
        let codes = column.codes.iter().map(|number| number - 1);
        let mut rows: Vec<(u32, u32)> = persons.into_iter().zip(codes).collect();
        if !rows.is_sorted() {
            rows.sort_unstable();
        }
        let postings = match column.dictionary.len() <= FEW_VALUES {
            false => Postings::Pairs(rows),
            true => {
                let mut bitmaps = vec![RoaringBitmap::new(); column.dictionary.len()];
                for (person, code) in rows {
                    bitmaps[code as usize].insert(person);
                }
                Postings::Bitmaps(bitmaps)
            }
        };
        PropertyBlock::of(column.dictionary, postings)
    }

    fn of(dictionary: Dictionary, postings: Postings) -> PropertyBlock {
        let present = match &postings {
            Postings::Bitmaps(bitmaps) => bitmaps.union(),
            Postings::Pairs(rows) => {
                let persons: Vec<u32> = rows.iter().map(|(person, _)| *person).collect();
                bitmap_of(&persons)
            }
        };
        PropertyBlock {
            dictionary,
            postings,
            present,
            changed: None,
        }
    }

    /// The same block with its changes worked in, and without the values that nobody has any more.
    pub fn flattened(&self) -> PropertyBlock {
        let Some(changed) = &self.changed else {
            return self.clone();
        };
        let (people, now) = (&changed.0, changed.1.flattened());
        let mut dictionary = self.dictionary.clone();
        let codes = dictionary.merge_dictionary(&now.dictionary);
        let own = self.rows_by_person().into_iter();
        let own = own.filter(|(person, _)| !people.contains(*person));
        let new = now.rows_by_person().into_iter();
        let rows: Vec<(u32, u32)> = own
            .chain(new.map(|(person, code)| (person, codes[code as usize])))
            .collect();
        let (persons, codes): (_, Vec<u32>) = rows.into_iter().unzip();
        let column = Column::new(dictionary, codes.into_iter().map(|code| code + 1));
        PropertyBlock::new(persons, column.compact())
    }

    /// Who has which value by its code, changes aside.
    fn rows_by_person(&self) -> Vec<(u32, u32)> {
        match &self.postings {
            Postings::Pairs(rows) => rows.clone(),
            Postings::Bitmaps(bitmaps) => {
                let bitmaps = (0..).zip(bitmaps);
                bitmaps
                    .flat_map(|(code, set)| set.iter().map(move |person| (person, code)))
                    .collect()
            }
        }
    }

    /// The block with some people as they are in another one, or without any value there.
    pub fn with_changes(&self, people: &RoaringBitmap, now: PropertyBlock) -> PropertyBlock {
        let mut block = self.clone();
        block.changed = Some(Box::new(match block.changed.take() {
            None => (people.clone(), now),
            Some(former) => {
                let (mut changed, block) = *former;
                changed |= people;
                (changed, block.with_changes(people, now))
            }
        }));
        block
    }

    /// How many changes lie upon one another; each makes the block slower to look at.
    pub fn layers(&self) -> usize {
        self.changed
            .as_ref()
            .map_or(0, |changed| 1 + changed.1.layers())
    }

    /// The persons for whom a predicate holds in any row, and those without a row if it holds
    /// for a missing value.
    pub(crate) fn matching<I: Interrupt>(
        &self,
        predicate: &Predicate,
        universe: &RoaringBitmap,
        meter: &Meter<I>,
    ) -> Result<RoaringBitmap, I::Error> {
        let mut found = self.holding(predicate, meter)? & universe;
        if predicate.matches_missing() {
            found |= universe - &self.present;
        }
        if let Some(changed) = &self.changed {
            let (people, now) = changed.as_ref();
            found -= people;
            found |= now.matching(predicate, &(universe & people), meter)?;
        }
        Ok(found)
    }

    /// Those with a value for which a predicate holds, changes aside.
    fn holding<I: Interrupt>(
        &self,
        predicate: &Predicate,
        meter: &Meter<I>,
    ) -> Result<RoaringBitmap, I::Error> {
        let holds = answered(&self.dictionary, predicate, meter)?;
        Ok(match &self.postings {
            Postings::Bitmaps(bitmaps) => {
                let chosen = bitmaps.iter().zip(&holds).filter(|(_, holds)| **holds);
                chosen.map(|(set, _)| set).union()
            }
            Postings::Pairs(rows) => {
                let rows = rows.iter();
                bitmap_of(&chosen(
                    rows.map(|(person, code)| (*person, holds[*code as usize])),
                ))
            }
        })
    }

    /// How many people have a value, changes aside.
    pub fn person_count(&self) -> usize {
        self.present.len() as usize
    }

    /// About how much memory it takes.
    pub fn bytes(&self) -> usize {
        let postings = match &self.postings {
            Postings::Bitmaps(bitmaps) => bitmaps.iter().map(RoaringBitmap::serialized_size).sum(),
            Postings::Pairs(rows) => size_of_val(rows.as_slice()),
        };
        let changed = self.changed.as_ref();
        let changed = changed.map_or(0, |changed| changed.0.serialized_size() + changed.1.bytes());
        self.dictionary.bytes() + postings + self.present.serialized_size() + changed
    }
}

/// A bitmap of person numbers that come sorted, repeats included.
pub(crate) fn bitmap(sorted: impl Iterator<Item = u32>) -> RoaringBitmap {
    let mut found = RoaringBitmap::new();
    for person in sorted {
        // A repeat is not above the last number, so it is not taken, which is what is wanted.
        found.try_push(person).ok();
    }
    found
}

/// The numbers that are chosen; without a branch, since nobody could guess which.
pub(crate) fn chosen(numbers: impl ExactSizeIterator<Item = (u32, bool)>) -> Vec<u32> {
    let (mut found, mut count) = (vec![0; numbers.len()], 0);
    for (number, is_chosen) in numbers {
        found[count] = number;
        count += usize::from(is_chosen);
    }
    found.truncate(count);
    found
}

/// Of so many numbers that lie no further apart, bits are set faster than numbers are added.
const MANY: usize = 1_024;
const NEAR: usize = 64;

/// The same of a slice.
pub(crate) fn bitmap_of(sorted: &[u32]) -> RoaringBitmap {
    let (Some(first), Some(last)) = (sorted.first(), sorted.last()) else {
        return RoaringBitmap::new();
    };
    let first = first & !7;
    let width = (last - first) as usize;
    if sorted.len() < MANY || width / sorted.len() > NEAR {
        return bitmap(sorted.iter().copied());
    }
    let mut bits = vec![0_u8; width / 8 + 1];
    for person in sorted {
        bits[(person - first) as usize / 8] |= 1 << (person % 8);
    }
    RoaringBitmap::from_lsb0_bytes(first, &bits)
}

/// Collects the rows of a property, in any order.
#[derive(Debug, Default)]
pub struct PropertyBlockBuilder {
    persons: Vec<u32>,
    column: ColumnBuilder,
}

impl PropertyBlockBuilder {
    /// An empty block.
    pub fn new() -> PropertyBlockBuilder {
        PropertyBlockBuilder::default()
    }

    /// Adds a person's value; null is the same as no row.
    pub fn push(&mut self, person: u32, value: &Value) {
        if !value.is_null() {
            self.persons.push(person);
            self.column.push(Some(value));
        }
    }

    /// Adds a person's value as JSON text; text that is no JSON is the same as no row.
    pub fn push_raw(&mut self, person: u32, json: &str) {
        match self.column.push_raw(Some(json)) {
            true => self.persons.push(person),
            false => self.column.pop(),
        }
    }

    /// About how much memory it takes so far.
    pub fn bytes(&self) -> usize {
        size_of_val(self.persons.as_slice()) + self.column.bytes()
    }

    /// The finished block.
    pub fn finish(self) -> PropertyBlock {
        PropertyBlock::new(self.persons, self.column.finish())
    }
}

/// One instant per person.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TimesBlock {
    rows: Vec<(u32, i64)>,
}

impl TimesBlock {
    /// From person numbers and microseconds, in any order; of repeats the earliest counts.
    pub fn new(rows: impl IntoIterator<Item = (u32, i64)>) -> TimesBlock {
        let mut rows: Vec<(u32, i64)> = rows.into_iter().collect();
        rows.sort_unstable();
        rows.dedup_by_key(|(person, _)| *person);
        TimesBlock { rows }
    }

    /// The block with some people as they are in other rows, or not at all.
    pub fn with_changes(
        &self,
        people: &RoaringBitmap,
        now: impl IntoIterator<Item = (u32, i64)>,
    ) -> TimesBlock {
        let kept = self
            .rows
            .iter()
            .filter(|(person, _)| !people.contains(*person));
        TimesBlock::new(kept.copied().chain(now))
    }

    /// How much memory it takes.
    pub fn bytes(&self) -> usize {
        size_of_val(self.rows.as_slice())
    }

    pub(crate) fn matching<I: Interrupt>(
        &self,
        predicate: &Predicate,
        universe: &RoaringBitmap,
        meter: &Meter<I>,
    ) -> Result<RoaringBitmap, I::Error> {
        let work = predicate.work_of_instant();
        let mut holds = Vec::new();
        for (person, time) in &self.rows {
            meter.spend(work)?;
            if predicate.matches_instant(*time) {
                holds.push(*person);
            }
        }
        let mut found = bitmap_of(&holds) & universe;
        if predicate.matches_missing() {
            found |= universe - bitmap(self.rows.iter().map(|(person, _)| *person));
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests;
