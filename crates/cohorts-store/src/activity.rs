//! The activity log: which teammate changed which cohort, and how.
//!
//! An entry is written in the transaction of the change that it describes, so there is no change without an entry. The
//! upkeep deletes entries that are too old or too many.

use chrono::{DateTime, Utc};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Nullable};

use crate::activity_log::activity_log;
use crate::keys::Teammate;
use crate::pages::PageIds;
use crate::schema::activities;
use crate::{CohortId, Conn, JsonText, ProjectId, Result};

/// A row of `activities`.
#[derive(Clone, Debug, Queryable, Selectable)]
#[diesel(table_name = activities)]
pub struct ActivityRow {
    /// The id of the changed cohort.
    pub cohort_id: i64,
    /// The kind of change, such as `updated`.
    pub activity: String,
    /// The name of the cohort after the change.
    pub name: Option<String>,
    /// A JSON list of the changed fields; `None` if the kind of change has no fields.
    pub changes: Option<JsonText>,
    /// The time of the change.
    pub created_at: DateTime<Utc>,
}

/// An entry to write.
pub struct NewActivity<'a> {
    /// The changed cohort.
    pub cohort: CohortId,
    /// The kind of change, such as `updated`.
    pub activity: &'a str,
    /// The name of the cohort after the change.
    pub name: Option<&'a str>,
    /// A JSON list of the changed fields.
    pub changes: Option<JsonText>,
}

/// Writes an entry in the transaction of the caller.
///
/// # Errors
///
/// Fails if the database fails.
pub fn record(
    conn: &mut Conn,
    project: ProjectId,
    teammate: &Teammate,
    entry: &NewActivity<'_>,
) -> Result<()> {
    diesel::insert_into(activities::table)
        .values((
            activities::project_id.eq(project.0),
            activities::cohort_id.eq(entry.cohort.0),
            activities::teammate_id.eq(teammate.id),
            activities::activity.eq(entry.activity),
            activities::name.eq(entry.name),
            activities::changes.eq(&entry.changes),
            activities::created_at.eq(Utc::now()),
        ))
        .execute(conn)?;
    Ok(())
}

/// The page of the entries of a cohort, or of the whole project, newest first.
///
/// # Errors
///
/// Fails if the database fails.
pub fn page(
    conn: &mut Conn,
    project: ProjectId,
    cohort: Option<CohortId>,
    limit: i64,
    offset: i64,
) -> Result<PageIds> {
    let entries = || {
        let of_project = activities::table
            .filter(activities::project_id.eq(project.0))
            .into_boxed();
        match cohort {
            Some(cohort) => of_project.filter(activities::cohort_id.eq(cohort.0)),
            None => of_project,
        }
    };
    let ids = entries()
        .order(activities::id.desc())
        .limit(limit)
        .offset(offset)
        .select(activities::id)
        .load(conn)?;
    let count = entries().count().get_result(conn)?;
    Ok(PageIds { ids, count })
}

activity_log!(activities, ActivityRow);

/// The entries of a cohort or a project that exceed a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, QueryableByName)]
pub struct ExcessActivities {
    /// The id of the cohort or the project.
    #[diesel(sql_type = BigInt)]
    pub owner: i64,
    /// The newest entry that exceeds the number; `None` if none does.
    #[diesel(sql_type = Nullable<BigInt>)]
    pub newest: Option<i64>,
}

pub(crate) const EXCESS_OF_COHORTS: &str = "\
    select c.id as owner, (select a.id from activities a where a.cohort_id = c.id order by a.id desc offset $2 limit 1) \
        as newest from (select id from cohorts where id > $1 order by id limit $3) c order by c.id";
pub(crate) const EXCESS_OF_PROJECTS: &str = "\
    select p.id as owner, (select a.id from activities a where a.project_id = p.id order by a.id desc offset $2 limit 1) \
        as newest from (select id from projects where id > $1 order by id limit $3) p order by p.id";

/// The `limit` cohorts with the next ids above `after`, each with its newest entry that has at least `number` newer ones.
///
/// # Errors
///
/// Fails if the database fails.
pub fn excess_of_cohorts(
    conn: &mut Conn,
    after: i64,
    number: i64,
    limit: i64,
) -> Result<Vec<ExcessActivities>> {
    excess(conn, EXCESS_OF_COHORTS, after, number, limit)
}

/// As [`excess_of_cohorts`], for projects.
///
/// # Errors
///
/// Fails if the database fails.
pub fn excess_of_projects(
    conn: &mut Conn,
    after: i64,
    number: i64,
    limit: i64,
) -> Result<Vec<ExcessActivities>> {
    excess(conn, EXCESS_OF_PROJECTS, after, number, limit)
}

fn excess(
    conn: &mut Conn,
    statement: &str,
    after: i64,
    number: i64,
    limit: i64,
) -> Result<Vec<ExcessActivities>> {
    Ok(diesel::sql_query(statement)
        .bind::<BigInt, _>(after)
        .bind::<BigInt, _>(number)
        .bind::<BigInt, _>(limit)
        .load(conn)?)
}

/// Deletes entries of a cohort up to the entry `newest`, at most `limit` of them, and returns their number.
///
/// # Errors
///
/// Fails if the database fails.
pub fn delete_of_cohort(conn: &mut Conn, cohort: i64, newest: i64, limit: i64) -> Result<usize> {
    let entries = activities::table.filter(activities::cohort_id.eq(cohort));
    delete_through(conn, entries.into_boxed(), newest, limit)
}

/// Deletes entries of a project up to the entry `newest`, at most `limit` of them, and returns their number.
///
/// # Errors
///
/// Fails if the database fails.
pub fn delete_of_project(conn: &mut Conn, project: i64, newest: i64, limit: i64) -> Result<usize> {
    let entries = activities::table.filter(activities::project_id.eq(project));
    delete_through(conn, entries.into_boxed(), newest, limit)
}

fn delete_through(
    conn: &mut Conn,
    entries: activities::BoxedQuery<'_, Pg>,
    newest: i64,
    limit: i64,
) -> Result<usize> {
    let ids = entries
        .filter(activities::id.le(newest))
        .order(activities::id)
        .limit(limit)
        .select(activities::id)
        .load(conn)?;
    delete(conn, &ids)
}
