//! The index over a real database: segments and checkpoints, catching up, eviction and ranges of persons give the results of the rows.

mod background;
mod catch_up;
mod columns;
mod lift;
mod memory;
mod person;
mod properties;
mod ranking;
mod segments;

use std::time::Duration;

use cohorts_engine::{Filter, LeafCache, Moment, plan};
use cohorts_store::outages::Outages;
use cohorts_store::segments as stored_segments;
use cohorts_store::testing::TestDatabase;
use cohorts_store::tombstones::{self, NewTombstone};
use cohorts_store::{PooledConn, ProjectId, projects};
use diesel::prelude::*;
use roaring::RoaringBitmap;
use serde_json::{Value, json};

use super::registry::{self, IndexCache};
use super::snapshot::Snapshot;
use super::{IndexError, IndexedStore};
use crate::ingest::{Arrival, Item, commit};

/// Numbers that depend on a seed only.
pub struct Numbers(pub u64);

impl Numbers {
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) % limit
    }
}

/// An item of person `p{id}`, on a day of June 2025 that depends on `id`. `more` is JSON that follows its other members.
fn item(event: &str, id: usize, more: &str) -> Item {
    let text = format!(
        r#"{{"event": "{event}", "distinct_id": "p{id}", "timestamp": "2025-06-{:02}T10:00:00Z"{more}}}"#,
        id % 9 + 1
    );
    Item::read(&text, &Arrival::of_file(), uuid::Uuid::now_v7).unwrap()
}

