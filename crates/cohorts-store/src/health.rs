//! Checks of a database: its settings, its clock, the rights of the role, and the counts of cohorts.
//!
//! Only [`miscounted`] writes, and only if its caller requests a repair.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Bool, Text, Timestamptz};

use crate::outages::Outages;
use crate::schema::cohorts;
use crate::{
    CohortId, Conn, ProjectId, Result, distribution, members, projects, snapshot, tombstones,
    transaction,
};

pub(crate) const SETTING: &str = "select current_setting($1) as value";
pub(crate) const CLOCK: &str = "select clock_timestamp() as time";
pub(crate) const DATABASE_BYTES: &str = "select pg_database_size(current_database()) as number";
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

/// The change log may have this part of the data.
const CHANGE_SHARE: u64 = 10;
/// The least default limit of the change log.
const LEAST_CHANGE_LIMIT: u64 = 256 << 20;

#[derive(QueryableByName)]
struct ByteCount {
    #[diesel(sql_type = BigInt)]
    number: i64,
}

/// The default limit of the change log in bytes: a tenth of the data, and at least 256 MiB. It is not known while a worker
/// of Citus does not respond.
///
/// # Errors
///
/// Fails if the database fails.
pub fn change_limit(conn: &mut Conn, outages: &Outages) -> Result<Option<u64>> {
    if outages.has_silent() {
        return Ok(None);
    }
    let row: ByteCount = diesel::sql_query(DATABASE_BYTES).get_result(conn)?;
    let mut bytes = row.number;
    if distribution::is_possible(conn)? {
        bytes += distribution::bytes(conn)?;
    }
    let share = u64::try_from(bytes).unwrap_or(0) / CHANGE_SHARE;
    Ok(Some(share.max(LEAST_CHANGE_LIMIT)))
}

/// A cohort with a count that was never the number of members that readers see.
#[derive(Debug, PartialEq, Eq)]
pub struct MiscountedCohort {
    /// The id of the cohort.
    pub id: i64,
    /// The count of the cohort's row.
    pub count: i64,
    /// The number of members that readers see.
    pub members: i64,
}

/// The live cohorts of a project with a wrong count; `repair` corrects the counts.
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
        .order(cohorts::id)
        .select(cohorts::id)
        .load(conn)?;
    let mut miscounted = Vec::new();
    for id in ids {
        let found = snapshot(conn, |conn| check_count(conn, project, CohortId(id)))?;
        miscounted.extend(match found {
            Some(_) if repair => repair_count(conn, project, CohortId(id))?,
            found => found,
        });
    }
    Ok(miscounted)
}

/// Checks the count again and corrects it, under the locks with which writers change members and counts.
fn repair_count(
    conn: &mut Conn,
    project: ProjectId,
    id: CohortId,
) -> Result<Option<MiscountedCohort>> {
    transaction(conn, |conn| {
        projects::lock(conn, project)?;
        cohorts::table
            .find(id.0)
            .select(cohorts::id)
            .for_update()
            .first::<i64>(conn)
            .optional()?;
        let found = check_count(conn, project, id)?;
        if let Some(cohort) = &found {
            diesel::update(cohorts::table.find(id.0))
                .set(cohorts::count.eq(cohort.members))
                .execute(conn)?;
        }
        Ok(found)
    })
}

