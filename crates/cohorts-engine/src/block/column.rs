//! Columns: each distinct value once, and a small code for every row.

use std::collections::HashMap;
use std::ops::Range;

use rayon::prelude::*;
use serde_json::Value;

use crate::predicate::{Predicate, Texts};
use crate::source::{Meter, Source};
use crate::value::Stored;

/// The code of a value that is missing.
pub(super) const MISSING: u32 = u32::MAX;

/// Distinct values by their code; texts in one piece and numbers in eight bytes, as nearly all values are these.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Values {
    Texts {
        bytes: String,
        /// Where each ends.
        ends: Vec<usize>,
    },
    /// By the bits of their doubles.
    Doubles(Vec<u64>),
    Mixed(Vec<Value>),
}

impl Default for Values {
    fn default() -> Values {
        Values::Texts {
            bytes: String::new(),
            ends: Vec::new(),
        }
    }
}

impl Values {
    pub fn len(&self) -> usize {
        match self {
            Values::Texts { ends, .. } => ends.len(),
            Values::Doubles(doubles) => doubles.len(),
            Values::Mixed(values) => values.len(),
        }
    }

    pub fn at(&self, code: usize) -> Stored<'_> {
        match self {
            Values::Texts { bytes, ends } => {
                let start = code.checked_sub(1).map_or(0, |before| ends[before]);
                Stored::Text(&bytes[start..ends[code]])
            }
            Values::Doubles(doubles) => Stored::Double(doubles[code]),
            Values::Mixed(values) => Stored::from(&values[code]),
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = Stored<'_>> {
        (0..self.len()).map(|code| self.at(code))
    }

    /// Adds a value, which gets the next code.
    pub fn push(&mut self, value: Stored) {
        match (&mut *self, value) {
            (Values::Texts { bytes, ends }, Stored::Text(text)) => {
                bytes.push_str(text);
                ends.push(bytes.len());
            }
            (Values::Doubles(doubles), Stored::Double(bits)) => doubles.push(bits),
            (Values::Texts { ends, .. }, Stored::Double(bits)) if ends.is_empty() => {
                *self = Values::Doubles(vec![bits]);
            }
            (Values::Mixed(values), value) => values.push(value.to_json()),
            (_, value) => {
                let mut values: Vec<Value> = self.iter().map(Stored::to_json).collect();
                values.push(value.to_json());
                *self = Values::Mixed(values);
            }
        }
    }

    /// The codes that the values of another column have here; those that are new are added.
    pub fn adopt(&mut self, more: &Values) -> Vec<u32> {
        let wanted: HashMap<Stored, usize> = more.iter().zip(0..).collect();
        let mut codes = vec![MISSING; more.len()];
        for (code, value) in self.iter().enumerate() {
            if let Some(place) = wanted.get(&value) {
                codes[*place] = code as u32;
            }
        }
        for (place, code) in codes.iter_mut().enumerate() {
            if *code == MISSING {
                *code = self.len() as u32;
                self.push(more.at(place));
            }
        }
        codes
    }

    /// Whether a predicate holds for some of them.
    fn hold(&self, predicate: &Predicate, some: Range<usize>) -> Vec<bool> {
        match self {
            Values::Texts { bytes, ends } => predicate.matches_texts(Texts::new(bytes, ends, some)),
            Values::Doubles(doubles) => predicate.matches_doubles(&doubles[some]),
            Values::Mixed(values) => {
                let values = values[some].iter();
                values.map(|value| predicate.matches(value)).collect()
            }
        }
    }

    /// How much work that is.
    fn work(&self, predicate: &Predicate, some: Range<usize>) -> u64 {
        match self {
            Values::Texts { bytes, ends } => predicate.work_of_texts(Texts::new(bytes, ends, some)),
            Values::Doubles(_) => predicate.work_of_instant() * some.len() as u64,
            Values::Mixed(values) => {
                let values = values[some].iter();
                values.map(|value| predicate.work(value.into())).sum()
            }
        }
    }

    /// About how much memory they take.
    pub fn bytes(&self) -> usize {
        match self {
            Values::Texts { bytes, ends } => bytes.len() + size_of_val(ends.as_slice()),
            Values::Doubles(doubles) => size_of_val(doubles.as_slice()),
            Values::Mixed(values) => values.iter().map(weight).sum(),
        }
    }
}

/// About how much memory a value takes.
fn weight(value: &Value) -> usize {
    let parts = match value {
        Value::String(text) => text.len(),
        Value::Array(list) => list.iter().map(weight).sum(),
        Value::Object(map) => map
            .iter()
            .map(|(key, one)| 64 + key.len() + weight(one))
            .sum(),
        _ => 0,
    };
    size_of::<Value>() + parts
}

/// A column of values.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Column {
    pub values: Values,
    pub codes: Vec<u32>,
}

