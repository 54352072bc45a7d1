//! The orders of buckets, loaded when a page reads them and evicted like blocks of an index.
//!
//! An order comes from the stored bucket if it is new enough, and otherwise from the rows of its persons. A reader may see
//! an older or a newer state of the rows than the ranking has; such an order serves this reader, and is not kept.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use cohorts_store::rankings::{self, RankKey};
use cohorts_store::{Conn, ShardKey, events};
use parking_lot::Mutex;
use roaring::RoaringBitmap;

use super::super::IndexResult;
use super::super::cache::{Weight, lock_until, next_tick};
use super::buckets::{Bucket, Ranking, sort};
use super::stored;

/// The persons of a bucket in order.
pub type Order = Arc<Vec<RankKey>>;

#[derive(Debug)]
struct CachedOrder {
    order: Order,
    last_use: u64,
}

/// The orders of the buckets of a project that are in memory.
#[derive(Debug)]
pub struct Orders {
    pub shard_key: ShardKey,
    cached: Mutex<HashMap<u64, CachedOrder>>,
    /// The caller that loads an order holds the lock.
    loading: Mutex<()>,
    /// The starts of stored buckets that are damaged.
    damaged: Mutex<HashSet<RankKey>>,
    /// Whether an order was loaded since the last eviction.
    has_grown: Arc<AtomicBool>,
}

impl Orders {
    /// Sets `has_grown` whenever an order is loaded.
    pub fn new(shard_key: ShardKey, has_grown: &Arc<AtomicBool>) -> Self {
        Self {
            shard_key,
            cached: Mutex::default(),
            loading: Mutex::default(),
            damaged: Mutex::default(),
            has_grown: Arc::clone(has_grown),
        }
    }

    /// The order of a bucket of a ranking. It may lack changes that the reader does not see, and may have later ones.
    pub fn get(
        &self,
        conn: &mut Conn,
        ranking: &Ranking,
        bucket: &Bucket,
        deadline: Instant,
    ) -> IndexResult<Order> {
        Ok(self.get_checked(conn, ranking, bucket, deadline)?.0)
    }

    /// As [`Self::get`], and whether the order is exactly that of the ranking.
    pub fn get_checked(
        &self,
        conn: &mut Conn,
        ranking: &Ranking,
        bucket: &Bucket,
        deadline: Instant,
    ) -> IndexResult<(Order, bool)> {
        if let Some(order) = self.used(bucket.id) {
            return Ok((order, true));
        }
        let _loading = lock_until(&self.loading, deadline)?;
        if let Some(order) = self.used(bucket.id) {
            return Ok((order, true));
        }
        let (order, is_exact) = self.load(conn, bucket, ranking.seq)?;
        let order = Arc::new(order);
        if is_exact {
            self.insert(bucket.id, Arc::clone(&order));
        }
        Ok((order, is_exact))
    }

    fn load(
        &self,
        conn: &mut Conn,
        bucket: &Bucket,
        seq: i64,
    ) -> IndexResult<(Vec<RankKey>, bool)> {
        let (mut keys, mut is_exact) = (bucket.added.clone(), true);
        let added: RoaringBitmap = keys.iter().map(|key| key.ordinal).collect();
        let mut missing = &bucket.ordinals - added;
        if let Some((through_seq, stored)) = self.stored_keys(conn, bucket)? {
            is_exact &= through_seq <= seq;
            keys.extend(stored.iter().filter(|key| missing.contains(key.ordinal)));
            missing -= stored
                .iter()
                .map(|key| key.ordinal)
                .collect::<RoaringBitmap>();
        }
        if !missing.is_empty() {
            is_exact &= events::log_head(conn, self.shard_key)? >= bucket.base_seq;
            for row in rankings::rows(conn, self.shard_key, &missing)? {
                is_exact &= row.seq <= seq;
                missing.remove(row.key.ordinal);
                keys.push(row.key);
            }
            is_exact &= missing.is_empty();
            // These persons were deleted or merged meanwhile. The reader finds that out.
            let created_at = bucket.start.created_at;
            keys.extend(missing.iter().map(|ordinal| RankKey {
                created_at,
                ordinal,
            }));
        }
        sort(&mut keys);
        Ok((keys, is_exact))
    }

