//! Which persons the changes of the log name after moves to other ordinals.
//!
//! The log has ordinals, and readers see uuids. When a survivor moves to the ordinal of a merged person, the two ordinals
//! exchange their uuids. A reader that has received a person must receive the same person when it leaves, however late it
//! reads the change. So a change names the uuid that its ordinal had when it was published: the uuid is followed through
//! the later moves to the ordinal that has it now.

use std::collections::{BTreeMap, HashMap};

use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt};

use super::heads;
use crate::schema::tombstones;
use crate::{Conn, Result, ShardKey};

/// The first move from and to each ordinal after a change and after a sequence number.
pub(crate) const FIRST_MOVES: &str = "\
    select keys.nth, m.ordinal, m.merged_into, m.seq \
    from unnest($2, $3, $4, $5) as keys(nth, ordinal, number, seq) cross join lateral ( \
        select ordinal, merged_into, seq from tombstones where shard_key = $1 and ordinal = keys.ordinal \
            and moved_after >= keys.number and seq > keys.seq \
        union all ( \
        select ordinal, merged_into, seq from tombstones where shard_key = $1 and merged_into = keys.ordinal \
            and moved_after >= keys.number and seq > keys.seq order by moved_after, seq limit 1)) m";

/// A person in a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LoggedPerson {
    /// The ordinal in the log.
    pub ordinal: u32,
    /// The number of the change.
    pub number: i64,
}

#[derive(Clone, Copy, QueryableByName)]
struct FirstMove {
    #[diesel(sql_type = BigInt)]
    nth: i64,
    #[diesel(sql_type = BigInt)]
    ordinal: i64,
    #[diesel(sql_type = BigInt)]
    merged_into: i64,
    #[diesel(sql_type = BigInt)]
    seq: i64,
}

/// Where the uuid of a change is, as far as it was followed.
#[derive(Clone, Copy)]
struct Trail {
    change: LoggedPerson,
    ordinal: i64,
    /// The sequence number of the last move.
    seq: i64,
}

/// The ordinals that now have the uuids of these changes. Those of changes without a later move are left out.
///
/// The caller reads in a [`crate::snapshot`].
///
/// # Errors
///
/// Fails if the database fails.
pub fn ordinals_now(
    conn: &mut Conn,
    shard_key: ShardKey,
    changes: impl Iterator<Item = LoggedPerson>,
) -> Result<HashMap<LoggedPerson, u32>> {
    let mut trails: Vec<Trail> = changes.map(Trail::new).collect();
    trails.sort_unstable_by_key(|trail| trail.change);
    trails.dedup_by_key(|trail| trail.change);
    let mut ends = HashMap::new();
    // Each step follows one move of each trail. An ordinal that a person has left has no later moves.
    while !trails.is_empty() {
        let moves = first_moves(conn, shard_key, &trails)?;
        let moved = moves
            .into_iter()
            .map(|(nth, first)| trails[nth].after(first));
        trails = moved.collect();
        for trail in &trails {
            let ordinal = u32::try_from(trail.ordinal).map_err(anyhow::Error::from)?;
            ends.insert(trail.change, ordinal);
        }
    }
    Ok(ends)
}

impl Trail {
    fn new(change: LoggedPerson) -> Self {
        Self {
            change,
            ordinal: i64::from(change.ordinal),
            seq: -1,
        }
    }

    /// The uuids of the two ordinals of a move are exchanged.
    fn after(self, first: FirstMove) -> Self {
        let is_survivor = self.ordinal == first.ordinal;
        Self {
            change: self.change,
            ordinal: if is_survivor {
                first.merged_into
            } else {
                first.ordinal
            },
            seq: first.seq,
        }
    }
}

/// The next move of each trail that has one, by the place of the trail.
fn first_moves(
    conn: &mut Conn,
    shard_key: ShardKey,
    trails: &[Trail],
) -> Result<BTreeMap<usize, FirstMove>> {
    let column = |value: fn(&Trail) -> i64| trails.iter().map(value).collect::<Vec<_>>();
    let moves: Vec<FirstMove> = diesel::sql_query(FIRST_MOVES)
        .bind::<BigInt, _>(shard_key.0)
        .bind::<Array<BigInt>, _>((0..trails.len() as i64).collect::<Vec<_>>())
        .bind::<Array<BigInt>, _>(column(|trail| trail.ordinal))
        .bind::<Array<BigInt>, _>(column(|trail| trail.change.number))
        .bind::<Array<BigInt>, _>(column(|trail| trail.seq))
        .load(conn)?;
    let mut first = BTreeMap::new();
    for next in moves {
        let nth = usize::try_from(next.nth).map_err(anyhow::Error::from)?;
        let known = first.entry(nth).or_insert(next);
        if next.seq < known.seq {
            *known = next;
        }
    }
    Ok(first)
}

/// Records that survivors have left these ordinals, which are retired already, after the last change of the log.
///
/// The caller has locked all cohorts, so no other change gets a number meanwhile.
pub(super) fn record_moves(conn: &mut Conn, shard_key: ShardKey, left: &[i64]) -> Result<()> {
    let number = heads::head(conn, shard_key)?.map_or(0, |head| head.number);
    let rows = tombstones::table
        .filter(tombstones::shard_key.eq(shard_key.0))
        .filter(tombstones::ordinal.eq_any(left));
    diesel::update(rows)
        .set(tombstones::moved_after.eq(number))
        .execute(conn)?;
    Ok(())
}

/// The numbers of the changes from `first` to `last` that were the last ones before a move, sorted.
pub(super) fn last_before_moves(
    conn: &mut Conn,
    shard_key: ShardKey,
    (first, last): (i64, i64),
) -> Result<Vec<i64>> {
    let numbers: Vec<Option<i64>> = tombstones::table
        .filter(tombstones::shard_key.eq(shard_key.0))
        .filter(tombstones::moved_after.ge(first))
        .filter(tombstones::moved_after.lt(last))
        .order(tombstones::moved_after)
        .select(tombstones::moved_after)
        .distinct()
        .load(conn)?;
    Ok(numbers.into_iter().flatten().collect())
}
