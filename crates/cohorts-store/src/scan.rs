//! Bulk reads of persons and events, from which the in-memory index is built.
//!
//! Large results are passed to a closure row by row, so that the caller bounds the memory.

mod whole;
pub mod written;

use std::ops::RangeInclusive;
use std::time::Duration;

use chrono::{DateTime, Utc};
use diesel::pg::PgRowByRowLoadingMode;
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Bool, Nullable, Text, Timestamptz};
use roaring::RoaringBitmap;

use crate::schema::{distinct_ids, persons};
use crate::{Conn, Result, ShardKey, StoreError};

#[cfg(test)]
pub(crate) use whole::{WHOLE_EVENTS, WHOLE_EVENTS_OF_DAY};
pub use whole::{WholeEvent, whole_events, whole_events_of_day};

/// Microseconds of a day.
pub const DAY_MICROS: i64 = 86_400_000_000;

pub(crate) const PROPERTY: &str = "\
    select ordinal, (properties -> $2)::text as value from persons \
    where shard_key = $1 and ordinal between $3 and $4 and properties ? $2";
pub(crate) const PROPERTIES: &str = "\
    select ordinal, properties::text as value from persons \
    where shard_key = $1 and ordinal between $2 and $3";
/// Properties are JSON text, in the order of the keys. The ORDER BY keeps the index, whatever number of persons the planner
/// expects above `seq`.
pub(crate) const CHANGED_PERSONS: &str = "\
    select ordinal, created_at, \
        array(select (properties -> key)::text from unnest($3) with ordinality as keys(key, nth) order by nth) \
            as properties \
    from persons where shard_key = $1 and seq > $2 and seq <= $4 order by seq";
pub(crate) const EVENTS: &str = "\
    select ordinal, timestamp, event, \
        array(select (properties -> key)::text from unnest($5) with ordinality as keys(key, nth) order by nth) \
            as properties \
    from events \
    where shard_key = $1 and event = $2 and timestamp >= $3 and ($4 is null or timestamp < $4) and seq <= $6 \
        and (ordinal between $7 and $8 or ordinal = any($9))";
/// OFFSET 0 keeps the index on `seq`: few sequence numbers have few events, but a fresh database has no statistics, and
/// would look for the names first.
pub(crate) const EVENTS_BETWEEN: &str = "\
    select ordinal, timestamp, event, \
        array(select (properties -> key)::text from unnest($5) with ordinality as keys(key, nth) order by nth) \
            as properties \
    from (select * from events where shard_key = $1 and seq > $2 and seq <= $3 offset 0) e \
    where event = any($4)";
/// The first sequence number after $2 that is not part of a step of $4 events and $4 persons.
pub(crate) const AFTER_STEP: &str = "\
    select min(seq) as seq from ( \
        (select seq from events where shard_key = $1 and seq > $2 and seq <= $3 order by seq offset $4 limit 1) \
        union all \
        (select seq from persons where shard_key = $1 and seq > $2 and seq <= $3 order by seq offset $4 limit 1)) rest";
pub(crate) const NEXT_NAME: &str =
    "select min(event) as name from events where shard_key = $1 and event > $2";

diesel::define_sql_function! {
    /// Changes a setting until the transaction ends.
    fn set_config(name: Text, value: Text, is_local: Bool) -> Text;
}

#[derive(QueryableByName)]
struct RawProperty {
    #[diesel(sql_type = BigInt)]
    ordinal: i64,
    #[diesel(sql_type = Text)]
    value: String,
}

#[derive(QueryableByName)]
struct RawPerson {
    #[diesel(sql_type = BigInt)]
    ordinal: i64,
    #[diesel(sql_type = Timestamptz)]
    created_at: DateTime<Utc>,
    #[diesel(sql_type = Array<Nullable<Text>>)]
    properties: Vec<Option<String>>,
}

impl TryFrom<RawPerson> for PersonRow {
    type Error = StoreError;

    fn try_from(raw: RawPerson) -> Result<Self> {
        Ok(Self {
            ordinal: ordinal(raw.ordinal)?,
            created_at: raw.created_at.timestamp_micros(),
            properties: raw.properties,
        })
    }
}

#[derive(QueryableByName)]
struct RawEvent {
    #[diesel(sql_type = BigInt)]
    ordinal: i64,
    #[diesel(sql_type = Timestamptz)]
    timestamp: DateTime<Utc>,
    #[diesel(sql_type = Text)]
    event: String,
    #[diesel(sql_type = Array<Nullable<Text>>)]
    properties: Vec<Option<String>>,
}

