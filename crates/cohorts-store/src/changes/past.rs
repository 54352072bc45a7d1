//! Members in the past, and differences between versions, from the log.

use chrono::{DateTime, Utc};
use roaring::RoaringBitmap;

use super::delta::MemberDelta;
use super::feed::{member_version, published};
use super::rows::{self, ChangeRow};
use super::{FeedPosition, heads, slices};
use crate::{CohortId, Conn, ProjectId, Result, members};

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
    let shard_key = project.shard_key();
    let head = heads::head(conn, shard_key)?;
    if head.is_some_and(|head| time < head.complete_since) {
        return Ok(None);
    }
    let Some(version) = member_version(conn, project, cohort)? else {
        return Ok(None);
    };
    let mut members = members::read(conn, shard_key, cohort, version)?;
    let later = newest(conn, project, cohort, version, |row| {
        row.published_at > time
    })?;
    slices::for_each_delta(conn, shard_key, &later, |_, delta| {
        delta.undo(&mut members);
        true
    })?;
    Ok(Some(members))
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
