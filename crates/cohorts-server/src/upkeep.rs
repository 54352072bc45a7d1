//! Regular work besides calculation: due cohorts, counts on Citus, retention, limits of histories and of the change log,
//! expired keys, checkpoints, erasure of deleted persons from them.

mod changes;
mod counts;
mod due;
mod eraser;
mod pruning;
mod retention;
mod watch;

use std::time::{Duration, Instant};

use chrono::{TimeDelta, Utc};
use cohorts_store::live::{self, LiveCounts};
use cohorts_store::{Error, Store, keys, queue};

use crate::calculation::Calculator;
use changes::ChangeKeeper;
pub use changes::ChangeLimits;
use counts::Counts;
use eraser::Eraser;
pub use pruning::HistoryLimits;
use pruning::Pruner;
use retention::Sweeper;
pub use watch::WorkerWatch;

/// The longest pause between two runs.
const INTERVAL: Duration = Duration::from_secs(10);

/// The periodic tasks, each with its interval.
pub struct Upkeep {
    calculator: Calculator,
    sweeper: Sweeper,
    pruner: Pruner,
    counts: Counts,
    changes: ChangeKeeper,
    eraser: Eraser,
    /// `None` before the first time.
    tidied: Option<Instant>,
}

impl Upkeep {
    pub fn new(calculator: &Calculator, limits: HistoryLimits) -> Self {
        Self {
            calculator: calculator.clone(),
            sweeper: Sweeper::default(),
            pruner: Pruner::new(limits),
            counts: Counts::default(),
            changes: ChangeKeeper::new(limits.changes),
            eraser: Eraser::default(),
            tidied: None,
        }
    }

    /// Runs the tasks that are due. A failed task is logged and runs again at its next time.
    pub fn run(&mut self) {
        let Calculator { store, metrics, .. } = &self.calculator;
        if store.signals.looks.upkeep.take() {
            let requested = due::request_due_cohorts(store);
            report("due cohorts were not requested, will retry", requested);
            report("cohorts were not counted", self.count_cohorts());
        }
        let erased = self.eraser.run(store, metrics);
        report("deleted persons were not erased, will retry", erased);
        let is_tidying = self.tidied.is_none_or(|time| time.elapsed() >= INTERVAL);
        if is_tidying || !store.uncertain.is_empty() {
            let checked = self.counts.check(store);
            report("counts were not checked, will retry", checked);
        }
        if is_tidying {
            self.tidied = Some(Instant::now());
            report("expired keys were not voided, will retry", void_keys(store));
            let swept = self.sweeper.sweep(store);
            report("old events were not deleted, will retry", swept);
            let pruned = self.pruner.prune(store);
            report("histories were not shortened, will retry", pruned);
            let kept = self.changes.keep(store, &self.calculator.metrics);
            report("the change log was not shortened, will retry", kept);
            let conn = store.connection();
            let written = conn.map(|mut conn| {
                store
                    .caches
                    .index
                    .write_checkpoints(&mut conn, &store.outages)
            });
            report("checkpoint failed, will retry", written);
        }
    }

    fn count_cohorts(&self) -> Result<(), Error> {
        let store: &Store = &self.calculator.store;
        let now = Utc::now();
        let conn = &mut *store.connection()?;
        let backlog = queue::backlog(conn, now)?;
        let longest = (backlog.waiting_since).map_or(TimeDelta::zero(), |since| now - since);
        self.calculator.metrics.waiting(backlog.count, longest);
        let LiveCounts { live, behind } = live::counts(conn)?;
        self.calculator.metrics.live(live, behind);
        Ok(())
    }
}

/// Removes the hashes of expired keys, so that they stay invalid whatever program or clock is used later.
fn void_keys(store: &Store) -> Result<(), Error> {
    for id in keys::void_expired(&mut *store.connection()?)? {
        log::info!("key {id} has expired, and its hash is deleted");
    }
    Ok(())
}

fn report(failure: &str, result: Result<(), Error>) {
    if let Err(cause) = result {
        log::warn!("{failure}: {cause}");
    }
}
