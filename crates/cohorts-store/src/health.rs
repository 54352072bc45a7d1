//! Checks of a database: its settings, its clock, the rights of the role, and the counts of cohorts.
//!
//! Only [`miscounted`] writes, and only if its caller requests a repair.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{Bool, Text, Timestamptz};

use crate::schema::cohorts;
use crate::{CohortId, Conn, ProjectId, Result, members, transaction};

pub(crate) const SETTING: &str = "select current_setting($1) as value";
pub(crate) const CLOCK: &str = "select clock_timestamp() as time";
pub(crate) const MAY_CHANGE_TABLES: &str = "\
    select has_schema_privilege('public', 'create') and not exists ( \
        select from pg_class c where c.relnamespace = 'public'::regnamespace and c.relkind = 'r' \
            and not pg_has_role(c.relowner, 'usage')) as is_allowed";

#[derive(QueryableByName)]
struct SettingRow {
    #[diesel(sql_type = Text)]
    value: String,
}

/// The value of a setting of the server, such as `max_connections`.
///
/// # Errors
///
/// Fails if the database fails, or has no such setting.
pub fn setting(conn: &mut Conn, name: &str) -> Result<String> {
    let row: SettingRow = diesel::sql_query(SETTING)
        .bind::<Text, _>(name)
        .get_result(conn)?;
    Ok(row.value)
}

/// The value of a setting that is a time, such as `statement_timeout`.
#[cfg(test)]
pub(crate) fn setting_in_milliseconds(conn: &mut Conn, name: &str) -> Result<u64> {
    let statement = "select setting as value from pg_settings where name = $1";
    let row: SettingRow = diesel::sql_query(statement)
        .bind::<Text, _>(name)
        .get_result(conn)?;
    Ok(row.value.parse().map_err(anyhow::Error::from)?)
}

#[derive(QueryableByName)]
struct ClockRow {
    #[diesel(sql_type = Timestamptz)]
    time: DateTime<Utc>,
}

/// The present time by the server's clock.
///
/// # Errors
///
/// Fails if the database fails.
pub fn clock(conn: &mut Conn) -> Result<DateTime<Utc>> {
    let row: ClockRow = diesel::sql_query(CLOCK).get_result(conn)?;
    Ok(row.time)
}

#[derive(QueryableByName)]
struct PermissionRow {
    #[diesel(sql_type = Bool)]
    is_allowed: bool,
}

/// Whether the role may create tables and owns the existing ones, as migrations require.
///
/// # Errors
///
/// Fails if the database fails.
pub fn may_change_tables(conn: &mut Conn) -> Result<bool> {
    let row: PermissionRow = diesel::sql_query(MAY_CHANGE_TABLES).get_result(conn)?;
    Ok(row.is_allowed)
}

/// A cohort with a count that differs from the number of its members.
#[derive(Debug, PartialEq, Eq)]
pub struct MiscountedCohort {
    /// The id of the cohort.
    pub id: i64,
    /// The count of the cohort's row.
    pub count: i64,
    /// The number of members.
    pub members: i64,
}

/// The live cohorts of a project with a count that differs from the number of members; `repair` corrects the counts.
///
/// # Errors
///
/// Fails if the database fails, or with [`crate::StoreError::Corrupt`] if the members of a cohort cannot be decoded.
pub fn miscounted(
    conn: &mut Conn,
    project: ProjectId,
    repair: bool,
) -> Result<Vec<MiscountedCohort>> {
    let ids: Vec<i64> = cohorts::table
        .filter(cohorts::project_id.eq(project.0))
        .filter(diesel::dsl::not(cohorts::deleted))
        .filter(cohorts::count.is_not_null())
        .select(cohorts::id)
        .load(conn)?;
    let mut miscounted = Vec::new();
    for id in ids {
        miscounted.extend(transaction(conn, |conn| {
            check_count(conn, project, CohortId(id), repair)
        })?);
    }
    Ok(miscounted)
}

fn check_count(
    conn: &mut Conn,
    project: ProjectId,
    id: CohortId,
    repair: bool,
) -> Result<Option<MiscountedCohort>> {
    // Count and version change in one commit, and the lock delays the next one.
    let (count, version): (Option<i64>, i64) = cohorts::table
        .find(id.0)
        .select((cohorts::count, cohorts::member_version))
        .for_update()
        .first(conn)?;
    let members = members::read(conn, project.shard_key(), id, version)?.len() as i64;
    let Some(count) = count.filter(|count| *count != members) else {
        return Ok(None);
    };
    if repair {
        diesel::update(cohorts::table.find(id.0))
            .set(cohorts::count.eq(members))
            .execute(conn)?;
    }
    Ok(Some(MiscountedCohort {
        id: id.0,
        count,
        members,
    }))
}
