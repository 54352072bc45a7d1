//! Deletes old changes, in the order of their numbers, and the changes of cohorts that no longer exist.

use chrono::{DateTime, Utc};

use super::rows::{self, ChangeRow};
use super::{ChangeHead, chunks, heads, sizes, slices};
use crate::{CohortId, Conn, ProjectId, Result, ShardKey, transaction};

/// Deletes the oldest changes of a log that were published before `time`, at most `limit` of them, and returns their number.
///
/// Readers with a position before the last of them begin again.
///
/// # Errors
///
/// Fails if the database fails.
pub fn delete_oldest(
    conn: &mut Conn,
    head: &ChangeHead,
    time: DateTime<Utc>,
    limit: i64,
) -> Result<usize> {
    let shard_key = head.project().shard_key();
    transaction(conn, |conn| {
        let span = (head.expired_through, head.number);
        let mut oldest = rows::after(conn, shard_key, span, limit)?;
        let old = oldest.partition_point(|row| row.published_at < time);
        oldest.truncate(old);
        let Some(last) = oldest.last() else {
            return Ok(0);
        };
        let numbers: Vec<i64> = oldest.iter().map(|row| row.number).collect();
        let bytes = delete_changes(conn, shard_key, &numbers)?;
        heads::expired(conn, shard_key, last.number, last.published_at)?;
        heads::subtract_bytes(conn, shard_key, bytes)?;
        Ok(numbers.len())
    })
}

/// Deletes changes with their slices, and returns their bytes.
fn delete_changes(conn: &mut Conn, shard_key: ShardKey, numbers: &[i64]) -> Result<i64> {
    // Another process may have deleted or compacted some meanwhile.
    let deleted: Vec<ChangeRow> = rows::delete(conn, shard_key, numbers)?;
    let (cohorts, versions): (Vec<i64>, Vec<i64>) = deleted
        .iter()
        .map(|row| (row.cohort_id, row.version))
        .unzip();
    slices::delete(conn, shard_key, (&cohorts, &versions), 0..i64::MAX)?;
    Ok(deleted.iter().map(|row| row.bytes).sum())
}

/// The numbers of rows of a cohort that a purge deletes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PurgedMembers {
    /// Chunks of members.
    pub chunks: usize,
    /// Changes of members, and rests of them.
    pub changes: usize,
    /// Sizes over time.
    pub sizes: usize,
}

impl std::ops::AddAssign for PurgedMembers {
    fn add_assign(&mut self, more: Self) {
        self.chunks += more.chunks;
        self.changes += more.changes;
        self.sizes += more.sizes;
    }
}

/// Deletes members, changes and sizes of a cohort that no longer exists, at most about `limit` rows of each. None are left if
/// none are deleted.
///
/// # Errors
///
/// Fails if the database fails.
pub fn delete_of_cohort(
    conn: &mut Conn,
    project: ProjectId,
    cohort: CohortId,
    limit: i64,
) -> Result<PurgedMembers> {
    let shard_key = project.shard_key();
    let changes = transaction(conn, |conn| {
        let numbers = rows::numbers_of(conn, shard_key, cohort.0, limit)?;
        let bytes = delete_changes(conn, shard_key, &numbers)?;
        heads::subtract_bytes(conn, shard_key, bytes)?;
        match numbers.len() {
            // Slices of an attempt that was never published.
            0 => slices::delete_of_cohort(conn, shard_key, cohort.0, limit),
            deleted => Ok(deleted),
        }
    })?;
    Ok(PurgedMembers {
        chunks: chunks::delete(conn, project, cohort, limit)?,
        changes,
        sizes: sizes::delete(conn, project, cohort, limit)?,
    })
}

/// The ids of the cohorts with changes or sizes in a project, in any order, also of cohorts that no longer exist.
///
/// # Errors
///
/// Fails if the database fails.
pub fn cohorts(conn: &mut Conn, project: ProjectId) -> Result<Vec<i64>> {
    let mut ids = rows::cohorts(conn, project.shard_key())?;
    ids.extend(slices::cohorts(conn, project.shard_key())?);
    ids.extend(sizes::cohorts(conn, project)?);
    Ok(ids)
}

/// The numbers of rows of these cohorts.
///
/// # Errors
///
/// Fails if the database fails.
pub fn count(conn: &mut Conn, project: ProjectId, ids: &[i64]) -> Result<PurgedMembers> {
    let number = |count: i64| usize::try_from(count).unwrap_or(usize::MAX);
    Ok(PurgedMembers {
        chunks: number(chunks::count(conn, project, ids)?),
        changes: number(rows::count(conn, project.shard_key(), ids)?),
        sizes: number(sizes::count(conn, project, ids)?),
    })
}
