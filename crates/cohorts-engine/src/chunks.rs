//! A membership as chunks of 65,536 person numbers, which is how it is stored.

use std::io;
use std::ops::RangeInclusive;

use roaring::RoaringBitmap;

/// The part of a bitmap that holds person numbers `number * 65_536` up to the next chunk.
#[derive(Clone, Debug, PartialEq)]
pub struct Chunk {
    /// The upper sixteen bits of the person numbers.
    pub number: u16,
    /// The persons, by their whole numbers.
    pub persons: RoaringBitmap,
}

/// The chunks that are not empty, in rising order.
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

fn part(bitmap: &RoaringBitmap, number: u16) -> Chunk {
    let mut persons = RoaringBitmap::new();
    persons.insert_range(range_of(number));
    persons &= bitmap;
    Chunk { number, persons }
}

/// The chunk a person number belongs to.
pub fn chunk_of(person: u32) -> u16 {
    (person >> 16) as u16
}

/// The bitmap that chunks make up, in whatever order they come.
pub fn join<'a>(chunks: impl IntoIterator<Item = &'a RoaringBitmap>) -> RoaringBitmap {
    roaring::MultiOps::union(chunks.into_iter())
}

/// The chunks of `new` that differ from `old`, those that have become empty included.
pub fn changed(old: &RoaringBitmap, new: &RoaringBitmap) -> Vec<Chunk> {
    let differing = split(&(old ^ new));
    differing
        .iter()
        .map(|chunk| part(new, chunk.number))
        .collect()
}

/// The portable form of roaring bitmaps.
pub fn encode(bitmap: &RoaringBitmap) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(bitmap.serialized_size());
    // Writing to memory has no way to fail.
    let written = bitmap.serialize_into(&mut bytes);
    debug_assert!(written.is_ok());
    bytes
}

/// Reads the portable form; refuses bytes that are no bitmap, and bytes left over.
pub fn decode(bytes: &[u8]) -> io::Result<RoaringBitmap> {
    let mut rest = bytes;
    let bitmap = RoaringBitmap::deserialize_from(&mut rest)?;
    match rest.is_empty() {
        true => Ok(bitmap),
        false => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{} bytes follow the bitmap", rest.len()),
        )),
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::btree_set;
    use proptest::prelude::*;

    use super::*;

    fn persons() -> impl Strategy<Value = RoaringBitmap> {
        let number = prop_oneof![0..200_000_u32, any::<u32>()];
        btree_set(number, 0..200).prop_map(RoaringBitmap::from_iter)
    }

    proptest! {
        #[test]
        fn splitting_and_joining_gives_the_bitmap_back(bitmap in persons()) {
            let chunks = split(&bitmap);
            prop_assert!(chunks.is_sorted_by_key(|chunk| chunk.number));
            for chunk in &chunks {
                prop_assert!(!chunk.persons.is_empty());
                prop_assert!(chunk.persons.iter().all(|person| chunk_of(person) == chunk.number));
            }
            prop_assert_eq!(join(chunks.iter().map(|chunk| &chunk.persons)), bitmap);
        }

        #[test]
        fn applying_the_changed_chunks_gives_the_new_bitmap(old in persons(), new in persons()) {
            let changed = changed(&old, &new);
            let mut stored: Vec<Chunk> = split(&old);
            stored.retain(|chunk| changed.iter().all(|other| other.number != chunk.number));
            stored.extend(changed);
            prop_assert_eq!(join(stored.iter().map(|chunk| &chunk.persons)), new);
        }

        #[test]
        fn encoding_and_decoding_gives_the_bitmap_back(bitmap in persons()) {
            prop_assert_eq!(decode(&encode(&bitmap)).unwrap(), bitmap);
        }

        #[test]
        fn decoding_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = decode(&bytes);
        }
    }

    #[test]
    fn equal_bitmaps_have_no_changed_chunks() {
        let bitmap = RoaringBitmap::from_iter([1, 70_000]);
        assert_eq!(changed(&bitmap, &bitmap), []);
    }

    #[test]
    fn a_chunk_that_became_empty_is_among_the_changed() {
        let old = RoaringBitmap::from_iter([1, 70_000]);
        let new = RoaringBitmap::from_iter([1]);
        let emptied = Chunk {
            number: 1,
            persons: RoaringBitmap::new(),
        };
        assert_eq!(changed(&old, &new), [emptied]);
    }

    #[test]
    fn bytes_that_are_cut_or_followed_by_more_are_refused() {
        let mut bytes = encode(&RoaringBitmap::from_iter([1, 2, 3]));
        assert!(decode(&bytes[..bytes.len() - 1]).is_err());
        bytes.push(0);
        let error = decode(&bytes).unwrap_err();
        assert_eq!(error.to_string(), "1 bytes follow the bitmap");
    }
}
