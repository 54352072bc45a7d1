//! Members as chunks of 65,536 ordinals, the form in which they are stored.
//!
//! A chunk has the same boundaries as a container of a roaring bitmap, so a small change of the
//! members changes few chunks.

use std::io;
use std::ops::RangeInclusive;

use roaring::RoaringBitmap;

/// The part of a bitmap with the ordinals from `number * 65_536` to
/// `number * 65_536 + 65_535`, both inclusive.
#[derive(Clone, Debug, PartialEq)]
pub struct Chunk {
    /// The upper 16 bits of the ordinals.
    pub number: u16,
    /// The persons, with all 32 bits of their ordinals.
    pub persons: RoaringBitmap,
}

/// Splits a bitmap into chunks, in rising order. Empty chunks are left out.
///
/// # Examples
///
/// ```
/// use cohorts_engine::chunks;
/// use roaring::RoaringBitmap;
///
/// let members = RoaringBitmap::from([7, 70_000]);
/// let numbers = chunks::split(&members).iter().map(|chunk| chunk.number).collect::<Vec<_>>();
/// assert_eq!(numbers, [0, 1]);
/// ```
pub fn split(bitmap: &RoaringBitmap) -> Vec<Chunk> {
    let mut chunks = Vec::new();
    let mut next = bitmap.min();
    while let Some(person) = next {
        let range = range_of(chunk_of(person));
        let chunk = part(bitmap, chunk_of(person));
        next = range
            .end()
            .checked_add(1)
            .and_then(|above| bitmap.range(above..).next());
        chunks.push(chunk);
    }
    chunks
}

fn range_of(number: u16) -> RangeInclusive<u32> {
    let first = u32::from(number) << 16;
    first..=first | 0xFFFF
}

/// The chunk of a number, which may be empty.
pub(crate) fn part(bitmap: &RoaringBitmap, number: u16) -> Chunk {
    let mut persons = RoaringBitmap::new();
    persons.insert_range(range_of(number));
    persons &= bitmap;
    Chunk { number, persons }
}

/// The number of the chunk that contains `person`.
#[inline]
pub fn chunk_of(person: u32) -> u16 {
    (person >> 16) as u16
}

/// Joins the persons of chunks, in any order, into one bitmap.
pub fn join<'a>(chunks: impl IntoIterator<Item = &'a RoaringBitmap>) -> RoaringBitmap {
    roaring::MultiOps::union(chunks.into_iter())
}

/// The chunks of `new` that differ from `old`. A chunk that becomes empty is included.
pub fn changed(old: &RoaringBitmap, new: &RoaringBitmap) -> Vec<Chunk> {
    let differing = split(&(old ^ new));
    differing
        .iter()
        .map(|chunk| part(new, chunk.number))
        .collect()
}

/// Encodes a bitmap in the portable format of roaring bitmaps.
pub fn encode(bitmap: &RoaringBitmap) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(bitmap.serialized_size());
    // Writing to memory cannot fail.
    let written = bitmap.serialize_into(&mut bytes);
    debug_assert!(written.is_ok());
    bytes
}

/// Decodes a bitmap from the portable format of roaring bitmaps.
///
/// # Errors
///
/// Fails if the bytes are not a bitmap, or if other bytes follow the bitmap.
pub fn decode(bytes: &[u8]) -> io::Result<RoaringBitmap> {
    let mut rest = bytes;
    let bitmap = RoaringBitmap::deserialize_from(&mut rest)?;
    if rest.is_empty() {
        return Ok(bitmap);
    }
    let message = format!("{} bytes follow the bitmap", rest.len());
    Err(io::Error::new(io::ErrorKind::InvalidData, message))
}

#[cfg(test)]
mod tests {
    use proptest::collection::btree_set;
    use proptest::prelude::*;

    use super::*;

    fn persons() -> impl Strategy<Value = RoaringBitmap> {
        let ordinal = prop_oneof![0..200_000_u32, any::<u32>()];
        btree_set(ordinal, 0..200).prop_map(RoaringBitmap::from_iter)
    }

    proptest! {
        #[test]
        fn split_bitmaps_join_to_the_same_bitmap(bitmap in persons()) {
            let chunks = split(&bitmap);
            prop_assert!(chunks.is_sorted_by_key(|chunk| chunk.number));
            for chunk in &chunks {
                prop_assert!(!chunk.persons.is_empty());
                prop_assert!(chunk.persons.iter().all(|person| chunk_of(person) == chunk.number));
            }
            prop_assert_eq!(join(chunks.iter().map(|chunk| &chunk.persons)), bitmap);
        }

        #[test]
        fn changed_chunks_turn_the_old_bitmap_into_the_new_one(old in persons(), new in persons()) {
            let changed = changed(&old, &new);
            let mut stored: Vec<Chunk> = split(&old);
            stored.retain(|chunk| changed.iter().all(|other| other.number != chunk.number));
            stored.extend(changed);
            prop_assert_eq!(join(stored.iter().map(|chunk| &chunk.persons)), new);
        }

        #[test]
        fn bitmaps_round_trip(bitmap in persons()) {
            prop_assert_eq!(decode(&encode(&bitmap)).unwrap(), bitmap);
        }

        #[test]
        fn decoding_arbitrary_bytes_does_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = decode(&bytes);
        }
    }

    #[test]
    fn equal_bitmaps_have_no_changed_chunks() {
        let bitmap = RoaringBitmap::from_iter([1, 70_000]);
        assert_eq!(changed(&bitmap, &bitmap), []);
    }

    #[test]
    fn a_chunk_that_becomes_empty_is_changed() {
        let old = RoaringBitmap::from_iter([1, 70_000]);
        let new = RoaringBitmap::from_iter([1]);
        let emptied = Chunk {
            number: 1,
            persons: RoaringBitmap::new(),
        };
        assert_eq!(changed(&old, &new), [emptied]);
    }

    #[test]
    fn truncated_and_trailing_bytes_are_refused() {
        let mut bytes = encode(&RoaringBitmap::from_iter([1, 2, 3]));
        assert!(decode(&bytes[..bytes.len() - 1]).is_err());
        bytes.push(0);
        let error = decode(&bytes).unwrap_err();
        assert_eq!(error.to_string(), "1 bytes follow the bitmap");
    }
}
