//! Erases deleted persons from checkpoints, some at a time.
//!
//! Every process does this; one that finds less to do than it expected has lost some time only.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use cohorts_store::{Conn, Error, ProjectId, Store, erasures, projects};

use super::INTERVAL;
use crate::index::columns::erasure::ErasureBatch;
use crate::metrics::Metrics;

/// The longest time of a run, about, so that other tasks are not delayed.
const RUN_LIMIT: Duration = Duration::from_millis(500);

/// The projects of the current round, and the erasures that are being done.
#[derive(Default)]
pub struct Eraser {
    rest: VecDeque<ProjectId>,
    batch: Option<ErasureBatch>,
    looked_at: Option<Instant>,
}

impl Eraser {
    /// Continues the erasures. A project that fails is tried again in the next round.
    pub fn run(&mut self, store: &Store, metrics: &Metrics) -> Result<(), Error> {
        let is_idle = self.rest.is_empty();
        if is_idle && self.looked_at.is_some_and(|time| time.elapsed() < INTERVAL) {
            return Ok(());
        }
        let conn = &mut *store.connection()?;
        if is_idle {
            self.looked_at = Some(Instant::now());
            let mut projects = projects::all(conn)?;
            projects.retain(|project| !store.outages.affect(*project));
            let keys: Vec<_> = projects.iter().map(|project| project.shard_key()).collect();
            metrics.erasures(erasures::count(conn, &keys)?.pending);
            let pending = erasures::shard_keys(conn, &keys)?;
            let projects = projects.into_iter();
            self.rest = projects
                .filter(|project| pending.contains(&project.shard_key()))
                .collect();
        }
        let end = Instant::now() + RUN_LIMIT;
        while let Some(project) = self.rest.front().copied()
            && Instant::now() < end
        {
            if let Err(cause) = self.continue_with(conn, project, end) {
                self.batch = None;
                self.rest.pop_front();
                return Err(cause);
            }
        }
        Ok(())
    }

    /// Continues the erasures of a project until `end`, and leaves the project when there are none.
    fn continue_with(
        &mut self,
        conn: &mut Conn,
        project: ProjectId,
        end: Instant,
    ) -> Result<(), Error> {
        if self.batch.is_none() {
            self.batch = ErasureBatch::begin(conn, project)?;
        }
        let Some(batch) = &mut self.batch else {
            self.rest.pop_front();
            return Ok(());
        };
        if batch.run(conn, end)? {
            self.batch = None;
        }
        Ok(())
    }
}
