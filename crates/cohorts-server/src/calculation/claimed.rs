//! The claimed cohorts of one project: which are planned, and which one is in work.
//!
//! Shared by the worker and its heartbeat. A failure is attributed to the cohort that is in work.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use cohorts_engine::Plan;
use parking_lot::Mutex;

use cohorts_store::cohorts::Cohort;

/// When the work on a cohort started.
#[derive(Clone, Copy)]
pub struct Started {
    pub time: DateTime<Utc>,
    instant: Instant,
}

impl Started {
    pub fn now() -> Started {
        Started {
            time: Utc::now(),
            instant: Instant::now(),
        }
    }

    pub fn elapsed(self) -> Duration {
        self.instant.elapsed()
    }
}

/// The plans of a cohort.
pub type Plans = Arc<[Plan]>;

/// The jobs of a claim. All are planned first, then calculated in order.
pub struct ClaimedJobs {
    queues: Mutex<JobQueues>,
    claimed: Instant,
}

#[derive(Default)]
struct JobQueues {
    unplanned: VecDeque<Cohort>,
    planned: VecDeque<(Cohort, Plans)>,
    current: Option<(Cohort, Started)>,
}

impl ClaimedJobs {
    /// Small cohorts are calculated first.
    pub fn new(mut claimed: Vec<Cohort>) -> ClaimedJobs {
        claimed.sort_by_key(|cohort| cohort.count);
        ClaimedJobs {
            queues: Mutex::new(JobQueues {
                unplanned: claimed.into(),
                ..JobQueues::default()
            }),
            claimed: Instant::now(),
        }
    }

    /// Starts the next job without plans.
    pub fn next_to_plan(&self) -> Option<Cohort> {
        let mut state = self.queues.lock();
        let next = state.unplanned.pop_front();
        state.current = next.map(|cohort| (cohort, Started::now()));
        state.current.as_ref().map(|(cohort, _)| cohort.clone())
    }

    /// Sets the plans of the current job.
    pub fn planned(&self, plans: Plans) {
        let mut state = self.queues.lock();
        if let Some((cohort, _)) = state.current.take() {
            state.planned.push_back((cohort, plans));
        }
    }

    /// Starts the next job with plans.
    pub fn next(&self) -> Option<(Cohort, Started, Plans)> {
        let mut state = self.queues.lock();
        state.current = None;
        let (cohort, plans) = state.planned.pop_front()?;
        let started = Started::now();
        state.current = Some((cohort.clone(), started));
        Some((cohort, started, plans))
    }

    /// Removes the current job, or the next one if none is in work.
    pub fn take_current(&self) -> Option<(Cohort, Started)> {
        let mut state = self.queues.lock();
        let state = &mut *state;
        state.current.take().or_else(|| {
            let planned = state.planned.pop_front().map(|(cohort, _)| cohort);
            let next = planned.or_else(|| state.unplanned.pop_front());
            next.map(|cohort| (cohort, Started::now()))
        })
    }

    /// How long the current job has been in work.
    fn time_on_current(&self) -> Duration {
        let state = self.queues.lock();
        let current = state.current.as_ref();
        current.map_or(Duration::ZERO, |(_, started)| started.elapsed())
    }

    /// Whether the claim, or its current job, has taken so long that the other jobs should be given back.
    pub fn is_long(&self, claim_limit: Duration, job_limit: Duration) -> bool {
        self.claimed.elapsed() >= claim_limit || self.time_on_current() >= job_limit
    }

    /// Removes the jobs that are not in work, to give them back.
    pub fn take_rest(&self) -> Vec<Cohort> {
        let mut state = self.queues.lock();
        let mut rest: Vec<Cohort> = state.unplanned.drain(..).collect();
        rest.extend(state.planned.drain(..).map(|(cohort, _)| cohort));
        rest
    }

    /// All jobs with a lease to renew.
    pub fn claimed(&self) -> Vec<Cohort> {
        let state = self.queues.lock();
        let current = state.current.iter().map(|(cohort, _)| cohort);
        let planned = state.planned.iter().map(|(cohort, _)| cohort);
        current
            .chain(planned)
            .chain(&state.unplanned)
            .cloned()
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cohorts_store::definition::Definition;

    fn cohort(id: i64, count: Option<i64>) -> Cohort {
        Cohort {
            id,
            project_id: 1,
            definition: Definition::default(),
            created_at: Utc::now(),
            version: None,
            pending_version: None,
            member_version: 0,
            count,
            is_calculating: true,
            last_calculation: None,
            errors_calculating: 0,
            last_error_code: None,
            last_error: None,
            attempt: 1,
            fill_pending_criteria: false,
            fill_pending_query: false,
            due_at: None,
            seen_seq: 0,
            criteria_changed: false,
            is_live: false,
            definition_number: 1,
        }
    }

    fn ids(cohorts: &[Cohort]) -> Vec<i64> {
        cohorts.iter().map(|cohort| cohort.id).collect()
    }

    #[test]
    fn each_job_stays_claimed_until_it_ends_or_is_given_back() {
        let jobs = ClaimedJobs::new(vec![
            cohort(1, Some(9)),
            cohort(2, None),
            cohort(3, Some(2)),
        ]);
        assert_eq!(
            (ids(&jobs.claimed()), jobs.time_on_current()),
            (vec![2, 3, 1], Duration::ZERO)
        );
        // A failure while planning belongs to the job that is planned.
        assert_eq!(jobs.next_to_plan().map(|cohort| cohort.id), Some(2));
        jobs.planned(Arc::default());
        assert_eq!(jobs.next_to_plan().map(|cohort| cohort.id), Some(3));
        assert!(jobs.time_on_current() > Duration::ZERO);
        assert_eq!(ids(&jobs.claimed()), [3, 2, 1]);
        assert_eq!(jobs.take_current().map(|(cohort, _)| cohort.id), Some(3));
        // A failure while no job is in work belongs to the next one.
        assert_eq!(
            (ids(&jobs.claimed()), jobs.time_on_current()),
            (vec![2, 1], Duration::ZERO)
        );
        assert_eq!(jobs.next().map(|(cohort, ..)| cohort.id), Some(2));
        assert_eq!(ids(&jobs.take_rest()), [1]);
        assert_eq!(ids(&jobs.claimed()), [2]);
        assert!(jobs.next().is_none());
        assert!(jobs.take_current().is_none());
    }

    #[test]
    fn a_claim_is_long_by_the_time_of_all_its_jobs_or_of_one() {
        let jobs = ClaimedJobs::new(vec![cohort(1, None)]);
        let never = Duration::MAX;
        assert!(!jobs.is_long(never, never));
        assert!(jobs.is_long(Duration::ZERO, never));
        // No job is in work.
        assert!(!jobs.is_long(never, Duration::from_nanos(1)));
        jobs.next_to_plan();
        assert!(jobs.is_long(never, Duration::ZERO));
    }
}