    /// The keys of the stored bucket and its sequence number, if it is intact and new enough.
    fn stored_keys(
        &self,
        conn: &mut Conn,
        bucket: &Bucket,
    ) -> IndexResult<Option<(i64, Vec<RankKey>)>> {
        let Some(source) = bucket.source else {
            return Ok(None);
        };
        let stored = rankings::bucket(conn, self.shard_key, source)?;
        let stored = stored.filter(|stored| stored.through_seq >= bucket.base_seq);
        let Some(stored) = stored else {
            return Ok(None);
        };
        let keys = stored::unpack_keys(&stored.keys);
        if keys.is_none() {
            log::warn!(
                "a stored bucket of the ranking of shard key {} is damaged; it is written again",
                self.shard_key.0
            );
            self.damaged.lock().insert(source);
        }
        Ok(keys.map(|keys| (stored.through_seq, keys)))
    }

    /// Whether the stored bucket of `bucket` is damaged.
    pub fn is_damaged(&self, bucket: &Bucket) -> bool {
        let damaged = self.damaged.lock();
        bucket
            .source
            .is_some_and(|source| damaged.contains(&source))
    }

    pub fn has_damaged(&self) -> bool {
        !self.damaged.lock().is_empty()
    }

    /// Forgets which stored buckets were damaged, because they are written again.
    pub fn forget_damaged(&self) {
        self.damaged.lock().clear();
    }

    /// Forgets that the stored bucket at `source` was damaged.
    pub fn set_intact(&self, source: RankKey) {
        self.damaged.lock().remove(&source);
    }

    /// The order in memory, if there is one. This is not a use.
    pub fn peek(&self, id: u64) -> Option<Order> {
        let cached = self.cached.lock();
        cached.get(&id).map(|cached| Arc::clone(&cached.order))
    }

    fn used(&self, id: u64) -> Option<Order> {
        let mut cached = self.cached.lock();
        let cached = cached.get_mut(&id)?;
        cached.last_use = next_tick();
        Some(Arc::clone(&cached.order))
    }

    pub fn insert(&self, id: u64, order: Order) {
        let last_use = next_tick();
        self.cached
            .lock()
            .insert(id, CachedOrder { order, last_use });
        self.has_grown.store(true, Ordering::Relaxed);
    }

    pub fn remove(&self, id: u64) {
        self.cached.lock().remove(&id);
    }

    /// Moves the order of a bucket, if it is in memory, to the bucket's successor.
    pub fn succeed(&self, before: &Bucket, after: &Bucket) {
        let Some(CachedOrder { order, last_use }) = self.cached.lock().remove(&before.id) else {
            return;
        };
        let added: RoaringBitmap = after.added.iter().map(|key| key.ordinal).collect();
        let unchanged = &after.ordinals - added;
        let mut keys = Vec::with_capacity(after.ordinals.len() as usize);
        keys.extend(order.iter().filter(|key| unchanged.contains(key.ordinal)));
        keys.extend(&after.added);
        sort(&mut keys);
        let order = Arc::new(keys);
        self.cached
            .lock()
            .insert(after.id, CachedOrder { order, last_use });
    }

    /// The memory of each order.
    pub fn weights(&self) -> Vec<Weight> {
        let cached = self.cached.lock();
        cached
            .values()
            .map(|cached| Weight {
                last_use: cached.last_use,
                bytes: (cached.order.capacity() * size_of::<RankKey>()) as u64,
            })
            .collect()
    }

    /// Evicts the orders that were last used before `tick`.
    pub fn evict_before(&self, tick: u64) {
        self.cached
            .lock()
            .retain(|_, cached| cached.last_use >= tick);
    }
}
