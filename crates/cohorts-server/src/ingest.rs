//! From items in the wire format to events and persons in the store.
//!
//! Capture, import and the demo use this path. An item is either read completely or refused with its reason; the
//! items of one batch are committed together.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::thread;
use std::time::Duration;

use chrono::Utc;
use cohorts_store::persons::{self, Person};
use cohorts_store::{Conn, Error, JsonText, ProjectId, Store, events, transaction};
use serde_json::json;

use crate::index::IndexedStore;

mod arrival;
mod batch_persons;
mod fields;
mod group_commit;
mod item;
mod json;
mod merged_members;
mod nonstandard;
mod person_members;
mod person_state;
mod refusal;
mod write;

#[cfg(test)]
use arrival::TimeFault;
pub use arrival::{Arrival, FaultyTime, instant, query_sent_at};
pub use batch_persons::Denied;
pub use fields::{FromMap, ObjectField, Scalar};
pub use group_commit::{CommitError, GroupCommit, HeldMemory, Writers};
pub use item::{Item, MAX_ITEM_BYTES, Truncated, sent_event, sent_uuid};
pub use json::LONGEST_PROPERTY_NAME;
pub use nonstandard::Standardized;
use person_state::{PersonState, new_person};
pub use refusal::Refusal;
pub use write::WrittenEvents;
#[cfg(test)]
pub use write::halves;
use write::{Attempt, CommittedPart, Failed, WriteBatch};

/// How often a write is tried if its transaction fails for a transient reason.
const TRIES: u32 = 3;
/// The pause before the second try; the pause before the third is twice as long.
const PAUSE: Duration = Duration::from_millis(50);

/// The outcome of a committed batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    /// Events that were not in the log before.
    pub added: usize,
    pub denied: Denied,
}

/// Commits a batch: creates, changes and merges persons, and appends the events that are not in the log. A batch with
/// large persons takes several transactions. A batch may be committed again, which adds nothing.
pub fn commit(
    store: &IndexedStore,
    project: ProjectId,
    items: &[Item],
) -> Result<Committed, Error> {
    commit_with(store, project, items, None)
}

/// As [`commit`], for a batch of many thousand items that no request waits for. On plain Postgres, two connections write half
/// of the events each, so one half may be visible before the other; the log head moves when both are. The events of each write of the
/// log are added to `written`.
pub fn commit_in_halves(
    store: &IndexedStore,
    project: ProjectId,
    items: &[Item],
    written: &mut Vec<WrittenEvents>,
) -> Result<Committed, Error> {
    commit_with(store, project, items, Some(written))
}

fn commit_with(
    store: &IndexedStore,
    project: ProjectId,
    items: &[Item],
    mut written: Option<&mut Vec<WrittenEvents>>,
) -> Result<Committed, Error> {
    let attempt = Attempt {
        in_halves: written.is_some(),
        locks_project: false,
        records_events: written.is_some(),
        is_first: false,
    };
    let mut total = Committed::default();
    let (mut rest, mut limit) = (items, items.len());
    while !rest.is_empty() {
        let offered = limit.min(rest.len());
        let part = commit_part(store, project, &mut || rest[..offered].iter(), attempt)?;
        if let Some((written, mut events)) = written.as_mut().zip(part.written) {
            let before = items.len() - rest.len();
            events
                .events
                .iter_mut()
                .for_each(|(item, _)| *item += before);
            written.push(events);
        }
        total.added += part.committed.added;
        total.denied.add(part.committed.denied);
        rest = &rest[part.items..];
        limit = next_limit(offered, part.items);
    }
    Ok(total)
}

/// How many items to offer after `committed` of `offered` items fitted into a commit. Each offered item costs time,
/// whether or not it fits.
fn next_limit(offered: usize, committed: usize) -> usize {
    if committed < offered {
        committed * 2
    } else {
        offered.saturating_mul(2)
    }
}

