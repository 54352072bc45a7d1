//! The calculation queue: every change of a calculation's state.
//!
//! A worker claims cohorts for the length of a lease. All its later writes require the attempt of the claim, so a worker
//! that has lost its claim writes nothing. No transaction is open while a worker evaluates.

use chrono::{DateTime, TimeDelta, Utc};
use diesel::dsl::{count_star, min};
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Nullable};

use crate::cohorts::Cohort;
use crate::schema::{calculations, cohorts};
use crate::{CohortId, Conn, ProjectId, Result, transaction};

mod edits;
mod returned;
#[cfg(test)]
mod tests;

#[cfg(test)]
pub(crate) use edits::PUBLISH_REMOVALS;
pub use edits::publish_edit;
pub(crate) use edits::{lock_members, publish_removals};
pub use returned::{give_back, postpone};

/// The ids of at most `limit` idle cohorts that no pass includes and that are due at `now`, the longest overdue first.
///
/// # Errors
///
/// Fails if the database fails.
pub fn due(conn: &mut Conn, now: DateTime<Utc>, limit: i64) -> Result<Vec<i64>> {
    Ok(cohorts::table
        .filter(diesel::dsl::not(cohorts::deleted))
        .filter(diesel::dsl::not(cohorts::is_static).or(has_pending_fill()))
        .filter(diesel::dsl::not(
            cohorts::is_calculating.or(cohorts::is_live),
        ))
        .filter(cohorts::due_at.is_null().or(cohorts::due_at.le(now)))
        .order((cohorts::due_at.asc().nulls_first(), cohorts::id))
        .select(cohorts::id)
        .limit(limit)
        .load(conn)?)
}

/// The first time after `now` at which an idle cohort that no pass includes is due.
///
/// # Errors
///
/// Fails if the database fails.
pub fn next_due_time(conn: &mut Conn, now: DateTime<Utc>) -> Result<Option<DateTime<Utc>>> {
    Ok(cohorts::table
        .filter(diesel::dsl::not(cohorts::deleted))
        .filter(diesel::dsl::not(
            cohorts::is_calculating.or(cohorts::is_live),
        ))
        .filter(cohorts::due_at.gt(now))
        .select(min(cohorts::due_at))
        .first(conn)?)
}

/// The cohorts that wait for a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Queryable)]
pub struct Backlog {
    /// The number of cohorts.
    pub count: i64,
    /// The time of the oldest unanswered request; `None` if no cohort waits.
    pub waiting_since: Option<DateTime<Utc>>,
}

/// The cohorts that wait for a worker at `now`.
///
/// # Errors
///
/// Fails if the database fails.
pub fn backlog(conn: &mut Conn, now: DateTime<Utc>) -> Result<Backlog> {
    Ok(waiting(now)
        .select((count_star(), min(cohorts::waiting_since)))
        .first(conn)?)
}

/// Whether a static cohort waits for its first fill.
#[diesel::dsl::auto_type]
fn has_pending_fill() -> _ {
    cohorts::fill_pending_criteria.or(cohorts::fill_pending_query)
}

/// Requests calculations of the cohorts among `ids` that are live and idle, and either dynamic or not filled yet.
/// Returns their number.
///
/// # Errors
///
/// Fails if the database fails.
pub fn request_if_idle(conn: &mut Conn, ids: &[i64]) -> Result<usize> {
    let idle = cohorts::table
        .filter(cohorts::id.eq_any(ids))
        .filter(diesel::dsl::not(cohorts::deleted))
        .filter(diesel::dsl::not(cohorts::is_static).or(has_pending_fill()))
        .filter(diesel::dsl::not(cohorts::is_calculating));
    Ok(diesel::update(idle)
        .set((
            cohorts::is_calculating.eq(true),
            cohorts::waiting_since.eq(waiting_since_or(Some(Utc::now()))),
            cohorts::pending_version.eq(coalesce(cohorts::pending_version, 0) + 1),
        ))
        .execute(conn)?)
}

