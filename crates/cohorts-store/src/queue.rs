//! The calculation queue: every change of a calculation's state.
//!
//! A worker claims a cohort for the length of a lease. All its later writes must carry the attempt of the claim, so a
//! worker that lost its claim can write nothing.

use chrono::{DateTime, TimeDelta, Utc};
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Nullable};

use crate::cohorts::Cohort;
use crate::schema::{calculations, cohorts};
use crate::{CohortId, Conn, ProjectId, Result, transaction};

/// A cohort that is due, with the last batch of the log that its members know of.
pub type Due = (Cohort, i64);

/// Some of the idle cohorts that are to be looked at by now, those that have waited longest first. One that has failed
/// too often is left out for good.
pub fn due(conn: &mut Conn, now: DateTime<Utc>, most_errors: i64, most: i64) -> Result<Vec<Due>> {
    Ok(cohorts::table
        .filter(diesel::dsl::not(cohorts::deleted))
        .filter(diesel::dsl::not(cohorts::is_static).or(has_pending_fill()))
        .filter(diesel::dsl::not(cohorts::is_calculating))
        .filter(cohorts::due_at.is_null().or(cohorts::due_at.le(now)))
        .filter(cohorts::errors_calculating.le(most_errors))
        .order((cohorts::due_at.asc().nulls_first(), cohorts::id))
        .select((Cohort::as_select(), cohorts::seen_seq))
        .limit(most)
        .load(conn)?)
}

/// Writes down that the members of idle cohorts of a project, as of a batch, are right at a time. One that was
/// calculated since it was found due is left alone: it may ask for something else by now.
pub fn confirm(
    conn: &mut Conn,
    ids: &[i64],
    seen_seq: i64,
    now: DateTime<Utc>,
    due_at: DateTime<Utc>,
) -> Result<()> {
    let idle = cohorts::table
        .filter(cohorts::id.eq_any(ids))
        .filter(diesel::dsl::not(cohorts::is_calculating))
        .filter(cohorts::due_at.is_null().or(cohorts::due_at.le(now)));
    diesel::update(idle)
        .set((
            cohorts::seen_seq.eq(seen_seq),
            cohorts::last_calculation.eq(now),
            cohorts::due_at.eq(due_at),
        ))
        .execute(conn)?;
    Ok(())
}

/// How many cohorts wait for somebody to calculate them, and since when the first of them does.
pub fn waiting_for(conn: &mut Conn, now: DateTime<Utc>) -> Result<(i64, Option<DateTime<Utc>>)> {
    use diesel::dsl::{count_star, min};
    Ok(waiting(0, i64::MAX, now)
        .select((count_star(), min(cohorts::waiting_since)))
        .first(conn)?)
}

/// Whether a static cohort still lacks people.
#[diesel::dsl::auto_type]
fn has_pending_fill() -> _ {
    cohorts::fill_pending_criteria.or(cohorts::fill_pending_query)
}

