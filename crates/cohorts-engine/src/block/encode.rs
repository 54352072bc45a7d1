//! Blocks as bytes.
//!
//! Integers are stored as differences of neighbours where these are similar, and as byte planes:
//! the first byte of every integer, then the second byte of every integer. A later compression
//! benefits from both. The format has no checksum; the storage must detect damaged bytes.

mod format;

use std::collections::HashMap;

use roaring::RoaringBitmap;

use self::format::{BlockReader, BlockWriter};
use super::codes::{CodeWidth, Codes};
use super::column::Column;
use super::events::EventBlock;
use super::postings::Postings;
use super::property::{PartValues, PropertyBlock};
use super::times::Times;
use crate::chunks;

/// The versions of the formats: the first byte.
const PROPERTIES: u8 = 2;
const EVENT_ROWS: u8 = 5;
const EVENT_COLUMN: u8 = 6;

/// The variants of [`Times`].
const MILLIS: u8 = 0;
const MICROS: u8 = 1;

/// The variants of [`Postings`].
const BITMAPS: u8 = 0;
const PAIRS: u8 = 1;

impl EventBlock {
    /// Encodes the persons and the times of the events, without the columns.
    pub fn encode_rows(&self) -> Vec<u8> {
        let mut writer = BlockWriter::new(EVENT_ROWS);
        writer.rising(self.ordinals());
        match self.times() {
            Times::Millis { base, offsets } => {
                writer.byte(MILLIS);
                writer.instant(*base);
                writer.integers(offsets, u32::to_le_bytes);
            }
            Times::Micros(times) => {
                writer.byte(MICROS);
                writer.integers(times, i64::to_le_bytes);
            }
        }
        writer.finish()
    }

    /// Decodes the bytes of [`EventBlock::encode_rows`]. Returns `None` if the bytes are damaged in
    /// a way that the format detects.
    pub fn decode_rows(bytes: &[u8]) -> Option<EventBlock> {
        let mut reader = BlockReader::new(bytes);
        reader.version(&[EVENT_ROWS])?;
        let ordinals = reader.rising()?;
        let times = times(&mut reader)?;
        let is_complete = reader.is_empty() && times.len() == ordinals.len();
        is_complete.then(|| EventBlock::new(ordinals, times, HashMap::new()))
    }

    /// Encodes the column of a property, if there is one.
    pub fn encode_column(&self, property: &str) -> Option<Vec<u8>> {
        let column = self.columns().get(property)?;
        let mut writer = BlockWriter::new(EVENT_COLUMN);
        writer.dictionary(&column.dictionary);
        match &column.codes {
            Codes::Bytes(codes) => writer.bytes(codes),
            Codes::Shorts(codes) => writer.integers(codes, u16::to_le_bytes),
            Codes::Words(codes) => writer.integers(codes, u32::to_le_bytes),
        }
        Some(writer.finish())
    }

    /// Adds the column of a property from the bytes of [`EventBlock::encode_column`]. Returns
    /// `None` if the bytes are damaged in a way that the format detects, or if they have another
    /// number of rows.
    pub fn decode_column(&mut self, property: &str, bytes: &[u8]) -> Option<()> {
        let mut reader = BlockReader::new(bytes);
        reader.version(&[EVENT_COLUMN])?;
        let column = column(&mut reader, self.rows())?;
        reader.is_empty().then_some(())?;
        self.insert_column(property.to_owned(), column);
        Some(())
    }
}

fn times(reader: &mut BlockReader) -> Option<Times> {
    match reader.byte()? {
        MILLIS => {
            let base = reader.instant()?;
            let offsets = reader.integers(u32::from_le_bytes)?;
            let last = offsets.iter().max().copied().unwrap_or_default();
            base.checked_add(i64::from(last) * 1_000)?;
            Some(Times::Millis { base, offsets })
        }
        MICROS => Some(Times::Micros(reader.integers(i64::from_le_bytes)?)),
        _ => None,
    }
}

fn column(reader: &mut BlockReader, rows: usize) -> Option<Column> {
    let dictionary = reader.dictionary()?;
    let codes = match CodeWidth::of(dictionary.len()) {
        CodeWidth::One => Codes::Bytes(reader.bytes()?.to_owned()),
        CodeWidth::Two => Codes::Shorts(reader.integers(u16::from_le_bytes)?),
        CodeWidth::Four => Codes::Words(reader.integers(u32::from_le_bytes)?),
    };
    let is_valid = codes.len() == rows && codes.max() as usize <= dictionary.len();
    is_valid.then_some(Column { dictionary, codes })
}

impl PropertyBlock {
    /// Encodes the block, with its parts and its layers merged.
    pub fn encode(&self) -> Vec<u8> {
        let values = self.values();
        let mut writer = BlockWriter::new(PROPERTIES);
        writer.dictionary(values.dictionary());
        match values.postings() {
            Postings::Bitmaps(bitmaps) => {
                writer.byte(BITMAPS);
                for bitmap in bitmaps {
                    writer.bytes(&chunks::encode(bitmap));
                }
            }
            Postings::Pairs(pairs) => {
                writer.byte(PAIRS);
                let (ordinals, indexes): (Vec<u32>, Vec<u32>) = pairs.iter().copied().unzip();
                writer.rising(&ordinals);
                let previous = std::iter::once(&0).chain(&indexes);
                let differences = indexes.iter().zip(previous);
                let differences =
                    differences.map(|(index, previous)| index.wrapping_sub(*previous));
                writer.integers(&differences.collect::<Vec<u32>>(), u32::to_le_bytes);
            }
        }
        writer.finish()
    }

    /// Decodes the bytes of [`PropertyBlock::encode`]. Returns `None` if the bytes are damaged in
    /// a way that the format detects.
    pub fn decode(bytes: &[u8]) -> Option<PropertyBlock> {
        let mut reader = BlockReader::new(bytes);
        reader.version(&[PROPERTIES])?;
        let dictionary = reader.dictionary()?;
        let postings = postings(&mut reader, dictionary.len())?;
        let is_complete = reader.is_empty();
        is_complete.then(|| PropertyBlock::of_values(PartValues::new(dictionary, postings)))
    }
}

/// Postings of a dictionary with `values` values.
fn postings(reader: &mut BlockReader, values: usize) -> Option<Postings> {
    match reader.byte()? {
        BITMAPS => {
            let bitmap = |_| chunks::decode(reader.bytes()?).ok();
            let bitmaps: Option<Vec<RoaringBitmap>> = (0..values).map(bitmap).collect();
            Some(Postings::Bitmaps(bitmaps?))
        }
        PAIRS => {
            let ordinals = reader.rising()?;
            let mut index = 0_u32;
            let differences = reader.integers(u32::from_le_bytes)?.into_iter();
            let indexes = differences.map(|difference| {
                index = index.wrapping_add(difference);
                ((index as usize) < values).then_some(index)
            });
            let indexes: Vec<u32> = indexes.collect::<Option<_>>()?;
            let is_complete = indexes.len() == ordinals.len();
            is_complete.then(|| Postings::Pairs(ordinals.into_iter().zip(indexes).collect()))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
