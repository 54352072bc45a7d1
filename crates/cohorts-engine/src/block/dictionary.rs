//! The distinct values of a column.

use std::collections::HashMap;
use std::ops::Range;

use jiff::tz::TimeZone;
use rayon::prelude::*;
use serde_json::Value;

use super::derived::DateOrder;
use crate::date;
use crate::interrupt::{Interrupt, Meter};
use crate::predicate::{Predicate, Texts};
use crate::value::Stored;

/// Distinct values, each known by its index.
///
/// Nearly all columns have only texts or only numbers. Texts are concatenated, and numbers take
/// eight bytes each.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Dictionary {
    Texts {
        /// All texts, concatenated.
        text: String,
        /// The end of each text, in bytes.
        ends: Vec<usize>,
    },
    /// The bits of each double.
    Doubles(Vec<u64>),
    Mixed(Vec<Value>),
}

impl Default for Dictionary {
    fn default() -> Dictionary {
        Dictionary::Texts {
            text: String::new(),
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

    pub fn value(&self, index: usize) -> Stored<'_> {
        match self {
            Dictionary::Texts { text, ends } => {
                let start = index.checked_sub(1).map_or(0, |previous| ends[previous]);
                Stored::Text(&text[start..ends[index]])
            }
            Dictionary::Doubles(doubles) => Stored::Double(doubles[index]),
            Dictionary::Mixed(values) => Stored::from(&values[index]),
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = Stored<'_>> {
        let (mut text, mut ends) = ("", &[][..]);
        let (mut doubles, mut mixed) = (&[][..], &[][..]);
        match self {
            Dictionary::Texts {
                text: all,
                ends: of_all,
            } => (text, ends) = (all, of_all),
            Dictionary::Doubles(all) => doubles = all,
            Dictionary::Mixed(all) => mixed = all,
        }
        let mut start = 0;
        let texts = ends.iter().map(move |end| {
            let value = &text[start..*end];
            start = *end;
            Stored::Text(value)
        });
        let doubles = doubles.iter().map(|bits| Stored::Double(*bits));
        texts.chain(doubles).chain(mixed.iter().map(Stored::from))
    }

    /// The indexes of the values that are dates, by date.
    pub fn dates<I: Interrupt>(
        &self,
        time_zone: &TimeZone,
        meter: &Meter<I>,
    ) -> Result<DateOrder, I::Error> {
        let mut dates = Vec::new();
        for (value, index) in self.iter().zip(0..) {
            meter.spend(WORK_OF_DATE)?;
            if let Some(instant) = date::stored_instant(value, time_zone) {
                dates.push((instant, index));
            }
        }
        Ok(DateOrder::new(time_zone, dates))
    }

    /// The dictionary of the values with these indexes, which must be distinct.
    pub fn taken(&self, indexes: &[u32]) -> Dictionary {
        let mut dictionary = Dictionary::default();
        for index in indexes {
            dictionary.push(self.value(*index as usize));
        }
        dictionary
    }

    /// Adds a value at the end. The dictionary must not contain it yet.
    pub fn push(&mut self, value: Stored) {
        match (&mut *self, value) {
            (Dictionary::Texts { text, ends }, Stored::Text(value)) => {
                text.push_str(value);
                ends.push(text.len());
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

    /// Adds the values of `other` that are missing here. Returns, for each index of `other`, the
    /// index here.
    pub fn merge_dictionary(&mut self, other: &Dictionary) -> Vec<u32> {
        let positions: HashMap<Stored, usize> = other.iter().zip(0..).collect();
        let mut indexes: Vec<Option<u32>> = vec![None; other.len()];
        for (index, value) in self.iter().enumerate() {
            if let Some(position) = positions.get(&value) {
                indexes[*position] = Some(index as u32);
            }
        }
        let merge = |(index, value): (Option<u32>, Stored)| {
            index.unwrap_or_else(|| {
                self.push(value);
                self.len() as u32 - 1
            })
        };
        indexes.into_iter().zip(other.iter()).map(merge).collect()
    }

    /// The memory that the values take, in bytes, approximately.
    pub fn bytes(&self) -> usize {
        match self {
            Dictionary::Texts { text, ends } => text.len() + size_of_val(ends.as_slice()),
            Dictionary::Doubles(doubles) => size_of_val(doubles.as_slice()),
            Dictionary::Mixed(values) => values.iter().map(value_bytes).sum(),
        }
    }
}

/// The memory that a value takes, in bytes, approximately.
pub(super) fn value_bytes(value: &Value) -> usize {
    let parts = match value {
        Value::String(text) => text.len(),
        Value::Array(list) => list.iter().map(value_bytes).sum(),
        Value::Object(map) => map
            .iter()
            .map(|(key, value)| 64 + key.len() + value_bytes(value))
            .sum(),
        _ => 0,
    };
    size_of::<Value>() + parts
}

/// The work of parsing a date, in units of [`Meter`].
const WORK_OF_DATE: u64 = 30;
/// The values of one part. Parts are smaller if their work exceeds `MAX_PART_WORK`.
const PART_VALUES: usize = 4_096;
const MAX_PART_WORK: u64 = 200_000;
/// The work of all threads between two interrupts, in units of [`Meter`].
const MAX_STEP_WORK: u64 = 1_000_000;

/// Some values, and whether the predicate holds for them.
struct Part<'a> {
    indexes: Range<usize>,
    matches: &'a mut [bool],
}

impl Dictionary {
    /// Evaluates `predicate` for each value. Large dictionaries use all threads.
    pub fn evaluate<I: Interrupt>(
        &self,
        predicate: &Predicate,
        meter: &Meter<I>,
    ) -> Result<Vec<bool>, I::Error> {
        let mut matches = vec![false; self.len()];
        let mut parts = self.parts(predicate, &mut matches);
        let threads = rayon::current_num_threads().min(parts.len()).max(1) as u64;
        let mut rest = parts.as_mut_slice();
        while !rest.is_empty() {
            let (count, work) = self.step(predicate, rest);
            meter.spend(work / threads)?;
            let step;
            (step, rest) = rest.split_at_mut(count);
            self.evaluate_parts(predicate, step);
        }
        Ok(matches)
    }

    fn parts<'a>(&self, predicate: &Predicate, matches: &'a mut [bool]) -> Vec<Part<'a>> {
        let mut size = PART_VALUES;
        while size > 1 && self.work(predicate, 0..size.min(self.len())) > MAX_PART_WORK {
            size /= 2;
        }
        let parts = matches.chunks_mut(size).enumerate();
        parts
            .map(|(nth, matches)| Part {
                indexes: nth * size..nth * size + matches.len(),
                matches,
            })
            .collect()
    }

    /// The number of parts up to the next interrupt, and their work.
    fn step(&self, predicate: &Predicate, parts: &[Part]) -> (usize, u64) {
        let (mut count, mut work) = (0, 0);
        while count < parts.len() && work < MAX_STEP_WORK {
            work += self.work(predicate, parts[count].indexes.clone());
            count += 1;
        }
        (count, work)
    }

    fn evaluate_parts(&self, predicate: &Predicate, parts: &mut [Part]) {
        match parts {
            [part] => self.evaluate_part(predicate, part),
            parts => parts
                .par_iter_mut()
                .for_each(|part| self.evaluate_part(predicate, part)),
        }
    }

    fn evaluate_part(&self, predicate: &Predicate, part: &mut Part) {
        let indexes = part.indexes.clone();
        match self {
            Dictionary::Texts { text, ends } => {
                predicate.mark_texts(Texts::new(text, ends, indexes), part.matches);
            }
            Dictionary::Doubles(doubles) => {
                predicate.mark_doubles(&doubles[indexes], part.matches);
            }
            Dictionary::Mixed(values) => {
                for (matches, value) in part.matches.iter_mut().zip(&values[indexes]) {
                    *matches = predicate.matches(value);
                }
            }
        }
    }

    /// The work of evaluating `predicate` for some values, in units of [`Meter`].
    fn work(&self, predicate: &Predicate, indexes: Range<usize>) -> u64 {
        match self {
            Dictionary::Texts { text, ends } => {
                predicate.work_of_texts(Texts::new(text, ends, indexes))
            }
            Dictionary::Doubles(_) => predicate.work_of_instant() * indexes.len() as u64,
            Dictionary::Mixed(values) => {
                let values = values[indexes].iter();
                values.map(|value| predicate.work(value.into())).sum()
            }
        }
    }
}
