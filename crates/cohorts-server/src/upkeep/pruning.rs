//! Deletes activity entries and calculations that are too old or too many, in steps, and calculations that ended without
//! an outcome.
//!
//! Several processes may do this at the same time. Each run takes a bounded part of the cohorts.

use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use cohorts_store::history::CalculationTimes;
use cohorts_store::idempotency::StoredLimits;
use cohorts_store::{Conn, Error, Store, activity, history, idempotency, webhooks};

use super::ChangeLimits;

/// Entries of the activity log that a cohort, and a project, keeps.
const ACTIVITIES_OF_COHORT: i64 = 10_000;
const ACTIVITIES_OF_PROJECT: i64 = 100_000;
/// Calculations that the history of a cohort keeps.
const CALCULATIONS: i64 = 1_000;
/// The most rows that one commit deletes.
const STEP: i64 = 1_000;
/// The most commits of one run for the same rows.
const MAX_STEPS: usize = 10;
/// Cohorts, and projects, of one run.
const PAGE: i64 = 200;
/// The pause after all cohorts were visited.
const INTERVAL: Duration = Duration::from_secs(3_600);
/// What the requests with an `Idempotency-Key` of one key store at most.
const STORED_RESPONSES: StoredLimits = StoredLimits {
    responses: 10_000,
    bytes: 64 << 20,
};
/// How often these limits are checked.
const RESPONSES_INTERVAL: Duration = Duration::from_secs(60);
/// A worker with a lease that ended longer ago does not end its calculation any more.
const ABANDONED: TimeDelta = TimeDelta::hours(1);

/// How much of the past is kept.
#[derive(Clone, Copy, Debug, Default)]
pub struct HistoryLimits {
    /// The greatest age of activity entries; `None` for any age.
    pub activities: Option<TimeDelta>,
    /// The greatest age of calculations; `None` for any age.
    pub calculations: Option<TimeDelta>,
    pub changes: ChangeLimits,
}

/// The position of a walk over rows by their ids, which pauses at the end.
#[derive(Default)]
struct Walk {
    /// The last id that was visited.
    after: i64,
    next_round: Option<Instant>,
}

impl Walk {
    /// The id to continue after; `None` during the pause.
    fn position(&self) -> Option<i64> {
        let is_due = self.next_round.is_none_or(|time| time <= Instant::now());
        is_due.then_some(self.after)
    }

    /// Records the last id of a page of rows; `None` ends the round.
    fn advance(&mut self, last: Option<i64>) {
        *self = match last {
            Some(after) => Self {
                after,
                next_round: None,
            },
            None => Self {
                after: 0,
                next_round: Some(Instant::now() + INTERVAL),
            },
        };
    }
}

/// Deletes what exceeds the limits. It remembers which cohorts and projects it has visited.
pub struct Pruner {
    limits: HistoryLimits,
    cohorts: Walk,
    projects: Walk,
    responses_checked: Option<Instant>,
}

impl Pruner {
    pub fn new(limits: HistoryLimits) -> Self {
        Self {
            limits,
            cohorts: Walk::default(),
            projects: Walk::default(),
            responses_checked: None,
        }
    }

    /// Deletes what exceeds the limits in the next cohorts and projects.
    pub fn prune(&mut self, store: &Store) -> Result<(), Error> {
        let (now, conn) = (Utc::now(), &mut *store.connection()?);
        let mut deleted = in_steps(|| history::delete_abandoned(conn, now - ABANDONED, STEP))?;
        if let Some(age) = self.limits.activities {
            deleted += in_steps(|| activity::delete_before(conn, now - age, STEP))?;
            let delete = || webhooks::activity::delete_before(conn, now - age, STEP);
            deleted += in_steps(delete)?;
        }
        if let Some(after) = self.cohorts.position() {
            deleted += self.prune_cohorts(conn, after, now)?;
        }
        if let Some(after) = self.projects.position() {
            deleted += self.prune_projects(conn, after)?;
        }
        self.prune_responses(conn)?;
        if deleted > 0 {
            log::info!("deleted {deleted} old activity entries and calculations");
        }
        Ok(())
    }

    /// Deletes the stored responses of requests with an `Idempotency-Key` that are too old or too many.
    fn prune_responses(&mut self, conn: &mut Conn) -> Result<(), Error> {
        let mut deleted = in_steps(|| idempotency::delete_expired(conn, STEP))?;
        let checked = self.responses_checked;
        if checked.is_none_or(|checked| checked.elapsed() >= RESPONSES_INTERVAL) {
            self.responses_checked = Some(Instant::now());
            let delete = || idempotency::delete_excess(conn, STORED_RESPONSES, STEP);
            deleted += in_steps(delete)?;
        }
        log::debug!("deleted {deleted} stored responses");
        Ok(())
    }

