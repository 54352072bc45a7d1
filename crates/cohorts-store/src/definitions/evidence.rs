//! Reads of rows that show which names are in use.

use chrono::{DateTime, Utc};
use diesel::pg::PgRowByRowLoadingMode;
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Nullable, Text, Timestamptz};
use uuid::Uuid;

use crate::schema::events;
use crate::{Conn, Result, ShardKey, StoreError};

pub(crate) const WHOLE_PERSONS: &str = "\
    select properties::text as properties from persons where shard_key = $1 and seq > $2 and seq <= $3";
/// The newest events of a name, after a place in this order. Each page reads a bounded number of rows.
pub(crate) const EVENT_VALUES: &str = "\
    select timestamp, uuid, identity, \
        array(select (properties -> key)::text from unnest($3) with ordinality as keys(key, nth) order by nth) as values \
    from events where shard_key = $1 and event = $2 \
        and ($4 is null or (timestamp, uuid, identity) < ($4, $5, $6)) \
    order by timestamp desc, uuid desc, identity desc limit $7";
pub(crate) const PERSON_VALUES: &str = "\
    select ordinal, \
        array(select (properties -> key)::text from unnest($2) with ordinality as keys(key, nth) order by nth) as values \
    from persons where shard_key = $1 and ordinal > $3 order by ordinal limit $4";

#[derive(QueryableByName)]
struct WholePerson {
    #[diesel(sql_type = Text)]
    properties: String,
}

/// Calls `each` with the properties, as JSON text, of each person that was last written after sequence number `after`, up to
/// `through`.
///
/// # Errors
///
/// Fails if the database fails.
pub fn whole_persons(
    conn: &mut Conn,
    shard_key: ShardKey,
    (after, through): (i64, i64),
    mut each: impl FnMut(&str),
) -> Result<()> {
    let rows = diesel::sql_query(WHOLE_PERSONS)
        .bind::<BigInt, _>(shard_key.0)
        .bind::<BigInt, _>(after)
        .bind::<BigInt, _>(through)
        .load_iter::<WholePerson, PgRowByRowLoadingMode>(conn)?;
    for row in rows {
        each(&row.map_err(StoreError::from)?.properties);
    }
    Ok(())
}

/// The place of an event among those of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventPlace {
    /// The time of the event.
    pub timestamp: DateTime<Utc>,
    /// Its uuid.
    pub uuid: Uuid,
    /// The hash of its name and distinct id.
    pub identity: i64,
}

/// Values of an event.
#[derive(QueryableByName)]
pub struct EventValues {
    #[diesel(sql_type = Timestamptz)]
    timestamp: DateTime<Utc>,
    #[diesel(sql_type = diesel::sql_types::Uuid)]
    uuid: Uuid,
    #[diesel(sql_type = BigInt)]
    identity: i64,
    /// The values as JSON text, in the order of the keys.
    #[diesel(sql_type = Array<Nullable<Text>>)]
    pub values: Vec<Option<String>>,
}

impl EventValues {
    /// The place of the event.
    pub fn place(&self) -> EventPlace {
        EventPlace {
            timestamp: self.timestamp,
            uuid: self.uuid,
            identity: self.identity,
        }
    }
}

/// The values of `keys` of the newest events of a name, after the place `after`.
///
/// # Errors
///
/// Fails if the database fails.
pub fn event_values(
    conn: &mut Conn,
    shard_key: ShardKey,
    (event, keys): (&str, &[String]),
    after: Option<EventPlace>,
    limit: i64,
) -> Result<Vec<EventValues>> {
    Ok(diesel::sql_query(EVENT_VALUES)
        .bind::<BigInt, _>(shard_key.0)
        .bind::<Text, _>(event)
        .bind::<Array<Text>, _>(keys)
        .bind::<Nullable<Timestamptz>, _>(after.map(|place| place.timestamp))
        .bind::<Nullable<diesel::sql_types::Uuid>, _>(after.map(|place| place.uuid))
        .bind::<Nullable<BigInt>, _>(after.map(|place| place.identity))
        .bind::<BigInt, _>(limit)
        .load(conn)?)
}

/// Whether there is an event of a name.
///
/// # Errors
///
/// Fails if the database fails.
pub fn has_event(conn: &mut Conn, shard_key: ShardKey, event: &str) -> Result<bool> {
    let rows = events::table
        .filter(events::shard_key.eq(shard_key.0))
        .filter(events::event.eq(event));
    Ok(diesel::select(diesel::dsl::exists(rows)).get_result(conn)?)
}

/// Values of a person.
#[derive(QueryableByName)]
pub struct PersonValues {
    /// The ordinal of the person.
    #[diesel(sql_type = BigInt)]
    pub ordinal: i64,
    /// The values as JSON text, in the order of the keys.
    #[diesel(sql_type = Array<Nullable<Text>>)]
    pub values: Vec<Option<String>>,
}

/// The values of `keys` of persons, after the ordinal `after`.
///
/// # Errors
///
/// Fails if the database fails.
pub fn person_values(
    conn: &mut Conn,
    shard_key: ShardKey,
    keys: &[String],
    after: i64,
    limit: i64,
) -> Result<Vec<PersonValues>> {
    Ok(diesel::sql_query(PERSON_VALUES)
        .bind::<BigInt, _>(shard_key.0)
        .bind::<Array<Text>, _>(keys)
        .bind::<BigInt, _>(after)
        .bind::<BigInt, _>(limit)
        .load(conn)?)
}
