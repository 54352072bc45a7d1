//! Compaction: after an hour, one row per cohort and minute; after a day, one per cohort and hour.
//!
//! A compacted row has the final state of each person who changed in its span, under the number of the last change. So a
//! replay from a number within the span still ends with the right members, although it repeats some changes.
//! Changes before and after a move of a person stay apart, because they name different persons (`names`).

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};

use super::delta::{MemberDelta, WINDOW};
use super::feed::published;
use super::rows::{self, ChangeRow, ROW_BYTES};
use super::sizes::start_of_span;
use super::{ChangeHead, MIXED, heads, names, slices};
use crate::{Conn, Result, ShardKey, transaction};

const MINUTE: i64 = 60;
const HOUR: i64 = 3_600;
/// The age after which rows are compacted by minute.
const MINUTES_AFTER: TimeDelta = TimeDelta::hours(1);
/// The age after which rows are compacted by hour.
const HOURS_AFTER: TimeDelta = TimeDelta::days(1);
/// Rows that are read together.
const ROWS_AT_ONCE: i64 = 1_000;
/// Changes with fewer bytes together are merged at once, others window by window.
const BYTES_AT_ONCE: i64 = 16 << 20;

/// Compacts the next span of a log that is old enough at `now`, a minute or an hour. Returns the number of merged rows, or
/// `None` if there is no such span.
///
/// Several processes may do this at the same time, and it may be interrupted. `head` may be older than the log.
///
/// # Errors
///
/// [`crate::StoreError::Corrupt`] if a slice cannot be decoded; fails if the database fails.
pub fn compact_next(
    conn: &mut Conn,
    head: &ChangeHead,
    now: DateTime<Utc>,
) -> Result<Option<usize>> {
    let shard_key = head.project().shard_key();
    let after = head.by_minute_through;
    if let Some(span) = next_span(conn, head, (after, MINUTE), now - MINUTES_AFTER)? {
        let merged = merge_cohorts(conn, head, &span)?;
        heads::compacted_by_minute(conn, shard_key, span.last)?;
        return Ok(Some(merged));
    }
    let after = head.by_hour_through;
    if let Some(span) = next_span(conn, head, (after, HOUR), now - HOURS_AFTER)? {
        let merged = merge_cohorts(conn, head, &span)?;
        heads::compacted_by_hour(conn, shard_key, span.last)?;
        return Ok(Some(merged));
    }
    Ok(None)
}

/// The rows of a minute or an hour.
struct Span {
    rows: Vec<ChangeRow>,
    /// The number of the last row.
    last: i64,
}

/// The span that begins after a number and ends before a time; `None` if there is none.
fn next_span(
    conn: &mut Conn,
    head: &ChangeHead,
    (after, seconds): (i64, i64),
    before: DateTime<Utc>,
) -> Result<Option<Span>> {
    let shard_key = head.project().shard_key();
    let mut after = after.max(head.expired_through);
    let mut span: Option<Span> = None;
    let mut end = before;
    loop {
        let page = rows::after(conn, shard_key, (after, head.number), ROWS_AT_ONCE)?;
        let count = page.len() as i64;
        // Times never fall with rising numbers.
        for row in page {
            if span.is_none() {
                end = start_of_span(row.published_at, seconds) + TimeDelta::seconds(seconds);
            }
            if end > before || row.published_at >= end {
                return Ok(span);
            }
            after = row.number;
            let span = span.get_or_insert(Span {
                rows: Vec::new(),
                last: 0,
            });
            span.last = row.number;
            span.rows.push(row);
        }
        if count < ROWS_AT_ONCE {
            return Ok(span);
        }
    }
}

/// Merges the rows of each cohort in a span, between moves of persons.
fn merge_cohorts(conn: &mut Conn, head: &ChangeHead, span: &Span) -> Result<usize> {
    let shard_key = head.project().shard_key();
    let published = published(conn, head.project(), span.rows.clone())?;
    let first = span.rows.first().map_or(span.last, |row| row.number);
    let moves = names::last_before_moves(conn, shard_key, (first, span.last))?;
    let mut together: BTreeMap<(i64, usize), Vec<i64>> = BTreeMap::new();
    for row in published.rows {
        let earlier_moves = moves.partition_point(|number| *number < row.number);
        let key = (row.cohort_id, earlier_moves);
        together.entry(key).or_default().push(row.number);
    }
    let mut merged = 0;
    for numbers in together.values().filter(|numbers| numbers.len() > 1) {
        merged += transaction(conn, |conn| merge(conn, shard_key, numbers))?;
    }
    Ok(merged)
}

/// Merges rows of one cohort into the last of them. Returns the number of deleted rows.
fn merge(conn: &mut Conn, shard_key: ShardKey, numbers: &[i64]) -> Result<usize> {
    let mut rows = rows::lock(conn, shard_key, numbers)?;
    let bytes: i64 = rows.iter().map(|row| row.bytes).sum();
    let Some(last) = rows.pop().filter(|_| !rows.is_empty()) else {
        return Ok(0);
    };
    let is_mixed = rows.iter().any(|row| row.cause != last.cause);
    let mut merged = ChangeRow {
        base_version: rows[0].base_version,
        cause: if is_mixed {
            MIXED.to_owned()
        } else {
            last.cause.clone()
        },
        entered: 0,
        left: 0,
        bytes: ROW_BYTES,
        ..last
    };
    let window = if bytes > BYTES_AT_ONCE {
        i64::from(WINDOW)
    } else {
        1 << 16
    };
    let mut versions: Vec<i64> = rows.iter().map(|row| row.version).collect();
    versions.push(merged.version);
    for start in (0..1 << 16).step_by(window as usize) {
        merge_slices(
            conn,
            shard_key,
            &mut merged,
            &versions,
            start..start + window,
        )?;
    }
    let deleted: Vec<i64> = rows.iter().map(|row| row.number).collect();
    rows::delete(conn, shard_key, &deleted)?;
    rows::update(conn, shard_key, &merged)?;
    heads::subtract_bytes(conn, shard_key, bytes - merged.bytes)?;
    Ok(deleted.len())
}

/// Replaces the slices of all versions with first chunks in `chunks` by slices of the merged row, and adds their numbers.
fn merge_slices(
    conn: &mut Conn,
    shard_key: ShardKey,
    merged: &mut ChangeRow,
    versions: &[i64],
    chunks: std::ops::Range<i64>,
) -> Result<()> {
    let cohort = merged.cohort_id;
    let cohorts = vec![cohort; versions.len()];
    let key = (&cohorts[..], versions);
    let mut deltas: BTreeMap<i64, MemberDelta> = BTreeMap::new();
    for keyed in slices::read(conn, shard_key, key, chunks.clone())? {
        let delta = keyed.slice.delta(cohort)?;
        deltas.entry(keyed.version).or_default().join(delta);
    }
    let mut total = MemberDelta::default();
    for delta in deltas.values() {
        total.extend(delta);
    }
    if total.is_empty() {
        return Ok(());
    }
    slices::delete(conn, shard_key, key, chunks)?;
    let (slices, bytes) = slices::pack(cohort, merged.version, &total);
    slices::insert(conn, shard_key, &slices)?;
    merged.entered += total.entered.len() as i64;
    merged.left += total.left.len() as i64;
    merged.bytes += bytes;
    Ok(())
}
