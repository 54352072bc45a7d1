//! The newest index of each project, under one memory budget.
//!
//! A transaction that sees the same sequence number as the newest index uses it. One that sees a later number advances
//! it, and one that sees an earlier number must begin again. So no lock is held while a plan is evaluated, and a result
//! is exact whatever is written meanwhile.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cohorts_store::{Conn, Error as StoreError, ProjectId};
use parking_lot::Mutex;

use super::IndexResult;
use super::advance::advance;
use super::cache::{Weight, lock_until};
use super::project::ProjectIndex;
use super::read::ReadTx;

/// The memory budget if none is set, in bytes.
pub const DEFAULT_BUDGET: u64 = 1 << 30;

/// The newest index of a project. The caller that advances it holds the lock.
type Newest = Arc<Mutex<Option<Arc<ProjectIndex>>>>;

/// The indexes of all projects.
pub struct IndexCache {
    projects: Mutex<HashMap<ProjectId, Newest>>,
    budget: AtomicU64,
}

impl Default for IndexCache {
    fn default() -> Self {
        Self {
            projects: Mutex::default(),
            budget: AtomicU64::new(DEFAULT_BUDGET),
        }
    }
}

impl IndexCache {
    /// The memory budget of all indexes, in bytes.
    pub fn budget(&self) -> u64 {
        self.budget.load(Ordering::Relaxed)
    }

    pub fn set_budget(&self, bytes: u64) {
        self.budget.store(bytes, Ordering::Relaxed);
    }

    /// The index of what a transaction sees; `None` if the cached index is newer, so the caller must begin again.
    pub fn get(&self, tx: &ReadTx<'_>) -> IndexResult<Option<Arc<ProjectIndex>>> {
        let newest = {
            let mut projects = self.projects.lock();
            Arc::clone(projects.entry(tx.project).or_default())
        };
        let mut cached = lock_until(&newest, tx.limits.deadline)?;
        let (seq, retention) = (tx.log_head()?, tx.retention()?);
        let usable = cached.as_ref().filter(|index| index.retention == retention);
        let advanced = match usable {
            Some(index) if index.seq == seq => return Ok(Some(Arc::clone(index))),
            Some(index) if index.seq > seq => return Ok(None),
            Some(index) => advance(index, tx, seq)?,
            None => None,
        };
        let index = match advanced {
            Some(index) => Arc::new(index),
            None => Arc::new(ProjectIndex::new(tx, seq, retention)?),
        };
        *cached = Some(Arc::clone(&index));
        Ok(Some(index))
    }

    /// Evicts the least recently used blocks until the rest fits into the budget. `separate` is an index outside the cache
    /// that counts too.
    pub fn evict(&self, separate: Option<&ProjectIndex>) {
        let cached = self.all();
        let indexes: Vec<&ProjectIndex> = cached
            .iter()
            .map(|(_, index)| &**index)
            .chain(separate)
            .collect();
        let mut weights: Vec<Weight> = indexes.iter().flat_map(|index| index.weights()).collect();
        let mut total: u64 = weights.iter().map(|weight| weight.bytes).sum();
        let budget = self.budget();
        if total <= budget {
            return;
        }
        weights.sort_unstable();
        let mut tick = 0;
        for weight in weights {
            if total <= budget {
                break;
            }
            total -= weight.bytes;
            tick = weight.last_use + 1;
        }
        indexes.iter().for_each(|index| index.evict_before(tick));
    }

    /// Writes the checkpoints that are due, and drops the indexes of deleted projects.
    pub fn write_checkpoints(&self, conn: &mut Conn) {
        for (project, index) in self.all() {
            let written = index.write_checkpoints(conn, project);
            if matches!(written, Err(StoreError::ProjectGone)) {
                self.projects.lock().remove(&project);
            } else if let Err(cause) = written {
                log::warn!(
                    "project {}: checkpoint failed, will retry: {cause}",
                    project.0
                );
            }
        }
    }

    /// The memory of all indexes, in bytes.
    pub fn bytes(&self) -> u64 {
        let indexes = self.all();
        let weights = indexes.iter().flat_map(|(_, index)| index.weights());
        weights.map(|weight| weight.bytes).sum()
    }

    /// The newest indexes, without those that are being advanced.
    pub(super) fn all(&self) -> Vec<(ProjectId, Arc<ProjectIndex>)> {
        let projects: Vec<(ProjectId, Newest)> = {
            let projects = self.projects.lock();
            projects
                .iter()
                .map(|(project, newest)| (*project, Arc::clone(newest)))
                .collect()
        };
        projects
            .iter()
            .filter_map(|(project, newest)| {
                let index = newest.try_lock()?.clone()?;
                Some((*project, index))
            })
            .collect()
    }
}
