//! The rows of cohorts when their members are changed without a calculation: by edits, merges and deletions of persons.

use chrono::Utc;
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt};

use super::greatest;
use crate::changes::StagedMembers;
use crate::schema::cohorts;
use crate::{CohortId, Conn, Result};

/// Locks the row of a cohort until the transaction ends. Returns the member version that readers use, and the last attempt.
pub(crate) fn lock_members(conn: &mut Conn, id: CohortId) -> Result<(i64, i64)> {
    Ok(cohorts::table
        .find(id.0)
        .select((cohorts::member_version, cohorts::attempt))
        .for_update()
        .first(conn)?)
}

/// Sets the member version and the count of a static cohort after an edit of its members. A claim stays valid, because a
/// calculation adds its members to the edited ones.
///
/// # Errors
///
/// Fails if the database fails.
pub fn publish_edit(conn: &mut Conn, id: CohortId, version: i64, count: i64) -> Result<()> {
    diesel::update(cohorts::table.find(id.0))
        .set((
            cohorts::member_version.eq(version),
            cohorts::attempt.eq(attempt_from(version)),
            cohorts::count.eq(count),
            cohorts::last_calculation.eq(Utc::now()),
        ))
        .execute(conn)?;
    Ok(())
}

/// The attempt of a cohort with a new member version. A program of an earlier version writes members under its attempt, so
/// an attempt without a claim is never below the member version.
#[diesel::dsl::auto_type]
fn attempt_from(version: i64) -> _ {
    diesel::dsl::case_when(
        cohorts::lease_until.is_null(),
        greatest(cohorts::attempt, version),
    )
    .otherwise(cohorts::attempt)
}

pub(crate) const PUBLISH_REMOVALS: &str = "\
    update cohorts c set member_version = keys.version, count = keys.count, \
        attempt = case when c.lease_until is null then greatest(c.attempt, keys.version) else c.attempt end \
    from unnest($1, $2, $3) as keys(id, version, count) where c.id = keys.id";

/// Sets the member versions and the counts of locked cohorts after a deletion or a move of persons.
pub(crate) fn publish_removals(conn: &mut Conn, staged: &[StagedMembers]) -> Result<()> {
    let column = |value: fn(&StagedMembers) -> i64| staged.iter().map(value).collect::<Vec<_>>();
    diesel::sql_query(PUBLISH_REMOVALS)
        .bind::<Array<BigInt>, _>(column(|staged| staged.cohort().0))
        .bind::<Array<BigInt>, _>(column(|staged| staged.version))
        .bind::<Array<BigInt>, _>(column(|staged| staged.count))
        .execute(conn)?;
    Ok(())
}
