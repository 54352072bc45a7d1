//! Deletes a person with everything that refers to them: events, distinct ids, memberships.

use std::time::Duration;

use cohorts_store::{
    CohortId, Conn, ShardKey, cohorts, events, members, persons, projects, scan, segments,
    tombstones,
};
use uuid::Uuid;

use crate::auth::Caller;
use crate::error::Error;
use crate::handlers::activity_log;
use crate::handlers::lookup::ordinal_of;

/// How long the deletion of a person's events may take. Other statements of requests have less time.
const EVENTS_LIMIT: Duration = Duration::from_secs(600);

/// Deletes a person.
///
/// Existing events are deleted first, which may take long and locks nothing else. The rest, and the events that arrived
/// meanwhile, are deleted in one transaction.
pub fn delete(conn: &mut Conn, caller: &Caller, uuid: Uuid) -> Result<(), Error> {
    let shard_key = caller.project.id().shard_key();
    let person = persons::find(conn, shard_key, uuid)?.ok_or(Error::NotFound)?;
    let seen_seq = events::log_head(conn, shard_key)?;
    let ordinals = tombstones::with_merged(conn, shard_key, person.ordinal)?;
    cohorts_store::transaction(conn, |conn| {
        scan::set_statement_timeout(conn, EVENTS_LIMIT)?;
        events::delete_of_persons(conn, shard_key, &ordinals, 0)
    })?;
    cohorts_store::transaction(conn, |conn| {
        projects::lock(conn, caller.project.id())?;
        let cohorts = cohorts::lock_all(conn, caller.project.id())?;
        let seq = events::begin_write(conn, shard_key)?;
        let person = match persons::find(conn, shard_key, uuid)? {
            Some(person) => person,
            // The person was merged meanwhile, so the survivor is deleted.
            None => survivor(conn, shard_key, ordinal_of(&person)?)?.ok_or(Error::NotFound)?,
        };
        remove_from_cohorts(conn, caller, &cohorts, ordinal_of(&person)?)?;
        events::delete_of_persons(conn, shard_key, &ordinals, seen_seq)?;
        let mut merged = tombstones::with_merged(conn, shard_key, person.ordinal)?;
        merged.retain(|ordinal| !ordinals.contains(ordinal));
        events::delete_of_persons(conn, shard_key, &merged, 0)?;
        persons::delete(conn, shard_key, seq, person.ordinal)?;
        Ok(segments::drop_all(conn, shard_key)?)
    })
}

fn survivor(
    conn: &mut Conn,
    shard_key: ShardKey,
    ordinal: u32,
) -> Result<Option<persons::Person>, Error> {
    let survivor = tombstones::all(conn, shard_key)?.resolve(ordinal);
    let ordinals: Vec<i64> = survivor.map(i64::from).into_iter().collect();
    Ok(persons::by_ordinals(conn, shard_key, &ordinals)?.pop())
}

/// Removes a person from all cohorts. The activity log records it for static cohorts.
fn remove_from_cohorts(
    conn: &mut Conn,
    caller: &Caller,
    cohorts: &[cohorts::LockedCohort],
    ordinal: u32,
) -> Result<(), Error> {
    let shard_key = caller.project.id().shard_key();
    let left = members::remove_everywhere(conn, shard_key, cohorts, ordinal)?;
    cohorts::decrement_counts(conn, &left)?;
    let static_cohorts = cohorts.iter().filter(|cohort| cohort.is_static);
    for cohort in static_cohorts.filter(|cohort| left.contains(&cohort.id)) {
        activity_log::persons_edited(conn, caller, CohortId(cohort.id), "person_removed_manually")?;
    }
    Ok(())
}
