//! Events as bytes: who did them and when, without their properties.
//!
//! A version, the sort of the times and their base, then the numbers as differences and the times, each column by planes
//! of bytes, so that what comes after can compress it. Nothing here says whether bytes are whole: that is for whoever
//! keeps them.

use std::collections::HashMap;

use super::events::{EventBlock, Times};

const VERSION: u8 = 1;
const MILLIS: u8 = 0;
const MICROS: u8 = 1;
/// Bytes before the columns: version, sort, base.
const HEAD: usize = 10;

impl EventBlock {
    /// The events as bytes, without their properties.
    pub fn encode(&self) -> Vec<u8> {
        let persons = self.persons();
        let before = std::iter::once(0).chain(persons.iter().copied());
        let steps = persons
            .iter()
            .zip(before)
            .map(|(person, before)| person - before);
        let steps: Vec<u32> = steps.collect();
        let (sort, base) = match self.times() {
            Times::Millis { base, .. } => (MILLIS, *base),
            Times::Micros(_) => (MICROS, 0),
        };
        let mut bytes = vec![VERSION, sort];
        bytes.extend(base.to_le_bytes());
        put(&mut bytes, &steps, u32::to_le_bytes);
        match self.times() {
            Times::Millis { offsets, .. } => put(&mut bytes, offsets, u32::to_le_bytes),
            Times::Micros(times) => put(&mut bytes, times, i64::to_le_bytes),
        }
        bytes
    }

    /// The events of bytes that `encode` made, or nothing where it did not make them.
    pub fn decode(bytes: &[u8]) -> Option<EventBlock> {
        let (head, columns) = bytes.split_at_checked(HEAD)?;
        let base = i64::from_le_bytes(head[2..].try_into().ok()?);
        let row = match (head[0], head[1]) {
            (VERSION, MILLIS) => 8,
            (VERSION, MICROS) => 12,
            _ => return None,
        };
        let rows = columns.len() / row;
        let (steps, times) = columns.split_at_checked(rows * 4)?;
        let steps = take(steps, rows, u32::from_le_bytes)?;
        let times: Vec<i64> = match row {
            8 => {
                let offsets = take(times, rows, u32::from_le_bytes)?.into_iter();
                let time = |offset| base.checked_add(i64::from(offset) * 1_000);
                offsets.map(time).collect::<Option<_>>()?
            }
            _ => take(times, rows, i64::from_le_bytes)?,
        };
        let mut person = 0_u32;
        let mut events = Vec::with_capacity(rows);
        for (step, time) in steps.into_iter().zip(times) {
            person = person.checked_add(step)?;
            events.push((person, time));
        }
        Some(EventBlock::sorted(events, HashMap::new()))
    }
}

/// Adds a column, the first byte of every value before the second of any.
fn put<T: Copy, const N: usize>(bytes: &mut Vec<u8>, column: &[T], of: fn(T) -> [u8; N]) {
    for plane in 0..N {
        bytes.extend(column.iter().map(|value| of(*value)[plane]));
    }
}

/// A column of so many rows, if it is just that.
fn take<T, const N: usize>(bytes: &[u8], rows: usize, of: fn([u8; N]) -> T) -> Option<Vec<T>> {
    if bytes.len() != rows * N {
        return None;
    }
    let value = |row: usize| of(std::array::from_fn(|plane| bytes[plane * rows + row]));
    Some((0..rows).map(value).collect())
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::block::EventBlockBuilder;

    fn block(rows: &[(u32, i64)]) -> EventBlock {
        let mut builder = EventBlockBuilder::new(&[]);
        for (person, time) in rows {
            builder.push(*person, *time, &json!({}));
        }
        builder.finish()
    }

    proptest! {
        #[test]
        fn events_come_back_as_they_were(
            rows in prop_oneof![
                vec((any::<u32>(), any::<i64>()), 0..50),
                vec((0..9_u32, (0..9_i64).prop_map(|hours| hours * 3_600_000_000)), 0..50),
            ]
        ) {
            let block = block(&rows);
            prop_assert_eq!(EventBlock::decode(&block.encode()), Some(block));
        }

        #[test]
        fn other_bytes_are_nothing_or_something_else(bytes in vec(any::<u8>(), 0..200), sort in 0..2_u8) {
            let mut bytes = bytes;
            if bytes.len() > 1 {
                (bytes[0], bytes[1]) = (VERSION, sort);
            }
            let _ = EventBlock::decode(&bytes);
        }
    }

    #[test]
    fn bytes_that_are_cut_off_are_nothing() {
        let bytes = block(&[(1, 1_000), (2, 5_000), (2, 7_000)]).encode();
        for length in 0..bytes.len() {
            let cut = EventBlock::decode(&bytes[..length]);
            assert!(cut.is_none_or(|block| block.rows() < 3), "{length}");
        }
    }
}