impl Column {
    /// The answers of a predicate by code.
    pub fn answers<S: Source>(
        &self,
        predicate: &Predicate,
        meter: &Meter<S>,
    ) -> Result<Answers<'_>, S::Error> {
        let mut by_code = answered(&self.values, predicate, meter)?;
        by_code.push(predicate.matches_missing());
        Ok(Answers {
            codes: &self.codes,
            by_code,
        })
    }

    /// Adds the rows of another column.
    pub fn extend(&mut self, more: &Column) {
        let codes = self.values.adopt(&more.values);
        let rows = more.codes.iter();
        self.codes
            .extend(rows.map(|code| codes.get(*code as usize).copied().unwrap_or(MISSING)));
    }

    pub fn extend_missing(&mut self, rows: usize) {
        self.codes.resize(self.codes.len() + rows, MISSING);
    }

    /// About how much memory it takes.
    pub fn bytes(&self) -> usize {
        self.values.bytes() + size_of_val(self.codes.as_slice())
    }

    pub fn reorder(&mut self, order: &[u32]) {
        self.codes = order.iter().map(|row| self.codes[*row as usize]).collect();
    }

    /// Forgets the values that no row has.
    pub fn compact(&mut self) {
        let mut held = Values::default();
        let mut kept = vec![MISSING; self.values.len()];
        for code in self.codes.iter_mut().filter(|code| **code != MISSING) {
            let place = &mut kept[*code as usize];
            if *place == MISSING {
                *place = held.len() as u32;
                held.push(self.values.at(*code as usize));
            }
            *code = *place;
        }
        self.values = held;
    }
}

/// Whether a predicate holds, row by row.
pub(crate) struct Answers<'a> {
    codes: &'a [u32],
    /// By code; the last one for what is missing.
    by_code: Vec<bool>,
}

impl Answers<'_> {
    /// The same answer for every row.
    pub fn constant(answer: bool) -> Answers<'static> {
        Answers {
            codes: &[],
            by_code: vec![answer],
        }
    }

    pub fn at(&self, row: usize) -> bool {
        let missing = self.by_code.len() - 1;
        let code = self.codes.get(row).map_or(missing, |code| *code as usize);
        self.by_code[code.min(missing)]
    }
}

/// So many values are looked at together by one thread, unless that is much work.
const PART: usize = 4_096;
const MUCH_WORK: u64 = 200_000;
/// The work that is shared by threads before it is asked whether to go on, in units of `Meter`.
const MOST_WORK: u64 = 1_000_000;

/// Whether a predicate holds for each of the values; many are looked at by all processors.
pub(super) fn answered<S: Source>(
    values: &Values,
    predicate: &Predicate,
    meter: &Meter<S>,
) -> Result<Vec<bool>, S::Error> {
    let mut holds = Vec::with_capacity(values.len());
    let until = |start: usize, size: usize| start..values.len().min(start + size);
    let mut size = PART;
    while size > 1 && values.work(predicate, until(0, size)) > MUCH_WORK {
        size /= 2;
    }
    let starts = (0..values.len()).step_by(size);
    let parts: Vec<_> = starts.map(|start| until(start, size)).collect();
    let threads = rayon::current_num_threads().min(parts.len()).max(1) as u64;
    let mut rest = parts.as_slice();
    while !rest.is_empty() {
        let (mut count, mut work) = (0, 0);
        while count < rest.len() && work < MOST_WORK {
            work += values.work(predicate, rest[count].clone());
            count += 1;
        }
        meter.spend(work / threads)?;
        let some;
        (some, rest) = rest.split_at(count);
        match some {
            [part] => holds.extend(values.hold(predicate, part.clone())),
            parts => holds.par_extend(
                parts
                    .par_iter()
                    .flat_map_iter(|part| values.hold(predicate, part.clone())),
            ),
        }
    }
    Ok(holds)
}

/// Collects the values of rows.
#[derive(Debug, Default)]
pub(super) struct ColumnBuilder {
    pub column: Column,
    codes: HashMap<String, u32>,
    /// About how much memory the values take, and the texts by which they are known.
    bytes: usize,
}

impl ColumnBuilder {
    pub fn push(&mut self, value: Option<&Value>) {
        match value.filter(|value| !value.is_null()) {
            None => self.column.codes.push(MISSING),
            Some(value) => self.push_keyed(&value.to_string(), || value.clone()),
        }
    }

    /// Takes JSON text as it is stored. Text that is no JSON counts as missing.
    pub fn push_raw(&mut self, raw: Option<&str>) {
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
                    column.values.push(Stored::from(&value));
                }
                self.bytes += weight(&value) + key.len() + 2 * size_of::<String>();
                self.codes.insert(key.to_owned(), code);
                code
            }
        };
        column.codes.push(code);
    }

    /// About how much memory it takes so far.
    pub fn bytes(&self) -> usize {
        self.bytes + size_of_val(self.column.codes.as_slice())
    }
}
