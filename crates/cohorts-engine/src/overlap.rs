//! How many ordinals each two of many bitmaps have in common.
//!
//! Containers with many ordinals are compared as words of bits by the vector instructions of the machine, which roaring does
//! not use for that. All others are left to roaring.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use fearless_simd::{Level, Simd, dispatch};
use roaring::RoaringBitmap;

/// The ordinals of a container.
const CONTAINER_BITS: u32 = 16;
/// The bitmaps are compared in ranges of this number of ordinals, so copies and words of 100 bitmaps take about 26 MB.
const RANGE_BITS: u32 = 20;
/// A container with more ordinals is compared as bits.
const FEW: usize = 128;
/// A container with more ordinals is serialized as bits, and one without as a list (RoaringFormatSpec, "Storing the
/// containers").
const MAX_LIST: usize = 4_096;
/// The words of the bits of a container.
const WORDS: usize = 1_024;
/// The serialized form without runs begins with this number (RoaringFormatSpec, "Cookie header").
const NO_RUNS: u32 = 12_346;

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
    let ranges = last.map_or(0, |last| (last >> RANGE_BITS) + 1);
    for range in (0..ranges).map(|nth| ordinals(nth, RANGE_BITS)) {
        let mut mask = RoaringBitmap::new();
        mask.insert_range(range);
        let parts = bitmaps.iter().map(|bitmap| *bitmap & &mask).enumerate();
        let parts = parts.filter(|(_, part)| !part.is_empty());
        let parts = parts.map(|(nth, part)| (nth, Part::new(part)));
        add_counts(&parts.collect::<Vec<_>>(), &mut counts);
    }
    let common = |row: usize, column: usize| counts[row.min(column)][row.max(column)];
    let row = |row| {
        (0..bitmaps.len())
            .map(|column| common(row, column))
            .collect()
    };
    (0..bitmaps.len()).map(row).collect()
}

/// The ordinals that begin with `nth`, before the lowest `bits` bits.
fn ordinals(nth: u32, bits: u32) -> RangeInclusive<u32> {
    let first = nth << bits;
    first..=first | ((1 << bits) - 1)
}

/// Adds to the counts in and above the diagonal. Each part has the number of its bitmap.
fn add_counts(parts: &[(usize, Part)], counts: &mut [Vec<u64>]) {
    let mut by_key: BTreeMap<u32, Vec<(usize, &[u64])>> = BTreeMap::new();
    for (bitmap, part) in parts {
        for (key, words) in &part.containers {
            by_key.entry(*key).or_default().push((*bitmap, words));
        }
    }
    let level = Level::new();
    for containers in by_key.values() {
        dispatch!(level, simd => add_common_bits(simd, containers, counts));
    }
    for (nth, (row, one)) in parts.iter().enumerate() {
        for (column, other) in &parts[nth..] {
            counts[*row][*column] += one.common_of_rest(other);
        }
    }
}

/// Adds the common bits of each two containers.
fn add_common_bits<S: Simd>(simd: S, containers: &[(usize, &[u64])], counts: &mut [Vec<u64>]) {
    simd.vectorize(
        #[inline(always)]
        || {
            for (nth, (row, one)) in containers.iter().enumerate() {
                for (column, other) in &containers[nth..] {
                    let words = one.iter().zip(*other);
                    let common = words.map(|(one, other)| u64::from((one & other).count_ones()));
                    counts[*row][*column] += common.sum::<u64>();
                }
            }
        },
    );
}

/// A range of a bitmap.
struct Part {
    /// The ordinals of the containers with many, and of the others.
    large: RoaringBitmap,
    rest: RoaringBitmap,
    /// The large containers as words of bits, by the highest bits of their ordinals.
    containers: Vec<(u32, Vec<u64>)>,
}

impl Part {
    fn new(mut rest: RoaringBitmap) -> Part {
        rest.remove_run_compression();
        let mut bytes = Vec::with_capacity(rest.serialized_size());
        // Writing to a vector does not fail.
        rest.serialize_into(&mut bytes).ok();
        let containers = large_containers(&bytes).unwrap_or_default();
        let mut large = rest.clone();
        for (key, _) in &containers {
            rest.remove_range(ordinals(*key, CONTAINER_BITS));
        }
        large -= &rest;
        Part {
            large,
            rest,
            containers,
        }
    }

    /// The number of common ordinals that are not in large containers of both.
    fn common_of_rest(&self, other: &Part) -> u64 {
        self.rest.intersection_len(&other.rest)
            + self.rest.intersection_len(&other.large)
            + self.large.intersection_len(&other.rest)
    }
}

/// The containers of a serialized bitmap without runs that have many ordinals: the highest bits of the ordinals, and the
/// words. `None` if the bytes have another form.
fn large_containers(bytes: &[u8]) -> Option<Vec<(u32, Vec<u64>)>> {
    let number = |at: usize| {
        let bytes = bytes.get(at..at + 4)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    };
    if number(0)? != NO_RUNS {
        return None;
    }
    let count = number(4)? as usize;
    let (descriptions, offsets) = (8, 8 + 4 * count);
    let mut containers = Vec::new();
    for nth in 0..count {
        let description = number(descriptions + 4 * nth)?;
        let (key, length) = (description & 0xffff, (description >> 16) as usize + 1);
        let container = bytes.get(number(offsets + 4 * nth)? as usize..)?;
        if length > MAX_LIST {
            let words = container.chunks_exact(8).take(WORDS);
            let words = words.filter_map(|word| Some(u64::from_le_bytes(word.try_into().ok()?)));
            containers.push((key, words.collect()));
        } else if length > FEW {
            containers.push((key, bits_of_list(container.get(..2 * length)?)));
        }
    }
    Some(containers)
}

/// The words of a container that is serialized as a list.
fn bits_of_list(list: &[u8]) -> Vec<u64> {
    let mut words = vec![0; WORDS];
    for ordinal in list.chunks_exact(2) {
        let ordinal = usize::from(ordinal[0]) | usize::from(ordinal[1]) << 8;
        words[ordinal / 64] |= 1 << (ordinal % 64);
    }
    words
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// A container: few ordinals, every second one, a run, all but a few, or none.
    fn container() -> impl Strategy<Value = RoaringBitmap> {
        (0..6_u32, 0..4_u32, 0..40_000_u32).prop_map(|(form, step, start)| {
            let all = 0..1_u32 << CONTAINER_BITS;
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
                // The first two, one of the next range, and the last one of all.
                let key = [0, 1, 16, u32::from(u16::MAX)][nth as usize];
                bitmap |= container
                    .iter()
                    .map(|ordinal| key << CONTAINER_BITS | ordinal)
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
    fn containers_with_many_ordinals_are_compared_as_bits() {
        let many = (0..200_000).step_by(3);
        let few = 500_000..500_000 + FEW as u32;
        let part = Part::new(many.chain(few.clone()).collect());
        let keys: Vec<u32> = part.containers.iter().map(|(key, _)| *key).collect();
        assert_eq!(keys, [0, 1, 2, 3]);
        assert_eq!(part.rest, few.collect());
        assert_eq!(part.large, (0..200_000).step_by(3).collect());
    }
}