/// An item that merges person `p{from}` into `p{into}`.
fn merge(into: usize, from: usize) -> Item {
    let more = format!(r#", "properties": {{"alias": "p{from}"}}"#);
    item("$merge_dangerously", into, &more)
}

/// An event `x` that sets the person's `plan`, and has the same value as its property `at`.
fn set_plan(id: usize, plan: usize) -> Item {
    let more = format!(r#", "properties": {{"at": "v{plan}", "$set": {{"plan": "v{plan}"}}}}"#);
    item("x", id, &more)
}

/// A criterion on events `x` since a day of June 2025.
fn did_x_since(day: u32) -> Value {
    json!({"type": "behavioral", "key": "x", "value": "performed_event", "event_type": "events",
        "explicit_datetime": format!("2025-06-0{day}T00:00:00Z")})
}

/// A project in a database of its own.
struct Fixture {
    store: IndexedStore,
    project: ProjectId,
    // Dropped after the store, which has connections to it.
    _database: TestDatabase,
}

impl Fixture {
    fn new() -> Self {
        let database = TestDatabase::create();
        let store = IndexedStore::new(database.open());
        let conn = &mut *store.connection().unwrap();
        let project = projects::create(conn, "P", "UTC", "phc_x").unwrap().id();
        Self {
            store,
            project,
            _database: database,
        }
    }

    /// A project with a live cohort for each criterion of [`criteria`], and one that reads the property `plan`. So all
    /// that they read is stored.
    fn with_cohorts() -> Self {
        let fixture = Self::new();
        let plan =
            json!({"type": "person", "key": "plan", "operator": "exact", "value": ["v7", "v8"]});
        for leaf in criteria().into_iter().chain([plan]) {
            fixture.add_cohort(&leaf);
        }
        fixture
    }

    /// Creates a live cohort with one criterion.
    fn add_cohort(&self, leaf: &Value) {
        let filters = json!({"properties": {"type": "OR", "values": [leaf]}});
        self.change(&format!(
            "insert into cohorts (project_id, description, groups, filters, deleted, is_static, created_at, is_calculating) \
             values ({}, '', '[]', '{filters}', false, false, now(), false)",
            self.project.0
        ));
    }

    /// The names of events with segments, and the person properties with a checkpoint, sorted.
    fn stored_names(&self) -> (Vec<String>, Vec<String>) {
        #[derive(QueryableByName)]
        struct StoredName {
            #[diesel(sql_type = diesel::sql_types::Text)]
            name: String,
        }
        let names = |statement: &str| -> Vec<String> {
            let rows: Vec<StoredName> = diesel::sql_query(statement)
                .load(&mut *self.conn())
                .unwrap();
            rows.into_iter().map(|row| row.name).collect()
        };
        (
            names("select distinct event as name from segments order by name"),
            names("select distinct property as name from property_checkpoints order by name"),
        )
    }

    /// A project with `events` events `x` of `persons` persons.
    fn with_events(events: usize, persons: usize) -> Self {
        let fixture = Self::with_cohorts();
        let items = (0..events).map(|nth| item("x", nth % persons, ""));
        fixture.commit(&items.collect::<Vec<_>>());
        fixture
    }

    fn conn(&self) -> PooledConn {
        self.store.connection().unwrap()
    }

    fn commit(&self, items: &[Item]) {
        commit(&self.store, self.project, items).unwrap();
    }

    /// Executes a statement, which must change at least one row.
    fn change(&self, statement: &str) {
        let rows = diesel::sql_query(statement).execute(&mut *self.conn());
        assert!(rows.unwrap() > 0, "{statement}");
    }

    fn write_checkpoints(&self, cache: &IndexCache) {
        cache.write_checkpoints(&mut self.conn(), &Outages::default());
    }

    /// The sequence number up to which events are in segments.
    fn segments_through(&self) -> i64 {
        let head = stored_segments::head(&mut self.conn(), self.project.shard_key());
        head.unwrap().through_seq
    }

    /// Writes the segments that are due, as another process does.
    fn write_segments(&self) {
        self.write_checkpoints(&IndexCache::default());
    }

    /// The persons that meet a criterion, evaluated on the indexes of `cache`.
    fn members(&self, cache: &IndexCache, leaf: Value) -> RoaringBitmap {
        let filters = json!({"properties": {"type": "OR", "values": [leaf]}});
        let now = Moment::utc(1_770_000_000_000_000);
        let plan = plan(&Filter::parse(&filters).unwrap(), &now).unwrap();
        let limit = Duration::from_secs(60);
        Snapshot::read(&mut self.conn(), cache, self.project, limit, |snapshot| {
            let explanation = snapshot.explain(&plan)?;
            let members = explanation.members;
            assert_eq!(explanation.leaves[0].persons, members.len());
            assert_eq!(snapshot.evaluate(&plan, &LeafCache::default())?, members);
            Ok::<_, IndexError>(members)
        })
        .unwrap()
    }

    /// The persons with an event `x`.
    fn persons_of_x(&self, cache: &IndexCache) -> RoaringBitmap {
        self.members(cache, did_x_since(1))
    }

    /// The persons with an event `x`, as a service finds them that has just started.
    fn after_start(&self) -> RoaringBitmap {
        self.persons_of_x(&IndexCache::default())
    }
}

const DAMAGE: &str = "set data = overlay(data placing '\\x55'::bytea from 20)";

#[test]
fn the_memory_of_an_index_includes_its_rollups() {
    let fixture = Fixture::with_events(12_000, 100);
    let cache = IndexCache::default();
    assert_eq!(fixture.persons_of_x(&cache).len(), 100);
    let indexes = cache.all()[0].1.events.all();
    let bytes = indexes.iter().map(|cached| cached.value.bytes() as u64);
    let segments = indexes[0].value.segments();
    let without_rollups: u64 = segments.map(|segment| segment.bytes() as u64).sum();
    assert!(cache.bytes() >= bytes.sum() && cache.bytes() > without_rollups);
}

#[test]
fn a_start_finds_events_in_segments_and_in_rows_written_after_them() {
    let fixture = Fixture::with_events(12_000, 100);
    let cache = IndexCache::default();
    fixture.persons_of_x(&cache);
    fixture.write_segments();
    // A new person, a merged person, and an event on a day that has a segment.
    fixture.commit(&[item("x", 500, ""), merge(8, 7)]);
    let expected = fixture.persons_of_x(&cache);
    assert_eq!(
        (expected.len(), fixture.after_start()),
        (100, expected.clone())
    );
    // Only the segments can give the result of the first events.
    fixture.change("delete from events where event = 'x' and seq <= 1");
    assert_eq!(fixture.after_start(), expected);
    fixture.change("delete from segment_heads");
    assert_eq!(fixture.after_start().len(), 1);
}

#[test]
fn damaged_segments_are_replaced_by_the_rows_and_written_again() {
    let fixture = Fixture::with_events(12_000, 100);
    let cache = IndexCache::default();
    let expected = fixture.persons_of_x(&cache);
    fixture.write_segments();
    fixture.change(&format!(
        "update segments {DAMAGE} where day in (select min(day) from segments)"
    ));
    let cache = IndexCache::default();
    assert_eq!(fixture.persons_of_x(&cache), expected);
    fixture.write_checkpoints(&cache);
    fixture.change("delete from events");
    assert_eq!(fixture.after_start(), expected);
}

/// The persons with plan `v7` or `v8`, and those with an event `x` at `v7`.
fn with_plan_and_with_event(
    fixture: &Fixture,
    cache: &IndexCache,
) -> (RoaringBitmap, RoaringBitmap) {
    let plan = json!({"type": "person", "key": "plan", "operator": "exact", "value": ["v7", "v8"]});
    let at = json!({"type": "event", "key": "at", "operator": "exact", "value": "v7"});
    let mut event = did_x_since(1);
    event["event_filters"] = json!([at]);
    (fixture.members(cache, plan), fixture.members(cache, event))
}

#[test]
fn a_start_finds_properties_in_checkpoints_and_in_rows_written_after_them() {
    let fixture = Fixture::with_cohorts();
    let items: Vec<Item> = (0..12_000).map(|nth| set_plan(nth, nth % 300)).collect();
    fixture.commit(&items);
    let cache = IndexCache::default();
    let (persons, events) = with_plan_and_with_event(&fixture, &cache);
    assert_eq!((persons.len(), events.len()), (80, 40));
    fixture.write_checkpoints(&cache);

    // A changed value, a first value, a merge.
    fixture.commit(&[set_plan(8, 9), set_plan(50_000, 7), merge(308, 7)]);
    let after_start = || with_plan_and_with_event(&fixture, &IndexCache::default());
    let expected = after_start();
    assert_eq!((expected.0.len(), expected.1.len()), (79, 41));
    assert_eq!(expected, with_plan_and_with_event(&fixture, &cache));

    // The older rows now have other values, so only the checkpoints can give the result.
    fixture.change(r#"update persons set properties = '{"plan": "v1"}' where seq <= 1"#);
    fixture.change(r#"update events set properties = '{"at": "v1"}' where seq <= 1"#);
    assert_eq!(after_start(), expected);

    // Damaged checkpoints are replaced by the rows, and written again although nothing has changed.
    fixture.change(&format!("update property_checkpoints {DAMAGE}"));
    fixture.change(&format!("update segments {DAMAGE}"));
    let cache = IndexCache::default();
    let from_rows = with_plan_and_with_event(&fixture, &cache);
    assert_eq!((from_rows.0.len(), from_rows.1.len()), (2, 1));
    fixture.write_checkpoints(&cache);
    fixture.change("delete from persons where seq <= 1");
    fixture.change("delete from events where seq <= 1");
    assert_eq!(after_start(), from_rows);
}

#[test]
fn merges_and_deletions_after_a_segment_was_written_are_followed() {
    let fixture = Fixture::with_events(12_000, 100);
    fixture.write_segments();
    fixture.commit(&[merge(8, 7)]);
    fixture.change("delete from events where event = 'x'");
    assert_eq!(fixture.after_start().len(), 99);
    let deletion = NewTombstone {
        ordinal: 3,
        uuid: None,
        merged_into: None,
    };
    let shard_key = fixture.project.shard_key();
    tombstones::record(
        &mut fixture.conn(),
        shard_key,
        fixture.log_head(),
        &[deletion],
    )
    .unwrap();
    assert_eq!(fixture.after_start().len(), 98);
}

#[test]
fn earlier_days_are_added_to_the_later_ones_with_each_event_once() {
    let fixture = Fixture::with_events(12_000, 100);
    fixture.write_segments();
    // Events on 1, 2, 7 and 8 June.
    fixture.commit(&[504, 505, 501, 502].map(|id| item("x", id, "")));
    let twice = || {
        did_x(
            "performed_event_multiple",
            &json!({"operator": "exact", "operator_value": 121}),
        )
    };
    let cache = IndexCache::default();
    for day in [5, 3, 1] {
        fixture.members(&cache, did_x_since(day));
    }
    assert_eq!(fixture.persons_of_x(&cache).len(), 104);
    assert!(fixture.members(&cache, twice()).is_empty());
    assert_eq!(fixture.after_start().len(), 104);
}

#[test]
fn events_deleted_by_retention_do_not_come_back_with_the_segments() {
    let fixture = Fixture::with_events(12_000, 100);
    let cache = IndexCache::default();
    assert_eq!(fixture.persons_of_x(&cache).len(), 100);
    fixture.write_checkpoints(&cache);
    assert!(fixture.segments_through() > 0);
    let set_retention = |days| {
        projects::set_retention(&mut fixture.conn(), fixture.project, days).unwrap();
    };
    set_retention(Some(30));
    fixture.change("delete from events");
    set_retention(None);
    fixture.write_checkpoints(&cache);
    assert!(fixture.after_start().is_empty());
    assert!(fixture.persons_of_x(&cache).is_empty());
}

#[test]
fn dropped_segments_are_written_again_completely() {
    let fixture = Fixture::with_events(12_000, 100);
    let cache = IndexCache::default();
    fixture.persons_of_x(&cache);
    fixture.write_checkpoints(&cache);
    fixture.commit(&[item("x", 500, "")]);
    let expected = fixture.persons_of_x(&cache);
    stored_segments::drop_all(&mut fixture.conn(), fixture.project.shard_key()).unwrap();
    assert_eq!(fixture.after_start(), expected);
    fixture.write_checkpoints(&cache);
    assert!(fixture.segments_through() > 1);
    fixture.change("delete from events");
    assert_eq!(fixture.after_start(), expected);
}

/// A criterion on events `x` of the last year.
fn did_x(kind: &str, more: &Value) -> Value {
    let mut leaf = json!({"type": "behavioral", "key": "x", "value": kind, "event_type": "events",
        "time_value": 1, "time_interval": "year"});
    let members = more.as_object().unwrap().clone();
    leaf.as_object_mut().unwrap().extend(members);
    leaf
}

/// A criterion of each kind of block.
fn criteria() -> Vec<Value> {
    let at =
        json!([{"type": "event", "key": "at", "operator": "exact", "value": ["v1", "v2", "v3"]}]);
    vec![
        json!({"type": "person", "key": "name", "operator": "icontains", "value": "N1"}),
        json!({"type": "person", "key": "name", "operator": "is_not", "value": "n5"}),
        json!({"type": "person", "key": "distinct_id", "operator": "icontains", "value": "p29"}),
        json!({"type": "person_metadata", "key": "created_at", "operator": "is_date_after", "value": "2020-01-01"}),
        did_x("performed_event", &json!({})),
        did_x("performed_event", &json!({"event_filters": at})),
        did_x(
            "performed_event_multiple",
            &json!({"operator": "gte", "operator_value": 3}),
        ),
        did_x(
            "performed_event_sequence",
            &json!({"seq_event": "y", "seq_event_type": "events", "seq_time_value": 3, "seq_time_interval": "day"}),
        ),
    ]
}

#[test]
fn plan_over_budget_is_evaluated_in_person_ranges() {
    let fixture = Fixture::with_cohorts();
    let events: Vec<Item> = (0..18_000_usize)
        .map(|nth| {
            let (id, at) = (nth * 7 % 3_000, nth % 50);
            let more = format!(r#", "properties": {{"at": "v{at}", "$set": {{"name": "n{id}"}}}}"#);
            item(if nth % 3 == 0 { "y" } else { "x" }, id, &more)
        })
        .collect();
    fixture.commit(&events);
    // For any division, persons of one range have events under ordinals of another.
    let merges: Vec<Item> = (0..40).map(|nth| merge(nth, 2_999 - nth)).collect();
    fixture.commit(&merges);

    let evaluate = |budget: u64| {
        let cache = IndexCache::default();
        cache.set_budget(budget);
        let members = criteria()
            .into_iter()
            .map(|leaf| fixture.members(&cache, leaf));
        let members: Vec<RoaringBitmap> = members.collect();
        assert!(cache.bytes() <= budget);
        (members, cache)
    };
    let (expected, cache) = evaluate(registry::DEFAULT_BUDGET);
    assert!(expected.iter().all(|members| !members.is_empty()));
    for from_checkpoints in [false, true] {
        if from_checkpoints {
            fixture.write_checkpoints(&cache);
            fixture.change("delete from events where event = 'x'");
        }
        for budget in [100_000, 40_000, 12_000, 0] {
            let members = evaluate(budget).0;
            for (nth, leaf) in criteria().iter().enumerate() {
                assert_eq!(
                    members[nth], expected[nth],
                    "{budget} bytes, from checkpoints: {from_checkpoints}, {leaf}"
                );
            }
        }
    }
}

#[test]
fn an_index_without_a_budget_gives_the_same_results_and_stays_empty() {
    let fixture = Fixture::with_events(50, 50);
    let cache = IndexCache::default();
    assert_eq!(fixture.persons_of_x(&cache).len(), 50);
    assert!(cache.bytes() > 0);
    cache.set_budget(0);
    for _ in 0..2 {
        assert_eq!(fixture.persons_of_x(&cache).len(), 50);
        assert_eq!(cache.bytes(), 0);
    }
}

fn has_property(key: &str) -> Value {
    json!({"type": "person", "key": key, "operator": "is_set"})
}
