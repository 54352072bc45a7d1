//! The difference between two states of a cohort's members, and its packed form.
//!
//! A difference is stored in slices: each covers a range of whole chunks, and has about a mebibyte at most. No slice
//! crosses a border of [`WINDOW`] chunks, so differences can be merged window by window in bounded memory.

use std::ops::RangeInclusive;

use cohorts_engine::chunks::{self, Chunk};
use roaring::RoaringBitmap;

use crate::{Result, StoreError};

/// Chunks between two borders that no slice crosses.
pub(super) const WINDOW: u32 = 1_024;
/// The bytes of a slice, about.
const SLICE_BYTES: usize = 1 << 20;

/// The persons who changed between two states of the members. A person is either in `entered` or in `left`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MemberDelta {
    /// Members of the later state.
    pub entered: RoaringBitmap,
    /// Persons who are no members in the later state.
    pub left: RoaringBitmap,
    /// Those of both who have the same state before and after, because they changed twice in between.
    pub reverted: RoaringBitmap,
}

impl MemberDelta {
    /// The difference from `before` to `after`.
    pub fn between(before: &RoaringBitmap, after: &RoaringBitmap) -> Self {
        Self {
            entered: after - before,
            left: before - after,
            reverted: RoaringBitmap::new(),
        }
    }

    /// Whether no person changed.
    pub fn is_empty(&self) -> bool {
        self.entered.is_empty() && self.left.is_empty()
    }

    /// All persons who changed.
    pub fn persons(&self) -> RoaringBitmap {
        &self.entered | &self.left
    }

    /// Gives the persons their later state. `members` may be any state in between.
    pub fn apply(&self, members: &mut RoaringBitmap) {
        *members |= &self.entered;
        *members -= &self.left;
    }

    /// Gives the persons their earlier state. `members` must be the later state.
    pub fn undo(&self, members: &mut RoaringBitmap) {
        *members -= &self.entered - &self.reverted;
        *members |= &self.left - &self.reverted;
    }

    /// The persons of the difference who were members in the earlier state.
    fn earlier_members(&self) -> RoaringBitmap {
        (&self.entered & &self.reverted) | (&self.left - &self.reverted)
    }

    /// Extends the difference by the one that follows it.
    pub fn extend(&mut self, next: &Self) {
        let earlier = self.earlier_members() | (next.earlier_members() - self.persons());
        self.entered -= &next.left;
        self.entered |= &next.entered;
        self.left -= &next.entered;
        self.left |= &next.left;
        self.reverted = (&self.entered & &earlier) | (&self.left - &earlier);
    }

    /// Adds the persons of another part of the same difference.
    pub(super) fn join(&mut self, part: Self) {
        self.entered |= part.entered;
        self.left |= part.left;
        self.reverted |= part.reverted;
    }

    /// The part within a range of ordinals.
    fn within(&self, range: RangeInclusive<u32>) -> Self {
        // An intersection looks up the containers of the left side, so the left side is the small one.
        let part = |bitmap: &RoaringBitmap| {
            let mut part = RoaringBitmap::new();
            part.insert_range(range.clone());
            part &= bitmap;
            part
        };
        Self {
            entered: part(&self.entered),
            left: part(&self.left),
            reverted: part(&self.reverted),
        }
    }

    fn serialized_size(&self) -> usize {
        let bitmaps = [&self.entered, &self.left, &self.reverted];
        bitmaps.map(RoaringBitmap::serialized_size).iter().sum()
    }

    /// The difference in slices, in rising order; none if it is empty.
    pub(super) fn slices(&self) -> Vec<DeltaSlice> {
        let mut slices: Vec<DeltaSlice> = Vec::new();
        let mut bytes = 0;
        for Chunk { number, .. } in chunks::split(&self.persons()) {
            let first = u32::from(number) << 16;
            let part = self.within(first..=first | 0xFFFF);
            let size = part.serialized_size();
            let is_near = |slice: &&mut DeltaSlice| {
                slice.first_chunk / WINDOW == u32::from(number) / WINDOW
                    && bytes + size <= SLICE_BYTES
            };
            if let Some(slice) = slices.last_mut().filter(is_near) {
                slice.delta.join(part);
                bytes += size;
            } else {
                slices.push(DeltaSlice {
                    first_chunk: number.into(),
                    delta: part,
                });
                bytes = size;
            }
        }
        slices
    }
}

/// The part of a difference from a chunk on.
pub(super) struct DeltaSlice {
    /// The number of the first chunk with a person.
    pub(super) first_chunk: u32,
    pub(super) delta: MemberDelta,
}

/// The bytes of a slice's bitmaps.
pub(super) struct PackedSlice {
    pub(super) first_chunk: i64,
    pub(super) entered: Vec<u8>,
    pub(super) left: Vec<u8>,
    pub(super) reverted: Vec<u8>,
}

impl PackedSlice {
    pub(super) fn new(slice: &DeltaSlice) -> Self {
        Self {
            first_chunk: slice.first_chunk.into(),
            entered: chunks::encode(&slice.delta.entered),
            left: chunks::encode(&slice.delta.left),
            reverted: chunks::encode(&slice.delta.reverted),
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.entered.len() + self.left.len() + self.reverted.len()
    }

    /// Decodes a slice of the changes of a cohort.
    pub(super) fn delta(&self, cohort: i64) -> Result<MemberDelta> {
        let decode = |bytes: &[u8]| {
            chunks::decode(bytes).map_err(|cause| {
                StoreError::Corrupt(format!("changes of cohort {cohort}: {cause}"))
            })
        };
        Ok(MemberDelta {
            entered: decode(&self.entered)?,
            left: decode(&self.left)?,
            reverted: decode(&self.reverted)?,
        })
    }
}
