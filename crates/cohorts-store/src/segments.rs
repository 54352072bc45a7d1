//! The tables of checkpoints of events: segments with their manifests, as packed bytes.
//!
//! A checkpoint of an older state of the log never replaces one of a newer state. Everything here is derived from rows,
//! and may be dropped at any time.

use diesel::prelude::*;

use crate::schema::{segment_manifests, segments};
use crate::{Conn, Result, ShardKey};

/// What the segments of an event contain: all its events up to `through_seq`, from a day on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentManifest {
    /// The last sequence number of the log that the segments contain.
    pub through_seq: i64,
    /// The first UTC day that the segments contain, counted from 1970.
    pub from_day: i64,
}

/// A manifest as it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredManifest {
    /// What the segments contain.
    pub manifest: SegmentManifest,
    /// How many days have a segment; a day without events has none.
    pub days: i64,
}

/// `through_seq` of a manifest row that has been created and not written yet.
const UNWRITTEN: i64 = -1;

/// The longest list of columns, or name of events, that fits into a key, in bytes.
const MAX_KEY_BYTES: usize = 1_000;

/// The events of one name, with columns for some of their properties.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentKey {
    /// The name of the events.
    pub event: String,
    /// The JSON list of the columns; empty for none.
    columns: String,
}

impl SegmentKey {
    /// The key of the events of a name; `None` if the name or the list of columns is too long for a key.
    pub fn new(event: &str, columns: &[String]) -> Option<Self> {
        let columns = match columns {
            [] => String::new(),
            columns => serde_json::json!(columns).to_string(),
        };
        (columns.len() <= MAX_KEY_BYTES && event.len() <= MAX_KEY_BYTES).then(|| Self {
            event: event.to_owned(),
            columns,
        })
    }
}

/// The keys of all stored segments of a shard key.
///
/// # Errors
///
/// Fails if the database fails.
pub fn keys(conn: &mut Conn, shard_key: ShardKey) -> Result<Vec<SegmentKey>> {
    let rows: Vec<(String, String)> = segment_manifests::table
        .filter(segment_manifests::shard_key.eq(shard_key.0))
        .select((segment_manifests::event, segment_manifests::properties))
        .load(conn)?;
    let keys = rows.into_iter();
    Ok(keys
        .map(|(event, columns)| SegmentKey { event, columns })
        .collect())
}

/// Drops the segments of an event with these columns, in the transaction of the caller.
///
/// # Errors
///
/// Fails if the database fails.
pub fn drop_segments(conn: &mut Conn, shard_key: ShardKey, key: &SegmentKey) -> Result<()> {
    diesel::delete(segment_manifests::table.find((shard_key.0, &key.event, &key.columns)))
        .execute(conn)?;
    diesel::delete(of_key(shard_key.0, &key.event, &key.columns)).execute(conn)?;
    Ok(())
}

/// The manifest of an event's segments.
///
/// # Errors
///
/// Fails if the database fails.
pub fn manifest(
    conn: &mut Conn,
    shard_key: ShardKey,
    key: &SegmentKey,
) -> Result<Option<StoredManifest>> {
    let row: Option<(i64, i64, i64)> = segment_manifests::table
        .find((shard_key.0, &key.event, &key.columns))
        .filter(segment_manifests::through_seq.ne(UNWRITTEN))
        .select((
            segment_manifests::through_seq,
            segment_manifests::from_day,
            segment_manifests::days,
        ))
        .first(conn)
        .optional()?;
    Ok(row.map(|(through_seq, from_day, days)| StoredManifest {
        manifest: SegmentManifest {
            through_seq,
            from_day,
        },
        days,
    }))
}

/// All manifests of a shard key.
///
/// # Errors
///
/// Fails if the database fails.
pub fn manifests(
    conn: &mut Conn,
    shard_key: ShardKey,
) -> Result<Vec<(SegmentKey, StoredManifest)>> {
    let rows: Vec<(String, String, i64, i64, i64)> = segment_manifests::table
        .filter(segment_manifests::shard_key.eq(shard_key.0))
        .filter(segment_manifests::through_seq.ne(UNWRITTEN))
        .select((
            segment_manifests::event,
            segment_manifests::properties,
            segment_manifests::through_seq,
            segment_manifests::from_day,
            segment_manifests::days,
        ))
        .load(conn)?;
    let manifests = rows
        .into_iter()
        .map(|(event, columns, through_seq, from_day, days)| {
            let manifest = SegmentManifest {
                through_seq,
                from_day,
            };
            (
                SegmentKey { event, columns },
                StoredManifest { manifest, days },
            )
        });
    Ok(manifests.collect())
}

/// The days that have a segment, sorted.
///
/// # Errors
///
/// Fails if the database fails.
pub fn days(conn: &mut Conn, shard_key: ShardKey, key: &SegmentKey) -> Result<Vec<i64>> {
    Ok(of_key(shard_key.0, &key.event, &key.columns)
        .select(segments::day)
        .order(segments::day)
        .load(conn)?)
}

#[diesel::dsl::auto_type]
fn of_key<'a>(shard_key: i64, event: &'a str, columns: &'a str) -> _ {
    segments::table
        .filter(segments::shard_key.eq(shard_key))
        .filter(segments::event.eq(event))
        .filter(segments::properties.eq(columns))
}

/// The packed segments of these days.
///
/// # Errors
///
/// Fails if the database fails.
pub fn read(
    conn: &mut Conn,
    shard_key: ShardKey,
    key: &SegmentKey,
    days: &[i64],
) -> Result<Vec<(i64, Vec<u8>)>> {
    Ok(of_key(shard_key.0, &key.event, &key.columns)
        .filter(segments::day.eq_any(days))
        .select((segments::day, segments::data))
        .load(conn)?)
}

