//! Blocks as bytes.
//!
//! Integers are stored as differences of neighbours where these are similar, and as byte planes:
//! the first byte of every integer, then the second byte of every integer. A later compression
//! benefits from both. The format has no checksum; the storage must detect damaged bytes.

mod format;

use std::collections::HashMap;
use std::sync::Arc;

use roaring::RoaringBitmap;

use self::format::{BlockReader, BlockWriter};
use super::codes::{CodeWidth, Codes};
use super::column::Column;
use super::events::EventBlock;
use super::property::{Postings, PropertyBlock};
use super::times::Times;
use crate::chunks;

/// The versions of the formats: the first byte.
const EVENTS: u8 = 3;
const PROPERTIES: u8 = 2;
/// An earlier version of `EVENTS`, in which all codes take four bytes.
const WIDE_EVENTS: u8 = 2;
/// The number of blocks, then the blocks.
const BLOCKS: u8 = 4;

/// The variants of [`Times`].
const MILLIS: u8 = 0;
const MICROS: u8 = 1;

/// The variants of [`Postings`].
const BITMAPS: u8 = 0;
const PAIRS: u8 = 1;

impl EventBlock {
    fn encode(&self) -> Vec<u8> {
        let mut writer = BlockWriter::new(EVENTS);
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
        let mut columns: Vec<(&String, &Column)> = self.columns().iter().collect();
        columns.sort_unstable_by_key(|(key, _)| *key);
        writer.length(columns.len());
        for (key, column) in columns {
            writer.bytes(key.as_bytes());
            writer.dictionary(&column.dictionary);
            match &column.codes {
                Codes::Bytes(codes) => writer.bytes(codes),
                Codes::Shorts(codes) => writer.integers(codes, u16::to_le_bytes),
                Codes::Words(codes) => writer.integers(codes, u32::to_le_bytes),
            }
        }
        writer.finish()
    }

    /// Encodes blocks. The bytes are the concatenation of the pieces. Callers that write pieces
    /// to storage need memory for one piece only.
    pub fn encode_all(blocks: &[Arc<EventBlock>]) -> impl Iterator<Item = Vec<u8>> {
        let header = (blocks.len() != 1).then(|| {
            let mut writer = BlockWriter::new(BLOCKS);
            writer.length(blocks.len());
            writer.finish()
        });
        let blocks = blocks.iter().map(|block| block.encode());
        header.into_iter().chain(blocks)
    }

    /// Decodes the concatenated pieces of [`EventBlock::encode_all`]. Returns `None` if the bytes
    /// are damaged in a way that the format detects.
    pub fn decode_all(bytes: &[u8]) -> Option<Vec<EventBlock>> {
        let (mut reader, mut count) = (BlockReader::new(bytes), 1);
        if reader.version(&[BLOCKS]).is_some() {
            count = reader.length()?;
        }
        let mut blocks = Vec::new();
        for _ in 0..count {
            blocks.push(EventBlock::decode(&mut reader)?);
        }
        reader.is_empty().then_some(blocks)
    }

    fn decode(reader: &mut BlockReader) -> Option<EventBlock> {
        let version = reader.version(&[EVENTS, WIDE_EVENTS])?;
        let ordinals = reader.rising()?;
        let times = times(reader)?;
        let mut columns = HashMap::new();
        for _ in 0..reader.length()? {
            let key = str::from_utf8(reader.bytes()?).ok()?.to_owned();
            columns.insert(key, column(reader, version, ordinals.len())?);
        }
        (times.len() == ordinals.len()).then(|| EventBlock::new(ordinals, times, columns))
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

fn column(reader: &mut BlockReader, version: u8, rows: usize) -> Option<Column> {
    let dictionary = reader.dictionary()?;
    let codes = match CodeWidth::of(dictionary.len()) {
        _ if version == WIDE_EVENTS => Codes::Words(reader.integers(u32::from_le_bytes)?),
        CodeWidth::One => Codes::Bytes(reader.bytes()?.to_owned()),
        CodeWidth::Two => Codes::Shorts(reader.integers(u16::from_le_bytes)?),
        CodeWidth::Four => Codes::Words(reader.integers(u32::from_le_bytes)?),
    };
    if codes.len() != rows || codes.max() as usize > dictionary.len() {
        return None;
    }
    Some(match version {
        WIDE_EVENTS => Column::new(dictionary, codes.iter()),
        _ => Column::from_parts(dictionary, codes),
    })
}

impl PropertyBlock {
    /// Encodes the block, with its layers merged.
    pub fn encode(&self) -> Vec<u8> {
        if self.layers() > 0 {
            return self.flattened().encode();
        }
        let mut writer = BlockWriter::new(PROPERTIES);
        writer.dictionary(self.dictionary());
        match self.postings() {
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
        is_complete.then(|| PropertyBlock::new(dictionary, postings))
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