impl TryFrom<RawEvent> for EventRow {
    type Error = StoreError;

    fn try_from(raw: RawEvent) -> Result<Self> {
        Ok(Self {
            ordinal: ordinal(raw.ordinal)?,
            name: raw.event,
            time: raw.timestamp.timestamp_micros(),
            properties: raw.properties,
        })
    }
}

#[derive(QueryableByName)]
struct NameRow {
    #[diesel(sql_type = Nullable<Text>)]
    name: Option<String>,
}

/// A person, with some properties.
#[derive(Clone, Debug)]
pub struct PersonRow {
    /// The person's ordinal.
    pub ordinal: u32,
    /// The time of creation, in microseconds since 1970.
    pub created_at: i64,
    /// The values of the requested properties as JSON text, in the order of the request.
    pub properties: Vec<Option<String>>,
}

/// An event, with some properties.
#[derive(Clone, Debug)]
pub struct EventRow {
    /// The ordinal under which the event was written; the person may have been merged since.
    pub ordinal: u32,
    /// The name of the event.
    pub name: String,
    /// The time of the event, in microseconds since 1970.
    pub time: i64,
    /// The values of the requested properties as JSON text, in the order of the request.
    pub properties: Vec<Option<String>>,
}

/// The persons to read: all, or a range of ordinals, which takes less memory.
#[derive(Clone, Debug)]
pub struct PersonRange {
    /// The ordinals of the range.
    pub ordinals: RangeInclusive<u32>,
    /// Ordinals outside the range that were merged into persons of the range, and still have events.
    pub merged: Vec<i64>,
}

impl PersonRange {
    /// The range of all persons.
    pub fn all() -> Self {
        Self {
            ordinals: 0..=u32::MAX,
            merged: Vec::new(),
        }
    }

    /// Whether this is the range of all persons.
    pub fn is_all(&self) -> bool {
        self.ordinals == (0..=u32::MAX)
    }

    fn bounds(&self) -> (i64, i64) {
        (
            i64::from(*self.ordinals.start()),
            i64::from(*self.ordinals.end()),
        )
    }
}

/// Which events of one name to read.
#[derive(Clone, Debug)]
pub struct EventScan<'a> {
    /// The name of the events.
    pub name: &'a str,
    /// The first UTC day, counted from 1970.
    pub from_day: i64,
    /// The first UTC day after the range; `None` is no end.
    pub until_day: Option<i64>,
    /// The keys of the properties to return.
    pub properties: &'a [String],
    /// The last sequence number to read.
    pub through_seq: i64,
    /// The persons to read events of.
    pub range: &'a PersonRange,
}

/// Limits each following statement of the transaction to `limit`.
///
/// # Errors
///
/// Fails if the database fails.
pub fn set_statement_timeout(conn: &mut Conn, limit: Duration) -> Result<()> {
    let timeout = limit.as_millis().max(1).to_string();
    diesel::select(set_config("statement_timeout", timeout, true)).execute(conn)?;
    Ok(())
}

/// The ordinals of all persons.
///
/// # Errors
///
/// Fails if the database fails.
pub fn person_ordinals(conn: &mut Conn, shard_key: ShardKey) -> Result<RoaringBitmap> {
    let ordinals = persons::table
        .filter(persons::shard_key.eq(shard_key.0))
        .select(persons::ordinal)
        .order(persons::ordinal)
        .load_iter::<i64, PgRowByRowLoadingMode>(conn)?;
    let mut bitmap = RoaringBitmap::new();
    for row in ordinals {
        bitmap.insert(ordinal(row?)?);
    }
    Ok(bitmap)
}

/// The ordinal and the time of creation, in microseconds since 1970, of each person of `range`.
///
/// # Errors
///
/// Fails if the database fails.
pub fn created_at(
    conn: &mut Conn,
    shard_key: ShardKey,
    range: &PersonRange,
) -> Result<Vec<(u32, i64)>> {
    let (first, last) = range.bounds();
    let rows: Vec<(i64, DateTime<Utc>)> = persons::table
        .filter(persons::shard_key.eq(shard_key.0))
        .filter(persons::ordinal.between(first, last))
        .select((persons::ordinal, persons::created_at))
        .load(conn)?;
    rows.into_iter()
        .map(|(person, time)| Ok((ordinal(person)?, time.timestamp_micros())))
        .collect()
}

