//! Retired ordinals: those of deleted persons, and those of persons that were merged into another (redirects).
//!
//! Each has the sequence number of the write that retired it, so a reader of an older state finds it. Rows under the
//! ordinal of a merged person, such as events, are not rewritten: readers resolve the ordinal to the survivor's.
//! A retired ordinal is never used again.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use diesel::prelude::*;
use roaring::RoaringBitmap;
use uuid::Uuid;

use crate::schema::tombstones;
use crate::{Conn, INSERT_ROWS, Result, ShardKey};

/// An ordinal that a write retires.
#[derive(Clone, Copy, Debug)]
pub struct NewTombstone {
    /// The retired ordinal.
    pub ordinal: i64,
    /// The uuid of the person; `None` if the ordinal never had a person.
    pub uuid: Option<Uuid>,
    /// The ordinal of the survivor of a merge; `None` for a deletion.
    pub merged_into: Option<i64>,
}

/// Retires ordinals in the transaction of the caller, which has taken sequence number `seq`.
///
/// # Errors
///
/// Fails if the database fails, or if an ordinal is retired already.
pub fn record(
    conn: &mut Conn,
    shard_key: ShardKey,
    seq: i64,
    retired: &[NewTombstone],
) -> Result<()> {
    let rows: Vec<_> = retired
        .iter()
        .map(|tombstone| {
            (
                tombstones::shard_key.eq(shard_key.0),
                tombstones::ordinal.eq(tombstone.ordinal),
                tombstones::seq.eq(seq),
                tombstones::uuid.eq(tombstone.uuid),
                tombstones::merged_into.eq(tombstone.merged_into),
            )
        })
        .collect();
    for chunk in rows.chunks(INSERT_ROWS) {
        diesel::insert_into(tombstones::table)
            .values(chunk)
            .execute(conn)?;
    }
    Ok(())
}

/// Retired ordinals, and the survivors of those that were merged.
///
/// Chains of merges are followed once, when the tombstones are read. Each look-up then takes at most two steps, whatever
/// the number of merges. Later tombstones are added without a copy of the earlier ones.
#[derive(Clone, Debug, Default)]
pub struct Tombstones {
    /// All retired ordinals, of deleted and of merged persons.
    pub retired: RoaringBitmap,
    /// The persons that merged ordinals had when these redirects were collected. Later tombstones may retire them.
    earlier: Arc<HashMap<u32, u32>>,
    /// The persons that the ordinals merged since then have now: not retired, as far as these tombstones know.
    redirects: HashMap<u32, u32>,
    has_deletions: bool,
}

/// Redirects that are copied with each addition. When there are more, and more than an eighth of the earlier ones, all are
/// collected.
const FEW_REDIRECTS: usize = if cfg!(test) { 4 } else { 4_096 };

impl Tombstones {
    fn new(rows: Vec<(i64, Option<i64>)>) -> Self {
        let mut tombstones = Self::default();
        let mut survivors = HashMap::new();
        for (ordinal, survivor) in rows {
            let Ok(ordinal) = u32::try_from(ordinal) else {
                continue;
            };
            tombstones.retired.insert(ordinal);
            match survivor.map(u32::try_from) {
                Some(Ok(survivor)) => drop(survivors.insert(ordinal, survivor)),
                _ => tombstones.has_deletions = true,
            }
        }
        let mut deleted = RoaringBitmap::new();
        for ordinal in survivors.keys() {
            tombstones.follow(*ordinal, &survivors, &mut deleted);
        }
        if tombstones.redirects.len() > FEW_REDIRECTS {
            tombstones.earlier = Arc::new(std::mem::take(&mut tombstones.redirects));
        }
        tombstones
    }

    /// Follows the chain that begins at a merged ordinal, as far as its end is not known, and records the end for each
    /// ordinal of the chain. Without an end, the ordinals are `deleted`.
    fn follow(&mut self, first: u32, survivors: &HashMap<u32, u32>, deleted: &mut RoaringBitmap) {
        let mut chain = Vec::new();
        let mut ordinal = first;
        let end = loop {
            if let Some(end) = self.redirects.get(&ordinal) {
                break Some(*end);
            }
            if !self.retired.contains(ordinal) {
                break Some(ordinal);
            }
            // A damaged chain may be a loop.
            let is_known = deleted.contains(ordinal) || chain.len() >= survivors.len();
            let Some(survivor) = survivors.get(&ordinal).filter(|_| !is_known) else {
                break None;
            };
            chain.push(ordinal);
            ordinal = *survivor;
        };
        match end {
            Some(end) => (self.redirects).extend(chain.into_iter().map(|ordinal| (ordinal, end))),
            None => deleted.extend(chain),
        }
    }

