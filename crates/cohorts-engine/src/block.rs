//! Rows turned into columns: distinct values once, in a dictionary, and a small code per row.
//! An operator is evaluated once per distinct value; after that only codes are compared.

use std::collections::HashMap;

use roaring::RoaringBitmap;
use serde_json::Value;

use crate::predicate::Predicate;
use crate::source::{EventQuery, Meter, Source};

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
        let answer = |value: &Value| {
            meter.spend(predicate.work(value))?;
            Ok(predicate.matches(value))
        };
        Ok(Answers {
            codes: &self.codes,
            by_code: self.values.iter().map(answer).collect::<Result<_, _>>()?,
            missing: predicate.matches_missing(),
        })
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
    /// Rising; a person may have several rows.
    persons: Vec<u32>,
    column: Column,
}

impl PropertyBlock {
    /// The persons for whom a predicate holds in any row, and those without a row if it holds
    /// for a missing value.
    pub(crate) fn matching<S: Source>(
        &self,
        predicate: &Predicate,
        everyone: &RoaringBitmap,
        meter: &Meter<S>,
    ) -> Result<RoaringBitmap, S::Error> {
        let answers = self.column.answers(predicate, meter)?;
        let rows = self.persons.iter().enumerate();
        let mut found = bitmap(
            rows.filter(|(row, _)| answers.at(*row))
                .map(|(_, person)| *person),
        );
        found &= everyone;
        if predicate.matches_missing() {
            found |= everyone - bitmap(self.persons.iter().copied());
        }
        Ok(found)
    }

    /// How many rows the block holds.
    pub fn rows(&self) -> usize {
        self.persons.len()
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
        let mut block = PropertyBlock {
            persons: self.persons,
            column: self.column.column,
        };
        if !block.persons.is_sorted() {
            let mut order: Vec<u32> = (0..block.persons.len() as u32).collect();
            order.sort_by_key(|row| block.persons[*row as usize]);
            block.column.reorder(&order);
            block.persons = order
                .iter()
                .map(|row| block.persons[*row as usize])
                .collect();
        }
        block
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

    pub(crate) fn matching(
        &self,
        predicate: &Predicate,
        everyone: &RoaringBitmap,
    ) -> RoaringBitmap {
        let holds = self
            .rows
            .iter()
            .filter(|(_, time)| predicate.matches_instant(*time));
        let mut found = bitmap(holds.map(|(person, _)| *person)) & everyone;
        if predicate.matches_missing() {
            found |= everyone - bitmap(self.rows.iter().map(|(person, _)| *person));
        }
        found
    }
}

/// Events as columns, sorted by person and time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EventBlock {
    persons: Vec<u32>,
    times: Vec<i64>,
    names: Column,
    properties: HashMap<String, Column>,
}

impl EventBlock {
    /// How many events the block holds.
    pub fn rows(&self) -> usize {
        self.persons.len()
    }

    pub(crate) fn row(&self, row: usize) -> (u32, i64) {
        (self.persons[row], self.times[row])
    }

    /// Whether each event bears a name for which the test holds.
    pub(crate) fn named(&self, test: impl Fn(&Value) -> bool) -> Answers<'_> {
        Answers {
            codes: &self.names.codes,
            by_code: self.names.values.iter().map(test).collect(),
            missing: false,
        }
    }

    /// Whether each event has a property for which the predicate holds.
    pub(crate) fn answers<S: Source>(
        &self,
        property: &str,
        predicate: &Predicate,
        meter: &Meter<S>,
    ) -> Result<Answers<'_>, S::Error> {
        match self.properties.get(property) {
            Some(column) => column.answers(predicate, meter),
            None => Ok(Answers::constant(predicate.matches_missing())),
        }
    }
}

/// Collects events, in any order.
#[derive(Debug)]
pub struct EventBlockBuilder {
    persons: Vec<u32>,
    times: Vec<i64>,
    names: ColumnBuilder,
    properties: Vec<(String, ColumnBuilder)>,
}

impl EventBlockBuilder {
    /// An empty block with a column for each property of the query.
    pub fn new(query: &EventQuery) -> EventBlockBuilder {
        let column = |key: &String| (key.clone(), ColumnBuilder::default());
        EventBlockBuilder {
            persons: Vec::new(),
            times: Vec::new(),
            names: ColumnBuilder::default(),
            properties: query.properties.iter().map(column).collect(),
        }
    }

    fn push_event(&mut self, person: u32, time: i64, event: &str) {
        self.persons.push(person);
        self.times.push(time);
        self.names.push_keyed(event, || Value::from(event));
    }

    /// Adds an event with its time in microseconds and its properties, of which only those of
    /// the query are kept.
    pub fn push(&mut self, person: u32, time: i64, event: &str, properties: &Value) {
        self.push_event(person, time, event);
        for (key, column) in &mut self.properties {
            column.push(properties.get(key.as_str()));
        }
    }

    /// Adds an event whose properties stand as JSON text in the order of the query; those that
    /// are left out count as missing.
    pub fn push_raw<'a>(
        &mut self,
        person: u32,
        time: i64,
        event: &str,
        properties: impl IntoIterator<Item = Option<&'a str>>,
    ) {
        self.push_event(person, time, event);
        let mut properties = properties.into_iter();
        for (_, column) in &mut self.properties {
            column.push_raw(properties.next().flatten());
        }
    }

    /// The finished block.
    pub fn finish(self) -> EventBlock {
        let columns = self.properties.into_iter();
        let mut block = EventBlock {
            persons: self.persons,
            times: self.times,
            names: self.names.column,
            properties: columns
                .map(|(key, builder)| (key, builder.column))
                .collect(),
        };
        let key = |row: &u32| block.row(*row as usize);
        let mut order: Vec<u32> = (0..block.rows() as u32).collect();
        if !order.is_sorted_by_key(key) {
            order.sort_by_key(key);
            block.persons = order
                .iter()
                .map(|row| block.persons[*row as usize])
                .collect();
            block.times = order.iter().map(|row| block.times[*row as usize]).collect();
            block.names.reorder(&order);
            block
                .properties
                .values_mut()
                .for_each(|column| column.reorder(&order));
        }
        block
    }
}

#[cfg(test)]
mod tests;
