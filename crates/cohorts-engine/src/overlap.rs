//! How many ordinals each two of many bitmaps have in common.
//!
//! Chunks with many ordinals are compared as words of bits by the vector instructions of the machine, which roaring does not
//! use for that. All others are left to roaring.

use fearless_simd::{Level, Simd, dispatch};
use roaring::RoaringBitmap;

use crate::chunks::{chunk_of, encode, part};

/// A chunk with more ordinals is compared as bits.
const FEW: u64 = 128;
/// The words of the bits of a chunk.
const WORDS: usize = 1_024;
/// A chunk with more ordinals is encoded as bits, unless it has runs (RoaringFormatSpec, "Storing the containers").
const MAX_LIST: u64 = 4_096;
/// The bytes before the container in the encoded form of one chunk without runs (RoaringFormatSpec, "General layout").
const HEADER: usize = 16;

/// The number of common ordinals of each two bitmaps. The diagonal has their sizes.
///
/// # Examples
///
/// ```
/// use cohorts_engine::overlap::common_counts;
/// use roaring::RoaringBitmap;
///
/// let (a, b): (RoaringBitmap, RoaringBitmap) = ((0..5).collect(), (3..9).collect());
/// assert_eq!(common_counts(&[&a, &b]), [[5, 2], [2, 6]]);
/// ```
pub fn common_counts(bitmaps: &[&RoaringBitmap]) -> Vec<Vec<u64>> {
    let mut counts = vec![vec![0; bitmaps.len()]; bitmaps.len()];
    let last = bitmaps.iter().filter_map(|bitmap| bitmap.max()).max();
    let Some(last) = last else {
        return counts;
    };
    for number in 0..=chunk_of(last) {
        ChunksOfAll::new(bitmaps, number).add_counts(&mut counts);
    }
    let common = |row: usize, column: usize| counts[row.min(column)][row.max(column)];
    let places = 0..bitmaps.len();
    let row = |row| places.clone().map(|column| common(row, column)).collect();
    places.clone().map(row).collect()
}

/// The same chunk of all bitmaps that have one, each with the place of its bitmap.
#[derive(Default)]
struct ChunksOfAll {
    few: Vec<(usize, RoaringBitmap)>,
    /// Those with many ordinals, as words of bits.
    many: Vec<(usize, Vec<u64>)>,
}

impl ChunksOfAll {
    fn new(bitmaps: &[&RoaringBitmap], number: u16) -> ChunksOfAll {
        let mut chunks = ChunksOfAll::default();
        for (place, bitmap) in bitmaps.iter().enumerate() {
            let persons = part(bitmap, number).persons;
            match persons.len() {
                0 => {}
                1..=FEW => chunks.few.push((place, persons)),
                _ => chunks.many.push((place, words(persons))),
            }
        }
        chunks
    }

    /// Adds to the counts in and above the diagonal.
    fn add_counts(&self, counts: &mut [Vec<u64>]) {
        dispatch!(Level::new(), simd => add_common_bits(simd, &self.many, counts));
        for (nth, (row, one)) in self.few.iter().enumerate() {
            for (column, other) in &self.few[nth..] {
                counts[*row][*column] += one.intersection_len(other);
            }
            for (column, words) in &self.many {
                let common = one.iter().filter(|ordinal| has_bit(words, *ordinal));
                counts[*row.min(column)][*row.max(column)] += common.count() as u64;
            }
        }
    }
}

/// Adds the common bits of each two chunks.
fn add_common_bits<S: Simd>(simd: S, chunks: &[(usize, Vec<u64>)], counts: &mut [Vec<u64>]) {
    simd.vectorize(
        #[inline(always)]
        || {
            for (nth, (row, one)) in chunks.iter().enumerate() {
                for (column, other) in &chunks[nth..] {
                    let words = one.iter().zip(other);
                    let common = words.map(|(one, other)| u64::from((one & other).count_ones()));
                    counts[*row][*column] += common.sum::<u64>();
                }
            }
        },
    );
}

