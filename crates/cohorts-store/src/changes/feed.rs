//! Reads the log as a feed: the persons who entered and left, in the order of publication, from any position on.
//!
//! A reader sees a change only when its version is published. On a distributed Postgres, the version of a cohort becomes
//! visible a moment after the change: then the feed stops before the change, so that no position passes it.

use std::collections::HashMap;
use std::ops::Bound;

use chrono::{DateTime, TimeDelta, Utc};
use cohorts_engine::chunks::chunk_of;
use diesel::prelude::*;
use roaring::RoaringBitmap;

use super::delta::MemberDelta;
use super::rows::{self, ChangeRow};
use super::{heads, slices};
use crate::schema::cohorts;
use crate::{CohortId, Conn, ProjectId, Result, ShardKey, members};

/// A change without a published version that is older belongs to a commit that was lost in part.
const ABANDONED: TimeDelta = TimeDelta::minutes(1);
/// The most rows of a page.
const MAX_ROWS: i64 = 1_000;

/// How far a reader has read the log of a project.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FeedPosition {
    /// All changes with lower numbers are read.
    pub number: i64,
    /// The last ordinal of the change with this number that is read; `None` if the whole change is read.
    pub after: Option<u32>,
}

impl FeedPosition {
    /// The position after the change with a number.
    pub fn after(number: i64) -> Self {
        Self {
            number,
            after: None,
        }
    }

    /// The number of the last change that is read as a whole.
    fn finished(self) -> i64 {
        self.number - i64::from(self.after.is_some())
    }
}

/// A person who entered or left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemberChange {
    /// The ordinal of the person.
    pub ordinal: u32,
    /// Whether the person entered; otherwise the person left.
    pub has_entered: bool,
}

/// A page of the feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedPage {
    /// The changes, each with persons in the order of their ordinals.
    pub changes: Vec<(ChangeRow, Vec<MemberChange>)>,
    /// The position to continue from.
    pub position: FeedPosition,
    /// Whether the log has more after the position.
    pub has_more: bool,
}

/// Reads at most `limit` persons from a position on, of these cohorts or of all. Returns `None` if changes after the
/// position are deleted, or if the log does not reach the position, as after a restore from a backup.
///
/// The caller reads in a [`crate::snapshot`].
///
/// # Errors
///
/// [`crate::StoreError::Corrupt`] if a slice cannot be decoded; fails if the database fails.
pub fn feed(
    conn: &mut Conn,
    project: ProjectId,
    cohorts: Option<&[i64]>,
    position: FeedPosition,
    limit: usize,
) -> Result<Option<FeedPage>> {
    let shard_key = project.shard_key();
    let Some(through) = readable(conn, shard_key, position)? else {
        return Ok(None);
    };
    // Each row has a person, so one more row shows whether there is more.
    let most = i64::try_from(limit).map_or(MAX_ROWS, |limit| MAX_ROWS.min(limit.saturating_add(1)));
    let span = (position.finished(), through);
    let rows = match cohorts {
        Some(cohorts) => rows::of_cohorts(conn, shard_key, cohorts, span, most)?,
        None => rows::after(conn, shard_key, span, most)?,
    };
    let is_whole = (rows.len() as i64) < most;
    let last = rows.last().map(|row| row.number);
    let published = published(conn, project, rows)?;
    let end = match published.stop {
        Some(stop) => stop - 1,
        None if is_whole => through,
        None => last.unwrap_or(through),
    };
    let mut page = FeedPage {
        changes: Vec::new(),
        position,
        has_more: false,
    };
    if page.fill(conn, shard_key, published.rows, limit)? {
        page.position = FeedPosition::after(end.max(page.position.number));
        page.has_more = !is_whole && published.stop.is_none();
    } else {
        page.has_more = true;
    }
    Ok(Some(page))
}

/// The number up to which a reader at a position may read; `None` if the log does not have what follows the position.
pub(super) fn readable(
    conn: &mut Conn,
    shard_key: ShardKey,
    position: FeedPosition,
) -> Result<Option<i64>> {
    let Some(head) = heads::head(conn, shard_key)? else {
        return Ok((position == FeedPosition::default()).then_some(0));
    };
    let is_kept = head.expired_through <= position.finished() && position.number <= head.number;
    Ok(is_kept.then_some(head.number))
}

/// Rows with published versions.
pub(super) struct PublishedRows {
    pub(super) rows: Vec<ChangeRow>,
    /// The number of the first row with a version that becomes visible soon. Later rows are left out.
    stop: Option<i64>,
}

/// Removes rows of cohorts that no longer exist, and of versions that are not published.
pub(super) fn published(
    conn: &mut Conn,
    project: ProjectId,
    rows: Vec<ChangeRow>,
) -> Result<PublishedRows> {
    let mut ids: Vec<i64> = rows.iter().map(|row| row.cohort_id).collect();
    ids.sort_unstable();
    ids.dedup();
    let versions: Vec<(i64, i64)> = cohorts::table
        .filter(cohorts::project_id.eq(project.0))
        .filter(cohorts::id.eq_any(ids))
        .select((cohorts::id, cohorts::member_version))
        .load(conn)?;
    let versions: HashMap<i64, i64> = versions.into_iter().collect();
    let abandoned_before = Utc::now() - ABANDONED;
    let mut published = PublishedRows {
        rows: Vec::new(),
        stop: None,
    };
    for row in rows {
        match versions.get(&row.cohort_id) {
            Some(version) if row.version <= *version => published.rows.push(row),
            Some(_) if row.published_at >= abandoned_before => {
                published.stop = Some(row.number);
                break;
            }
            _ => {}
        }
    }
    Ok(published)
}

