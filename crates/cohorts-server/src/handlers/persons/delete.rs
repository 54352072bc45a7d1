//! Deletes persons with everything that refers to them: events, distinct ids, memberships.

use std::time::Duration;

use cohorts_store::{
    CohortId, Conn, ShardKey, changes, cohorts, events, persons, projects, scan, segments,
    tombstones,
};
use roaring::RoaringBitmap;
use uuid::Uuid;

use crate::auth::Caller;
use crate::error::Error;
use crate::handlers::{activity_log, lookup};

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
    match delete_all(conn, caller, &[DoomedPerson { uuid, ordinal }])? {
        0 => Err(Error::NotFound),
        _ => Ok(()),
    }
}

/// Deletes persons, and returns their number. Persons that do not exist any more are skipped.
///
/// Existing events are deleted first, which may take long and locks nothing else. The rest, and the events that arrived
/// meanwhile, are deleted in one transaction.
pub fn delete_all(
    conn: &mut Conn,
    caller: &Caller,
    doomed: &[DoomedPerson],
) -> Result<usize, Error> {
    let shard_key = caller.project.id().shard_key();
    let seen_seq = events::log_head(conn, shard_key)?;
    let ordinals: Vec<i64> = doomed.iter().map(|person| person.ordinal).collect();
    let ordinals = tombstones::with_merged(conn, shard_key, &ordinals)?;
    cohorts_store::transaction(conn, |conn| {
        scan::set_statement_timeout(conn, EVENTS_LIMIT)?;
        events::delete_of_persons(conn, shard_key, &ordinals, 0)
    })?;
    cohorts_store::transaction(conn, |conn| {
        projects::lock(conn, caller.project.id())?;
        let cohorts = cohorts::lock_all(conn, caller.project.id())?;
        let seq = events::begin_write(conn, shard_key)?;
        let present = present_ordinals(conn, shard_key, doomed)?;
        if present.is_empty() {
            return Ok(0);
        }
        remove_from_cohorts(conn, caller, &cohorts, &present)?;
        events::delete_of_persons(conn, shard_key, &ordinals, seen_seq)?;
        let present: Vec<i64> = present.into_iter().map(i64::from).collect();
        let mut merged = tombstones::with_merged(conn, shard_key, &present)?;
        merged.retain(|ordinal| !ordinals.contains(ordinal));
        events::delete_of_persons(conn, shard_key, &merged, 0)?;
        for ordinal in &present {
            persons::delete(conn, shard_key, seq, *ordinal)?;
        }
        segments::drop_all(conn, shard_key)?;
        Ok(present.len())
    })
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
