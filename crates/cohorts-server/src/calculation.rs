//! Background calculation: claim a cohort, evaluate its criteria, publish its members.
//!
//! A claim is a lease that a heartbeat keeps while the work goes on. A worker that dies loses it and another takes
//! over; one that only seemed dead can no longer write. No transaction is open while a set is computed, but for the
//! snapshot that the data is read under, and nothing here runs inside a request.
//!
//! Cohorts of one project that wait together are claimed together and calculated for the same moment under one
//! snapshot, so that what several of them ask for is found once. One that takes long delays none of the others: they
//! are given back, for another worker to claim.

mod batch;
mod due;

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender, TryRecvError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use chrono::{TimeDelta, Utc};
use cohorts_engine::{FilterError, Moment, Plan, Shared, chunks, plan};
use roaring::RoaringBitmap;

use batch::{Batch, Begun, Plans};
use due::look_at_due;

use crate::error::Error;
use crate::metrics::Metrics;
use crate::retention::Sweeper;
use crate::store::blocks::Snapshot;
use crate::store::calculations::{self, Right};
use crate::store::cohorts::{self, Cohort};
use crate::store::projects::{self, Project};
use crate::store::{self, Conn, ProjectId, Store, events, forgotten, members};

const LEASE: TimeDelta = TimeDelta::seconds(15);
const HEARTBEAT: Duration = Duration::from_secs(5);
/// How many cohorts are claimed together, and how long they may keep one another waiting.
const MOST_AT_ONCE: usize = 32;
const SLICE: Duration = Duration::from_secs(1);
/// More threads than these do not calculate.
const MOST_WORKERS: usize = 4;
/// How long one calculation may read data.
const LIMIT: Duration = Duration::from_secs(300);
/// How often cohorts are looked for that nobody woke the worker for, and how often, at the most, ones that are due, old
/// events, and what is not kept yet.
const TICK: Duration = Duration::from_secs(1);
const UPKEEP: Duration = Duration::from_secs(10);
/// After a failure a cohort waits so long before it is calculated again, doubled with each failure in a row.
const BACK_OFF: TimeDelta = TimeDelta::minutes(30);
/// What passes by itself, such as a database that is away, costs less at first.
const PASSING_BACK_OFF: TimeDelta = TimeDelta::seconds(5);
const MOST_ERRORS: i64 = 20;
/// Calculations that a cohort's history keeps at least, failed ones beside them.
const HISTORY: i64 = 1_000;

/// Why a calculation failed.
struct Failure {
    code: &'static str,
    detail: String,
    /// Whether it may be gone the next time, whatever the cohort asks for.
    is_passing: bool,
}

