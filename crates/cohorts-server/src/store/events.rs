//! The append-only log of events. Batches are numbered in the order in which they commit.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, NaiveDate, Utc};
use diesel::prelude::*;
use diesel::sql_types;
use uuid::Uuid;

use super::schema::{events, log_heads};
use super::{Conn, JsonText, Place};

/// Rows of one statement.
const ROWS: usize = 1_000;

/// An event that is to be kept.
#[derive(Clone, Debug)]
pub struct NewEvent {
    /// Its identity within its UTC day.
    pub uuid: Uuid,
    /// The person who did it.
    pub number: i64,
    pub event: String,
    pub distinct_id: String,
    pub timestamp: DateTime<Utc>,
    pub properties: JsonText,
}

/// Appends the events of a batch whose number is taken, and tells how many were not in the log before.
pub fn append(
    conn: &mut Conn,
    place: Place,
    batch: i64,
    events: &mut [NewEvent],
) -> QueryResult<usize> {
    events.sort_by_key(|event| (event.timestamp.date_naive(), event.uuid));
    let mut added = 0;
    for some in events.chunks(ROWS) {
        let rows: Vec<_> = some
            .iter()
            .map(|event| {
                (
                    events::place.eq(place.0),
                    events::day.eq(event.timestamp.date_naive()),
                    events::uuid.eq(event.uuid),
                    events::batch.eq(batch),
                    events::number.eq(event.number),
                    events::event.eq(&event.event),
                    events::distinct_id.eq(&event.distinct_id),
                    events::timestamp.eq(event.timestamp),
                    events::properties.eq(&event.properties),
                )
            })
            .collect();
        added += diesel::insert_into(events::table)
            .values(rows)
            .on_conflict_do_nothing()
            .execute(conn)?;
    }
    Ok(added)
}

/// Which of these events, by UTC day and uuid, are in the log already.
pub fn known(
    conn: &mut Conn,
    place: Place,
    days: &[NaiveDate],
    uuids: &[Uuid],
) -> QueryResult<HashSet<(NaiveDate, Uuid)>> {
    let rows: Vec<KnownRow> = diesel::sql_query(
        "select e.day, e.uuid from unnest($2, $3) as wanted(day, uuid) \
         join events e on e.place = $1 and e.day = wanted.day and e.uuid = wanted.uuid",
    )
    .bind::<sql_types::BigInt, _>(place.0)
    .bind::<sql_types::Array<sql_types::Date>, _>(days)
    .bind::<sql_types::Array<sql_types::Uuid>, _>(uuids)
    .load(conn)?;
    Ok(rows.into_iter().map(|row| (row.day, row.uuid)).collect())
}

#[derive(QueryableByName)]
struct KnownRow {
    #[diesel(sql_type = sql_types::Date)]
    day: NaiveDate,
    #[diesel(sql_type = sql_types::Uuid)]
    uuid: Uuid,
}

/// Takes the number of the next batch.
///
/// The head's row is locked until the transaction ends, so numbers rise in the order of commits: call it late.
pub fn raise_head(conn: &mut Conn, place: Place) -> QueryResult<i64> {
    diesel::insert_into(log_heads::table)
        .values((log_heads::place.eq(place.0), log_heads::batch.eq(1)))
        .on_conflict(log_heads::place)
        .do_update()
        .set(log_heads::batch.eq(log_heads::batch + 1))
        .returning(log_heads::batch)
        .get_result(conn)
}

/// Deletes the events of a person that came in batches after `since`; of all batches if that is 0.
pub fn delete_of_person(
    conn: &mut Conn,
    place: Place,
    number: i64,
    since: i64,
) -> QueryResult<usize> {
    let own = events::table
        .filter(events::place.eq(place.0))
        .filter(events::number.eq(number));
    match since {
        0 => diesel::delete(own).execute(conn),
        _ => diesel::delete(own.filter(events::batch.gt(since))).execute(conn),
    }
}

/// The numbers of the last batches of some places; those without any are missing.
pub fn heads(conn: &mut Conn, places: &HashSet<Place>) -> QueryResult<HashMap<Place, i64>> {
    let places: Vec<i64> = places.iter().map(|place| place.0).collect();
    let rows: Vec<(i64, i64)> = log_heads::table
        .filter(log_heads::place.eq_any(places))
        .select((log_heads::place, log_heads::batch))
        .load(conn)?;
    let rows = rows.into_iter().map(|(place, batch)| (Place(place), batch));
    Ok(rows.collect())
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