    fn prune_cohorts(
        &mut self,
        conn: &mut Conn,
        after: i64,
        now: DateTime<Utc>,
    ) -> Result<usize, Error> {
        let mut deleted = 0;
        for excess in activity::excess_of_cohorts(conn, after, ACTIVITIES_OF_COHORT, PAGE)? {
            if let Some(newest) = excess.newest {
                let cohort = excess.owner;
                deleted += in_steps(|| activity::delete_of_cohort(conn, cohort, newest, STEP))?;
            }
        }
        let oldest = self.limits.calculations.map(|age| now - age);
        let page = history::times(conn, after, CALCULATIONS, PAGE)?;
        for times in &page {
            deleted += prune_calculations(conn, times, oldest)?;
        }
        self.cohorts.advance(page.last().map(|times| times.cohort));
        Ok(deleted)
    }

    fn prune_projects(&mut self, conn: &mut Conn, after: i64) -> Result<usize, Error> {
        let mut deleted = 0;
        let page = activity::excess_of_projects(conn, after, ACTIVITIES_OF_PROJECT, PAGE)?;
        for excess in &page {
            if let Some(newest) = excess.newest {
                let project = excess.owner;
                deleted += in_steps(|| activity::delete_of_project(conn, project, newest, STEP))?;
            }
        }
        self.projects
            .advance(page.last().map(|excess| excess.owner));
        Ok(deleted)
    }
}

/// Deletes the calculations of a cohort from before `oldest`, and those beyond the number. The newest one stays.
fn prune_calculations(
    conn: &mut Conn,
    times: &CalculationTimes,
    oldest: Option<DateTime<Utc>>,
) -> Result<usize, Error> {
    let (Some(newest), Some(first)) = (times.newest, times.oldest) else {
        return Ok(0);
    };
    let Some(through) = times.newest_excess.max(oldest) else {
        return Ok(0);
    };
    if first > through {
        return Ok(0);
    }
    in_steps(|| history::delete_through(conn, times.cohort, through, newest, STEP))
}

/// Repeats `delete`, which deletes at most [`STEP`] rows, until none are left or it was repeated often enough.
fn in_steps(mut delete: impl FnMut() -> Result<usize, Error>) -> Result<usize, Error> {
    let mut deleted = 0;
    for _ in 0..MAX_STEPS {
        let count = delete()?;
        deleted += count;
        if count < STEP as usize {
            break;
        }
    }
    Ok(deleted)
}

#[cfg(test)]
mod tests {
    use cohorts_store::definition::Definition;
    use cohorts_store::testing::TestDatabase;
    use cohorts_store::{CohortId, ProjectId, cohorts, keys, projects, queue};
    use diesel::prelude::*;

    use super::*;

    /// A database with two projects, each with a cohort.
    struct TwoProjects {
        store: Store,
        projects: [ProjectId; 2],
        cohorts: [CohortId; 2],
        _database: TestDatabase,
    }

    impl TwoProjects {
        fn new() -> Self {
            let database = TestDatabase::create();
            let store = database.open();
            let conn = &mut *store.connection().unwrap();
            let owner = keys::teammate(conn, "a@x.io", "").unwrap();
            let projects =
                ["a", "b"].map(|token| projects::create(conn, "P", "UTC", token).unwrap().id());
            let definition = Definition::default();
            let cohorts = projects.map(|project| {
                cohorts::create(conn, project, &owner, &definition)
                    .unwrap()
                    .id()
            });
            Self {
                store,
                projects,
                cohorts,
                _database: database,
            }
        }

        fn conn(&self) -> cohorts_store::PooledConn {
            self.store.connection().unwrap()
        }

        fn execute(&self, statement: &str) {
            diesel::sql_query(statement)
                .execute(&mut *self.conn())
                .unwrap();
        }

        /// Adds entries with an age in days to the log of a cohort.
        fn add_activities(&self, nth: usize, number: i64, days: i64) {
            let (project, cohort) = (self.projects[nth].0, self.cohorts[nth].0);
            self.execute(&format!(
                "insert into activities (project_id, cohort_id, activity, created_at) \
                 select {project}, {cohort}, 'updated', now() - interval '{days} days' \
                 from generate_series(1, {number})"
            ));
        }

