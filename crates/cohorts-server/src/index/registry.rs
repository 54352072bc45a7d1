//! The newest index of each project, under one memory budget.
//!
//! The budget includes the keys of blocks, the persons and tombstones of each index, rankings, the other caches, and blocks
//! that are being loaded. Blocks and orders of persons are evicted first, then whole indexes, then whole rankings.
//!
//! A transaction that sees the same sequence number as the newest index uses it. One that sees a later number advances
//! it, and one that sees an earlier number must begin again. So no lock is held while a plan is evaluated, and a result
//! is exact whatever is written meanwhile.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cohorts_store::outages::Outages;
use cohorts_store::{Conn, Error as StoreError, ProjectId, ShardKey};
use parking_lot::Mutex;

use super::IndexResult;
use super::advance::advance;
use super::cache::{Weight, lock_until, next_tick};
use super::live::{SharedLiveColumns, drop_unread_columns};
use super::memory::{MemoryUse, Reservation};
use super::project::ProjectIndex;
use super::ranking::{Ranking, RankingCache, RankingLimits};
use super::read::{ReadTx, RowCount};
use super::segments::{SegmentUpkeep, rewrite_from_rows};

/// The memory budget if none is set, in bytes.
pub const DEFAULT_BUDGET: u64 = 1 << 30;

/// The pause between two searches for checkpoints of properties that no live cohort reads.
const DROP_EVERY: Duration = Duration::from_secs(600);

/// What the cache knows of a project.
#[derive(Default)]
struct CachedProject {
    /// The newest index. The caller that advances it holds the lock.
    newest: Mutex<Option<Arc<ProjectIndex>>>,
    live: Arc<SharedLiveColumns>,
    /// The tick of the last use.
    last_use: AtomicU64,
}

/// The indexes of all projects.
pub struct IndexCache {
    projects: Mutex<HashMap<ProjectId, Arc<CachedProject>>>,
    budget: AtomicU64,
    /// The other memory under the budget.
    pub memory: Arc<MemoryUse>,
    rankings: RankingCache,
    columns_dropped: Mutex<Instant>,
    segments: SegmentUpkeep,
    builds: AtomicU64,
}