/// Commits the first items with persons that fit into the memory of a commit, at least one. `items` returns the same items
/// each time.
fn commit_part<'a, I: Iterator<Item = &'a Item>>(
    store: &'a IndexedStore,
    project: ProjectId,
    items: &mut dyn FnMut() -> I,
    mut attempt: Attempt,
) -> Result<CommittedPart, Error> {
    retried(Error::is_transient, || {
        let mut batch = WriteBatch::new(store, project, items());
        let result = batch.commit(attempt);
        // The outcome of a failed commit may be unknown.
        let is_first = std::mem::take(&mut attempt.is_first);
        let failed = match result {
            Ok(committed) => {
                store.signals.written(project);
                return Ok(committed);
            }
            Err(failed) => failed,
        };
        match failed {
            // Merged persons change static cohorts, so the project is locked first, and everything is one transaction.
            Failed::MustLockProject => {
                let committed = batch.commit(Attempt {
                    in_halves: false,
                    locks_project: true,
                    is_first,
                    ..attempt
                });
                store.signals.changed(project);
                store.signals.written(project);
                committed.map_err(Error::from)
            }
            failed => Err(failed.into()),
        }
    })
}

/// Whether the properties of the person stay short enough if the item changes them.
pub fn has_room_for(person: Person, item: &Item) -> bool {
    PersonState::stored(person).apply(item)
}

/// Runs `work`, and repeats it if it fails for a transient reason. `work` must be repeatable.
pub fn retried<T, E>(
    is_transient: impl Fn(&E) -> bool,
    mut work: impl FnMut() -> Result<T, E>,
) -> Result<T, E> {
    let mut tries = 1;
    loop {
        match work() {
            Err(cause) if is_transient(&cause) && tries < TRIES => {
                thread::sleep(PAUSE * tries);
                tries += 1;
            }
            result => return result,
        }
    }
}

/// The person of a distinct id.
pub struct KnownPerson {
    pub ordinal: i64,
    /// Whether the person was created for the id.
    pub is_new: bool,
}

/// Creates a person for each of these distinct ids that has none, and returns the persons of all. If `by_email`, the ids
/// are e-mail addresses, and also become that property of new persons.
pub fn create_persons(
    store: &Store,
    conn: &mut Conn,
    project: ProjectId,
    ids: &[&str],
    by_email: bool,
) -> Result<HashMap<String, KnownPerson>, Error> {
    let shard_key = project.shard_key();
    let ids: BTreeSet<&str> = ids.iter().copied().collect();
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let mut free = store.ordinals.take(conn, shard_key, ids.len())?;
    let (known, free) = transaction(conn, |conn| {
        let seq = events::begin_write(conn, shard_key)?;
        let all: Vec<&str> = ids.iter().copied().collect();
        let owners = persons::owners(conn, shard_key, &all)?;
        let mut new_ids = Vec::new();
        let mut new_persons = BTreeMap::new();
        let mut known = HashMap::new();
        for id in ids {
            let (ordinal, is_person) = match owners.get(id) {
                Some(owner) => (owner.ordinal, owner.is_person),
                None => {
                    let ordinal = free.pop_front().ok_or(Failed::NoOrdinal)?;
                    new_ids.push((id, ordinal));
                    (ordinal, false)
                }
            };
            if !is_person {
                let mut person = new_person(ordinal, Utc::now());
                if by_email {
                    person.properties = JsonText::of(&json!({"email": id}));
                }
                new_persons.insert(ordinal, person);
            }
            let is_new = !is_person;
            known.insert(id.to_owned(), KnownPerson { ordinal, is_new });
        }
        persons::add_ids(conn, shard_key, seq, &new_ids)?;
        let new_persons: Vec<Person> = new_persons.into_values().collect();
        persons::add(conn, shard_key, seq, &new_persons)?;
        Ok::<_, Error>((known, free))
    })?;
    store.ordinals.give_back(shard_key, free);
    Ok(known)
}

