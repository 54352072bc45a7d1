//! Claimed cohorts that return to the queue: at once, or after a pause that follows a transient failure.

use std::ops::RangeInclusive;

use chrono::{DateTime, TimeDelta, Utc};
use diesel::prelude::*;

use crate::cohorts::Cohort;
use crate::schema::{calculations, cohorts};
use crate::{Conn, Result, transaction};

/// Returns a claimed cohort to the queue and deletes its history entry. Does nothing if the claim is lost.
///
/// # Errors
///
/// Fails if the database fails.
pub fn give_back(conn: &mut Conn, claimed: &Cohort) -> Result<()> {
    return_until(conn, claimed, None)
}

/// Returns a claimed cohort to the queue after a transient failure: its request stays unanswered, and the failure is not
/// counted. No worker claims it during a pause as long as the request has waited, within `pauses`: so the pause doubles.
/// Does nothing if the claim is lost.
///
/// # Errors
///
/// Fails if the database fails.
pub fn postpone(
    conn: &mut Conn,
    claimed: &Cohort,
    pauses: RangeInclusive<TimeDelta>,
) -> Result<()> {
    let since: Option<Option<DateTime<Utc>>> = row(claimed)
        .select(cohorts::waiting_since)
        .first(conn)
        .optional()?;
    let Some(since) = since else {
        return Ok(());
    };
    let now = Utc::now();
    let waited = since.map_or(TimeDelta::zero(), |since| now - since);
    return_until(
        conn,
        claimed,
        Some(now + waited.clamp(*pauses.start(), *pauses.end())),
    )
}

/// Ends the claim. The lease without a worker lasts until `time`.
fn return_until(conn: &mut Conn, claimed: &Cohort, time: Option<DateTime<Utc>>) -> Result<()> {
    transaction(conn, |conn| {
        let rows = diesel::update(row(claimed))
            .set((
                cohorts::lease_until.eq(time),
                // The worker that has lost the claim writes nothing.
                cohorts::attempt.eq(cohorts::attempt + i64::from(time.is_some())),
            ))
            .execute(conn)?;
        if rows == 1 {
            let entry = calculations::table
                .filter(calculations::cohort_id.eq(claimed.id))
                .filter(calculations::attempt.eq(claimed.attempt));
            diesel::delete(entry).execute(conn)?;
        }
        Ok(())
    })
}

/// The row of a claimed cohort; no row if the claim is lost.
#[diesel::dsl::auto_type]
fn row(claimed: &Cohort) -> _ {
    let (id, attempt): (i64, i64) = (claimed.id, claimed.attempt);
    cohorts::table
        .filter(cohorts::id.eq(id))
        .filter(cohorts::attempt.eq(attempt))
}
