//! A column: a dictionary, and a code for each row.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;

use jiff::tz::TimeZone;
use serde_json::Value;

use super::TimeSpan;
use super::codes::{Codes, MISSING, code_of, index_of};
use super::derived::{DateOrder, Derived};
use super::dictionary::{Dictionary, value_bytes};
use crate::interrupt::{Interrupt, Meter};
use crate::predicate::Predicate;
use crate::value::Stored;

/// The values of rows.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Column {
    pub dictionary: Dictionary,
    pub codes: Codes,
    by_date: Derived<DateOrder>,
}

impl Column {
    pub fn new(dictionary: Dictionary, codes: impl Iterator<Item = u32>) -> Column {
        let codes = Codes::new(codes, dictionary.len());
        Column::from_parts(dictionary, codes)
    }

    pub fn from_parts(dictionary: Dictionary, codes: Codes) -> Column {
        Column {
            dictionary,
            codes,
            by_date: Derived::default(),
        }
    }

    /// Evaluates `predicate` for each row.
    pub fn matches<I: Interrupt>(
        &self,
        predicate: &Predicate,
        meter: &Meter<I>,
    ) -> Result<RowMatches<'_>, I::Error> {
        let mut by_code = vec![predicate.matches_missing()];
        by_code.extend(self.dictionary.evaluate(predicate, meter)?);
        Ok(RowMatches {
            codes: Some(&self.codes),
            by_code,
        })
    }

    /// The rows of several columns, one after another. A part without a column has a number of rows without a value.
    pub fn concat(parts: &[(Option<&Column>, usize)]) -> Column {
        let mut dictionary = Dictionary::default();
        let mut indexes: HashMap<Stored, u32> = HashMap::new();
        let columns = || parts.iter().filter_map(|(column, _)| *column);
        let new_codes: Vec<Vec<u32>> = columns()
            .map(|column| {
                let code = |value| {
                    let index = *indexes.entry(value).or_insert_with(|| {
                        dictionary.push(value);
                        dictionary.len() as u32 - 1
                    });
                    code_of(index)
                };
                std::iter::once(MISSING)
                    .chain(column.dictionary.iter().map(code))
                    .collect()
            })
            .collect();
        let mut new_codes = new_codes.iter();
        let mut codes = Vec::with_capacity(parts.iter().map(|(_, rows)| rows).sum());
        for (column, rows) in parts {
            match column.zip(column.and_then(|_| new_codes.next())) {
                Some((column, new)) => {
                    codes.extend(column.codes.iter().map(|code| new[code as usize]));
                }
                None => codes.extend(std::iter::repeat_n(MISSING, *rows)),
            }
        }
        Column::new(dictionary, codes.into_iter())
    }

    /// The memory that the column takes, in bytes, approximately.
    pub fn bytes(&self) -> usize {
        let by_date = self.by_date.get().map_or(0, DateOrder::bytes);
        self.dictionary.bytes() + self.codes.bytes() + by_date
    }

    /// Replaces the rows by `rows`, in this order.
    pub fn reorder(&mut self, rows: &[u32]) {
        self.codes = self.codes.take(rows);
    }

    /// The column of `rows`, in this order, without values that none of them has. The cost depends
    /// on the number of rows only.
    pub fn taken(&self, rows: &[u32]) -> Column {
        let codes = self.codes.take(rows);
        let mut dictionary = Dictionary::default();
        let mut new_codes = HashMap::from([(MISSING, MISSING)]);
        let codes = codes.iter().map(|code| {
            *new_codes.entry(code).or_insert_with(|| {
                dictionary.push(self.dictionary.value(code as usize - 1));
                dictionary.len() as u32
            })
        });
        let codes: Vec<u32> = codes.collect();
        Column::new(dictionary, codes.into_iter())
    }

    /// The rows with a date in `span`, in rising order.
    pub fn rows_with_dates<I: Interrupt>(
        &self,
        span: TimeSpan,
        time_zone: &TimeZone,
        meter: &Meter<I>,
    ) -> Result<Vec<u32>, I::Error> {
        let dates = self.dates(time_zone, meter)?;
        let mut indexes = dates.within(span).peekable();
        if indexes.peek().is_none() {
            return Ok(Vec::new());
        }
        meter.spend(self.codes.len() as u64)?;
        let mut has_date = vec![false; self.dictionary.len() + 1];
        indexes.for_each(|index| has_date[code_of(index) as usize] = true);
        let rows = (0..).zip(self.codes.iter());
        let rows = rows.filter(|(_, code)| has_date[*code as usize]);
        Ok(rows.map(|(row, _)| row).collect())
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

    /// The values by date.
    fn dates<I: Interrupt>(
        &self,
        time_zone: &TimeZone,
        meter: &Meter<I>,
    ) -> Result<Cow<'_, DateOrder>, I::Error> {
        let make = || self.dictionary.dates(time_zone, meter);
        self.by_date.for_zone(time_zone, make)
    }

    /// The column without values that no row has.
    pub fn compact(&self) -> Column {
        let mut dictionary = Dictionary::default();
        let mut new_codes = vec![MISSING; self.dictionary.len() + 1];
        let mut compact = |code: u32| {
            let new_code = &mut new_codes[code as usize];
            if let Some(index) = index_of(code)
                && *new_code == MISSING
            {
                dictionary.push(self.dictionary.value(index));
                *new_code = dictionary.len() as u32;
            }
            *new_code
        };
        let codes: Vec<u32> = self.codes.iter().map(&mut compact).collect();
        Column::new(dictionary, codes.into_iter())
    }
}

