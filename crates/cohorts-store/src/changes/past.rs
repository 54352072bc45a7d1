//! Members in the past, and differences between versions, from the log.

use chrono::{DateTime, Utc};
use roaring::RoaringBitmap;

use super::delta::MemberDelta;
use super::feed::{member_version, published};
use super::rows::{self, ChangeRow};
use super::{FeedPosition, heads, slices};
use crate::{CohortId, Conn, ProjectId, Result, ShardKey, members, tombstones};

/// Rows that are read together.
const ROWS_AT_ONCE: i64 = 500;

/// The members of a cohort as published at a time. Times within a compacted span give the members before the span.
/// Returns `None` if the log no longer has all changes since then, or there is no such cohort.
///
/// The caller reads in a [`crate::snapshot`].
///
/// # Errors
///
/// [`crate::StoreError::Corrupt`] if stored bitmaps cannot be decoded; fails if the database fails.
pub fn as_of(
    conn: &mut Conn,
    project: ProjectId,
    cohort: CohortId,
    time: DateTime<Utc>,
) -> Result<Option<RoaringBitmap>> {
    let past = past(conn, project, cohort, time)?;
    Ok(past.map(|past| past.then))
}

/// As [`as_of`], with the ordinals that the persons have now: survivors in place of merged persons, and no deleted persons.
///
/// # Errors
///
/// As [`as_of`].
pub fn persons_as_of(
    conn: &mut Conn,
    project: ProjectId,
    cohort: CohortId,
    time: DateTime<Utc>,
) -> Result<Option<RoaringBitmap>> {
    let Some(PastMembers { now, then }) = past(conn, project, cohort, time)? else {
        return Ok(None);
    };
    // A retired ordinal is no longer a member.
    let left = &then - now;
    let tombstones = tombstones::of(conn, project.shard_key(), &left)?;
    Ok(Some(tombstones.resolved(&then)))
}

/// The members of a cohort at two times.
struct PastMembers {
    now: RoaringBitmap,
    then: RoaringBitmap,
}

fn past(
    conn: &mut Conn,
    project: ProjectId,
    cohort: CohortId,
    time: DateTime<Utc>,
) -> Result<Option<PastMembers>> {
    let shard_key = project.shard_key();
    let since = heads::head(conn, shard_key)?.map(|head| head.complete_since);
    let since = since.filter(|since| *since > DateTime::UNIX_EPOCH);
    if since.is_some_and(|since| time < since) {
        return Ok(None);
    }
    let Some(version) = member_version(conn, project, cohort)? else {
        return Ok(None);
    };
    let later = newest(conn, project, cohort, version, |row| {
        row.published_at > time
    })?;
    let base = later.last().map_or(version, |row| row.base_version);
    if since.is_none() && !is_logged(conn, shard_key, cohort, base)? {
        return Ok(None);
    }
    let now = members::read(conn, shard_key, cohort, version)?;
    let mut then = now.clone();
    slices::for_each_delta(conn, shard_key, &later, |_, delta| {
        delta.undo(&mut then);
        true
    })?;
    Ok(Some(PastMembers { now, then }))
}

/// Whether a log from which nothing was deleted has the change to a version. It lacks those from before there was a log.
fn is_logged(conn: &mut Conn, shard_key: ShardKey, cohort: CohortId, version: i64) -> Result<bool> {
    let change = rows::before(conn, shard_key, cohort.0, (version, i64::MAX), 1)?;
    Ok(version == 0 || !change.is_empty())
}

/// The difference between an earlier member version of a cohort and the published one. It may contain more persons if the
/// earlier version is within a compacted span. Returns `None` if the log does not have it.
///
/// The caller reads in a [`crate::snapshot`].
///
/// # Errors
///
/// [`crate::StoreError::Corrupt`] if a slice cannot be decoded; fails if the database fails.
pub fn delta_since(
    conn: &mut Conn,
    project: ProjectId,
    cohort: CohortId,
    version: i64,
) -> Result<Option<MemberDelta>> {
    let shard_key = project.shard_key();
    let Some(current) = member_version(conn, project, cohort)? else {
        return Ok(None);
    };
    let mut later = newest(conn, project, cohort, current, |row| row.version > version)?;
    let oldest = later.last().map_or(current, |row| row.base_version);
    if oldest > version || version > current {
        return Ok(None);
    }
    let mut delta = MemberDelta::default();
    later.reverse();
    slices::for_each_delta(conn, shard_key, &later, |_, next| {
        delta.extend(next);
        true
    })?;
    Ok(Some(delta))
}

/// The newest rows of a cohort up to a version for which `is_later` holds, the newest first.
fn newest(
    conn: &mut Conn,
    project: ProjectId,
    cohort: CohortId,
    version: i64,
    is_later: impl Fn(&ChangeRow) -> bool,
) -> Result<Vec<ChangeRow>> {
    let mut newest = Vec::new();
    let mut before = i64::MAX;
    loop {
        let key = (version, before);
        let page = rows::before(conn, project.shard_key(), cohort.0, key, ROWS_AT_ONCE)?;
        let Some(oldest) = page.last() else {
            return Ok(newest);
        };
        before = oldest.number;
        for row in page {
            if !is_later(&row) {
                return Ok(newest);
            }
            newest.push(row);
        }
    }
}

/// Applies the changes of a cohort after a number to `members`, and returns the number up to which they are applied. Returns
/// `None` if changes after the number are deleted.
///
/// The caller reads in a [`crate::snapshot`].
///
/// # Errors
///
/// [`crate::StoreError::Corrupt`] if a slice cannot be decoded; fails if the database fails.
pub fn replay(
    conn: &mut Conn,
    project: ProjectId,
    cohort: CohortId,
    number: i64,
    members: &mut RoaringBitmap,
) -> Result<Option<i64>> {
    let shard_key = project.shard_key();
    let mut position = FeedPosition::after(number);
    loop {
        let Some(through) = super::feed::readable(conn, shard_key, position)? else {
            return Ok(None);
        };
        let span = (position.number, through);
        let page = rows::of_cohorts(conn, shard_key, &[cohort.0], span, ROWS_AT_ONCE)?;
        let last = page.last().map(|row| row.number);
        let rows = published(conn, project, page)?.rows;
        slices::for_each_delta(conn, shard_key, &rows, |_, delta| {
            delta.apply(members);
            true
        })?;
        match last {
            Some(last) => position.number = last,
            None => return Ok(Some(through)),
        }
    }
}
