//! The stored catalogue equals a scan of the rows, whatever processes write, follow and look up again.

mod cost;

use std::collections::BTreeSet;

use cohorts_store::definitions::{self, CatalogueEntry};
use cohorts_store::testing::TestDatabase;
use cohorts_store::{Conn, ProjectId, events, persons, projects, tombstones, transaction};

use super::follow::read_rows;
use super::{CatalogueNames, Evidence, HeadMoves, Rechecked};
use crate::index::IndexedStore;
use crate::index::tests::Numbers;
use crate::ingest::halves::{STOP, WriteStop};
use crate::ingest::{Arrival, Item, commit, commit_in_halves};

/// A project that several processes write.
struct Site {
    processes: Vec<IndexedStore>,
    project: ProjectId,
    // Dropped after the stores, which have connections to it.
    database: TestDatabase,
}

impl Site {
    fn new(processes: usize) -> Self {
        let database = TestDatabase::create();
        let open = |_| IndexedStore::new(database.open());
        let processes: Vec<IndexedStore> = (0..processes).map(open).collect();
        let conn = &mut *processes[0].connection().unwrap();
        let project = projects::create(conn, "P", "UTC", "phc_x").unwrap().id();
        Self {
            processes,
            project,
            database,
        }
    }

    /// Ends a write of a process between its commits. Returns whether it had two halves.
    fn interrupt(&self, process: usize, items: &[Item], stop: WriteStop) -> bool {
        STOP.set(Some(stop));
        let store = &self.processes[process];
        let result = commit_in_halves(store, self.project, items, &mut Vec::new());
        STOP.set(None);
        result.is_err()
    }

    /// Ends a process, and starts it again.
    fn restart(&mut self, process: usize) {
        self.processes[process] = IndexedStore::new(self.database.open());
    }

    fn commit(&self, process: usize, items: &[Item]) {
        commit(&self.processes[process], self.project, items).unwrap();
    }

    fn follow(&self, process: usize, moves: HeadMoves) -> super::follow::Followed {
        let store = &self.processes[process];
        let conn = &mut *store.connection().unwrap();
        store
            .caches
            .catalogue
            .follow(conn, self.project, moves)
            .unwrap()
    }

    fn recheck(&self, process: usize) -> Rechecked {
        let store = &self.processes[process];
        let conn = &mut *store.connection().unwrap();
        store.caches.catalogue.recheck(conn, self.project).unwrap()
    }

    fn settle(&self, process: usize) {
        while !self.follow(process, HeadMoves::All).is_complete {}
        while self.recheck(process) == Rechecked::Some {}
    }

    fn names(&self, process: usize) -> CatalogueNames {
        let store = &self.processes[process];
        let conn = &mut *store.connection().unwrap();
        let read = store.caches.catalogue.read(conn, self.project).unwrap();
        CatalogueNames::clone(&read.names)
    }

    /// All names of the rows.
    fn scanned(&self) -> CatalogueNames {
        let conn = &mut *self.processes[0].connection().unwrap();
        let shard_key = self.project.shard_key();
        let evidence =
            read_rows(conn, shard_key, (-1, i64::MAX), &CatalogueNames::default()).unwrap();
        let mut names = CatalogueNames::default();
        assert!(!names.add(evidence).is_full);
        names
    }

    /// Deletes the person of a distinct id as a request does.
    fn delete(&self, id: &str) {
        let shard_key = self.project.shard_key();
        let conn = &mut *self.processes[0].connection().unwrap();
        let owners = persons::ordinals_by_id(conn, shard_key, &[id]).unwrap();
        let Some(ordinal) = owners.into_values().next() else {
            return;
        };
        transaction(conn, |conn| {
            projects::lock(conn, self.project)?;
            let seq = events::begin_write(conn, shard_key)?;
            let retired = tombstones::with_merged(conn, shard_key, &[ordinal])?;
            let mut names = events::delete_of_persons(conn, shard_key, &retired, 0)?.names;
            names.extend(properties_of(conn, self.project, ordinal));
            persons::delete(conn, shard_key, seq, ordinal)?;
            definitions::add_checks(conn, shard_key, seq, &names)
        })
        .unwrap();
    }
}

fn properties_of(conn: &mut Conn, project: ProjectId, ordinal: i64) -> BTreeSet<CatalogueEntry> {
    let persons = persons::by_ordinals(conn, project.shard_key(), &[ordinal]).unwrap();
    let names = persons
        .iter()
        .flat_map(|person| person.properties.member_names());
    names.map(CatalogueEntry::PersonProperty).collect()
}

fn item(text: &str) -> Item {
    Item::read(text, &Arrival::of_file(), uuid::Uuid::now_v7).unwrap()
}

