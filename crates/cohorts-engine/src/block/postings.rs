//! The persons with each value of a dictionary.

use std::ops::RangeInclusive;

use roaring::{MultiOps, RoaringBitmap};

use super::bitmap::{from_sorted, select};

/// The persons with each value of a dictionary.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Postings {
    /// A bitmap of persons per value, if the dictionary is small.
    Bitmaps(Vec<RoaringBitmap>),
    /// Pairs of an ordinal and an index of the dictionary, sorted by ordinal.
    Pairs(Vec<(u32, u32)>),
}

impl Default for Postings {
    fn default() -> Postings {
        Postings::Pairs(Vec::new())
    }
}

/// The largest dictionary with a bitmap per value.
const MAX_BITMAPS: usize = 256;

impl Postings {
    pub fn new(values: usize, mut pairs: Vec<(u32, u32)>) -> Postings {
        if !pairs.is_sorted() {
            pairs.sort_unstable();
        }
        if values > MAX_BITMAPS {
            return Postings::Pairs(pairs);
        }
        let mut bitmaps = vec![RoaringBitmap::new(); values];
        for (ordinal, index) in pairs {
            bitmaps[index as usize].insert(ordinal);
        }
        Postings::Bitmaps(bitmaps)
    }

    pub fn persons(&self) -> RoaringBitmap {
        match self {
            Postings::Bitmaps(bitmaps) => bitmaps.union(),
            Postings::Pairs(pairs) => {
                let ordinals: Vec<u32> = pairs.iter().map(|(ordinal, _)| *ordinal).collect();
                from_sorted(&ordinals)
            }
        }
    }

    /// The persons with a value that matches, given the matches by index.
    pub fn persons_with(&self, matches: &[bool]) -> RoaringBitmap {
        match self {
            Postings::Bitmaps(bitmaps) => {
                let bitmaps = bitmaps.iter().zip(matches);
                bitmaps
                    .filter(|(_, matches)| **matches)
                    .map(|(bitmap, _)| bitmap)
                    .union()
            }
            Postings::Pairs(pairs) => {
                let pairs = pairs.iter();
                from_sorted(&select(
                    pairs.map(|(ordinal, index)| (*ordinal, matches[*index as usize])),
                ))
            }
        }
    }

    pub fn pairs(&self) -> Vec<(u32, u32)> {
        match self {
            Postings::Pairs(pairs) => pairs.clone(),
            Postings::Bitmaps(bitmaps) => (0..)
                .zip(bitmaps)
                .flat_map(|(index, bitmap)| bitmap.iter().map(move |ordinal| (ordinal, index)))
                .collect(),
        }
    }

    /// The pairs of the persons of a range.
    pub fn pairs_within(&self, ordinals: &RangeInclusive<u32>) -> Vec<(u32, u32)> {
        match self {
            Postings::Pairs(pairs) => {
                let first = pairs.partition_point(|(ordinal, _)| ordinal < ordinals.start());
                let end = pairs.partition_point(|(ordinal, _)| ordinal <= ordinals.end());
                pairs[first..end.max(first)].to_vec()
            }
            Postings::Bitmaps(bitmaps) => {
                let bitmaps = (0..).zip(bitmaps);
                let pairs = |(index, bitmap): (u32, &RoaringBitmap)| {
                    let ordinals = bitmap.range(ordinals.clone());
                    ordinals.map(|ordinal| (ordinal, index)).collect::<Vec<_>>()
                };
                bitmaps.flat_map(pairs).collect()
            }
        }
    }

    pub fn bytes(&self) -> usize {
        match self {
            Postings::Bitmaps(bitmaps) => bitmaps.iter().map(RoaringBitmap::serialized_size).sum(),
            Postings::Pairs(pairs) => size_of_val(pairs.as_slice()),
        }
    }
}
