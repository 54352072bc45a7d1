//! Rows turned into columns: distinct values once, in a dictionary, and a small code per row.
//! An operator is evaluated once per distinct value; after that only codes are compared.

mod encode;
mod events;

use std::collections::HashMap;
use std::{panic, thread};

use roaring::{MultiOps, RoaringBitmap};
use serde_json::Value;

use crate::predicate::Predicate;
use crate::source::{Meter, Source};

pub use events::{EventBlock, EventBlockBuilder};

/// The code of a value that is missing.
const MISSING: u32 = u32::MAX;

/// A column of values: each distinct one once, and a code for every row.
#[derive(Clone, Debug, Default, PartialEq)]
struct Column {
    values: Vec<Value>,
    codes: Vec<u32>,
}

impl Column {
    /// The answers of a predicate by code.
    fn answers<S: Source>(
        &self,
        predicate: &Predicate,
        meter: &Meter<S>,
    ) -> Result<Answers<'_>, S::Error> {
        Ok(Answers {
            codes: &self.codes,
            by_code: answered(&self.values, predicate, meter)?,
            missing: predicate.matches_missing(),
        })
    }

    /// Adds the rows of another column.
    fn extend(&mut self, more: &Column) {
        let known = self.values.iter().enumerate();
        let known: HashMap<String, u32> = known
            .map(|(code, value)| (value.to_string(), code as u32))
            .collect();
        let code = |value: &Value| known.get(&value.to_string()).copied();
        let mut codes = Vec::new();
        for value in &more.values {
            codes.push(code(value).unwrap_or_else(|| {
                self.values.push(value.clone());
                self.values.len() as u32 - 1
            }));
        }
        let rows = more.codes.iter();
        self.codes
            .extend(rows.map(|code| codes.get(*code as usize).copied().unwrap_or(MISSING)));
    }

    fn extend_missing(&mut self, rows: usize) {
        self.codes.resize(self.codes.len() + rows, MISSING);
    }

    /// About how much memory it takes.
    fn bytes(&self) -> usize {
        bytes_of(&self.values) + size_of_val(self.codes.as_slice())
    }

    fn reorder(&mut self, order: &[u32]) {
        self.codes = order.iter().map(|row| self.codes[*row as usize]).collect();
    }
}

/// Whether a predicate holds, row by row.
pub(crate) struct Answers<'a> {
    codes: &'a [u32],
    by_code: Vec<bool>,
    missing: bool,
}

impl Answers<'_> {
    /// The same answer for every row.
    pub fn constant(answer: bool) -> Answers<'static> {
        Answers {
            codes: &[],
            by_code: Vec::new(),
            missing: answer,
        }
    }

    pub fn at(&self, row: usize) -> bool {
        let code = self.codes.get(row).copied().unwrap_or(MISSING);
        self.by_code
            .get(code as usize)
            .copied()
            .unwrap_or(self.missing)
    }
}

#[derive(Debug, Default)]
struct ColumnBuilder {
    column: Column,
    codes: HashMap<String, u32>,
}

impl ColumnBuilder {
    fn push(&mut self, value: Option<&Value>) {
        match value.filter(|value| !value.is_null()) {
            None => self.column.codes.push(MISSING),
            Some(value) => self.push_keyed(&value.to_string(), || value.clone()),
        }
    }

    /// Takes JSON text as it is stored. Text that is no JSON counts as missing.
    fn push_raw(&mut self, raw: Option<&str>) {
        let Some(raw) = raw else {
            return self.column.codes.push(MISSING);
        };
        self.push_keyed(raw, || serde_json::from_str(raw).unwrap_or(Value::Null));
    }

    fn push_keyed(&mut self, key: &str, value: impl FnOnce() -> Value) {
        let column = &mut self.column;
        let code = match self.codes.get(key) {
            Some(code) => *code,
            None => {
                let value = value();
                let code = match value.is_null() {
                    true => MISSING,
                    false => column.values.len() as u32,
                };
                if code != MISSING {
                    column.values.push(value);
                }
                self.codes.insert(key.to_owned(), code);
                code
            }
        };
        column.codes.push(code);
    }
}

/// One property of persons.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PropertyBlock {
    values: Vec<Value>,
    holders: Holders,
    /// Who has any value.
    present: RoaringBitmap,
    /// People who are not as above, and how they are now.
    changed: Option<Box<(RoaringBitmap, PropertyBlock)>>,
}

/// Who has which value.
#[derive(Clone, Debug, PartialEq)]
enum Holders {
    /// Of few values, everybody for each.
    Sets(Vec<RoaringBitmap>),
    /// Of many, rows of a person and a code, by rising person; a person may have several.
    Rows(Vec<(u32, u32)>),
}

impl Default for Holders {
    fn default() -> Holders {
        Holders::Rows(Vec::new())
    }
}

/// Up to so many values there is a set for each.
const FEW_VALUES: usize = 256;