/// The row of a claimed cohort; no row if the claim is lost.
macro_rules! claimed_row {
    ($cohort:expr) => {
        cohorts::table
            .filter(cohorts::id.eq($cohort.id))
            .filter(cohorts::attempt.eq($cohort.attempt))
    };
}

/// Locks the ids of a project's waiting cohorts that no other worker is claiming, in the order in which they are claimed.
macro_rules! waiting_of {
    ($project:expr, $now:expr) => {
        waiting($now)
            .filter(cohorts::project_id.eq($project.0))
            .order((cohorts::last_calculation.asc().nulls_first(), cohorts::id))
            .select(cohorts::id)
            .for_update()
            .skip_locked()
    };
}

/// The first project after `after`, in the order of ids, with a cohort that waits at `now`; without one, the first of all.
///
/// # Errors
///
/// Fails if the database fails.
pub fn next_project(
    conn: &mut Conn,
    after: ProjectId,
    now: DateTime<Utc>,
) -> Result<Option<ProjectId>> {
    let project: Option<i64> = waiting(now)
        .order((cohorts::project_id.le(after.0), cohorts::project_id))
        .select(cohorts::project_id)
        .first(conn)
        .optional()?;
    Ok(project.map(ProjectId))
}

/// The time from which a worker may claim the first of the requested cohorts; `None` if there are none. It may be over.
///
/// # Errors
///
/// Fails if the database fails.
pub fn next_claim_time(conn: &mut Conn) -> Result<Option<DateTime<Utc>>> {
    let requested = cohorts::table
        .filter(cohorts::is_calculating)
        .filter(diesel::dsl::not(cohorts::deleted));
    let lease: Option<Option<DateTime<Utc>>> = requested
        .order(cohorts::lease_until.asc().nulls_first())
        .select(cohorts::lease_until)
        .first(conn)
        .optional()?;
    Ok(lease.map(|lease| lease.unwrap_or(DateTime::UNIX_EPOCH)))
}

/// Claims at most `limit` waiting cohorts of a project for the length of a lease, in the order of their last
/// calculations. Cohorts that were never calculated come first.
///
/// A cohort with a failed last calculation comes after all others, and is claimed alone.
///
/// # Errors
///
/// Fails if the database fails.
pub fn claim(
    conn: &mut Conn,
    project: ProjectId,
    lease: TimeDelta,
    limit: usize,
) -> Result<Vec<Cohort>> {
    transaction(conn, |conn| {
        let now = Utc::now();
        let mut ids: Vec<i64> = waiting_of!(project, now)
            .filter(cohorts::errors_calculating.eq(0))
            .limit(limit as i64)
            .load(conn)?;
        if ids.is_empty() {
            ids = waiting_of!(project, now).limit(1).load(conn)?;
        }
        start_attempts(conn, &ids, lease)
    })
}

/// The waiting cohorts without a valid lease.
#[diesel::dsl::auto_type]
fn waiting(now: DateTime<Utc>) -> _ {
    cohorts::table
        .filter(cohorts::is_calculating)
        .filter(diesel::dsl::not(cohorts::deleted))
        .filter(
            cohorts::lease_until
                .is_null()
                .or(cohorts::lease_until.lt(now)),
        )
}

/// Starts an attempt and a history entry for each cohort, and returns the cohorts in the order of `ids`.
fn start_attempts(conn: &mut Conn, ids: &[i64], lease: TimeDelta) -> Result<Vec<Cohort>> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    delete_unfinished_entries(conn, ids)?;
    let mut claimed: Vec<Cohort> = diesel::update(cohorts::table.filter(cohorts::id.eq_any(ids)))
        .set((
            cohorts::attempt.eq(greatest(cohorts::attempt, cohorts::member_version) + 1),
            cohorts::lease_until.eq(Utc::now() + lease),
            cohorts::is_live.eq(false),
        ))
        .returning(Cohort::as_returning())
        .get_results(conn)?;
    claimed.sort_by_key(|cohort| ids.iter().position(|id| *id == cohort.id));
    let entry = |cohort: &Cohort| {
        (
            calculations::cohort_id.eq(cohort.id),
            calculations::version.eq(cohort.pending_version.unwrap_or(0)),
            calculations::attempt.eq(cohort.attempt),
            calculations::filters.eq(cohort.definition.filters().cloned()),
            calculations::started_at.eq(Utc::now()),
        )
    };
    diesel::insert_into(calculations::table)
        .values(claimed.iter().map(entry).collect::<Vec<_>>())
        .execute(conn)?;
    Ok(claimed)
}

