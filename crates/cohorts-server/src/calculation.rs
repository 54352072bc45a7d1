//! Background calculation: claim cohorts of one project, evaluate their criteria, publish their members.
//!
//! A claim is a lease, which a heartbeat renews. A worker that dies loses it, and another takes over; a worker that only
//! seemed dead can write nothing more. Apart from the snapshot that is read, no transaction is open during an evaluation,
//! and nothing here runs inside a request.
//!
//! Cohorts of one project that wait together are claimed together and calculated for the same moment over one snapshot,
//! so leaves that they share are evaluated once. If that takes long, the others are given back, and the worker serves the
//! next project.

mod claimed;
mod live;
mod publish;
mod turns;

use std::ops::RangeInclusive;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use chrono::{TimeDelta, Utc};
use cohorts_engine::{FilterError, LeafCache, Moment, Plan};
use cohorts_store::cohorts::Cohort;
use cohorts_store::projects::{self, Project};
use cohorts_store::queue::{self, Evaluated};
use cohorts_store::{Error as StoreError, ProjectId, Store};
use roaring::RoaringBitmap;

use claimed::{ClaimedJobs, Plans, Started};
pub use live::{Leases, LivePasses, tell_services};
use publish::publish;
pub use turns::Turns;

use crate::index::references::CheckedCohorts;
use crate::index::snapshot::Snapshot;
use crate::index::{self, IndexedStore};
use crate::logging;
use crate::metrics::Metrics;
use crate::pauses::DoublingPause;

const LEASE: TimeDelta = TimeDelta::seconds(15);
const HEARTBEAT: Duration = Duration::from_secs(5);
/// Cohorts that are claimed together.
const MAX_CLAIM: usize = 32;
/// A cohort that takes longer no longer keeps the others of its claim waiting.
const SLICE: Duration = Duration::from_secs(1);
/// A claim that takes longer is cut short, so that other projects have their turn.
const CLAIM_LIMIT: Duration = Duration::from_secs(3);
/// How long one calculation may read.
const TIME_LIMIT: Duration = Duration::from_secs(300);
/// The pause after failures in a row. A cohort that fails again and again is still calculated once a day.
const BACK_OFF: DoublingPause = DoublingPause {
    first: Duration::from_secs(30 * 60),
    longest: Duration::from_secs(24 * 3_600),
};
/// A calculated cohort that no pass includes by then is calculated again.
const JOIN_LIMIT: TimeDelta = TimeDelta::seconds(60);
/// The pause after a transient failure, such as an unavailable database: from the shortest, doubling, to the longest.
const PAUSES: RangeInclusive<TimeDelta> = TimeDelta::seconds(5)..=TimeDelta::seconds(120);

/// Why a calculation failed.
struct Failure {
    code: &'static str,
    /// The reason, for the user of the cohort.
    detail: String,
    /// The reason, for the log.
    cause: String,
    /// Whether a repetition may succeed.
    is_transient: bool,
}

impl Failure {
    fn new(code: &'static str, detail: String) -> Self {
        Self {
            code,
            cause: detail.clone(),
            detail,
            is_transient: false,
        }
    }
}

impl From<FilterError> for Failure {
    fn from(error: FilterError) -> Self {
        let code = match error.code {
            "no_properties" | "invalid_regex" => error.code,
            _ => "validation_error",
        };
        Self::new(code, error.detail)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        index::IndexError::from(error).into()
    }
}

impl From<index::IndexError> for Failure {
    fn from(error: index::IndexError) -> Self {
        if let index::IndexError::Uncalculable(error) = error {
            return error.into();
        }
        let (code, is_transient) = match &error {
            index::IndexError::TimedOut | index::IndexError::Store(StoreError::TimedOut) => {
                ("timeout", false)
            }
            index::IndexError::OverBudget => ("capacity", false),
            index::IndexError::Store(cause) if cause.is_transient() => ("capacity", true),
            _ => ("unknown", false),
        };
        Self {
            code,
            detail: error.detail(),
            cause: error.to_string(),
            is_transient,
        }
    }
}

/// The moment `micros`, in microseconds since 1970, in a project's time zone.
pub fn moment(project: &Project, micros: i64) -> anyhow::Result<Moment> {
    Moment::new(micros, &project.time_zone).ok_or_else(|| {
        let zone = &project.time_zone;
        anyhow::anyhow!("project {} is in an unknown time zone, {zone}", project.id)
    })
}

