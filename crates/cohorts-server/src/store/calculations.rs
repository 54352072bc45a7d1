//! How far the calculation of cohorts has come, and how earlier ones went.
//!
//! A worker claims a cohort for a lease; whatever it writes later must still bear its attempt.

use chrono::{DateTime, TimeDelta, Utc};
use diesel::prelude::*;

use super::cohorts::{Cohort, coalesce, since_now};
use super::schema::{calculations, cohorts};
use super::{CohortId, Conn, JsonText, ProjectId};

/// A cohort that is due, with the last batch of the log that its members know of.
pub type Due = (Cohort, i64);

/// Some of the idle cohorts that are to be looked at by now, those that have waited longest first. One that has failed
/// too often is left out for good.
pub fn due(
    conn: &mut Conn,
    now: DateTime<Utc>,
    most_errors: i64,
    most: i64,
) -> QueryResult<Vec<Due>> {
    cohorts::table
        .filter(diesel::dsl::not(cohorts::deleted))
        .filter(diesel::dsl::not(cohorts::is_static).or(owes_members()))
        .filter(diesel::dsl::not(cohorts::is_calculating))
        .filter(cohorts::due_at.is_null().or(cohorts::due_at.le(now)))
        .filter(cohorts::errors_calculating.le(most_errors))
        .order((cohorts::due_at.asc().nulls_first(), cohorts::id))
        .select((Cohort::as_select(), cohorts::seen_batch))
        .limit(most)
        .load(conn)
}

/// Writes down that the members of idle cohorts of a project, as of a batch, are right at a time. One that was
/// calculated since it was found due is left alone: it may ask for something else by now.
pub fn confirm(
    conn: &mut Conn,
    ids: &[i64],
    seen_batch: i64,
    now: DateTime<Utc>,
    due_at: DateTime<Utc>,
) -> QueryResult<()> {
    let idle = cohorts::table
        .filter(cohorts::id.eq_any(ids))
        .filter(diesel::dsl::not(cohorts::is_calculating))
        .filter(cohorts::due_at.is_null().or(cohorts::due_at.le(now)));
    diesel::update(idle)
        .set((
            cohorts::seen_batch.eq(seen_batch),
            cohorts::last_calculation.eq(now),
            cohorts::due_at.eq(due_at),
        ))
        .execute(conn)?;
    Ok(())
}

/// How many cohorts wait for somebody to calculate them, and since when the first of them does.
pub fn waiting_for(
    conn: &mut Conn,
    now: DateTime<Utc>,
) -> QueryResult<(i64, Option<DateTime<Utc>>)> {
    use diesel::dsl::{count_star, min};
    waiting(0, i64::MAX, now)
        .select((count_star(), min(cohorts::waiting_since)))
        .first(conn)
}

/// Whether a static cohort still lacks people.
#[diesel::dsl::auto_type]
fn owes_members() -> _ {
    cohorts::owes_criteria.or(cohorts::owes_query)
}

/// Asks for calculations of cohorts that are still live and idle, and dynamic or never filled.
pub fn request_if_idle(conn: &mut Conn, ids: &[i64]) -> QueryResult<usize> {
    let idle = cohorts::table
        .filter(cohorts::id.eq_any(ids))
        .filter(diesel::dsl::not(cohorts::deleted))
        .filter(diesel::dsl::not(cohorts::is_static).or(owes_members()))
        .filter(diesel::dsl::not(cohorts::is_calculating));
    diesel::update(idle)
        .set((
            cohorts::is_calculating.eq(true),
            cohorts::waiting_since.eq(since_now(Some(Utc::now()))),
            cohorts::pending_version.eq(coalesce(cohorts::pending_version, 0) + 1),
        ))
        .execute(conn)
}

/// The row of a claimed cohort, for as long as the claim holds.
macro_rules! claimed {
    ($cohort:expr) => {
        cohorts::table
            .filter(cohorts::id.eq($cohort.id))
            .filter(cohorts::attempt.eq($cohort.attempt))
    };
}