/// Deletes the history entries of lost claims.
fn delete_unfinished_entries(conn: &mut Conn, ids: &[i64]) -> Result<()> {
    let entries = calculations::table
        .filter(calculations::cohort_id.eq_any(ids))
        .filter(calculations::finished_at.is_null());
    diesel::delete(entries).execute(conn)?;
    Ok(())
}

/// Extends the lease of a claimed cohort to `lease` from now. Returns false if the claim is lost.
///
/// # Errors
///
/// Fails if the database fails.
pub fn renew_lease(conn: &mut Conn, claimed: &Cohort, lease: TimeDelta) -> Result<bool> {
    let rows = diesel::update(claimed_row!(claimed).filter(cohorts::lease_until.is_not_null()))
        .set(cohorts::lease_until.eq(Utc::now() + lease))
        .execute(conn)?;
    Ok(rows == 1)
}

/// Locks the row of a claimed cohort until the transaction ends. Returns the member version that readers use, or `None` if
/// the claim is lost.
///
/// # Errors
///
/// Fails if the database fails.
pub fn lock_claimed(conn: &mut Conn, claimed: &Cohort) -> Result<Option<i64>> {
    Ok(claimed_row!(claimed)
        .select(cohorts::member_version)
        .for_update()
        .first(conn)
        .optional()?)
}

/// Ends the claim on a cohort: a worker that has claimed it publishes nothing.
///
/// # Errors
///
/// Fails if the database fails.
pub fn revoke_claim(conn: &mut Conn, id: CohortId) -> Result<()> {
    diesel::update(cohorts::table.find(id.0))
        .set((
            cohorts::attempt.eq(cohorts::attempt + 1),
            cohorts::lease_until.eq(None::<DateTime<Utc>>),
        ))
        .execute(conn)?;
    delete_unfinished_entries(conn, &[id.0])
}

/// The state of the project that a calculation evaluated.
#[derive(Clone, Copy, Debug)]
pub struct Evaluated {
    /// The moment that the calculation used as "now".
    pub at: DateTime<Utc>,
    /// The time of the next check; `None` if no check is needed.
    pub due_at: Option<DateTime<Utc>>,
    /// The last sequence number of the log that the calculation included.
    pub seen_seq: i64,
}

/// Members that are about to become visible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublishedMembers {
    /// The member version that readers use from now on.
    pub version: i64,
    /// The number of members.
    pub count: i64,
}

/// Ends a calculation with success: the members that `members` returns are those that readers use.
///
/// `members` is called with the current member version while the cohort is locked, and returns `None` to publish nothing.
/// Returns the number of members; or `None` if nothing was published, also because the claim is lost.
///
/// # Errors
///
/// Returns the error of `members`, and fails if the database fails.
pub fn publish(
    conn: &mut Conn,
    claimed: &Cohort,
    started_at: DateTime<Utc>,
    evaluated: Evaluated,
    members: impl FnOnce(&mut Conn, i64) -> Result<Option<PublishedMembers>>,
) -> Result<Option<i64>> {
    transaction(conn, |conn| {
        let Some(current) = lock_claimed(conn, claimed)? else {
            return Ok(None);
        };
        let Some(PublishedMembers { version, count }) = members(conn, current)? else {
            return Ok(None);
        };
        diesel::update(claimed_row!(claimed))
            .set(
                (
                    cohorts::version.eq(claimed.pending_version),
                    cohorts::member_version.eq(version),
                    cohorts::attempt.eq(greatest(cohorts::attempt, version)),
                    cohorts::seen_seq.eq(evaluated.seen_seq),
                    cohorts::count.eq(count),
                    cohorts::last_calculation.eq(evaluated.at),
                    cohorts::errors_calculating.eq(0),
                    cohorts::due_at.eq(evaluated.due_at),
                    cohorts::lease_until.eq(None::<DateTime<Utc>>),
                    cohorts::is_calculating.eq(has_newer_request(claimed.pending_version)),
                    cohorts::fill_pending_criteria.eq(false),
                    cohorts::criteria_changed
                        .eq(cohorts::criteria_changed
                            .and(has_newer_request(claimed.pending_version))),
                    cohorts::fill_pending_query
                        .eq(cohorts::fill_pending_query
                            .and(has_newer_request(claimed.pending_version))),
                ),
            )
            .execute(conn)?;
        finish_entry(conn, claimed, started_at, Ok(count))?;
        Ok(Some(count))
    })
}

