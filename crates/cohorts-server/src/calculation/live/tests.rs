//! Passes over a real database: what they publish, what they leave to others, and who makes them.

mod leases;
mod passes;
mod races;

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use cohorts_store::changes::{self, StaticCohort};
use cohorts_store::cohorts::{self, Cohort};
use cohorts_store::definition::Definition;
use cohorts_store::testing::TestDatabase;
use cohorts_store::{
    CohortId, JsonText, ProjectId, events, keys, members, persons, projects, queue, transaction,
};
use prometheus::IntCounter;
use roaring::RoaringBitmap;
use serde_json::{Value, json};

use super::publish::{PassOutcome, publish};
use super::{Leases, LivePasses};
use crate::calculation::Calculator;
use crate::index::IndexedStore;
use crate::ingest::{Arrival, Item, commit};
use crate::metrics::Metrics;
use crate::signals::Wake;
use cohorts_store::changes::Cause;

/// A project with the persons `a` to `d`, who have the ordinals 0 to 3.
struct LiveTest {
    store: IndexedStore,
    project: ProjectId,
    passes: Arc<LivePasses>,
    // Dropped after the store, which has connections to it.
    _database: TestDatabase,
}

fn metrics(store: &IndexedStore) -> Metrics {
    let statements: &IntCounter = &store.statements;
    Metrics::new(statements).unwrap()
}

/// A criterion of persons who did an event in the last days.
fn did(event: &str, days: u32) -> Value {
    json!({"type": "behavioral", "value": "performed_event", "key": event, "event_type": "events",
        "time_value": days, "time_interval": "day"})
}

/// A criterion of the members of a cohort.
fn member_of(cohort: CohortId) -> Value {
    json!({"type": "cohort", "key": "id", "value": cohort.0})
}

impl LiveTest {
    fn start() -> Self {
        let database = TestDatabase::create();
        let store = IndexedStore::new(database.open());
        let conn = &mut *store.connection().unwrap();
        let project = projects::create(conn, "P", "UTC", "phc_x").unwrap().id();
        let passes = Arc::new(LivePasses::new(&store, &metrics(&store)));
        let test = Self {
            store: store.clone(),
            project,
            passes,
            _database: database,
        };
        for id in ["a", "b", "c", "d"] {
            test.capture("created", id, json!({}));
        }
        test
    }

    fn capture(&self, event: &str, id: &str, properties: Value) {
        let item = json!({"event": event, "distinct_id": id, "properties": properties});
        let item = Item::read(&item.to_string(), &Arrival::of_file(), uuid::Uuid::now_v7).unwrap();
        commit(&self.store, self.project, &[item]).unwrap();
    }

    fn create(&self, leaf: &Value, is_static: bool) -> CohortId {
        let conn = &mut *self.store.connection().unwrap();
        let owner = keys::teammate(conn, "a@x.io", "").unwrap();
        let mut definition = Definition::default();
        definition.is_static = is_static;
        let filters = json!({"properties": {"type": "AND", "values": [leaf]}});
        definition.set_filters(Some(JsonText::of(&filters)));
        let created = cohorts::create(conn, self.project, &owner, &definition).unwrap();
        created.id()
    }

    /// Creates a dynamic cohort, and calculates it.
    fn cohort(&self, leaf: &Value) -> CohortId {
        let id = self.create(leaf, false);
        queue::request_calculation(&mut self.store.connection().unwrap(), id).unwrap();
        self.calculate();
        id
    }

    fn calculate(&self) {
        let calculator = Calculator {
            store: self.store.clone(),
            metrics: metrics(&self.store),
            freshness: TimeDelta::zero(),
        };
        while calculator.run_project(self.project).unwrap() {}
    }

    /// Takes and renews leases as of a time.
    fn lease(&self, clock: DateTime<Utc>) {
        Leases::new(&self.passes).run(clock);
    }

    /// Another process, which has taken over nothing yet.
    fn other(&self) -> LivePasses {
        let store = IndexedStore::new(cohorts_store::Store::clone(&self.store));
        LivePasses::new(&store, &metrics(&store))
    }

    /// Makes a pass as of a time; with `between` between its two commits.
    fn pass_with(&self, clock: DateTime<Utc>, between: impl Fn()) -> PassOutcome {
        pass_of(&self.passes, self.project, clock, between)
    }

    fn pass(&self) -> PassOutcome {
        self.pass_with(Utc::now(), || ())
    }

    fn row(&self, id: CohortId) -> Cohort {
        let conn = &mut *self.store.connection().unwrap();
        cohorts::find(conn, self.project, id).unwrap().unwrap().0
    }

    /// The members that readers see. Their number is the count.
    fn members(&self, id: CohortId) -> Vec<u32> {
        let row = self.row(id);
        let conn = &mut *self.store.connection().unwrap();
        let key = self.project.shard_key();
        let members = members::read(conn, key, id, row.member_version).unwrap();
        assert_eq!(row.count, Some(members.len() as i64));
        members.iter().collect()
    }

    /// The causes of all changes of a cohort, in order.
    fn causes(&self, id: CohortId) -> Vec<String> {
        let conn = &mut *self.store.connection().unwrap();
        let position = changes::FeedPosition::after(0);
        let page = changes::feed(conn, self.project, Some(&[id.0]), position, 100).unwrap();
        let changes = page.unwrap().changes.into_iter();
        changes.map(|(row, _)| row.cause).collect()
    }

    /// Changes the members of a static cohort as an upload does.
    fn edit(&self, id: CohortId, members: &[u32]) {
        let conn = &mut *self.store.connection().unwrap();
        transaction(conn, |conn| {
            let row = cohorts::lock(conn, self.project, id)?.unwrap();
            let cohort = StaticCohort::from(&row);
            changes::edit(conn, &cohort, Cause::Upload, |_| {
                Ok(RoaringBitmap::from_iter(members))
            })
        })
        .unwrap();
    }

    /// Deletes a person as the operation does.
    fn delete(&self, ordinal: i64) {
        let conn = &mut *self.store.connection().unwrap();
        let key = self.project.shard_key();
        transaction(conn, |conn| {
            let locked = cohorts::lock_all(conn, self.project)?;
            let seq = events::begin_write(conn, key)?;
            persons::delete(conn, key, seq, ordinal)?;
            let persons = [ordinal as u32].into_iter().collect();
            changes::remove_persons(conn, key, &locked, &persons)
        })
        .unwrap();
    }
}

fn pass_of(
    passes: &LivePasses,
    project: ProjectId,
    clock: DateTime<Utc>,
    between: impl Fn(),
) -> PassOutcome {
    let held = passes.held(project).expect("a lease");
    let mut live = held.live.lock();
    let conn = &mut *passes.store.connection().unwrap();
    let result = passes.evaluate(conn, &mut live, clock).unwrap();
    let outcome = publish(passes, conn, &mut live, result, between).unwrap();
    held.progress.lock().set(live.position(), None);
    outcome
}
