//! The persons of the writes in a span of the log: with events, created, changed, or with new distinct ids.

use diesel::prelude::*;
use roaring::RoaringBitmap;

use super::ordinal;
use crate::schema::{distinct_ids, events, persons};
use crate::{Conn, Result, ShardKey};

/// The names and ordinals of the events with sequence numbers after the first of `span`, up to the second; of all names if
/// `names` is `None`. Ordinals of merged persons are not resolved.
///
/// # Errors
///
/// Fails if the database fails.
pub fn performers(
    conn: &mut Conn,
    shard_key: ShardKey,
    (after, through): (i64, i64),
    names: Option<&[String]>,
) -> Result<Vec<(String, u32)>> {
    let mut rows = events::table
        .filter(events::shard_key.eq(shard_key.0))
        .filter(events::seq.gt(after).and(events::seq.le(through)))
        .select((events::event, events::ordinal))
        .distinct()
        .into_boxed();
    if let Some(names) = names {
        rows = rows.filter(events::event.eq_any(names));
    }
    let rows: Vec<(String, i64)> = rows.load(conn)?;
    rows.into_iter()
        .map(|(name, column)| Ok((name, ordinal(column)?)))
        .collect()
}

/// The persons that were created in a span of the log.
///
/// # Errors
///
/// Fails if the database fails.
pub fn created(
    conn: &mut Conn,
    shard_key: ShardKey,
    (after, through): (i64, i64),
) -> Result<RoaringBitmap> {
    let rows = persons::table
        .filter(persons::shard_key.eq(shard_key.0))
        .filter(persons::seq.gt(after))
        .filter(
            persons::created_seq
                .gt(after)
                .and(persons::created_seq.le(through)),
        )
        .select(persons::ordinal);
    collect(rows.load(conn)?)
}

/// The persons that were last written in a span of the log.
///
/// # Errors
///
/// Fails if the database fails.
pub fn changed(
    conn: &mut Conn,
    shard_key: ShardKey,
    (after, through): (i64, i64),
) -> Result<RoaringBitmap> {
    let rows = persons::table
        .filter(persons::shard_key.eq(shard_key.0))
        .filter(persons::seq.gt(after).and(persons::seq.le(through)))
        .select(persons::ordinal);
    collect(rows.load(conn)?)
}

/// The owners of the distinct ids that were last written in a span of the log.
///
/// # Errors
///
/// Fails if the database fails.
pub fn owners_of_new_ids(
    conn: &mut Conn,
    shard_key: ShardKey,
    (after, through): (i64, i64),
) -> Result<RoaringBitmap> {
    let rows = distinct_ids::table
        .filter(distinct_ids::shard_key.eq(shard_key.0))
        .filter(
            distinct_ids::seq
                .gt(after)
                .and(distinct_ids::seq.le(through)),
        )
        .select(distinct_ids::ordinal);
    collect(rows.load(conn)?)
}

fn collect(ordinals: Vec<i64>) -> Result<RoaringBitmap> {
    ordinals.into_iter().map(ordinal).collect()
}
