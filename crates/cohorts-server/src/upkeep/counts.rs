//! Corrects counts of cohorts on Citus, where members and counts are on different nodes.
//!
//! A transaction that changes both commits on the worker first, and then on the coordinator. If one of them fails in
//! between, the members are changed and the count is not. Comparing both is the second step, which may be repeated at any
//! time. It follows each transaction of unknown outcome, and the start of the service, and then every hour, because the
//! process with such a transaction may have died. On plain Postgres a transaction is all or none, so nothing is compared.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use cohorts_store::{Conn, Error, ProjectId, Store, distribution, health, projects};

/// The pause between two rounds over all projects.
const INTERVAL: Duration = Duration::from_secs(3_600);
/// The pause before a difference is corrected. Citus may still have to end a prepared transaction, which takes it some
/// seconds and removes the difference.
const RECOVERY: Duration = Duration::from_secs(15);
/// How long one call may begin comparisons, so that other upkeep is not delayed.
const SLICE: Duration = Duration::from_secs(1);

/// The comparison of a project's counts with its members.
#[derive(Clone, Copy)]
struct Comparison {
    earliest: Instant,
    /// Whether there was a difference before. If it is still there, it is corrected.
    is_second: bool,
}

impl Comparison {
    fn first(earliest: Instant) -> Self {
        Self {
            earliest,
            is_second: false,
        }
    }
}

/// The projects that are still to be compared.
#[derive(Default)]
pub struct Counts {
    waiting: BTreeMap<ProjectId, Comparison>,
    round_started: Option<Instant>,
}

impl Counts {
    /// Compares the projects that are due, and corrects wrong counts. A project that fails is compared again later.
    pub fn check(&mut self, store: &Store) -> Result<(), Error> {
        let uncertain = store.uncertain.take();
        let conn = &mut *store.connection()?;
        if !distribution::is_possible(conn)? {
            return Ok(());
        }
        let now = Instant::now();
        for project in uncertain {
            let comparison = Comparison::first(now);
            self.waiting.entry(project).or_insert(comparison);
        }
        self.check_at(store, conn, now)
    }

    fn check_at(&mut self, store: &Store, conn: &mut Conn, now: Instant) -> Result<(), Error> {
        if (self.round_started).is_none_or(|time| now.duration_since(time) >= INTERVAL) {
            for project in projects::all(conn)? {
                let comparison = Comparison::first(now);
                self.waiting.entry(project).or_insert(comparison);
            }
            self.round_started = Some(now);
        }
        let is_due = |(project, comparison): (&ProjectId, &Comparison)| {
            let is_served = !store.outages.affect(*project);
            (is_served && comparison.earliest <= now).then_some((*project, *comparison))
        };
        let due: Vec<_> = self.waiting.iter().filter_map(is_due).collect();
        let (begun, mut result) = (Instant::now(), Ok(()));
        for (project, comparison) in due {
            if begun.elapsed() >= SLICE {
                break;
            }
            let next = match compare(conn, project, comparison.is_second) {
                Ok(true) => Some(Comparison {
                    earliest: now + RECOVERY,
                    is_second: true,
                }),
                Ok(false) => None,
                Err(cause) => {
                    result = Err(cause);
                    Some(Comparison::first(now + RECOVERY))
                }
            };
            match next {
                Some(next) => self.waiting.insert(project, next),
                None => self.waiting.remove(&project),
            };
        }
        result
    }
}

/// Compares the counts of a project; returns whether wrong ones are left.
fn compare(conn: &mut Conn, project: ProjectId, repair: bool) -> Result<bool, Error> {
    let miscounted = health::miscounted(conn, project, repair)?;
    if repair {
        for cohort in &miscounted {
            let (id, count, members) = (cohort.id, cohort.count, cohort.members);
            log::warn!("cohort {id}: count {count} is corrected to {members}");
        }
    }
    Ok(!repair && !miscounted.is_empty())
}

