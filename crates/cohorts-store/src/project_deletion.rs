//! The deletion of a project in steps: first the project becomes unreachable, then its rows are deleted, and its own row last.
//!
//! Each step is one short transaction, so a deletion delays no other project, and may be interrupted and continued at any
//! time. No writer adds rows to the project meanwhile: all of them check under a lock that it exists, see
//! [`crate::events::begin_write`] and [`crate::projects::lock`].

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Nullable};
use uuid::Uuid;

use crate::purge::{self, CohortRows};
use crate::schema::{
    actions, change_heads, cohorts, key_projects, keys, log_heads, ordinal_counters, projects,
};
use crate::{
    Conn, ProjectId, Result, ShardKey, columns, definitions, events, hints, idempotency,
    keys as key_rows, rankings, segments, transaction, webhooks,
};

#[cfg(test)]
mod tests;

/// Rows of most tables in one step.
const STEP: i64 = 10_000;
/// Rows of member chunks and segments in one step. Their values are large.
const LARGE_ROWS: i64 = 200;
/// Cohorts of one step.
const COHORTS: i64 = 50;

/// A project that may be deleted in part.
#[derive(Clone, Debug, Queryable, Selectable)]
#[diesel(table_name = projects)]
pub struct DeletableProject {
    /// The id of the project.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// The time at which its deletion began; `None` if it has not begun.
    pub deletion_started_at: Option<DateTime<Utc>>,
}

/// The project with this id, also if its deletion has begun.
///
/// # Errors
///
/// Fails if the database fails.
pub fn find(conn: &mut Conn, id: ProjectId) -> Result<Option<DeletableProject>> {
    Ok(projects::table
        .find(id.0)
        .select(DeletableProject::as_select())
        .first(conn)
        .optional()?)
}

/// The projects with a deletion that has begun and not ended, sorted by id.
///
/// # Errors
///
/// Fails if the database fails.
pub fn unfinished(conn: &mut Conn) -> Result<Vec<DeletableProject>> {
    Ok(projects::table
        .filter(projects::deletion_started_at.is_not_null())
        .order(projects::id)
        .select(DeletableProject::as_select())
        .load(conn)?)
}

/// Makes a project unreachable: by its token, by every key, and for calculations. Keys for no other project are revoked.
///
/// # Errors
///
/// [`crate::StoreError::ProjectGone`] if the deletion has begun already; fails if the database fails.
pub fn begin(conn: &mut Conn, id: ProjectId) -> Result<()> {
    transaction(conn, |conn| {
        crate::projects::lock(conn, id)?;
        end_calculations(conn, id)?;
        // No writer has the log head now, and the next one sees that the project is gone.
        events::begin_write(conn, id.shard_key())?;
        revoke_keys(conn, id)?;
        diesel::update(projects::table.find(id.0))
            .set((
                projects::deletion_started_at.eq(Utc::now()),
                // Programs that do not know of deletions do not find the project by its token either.
                projects::token.eq(format!("deleted {}", Uuid::now_v7())),
            ))
            .execute(conn)?;
        hints::send(conn, hints::KEYS_CHANGED)
    })
}

/// Ends the claims on all cohorts of the project, so no worker publishes members, and prevents further claims.
fn end_calculations(conn: &mut Conn, id: ProjectId) -> Result<()> {
    diesel::update(cohorts::table.filter(cohorts::project_id.eq(id.0)))
        .set((
            cohorts::deleted.eq(true),
            cohorts::is_calculating.eq(false),
            cohorts::attempt.eq(cohorts::attempt + 1),
            cohorts::lease_until.eq(None::<DateTime<Utc>>),
        ))
        .execute(conn)?;
    Ok(())
}

/// Removes the project from all keys, and revokes those that reach no other project.
fn revoke_keys(conn: &mut Conn, id: ProjectId) -> Result<()> {
    let of_project = key_projects::table.filter(key_projects::project_id.eq(id.0));
    let restricted: Vec<i64> = diesel::delete(of_project)
        .returning(key_projects::key_id)
        .get_results(conn)?;
    let others: Vec<i64> = key_projects::table
        .filter(key_projects::key_id.eq_any(&restricted))
        .select(key_projects::key_id)
        .load(conn)?;
    let useless = keys::table
        .filter(keys::id.eq_any(&restricted))
        .filter(keys::id.ne_all(&others))
        .select(keys::id);
    for key in useless.load(conn)? {
        key_rows::revoke(conn, key)?;
    }
    Ok(())
}

/// The rows of one kind, in the order in which they are deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Numbered(&'static NumberedTable),
    ChangeSlices,
    Segments,
    Checkpoints,
    Cohorts,
    Actions,
    Webhooks,
    Project,
}

/// A person table that is deleted along a column of numbers.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NumberedTable {
    /// What the rows are.
    name: &'static str,
    /// Selects the number of the last row of the next step.
    pub(crate) bound: &'static str,
    /// Deletes the rows of a step.
    pub(crate) delete: &'static str,
    step: i64,
}