/// Why a calculation failed.
#[derive(Clone, Copy, Debug)]
struct FailureText<'a> {
    code: &'a str,
    error: &'a str,
}

/// Ends a calculation with a failure: the members stay as they are, and the cohort is due again at `due_at`. Does nothing
/// if the claim is lost.
///
/// # Errors
///
/// Fails if the database fails.
pub fn fail(
    conn: &mut Conn,
    claimed: &Cohort,
    started_at: DateTime<Utc>,
    due_at: DateTime<Utc>,
    code: &str,
    error: &str,
) -> Result<()> {
    // A text column cannot contain NUL, which the criteria, and so the error, may contain.
    let error = &error.replace('\0', "\u{fffd}");
    transaction(conn, |conn| {
        let rows = diesel::update(claimed_row!(claimed))
            .set((
                cohorts::errors_calculating.eq(cohorts::errors_calculating + 1),
                cohorts::last_error_code.eq(code),
                cohorts::last_error.eq(error),
                cohorts::due_at.eq(due_at),
                cohorts::lease_until.eq(None::<DateTime<Utc>>),
                cohorts::is_calculating.eq(has_newer_request(claimed.pending_version)),
            ))
            .execute(conn)?;
        if rows == 1 {
            finish_entry(conn, claimed, started_at, Err(FailureText { code, error }))?;
        }
        Ok(())
    })
}

/// Whether a calculation was requested after the one with this version.
#[diesel::dsl::auto_type]
fn has_newer_request(version: Option<i64>) -> _ {
    cohorts::pending_version.is_distinct_from(version)
}

/// Writes the outcome of a calculation, the number of members or the failure, into its history entry.
fn finish_entry(
    conn: &mut Conn,
    claimed: &Cohort,
    started_at: DateTime<Utc>,
    outcome: Result<i64, FailureText<'_>>,
) -> Result<()> {
    let failure = outcome.err();
    let entry = calculations::table
        .filter(calculations::cohort_id.eq(claimed.id))
        .filter(calculations::attempt.eq(claimed.attempt));
    diesel::update(entry)
        .set((
            calculations::started_at.eq(started_at),
            calculations::finished_at.eq(Utc::now()),
            calculations::count.eq(outcome.ok()),
            calculations::error_code.eq(failure.map(|failure| failure.code)),
            calculations::error.eq(failure.map(|failure| failure.error)),
        ))
        .execute(conn)?;
    Ok(())
}

/// Requests calculations of these cohorts, because their criteria or what these refer to was changed. A worker sees the
/// requests after the commit.
///
/// # Errors
///
/// Fails if the database fails.
pub fn request_calculations(conn: &mut Conn, ids: &[i64]) -> Result<()> {
    diesel::update(cohorts::table.filter(cohorts::id.eq_any(ids)))
        .set((
            cohorts::criteria_changed.eq(true),
            cohorts::is_calculating.eq(true),
            cohorts::waiting_since.eq(waiting_since_or(Some(Utc::now()))),
            cohorts::pending_version.eq(coalesce(cohorts::pending_version, 0) + 1),
        ))
        .execute(conn)?;
    Ok(())
}