    /// Returns these tombstones together with later ones.
    pub fn with(&self, later: &Self) -> Self {
        let moved = |(ordinal, person): (&u32, &u32)| Some((*ordinal, later.resolve(*person)?));
        let mut redirects: HashMap<u32, u32> = self.redirects.iter().filter_map(moved).collect();
        redirects.extend(later.redirects());
        let together = Self {
            retired: &self.retired | &later.retired,
            earlier: Arc::clone(&self.earlier),
            redirects,
            has_deletions: self.has_deletions || later.has_deletions,
        };
        let few = FEW_REDIRECTS.max(self.earlier.len() / 8);
        if together.redirects.len() <= few {
            return together;
        }
        Self {
            earlier: Arc::new(together.redirects().collect()),
            redirects: HashMap::new(),
            ..together
        }
    }

    /// The merged ordinals with the persons that they have now.
    fn redirects(&self) -> impl Iterator<Item = (u32, u32)> {
        let ordinals = self.earlier.keys().chain(self.redirects.keys());
        ordinals.filter_map(|ordinal| Some((*ordinal, self.resolve(*ordinal)?)))
    }

    /// Whether a person was deleted, and not only merged.
    pub fn has_deletions(&self) -> bool {
        self.has_deletions
    }

    /// The ordinal that the person of `ordinal` has now; `None` if the person was deleted, also after merges.
    pub fn resolve(&self, ordinal: u32) -> Option<u32> {
        if !self.retired.contains(ordinal) {
            return Some(ordinal);
        }
        let recent = |ordinal| self.redirects.get(&ordinal).copied();
        recent(ordinal).or_else(|| {
            let person = *self.earlier.get(&ordinal)?;
            if self.retired.contains(person) {
                recent(person)
            } else {
                Some(person)
            }
        })
    }

    /// The memory of the tombstones, in bytes, approximately.
    pub fn bytes(&self) -> usize {
        let redirects = self.earlier.capacity() + self.redirects.capacity();
        self.retired.serialized_size() + redirects * 2 * size_of::<(u32, u32)>()
    }

    /// The ordinals that were merged into persons of the range.
    pub fn merged_into(&self, survivors: RangeInclusive<u32>) -> Vec<u32> {
        self.merged(|survivor| survivors.contains(&survivor))
    }

    /// The ordinals that were merged into persons for which `is_survivor` holds.
    fn merged(&self, is_survivor: impl Fn(u32) -> bool) -> Vec<u32> {
        let merged = self.redirects();
        let merged = merged.filter(|(_, survivor)| is_survivor(*survivor));
        merged.map(|(ordinal, _)| ordinal).collect()
    }

    /// Replaces merged persons by their survivors, and removes deleted persons.
    pub fn resolved(&self, persons: &RoaringBitmap) -> RoaringBitmap {
        let retired = persons & &self.retired;
        let survivors: RoaringBitmap = retired
            .iter()
            .filter_map(|ordinal| self.resolve(ordinal))
            .collect();
        (persons - retired) | survivors
    }
}

/// All tombstones of a shard key.
///
/// # Errors
///
/// Fails if the database fails.
pub fn all(conn: &mut Conn, shard_key: ShardKey) -> Result<Tombstones> {
    since(conn, shard_key, -1)
}

/// The tombstones with a sequence number above `seq`.
///
/// # Errors
///
/// Fails if the database fails.
pub fn since(conn: &mut Conn, shard_key: ShardKey, seq: i64) -> Result<Tombstones> {
    between(conn, shard_key, (seq, i64::MAX))
}

/// The tombstones with a sequence number above `after`, up to `through`.
///
/// # Errors
///
/// Fails if the database fails.
pub fn between(
    conn: &mut Conn,
    shard_key: ShardKey,
    (after, through): (i64, i64),
) -> Result<Tombstones> {
    let rows = tombstones::table
        .filter(tombstones::shard_key.eq(shard_key.0))
        .filter(tombstones::seq.gt(after))
        .filter(tombstones::seq.le(through))
        .select((tombstones::ordinal, tombstones::merged_into))
        .load(conn)?;
    Ok(Tombstones::new(rows))
}

