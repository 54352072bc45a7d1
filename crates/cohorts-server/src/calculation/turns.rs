//! The order in which the workers of a process serve projects: round robin over the projects with waiting cohorts.
//!
//! While other projects wait, one project gets at most half of the workers. Each process limits its own workers, so the
//! limit also holds for all processes together.

use std::collections::HashMap;
use std::sync::Arc;

use chrono::{TimeDelta, Utc};
use cohorts_store::cohorts::Cohort;
use cohorts_store::outages::Outages;
use cohorts_store::{Conn, Error, ProjectId, queue};
use parking_lot::Mutex;

use super::MAX_CLAIM;

/// The turns of the workers of one process. Clones share them.
#[derive(Clone)]
pub struct Turns {
    state: Arc<Mutex<TurnState>>,
    /// The most workers of one project while others wait.
    share: usize,
    /// The most workers for the projects of one worker of Citus: it may not respond, and then holds all of them.
    node_share: usize,
}

struct TurnState {
    /// The project that was served last.
    last: ProjectId,
    /// The number of workers per project.
    workers: HashMap<ProjectId, usize>,
}

/// The turn of a project: its claimed cohorts, and a worker that is taken until this is dropped.
pub struct Turn {
    pub project: ProjectId,
    pub claimed: Vec<Cohort>,
    state: Arc<Mutex<TurnState>>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut state = self.state.lock();
        if let Some(count) = state.workers.get_mut(&self.project) {
            *count -= 1;
            if *count == 0 {
                state.workers.remove(&self.project);
            }
        }
    }
}

impl Turns {
    pub fn new(workers: usize) -> Self {
        Self {
            state: Arc::new(Mutex::new(TurnState {
                last: ProjectId(0),
                workers: HashMap::new(),
            })),
            share: (workers / 2).max(1),
            node_share: (workers - 1).max(1),
        }
    }

    /// Claims cohorts of the next project without an outage. Returns `None` if no cohort waits.
    pub fn next(
        &self,
        conn: &mut Conn,
        lease: TimeDelta,
        outages: &Outages,
    ) -> Result<Option<Turn>, Error> {
        // The lock also keeps two workers of this process from claiming the same cohorts.
        let mut state = self.state.lock();
        let mut passed = Vec::new();
        let mut last = state.last;
        while let Some(project) = queue::next_project(conn, last, Utc::now())?
            && !passed.contains(&project)
        {
            let has_share = self.is_served(&state, project, outages)
                && (state.workers.get(&project)).is_none_or(|count| *count < self.share);
            if has_share && let Some(turn) = self.claim(&mut state, conn, project, lease)? {
                return Ok(Some(turn));
            }
            passed.push(project);
            last = project;
        }
        // All waiting projects have their share, so one of them may have more.
        for project in passed {
            if self.is_served(&state, project, outages)
                && let Some(turn) = self.claim(&mut state, conn, project, lease)?
            {
                return Ok(Some(turn));
            }
        }
        Ok(None)
    }

    /// Whether the project's node responds, and has not taken its share of the workers.
    fn is_served(&self, state: &TurnState, project: ProjectId, outages: &Outages) -> bool {
        if outages.affect(project) {
            return false;
        }
        let Some(node) = outages.worker_of(project) else {
            return true;
        };
        let of_node = |id: &ProjectId| outages.worker_of(*id).as_ref() == Some(&node);
        let running = state.workers.iter().filter(|(id, _)| of_node(id));
        running.map(|(_, count)| count).sum::<usize>() < self.node_share
    }

    /// Returns `None` if another process has claimed the cohorts.
    fn claim(
        &self,
        state: &mut TurnState,
        conn: &mut Conn,
        project: ProjectId,
        lease: TimeDelta,
    ) -> Result<Option<Turn>, Error> {
        let claimed = queue::claim(conn, project, lease, MAX_CLAIM)?;
        if claimed.is_empty() {
            return Ok(None);
        }
        state.last = project;
        *state.workers.entry(project).or_default() += 1;
        Ok(Some(Turn {
            project,
            claimed,
            state: Arc::clone(&self.state),
        }))
    }
}

#[cfg(test)]
mod tests {
    use cohorts_store::definition::Definition;
    use cohorts_store::testing::TestDatabase;
    use cohorts_store::{Store, cohorts, keys, projects};

    use super::*;

    /// Creates a project with `count` new cohorts that wait.
    fn create_waiting(store: &Store, name: &str, count: usize) -> ProjectId {
        let conn = &mut *store.connection().unwrap();
        let token = format!("phc_{name}");
        let project = projects::create(conn, name, "UTC", &token).unwrap().id();
        wait(conn, project, count);
        project
    }

