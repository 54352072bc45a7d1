//! Erasures: deleted persons that may still be in checkpoints.
//!
//! A deletion retires the ordinals of a person at once, and readers mask them. It records the ordinals here, with the
//! names and days of the deleted events. A background task rewrites the checkpoints without them, and then deletes the
//! record. A deletion that has deleted events only, and was interrupted, has sequence number 0: it is not pending until
//! the person is deleted.

use std::collections::{BTreeMap, BTreeSet};

use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Jsonb};

use crate::schema::erasures;
use crate::{Conn, INSERT_ROWS, JsonText, Result, ShardKey, StoreError};

/// The names and the UTC days, counted from 1970, of a person's events.
pub type EventDays = BTreeSet<(String, i64)>;

/// A deleted person, as the record of its erasure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Erasure {
    /// A retired ordinal.
    pub ordinal: i64,
    /// The sequence number of the deletion.
    pub seq: i64,
    /// The events that were deleted.
    pub events: EventDays,
}

/// Records erasures, or adds events to recorded ones. `seq` is 0 before the ordinals are retired.
///
/// # Errors
///
/// Fails if the database fails.
pub fn record(
    conn: &mut Conn,
    shard_key: ShardKey,
    seq: i64,
    events: &BTreeMap<i64, EventDays>,
) -> Result<()> {
    let mut rows = Vec::new();
    for (ordinal, events) in events {
        let events = serde_json::to_string(events).map_err(anyhow::Error::from)?;
        rows.push((
            erasures::shard_key.eq(shard_key.0),
            erasures::ordinal.eq(*ordinal),
            erasures::seq.eq(seq),
            erasures::events.eq(JsonText(events)),
        ));
    }
    for rows in rows.chunks(INSERT_ROWS) {
        diesel::insert_into(erasures::table)
            .values(rows)
            .on_conflict((erasures::shard_key, erasures::ordinal))
            .do_update()
            .set((
                erasures::seq.eq(sql::<BigInt>("greatest(erasures.seq, excluded.seq)")),
                erasures::events.eq(sql::<Jsonb>("erasures.events || excluded.events")),
            ))
            .execute(conn)?;
    }
    Ok(())
}

/// The shard keys among `shard_keys` with pending erasures.
///
/// # Errors
///
/// Fails if the database fails.
pub fn shard_keys(conn: &mut Conn, shard_keys: &[ShardKey]) -> Result<Vec<ShardKey>> {
    let keys: Vec<i64> = shard_keys.iter().map(|key| key.0).collect();
    let keys: Vec<i64> = erasures::table
        .filter(erasures::shard_key.eq_any(keys))
        .filter(erasures::seq.gt(0))
        .select(erasures::shard_key)
        .distinct()
        .load(conn)?;
    Ok(keys.into_iter().map(ShardKey).collect())
}

/// How many erasures there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErasureCounts {
    /// Ordinals of deleted persons.
    pub pending: i64,
    /// Ordinals without events, after a deletion that did not end.
    pub interrupted: i64,
}

/// The numbers of erasures of some shard keys.
///
/// # Errors
///
/// Fails if the database fails.
pub fn count(conn: &mut Conn, shard_keys: &[ShardKey]) -> Result<ErasureCounts> {
    let keys: Vec<i64> = shard_keys.iter().map(|key| key.0).collect();
    let rows = erasures::table.filter(erasures::shard_key.eq_any(keys));
    let all: i64 = rows.clone().count().get_result(conn)?;
    let interrupted: i64 = rows.filter(erasures::seq.eq(0)).count().get_result(conn)?;
    Ok(ErasureCounts {
        pending: all - interrupted,
        interrupted,
    })
}

/// The first pending erasures of a shard key, at most `limit`.
///
/// # Errors
///
/// Fails if the database fails.
pub fn pending(conn: &mut Conn, shard_key: ShardKey, limit: i64) -> Result<Vec<Erasure>> {
    let rows: Vec<(i64, i64, JsonText)> = erasures::table
        .filter(erasures::shard_key.eq(shard_key.0))
        .filter(erasures::seq.gt(0))
        .order(erasures::ordinal)
        .limit(limit)
        .select((erasures::ordinal, erasures::seq, erasures::events))
        .load(conn)?;
    let erasure = |(ordinal, seq, events): (i64, i64, JsonText)| {
        Ok(Erasure {
            ordinal,
            seq,
            events: event_days(&events)?,
        })
    };
    rows.into_iter().map(erasure).collect()
}

/// The names of the deleted events of all erasures.
///
/// # Errors
///
/// Fails if the database fails.
pub fn event_names(conn: &mut Conn, shard_key: ShardKey) -> Result<BTreeSet<String>> {
    let rows: Vec<JsonText> = erasures::table
        .filter(erasures::shard_key.eq(shard_key.0))
        .select(erasures::events)
        .load(conn)?;
    let mut names = BTreeSet::new();
    for row in rows {
        names.extend(event_days(&row)?.into_iter().map(|(name, _)| name));
    }
    Ok(names)
}

fn event_days(events: &JsonText) -> Result<EventDays> {
    serde_json::from_str(&events.0)
        .map_err(|cause| StoreError::Corrupt(format!("events of an erasure: {cause}")))
}

/// Deletes the records of erasures that are done.
///
/// # Errors
///
/// Fails if the database fails.
pub fn finish(conn: &mut Conn, shard_key: ShardKey, ordinals: &[i64]) -> Result<()> {
    let rows = erasures::table
        .filter(erasures::shard_key.eq(shard_key.0))
        .filter(erasures::ordinal.eq_any(ordinals));
    diesel::delete(rows).execute(conn)?;
    Ok(())
}
