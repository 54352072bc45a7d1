//! Loads that outlast a request, or the index that they began on.

use super::*;
use crate::index::background::LoadProgress;
use crate::index::stop::StopFlag;

fn plan_of(leaf: &Value) -> cohorts_engine::Plan {
    let filters = json!({"properties": {"type": "OR", "values": [leaf]}});
    let now = Moment::utc(1_770_000_000_000_000);
    plan(&Filter::parse(&filters).unwrap(), &now).unwrap()
}

#[test]
fn blocks_loaded_while_the_index_advances_are_kept() {
    let fixture = Fixture::with_events(3_000, 100);
    let cache = IndexCache::default();
    fixture.members(&cache, has_property("plan"));
    let events = plan_of(&did_x_since(1));
    let limit = Duration::from_secs(60);
    let conn = &mut *fixture.conn();
    Snapshot::read(conn, &cache, fixture.project, limit, |snapshot| {
        fixture.commit(&[set_plan(500, 7), merge(8, 7)]);
        assert_eq!(fixture.members(&cache, has_property("plan")).len(), 1);
        let members = snapshot.evaluate(&events, &LeafCache::default())?;
        assert_eq!(members.len(), 100);
        Ok::<_, IndexError>(())
    })
    .unwrap();
    // Without rows, only the loaded blocks can give the result.
    fixture.change("delete from events");
    assert_eq!(fixture.persons_of_x(&cache).len(), 100);
}

#[test]
fn a_request_without_time_begins_a_load_that_the_next_request_finds() {
    let fixture = Fixture::with_events(3_000, 100);
    let plan = plan_of(&did_x_since(1));
    let (store, project) = (&fixture.store, fixture.project);
    let conn = &mut *fixture.conn();
    let mut read = |limit| {
        store.read_within(conn, project, &plan, limit, |snapshot| {
            snapshot.evaluate(&plan, &LeafCache::default())
        })
    };
    let loading = read(Duration::ZERO).unwrap_err();
    let IndexError::Loading(LoadProgress { elapsed, .. }) = loading else {
        panic!("{loading}");
    };
    assert!(elapsed.is_some(), "the load has begun");
    while store.caches.loads.count() > 0 {
        std::thread::sleep(Duration::from_millis(5));
    }
    fixture.change("delete from events");
    assert_eq!(read(Duration::from_secs(60)).unwrap().len(), 100);
    assert_eq!(store.caches.index.builds(), 1);
}

#[test]
fn a_stopped_reader_ends_at_its_next_interruption_point() {
    let fixture = Fixture::with_events(20, 10);
    let plan = plan_of(&did_x_since(1));
    let (cache, stop) = (IndexCache::default(), StopFlag::default());
    let limit = Duration::from_secs(60);
    let conn = &mut *fixture.conn();
    let result = Snapshot::read(conn, &cache, fixture.project, limit, |snapshot| {
        let snapshot = snapshot.with_stop(&stop);
        snapshot.evaluate(&plan, &LeafCache::default())?;
        stop.set();
        snapshot.evaluate(&plan, &LeafCache::default())
    });
    assert!(matches!(result, Err(IndexError::Stopped)), "{result:?}");
}
