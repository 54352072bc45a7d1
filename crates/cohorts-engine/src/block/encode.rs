//! Blocks as bytes.
//!
//! Numbers stand as differences where neighbours are alike, and by planes of bytes, the first byte of every number before
//! the second of any, so that what comes after can compress them. Nothing here says whether bytes are whole: that is for
//! whoever keeps them.

use std::collections::HashMap;
use std::sync::Arc;

use roaring::RoaringBitmap;
use serde_json::Value;

use super::column::{Codes, Column, Dictionary, Width};
use super::events::{EventBlock, Times};
use super::{Postings, PropertyBlock};

/// How events, and how properties, stand.
const EVENTS: u8 = 3;
const PROPERTIES: u8 = 2;
/// Events whose codes all take four bytes.
const WIDE_EVENTS: u8 = 2;
/// Blocks of events that follow, as many as is said.
const SEVERAL: u8 = 4;
/// The sorts of times, of values, and of postings.
const MILLIS: u8 = 0;
const MICROS: u8 = 1;
const TEXTS: u8 = 0;
const MIXED: u8 = 1;
const DOUBLES: u8 = 2;
const BITMAPS: u8 = 0;
const PAIRS: u8 = 1;

impl EventBlock {
    fn encode(&self) -> Vec<u8> {
        let mut out = Writer(vec![EVENTS]);
        out.rising(self.ordinals());
        match self.times() {
            Times::Millis { base, offsets } => {
                out.0.push(MILLIS);
                out.0.extend(base.to_le_bytes());
                out.column(offsets, u32::to_le_bytes);
            }
            Times::Micros(times) => {
                out.0.push(MICROS);
                out.column(times, i64::to_le_bytes);
            }
        }
        let mut columns: Vec<(&String, &Column)> = self.columns().iter().collect();
        columns.sort_unstable_by_key(|(key, _)| *key);
        out.length(columns.len());
        for (key, column) in columns {
            out.bytes(key.as_bytes());
            out.dictionary(&column.dictionary);
            match &column.codes {
                Codes::Bytes(codes) => out.bytes(codes),
                Codes::Shorts(codes) => out.column(codes, u16::to_le_bytes),
                Codes::Words(codes) => out.column(codes, u32::to_le_bytes),
            }
        }
        out.0
    }

    /// Several blocks as bytes, piece by piece, so that whoever keeps them need not hold all of them.
    pub fn encode_all(blocks: &[Arc<EventBlock>]) -> impl Iterator<Item = Vec<u8>> {
        let heading = (blocks.len() != 1).then(|| {
            let mut out = Writer(vec![SEVERAL]);
            out.length(blocks.len());
            out.0
        });
        heading
            .into_iter()
            .chain(blocks.iter().map(|block| block.encode()))
    }

    /// The blocks of bytes that `encode_all` made one after another, or nothing where it did not make them.
    pub fn decode_all(bytes: &[u8]) -> Option<Vec<EventBlock>> {
        let (mut rest, mut count) = (Reader(bytes), 1);
        if let Some((_, mut after)) = Reader::new(bytes, &[SEVERAL]) {
            count = after.length()?;
            rest = after;
        }
        let mut blocks = Vec::new();
        for _ in 0..count {
            blocks.push(EventBlock::take(&mut rest)?);
        }
        rest.0.is_empty().then_some(blocks)
    }

    fn take(rest: &mut Reader) -> Option<EventBlock> {
        let (version, mut bytes) = Reader::new(rest.0, &[EVENTS, WIDE_EVENTS])?;
        let ordinals = bytes.rising()?;
        let times = match bytes.byte()? {
            MILLIS => {
                let base = i64::from_le_bytes(*bytes.0.split_off(..8)?.first_chunk()?);
                let offsets = bytes.column(u32::from_le_bytes)?;
                let last = offsets.iter().max().copied().unwrap_or_default();
                base.checked_add(i64::from(last) * 1_000)?;
                Times::Millis { base, offsets }
            }
            MICROS => Times::Micros(bytes.column(i64::from_le_bytes)?),
            _ => return None,
        };
        let rows = ordinals.len();
        let mut columns = HashMap::new();
        for _ in 0..bytes.length()? {
            let key = str::from_utf8(bytes.bytes()?).ok()?.to_owned();
            let dictionary = bytes.dictionary()?;
            let codes = match Width::of(dictionary.len()) {
                _ if version == WIDE_EVENTS => Codes::Words(bytes.column(u32::from_le_bytes)?),
                Width::One => Codes::Bytes(bytes.bytes()?.to_owned()),
                Width::Two => Codes::Shorts(bytes.column(u16::from_le_bytes)?),
                Width::Four => Codes::Words(bytes.column(u32::from_le_bytes)?),
            };
            if codes.len() != rows || codes.greatest() as usize > dictionary.len() {
                return None;
            }
            let column = match version {
                WIDE_EVENTS => Column::new(dictionary, codes.iter()),
                _ => Column { dictionary, codes },
            };
            columns.insert(key, column);
        }
        *rest = bytes;
        (times.len() == rows).then(|| EventBlock::of(ordinals, times, columns))
    }
}