/// The sequence number of the last write that retired an ordinal; `None` without one.
///
/// # Errors
///
/// Fails if the database fails.
pub fn last_seq(conn: &mut Conn, shard_key: ShardKey) -> Result<Option<i64>> {
    Ok(tombstones::table
        .filter(tombstones::shard_key.eq(shard_key.0))
        .select(diesel::dsl::max(tombstones::seq))
        .get_result(conn)?)
}

/// The first `limit` tombstones with a sequence number above `after`, in its order: the sequence number, the ordinal, and
/// the ordinal of the survivor of a merge.
///
/// # Errors
///
/// Fails if the database fails.
pub fn first_since(
    conn: &mut Conn,
    shard_key: ShardKey,
    after: i64,
    limit: i64,
) -> Result<Vec<(i64, i64, Option<i64>)>> {
    Ok(tombstones::table
        .filter(tombstones::shard_key.eq(shard_key.0))
        .filter(tombstones::seq.gt(after))
        .order(tombstones::seq)
        .limit(limit)
        .select((
            tombstones::seq,
            tombstones::ordinal,
            tombstones::merged_into,
        ))
        .load(conn)?)
}

/// The row of a retired ordinal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetiredPerson {
    /// The uuid of the person; `None` if the ordinal never had a person, or the uuid was purged.
    pub uuid: Option<Uuid>,
    /// The ordinal of the survivor of a merge, which may be retired too; `None` for a deletion.
    pub merged_into: Option<i64>,
}

/// The retired ones of these ordinals.
///
/// # Errors
///
/// Fails if the database fails.
pub fn by_ordinals(
    conn: &mut Conn,
    shard_key: ShardKey,
    ordinals: &[i64],
) -> Result<HashMap<i64, RetiredPerson>> {
    type Row = (i64, (Option<Uuid>, Option<i64>));
    let rows: Vec<Row> = tombstones::table
        .filter(tombstones::shard_key.eq(shard_key.0))
        .filter(tombstones::ordinal.eq_any(ordinals))
        .select((
            tombstones::ordinal,
            (tombstones::uuid, tombstones::merged_into),
        ))
        .load(conn)?;
    let retired = |(uuid, merged_into)| RetiredPerson { uuid, merged_into };
    let rows = rows.into_iter();
    Ok(rows.map(|(ordinal, row)| (ordinal, retired(row))).collect())
}

/// The tombstones of these ordinals, and of the persons that they were merged into.
///
/// # Errors
///
/// Fails if the database fails.
pub fn of(conn: &mut Conn, shard_key: ShardKey, ordinals: &RoaringBitmap) -> Result<Tombstones> {
    let mut rows = Vec::new();
    let mut next: Vec<i64> = ordinals.iter().map(i64::from).collect();
    for _ in 0..MAX_LEVELS {
        if next.is_empty() {
            return Ok(Tombstones::new(rows));
        }
        let retired = by_ordinals(conn, shard_key, &next)?;
        next = retired.values().filter_map(|row| row.merged_into).collect();
        rows.extend(
            retired
                .into_iter()
                .map(|(ordinal, row)| (ordinal, row.merged_into)),
        );
    }
    all(conn, shard_key)
}

/// The ordinals of deleted persons with a uuid in their tombstones, also of persons that were merged into deleted ones.
///
/// # Errors
///
/// Fails if the database fails.
pub fn deleted_with_uuid(conn: &mut Conn, shard_key: ShardKey) -> Result<RoaringBitmap> {
    let named: Vec<i64> = tombstones::table
        .filter(tombstones::shard_key.eq(shard_key.0))
        .filter(tombstones::uuid.is_not_null())
        .select(tombstones::ordinal)
        .load(conn)?;
    let tombstones = all(conn, shard_key)?;
    let named = named
        .into_iter()
        .filter_map(|ordinal| ordinal.try_into().ok());
    Ok(named
        .filter(|ordinal| tombstones.resolve(*ordinal).is_none())
        .collect())
}

