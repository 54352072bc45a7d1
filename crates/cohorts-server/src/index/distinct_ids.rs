//! The owners of distinct ids that were used lately, so that most events find their person without a query.
//!
//! A cached owner is true unless its ordinal was retired since. The tombstones of the log report that: see
//! [`DistinctIdCache::refresh`].

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use cohorts_store::{Conn, Error, ShardKey, tombstones};
use parking_lot::{Mutex, MutexGuard};
use quick_cache::unsync::Cache;
use quick_cache::{Equivalent, Weighter};
use roaring::RoaringBitmap;

use super::memory::MemoryUse;

/// The memory of all cached ids, in bytes: about six hundred thousand ids.
const BUDGET: u64 = 64 << 20;
/// The memory of an id besides its text, in bytes, about.
const ENTRY: u64 = 80;

#[derive(Clone, Debug, PartialEq, Eq)]
struct OwnerKey {
    shard_key: ShardKey,
    id: Box<str>,
}

/// A [`OwnerKey`] that borrows its text.
#[derive(PartialEq, Eq)]
struct OwnerKeyRef<'a> {
    shard_key: ShardKey,
    id: &'a str,
}

impl Hash for OwnerKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let (shard_key, id) = (self.shard_key, &*self.id);
        OwnerKeyRef { shard_key, id }.hash(state);
    }
}

impl Hash for OwnerKeyRef<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.shard_key.hash(state);
        self.id.hash(state);
    }
}

impl Equivalent<OwnerKey> for OwnerKeyRef<'_> {
    fn equivalent(&self, key: &OwnerKey) -> bool {
        self.shard_key == key.shard_key && self.id == &*key.id
    }
}

#[derive(Clone, Debug)]
struct OwnerWeighter;

impl Weighter<OwnerKey, u32> for OwnerWeighter {
    fn weight(&self, key: &OwnerKey, _: &u32) -> u64 {
        key.id.len() as u64 + ENTRY
    }
}

/// Ordinals that were retired up to a sequence number of the log.
#[derive(Debug)]
struct Retired {
    seq: i64,
    ordinals: RoaringBitmap,
}

#[derive(Debug)]
struct OwnerState {
    owners: Cache<OwnerKey, u32, OwnerWeighter>,
    retired: HashMap<ShardKey, Retired>,
    /// The memory of `retired`, in bytes, about.
    retired_bytes: u64,
}

/// Distinct ids with the ordinals of their persons. An ordinal without a person is never cached, because it may get one
/// at any time.
#[derive(Debug)]
pub struct DistinctIdCache {
    state: Mutex<OwnerState>,
    memory: Arc<MemoryUse>,
}

impl DistinctIdCache {
    /// A cache that reports its memory to `memory`.
    pub fn new(memory: &Arc<MemoryUse>) -> Self {
        let capacity = BUDGET / (2 * ENTRY);
        Self {
            state: Mutex::new(OwnerState {
                owners: Cache::with_weighter(capacity as usize, BUDGET, OwnerWeighter),
                retired: HashMap::new(),
                retired_bytes: 0,
            }),
            memory: Arc::clone(memory),
        }
    }

    /// Learns the ordinals that were retired up to sequence number `seq`. The caller holds the lock on the log head, so
    /// none is retired meanwhile.
    pub fn refresh(&self, conn: &mut Conn, shard_key: ShardKey, seq: i64) -> Result<(), Error> {
        let known = self.inner().retired.get(&shard_key).map(|known| known.seq);
        let later = match known {
            Some(seq) => tombstones::since(conn, shard_key, seq)?.retired,
            // Everything that is cached from now on is newer.
            None => RoaringBitmap::new(),
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
            let ordinal = *inner.owners.get(&OwnerKeyRef { shard_key, id })?;
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
                let id = id.into();
                inner.owners.insert(OwnerKey { shard_key, id }, ordinal);
            }
        }
        self.report(inner);
    }

    fn report(&self, inner: &OwnerState) {
        let bytes = inner.owners.weight() + inner.retired_bytes;
        self.memory.distinct_ids.store(bytes, Ordering::Relaxed);
    }

    fn inner(&self) -> MutexGuard<'_, OwnerState> {
        self.state.lock()
    }
}
