//! The leases of live projects: taken, renewed and lost; and what tells that another process has written.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use cohorts_engine::delta::Position;
use cohorts_store::live::{self, ProjectLease as Lease, Stamp};
use cohorts_store::{Conn, Error, ProjectId};
use parking_lot::Mutex;

use super::hints::HintChannel;
use super::project::{LiveProgress, LiveProject};
use super::{HeldProject, LivePasses, process, time_of};

/// How long a lease lasts without a renewal.
const LEASE: TimeDelta = TimeDelta::seconds(15);
/// The pause between two renewals.
const RENEWAL: Duration = Duration::from_secs(5);
/// The pause between two looks at the log heads without hints. With hints, it is that between two renewals.
const LOOK: Duration = Duration::from_millis(250);

/// Keeps the leases of a process.
pub struct Leases {
    passes: Arc<LivePasses>,
    hints: HintChannel,
    stamps: HashMap<ProjectId, Stamp>,
    looked: Option<Instant>,
    renewed: Option<Instant>,
}

impl Leases {
    pub fn new(passes: &Arc<LivePasses>) -> Self {
        Self {
            passes: Arc::clone(passes),
            hints: HintChannel::new(passes.holder.owner),
            stamps: HashMap::new(),
            looked: None,
            renewed: None,
        }
    }

    /// Looks for writes of other processes, takes free projects, and renews the leases, each when it is due.
    pub fn run(&mut self, clock: DateTime<Utc>) {
        if let Err(cause) = self.try_run(clock) {
            log::warn!("the leases of live projects were not renewed, will retry: {cause}");
        }
    }

    /// Exchanges hints with other processes, and looks for what they have written when that is due.
    pub fn tick(&mut self) {
        let signals = &self.passes.store.signals;
        match self
            .hints
            .exchange(&self.passes.store, &signals.hints.take())
        {
            Ok(written) => written.into_iter().for_each(|project| {
                signals.changed_elsewhere(project);
                signals.written_elsewhere(project);
            }),
            Err(cause) => log::debug!("the processes exchange no hints: {cause}"),
        }
        signals.looks.set_hints(self.hints.arrives());
        let pause = if self.hints.arrives() { RENEWAL } else { LOOK };
        let is_missing = || self.passes.is_missing.swap(false, Ordering::Relaxed);
        if is_due(self.looked, pause) || (is_due(self.looked, LOOK) && is_missing()) {
            self.looked = Some(Instant::now());
            self.run(Utc::now());
        }
    }

    fn try_run(&mut self, clock: DateTime<Utc>) -> Result<(), Error> {
        let conn = &mut *self.passes.store.connection()?;
        let stamps: HashMap<ProjectId, Stamp> = live::stamps(conn)?.into_iter().collect();
        let signals = &self.passes.store.signals;
        for (project, stamp) in &stamps {
            let known = self.stamps.get(project);
            if known.is_some_and(|known| known.cohorts != stamp.cohorts) {
                signals.changed_elsewhere(*project);
            }
            if known != Some(stamp) {
                signals.written_elsewhere(*project);
            }
        }
        self.take(conn, &stamps, clock)?;
        if is_due(self.renewed, RENEWAL) {
            // Each look at the end of the pause renews.
            self.renewed = self.looked.or_else(|| Some(Instant::now()));
            self.renew(conn, &stamps, clock)?;
        }
        self.stamps = stamps;
        Ok(())
    }

    /// Takes the projects with calculated cohorts that no other process has.
    fn take(
        &self,
        conn: &mut Conn,
        stamps: &HashMap<ProjectId, Stamp>,
        clock: DateTime<Utc>,
    ) -> Result<(), Error> {
        let passes = &self.passes;
        let calculated = stamps.iter().filter(|(_, stamp)| stamp.is_calculated);
        let wanted: Vec<ProjectId> = calculated
            .map(|(project, _)| *project)
            .filter(|project| passes.held(*project).is_none())
            .collect();
        if wanted.is_empty() {
            return Ok(());
        }
        let leases = live::projects(conn)?;
        for project in wanted {
            if passes.store.outages.affect(project) {
                continue;
            }
            let lease = leases.iter().find(|lease| lease.project_id == project.0);
            if lease.is_some_and(|lease| !self.is_free(lease, clock)) {
                continue;
            }
            if let Some(taken) = live::take(conn, project, &passes.holder, lease, clock + LEASE)? {
                log::info!("project {}: this process keeps its cohorts live", project.0);
                passes.hold(project, &taken);
            }
        }
        Ok(())
    }

    /// Whether this process may take a project.
    fn is_free(&self, lease: &Lease, clock: DateTime<Utc>) -> bool {
        let holder = &self.passes.holder;
        lease.lease_until < clock
            || lease.owner == holder.owner
            || lease.semantics < holder.semantics
            || process::has_ended(lease)
    }

    /// Renews the leases, and records up to where the live cohorts are right.
    fn renew(
        &self,
        conn: &mut Conn,
        stamps: &HashMap<ProjectId, Stamp>,
        clock: DateTime<Utc>,
    ) -> Result<(), Error> {
        let passes = &self.passes;
        let held: Vec<ProjectId> = passes.held.lock().keys().copied().collect();
        if held.is_empty() {
            return Ok(());
        }
        let right = held.iter().map(|project| {
            let position = self.right_as_of(*project, stamps.get(project), clock);
            (*project, time_of(position), position.seq)
        });
        let right: Vec<_> = right.collect();
        let renewed = live::renew(conn, passes.holder.owner, clock + LEASE, &right)?;
        for project in held.iter().filter(|project| !renewed.contains(project)) {
            log::info!(
                "project {}: another process keeps its cohorts live",
                project.0
            );
            passes.held.lock().remove(project);
        }
        Ok(())
    }

    /// Up to where the live cohorts of a project are right, if `clock` is the time before the stamp was read.
    fn right_as_of(
        &self,
        project: ProjectId,
        stamp: Option<&Stamp>,
        clock: DateTime<Utc>,
    ) -> Position {
        let start = Position { now: 0, seq: 0 };
        let Some(held) = self.passes.held(project) else {
            return start;
        };
        let is_idle = self.passes.store.signals.writes.is_idle(project);
        let mut progress = held.progress.lock();
        let Some(position) = progress.position else {
            return start;
        };
        let clock = clock.timestamp_micros();
        // A write since the last look has another stamp, and all earlier ones are in passes that have ended.
        let is_quiet = is_idle
            && stamp.is_some_and(|stamp| stamp.seq == position.seq)
            && self.stamps.get(&project) == stamp
            && progress.quiet_until.is_some_and(|until| clock < until);
        let position = position.advanced(if is_quiet { clock } else { position.now }, position.seq);
        progress.confirm(position.now);
        position
    }
}

/// Whether a pause is over.
fn is_due(last: Option<Instant>, pause: Duration) -> bool {
    last.is_none_or(|last| last.elapsed() >= pause)
}

impl LivePasses {
    /// Makes the passes of a project from now on.
    fn hold(&self, project: ProjectId, taken: &Lease) {
        let position = Position {
            now: taken.right_as_of.timestamp_micros(),
            seq: taken.seq,
        };
        let held = HeldProject {
            live: Mutex::new(LiveProject::new(project, position)),
            progress: Mutex::new(LiveProgress::since(position)),
        };
        self.held.lock().insert(project, Arc::new(held));
        self.store.signals.writes.notify(project);
    }
}