/// Claims cohorts of one project that wait for their calculation, for the length of a lease: the one that has waited
/// longest, and some that wait beside it. Those that were never calculated come first; one that has failed is claimed
/// alone. `only` restricts the search to one project.
pub fn claim(
    conn: &mut Conn,
    only: Option<ProjectId>,
    lease: TimeDelta,
    most: usize,
) -> QueryResult<Vec<Cohort>> {
    conn.transaction(|conn| {
        let (least, last) = only.map_or((0, i64::MAX), |project| (project.0, project.0));
        let now = Utc::now();
        let first: Option<(i64, i64, i64)> = waiting(least, last, now)
            .order((cohorts::last_calculation.asc().nulls_first(), cohorts::id))
            .select((
                cohorts::id,
                cohorts::project_id,
                cohorts::errors_calculating,
            ))
            .limit(1)
            .for_update()
            .skip_locked()
            .first(conn)
            .optional()?;
        let Some((id, project, errors)) = first else {
            return Ok(Vec::new());
        };
        let mut ids = vec![id];
        if errors == 0 && most > 1 {
            let beside: Vec<i64> = waiting(project, project, now)
                .filter(cohorts::errors_calculating.eq(0).and(cohorts::id.ne(id)))
                .order((cohorts::last_calculation.asc().nulls_first(), cohorts::id))
                .select(cohorts::id)
                .limit(most as i64 - 1)
                .for_update()
                .skip_locked()
                .load(conn)?;
            ids.extend(beside);
        }
        begin(conn, &ids, lease)
    })
}

/// Cohorts of the projects from one number to another that wait and that nobody has claimed.
#[diesel::dsl::auto_type]
fn waiting(first: i64, last: i64, time: DateTime<Utc>) -> _ {
    cohorts::table
        .filter(cohorts::project_id.between(first, last))
        .filter(cohorts::is_calculating)
        .filter(diesel::dsl::not(cohorts::deleted))
        .filter(
            cohorts::lease_until
                .is_null()
                .or(cohorts::lease_until.lt(time)),
        )
}

/// Claims cohorts and opens their history entries, in the order of these ids.
fn begin(conn: &mut Conn, ids: &[i64], lease: TimeDelta) -> QueryResult<Vec<Cohort>> {
    let mut claimed: Vec<Cohort> = diesel::update(cohorts::table.filter(cohorts::id.eq_any(ids)))
        .set((
            cohorts::attempt.eq(cohorts::attempt + 1),
            cohorts::lease_until.eq(Utc::now() + lease),
        ))
        .returning(Cohort::as_returning())
        .get_results(conn)?;
    claimed.sort_by_key(|cohort| ids.iter().position(|id| *id == cohort.id));
    let entry = |cohort: &Cohort| {
        (
            calculations::cohort_id.eq(cohort.id),
            calculations::version.eq(cohort.pending_version.unwrap_or(0)),
            calculations::attempt.eq(cohort.attempt),
            calculations::filters.eq(cohort.definition.filters.clone()),
            calculations::started_at.eq(Utc::now()),
        )
    };
    diesel::insert_into(calculations::table)
        .values(claimed.iter().map(entry).collect::<Vec<_>>())
        .execute(conn)?;
    Ok(claimed)
}

/// Gives back a claimed cohort whose calculation has not begun, as if it had not been claimed.
pub fn give_back(conn: &mut Conn, claimed: &Cohort) -> QueryResult<()> {
    conn.transaction(|conn| {
        let free = cohorts::lease_until.eq(None::<DateTime<Utc>>);
        let given = diesel::update(claimed!(claimed)).set(free).execute(conn)?;
        if given == 1 {
            let own = calculations::table
                .filter(calculations::cohort_id.eq(claimed.id))
                .filter(calculations::attempt.eq(claimed.attempt));
            diesel::delete(own).execute(conn)?;
        }
        Ok(())
    })
}

/// Makes the lease of a claimed cohort last longer. False if the claim is lost.
pub fn keep(conn: &mut Conn, claimed: &Cohort, lease: TimeDelta) -> QueryResult<bool> {
    let kept = diesel::update(claimed!(claimed).filter(cohorts::lease_until.is_not_null()))
        .set(cohorts::lease_until.eq(Utc::now() + lease))
        .execute(conn)?;
    Ok(kept == 1)
}

/// Whether the claim still holds. It then holds until the transaction ends.
pub fn lock_claimed(conn: &mut Conn, claimed: &Cohort) -> QueryResult<bool> {
    let found = claimed!(claimed)
        .select(cohorts::id)
        .for_update()
        .first::<i64>(conn)
        .optional()?;
    Ok(found.is_some())
}

