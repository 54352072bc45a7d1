//! Loads that outlast a request: they continue in the background, once for all requests of a project.
//!
//! The first request that runs out of time begins a load of its plan, or of the ranking. Until it ends, requests of the project that need the
//! same data fail soon, with the progress. The loaded blocks go to the newest index, so a later request finds them.

use std::collections::HashMap;
use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use cohorts_engine::{LeafCache, Plan};
use cohorts_store::{Conn, Lane, ProjectId};
use parking_lot::Mutex;

use super::ranking::Ranking;
use super::read::RowCount;
use super::snapshot::Snapshot;
use super::{IndexError, IndexResult, IndexedStore};

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
pub struct BackgroundLoads(Mutex<HashMap<ProjectId, RunningLoad>>);

impl BackgroundLoads {
    /// The number of loads that run.
    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.0.lock().len()
    }
}

struct RunningLoad {
    rows_read: RowCount,
    started: Instant,
}

impl RunningLoad {
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
        self.read_within(conn, project, plan, self.request_limit(project), work)
    }

    /// As [`Self::read_for_request`], for work without a plan: nothing is loaded after its time.
    ///
    /// # Errors
    ///
    /// [`IndexError::TimedOut`] if the data is not loaded in time.
    pub fn read_snapshot<T, E: From<IndexError> + From<cohorts_store::Error>>(
        &self,
        conn: &mut Conn,
        project: ProjectId,
        work: impl FnOnce(&Snapshot<'_, '_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let limit = self.request_limit(project);
        Snapshot::read(conn, &self.caches.index, project, limit, work)
    }

    pub(super) fn read_within<T, E: From<IndexError> + From<cohorts_store::Error>>(
        &self,
        conn: &mut Conn,
        project: ProjectId,
        plan: &Plan,
        limit: Duration,
        work: impl FnOnce(&Snapshot<'_, '_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let load = || {
            let plan = plan.clone();
            move |snapshot: &Snapshot<'_, '_>| {
                let members = snapshot.evaluate(&plan, &LeafCache::default());
                members.map(drop)
            }
        };
        self.read_or_load(conn, project, limit, work, load)
    }

    /// As [`Self::read_for_request`], for work without a plan. `load` makes the work that reads the same data in the
    /// background.
    ///
    /// # Errors
    ///
    /// As [`Self::read_for_request`].
    pub fn read_for_request_with<T, E, L>(
        &self,
        conn: &mut Conn,
        project: ProjectId,
        work: impl FnOnce(&Snapshot<'_, '_>) -> Result<T, E>,
        load: impl FnOnce() -> L,
    ) -> Result<T, E>
    where
        E: From<IndexError> + From<cohorts_store::Error> + Display,
        L: FnOnce(&Snapshot<'_, '_>) -> Result<(), E> + Send + 'static,
    {
        self.read_or_load(conn, project, self.request_limit(project), work, load)
    }

    pub(super) fn read_or_load<T, E, F, L>(
        &self,
        conn: &mut Conn,
        project: ProjectId,
        limit: Duration,
        work: impl FnOnce(&Snapshot<'_, '_>) -> Result<T, E>,
        load: impl FnOnce() -> L,
    ) -> Result<T, E>
    where
        E: From<IndexError> + From<cohorts_store::Error>,
        F: From<IndexError> + From<cohorts_store::Error> + Display,
        L: FnOnce(&Snapshot<'_, '_>) -> Result<(), F> + Send + 'static,
    {
        let start = Instant::now();
        let result = Snapshot::read(conn, &self.caches.index, project, limit, work);
        if result.is_err() && start.elapsed() >= limit {
            let read = load();
            let load =
                move |store: &Self, rows_read: &RowCount| store.load_by(project, rows_read, read);
            return Err(IndexError::Loading(self.load(project, load)).into());
        }
        result
    }

    /// The ranking of at least the persons that the connection sees, for a request.
    ///
    /// # Errors
    ///
    /// [`IndexError::Loading`] if it is not loaded in time; the load continues in the background.
    pub fn ranking_for_request(
        &self,
        conn: &mut Conn,
        project: ProjectId,
    ) -> IndexResult<Arc<Ranking>> {
        self.ranking_within(conn, project, self.request_limit(project))
    }

    pub(super) fn ranking_within(
        &self,
        conn: &mut Conn,
        project: ProjectId,
        limit: Duration,
    ) -> IndexResult<Arc<Ranking>> {
        let rows_read = RowCount::default();
        let deadline = Instant::now() + limit;
        let index = &self.caches.index;
        match index.ranking(conn, project.shard_key(), deadline, &rows_read) {
            Err(IndexError::TimedOut) => {
                let load = move |store: &Self, rows_read: &RowCount| {
                    store.load_ranking(project, rows_read)
                };
                Err(IndexError::Loading(self.load(project, load)))
            }
            result => result,
        }
    }

    fn load_ranking(&self, project: ProjectId, rows_read: &RowCount) -> IndexResult<()> {
        let conn = &mut *self.connection()?;
        let deadline = Instant::now() + LOAD_LIMIT;
        let index = &self.caches.index;
        cohorts_store::snapshot(conn, |conn| {
            index.ranking(conn, project.shard_key(), deadline, rows_read)
        })?;
        Ok(())
    }

    /// The time that a request may wait for data of a project.
    fn request_limit(&self, project: ProjectId) -> Duration {
        if self.caches.loads.0.lock().contains_key(&project) {
            LOADING_LIMIT
        } else {
            REQUEST_LIMIT
        }
    }

    /// Begins a load, unless the project has one.
    fn load<F: Display>(
        &self,
        project: ProjectId,
        load: impl FnOnce(&Self, &RowCount) -> Result<(), F> + Send + 'static,
    ) -> LoadProgress {
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
        let running = RunningLoad {
            rows_read: RowCount::default(),
            started: Instant::now(),
        };
        let store = self.in_lane(Lane::Background);
        let rows_read = Arc::clone(&running.rows_read);
        let thread = thread::Builder::new().name("load".to_owned());
        let work = move || store.run_load(project, &rows_read, load);
        if let Err(cause) = thread.spawn(work) {
            log::warn!("a load in the background cannot start: {cause}");
            return waiting;
        }
        loads.entry(project).or_insert(running).progress()
    }

    fn run_load<F: Display>(
        &self,
        project: ProjectId,
        rows_read: &RowCount,
        load: impl FnOnce(&Self, &RowCount) -> Result<(), F>,
    ) {
        let _end = EndOfLoad(self, project);
        if let Err(cause) = load(self, rows_read) {
            log::warn!(
                "project {}: a load in the background failed: {cause}",
                project.0
            );
        }
    }

    fn load_by<F: From<IndexError> + From<cohorts_store::Error>>(
        &self,
        project: ProjectId,
        rows_read: &RowCount,
        read: impl FnOnce(&Snapshot<'_, '_>) -> Result<(), F>,
    ) -> Result<(), F> {
        let conn = &mut *self.connection()?;
        let cache = &self.caches.index;
        Snapshot::read_counting(conn, cache, project, LOAD_LIMIT, rows_read, read)
    }
}

/// Removes the load of a project when its thread ends, also in a panic.
struct EndOfLoad<'a>(&'a IndexedStore, ProjectId);

impl Drop for EndOfLoad<'_> {
    fn drop(&mut self) {
        self.0.caches.loads.0.lock().remove(&self.1);
    }
}
