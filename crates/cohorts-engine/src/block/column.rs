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

    /// The rows of this column, then those of `other`.
    pub fn concat(&self, other: &Column) -> Column {
        let mut dictionary = self.dictionary.clone();
        let indexes = dictionary.merge_dictionary(&other.dictionary);
        let merge = |code| index_of(code).map_or(MISSING, |index| code_of(indexes[index]));
        let codes = self.codes.iter().chain(other.codes.iter().map(merge));
        Column::new(dictionary, codes)
    }

    /// The rows of this column, then `rows` rows without a value.
    pub fn concat_missing(&self, rows: usize) -> Column {
        let missing = std::iter::repeat_n(MISSING, rows);
        Column::new(self.dictionary.clone(), self.codes.iter().chain(missing))
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

    /// The values by date; kept for the first time zone.
    fn dates<I: Interrupt>(
        &self,
        time_zone: &TimeZone,
        meter: &Meter<I>,
    ) -> Result<Cow<'_, DateOrder>, I::Error> {
        let make = || self.dictionary.dates(time_zone, meter);
        let dates = self.by_date.get_or_make(make)?;
        Ok(if dates.is_for(time_zone) {
            Cow::Borrowed(dates)
        } else {
            Cow::Owned(make()?)
        })
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
