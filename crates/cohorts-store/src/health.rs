//! What can be told of a database: how it is set up, and whether what is stored agrees with itself.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{Bool, Text, Timestamptz};

use crate::schema::cohorts;
use crate::{CohortId, Conn, ProjectId, Result, members, transaction};

#[derive(QueryableByName)]
struct Setting {
    #[diesel(sql_type = Text)]
    value: String,
}

/// How the server is set up in one respect.
pub fn setting(conn: &mut Conn, name: &str) -> Result<String> {
    let row: Setting = diesel::sql_query("select current_setting($1) as value")
        .bind::<Text, _>(name)
        .get_result(conn)?;
    Ok(row.value)
}

#[derive(QueryableByName)]
struct Clock {
    #[diesel(sql_type = Timestamptz)]
    time: DateTime<Utc>,
}

/// What time it is for the server.
pub fn clock(conn: &mut Conn) -> Result<DateTime<Utc>> {
    let row: Clock = diesel::sql_query("select clock_timestamp() as time").get_result(conn)?;
    Ok(row.time)
}

#[derive(QueryableByName)]
struct Allowed {
    #[diesel(sql_type = Bool)]
    allowed: bool,
}

/// Whether the role may make tables, as migrations do, and owns those that are there.
pub fn may_change_tables(conn: &mut Conn) -> Result<bool> {
    let row: Allowed = diesel::sql_query(
        "select has_schema_privilege('public', 'create') and not exists ( \
            select from pg_class c where c.relnamespace = 'public'::regnamespace and c.relkind = 'r' \
                and not pg_has_role(c.relowner, 'usage')) as allowed",
    )
    .get_result(conn)?;
    Ok(row.allowed)
}

/// A cohort whose count is not the number of its members.
#[derive(Debug, PartialEq, Eq)]
pub struct Miscounted {
    pub id: i64,
    pub count: i64,
    pub members: i64,
}

/// The cohorts of a project whose count is not the number of their members; `repair` sets it right.
pub fn miscounted(conn: &mut Conn, project: ProjectId, repair: bool) -> Result<Vec<Miscounted>> {
    let counted: Vec<(i64, Option<i64>)> = cohorts::table
        .filter(cohorts::project_id.eq(project.0))
        .filter(diesel::dsl::not(cohorts::deleted))
        .select((cohorts::id, cohorts::count))
        .load(conn)?;
    let mut wrong = Vec::new();
    for (id, _) in counted.iter().filter(|(_, count)| count.is_some()) {
        let found = transaction(conn, |conn| -> Result<_> {
            // Count and version are of one commit, which the lock keeps from being followed by another.
            let (count, version): (Option<i64>, i64) = cohorts::table
                .find(id)
                .select((cohorts::count, cohorts::member_version))
                .for_update()
                .first(conn)?;
            let members =
                members::read(conn, project.shard_key(), CohortId(*id), version)?.len() as i64;
            let Some(count) = count.filter(|count| *count != members) else {
                return Ok(None);
            };
            if repair {
                let own = diesel::update(cohorts::table.find(id));
                own.set(cohorts::count.eq(members)).execute(conn)?;
            }
            let id = *id;
            Ok(Some(Miscounted { id, count, members }))
        })?;
        wrong.extend(found);
    }
    Ok(wrong)
}
