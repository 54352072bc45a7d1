//! The deleted persons that the log names, so that a purge can forget them together with the changes that name them.

use chrono::{DateTime, TimeDelta, Utc};
use roaring::RoaringBitmap;

use super::{retention, rows, slices};
use crate::tombstones;
use crate::{Conn, ProjectId, Result};

/// Rows that are read together.
const ROWS_AT_ONCE: i64 = 500;
/// Changes that are deleted in one transaction.
const STEP: i64 = 1_000;

/// What a purge of deleted persons removes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PersonPurge {
    /// The persons that no change names afterwards.
    persons: RoaringBitmap,
    /// The time of the last change that names one of them.
    last: Option<DateTime<Utc>>,
}

impl PersonPurge {
    /// The number of persons.
    pub fn count(&self) -> u64 {
        self.persons.len()
    }
}

/// Plans to forget the deleted persons of a project that no change since `time` names.
///
/// # Errors
///
/// [`crate::StoreError::Corrupt`] if a slice cannot be decoded; fails if the database fails.
pub fn plan_purge(conn: &mut Conn, project: ProjectId, time: DateTime<Utc>) -> Result<PersonPurge> {
    let shard_key = project.shard_key();
    let mut persons = tombstones::deleted_with_uuid(conn, shard_key)?;
    let head = super::heads(conn, &[project])?.pop();
    let Some(head) = head.filter(|_| !persons.is_empty()) else {
        return Ok(PersonPurge {
            persons,
            last: None,
        });
    };
    let deleted = persons.clone();
    let mut older: Vec<(DateTime<Utc>, RoaringBitmap)> = Vec::new();
    let mut after = head.expired_through;
    loop {
        let page = rows::after(conn, shard_key, (after, head.number), ROWS_AT_ONCE)?;
        let Some(end) = page.last() else { break };
        after = end.number;
        slices::for_each_delta(conn, shard_key, &page, |row, delta| {
            let named = delta.persons() & &deleted;
            if row.published_at >= time {
                persons -= named;
            } else if !named.is_empty() {
                older.push((row.published_at, named));
            }
            true
        })?;
    }
    let last = older
        .iter()
        .rfind(|(_, named)| !named.is_disjoint(&persons));
    Ok(PersonPurge {
        last: last.map(|(time, _)| *time),
        persons,
    })
}

/// Deletes the changes up to the last one that names a person of the plan, and then the uuids of the persons. Readers with
/// a position before that change begin again.
///
/// # Errors
///
/// Fails if the database fails. It may be repeated.
pub fn purge(conn: &mut Conn, project: ProjectId, plan: &PersonPurge) -> Result<()> {
    if let Some(last) = plan.last
        && let Some(head) = super::heads(conn, &[project])?.pop()
    {
        let end = last + TimeDelta::microseconds(1);
        while retention::delete_oldest(conn, &head, end, STEP)? > 0 {}
    }
    tombstones::forget_uuids(conn, project.shard_key(), &plan.persons)
}