#[cfg(test)]
mod tests {
    use cohorts_store::projects;
    use cohorts_store::testing::{TestDatabase, pretend_distributed, transactions_of_events};

    use super::*;

    #[test]
    fn item_with_literals_of_python_is_read() {
        let text = "{\"event\": \"e\", \"distinct_id\": \"a\", \"properties\": {\"x\": NaN, \"y\": \"\t\\ud800\"}}";
        let item = Item::read(text, &Arrival::of_file(), uuid::Uuid::now_v7).unwrap();
        assert_eq!(item.properties.0, "{\"x\":null,\"y\":\"\\t\u{fffd}\"}");
    }

    fn set(person: usize, name: &str, text: &str) -> Item {
        let text = format!(
            r#"{{"event": "x", "distinct_id": "p{person}", "properties": {{"$set": {{"{name}": "{text}"}}}}}}"#
        );
        Item::read(&text, &Arrival::of_file(), uuid::Uuid::now_v7).unwrap()
    }

    #[test]
    fn a_batch_with_large_persons_takes_several_commits() {
        let database = TestDatabase::create();
        let store = IndexedStore::new(database.open());
        let conn = &mut *store.connection().unwrap();
        let project = projects::create(conn, "P", "UTC", "phc_x").unwrap().id();
        let (long, count) = ("a".repeat(500_000), 40);
        let large: Vec<Item> = (0..count)
            .map(|person| set(person, "long", &long))
            .collect();
        commit(&store, project, &large).unwrap();
        let before = events::log_head(conn, project.shard_key()).unwrap();
        let small: Vec<Item> = (0..count).map(|person| set(person, "b", "c")).collect();
        assert_eq!(commit(&store, project, &small).unwrap().added, count);
        let commits = events::log_head(conn, project.shard_key()).unwrap() - before;
        assert!(
            (2..count as i64 / 2).contains(&commits),
            "{commits} commits"
        );
        let ids: Vec<String> = (0..count).map(|person| format!("p{person}")).collect();
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        let ordinals = persons::ordinals_by_id(conn, project.shard_key(), &ids).unwrap();
        let ordinals: Vec<i64> = ordinals.into_values().collect();
        let persons = persons::by_ordinals(conn, project.shard_key(), &ordinals).unwrap();
        assert_eq!(persons.len(), count);
        assert!(
            persons
                .iter()
                .all(|person| person.properties.0.contains(r#""b": "c""#))
        );
    }

    #[test]
    fn events_with_one_uuid_are_committed_once_each() {
        let database = TestDatabase::create();
        let store = IndexedStore::new(database.open());
        let conn = &mut *store.connection().unwrap();
        let project = projects::create(conn, "P", "UTC", "phc_x").unwrap().id();
        let item = |day: usize, event: usize| {
            let text = format!(
                r#"{{"event": "e{event}", "distinct_id": "a", "timestamp": "2026-11-{day:02}",
                    "uuid": "00000000-0000-0000-0000-000000000000"}}"#
            );
            Item::read(&text, &Arrival::of_file(), uuid::Uuid::now_v7).unwrap()
        };
        let first = [item(1, 0), item(1, 1), item(2, 0)];
        let mut written = Vec::new();
        let mut commit_first = || commit_in_halves(&store, project, &first, &mut written).unwrap();
        assert_eq!((commit_first().added, commit_first().added), (2, 0));
        let written = written
            .iter()
            .map(|part| (part.seq, part.is_complete, part.events.len()));
        assert_eq!(written.collect::<Vec<_>>(), [(1, true, 2), (2, true, 0)]);
        let second = [item(3, 1), item(4, 2), item(5, 2)];
        assert_eq!(commit(&store, project, &second).unwrap().added, 1);
    }

    fn project_of(store: &IndexedStore) -> ProjectId {
        let conn = &mut *store.connection().unwrap();
        projects::create(conn, "P", "UTC", "phc_x").unwrap().id()
    }

