//! The append-only log of events, and its head: the last sequence number of a shard key.
//!
//! A write takes the next sequence number with [`begin_write`], which locks the head until the commit. So sequence
//! numbers rise in commit order, and a reader that has seen number N finds all later events above N.

use std::collections::HashSet;

use chrono::{DateTime, NaiveDate, Utc};
use diesel::prelude::*;
use diesel::sql_types;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::scan::start_of_day;
use crate::schema::{events, log_heads};
use crate::{Conn, FEW_ROWS, JsonText, Result, ShardKey, StoreError, projects};

/// A new row of `events`.
#[derive(Clone, Debug, Insertable)]
#[diesel(table_name = events, treat_none_as_default_value = false)]
pub struct NewEvent<'a> {
    /// The shard key of the project.
    pub shard_key: i64,
    /// The sender's id of the event.
    pub uuid: Uuid,
    /// [`identity`] of the name and the distinct id.
    pub identity: i64,
    /// The UTC day of `timestamp`.
    pub day: NaiveDate,
    /// The sequence number of the write.
    pub seq: i64,
    /// The ordinal of the person.
    pub ordinal: i64,
    /// The name.
    pub event: &'a str,
    /// The sender's id of the person.
    pub distinct_id: &'a str,
    /// The time of the event.
    pub timestamp: DateTime<Utc>,
    /// A JSON object.
    pub properties: &'a JsonText,
}

/// A hash of an event's name and distinct id, which together with its uuid identify it.
pub fn identity(name: &str, distinct_id: &str) -> i64 {
    let mut hash = Sha256::new();
    hash.update((name.len() as u64).to_be_bytes());
    hash.update(name);
    hash.update(distinct_id);
    let digest = hash.finalize();
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    i64::from_be_bytes(first)
}

/// Appends events that are not in the log yet.
///
/// # Errors
///
/// Fails if the database fails, or if an event is in the log.
pub fn append(conn: &mut Conn, events: &[NewEvent<'_>]) -> Result<usize> {
    if events.len() <= FEW_ROWS {
        let rows = diesel::insert_into(events::table).values(events);
        return Ok(rows.execute(conn)?);
    }
    Ok(diesel::copy_from(events::table)
        .from_insertable(events)
        .execute(conn)?)
}

pub(crate) const COUNT_BETWEEN: &str = "\
    select count(*) as count from ( \
        select from events where shard_key = $1 and seq > $2 and seq <= $3 limit $4) e";

/// How many events have sequence numbers above `after`, up to `through`; the count stops at `limit`.
///
/// # Errors
///
/// Fails if the database fails.
fn count_between(
    conn: &mut Conn,
    shard_key: ShardKey,
    (after, through): (i64, i64),
    limit: i64,
) -> Result<i64> {
    let row: CountRow = diesel::sql_query(COUNT_BETWEEN)
        .bind::<sql_types::BigInt, _>(shard_key.0)
        .bind::<sql_types::BigInt, _>(after)
        .bind::<sql_types::BigInt, _>(through)
        .bind::<sql_types::BigInt, _>(limit)
        .get_result(conn)?;
    Ok(row.count)
}

/// Whether more than `limit` events have sequence numbers above `after`, up to `through`.
///
/// # Errors
///
/// Fails if the database fails.
pub fn are_more_between(
    conn: &mut Conn,
    shard_key: ShardKey,
    span: (i64, i64),
    limit: i64,
) -> Result<bool> {
    Ok(count_between(conn, shard_key, span, limit + 1)? > limit)
}

pub(crate) const HAS_FROM: &str = "select count(*) as count from (select from events where shard_key = $1 and seq >= $2 limit 1) e";

/// Whether there is an event with sequence number `seq` or a higher one. A write of two halves that was interrupted leaves
/// such events.
///
/// # Errors
///
/// Fails if the database fails.
pub fn has_from(conn: &mut Conn, shard_key: ShardKey, seq: i64) -> Result<bool> {
    let row: CountRow = diesel::sql_query(HAS_FROM)
        .bind::<sql_types::BigInt, _>(shard_key.0)
        .bind::<sql_types::BigInt, _>(seq)
        .get_result(conn)?;
    Ok(row.count > 0)
}

/// How many events of a name are in the log up to sequence number `through_seq`, from a UTC day on.
///
/// # Errors
///
/// Fails if the database fails.
pub fn count_of_name(
    conn: &mut Conn,
    shard_key: ShardKey,
    name: &str,
    through_seq: i64,
    from_day: i64,
) -> Result<i64> {
    Ok(events::table
        .filter(events::shard_key.eq(shard_key.0))
        .filter(events::event.eq(name))
        .filter(events::seq.le(through_seq))
        .filter(events::timestamp.ge(start_of_day(from_day)))
        .count()
        .get_result(conn)?)
}

/// The names of events with sequence numbers above `after`; `None` if there are more than `limit` events.
///
/// # Errors
///
/// Fails if the database fails.
pub fn names_since(
    conn: &mut Conn,
    shard_key: ShardKey,
    after: i64,
    limit: i64,
) -> Result<Option<HashSet<String>>> {
    if are_more_between(conn, shard_key, (after, i64::MAX), limit)? {
        return Ok(None);
    }
    let names: Vec<String> = events::table
        .filter(events::shard_key.eq(shard_key.0))
        .filter(events::seq.gt(after))
        .select(events::event)
        .distinct()
        .load(conn)?;
    Ok(Some(names.into_iter().collect()))
}

#[derive(QueryableByName)]
struct CountRow {
    #[diesel(sql_type = sql_types::BigInt)]
    count: i64,
}

/// Sorted keys that are looked up by the range of their uuids first, because new uuids are mostly above all stored ones.
const RANGE: usize = 256;
/// The ORDER BY makes each look-up use the primary key.
pub(crate) const RANGES_WITH_EVENTS: &str = "\
    select r.nth from unnest($2, $3) with ordinality as r(low, high, nth) cross join lateral ( \
        select 1 from events where shard_key = $1 and uuid >= r.low and uuid <= r.high \
        order by shard_key, uuid limit 1) e";
pub(crate) const KNOWN: &str = "\
    select keys.uuid, keys.identity from unnest($2, $3) as keys(uuid, identity) cross join lateral ( \
        select 1 from events where shard_key = $1 and uuid = keys.uuid and identity = keys.identity \
        order by shard_key, uuid, identity limit 1) e";

/// What identifies an event, whatever its time: the sender's uuid, and the [`identity`] of its name and distinct id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventKey {
    /// The sender's id of the event. Events with other names or distinct ids may have the same.
    pub uuid: Uuid,
    /// [`identity`] of the name and the distinct id.
    pub identity: i64,
}

