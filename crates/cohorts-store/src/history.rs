//! The history of a cohort's calculations.

use chrono::{DateTime, TimeDelta, Utc};
use diesel::prelude::*;

use crate::schema::calculations;
use crate::{CohortId, Conn, JsonText, Result};

/// Forgets the calculations of a cohort that ended well, but for those among the newest `kept`.
pub fn prune(conn: &mut Conn, id: CohortId, kept: i64) -> Result<()> {
    let own = calculations::table.filter(calculations::cohort_id.eq(id.0));
    let first_beyond: Option<DateTime<Utc>> = own
        .order(calculations::started_at.desc())
        .offset(kept)
        .select(calculations::started_at)
        .first(conn)
        .optional()?;
    if let Some(time) = first_beyond {
        let old = own
            .filter(calculations::started_at.le(time))
            .filter(calculations::count.is_not_null());
        diesel::delete(old).execute(conn)?;
    }
    Ok(())
}

/// A calculation that was begun.
#[derive(Clone, Debug, Queryable, Selectable)]
#[diesel(table_name = calculations)]
pub struct Calculation {
    pub id: i64,
    pub filters: Option<JsonText>,
    pub started_at: DateTime<Utc>,
    pub finished_at: Option<DateTime<Utc>>,
    pub count: Option<i64>,
    pub error: Option<String>,
    pub error_code: Option<String>,
}

/// Some calculations of a cohort, newest first, and how many there are.
pub fn page(
    conn: &mut Conn,
    id: CohortId,
    limit: i64,
    offset: i64,
) -> Result<(Vec<Calculation>, i64)> {
    let own = calculations::table.filter(calculations::cohort_id.eq(id.0));
    let rows = own
        .order((calculations::started_at.desc(), calculations::id.desc()))
        .limit(limit)
        .offset(offset)
        .select(Calculation::as_select())
        .load(conn)?;
    Ok((rows, own.count().get_result(conn)?))
}

/// How long the last calculation of a cohort took that ended well.
pub fn last_duration(conn: &mut Conn, id: CohortId) -> Result<Option<TimeDelta>> {
    let times: Option<(DateTime<Utc>, Option<DateTime<Utc>>)> = calculations::table
        .filter(calculations::cohort_id.eq(id.0))
        .filter(calculations::count.is_not_null())
        .order(calculations::started_at.desc())
        .select((calculations::started_at, calculations::finished_at))
        .first(conn)
        .optional()?;
    Ok(times.and_then(|(started, finished)| Some(finished? - started)))
}