fn event(name: &str, id: &str, properties: &str) -> Item {
    item(&format!(
        r#"{{"event": "{name}", "distinct_id": "{id}", "properties": {properties}}}"#
    ))
}

fn random_item(numbers: &mut Numbers) -> Item {
    const VALUES: [&str; 8] = [
        "1",
        "true",
        "null",
        "\"\"",
        "\"2026-03-01\"",
        "\"text\"",
        "[1]",
        "\"TRUE\"",
    ];
    let mut value = || VALUES[numbers.below(VALUES.len() as u64) as usize];
    let (first, second, third) = (value(), value(), value());
    let id = numbers.below(12);
    let (name, key, other) = (numbers.below(4), numbers.below(4), numbers.below(5));
    let text = match numbers.below(10) {
        0 => format!(
            r#"{{"event": "$identify", "distinct_id": "p{id}", "properties": {{"$anon_distinct_id": "p{other}"}}}}"#
        ),
        1 => format!(
            r#"{{"event": "$merge_dangerously", "distinct_id": "p{id}", "properties": {{"alias": "p{other}"}}}}"#
        ),
        2 => format!(
            r#"{{"event": "e{name}", "distinct_id": "p{id}", "properties": {{"$unset": ["s{key}"]}}}}"#
        ),
        3 => format!(
            r#"{{"event": "e{name}", "distinct_id": "q{id}", "properties": {{"k{key}": {first}, "$process_person_profile": false}}}}"#
        ),
        _ => format!(
            r#"{{"event": "e{name}", "distinct_id": "p{id}", "properties": {{"k{key}": {first}, "x\u0022{other}": {second},
                "$set": {{"s{key}": {third}}}, "$set_once": {{"s{other}": {second}}}}}}}"#
        ),
    };
    item(&text)
}