/// The value of each row of a block.
pub(crate) struct RowValues<'a>(pub(super) &'a Column);

impl<'a> RowValues<'a> {
    /// The number of different values.
    pub fn len(&self) -> usize {
        self.0.dictionary.len()
    }

    /// The index of the value of a row; `None` if the row has no value.
    #[inline]
    pub fn index(&self, row: usize) -> Option<usize> {
        index_of(self.0.codes.code(row))
    }

    /// The value of an index.
    pub fn value(&self, index: usize) -> Stored<'a> {
        self.0.dictionary.value(index)
    }
}

/// Whether a predicate holds for each row of a block.
pub(crate) struct RowMatches<'a> {
    /// `None` if no row has a value.
    codes: Option<&'a Codes>,
    by_code: Vec<bool>,
}

impl RowMatches<'_> {
    /// The same result for each row.
    pub fn constant(holds: bool) -> RowMatches<'static> {
        RowMatches {
            codes: None,
            by_code: vec![holds],
        }
    }

    #[inline]
    pub fn at(&self, row: usize) -> bool {
        let code = self.codes.map_or(MISSING, |codes| codes.code(row));
        self.by_code[code as usize]
    }

    /// Clears the flags of `rows` for which the predicate does not hold.
    pub fn filter(&self, rows: Range<usize>, flags: &mut [bool]) {
        match self.codes {
            None => flags.iter_mut().for_each(|flag| *flag &= self.by_code[0]),
            Some(codes) => codes.filter(rows, &self.by_code, flags),
        }
    }
}

/// Collects the values of rows.
#[derive(Debug, Default)]
pub(super) struct ColumnBuilder {
    dictionary: Dictionary,
    codes: Vec<u32>,
    /// The code of each value, by its JSON text.
    codes_by_text: HashMap<String, u32>,
    /// The memory of the values and of their JSON texts, in bytes, approximately.
    bytes: usize,
}

impl ColumnBuilder {
    /// Adds a row. `None` and JSON null mean a missing value.
    pub fn push(&mut self, value: Option<&Value>) {
        let value = value.filter(|value| !value.is_null());
        let code = value.map(|value| self.code(&value.to_string(), || value.clone()));
        self.codes.push(code.unwrap_or(MISSING));
    }

    /// Adds a row with a value as JSON text. Returns whether it is a value: JSON null and text
    /// that is not JSON are missing values.
    pub fn push_raw(&mut self, json: Option<&str>) -> bool {
        let parse = |json| serde_json::from_str(json).unwrap_or(Value::Null);
        let code = json.map_or(MISSING, |json| self.code(json, || parse(json)));
        self.codes.push(code);
        code != MISSING
    }

    fn code(&mut self, text: &str, value: impl FnOnce() -> Value) -> u32 {
        if let Some(code) = self.codes_by_text.get(text) {
            return *code;
        }
        let value = value();
        let mut code = MISSING;
        if !value.is_null() {
            self.dictionary.push(Stored::from(&value));
            code = self.dictionary.len() as u32;
        }
        self.bytes += value_bytes(&value) + text.len() + 2 * size_of::<String>();
        self.codes_by_text.insert(text.to_owned(), code);
        code
    }

    /// Sets the value of a row as JSON text. Rows before it that were not set have no value.
    pub fn set_raw(&mut self, row: usize, json: &str) {
        let parse = || in_stored_order(serde_json::from_str(json).unwrap_or(Value::Null));
        let code = self.code(json, parse);
        if row < self.codes.len() {
            self.codes[row] = code;
        } else {
            self.codes.resize(row, MISSING);
            self.codes.push(code);
        }
    }

    /// The memory of the distinct values and of their JSON texts, in bytes, approximately.
    pub fn value_bytes(&self) -> usize {
        self.bytes
    }

    /// The column of `rows` rows. Rows that were not set have no value.
    pub fn finish_with(mut self, rows: usize) -> Column {
        self.codes.resize(rows, MISSING);
        self.finish()
    }

    /// Removes the last row.
    pub fn pop(&mut self) {
        self.codes.pop();
    }

    /// The memory that the builder takes, in bytes, approximately.
    pub fn bytes(&self) -> usize {
        self.bytes + size_of_val(self.codes.as_slice())
    }

    pub fn finish(self) -> Column {
        Column::new(self.dictionary, self.codes.into_iter())
    }
}

/// The value with the members of its objects in the order of `jsonb`: by the lengths of their names, then by their names.
fn in_stored_order(value: Value) -> Value {
    match value {
        Value::Array(elements) => elements.into_iter().map(in_stored_order).collect(),
        Value::Object(members) => {
            let members = members.into_iter();
            let mut members: Vec<(String, Value)> = members
                .map(|(name, value)| (name, in_stored_order(value)))
                .collect();
            members.sort_by(|(first, _), (second, _)| {
                (first.len(), first).cmp(&(second.len(), second))
            });
            members.into_iter().collect()
        }
        value => value,
    }
}
