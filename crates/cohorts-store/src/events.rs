//! The append-only log of events, and its head: the last sequence number of a shard key.
//!
//! A write takes the next sequence number with [`begin_write`], which locks the head until the commit. So sequence
//! numbers rise in commit order, and a reader that has seen number N finds all later events above N.

mod deleted;

use std::collections::HashSet;

use chrono::{DateTime, NaiveDate, Utc};
use diesel::dsl;
use diesel::pg::PgRowByRowLoadingMode;
use diesel::prelude::*;
use diesel::sql_types;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::persons::Person;
use crate::scan::start_of_day;
use crate::schema::{events, log_heads, persons};
use crate::{Conn, FEW_ROWS, JsonText, Result, ShardKey, StoreError, projects};
use deleted::DeletedEvent;
pub use deleted::DeletedEvents;

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
    if events.is_empty() {
        return Ok(0);
    }
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
    if let [key] = keys {
        let found = with_key(shard_key.0, key.uuid, key.identity).select(events::uuid);
        let found: Option<Uuid> = found.first(conn).optional()?;
        return Ok(found.map(|_| *key).into_iter().collect());
    }
    if keys.is_empty() {
        return Ok(HashSet::new());
    }
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

/// The person of an ordinal, and whether the event of a key is in the log, in one statement; `None` without a person.
///
/// # Errors
///
/// Fails if the database fails.
pub fn known_with_person(
    conn: &mut Conn,
    shard_key: ShardKey,
    key: EventKey,
    ordinal: i64,
) -> Result<Option<(bool, Person)>> {
    let is_known = dsl::exists(with_key(shard_key.0, key.uuid, key.identity));
    Ok(persons::table
        .find((shard_key.0, ordinal))
        .select((is_known, Person::as_select()))
        .first(conn)
        .optional()?)
}

#[dsl::auto_type(no_type_alias)]
fn with_key(shard_key: i64, uuid: Uuid, identity: i64) -> _ {
    events::table.filter(
        events::shard_key
            .eq(shard_key)
            .and(events::uuid.eq(uuid))
            .and(events::identity.eq(identity)),
    )
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

/// Deletes the events of these ordinals with sequence numbers above `after`; `after` 0 means all of them, which are found
/// day by day. Returns what the events were.
///
/// # Errors
///
/// Fails if the database fails.
pub fn delete_of_persons(
    conn: &mut Conn,
    shard_key: ShardKey,
    ordinals: &[i64],
    after: i64,
) -> Result<DeletedEvents> {
    let mut deleted = DeletedEvents::default();
    if ordinals.is_empty() {
        return Ok(deleted);
    }
    if after > 0 {
        let rows = events::table
            .filter(events::shard_key.eq(shard_key.0))
            .filter(events::ordinal.eq_any(ordinals))
            .filter(events::seq.gt(after));
        let rows = diesel::delete(rows).returning(DeletedEvent::as_returning());
        rows.load_iter::<_, PgRowByRowLoadingMode>(conn)?
            .try_for_each(|row| deleted.add(row?))?;
        return Ok(deleted);
    }
    let mut from = Some(start_of_day(i64::MIN).date_naive());
    while let Some(first) = from {
        let days = next_days(conn, shard_key, first, DAYS_AT_ONCE)?;
        diesel::sql_query(DELETE_OF_PERSONS)
            .bind::<sql_types::BigInt, _>(shard_key.0)
            .bind::<sql_types::Array<sql_types::Date>, _>(&days)
            .bind::<sql_types::Array<sql_types::BigInt>, _>(ordinals)
            .load_iter::<DeletedEvent, PgRowByRowLoadingMode>(conn)?
            .try_for_each(|row| deleted.add(row?))?;
        from = days.last().and_then(NaiveDate::succ_opt);
    }
    Ok(deleted)
}

/// The most days that a statement names. Each costs a look-up per person.
const DAYS_AT_ONCE: usize = 100;
/// OFFSET 0 makes each pair of a day and a person a look-up in the index. Conditions with ANY would be compared with each
/// row of the project.
pub(crate) const DELETE_OF_PERSONS: &str = "\
    delete from events e using ( \
        select k.* from unnest($2) as d(day) cross join unnest($3) as o(ordinal) cross join lateral ( \
            select uuid, identity, day from events \
            where shard_key = $1 and day = d.day and ordinal = o.ordinal offset 0) k) old \
    where e.shard_key = $1 and e.uuid = old.uuid and e.identity = old.identity and e.day = old.day \
    returning e.ordinal, e.event, e.day, e.properties";

/// At most `limit` consecutive days with all days from `from` on that have events, up to the last of the returned ones. Empty
/// at the end.
pub(crate) fn next_days(
    conn: &mut Conn,
    shard_key: ShardKey,
    from: NaiveDate,
    limit: usize,
) -> Result<Vec<NaiveDate>> {
    let later = events::table
        .filter(events::shard_key.eq(shard_key.0))
        .filter(events::day.ge(from));
    let ends: (Option<NaiveDate>, Option<NaiveDate>) = later
        .select((dsl::min(events::day), dsl::max(events::day)))
        .first(conn)?;
    let (Some(first), Some(end)) = ends else {
        return Ok(Vec::new());
    };
    let days = first.iter_days().take(limit);
    Ok(days.take_while(|day| *day <= end).collect())
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
    use crate::ProjectId;
    use crate::erasures::EventDays;
    use crate::testing::TestDatabase;

    #[test]
    fn all_events_of_a_person_are_deleted_whatever_their_days() {
        let database = TestDatabase::create();
        let store = database.open();
        let conn = &mut *store.connection().unwrap();
        let (project, other) = (ProjectId(1).shard_key(), ProjectId(2).shard_key());
        let days = [
            (1, 1, 1),
            (1970, 1, 1),
            (1971, 6, 1),
            (2026, 2, 28),
            (2026, 3, 1),
            (9999, 12, 31),
        ];
        let properties = JsonText("{}".to_owned());
        for (shard_key, ordinal) in [(project, 7), (project, 8), (other, 7)] {
            let event = |(year, month, day)| {
                let day = NaiveDate::from_ymd_opt(year, month, day).unwrap();
                NewEvent {
                    shard_key: shard_key.0,
                    uuid: Uuid::now_v7(),
                    identity: 1,
                    day,
                    seq: 1,
                    ordinal,
                    event: "e",
                    distinct_id: "d",
                    timestamp: day.and_hms_opt(12, 0, 0).unwrap().and_utc(),
                    properties: &properties,
                }
            };
            append(conn, &days.map(event)).unwrap();
        }
        let delete = |conn: &mut Conn, ordinal: i64| {
            let deleted = delete_of_persons(conn, project, &[ordinal], 0).unwrap();
            deleted.days.get(&ordinal).map_or(0, EventDays::len)
        };
        assert_eq!(delete(conn, 7), 6);
        assert_eq!(delete(conn, 7), 0);
        let mut left: Vec<(i64, i64)> = events::table
            .select((events::shard_key, events::ordinal))
            .distinct()
            .load(conn)
            .unwrap();
        left.sort_unstable();
        assert_eq!(left, [(project.0, 8), (other.0, 7)]);
        assert_eq!(delete(conn, 8), 6);
    }

    #[test]
    fn the_identity_depends_on_the_boundary_between_name_and_id() {
        assert_eq!(identity("paid", "ana"), identity("paid", "ana"));
        assert_ne!(identity("paid", "ana"), identity("pai", "dana"));
        assert_ne!(identity("paid", "ana"), identity("paid", "Ana"));
    }
}
