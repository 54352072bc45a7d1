//! The members of cohorts that were used lately, by version, under the memory budget of the index.
//!
//! The members of one version stay the same for each reader with a transaction that sees it. A reader that sees a later
//! version reads only the chunks that were written since. One that sees an earlier version reads all chunks, and leaves the
//! cache as it is.
//!
//! A deletion of persons publishes a version without new chunks, because it removes them from the older ones in place. Then
//! the cached members are too many: their number differs from the count of the cohort, and all chunks are read.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use cohorts_engine::chunks::Chunk;
use cohorts_store::members::{self, PublishedCohort, WantedVersions};
use cohorts_store::{CohortId, Conn, Error, ShardKey};
use parking_lot::Mutex;
use quick_cache::Weighter;
use quick_cache::unsync::Cache;
use roaring::RoaringBitmap;

use super::memory::MemoryUse;
use super::registry::DEFAULT_BUDGET;

/// The part of the memory budget that members take at most.
const BUDGET_PART: u64 = 8;
/// The memory of an entry besides its bitmap, in bytes, about.
const ENTRY: u64 = 200;
/// The cohorts of one statement.
const COHORTS_AT_ONCE: usize = 16;

/// The members of a cohort as of a version.
#[derive(Clone, Debug)]
struct VersionedMembers {
    version: i64,
    members: Arc<RoaringBitmap>,
}

/// Weighs members by their bytes.
#[derive(Clone, Debug)]
struct ByBytes;

type ShardCohort = (ShardKey, i64);

impl Weighter<ShardCohort, VersionedMembers> for ByBytes {
    fn weight(&self, _: &ShardCohort, value: &VersionedMembers) -> u64 {
        ENTRY + value.members.serialized_size() as u64
    }
}

/// The members of cohorts, for readers of many cohorts.
#[derive(Debug)]
pub struct MemberCache {
    members: Mutex<Cache<ShardCohort, VersionedMembers, ByBytes>>,
    memory: Arc<MemoryUse>,
}

impl MemberCache {
    /// A cache that reports its memory to `memory`.
    pub fn new(memory: &Arc<MemoryUse>) -> Self {
        Self {
            members: Mutex::new(members_within(DEFAULT_BUDGET)),
            memory: Arc::clone(memory),
        }
    }

    /// Forgets all members, and uses a part of a memory budget of `bytes` from now on.
    pub fn set_budget(&self, bytes: u64) {
        *self.members.lock() = members_within(bytes);
    }

    /// The members of each cohort, in the versions that the transaction of the caller sees.
    pub fn get(
        &self,
        conn: &mut Conn,
        shard_key: ShardKey,
        cohorts: &[PublishedCohort],
    ) -> Result<Vec<Arc<RoaringBitmap>>, Error> {
        let mut all = Vec::with_capacity(cohorts.len());
        for part in cohorts.chunks(COHORTS_AT_ONCE) {
            let known = self.known(shard_key, part);
            let wanted: Vec<WantedVersions> = part.iter().zip(&known).filter_map(missing).collect();
            let mut newer = if wanted.is_empty() {
                HashMap::new()
            } else {
                members::newer_chunks(conn, shard_key, &wanted)?
            };
            for (cohort, known) in part.iter().zip(known) {
                let chunks = newer.remove(&cohort.id).unwrap_or_default();
                all.push(match known {
                    Some(known) if known.version == cohort.member_version => known.members,
                    known => {
                        let known = known.map(|known| known.members);
                        let members = advanced(conn, shard_key, cohort, known, chunks)?;
                        self.insert(shard_key, cohort, Arc::new(members))
                    }
                });
            }
        }
        Ok(all)
    }

    /// The cached members of each cohort that are not newer than the wanted version.
    fn known(
        &self,
        shard_key: ShardKey,
        cohorts: &[PublishedCohort],
    ) -> Vec<Option<VersionedMembers>> {
        let cache = self.members.lock();
        let known = cohorts.iter().map(|cohort| {
            let known = cache.get(&(shard_key, cohort.id)).cloned();
            known.filter(|known| known.version <= cohort.member_version)
        });
        known.collect()
    }

    /// Caches the members of a cohort, unless newer ones are cached.
    fn insert(
        &self,
        shard_key: ShardKey,
        cohort: &PublishedCohort,
        members: Arc<RoaringBitmap>,
    ) -> Arc<RoaringBitmap> {
        let (key, version) = ((shard_key, cohort.id), cohort.member_version);
        let mut cache = self.members.lock();
        if cache.peek(&key).is_none_or(|known| known.version < version) {
            let members = Arc::clone(&members);
            cache.insert(key, VersionedMembers { version, members });
            let bytes = cache.weight();
            self.memory.members.store(bytes, Ordering::Relaxed);
        }
        members
    }
}

/// The members of a cohort from those of an earlier version, or from none, and the chunks written since.
fn advanced(
    conn: &mut Conn,
    shard_key: ShardKey,
    cohort: &PublishedCohort,
    known: Option<Arc<RoaringBitmap>>,
    chunks: Vec<Chunk>,
) -> Result<RoaringBitmap, Error> {
    let Some(known) = known else {
        return Ok(members::with_chunks(RoaringBitmap::new(), chunks));
    };
    let members = members::with_chunks((*known).clone(), chunks);
    if cohort.count == Some(members.len() as i64) {
        return Ok(members);
    }
    members::read(conn, shard_key, CohortId(cohort.id), cohort.member_version)
}

/// The versions that a reader lacks; `None` if it lacks none.
fn missing(
    (cohort, known): (&PublishedCohort, &Option<VersionedMembers>),
) -> Option<WantedVersions> {
    let after = known.as_ref().map(|known| known.version);
    (after != Some(cohort.member_version)).then_some(WantedVersions {
        cohort: cohort.id,
        after,
        version: cohort.member_version,
    })
}

/// An empty cache that takes a part of `budget` bytes.
fn members_within(budget: u64) -> Cache<ShardCohort, VersionedMembers, ByBytes> {
    Cache::with_weighter(1_000, (budget / BUDGET_PART).max(1), ByBytes)
}