impl FeedPage {
    /// Adds the persons of rows up to a number of persons. Returns whether all of them fit.
    fn fill(
        &mut self,
        conn: &mut Conn,
        shard_key: ShardKey,
        rows: Vec<ChangeRow>,
        limit: usize,
    ) -> Result<bool> {
        let mut rest = limit;
        let mut deltas = slices::Deltas::new();
        for nth in 0..rows.len() {
            let row = &rows[nth];
            if rest == 0 {
                return Ok(false);
            }
            let after = self
                .position
                .after
                .filter(|_| self.position.number == row.number);
            let persons = if row.bytes > slices::BYTES_TOGETHER {
                persons_of_large(conn, shard_key, row, after, rest)?
            } else {
                let key = (row.cohort_id, row.version);
                if !deltas.contains_key(&key) {
                    let together = slices::count_together(&rows[nth..]);
                    deltas = slices::deltas(conn, shard_key, &rows[nth..nth + together])?;
                }
                persons_after(&deltas[&key], after, rest)
            };
            rest -= persons.changes.len();
            let last = persons.changes.last().map(|change| change.ordinal);
            self.position = FeedPosition {
                number: row.number,
                after: last.filter(|_| persons.has_more),
            };
            if !persons.changes.is_empty() {
                self.changes.push((row.clone(), persons.changes));
            }
            if persons.has_more {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Some persons of a change.
struct Persons {
    changes: Vec<MemberChange>,
    has_more: bool,
}

/// At most `limit` persons of a difference with ordinals above `after`.
fn persons_after(delta: &MemberDelta, after: Option<u32>, limit: usize) -> Persons {
    let persons = delta.persons();
    let first = after.map_or(Bound::Unbounded, Bound::Excluded);
    let mut ordinals = persons.range((first, Bound::Unbounded));
    let change = |ordinal| MemberChange {
        ordinal,
        has_entered: delta.entered.contains(ordinal),
    };
    Persons {
        changes: ordinals.by_ref().take(limit).map(change).collect(),
        has_more: ordinals.next().is_some(),
    }
}

/// As [`persons_after`], for a change with many slices. One slice at a time is in memory.
fn persons_of_large(
    conn: &mut Conn,
    shard_key: ShardKey,
    row: &ChangeRow,
    after: Option<u32>,
    limit: usize,
) -> Result<Persons> {
    let starts = slices::first_chunks(conn, shard_key, row)?;
    let chunk = after.map_or(0, |after| i64::from(chunk_of(after)));
    // The slice with `after` is the last one that begins at or before its chunk.
    let first = starts.partition_point(|start| *start <= chunk).max(1) - 1;
    let mut persons = Persons {
        changes: Vec::new(),
        has_more: false,
    };
    for start in &starts[first.min(starts.len())..] {
        if persons.changes.len() == limit {
            persons.has_more = true;
            break;
        }
        let key = (&[row.cohort_id][..], &[row.version][..]);
        for keyed in slices::read(conn, shard_key, key, *start..start + 1)? {
            let delta = keyed.slice.delta(row.cohort_id)?;
            let more = persons_after(&delta, after, limit - persons.changes.len());
            persons.changes.extend(more.changes);
            persons.has_more = more.has_more;
        }
        if persons.has_more {
            break;
        }
    }
    Ok(persons)
}

/// The members of a cohort, with the position from which the feed continues.
#[derive(Clone, Debug, PartialEq)]
pub struct MemberSnapshot {
    /// The member version.
    pub version: i64,
    /// The time of the last change in the log.
    pub at: Option<DateTime<Utc>>,
    /// The first members with ordinals from that of the caller on: more than the caller wants, or all.
    pub members: RoaringBitmap,
    /// The feed from here on has every later change. It may have earlier ones too, on a distributed Postgres.
    pub position: FeedPosition,
}

/// The members of a cohort with ordinals from `first` on, at least `count` and one more if there are that many, and the
/// position from which the feed continues; `None` if there is no such cohort.
///
/// A reader takes the members in pages, and continues from the position of the first page: a person who changes meanwhile is
/// in the feed.
///
/// # Errors
///
/// [`crate::StoreError::Corrupt`] if a chunk cannot be decoded; fails if the database fails.
pub fn snapshot(
    conn: &mut Conn,
    project: ProjectId,
    cohort: CohortId,
    (first, count): (u32, usize),
) -> Result<Option<MemberSnapshot>> {
    let shard_key = project.shard_key();
    // The head is read first, so every change above it is also in the feed.
    let head = heads::head(conn, shard_key)?;
    let Some(version) = member_version(conn, project, cohort)? else {
        return Ok(None);
    };
    let mut number = head.as_ref().map_or(0, |head| head.number);
    if let Some(unseen) = rows::first_above(conn, shard_key, cohort.0, version)? {
        number = number.min(unseen - 1);
    }
    Ok(Some(MemberSnapshot {
        version,
        at: head.map(|head| head.published_at),
        members: members::read_from(conn, shard_key, (cohort, version), first, count)?,
        position: FeedPosition::after(number),
    }))
}

/// The published member version of a cohort.
pub(super) fn member_version(
    conn: &mut Conn,
    project: ProjectId,
    cohort: CohortId,
) -> Result<Option<i64>> {
    Ok(cohorts::table
        .filter(cohorts::project_id.eq(project.0))
        .filter(cohorts::id.eq(cohort.0))
        .select(cohorts::member_version)
        .first(conn)
        .optional()?)
}
