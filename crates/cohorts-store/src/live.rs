//! Live cohorts: their rows as a pass reads and writes them, and the process that makes the passes of a project.
//!
//! A cohort is live if each pass includes it. Then its members are right as of `right_as_of` of the project, or as of its own
//! evaluation if that is later. Each claim by the queue ends this, and the first pass after the calculation begins it again.

mod leases;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Text, Timestamptz};

use crate::cohorts::Cohort;
use crate::schema::{cohorts, live_projects};
use crate::{Conn, JsonText, ProjectId, Result};

pub use leases::{Holder, ProjectLease, hold, projects, release, renew, take};
#[cfg(test)]
pub(crate) use leases::{RENEW, STAMPS};
pub use leases::{Stamp, stamps};

/// What tells whether a cohort has changed since the last pass.
#[derive(Clone, Debug, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = cohorts)]
pub struct LiveRow {
    /// The id of the cohort.
    pub id: i64,
    /// Whether the members are a list.
    pub is_static: bool,
    /// Whether the cohort is deleted.
    pub deleted: bool,
    /// The version of the members that readers use.
    pub member_version: i64,
    /// The last attempt at the members.
    pub attempt: i64,
    /// The number of requested calculations.
    pub pending_version: Option<i64>,
    /// Whether a requested calculation is not finished.
    pub is_calculating: bool,
    /// Failed calculations since the last successful one.
    pub errors_calculating: i64,
    /// Whether each pass includes the cohort.
    pub is_live: bool,
}

/// The rows of all cohorts of a project, sorted by id.
///
/// # Errors
///
/// Fails if the database fails.
pub fn rows(conn: &mut Conn, project: ProjectId) -> Result<Vec<LiveRow>> {
    Ok(cohorts::table
        .filter(cohorts::project_id.eq(project.0))
        .order(cohorts::id)
        .select(LiveRow::as_select())
        .load(conn)?)
}

/// These cohorts, each with the state of its last evaluation, sorted by id.
///
/// # Errors
///
/// Fails if the database fails.
pub fn load(conn: &mut Conn, ids: &[i64]) -> Result<Vec<(Cohort, Option<JsonText>)>> {
    Ok(cohorts::table
        .filter(cohorts::id.eq_any(ids))
        .order(cohorts::id)
        .select((Cohort::as_select(), cohorts::evaluation))
        .load(conn)?)
}

/// Locks the rows of these cohorts until the transaction ends.
///
/// # Errors
///
/// Fails if the database fails.
pub fn lock(conn: &mut Conn, ids: &[i64]) -> Result<BTreeMap<i64, LiveRow>> {
    let rows: Vec<LiveRow> = cohorts::table
        .filter(cohorts::id.eq_any(ids))
        .order(cohorts::id)
        .select(LiveRow::as_select())
        .for_update()
        .load(conn)?;
    Ok(rows.into_iter().map(|row| (row.id, row)).collect())
}

/// What a pass has found out about a cohort.
#[derive(Clone, Debug)]
pub struct LiveMembers {
    /// The id of the cohort.
    pub cohort: i64,
    /// The member version that readers use from now on.
    pub version: i64,
    /// The number of members.
    pub count: i64,
    /// The state of the evaluation, as JSON text.
    pub evaluation: String,
}

pub(crate) const PUBLISH_LIVE: &str = "\
    update cohorts c set member_version = keys.version, attempt = greatest(c.attempt, keys.version), \
        count = keys.count, evaluation = keys.evaluation::json, last_calculation = $5, seen_seq = $6, \
        is_live = true, due_at = null \
    from unnest($1, $2, $3, $4) as keys(id, version, count, evaluation) where c.id = keys.id";

/// Sets the versions and the counts of locked cohorts after a pass that was right as of `at` and `seen_seq`.
///
/// # Errors
///
/// Fails if the database fails.
pub fn publish(
    conn: &mut Conn,
    members: &[LiveMembers],
    at: DateTime<Utc>,
    seen_seq: i64,
) -> Result<()> {
    let column = |value: fn(&LiveMembers) -> i64| members.iter().map(value).collect::<Vec<_>>();
    let evaluations = members.iter().map(|members| members.evaluation.as_str());
    diesel::sql_query(PUBLISH_LIVE)
        .bind::<Array<BigInt>, _>(column(|members| members.cohort))
        .bind::<Array<BigInt>, _>(column(|members| members.version))
        .bind::<Array<BigInt>, _>(column(|members| members.count))
        .bind::<Array<Text>, _>(evaluations.collect::<Vec<_>>())
        .bind::<Timestamptz, _>(at)
        .bind::<BigInt, _>(seen_seq)
        .execute(conn)?;
    Ok(())
}

