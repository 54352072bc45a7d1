//! Outages of the workers of a distributed Postgres: work on their projects fails at once instead of waiting for them.
//!
//! A statement that waits for a worker holds a connection and a thread, in the worst case until the worker returns: Citus
//! cannot cancel a statement on a worker that accepts connections and does not respond. So the projects of one worker never
//! get all of them, and none are taken by work that is known to fail.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::distribution::{self, Worker};
use crate::{Conn, ProjectId, Result, StoreError};

/// How long the workers of the projects are not read again while all workers respond.
const PLACEMENT_LIFETIME: Duration = Duration::from_secs(30);

/// The name of a worker.
pub type WorkerName = Arc<str>;

/// The workers as they were last seen. On plain Postgres there are none.
#[derive(Default)]
pub struct Outages(Mutex<WorkerStates>);

#[derive(Default)]
struct WorkerStates {
    /// `None` before the first look.
    counts: Option<WorkerCounts>,
    /// The workers that did not respond at the last look.
    missed: BTreeSet<WorkerName>,
    /// Those of them that did not respond at the look before either.
    silent: BTreeSet<WorkerName>,
    workers: HashMap<ProjectId, WorkerName>,
    placed: Option<Instant>,
}

/// How many workers respond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerCounts {
    /// The workers that respond.
    pub responding: usize,
    /// All workers.
    pub all: usize,
}

impl Outages {
    /// Asks the workers, and returns them with their responses.
    ///
    /// # Errors
    ///
    /// Fails if the database fails or has no Citus.
    pub fn look(&self, conn: &mut Conn) -> Result<Vec<Worker>> {
        let workers = distribution::workers(conn)?;
        self.record(&workers);
        if self.is_placement_old() {
            let projects = distribution::workers_of_projects(conn)?;
            let named = projects.into_iter();
            self.place(named.map(|(project, address)| (project, address.to_string().into())));
        }
        Ok(workers)
    }

    /// Records the responses of all workers. A worker is silent if it did not respond twice in a row.
    pub fn record(&self, workers: &[Worker]) {
        let name = |worker: &Worker| WorkerName::from(worker.address.to_string());
        let missed = workers.iter().filter(|worker| !worker.is_available);
        let missed: BTreeSet<WorkerName> = missed.map(name).collect();
        let mut seen = self.0.lock();
        seen.counts = Some(WorkerCounts {
            responding: workers.len() - missed.len(),
            all: workers.len(),
        });
        seen.silent = missed.intersection(&seen.missed).cloned().collect();
        seen.missed = missed;
    }

    fn is_placement_old(&self) -> bool {
        let seen = self.0.lock();
        let is_old = |time: Instant| time.elapsed() >= PLACEMENT_LIFETIME;
        !seen.missed.is_empty() || seen.placed.is_none_or(is_old)
    }

    /// Records the workers of all projects.
    pub fn place(&self, workers: impl IntoIterator<Item = (ProjectId, WorkerName)>) {
        let mut seen = self.0.lock();
        seen.workers = workers.into_iter().collect();
        seen.placed = Some(Instant::now());
    }

    /// How many workers responded at the last look; `None` before the first look, and on plain Postgres.
    pub fn counts(&self) -> Option<WorkerCounts> {
        self.0.lock().counts
    }

    /// The worker of a project; `None` if it is not known, and on plain Postgres.
    pub fn worker_of(&self, project: ProjectId) -> Option<WorkerName> {
        self.0.lock().workers.get(&project).cloned()
    }

    /// Whether any worker does not respond.
    pub fn has_silent(&self) -> bool {
        !self.0.lock().silent.is_empty()
    }

    /// Whether the worker of a project does not respond.
    pub fn affect(&self, project: ProjectId) -> bool {
        self.check(project).is_err()
    }

    /// Fails if the worker of a project does not respond.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] with the name of the worker.
    pub fn check(&self, project: ProjectId) -> Result<()> {
        let seen = self.0.lock();
        match seen.workers.get(&project) {
            Some(worker) if seen.silent.contains(worker) => Err(StoreError::Unavailable(format!(
                "worker {worker} of project {} does not respond",
                project.0
            ))),
            _ => Ok(()),
        }
    }

    /// Outages for tests: the projects have a worker that does not respond.
    #[cfg(any(test, feature = "testing"))]
    pub fn set_for_test(&self, projects: &[ProjectId]) {
        let silent = Worker::of_test(false, "");
        for _ in 0..2 {
            self.record(std::slice::from_ref(&silent));
        }
        let name = WorkerName::from(silent.address.to_string());
        self.place(projects.iter().map(|id| (*id, name.clone())));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_projects_of_a_worker_that_missed_two_looks_are_refused() {
        let outages = Outages::default();
        assert_eq!(outages.counts(), None);
        let silent = Worker::of_test(false, "");
        outages.place([(ProjectId(2), silent.address.to_string().into())]);
        outages.record(std::slice::from_ref(&silent));
        outages.check(ProjectId(2)).unwrap();
        outages.record(std::slice::from_ref(&silent));
        outages.check(ProjectId(1)).unwrap();
        let refusal = outages.check(ProjectId(2)).unwrap_err();
        assert!(refusal.is_transient() && refusal.to_string().contains("w:5432"));
        let counts = outages.counts().unwrap();
        assert_eq!((counts.responding, counts.all), (0, 1));
        outages.record(&[Worker::of_test(true, "0")]);
        outages.check(ProjectId(2)).unwrap();
        assert_eq!(outages.worker_of(ProjectId(1)), None);
    }
}