/// Items of a write that will be interrupted: with names that other writes lack, and without the only value of another name.
/// The test catalogue has room for few names.
fn interrupted_items(site: &Site, process: usize, nth: usize, numbers: &mut Numbers) -> Vec<Item> {
    let id = format!("p{}", numbers.below(12));
    let set = format!(r#"{{"$set": {{"gone{nth}": 1}}}}"#);
    site.commit(process, &[event("e0", &id, &set)]);
    while !site.follow(process, HeadMoves::All).is_complete {}
    let unset = format!(r#"{{"$unset": ["gone{nth}"], "$set": {{"stays{nth}": 1}}, "k{nth}": 1}}"#);
    let mut items = vec![event(&format!("first{nth}"), &id, &unset)];
    items.extend((0..2).map(|_| random_item(numbers)));
    items.push(event(&format!("last{nth}"), "p0", "{}"));
    items
}

#[test]
fn catalogue_equals_a_scan_of_the_rows_after_random_histories() {
    let mut interrupted = 0;
    for seed in 0..8 {
        let mut site = Site::new(2);
        let mut numbers = Numbers(seed);
        for step in 0..120 {
            let process = numbers.below(2) as usize;
            match numbers.below(14) {
                0 => site.delete(&format!("p{}", numbers.below(12))),
                1 => drop(site.recheck(process)),
                2 | 3 => drop(site.follow(process, HeadMoves::All)),
                4 | 5 => drop(site.follow(process, HeadMoves::Needed)),
                6 => {
                    let items: Vec<Item> = (0..9).map(|_| random_item(&mut numbers)).collect();
                    let store = &site.processes[process];
                    commit_in_halves(store, site.project, &items, &mut Vec::new()).unwrap();
                }
                7 => site.processes[process].caches.catalogue.0.lock().clear(),
                8 | 9 => {
                    let items = interrupted_items(&site, process, step % 3, &mut numbers);
                    let stops = [WriteStop::AfterPersons, WriteStop::BetweenHalves];
                    let stop = stops[numbers.below(2) as usize];
                    interrupted += usize::from(site.interrupt(process, &items, stop));
                    match numbers.below(3) {
                        // The next try of the same process.
                        0 => site.commit(process, &items),
                        _ => site.restart(process),
                    }
                }
                _ => {
                    let count = numbers.below(4) + 1;
                    let items: Vec<Item> = (0..count).map(|_| random_item(&mut numbers)).collect();
                    site.commit(process, &items);
                }
            }
        }
        // Rows of an interrupted write belong to the next one.
        site.commit(0, &[event("last", "p0", "{}")]);
        site.settle(numbers.below(2) as usize);
        for process in 0..2 {
            assert_eq!(site.names(process), site.scanned(), "seed {seed}");
        }
        for id in 0..12 {
            site.delete(&format!("p{id}"));
        }
        site.settle(0);
        assert_eq!(
            site.names(1),
            site.scanned(),
            "seed {seed}, after the deletion of all persons"
        );
        assert!(site.names(0).person_properties().is_empty());
    }
    assert!(interrupted > 20, "{interrupted} writes were interrupted");
}

#[test]
fn names_of_an_interrupted_write_are_read_with_the_next_one() {
    let site = Site::new(1);
    site.commit(0, &[event("first", "a", "{}")]);
    site.settle(0);
    let items: Vec<Item> = (0..4)
        .map(|nth| event(&format!("half {nth}"), "a", "{}"))
        .collect();
    assert!(site.interrupt(0, &items, WriteStop::BetweenHalves));
    let unfinished = || {
        let conn = &mut site.processes[0].connection().unwrap();
        let (_, seqs) = definitions::head_and_unfinished(conn, site.project.shard_key()).unwrap();
        seqs.len()
    };
    assert_eq!(unfinished(), 1);
    site.commit(0, &[event("next", "a", "{}")]);
    assert!(site.follow(0, HeadMoves::Needed).is_complete);
    assert_eq!(site.names(0), site.scanned());
    assert_eq!(site.names(0).events().count(), 4);
    assert_eq!(unfinished(), 0);
    // A complete write in halves leaves no trace, and its names come from memory.
    let store = &site.processes[0];
    commit_in_halves(store, site.project, &items, &mut Vec::new()).unwrap();
    assert_eq!(unfinished(), 0);
    site.follow(0, HeadMoves::Needed);
    assert_eq!(site.names(0), site.scanned());
    assert_eq!(site.names(0).events().count(), 6);
}

#[test]
fn a_known_name_costs_no_write_and_no_read() {
    let site = Site::new(1);
    let store = &site.processes[0];
    let paid = || event("paid", "a", r#"{"amount": 1, "$set": {"plan": "x"}}"#);
    site.commit(0, &[paid()]);
    site.settle(0);
    let version = |conn: &mut Conn| definitions::head(conn, site.project.shard_key()).unwrap();
    let before = version(&mut store.connection().unwrap());
    site.commit(0, &[paid(), paid()]);
    let statements = store.statements.get();
    let followed = site.follow(0, HeadMoves::Needed);
    // The head of the definitions and that of the log.
    assert_eq!(store.statements.get() - statements, 2);
    assert!(followed.is_complete);
    assert_eq!(version(&mut store.connection().unwrap()), before);
    // A new kind of value is a change, and so is a new name; both come from memory.
    site.commit(
        0,
        &[event("paid", "a", r#"{"amount": "x", "currency": "EUR"}"#)],
    );
    site.follow(0, HeadMoves::Needed);
    assert_eq!(
        version(&mut store.connection().unwrap()).version,
        before.version + 1
    );
    assert_eq!(site.names(0), site.scanned());
}

#[test]
fn names_of_existing_rows_are_read_in_steps() {
    let site = Site::new(2);
    for number in 0..450 {
        site.commit(1, &[event(&format!("e{}", number % 7), "a", r#"{"k": 1}"#)]);
    }
    // The other process has seen none of these writes.
    site.settle(0);
    assert_eq!(site.names(0), site.scanned());
    assert_eq!(site.names(0).events().count(), 7);
    assert!(site.processes[0].caches.catalogue.full_count() == 0);
}

#[test]
fn a_catalogue_with_too_many_names_reports_this_until_there_is_room() {
    let site = Site::new(1);
    site.settle(0);
    let items = (0..60).map(|number| event(&format!("e{number}"), &format!("p{number}"), "{}"));
    let items: Vec<Item> = items.collect();
    site.commit(0, &items);
    assert!(site.follow(0, HeadMoves::Needed).became_full);
    let is_full = || {
        let conn = &mut *site.processes[0].connection().unwrap();
        definitions::head(conn, site.project.shard_key())
            .unwrap()
            .is_full
    };
    assert_eq!(
        (site.names(0).len(), is_full()),
        (super::names::MAX_NAMES, true)
    );
    assert_eq!(site.processes[0].caches.catalogue.full_count(), 1);
    for number in 0..20 {
        site.delete(&format!("p{number}"));
    }
    site.settle(0);
    assert!(!is_full());
    // A name that was left out is listed when it comes again.
    site.commit(0, &[event("e59", "p59", "{}")]);
    site.settle(0);
    assert!(site.names(0).events().any(|name| name == "e59"));
}

#[test]
fn members_of_objects_that_are_no_json_are_no_evidence() {
    let mut evidence = Evidence::default();
    for text in ["", "[]", "null", "{\"a\"", "{\"a\": }"] {
        evidence.add_person(text, &CatalogueNames::default());
    }
    assert!(evidence.is_empty());
}
