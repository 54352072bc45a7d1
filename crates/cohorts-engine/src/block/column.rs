//! Columns: each distinct value once, and a small code for every row.

use std::collections::HashMap;
use std::ops::Range;

use rayon::prelude::*;
use serde_json::Value;

use crate::interrupt::{Interrupt, Meter};
use crate::predicate::{Predicate, Texts};
use crate::value::Stored;

/// Distinct values by their code; texts in one piece and numbers in eight bytes, as nearly all values are these.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Dictionary {
    Texts {
        bytes: String,
        /// Where each ends.
        ends: Vec<usize>,
    },
    /// By the bits of their doubles.
    Doubles(Vec<u64>),
    Mixed(Vec<Value>),
}

impl Default for Dictionary {
    fn default() -> Dictionary {
        Dictionary::Texts {
            bytes: String::new(),
            ends: Vec::new(),
        }
    }
}

impl Dictionary {
    pub fn len(&self) -> usize {
        match self {
            Dictionary::Texts { ends, .. } => ends.len(),
            Dictionary::Doubles(doubles) => doubles.len(),
            Dictionary::Mixed(values) => values.len(),
        }
    }

    pub fn at(&self, code: usize) -> Stored<'_> {
        match self {
            Dictionary::Texts { bytes, ends } => {
                let start = code.checked_sub(1).map_or(0, |before| ends[before]);
                Stored::Text(&bytes[start..ends[code]])
            }
            Dictionary::Doubles(doubles) => Stored::Double(doubles[code]),
            Dictionary::Mixed(values) => Stored::from(&values[code]),
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = Stored<'_>> {
        (0..self.len()).map(|code| self.at(code))
    }

    /// Adds a value, which gets the next code.
    pub fn push(&mut self, value: Stored) {
        match (&mut *self, value) {
            (Dictionary::Texts { bytes, ends }, Stored::Text(text)) => {
                bytes.push_str(text);
                ends.push(bytes.len());
            }
            (Dictionary::Doubles(doubles), Stored::Double(bits)) => doubles.push(bits),
            (Dictionary::Texts { ends, .. }, Stored::Double(bits)) if ends.is_empty() => {
                *self = Dictionary::Doubles(vec![bits]);
            }
            (Dictionary::Mixed(values), value) => values.push(value.to_json()),
            (_, value) => {
                let mut values: Vec<Value> = self.iter().map(Stored::to_json).collect();
                values.push(value.to_json());
                *self = Dictionary::Mixed(values);
            }
        }
    }

    /// The codes that the values of another column have here; those that are new are added.
    pub fn merge_dictionary(&mut self, more: &Dictionary) -> Vec<u32> {
        let wanted: HashMap<Stored, usize> = more.iter().zip(0..).collect();
        let mut codes: Vec<Option<u32>> = vec![None; more.len()];
        for (code, value) in self.iter().enumerate() {
            if let Some(place) = wanted.get(&value) {
                codes[*place] = Some(code as u32);
            }
        }
        let own = codes.into_iter().zip(more.iter());
        own.map(|(code, value)| {
            code.unwrap_or_else(|| {
                self.push(value);
                self.len() as u32 - 1
            })
        })
        .collect()
    }

    /// Marks those of some values for which a predicate holds, where nothing is marked yet.
    fn mark(&self, predicate: &Predicate, some: Range<usize>, marks: &mut [bool]) {
        match self {
            Dictionary::Texts { bytes, ends } => {
                predicate.mark_texts(Texts::new(bytes, ends, some), marks);
            }
            Dictionary::Doubles(doubles) => predicate.mark_doubles(&doubles[some], marks),
            Dictionary::Mixed(values) => {
                for (mark, value) in marks.iter_mut().zip(&values[some]) {
                    *mark = predicate.matches(value);
                }
            }
        }
    }

    /// How much work that is.
    fn work(&self, predicate: &Predicate, some: Range<usize>) -> u64 {
        match self {
            Dictionary::Texts { bytes, ends } => {
                predicate.work_of_texts(Texts::new(bytes, ends, some))
            }
            Dictionary::Doubles(_) => predicate.work_of_instant() * some.len() as u64,
            Dictionary::Mixed(values) => {
                let values = values[some].iter();
                values.map(|value| predicate.work(value.into())).sum()
            }
        }
    }