/// Everything that a calculation needs.
#[derive(Clone)]
pub struct Calculator {
    pub store: IndexedStore,
    pub metrics: Metrics,
    /// How long a write waits before a pass begins.
    pub freshness: TimeDelta,
}

impl Calculator {
    /// Calculates waiting cohorts of the next project. Returns `false` if none waits.
    pub fn run_next(&self, turns: &Turns) -> Result<bool, StoreError> {
        let conn = &mut *self.store.connection()?;
        let Some(mut turn) = turns.next(conn, LEASE, &self.store.outages)? else {
            if let Some(time) = queue::next_claim_time(conn)? {
                self.store.signals.looks.calculations.due(time);
            }
            return Ok(false);
        };
        self.run(turn.project, std::mem::take(&mut turn.claimed))?;
        Ok(true)
    }

    /// Calculates waiting cohorts of a project. Returns `false` if none waits.
    pub fn run_project(&self, project: ProjectId) -> Result<bool, StoreError> {
        let claimed = queue::claim(&mut *self.store.connection()?, project, LEASE, MAX_CLAIM)?;
        if claimed.is_empty() {
            return Ok(false);
        }
        self.run(project, claimed)?;
        Ok(true)
    }

    fn run(&self, project: ProjectId, claimed: Vec<Cohort>) -> Result<(), StoreError> {
        let store = &self.store;
        let jobs = ClaimedJobs::new(claimed);
        with_heartbeat(store, &jobs, || {
            let calculate = || self.calculate(project, &jobs);
            let result = catch_unwind(AssertUnwindSafe(calculate));
            let result = result.unwrap_or_else(|_| {
                let detail = "the calculation ended in an internal error".to_owned();
                Err(Failure::new("unknown", detail))
            });
            // The failure belongs to the current job, or to what all jobs have in common: then the first one bears it.
            if let (Err(failure), Some((cohort, started))) = (result, jobs.take_current()) {
                self.metrics.calculated(false, started.elapsed());
                if !failure.is_transient {
                    return fail(store, &cohort, started, &failure);
                }
                // The others of the project would fail for the same reason.
                let mut postponed = jobs.take_rest();
                postponed.push(cohort);
                return postpone(store, &postponed, &failure);
            }
            Ok(())
        })?;
        give_back(store, &jobs.take_rest())
    }

    /// Calculates the jobs in order until none is left, or until one fails, which may have ended the snapshot.
    fn calculate(&self, project: ProjectId, jobs: &ClaimedJobs) -> Result<(), Failure> {
        let store = &self.store;
        let mut conn = store.connection()?;
        let project = projects::find(&mut conn, project)?;
        let project = project.ok_or(index::IndexError::ProjectNotFound)?;
        let time = Utc::now();
        let now = moment(&project, time.timestamp_micros()).map_err(StoreError::from)?;
        let settings = live::settings_of(&project, time);
        let leaves = plan_all(jobs, &now)?;
        let cache = &store.caches.index;
        let mut failure = None;
        let mut checked = CheckedCohorts::default();
        Snapshot::read(&mut conn, cache, project.id(), TIME_LIMIT, |snapshot| {
            while let Some((cohort, started, plans)) = jobs.next() {
                let snapshot = snapshot.with_time_limit(TIME_LIMIT);
                let evaluated = Evaluated {
                    at: time,
                    due_at: (!cohort.definition.is_static).then_some(time + JOIN_LIMIT),
                    seen_seq: snapshot.seq(),
                };
                let evaluation = live::evaluation_of(&cohort, &snapshot, &now, &settings);
                let result =
                    members_of(&snapshot, &plans, &leaves, &mut checked).and_then(|members| {
                        let published =
                            publish(store, &cohort, started, members, evaluated, evaluation);
                        Ok(published?)
                    });
                if let Err(cause) = result {
                    failure = Some(Failure::from(cause));
                    break;
                }
                self.metrics.calculated(true, started.elapsed());
            }
            Ok::<_, index::IndexError>(())
        })?;
        failure.map_or(Ok(()), Err)
    }
}