/// A new attempt at the members of a cohort, by which a worker's claim on it is lost.
pub fn next_attempt(conn: &mut Conn, id: CohortId) -> QueryResult<i64> {
    diesel::update(cohorts::table.find(id.0))
        .set((
            cohorts::attempt.eq(cohorts::attempt + 1),
            cohorts::lease_until.eq(None::<DateTime<Utc>>),
        ))
        .returning(cohorts::attempt)
        .get_result(conn)
}

/// Lets readers see the members that were written by hand as of a version.
pub fn publish_edit(conn: &mut Conn, id: CohortId, version: i64, count: i64) -> QueryResult<()> {
    diesel::update(cohorts::table.find(id.0))
        .set((
            cohorts::member_version.eq(version),
            cohorts::count.eq(count),
            cohorts::last_calculation.eq(Utc::now()),
        ))
        .execute(conn)?;
    Ok(())
}

/// As of when a calculation is right, and for how long it is taken to be.
#[derive(Clone, Copy, Debug)]
pub struct Right {
    /// The moment that stood for "now" in it.
    pub at: DateTime<Utc>,
    /// When it is looked at again, if ever.
    pub due_at: Option<DateTime<Utc>>,
    /// The last batch of the log that it knows of.
    pub seen: i64,
}

/// Ends a calculation well: from now on readers see the members that its attempt wrote. `count` tells how many they
/// are, with the cohort locked. Does nothing if the claim is lost.
pub fn publish(
    conn: &mut Conn,
    claimed: &Cohort,
    begun: DateTime<Utc>,
    right: Right,
    count: impl FnOnce(&mut Conn) -> QueryResult<i64>,
) -> QueryResult<Option<i64>> {
    conn.transaction(|conn| {
        if !lock_claimed(conn, claimed)? {
            return Ok(None);
        }
        let count = count(conn)?;
        diesel::update(claimed!(claimed))
            .set((
                cohorts::version.eq(claimed.pending_version),
                cohorts::member_version.eq(claimed.attempt),
                cohorts::seen_batch.eq(right.seen),
                cohorts::count.eq(count),
                cohorts::last_calculation.eq(right.at),
                cohorts::errors_calculating.eq(0),
                cohorts::due_at.eq(right.due_at),
                cohorts::lease_until.eq(None::<DateTime<Utc>>),
                cohorts::is_calculating.eq(is_ahead_of(claimed.pending_version)),
                cohorts::owes_criteria.eq(false),
                cohorts::owes_query
                    .eq(cohorts::owes_query.and(is_ahead_of(claimed.pending_version))),
            ))
            .execute(conn)?;
        finish(conn, claimed, begun, Some(count), None)?;
        Ok(Some(count))
    })
}

/// Ends a calculation that failed: the former members stay, and the history says why.
/// Does nothing if the claim is lost.
pub fn fail(
    conn: &mut Conn,
    claimed: &Cohort,
    begun: DateTime<Utc>,
    due_at: DateTime<Utc>,
    code: &str,
    error: &str,
) -> QueryResult<()> {
    // A text in the database cannot hold NUL, and whoever wrote the criteria may have put one in.
    let error = &error.replace('\0', "\u{fffd}");
    conn.transaction(|conn| {
        let failed = diesel::update(claimed!(claimed))
            .set((
                cohorts::errors_calculating.eq(cohorts::errors_calculating + 1),
                cohorts::last_error_code.eq(code),
                cohorts::last_error.eq(error),
                cohorts::due_at.eq(due_at),
                cohorts::lease_until.eq(None::<DateTime<Utc>>),
                cohorts::is_calculating.eq(is_ahead_of(claimed.pending_version)),
            ))
            .execute(conn)?;
        if failed == 1 {
            finish(conn, claimed, begun, None, Some((code, error)))?;
        }
        Ok(())
    })
}

/// Whether a newer calculation was asked for in the meantime.
#[diesel::dsl::auto_type]
fn is_ahead_of(version: Option<i64>) -> _ {
    cohorts::pending_version.is_distinct_from(version)
}

fn finish(
    conn: &mut Conn,
    claimed: &Cohort,
    begun: DateTime<Utc>,
    count: Option<i64>,
    failure: Option<(&str, &str)>,
) -> QueryResult<()> {
    let own = calculations::table
        .filter(calculations::cohort_id.eq(claimed.id))
        .filter(calculations::attempt.eq(claimed.attempt));
    diesel::update(own)
        .set((
            calculations::started_at.eq(begun),
            calculations::finished_at.eq(Utc::now()),
            calculations::count.eq(count),
            calculations::error_code.eq(failure.map(|(code, _)| code)),
            calculations::error.eq(failure.map(|(_, error)| error)),
        ))
        .execute(conn)?;
    Ok(())
}

