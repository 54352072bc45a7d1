//! An index catches up with any number of writes in steps, and is not built again.

use std::time::Instant;

use super::*;
use crate::index::advance::advance;
use crate::index::project::{ProjectIndex, STEP_ROWS};
use crate::index::read::{Limits, ReadTx};

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