/// Deletes the uuids of these ordinals from their tombstones.
///
/// # Errors
///
/// Fails if the database fails. It may be repeated.
pub fn forget_uuids(conn: &mut Conn, shard_key: ShardKey, persons: &RoaringBitmap) -> Result<()> {
    let ordinals: Vec<i64> = persons.iter().map(i64::from).collect();
    for ordinals in ordinals.chunks(INSERT_ROWS) {
        let rows = tombstones::table
            .filter(tombstones::shard_key.eq(shard_key.0))
            .filter(tombstones::ordinal.eq_any(ordinals));
        diesel::update(rows)
            .set(tombstones::uuid.eq(None::<Uuid>))
            .execute(conn)?;
    }
    Ok(())
}

/// Replaces a uuid in the tombstones of persons that were merged into a survivor. If the survivor has moved to the ordinal of
/// a merged person, the tombstone of its own ordinal gets the uuid that has ended.
///
/// # Errors
///
/// Fails if the database fails.
pub fn replace_uuid(
    conn: &mut Conn,
    shard_key: ShardKey,
    survivor: i64,
    (uuid, replacement): (Uuid, Uuid),
) -> Result<()> {
    let rows = tombstones::table
        .filter(tombstones::shard_key.eq(shard_key.0))
        .filter(tombstones::merged_into.eq(survivor))
        .filter(tombstones::uuid.eq(uuid));
    diesel::update(rows)
        .set(tombstones::uuid.eq(replacement))
        .execute(conn)?;
    Ok(())
}

/// The levels of merges that are read one by one. Beyond them, all tombstones are read.
const MAX_LEVELS: usize = 8;