    /// About how much memory they take.
    pub fn bytes(&self) -> usize {
        match self {
            Dictionary::Texts { bytes, ends } => bytes.len() + size_of_val(ends.as_slice()),
            Dictionary::Doubles(doubles) => size_of_val(doubles.as_slice()),
            Dictionary::Mixed(values) => values.iter().map(weight).sum(),
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

/// A number for each row: that of a value is one above its code, and `MISSING` stands for none. They take as many bytes
/// as so many values need.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Codes {
    Bytes(Vec<u8>),
    Shorts(Vec<u16>),
    Words(Vec<u32>),
}

/// The number of a row without a value.
pub(super) const MISSING: u32 = 0;

impl Default for Codes {
    fn default() -> Codes {
        Codes::Bytes(Vec::new())
    }
}

/// How many bytes a number of so many values takes.
pub(super) enum Width {
    One,
    Two,
    Four,
}

impl Width {
    pub fn of(values: usize) -> Width {
        match values {
            0..=0xFF => Width::One,
            0x100..=0xFFFF => Width::Two,
            _ => Width::Four,
        }
    }
}

impl Codes {
    /// From numbers none of which is above that of values.
    pub fn new(numbers: impl Iterator<Item = u32>, values: usize) -> Codes {
        match Width::of(values) {
            Width::One => Codes::Bytes(numbers.map(|number| number as u8).collect()),
            Width::Two => Codes::Shorts(numbers.map(|number| number as u16).collect()),
            Width::Four => Codes::Words(numbers.collect()),
        }
    }

    pub fn len(&self) -> usize {
        match self {
            Codes::Bytes(codes) => codes.len(),
            Codes::Shorts(codes) => codes.len(),
            Codes::Words(codes) => codes.len(),
        }
    }

    pub fn at(&self, row: usize) -> u32 {
        match self {
            Codes::Bytes(codes) => codes[row].into(),
            Codes::Shorts(codes) => codes[row].into(),
            Codes::Words(codes) => codes[row],
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = u32> {
        (0..self.len()).map(|row| self.at(row))
    }

    pub fn greatest(&self) -> u32 {
        let greatest = match self {
            Codes::Bytes(codes) => codes.iter().max().map(|code| u32::from(*code)),
            Codes::Shorts(codes) => codes.iter().max().map(|code| u32::from(*code)),
            Codes::Words(codes) => codes.iter().max().copied(),
        };
        greatest.unwrap_or(MISSING)
    }

    fn bytes(&self) -> usize {
        match self {
            Codes::Bytes(codes) => size_of_val(codes.as_slice()),
            Codes::Shorts(codes) => size_of_val(codes.as_slice()),
            Codes::Words(codes) => size_of_val(codes.as_slice()),
        }
    }

    /// Some of the rows, in another order.
    fn reordered(&self, order: &[u32]) -> Codes {
        fn take<T: Copy>(codes: &[T], order: &[u32]) -> Vec<T> {
            order.iter().map(|row| codes[*row as usize]).collect()
        }
        match self {
            Codes::Bytes(codes) => Codes::Bytes(take(codes, order)),
            Codes::Shorts(codes) => Codes::Shorts(take(codes, order)),
            Codes::Words(codes) => Codes::Words(take(codes, order)),
        }
    }
}

/// A column of values.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Column {
    pub dictionary: Dictionary,
    pub codes: Codes,
}

impl Column {
    pub fn new(dictionary: Dictionary, numbers: impl Iterator<Item = u32>) -> Column {
        let codes = Codes::new(numbers, dictionary.len());
        Column { dictionary, codes }
    }

    /// The answers of a predicate by code.
    pub fn answers<I: Interrupt>(
        &self,
        predicate: &Predicate,
        meter: &Meter<I>,
    ) -> Result<RowMatches<'_>, I::Error> {
        let mut by_code = vec![predicate.matches_missing()];
        by_code.extend(answered(&self.dictionary, predicate, meter)?);
        Ok(RowMatches {
            codes: Some(&self.codes),
            by_code,
        })
    }

    /// The column with the rows of another one, or so many without a value, after its own.
    pub fn with(&self, more: Result<&Column, usize>) -> Column {
        let mut dictionary = self.dictionary.clone();
        let mut numbers: Vec<u32> = self.codes.iter().collect();
        match more {
            Err(rows) => numbers.resize(numbers.len() + rows, MISSING),
            Ok(more) => {
                let codes = dictionary.merge_dictionary(&more.dictionary);
                let number = |number: u32| match number.checked_sub(1) {
                    Some(code) => codes[code as usize] + 1,
                    None => MISSING,
                };
                numbers.extend(more.codes.iter().map(number));
            }
        }
        Column::new(dictionary, numbers.into_iter())
    }

    /// About how much memory it takes.
    pub fn bytes(&self) -> usize {
        self.dictionary.bytes() + self.codes.bytes()
    }

    pub fn reorder(&mut self, order: &[u32]) {
        self.codes = self.codes.reordered(order);
    }

    /// The column without the values that no row has.
    pub fn compact(&self) -> Column {
        let mut held = Dictionary::default();
        let mut kept = vec![MISSING; self.dictionary.len() + 1];
        let numbers: Vec<u32> = self
            .codes
            .iter()
            .map(|number| {
                let kept = &mut kept[number as usize];
                if number != MISSING && *kept == MISSING {
                    held.push(self.dictionary.at(number as usize - 1));
                    *kept = held.len() as u32;
                }
                *kept
            })
            .collect();
        Column::new(held, numbers.into_iter())
    }
}

/// Whether a predicate holds, row by row.
pub(crate) struct RowMatches<'a> {
    /// Nothing where all rows are missing.
    codes: Option<&'a Codes>,
    by_code: Vec<bool>,
}

impl RowMatches<'_> {
    /// The same answer for every row.
    pub fn constant(answer: bool) -> RowMatches<'static> {
        RowMatches {
            codes: None,
            by_code: vec![answer],
        }
    }

    pub fn at(&self, row: usize) -> bool {
        let number = self.codes.map_or(MISSING, |codes| codes.at(row));
        self.by_code[number as usize]
    }

    /// Takes the marks from those of some rows whose answer is no.
    pub fn filter(&self, rows: Range<usize>, marks: &mut [bool]) {
        fn keep<T: Copy + Into<u32>>(codes: &[T], answers: &[bool], marks: &mut [bool]) {
            for (mark, code) in marks.iter_mut().zip(codes) {
                let number: u32 = (*code).into();
                *mark &= answers[number as usize];
            }
        }
        match self.codes {
            None => marks.iter_mut().for_each(|mark| *mark &= self.by_code[0]),
            Some(Codes::Bytes(codes)) => keep(&codes[rows], &self.by_code, marks),
            Some(Codes::Shorts(codes)) => keep(&codes[rows], &self.by_code, marks),
            Some(Codes::Words(codes)) => keep(&codes[rows], &self.by_code, marks),
        }
    }
}