impl EventKey {
    /// The key of an event.
    pub fn new(uuid: Uuid, name: &str, distinct_id: &str) -> Self {
        Self {
            uuid,
            identity: identity(name, distinct_id),
        }
    }
}

/// Which of these events are in the log, whatever their day. While the log head is locked, no other writer adds one.
///
/// # Errors
///
/// Fails if the database fails.
pub fn known(conn: &mut Conn, shard_key: ShardKey, keys: &[EventKey]) -> Result<HashSet<EventKey>> {
    let mut keys = keys.to_vec();
    keys.sort_unstable();
    let ranges = keys.chunks(RANGE);
    let ends = ranges
        .clone()
        .filter_map(|range| Some((range.first()?.uuid, range.last()?.uuid)));
    let (lows, highs): (Vec<Uuid>, Vec<Uuid>) = ends.unzip();
    let hits: Vec<RangeRow> = diesel::sql_query(RANGES_WITH_EVENTS)
        .bind::<sql_types::BigInt, _>(shard_key.0)
        .bind::<sql_types::Array<sql_types::Uuid>, _>(lows)
        .bind::<sql_types::Array<sql_types::Uuid>, _>(highs)
        .load(conn)?;
    if hits.is_empty() {
        return Ok(HashSet::new());
    }
    let hits: HashSet<usize> = hits.iter().map(|row| row.nth as usize - 1).collect();
    let candidates = ranges
        .enumerate()
        .filter(|(nth, _)| hits.contains(nth))
        .flat_map(|(_, range)| range);
    let (uuids, identities): (Vec<Uuid>, Vec<i64>) =
        candidates.map(|key| (key.uuid, key.identity)).unzip();
    let rows: Vec<KnownRow> = diesel::sql_query(KNOWN)
        .bind::<sql_types::BigInt, _>(shard_key.0)
        .bind::<sql_types::Array<sql_types::Uuid>, _>(uuids)
        .bind::<sql_types::Array<sql_types::BigInt>, _>(identities)
        .load(conn)?;
    Ok(rows.into_iter().map(KnownRow::key).collect())
}

#[derive(QueryableByName)]
struct RangeRow {
    #[diesel(sql_type = sql_types::BigInt)]
    nth: i64,
}

#[derive(QueryableByName)]
struct KnownRow {
    #[diesel(sql_type = sql_types::Uuid)]
    uuid: Uuid,
    #[diesel(sql_type = sql_types::BigInt)]
    identity: i64,
}

