//! The parts that all formats share: lengths, bytes, integers and dictionaries.

use serde_json::Value;

use crate::block::dictionary::Dictionary;

/// The variants of [`Dictionary`].
const TEXTS: u8 = 0;
const MIXED: u8 = 1;
const DOUBLES: u8 = 2;

/// Writes the bytes of a block.
pub(super) struct BlockWriter(Vec<u8>);

impl BlockWriter {
    pub fn new(version: u8) -> BlockWriter {
        BlockWriter(vec![version])
    }

    pub fn finish(self) -> Vec<u8> {
        self.0
    }

    pub fn byte(&mut self, byte: u8) {
        self.0.push(byte);
    }

    pub fn instant(&mut self, time: i64) {
        self.0.extend(time.to_le_bytes());
    }

    pub fn length(&mut self, length: usize) {
        self.0.extend((length as u64).to_le_bytes());
    }

    pub fn bytes(&mut self, bytes: &[u8]) {
        self.length(bytes.len());
        self.0.extend(bytes);
    }

    /// Writes integers as byte planes.
    pub fn integers<T: Copy, const N: usize>(
        &mut self,
        integers: &[T],
        to_bytes: fn(T) -> [u8; N],
    ) {
        self.length(integers.len());
        for plane in 0..N {
            let bytes = integers.iter().map(|integer| to_bytes(*integer)[plane]);
            self.0.extend(bytes);
        }
    }

    /// Writes sorted integers as differences.
    pub fn rising(&mut self, integers: &[u32]) {
        let previous = std::iter::once(&0).chain(integers);
        let differences = integers.iter().zip(previous);
        let differences = differences.map(|(integer, previous)| integer - previous);
        self.integers(&differences.collect::<Vec<u32>>(), u32::to_le_bytes);
    }

    pub fn dictionary(&mut self, dictionary: &Dictionary) {
        match dictionary {
            Dictionary::Texts { text, ends } => {
                self.byte(TEXTS);
                let previous = std::iter::once(&0).chain(ends);
                let lengths = ends.iter().zip(previous);
                let lengths = lengths.map(|(end, previous)| (end - previous) as u32);
                self.integers(&lengths.collect::<Vec<u32>>(), u32::to_le_bytes);
                self.bytes(text.as_bytes());
            }
            Dictionary::Doubles(doubles) => {
                self.byte(DOUBLES);
                self.integers(doubles, u64::to_le_bytes);
            }
            Dictionary::Mixed(values) => {
                self.byte(MIXED);
                let mut json = Vec::new();
                // Writing to memory cannot fail.
                let written = serde_json::to_writer(&mut json, values);
                debug_assert!(written.is_ok());
                self.bytes(&json);
            }
        }
    }
}

/// Reads the bytes of a [`BlockWriter`] from the front. All methods return `None` if the bytes
/// do not have the expected format.
pub(super) struct BlockReader<'a>(&'a [u8]);

impl<'a> BlockReader<'a> {
    pub fn new(bytes: &'a [u8]) -> BlockReader<'a> {
        BlockReader(bytes)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Reads the version if it is one of `known`; otherwise it reads nothing.
    pub fn version(&mut self, known: &[u8]) -> Option<u8> {
        let version = self.0.first()?;
        if !known.contains(version) {
            return None;
        }
        self.byte()
    }

    pub fn byte(&mut self) -> Option<u8> {
        self.0.split_off_first().copied()
    }

    pub fn instant(&mut self) -> Option<i64> {
        let bytes = self.0.split_off(..8)?.first_chunk()?;
        Some(i64::from_le_bytes(*bytes))
    }

    pub fn length(&mut self) -> Option<usize> {
        let bytes = self.0.split_off(..8)?.first_chunk()?;
        u64::from_le_bytes(*bytes).try_into().ok()
    }

    pub fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.length()?;
        self.0.split_off(..length)
    }

    /// Reads integers from byte planes.
    pub fn integers<T, const N: usize>(&mut self, from_bytes: fn([u8; N]) -> T) -> Option<Vec<T>> {
        let count = self.length()?;
        let bytes = self.0.split_off(..count.checked_mul(N)?)?;
        let mut planes = [&bytes[..0]; N];
        for (nth, plane) in planes.iter_mut().enumerate() {
            *plane = &bytes[nth * count..][..count];
        }
        let integer = |row: usize| from_bytes(std::array::from_fn(|nth| planes[nth][row]));
        Some((0..count).map(integer).collect())
    }

    pub fn rising(&mut self) -> Option<Vec<u32>> {
        let mut integer = 0_u32;
        let differences = self.integers(u32::from_le_bytes)?.into_iter();
        let integers = differences.map(|difference| {
            integer = integer.checked_add(difference)?;
            Some(integer)
        });
        integers.collect()
    }

    pub fn dictionary(&mut self) -> Option<Dictionary> {
        match self.byte()? {
            TEXTS => self.texts(),
            DOUBLES => Some(Dictionary::Doubles(self.integers(u64::from_le_bytes)?)),
            MIXED => {
                let values: Vec<Value> = serde_json::from_slice(self.bytes()?).ok()?;
                Some(Dictionary::Mixed(values))
            }
            _ => None,
        }
    }

    fn texts(&mut self) -> Option<Dictionary> {
        let mut end = 0_usize;
        let lengths = self.integers(u32::from_le_bytes)?.into_iter();
        let ends = lengths.map(|length| {
            end = end.checked_add(length as usize)?;
            Some(end)
        });
        let ends: Vec<usize> = ends.collect::<Option<_>>()?;
        let text = str::from_utf8(self.bytes()?).ok()?;
        let is_valid = end == text.len() && ends.iter().all(|end| text.is_char_boundary(*end));
        is_valid.then(|| Dictionary::Texts {
            text: text.to_owned(),
            ends,
        })
    }
}
