//! Deletes persons with everything that refers to them: events, distinct ids, memberships.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cohorts_store::definitions::{self, CatalogueEntry};
use cohorts_store::erasures::EventDays;
use cohorts_store::idempotency::RequestAttempt;
use cohorts_store::{
    CohortId, Conn, ShardKey, changes, cohorts, erasures, events, idempotency, persons, projects,
    scan, tombstones,
};
use roaring::RoaringBitmap;
use uuid::Uuid;

use crate::auth::Caller;
use crate::error::Error;
use crate::handlers::{activity_log, lookup, once};
use crate::kill_points::KillPoint;

/// How long the deletion of a person's events may take. Other statements of requests have less time.
const EVENTS_LIMIT: Duration = Duration::from_secs(600);

/// Persons that one transaction deletes. Writers of the project wait for it.
pub const PERSONS_AT_ONCE: usize = 50;

/// A person that is to be deleted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DoomedPerson {
    pub uuid: Uuid,
    pub ordinal: i64,
}

/// Deletes a person.
pub fn delete(conn: &mut Conn, caller: &Caller, uuid: Uuid) -> Result<(), Error> {
    let shard_key = caller.project.id().shard_key();
    let person = persons::find(conn, shard_key, uuid)?.ok_or(Error::NotFound)?;
    let ordinal = person.ordinal;
    match delete_all(conn, caller, &[DoomedPerson { uuid, ordinal }], None)? {
        0 => Err(Error::NotFound),
        _ => Ok(()),
    }
}

/// Deletes persons, and returns their number. Persons that do not exist any more are skipped.
///
/// Existing events are deleted first, which may take long and locks nothing else. The rest, and the events that arrived
/// meanwhile, are deleted in one transaction, which marks the `Idempotency-Key` of `attempt`. Readers of checkpoints mask the
/// persons from then on, and a background task removes them from the checkpoints.
pub fn delete_all(
    conn: &mut Conn,
    caller: &Caller,
    doomed: &[DoomedPerson],
    attempt: Option<&RequestAttempt>,
) -> Result<usize, Error> {
    let shard_key = caller.project.id().shard_key();
    let seen_seq = events::log_head(conn, shard_key)?;
    let ordinals: Vec<i64> = doomed.iter().map(|person| person.ordinal).collect();
    let ordinals = tombstones::with_merged(conn, shard_key, &ordinals)?;
    cohorts_store::transaction(conn, |conn| {
        scan::set_statement_timeout(conn, EVENTS_LIMIT)?;
        let deleted = events::delete_of_persons(conn, shard_key, &ordinals, 0)?;
        erasures::record(conn, shard_key, 0, &deleted.days)?;
        // All deleted events are in the log up to its head.
        let seq = events::log_head(conn, shard_key)?;
        definitions::add_checks(conn, shard_key, seq, &deleted.names)
    })?;
    KillPoint::DeletionBetweenCommits.reached();
    let deleted = cohorts_store::transaction(conn, |conn| {
        projects::lock(conn, caller.project.id())?;
        let cohorts = cohorts::lock_all(conn, caller.project.id())?;
        let seq = events::begin_write(conn, shard_key)?;
        let present = present_ordinals(conn, shard_key, doomed)?;
        if present.is_empty() {
            return Ok(0);
        }
        let mut later = events::delete_of_persons(conn, shard_key, &ordinals, seen_seq)?;
        let deleted: Vec<i64> = present.iter().map(i64::from).collect();
        let retired = tombstones::with_merged(conn, shard_key, &deleted)?;
        let merged = retired.iter().copied();
        let merged: Vec<i64> = merged
            .filter(|ordinal| !ordinals.contains(ordinal))
            .collect();
        later.extend(events::delete_of_persons(conn, shard_key, &merged, 0)?);
        later
            .names
            .extend(property_names(conn, shard_key, &deleted)?);
        for ordinal in &deleted {
            persons::delete(conn, shard_key, seq, *ordinal)?;
        }
        let none = retired
            .into_iter()
            .map(|ordinal| (ordinal, EventDays::new()));
        let mut erased: BTreeMap<i64, EventDays> = none.collect();
        for (ordinal, events) in later.days {
            erased.entry(ordinal).or_default().extend(events);
        }
        erasures::record(conn, shard_key, seq, &erased)?;
        definitions::add_checks(conn, shard_key, seq, &later.names)?;
        idempotency::forget_reads(conn, caller.project.id())?;
        once::mark_committed(conn, attempt)?;
        // The head of the change log is the last lock.
        remove_from_cohorts(conn, caller, &cohorts, &present)?;
        KillPoint::DeletionWritten.reached();
        Ok::<_, Error>(deleted.len())
    })?;
    KillPoint::DeletionCommitted.reached();
    if attempt.is_some() {
        KillPoint::RequestCommitted.reached();
    }
    Ok(deleted)
}

/// The properties that persons have.
fn property_names(
    conn: &mut Conn,
    shard_key: ShardKey,
    ordinals: &[i64],
) -> Result<BTreeSet<CatalogueEntry>, Error> {
    let mut names = BTreeSet::new();
    for ordinal in ordinals {
        let persons = persons::by_ordinals(conn, shard_key, &[*ordinal])?;
        let properties = persons
            .iter()
            .flat_map(|person| person.properties.member_names());
        names.extend(properties.map(CatalogueEntry::PersonProperty));
    }
    Ok(names)
}

