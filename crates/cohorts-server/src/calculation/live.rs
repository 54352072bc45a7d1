//! The passes that keep cohorts live: each advances the cohorts of a project by what has changed since the last one.
//!
//! A pass reads one snapshot, finds the persons that may have another membership, evaluates the cohorts for them, and
//! publishes all changed cohorts in two commits. One process at a time makes the passes of a project, by a lease. A cohort
//! that cannot be advanced leaves the passes, and the queue calculates it fully; then the passes include it again.

mod evaluate;
mod hints;
mod lease;
mod process;
mod project;
mod publish;
mod state;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use cohorts_engine::delta::Position;
use cohorts_store::live::Holder;
use cohorts_store::{Conn, Error as StoreError, ProjectId};
use parking_lot::Mutex;

use evaluate::PassResult;
pub use hints::tell_services;
pub use lease::Leases;
use project::{LiveProgress, LiveProject};
pub use state::{evaluation_of, settings_of};

use crate::index::snapshot::Snapshot;
use crate::index::{IndexError, IndexedStore};
use crate::metrics::Metrics;
use crate::signals::{Wake, WriteSignal};

/// How long one pass may read.
const TIME_LIMIT: Duration = Duration::from_secs(30);
/// The pause after a pass that failed.
const RETRY: Duration = Duration::from_secs(1);
/// The shortest pause before a pass that no write has caused.
const SWEEP_PAUSE: Duration = Duration::from_millis(200);
/// The longest time that writes wait after a pass. Up to that, they wait as long as the pass took, so under constant writes
/// short passes take half of the time, and more writes share one.
const LONGEST_REST: Duration = Duration::from_millis(10);
/// The longest pause before a pass. A clock that was changed is noticed then.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Makes the passes of the projects that this process has by a lease.
pub struct LivePasses {
    store: IndexedStore,
    metrics: Metrics,
    holder: Holder,
    /// The projects that this process has by a lease.
    held: Mutex<HashMap<ProjectId, Arc<HeldProject>>>,
    /// Whether a project was written that this process does not have.
    is_missing: AtomicBool,
}

/// A project that this process has by a lease.
struct HeldProject {
    /// Locked during a pass.
    live: Mutex<LiveProject>,
    progress: Mutex<LiveProgress>,
}

impl LivePasses {
    pub fn new(store: &IndexedStore, metrics: &Metrics) -> Self {
        Self {
            store: store.clone(),
            metrics: metrics.clone(),
            holder: process::holder(),
            held: Mutex::default(),
            is_missing: AtomicBool::new(false),
        }
    }

    /// Makes passes until the signal is closed. A write waits for `delay`.
    pub fn run(&self, delay: Duration) {
        let writes = &self.store.signals.writes;
        while let Some(wake) = writes.next(delay) {
            let started = Instant::now();
            let work = AssertUnwindSafe(|| self.pass(wake, Utc::now()));
            let project = wake.project;
            let due = match catch_unwind(work) {
                Ok(Ok(due)) => due,
                Ok(Err(cause)) => {
                    log::warn!("project {}: a pass failed, will retry: {cause}", project.0);
                    Some(RETRY)
                }
                Err(_) => {
                    log::error!("project {}: a pass panicked, all is read again", project.0);
                    self.held.lock().remove(&project);
                    Some(RETRY)
                }
            };
            let rest = started.elapsed().min(LONGEST_REST);
            writes.finish(wake.project, due.map(|due| Instant::now() + due), rest);
        }
    }

    fn held(&self, project: ProjectId) -> Option<Arc<HeldProject>> {
        self.held.lock().get(&project).cloned()
    }