/// Forgets the calculations of a cohort that ended well, but for those among the newest `kept`.
pub fn prune_history(conn: &mut Conn, id: CohortId, kept: i64) -> QueryResult<()> {
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
pub fn history(
    conn: &mut Conn,
    id: CohortId,
    limit: i64,
    offset: i64,
) -> QueryResult<(Vec<Calculation>, i64)> {
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
pub fn last_duration(conn: &mut Conn, id: CohortId) -> QueryResult<Option<TimeDelta>> {
    let times: Option<(DateTime<Utc>, Option<DateTime<Utc>>)> = calculations::table
        .filter(calculations::cohort_id.eq(id.0))
        .filter(calculations::count.is_not_null())
        .order(calculations::started_at.desc())
        .select((calculations::started_at, calculations::finished_at))
        .first(conn)
        .optional()?;
    Ok(times.and_then(|(started, finished)| Some(finished? - started)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::cohorts::{
        self as cohorts_of, Definition, create, find, owe_query, request_calculation,
    };
    use crate::store::testing::TestDatabase;
    use crate::store::{Store, keys, projects};

    /// A cohort in a new database.
    fn cohort() -> (TestDatabase, Store, Cohort) {
        let database = TestDatabase::create();
        let store = database.open();
        let conn = &mut *store.connection().unwrap();
        let project = projects::create(conn, "P", "UTC", "phc_x").unwrap();
        let owner = keys::teammate(conn, "a@x.io", "").unwrap();
        let definition = Definition::default();
        let made = create(conn, project.id(), &owner, &definition).unwrap();
        (database, store, made)
    }

    fn right() -> Right {
        Right {
            at: Utc::now(),
            due_at: None,
            seen: 0,
        }
    }

    fn claim_one(conn: &mut Conn, lease: TimeDelta) -> Option<Cohort> {
        claim(conn, None, lease, 1).unwrap().pop()
    }

    #[test]
    fn what_waits_in_one_project_is_claimed_together_and_what_failed_alone() {
        let (_database, store, made) = cohort();
        let conn = &mut *store.connection().unwrap();
        let other = projects::create(conn, "Q", "UTC", "phc_y").unwrap();
        let owner = keys::teammate(conn, "a@x.io", "").unwrap();
        let make = |conn: &mut Conn, project| {
            let made = create(conn, project, &owner, &made.definition).unwrap();
            request_calculation(conn, made.id()).unwrap();
            made.id
        };
        let claim = |conn: &mut Conn, most| {
            let claimed = claim(conn, None, TimeDelta::seconds(9), most).unwrap();
            claimed.iter().map(|one| one.id).collect::<Vec<_>>()
        };
        let failed = make(conn, made.project());
        let failing = claim_one(conn, TimeDelta::seconds(9)).unwrap();
        fail(conn, &failing, Utc::now(), Utc::now(), "unknown", "why").unwrap();
        request_calculation(conn, failing.id()).unwrap();
        let ids: Vec<i64> = (0..4).map(|_| make(conn, made.project())).collect();
        let elsewhere = make(conn, other.id());
        assert_eq!(claim(conn, 9), [failed]);
        assert_eq!(claim(conn, 2), [ids[0], ids[1]]);
        assert_eq!(claim(conn, 9), [ids[2], ids[3]]);
        assert_eq!(claim(conn, 9), [elsewhere]);
        assert!(claim(conn, 9).is_empty());
    }

    #[test]
    fn what_is_given_back_is_as_if_it_had_not_been_claimed() {
        let (_database, store, made) = cohort();
        let conn = &mut *store.connection().unwrap();
        request_calculation(conn, made.id()).unwrap();
        let first = claim_one(conn, TimeDelta::seconds(9)).unwrap();
        give_back(conn, &first).unwrap();
        assert_eq!(history(conn, made.id(), 9, 0).unwrap().1, 0);
        let second = claim_one(conn, TimeDelta::seconds(9)).unwrap();
        // The claim is another's now.
        give_back(conn, &first).unwrap();
        assert_eq!(history(conn, made.id(), 9, 0).unwrap().1, 1);
        assert!(claim_one(conn, TimeDelta::seconds(9)).is_none());
        assert_eq!(
            publish(conn, &second, Utc::now(), right(), |_| Ok(3)).unwrap(),
            Some(3)
        );
    }

    #[test]
    fn a_claim_is_one_workers_until_its_lease_is_over_and_then_writes_nothing() {
        let (_database, store, made) = cohort();
        let conn = &mut *store.connection().unwrap();
        request_calculation(conn, made.id()).unwrap();
        let late = claim_one(conn, TimeDelta::milliseconds(300)).unwrap();
        assert!(claim_one(conn, TimeDelta::seconds(9)).is_none());
        assert!(keep(conn, &late, TimeDelta::seconds(-1)).unwrap());

        let next = claim_one(conn, TimeDelta::seconds(9)).unwrap();
        assert_eq!((late.id, late.attempt + 1), (next.id, next.attempt));
        assert!(!keep(conn, &late, TimeDelta::seconds(9)).unwrap());
        assert!(!lock_claimed(conn, &late).unwrap());
        assert_eq!(
            publish(conn, &late, Utc::now(), right(), |_| Ok(7)).unwrap(),
            None
        );
        let (row, _) = find(conn, made.project(), made.id()).unwrap().unwrap();
        assert_eq!((row.count, row.is_calculating), (None, true));

        // What is asked for meanwhile is calculated after it.
        request_calculation(conn, made.id()).unwrap();
        publish(conn, &next, Utc::now(), right(), |_| Ok(5)).unwrap();
        let (row, _) = find(conn, made.project(), made.id()).unwrap().unwrap();
        assert_eq!(
            (row.count, row.version, row.is_calculating),
            (Some(5), Some(1), true)
        );
        assert!(claim_one(conn, TimeDelta::seconds(9)).is_some());
    }

    /// That a static cohort failed at some time says nothing of what it lacks.
    #[test]
    fn a_static_cohort_is_tried_again_while_it_owes_and_not_otherwise() {
        let (_database, store, made) = cohort();
        let conn = &mut *store.connection().unwrap();
        let listed = |conn: &mut Conn| due(conn, Utc::now(), 9, 9).unwrap().len();
        let become_static = Definition {
            is_static: true,
            ..made.definition.clone()
        };
        request_calculation(conn, made.id()).unwrap();
        let claimed = claim_one(conn, TimeDelta::seconds(9)).unwrap();
        fail(conn, &claimed, Utc::now(), Utc::now(), "unknown", "why").unwrap();
        cohorts_of::update(conn, made.id(), &become_static).unwrap();
        assert_eq!(listed(conn), 0);

        owe_query(conn, made.id(), false).unwrap();
        let claimed = claim_one(conn, TimeDelta::seconds(9)).unwrap();
        // Another query comes while this one is calculated, and then fails.
        owe_query(conn, made.id(), false).unwrap();
        publish(conn, &claimed, Utc::now(), right(), |_| Ok(1)).unwrap();
        let next = claim_one(conn, TimeDelta::seconds(9)).unwrap();
        assert!(next.owes_query);
        fail(conn, &next, Utc::now(), Utc::now(), "unknown", "why").unwrap();
        assert_eq!(listed(conn), 1);
        request_if_idle(conn, &[made.id]).unwrap();
        let last = claim_one(conn, TimeDelta::seconds(9)).unwrap();
        publish(conn, &last, Utc::now(), right(), |_| Ok(2)).unwrap();
        assert_eq!(listed(conn), 0);
    }

    #[test]
    fn old_calculations_are_forgotten_unless_they_failed() {
        let (_database, store, made) = cohort();
        let conn = &mut *store.connection().unwrap();
        for fails in [true, false, false, true, false] {
            request_calculation(conn, made.id()).unwrap();
            let claimed = claim_one(conn, TimeDelta::seconds(9)).unwrap();
            match fails {
                true => fail(conn, &claimed, Utc::now(), Utc::now(), "unknown", "why").unwrap(),
                false => drop(publish(conn, &claimed, Utc::now(), right(), |_| Ok(0)).unwrap()),
            }
        }
        prune_history(conn, made.id(), 2).unwrap();
        let (rows, count) = history(conn, made.id(), 9, 0).unwrap();
        let failed: Vec<bool> = rows.iter().map(|row| row.error.is_some()).collect();
        assert_eq!((failed, count), (vec![false, true, true], 3));
    }
}