/// Records a failure and when the cohort is calculated next.
fn fail(
    store: &Store,
    cohort: &Cohort,
    started: Started,
    failure: &Failure,
) -> Result<(), StoreError> {
    let detail = logging::detail(&failure.detail);
    log::warn!(
        "calculation of cohort {} failed ({}): {}",
        cohort.id,
        failure.code,
        logging::detail(&failure.cause)
    );
    let failures = cohort.errors_calculating.saturating_add(1);
    let due_at = Utc::now() + BACK_OFF.after(failures);
    let conn = &mut *store.connection()?;
    queue::fail(conn, cohort, started.time, due_at, failure.code, &detail)
}

/// Returns cohorts to the queue, which no worker claims during a pause. Their failure is not counted.
fn postpone(store: &Store, cohorts: &[Cohort], failure: &Failure) -> Result<(), StoreError> {
    log::warn!(
        "{} calculations are postponed ({}): {}",
        cohorts.len(),
        failure.code,
        logging::detail(&failure.cause)
    );
    for cohort in cohorts {
        store.uncertain.add(cohort.project());
    }
    let conn = &mut *store.connection()?;
    for cohort in cohorts {
        queue::postpone(conn, cohort, PAUSES)?;
    }
    Ok(())
}

fn give_back(store: &IndexedStore, cohorts: &[Cohort]) -> Result<(), StoreError> {
    if cohorts.is_empty() {
        return Ok(());
    }
    let conn = &mut *store.connection()?;
    for cohort in cohorts {
        queue::give_back(conn, cohort)?;
    }
    store.signals.looks.calculations.now();
    Ok(())
}

/// Renews the leases of the jobs while `work` runs, and gives back the waiting jobs once it takes long.
fn with_heartbeat<T>(store: &IndexedStore, jobs: &ClaimedJobs, work: impl FnOnce() -> T) -> T {
    let (done, running) = mpsc::channel::<()>();
    thread::scope(|scope| {
        scope.spawn(move || {
            let mut renewed = Instant::now();
            while running.recv_timeout(SLICE / 2) == Err(RecvTimeoutError::Timeout) {
                if jobs.is_long(CLAIM_LIMIT, SLICE)
                    && let Err(cause) = give_back(store, &jobs.take_rest())
                {
                    log::warn!("waiting cohorts stay claimed until their leases end: {cause}");
                }
                if renewed.elapsed() >= HEARTBEAT {
                    renewed = Instant::now();
                    renew_leases(store, &jobs.claimed());
                }
            }
        });
        let result = work();
        drop(done);
        result
    })
}

fn renew_leases(store: &Store, cohorts: &[Cohort]) {
    for cohort in cohorts {
        let renewed = store
            .connection()
            .and_then(|mut conn| queue::renew_lease(&mut conn, cohort, LEASE));
        match renewed {
            Ok(true) => {}
            Ok(false) => log::warn!("the claim on cohort {} is lost", cohort.id),
            Err(cause) => log::warn!("the lease of cohort {} was not renewed: {cause}", cohort.id),
        }
    }
}

/// Plans the jobs, and returns a cache for the leaves that they share.
fn plan_all(jobs: &ClaimedJobs, now: &Moment) -> Result<LeafCache, Failure> {
    let mut all = Vec::new();
    while let Some(cohort) = jobs.next_to_plan() {
        let plans: Plans = cohort.plans(now)?.into();
        all.push(Arc::clone(&plans));
        jobs.planned(plans);
    }
    Ok(LeafCache::new(all.iter().flat_map(|plans| plans.iter())))
}

fn members_of(
    snapshot: &Snapshot<'_, '_>,
    plans: &[Plan],
    leaves: &LeafCache,
    checked: &mut CheckedCohorts,
) -> index::IndexResult<RoaringBitmap> {
    let mut members = RoaringBitmap::new();
    for plan in plans {
        snapshot.check_references(plan, checked)?;
        members |= snapshot.evaluate(plan, leaves)?;
    }
    Ok(members)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_the_database_is_for_the_log_only() {
        let secret = "relation \"persons\" does not exist";
        for cause in [
            StoreError::Other(anyhow::anyhow!(secret)),
            StoreError::Corrupt(secret.to_owned()),
            StoreError::Unavailable(secret.to_owned()),
            StoreError::DiskFull(secret.to_owned()),
        ] {
            let failure = Failure::from(cause);
            assert!(!failure.detail.contains(secret), "{}", failure.detail);
            assert!(failure.cause.contains(secret), "{}", failure.cause);
        }
    }
}
