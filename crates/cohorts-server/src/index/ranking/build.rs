//! Builds a ranking from the rows of all persons, in ranges of ordinals.
//!
//! A build remembers how far it is. If its caller runs out of time, the next one continues it. Persons that are written
//! meanwhile are found by their sequence numbers afterwards.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use cohorts_store::rankings::{self, RankKey};
use cohorts_store::scan::{self, PersonRange};
use cohorts_store::{Conn, ShardKey, events};
use roaring::RoaringBitmap;

use super::super::IndexResult;
use super::super::memory::{MemoryUse, Reservation};
use super::super::read::RowCount;
use super::buckets::{BUCKET_PERSONS, Bucket, Ranking, sort};
use super::orders::Orders;

/// The ordinals of a step.
const STEP: u64 = if cfg!(test) { 1 << 8 } else { 1 << 18 };
/// The sampled persons of each bucket. With them, a bucket is rarely larger than expected by more than a quarter.
const SAMPLES: u64 = 64;

/// A ranking that is being built.
#[derive(Debug)]
pub struct Build {
    shard_key: ShardKey,
    seq: i64,
    /// The next ordinal to read, and the last one.
    next: u64,
    last: u64,
    /// The newest first.
    parts: Vec<BucketPart>,
    /// Whether the keys are kept. Without memory for them, only the bitmaps are.
    has_keys: bool,
    persons: u64,
    reservation: Reservation,
}

#[derive(Debug)]
struct BucketPart {
    start: RankKey,
    ordinals: RoaringBitmap,
    keys: Vec<RankKey>,
}

impl BucketPart {
    fn new(start: RankKey) -> Self {
        Self {
            start,
            ordinals: RoaringBitmap::new(),
            keys: Vec::new(),
        }
    }
}

impl Build {
    /// Begins with the boundaries of the buckets, from a sample of the persons.
    pub fn begin(
        conn: &mut Conn,
        shard_key: ShardKey,
        memory: &Arc<MemoryUse>,
    ) -> IndexResult<Self> {
        let seq = events::log_head(conn, shard_key)?;
        let end = rankings::last_ordinal(conn, shard_key)?.map_or(0, |last| u64::from(last) + 1);
        let starts = starts(conn, shard_key, end)?;
        Ok(Self {
            shard_key,
            seq,
            next: 0,
            last: end,
            parts: starts.into_iter().map(BucketPart::new).collect(),
            has_keys: true,
            persons: 0,
            reservation: Reservation::new(memory),
        })
    }

    pub fn is_done(&self) -> bool {
        self.next >= self.last
    }

    /// Reads the persons of the next ordinals. All reads together may reserve `budget` bytes.
    pub fn step(&mut self, conn: &mut Conn, budget: u64, rows_read: &RowCount) -> IndexResult<()> {
        let end = (self.next + STEP).min(self.last);
        let range = PersonRange {
            ordinals: self.next as u32..=(end - 1) as u32,
            merged: Vec::new(),
        };
        let rows = scan::created_at(conn, self.shard_key, &range)?;
        self.persons += rows.len() as u64;
        rows_read.fetch_add(rows.len() as u64, Ordering::Relaxed);
        self.reserve(budget);
        for (ordinal, created_at) in rows {
            let key = RankKey {
                created_at,
                ordinal,
            };
            let at = self.parts.partition_point(|part| part.start > key);
            let part = &mut self.parts[at];
            part.ordinals.insert(ordinal);
            if self.has_keys {
                part.keys.push(key);
            }
        }
        self.next = end;
        Ok(())
    }

    /// Reserves memory for the keys, and drops them if they do not fit.
    fn reserve(&mut self, budget: u64) {
        // A bitmap of scattered persons takes two bytes for each.
        let bitmaps = self.persons * 2;
        let keys = self.persons * size_of::<RankKey>() as u64;
        if self.has_keys && !self.reservation.set_loading(bitmaps + keys, budget) {
            self.has_keys = false;
            self.parts
                .iter_mut()
                .for_each(|part| part.keys = Vec::new());
        }
        if !self.has_keys {
            self.reservation.set_loading(bitmaps, u64::MAX);
        }
    }

    pub fn finish(self, orders: &Arc<Orders>) -> Ranking {
        let has_keys = self.has_keys;
        let bucket = |part: BucketPart| {
            let bucket = Bucket::new(part.start, part.ordinals, self.seq);
            if has_keys {
                let mut keys = part.keys;
                keys.shrink_to_fit();
                sort(&mut keys);
                orders.insert(bucket.id, Arc::new(keys));
            }
            bucket
        };
        let buckets = self.parts.into_iter().map(bucket).collect();
        Ranking::new(self.seq, buckets, Arc::clone(orders))
    }
}

/// The starts of buckets of about the same size, the newest first.
fn starts(conn: &mut Conn, shard_key: ShardKey, end: u64) -> IndexResult<Vec<RankKey>> {
    let samples = end / BUCKET_PERSONS as u64 * SAMPLES;
    let mut starts = Vec::new();
    if samples >= 2 * SAMPLES {
        let step = (end / samples).max(1);
        let sample: RoaringBitmap = (0..end)
            .step_by(step as usize)
            .map(|ordinal| ordinal as u32)
            .collect();
        let rows = rankings::rows(conn, shard_key, &sample)?;
        let mut keys: Vec<RankKey> = rows.into_iter().map(|row| row.key).collect();
        sort(&mut keys);
        let persons = keys.len() as u64 * step;
        let buckets = (persons / BUCKET_PERSONS as u64).max(1) as usize;
        starts.extend((1..buckets).map(|nth| keys[keys.len() * nth / buckets]));
        starts.dedup();
    }
    starts.push(RankKey::MIN);
    Ok(starts)
}
