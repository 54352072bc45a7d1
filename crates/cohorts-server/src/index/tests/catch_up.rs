//! An index catches up with any number of writes in steps, and is not built again.

use std::sync::Arc;
use std::thread;
use std::time::Instant;

use diesel::connection::SimpleConnection;

use super::*;
use crate::index::advance::advance;
use crate::index::project::{ProjectIndex, STEP_ROWS};
use crate::index::read::{Limits, ReadTx};
use crate::priority;

/// Writes of about eight steps: new persons, changed properties, merges, and one write of more than a step.
fn burst(fixture: &Fixture) {
    for part in 0..6 {
        let items = (0..STEP_ROWS).map(|nth| set_plan(nth % 400 + part * 100, (nth + part) % 12));
        fixture.commit(&items.collect::<Vec<_>>());
        fixture.commit(&[merge(part * 10, part * 10 + 1), item("y", part, "")]);
    }
    let items: Vec<Item> = (0..STEP_ROWS * 2).map(|id| item("y", id, "")).collect();
    fixture.commit(&items);
}

/// The members of every kind of criterion.
fn all_members(fixture: &Fixture, cache: &IndexCache) -> Vec<RoaringBitmap> {
    let plan = json!({"type": "person", "key": "plan", "operator": "exact", "value": ["v7", "v8"]});
    let leaves = criteria().into_iter().chain([plan, did_x_since(1)]);
    leaves.map(|leaf| fixture.members(cache, leaf)).collect()
}

#[test]
fn a_burst_is_absorbed_without_a_new_index() {
    let fixture = Fixture::with_events(2_000, 100);
    let cache = IndexCache::default();
    all_members(&fixture, &cache);
    burst(&fixture);
    let expected = all_members(&fixture, &IndexCache::default());
    assert_eq!(all_members(&fixture, &cache), expected);
    assert!(
        expected
            .iter()
            .filter(|members| !members.is_empty())
            .count()
            > 5
    );
    assert_eq!(cache.builds(), 1);
}

/// The index after one step of a catch-up to the end of the log.
fn one_step(fixture: &Fixture, index: &ProjectIndex) -> ProjectIndex {
    let limits = Limits {
        deadline: Instant::now() + Duration::from_secs(60),
        memory: u64::MAX,
    };
    ReadTx::run(&mut fixture.conn(), fixture.project, limits, |tx| {
        advance(index, &tx, tx.log_head()?)
    })
    .unwrap()
}

#[test]
fn a_caller_that_runs_out_of_time_leaves_its_steps_to_the_next() {
    let fixture = Fixture::with_events(2_000, 100);
    let cache = IndexCache::default();
    all_members(&fixture, &cache);
    let (project, index) = cache.all().remove(0);
    burst(&fixture);
    let expected = all_members(&fixture, &IndexCache::default());
    let step = one_step(&fixture, &index);
    assert!(step.is_behind && step.seq > index.seq);
    let second = one_step(&fixture, &step);
    assert!(second.is_behind && second.seq > step.seq);
    cache.put(project, second);
    assert_eq!(all_members(&fixture, &cache), expected);
    assert_eq!(cache.builds(), 1);
}

#[test]
fn a_start_reads_any_number_of_rows_after_the_segments() {
    let fixture = Fixture::with_events(12_000, 100);
    let cache = IndexCache::default();
    all_members(&fixture, &cache);
    fixture.write_checkpoints(&cache);
    burst(&fixture);
    let expected = all_members(&fixture, &IndexCache::default());
    fixture.change("delete from events where event = 'x' and seq <= 1");
    let after_start = IndexCache::default();
    let start = fixture.persons_of_x(&after_start);
    assert_eq!(start, *expected.last().unwrap());
}

/// Waits until `is_done`.
fn wait_until(mut is_done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_done() {
        assert!(Instant::now() < deadline, "it takes too long");
        thread::sleep(Duration::from_millis(5));
    }
}

#[derive(QueryableByName)]
struct Waiting {
    #[diesel(sql_type = diesel::sql_types::Bool)]
    is_waiting: bool,
}

/// Runs `during` while a thread with a low priority advances the index of `cache`. Returns the persons with an event `x`
/// that it finds.
fn question(fixture: &Fixture, cache: &IndexCache, during: impl FnOnce()) -> u64 {
    thread::scope(|scope| {
        let conn = &mut *fixture.conn();
        conn.batch_execute("begin; lock table events, persons, distinct_ids, tombstones")
            .unwrap();
        let question = scope.spawn(|| {
            priority::lower();
            fixture.persons_of_x(cache)
        });
        let is_waiting = "select exists (select from pg_locks where not granted) as is_waiting";
        wait_until(|| {
            let rows: Vec<Waiting> = diesel::sql_query(is_waiting)
                .load(&mut *fixture.conn())
                .unwrap();
            rows[0].is_waiting
        });
        during();
        conn.batch_execute("rollback").unwrap();
        question.join().unwrap().len()
    })
}

#[test]
fn a_thread_with_a_low_priority_advances_an_index_without_its_lock() {
    let fixture = Fixture::with_events(2_000, 100);
    let cache = IndexCache::default();
    assert_eq!(fixture.persons_of_x(&cache).len(), 100);
    let before = cache.all().remove(0).1;
    fixture.commit(&[item("x", 200, "")]);
    let persons = question(&fixture, &cache, || {
        // A pass finds the index as it was, and need not wait.
        let newest = cache.newest_if_free(fixture.project).unwrap();
        assert!(Arc::ptr_eq(&newest, &before));
    });
    assert_eq!(persons, 101);
    assert!(cache.all().remove(0).1.seq > before.seq);
    assert_eq!(cache.builds(), 1);
}

#[test]
fn a_thread_with_a_low_priority_keeps_an_index_that_another_one_has_advanced() {
    let fixture = Fixture::with_events(2_000, 100);
    let cache = IndexCache::default();
    assert_eq!(fixture.persons_of_x(&cache).len(), 100);
    fixture.commit(&[item("x", 200, "")]);
    let advanced = one_step(&fixture, &cache.all().remove(0).1);
    let mut newest = None;
    let persons = question(&fixture, &cache, || {
        cache.put(fixture.project, advanced);
        newest = cache.newest_if_free(fixture.project);
    });
    assert_eq!(persons, 101);
    assert!(Arc::ptr_eq(&newest.unwrap(), &cache.all().remove(0).1));
}

#[test]
fn a_thread_with_a_low_priority_builds_an_index() {
    let fixture = Fixture::with_events(2_000, 100);
    let cache = IndexCache::default();
    let ask = || {
        priority::lower();
        fixture.persons_of_x(&cache).len()
    };
    assert_eq!(thread::scope(|scope| scope.spawn(ask).join().unwrap()), 100);
    assert_eq!(
        (cache.builds(), fixture.persons_of_x(&cache).len()),
        (1, 100)
    );
}
