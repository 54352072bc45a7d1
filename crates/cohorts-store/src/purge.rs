//! The deletion of cohorts for good, with their members, calculations, uploads and activity entries.
//!
//! An operation of the API only marks a cohort as deleted. The rows that refer to it are deleted in steps, then the cohort,
//! then its members: chunks without a cohort are garbage, which the next purge deletes after an interruption.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Nullable, Text, Timestamptz};

use crate::changes::retention::{self, PurgedMembers};
use crate::cohorts::may_refer_to_cohorts;
use crate::definition::Definition;
use crate::schema::{activities, calculations, cohorts, uploads};
use crate::{CohortId, Conn, ProjectId, Result, members};

/// A cohort that is marked as deleted.
#[derive(Clone, Debug, PartialEq, Eq, QueryableByName)]
pub struct DeletedCohort {
    /// The id of the cohort.
    #[diesel(sql_type = BigInt)]
    pub id: i64,
    /// Its name.
    #[diesel(sql_type = Nullable<Text>)]
    pub name: Option<String>,
}

/// The time of the deletion is in the activity log if an older program marked the cohort.
pub(crate) const DELETED_BEFORE: &str = "\
    select c.id, c.name from cohorts c where c.project_id = $1 and c.deleted and $2 > coalesce(c.deleted_at, ( \
        select max(a.created_at) from activities a where a.cohort_id = c.id and a.activity = 'deleted'), c.created_at) \
    order by c.id";

/// The cohorts of a project that were marked as deleted before `time`, sorted by id.
///
/// # Errors
///
/// Fails if the database fails.
pub fn deleted_before(
    conn: &mut Conn,
    project: ProjectId,
    time: DateTime<Utc>,
) -> Result<Vec<DeletedCohort>> {
    Ok(diesel::sql_query(DELETED_BEFORE)
        .bind::<BigInt, _>(project.0)
        .bind::<Timestamptz, _>(time)
        .load(conn)?)
}

/// A cohort with a definition that may refer to other cohorts.
#[derive(Clone, Debug, Queryable)]
pub struct DefinedCohort {
    /// The id of the cohort.
    pub id: i64,
    /// Its definition.
    pub definition: Definition,
    /// Whether its query is still to be evaluated.
    pub fill_pending_query: bool,
}

/// All cohorts of a project, also deleted ones, with filters or pending queries, sorted by id.
///
/// # Errors
///
/// Fails if the database fails.
pub fn defined(conn: &mut Conn, project: ProjectId) -> Result<Vec<DefinedCohort>> {
    Ok(cohorts::table
        .filter(cohorts::project_id.eq(project.0))
        .filter(cohorts::fill_pending_query.or(may_refer_to_cohorts()))
        .order(cohorts::id)
        .select((
            cohorts::id,
            Definition::as_select(),
            cohorts::fill_pending_query,
        ))
        .load(conn)?)
}

/// The numbers of rows that belong to cohorts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CohortRows {
    /// Members, their changes, and sizes over time.
    pub members: PurgedMembers,
    /// Calculations in the history.
    pub calculations: usize,
    /// Outcomes of uploads.
    pub uploads: usize,
    /// Entries of the activity log.
    pub activities: usize,
}

impl std::ops::AddAssign for CohortRows {
    fn add_assign(&mut self, more: Self) {
        self.members += more.members;
        self.calculations += more.calculations;
        self.uploads += more.uploads;
        self.activities += more.activities;
    }
}

/// How many rows belong to these cohorts of a project.
///
/// # Errors
///
/// Fails if the database fails.
pub fn count(conn: &mut Conn, project: ProjectId, ids: &[i64]) -> Result<CohortRows> {
    let calculations: i64 = calculations::table
        .filter(calculations::cohort_id.eq_any(ids))
        .count()
        .get_result(conn)?;
    let uploads: i64 = uploads::table
        .filter(uploads::cohort_id.eq_any(ids))
        .count()
        .get_result(conn)?;
    let activities: i64 = activities::table
        .filter(activities::cohort_id.eq_any(ids))
        .count()
        .get_result(conn)?;
    let number = |count: i64| usize::try_from(count).unwrap_or(usize::MAX);
    Ok(CohortRows {
        members: retention::count(conn, project, ids)?,
        calculations: number(calculations),
        uploads: number(uploads),
        activities: number(activities),
    })
}

