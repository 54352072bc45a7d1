//! Writes the members of a calculated cohort in two commits: first the changed chunks, then the version by which readers
//! see them.

use cohorts_engine::chunks;
use cohorts_store::cohorts::Cohort;
use cohorts_store::queue::{self, Evaluated};
use cohorts_store::{Conn, Error, Store, events, members, tombstones, transaction};
use roaring::RoaringBitmap;

use super::claimed::Started;

/// Publishes the members of a claimed cohort. Does nothing if the claim is lost.
pub fn publish(
    store: &Store,
    cohort: &Cohort,
    started: Started,
    members: RoaringBitmap,
    evaluated: Evaluated,
) -> Result<(), Error> {
    let conn = &mut *store.connection()?;
    let Some(written) = write_chunks(conn, cohort, members, evaluated.seen_seq)? else {
        return Ok(());
    };
    if let Some(count) = publish_version(conn, cohort, started, written, evaluated)? {
        let shard_key = cohort.project().shard_key();
        members::prune(conn, shard_key, cohort.id(), cohort.member_version)?;
        log::info!("cohort {}: {count} members", cohort.id);
    }
    Ok(())
}

/// Members with written chunks.
struct WrittenMembers {
    members: RoaringBitmap,
    /// The log head when the chunks were written.
    log_head: i64,
}

/// Writes the chunks that differ from the published ones; returns `None` if the claim is lost. A static
/// cohort keeps its published members.
fn write_chunks(
    conn: &mut Conn,
    cohort: &Cohort,
    evaluated: RoaringBitmap,
    seen_seq: i64,
) -> Result<Option<WrittenMembers>, Error> {
    let (shard_key, base) = (cohort.project().shard_key(), cohort.member_version);
    transaction(conn, |conn| {
        if !queue::lock_claimed(conn, cohort)? {
            return Ok(None);
        }
        let log_head = events::log_head(conn, shard_key)?;
        let published = members::read(conn, shard_key, cohort.id(), base)?;
        let members = if cohort.definition.is_static {
            evaluated | &published
        } else {
            evaluated
        };
        // Persons that were deleted or merged since the snapshot must not come back.
        let members = tombstones::since(conn, shard_key, seen_seq)?.resolved(&members);
        let changed = chunks::changed(&published, &members);
        members::write(conn, shard_key, cohort.id(), base, cohort.attempt, &changed)?;
        Ok(Some(WrittenMembers { members, log_head }))
    })
}

/// Publishes the written chunks, and returns the number of members.
fn publish_version(
    conn: &mut Conn,
    cohort: &Cohort,
    started: Started,
    written: WrittenMembers,
    evaluated: Evaluated,
) -> Result<Option<i64>, Error> {
    let shard_key = cohort.project().shard_key();
    queue::publish(conn, cohort, started.time, evaluated, |conn| {
        // A deletion after the write has removed its person from the chunks.
        let retired = tombstones::since(conn, shard_key, written.log_head)?.retired;
        Ok(written.members.difference_len(&retired) as i64)
    })
}

#[cfg(test)]
mod tests {
    use chrono::{TimeDelta, Utc};
    use cohorts_store::definition::Definition;
    use cohorts_store::testing::TestDatabase;
    use cohorts_store::{ProjectId, cohorts, keys, persons, projects};

    use super::*;
    use crate::index::IndexedStore;
    use crate::ingest::{Arrival, Item, commit};

    /// Deletes a person as the operation does.
    fn delete(store: &Store, project: ProjectId, ordinal: i64) {
        let conn = &mut *store.connection().unwrap();
        let shard_key = project.shard_key();
        transaction(conn, |conn| {
            let locked = cohorts::lock_all(conn, project)?;
            let left = members::remove_everywhere(conn, shard_key, &locked, ordinal as u32)?;
            cohorts::decrement_counts(conn, &left)?;
            let seq = events::begin_write(conn, shard_key)?;
            persons::delete(conn, shard_key, seq, ordinal)
        })
        .unwrap();
    }

    /// Members and count of a cohort after a person was deleted at a moment of its calculation.
    fn after_deletion(moment: &str) -> (Vec<u32>, Option<i64>) {
        let database = TestDatabase::create();
        let store = IndexedStore::new(database.open());
        let conn = &mut *store.connection().unwrap();
        let project = projects::create(conn, "P", "UTC", "phc_x").unwrap().id();
        let owner = keys::teammate(conn, "a@x.io", "").unwrap();
        let item = |id: &str| {
            let text = format!(r#"{{"event": "x", "distinct_id": "{id}"}}"#);
            Item::read(&text, &Arrival::of_file(), uuid::Uuid::now_v7).unwrap()
        };
        commit(&store, project, &["a", "b", "c"].map(item)).unwrap();
        let definition = Definition::default();
        let created = cohorts::create(conn, project, &owner, &definition).unwrap();
        queue::request_calculation(conn, created.id()).unwrap();
        let claimed = queue::claim(conn, None, TimeDelta::seconds(15), 1)
            .unwrap()
            .remove(0);

        let seen_seq = events::log_head(conn, project.shard_key()).unwrap();
        let members = RoaringBitmap::from_iter(0..3_u32);
        if moment == "before the chunks are written" {
            delete(&store, project, 1);
        }
        let written = write_chunks(conn, &claimed, members, seen_seq)
            .unwrap()
            .unwrap();
        if moment == "before the version is published" {
            delete(&store, project, 1);
        }
        let evaluated = Evaluated {
            at: Utc::now(),
            due_at: None,
            seen_seq,
        };
        publish_version(conn, &claimed, Started::now(), written, evaluated).unwrap();
        if moment == "after the version is published" {
            delete(&store, project, 1);
        }
        let (row, _) = cohorts::find(conn, project, created.id()).unwrap().unwrap();
        let version = row.member_version;
        let members = members::read(conn, project.shard_key(), created.id(), version).unwrap();
        (members.iter().collect(), row.count)
    }

    #[test]
    fn a_person_deleted_at_any_moment_of_a_calculation_is_no_member_and_not_counted() {
        for moment in [
            "before the chunks are written",
            "before the version is published",
            "after the version is published",
        ] {
            assert_eq!(after_deletion(moment), (vec![0, 2], Some(2)), "{moment}");
        }
    }
}
