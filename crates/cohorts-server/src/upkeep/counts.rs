//! Corrects counts of cohorts on Citus, where members and counts are on different nodes.
//!
//! A transaction that changes both commits on the worker first, and then on the coordinator. If the coordinator dies in
//! between, the members are changed and the count is not. Comparing both is the second step, which may be repeated at any
//! time. On plain Postgres a transaction is all or none, so nothing is compared.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use cohorts_store::{Error, ProjectId, Store, distribution, health, projects};

/// The pause between two rounds over all projects.
const INTERVAL: Duration = Duration::from_secs(3_600);

/// The projects of the current round that are still to be checked.
#[derive(Default)]
pub struct Counts {
    rest: VecDeque<ProjectId>,
    started: Option<Instant>,
}

impl Counts {
    /// Corrects the counts of the next project. A project that fails is checked again in the next round.
    pub fn check(&mut self, store: &Store) -> Result<(), Error> {
        let conn = &mut *store.connection()?;
        if distribution::is_possible(conn)? {
            self.check_next(store)?;
        }
        Ok(())
    }

    fn check_next(&mut self, store: &Store) -> Result<(), Error> {
        let conn = &mut *store.connection()?;
        if self.rest.is_empty() && self.started.is_none_or(|time| time.elapsed() >= INTERVAL) {
            self.started = Some(Instant::now());
            self.rest = projects::all(conn)?.into();
        }
        let Some(project) = self.rest.pop_front() else {
            return Ok(());
        };
        for cohort in health::miscounted(conn, project, true)? {
            let (id, count, members) = (cohort.id, cohort.count, cohort.members);
            log::warn!("cohort {id}: count {count} is corrected to {members}");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use cohorts_store::changes::{self, Cause, StaticCohort};
    use cohorts_store::definition::Definition;
    use cohorts_store::testing::TestDatabase;
    use cohorts_store::{cohorts, keys, queue, transaction};
    use roaring::RoaringBitmap;

    use super::*;

    #[test]
    fn a_count_that_was_not_committed_with_its_members_is_corrected() {
        let database = TestDatabase::create();
        let store = database.open();
        let conn = &mut *store.connection().unwrap();
        let owner = keys::teammate(conn, "a@x.io", "").unwrap();
        let mut definition = Definition::default();
        definition.is_static = true;
        let created = ["a", "b"].map(|token| {
            let project = projects::create(conn, "P", "UTC", token).unwrap().id();
            let cohort = cohorts::create(conn, project, &owner, &definition).unwrap();
            let members = RoaringBitmap::from_iter([1_u32, 2]);
            transaction(conn, |conn| {
                let cohort = StaticCohort::from(&cohort);
                changes::edit(conn, &cohort, Cause::Manual, |_| Ok(members))?;
                // As if the coordinator had died before its commit.
                queue::publish_edit(conn, cohort.id, 1, 0)
            })
            .unwrap();
            (project, cohort.id())
        });
        let mut counts = Counts::default();
        counts.check(&store).unwrap();
        let mut seen = || {
            created.map(|(project, id)| cohorts::find(conn, project, id).unwrap().unwrap().0.count)
        };
        assert_eq!(seen(), [Some(0), Some(0)], "plain Postgres is not checked");
        counts.check_next(&store).unwrap();
        assert_eq!(seen(), [Some(2), Some(0)], "one project at a time");
        counts.check_next(&store).unwrap();
        assert_eq!(seen(), [Some(2), Some(2)]);
    }
}