/// The ordinals that the persons have now. For a person that was merged meanwhile, it is that of the survivor.
fn present_ordinals(
    conn: &mut Conn,
    shard_key: ShardKey,
    doomed: &[DoomedPerson],
) -> Result<RoaringBitmap, Error> {
    let uuids: Vec<Uuid> = doomed.iter().map(|person| person.uuid).collect();
    let current = persons::ordinals_by_uuid(conn, shard_key, &uuids)?;
    let mut ordinals: Vec<i64> = current.values().copied().collect();
    if current.len() < doomed.len() {
        let tombstones = tombstones::all(conn, shard_key)?;
        let merged = doomed.iter();
        let merged = merged.filter(|person| !current.contains_key(&person.uuid));
        let survivors = merged
            .filter_map(|person| tombstones.resolve(u32::try_from(person.ordinal).ok()?))
            .map(i64::from);
        let survivors: Vec<i64> = survivors.collect();
        let survivors = persons::uuids_by_ordinal(conn, shard_key, &survivors)?;
        ordinals.extend(survivors.into_keys());
    }
    lookup::ordinal_set(ordinals)
}

/// Removes persons from all cohorts. The activity log records it for static cohorts.
fn remove_from_cohorts(
    conn: &mut Conn,
    caller: &Caller,
    cohorts: &[cohorts::LockedCohort],
    ordinals: &RoaringBitmap,
) -> Result<(), Error> {
    let shard_key = caller.project.id().shard_key();
    let left = changes::remove_persons(conn, shard_key, cohorts, ordinals)?;
    let static_cohorts = cohorts.iter().filter(|cohort| cohort.is_static);
    for cohort in static_cohorts.filter(|cohort| left.contains(&cohort.id)) {
        activity_log::persons_edited(conn, caller, CohortId(cohort.id), "person_removed_manually")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::thread;

    use cohorts_store::changes::{Cause, StaticCohort};
    use cohorts_store::definition::Definition;
    use cohorts_store::testing::TestDatabase;
    use cohorts_store::{keys, transaction};
    use diesel::prelude::*;
    use diesel::sql_types::BigInt;

    use super::*;
    use crate::index::IndexedStore;
    use crate::ingest::{Arrival, Item, commit};

    #[derive(QueryableByName)]
    struct SelectedNumber {
        #[diesel(sql_type = BigInt)]
        number: i64,
    }

    fn number(conn: &mut Conn, statement: &str) -> i64 {
        let row: SelectedNumber = diesel::sql_query(statement).get_result(conn).unwrap();
        row.number
    }

    const WAITING: &str = "select count(*) as number from pg_stat_activity \
        where datname = current_database() and wait_event_type = 'Lock'";

    #[test]
    fn a_deletion_that_waits_for_an_erasure_does_not_hold_the_change_head() {
        let database = TestDatabase::create();
        let store = IndexedStore::new(database.open());
        let conn = &mut *store.connection().unwrap();
        let project = projects::create(conn, "P", "UTC", "phc_x").unwrap();
        let (id, shard_key) = (project.id(), project.id().shard_key());
        let owner = keys::teammate(conn, "a@x.io", "").unwrap();
        let text = r#"{"event": "x", "distinct_id": "a"}"#;
        let item = Item::read(text, &Arrival::of_file(), Uuid::now_v7).unwrap();
        commit(&store, id, &[item]).unwrap();
        // Without events, the first transaction of the deletion records no erasure.
        let events = diesel::sql_query("delete from events").execute(conn);
        assert_eq!(events.unwrap(), 1);
        let mut definition = Definition::default();
        definition.is_static = true;
        let cohort = cohorts::create(conn, id, &owner, &definition).unwrap();
        transaction(conn, |conn| {
            let members = RoaringBitmap::from_iter([0_u32]);
            let cohort = StaticCohort::from(&cohort);
            changes::edit(conn, &cohort, Cause::Manual, |_| Ok(members))
        })
        .unwrap();
        let caller = Caller::of_command(owner, project);
        let uuid = persons::uuids_by_ordinal(conn, shard_key, &[0]).unwrap()[&0];
        thread::scope(|scope| {
            let deletion = transaction(conn, |conn| {
                let erased = [(0, EventDays::new())].into();
                erasures::record(conn, shard_key, 0, &erased)?;
                let deletion =
                    scope.spawn(|| delete(&mut store.connection().unwrap(), &caller, uuid));
                let other = &mut *store.connection().unwrap();
                while number(other, WAITING) == 0 {
                    assert!(!deletion.is_finished());
                    thread::yield_now();
                }
                let head = "select number from change_heads for update nowait";
                assert_eq!(number(other, head), 1);
                Ok::<_, Error>(deletion)
            });
            deletion.unwrap().join().unwrap().unwrap();
        });
        assert_eq!(number(conn, "select number from change_heads"), 2);
        let pending = erasures::pending(conn, shard_key, 9).unwrap();
        assert_eq!(pending.len(), 1);
    }
}