impl Default for IndexCache {
    fn default() -> Self {
        let memory = Arc::default();
        Self {
            projects: Mutex::default(),
            budget: AtomicU64::new(DEFAULT_BUDGET),
            rankings: RankingCache::new(&memory),
            memory,
            columns_dropped: Mutex::new(Instant::now()),
            segments: SegmentUpkeep::default(),
            builds: AtomicU64::new(0),
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
        let project = {
            let mut projects = self.projects.lock();
            Arc::clone(projects.entry(tx.project).or_default())
        };
        project.last_use.store(next_tick(), Ordering::Relaxed);
        let mut cached = lock_until(&project.newest, tx.limits.deadline)?;
        self.advance_cached(&project, &mut cached, tx)
    }

    /// Brings the cached index to what a transaction sees, and returns it; `None` if it is newer.
    fn advance_cached(
        &self,
        project: &CachedProject,
        cached: &mut Option<Arc<ProjectIndex>>,
        tx: &ReadTx<'_>,
    ) -> IndexResult<Option<Arc<ProjectIndex>>> {
        let (seq, retention) = (tx.log_head()?, tx.retention()?);
        let usable = cached.take().filter(|index| index.retention == retention);
        let mut index = match usable {
            Some(index) => index,
            None => {
                self.builds.fetch_add(1, Ordering::Relaxed);
                Arc::new(ProjectIndex::new(tx, seq, retention, &project.live)?)
            }
        };
        // Each step is kept, so a caller that runs out of time leaves less to do for the next one.
        let caught_up = catch_up(&mut index, tx, seq);
        let is_current = index.seq == seq && !index.is_behind;
        *cached = Some(Arc::clone(&index));
        caught_up?;
        Ok(is_current.then_some(index))
    }

    /// Whether `index` has loaded blocks that the newest index lacks.
    pub fn lacks_blocks_of(&self, project: ProjectId, index: &ProjectIndex) -> bool {
        let newest = self.projects.lock().get(&project).cloned();
        let newest = newest.and_then(|project| project.newest.lock().clone());
        newest.is_some_and(|newest| !std::ptr::eq(&*newest, index) && index.has_more_than(&newest))
    }

    /// Adds to the newest index the blocks that an earlier one has loaded since. Without this, a load that takes longer
    /// than the time between two writes would be lost.
    pub fn keep_loaded(&self, tx: &ReadTx<'_>, loaded: &ProjectIndex) -> IndexResult<()> {
        let Some(project) = self.projects.lock().get(&tx.project).cloned() else {
            return Ok(());
        };
        let mut cached = lock_until(&project.newest, tx.limits.deadline)?;
        let Some(newest) = self.advance_cached(&project, &mut cached, tx)? else {
            return Ok(());
        };
        if newest.retention == loaded.retention {
            let mut missing = Arc::new(loaded.blocks_missing_in(&newest));
            catch_up(&mut missing, tx, newest.seq)?;
            newest.take_blocks(&missing);
        }
        Ok(())
    }

    /// Replaces the newest index of a project.
    #[cfg(test)]
    pub(super) fn put(&self, project: ProjectId, index: ProjectIndex) {
        let projects = self.projects.lock();
        *projects[&project].newest.lock() = Some(Arc::new(index));
    }

    /// Counts memory outside of the indexes under the budget, until the result is dropped.
    pub fn reserve(&self, bytes: usize) -> Reservation {
        let reservation = Reservation::new(&self.memory);
        reservation.set_loading(bytes as u64, u64::MAX);
        reservation
    }

    /// Evicts the orders of all rankings.
    #[cfg(test)]
    pub(super) fn evict_rankings(&self) {
        self.rankings.evict_before(u64::MAX);
    }

    /// Brings a ranking nearer to the end of the log by one step.
    #[cfg(test)]
    pub(super) fn step_ranking(&self, conn: &mut Conn, shard_key: ShardKey) -> Arc<Ranking> {
        self.rankings.step_once(conn, shard_key)
    }

    /// How often an index was built from checkpoints and rows, instead of from an earlier index.
    pub fn builds(&self) -> u64 {
        self.builds.load(Ordering::Relaxed)
    }

    /// The ranking of at least the persons that the connection sees, at the latest at `deadline`: see
    /// [`RankingCache::get`].
    pub fn ranking(
        &self,
        conn: &mut Conn,
        shard_key: ShardKey,
        deadline: Instant,
        rows_read: &RowCount,
    ) -> IndexResult<Arc<Ranking>> {
        let limits = RankingLimits {
            deadline,
            memory: self.budget(),
            rows_read,
        };
        let ranking = self.rankings.get(conn, shard_key, &limits);
        self.evict_if_rankings_grew();
        ranking
    }

    /// Evicts if an order of persons was loaded.
    pub fn evict_if_rankings_grew(&self) {
        if self.rankings.take_has_grown() {
            self.evict(None);
        }
    }

    /// Evicts the least recently used blocks until the rest fits into the budget, and whole indexes if that is not enough.
    /// `separate` is an index that counts too, also if it is outside the cache.
    pub fn evict(&self, separate: Option<&ProjectIndex>) {
        let cached = self.all();
        let mut indexes: Vec<&ProjectIndex> = cached.iter().map(|(_, index)| &**index).collect();
        indexes.extend(separate.filter(|separate| {
            let is_cached = |index: &&ProjectIndex| std::ptr::eq(*index, *separate);
            !indexes.iter().any(is_cached)
        }));
        let mut weights: Vec<Weight> = indexes.iter().flat_map(|index| index.weights()).collect();
        weights.extend(self.rankings.weights());
        let base: u64 = indexes.iter().map(|index| index.base_bytes()).sum();
        let base = base + self.rankings.base_bytes();
        let mut total = base + weights.iter().map(|weight| weight.bytes).sum::<u64>();
        let budget = self.budget().saturating_sub(self.memory.besides_index());
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
        self.rankings.evict_before(tick);
        if total > budget {
            let rest = self.evict_projects(total - budget);
            self.rankings.evict_projects(rest);
        }
    }

    /// Evicts the least recently used indexes, which have no blocks, until `bytes` are free. Returns what is still
    /// missing.
    fn evict_projects(&self, mut bytes: u64) -> u64 {
        let mut projects: Vec<_> = self.projects.lock().values().cloned().collect();
        projects.sort_by_key(|project| project.last_use.load(Ordering::Relaxed));
        for project in projects {
            if bytes == 0 {
                break;
            }
            if let Some(index) = project
                .newest
                .try_lock()
                .and_then(|mut newest| newest.take())
            {
                bytes = bytes.saturating_sub(index.base_bytes());
            }
        }
        bytes
    }

    /// Writes the checkpoints and the segments that are due, except of projects with an outage, and drops the indexes of
    /// deleted projects and the checkpoints of properties that no live cohort reads.
    pub fn write_checkpoints(&self, conn: &mut Conn, outages: &Outages) {
        for (project, index) in self.all() {
            if outages.affect(project) {
                continue;
            }
            let written = index.write_checkpoints(conn, project);
            if matches!(written, Err(StoreError::ProjectGone)) {
                self.projects.lock().remove(&project);
            } else if let Err(cause) = written {
                log::warn!(
                    "project {}: checkpoint failed, will retry: {cause}",
                    project.0
                );
            }
            rewrite_damaged(conn, project, &index);
        }
        if let Err(cause) = self.segments.run(conn, outages) {
            log::warn!("segments were not written, will retry: {cause}");
        }
        let indexed = self.all().into_iter();
        let indexed = indexed.map(|(project, index)| (project.shard_key(), index.persons.len()));
        self.rankings
            .write_checkpoints(conn, self.budget(), &indexed.collect(), outages);
        let mut dropped = self.columns_dropped.lock();
        if dropped.elapsed() >= DROP_EVERY {
            *dropped = Instant::now();
            if let Err(cause) = drop_unread_columns(conn, outages) {
                log::warn!("unread columns were not dropped, will retry: {cause}");
            }
        }
    }

    /// Stores the order of the persons of a project, if much of it has changed.
    pub fn store_ranking(&self, conn: &mut Conn, project: ProjectId) -> IndexResult<()> {
        let memory = self.budget();
        self.rankings.store(conn, project.shard_key(), memory)
    }

    /// The memory of all indexes and rankings, in bytes.
    pub fn bytes(&self) -> u64 {
        let bytes_of = |(_, index): &(ProjectId, Arc<ProjectIndex>)| {
            let blocks = index
                .weights()
                .iter()
                .map(|weight| weight.bytes)
                .sum::<u64>();
            index.base_bytes() + blocks
        };
        let indexes: u64 = self.all().iter().map(bytes_of).sum();
        let orders = self.rankings.weights().into_iter();
        let orders: u64 = orders.map(|weight| weight.bytes).sum();
        indexes + self.rankings.base_bytes() + orders
    }

    /// The newest indexes, without those that are being advanced.
    pub(super) fn all(&self) -> Vec<(ProjectId, Arc<ProjectIndex>)> {
        let projects: Vec<(ProjectId, Arc<CachedProject>)> = {
            let projects = self.projects.lock();
            projects
                .iter()
                .map(|(project, cached)| (*project, Arc::clone(cached)))
                .collect()
        };
        projects
            .iter()
            .filter_map(|(project, cached)| {
                let index = cached.newest.try_lock()?.clone()?;
                Some((*project, index))
            })
            .collect()
    }
}

/// Advances an index step by step to sequence number `seq`, which the transaction sees. After an error, the index is at
/// the last step.
fn catch_up(index: &mut Arc<ProjectIndex>, tx: &ReadTx<'_>, seq: i64) -> IndexResult<()> {
    while index.seq < seq {
        let successor = advance(index, tx, seq);
        tx.release_loading();
        *index = Arc::new(successor?);
    }
    Ok(())
}

/// Builds the days again that readers have found damaged.
fn rewrite_damaged(conn: &mut Conn, project: ProjectId, index: &ProjectIndex) {
    let damaged = std::mem::take(&mut *index.damaged_days.lock());
    for (event, day) in damaged {
        if let Err(cause) = rewrite_from_rows(conn, project, &event, day) {
            let project = project.0;
            log::warn!("project {project}: a damaged segment was not written again: {cause}");
        }
    }
}