/// Requests the calculation of one cohort.
///
/// # Errors
///
/// Fails if the database fails.
pub fn request_calculation(conn: &mut Conn, id: CohortId) -> Result<()> {
    request_calculations(conn, &[id.0])
}

/// Cancels the requests of a cohort. A calculation in progress still ends, and no other follows.
///
/// # Errors
///
/// Fails if the database fails.
pub fn cancel_calculation(conn: &mut Conn, id: CohortId) -> Result<()> {
    diesel::update(cohorts::table.find(id.0))
        .set(cohorts::is_calculating.eq(false))
        .execute(conn)?;
    Ok(())
}

/// Marks the first fill of a static cohort from its criteria as pending, and requests it unless the cohort is deleted.
/// This does not count as a version.
///
/// # Errors
///
/// Fails if the database fails.
pub fn set_fill_pending_criteria(conn: &mut Conn, id: CohortId, deleted: bool) -> Result<()> {
    diesel::update(cohorts::table.find(id.0))
        .set((
            cohorts::fill_pending_criteria.eq(true),
            cohorts::is_calculating.eq(!deleted),
            cohorts::waiting_since.eq(waiting_since_or(Some(Utc::now()))),
        ))
        .execute(conn)?;
    Ok(())
}

/// Marks the first fill of a static cohort from its query as pending, and requests it unless the cohort is deleted. The
/// request counts as a version, so a calculation in progress does not answer it.
///
/// # Errors
///
/// Fails if the database fails.
pub fn set_fill_pending_query(conn: &mut Conn, id: CohortId, deleted: bool) -> Result<()> {
    diesel::update(cohorts::table.find(id.0))
        .set((
            cohorts::fill_pending_query.eq(true),
            cohorts::pending_version.eq(coalesce(cohorts::pending_version, 0) + 1),
            cohorts::is_calculating.eq(!deleted),
            cohorts::waiting_since.eq(waiting_since_or(Some(Utc::now()))),
        ))
        .execute(conn)?;
    Ok(())
}

/// Clears both pending fills of a cohort that has become dynamic.
///
/// # Errors
///
/// Fails if the database fails.
pub fn clear_pending_fills(conn: &mut Conn, id: CohortId) -> Result<()> {
    diesel::update(cohorts::table.find(id.0))
        .set((
            cohorts::fill_pending_criteria.eq(false),
            cohorts::fill_pending_query.eq(false),
        ))
        .execute(conn)?;
    Ok(())
}

/// Clears the pending fill from the query of a cohort that no longer has one. A fill from the criteria stays pending.
///
/// # Errors
///
/// Fails if the database fails.
pub fn clear_fill_pending_query(conn: &mut Conn, id: CohortId) -> Result<()> {
    diesel::update(cohorts::table.find(id.0))
        .set(cohorts::fill_pending_query.eq(false))
        .execute(conn)?;
    Ok(())
}

/// Requests the pending fills of a static cohort; without any, the cohort becomes idle.
///
/// # Errors
///
/// Fails if the database fails.
pub fn request_pending_fill(conn: &mut Conn, id: CohortId) -> Result<()> {
    diesel::update(cohorts::table.find(id.0))
        .set((
            cohorts::is_calculating
                .eq(cohorts::fill_pending_criteria.or(cohorts::fill_pending_query)),
            cohorts::waiting_since.eq(waiting_since_or(Some(Utc::now()))),
        ))
        .execute(conn)?;
    Ok(())
}

/// The value of `waiting_since` for a request at `time`: an unanswered earlier request keeps its time.
#[diesel::dsl::auto_type]
fn waiting_since_or(time: Option<DateTime<Utc>>) -> _ {
    diesel::dsl::case_when(cohorts::is_calculating, cohorts::waiting_since).otherwise(time)
}

diesel::define_sql_function! {
    /// `value`, or `otherwise` if it is null.
    fn coalesce(value: Nullable<BigInt>, otherwise: Nullable<BigInt>) -> Nullable<BigInt>;
}
diesel::define_sql_function! {
    /// The greater of two numbers.
    fn greatest(first: BigInt, second: BigInt) -> BigInt;
}
