//! Checkpoints: blocks of larger projects, written next to the rows so that a start need not read the rows.
//!
//! A checkpoint that is missing or damaged is never an error: its reader loads the rows, and the next write replaces it.
//! An index may be checkpointed even if merges happened after it was built, because readers resolve merges. It must not
//! be checkpointed if a deletion, or a change of the retention, happened after it.

use cohorts_store::{Conn, Error as StoreError, ProjectId, projects, tombstones};

use super::project::ProjectIndex;
use super::read::RetentionState;

impl ProjectIndex {
    /// Writes the columns of larger projects that live cohorts read and that are not written yet. A column that cannot be
    /// written does not keep the others from being written.
    pub fn write_checkpoints(&self, conn: &mut Conn, project: ProjectId) -> Result<(), StoreError> {
        let live = self.live.refresh(conn, project)?;
        // Other columns of these events were loaded before the live columns changed, and are not read again.
        self.events
            .retain(|(name, columns)| self.live.columns_for(name, columns) == *columns);
        self.write_columns(conn, project, &live)
    }

    /// Runs `write`, unless a person was deleted or the retention was changed after the index was built. It holds the
    /// project's lock, under which both happen.
    pub(super) fn write_if_valid<T>(
        &self,
        conn: &mut Conn,
        project: ProjectId,
        write: impl FnOnce(&mut Conn) -> Result<T, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        cohorts_store::transaction(conn, |conn| {
            projects::lock(conn, project)?;
            let retention = RetentionState::of(conn, project)?;
            let later = tombstones::since(conn, project.shard_key(), self.seq)?;
            if retention == Some(self.retention) && !later.has_deletions() {
                write(conn).map(Some)
            } else {
                Ok(None)
            }
        })
    }
}