/// Deletes rows of a control table that refer to cohorts, at most `limit` of them.
macro_rules! delete_referring {
    ($conn:expr, $table:ident, $ids:expr, $limit:expr) => {{
        let rows: Vec<i64> = $table::table
            .filter($table::cohort_id.eq_any($ids))
            .limit($limit)
            .select($table::id)
            .load($conn)?;
        diesel::delete($table::table.filter($table::id.eq_any(rows))).execute($conn)?
    }};
}

/// Deletes calculations, uploads and activity entries of these cohorts, at most `limit` rows of each. None are left if
/// none are deleted.
///
/// # Errors
///
/// Fails if the database fails.
pub fn delete_history(conn: &mut Conn, ids: &[i64], limit: i64) -> Result<CohortRows> {
    Ok(CohortRows {
        members: PurgedMembers::default(),
        calculations: delete_referring!(conn, calculations, ids, limit),
        uploads: delete_referring!(conn, uploads, ids, limit),
        activities: delete_referring!(conn, activities, ids, limit),
    })
}

/// Deletes these cohorts with the rest of the rows that refer to them, and returns the number of cohorts. Their members
/// remain, without a cohort.
///
/// # Errors
///
/// Fails if the database fails.
pub fn delete_rows(conn: &mut Conn, ids: &[i64]) -> Result<usize> {
    // No worker or request adds rows that refer to a cohort without a lock on it.
    cohorts::table
        .filter(cohorts::id.eq_any(ids))
        .order(cohorts::id)
        .select(cohorts::id)
        .for_update()
        .load::<i64>(conn)?;
    delete_history(conn, ids, i64::MAX)?;
    Ok(diesel::delete(cohorts::table.filter(cohorts::id.eq_any(ids))).execute(conn)?)
}