    /// Makes a pass of a project as of `clock`. Returns the pause until the next one if nothing is written; `None` if this
    /// process does not make the passes of the project.
    fn pass(&self, wake: Wake, clock: DateTime<Utc>) -> Result<Option<Duration>, IndexError> {
        let Some(held) = self.held(wake.project) else {
            self.is_missing.store(true, Ordering::Relaxed);
            return Ok(None);
        };
        self.store.outages.check(wake.project)?;
        let mut live = held.live.lock();
        let clock = clock.max(held.progress.lock().earliest());
        let started = Instant::now();
        let conn = &mut *self.store.connection()?;
        let evaluated = match self.evaluate(conn, &mut live, clock) {
            // The queue has higher limits.
            Err(IndexError::TimedOut | IndexError::Store(StoreError::TimedOut)) => {
                live.all_fallen("time", clock)
            }
            Err(IndexError::ProjectNotFound) => {
                self.held.lock().remove(&wake.project);
                return Ok(None);
            }
            evaluated => evaluated?,
        };
        self.metrics.pass(evaluated.touched);
        let publication = publish::publish(self, conn, &mut live, evaluated, || ())?;
        if publication.is_lost {
            self.held.lock().remove(&wake.project);
            return Ok(None);
        }
        held.progress.lock().set(live.position(), None);
        if !publication.changed.is_empty() {
            self.metrics
                .published(wake.written.map(|written| written.elapsed()));
            let project = wake.project.0;
            let (count, time) = (publication.changed.len(), started.elapsed());
            log::debug!("project {project}: a pass changed {count} cohorts in {time:?}");
        }
        for lag in publication.lags {
            self.metrics.expired(lag);
        }
        if publication.is_partial {
            return Ok(Some(Duration::ZERO));
        }
        let next = self.next_change(conn, &mut live)?;
        held.progress.lock().set(live.position(), next);
        Ok(match next {
            Some(next) => Some(pause(next, Utc::now())),
            // The write decides when the next pass begins.
            None if self.store.signals.writes.is_written(wake.project) => None,
            None => Some(Duration::ZERO),
        })
    }

    fn evaluate(
        &self,
        conn: &mut Conn,
        live: &mut LiveProject,
        clock: DateTime<Utc>,
    ) -> Result<PassResult, IndexError> {
        let (cache, project) = (&self.store.caches.index, live.project());
        Snapshot::read(conn, cache, project, TIME_LIMIT, |snapshot| {
            let settings = live.refresh(snapshot, clock)?;
            live.evaluate(snapshot, clock.timestamp_micros(), &settings)
        })
    }

    /// The instant before which time alone changes no member; `None` if something was written since the pass.
    fn next_change(
        &self,
        conn: &mut Conn,
        live: &mut LiveProject,
    ) -> Result<Option<i64>, IndexError> {
        let (writes, project) = (&self.store.signals.writes, live.project());
        if live.knows_next_change() {
            return Ok(Some(live.next_change()));
        }
        if writes.is_written(project) {
            return Ok(None);
        }
        let cache = &self.store.caches.index;
        Snapshot::read(conn, cache, project, TIME_LIMIT, |snapshot| {
            let is_known = live.find_next_changes(snapshot, || writes.is_written(project))?;
            Ok::<_, IndexError>(is_known.then(|| live.next_change()))
        })
    }

    /// Gives up the leases, so that another process takes them at once.
    pub fn release(&self) {
        let held = std::mem::take(&mut *self.held.lock());
        let released = self.store.connection();
        let released = released
            .and_then(|mut conn| cohorts_store::live::release(&mut conn, self.holder.owner));
        if let Err(cause) = released {
            log::warn!("the leases of live projects end by themselves: {cause}");
        }
        held.keys()
            .for_each(|project| tell_services(&self.store, *project));
    }

    /// The signal that starts passes.
    pub fn signal(&self) -> WriteSignal {
        self.store.signals.writes.clone()
    }
}

/// The pause from `now` to an instant.
fn pause(next: i64, now: DateTime<Utc>) -> Duration {
    let micros = next.saturating_sub(now.timestamp_micros()).max(0);
    Duration::from_micros(micros.unsigned_abs()).clamp(SWEEP_PAUSE, LONGEST_PAUSE)
}

/// The instant of a position.
fn time_of(position: Position) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(position.now).unwrap_or_default()
}