macro_rules! numbered_table {
    ($name:literal, $table:literal, $column:literal, $step:expr) => {
        NumberedTable {
            name: $name,
            bound: concat!(
                "select max(n) as number from (select ",
                $column,
                " as n from ",
                $table,
                " where shard_key = $1 and ",
                $column,
                " > $2 order by ",
                $column,
                " limit $3) next"
            ),
            delete: concat!(
                "delete from ",
                $table,
                " where shard_key = $1 and ",
                $column,
                " > $2 and ",
                $column,
                " <= $3"
            ),
            step: $step,
        }
    };
}

pub(crate) static EVENTS: NumberedTable = numbered_table!("event", "events", "seq", STEP);
pub(crate) static PERSONS: NumberedTable = numbered_table!("person", "persons", "ordinal", STEP);
pub(crate) static DISTINCT_IDS: NumberedTable =
    numbered_table!("distinct id", "distinct_ids", "ordinal", STEP);
pub(crate) static TOMBSTONES: NumberedTable =
    numbered_table!("tombstone", "tombstones", "ordinal", STEP);
pub(crate) static ERASURES: NumberedTable = numbered_table!("erasure", "erasures", "ordinal", STEP);
pub(crate) static PROPERTY_PARTS: NumberedTable =
    numbered_table!("property part", "property_checkpoints", "part", LARGE_ROWS);
pub(crate) static MEMBER_CHUNKS: NumberedTable =
    numbered_table!("member chunk", "member_chunks", "cohort_id", LARGE_ROWS);
pub(crate) static MEMBER_CHANGES: NumberedTable =
    numbered_table!("change", "member_changes", "number", STEP);
pub(crate) static COHORT_SIZES: NumberedTable =
    numbered_table!("size", "cohort_sizes", "cohort_id", STEP);

/// Members and changes are deleted again after the cohorts, because an edit of a static cohort may have written some
/// meanwhile.
const PARTS: [Part; 20] = [
    Part::Numbered(&EVENTS),
    Part::Numbered(&PERSONS),
    Part::Numbered(&DISTINCT_IDS),
    Part::Numbered(&TOMBSTONES),
    Part::Numbered(&MEMBER_CHUNKS),
    Part::Numbered(&MEMBER_CHANGES),
    Part::ChangeSlices,
    Part::Numbered(&COHORT_SIZES),
    Part::Numbered(&ERASURES),
    Part::Segments,
    Part::Numbered(&PROPERTY_PARTS),
    Part::Checkpoints,
    Part::Cohorts,
    Part::Actions,
    Part::Webhooks,
    Part::Numbered(&MEMBER_CHUNKS),
    Part::Numbered(&MEMBER_CHANGES),
    Part::ChangeSlices,
    Part::Numbered(&COHORT_SIZES),
    Part::Project,
];

/// Rows that a step deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeletedRows {
    /// What the rows are, such as `event`.
    pub name: &'static str,
    /// Their number.
    pub count: usize,
}

/// A deletion that has begun. Another one of the same project continues where this one ends.
#[derive(Debug)]
pub struct ProjectDeletion {
    project: ProjectId,
    /// The index of the current part.
    part: usize,
    /// The number up to which the current part is deleted.
    after: i64,
}

impl ProjectDeletion {
    /// The deletion of a project that [`begin`] has made unreachable.
    pub fn new(project: ProjectId) -> Self {
        Self {
            project,
            part: 0,
            after: -1,
        }
    }

    /// Deletes some rows in a transaction of its own; returns `None` when the project is deleted.
    ///
    /// # Errors
    ///
    /// Fails if the database fails. The step may be repeated.
    pub fn step(&mut self, conn: &mut Conn) -> Result<Option<DeletedRows>> {
        while let Some(part) = PARTS.get(self.part) {
            let deleted = self.delete_some(conn, *part)?;
            if let Some(deleted) = deleted {
                return Ok(Some(deleted));
            }
            self.part += 1;
            self.after = -1;
        }
        Ok(None)
    }

    /// Deletes some rows of a part; returns `None` if there are none left.
    fn delete_some(&mut self, conn: &mut Conn, part: Part) -> Result<Option<DeletedRows>> {
        let shard_key = self.project.shard_key();
        let (name, count) = match part {
            Part::Numbered(table) => {
                let deleted = delete_numbered(conn, shard_key, table, &mut self.after)?;
                return Ok(deleted.map(|count| DeletedRows {
                    name: table.name,
                    count,
                }));
            }
            Part::ChangeSlices => ("slice of a change", delete_slices(conn, shard_key)?),
            Part::Segments => ("segment", delete_segments(conn, shard_key)?),
            Part::Checkpoints => {
                segments::drop_all(conn, shard_key)?;
                columns::drop_all(conn, shard_key)?;
                rankings::drop_all(conn, shard_key)?;
                definitions::drop_all(conn, shard_key)?;
                return Ok(None);
            }
            Part::Cohorts => delete_cohorts(conn, self.project)?,
            Part::Actions => ("action", delete_actions(conn, self.project)?),
            Part::Webhooks => {
                let count = webhooks::delete_next(conn, self.project, STEP)?;
                ("webhook", count)
            }
            Part::Project => ("project", delete_project(conn, self.project)?),
        };
        Ok((count > 0).then_some(DeletedRows { name, count }))
    }
}

