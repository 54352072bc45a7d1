//! Which process makes the passes.

use super::*;
use diesel::RunQueryDsl;

const LEASE: TimeDelta = TimeDelta::seconds(16);

fn run(test: &LiveTest, statement: &str) {
    let conn = &mut *test.store.connection().unwrap();
    diesel::sql_query(statement).execute(conn).unwrap();
}

/// Another process that looks for leases as of a time. Whether it has the project.
fn takes(test: &LiveTest, other: &Arc<LivePasses>, clock: DateTime<Utc>) -> bool {
    Leases::new(other).run(clock);
    other.held(test.project).is_some()
}

#[test]
fn another_process_waits_for_the_end_of_the_lease() {
    let test = LiveTest::start();
    test.cohort(&did("paid", 7));
    let (other, now) = (Arc::new(test.other()), Utc::now());
    test.lease(now);
    assert!(test.passes.held(test.project).is_some());
    assert!(!takes(&test, &other, now));
    assert!(!takes(&test, &other, now + LEASE - TimeDelta::seconds(2)));
    assert!(takes(&test, &other, now + LEASE));
    // The first process finds out at its next renewal.
    test.lease(now + LEASE);
    assert!(test.passes.held(test.project).is_none());
}

#[test]
fn a_lease_is_free_at_once_after_its_release_or_the_death_of_its_holder() {
    let test = LiveTest::start();
    test.cohort(&did("paid", 7));
    let now = Utc::now();
    test.lease(now);
    test.passes.release();
    let second = Arc::new(test.other());
    assert!(takes(&test, &second, now));
    run(&test, "update live_projects set process = '999999999 1'");
    assert!(takes(&test, &Arc::new(test.other()), now));
}

#[test]
fn the_newer_of_two_programs_takes_the_lease() {
    let test = LiveTest::start();
    test.cohort(&did("paid", 7));
    let now = Utc::now();
    test.lease(now);
    run(&test, "update live_projects set semantics = semantics + 1");
    assert!(!takes(&test, &Arc::new(test.other()), now));
    run(&test, "update live_projects set semantics = 0");
    assert!(takes(&test, &Arc::new(test.other()), now));
}

#[test]
fn a_process_without_the_lease_publishes_nothing() {
    let test = LiveTest::start();
    let cohort = test.cohort(&did("paid", 7));
    let now = Utc::now();
    test.lease(now);
    test.pass();
    test.capture("paid", "a", json!({}));
    let other = Arc::new(test.other());
    let outcome = test.pass_with(Utc::now(), || assert!(takes(&test, &other, now + LEASE)));
    assert!(outcome.is_lost && outcome.changed.is_empty());
    assert!(test.members(cohort).is_empty());
    let outcome = pass_of(&other, test.project, Utc::now(), || ());
    assert_eq!(outcome.changed, [cohort.0]);
    assert_eq!(test.members(cohort), [0]);
}

#[test]
fn after_a_restart_cohorts_continue_where_the_last_renewal_was() {
    let test = LiveTest::start();
    let cohort = test.cohort(&did("paid", 7));
    let quiet = test.cohort(&did("other", 7));
    test.lease(Utc::now());
    test.capture("paid", "a", json!({}));
    test.pass();
    test.lease(Utc::now());
    test.passes.release();
    let conn = &mut *test.store.connection().unwrap();
    let lease = cohorts_store::live::projects(conn).unwrap().remove(0);
    assert_eq!(
        lease.seq,
        events::log_head(conn, test.project.shard_key()).unwrap()
    );
    test.capture("paid", "b", json!({}));
    test.capture("other", "c", json!({}));
    let other = Arc::new(test.other());
    assert!(takes(&test, &other, Utc::now()));
    {
        let held = other.held(test.project).unwrap();
        let mut live = held.live.lock();
        let conn = &mut *other.store.connection().unwrap();
        let result = other.evaluate(conn, &mut live, Utc::now()).unwrap();
        // Of the persons written, only those since the renewal are evaluated.
        assert_eq!((result.touched, result.fallen.len()), (2, 0));
        let outcome = publish(&other, conn, &mut live, result, || ()).unwrap();
        assert_eq!(outcome.changed, [cohort.0, quiet.0]);
    }
    assert_eq!(
        (test.members(cohort), test.members(quiet)),
        (vec![0, 1], vec![2])
    );
    assert_eq!(
        (test.row(cohort).version, test.row(quiet).version),
        (Some(1), Some(1))
    );
}

#[test]
fn the_time_of_live_cohorts_is_that_of_the_last_renewal() {
    let test = LiveTest::start();
    let cohort = test.cohort(&did("paid", 7));
    let mut leases = Leases::new(&test.passes);
    leases.run(Utc::now());
    let shown = || {
        let conn = &mut *test.store.connection().unwrap();
        let mut row = test.row(cohort);
        cohorts_store::live::set_times(conn, test.project, std::iter::once(&mut row)).unwrap();
        row.last_calculation
    };
    let calculated = shown();
    let clock = Utc::now();
    test.pass_with(clock, || ());
    assert_eq!(shown(), calculated);
    test.lease(clock);
    assert_eq!(
        shown().map(|time| time.timestamp_micros()),
        Some(clock.timestamp_micros())
    );
    run(&test, "update cohorts set is_live = false");
    assert_eq!(shown(), calculated, "the cohort is behind");
}