/// Asks for calculations of cohorts that are still live and idle, and dynamic or never filled.
pub fn request_if_idle(conn: &mut Conn, ids: &[i64]) -> Result<usize> {
    let idle = cohorts::table
        .filter(cohorts::id.eq_any(ids))
        .filter(diesel::dsl::not(cohorts::deleted))
        .filter(diesel::dsl::not(cohorts::is_static).or(has_pending_fill()))
        .filter(diesel::dsl::not(cohorts::is_calculating));
    Ok(diesel::update(idle)
        .set((
            cohorts::is_calculating.eq(true),
            cohorts::waiting_since.eq(since_now(Some(Utc::now()))),
            cohorts::pending_version.eq(coalesce(cohorts::pending_version, 0) + 1),
        ))
        .execute(conn)?)
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
) -> Result<Vec<Cohort>> {
    transaction(conn, |conn| {
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
fn begin(conn: &mut Conn, ids: &[i64], lease: TimeDelta) -> Result<Vec<Cohort>> {
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
            calculations::filters.eq(cohort.definition.filters().cloned()),
            calculations::started_at.eq(Utc::now()),
        )
    };
    diesel::insert_into(calculations::table)
        .values(claimed.iter().map(entry).collect::<Vec<_>>())
        .execute(conn)?;
    Ok(claimed)
}

/// Gives back a claimed cohort whose calculation has not begun, as if it had not been claimed.
pub fn give_back(conn: &mut Conn, claimed: &Cohort) -> Result<()> {
    transaction(conn, |conn| {
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
pub fn renew_lease(conn: &mut Conn, claimed: &Cohort, lease: TimeDelta) -> Result<bool> {
    let kept = diesel::update(claimed!(claimed).filter(cohorts::lease_until.is_not_null()))
        .set(cohorts::lease_until.eq(Utc::now() + lease))
        .execute(conn)?;
    Ok(kept == 1)
}

/// Whether the claim still holds. It then holds until the transaction ends.
pub fn lock_claimed(conn: &mut Conn, claimed: &Cohort) -> Result<bool> {
    let found = claimed!(claimed)
        .select(cohorts::id)
        .for_update()
        .first::<i64>(conn)
        .optional()?;
    Ok(found.is_some())
}

/// A new attempt at the members of a cohort, by which a worker's claim on it is lost.
pub fn next_attempt(conn: &mut Conn, id: CohortId) -> Result<i64> {
    Ok(diesel::update(cohorts::table.find(id.0))
        .set((
            cohorts::attempt.eq(cohorts::attempt + 1),
            cohorts::lease_until.eq(None::<DateTime<Utc>>),
        ))
        .returning(cohorts::attempt)
        .get_result(conn)?)
}

/// Lets readers see the members that were written by hand as of a version.
pub fn publish_edit(conn: &mut Conn, id: CohortId, version: i64, count: i64) -> Result<()> {
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
pub struct Evaluated {
    /// The moment that stood for "now" in it.
    pub at: DateTime<Utc>,
    /// When it is looked at again, if ever.
    pub due_at: Option<DateTime<Utc>>,
    /// The last batch of the log that it knows of.
    pub seen_seq: i64,
}

/// Ends a calculation well: from now on readers see the members that its attempt wrote. `count` tells how many they
/// are, with the cohort locked. Does nothing if the claim is lost.
pub fn publish(
    conn: &mut Conn,
    claimed: &Cohort,
    begun: DateTime<Utc>,
    evaluated: Evaluated,
    count: impl FnOnce(&mut Conn) -> Result<i64>,
) -> Result<Option<i64>> {
    transaction(conn, |conn| {
        if !lock_claimed(conn, claimed)? {
            return Ok(None);
        }
        let count = count(conn)?;
        diesel::update(claimed!(claimed))
            .set((
                cohorts::version.eq(claimed.pending_version),
                cohorts::member_version.eq(claimed.attempt),
                cohorts::seen_seq.eq(evaluated.seen_seq),
                cohorts::count.eq(count),
                cohorts::last_calculation.eq(evaluated.at),
                cohorts::errors_calculating.eq(0),
                cohorts::due_at.eq(evaluated.due_at),
                cohorts::lease_until.eq(None::<DateTime<Utc>>),
                cohorts::is_calculating.eq(is_ahead_of(claimed.pending_version)),
                cohorts::fill_pending_criteria.eq(false),
                cohorts::fill_pending_query
                    .eq(cohorts::fill_pending_query.and(is_ahead_of(claimed.pending_version))),
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
) -> Result<()> {
    // A text in the database cannot hold NUL, and whoever wrote the criteria may have put one in.
    let error = &error.replace('\0', "\u{fffd}");
    transaction(conn, |conn| {
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
) -> Result<()> {
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

/// Asks for calculations; the worker finds them after the commit.
pub fn request_calculations(conn: &mut Conn, ids: &[i64]) -> Result<()> {
    diesel::update(cohorts::table.filter(cohorts::id.eq_any(ids)))
        .set((
            cohorts::is_calculating.eq(true),
            cohorts::waiting_since.eq(since_now(Some(Utc::now()))),
            cohorts::pending_version.eq(coalesce(cohorts::pending_version, 0) + 1),
        ))
        .execute(conn)?;
    Ok(())
}

/// Asks for the calculation of one cohort.
pub fn request_calculation(conn: &mut Conn, id: CohortId) -> Result<()> {
    Ok(request_calculations(conn, &[id.0])?)
}

/// Takes back what was asked for. A calculation under way ends without another after it.
pub fn cancel_calculation(conn: &mut Conn, id: CohortId) -> Result<()> {
    diesel::update(cohorts::table.find(id.0))
        .set(cohorts::is_calculating.eq(false))
        .execute(conn)?;
    Ok(())
}

/// Writes down that a static cohort lacks whom its criteria ask for, and asks for them unless it is deleted. It counts
/// no versions.
pub fn set_fill_pending_criteria(conn: &mut Conn, id: CohortId, deleted: bool) -> Result<()> {
    diesel::update(cohorts::table.find(id.0))
        .set((
            cohorts::fill_pending_criteria.eq(true),
            cohorts::is_calculating.eq(!deleted),
            cohorts::waiting_since.eq(since_now(Some(Utc::now()))),
        ))
        .execute(conn)?;
    Ok(())
}

/// Writes down that a static cohort lacks whom its query asks for, and asks for them, also where a calculation is under
/// way, unless it is deleted.
pub fn set_fill_pending_query(conn: &mut Conn, id: CohortId, deleted: bool) -> Result<()> {
    diesel::update(cohorts::table.find(id.0))
        .set((
            cohorts::fill_pending_query.eq(true),
            cohorts::pending_version.eq(coalesce(cohorts::pending_version, 0) + 1),
            cohorts::is_calculating.eq(!deleted),
            cohorts::waiting_since.eq(since_now(Some(Utc::now()))),
        ))
        .execute(conn)?;
    Ok(())
}

/// A cohort that is dynamic owes nothing.
pub fn clear_pending_fills(conn: &mut Conn, id: CohortId) -> Result<()> {
    diesel::update(cohorts::table.find(id.0))
        .set((
            cohorts::fill_pending_criteria.eq(false),
            cohorts::fill_pending_query.eq(false),
        ))
        .execute(conn)?;
    Ok(())
}

/// A static cohort without a query may still owe whom its criteria ask for.
pub fn clear_fill_pending_query(conn: &mut Conn, id: CohortId) -> Result<()> {
    diesel::update(cohorts::table.find(id.0))
        .set(cohorts::fill_pending_query.eq(false))
        .execute(conn)?;
    Ok(())
}

/// Asks for what a static cohort owes.
pub fn request_pending_fill(conn: &mut Conn, id: CohortId) -> Result<()> {
    diesel::update(cohorts::table.find(id.0))
        .set((
            cohorts::is_calculating
                .eq(cohorts::fill_pending_criteria.or(cohorts::fill_pending_query)),
            cohorts::waiting_since.eq(since_now(Some(Utc::now()))),
        ))
        .execute(conn)?;
    Ok(())
}

/// Since when a cohort waits that is asked for now: since it was asked for first.
#[diesel::dsl::auto_type]
pub fn since_now(time: Option<DateTime<Utc>>) -> _ {
    diesel::dsl::case_when(cohorts::is_calculating, cohorts::waiting_since).otherwise(time)
}

diesel::define_sql_function! {
    fn coalesce(value: Nullable<BigInt>, otherwise: Nullable<BigInt>) -> Nullable<BigInt>;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cohorts::{create, find};
    use crate::definition::Definition;
    use crate::testing::TestDatabase;
    use crate::{Store, history, keys, projects};

    /// A cohort in a database of its own.
    fn cohort() -> (TestDatabase, Store, Cohort) {
        let database = TestDatabase::create();
        let store = database.open();
        let conn = &mut *store.connection().unwrap();
        let project = projects::create(conn, "P", "UTC", "phc_x").unwrap();
        let owner = keys::teammate(conn, "a@x.io", "").unwrap();
        let definition = Definition::default();
        let created = create(conn, project.id(), &owner, &definition).unwrap();
        (database, store, created)
    }

    fn evaluated() -> Evaluated {
        Evaluated {
            at: Utc::now(),
            due_at: None,
            seen_seq: 0,
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
        assert_eq!(history::page(conn, made.id(), 9, 0).unwrap().1, 0);
        let second = claim_one(conn, TimeDelta::seconds(9)).unwrap();
        // The claim is another's now.
        give_back(conn, &first).unwrap();
        assert_eq!(history::page(conn, made.id(), 9, 0).unwrap().1, 1);
        assert!(claim_one(conn, TimeDelta::seconds(9)).is_none());
        assert_eq!(
            publish(conn, &second, Utc::now(), evaluated(), |_| Ok(3)).unwrap(),
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
        assert!(renew_lease(conn, &late, TimeDelta::seconds(-1)).unwrap());

        let next = claim_one(conn, TimeDelta::seconds(9)).unwrap();
        assert_eq!((late.id, late.attempt + 1), (next.id, next.attempt));
        assert!(!renew_lease(conn, &late, TimeDelta::seconds(9)).unwrap());
        assert!(!lock_claimed(conn, &late).unwrap());
        assert_eq!(
            publish(conn, &late, Utc::now(), evaluated(), |_| Ok(7)).unwrap(),
            None
        );
        let (row, _) = find(conn, made.project(), made.id()).unwrap().unwrap();
        assert_eq!((row.count, row.is_calculating), (None, true));

        // What is asked for meanwhile is calculated after it.
        request_calculation(conn, made.id()).unwrap();
        publish(conn, &next, Utc::now(), evaluated(), |_| Ok(5)).unwrap();
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
        let mut become_static = made.definition.clone();
        become_static.is_static = true;
        request_calculation(conn, made.id()).unwrap();
        let claimed = claim_one(conn, TimeDelta::seconds(9)).unwrap();
        fail(conn, &claimed, Utc::now(), Utc::now(), "unknown", "why").unwrap();
        crate::cohorts::update(conn, made.id(), &become_static).unwrap();
        assert_eq!(listed(conn), 0);

        set_fill_pending_query(conn, made.id(), false).unwrap();
        let claimed = claim_one(conn, TimeDelta::seconds(9)).unwrap();
        // Another query comes while this one is calculated, and then fails.
        set_fill_pending_query(conn, made.id(), false).unwrap();
        publish(conn, &claimed, Utc::now(), evaluated(), |_| Ok(1)).unwrap();
        let next = claim_one(conn, TimeDelta::seconds(9)).unwrap();
        assert!(next.fill_pending_query);
        fail(conn, &next, Utc::now(), Utc::now(), "unknown", "why").unwrap();
        assert_eq!(listed(conn), 1);
        request_if_idle(conn, &[made.id]).unwrap();
        let last = claim_one(conn, TimeDelta::seconds(9)).unwrap();
        publish(conn, &last, Utc::now(), evaluated(), |_| Ok(2)).unwrap();
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
                false => drop(publish(conn, &claimed, Utc::now(), evaluated(), |_| Ok(0)).unwrap()),
            }
        }
        history::prune(conn, made.id(), 2).unwrap();
        let (rows, count) = history::page(conn, made.id(), 9, 0).unwrap();
        let failed: Vec<bool> = rows.iter().map(|row| row.error.is_some()).collect();
        assert_eq!((failed, count), (vec![false, true, true], 3));
    }
}
