//! Bulk reads of events with all their properties, from which segments are built.

use chrono::{DateTime, Utc};
use diesel::pg::PgRowByRowLoadingMode;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text, Timestamptz};

use super::{ordinal, start_of_day};
use crate::{Conn, ShardKey, StoreError};

pub(crate) const WHOLE_EVENTS: &str = "\
    select ordinal, timestamp, event, properties::text as properties \
    from events where shard_key = $1 and seq > $2 and seq <= $3";
pub(crate) const WHOLE_EVENTS_OF_DAY: &str = "\
    select ordinal, timestamp, event, properties::text as properties \
    from events where shard_key = $1 and event = $2 and timestamp >= $3 and timestamp < $4 and seq <= $5";

#[derive(QueryableByName)]
struct RawWholeEvent {
    #[diesel(sql_type = BigInt)]
    ordinal: i64,
    #[diesel(sql_type = Timestamptz)]
    timestamp: DateTime<Utc>,
    #[diesel(sql_type = Text)]
    event: String,
    #[diesel(sql_type = Text)]
    properties: String,
}

/// An event with all its properties.
#[derive(Clone, Debug)]
pub struct WholeEvent {
    /// The ordinal under which the event was written; the person may have been merged since.
    pub ordinal: u32,
    /// The name of the event.
    pub name: String,
    /// The time of the event, in microseconds since 1970.
    pub time: i64,
    /// The text of a JSON object.
    pub properties: String,
}

fn for_each_whole<E: From<StoreError>>(
    rows: impl Iterator<Item = QueryResult<RawWholeEvent>>,
    mut each: impl FnMut(WholeEvent) -> Result<(), E>,
) -> Result<(), E> {
    for row in rows {
        let row = row.map_err(StoreError::from)?;
        each(WholeEvent {
            ordinal: ordinal(row.ordinal)?,
            name: row.event,
            time: row.timestamp.timestamp_micros(),
            properties: row.properties,
        })?;
    }
    Ok(())
}

/// Calls `each` with each event that was written after sequence number `after`, up to `through`.
///
/// # Errors
///
/// Returns the first error of `each`, and fails if the database fails.
pub fn whole_events<E: From<StoreError>>(
    conn: &mut Conn,
    shard_key: ShardKey,
    (after, through): (i64, i64),
    each: impl FnMut(WholeEvent) -> Result<(), E>,
) -> Result<(), E> {
    let rows = diesel::sql_query(WHOLE_EVENTS)
        .bind::<BigInt, _>(shard_key.0)
        .bind::<BigInt, _>(after)
        .bind::<BigInt, _>(through)
        .load_iter::<RawWholeEvent, PgRowByRowLoadingMode>(conn)
        .map_err(StoreError::from)?;
    for_each_whole(rows, each)
}

/// Calls `each` with each event of a name and UTC day that was written up to sequence number `through`.
///
/// # Errors
///
/// Returns the first error of `each`, and fails if the database fails.
pub fn whole_events_of_day<E: From<StoreError>>(
    conn: &mut Conn,
    shard_key: ShardKey,
    name: &str,
    day: i64,
    through: i64,
    each: impl FnMut(WholeEvent) -> Result<(), E>,
) -> Result<(), E> {
    let rows = diesel::sql_query(WHOLE_EVENTS_OF_DAY)
        .bind::<BigInt, _>(shard_key.0)
        .bind::<Text, _>(name)
        .bind::<Timestamptz, _>(start_of_day(day))
        .bind::<Timestamptz, _>(start_of_day(day + 1))
        .bind::<BigInt, _>(through)
        .load_iter::<RawWholeEvent, PgRowByRowLoadingMode>(conn)
        .map_err(StoreError::from)?;
    for_each_whole(rows, each)
}
