//! Watches the workers of Citus, on a thread and a connection of its own: a worker that does not respond must not stop the
//! watch, and other upkeep waits for the workers.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use cohorts_store::{Error, Lane, Store, distribution};

use crate::metrics::Metrics;

/// The pause between two looks at the workers.
const INTERVAL: Duration = Duration::from_secs(1);
/// The pause until a plain Postgres is asked again whether it is Citus.
const PLAIN_INTERVAL: Duration = Duration::from_secs(10);

/// The workers that did not respond at the last look.
pub struct WorkerWatch {
    store: Store,
    metrics: Metrics,
    silent: BTreeSet<String>,
    next: Instant,
}

impl WorkerWatch {
    pub fn new(store: &Store, metrics: &Metrics) -> Self {
        Self {
            store: store.in_lane(Lane::Workers),
            metrics: metrics.clone(),
            silent: BTreeSet::new(),
            next: Instant::now(),
        }
    }

    /// Asks the workers if it is time to. On plain Postgres, the metric does not exist.
    pub fn run(&mut self) {
        if Instant::now() < self.next {
            return;
        }
        let looked = self.look();
        let is_citus = *looked.as_ref().unwrap_or(&true);
        self.next = Instant::now() + if is_citus { INTERVAL } else { PLAIN_INTERVAL };
        if let Err(cause) = looked {
            log::warn!("workers were not counted: {cause}");
        }
    }

    /// Returns whether the database is Citus.
    fn look(&mut self) -> Result<bool, Error> {
        let conn = &mut *self.store.connection()?;
        if !distribution::is_possible(conn)? {
            return Ok(false);
        }
        let workers = self.store.outages.look(conn)?;
        let (responding, others): (Vec<_>, Vec<_>) =
            workers.iter().partition(|worker| worker.is_available);
        self.metrics.workers(responding.len(), others.len());
        for worker in &others {
            if self.silent.insert(worker.address.to_string()) {
                let (address, cause) = (&worker.address, &worker.response);
                log::error!("worker {address} does not respond: {cause}");
            }
        }
        for worker in &responding {
            if self.silent.remove(&worker.address.to_string()) {
                log::info!("worker {} responds again", worker.address);
            }
        }
        Ok(true)
    }
}
