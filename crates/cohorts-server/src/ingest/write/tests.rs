//! Writes of one event beside other writers of the log.

use std::thread;

use chrono::Utc;
use cohorts_store::JsonText;
use cohorts_store::persons::Person;
use cohorts_store::testing::{TestDatabase, end_other_sessions};
use diesel::prelude::*;
use diesel::sql_types::BigInt;
use serde_json::{Value, json};

use super::*;
use crate::ingest::{Arrival, commit, commit_part};

#[derive(QueryableByName)]
struct WaitingCount {
    #[diesel(sql_type = BigInt)]
    count: i64,
}

/// Whether a session of the database waits for a lock.
fn is_any_waiting(conn: &mut Conn) -> bool {
    let waiting = "select count(*) as count from pg_stat_activity \
        where datname = current_database() and wait_event_type = 'Lock'";
    let row: WaitingCount = diesel::sql_query(waiting).get_result(conn).unwrap();
    row.count > 0
}

/// A store, and a project with one event of person `a`.
fn store_with_person(database: &TestDatabase) -> (IndexedStore, ProjectId) {
    let store = IndexedStore::new(database.open());
    let conn = &mut *store.connection().unwrap();
    let project = projects::create(conn, "P", "UTC", "phc_x").unwrap().id();
    commit(&store, project, &[event(0)]).unwrap();
    (store, project)
}

/// An event that sets a property of its person.
fn event(nth: u128) -> Item {
    let body = json!({
        "event": "x", "distinct_id": "a", "uuid": Uuid::from_u128(nth),
        "properties": {"$set": {"last": nth as u64}},
    });
    Item::read(&body.to_string(), &Arrival::of_file(), Uuid::now_v7).unwrap()
}

fn stored_person(store: &IndexedStore, project: ProjectId) -> Person {
    let conn = &mut *store.connection().unwrap();
    let mut persons = persons::by_ordinals(conn, project.shard_key(), &[0]).unwrap();
    persons.remove(0)
}

/// Writes events while another writer has the log head. `other` is what it writes then. Returns the number of added events.
fn write_after(
    store: &IndexedStore,
    project: ProjectId,
    item: &Item,
    other: impl FnOnce(&mut Conn, i64),
) -> usize {
    thread::scope(|scope| {
        let conn = &mut *store.connection().unwrap();
        let write = transaction(conn, |conn| {
            let seq = events::begin_write(conn, project.shard_key())?;
            let write = scope.spawn(|| commit(store, project, std::slice::from_ref(item)));
            let watcher = &mut *store.connection()?;
            while !is_any_waiting(watcher) {
                assert!(!write.is_finished());
                thread::yield_now();
            }
            other(conn, seq);
            Ok::<_, Error>(write)
        });
        write.unwrap().join().unwrap().unwrap().added
    })
}

#[test]
fn a_write_that_waited_keeps_the_properties_of_the_other_writer() {
    let database = TestDatabase::create();
    let (store, project) = store_with_person(&database);
    let mut changed = stored_person(&store, project);
    changed.properties = JsonText::of(&json!({"other": "b"}));
    let added = write_after(&store, project, &event(1), |conn, seq| {
        persons::update(conn, project.shard_key(), seq, &[changed]).unwrap();
    });
    assert_eq!(added, 1);
    let properties: Value =
        serde_json::from_str(&stored_person(&store, project).properties.0).unwrap();
    assert_eq!(properties, json!({"other": "b", "last": 1}));
}

#[test]
fn a_write_that_waited_knows_the_event_of_the_other_writer() {
    let database = TestDatabase::create();
    let (store, project) = store_with_person(&database);
    let item = event(1);
    let properties = JsonText::of(&json!({}));
    let added = write_after(&store, project, &item, |conn, seq| {
        let key = EventKey::new(item.uuid, &item.event, &item.distinct_id);
        let timestamp = Utc::now();
        let row = NewEvent {
            shard_key: project.shard_key().0,
            uuid: key.uuid,
            identity: key.identity,
            day: timestamp.date_naive(),
            seq,
            ordinal: 0,
            event: &item.event,
            distinct_id: &item.distinct_id,
            timestamp,
            properties: &properties,
        };
        events::append(conn, &[row]).unwrap();
    });
    assert_eq!(added, 0);
}