/// Segments to write, and what the writer knows about those that are stored.
pub struct SegmentWrite<'a> {
    /// The events of the segments.
    pub key: &'a SegmentKey,
    /// What the segments contain after the write.
    pub manifest: SegmentManifest,
    /// The sequence number since which the writer has seen no event on a day before `manifest.from_day`; `None` if
    /// it has seen one.
    pub complete_since: Option<i64>,
    /// The stored manifest that the writer builds upon. `None` means that `days` are all days of the manifest.
    pub base: Option<SegmentManifest>,
    /// Whether a stored segment is damaged, so that nothing stored is used.
    pub is_damaged: bool,
    /// The packed segments that differ from the stored ones.
    pub days: &'a [(i64, Vec<u8>)],
}

/// The outcome of writing segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteOutcome {
    /// This manifest is stored now.
    Written(SegmentManifest),
    /// Another process has stored more than this writer can extend; nothing was written.
    Superseded,
    /// What is stored is not the writer's `base`; nothing was written, and the writer must write all days.
    Stale,
}

/// Writes segments and their manifest in the transaction of the caller. Stored earlier days remain valid if the writer
/// has seen all their events.
///
/// # Errors
///
/// Fails if the database fails.
pub fn write(
    conn: &mut Conn,
    shard_key: ShardKey,
    write: &SegmentWrite<'_>,
) -> Result<WriteOutcome> {
    let key = write.key;
    let row = segment_manifests::table.find((shard_key.0, &key.event, &key.columns));
    let stored = lock_manifest(conn, shard_key, key)?;
    if write.base.is_some_and(|base| base != stored.manifest) {
        return Ok(WriteOutcome::Stale);
    }
    let rows = of_key(shard_key.0, &key.event, &key.columns);
    let count: i64 = rows.count().get_result(conn)?;
    let is_intact = count == stored.days && !write.is_damaged;
    if write.base.is_some() && !is_intact {
        return Ok(WriteOutcome::Stale);
    }
    let current = if is_intact {
        stored.manifest
    } else {
        diesel::delete(rows).execute(conn)?;
        NO_SEGMENTS
    };
    let manifest = write.manifest;
    let is_complete = current.from_day >= manifest.from_day
        || (write.complete_since).is_some_and(|since| since <= current.through_seq);
    let is_more = current.through_seq < manifest.through_seq
        || (current.through_seq == manifest.through_seq && manifest.from_day < current.from_day);
    if !is_more || !is_complete {
        return Ok(WriteOutcome::Superseded);
    }
    replace_days(conn, shard_key, write)?;
    let merged = SegmentManifest {
        through_seq: manifest.through_seq,
        from_day: manifest.from_day.min(current.from_day),
    };
    let days: i64 = rows.count().get_result(conn)?;
    diesel::update(row)
        .set((
            segment_manifests::through_seq.eq(merged.through_seq),
            segment_manifests::from_day.eq(merged.from_day),
            segment_manifests::days.eq(days),
        ))
        .execute(conn)?;
    Ok(WriteOutcome::Written(merged))
}

/// The manifest of no segments.
const NO_SEGMENTS: SegmentManifest = SegmentManifest {
    through_seq: UNWRITTEN,
    from_day: i64::MAX,
};

/// Locks the manifest's row, which is created if it is missing, and returns it.
fn lock_manifest(conn: &mut Conn, shard_key: ShardKey, key: &SegmentKey) -> Result<StoredManifest> {
    diesel::insert_into(segment_manifests::table)
        .values((
            segment_manifests::shard_key.eq(shard_key.0),
            segment_manifests::event.eq(&key.event),
            segment_manifests::properties.eq(&key.columns),
            segment_manifests::through_seq.eq(NO_SEGMENTS.through_seq),
            segment_manifests::from_day.eq(NO_SEGMENTS.from_day),
        ))
        .on_conflict_do_nothing()
        .execute(conn)?;
    let (through_seq, from_day, days) = segment_manifests::table
        .find((shard_key.0, &key.event, &key.columns))
        .select((
            segment_manifests::through_seq,
            segment_manifests::from_day,
            segment_manifests::days,
        ))
        .for_update()
        .first(conn)?;
    Ok(StoredManifest {
        manifest: SegmentManifest {
            through_seq,
            from_day,
        },
        days,
    })
}

fn replace_days(conn: &mut Conn, shard_key: ShardKey, write: &SegmentWrite<'_>) -> Result<()> {
    let key = write.key;
    let rows = of_key(shard_key.0, &key.event, &key.columns);
    if write.base.is_none() {
        diesel::delete(rows.filter(segments::day.ge(write.manifest.from_day))).execute(conn)?;
    } else {
        let days = write.days.iter().map(|(day, _)| *day);
        diesel::delete(rows.filter(segments::day.eq_any(days))).execute(conn)?;
    }
    for (day, data) in write.days {
        diesel::insert_into(segments::table)
            .values((
                segments::shard_key.eq(shard_key.0),
                segments::event.eq(&key.event),
                segments::properties.eq(&key.columns),
                segments::day.eq(day),
                segments::through_seq.eq(write.manifest.through_seq),
                segments::data.eq(data),
            ))
            .execute(conn)?;
    }
    Ok(())
}

/// Drops all segments of a shard key.
///
/// # Errors
///
/// Fails if the database fails.
pub fn drop_all(conn: &mut Conn, shard_key: ShardKey) -> Result<()> {
    let key = shard_key.0;
    diesel::delete(segment_manifests::table.filter(segment_manifests::shard_key.eq(key)))
        .execute(conn)?;
    diesel::delete(segments::table.filter(segments::shard_key.eq(key))).execute(conn)?;
    Ok(())
}
