//! The history of a cohort's calculations: a row per claim, finished by the outcome.

use chrono::{DateTime, TimeDelta, Utc};
use diesel::prelude::*;
use diesel::sql_types::{Nullable, Text};

use crate::pages::{PageIds, RowSize, octet_length};
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

/// The page of a cohort's calculations, newest first.
///
/// # Errors
///
/// Fails if the database fails.
pub fn page(conn: &mut Conn, cohort: CohortId, limit: i64, offset: i64) -> Result<PageIds> {
    let calculations = calculations::table.filter(calculations::cohort_id.eq(cohort.0));
    let ids = calculations
        .order((calculations::started_at.desc(), calculations::id.desc()))
        .limit(limit)
        .offset(offset)
        .select(calculations::id)
        .load(conn)?;
    let count = calculations.count().get_result(conn)?;
    Ok(PageIds { ids, count })
}

/// The sizes of the cohort's calculations `ids`.
///
/// # Errors
///
/// Fails if the database fails.
pub fn sizes(conn: &mut Conn, cohort: CohortId, ids: &[i64]) -> Result<Vec<RowSize>> {
    let rows: Vec<(i64, Option<i32>, Option<i32>)> = calculations::table
        .filter(calculations::cohort_id.eq(cohort.0))
        .filter(calculations::id.eq_any(ids))
        .select((
            calculations::id,
            octet_length(calculations::filters.cast::<Nullable<Text>>()),
            octet_length(calculations::error),
        ))
        .load(conn)?;
    let sizes = rows
        .into_iter()
        .map(|(id, filters, error)| RowSize::new(id, [filters, error]));
    Ok(sizes.collect())
}

/// The cohort's calculations `ids`, newest first.
///
/// # Errors
///
/// Fails if the database fails.
pub fn by_ids(conn: &mut Conn, cohort: CohortId, ids: &[i64]) -> Result<Vec<Calculation>> {
    Ok(calculations::table
        .filter(calculations::cohort_id.eq(cohort.0))
        .filter(calculations::id.eq_any(ids))
        .order((calculations::started_at.desc(), calculations::id.desc()))
        .select(Calculation::as_select())
        .load(conn)?)
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