        fn activities(&self, nth: usize) -> i64 {
            let conn = &mut *self.conn();
            activity::page(conn, self.projects[nth], None, 1, 0)
                .unwrap()
                .count
        }

        /// Adds failed calculations of a cohort, one for each hour.
        fn add_failures(&self, nth: usize, number: i64) {
            let cohort = self.cohorts[nth].0;
            self.execute(&format!(
                "insert into calculations (cohort_id, version, attempt, started_at, finished_at, error) \
                 select {cohort}, n, n, now() - n * interval '1 hour', now(), 'why' \
                 from generate_series(1, {number}) n"
            ));
        }

        fn calculations(&self, nth: usize) -> i64 {
            let conn = &mut *self.conn();
            history::page(conn, self.projects[nth], self.cohorts[nth], 1, 0)
                .unwrap()
                .count
        }

        /// Runs a pruner over all cohorts and projects.
        fn prune(&self, limits: HistoryLimits) {
            let mut pruner = Pruner::new(limits);
            while pruner.cohorts.position().is_some() || pruner.projects.position().is_some() {
                pruner.prune(&self.store).unwrap();
            }
        }
    }

    fn days(days: i64) -> Option<TimeDelta> {
        Some(TimeDelta::days(days))
    }

    #[test]
    fn activities_are_limited_by_age_and_by_number() {
        let fixture = TwoProjects::new();
        fixture.add_activities(0, 2_500, 40);
        fixture.add_activities(0, 10, 20);
        fixture.add_activities(1, ACTIVITIES_OF_COHORT + 5, 10);
        fixture.prune(HistoryLimits::default());
        let counts = || (fixture.activities(0), fixture.activities(1));
        assert_eq!(counts(), (2_510, ACTIVITIES_OF_COHORT));
        let limits = HistoryLimits {
            activities: days(30),
            ..HistoryLimits::default()
        };
        fixture.prune(limits);
        assert_eq!(counts(), (10, ACTIVITIES_OF_COHORT));
    }

    #[test]
    fn activities_of_a_project_are_limited_by_number() {
        let fixture = TwoProjects::new();
        let conn = &mut *fixture.conn();
        let owner = keys::teammate(conn, "a@x.io", "").unwrap();
        for _ in 0..11 {
            let cohort = cohorts::create(conn, fixture.projects[0], &owner, &Definition::default());
            let (project, cohort) = (fixture.projects[0].0, cohort.unwrap().id);
            fixture.execute(&format!(
                "insert into activities (project_id, cohort_id, activity, created_at) \
                 select {project}, {cohort}, 'updated', now() from generate_series(1, 9500)"
            ));
        }
        fixture.add_activities(1, 7, 1);
        fixture.prune(HistoryLimits::default());
        let counts = (fixture.activities(0), fixture.activities(1));
        assert_eq!(counts, (ACTIVITIES_OF_PROJECT, 7));
    }

    #[test]
    fn calculations_also_failed_ones_are_limited_by_age_and_by_number() {
        let fixture = TwoProjects::new();
        fixture.add_failures(0, CALCULATIONS + 7);
        fixture.add_failures(1, 100);
        fixture.prune(HistoryLimits::default());
        let counts = || (fixture.calculations(0), fixture.calculations(1));
        assert_eq!(counts(), (CALCULATIONS, 100));
        let limits = |age| HistoryLimits {
            calculations: Some(age),
            ..HistoryLimits::default()
        };
        fixture.prune(limits(TimeDelta::minutes(60 * 50 + 30)));
        assert_eq!(counts(), (50, 50));
        // The newest calculation of a cohort stays.
        fixture.prune(limits(TimeDelta::minutes(30)));
        assert_eq!(counts(), (1, 1));
    }

    #[test]
    fn calculations_of_dead_workers_are_deleted() {
        let fixture = TwoProjects::new();
        let conn = &mut *fixture.conn();
        for cohort in fixture.cohorts {
            queue::request_calculation(conn, cohort).unwrap();
        }
        for (project, lease) in fixture.projects.into_iter().zip([-7_200, 15]) {
            let claimed = queue::claim(conn, project, TimeDelta::seconds(lease), 1).unwrap();
            assert_eq!(claimed.len(), 1);
        }
        assert_eq!([0, 1].map(|nth| fixture.calculations(nth)), [1, 1]);
        fixture.prune(HistoryLimits::default());
        assert_eq!([0, 1].map(|nth| fixture.calculations(nth)), [0, 1]);
    }
}