/// Calls `each` with the ordinal and the value, as JSON text, of each person of `range` that has the property `key`.
///
/// # Errors
///
/// Returns the first error of `each`, and fails if the database fails.
pub fn property<E: From<StoreError>>(
    conn: &mut Conn,
    shard_key: ShardKey,
    key: &str,
    range: &PersonRange,
    each: impl FnMut(u32, &str) -> Result<(), E>,
) -> Result<(), E> {
    let (first, last) = range.bounds();
    let rows = diesel::sql_query(PROPERTY)
        .bind::<BigInt, _>(shard_key.0)
        .bind::<Text, _>(key)
        .bind::<BigInt, _>(first)
        .bind::<BigInt, _>(last)
        .load_iter::<RawProperty, PgRowByRowLoadingMode>(conn)
        .map_err(StoreError::from)?;
    for_each_value(rows, each)
}

/// Calls `each` with the ordinal and all properties, as the text of a JSON object, of each person of `range`.
///
/// # Errors
///
/// Returns the first error of `each`, and fails if the database fails.
pub fn properties<E: From<StoreError>>(
    conn: &mut Conn,
    shard_key: ShardKey,
    range: &PersonRange,
    each: impl FnMut(u32, &str) -> Result<(), E>,
) -> Result<(), E> {
    let (first, last) = range.bounds();
    let rows = diesel::sql_query(PROPERTIES)
        .bind::<BigInt, _>(shard_key.0)
        .bind::<BigInt, _>(first)
        .bind::<BigInt, _>(last)
        .load_iter::<RawProperty, PgRowByRowLoadingMode>(conn)
        .map_err(StoreError::from)?;
    for_each_value(rows, each)
}

fn for_each_value<E: From<StoreError>>(
    rows: impl Iterator<Item = QueryResult<RawProperty>>,
    mut each: impl FnMut(u32, &str) -> Result<(), E>,
) -> Result<(), E> {
    for row in rows {
        let row = row.map_err(StoreError::from)?;
        each(ordinal(row.ordinal)?, &row.value)?;
    }
    Ok(())
}

/// Calls `each` with the ordinal and the text of each distinct id of the persons of `range`.
///
/// # Errors
///
/// Returns the first error of `each`, and fails if the database fails.
pub fn distinct_ids<E: From<StoreError>>(
    conn: &mut Conn,
    shard_key: ShardKey,
    range: &PersonRange,
    mut each: impl FnMut(u32, String) -> Result<(), E>,
) -> Result<(), E> {
    let (first, last) = range.bounds();
    let rows = distinct_ids::table
        .filter(distinct_ids::shard_key.eq(shard_key.0))
        .filter(distinct_ids::ordinal.between(first, last))
        .select((distinct_ids::ordinal, distinct_ids::distinct_id))
        .load_iter::<(i64, String), PgRowByRowLoadingMode>(conn)
        .map_err(StoreError::from)?;
    for row in rows {
        let (person, id) = row.map_err(StoreError::from)?;
        each(ordinal(person)?, id)?;
    }
    Ok(())
}

/// The names of all events, sorted. Each name costs one index look-up, whatever the number of events.
///
/// # Errors
///
/// Fails if the database fails.
pub fn event_names(conn: &mut Conn, shard_key: ShardKey) -> Result<Vec<String>> {
    let mut names = vec![String::new()];
    while let Some(last) = names.last() {
        let next: NameRow = diesel::sql_query(NEXT_NAME)
            .bind::<BigInt, _>(shard_key.0)
            .bind::<Text, _>(last)
            .get_result(conn)?;
        match next.name {
            Some(name) => names.push(name),
            None => break,
        }
    }
    Ok(names)
}

/// The end of the next step from sequence number `after` towards `through`: a step has at most `rows` events and `rows`
/// persons, but always one write of the log.
///
/// # Errors
///
/// Fails if the database fails.
pub fn step_end(
    conn: &mut Conn,
    shard_key: ShardKey,
    (after, through): (i64, i64),
    rows: usize,
) -> Result<i64> {
    let rest: SeqRow = diesel::sql_query(AFTER_STEP)
        .bind::<BigInt, _>(shard_key.0)
        .bind::<BigInt, _>(after)
        .bind::<BigInt, _>(through)
        .bind::<BigInt, _>(rows as i64)
        .get_result(conn)?;
    Ok(rest.seq.map_or(through, |seq| (seq - 1).max(after + 1)))
}

