//! The stored form of a ranking: its buckets as packed ordinals and keys.
//!
//! A stored bucket may be newer than the stored ranking, if a process ended while it wrote. Persons that were written
//! since are applied again anyway, so such a bucket does no harm. Damaged buckets are replaced by the rows.

use std::sync::Arc;

use cohorts_store::rankings::{self, RankKey, StoredBucket, StoredRanking};
use cohorts_store::{Conn, Error as StoreError, ShardKey, frames};
use roaring::RoaringBitmap;

use super::super::IndexResult;
use super::buckets::{Bucket, Ranking};
use super::orders::Orders;

/// The first byte of packed keys.
const FORMAT: u8 = 1;

/// What is stored of a ranking.
#[derive(Debug)]
pub enum StoredState {
    Missing,
    /// A bucket of this version is damaged or missing.
    Damaged(i64),
    Valid {
        version: i64,
        ranking: Ranking,
    },
}

/// Loads the stored ranking, without orders.
pub fn load(conn: &mut Conn, orders: &Arc<Orders>) -> IndexResult<StoredState> {
    let shard_key = orders.shard_key;
    let Some((stored, seq)) = find(conn, shard_key)? else {
        return Ok(StoredState::Missing);
    };
    let mut buckets = Vec::new();
    rankings::buckets(conn, shard_key, |stored| buckets.push(bucket(&stored)))?;
    let buckets: Option<Vec<Bucket>> = buckets.into_iter().collect();
    let buckets = buckets
        .filter(|buckets| buckets.len() as i64 == stored.buckets)
        .filter(|buckets| {
            buckets
                .last()
                .is_some_and(|last| last.start == RankKey::MIN)
        })
        .and_then(|buckets| without_common_persons(buckets, seq));
    Ok(match buckets {
        Some(buckets) => StoredState::Valid {
            version: stored.version,
            ranking: Ranking::new(seq, buckets, Arc::clone(orders)),
        },
        None => {
            log::warn!(
                "the stored ranking of shard key {} is damaged; it is built from the persons and written again",
                shard_key.0
            );
            StoredState::Damaged(stored.version)
        }
    })
}

/// The stored ranking, if it is complete, with its sequence number.
fn find(conn: &mut Conn, shard_key: ShardKey) -> IndexResult<Option<(StoredRanking, i64)>> {
    let stored = rankings::find(conn, shard_key)?;
    Ok(stored.and_then(|stored| Some((stored, stored.through_seq?))))
}

fn bucket(stored: &StoredBucket) -> Option<Bucket> {
    let ordinals = unpack_ordinals(&stored.ordinals)?;
    let bucket = Bucket::new(stored.start, ordinals, stored.through_seq);
    Some(bucket.saved(stored.start, stored.through_seq))
}

/// Removes the persons that are in several buckets. They were written after `seq`, if a bucket is newer; otherwise a
/// bucket is damaged.
fn without_common_persons(mut buckets: Vec<Bucket>, seq: i64) -> Option<Vec<Bucket>> {
    let (mut all, mut common) = (RoaringBitmap::new(), RoaringBitmap::new());
    for bucket in &buckets {
        common |= &all & &bucket.ordinals;
        all |= &bucket.ordinals;
    }
    if common.is_empty() {
        return Some(buckets);
    }
    for bucket in &mut buckets {
        bucket.ordinals -= &common;
    }
    let is_newer = |bucket: &Bucket| bucket.base_seq > seq;
    let has_newer = buckets.iter().any(is_newer);
    has_newer.then(|| buckets.into_iter().map(Bucket::counted).collect())
}

/// Times of creation. Persons that were written after `through_seq` may be missing or have later times.
pub struct StoredTimes {
    pub through_seq: i64,
    /// Ordinals, and microseconds since 1970.
    pub times: Vec<(u32, i64)>,
}

/// The times of creation of all persons, from a complete stored ranking; `None` if there is none or if it is damaged.
pub fn times(conn: &mut Conn, shard_key: ShardKey) -> IndexResult<Option<StoredTimes>> {
    let Some((_, seq)) = find(conn, shard_key)? else {
        return Ok(None);
    };
    let orders = Arc::new(Orders::new(shard_key, &Arc::default()));
    let StoredState::Valid { ranking, .. } = load(conn, &orders)? else {
        return Ok(None);
    };
    let mut times = Vec::with_capacity(ranking.all.len() as usize);
    for bucket in &ranking.buckets {
        let stored = rankings::bucket(conn, shard_key, bucket.start)?;
        let keys = stored.and_then(|stored| unpack_keys(&stored.keys));
        let Some(keys) = keys.filter(|keys| keys.len() as u64 >= bucket.ordinals.len()) else {
            return Ok(None);
        };
        times.extend(keys.iter().map(|key| (key.ordinal, key.created_at)));
    }
    Ok(Some(StoredTimes {
        through_seq: seq,
        times,
    }))
}

