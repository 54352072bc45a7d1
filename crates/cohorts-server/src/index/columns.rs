//! Checkpoints of persons: the set of all persons, and the values of each property in parts by ordinals.
//!
//! A part that is missing or damaged is read from the rows of its range, and written again. Each part has a sequence
//! number of its own; readers apply the persons and tombstones written since the smallest one. So a deleted person is
//! masked at once, and `erasure` removes its values from the stored parts later.

mod all;
pub mod erasure;
mod write;

use std::ops::RangeInclusive;

use cohorts_engine::PropertyBlock;
use cohorts_store::columns::{self, Checkpoint, StoredPart};
use cohorts_store::{ProjectId, frames};
use rayon::prelude::*;
use roaring::RoaringBitmap;

use super::IndexResult;
use super::read::ReadTx;

pub use all::write_all;
pub use write::{ColumnsState, drop_unread, with_checkpoints};

/// The ordinals of a part are equal except for this number of bits. Parts are smaller in tests, so that there are several.
pub const PART_BITS: u32 = if cfg!(test) { 12 } else { 20 };
/// Smaller projects are read from their rows as fast as from checkpoints.
pub const MIN_PERSONS: u64 = 10_000;
/// Parts with packed values in memory at the same time.
const PARTS_AT_ONCE: usize = 4;
/// The properties with checkpoints that no live cohort reads. Further ones are dropped, the oldest first.
const MAX_UNREAD: usize = 256;

/// The ordinals of a part.
pub fn ordinals_of(part: u32) -> RangeInclusive<u32> {
    let first = part << PART_BITS;
    first..=first | ((1 << PART_BITS) - 1)
}

/// The numbers of the parts that have some of `persons`, sorted.
pub fn parts_of(persons: &RoaringBitmap) -> Vec<u32> {
    let last = persons.max().map_or(0, |last| last >> PART_BITS);
    let is_used = |part: &u32| persons.range_cardinality(ordinals_of(*part)) > 0;
    (0..=last).filter(is_used).collect()
}

/// The checkpoint of all persons, with its sequence number.
pub fn persons(tx: &ReadTx<'_>) -> IndexResult<Option<(i64, RoaringBitmap)>> {
    let stored = tx.with_conn(|conn| columns::persons(conn, tx.shard_key()))?;
    Ok(stored.and_then(|stored| {
        let persons = unpack_persons(&stored);
        if persons.is_none() {
            log::warn!(
                "project {}: the checkpoint of its persons is damaged",
                tx.project.0
            );
        }
        Some((stored.through_seq, persons?))
    }))
}

fn unpack_persons(stored: &Checkpoint) -> Option<RoaringBitmap> {
    let bytes = frames::unpack(&stored.data)?;
    RoaringBitmap::deserialize_from(&*bytes).ok()
}

fn pack_persons(persons: &RoaringBitmap) -> Result<Vec<u8>, cohorts_store::Error> {
    let mut bytes = Vec::new();
    let serialized = persons.serialize_into(&mut bytes);
    serialized.map_err(anyhow::Error::from)?;
    frames::pack(&bytes)
}

/// The values of a stored part; `None` if they are damaged.
fn unpack_part(
    project: ProjectId,
    property: &str,
    part: u32,
    data: &[u8],
) -> Option<PropertyBlock> {
    let bytes = frames::unpack(data);
    let block = bytes.and_then(|bytes| PropertyBlock::decode(&bytes));
    let block = block.filter(|block| block.is_within(&ordinals_of(part)));
    if block.is_none() {
        let project = project.0;
        log::warn!("project {project}: part {part} of property {property:?} is damaged");
    }
    block
}

/// Parts of a property as they are stored.
#[derive(Default)]
pub struct StoredProperty {
    pub blocks: Vec<(u32, PropertyBlock)>,
    pub damaged: Vec<u32>,
    /// The smallest sequence number of the blocks; `None` without blocks.
    pub through_seq: Option<i64>,
}

impl StoredProperty {
    pub fn bytes(&self) -> usize {
        self.blocks.iter().map(|(_, block)| block.bytes()).sum()
    }
}

/// Those of the parts `wanted` that are stored as of sequence number `seq` or earlier.
pub fn property(
    tx: &ReadTx<'_>,
    key: &str,
    wanted: &[u32],
    seq: i64,
) -> IndexResult<StoredProperty> {
    let mut stored = StoredProperty::default();
    if wanted.is_empty() {
        return Ok(stored);
    }
    let usable = tx.with_conn(|conn| columns::parts(conn, tx.shard_key(), key))?;
    let is_usable = |part: &StoredPart| {
        part.through_seq <= seq && wanted.iter().any(|wanted| i64::from(*wanted) == part.part)
    };
    let usable: Vec<i64> = (usable.iter().filter(|part| is_usable(part)))
        .map(|part| part.part)
        .collect();
    for parts in usable.chunks(PARTS_AT_ONCE) {
        let rows = tx.with_conn(|conn| columns::read(conn, tx.shard_key(), key, parts))?;
        let packed: usize = rows.iter().map(|(_, row)| row.data.len()).sum();
        tx.check_memory(stored.bytes() + packed)?;
        let project = tx.project;
        let decoded: Vec<_> = rows
            .into_par_iter()
            .map(|(part, row)| {
                let part = part as u32;
                (
                    part,
                    row.through_seq,
                    unpack_part(project, key, part, &row.data),
                )
            })
            .collect();
        for (part, through_seq, block) in decoded {
            match block {
                None => stored.damaged.push(part),
                Some(block) => {
                    stored.blocks.push((part, block));
                    let smallest = stored.through_seq.unwrap_or(through_seq);
                    stored.through_seq = Some(smallest.min(through_seq));
                }
            }
        }
        tx.check_memory(stored.bytes())?;
    }
    Ok(stored)
}
