//! What a pass publishes, and what it costs.

use super::*;

#[test]
fn a_pass_publishes_what_was_written_since_the_calculation() {
    let test = LiveTest::start();
    let cohort = test.cohort(&did("paid", 7));
    test.lease(Utc::now());
    assert!(test.pass().changed.is_empty());
    let (joined, version) = (test.row(cohort), test.row(cohort).version);
    assert!(joined.is_live && joined.due_at.is_none());
    test.capture("paid", "b", json!({}));
    assert_eq!(test.pass().changed, [cohort.0]);
    test.capture("paid", "c", json!({}));
    test.capture("looked", "d", json!({}));
    assert_eq!(test.pass().changed, [cohort.0]);
    assert_eq!(test.members(cohort), [1, 2]);
    assert_eq!(test.causes(cohort), ["data", "data"]);
    let row = test.row(cohort);
    assert_eq!((row.version, row.is_calculating), (version, false));
    assert!(row.last_calculation > joined.last_calculation);
}

#[test]
fn a_person_leaves_at_the_instant_at_which_the_window_passes_the_event() {
    let test = LiveTest::start();
    test.capture("paid", "a", json!({}));
    let cohort = test.cohort(&did("paid", 7));
    test.lease(Utc::now());
    let wake = Wake {
        project: test.project,
        written: None,
    };
    test.passes.pass(wake, Utc::now()).unwrap();
    let held = test.passes.held(test.project).unwrap();
    let next = held.progress.lock().quiet_until.expect("an instant");
    let next = DateTime::from_timestamp_micros(next).unwrap();
    let days = (next - Utc::now()).num_hours();
    assert!(
        days < 7 * 24,
        "a window of days ends at the start of a day: {next}"
    );
    test.pass_with(next - TimeDelta::microseconds(1), || ());
    assert_eq!(test.members(cohort), [0]);
    let mut clock = next;
    while test.members(cohort) == [0] {
        test.passes.pass(wake, clock).unwrap();
        let next = held.progress.lock().quiet_until.expect("an instant");
        clock = DateTime::from_timestamp_micros(next).unwrap();
        assert!(clock < Utc::now() + TimeDelta::days(10));
    }
    assert!(test.members(cohort).is_empty());
    assert_eq!(test.causes(cohort), ["criteria", "time"]);
}

#[test]
fn untouched_cohorts_cost_no_statement() {
    let test = LiveTest::start();
    let touched = test.cohort(&did("paid", 7));
    test.lease(Utc::now());
    let statements = |id: &str| {
        test.pass();
        test.capture("paid", id, json!({}));
        let before = test.store.statements.get();
        assert_eq!(test.pass().changed, [touched.0]);
        test.store.statements.get() - before
    };
    statements("a");
    let with_one = statements("b");
    for nth in 0..20 {
        test.cohort(&did(&format!("other {nth}"), 7));
    }
    assert_eq!(statements("c"), with_one);
}

#[test]
fn a_pass_without_a_change_commits_nothing() {
    let test = LiveTest::start();
    test.cohort(&did("paid", 7));
    test.lease(Utc::now());
    test.pass();
    let conn = &mut *test.store.connection().unwrap();
    let head = changes::heads(conn, &[test.project]).unwrap();
    test.capture("looked", "a", json!({}));
    assert!(test.pass().changed.is_empty());
    assert_eq!(changes::heads(conn, &[test.project]).unwrap(), head);
}

#[test]
fn nested_cohorts_are_published_by_one_pass() {
    let test = LiveTest::start();
    let inner = test.cohort(&did("paid", 7));
    let outer = test.cohort(&member_of(inner));
    test.lease(Utc::now());
    test.pass();
    test.capture("paid", "c", json!({}));
    assert_eq!(test.pass().changed, [inner.0, outer.0]);
    assert_eq!(
        (test.members(inner), test.members(outer)),
        (vec![2], vec![2])
    );
}

#[test]
fn an_edit_of_a_static_cohort_changes_the_cohorts_that_refer_to_it() {
    let test = LiveTest::start();
    let list = test.create(&did("paid", 7), true);
    test.edit(list, &[0, 1]);
    let outer = test.cohort(&member_of(list));
    test.lease(Utc::now());
    test.pass();
    assert_eq!(test.members(outer), [0, 1]);
    test.edit(list, &[1, 3]);
    assert_eq!(test.pass().changed, [outer.0]);
    assert_eq!(test.members(outer), [1, 3]);
}

#[test]
fn a_cohort_that_needs_a_full_evaluation_delays_no_other() {
    let test = LiveTest::start();
    let (old, live) = (test.cohort(&did("paid", 7)), test.cohort(&did("paid", 8)));
    test.lease(Utc::now());
    test.pass();
    test.store
        .connection()
        .map(|mut conn| {
            use diesel::RunQueryDsl;
            let statement = format!(
                "update cohorts set attempt = attempt + 1, \
                evaluation = jsonb_set(evaluation::jsonb, '{{semantics}}', '0') where id = {}",
                old.0
            );
            diesel::sql_query(statement).execute(&mut *conn).unwrap();
        })
        .unwrap();
    test.capture("paid", "a", json!({}));
    assert_eq!(test.pass().changed, [live.0]);
    let row = test.row(old);
    assert!(
        row.is_calculating && !row.is_live,
        "the queue calculates it"
    );
    test.calculate();
    assert!(test.pass().changed.is_empty());
    assert_eq!((test.members(old), test.members(live)), (vec![0], vec![0]));
    assert!(test.row(old).is_live);
}

#[test]
fn an_edited_cohort_is_calculated_by_the_queue_and_live_again() {
    let test = LiveTest::start();
    test.capture("looked", "d", json!({}));
    let cohort = test.cohort(&did("paid", 7));
    let outer = test.cohort(&member_of(cohort));
    test.lease(Utc::now());
    test.pass();
    let conn = &mut *test.store.connection().unwrap();
    let mut definition = test.row(cohort).definition;
    let filters = json!({"properties": {"type": "AND", "values": [did("looked", 7)]}});
    definition.set_filters(Some(JsonText::of(&filters)));
    cohorts::update(conn, cohort, &definition).unwrap();
    queue::request_calculations(conn, &[cohort.0, outer.0]).unwrap();
    assert!(test.pass().changed.is_empty(), "both wait for the queue");
    test.calculate();
    test.pass();
    assert_eq!(
        (test.members(cohort), test.members(outer)),
        (vec![3], vec![3])
    );
    test.capture("looked", "a", json!({}));
    assert_eq!(test.pass().changed, [cohort.0, outer.0]);
}