#[cfg(test)]
mod tests {
    use cohorts_store::changes::{self, Cause, StaticCohort};
    use cohorts_store::definition::Definition;
    use cohorts_store::testing::TestDatabase;
    use cohorts_store::{CohortId, cohorts, keys, queue, transaction};
    use roaring::RoaringBitmap;

    use super::*;

    /// Creates a project with a cohort of two members and a count of 0, as if the coordinator had died before its commit.
    fn create_miscounted(conn: &mut Conn, token: &str) -> (ProjectId, CohortId) {
        let owner = keys::teammate(conn, "a@x.io", "").unwrap();
        let mut definition = Definition::default();
        definition.is_static = true;
        let project = projects::create(conn, "P", "UTC", token).unwrap().id();
        let cohort = cohorts::create(conn, project, &owner, &definition).unwrap();
        let members = RoaringBitmap::from_iter([1_u32, 2]);
        transaction(conn, |conn| {
            changes::edit(conn, &StaticCohort::from(&cohort), Cause::Manual, |_| {
                Ok(members)
            })?;
            queue::publish_edit(conn, cohort.id(), 1, 0)
        })
        .unwrap();
        (project, cohort.id())
    }

    fn counts_of(conn: &mut Conn, created: [(ProjectId, CohortId); 2]) -> [i64; 2] {
        created.map(|(project, id)| {
            let row = cohorts::find(conn, project, id).unwrap();
            row.unwrap().0.count.unwrap()
        })
    }

    #[test]
    fn a_count_that_was_not_committed_with_its_members_is_corrected_at_the_second_look() {
        let database = TestDatabase::create();
        let store = database.open();
        let conn = &mut *store.connection().unwrap();
        let created = ["a", "b"].map(|token| create_miscounted(conn, token));
        let mut counts = Counts::default();
        counts.check(&store).unwrap();
        assert!(counts.waiting.is_empty(), "plain Postgres is not checked");
        let start = Instant::now();
        let mut seen_at = |conn: &mut Conn, time| {
            counts.check_at(&store, conn, time).unwrap();
            counts_of(conn, created)
        };
        assert_eq!(seen_at(conn, start), [0, 0]);
        assert_eq!(seen_at(conn, start + RECOVERY / 2), [0, 0]);
        assert_eq!(seen_at(conn, start + RECOVERY), [2, 2]);
        assert!(counts.waiting.is_empty());
    }

    #[test]
    fn a_project_with_a_transaction_of_unknown_outcome_is_compared_between_the_rounds() {
        let database = TestDatabase::create();
        let store = database.open();
        let conn = &mut *store.connection().unwrap();
        let start = Instant::now();
        let mut counts = Counts {
            round_started: Some(start),
            ..Counts::default()
        };
        let created = ["a", "b"].map(|token| create_miscounted(conn, token));
        let (first, _) = created[0];
        let cause = Error::Unavailable("no worker".to_owned());
        store.uncertain.record(first, &cause);
        store.uncertain.record(created[1].0, &Error::ProjectGone);
        assert_eq!(store.uncertain.take(), [first].into());
        counts.waiting.insert(first, Comparison::first(start));
        for time in [start, start + RECOVERY] {
            counts.check_at(&store, conn, time).unwrap();
        }
        assert_eq!(counts_of(conn, created), [2, 0]);
    }

    #[test]
    fn a_project_waits_for_its_worker() {
        let database = TestDatabase::create();
        let store = database.open();
        let conn = &mut *store.connection().unwrap();
        let created = ["a", "b"].map(|token| create_miscounted(conn, token));
        store.outages.set_for_test(&[created[0].0]);
        let start = Instant::now();
        let mut counts = Counts::default();
        for time in [start, start + RECOVERY] {
            counts.check_at(&store, conn, time).unwrap();
        }
        assert_eq!(counts_of(conn, created), [0, 2]);
        assert_eq!(counts.waiting.len(), 1);
    }
}