#[test]
fn the_person_of_a_read_is_not_used_after_a_merge_by_another_process() {
    let database = TestDatabase::create();
    let (store, project) = store_with_person(&database);
    let other = IndexedStore::new(database.open());
    let text = r#"{"event": "$merge_dangerously", "distinct_id": "b", "properties": {"alias": "a", "$set": {"b": 1}}}"#;
    let merge = Item::read(text, &Arrival::of_file(), Uuid::now_v7).unwrap();
    let first = r#"{"event": "x", "distinct_id": "b"}"#;
    let first = Item::read(first, &Arrival::of_file(), Uuid::now_v7).unwrap();
    commit(&other, project, &[first]).unwrap();
    commit(&other, project, &[merge]).unwrap();
    commit(&store, project, &[event(1)]).unwrap();
    let conn = &mut *store.connection().unwrap();
    let ordinals = persons::ordinals_by_id(conn, project.shard_key(), &["a", "b"]).unwrap();
    assert_eq!(ordinals["a"], ordinals["b"]);
    let persons = persons::by_ordinals(conn, project.shard_key(), &[ordinals["a"]]).unwrap();
    let properties: Value = serde_json::from_str(&persons[0].properties.0).unwrap();
    assert_eq!(properties, json!({"b": 1, "last": 1}));
}

/// An event with a uuid that the service has made for it.
fn event_with_new_uuid() -> Item {
    let body = json!({"event": "x", "distinct_id": "a"});
    let mut item = Item::read(&body.to_string(), &Arrival::of_file(), Uuid::now_v7).unwrap();
    item.has_new_uuid = true;
    item
}

const FIRST: Attempt = Attempt {
    in_halves: false,
    locks_project: false,
    records_events: false,
    is_first: true,
};

#[test]
fn the_first_write_of_a_new_uuid_does_not_look_for_the_event() {
    let database = TestDatabase::create();
    let (store, project) = store_with_person(&database);
    let statements = |attempt: Attempt, item: &Item| {
        let before = store.statements.get();
        let part = commit_part(&store, project, &mut || [item].into_iter(), attempt).unwrap();
        assert_eq!(part.committed.added, 1);
        store.statements.get() - before
    };
    let least = |attempt: Attempt| {
        let counts = [(); 3].map(|()| statements(attempt, &event_with_new_uuid()));
        counts.into_iter().min().unwrap()
    };
    // The log head, the project and the new event; BEGIN and COMMIT.
    assert_eq!(least(FIRST), 5);
    assert_eq!(least(Attempt::default()), 6);
    let with_sent_uuid = [1, 2, 3].map(|nth| statements(FIRST, &event(nth)));
    // The statement that looks for the event also reads the person, which changes.
    assert_eq!(with_sent_uuid.into_iter().min(), Some(7));
}

#[test]
fn a_repeated_write_of_a_new_uuid_adds_the_event_once() {
    let database = TestDatabase::create();
    let (store, project) = store_with_person(&database);
    let other = IndexedStore::new(database.open());
    let item = event_with_new_uuid();
    let mut tries = 0;
    // As if the first try had committed, and its response were lost with the connections.
    let mut items = || {
        tries += 1;
        if tries == 1 {
            commit(&other, project, std::slice::from_ref(&item)).unwrap();
            let conn = &mut *other.connection().unwrap();
            end_other_sessions(conn);
        }
        [&item].into_iter()
    };
    let part = commit_part(&store, project, &mut items, FIRST).unwrap();
    assert_eq!((part.committed.added, part.items), (0, 1));
    assert!(tries > 1);
}