/// Returns the `ordinals` of persons and all ordinals that were merged into them, directly or through others.
///
/// # Errors
///
/// Fails if the database fails.
pub fn with_merged(conn: &mut Conn, shard_key: ShardKey, ordinals: &[i64]) -> Result<Vec<i64>> {
    let mut merged = ordinals.to_vec();
    let mut survivors = merged.clone();
    for _ in 0..MAX_LEVELS {
        survivors = tombstones::table
            .filter(tombstones::shard_key.eq(shard_key.0))
            .filter(tombstones::merged_into.eq_any(&survivors))
            .select(tombstones::ordinal)
            .load(conn)?;
        if survivors.is_empty() {
            return Ok(merged);
        }
        merged.extend(&survivors);
    }
    // A person table has no recursive statements.
    let persons = ordinals.iter().map(|ordinal| u32::try_from(*ordinal));
    let persons = persons.collect::<Result<RoaringBitmap, _>>();
    let persons = persons.map_err(anyhow::Error::from)?;
    let merged = all(conn, shard_key)?.merged(|survivor| persons.contains(survivor));
    let merged = merged.into_iter().map(i64::from);
    Ok(ordinals.iter().copied().chain(merged).collect())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use diesel::connection::InstrumentationEvent;

    use super::*;
    use crate::testing::TestDatabase;

    #[test]
    fn an_ordinal_is_resolved_through_every_merge() {
        let tombstones = Tombstones::new(vec![(1, Some(2)), (2, Some(3)), (5, Some(6)), (6, None)]);
        let resolved: Vec<_> = (1..8).map(|ordinal| tombstones.resolve(ordinal)).collect();
        let three = Some(3);
        assert_eq!(
            resolved,
            [three, three, three, Some(4), None, None, Some(7)]
        );
        let merged = Tombstones::new(vec![(1, Some(2))]);
        assert!(tombstones.has_deletions() && !merged.has_deletions());
        let later = Tombstones::new(vec![(3, Some(7)), (8, Some(7))]);
        let together = tombstones.with(&later);
        let resolved = [1, 2, 3, 5, 8].map(|ordinal| together.resolve(ordinal));
        assert_eq!(resolved, [Some(7), Some(7), Some(7), None, Some(7)]);
        let persons = RoaringBitmap::from_iter([1, 4, 5, 6]);
        let resolved: Vec<u32> = tombstones.resolved(&persons).iter().collect();
        assert_eq!(resolved, [3, 4]);
    }

    #[test]
    fn added_tombstones_resolve_like_those_read_together() {
        // Each person is merged into the next of its ten, and every seventh ten ends with a deletion.
        let row = |ordinal: i64| match (ordinal % 10, ordinal / 10 % 7) {
            (9, 0) => Some((ordinal, None)),
            (9, _) => None,
            _ => Some((ordinal, Some(ordinal + 1))),
        };
        let rows: Vec<_> = (0..300).filter_map(row).collect();
        for size in [1, 3, 50] {
            let mut added = Tombstones::default();
            for (nth, step) in rows.chunks(size).enumerate() {
                added = added.with(&Tombstones::new(step.to_vec()));
                let end = rows.len().min((nth + 1) * size);
                let together = Tombstones::new(rows[..end].to_vec());
                for ordinal in 0..310 {
                    assert_eq!(
                        added.resolve(ordinal),
                        together.resolve(ordinal),
                        "{ordinal}"
                    );
                }
                let sorted = |mut ordinals: Vec<u32>| {
                    ordinals.sort_unstable();
                    ordinals
                };
                let merged = [&added, &together].map(|all| sorted(all.merged_into(50..=250)));
                assert_eq!(merged[0], merged[1]);
            }
        }
    }

    #[test]
    fn an_addition_shares_the_earlier_redirects() {
        let rows = (0..200).map(|ordinal| (ordinal, Some(1_000)));
        let many = Tombstones::default().with(&Tombstones::new(rows.collect()));
        let more = many.with(&Tombstones::new(vec![
            (500, Some(1_000)),
            (1_000, Some(1_001)),
        ]));
        assert!(Arc::ptr_eq(&many.earlier, &more.earlier));
        assert_eq!(
            [3, 500, 1_000].map(|ordinal| more.resolve(ordinal)),
            [Some(1_001); 3]
        );
        assert!(more.bytes() >= 202 * 16);
    }

    #[test]
    fn a_long_chain_of_merges_takes_few_statements() {
        let database = TestDatabase::create();
        let store = database.open();
        let conn = &mut *store.connection().unwrap();
        let shard_key = ShardKey(65_536);
        let retired = |ordinal, merged_into| NewTombstone {
            ordinal,
            uuid: None,
            merged_into,
        };
        let chain = (1..100).map(|ordinal| retired(ordinal, Some(ordinal + 1)));
        let others = [
            retired(200, Some(201)),
            retired(300, Some(100)),
            retired(400, None),
        ];
        let all: Vec<NewTombstone> = chain.chain(others).collect();
        record(conn, shard_key, 1, &all).unwrap();
        let statements = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&statements);
        conn.set_instrumentation(move |event: InstrumentationEvent<'_>| {
            if let InstrumentationEvent::StartQuery { .. } = event {
                counter.fetch_add(1, Ordering::Relaxed);
            }
        });
        for (ordinal, merged) in [(3, vec![1, 2, 3]), (201, vec![200, 201])] {
            let mut actual = with_merged(conn, shard_key, &[ordinal]).unwrap();
            actual.sort_unstable();
            assert_eq!(actual, merged);
        }
        let mut merged = with_merged(conn, shard_key, &[100]).unwrap();
        merged.sort_unstable();
        assert_eq!(merged, (1..=100).chain([300]).collect::<Vec<_>>());
        let count = statements.load(Ordering::Relaxed);
        assert!(count <= 3 + 2 + MAX_LEVELS + 1, "{count}");
    }

    #[test]
    fn chains_are_followed_when_they_are_read() {
        const LENGTH: u32 = 200_000;
        let rows = (0..LENGTH).map(|ordinal| (i64::from(ordinal), Some(i64::from(ordinal) + 1)));
        let tombstones = Tombstones::new(rows.collect());
        let ends: HashSet<u32> = tombstones.redirects().map(|(_, end)| end).collect();
        assert_eq!(ends, HashSet::from([LENGTH]));
        assert_eq!(tombstones.redirects().count(), LENGTH as usize);
        assert!(!tombstones.has_deletions() && tombstones.bytes() >= 8 * LENGTH as usize);
        // A chain that ends with a deletion has no survivor, and neither has a loop.
        let rows = (0..LENGTH).map(|ordinal| (i64::from(ordinal), Some(i64::from(ordinal) + 1)));
        let ended = Tombstones::new(rows.chain([(i64::from(LENGTH), None)]).collect());
        assert!(ended.redirects().next().is_none() && ended.has_deletions());
        assert_eq!(
            Tombstones::new(vec![(1, Some(2)), (2, Some(1))]).resolve(1),
            None
        );
        let deleted = Tombstones::new(vec![(i64::from(LENGTH), None)]);
        let together = tombstones.with(&deleted);
        assert!(together.redirects().next().is_none() && together.has_deletions());
        assert_eq!(
            (together.resolve(0), together.resolve(LENGTH + 1)),
            (None, Some(LENGTH + 1))
        );
    }
}
