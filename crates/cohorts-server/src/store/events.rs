//! The append-only log of events. Batches are numbered in the order in which they commit.

use std::collections::HashSet;

use chrono::{DateTime, NaiveDate, Utc};
use diesel::prelude::*;
use diesel::sql_types;
use uuid::Uuid;

use super::schema::{events, log_heads};
use super::{Conn, JsonText, Place};

/// An event that is to be kept, as its row.
#[derive(Clone, Debug, Insertable)]
#[diesel(table_name = events, treat_none_as_default_value = false)]
pub struct NewEvent<'a> {
    pub place: i64,
    /// That of its time, in UTC.
    pub day: NaiveDate,
    /// Its identity.
    pub uuid: Uuid,
    pub batch: i64,
    /// The person who did it.
    pub number: i64,
    pub event: &'a str,
    pub distinct_id: &'a str,
    pub timestamp: DateTime<Utc>,
    pub properties: &'a JsonText,
}

/// Appends the events of a batch, of which none is in the log yet.
pub fn append(conn: &mut Conn, events: &[NewEvent<'_>]) -> QueryResult<usize> {
    diesel::copy_from(events::table)
        .from_insertable(events)
        .execute(conn)
}

/// How many events batches after one, up to another, wrote, but no more than `most`.
pub fn count_between(
    conn: &mut Conn,
    place: Place,
    (after, head): (i64, i64),
    most: i64,
) -> QueryResult<i64> {
    let row: CountRow = diesel::sql_query(BETWEEN)
        .bind::<sql_types::BigInt, _>(place.0)
        .bind::<sql_types::BigInt, _>(after)
        .bind::<sql_types::BigInt, _>(head)
        .bind::<sql_types::BigInt, _>(most)
        .get_result(conn)?;
    Ok(row.count)
}

const BETWEEN: &str = "\
    select count(*) as count from ( \
        select from events where place = $1 and batch > $2 and batch <= $3 limit $4) e";

/// The names of events that batches after one wrote; nothing where the events are more than so many.
pub fn names_since(
    conn: &mut Conn,
    place: Place,
    after: i64,
    most: i64,
) -> QueryResult<Option<HashSet<String>>> {
    if count_between(conn, place, (after, i64::MAX), most + 1)? > most {
        return Ok(None);
    }
    let names: Vec<String> = events::table
        .filter(events::place.eq(place.0).and(events::batch.gt(after)))
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

/// Neighbouring uuids that are looked for by their range first: new ones are mostly later than all there are.
const RANGE: usize = 256;
/// Statements until the end of the transaction are planned as for any project. What the database knows of a project that
/// is new among large ones is that it has nothing, where one index is as good as another: it would look through all
/// that the project has by now for each thing that is looked up.
const PLAN_FOR_ANY: &str = "set local plan_cache_mode = force_generic_plan";
/// The order has each looked up by the key.
const IN_RANGES: &str = "\
    select r.nth from unnest($2, $3) with ordinality as r(low, high, nth) cross join lateral ( \
        select 1 from events where place = $1 and uuid >= r.low and uuid <= r.high order by place, uuid limit 1) e";
const KNOWN: &str = "\
    select wanted.uuid from unnest($2) as wanted(uuid) cross join lateral ( \
        select 1 from events where place = $1 and uuid = wanted.uuid order by place, uuid limit 1) e";

/// Which of these events are in the log already, whatever their day.
///
/// While the log's head is locked, nobody adds one.
pub fn known(conn: &mut Conn, place: Place, uuids: &[Uuid]) -> QueryResult<HashSet<Uuid>> {
    let mut uuids = uuids.to_vec();
    uuids.sort_unstable();
    let ranges = uuids.chunks(RANGE);
    let ends = ranges
        .clone()
        .filter_map(|range| Some((*range.first()?, *range.last()?)));
    let (lows, highs): (Vec<Uuid>, Vec<Uuid>) = ends.unzip();
    let hit: Vec<RangeRow> = diesel::sql_query(IN_RANGES)
        .bind::<sql_types::BigInt, _>(place.0)
        .bind::<sql_types::Array<sql_types::Uuid>, _>(lows)
        .bind::<sql_types::Array<sql_types::Uuid>, _>(highs)
        .load(conn)?;
    if hit.is_empty() {
        return Ok(HashSet::new());
    }
    let hit: HashSet<usize> = hit.iter().map(|row| row.nth as usize - 1).collect();
    let asked = ranges.enumerate().filter(|(nth, _)| hit.contains(nth));
    let asked: Vec<Uuid> = asked.flat_map(|(_, range)| range).copied().collect();
    let rows: Vec<KnownRow> = diesel::sql_query(KNOWN)
        .bind::<sql_types::BigInt, _>(place.0)
        .bind::<sql_types::Array<sql_types::Uuid>, _>(asked)
        .load(conn)?;
    Ok(rows.into_iter().map(|row| row.uuid).collect())
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
}

/// Takes the number of the next batch.
///
/// The head's row is locked until the transaction ends, so numbers rise in the order of commits, and whoever writes
/// events or people of a place does so alone: it is the first of the person tables that is locked.
pub fn raise_head(conn: &mut Conn, place: Place) -> QueryResult<i64> {
    diesel::sql_query(PLAN_FOR_ANY).execute(conn)?;
    diesel::insert_into(log_heads::table)
        .values((log_heads::place.eq(place.0), log_heads::batch.eq(1)))
        .on_conflict(log_heads::place)
        .do_update()
        .set(log_heads::batch.eq(log_heads::batch + 1))
        .returning(log_heads::batch)
        .get_result(conn)
}

/// Deletes the events under these numbers that came in batches after `since`; of all batches if that is 0.
pub fn delete_of(conn: &mut Conn, place: Place, numbers: &[i64], since: i64) -> QueryResult<usize> {
    let own = events::table
        .filter(events::place.eq(place.0))
        .filter(events::number.eq_any(numbers));
    match since {
        0 => diesel::delete(own).execute(conn),
        _ => diesel::delete(own.filter(events::batch.gt(since))).execute(conn),
    }
}

/// The number of the last batch; 0 before the first.
pub fn head(conn: &mut Conn, place: Place) -> QueryResult<i64> {
    let batch = log_heads::table
        .find(place.0)
        .select(log_heads::batch)
        .first(conn)
        .optional()?;
    Ok(batch.unwrap_or(0))
}

/// Deletes some of the events that happened before, at most `most`, and tells how many. Waits for nobody.
pub fn delete_before(
    conn: &mut Conn,
    place: Place,
    time: DateTime<Utc>,
    most: i64,
) -> QueryResult<usize> {
    conn.transaction(|conn| {
        diesel::sql_query("set local lock_timeout = '100ms'").execute(conn)?;
        diesel::sql_query("set local statement_timeout = '10s'").execute(conn)?;
        delete_some_before(conn, place, time, most)
    })
}

fn delete_some_before(
    conn: &mut Conn,
    place: Place,
    time: DateTime<Utc>,
    most: i64,
) -> QueryResult<usize> {
    diesel::sql_query(
        "delete from events e using ( \
            select uuid, day from events where place = $1 and timestamp < $2 limit $3) old \
         where e.place = $1 and e.uuid = old.uuid and e.day = old.day",
    )
    .bind::<sql_types::BigInt, _>(place.0)
    .bind::<sql_types::Timestamptz, _>(time)
    .bind::<sql_types::BigInt, _>(most)
    .execute(conn)
}
