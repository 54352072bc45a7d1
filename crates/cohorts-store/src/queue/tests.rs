//! Claims, lost claims, fills and the history, each in a new database.

use super::*;
use crate::cohorts::{create, find};
use crate::definition::Definition;
use crate::testing::TestDatabase;
use crate::{ProjectId, Store, history, keys, projects};

/// A new cohort in a new database.
fn new_cohort() -> (TestDatabase, Store, Cohort) {
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

/// Publishes this number of members, all of them changed.
fn members(count: i64) -> impl FnOnce(&mut Conn, i64) -> Result<Option<PublishedMembers>> {
    move |_, current| {
        let version = current + 1;
        Ok(Some(PublishedMembers { version, count }))
    }
}

fn claim_one(conn: &mut Conn, lease: TimeDelta) -> Option<Cohort> {
    let project = next_project(conn, ProjectId(0), Utc::now()).unwrap()?;
    claim(conn, project, lease, 1).unwrap().pop()
}

#[test]
fn waiting_cohorts_of_a_project_are_claimed_together_and_failed_ones_alone_at_the_end() {
    let (_database, store, cohort) = new_cohort();
    let conn = &mut *store.connection().unwrap();
    let owner = keys::teammate(conn, "a@x.io", "").unwrap();
    let project = cohort.project();
    let create_waiting = |conn: &mut Conn| {
        let created = create(conn, project, &owner, &cohort.definition).unwrap();
        request_calculation(conn, created.id()).unwrap();
        created.id
    };
    let claim = |conn: &mut Conn, limit| {
        let claimed = claim(conn, project, TimeDelta::seconds(9), limit).unwrap();
        claimed.iter().map(|cohort| cohort.id).collect::<Vec<_>>()
    };
    let failed = [create_waiting(conn), create_waiting(conn)];
    for _ in failed {
        let failing = claim_one(conn, TimeDelta::seconds(9)).unwrap();
        fail(conn, &failing, Utc::now(), Utc::now(), "unknown", "why").unwrap();
    }
    request_calculations(conn, &failed).unwrap();
    let ids: Vec<i64> = (0..4).map(|_| create_waiting(conn)).collect();
    assert_eq!(claim(conn, 2), [ids[0], ids[1]]);
    assert_eq!(claim(conn, 9), [ids[2], ids[3]]);
    assert_eq!(claim(conn, 9), [failed[0]]);
    assert_eq!(claim(conn, 9), [failed[1]]);
    assert!(claim(conn, 9).is_empty());
}

#[test]
fn projects_with_waiting_cohorts_are_found_in_the_order_of_their_ids() {
    let (_database, store, cohort) = new_cohort();
    let conn = &mut *store.connection().unwrap();
    let owner = keys::teammate(conn, "a@x.io", "").unwrap();
    let other = projects::create(conn, "Q", "UTC", "phc_y").unwrap().id();
    let created = create(conn, other, &owner, &cohort.definition).unwrap();
    let next = |conn: &mut Conn, after| next_project(conn, after, Utc::now()).unwrap();
    assert_eq!(next(conn, ProjectId(0)), None);
    request_calculations(conn, &[cohort.id, created.id]).unwrap();
    assert_eq!(next(conn, ProjectId(0)), Some(cohort.project()));
    assert_eq!(next(conn, cohort.project()), Some(other));
    assert_eq!(next(conn, other), Some(cohort.project()));
    claim(conn, cohort.project(), TimeDelta::seconds(9), 9).unwrap();
    assert_eq!(next(conn, ProjectId(0)), Some(other));
}

#[test]
fn a_lost_claim_leaves_no_unfinished_history() {
    let (_database, store, cohort) = new_cohort();
    let conn = &mut *store.connection().unwrap();
    let unfinished = |conn: &mut Conn| {
        let page = history::page(conn, cohort.project(), cohort.id(), 9, 0).unwrap();
        let rows = history::by_ids(conn, cohort.project(), cohort.id(), &page.ids).unwrap();
        rows.iter().filter(|row| row.finished_at.is_none()).count()
    };
    request_calculation(conn, cohort.id()).unwrap();
    // The worker died, and its lease ended.
    claim_one(conn, TimeDelta::seconds(-1)).unwrap();
    let next = claim_one(conn, TimeDelta::seconds(9)).unwrap();
    assert_eq!(unfinished(conn), 1);
    publish(conn, &next, Utc::now(), evaluated(), members(3)).unwrap();
    assert_eq!(unfinished(conn), 0);
    // A change of the cohort ends the claim.
    request_calculation(conn, cohort.id()).unwrap();
    claim_one(conn, TimeDelta::seconds(9)).unwrap();
    revoke_claim(conn, cohort.id()).unwrap();
    assert_eq!(unfinished(conn), 0);
}

#[test]
fn giving_a_claim_back_undoes_it() {
    let (_database, store, cohort) = new_cohort();
    let conn = &mut *store.connection().unwrap();
    request_calculation(conn, cohort.id()).unwrap();
    let first = claim_one(conn, TimeDelta::seconds(9)).unwrap();
    give_back(conn, &first).unwrap();
    assert_eq!(
        history::page(conn, cohort.project(), cohort.id(), 9, 0)
            .unwrap()
            .count,
        0
    );
    let second = claim_one(conn, TimeDelta::seconds(9)).unwrap();
    // The second claim replaced the first one.
    give_back(conn, &first).unwrap();
    assert_eq!(
        history::page(conn, cohort.project(), cohort.id(), 9, 0)
            .unwrap()
            .count,
        1
    );
    assert!(claim_one(conn, TimeDelta::seconds(9)).is_none());
    assert_eq!(
        publish(conn, &second, Utc::now(), evaluated(), members(3)).unwrap(),
        Some(3)
    );
}

#[test]
fn an_expired_claim_is_taken_over_and_writes_nothing() {
    let (_database, store, cohort) = new_cohort();
    let conn = &mut *store.connection().unwrap();
    request_calculation(conn, cohort.id()).unwrap();
    let expired = claim_one(conn, TimeDelta::milliseconds(300)).unwrap();
    assert!(claim_one(conn, TimeDelta::seconds(9)).is_none());
    assert!(renew_lease(conn, &expired, TimeDelta::seconds(-1)).unwrap());

    let next = claim_one(conn, TimeDelta::seconds(9)).unwrap();
    assert_eq!((expired.id, expired.attempt + 1), (next.id, next.attempt));
    assert!(!renew_lease(conn, &expired, TimeDelta::seconds(9)).unwrap());
    assert_eq!(lock_claimed(conn, &expired).unwrap(), None);
    assert_eq!(
        publish(conn, &expired, Utc::now(), evaluated(), members(7)).unwrap(),
        None
    );
    let (row, _) = find(conn, cohort.project(), cohort.id()).unwrap().unwrap();
    assert_eq!((row.count, row.is_calculating), (None, true));

    // A request during a calculation is answered by another calculation.
    request_calculation(conn, cohort.id()).unwrap();
    publish(conn, &next, Utc::now(), evaluated(), members(5)).unwrap();
    let (row, _) = find(conn, cohort.project(), cohort.id()).unwrap().unwrap();
    assert_eq!(
        (row.count, row.version, row.is_calculating),
        (Some(5), Some(1), true)
    );
    assert!(claim_one(conn, TimeDelta::seconds(9)).is_some());
}

#[test]
fn a_static_cohort_is_due_only_while_a_fill_is_pending() {
    let (_database, store, cohort) = new_cohort();
    let conn = &mut *store.connection().unwrap();
    let due_count = |conn: &mut Conn| due(conn, Utc::now(), 9).unwrap().len();
    let mut static_definition = cohort.definition.clone();
    static_definition.is_static = true;
    request_calculation(conn, cohort.id()).unwrap();
    let claimed = claim_one(conn, TimeDelta::seconds(9)).unwrap();
    fail(conn, &claimed, Utc::now(), Utc::now(), "unknown", "why").unwrap();
    crate::cohorts::update(conn, cohort.id(), &static_definition).unwrap();
    assert_eq!(due_count(conn), 0);

    set_fill_pending_query(conn, cohort.id(), false).unwrap();
    let claimed = claim_one(conn, TimeDelta::seconds(9)).unwrap();
    // A second query is set during the calculation of the first one, and fails.
    set_fill_pending_query(conn, cohort.id(), false).unwrap();
    publish(conn, &claimed, Utc::now(), evaluated(), members(1)).unwrap();
    let next = claim_one(conn, TimeDelta::seconds(9)).unwrap();
    assert!(next.fill_pending_query);
    fail(conn, &next, Utc::now(), Utc::now(), "unknown", "why").unwrap();
    assert_eq!(due_count(conn), 1);
    request_if_idle(conn, &[cohort.id]).unwrap();
    let last = claim_one(conn, TimeDelta::seconds(9)).unwrap();
    publish(conn, &last, Utc::now(), evaluated(), members(2)).unwrap();
    assert_eq!(due_count(conn), 0);
}

#[test]
fn a_dynamic_cohort_is_due_after_any_number_of_failures() {
    let (_database, store, cohort) = new_cohort();
    let conn = &mut *store.connection().unwrap();
    for _ in 0..30 {
        request_calculation(conn, cohort.id()).unwrap();
        let claimed = claim_one(conn, TimeDelta::seconds(9)).unwrap();
        let due_at = Utc::now() + TimeDelta::days(1);
        fail(conn, &claimed, Utc::now(), due_at, "unknown", "why").unwrap();
    }
    let due_at = |time| due(conn, time, 9).unwrap();
    let found: Vec<i64> = [0, 2]
        .map(TimeDelta::days)
        .map(|days| Utc::now() + days)
        .into_iter()
        .flat_map(due_at)
        .collect();
    assert_eq!(found, [cohort.id]);
}

#[test]
fn calculations_beyond_a_number_are_found_and_deleted_also_failed_ones() {
    let (_database, store, cohort) = new_cohort();
    let conn = &mut *store.connection().unwrap();
    for fails in [true, false, false, true, false] {
        request_calculation(conn, cohort.id()).unwrap();
        let claimed = claim_one(conn, TimeDelta::seconds(9)).unwrap();
        if fails {
            fail(conn, &claimed, Utc::now(), Utc::now(), "unknown", "why").unwrap();
        } else {
            publish(conn, &claimed, Utc::now(), evaluated(), members(0)).unwrap();
        }
    }
    let times = history::times(conn, 0, 2, 9).unwrap();
    assert_eq!(times.len(), 1);
    let (excess, newest) = (times[0].newest_excess.unwrap(), times[0].newest.unwrap());
    assert!(times[0].oldest.unwrap() < excess && excess < newest);
    let delete = |conn: &mut Conn, through, limit| {
        history::delete_through(conn, cohort.id, through, newest, limit).unwrap()
    };
    assert_eq!((delete(conn, excess, 2), delete(conn, excess, 2)), (2, 1));
    let page = history::page(conn, cohort.project(), cohort.id(), 9, 0).unwrap();
    let rows = history::by_ids(conn, cohort.project(), cohort.id(), &page.ids).unwrap();
    let failed: Vec<bool> = rows.iter().map(|row| row.error.is_some()).collect();
    assert_eq!((failed, page.count), (vec![false, true], 2));
    // The newest one stays, whatever its age.
    assert_eq!(delete(conn, Utc::now(), 9), 1);
    assert_eq!(
        history::times(conn, 0, 0, 9).unwrap()[0].newest,
        Some(newest)
    );
}

#[test]
fn unfinished_calculations_without_a_worker_are_deleted() {
    let (_database, store, cohort) = new_cohort();
    let conn = &mut *store.connection().unwrap();
    request_calculation(conn, cohort.id()).unwrap();
    claim_one(conn, TimeDelta::seconds(9)).unwrap();
    let deleted = [-1, 1].map(|hours| {
        let time = Utc::now() + TimeDelta::hours(hours);
        history::delete_abandoned(conn, time, 9).unwrap()
    });
    assert_eq!(deleted, [0, 1]);
    assert_eq!(
        history::page(conn, cohort.project(), cohort.id(), 9, 0)
            .unwrap()
            .count,
        0
    );
}

#[test]
fn a_postponed_cohort_waits_for_as_long_as_its_request_and_has_no_failure() {
    let (_database, store, cohort) = new_cohort();
    let conn = &mut *store.connection().unwrap();
    let pauses = TimeDelta::seconds(5)..=TimeDelta::seconds(120);
    for (waited, pause) in [(0, 5), (60, 60), (90_000, 120)] {
        request_calculation(conn, cohort.id()).unwrap();
        let claimed = claim_one(conn, TimeDelta::seconds(9)).unwrap();
        let now = Utc::now();
        let row = cohorts::table.find(cohort.id);
        diesel::update(row)
            .set(cohorts::waiting_since.eq(now - TimeDelta::seconds(waited)))
            .execute(conn)
            .unwrap();
        postpone(conn, &claimed, pauses.clone()).unwrap();
        assert!(claim_one(conn, TimeDelta::seconds(9)).is_none());
        let until: Option<DateTime<Utc>> = row.select(cohorts::lease_until).first(conn).unwrap();
        let lasts = (until.unwrap() - now).num_seconds();
        assert!(
            (pause..=pause + 9).contains(&lasts),
            "{lasts} s, not {pause}"
        );
        // A worker without a claim writes nothing.
        assert_eq!(
            publish(conn, &claimed, now, evaluated(), members(9)).unwrap(),
            None
        );
        let ended = cohorts::lease_until.eq(now - TimeDelta::seconds(1));
        diesel::update(row).set(ended).execute(conn).unwrap();
        let again = claim_one(conn, TimeDelta::seconds(9)).unwrap();
        assert_eq!(again.errors_calculating, 0);
        let published = publish(conn, &again, now, evaluated(), members(1)).unwrap();
        assert_eq!(published, Some(1));
    }
}

#[test]
fn the_times_of_the_next_claim_and_of_the_next_due_cohort_are_known() {
    let (_database, store, cohort) = new_cohort();
    let conn = &mut *store.connection().unwrap();
    assert_eq!(next_claim_time(conn).unwrap(), None);
    request_calculations(conn, &[cohort.id]).unwrap();
    assert_eq!(next_claim_time(conn).unwrap(), Some(DateTime::UNIX_EPOCH));
    let claimed = claim(conn, cohort.project(), TimeDelta::hours(1), 9).unwrap();
    let end = next_claim_time(conn).unwrap();
    assert!(end.is_some_and(|end| end > Utc::now()), "that of the lease");
    let (now, due) = (
        Utc::now(),
        DateTime::from_timestamp(4_000_000_000, 0).unwrap(),
    );
    fail(conn, &claimed[0], now, due, "unknown", "x").unwrap();
    assert_eq!(next_claim_time(conn).unwrap(), None);
    assert_eq!(next_due_time(conn, now).unwrap(), Some(due));
    assert_eq!(next_due_time(conn, due).unwrap(), None);
}
