//! Deletes events that are older than the retention of their project, in steps.
//!
//! No result depends on it: calculations ignore events that are too old, deleted or not.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use chrono::Utc;

use cohorts_store::projects::Project;
use cohorts_store::{Conn, Error, ProjectId, Store, events, projects};

/// The most events deleted in one commit.
const STEP: i64 = 10_000;
/// The most commits of one sweep over a project.
const MAX_STEPS: usize = 10;
/// The pause between two sweeps over a project that has no old events left.
const INTERVAL: Duration = Duration::from_secs(3_600);

/// The next sweep of each project. A project without an entry is due.
#[derive(Default)]
pub struct Sweeper(HashMap<ProjectId, Instant>);

impl Sweeper {
    /// Deletes old events of the projects that are due. A project that fails, for example because its worker is not
    /// available, is due again at the next time, and the others continue.
    pub fn sweep(&mut self, store: &Store) -> Result<(), Error> {
        self.sweep_with(store, delete_old)
    }

    fn sweep_with(
        &mut self,
        store: &Store,
        mut delete: impl FnMut(&mut Conn, &Project) -> Result<Swept, Error>,
    ) -> Result<(), Error> {
        let now = Instant::now();
        let conn = &mut *store.connection()?;
        for project in projects::with_retention(conn)? {
            if self.0.get(&project.id()).is_some_and(|due| *due > now) {
                continue;
            }
            let id = project.id();
            match store
                .outages
                .check(id)
                .and_then(|()| delete(conn, &project))
            {
                Ok(Swept::All) => {
                    self.0.insert(project.id(), now + INTERVAL);
                }
                Ok(Swept::Part) => {}
                Err(cause) => {
                    log::warn!(
                        "project {}: old events were not deleted, will retry: {cause}",
                        project.id
                    );
                }
            }
        }
        Ok(())
    }
}

/// Whether old events are left.
#[derive(Clone, Copy)]
enum Swept {
    All,
    Part,
}

/// Deletes some of the old events of a project.
fn delete_old(conn: &mut Conn, project: &Project) -> Result<Swept, Error> {
    let Some(oldest) = project.oldest_event(Utc::now()) else {
        return Ok(Swept::All);
    };
    let (mut deleted, mut swept) = (0, Swept::Part);
    for _ in 0..MAX_STEPS {
        let step = events::delete_before(conn, project.id().shard_key(), oldest, STEP)?;
        deleted += step;
        if step < STEP as usize {
            swept = Swept::All;
            break;
        }
    }
    if deleted > 0 {
        log::info!("project {}: {deleted} old events deleted", project.id);
    }
    Ok(swept)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::IndexedStore;
    use crate::ingest::{Arrival, Item, commit};
    use cohorts_store::events::EventKey;
    use cohorts_store::testing::TestDatabase;

    #[test]
    fn only_events_older_than_the_retention_are_deleted() {
        let database = TestDatabase::create();
        let store = IndexedStore::new(database.open());
        let conn = &mut *store.connection().unwrap();
        let project = projects::create(conn, "P", "UTC", "phc_x").unwrap().id();
        let other = projects::create(conn, "Q", "UTC", "phc_y").unwrap().id();
        let ids: Vec<uuid::Uuid> = (0..3).map(|_| uuid::Uuid::now_v7()).collect();
        let item = |uuid: &uuid::Uuid, days: i64| {
            let time = (Utc::now() - chrono::TimeDelta::days(days)).to_rfc3339();
            let text = format!(
                r#"{{"event": "x", "distinct_id": "a", "uuid": "{uuid}", "timestamp": "{time}"}}"#
            );
            Item::read(&text, &Arrival::of_file(), uuid::Uuid::now_v7).unwrap()
        };
        let items = [item(&ids[0], 400), item(&ids[1], 31), item(&ids[2], 29)];
        for project in [project, other] {
            commit(&store, project, &items).unwrap();
        }
        projects::set_retention(conn, project, Some(30)).unwrap();
        let mut sweeper = Sweeper::default();
        sweeper.sweep(&store).unwrap();
        let keys: Vec<EventKey> = ids.iter().map(|id| EventKey::new(*id, "x", "a")).collect();
        let remaining = |conn: &mut _, project: ProjectId| {
            events::known(conn, project.shard_key(), &keys)
                .unwrap()
                .len()
        };
        assert_eq!((remaining(conn, project), remaining(conn, other)), (1, 3));
        let known = events::known(conn, project.shard_key(), &keys).unwrap();
        assert!(known.contains(&keys[2]));
    }

    #[test]
    fn a_project_that_fails_delays_no_other() {
        let database = TestDatabase::create();
        let store = database.open();
        let conn = &mut *store.connection().unwrap();
        let ids = ["a", "b", "c"].map(|name| {
            let project = projects::create(conn, name, "UTC", name).unwrap().id();
            projects::set_retention(conn, project, Some(30)).unwrap();
            project
        });
        let mut sweeper = Sweeper::default();
        let mut sweep = |is_up: bool| {
            let mut visited = Vec::new();
            let delete = |_: &mut Conn, project: &Project| {
                visited.push(project.id());
                if project.id() == ids[0] && !is_up {
                    return Err(Error::Unavailable("no worker".to_owned()));
                }
                Ok(Swept::All)
            };
            sweeper.sweep_with(&store, delete).unwrap();
            visited
        };
        assert_eq!(sweep(false), ids);
        assert_eq!(sweep(true), [ids[0]]);
        assert_eq!(sweep(true), []);
    }
}
