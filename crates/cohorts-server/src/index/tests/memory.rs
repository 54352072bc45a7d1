//! The memory of the index and of its readers, and what a plan reads together.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use cohorts_engine::{Filter, Moment, plan};
use serde_json::{Value, json};

use super::super::IndexError;
use super::super::advance::advance;
use super::super::memory::Reservation;
use super::super::project::ProjectIndex;
use super::super::read::{Limits, ReadTx, RowCount};
use super::super::registry::{self, IndexCache};
use super::super::snapshot::Snapshot;
use super::{Fixture, Item, has_property, item, set_plan};

#[test]
fn the_budget_includes_keys_persons_and_other_caches() {
    let fixture = Fixture::with_events(50, 50);
    let cache = IndexCache::default();
    let before = {
        fixture.persons_of_x(&cache);
        cache.bytes()
    };
    for nth in 0..20 {
        fixture.members(&cache, has_property(&format!("{nth:01000}")));
    }
    assert!(cache.bytes() >= before + 20 * 1_000);
    let persons = cache.all()[0].1.persons.serialized_size() as u64;
    assert!(cache.all()[0].1.base_bytes() >= persons);
    // The budget is exhausted by another cache, so only what is in use stays.
    cache
        .memory
        .distinct_ids
        .store(registry::DEFAULT_BUDGET, Ordering::Relaxed);
    assert_eq!(fixture.persons_of_x(&cache).len(), 50);
    assert_eq!(cache.bytes(), 0);
}

#[test]
fn an_evaluation_that_finds_the_memory_in_use_is_evaluated_in_person_ranges() {
    let fixture = Fixture::with_events(12_000, 3_000);
    let expected = fixture.persons_of_x(&IndexCache::default());
    let cache = IndexCache::default();
    let other = Reservation::new(&cache.memory);
    assert!(other.hold(registry::DEFAULT_BUDGET, registry::DEFAULT_BUDGET));
    assert_eq!(fixture.persons_of_x(&cache), expected);
    assert!(
        cache.all()[0].1.events.all().is_empty(),
        "the events did not fit"
    );
    drop(other);
    assert_eq!(fixture.persons_of_x(&cache), expected);
    assert_eq!(cache.all()[0].1.events.all().len(), 1);
}

#[test]
fn the_memory_of_a_step_is_counted_until_its_successor_has_it() {
    let fixture = Fixture::with_events(100, 100);
    let cache = IndexCache::default();
    fixture.members(&cache, has_property("plan"));
    let index = cache.all().remove(0).1;
    let items: Vec<Item> = (0..1_000).map(|nth| set_plan(nth, nth)).collect();
    fixture.commit(&items);
    let limits = Limits {
        deadline: Instant::now() + Duration::from_secs(60),
        memory: u64::MAX,
    };
    let (memory, rows) = (&cache.memory, RowCount::default());
    let conn = &mut *fixture.conn();
    ReadTx::run_with(conn, fixture.project, limits, memory, &rows, |tx| {
        advance(&index, &tx, tx.log_head()?)?;
        let changed = 1_000 * size_of::<(u32, i64)>() as u64;
        assert!(memory.besides_index() > changed + 1_000 * "v100".len() as u64);
        tx.release_loading();
        assert_eq!(memory.besides_index(), 0);
        Ok::<_, IndexError>(())
    })
    .unwrap();
    fixture.members(&cache, has_property("plan"));
    assert_eq!(memory.besides_index(), 0);
    // Members that are published take memory from the indexes too.
    let published = cache.reserve(5_000);
    assert_eq!(memory.besides_index(), 5_000);
    drop(published);
    assert_eq!(memory.besides_index(), 0);
}

#[test]
fn a_small_budget_bounds_what_is_decoded_from_checkpoints() {
    let fixture = Fixture::with_cohorts();
    let items: Vec<Item> = (0..12_000).map(|nth| set_plan(nth, nth)).collect();
    fixture.commit(&items);
    let cache = IndexCache::default();
    fixture.members(&cache, has_property("plan"));
    fixture.write_checkpoints(&cache);
    let bytes = cache.all()[0].1.properties.all()[0].value.bytes() as u64;
    let load = |budget: u64| {
        let memory = &std::sync::Arc::default();
        let limits = Limits {
            deadline: Instant::now() + Duration::from_secs(60),
            memory: budget,
        };
        let rows = RowCount::default();
        let conn = &mut *fixture.conn();
        let loaded = ReadTx::run_with(conn, fixture.project, limits, memory, &rows, |tx| {
            let index =
                ProjectIndex::new(&tx, tx.log_head()?, tx.retention()?, &Default::default())?;
            index.property(&tx, "plan")
        });
        match loaded {
            Ok(block) => block.person_count(),
            Err(IndexError::OverBudget) => 0,
            Err(cause) => panic!("{cause}"),
        }
    };
    assert_eq!([bytes / 2, bytes * 2].map(load), [0, 12_000]);
}