    #[test]
    fn a_commit_of_one_event_takes_few_statements() {
        let database = TestDatabase::create();
        let store = IndexedStore::new(database.open());
        let project = project_of(&store);
        let statements = |items: &[Item]| {
            let before = store.statements.get();
            commit(&store, project, items).unwrap();
            store.statements.get() - before
        };
        let least = |counts: [u64; 3]| counts.into_iter().min().unwrap();
        let same = || set(0, "plan", "a");
        commit(&store, project, &[same()]).unwrap();
        // The log head, the project, the event with the person, and the new event; BEGIN and COMMIT. A slow test may add the
        // test of an idle connection.
        assert_eq!(least([(); 3].map(|()| statements(&[same()]))), 6);
        let changes = ["b", "c", "d"].map(|plan| statements(&[set(0, "plan", plan)]));
        assert_eq!(least(changes), 7);
        let repeated = [same()];
        assert_eq!(least([(); 3].map(|()| statements(&repeated))), 5);
        let text = r#"{"event": "x", "distinct_id": "p0"}"#;
        let plain = || Item::read(text, &Arrival::of_file(), uuid::Uuid::now_v7).unwrap();
        assert_eq!(least([(); 3].map(|()| statements(&[plain()]))), 6);
    }

    #[test]
    fn a_repeated_event_does_not_undo_a_later_one() {
        let database = TestDatabase::create();
        let store = IndexedStore::new(database.open());
        let project = project_of(&store);
        let first = [set(0, "plan", "a")];
        let added = [&first, &[set(0, "plan", "b")], &first]
            .map(|items| commit(&store, project, items).unwrap().added);
        assert_eq!(added, [1, 1, 0]);
        let conn = &mut *store.connection().unwrap();
        let persons = persons::by_ordinals(conn, project.shard_key(), &[0]).unwrap();
        assert_eq!(persons[0].properties.0, r#"{"plan": "b"}"#);
    }

    #[test]
    fn a_write_notices_the_merges_of_this_and_of_another_process() {
        let database = TestDatabase::create();
        let stores = [(); 2].map(|()| IndexedStore::new(database.open()));
        let project = project_of(&stores[0]);
        let item = |event: &str, id: String, alias: String| {
            let text = format!(
                r#"{{"event": "{event}", "distinct_id": "{id}", "properties": {{"alias": "{alias}"}}}}"#
            );
            Item::read(&text, &Arrival::of_file(), uuid::Uuid::now_v7).unwrap()
        };
        for (nth, store) in stores.iter().enumerate() {
            let id = |name: &str| format!("{name}{nth}");
            let ordinal_of_event = |name: &str| {
                let mut written = Vec::new();
                let items = [item("x", id(name), String::new())];
                commit_in_halves(&stores[0], project, &items, &mut written).unwrap();
                written[0].events[0].1
            };
            let merge = |into: &str, from: &str| item("$merge_dangerously", id(into), id(from));
            let survivor = ordinal_of_event("user");
            ordinal_of_event("other");
            commit(&stores[0], project, &[merge("other", "spare")]).unwrap();
            assert_ne!(ordinal_of_event("spare"), survivor);
            commit(store, project, &[merge("user", "other")]).unwrap();
            assert_eq!(
                ordinal_of_event("spare"),
                survivor,
                "merged by process {nth}"
            );
        }
    }

    #[test]
    fn on_a_distributed_postgres_one_transaction_writes_a_batch() {
        for (is_distributed, transactions) in [(false, 2), (true, 1)] {
            let database = TestDatabase::create();
            let store = IndexedStore::new(database.open());
            let project = project_of(&store);
            let conn = &mut *store.connection().unwrap();
            if is_distributed {
                pretend_distributed(conn);
            }
            let items: Vec<Item> = (0..10).map(|person| set(person, "a", "b")).collect();
            let mut written = Vec::new();
            commit_in_halves(&store, project, &items, &mut written).unwrap();
            assert_eq!(written[0].events.len(), 10);
            assert_eq!(transactions_of_events(conn), transactions);
        }
    }
}
