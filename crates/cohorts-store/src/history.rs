//! The history of a cohort's calculations: a row per claim, finished by the outcome.

use chrono::{DateTime, TimeDelta, Utc};
use diesel::prelude::*;

use crate::schema::calculations;
use crate::{CohortId, Conn, JsonText, Result};

/// Deletes the successful calculations of a cohort that are older than its newest `limit` calculations.
///
/// # Errors
///
/// Fails if the database fails.
pub fn prune(conn: &mut Conn, id: CohortId, limit: i64) -> Result<()> {
    let calculations = calculations::table.filter(calculations::cohort_id.eq(id.0));
    let newest_to_delete: Option<DateTime<Utc>> = calculations
        .order(calculations::started_at.desc())
        .offset(limit)
        .select(calculations::started_at)
        .first(conn)
        .optional()?;
    if let Some(time) = newest_to_delete {
        let old = calculations
            .filter(calculations::started_at.le(time))
            .filter(calculations::count.is_not_null());
        diesel::delete(old).execute(conn)?;
    }
    Ok(())
}

/// A row of `calculations`.
#[derive(Clone, Debug, Queryable, Selectable)]
#[diesel(table_name = calculations)]
pub struct Calculation {
    /// The id, unique among all cohorts.
    pub id: i64,
    /// The filters at the time of the claim.
    pub filters: Option<JsonText>,
    /// The time at which the evaluation started; the time of the claim until the calculation ends.
    pub started_at: DateTime<Utc>,
    /// The time of the outcome; `None` while the calculation runs, or if its worker died.
    pub finished_at: Option<DateTime<Utc>>,
    /// The number of members; `None` unless the calculation succeeded.
    pub count: Option<i64>,
    /// Why the calculation failed.
    pub error: Option<String>,
    /// The code of the failure.
    pub error_code: Option<String>,
}

/// A page of a cohort's calculations, newest first, and the number of all of them.
///
/// # Errors
///
/// Fails if the database fails.
pub fn page(
    conn: &mut Conn,
    id: CohortId,
    limit: i64,
    offset: i64,
) -> Result<(Vec<Calculation>, i64)> {
    let calculations = calculations::table.filter(calculations::cohort_id.eq(id.0));
    let rows = calculations
        .order((calculations::started_at.desc(), calculations::id.desc()))
        .limit(limit)
        .offset(offset)
        .select(Calculation::as_select())
        .load(conn)?;
    Ok((rows, calculations.count().get_result(conn)?))
}

/// The duration of the last successful calculation of a cohort.
///
/// # Errors
///
/// Fails if the database fails.
pub fn last_duration(conn: &mut Conn, id: CohortId) -> Result<Option<TimeDelta>> {
    let times: Option<(DateTime<Utc>, Option<DateTime<Utc>>)> = calculations::table
        .filter(calculations::cohort_id.eq(id.0))
        .filter(calculations::count.is_not_null())
        .order(calculations::started_at.desc())
        .select((calculations::started_at, calculations::finished_at))
        .first(conn)
        .optional()?;
    Ok(times.and_then(|(started_at, finished_at)| Some(finished_at? - started_at)))
}
