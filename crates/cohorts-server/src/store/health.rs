//! What can be told of a database: how it is set up, and whether what is stored agrees with itself.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{Bool, Text, Timestamptz};

use super::schema::{cohorts, events, sealed_logs};
use super::sealed::{self, LogKey};
use super::{CohortId, Conn, Place, ProjectId, members, reader};
use crate::error::Error;

#[derive(QueryableByName)]
struct Setting {
    #[diesel(sql_type = Text)]
    value: String,
}

/// How the server is set up in one respect.
pub fn setting(conn: &mut Conn, name: &str) -> QueryResult<String> {
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
pub fn clock(conn: &mut Conn) -> QueryResult<DateTime<Utc>> {
    let row: Clock = diesel::sql_query("select clock_timestamp() as time").get_result(conn)?;
    Ok(row.time)
}

#[derive(QueryableByName)]
struct Allowed {
    #[diesel(sql_type = Bool)]
    allowed: bool,
}

/// Whether the role may make tables, as migrations do, and owns those that are there.
pub fn may_change_tables(conn: &mut Conn) -> QueryResult<bool> {
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
pub fn miscounted(
    conn: &mut Conn,
    project: ProjectId,
    repair: bool,
) -> Result<Vec<Miscounted>, Error> {
    let counted: Vec<(i64, Option<i64>)> = cohorts::table
        .filter(cohorts::project_id.eq(project.0))
        .filter(diesel::dsl::not(cohorts::deleted))
        .select((cohorts::id, cohorts::count))
        .load(conn)?;
    let mut wrong = Vec::new();
    for (id, _) in counted.iter().filter(|(_, count)| count.is_some()) {
        let found = super::transaction(conn, |conn| {
            // Count and version are of one commit, which the lock keeps from being followed by another.
            let (count, version): (Option<i64>, i64) = cohorts::table
                .find(id)
                .select((cohorts::count, cohorts::member_version))
                .for_update()
                .first(conn)?;
            let members =
                members::read(conn, project.place(), CohortId(*id), version)?.len() as i64;
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

/// The logs of a place whose kept blocks are damaged or hold other events than the rows, by the names of their events.
pub fn wrong_blocks(conn: &mut Conn, place: Place) -> Result<Vec<String>, Error> {
    conn.build_transaction()
        .read_only()
        .repeatable_read()
        .run(|conn| {
            let logs: Vec<(String, String, i64, i64, i64)> = sealed_logs::table
                .filter(sealed_logs::place.eq(place.0).and(sealed_logs::head.ge(0)))
                .select((
                    sealed_logs::event,
                    sealed_logs::properties,
                    sealed_logs::head,
                    sealed_logs::from_day,
                    sealed_logs::days,
                ))
                .load(conn)?;
            let mut wrong = Vec::new();
            for (event, properties, head, from, days) in logs {
                let key = LogKey::stored(&event, &properties);
                let kept = kept_events(conn, place, &key, days)?;
                let rows: i64 = events::table
                    .filter(events::place.eq(place.0).and(events::event.eq(&event)))
                    .filter(events::batch.le(head))
                    .filter(events::timestamp.ge(reader::start_of(from)))
                    .count()
                    .get_result(conn)?;
                if kept != Some(rows) {
                    wrong.push(event);
                }
            }
            Ok(wrong)
        })
}

/// How many events the blocks of a log hold; nothing where one of them is damaged or missing.
fn kept_events(conn: &mut Conn, place: Place, key: &LogKey, kept: i64) -> QueryResult<Option<i64>> {
    let Some(days) = sealed::days(conn, place, key, kept, i64::MIN)? else {
        return Ok(None);
    };
    let mut count = 0;
    for days in days.chunks(reader::DAYS) {
        match sealed::blocks(conn, place, key, days)? {
            Some(found) => {
                let blocks = found.iter().flat_map(|(_, blocks)| blocks);
                count += blocks.map(|block| block.rows() as i64).sum::<i64>();
            }
            None => return Ok(None),
        }
    }
    Ok(Some(count))
}