pub(crate) const JOIN: &str = "\
    update cohorts c set is_live = true, due_at = null from unnest($1, $2) as keys(id, attempt) \
    where c.id = keys.id and c.attempt = keys.attempt and not c.is_calculating";

/// Makes cohorts live that a pass has included without another member. Each has the id and the attempt that the pass has
/// seen; a cohort with another attempt stays as it is.
///
/// # Errors
///
/// Fails if the database fails.
pub fn join(conn: &mut Conn, cohorts: &[(i64, i64)]) -> Result<()> {
    if cohorts.is_empty() {
        return Ok(());
    }
    let (ids, attempts): (Vec<i64>, Vec<i64>) = cohorts.iter().copied().unzip();
    diesel::sql_query(JOIN)
        .bind::<Array<BigInt>, _>(ids)
        .bind::<Array<BigInt>, _>(attempts)
        .execute(conn)?;
    Ok(())
}

/// Records what the members of a claimed cohort were calculated from; `None` if no pass can advance them.
///
/// # Errors
///
/// Fails if the database fails.
pub fn record_evaluation(conn: &mut Conn, id: i64, evaluation: Option<String>) -> Result<()> {
    diesel::update(cohorts::table.find(id))
        .set(cohorts::evaluation.eq(evaluation.map(JsonText)))
        .execute(conn)?;
    Ok(())
}

/// Takes a cohort out of the passes until its next calculation, which the queue begins at `due_at` at the latest.
///
/// # Errors
///
/// Fails if the database fails.
pub fn leave(conn: &mut Conn, id: i64, due_at: DateTime<Utc>) -> Result<()> {
    let idle = cohorts::table
        .find(id)
        .filter(diesel::dsl::not(cohorts::is_calculating));
    diesel::update(idle)
        .set((cohorts::is_live.eq(false), cohorts::due_at.eq(due_at)))
        .execute(conn)?;
    Ok(())
}

/// Sets `last_calculation` of live cohorts of a project to the moment up to which their members are right.
///
/// # Errors
///
/// Fails if the database fails.
pub fn set_times<'a>(
    conn: &mut Conn,
    project: ProjectId,
    rows: impl Iterator<Item = &'a mut Cohort>,
) -> Result<()> {
    let is_live = |cohort: &&mut Cohort| {
        let stays = !cohort.definition.is_static && !cohort.definition.deleted;
        stays && cohort.is_live && !cohort.is_calculating
    };
    let live = rows.filter(is_live);
    let mut live: Vec<&mut Cohort> = live.collect();
    if live.is_empty() {
        return Ok(());
    }
    let right_as_of: Option<DateTime<Utc>> = live_projects::table
        .find(project.0)
        .select(live_projects::right_as_of)
        .first(conn)
        .optional()?;
    for cohort in &mut live {
        cohort.last_calculation = cohort.last_calculation.max(right_as_of);
    }
    Ok(())
}

/// The live and the other dynamic cohorts of all projects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LiveCounts {
    /// Cohorts that each pass includes.
    pub live: i64,
    /// The others, with older members or none.
    pub behind: i64,
}

/// Counts the dynamic cohorts that are not deleted.
///
/// # Errors
///
/// Fails if the database fails.
pub fn counts(conn: &mut Conn) -> Result<LiveCounts> {
    let counts: Vec<(bool, i64)> = cohorts::table
        .filter(diesel::dsl::not(cohorts::deleted))
        .filter(diesel::dsl::not(cohorts::is_static))
        .group_by(cohorts::is_live)
        .select((cohorts::is_live, diesel::dsl::count_star()))
        .load(conn)?;
    let of = |wanted: bool| {
        let counts = counts.iter().filter(|(is_live, _)| *is_live == wanted);
        counts.map(|(_, count)| count).sum()
    };
    Ok(LiveCounts {
        live: of(true),
        behind: of(false),
    })
}
