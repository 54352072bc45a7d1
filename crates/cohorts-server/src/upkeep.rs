//! Regular work besides calculation: due cohorts, retention, checkpoints.

mod due;
mod retention;

use std::time::{Duration, Instant};

use chrono::{TimeDelta, Utc};
use cohorts_store::{Error, Store, queue};

use crate::calculation::Calculator;
use retention::Sweeper;

/// The longest pause between two runs.
const INTERVAL: Duration = Duration::from_secs(10);

/// The periodic tasks, each with its interval.
pub struct Upkeep {
    calculator: Calculator,
    sweeper: Sweeper,
    due_checked: Instant,
    tidied: Instant,
}

impl Upkeep {
    pub fn new(calculator: &Calculator) -> Self {
        Self {
            calculator: calculator.clone(),
            sweeper: Sweeper::default(),
            due_checked: Instant::now(),
            tidied: Instant::now(),
        }
    }

    /// Runs the tasks that are due. A failed task is logged and runs again at its next time.
    pub fn run(&mut self) {
        let Calculator {
            store, freshness, ..
        } = &self.calculator;
        let quarter = freshness.to_std().unwrap_or_default() / 4;
        if self.due_checked.elapsed() >= quarter.min(INTERVAL) {
            self.due_checked = Instant::now();
            let checked = due::check_due_cohorts(store, *freshness);
            report("due cohorts were not checked, will retry", checked);
            report("waiting cohorts were not counted", self.count_waiting());
        }
        if self.tidied.elapsed() >= INTERVAL {
            self.tidied = Instant::now();
            let swept = self.sweeper.sweep(store);
            report("old events were not deleted, will retry", swept);
            let conn = store.connection();
            let written = conn.map(|mut conn| store.caches.index.write_checkpoints(&mut conn));
            report("checkpoint failed, will retry", written);
        }
    }

    fn count_waiting(&self) -> Result<(), Error> {
        let store: &Store = &self.calculator.store;
        let now = Utc::now();
        let backlog = queue::backlog(&mut *store.connection()?, now)?;
        let longest = (backlog.waiting_since).map_or(TimeDelta::zero(), |since| now - since);
        self.calculator.metrics.waiting(backlog.count, longest);
        Ok(())
    }
}

fn report(failure: &str, result: Result<(), Error>) {
    if let Err(cause) = result {
        log::warn!("{failure}: {cause}");
    }
}
