//! Loads that outlast a request: they continue in the background, once for all requests of a project.
//!
//! The first request that runs out of time begins a load of its plan. Until it ends, requests of the project that need the
//! same data fail soon, with the progress. The loaded blocks go to the newest index, so a later request finds them.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use cohorts_engine::{LeafCache, Plan};
use cohorts_store::{Conn, Lane, ProjectId};
use parking_lot::Mutex;

use super::read::RowCount;
use super::snapshot::Snapshot;
use super::{IndexError, IndexedStore};

/// The time that a request may wait for its data.
const REQUEST_LIMIT: Duration = Duration::from_secs(20);
/// The time that a request may wait while its project has a load in the background.
const LOADING_LIMIT: Duration = Duration::from_secs(2);
/// The time that a load in the background may take.
const LOAD_LIMIT: Duration = Duration::from_secs(3_600);
/// Loads in the background at the same time, so that connections and memory remain for calculations.
const MAX_LOADS: usize = 2;

/// How far a load in the background is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadProgress {
    /// The rows that were read.
    pub rows: u64,
    /// The time since the load began; `None` if it waits for other loads.
    pub elapsed: Option<Duration>,
}

/// The loads in the background.
#[derive(Default)]
pub struct BackgroundLoads(Mutex<HashMap<ProjectId, Load>>);

impl BackgroundLoads {
    /// The number of loads that run.
    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.0.lock().len()
    }
}

struct Load {
    rows_read: RowCount,
    started: Instant,
}

impl Load {
    fn progress(&self) -> LoadProgress {
        LoadProgress {
            rows: self.rows_read.load(Ordering::Relaxed),
            elapsed: Some(self.started.elapsed()),
        }
    }
}

impl IndexedStore {
    /// Runs `work` for a request, on the data as it is now: see [`Snapshot::read`]. `plan` is what `work` evaluates.
    ///
    /// # Errors
    ///
    /// [`IndexError::Loading`] if the data is not loaded in time; the load continues in the background.
    pub fn read_for_request<T, E: From<IndexError> + From<cohorts_store::Error>>(
        &self,
        conn: &mut Conn,
        project: ProjectId,
        plan: &Plan,
        work: impl FnOnce(&Snapshot<'_, '_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let is_loading = self.caches.loads.0.lock().contains_key(&project);
        let limit = if is_loading {
            LOADING_LIMIT
        } else {
            REQUEST_LIMIT
        };
        self.read_within(conn, project, plan, limit, work)
    }

    pub(super) fn read_within<T, E: From<IndexError> + From<cohorts_store::Error>>(
        &self,
        conn: &mut Conn,
        project: ProjectId,
        plan: &Plan,
        limit: Duration,
        work: impl FnOnce(&Snapshot<'_, '_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let start = Instant::now();
        let result = Snapshot::read(conn, &self.caches.index, project, limit, work);
        if result.is_err() && start.elapsed() >= limit {
            return Err(IndexError::Loading(self.load(project, plan)).into());
        }
        result
    }

    /// Begins to load what `plan` reads, unless the project has a load.
    fn load(&self, project: ProjectId, plan: &Plan) -> LoadProgress {
        let mut loads = self.caches.loads.0.lock();
        if let Some(load) = loads.get(&project) {
            return load.progress();
        }
        let waiting = LoadProgress {
            rows: 0,
            elapsed: None,
        };
        if loads.len() >= MAX_LOADS {
            return waiting;
        }
        let load = Load {
            rows_read: RowCount::default(),
            started: Instant::now(),
        };
        let (store, plan) = (self.in_lane(Lane::Background), plan.clone());
        let rows_read = Arc::clone(&load.rows_read);
        let thread = thread::Builder::new().name("load".to_owned());
        let work = move || store.run_load(project, &plan, &rows_read);
        if let Err(cause) = thread.spawn(work) {
            log::warn!("a load in the background cannot start: {cause}");
            return waiting;
        }
        loads.entry(project).or_insert(load).progress()
    }

    fn run_load(&self, project: ProjectId, plan: &Plan, rows_read: &RowCount) {
        let _end = EndOfLoad(self, project);
        let cache = &self.caches.index;
        let loaded = self
            .connection()
            .map_err(IndexError::from)
            .and_then(|mut conn| {
                Snapshot::read_counting(
                    &mut conn,
                    cache,
                    project,
                    LOAD_LIMIT,
                    rows_read,
                    |snapshot| snapshot.evaluate(plan, &LeafCache::default()),
                )
            });
        if let Err(cause) = loaded {
            log::warn!(
                "project {}: a load in the background failed: {cause}",
                project.0
            );
        }
    }
}

/// Removes the load of a project when its thread ends, also in a panic.
struct EndOfLoad<'a>(&'a IndexedStore, ProjectId);

impl Drop for EndOfLoad<'_> {
    fn drop(&mut self) {
        self.0.caches.loads.0.lock().remove(&self.1);
    }
}
