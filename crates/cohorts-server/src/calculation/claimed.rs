//! Claimed cohorts of one project, on their way from being planned to being published.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use cohorts_engine::Plan;
use parking_lot::Mutex;

use cohorts_store::cohorts::Cohort;

/// When work on a cohort was started.
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

/// First each is planned, then each is calculated; whatever goes wrong is that one's with which it does.
pub struct ClaimedJobs(Mutex<State>);

#[derive(Default)]
struct State {
    unplanned: VecDeque<Cohort>,
    planned: VecDeque<(Cohort, Plans)>,
    current: Option<(Cohort, Started)>,
}

impl ClaimedJobs {
    /// The small ones first.
    pub fn new(mut claimed: Vec<Cohort>) -> ClaimedJobs {
        claimed.sort_by_key(|cohort| cohort.count);
        ClaimedJobs(Mutex::new(State {
            unplanned: claimed.into(),
            ..State::default()
        }))
    }

    /// Goes on to the next one that has no plans yet.
    pub fn next_to_plan(&self) -> Option<Cohort> {
        let mut state = self.0.lock();
        let next = state.unplanned.pop_front();
        state.current = next.map(|cohort| (cohort, Started::now()));
        state.current.as_ref().map(|(cohort, _)| cohort.clone())
    }

    /// The one that was gone on to has these plans.
    pub fn planned(&self, plans: Plans) {
        let mut state = self.0.lock();
        if let Some((cohort, _)) = state.current.take() {
            state.planned.push_back((cohort, plans));
        }
    }

    /// Goes on to the next one that has plans.
    pub fn next(&self) -> Option<(Cohort, Started, Plans)> {
        let mut state = self.0.lock();
        state.current = None;
        let (cohort, plans) = state.planned.pop_front()?;
        let started = Started::now();
        state.current = Some((cohort.clone(), started));
        Some((cohort, started, plans))
    }

    /// The one that is worked on, or where none is the next one, which is then the one that ends.
    pub fn take_current(&self) -> Option<(Cohort, Started)> {
        let mut state = self.0.lock();
        let state = &mut *state;
        state.current.take().or_else(|| {
            let planned = state.planned.pop_front().map(|(cohort, _)| cohort);
            let next = planned.or_else(|| state.unplanned.pop_front());
            next.map(|cohort| (cohort, Started::now()))
        })
    }

    /// How long the one has been worked on that is worked on.
    pub fn time_on_current(&self) -> Duration {
        let state = self.0.lock();
        let current = state.current.as_ref();
        current.map_or(Duration::ZERO, |(_, started)| started.elapsed())
    }

    /// All that nobody works on, to be given back.
    pub fn take_rest(&self) -> Vec<Cohort> {
        let mut state = self.0.lock();
        let mut rest: Vec<Cohort> = state.unplanned.drain(..).collect();
        rest.extend(state.planned.drain(..).map(|(cohort, _)| cohort));
        rest
    }

    /// Those whose claim is to be kept.
    pub fn claimed(&self) -> Vec<Cohort> {
        let state = self.0.lock();
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
        }
    }

    fn ids(cohorts: &[Cohort]) -> Vec<i64> {
        cohorts.iter().map(|cohort| cohort.id).collect()
    }

    #[test]
    fn whatever_happens_each_is_held_until_it_ends_or_is_given_back() {
        let batch = ClaimedJobs::new(vec![
            cohort(1, Some(9)),
            cohort(2, None),
            cohort(3, Some(2)),
        ]);
        assert_eq!(
            (ids(&batch.claimed()), batch.time_on_current()),
            (vec![2, 3, 1], Duration::ZERO)
        );
        // What goes wrong with the plan of one is its own.
        assert_eq!(batch.next_to_plan().map(|one| one.id), Some(2));
        batch.planned(Arc::default());
        assert_eq!(batch.next_to_plan().map(|one| one.id), Some(3));
        assert!(batch.time_on_current() > Duration::ZERO);
        assert_eq!(ids(&batch.claimed()), [3, 2, 1]);
        assert_eq!(batch.take_current().map(|one| one.0.id), Some(3));
        // What goes wrong before any is worked on is the next one's.
        assert_eq!(
            (ids(&batch.claimed()), batch.time_on_current()),
            (vec![2, 1], Duration::ZERO)
        );
        assert_eq!(batch.next().map(|one| one.0.id), Some(2));
        assert_eq!(ids(&batch.take_rest()), [1]);
        assert_eq!(ids(&batch.claimed()), [2]);
        assert!(batch.next().is_none());
        assert!(batch.take_current().is_none());
    }
}
