//! What became of the files that were uploaded to static cohorts.

use chrono::{DateTime, Utc};
use diesel::prelude::*;

use crate::keys::Teammate;
use crate::schema::{teammates, uploads};
use crate::{CohortId, Conn, JsonText, Result};

/// A row of `uploads`.
#[derive(Clone, Debug, Queryable, Selectable)]
#[diesel(table_name = uploads)]
pub struct Upload {
    pub id: i64,
    pub created_at: DateTime<Utc>,
    #[diesel(embed)]
    pub outcome: Outcome,
}

/// How many rows of a file had which outcome.
#[derive(Clone, Debug, PartialEq, Queryable, Selectable, Insertable)]
#[diesel(table_name = uploads)]
pub struct Outcome {
    pub id_kind: String,
    pub rows: i64,
    pub added: i64,
    pub already_members: i64,
    pub unknown: i64,
    pub bad_rows: i64,
    pub created_people: i64,
    pub removed: i64,
    pub problems: JsonText,
    pub problems_left_out: i64,
}

/// An upload and whose it was.
pub type WithTeammate = (Upload, Option<Teammate>);

pub fn record(
    conn: &mut Conn,
    cohort: CohortId,
    teammate: &Teammate,
    outcome: &Outcome,
) -> Result<Upload> {
    Ok(diesel::insert_into(uploads::table)
        .values((
            uploads::cohort_id.eq(cohort.0),
            uploads::teammate_id.eq(teammate.id),
            uploads::created_at.eq(Utc::now()),
            outcome,
        ))
        .returning(Upload::as_returning())
        .get_result(conn)?)
}

/// One upload of a cohort.
pub fn find(conn: &mut Conn, cohort: CohortId, id: i64) -> Result<Option<WithTeammate>> {
    Ok(uploads::table
        .left_join(teammates::table)
        .filter(uploads::cohort_id.eq(cohort.0).and(uploads::id.eq(id)))
        .select((Upload::as_select(), Option::<Teammate>::as_select()))
        .first(conn)
        .optional()?)
}

/// Some uploads of a cohort, newest first, and how many there are.
pub fn page(
    conn: &mut Conn,
    cohort: CohortId,
    limit: i64,
    offset: i64,
) -> Result<(Vec<WithTeammate>, i64)> {
    let own = uploads::table.filter(uploads::cohort_id.eq(cohort.0));
    let rows = own
        .left_join(teammates::table)
        .order(uploads::id.desc())
        .limit(limit)
        .offset(offset)
        .select((Upload::as_select(), Option::<Teammate>::as_select()))
        .load(conn)?;
    Ok((rows, own.count().get_result(conn)?))
}

/// Forgets all but the newest uploads of a cohort.
pub fn prune(conn: &mut Conn, cohort: CohortId, kept: i64) -> Result<()> {
    let own = uploads::table.filter(uploads::cohort_id.eq(cohort.0));
    let first_beyond: Option<i64> = own
        .order(uploads::id.desc())
        .offset(kept)
        .select(uploads::id)
        .first(conn)
        .optional()?;
    if let Some(id) = first_beyond {
        diesel::delete(own.filter(uploads::id.le(id))).execute(conn)?;
    }
    Ok(())
}