/// The ids of cohorts that no longer exist and have members, changes or sizes in a project, sorted.
///
/// # Errors
///
/// Fails if the database fails.
pub fn orphans(conn: &mut Conn, project: ProjectId) -> Result<Vec<CohortId>> {
    // The members are read first, because a new cohort exists before its members.
    let mut with_members = members::cohorts(conn, project)?;
    with_members.extend(retention::cohorts(conn, project)?);
    let existing: Vec<i64> = cohorts::table
        .filter(cohorts::project_id.eq(project.0))
        .select(cohorts::id)
        .load(conn)?;
    let existing: HashSet<i64> = existing.into_iter().collect();
    with_members.retain(|id| !existing.contains(id));
    with_members.sort_unstable();
    with_members.dedup();
    Ok(with_members.into_iter().map(CohortId).collect())
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;
    use crate::changes::{self, Cause, FeedPosition};
    use crate::testing::TestDatabase;
    use crate::{cohorts as cohort_rows, keys, projects};

    #[test]
    fn a_cohort_is_deleted_at_the_first_update_that_deletes_it() {
        let database = TestDatabase::create();
        let store = database.open();
        let conn = &mut *store.connection().unwrap();
        let project = projects::create(conn, "P", "UTC", "phc_x").unwrap().id();
        let owner = keys::teammate(conn, "a@x.io", "").unwrap();
        let mut definition = Definition::default();
        let cohort = cohort_rows::create(conn, project, &owner, &definition).unwrap();
        let mut deletion_time = |conn: &mut Conn, deleted: bool, name: &str| {
            definition.deleted = deleted;
            definition.name = Some(name.to_owned());
            cohort_rows::update(conn, cohort.id(), &definition).unwrap();
            let row = cohorts::table.find(cohort.id).select(cohorts::deleted_at);
            row.first::<Option<DateTime<Utc>>>(conn).unwrap()
        };
        assert_eq!(deletion_time(conn, false, "a"), None);
        let first = deletion_time(conn, true, "a");
        assert!(first.is_some());
        assert_eq!(deletion_time(conn, true, "b"), first);
        let ids = |conn: &mut Conn, time: DateTime<Utc>| -> Vec<i64> {
            let deleted = deleted_before(conn, project, time).unwrap();
            deleted.iter().map(|cohort| cohort.id).collect()
        };
        assert_eq!(ids(conn, first.unwrap()), [0; 0]);
        assert_eq!(ids(conn, Utc::now()), [cohort.id]);
        assert_eq!(deletion_time(conn, false, "b"), None);
        assert_eq!(ids(conn, Utc::now()), [0; 0]);
    }

    #[test]
    fn the_activity_log_has_the_time_if_an_older_program_deleted_the_cohort() {
        let database = TestDatabase::create();
        let store = database.open();
        let conn = &mut *store.connection().unwrap();
        let project = projects::create(conn, "P", "UTC", "phc_x").unwrap().id();
        let owner = keys::teammate(conn, "a@x.io", "").unwrap();
        let mut definition = Definition::default();
        definition.deleted = true;
        let cohort = cohort_rows::create(conn, project, &owner, &definition).unwrap();
        let now = Utc::now();
        diesel::update(cohorts::table)
            .set((
                cohorts::deleted_at.eq(None::<DateTime<Utc>>),
                cohorts::created_at.eq(now - TimeDelta::days(9)),
            ))
            .execute(conn)
            .unwrap();
        let is_deleted_before = |conn: &mut Conn, days: i64| {
            let time = now - TimeDelta::days(days);
            !deleted_before(conn, project, time).unwrap().is_empty()
        };
        assert!(is_deleted_before(conn, 8) && !is_deleted_before(conn, 10));
        for days in [6, 4] {
            diesel::insert_into(activities::table)
                .values((
                    activities::project_id.eq(project.0),
                    activities::cohort_id.eq(cohort.id),
                    activities::activity.eq("deleted"),
                    activities::created_at.eq(now - TimeDelta::days(days)),
                ))
                .execute(conn)
                .unwrap();
        }
        assert!(is_deleted_before(conn, 3) && !is_deleted_before(conn, 5));
    }

    #[test]
    fn members_without_a_cohort_are_found_and_deleted_in_steps() {
        let database = TestDatabase::create();
        let store = database.open();
        let conn = &mut *store.connection().unwrap();
        let project = projects::create(conn, "P", "UTC", "phc_x").unwrap().id();
        let owner = keys::teammate(conn, "a@x.io", "").unwrap();
        let mut definition = Definition::default();
        definition.is_static = true;
        let [first, second] =
            [0, 1].map(|_| cohort_rows::create(conn, project, &owner, &definition).unwrap());
        for (cohort, edits) in [(&first, 5), (&second, 1)] {
            for nth in 0..edits {
                let changed = crate::transaction(conn, |conn| {
                    changes::edit(conn, &cohort.into(), Cause::Manual, |members| {
                        Ok(members | roaring::RoaringBitmap::from_iter([nth << 16]))
                    })
                });
                changed.unwrap();
            }
        }
        assert!(orphans(conn, project).unwrap().is_empty());
        let expected = PurgedMembers {
            chunks: 5,
            changes: 5,
            sizes: 1,
        };
        let rows = count(conn, project, &[first.id]).unwrap();
        assert!(
            rows.members == expected || rows.members.sizes == 2,
            "{rows:?}"
        );
        assert_eq!(delete_rows(conn, &[first.id]).unwrap(), 1);
        assert_eq!(orphans(conn, project).unwrap(), [first.id()]);
        let deleted = [0, 1, 2, 3].map(|_| {
            let step = retention::delete_of_cohort(conn, project, first.id(), 2).unwrap();
            (step.chunks, step.changes)
        });
        assert_eq!(deleted, [(2, 2), (2, 2), (1, 1), (0, 0)]);
        assert!(orphans(conn, project).unwrap().is_empty());
        assert_eq!(
            count(conn, project, &[second.id]).unwrap().members.chunks,
            1
        );
        let head = changes::heads(conn, &[project]).unwrap().remove(0);
        let rest = changes::feed(conn, project, None, FeedPosition::default(), 9).unwrap();
        assert_eq!((head.number, rest.unwrap().changes.len()), (6, 1));
    }
}