impl PropertyBlock {
    /// The values and who has them as bytes.
    pub fn encode(&self) -> Vec<u8> {
        if self.changed.is_some() {
            return self.flattened().encode();
        }
        let mut out = Writer(vec![PROPERTIES]);
        out.dictionary(&self.dictionary);
        match &self.postings {
            Postings::Bitmaps(bitmaps) => {
                out.0.push(BITMAPS);
                for set in bitmaps {
                    out.bytes(&crate::chunks::encode(set));
                }
            }
            Postings::Pairs(rows) => {
                out.0.push(PAIRS);
                let ordinals: Vec<u32> = rows.iter().map(|(person, _)| *person).collect();
                out.rising(&ordinals);
                let before = std::iter::once(&(0, 0)).chain(rows);
                let steps = rows.iter().zip(before);
                let steps: Vec<u32> = steps
                    .map(|(row, before)| row.1.wrapping_sub(before.1))
                    .collect();
                out.column(&steps, u32::to_le_bytes);
            }
        }
        out.0
    }

    /// The block of bytes that `encode` made, or nothing where it did not make them.
    pub fn decode(bytes: &[u8]) -> Option<PropertyBlock> {
        let (_, mut bytes) = Reader::new(bytes, &[PROPERTIES])?;
        let dictionary = bytes.dictionary()?;
        let postings = match bytes.byte()? {
            BITMAPS => {
                let set = |_| crate::chunks::decode(bytes.bytes()?).ok();
                let bitmaps: Vec<RoaringBitmap> =
                    (0..dictionary.len()).map(set).collect::<Option<_>>()?;
                Postings::Bitmaps(bitmaps)
            }
            PAIRS => {
                let ordinals = bytes.rising()?;
                let mut code = 0_u32;
                let codes = bytes.column(u32::from_le_bytes)?.into_iter();
                let codes = codes.map(|step| {
                    code = code.wrapping_add(step);
                    ((code as usize) < dictionary.len()).then_some(code)
                });
                let codes: Vec<u32> = codes.collect::<Option<_>>()?;
                if codes.len() != ordinals.len() {
                    return None;
                }
                Postings::Pairs(ordinals.into_iter().zip(codes).collect())
            }
            _ => return None,
        };
        let whole = bytes.0.is_empty();
        whole.then(|| PropertyBlock::of(dictionary, postings))
    }
}

struct Writer(Vec<u8>);

impl Writer {
    fn length(&mut self, length: usize) {
        self.0.extend((length as u64).to_le_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.length(bytes.len());
        self.0.extend(bytes);
    }

    /// Numbers, by planes.
    fn column<T: Copy, const N: usize>(&mut self, column: &[T], of: fn(T) -> [u8; N]) {
        self.length(column.len());
        for plane in 0..N {
            self.0.extend(column.iter().map(|value| of(*value)[plane]));
        }
    }

    /// Numbers none of which is below the one before it.
    fn rising(&mut self, numbers: &[u32]) {
        let before = std::iter::once(&0).chain(numbers);
        let steps: Vec<u32> = numbers
            .iter()
            .zip(before)
            .map(|(number, before)| number - before)
            .collect();
        self.column(&steps, u32::to_le_bytes);
    }

    fn dictionary(&mut self, dictionary: &Dictionary) {
        match dictionary {
            Dictionary::Texts { bytes, ends } => {
                self.0.push(TEXTS);
                let before = std::iter::once(&0).chain(ends);
                let lengths: Vec<u32> = ends
                    .iter()
                    .zip(before)
                    .map(|(end, before)| (end - before) as u32)
                    .collect();
                self.column(&lengths, u32::to_le_bytes);
                self.bytes(bytes.as_bytes());
            }
            Dictionary::Doubles(doubles) => {
                self.0.push(DOUBLES);
                self.column(doubles, u64::to_le_bytes);
            }
            Dictionary::Mixed(values) => {
                self.0.push(MIXED);
                let mut json = Vec::new();
                // Writing to memory has no way to fail.
                let written = serde_json::to_writer(&mut json, values);
                debug_assert!(written.is_ok());
                self.bytes(&json);
            }
        }
    }
}

/// Takes from the front what a `Writer` wrote.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// The version and what follows it, if it is one of these.
    fn new(bytes: &'a [u8], known: &[u8]) -> Option<(u8, Self)> {
        let (version, rest) = bytes.split_first()?;
        known.contains(version).then_some((*version, Reader(rest)))
    }