impl From<FilterError> for Failure {
    fn from(error: FilterError) -> Self {
        let code = match error.code {
            "no_properties" => "no_properties",
            _ => "validation_error",
        };
        Self {
            code,
            detail: error.detail,
            is_passing: false,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let code = match error {
            Error::TimedOut => "timeout",
            Error::Unavailable | Error::NoRoom => "capacity",
            _ => "unknown",
        };
        Self {
            code,
            detail: error.to_string(),
            is_passing: matches!(error, Error::Unavailable),
        }
    }
}

/// The moment that stands for "now" in a project.
pub fn moment(project: &Project, micros: i64) -> Result<Moment, Error> {
    Moment::new(micros, &project.time_zone).ok_or_else(|| {
        let zone = &project.time_zone;
        Error::Internal(anyhow::anyhow!(
            "project {} is in an unknown time zone, {zone}",
            project.id
        ))
    })
}

/// What a calculation needs.
#[derive(Clone)]
pub struct Calculator {
    pub store: Store,
    pub metrics: Metrics,
    /// How long members are taken to be right.
    pub freshness: TimeDelta,
}

/// Calculates cohorts of one project that wait. False if none does. `only` restricts the search to one project.
pub fn run_once(of: &Calculator, only: Option<ProjectId>) -> Result<bool, Error> {
    let Calculator { store, metrics, .. } = of;
    let claimed = calculations::claim(&mut *store.connection()?, only, LEASE, MOST_AT_ONCE)?;
    let Some(first) = claimed.first() else {
        return Ok(false);
    };
    let project = first.project();
    let batch = Batch::new(claimed);
    with_heartbeat(store, &batch, || {
        let calculate = || calculate(of, project, &batch);
        let caught = catch_unwind(AssertUnwindSafe(calculate));
        let ended = caught.unwrap_or_else(|_| {
            let detail = "the calculation ended in an internal error".to_owned();
            Err(Failure {
                code: "unknown",
                detail,
                is_passing: false,
            })
        });
        // What has failed is one of them, or what they have in common: the first then stands for it.
        if let (Err(failure), Some((cohort, begun))) = (ended, batch.take_current()) {
            metrics.calculated(false, begun.elapsed());
            return fail(store, &cohort, begun, &failure);
        }
        Ok(())
    })?;
    give_back(store, &batch.take_rest())?;
    Ok(true)
}

fn fail(store: &Store, cohort: &Cohort, begun: Begun, failure: &Failure) -> Result<(), Error> {
    log::warn!(
        "cohort {} could not be calculated ({}): {}",
        cohort.id,
        failure.code,
        failure.detail
    );
    let doublings = cohort.errors_calculating.clamp(0, MOST_ERRORS + 1);
    let wait = match failure.is_passing {
        true => (PASSING_BACK_OFF * (1 << doublings)).min(BACK_OFF),
        false => BACK_OFF * (1 << doublings),
    };
    let due_at = Utc::now() + wait;
    let conn = &mut *store.connection()?;
    calculations::fail(conn, cohort, begun.0, due_at, failure.code, &failure.detail)?;
    Ok(())
}

fn give_back(store: &Store, cohorts: &[Cohort]) -> Result<(), Error> {
    if cohorts.is_empty() {
        return Ok(());
    }
    let conn = &mut *store.connection()?;
    for cohort in cohorts {
        calculations::give_back(conn, cohort)?;
    }
    Ok(())
}

/// Keeps the leases of claimed cohorts while `work` goes on, and gives back those that wait once one of them takes long.
fn with_heartbeat<T>(store: &Store, batch: &Batch, work: impl FnOnce() -> T) -> T {
    let (done, waiting) = mpsc::channel::<()>();
    thread::scope(|scope| {
        scope.spawn(move || {
            let mut begun = Instant::now();
            while waiting.recv_timeout(SLICE / 2) == Err(RecvTimeoutError::Timeout) {
                if batch.busy() >= SLICE
                    && let Err(cause) = give_back(store, &batch.take_rest())
                {
                    log::warn!("cohorts that wait are free when their leases end: {cause}");
                }
                if begun.elapsed() >= HEARTBEAT {
                    begun = Instant::now();
                    keep(store, &batch.held());
                }
            }
        });
        let result = work();
        drop(done);
        result
    })
}

fn keep(store: &Store, cohorts: &[Cohort]) {
    for cohort in cohorts {
        let kept = store
            .connection()
            .and_then(|mut conn| Ok(calculations::keep(&mut conn, cohort, LEASE)?));
        match kept {
            Ok(true) => {}
            Ok(false) => log::warn!("the claim on cohort {} is lost", cohort.id),
            Err(cause) => log::warn!(
                "the claim on cohort {} could not be kept: {cause}",
                cohort.id
            ),
        }
    }
}

/// Calculates one cohort after the other until none is left, or until one fails: its failure may have ended the snapshot.
fn calculate(of: &Calculator, project: ProjectId, batch: &Batch) -> Result<(), Failure> {
    let Calculator {
        store,
        metrics,
        freshness,
    } = of;
    let mut conn = store.connection()?;
    let project = projects::find(&mut conn, project).map_err(Error::from)?;
    let project = project.ok_or(Error::ProjectNotFound)?;
    let time = Utc::now();
    let now = moment(&project, time.timestamp_micros())?;
    let shared = plan_all(&mut conn, batch, &now)?;
    let mut failure = None;
    Snapshot::read(&mut conn, &store.views, project.id(), LIMIT, |snapshot| {
        while let Some((cohort, begun, plans)) = batch.next() {
            snapshot.reader().set_deadline(Instant::now() + LIMIT);
            let right = Right {
                at: time,
                due_at: (!cohort.definition.is_static).then_some(time + *freshness),
                seen: snapshot.head(),
            };
            let done = members_of(snapshot, &plans, &shared)
                .and_then(|members| publish(store, &cohort, begun, members, right));
            if let Err(cause) = done {
                failure = Some(Failure::from(cause));
                return Ok(());
            }
            metrics.calculated(true, begun.elapsed());
        }
        Ok(())
    })?;
    failure.map_or(Ok(()), Err)
}

/// Plans claimed cohorts, and tells what they have in common.
fn plan_all(conn: &mut Conn, batch: &Batch, now: &Moment) -> Result<Shared, Failure> {
    let mut all = Vec::new();
    while let Some(cohort) = batch.plan_next() {
        let plans: Plans = cohort.plans(now)?.into();
        if cohort.owes_query {
            check_references(conn, &cohort, &plans, now)?;
        }
        all.push(Arc::clone(&plans));
        batch.planned(plans);
    }
    Ok(Shared::of(all.iter().flat_map(|plans| plans.iter())))
}

fn members_of(
    snapshot: &Snapshot<'_, '_>,
    plans: &[Plan],
    shared: &Shared,
) -> Result<RoaringBitmap, Error> {
    let mut members = RoaringBitmap::new();
    for plan in plans {
        members |= snapshot.evaluate(plan, shared)?;
    }
    Ok(members)
}

/// A query that asks for the members of a cohort which cannot be calculated, perhaps for those who are not in it, has no
/// answer.
fn check_references(
    conn: &mut Conn,
    cohort: &Cohort,
    plans: &[Plan],
    now: &Moment,
) -> Result<(), Failure> {
    let ids: HashSet<i64> = plans.iter().flat_map(Plan::cohort_references).collect();
    let ids: Vec<i64> = ids.into_iter().collect();
    let found = cohorts::definitions(conn, cohort.project(), &ids).map_err(Error::from)?;
    for (id, definition) in found.iter().filter(|(_, one)| !one.is_static) {
        let calculable = definition.filter().and_then(|filter| plan(&filter, now));
        if let Err(error) = calculable {
            return Err(Failure {
                code: "validation_error",
                detail: format!("query: cohort {id} cannot be calculated: {}", error.detail),
                is_passing: false,
            });
        }
    }
    Ok(())
}

/// Writes the chunks that differ, then, in a commit of its own, lets readers see them.
/// To a static cohort people are only added.
fn publish(
    store: &Store,
    cohort: &Cohort,
    begun: Begun,
    found: RoaringBitmap,
    right: Right,
) -> Result<(), Error> {
    let conn = &mut *store.connection()?;
    let Some(written) = write(conn, cohort, found, right.seen)? else {
        return Ok(());
    };
    if let Some(count) = show(conn, cohort, begun, written, right)? {
        members::prune(
            conn,
            cohort.project().place(),
            cohort.id(),
            cohort.member_version,
        )?;
        calculations::prune_history(conn, cohort.id(), HISTORY)?;
        log::info!("cohort {}: {count} people", cohort.id);
    }
    Ok(())
}

/// What was written: the members, and the last batch of the log that was known then.
type Written = (RoaringBitmap, i64);

/// Writes the chunks that differ; nothing where the claim is lost.
fn write(
    conn: &mut Conn,
    cohort: &Cohort,
    found: RoaringBitmap,
    seen: i64,
) -> Result<Option<Written>, Error> {
    let (place, base) = (cohort.project().place(), cohort.member_version);
    store::transaction(conn, |conn| {
        if !calculations::lock_claimed(conn, cohort)? {
            return Ok(None);
        }
        let known = events::head(conn, place)?;
        let former = members::read(conn, place, cohort.id(), base)?;
        let members = match cohort.definition.is_static {
            true => found | &former,
            false => found,
        };
        // Who was deleted or merged since the data was read must not come back.
        let members = forgotten::since(conn, place, seen)?.followed(&members);
        let changed = chunks::changed(&former, &members);
        members::write(conn, place, cohort.id(), base, cohort.attempt, &changed)?;
        Ok(Some((members, known)))
    })
}

/// Lets readers see what was written, and tells how many people that is.
fn show(
    conn: &mut Conn,
    cohort: &Cohort,
    begun: Begun,
    (members, known): Written,
    right: Right,
) -> Result<Option<i64>, Error> {
    let place = cohort.project().place();
    Ok(calculations::publish(
        conn,
        cohort,
        begun.0,
        right,
        |conn| {
            // A deletion in the meantime has taken its person out of the chunks.
            let gone = forgotten::since(conn, place, known)?.gone;
            Ok(members.difference_len(&gone) as i64)
        },
    )?)
}

/// Wakes the workers, if there are any.
#[derive(Clone, Default)]
pub struct Waker(Vec<SyncSender<()>>);

impl Waker {
    /// Has the workers look for cohorts that wait. Never blocks: a worker that is awake already looks once more.
    pub fn wake(&self) {
        for sender in &self.0 {
            // A full channel means that the worker is told already.
            let _ = sender.try_send(());
        }
    }
}

/// The threads that calculate in the background, and one that looks after what they need. They end when all their
/// wakers are gone.
pub struct Workers(Vec<JoinHandle<()>>);

impl Workers {
    pub fn start(calculator: &Calculator) -> std::io::Result<(Self, Waker)> {
        let (mut threads, mut senders) = (Vec::new(), Vec::new());
        let mut start = |name: &str, work: Box<dyn Fn(Receiver<()>) + Send>| {
            let (sender, woken) = mpsc::sync_channel(1);
            senders.push(sender);
            let thread = thread::Builder::new().name(name.to_owned());
            threads.push(thread.spawn(move || work(woken))?);
            std::io::Result::Ok(())
        };
        let count = thread::available_parallelism().map_or(1, usize::from);
        for _ in 0..count.min(MOST_WORKERS) {
            let of = calculator.clone();
            start("calculation", Box::new(move |woken| work(&of, &woken)))?;
        }
        let of = calculator.clone();
        start("upkeep", Box::new(move |woken| look_after(&of, &woken)))?;
        Ok((Self(threads), Waker(senders)))
    }

