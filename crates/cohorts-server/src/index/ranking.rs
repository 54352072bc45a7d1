//! The order in which persons are listed: the newest first, and the higher ordinal first among persons of one instant.
//!
//! A bitmap knows nothing of this order. A ranking maps ordinals to ranks, so a page costs the same at any offset.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use cohorts_store::{Conn, ShardKey, events, scan, tombstones};
use parking_lot::{Mutex, MutexGuard};
use quick_cache::Weighter;
use quick_cache::unsync::Cache;
use roaring::RoaringBitmap;

use super::memory::MemoryUse;

/// The memory of all rankings, in bytes: about thirteen million persons.
const BUDGET: u64 = 256 << 20;
/// The memory of a ranking besides its persons, in bytes, about.
const ENTRY: usize = 200;
/// Rankings in the cache, about.
const RANKINGS: usize = 1_000;
/// Ordinals that are mapped at once, which is faster than one by one.
const CHUNK: usize = 1_024;

/// The position of a person in the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RankKey {
    /// The time of creation, in microseconds since 1970.
    pub created_at: i64,
    pub ordinal: u32,
}

/// The persons of a project in the order in which they are listed.
#[derive(Debug, Default)]
pub struct Ranking {
    /// Sorted in falling order.
    keys: Vec<RankKey>,
    /// The rank of each ordinal; `UNRANKED` for an ordinal without a person.
    ranks: Vec<u32>,
}

const UNRANKED: u32 = u32::MAX;

impl Ranking {
    /// Ranks persons. Each occurs once.
    fn new(mut keys: Vec<RankKey>) -> Self {
        // Most keys are in order, so a stable sort is fast.
        keys.sort_by(|left, right| right.cmp(left));
        let length = keys.iter().map(|key| key.ordinal as usize + 1).max();
        let mut ranks = vec![UNRANKED; length.unwrap_or(0)];
        for (rank, key) in keys.iter().enumerate() {
            ranks[key.ordinal as usize] = rank as u32;
        }
        Self { keys, ranks }
    }

    /// The rank of a person; `None` if the project has no such person.
    pub fn rank(&self, ordinal: u32) -> Option<u32> {
        let rank = *self.ranks.get(ordinal as usize)?;
        (rank != UNRANKED).then_some(rank)
    }

    /// The ranking after some persons were written and some retired; `None` if it is the same.
    fn advance(&self, written: Vec<RankKey>, retired: &RoaringBitmap) -> Option<Self> {
        let has_moved = |key: &RankKey| {
            let rank = self.rank(key.ordinal);
            rank.is_none_or(|rank| self.key_at(rank).created_at != key.created_at)
        };
        let moved: Vec<RankKey> = written.into_iter().filter(has_moved).collect();
        if moved.is_empty() && !retired.iter().any(|ordinal| self.rank(ordinal).is_some()) {
            return None;
        }
        let removed = retired | RoaringBitmap::from_iter(moved.iter().map(|key| key.ordinal));
        let mut keys = self.keys.clone();
        keys.retain(|key| !removed.contains(key.ordinal));
        keys.extend(moved);
        Some(Self::new(keys))
    }

    /// The ranks of all persons.
    pub fn all(&self) -> RoaringBitmap {
        let mut all = RoaringBitmap::new();
        all.insert_range(0..self.keys.len() as u32);
        all
    }

    /// The ranks of `persons`. Persons that are not in the project have none.
    pub fn ranks(&self, persons: &RoaringBitmap) -> RoaringBitmap {
        let mut bits = vec![0_u8; self.keys.len().div_ceil(8)];
        let (mut rest, mut buffer) = (persons.iter(), [0; CHUNK]);
        loop {
            let ordinals = rest.next_many(&mut buffer);
            if ordinals.is_empty() {
                break;
            }
            for rank in ordinals.iter().filter_map(|ordinal| self.rank(*ordinal)) {
                bits[rank as usize / 8] |= 1 << (rank % 8);
            }
        }
        RoaringBitmap::from_lsb0_bytes(0, &bits)
    }

    /// The key of the person at a rank that [`Self::ranks`] returned.
    pub fn key_at(&self, rank: u32) -> RankKey {
        self.keys[rank as usize]
    }

    /// The first rank after a key, whether or not a person has it.
    pub fn after(&self, key: RankKey) -> u32 {
        self.keys.partition_point(|other| *other >= key) as u32
    }
}

/// A ranking, and the last sequence number of the log that it contains.
#[derive(Clone, Debug)]
struct CachedRanking {
    seq: i64,
    ranking: Arc<Ranking>,
}

/// The rankings of all projects.
#[derive(Debug)]
pub struct RankingCache {
    rankings: Mutex<Cache<ShardKey, CachedRanking, RankingWeighter>>,
    /// The locks of callers that make the ranking of a project, so that one of them does.
    making: Mutex<HashMap<ShardKey, Arc<Mutex<()>>>>,
    memory: Arc<MemoryUse>,
}

#[derive(Clone, Debug)]
struct RankingWeighter;

impl Weighter<ShardKey, CachedRanking> for RankingWeighter {
    fn weight(&self, _: &ShardKey, cached: &CachedRanking) -> u64 {
        let keys = cached.ranking.keys.len() * size_of::<RankKey>();
        (ENTRY + keys + cached.ranking.ranks.len() * size_of::<u32>()) as u64
    }
}

