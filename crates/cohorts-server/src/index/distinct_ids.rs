//! The owners of distinct ids that were used lately, so that most events find their person without a query.
//!
//! A cached owner is true unless its ordinal was retired since. The tombstones of the log report that: see
//! [`DistinctIdCache::refresh`].

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use cohorts_store::{Conn, Error, ShardKey, tombstones};
use parking_lot::{Mutex, MutexGuard};
use quick_cache::unsync::{Cache, DefaultLifecycle};
use quick_cache::{DefaultHashBuilder, OptionsBuilder, UnitWeighter};
use roaring::RoaringBitmap;

use super::memory::MemoryUse;

/// The memory of all cached ids, in bytes, if none is set: more than a million ids.
const BUDGET: u64 = 64 << 20;
/// The memory of an id, in bytes, about.
const ENTRY: u64 = 56;

/// A digest of a shard key and a distinct id: two hashes of 64 bits with random keys. So digests of different ids differ,
/// even if a sender chooses the ids to make them equal, and an id of any length takes little memory.
type OwnerKey = [u64; 2];

/// Ordinals that were retired up to a sequence number of the log.
#[derive(Debug)]
struct Retired {
    seq: i64,
    ordinals: RoaringBitmap,
}

#[derive(Debug)]
struct OwnerState {
    owners: Cache<OwnerKey, u32>,
    retired: HashMap<ShardKey, Retired>,
    /// The memory of `retired`, in bytes, about.
    retired_bytes: u64,
}

/// Distinct ids with the ordinals of their persons. An ordinal without a person is never cached, because it may get one
/// at any time.
#[derive(Debug)]
pub struct DistinctIdCache {
    state: Mutex<OwnerState>,
    hashers: [RandomState; 2],
    memory: Arc<MemoryUse>,
}

impl DistinctIdCache {
    /// A cache that reports its memory to `memory`.
    pub fn new(memory: &Arc<MemoryUse>) -> Self {
        Self {
            state: Mutex::new(OwnerState {
                owners: owners_within(BUDGET),
                retired: HashMap::new(),
                retired_bytes: 0,
            }),
            hashers: [RandomState::new(), RandomState::new()],
            memory: Arc::clone(memory),
        }
    }

    /// Forgets all ids, and caches ids of up to `bytes` from now on.
    pub fn set_budget(&self, bytes: u64) {
        self.inner().owners = owners_within(bytes);
    }

    fn key(&self, shard_key: ShardKey, id: &str) -> OwnerKey {
        (self.hashers)
            .each_ref()
            .map(|hasher| hasher.hash_one((shard_key, id)))
    }

    /// Learns the ordinals that were retired up to sequence number `seq`. The caller holds the lock on the log head, so
    /// none is retired meanwhile.
    pub fn refresh(&self, conn: &mut Conn, shard_key: ShardKey, seq: i64) -> Result<(), Error> {
        let known = self.inner().retired.get(&shard_key).map(|known| known.seq);
        let later = match known {
            Some(known) if known < seq => tombstones::since(conn, shard_key, known)?.retired,
            // All writes are known, or everything that is cached from now on is newer.
            _ => RoaringBitmap::new(),
        };
        let inner = &mut *self.inner();
        let retired = inner.retired.entry(shard_key).or_insert_with(|| {
            inner.retired_bytes += ENTRY;
            Retired {
                seq,
                ordinals: RoaringBitmap::new(),
            }
        });
        retired.seq = seq.max(retired.seq);
        let before = retired.ordinals.serialized_size();
        retired.ordinals |= later;
        inner.retired_bytes += (retired.ordinals.serialized_size().saturating_sub(before)) as u64;
        self.report(inner);
        Ok(())
    }

    /// The cached owner of each id, true as of the last [`Self::refresh`].
    pub fn owners(&self, shard_key: ShardKey, ids: &[&str]) -> Vec<Option<u32>> {
        let inner = &mut *self.inner();
        let retired = inner.retired.get(&shard_key);
        let owner = |id: &&str| {
            let ordinal = *inner.owners.get(&self.key(shard_key, id))?;
            let is_retired = retired.is_some_and(|retired| retired.ordinals.contains(ordinal));
            (!is_retired).then_some(ordinal)
        };
        ids.iter().map(owner).collect()
    }

    /// Replaces owners by `None` that were retired as of the last [`Self::refresh`].
    pub fn remove_retired(&self, shard_key: ShardKey, owners: &mut [Option<u32>]) {
        let inner = self.inner();
        if let Some(retired) = inner.retired.get(&shard_key)
            && !retired.ordinals.is_empty()
        {
            for owner in owners {
                *owner = owner.filter(|ordinal| !retired.ordinals.contains(*ordinal));
            }
        }
    }

    /// Caches owners, after the commit of a write that began with [`Self::refresh`].
    pub fn insert<'a>(&self, shard_key: ShardKey, owners: impl Iterator<Item = (&'a str, i64)>) {
        let inner = &mut *self.inner();
        for (id, ordinal) in owners {
            if let Ok(ordinal) = u32::try_from(ordinal) {
                inner.owners.insert(self.key(shard_key, id), ordinal);
            }
        }
        self.report(inner);
    }

    /// Learns that the write with sequence number `seq`, which is committed, has retired no ordinal. While no other process
    /// writes, [`Self::refresh`] then needs no statement.
    pub fn retired_none(&self, shard_key: ShardKey, seq: i64) {
        if let Some(retired) = self.inner().retired.get_mut(&shard_key)
            && retired.seq == seq - 1
        {
            retired.seq = seq;
        }
    }

    fn report(&self, inner: &OwnerState) {
        let bytes = inner.owners.len() as u64 * ENTRY + inner.retired_bytes;
        self.memory.distinct_ids.store(bytes, Ordering::Relaxed);
    }

    fn inner(&self) -> MutexGuard<'_, OwnerState> {
        self.state.lock()
    }
}

/// An empty cache of owners that take up to `bytes`.
fn owners_within(bytes: u64) -> Cache<OwnerKey, u32> {
    let capacity = (bytes / ENTRY).max(1);
    let options = OptionsBuilder::new()
        .estimated_items_capacity(capacity as usize / 4)
        .weight_capacity(capacity)
        // Without it, each evicted id would take as much memory as a cached one.
        .ghost_allocation(0.0)
        .build();
    options.map_or_else(
        |_| Cache::new(capacity as usize),
        |options| {
            Cache::with_options(
                options,
                UnitWeighter,
                DefaultHashBuilder::default(),
                DefaultLifecycle::default(),
            )
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_limits_the_number_of_ids() {
        let memory = Arc::<MemoryUse>::default();
        let cache = DistinctIdCache::new(&memory);
        cache.set_budget(100 * ENTRY);
        let ids: Vec<String> = (0..1_000).map(|id| format!("id {id}")).collect();
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        let shard_keys = [ShardKey(1), ShardKey(2)];
        for shard_key in shard_keys {
            cache.insert(shard_key, ids.iter().copied().zip(shard_key.0 * 1_000..));
        }
        let mut cached = 0;
        for shard_key in shard_keys {
            for (owner, ordinal) in cache
                .owners(shard_key, &ids)
                .iter()
                .zip(shard_key.0 * 1_000..)
            {
                assert!(owner.is_none_or(|owner| i64::from(owner) == ordinal));
                cached += u64::from(owner.is_some());
            }
        }
        assert!((1..=100).contains(&cached), "{cached} ids");
        assert_eq!(memory.distinct_ids.load(Ordering::Relaxed), cached * ENTRY);
    }
}