/// The number of members, and of statements that the evaluation of a plan needs.
fn statements(fixture: &Fixture, leaves: &[Value]) -> (u64, u64) {
    let filters = json!({"properties": {"type": "OR", "values": leaves}});
    let now = Moment::utc(1_770_000_000_000_000);
    let plan = plan(&Filter::parse(&filters).unwrap(), &now).unwrap();
    let cache = IndexCache::default();
    let conn = &mut *fixture.conn();
    let before = fixture.store.statements.get();
    let limit = std::time::Duration::from_secs(60);
    let members = Snapshot::read(conn, &cache, fixture.project, limit, |snapshot| {
        let explanation = snapshot.explain(&plan)?;
        Ok::<_, IndexError>(explanation.members.len())
    });
    (members.unwrap(), fixture.store.statements.get() - before)
}

#[test]
fn a_plan_with_many_properties_events_or_windows_reads_them_together() {
    let fixture = Fixture::new();
    let items: Vec<Item> = (0..300)
        .map(|nth| {
            let key = nth % 100;
            let more = format!(
                r#", "properties": {{"$set": {{"p{key}": "v", "q\u0022": [1, {{"a": 2}}]}}}}"#
            );
            item("x", nth, &more)
        })
        .collect();
    fixture.commit(&items);
    let few = statements(&fixture, &[has_property("p1")]).1;
    let properties: Vec<Value> = (0..100)
        .map(|nth| has_property(&format!("p{nth}")))
        .collect();
    let (members, count) = statements(&fixture, &properties);
    assert_eq!(members, 300);
    assert!(
        count <= few,
        "{count} statements, and {few} for one property"
    );
    let quoted: Vec<Value> = (0..20)
        .map(|nth| has_property(&format!("other{nth}")))
        .collect();
    let list = has_property("q\"");
    assert_eq!(statements(&fixture, &[quoted, vec![list]].concat()).0, 300);

    let did = |event: &str, days: usize| {
        json!({"type": "behavioral", "key": event, "value": "performed_event",
            "event_type": "events", "time_value": days, "time_interval": "day"})
    };
    let few = statements(&fixture, &[did("x", 300)]).1;
    let windows: Vec<Value> = (201..301).map(|days| did("x", days)).collect();
    let (members, count) = statements(&fixture, &windows);
    assert_eq!(members, 300);
    assert!(count <= few, "{count} statements, and {few} for one window");
    let names: Vec<Value> = (0..100).map(|nth| did(&format!("x{nth}"), 9)).collect();
    let count = statements(&fixture, &names).1;
    assert!(
        count <= few + 5,
        "{count} statements, and {few} for one name"
    );
}

#[test]
fn a_successor_keeps_the_last_used_blocks_only() {
    let fixture = Fixture::with_events(100, 100);
    let cache = IndexCache::default();
    let properties: Vec<Value> = (0..1_000)
        .map(|nth| has_property(&format!("p{nth}")))
        .collect();
    let filters = json!({"properties": {"type": "OR", "values": properties}});
    let now = Moment::utc(1_770_000_000_000_000);
    let plan = plan(&Filter::parse(&filters).unwrap(), &now).unwrap();
    let limit = std::time::Duration::from_secs(60);
    let evaluate = || {
        let conn = &mut *fixture.conn();
        Snapshot::read(conn, &cache, fixture.project, limit, |snapshot| {
            snapshot.explain(&plan)
        })
        .map_err(|cause: IndexError| cause.to_string())
        .unwrap()
    };
    let cached = || cache.all()[0].1.properties.all();
    evaluate();
    assert_eq!(cached().len(), 1_000);
    fixture.commit(&[item("x", 1, "")]);
    fixture.persons_of_x(&cache);
    assert_eq!(cached().len(), 256);
    // The plan reads its properties in this order.
    assert!(cached().iter().any(|cached| cached.key == "p999"));
    assert!(!cached().iter().any(|cached| cached.key == "p0"));
    assert_eq!(evaluate().leaves.len(), 1_000);
}