/// Compares the count of a cohort with the members that readers see: those in the published chunks without retired
/// ordinals.
///
/// A merge retires an ordinal in a dynamic cohort at once, and the next calculation corrects the count. So the count is
/// right if it includes any of the retired ordinals in the chunks. (A deletion removes its person from both.)
fn check_count(
    conn: &mut Conn,
    project: ProjectId,
    id: CohortId,
) -> Result<Option<MiscountedCohort>> {
    let row: Option<(Option<i64>, i64)> = cohorts::table
        .find(id.0)
        .filter(diesel::dsl::not(cohorts::deleted))
        .select((cohorts::count, cohorts::member_version))
        .first(conn)
        .optional()?;
    let Some((Some(count), version)) = row else {
        return Ok(None);
    };
    let shard_key = project.shard_key();
    let chunks = members::read(conn, shard_key, id, version)?;
    let most = chunks.len() as i64;
    if count == most {
        return Ok(None);
    }
    let retired = tombstones::all(conn, shard_key)?.retired;
    let members = chunks.difference_len(&retired) as i64;
    Ok(
        (!(members..=most).contains(&count)).then_some(MiscountedCohort {
            id: id.0,
            count,
            members,
        }),
    )
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use roaring::RoaringBitmap;

    use super::*;
    use crate::changes::{self, Cause, NewMembers};
    use crate::cohorts::Cohort;
    use crate::definition::Definition;
    use crate::queue::{self, Evaluated, PublishedMembers};
    use crate::testing::TestDatabase;
    use crate::{Store, events, keys, persons};

    /// A project with a cohort that is claimed by a worker, and with persons of these ordinals.
    fn claimed(store: &Store, ordinals: std::ops::Range<i64>) -> Cohort {
        let conn = &mut *store.connection().unwrap();
        let project = projects::create(conn, "P", "UTC", "phc_x").unwrap().id();
        let owner = keys::teammate(conn, "a@x.io", "").unwrap();
        let created =
            crate::cohorts::create(conn, project, &owner, &Definition::default()).unwrap();
        let rows: Vec<persons::Person> = ordinals.map(person).collect();
        transaction(conn, |conn| {
            let seq = events::begin_write(conn, project.shard_key())?;
            persons::add(conn, project.shard_key(), seq, &rows)
        })
        .unwrap();
        queue::request_calculation(conn, created.id()).unwrap();
        let lease = TimeDelta::seconds(15);
        queue::claim(conn, project, lease, 1).unwrap().remove(0)
    }

    fn person(ordinal: i64) -> persons::Person {
        persons::Person {
            ordinal,
            uuid: uuid::Uuid::now_v7(),
            properties: crate::JsonText("{}".to_owned()),
            is_identified: false,
            created_at: Utc::now(),
        }
    }

    fn merge(conn: &mut Conn, project: ProjectId, from: i64, into: i64) {
        let shard_key = project.shard_key();
        transaction(conn, |conn| {
            let seq = events::begin_write(conn, shard_key)?;
            persons::merge(conn, shard_key, seq, &[(from, into)])
        })
        .unwrap();
    }

    /// Publishes members as a worker does: a count without the persons that retired after the chunks were written.
    fn publish(conn: &mut Conn, cohort: &Cohort, members: &RoaringBitmap, merged: i64) {
        let shard_key = cohort.project().shard_key();
        let new = NewMembers {
            cohort: cohort.id(),
            base: 0,
            attempt: cohort.attempt,
            before: &RoaringBitmap::new(),
            after: members,
        };
        let staged = changes::stage(conn, shard_key, &[new]).unwrap().remove(0);
        let written_at = events::log_head(conn, shard_key).unwrap();
        merge(conn, cohort.project(), merged, 0);
        let evaluated = Evaluated {
            at: Utc::now(),
            due_at: None,
            seen_seq: written_at,
        };
        queue::publish(conn, cohort, Utc::now(), evaluated, |conn, _| {
            changes::publish(conn, shard_key, &[(&staged, Cause::Data)])?;
            let retired = tombstones::since(conn, shard_key, written_at)?.retired;
            let count = members.difference_len(&retired) as i64;
            let version = staged.version;
            Ok(Some(PublishedMembers { version, count }))
        })
        .unwrap();
    }

    #[test]
    fn counts_are_right_after_merges_during_and_after_a_calculation() {
        let database = TestDatabase::create();
        let store = database.open();
        let cohort = claimed(&store, 0..6);
        let project = cohort.project();
        let conn = &mut *store.connection().unwrap();
        publish(conn, &cohort, &(1..5).collect(), 1);
        let count = |conn: &mut Conn| {
            let row = crate::cohorts::find(conn, project, cohort.id()).unwrap();
            row.unwrap().0.count
        };
        assert_eq!(count(conn), Some(3));
        for repair in [false, true] {
            assert_eq!(miscounted(conn, project, repair).unwrap(), []);
        }
        merge(conn, project, 2, 0);
        for repair in [false, true] {
            assert_eq!(miscounted(conn, project, repair).unwrap(), []);
        }
        assert_eq!(count(conn), Some(3));
    }

    #[test]
    fn a_wrong_count_is_replaced_by_the_number_of_members_that_readers_see() {
        let database = TestDatabase::create();
        let store = database.open();
        let cohort = claimed(&store, 0..6);
        let conn = &mut *store.connection().unwrap();
        publish(conn, &cohort, &(1..5).collect(), 1);
        for wrong in [2, 5] {
            diesel::update(cohorts::table)
                .set(cohorts::count.eq(wrong))
                .execute(conn)
                .unwrap();
            let expected = [MiscountedCohort {
                id: cohort.id,
                count: wrong,
                members: 3,
            }];
            assert_eq!(miscounted(conn, cohort.project(), false).unwrap(), expected);
            assert_eq!(miscounted(conn, cohort.project(), true).unwrap(), expected);
            assert_eq!(miscounted(conn, cohort.project(), false).unwrap(), []);
        }
    }
}
