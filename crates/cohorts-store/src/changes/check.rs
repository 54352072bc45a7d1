//! Checks the members of cohorts against the log, and begins a log again.
//!
//! The check goes back from the members that readers see: each change must end in the state after it, have the counts of
//! its row, and begin at the version of the change before it.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use roaring::RoaringBitmap;

use super::delta::MemberDelta;
use super::feed::member_version;
use super::rows::{self, ChangeRow};
use super::{heads, retention, slices};
use crate::schema::cohorts;
use crate::{CohortId, Conn, ProjectId, Result, ShardKey, members, snapshot, transaction};

/// Rows that are read together.
const ROWS_AT_ONCE: i64 = 500;
/// Changes that one step of [`restart`] deletes.
const STEP: i64 = 1_000;

/// A cohort with members that differ from its log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFinding {
    /// The id of the cohort.
    pub cohort: i64,
    /// What differs.
    pub problem: String,
}

/// Compares the members of all cohorts of a project with the log.
///
/// # Errors
///
/// [`crate::StoreError::Corrupt`] if stored bitmaps cannot be decoded; fails if the database fails.
pub fn check(conn: &mut Conn, project: ProjectId) -> Result<Vec<LogFinding>> {
    let ids: Vec<i64> = cohorts::table
        .filter(cohorts::project_id.eq(project.0))
        .order(cohorts::id)
        .select(cohorts::id)
        .load(conn)?;
    let mut findings = Vec::new();
    for cohort in ids {
        let problem = snapshot(conn, |conn| check_cohort(conn, project, CohortId(cohort)))?;
        findings.extend(problem.map(|problem| LogFinding { cohort, problem }));
    }
    Ok(findings)
}

fn check_cohort(conn: &mut Conn, project: ProjectId, cohort: CohortId) -> Result<Option<String>> {
    let shard_key = project.shard_key();
    let Some(version) = member_version(conn, project, cohort)? else {
        return Ok(None);
    };
    let mut members = members::read(conn, shard_key, cohort, version)?;
    let mut next = version;
    let mut before = i64::MAX;
    loop {
        let key = (version, before);
        let page = rows::before(conn, shard_key, cohort.0, key, ROWS_AT_ONCE)?;
        let mut problem = None;
        slices::for_each_delta(conn, shard_key, &page, |row, delta| {
            problem = check_change(row, delta, next, &mut members);
            (next, before) = (row.base_version, row.number);
            problem.is_none()
        })?;
        if problem.is_some() {
            return Ok(problem);
        }
        if page.is_empty() {
            return missing_changes(conn, shard_key, next);
        }
    }
}

/// Compares a change with the version and the members after it, and then undoes it in `members`.
fn check_change(
    row: &ChangeRow,
    delta: &MemberDelta,
    expected: i64,
    members: &mut RoaringBitmap,
) -> Option<String> {
    let (version, count, logged) = (row.version, members.len(), row.count);
    let sizes = (delta.entered.len() as i64, delta.left.len() as i64);
    if version != expected {
        Some(format!(
            "version {expected} follows a version that is not in the log, after version {version}"
        ))
    } else if count != logged as u64 {
        Some(format!(
            "version {version} has {count} members, and {logged} in the log"
        ))
    } else if sizes != (row.entered, row.left) {
        Some(format!(
            "the change to version {version} lacks some of its persons"
        ))
    } else if !delta.entered.is_subset(members) || !delta.left.is_disjoint(members) {
        Some(format!("version {version} has other members than its log"))
    } else {
        delta.undo(members);
        None
    }
}

/// What is wrong with a log if its oldest change begins at a version.
fn missing_changes(conn: &mut Conn, shard_key: ShardKey, version: i64) -> Result<Option<String>> {
    let head = heads::head(conn, shard_key)?;
    let is_complete = head.is_none_or(|head| head.complete_since == DateTime::UNIX_EPOCH);
    Ok((is_complete && version > 0)
        .then(|| format!("the log does not have the changes up to version {version}")))
}

/// The cohorts of a project with a newest change that is not the last one: a program without the change log has written
/// members since. This reads no members, so it finds fewer differences than [`check`].
///
/// # Errors
///
/// Fails if the database fails.
pub fn gaps(conn: &mut Conn, project: ProjectId) -> Result<Vec<i64>> {
    let rows: Vec<(i64, i64, Option<i64>)> = cohorts::table
        .filter(cohorts::project_id.eq(project.0))
        .order(cohorts::id)
        .select((cohorts::id, cohorts::member_version, cohorts::count))
        .load(conn)?;
    let keys = rows.iter().map(|(id, version, _)| (*id, *version));
    let (ids, versions): (Vec<i64>, Vec<i64>) = keys.unzip();
    let newest = rows::newest_of_cohorts(conn, project.shard_key(), (&ids, &versions))?;
    let newest = newest.into_iter().map(|row| (row.cohort_id, row));
    let newest: HashMap<i64, ChangeRow> = newest.collect();
    let has_gap = |(id, version, count): &(i64, i64, Option<i64>)| {
        let row = newest.get(id);
        row.is_some_and(|row| row.version != *version || Some(row.count) != *count)
    };
    let gaps = rows.iter().filter(|row| has_gap(row));
    Ok(gaps.map(|(id, ..)| *id).collect())
}

/// Deletes the log of a project. Readers begin again, because their positions are no longer valid.
///
/// # Errors
///
/// Fails if the database fails. It may be repeated.
pub fn restart(conn: &mut Conn, project: ProjectId) -> Result<()> {
    let shard_key = project.shard_key();
    // Changes that were lost follow no number, so positions at the last number are invalid too.
    let number = transaction(conn, |conn| heads::take_numbers(conn, shard_key, 1, 0))?.last;
    while let Some(head) = heads::head(conn, shard_key)? {
        if retention::delete_oldest(conn, &head, DateTime::<Utc>::MAX_UTC, STEP)? == 0 {
            break;
        }
    }
    heads::expired(conn, shard_key, number, Utc::now())
}
