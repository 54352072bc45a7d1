//! Claimed cohorts of one project, on their way from being planned to being published.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use cohorts_engine::Plan;
use parking_lot::Mutex;

use crate::store::cohorts::Cohort;

/// When work on a cohort was begun.
#[derive(Clone, Copy)]
pub struct Begun(pub DateTime<Utc>, Instant);

impl Begun {
    pub fn now() -> Begun {
        Begun(Utc::now(), Instant::now())
    }

    pub fn elapsed(self) -> Duration {
        self.1.elapsed()
    }
}

/// The plans of a cohort.
pub type Plans = Arc<[Plan]>;

/// First each is planned, then each is calculated; whatever goes wrong is that one's with which it does.
pub struct Batch(Mutex<State>);

#[derive(Default)]
struct State {
    unplanned: VecDeque<Cohort>,
    planned: VecDeque<(Cohort, Plans)>,
    current: Option<(Cohort, Begun)>,
}

impl Batch {
    /// The small ones first.
    pub fn new(mut claimed: Vec<Cohort>) -> Batch {
        claimed.sort_by_key(|cohort| cohort.count);
        Batch(Mutex::new(State {
            unplanned: claimed.into(),
            ..State::default()
        }))
    }

    /// Goes on to the next one that has no plans yet.
    pub fn plan_next(&self) -> Option<Cohort> {
        let mut state = self.0.lock();
        let next = state.unplanned.pop_front();
        state.current = next.map(|cohort| (cohort, Begun::now()));
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
    pub fn next(&self) -> Option<(Cohort, Begun, Plans)> {
        let mut state = self.0.lock();
        state.current = None;
        let (cohort, plans) = state.planned.pop_front()?;
        let begun = Begun::now();
        state.current = Some((cohort.clone(), begun));
        Some((cohort, begun, plans))
    }

    /// The one that is worked on, or where none is the next one, which is then the one that ends.
    pub fn take_current(&self) -> Option<(Cohort, Begun)> {
        let mut state = self.0.lock();
        let state = &mut *state;
        state.current.take().or_else(|| {
            let planned = state.planned.pop_front().map(|(cohort, _)| cohort);
            let next = planned.or_else(|| state.unplanned.pop_front());
            next.map(|cohort| (cohort, Begun::now()))
        })
    }

    /// How long the one has been worked on that is worked on.
    pub fn busy(&self) -> Duration {
        let state = self.0.lock();
        let current = state.current.as_ref();
        current.map_or(Duration::ZERO, |(_, begun)| begun.elapsed())
    }

    /// All that nobody works on, to be given back.
    pub fn take_rest(&self) -> Vec<Cohort> {
        let mut state = self.0.lock();
        let mut rest: Vec<Cohort> = state.unplanned.drain(..).collect();
        rest.extend(state.planned.drain(..).map(|(cohort, _)| cohort));
        rest
    }

    /// Those whose claim is to be kept.
    pub fn held(&self) -> Vec<Cohort> {
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
    use crate::store::cohorts::Definition;

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
        let batch = Batch::new(vec![
            cohort(1, Some(9)),
            cohort(2, None),
            cohort(3, Some(2)),
        ]);
        assert_eq!(
            (ids(&batch.held()), batch.busy()),
            (vec![2, 3, 1], Duration::ZERO)
        );
        // What goes wrong with the plan of one is its own.
        assert_eq!(batch.plan_next().map(|one| one.id), Some(2));
        batch.planned(Arc::default());
        assert_eq!(batch.plan_next().map(|one| one.id), Some(3));
        assert!(batch.busy() > Duration::ZERO);
        assert_eq!(ids(&batch.held()), [3, 2, 1]);
        assert_eq!(batch.take_current().map(|one| one.0.id), Some(3));
        // What goes wrong before any is worked on is the next one's.
        assert_eq!(
            (ids(&batch.held()), batch.busy()),
            (vec![2, 1], Duration::ZERO)
        );
        assert_eq!(batch.next().map(|one| one.0.id), Some(2));
        assert_eq!(ids(&batch.take_rest()), [1]);
        assert_eq!(ids(&batch.held()), [2]);
        assert!(batch.next().is_none());
        assert!(batch.take_current().is_none());
    }
}