impl KnownRow {
    fn key(self) -> EventKey {
        EventKey {
            uuid: self.uuid,
            identity: self.identity,
        }
    }
}

/// Takes the next sequence number of the log, and locks the log head until the transaction ends.
///
/// All writers of events and persons of a shard key take this lock first, so there is one of them at a time, and
/// sequence numbers rise in commit order. The deletion of a project begins under this lock too, so a project that exists
/// now exists until the transaction ends.
///
/// # Errors
///
/// [`StoreError::ProjectGone`] if the project is deleted; fails if the database fails.
pub fn begin_write(conn: &mut Conn, shard_key: ShardKey) -> Result<i64> {
    let seq = raise_log_head(conn, shard_key)?;
    if projects::is_live(conn, shard_key.project())? {
        Ok(seq)
    } else {
        Err(StoreError::ProjectGone)
    }
}

/// Increments the log head, which stays locked until the transaction ends, and returns it.
fn raise_log_head(conn: &mut Conn, shard_key: ShardKey) -> Result<i64> {
    Ok(diesel::insert_into(log_heads::table)
        .values((log_heads::shard_key.eq(shard_key.0), log_heads::seq.eq(1)))
        .on_conflict(log_heads::shard_key)
        .do_update()
        .set(log_heads::seq.eq(log_heads::seq + 1))
        .returning(log_heads::seq)
        .get_result(conn)?)
}

/// Deletes the events of these ordinals with sequence numbers above `after`; `after` 0 means all of them.
///
/// # Errors
///
/// Fails if the database fails.
pub fn delete_of_persons(
    conn: &mut Conn,
    shard_key: ShardKey,
    ordinals: &[i64],
    after: i64,
) -> Result<usize> {
    let rows = events::table
        .filter(events::shard_key.eq(shard_key.0))
        .filter(events::ordinal.eq_any(ordinals));
    // Without a condition on `seq`, the planner takes the index on persons.
    Ok(if after == 0 {
        diesel::delete(rows).execute(conn)?
    } else {
        diesel::delete(rows.filter(events::seq.gt(after))).execute(conn)?
    })
}

/// The last sequence number of the log; 0 before the first write.
///
/// # Errors
///
/// Fails if the database fails.
pub fn log_head(conn: &mut Conn, shard_key: ShardKey) -> Result<i64> {
    let seq = log_heads::table
        .find(shard_key.0)
        .select(log_heads::seq)
        .first(conn)
        .optional()?;
    Ok(seq.unwrap_or(0))
}

/// Sends the limits to the worker of a distributed Postgres too. On plain Postgres, the setting has no effect.
pub(crate) const SEND_LIMITS: &str = "set local citus.propagate_set_commands = 'local'";
pub(crate) const LIMIT_LOCK_WAIT: &str = "set local lock_timeout = '100ms'";
pub(crate) const LIMIT_DURATION: &str = "set local statement_timeout = '10s'";
pub(crate) const DELETE_BEFORE: &str = "\
    delete from events e using ( \
        select uuid, identity, day from events where shard_key = $1 and timestamp < $2 limit $3) old \
    where e.shard_key = $1 and e.uuid = old.uuid and e.identity = old.identity and e.day = old.day";

/// Deletes up to `limit` events with times before `time`, and returns their number. It waits at most 100 ms for a lock, and runs for at most 10 seconds.
///
/// # Errors
///
/// Fails if the database fails or a lock is not free.
pub fn delete_before(
    conn: &mut Conn,
    shard_key: ShardKey,
    time: DateTime<Utc>,
    limit: i64,
) -> Result<usize> {
    crate::transaction(conn, |conn| {
        diesel::sql_query(SEND_LIMITS).execute(conn)?;
        diesel::sql_query(LIMIT_LOCK_WAIT).execute(conn)?;
        diesel::sql_query(LIMIT_DURATION).execute(conn)?;
        Ok(diesel::sql_query(DELETE_BEFORE)
            .bind::<sql_types::BigInt, _>(shard_key.0)
            .bind::<sql_types::Timestamptz, _>(time)
            .bind::<sql_types::BigInt, _>(limit)
            .execute(conn)?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_identity_depends_on_the_boundary_between_name_and_id() {
        assert_eq!(identity("paid", "ana"), identity("paid", "ana"));
        assert_ne!(identity("paid", "ana"), identity("pai", "dana"));
        assert_ne!(identity("paid", "ana"), identity("paid", "Ana"));
    }
}