/// So many values are looked at together by one thread, unless that is much work.
const PART: usize = 4_096;
const MUCH_WORK: u64 = 200_000;
/// The work that is shared by threads before it is asked whether to go on, in units of `Meter`.
const MOST_WORK: u64 = 1_000_000;

/// Whether a predicate holds for each of the values; many are looked at by all processors.
pub(super) fn answered<I: Interrupt>(
    dictionary: &Dictionary,
    predicate: &Predicate,
    meter: &Meter<I>,
) -> Result<Vec<bool>, I::Error> {
    let mut marks = vec![false; dictionary.len()];
    let until = |start: usize, size: usize| start..dictionary.len().min(start + size);
    let mut size = PART;
    while size > 1 && dictionary.work(predicate, until(0, size)) > MUCH_WORK {
        size /= 2;
    }
    let mut parts: Vec<_> = marks.chunks_mut(size).enumerate().collect();
    let threads = rayon::current_num_threads().min(parts.len()).max(1) as u64;
    let mark = |(nth, marks): &mut (usize, &mut [bool])| {
        dictionary.mark(predicate, until(*nth * size, size), marks);
    };
    let mut rest = parts.as_mut_slice();
    while !rest.is_empty() {
        let (mut count, mut work) = (0, 0);
        while count < rest.len() && work < MOST_WORK {
            work += dictionary.work(predicate, until(rest[count].0 * size, size));
            count += 1;
        }
        meter.spend(work / threads)?;
        let some;
        (some, rest) = rest.split_at_mut(count);
        match some {
            [part] => mark(part),
            parts => parts.par_iter_mut().for_each(mark),
        }
    }
    Ok(marks)
}

/// Collects the values of rows.
#[derive(Debug, Default)]
pub(super) struct ColumnBuilder {
    dictionary: Dictionary,
    /// The number of each row.
    rows: Vec<u32>,
    /// The number of each value by its JSON text.
    numbers: HashMap<String, u32>,
    /// About how much memory the values take, and the texts by which they are known.
    bytes: usize,
}

impl ColumnBuilder {
    pub fn push(&mut self, value: Option<&Value>) {
        let value = value.filter(|value| !value.is_null());
        let number = value.map(|value| self.number(&value.to_string(), || value.clone()));
        self.rows.push(number.unwrap_or(MISSING));
    }

    /// Takes JSON text as it is stored; whether it is a value. Text that is no JSON counts as missing.
    pub fn push_raw(&mut self, raw: Option<&str>) -> bool {
        let parse = |raw| serde_json::from_str(raw).unwrap_or(Value::Null);
        let number = raw.map_or(MISSING, |raw| self.number(raw, || parse(raw)));
        self.rows.push(number);
        number != MISSING
    }

    fn number(&mut self, key: &str, value: impl FnOnce() -> Value) -> u32 {
        if let Some(number) = self.numbers.get(key) {
            return *number;
        }
        let value = value();
        let mut number = MISSING;
        if !value.is_null() {
            self.dictionary.push(Stored::from(&value));
            number = self.dictionary.len() as u32;
        }
        self.bytes += weight(&value) + key.len() + 2 * size_of::<String>();
        self.numbers.insert(key.to_owned(), number);
        number
    }

    /// Takes the last row away.
    pub fn pop(&mut self) {
        self.rows.pop();
    }

    /// About how much memory it takes so far.
    pub fn bytes(&self) -> usize {
        self.bytes + size_of_val(self.rows.as_slice())
    }

    pub fn finish(self) -> Column {
        Column::new(self.dictionary, self.rows.into_iter())
    }
}