    fn byte(&mut self) -> Option<u8> {
        self.0.split_off_first().copied()
    }

    fn length(&mut self) -> Option<usize> {
        let bytes = self.0.split_off(..8)?.first_chunk()?;
        u64::from_le_bytes(*bytes).try_into().ok()
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.length()?;
        self.0.split_off(..length)
    }

    fn column<T, const N: usize>(&mut self, of: fn([u8; N]) -> T) -> Option<Vec<T>> {
        let rows = self.length()?;
        let bytes = self.0.split_off(..rows.checked_mul(N)?)?;
        let mut planes = [&bytes[..0]; N];
        for (nth, plane) in planes.iter_mut().enumerate() {
            *plane = &bytes[nth * rows..][..rows];
        }
        let value = |row: usize| of(std::array::from_fn(|nth| planes[nth][row]));
        Some((0..rows).map(value).collect())
    }

    fn rising(&mut self) -> Option<Vec<u32>> {
        let mut number = 0_u32;
        let steps = self.column(u32::from_le_bytes)?.into_iter();
        let numbers = steps.map(|step| {
            number = number.checked_add(step)?;
            Some(number)
        });
        numbers.collect()
    }

    fn dictionary(&mut self) -> Option<Dictionary> {
        match self.byte()? {
            TEXTS => {
                let mut end = 0_usize;
                let lengths = self.column(u32::from_le_bytes)?.into_iter();
                let ends = lengths.map(|length| {
                    end = end.checked_add(length as usize)?;
                    Some(end)
                });
                let ends: Vec<usize> = ends.collect::<Option<_>>()?;
                let bytes = str::from_utf8(self.bytes()?).ok()?;
                let fits =
                    end == bytes.len() && ends.iter().all(|end| bytes.is_char_boundary(*end));
                fits.then(|| Dictionary::Texts {
                    bytes: bytes.to_owned(),
                    ends,
                })
            }
            DOUBLES => Some(Dictionary::Doubles(self.column(u64::from_le_bytes)?)),
            MIXED => {
                let values: Vec<Value> = serde_json::from_slice(self.bytes()?).ok()?;
                Some(Dictionary::Mixed(values))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::block::{EventBlockBuilder, PropertyBlockBuilder};

    fn decoded(bytes: &[u8]) -> Option<EventBlock> {
        let mut blocks = EventBlock::decode_all(bytes)?;
        assert_eq!(blocks.len(), 1);
        blocks.pop()
    }

    fn block(rows: &[(u32, i64, Value)]) -> EventBlock {
        let mut builder = EventBlockBuilder::new(&["a".to_owned(), "b".to_owned()]);
        for (person, time, value) in rows {
            builder.push(*person, *time, &json!({"a": value, "b": person}));
        }
        builder.finish()
    }

    fn value() -> impl Strategy<Value = Value> {
        let number = (0..9).prop_map(|number| json!(number * 3 / 2));
        prop_oneof![
            "[aäß]{0,3}".prop_map(Value::from),
            number,
            Just(Value::Null),
            Just(json!(["x", {"y": 0.12345678901234567}]))
        ]
    }

    fn text() -> impl Strategy<Value = Value> {
        "[aäß]{0,3}".prop_map(Value::from)
    }

    fn number() -> impl Strategy<Value = Value> {
        prop_oneof![
            any::<f64>().prop_map(Value::from),
            (0..9).prop_map(Value::from)
        ]
    }

    proptest! {
        #[test]
        fn events_come_back_as_they_were(
            rows in prop_oneof![
                vec((any::<u32>(), any::<i64>(), value()), 0..50),
                vec((0..9_u32, (0..9_i64).prop_map(|hours| hours * 3_600_000_000), text()), 0..50),
            ]
        ) {
            let block = block(&rows);
            prop_assert_eq!(decoded(&block.encode()), Some(block));
        }

        #[test]
        fn properties_come_back_as_they_were(
            rows in prop_oneof![vec((any::<u32>(), value()), 0..50), vec((0..2_000_u32, text()), 0..50), vec((0..9_u32, number()), 0..50)],
            spread in any::<bool>(),
            changes in vec((0..2_000_u32, value()), 0..9),
        ) {
            let build = |rows: &[(u32, Value)], spread: bool| {
                let mut builder = PropertyBlockBuilder::new();
                rows.iter().for_each(|(person, value)| builder.push(*person, value));
                // Beyond so many values there are rows instead of sets.
                (0..300 * u32::from(spread)).for_each(|nth| builder.push(nth, &json!(format!("v{nth}"))));
                builder.finish()
            };
            let block = build(&rows, spread);
            prop_assert_eq!(PropertyBlock::decode(&block.encode()), Some(block.clone()));
            let people = changes.iter().map(|(person, _)| *person).collect();
            let changed = block.with_changes(&people, build(&changes, false));
            prop_assert_eq!(PropertyBlock::decode(&changed.encode()), Some(changed.flattened()));
        }

        #[test]
        fn other_bytes_are_nothing_or_something_else(bytes in vec(any::<u8>(), 0..200), place in 0..200_usize, small in any::<bool>()) {
            let known = block(&[(1, 1_000, json!("a")), (2, 5_000, json!(3))]).encode();
            let mut bytes = bytes;
            for version in [EVENTS, WIDE_EVENTS, SEVERAL, PROPERTIES] {
                if let Some(first) = bytes.first_mut() {
                    *first = version;
                }
                let _ = (EventBlock::decode_all(&bytes), PropertyBlock::decode(&bytes));
            }
            let mut damaged = known.clone();
            let place = place % known.len();
            damaged[place] = if small { damaged[place].wrapping_add(1) } else { 0xFF };
            let _ = (decoded(&damaged), PropertyBlock::decode(&damaged));
        }
    }

    #[test]
    fn events_that_a_former_version_kept_are_read() {
        let block = block(&[(1, 1_000, json!("a")), (2, 5_000, json!(3))]);
        let mut wide = block.encode();
        wide[0] = WIDE_EVENTS;
        // Each column ends in the length of its codes and a byte for each of two rows; these become planes of bytes.
        let columns = [wide.len(), wide.len() - column(&block, "b")];
        for end in columns {
            wide.splice(end..end, [0; 6]);
        }
        assert_eq!(decoded(&wide), Some(block));
    }

    #[test]
    fn columns_of_few_and_of_many_values_come_back_merged_and_resolved() {
        for values in [254, 255, 256, 257, 65_534, 65_535, 65_536] {
            let of = |numbers: std::ops::Range<u32>| {
                let rows: Vec<_> = numbers
                    .map(|number| {
                        (
                            number,
                            i64::from(number) * 1_000,
                            json!(format!("v{number}")),
                        )
                    })
                    .chain([(7, 9, Value::Null)])
                    .collect();
                block(&rows)
            };
            let whole = of(0..values);
            assert_eq!(decoded(&whole.encode()).as_ref(), Some(&whole));
            let merged =
                EventBlock::merged(&[of(0..values - 1).into(), of(values - 1..values).into()]);
            let last = merged.resolved(|person| (person != 7).then_some(person));
            let back = decoded(&last.encode()).unwrap();
            assert_eq!(back.rows() as u32, values - 1);
            let column = &back.columns()["a"];
            let text = |row: usize| column.dictionary.at(column.codes.at(row) as usize - 1);
            for row in 0..back.rows() {
                let own = format!("v{}", back.ordinals()[row]);
                assert_eq!(text(row), crate::value::Stored::Text(&own));
            }
        }
    }

    /// How many bytes a column takes at the end of a block.
    fn column(block: &EventBlock, key: &str) -> usize {
        let column = &block.columns()[key];
        let mut out = Writer(Vec::new());
        out.bytes(key.as_bytes());
        out.dictionary(&column.dictionary);
        out.0.len() + 8 + column.codes.len()
    }

    #[test]
    fn several_blocks_come_back_or_none() {
        let one = |time: i64| Arc::new(block(&[(1, time, json!("a")), (2, 5_000, json!(time))]));
        for count in [0, 1, 2, 5] {
            let blocks: Vec<_> = (0..count).map(one).collect();
            let pieces: Vec<Vec<u8>> = EventBlock::encode_all(&blocks).collect();
            let bytes = pieces.concat();
            let back = EventBlock::decode_all(&bytes).unwrap();
            assert!(
                back.iter().eq(blocks.iter().map(|block| &**block)),
                "{count}"
            );
            // Whether whole pieces are missing, or one is there too often.
            let cut = bytes.len() - pieces.last().unwrap().len();
            assert_eq!(EventBlock::decode_all(&bytes[..cut]), None);
            let more = [bytes, one(9).encode()].concat();
            assert_eq!(EventBlock::decode_all(&more), None);
        }
    }

    #[test]
    fn bytes_that_are_cut_off_are_nothing() {
        let bytes = block(&[(1, 1_000, json!("a")), (2, 5_000, json!(3))]).encode();
        for length in 0..bytes.len() {
            assert_eq!(decoded(&bytes[..length]), None, "{length}");
        }
    }
}
