//! Deletes events that are older than the retention of their project, in steps.
//!
//! No result depends on it: calculations ignore events that are too old, deleted or not.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use chrono::Utc;

use cohorts_store::{Error, ProjectId, Store, events, projects};

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
    /// Deletes old events of the projects that are due.
    pub fn sweep(&mut self, store: &Store) -> Result<(), Error> {
        let now = Instant::now();
        let conn = &mut *store.connection()?;
        for project in projects::with_retention(conn)? {
            let due = self.0.get(&project.id()).is_none_or(|due| *due <= now);
            let Some(oldest) = project.oldest_event(Utc::now()).filter(|_| due) else {
                continue;
            };
            let mut deleted = 0;
            for _ in 0..MAX_STEPS {
                let step = events::delete_before(conn, project.id().shard_key(), oldest, STEP)?;
                deleted += step;
                if step < STEP as usize {
                    self.0.insert(project.id(), now + INTERVAL);
                    break;
                }
            }
            if deleted > 0 {
                log::info!("project {}: {deleted} old events deleted", project.id);
            }
        }
        Ok(())
    }
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
}