impl PropertyBlock {
    /// From a column, with the person of each row.
    fn new(persons: Vec<u32>, column: Column) -> PropertyBlock {
        let mut rows: Vec<(u32, u32)> = persons.into_iter().zip(column.codes).collect();
        if !rows.is_sorted() {
            rows.sort_unstable();
        }
        let present = bitmap(rows.iter().map(|(person, _)| *person));
        let holders = match column.values.len() <= FEW_VALUES {
            false => Holders::Rows(rows),
            true => {
                let mut sets = vec![RoaringBitmap::new(); column.values.len()];
                for (person, code) in rows {
                    sets[code as usize].insert(person);
                }
                Holders::Sets(sets)
            }
        };
        PropertyBlock {
            values: column.values,
            holders,
            present,
            changed: None,
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
    pub(crate) fn matching<S: Source>(
        &self,
        predicate: &Predicate,
        everyone: &RoaringBitmap,
        meter: &Meter<S>,
    ) -> Result<RoaringBitmap, S::Error> {
        let mut found = self.holding(predicate, meter)? & everyone;
        if predicate.matches_missing() {
            found |= everyone - &self.present;
        }
        if let Some(changed) = &self.changed {
            let (people, now) = changed.as_ref();
            found -= people;
            found |= now.matching(predicate, &(everyone & people), meter)?;
        }
        Ok(found)
    }

    /// Those with a value for which a predicate holds, changes aside.
    fn holding<S: Source>(
        &self,
        predicate: &Predicate,
        meter: &Meter<S>,
    ) -> Result<RoaringBitmap, S::Error> {
        let holds = answered(&self.values, predicate, meter)?;
        Ok(match &self.holders {
            Holders::Sets(sets) => {
                let chosen = sets.iter().zip(&holds).filter(|(_, holds)| **holds);
                chosen.map(|(set, _)| set).union()
            }
            Holders::Rows(rows) => {
                let chosen = rows.iter().filter(|(_, code)| holds[*code as usize]);
                bitmap(chosen.map(|(person, _)| *person))
            }
        })
    }

    /// How many people have a value, changes aside.
    pub fn rows(&self) -> usize {
        self.present.len() as usize
    }

    /// About how much memory it takes.
    pub fn bytes(&self) -> usize {
        let holders = match &self.holders {
            Holders::Sets(sets) => sets.iter().map(RoaringBitmap::serialized_size).sum(),
            Holders::Rows(rows) => size_of_val(rows.as_slice()),
        };
        let changed = self.changed.as_ref();
        let changed = changed.map_or(0, |changed| changed.0.serialized_size() + changed.1.bytes());
        bytes_of(&self.values) + holders + self.present.serialized_size() + changed
    }
}

/// About how much memory values take.
fn bytes_of(values: &[Value]) -> usize {
    let texts = values.iter().filter_map(Value::as_str);
    size_of_val(values) + texts.map(str::len).sum::<usize>()
}

/// Fewer values are not worth a second thread.
const FEW_ROWS: usize = 16_384;
/// The work that is shared by threads before it is asked whether to go on, in units of `Meter`.
const MOST_WORK: u64 = 4_000_000;

/// Whether a predicate holds for each of the values; many are looked at by all processors.
fn answered<S: Source>(
    values: &[Value],
    predicate: &Predicate,
    meter: &Meter<S>,
) -> Result<Vec<bool>, S::Error> {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let mut holds = Vec::with_capacity(values.len());
    if values.len() < FEW_ROWS || threads == 1 {
        for value in values {
            meter.spend(predicate.work(value))?;
            holds.push(predicate.matches(value));
        }
        return Ok(holds);
    }
    let mut rest = values;
    while !rest.is_empty() {
        let mut work = 0;
        let enough = rest.iter().position(|value| {
            work += predicate.work(value);
            work > MOST_WORK
        });
        let length = enough.map_or(rest.len(), |last| last + 1);
        let some;
        (some, rest) = rest.split_at(length);
        meter.spend(work / threads as u64)?;
        let answer = |values: &[Value]| -> Vec<bool> {
            values
                .iter()
                .map(|value| predicate.matches(value))
                .collect()
        };
        thread::scope(|scope| {
            let parts = some.chunks(some.len().div_ceil(threads));
            let parts: Vec<_> = parts
                .map(|part| scope.spawn(move || answer(part)))
                .collect();
            for part in parts {
                match part.join() {
                    Ok(part) => holds.extend(part),
                    Err(cause) => panic::resume_unwind(cause),
                }
            }
        });
    }
    Ok(holds)
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
        self.column.push_raw(Some(json));
        match self.column.column.codes.last() {
            Some(&MISSING) => drop(self.column.column.codes.pop()),
            _ => self.persons.push(person),
        }
    }

    /// The finished block.
    pub fn finish(self) -> PropertyBlock {
        PropertyBlock::new(self.persons, self.column.column)
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

    pub(crate) fn matching<S: Source>(
        &self,
        predicate: &Predicate,
        everyone: &RoaringBitmap,
        meter: &Meter<S>,
    ) -> Result<RoaringBitmap, S::Error> {
        let work = predicate.work_of_instant();
        let mut holds = Vec::new();
        for (person, time) in &self.rows {
            meter.spend(work)?;
            if predicate.matches_instant(*time) {
                holds.push(*person);
            }
        }
        let mut found = bitmap(holds.into_iter()) & everyone;
        if predicate.matches_missing() {
            found |= everyone - bitmap(self.rows.iter().map(|(person, _)| *person));
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests;
