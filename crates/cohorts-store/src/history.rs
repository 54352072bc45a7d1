//! The history of a cohort's calculations: a row per claim, finished by the outcome.
//!
//! The upkeep deletes rows that are too old or too many, and those of attempts that ended without an outcome.

use chrono::{DateTime, TimeDelta, Utc};
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Nullable, Text, Timestamptz};

use crate::pages::{PageIds, RowSize, octet_length};
use crate::schema::{calculations, cohorts};
use crate::{CohortId, Conn, JsonText, ProjectId, Result};

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

/// The calculations of a cohort, if it belongs to the project.
#[diesel::dsl::auto_type(no_type_alias)]
fn calculations_of(project: i64, cohort: i64) -> _ {
    let ids = cohorts::table
        .filter(cohorts::project_id.eq(project).and(cohorts::id.eq(cohort)))
        .select(cohorts::id);
    calculations::table.filter(calculations::cohort_id.eq_any(ids))
}

/// The page of the calculations of a cohort of the project, newest first.
///
/// # Errors
///
/// Fails if the database fails.
pub fn page(
    conn: &mut Conn,
    project: ProjectId,
    cohort: CohortId,
    limit: i64,
    offset: i64,
) -> Result<PageIds> {
    let calculations = calculations_of(project.0, cohort.0);
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
pub fn sizes(
    conn: &mut Conn,
    project: ProjectId,
    cohort: CohortId,
    ids: &[i64],
) -> Result<Vec<RowSize>> {
    let rows: Vec<(i64, Option<i32>, Option<i32>)> = calculations_of(project.0, cohort.0)
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
pub fn by_ids(
    conn: &mut Conn,
    project: ProjectId,
    cohort: CohortId,
    ids: &[i64],
) -> Result<Vec<Calculation>> {
    Ok(calculations_of(project.0, cohort.0)
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

/// The calculations of a cohort that exceed an age or a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, QueryableByName)]
pub struct CalculationTimes {
    /// The id of the cohort.
    #[diesel(sql_type = BigInt)]
    pub cohort: i64,
    /// The start of the newest calculation; `None` if there is none.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub newest: Option<DateTime<Utc>>,
    /// The start of the oldest calculation.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub oldest: Option<DateTime<Utc>>,
    /// The start of the newest calculation that exceeds the number; `None` if none does.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub newest_excess: Option<DateTime<Utc>>,
}

pub(crate) const TIMES: &str = "\
    select c.id as cohort, \
        (select started_at from calculations where cohort_id = c.id order by started_at desc limit 1) as newest, \
        (select started_at from calculations where cohort_id = c.id order by started_at limit 1) as oldest, \
        (select started_at from calculations where cohort_id = c.id order by started_at desc offset $2 limit 1) \
            as newest_excess \
    from (select id from cohorts where id > $1 order by id limit $3) c order by c.id";

/// The `limit` cohorts with the next ids above `after`, each with the newest calculation that has at least `number` newer
/// ones.
///
/// # Errors
///
/// Fails if the database fails.
pub fn times(
    conn: &mut Conn,
    after: i64,
    number: i64,
    limit: i64,
) -> Result<Vec<CalculationTimes>> {
    Ok(diesel::sql_query(TIMES)
        .bind::<BigInt, _>(after)
        .bind::<BigInt, _>(number)
        .bind::<BigInt, _>(limit)
        .load(conn)?)
}

/// Deletes calculations of a cohort that started up to `through` and before `newest`, at most `limit` of them. Returns
/// their number.
///
/// # Errors
///
/// Fails if the database fails.
pub fn delete_through(
    conn: &mut Conn,
    cohort: i64,
    through: DateTime<Utc>,
    newest: DateTime<Utc>,
    limit: i64,
) -> Result<usize> {
    let ids: Vec<i64> = calculations::table
        .filter(calculations::cohort_id.eq(cohort))
        .filter(calculations::started_at.le(through))
        .filter(calculations::started_at.lt(newest))
        .order(calculations::started_at)
        .limit(limit)
        .select(calculations::id)
        .load(conn)?;
    Ok(diesel::delete(calculations::table.filter(calculations::id.eq_any(ids))).execute(conn)?)
}

/// Deletes unfinished calculations without a worker: those of replaced attempts, and those with a lease that ended before
/// `time`. Returns their number, which is at most `limit`.
///
/// A worker with an expired lease can still end its calculation, so `time` must be long ago.
///
/// # Errors
///
/// Fails if the database fails.
pub fn delete_abandoned(conn: &mut Conn, time: DateTime<Utc>, limit: i64) -> Result<usize> {
    let is_replaced = calculations::attempt.ne(cohorts::attempt);
    let has_ended = cohorts::lease_until
        .is_null()
        .or(cohorts::lease_until.lt(time));
    let ids: Vec<i64> = calculations::table
        .inner_join(cohorts::table)
        .filter(calculations::finished_at.is_null())
        .filter(is_replaced.or(has_ended))
        .limit(limit)
        .select(calculations::id)
        .load(conn)?;
    let abandoned = calculations::table
        .filter(calculations::id.eq_any(ids))
        .filter(calculations::finished_at.is_null());
    Ok(diesel::delete(abandoned).execute(conn)?)
}
