//! Numbers of persons of two groups: in ranges of persons, and after a load in the background.

use std::time::Duration;

use cohorts_engine::lift::{GroupCounts, GroupValueCounts, Groups};
use roaring::RoaringBitmap;

use super::super::IndexError;
use super::super::memory::Reservation;
use super::super::registry::{self, IndexCache};
use super::super::snapshot::Snapshot;
use super::{Fixture, merge, set_plan};

/// A project of 12,000 persons with one of 50 plans each. Some were changed and merged later.
fn fixture() -> Fixture {
    let fixture = Fixture::with_cohorts();
    fixture.commit(&Vec::from_iter(
        (0..12_000).map(|nth| set_plan(nth, nth % 50)),
    ));
    fixture.commit(&[set_plan(7, 3), set_plan(8, 700), merge(9, 10)]);
    fixture
}

fn count(snapshot: &Snapshot<'_, '_>) -> Result<(Vec<GroupValueCounts>, GroupCounts), IndexError> {
    let groups = Groups {
        inside: (0..12_000).step_by(2).collect::<RoaringBitmap>(),
        outside: (1..9_000).step_by(2).collect(),
    };
    let keys = ["plan", "other"].map(str::to_owned);
    let values = snapshot.compare_values(&keys, &groups)?;
    Ok((values, snapshot.count_event("x", &groups)?))
}

#[test]
fn numbers_that_find_the_memory_in_use_are_counted_in_person_ranges() {
    let fixture = fixture();
    let numbers = |cache: &IndexCache| {
        let limit = Duration::from_secs(60);
        Snapshot::read(&mut fixture.conn(), cache, fixture.project, limit, count).unwrap()
    };
    let (values, events) = numbers(&IndexCache::default());
    assert_eq!((events.inside + events.outside, values.len()), (10_499, 2));
    assert_eq!(values[0].with_value, events);
    assert_eq!(values[0].clone().values().unwrap().len(), 51);
    assert_eq!(values[1], GroupValueCounts::default());
    let cache = IndexCache::default();
    let other = Reservation::new(&cache.memory);
    assert!(other.hold(registry::DEFAULT_BUDGET, registry::DEFAULT_BUDGET));
    assert_eq!(numbers(&cache), (values, events));
    let index = cache.all().remove(0).1;
    let has_plans = index.properties.contains(&"plan".to_owned());
    assert!(
        index.events.all().is_empty() && !has_plans,
        "the blocks did not fit"
    );
}

#[test]
fn a_count_without_time_begins_a_load_that_the_next_one_finds() {
    let fixture = fixture();
    let (store, project) = (&fixture.store, fixture.project);
    let conn = &mut *fixture.conn();
    let mut read = |limit| {
        let load = || |snapshot: &Snapshot<'_, '_>| count(snapshot).map(drop);
        store.read_or_load(conn, project, limit, count, load)
    };
    let loading = read(Duration::ZERO).unwrap_err();
    assert!(matches!(loading, IndexError::Loading(_)), "{loading}");
    while store.caches.loads.count() > 0 {
        std::thread::sleep(Duration::from_millis(5));
    }
    fixture.change("delete from events");
    let (_, events) = read(Duration::from_secs(60)).unwrap();
    assert_eq!(events.inside + events.outside, 10_499);
}