/// The words of the bits of a chunk.
fn words(mut chunk: RoaringBitmap) -> Vec<u64> {
    if chunk.len() > MAX_LIST {
        chunk.remove_run_compression();
        let bytes = encode(&chunk);
        let words = bytes[HEADER..].as_chunks().0.iter();
        return words.map(|word| u64::from_le_bytes(*word)).collect();
    }
    let mut words = vec![0; WORDS];
    for ordinal in chunk {
        let (word, bit) = place_of(ordinal);
        words[word] |= bit;
    }
    words
}

fn has_bit(words: &[u64], ordinal: u32) -> bool {
    let (word, bit) = place_of(ordinal);
    words[word] & bit != 0
}

/// The word of an ordinal in its chunk, and its bit.
fn place_of(ordinal: u32) -> (usize, u64) {
    let in_chunk = ordinal as usize % (64 * WORDS);
    (in_chunk / 64, 1 << (in_chunk % 64))
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// A container: few ordinals, every second one, a run, all but a few, or none.
    fn container() -> impl Strategy<Value = RoaringBitmap> {
        (0..6_u32, 0..4_u32, 0..40_000_u32).prop_map(|(form, step, start)| {
            let all = 0..1_u32 << 16;
            let edges = [FEW, MAX_LIST].map(|length| length as u32);
            match form {
                0 => RoaringBitmap::new(),
                1 => (start..start + 50).step_by(7).collect(),
                2 => all.step_by(2 + step as usize).collect(),
                3 => (start..start + 20_000).collect(),
                4 => (start..start + edges[start as usize % 2] + step / 2).collect(),
                _ => all
                    .filter(|ordinal| ordinal % 1_000 != start % 1_000)
                    .collect(),
            }
        })
    }

    fn bitmap() -> impl Strategy<Value = RoaringBitmap> {
        (vec((0..3_u32, container()), 0..4), any::<bool>()).prop_map(|(containers, has_runs)| {
            let mut bitmap = RoaringBitmap::new();
            for (nth, container) in containers {
                // The first two, a later one, and the last one of all.
                let key = [0, 1, 16, u32::from(u16::MAX)][nth as usize];
                bitmap |= container
                    .iter()
                    .map(|ordinal| key << 16 | ordinal)
                    .collect::<RoaringBitmap>();
            }
            if has_runs {
                bitmap.optimize();
            }
            bitmap
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn counts_are_those_of_intersections(bitmaps in vec(bitmap(), 0..5)) {
            let bitmaps: Vec<&RoaringBitmap> = bitmaps.iter().collect();
            let intersections = bitmaps.iter().map(|one| {
                let counts = bitmaps.iter().map(|other| one.intersection_len(other));
                counts.collect::<Vec<_>>()
            });
            prop_assert_eq!(common_counts(&bitmaps), intersections.collect::<Vec<_>>());
        }
    }

    #[test]
    fn chunks_with_many_ordinals_are_compared_as_bits() {
        let many: RoaringBitmap = (0..200_000).step_by(3).collect();
        let few: RoaringBitmap = (500_000..500_000 + FEW as u32).collect();
        let bitmap = &many | &few;
        for number in 0..=7 {
            let chunks = ChunksOfAll::new(&[&bitmap], number);
            let has = |persons: &RoaringBitmap| !part(persons, number).persons.is_empty();
            assert_eq!(chunks.many.len(), usize::from(has(&many)), "{number}");
            assert_eq!(chunks.few.len(), usize::from(has(&few)), "{number}");
        }
    }

    #[test]
    fn words_have_the_bits_of_lists_bits_and_runs() {
        for length in [FEW + 1, MAX_LIST, MAX_LIST + 1, 65_536] {
            let mut chunk: RoaringBitmap = (1 << 16..(1 << 16) + length as u32).collect();
            let words_of_chunk = words(chunk.clone());
            assert_eq!(words_of_chunk.len(), WORDS);
            let expected = |ordinal: u32| chunk.contains(ordinal);
            assert!((1 << 16..2 << 16).all(|one| has_bit(&words_of_chunk, one) == expected(one)));
            chunk.optimize();
            assert_eq!(words(chunk), words_of_chunk);
        }
    }
}