#[derive(QueryableByName)]
struct BoundRow {
    #[diesel(sql_type = Nullable<BigInt>)]
    number: Option<i64>,
}

/// Deletes the rows with the next numbers above `after`, and raises it; returns `None` if there are none left.
fn delete_numbered(
    conn: &mut Conn,
    shard_key: ShardKey,
    table: &NumberedTable,
    after: &mut i64,
) -> Result<Option<usize>> {
    let BoundRow { number } = diesel::sql_query(table.bound)
        .bind::<BigInt, _>(shard_key.0)
        .bind::<BigInt, _>(*after)
        .bind::<BigInt, _>(table.step)
        .get_result(conn)?;
    let Some(through) = number else {
        return Ok(None);
    };
    let count = diesel::sql_query(table.delete)
        .bind::<BigInt, _>(shard_key.0)
        .bind::<BigInt, _>(*after)
        .bind::<BigInt, _>(through)
        .execute(conn)?;
    *after = through;
    Ok(Some(count))
}

pub(crate) const DELETE_SLICES: &str = "\
    delete from member_change_slices s using ( \
        select cohort_id, version, first_chunk from member_change_slices where shard_key = $1 limit $2) old \
    where s.shard_key = $1 and s.cohort_id = old.cohort_id and s.version = old.version and s.first_chunk = old.first_chunk";

fn delete_slices(conn: &mut Conn, shard_key: ShardKey) -> Result<usize> {
    Ok(diesel::sql_query(DELETE_SLICES)
        .bind::<BigInt, _>(shard_key.0)
        .bind::<BigInt, _>(LARGE_ROWS)
        .execute(conn)?)
}

pub(crate) const DELETE_SEGMENTS: &str = "\
    delete from segments s using ( \
        select event, day, seq, part from segments where shard_key = $1 limit $2) old \
    where s.shard_key = $1 and s.event = old.event and s.day = old.day and s.seq = old.seq and s.part = old.part";

fn delete_segments(conn: &mut Conn, shard_key: ShardKey) -> Result<usize> {
    Ok(diesel::sql_query(DELETE_SEGMENTS)
        .bind::<BigInt, _>(shard_key.0)
        .bind::<BigInt, _>(LARGE_ROWS)
        .execute(conn)?)
}

/// Deletes rows that refer to some cohorts of the project, or these cohorts if there are no such rows. Returns what the
/// rows are, and their number.
fn delete_cohorts(conn: &mut Conn, project: ProjectId) -> Result<(&'static str, usize)> {
    let ids: Vec<i64> = cohorts::table
        .filter(cohorts::project_id.eq(project.0))
        .order(cohorts::id)
        .limit(COHORTS)
        .select(cohorts::id)
        .load(conn)?;
    let CohortRows {
        calculations,
        uploads,
        activities,
        ..
    } = purge::delete_history(conn, &ids, STEP)?;
    Ok(match calculations + uploads + activities {
        0 => {
            let count = transaction(conn, |conn| purge::delete_rows(conn, &ids))?;
            ("cohort", count)
        }
        count => ("history row", count),
    })
}

fn delete_actions(conn: &mut Conn, project: ProjectId) -> Result<usize> {
    let ids: Vec<i64> = actions::table
        .filter(actions::project_id.eq(project.0))
        .limit(STEP)
        .select(actions::id)
        .load(conn)?;
    Ok(diesel::delete(actions::table.filter(actions::id.eq_any(ids))).execute(conn)?)
}

/// Deletes the row of the project, with the counters from which a writer would take numbers.
fn delete_project(conn: &mut Conn, project: ProjectId) -> Result<usize> {
    transaction(conn, |conn| {
        let row = projects::table.find(project.0);
        let locked: Option<i64> = row
            .select(projects::id)
            .for_update()
            .first(conn)
            .optional()?;
        if locked.is_none() {
            return Ok(0);
        }
        let shard_key = project.shard_key().0;
        diesel::delete(log_heads::table.find(shard_key)).execute(conn)?;
        diesel::delete(ordinal_counters::table.find(shard_key)).execute(conn)?;
        diesel::delete(change_heads::table.find(shard_key)).execute(conn)?;
        idempotency::delete_of_project(conn, project)?;
        // A key that was created while the deletion began.
        revoke_keys(conn, project)?;
        Ok(diesel::delete(row).execute(conn)?)
    })
}