    fn wait(conn: &mut Conn, project: ProjectId, count: usize) {
        let owner = keys::teammate(conn, "a@x.io", "").unwrap();
        let create = |_| {
            cohorts::create(conn, project, &owner, &Definition::default())
                .unwrap()
                .id
        };
        let ids: Vec<i64> = (0..count).map(create).collect();
        queue::request_calculations(conn, &ids).unwrap();
    }

    fn next(turns: &Turns, store: &Store) -> Option<Turn> {
        let conn = &mut *store.connection().unwrap();
        let lease = TimeDelta::seconds(60);
        turns.next(conn, lease, &store.outages).unwrap()
    }

    /// The project of a turn that ends at once.
    fn next_project(turns: &Turns, store: &Store) -> Option<ProjectId> {
        next(turns, store).map(|turn| turn.project)
    }

    #[test]
    fn many_new_cohorts_of_a_project_delay_another_project_by_at_most_one_claim() {
        let database = TestDatabase::create();
        let store = database.open();
        let turns = Turns::new(1);
        let busy = create_waiting(&store, "busy", 424);
        assert_eq!(next_project(&turns, &store), Some(busy));
        let other = create_waiting(&store, "other", 1);
        // The cohort of the other project was calculated before, so it is behind all new ones by time.
        let conn = &mut *store.connection().unwrap();
        let turn = next(&turns, &store).unwrap();
        assert_eq!(turn.project, other);
        let evaluated = queue::Evaluated {
            at: Utc::now(),
            due_at: None,
            seen_seq: 0,
        };
        queue::publish(
            conn,
            &turn.claimed[0],
            Utc::now(),
            evaluated,
            |_, version| Ok(Some(queue::PublishedMembers { version, count: 0 })),
        )
        .unwrap();
        drop(turn);
        assert_eq!(next_project(&turns, &store), Some(busy));
        let only = cohorts::dynamic(conn, other).unwrap();
        queue::request_calculations(conn, &only).unwrap();
        assert_eq!(next_project(&turns, &store), Some(other));
        let turns_of_busy = std::iter::from_fn(|| next_project(&turns, &store));
        // 424 cohorts are 14 claims of at most 32.
        assert_eq!(turns_of_busy.collect::<Vec<_>>(), [busy; 12]);
    }

    #[test]
    fn cohorts_of_a_project_without_its_worker_wait_unclaimed() {
        let database = TestDatabase::create();
        let store = database.open();
        let turns = Turns::new(2);
        let first = create_waiting(&store, "first", 1);
        let second = create_waiting(&store, "second", 1);
        store.outages.set_for_test(&[first]);
        assert_eq!(next_project(&turns, &store), Some(second));
        assert_eq!(next_project(&turns, &store), None);
        store.outages.set_for_test(&[]);
        assert_eq!(next_project(&turns, &store), Some(first));
    }

    #[test]
    fn one_node_of_citus_does_not_get_all_workers() {
        let database = TestDatabase::create();
        let store = database.open();
        let turns = Turns::new(2);
        let [first, second, other] =
            ["first", "second", "other"].map(|name| create_waiting(&store, name, 1));
        let places = [(first, "a:1"), (second, "a:1"), (other, "b:1")];
        store
            .outages
            .place(places.map(|(id, node)| (id, node.into())));
        let running = next(&turns, &store).unwrap();
        assert_eq!(running.project, first);
        assert_eq!(next_project(&turns, &store), Some(other));
        assert_eq!(next_project(&turns, &store), None);
        drop(running);
        assert_eq!(next_project(&turns, &store), Some(second));
    }

    #[test]
    fn one_project_gets_half_of_the_workers_while_another_waits() {
        let database = TestDatabase::create();
        let store = database.open();
        let turns = Turns::new(4);
        let busy = create_waiting(&store, "busy", 424);
        let other = create_waiting(&store, "other", 100);
        let mut running: Vec<Turn> = (0..4).filter_map(|_| next(&turns, &store)).collect();
        let projects: Vec<_> = running.iter().map(|turn| turn.project).collect();
        assert_eq!(projects, [busy, other, busy, other]);
        // Another process has workers of its own.
        let second = Turns::new(2);
        let elsewhere: Vec<Turn> = (0..2).filter_map(|_| next(&second, &store)).collect();
        let projects: Vec<_> = elsewhere.iter().map(|turn| turn.project).collect();
        assert_eq!(projects, [busy, other]);
        // The last claim of the other project ends its waiting, so the busy one gets the rest.
        running.retain(|turn| turn.project == busy);
        assert_eq!(next(&turns, &store).map(|turn| turn.project), Some(other));
        running.extend((0..2).filter_map(|_| next(&turns, &store)));
        assert!(running.iter().all(|turn| turn.project == busy));
        assert_eq!(running.len(), 4);
    }
}