#[derive(QueryableByName)]
struct SeqRow {
    #[diesel(sql_type = Nullable<BigInt>)]
    seq: Option<i64>,
}

/// Calls `each` with each person that was last written after sequence number `after`, up to `through`, with the
/// properties `keys`.
///
/// # Errors
///
/// Returns the first error of `each`, and fails if the database fails.
pub fn changed_persons<E: From<StoreError>>(
    conn: &mut Conn,
    shard_key: ShardKey,
    (after, through): (i64, i64),
    keys: &[String],
    mut each: impl FnMut(PersonRow) -> Result<(), E>,
) -> Result<(), E> {
    let rows = diesel::sql_query(CHANGED_PERSONS)
        .bind::<BigInt, _>(shard_key.0)
        .bind::<BigInt, _>(after)
        .bind::<Array<Text>, _>(keys)
        .bind::<BigInt, _>(through)
        .load_iter::<RawPerson, PgRowByRowLoadingMode>(conn)
        .map_err(StoreError::from)?;
    for row in rows {
        each(row.map_err(StoreError::from)?.try_into()?)?;
    }
    Ok(())
}

/// Calls `each` with each event of `names` that was written after sequence number `after`, up to `through`.
///
/// # Errors
///
/// Returns the first error of `each`, and fails if the database fails.
pub fn events_between<E: From<StoreError>>(
    conn: &mut Conn,
    shard_key: ShardKey,
    (after, through): (i64, i64),
    names: &[String],
    properties: &[String],
    mut each: impl FnMut(EventRow) -> Result<(), E>,
) -> Result<(), E> {
    let rows = diesel::sql_query(EVENTS_BETWEEN)
        .bind::<BigInt, _>(shard_key.0)
        .bind::<BigInt, _>(after)
        .bind::<BigInt, _>(through)
        .bind::<Array<Text>, _>(names)
        .bind::<Array<Text>, _>(properties)
        .load_iter::<RawEvent, PgRowByRowLoadingMode>(conn)
        .map_err(StoreError::from)?;
    for row in rows {
        each(row.map_err(StoreError::from)?.try_into()?)?;
    }
    Ok(())
}

/// Calls `each` with each event of a scan.
///
/// # Errors
///
/// Returns the first error of `each`, and fails if the database fails.
pub fn events<E: From<StoreError>>(
    conn: &mut Conn,
    shard_key: ShardKey,
    scan: &EventScan<'_>,
    mut each: impl FnMut(EventRow) -> Result<(), E>,
) -> Result<(), E> {
    let (first, last) = scan.range.bounds();
    let rows = diesel::sql_query(EVENTS)
        .bind::<BigInt, _>(shard_key.0)
        .bind::<Text, _>(scan.name)
        .bind::<Timestamptz, _>(start_of_day(scan.from_day))
        .bind::<Nullable<Timestamptz>, _>(scan.until_day.map(start_of_day))
        .bind::<Array<Text>, _>(scan.properties)
        .bind::<BigInt, _>(scan.through_seq)
        .bind::<BigInt, _>(first)
        .bind::<BigInt, _>(last)
        .bind::<Array<BigInt>, _>(&scan.range.merged)
        .load_iter::<RawEvent, PgRowByRowLoadingMode>(conn)
        .map_err(StoreError::from)?;
    for row in rows {
        each(row.map_err(StoreError::from)?.try_into()?)?;
    }
    Ok(())
}

/// The ordinal of a row. The counter of ordinals stays within 32 bits.
pub(crate) fn ordinal(column: i64) -> Result<u32> {
    u32::try_from(column).map_err(|cause| StoreError::Corrupt(format!("ordinal {column}: {cause}")))
}

/// The instant at which a UTC day begins, counted from 1970.
pub fn start_of_day(day: i64) -> DateTime<Utc> {
    /// The earliest instant that statements contain.
    const YEAR_ONE: i64 = -62_135_596_800_000_000;
    let micros = day.saturating_mul(DAY_MICROS).max(YEAR_ONE);
    DateTime::from_timestamp_micros(micros).unwrap_or(DateTime::<Utc>::MAX_UTC)
}
