//! Checkpoints: blocks of larger projects, written next to the rows so that a start need not read the rows.
//!
//! A checkpoint that is missing or damaged is never an error: its reader loads the rows, and the next write replaces it.
//! An index may be checkpointed even if merges happened after it was built, because readers resolve merges. It must not
//! be checkpointed if a deletion, or a change of the retention, happened after it.

use std::time::{Duration, Instant};

use cohorts_engine::PropertyBlock;
use cohorts_store::{
    Conn, Error as StoreError, ProjectId, frames, persons as person_rows, projects, segments,
    tombstones,
};
use roaring::RoaringBitmap;

use super::IndexResult;
use super::cache::Cached;
use super::project::{ProjectIndex, PropertyCheckpoint};
use super::read::{ReadTx, RetentionState};

/// The shortest time between two looks at the checkpoint of a property.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(60);
/// Smaller blocks are loaded from their rows as fast as from a checkpoint.
const MIN_ROWS: u64 = 10_000;
/// A property is written again when one person in this many has changed.
const PERSONS_PER_CHANGE: u64 = 100;
/// The checkpoint of a property.
pub enum StoredProperty {
    Missing,
    Damaged,
    Valid {
        through_seq: i64,
        block: PropertyBlock,
    },
}

/// The checkpoint of all persons, with its sequence number.
pub fn persons(tx: &ReadTx<'_>) -> IndexResult<Option<(i64, RoaringBitmap)>> {
    let stored = tx.with_conn(|conn| segments::persons(conn, tx.shard_key()))?;
    Ok(stored.and_then(|stored| {
        let bytes = frames::unpack(&stored.data);
        let persons = bytes.and_then(|bytes| RoaringBitmap::deserialize_from(&*bytes).ok());
        if persons.is_none() {
            log::warn!(
                "project {}: the checkpoint of its persons is damaged",
                tx.project.0
            );
        }
        Some((stored.through_seq, persons?))
    }))
}

/// The checkpoint of a property.
pub fn property(tx: &ReadTx<'_>, key: &str) -> IndexResult<StoredProperty> {
    let stored = tx.with_conn(|conn| segments::property(conn, tx.shard_key(), key))?;
    let Some(stored) = stored else {
        return Ok(StoredProperty::Missing);
    };
    let bytes = frames::unpack(&stored.data);
    let Some(block) = bytes.and_then(|bytes| PropertyBlock::decode(&bytes)) else {
        let project = tx.project.0;
        log::warn!("project {project}: the checkpoint of property {key:?} is damaged");
        return Ok(StoredProperty::Damaged);
    };
    tx.check_memory(block.bytes())?;
    Ok(StoredProperty::Valid {
        through_seq: stored.through_seq,
        block,
    })
}

impl ProjectIndex {
    /// Writes the blocks of larger projects that live cohorts read and that are not written yet. A block that cannot be
    /// written does not keep the others from being written.
    pub fn write_checkpoints(&self, conn: &mut Conn, project: ProjectId) -> Result<(), StoreError> {
        let live = self.live.refresh(conn, project)?;
        // Other columns of these events were loaded before the live columns changed, and are not read again.
        self.events
            .retain(|(name, columns)| self.live.columns_for(name, columns) == *columns);
        if self.persons.len() >= MIN_ROWS {
            self.write_persons(conn, project)?;
        }
        let mut written = Ok(());
        for Cached { key, value, .. } in self.properties.all() {
            if value.person_count() as u64 >= MIN_ROWS && live.has_property(&key) {
                written = written.and(self.write_property(conn, project, &key, &value));
            }
        }
        written
    }

    fn write_persons(&self, conn: &mut Conn, project: ProjectId) -> Result<(), StoreError> {
        let shard_key = project.shard_key();
        let stored = segments::persons_seq(conn, shard_key)?;
        if stored.is_some_and(|stored| stored >= self.seq) {
            return Ok(());
        }
        let mut bytes = Vec::new();
        let serialized = self.persons.serialize_into(&mut bytes);
        serialized.map_err(anyhow::Error::from)?;
        let data = frames::pack(&bytes)?;
        self.write_if_valid(conn, project, |conn| {
            segments::write_persons(conn, shard_key, self.seq, &data)
        })?;
        Ok(())
    }

    /// Writes a property if many persons have changed since it was written; a start reads a few changed persons from their rows.
    fn write_property(
        &self,
        conn: &mut Conn,
        project: ProjectId,
        key: &str,
        block: &PropertyBlock,
    ) -> Result<(), StoreError> {
        let known = self.property_checkpoints.lock().get(key).copied();
        if let Some(PropertyCheckpoint::CheckedAt(time)) = known
            && time.elapsed() < CHECKPOINT_EVERY
        {
            return Ok(());
        }
        let shard_key = project.shard_key();
        let is_damaged = matches!(known, Some(PropertyCheckpoint::Damaged));
        let stored = segments::property_seq(conn, shard_key, key)?.filter(|_| !is_damaged);
        let many = (self.persons.len() / PERSONS_PER_CHANGE).max(1) as i64;
        let is_current = match stored {
            Some(seq) => {
                seq >= self.seq || !person_rows::at_least_changed(conn, shard_key, seq, many)?
            }
            None => false,
        };
        if !is_current {
            let data = frames::pack(&block.encode())?;
            self.write_if_valid(conn, project, |conn| {
                segments::write_property(conn, shard_key, key, self.seq, &data)
            })?;
        }
        let checked = PropertyCheckpoint::CheckedAt(Instant::now());
        let mut checkpoints = self.property_checkpoints.lock();
        checkpoints.insert(key.to_owned(), checked);
        Ok(())
    }

    /// Runs `write`, unless a person was deleted or the retention was changed after the index was built. It holds the
    /// project's lock, under which both happen.
    fn write_if_valid<T>(
        &self,
        conn: &mut Conn,
        project: ProjectId,
        write: impl FnOnce(&mut Conn) -> Result<T, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        cohorts_store::transaction(conn, |conn| {
            projects::lock(conn, project)?;
            let row = projects::find(conn, project)?;
            let retention = row.map(|row| RetentionState {
                days: row.event_retention_days,
                changes: row.retention_changes,
            });
            let later = tombstones::since(conn, project.shard_key(), self.seq)?;
            if retention == Some(self.retention) && !later.has_deletions() {
                write(conn).map(Some)
            } else {
                Ok(None)
            }
        })
    }
}
