//! The index over a real database: checkpoints, catching up, eviction and ranges of persons give the results of the rows.

use std::time::Duration;

use cohorts_engine::{Filter, LeafCache, Moment, plan};
use cohorts_store::segments::{self, SegmentKey};
use cohorts_store::testing::TestDatabase;
use cohorts_store::tombstones::{self, NewTombstone};
use cohorts_store::{Conn, ProjectId, projects};
use diesel::prelude::*;
use roaring::RoaringBitmap;
use serde_json::{Value, json};

use super::registry::{self, IndexCache};
use super::snapshot::Snapshot;
use super::{IndexError, IndexedStore};
use crate::ingest::{Arrival, Item, commit};

fn item(event: &str, id: usize, more: &str) -> Item {
    let text = format!(
        r#"{{"event": "{event}", "distinct_id": "p{id}", "timestamp": "2025-06-{:02}T10:00:00Z"{more}}}"#,
        id % 9 + 1
    );
    Item::read(&text, &Arrival::of_file(), uuid::Uuid::now_v7).unwrap()
}

/// A project in a database of its own, which lives as long as what comes first, with events of so many people.
fn project_with_events(events: usize, people: usize) -> (TestDatabase, IndexedStore, ProjectId) {
    let database = TestDatabase::create();
    let store = IndexedStore::new(database.open());
    let conn = &mut *store.connection().unwrap();
    let project = projects::create(conn, "P", "UTC", "phc_x").unwrap().id();
    let items: Vec<Item> = (0..events).map(|nth| item("x", nth % people, "")).collect();
    commit(&store, project, &items).unwrap();
    (database, store, project)
}

/// Who did x, seen by these cache.
fn persons_of_x(store: &IndexedStore, cache: &IndexCache, project: ProjectId) -> RoaringBitmap {
    persons_since(store, cache, project, 1)
}

/// Who did x since a day of June.
fn persons_since(
    store: &IndexedStore,
    cache: &IndexCache,
    project: ProjectId,
    day: u32,
) -> RoaringBitmap {
    let leaf = json!({"type": "behavioral", "key": "x", "value": "performed_event", "event_type": "events",
        "explicit_datetime": format!("2025-06-0{day}T00:00:00Z")});
    members(store, cache, project, leaf)
}

/// Who meets a criterion.
fn members(
    store: &IndexedStore,
    cache: &IndexCache,
    project: ProjectId,
    leaf: Value,
) -> RoaringBitmap {
    let filters = json!({"properties": {"type": "OR", "values": [leaf]}});
    let plan = plan(
        &Filter::parse(&filters).unwrap(),
        &Moment::utc(1_770_000_000_000_000),
    )
    .unwrap();
    let conn = &mut *store.connection().unwrap();
    let limit = Duration::from_secs(60);
    Snapshot::read(conn, cache, project, limit, |snapshot| {
        let explanation = snapshot.explain(&plan)?;
        let members = explanation.members;
        assert_eq!(explanation.leaves[0].persons, members.len());
        assert_eq!(snapshot.evaluate(&plan, &LeafCache::default())?, members);
        Ok::<_, IndexError>(members)
    })
    .unwrap()
}

#[test]
fn what_was_sealed_is_found_after_a_start_with_all_that_came_later() {
    let (_data, store, project) = project_with_events(12_000, 100);
    let conn = &mut *store.connection().unwrap();
    let run = |conn: &mut Conn, statement: &str| {
        assert!(
            diesel::sql_query(statement).execute(conn).unwrap() > 0,
            "{statement}"
        );
    };
    let cache = IndexCache::default();
    assert_eq!(persons_of_x(&store, &cache, project).len(), 100);
    // The people of several days are weighed with what they were made of.
    let indexes = cache.all()[0].1.events.all();
    let weights = indexes.iter().map(|cached| cached.value.bytes() as u64);
    let alone = indexes[0]
        .value
        .segments()
        .map(|block| block.bytes() as u64);
    assert!(cache.bytes() >= weights.sum() && cache.bytes() > alone.sum());
    cache.write_checkpoints(conn);

    // Somebody new, somebody merged, and an event on a day that is sealed.
    let merge = r#", "properties": {"alias": "p7"}"#;
    commit(
        &store,
        project,
        &[item("x", 500, ""), item("$merge_dangerously", 8, merge)],
    )
    .unwrap();
    let fresh = |store: &IndexedStore| persons_of_x(store, &IndexCache::default(), project);
    let found = fresh(&store);
    assert_eq!(
        (found.len(), &found),
        (100, &persons_of_x(&store, &cache, project))
    );
    // A damaged block is none.
    run(
        conn,
        "update segments set data = overlay(data placing '\\x55'::bytea from 20) where day = (select min(day) from segments)",
    );
    assert_eq!(fresh(&store), found);
    // So is one of which a block is missing.
    run(
        conn,
        "delete from segments where day = (select max(day) from segments)",
    );
    assert_eq!(fresh(&store), found);
    run(conn, "delete from segment_manifests");
    assert_eq!(fresh(&store), found);

    let cache = IndexCache::default();
    persons_of_x(&store, &cache, project);
    cache.write_checkpoints(conn);
    // That it is the blocks which are read: there is nothing else.
    run(conn, "delete from events where event = 'x'");
    assert_eq!(fresh(&store), found);
    run(conn, "delete from segment_manifests");
    assert!(fresh(&store).is_empty());
}