/// Removes persons from the stored buckets for good, in the transaction of the caller. The rest stays as it is, also for
/// other processes.
///
/// # Errors
///
/// Fails if the database fails.
pub fn rewrite_without(
    conn: &mut Conn,
    shard_key: ShardKey,
    erased: &RoaringBitmap,
) -> Result<(), StoreError> {
    if rankings::find(conn, shard_key)?.is_none() {
        return Ok(());
    }
    rankings::lock(conn, shard_key)?;
    let (mut starts, mut is_damaged) = (Vec::new(), false);
    rankings::buckets(conn, shard_key, |stored| {
        match unpack_ordinals(&stored.ordinals) {
            Some(ordinals) if ordinals.is_disjoint(erased) => {}
            Some(ordinals) => starts.push((stored.start, ordinals - erased)),
            None => is_damaged = true,
        }
    })?;
    if is_damaged {
        return rankings::drop_all(conn, shard_key);
    }
    for (start, ordinals) in starts {
        let Some(stored) = rankings::bucket(conn, shard_key, start)? else {
            continue;
        };
        // Damaged keys are replaced by none, so that they are read from the rows.
        let mut keys = unpack_keys(&stored.keys).unwrap_or_default();
        keys.retain(|key| !erased.contains(key.ordinal));
        let rewritten = StoredBucket {
            ordinals: pack_ordinals(&ordinals)?,
            keys: pack_keys(&keys)?,
            ..stored
        };
        rankings::rewrite(conn, shard_key, &rewritten)?;
    }
    Ok(())
}

pub fn pack_ordinals(ordinals: &RoaringBitmap) -> Result<Vec<u8>, StoreError> {
    let mut bytes = Vec::with_capacity(ordinals.serialized_size());
    let serialized = ordinals.serialize_into(&mut bytes);
    serialized.map_err(anyhow::Error::from)?;
    frames::pack(&bytes)
}

fn unpack_ordinals(data: &[u8]) -> Option<RoaringBitmap> {
    RoaringBitmap::deserialize_from(&*frames::unpack(data)?).ok()
}

/// Packs keys that are in order.
pub fn pack_keys(keys: &[RankKey]) -> Result<Vec<u8>, StoreError> {
    let mut bytes = vec![FORMAT];
    push_number(&mut bytes, keys.len() as u64);
    let mut before = RankKey::MIN;
    for key in keys {
        // Differences wrap, so any two keys have one.
        let time = before.created_at.wrapping_sub(key.created_at) as u64;
        let ordinal = i64::from(key.ordinal) - i64::from(before.ordinal);
        push_number(&mut bytes, time);
        push_number(&mut bytes, (ordinal << 1 ^ ordinal >> 63) as u64);
        before = *key;
    }
    frames::pack(&bytes)
}

/// Returns the keys that [`pack_keys`] packed, or `None` if they are damaged.
pub fn unpack_keys(data: &[u8]) -> Option<Vec<RankKey>> {
    let bytes = frames::unpack(data)?;
    let (FORMAT, mut rest) = bytes.split_first().map(|(first, rest)| (*first, rest))? else {
        return None;
    };
    let count = usize::try_from(next_number(&mut rest)?).ok()?;
    // Each key takes at least two bytes.
    let mut keys = Vec::with_capacity(count.min(rest.len() / 2));
    let mut before = RankKey::MIN;
    for _ in 0..count {
        let time = next_number(&mut rest)? as i64;
        let zigzag = next_number(&mut rest)?;
        let ordinal = (zigzag >> 1) as i64 ^ -((zigzag & 1) as i64);
        before = RankKey {
            created_at: before.created_at.wrapping_sub(time),
            ordinal: u32::try_from(i64::from(before.ordinal).checked_add(ordinal)?).ok()?,
        };
        keys.push(before);
    }
    let is_sorted = keys.windows(2).all(|pair| pair[0] > pair[1]);
    (rest.is_empty() && is_sorted).then_some(keys)
}

/// Adds a number in groups of seven bits, the lowest first.
fn push_number(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn next_number(rest: &mut &[u8]) -> Option<u64> {
    let (mut number, mut shift) = (0, 0);
    loop {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        number |= u64::from(byte & 0x7F).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(number);
        }
        shift += 7;
    }
}