    /// Waits until the calculations under way have ended. All wakers must be gone, or are about to go.
    pub fn join(self) {
        for thread in self.0 {
            if thread.join().is_err() {
                log::error!("a background thread had ended in a panic");
            }
        }
    }
}

/// Calculates what waits, whenever it is woken and every now and then.
fn work(of: &Calculator, woken: &Receiver<()>) {
    while woken.recv_timeout(TICK) != Err(RecvTimeoutError::Disconnected) {
        // The service ends between two calculations, not after all of them.
        let all = || -> Result<(), Error> {
            while woken.try_recv() != Err(TryRecvError::Disconnected) && run_once(of, None)? {}
            Ok(())
        };
        if let Err(cause) = all() {
            log::warn!("calculation has to wait: {cause}");
        }
    }
}

/// Looks at cohorts that are due, deletes old events, and keeps blocks.
fn look_after(of: &Calculator, woken: &Receiver<()>) {
    let Calculator {
        store,
        metrics,
        freshness,
    } = of;
    let mut sweeper = Sweeper::default();
    let (mut looked, mut tidied) = (Instant::now(), Instant::now());
    let quarter = freshness.to_std().unwrap_or_default() / 4;
    let report = |what: &str, done: Result<(), Error>| {
        if let Err(cause) = done {
            log::warn!("{what}: {cause}");
        }
    };
    while woken.recv_timeout(TICK) != Err(RecvTimeoutError::Disconnected) {
        if looked.elapsed() >= quarter.min(UPKEEP) {
            looked = Instant::now();
            report(
                "cohorts that are due are calculated later",
                look_at_due(store, *freshness),
            );
            report("it is not known who waits", count_waiting(store, metrics));
        }
        if tidied.elapsed() >= UPKEEP {
            tidied = Instant::now();
            report("old events are deleted later", sweeper.sweep(store));
            let sealed = store
                .connection()
                .map(|mut conn| store.views.seal(&mut conn));
            report("blocks are kept later", sealed);
        }
    }
}

fn count_waiting(store: &Store, metrics: &Metrics) -> Result<(), Error> {
    let now = Utc::now();
    let (count, since) = calculations::waiting_for(&mut *store.connection()?, now)?;
    metrics.waiting(count, since.map_or(TimeDelta::zero(), |since| now - since));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::{Arrival, Item, keep};
    use crate::store::testing::TestDatabase;
    use crate::store::{cohorts, keys, persons};

    /// Deletes a person as the operation does, without what is of no matter here.
    fn delete(store: &Store, project: ProjectId, number: i64) {
        let conn = &mut *store.connection().unwrap();
        let place = project.place();
        store::transaction(conn, |conn| {
            let locked = cohorts::lock_all(conn, project)?;
            let versions: Vec<(i64, i64)> = locked
                .iter()
                .map(|one| (one.id, one.member_version))
                .collect();
            let left = members::remove_everywhere(conn, place, &versions, number as u32)?;
            cohorts::count_down(conn, &left)?;
            let batch = events::raise_head(conn, place)?;
            persons::delete(conn, place, number)?;
            Ok(forgotten::record(conn, place, number, batch)?)
        })
        .unwrap();
    }

    /// Members and count of a cohort after somebody was deleted at a moment of its calculation.
    fn after_deletion(moment: &str) -> (Vec<u32>, Option<i64>) {
        let database = TestDatabase::create();
        let store = database.open();
        let conn = &mut *store.connection().unwrap();
        let project = projects::create(conn, "P", "UTC", "phc_x").unwrap().id();
        let owner = keys::teammate(conn, "a@x.io", "").unwrap();
        let read = |id: &str| {
            let text = format!(r#"{{"event": "x", "distinct_id": "{id}"}}"#);
            Item::read(&text, &Arrival::of_file(), uuid::Uuid::now_v7).unwrap()
        };
        keep(&store, project, &["a", "b", "c"].map(read)).unwrap();
        let definition = cohorts::Definition::default();
        let made = cohorts::create(conn, project, &owner, &definition).unwrap();
        cohorts::request_calculation(conn, made.id()).unwrap();
        let claimed = calculations::claim(conn, None, LEASE, 1).unwrap().remove(0);

        let seen = events::head(conn, project.place()).unwrap();
        let found = RoaringBitmap::from_iter(0..3_u32);
        if moment == "before it is written" {
            delete(&store, project, 1);
        }
        let written = write(conn, &claimed, found, seen).unwrap().unwrap();
        if moment == "before it is published" {
            delete(&store, project, 1);
        }
        let right = Right {
            at: Utc::now(),
            due_at: None,
            seen,
        };
        show(conn, &claimed, Begun::now(), written, right).unwrap();
        if moment == "after it" {
            delete(&store, project, 1);
        }
        let (row, _) = cohorts::find(conn, project, made.id()).unwrap().unwrap();
        let members = members::read(conn, project.place(), made.id(), row.member_version).unwrap();
        (members.iter().collect(), row.count)
    }

    #[test]
    fn somebody_deleted_at_any_moment_of_a_calculation_is_no_member_and_not_counted() {
        for moment in ["before it is written", "before it is published", "after it"] {
            assert_eq!(after_deletion(moment), (vec![0, 2], Some(2)), "{moment}");
        }
    }
}
