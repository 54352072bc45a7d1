//! The simulated people of a demo: a thread that sends a few events per second while the demo serves.
//!
//! Events take the path of captured ones: the queues of `GroupCommit`. The thread ends with these queues, or when the
//! simulation is dropped.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::Context;
use chrono::Utc;
use cohorts_store::ProjectId;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;
use uuid::Uuid;

use super::population::Population;
use crate::ingest::{Arrival, CommitError, GroupCommit, Item};

/// The milliseconds between two events.
const PAUSES: std::ops::Range<u64> = 100..400;

/// Running simulated people. Dropping this ends them.
pub(super) struct Simulation {
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Simulation {
    /// Lets the persons of a population send events to a project. The sequence depends only on the seed.
    pub(super) fn start(
        population: Population,
        project: ProjectId,
        seed: u64,
        commits: GroupCommit,
    ) -> anyhow::Result<Self> {
        let (end, ended) = channel();
        let thread = thread::Builder::new().name("simulation".to_owned());
        let thread = thread.spawn(move || simulate(&population, project, seed, &commits, &ended));
        Ok(Self {
            end: Some(end),
            thread: Some(thread.context("the simulation cannot be started")?),
        })
    }
}

impl Drop for Simulation {
    fn drop(&mut self) {
        self.end.take();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::error!("the simulation had panicked");
        }
    }
}

fn simulate(
    population: &Population,
    project: ProjectId,
    seed: u64,
    commits: &GroupCommit,
    ended: &Receiver<()>,
) {
    let pauses = &mut StdRng::seed_from_u64(seed);
    for item in population.moves(seed) {
        match send(commits, project, &item) {
            Ok(()) => {}
            Err(CommitError::Store(cause)) if commits.is_closed() => {
                log::debug!("the simulated people stop: {cause}");
                return;
            }
            // The next event may succeed, such as after a restart of the database.
            Err(cause) => log::debug!("an event of simulated people is lost: {cause}"),
        }
        let pause = Duration::from_millis(pauses.random_range(PAUSES));
        if ended.recv_timeout(pause) != Err(RecvTimeoutError::Timeout) {
            return;
        }
    }
}

fn send(commits: &GroupCommit, project: ProjectId, item: &Value) -> Result<(), CommitError> {
    let arrival = Arrival {
        now: Utc::now(),
        sent_at: None,
        is_export: false,
    };
    match Item::read(&item.to_string(), &arrival, Uuid::now_v7) {
        Ok(item) => commits.commit_blocking(project, vec![item], Arc::new(())),
        Err(refusal) => {
            log::warn!("a simulated event was refused: {refusal}");
            Ok(())
        }
    }
}