impl RankingCache {
    /// A cache that reports its memory to `memory`.
    pub fn new(memory: &Arc<MemoryUse>) -> Self {
        Self {
            rankings: Mutex::new(Cache::with_weighter(RANKINGS, BUDGET, RankingWeighter)),
            making: Mutex::default(),
            memory: Arc::clone(memory),
        }
    }

    /// The ranking of at least the persons that the connection sees; it may contain later ones.
    pub fn get(
        &self,
        conn: &mut Conn,
        shard_key: ShardKey,
    ) -> Result<Arc<Ranking>, cohorts_store::Error> {
        let seq = events::log_head(conn, shard_key)?;
        let current = || self.cached(shard_key).filter(|cached| cached.seq >= seq);
        if let Some(cached) = current() {
            return Ok(cached.ranking);
        }
        let lock = Arc::clone(self.making.lock().entry(shard_key).or_default());
        let _making = lock.lock();
        if let Some(cached) = current() {
            return Ok(cached.ranking);
        }
        let ranking = match self.cached(shard_key) {
            Some(CachedRanking { seq, ranking }) => {
                let written = rank_keys(conn, shard_key, seq)?;
                let retired = tombstones::since(conn, shard_key, seq)?.retired;
                ranking.advance(written, &retired).map_or(ranking, Arc::new)
            }
            None => Arc::new(Ranking::new(rank_keys(conn, shard_key, -1)?)),
        };
        let cached = CachedRanking {
            seq,
            ranking: Arc::clone(&ranking),
        };
        let mut rankings = self.lock();
        rankings.insert(shard_key, cached);
        self.memory
            .rankings
            .store(rankings.weight(), Ordering::Relaxed);
        Ok(ranking)
    }

    fn cached(&self, shard_key: ShardKey) -> Option<CachedRanking> {
        self.lock().get(&shard_key).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, Cache<ShardKey, CachedRanking, RankingWeighter>> {
        self.rankings.lock()
    }
}

/// The keys of the persons written after `seq`.
fn rank_keys(
    conn: &mut Conn,
    shard_key: ShardKey,
    seq: i64,
) -> Result<Vec<RankKey>, cohorts_store::Error> {
    let mut keys = Vec::new();
    scan::written_persons(conn, shard_key, seq, |ordinal, created_at| {
        keys.push(RankKey {
            created_at,
            ordinal,
        });
    })?;
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranking(persons: &[(i64, u32)]) -> Ranking {
        Ranking::new(keys(persons))
    }

    fn keys(persons: &[(i64, u32)]) -> Vec<RankKey> {
        persons.iter().map(|person| key(*person)).collect()
    }

    fn key((created_at, ordinal): (i64, u32)) -> RankKey {
        RankKey {
            created_at,
            ordinal,
        }
    }

    fn ordinals(ranking: &Ranking, ranks: &RoaringBitmap) -> Vec<u32> {
        let keys = ranks.iter().map(|rank| ranking.key_at(rank));
        keys.map(|key| key.ordinal).collect()
    }

    #[test]
    fn a_ranking_of_eight_million_persons_fits_into_the_cache() {
        let cache = RankingCache::new(&Arc::default());
        let keys = (0..8_000_000).map(|ordinal| key((0, ordinal))).collect();
        let cached = CachedRanking {
            seq: 1,
            ranking: Arc::new(Ranking::new(keys)),
        };
        cache.lock().insert(ShardKey(1), cached);
        assert!(cache.lock().get(&ShardKey(1)).is_some());
    }

    #[test]
    fn persons_are_ranked_by_creation_and_then_by_ordinal_both_falling() {
        let ranking = ranking(&[(10, 0), (30, 1), (30, 4), (20, 2)]);
        assert_eq!(ordinals(&ranking, &ranking.all()), [4, 1, 2, 0]);
        let persons = RoaringBitmap::from_iter([0, 1, 3, 99]);
        assert_eq!(ordinals(&ranking, &ranking.ranks(&persons)), [1, 0]);
    }

    #[test]
    fn the_rank_after_a_key_does_not_need_a_person_with_that_key() {
        let ranking = ranking(&[(10, 0), (30, 1), (20, 2)]);
        assert_eq!(ranking.after(key((30, 1))), 1);
        assert_eq!(ranking.after(key((25, 9))), 1, "no person has this key");
        assert_eq!(ranking.after(key((10, 0))), 3);
        assert_eq!(ranking.after(key((99, 0))), 0);
    }

    #[test]
    fn an_advanced_ranking_equals_a_new_one() {
        let before = ranking(&[(10, 0), (30, 1), (20, 2)]);
        let retired = RoaringBitmap::from_iter([1]);
        let written = keys(&[(5, 2), (40, 3), (10, 0)]);
        let after = before.advance(written, &retired).unwrap();
        assert_eq!(ordinals(&after, &after.all()), [3, 0, 2]);
        assert_eq!(after.rank(1), None);
        let none = RoaringBitmap::new();
        assert!(before.advance(keys(&[(30, 1)]), &none).is_none());
        assert!(after.advance(Vec::new(), &retired).is_none());
    }
}