#[test]
fn properties_that_were_sealed_are_found_after_a_start_with_all_that_came_later() {
    let (_data, store, project) = project_with_events(0, 1);
    let conn = &mut *store.connection().unwrap();
    let set = |id: usize, plan: usize| {
        let more = format!(r#", "properties": {{"at": "v{plan}", "$set": {{"plan": "v{plan}"}}}}"#);
        item("x", id, &more)
    };
    let items: Vec<Item> = (0..12_000).map(|nth| set(nth, nth % 300)).collect();
    commit(&store, project, &items).unwrap();
    let person =
        || json!({"type": "person", "key": "plan", "operator": "exact", "value": ["v7", "v8"]});
    let filter = json!({"type": "event", "key": "at", "operator": "exact", "value": "v7"});
    let event = || {
        json!({"type": "behavioral", "key": "x", "value": "performed_event", "event_type": "events",
            "explicit_datetime": "2025-06-01T00:00:00Z", "event_filters": [filter]})
    };
    let ask = |cache: &IndexCache| {
        let people = members(&store, cache, project, person());
        (people, members(&store, cache, project, event()))
    };
    let cache = IndexCache::default();
    let (people, events) = ask(&cache);
    assert_eq!((people.len(), events.len()), (80, 40));
    cache.write_checkpoints(conn);

    // One has another value, one a first one, one is merged.
    let merge = r#", "properties": {"alias": "p7"}"#;
    let later = [
        set(8, 9),
        set(50_000, 7),
        item("$merge_dangerously", 308, merge),
    ];
    commit(&store, project, &later).unwrap();
    let found = ask(&IndexCache::default());
    assert_eq!((found.0.len(), found.1.len()), (79, 41));
    assert_eq!(found, ask(&cache));

    // That it is what was kept which is read: the rows say something else.
    let run = |conn: &mut Conn, statement: &str| {
        assert!(
            diesel::sql_query(statement).execute(conn).unwrap() > 0,
            "{statement}"
        );
    };
    run(
        conn,
        r#"update persons set properties = '{"plan": "v1"}' where seq <= 1"#,
    );
    run(
        conn,
        r#"update events set properties = '{"at": "v1"}' where seq <= 1"#,
    );
    assert_eq!(ask(&IndexCache::default()), found);
    // What is damaged is none, and is made anew although nothing has changed.
    for table in ["property_checkpoints", "segments"] {
        run(
            conn,
            &format!("update {table} set data = overlay(data placing '\\x55'::bytea from 20)"),
        );
    }
    let cache = IndexCache::default();
    let rest = ask(&cache);
    assert_eq!((rest.0.len(), rest.1.len()), (2, 1));
    cache.write_checkpoints(conn);
    run(conn, "delete from persons");
    run(conn, "delete from events");
    assert_eq!(ask(&IndexCache::default()), rest);
}

#[test]
fn a_view_seals_what_it_knows_unless_somebody_was_deleted_since() {
    let (_data, store, project) = project_with_events(12_000, 100);
    let conn = &mut *store.connection().unwrap();
    let sealed = |conn: &mut Conn| {
        let key = SegmentKey::new("x", &[]).unwrap();
        segments::manifest(conn, project.shard_key(), &key).unwrap()
    };
    let (index, late) = (IndexCache::default(), IndexCache::default());
    persons_of_x(&store, &late, project);
    persons_of_x(&store, &index, project);
    let merge = r#", "properties": {"alias": "p7"}"#;
    commit(&store, project, &[item("$merge_dangerously", 8, merge)]).unwrap();
    let tombstone = NewTombstone {
        ordinal: 3,
        uuid: None,
        merged_into: None,
    };
    tombstones::record(conn, project.shard_key(), i64::MAX, &[tombstone]).unwrap();
    late.write_checkpoints(conn);
    assert!(sealed(conn).is_none());
    let undone = "delete from tombstones where ordinal = 3";
    assert_eq!(diesel::sql_query(undone).execute(conn).unwrap(), 1);
    index.write_checkpoints(conn);
    assert!(sealed(conn).is_some());
    assert_eq!(
        persons_of_x(&store, &IndexCache::default(), project).len(),
        99
    );
}

#[test]
fn an_older_view_seals_nothing_over_a_newer_one() {
    let (_data, store, project) = project_with_events(12_000, 100);
    let conn = &mut *store.connection().unwrap();
    let (older, newer) = (IndexCache::default(), IndexCache::default());
    persons_of_x(&store, &older, project);
    commit(&store, project, &[item("x", 500, "")]).unwrap();
    let found = persons_of_x(&store, &newer, project);
    newer.write_checkpoints(conn);
    older.write_checkpoints(conn);
    assert_eq!(persons_of_x(&store, &IndexCache::default(), project), found);
}

#[test]
fn who_knows_the_later_days_alone_seals_them_unless_earlier_ones_have_changed() {
    let (_data, store, project) = project_with_events(27_000, 100);
    let conn = &mut *store.connection().unwrap();
    let first = IndexCache::default();
    persons_of_x(&store, &first, project);
    first.write_checkpoints(conn);
    let sealed = |conn: &mut Conn| {
        let found = segments::manifest(
            conn,
            project.shard_key(),
            &SegmentKey::new("x", &[]).unwrap(),
        );
        found.unwrap().unwrap().manifest
    };
    let begun = sealed(conn);

    // On the seventh of June.
    let late = IndexCache::default();
    persons_since(&store, &late, project, 5);
    commit(&store, project, &[item("x", 501, "")]).unwrap();
    persons_since(&store, &late, project, 5);
    late.write_checkpoints(conn);
    let next = sealed(conn);
    assert!(
        (next.from_day, next.through_seq > begun.through_seq) == (begun.from_day, true),
        "{next:?}"
    );

    // On the first and on the eighth.
    let late = IndexCache::default();
    persons_since(&store, &late, project, 5);
    commit(&store, project, &[item("x", 504, ""), item("x", 502, "")]).unwrap();
    persons_since(&store, &late, project, 5);
    late.write_checkpoints(conn);
    assert_eq!(sealed(conn), next);
    assert_eq!(
        persons_of_x(&store, &IndexCache::default(), project).len(),
        103
    );

    // Where a block is missing, the earlier days are not taken for kept: they are read from their rows.
    let lost = "delete from segments where day = (select min(day) from segments)";
    assert_eq!(diesel::sql_query(lost).execute(conn).unwrap(), 1);
    let late = IndexCache::default();
    persons_since(&store, &late, project, 5);
    commit(&store, project, &[item("x", 508, "")]).unwrap();
    persons_since(&store, &late, project, 5);
    late.write_checkpoints(conn);
    assert!(sealed(conn).from_day > next.from_day);
    assert_eq!(
        persons_of_x(&store, &IndexCache::default(), project).len(),
        104
    );
}

#[test]
fn events_that_were_deleted_do_not_come_back_with_the_blocks() {
    let (_data, store, project) = project_with_events(12_000, 100);
    let conn = &mut *store.connection().unwrap();
    let cache = IndexCache::default();
    assert_eq!(persons_of_x(&store, &cache, project).len(), 100);
    cache.write_checkpoints(conn);
    projects::set_retention(conn, project, Some(30)).unwrap();
    diesel::sql_query("delete from events")
        .execute(conn)
        .unwrap();
    projects::set_retention(conn, project, None).unwrap();
    // Neither from a memory that is older, nor from what that memory would keep.
    cache.write_checkpoints(conn);
    assert!(persons_of_x(&store, &IndexCache::default(), project).is_empty());
    assert!(persons_of_x(&store, &cache, project).is_empty());
}

#[test]
fn what_is_not_kept_any_longer_is_written_whole() {
    let (_data, store, project) = project_with_events(12_000, 100);
    let conn = &mut *store.connection().unwrap();
    // One that was read from segments, so that it is not too soon to write them again.
    persons_of_x(&store, &IndexCache::default(), project);
    let first = IndexCache::default();
    persons_of_x(&store, &first, project);
    first.write_checkpoints(conn);
    let cache = IndexCache::default();
    persons_of_x(&store, &cache, project);
    commit(&store, project, &[item("x", 500, "")]).unwrap();
    let found = persons_of_x(&store, &cache, project);
    segments::drop_all(conn, project.shard_key()).unwrap();
    // The first time it finds out, the second time it writes.
    cache.write_checkpoints(conn);
    cache.write_checkpoints(conn);
    let kept = segments::manifest(
        conn,
        project.shard_key(),
        &SegmentKey::new("x", &[]).unwrap(),
    )
    .unwrap();
    assert!(kept.is_some());
    assert_eq!(persons_of_x(&store, &IndexCache::default(), project), found);
}

#[test]
fn what_finds_no_room_is_read_in_pieces() {
    let (_data, store, project) = project_with_events(0, 1);
    let conn = &mut *store.connection().unwrap();
    let items: Vec<Item> = (0..18_000_usize)
        .map(|nth| {
            let id = nth * 7 % 3_000;
            let more = format!(
                r#", "properties": {{"at": "v{}", "$set": {{"name": "n{id}"}}}}"#,
                nth % 50
            );
            item(if nth % 3 == 0 { "y" } else { "x" }, id, &more)
        })
        .collect();
    commit(&store, project, &items).unwrap();
    // Events of people on one side of any cut are somebody's on the other.
    let merges: Vec<Item> = (0..40)
        .map(|nth| {
            item(
                "$merge_dangerously",
                nth,
                &format!(r#", "properties": {{"alias": "p{}"}}"#, 2_999 - nth),
            )
        })
        .collect();
    commit(&store, project, &merges).unwrap();
    let event = |kind: &str, more: Value| {
        let mut leaf = json!({"type": "behavioral", "key": "x", "value": kind, "event_type": "events",
            "time_value": 1, "time_interval": "year"});
        leaf.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        leaf
    };
    let filter =
        json!([{"type": "event", "key": "at", "operator": "exact", "value": ["v1", "v2", "v3"]}]);
    let leaves = [
        json!({"type": "person", "key": "name", "operator": "icontains", "value": "N1"}),
        json!({"type": "person", "key": "name", "operator": "is_not", "value": "n5"}),
        json!({"type": "person", "key": "distinct_id", "operator": "icontains", "value": "p29"}),
        json!({"type": "person_metadata", "key": "created_at", "operator": "is_date_after", "value": "2020-01-01"}),
        event("performed_event", json!({})),
        event("performed_event", json!({"event_filters": filter})),
        event(
            "performed_event_multiple",
            json!({"operator": "gte", "operator_value": 3}),
        ),
        event(
            "performed_event_sequence",
            json!({"seq_event": "y", "seq_event_type": "events",
            "seq_time_value": 3, "seq_time_interval": "day"}),
        ),
    ];
    let ask = |budget: u64| {
        let cache = IndexCache::default();
        cache.set_budget(budget);
        let found = leaves
            .clone()
            .map(|leaf| members(&store, &cache, project, leaf));
        assert!(cache.bytes() <= budget);
        (found, cache)
    };
    let (whole, cache) = ask(registry::DEFAULT_BUDGET);
    assert!(whole.iter().all(|people| !people.is_empty()));
    for kept in [false, true] {
        if kept {
            cache.write_checkpoints(conn);
            // That it is the blocks which are read.
            let rows = "delete from events where event = 'x'";
            assert!(diesel::sql_query(rows).execute(conn).unwrap() > 0);
        }
        for budget in [100_000, 40_000, 12_000, 0] {
            let found = ask(budget).0;
            for (nth, leaf) in leaves.iter().enumerate() {
                assert_eq!(found[nth], whole[nth], "{budget} {kept} {leaf}");
            }
        }
    }
}

#[test]
fn views_that_may_take_no_memory_answer_all_the_same() {
    let (_data, store, project) = project_with_events(50, 50);
    let cache = IndexCache::default();
    assert_eq!(persons_of_x(&store, &cache, project).len(), 50);
    assert!(cache.bytes() > 0);
    cache.set_budget(0);
    for _ in 0..2 {
        assert_eq!(persons_of_x(&store, &cache, project).len(), 50);
        assert_eq!(cache.bytes(), 0);
    }
}
