//! Keeps the stored catalogue of each project up to its log.

use std::collections::{BTreeSet, HashMap};
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::{Duration, Instant};

use cohorts_store::{Conn, Error, ProjectId, ShardKey, definitions, projects};

use crate::index::IndexedStore;
use crate::index::catalogue::{HeadMoves, Rechecked};
use crate::metrics::Metrics;

/// The pause between two looks at the projects that were written.
const TICK: Duration = Duration::from_millis(200);
/// The pause between two looks at all projects: for writes of other processes, and for names to look up again.
const LOOK: Duration = Duration::from_secs(5);
/// The pause between two messages about the progress of a project.
const PROGRESS: Duration = Duration::from_secs(10);

/// Follows the logs until the signals are gone.
pub fn keep(store: &IndexedStore, metrics: &Metrics, signals: &Receiver<()>) {
    let mut keeper = CatalogueKeeper::default();
    while signals.recv_timeout(TICK) != Err(RecvTimeoutError::Disconnected) {
        if let Err(cause) = keeper.run(store, metrics) {
            log::warn!("the catalogue does not follow the log, will retry: {cause}");
        }
    }
}

/// Looks up doubtful names in the rows, until the signals are gone. This may take long, so it has a thread of its own.
pub fn recheck(store: &IndexedStore, signals: &Receiver<()>) {
    while signals.recv_timeout(LOOK) != Err(RecvTimeoutError::Disconnected) {
        if let Err(cause) = recheck_all(store, signals) {
            log::warn!("names of deleted persons may still be in a catalogue, will retry: {cause}");
        }
    }
}

fn recheck_all(store: &IndexedStore, signals: &Receiver<()>) -> Result<(), Error> {
    let conn = &mut *store.connection()?;
    let keys = shard_keys(conn, store)?;
    let catalogue = &store.caches.catalogue;
    for key in definitions::with_checks(conn, &keys)? {
        while catalogue.recheck(conn, key.project())? == Rechecked::Some {
            if signals.try_recv() == Err(TryRecvError::Disconnected) {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// The shard keys of the projects that can be reached.
fn shard_keys(conn: &mut Conn, store: &IndexedStore) -> Result<Vec<ShardKey>, Error> {
    let mut projects = projects::all(conn)?;
    projects.retain(|project| !store.outages.affect(*project));
    Ok(projects.iter().map(|project| project.shard_key()).collect())
}

#[derive(Default)]
struct CatalogueKeeper {
    /// Projects with names that are not stored yet.
    behind: BTreeSet<ProjectId>,
    looked: Option<Instant>,
    /// When the last message about a project was logged.
    reported: HashMap<ProjectId, Instant>,
}

impl CatalogueKeeper {
    fn run(&mut self, store: &IndexedStore, metrics: &Metrics) -> Result<(), Error> {
        self.behind.extend(store.signals.names.take());
        let is_looking = self.looked.is_none_or(|looked| looked.elapsed() >= LOOK);
        if self.behind.is_empty() && !is_looking {
            return Ok(());
        }
        let conn = &mut *store.connection()?;
        if is_looking {
            self.looked = Some(Instant::now());
            let keys = shard_keys(conn, store)?;
            let behind = definitions::behind(conn, &keys)?;
            self.behind
                .extend(behind.into_iter().map(ShardKey::project));
        }
        let mut result = Ok(());
        for project in std::mem::take(&mut self.behind) {
            if !store.outages.affect(project) {
                // A failure delays no other project.
                result = self.follow(conn, store, project).and(result);
            }
        }
        metrics.full_catalogues(store.caches.catalogue.full_count());
        result
    }

    fn follow(
        &mut self,
        conn: &mut Conn,
        store: &IndexedStore,
        project: ProjectId,
    ) -> Result<(), Error> {
        let followed = match store
            .caches
            .catalogue
            .follow(conn, project, HeadMoves::Needed)
        {
            Ok(followed) => followed,
            // A deleted project has no catalogue.
            Err(Error::ProjectGone) => return Ok(()),
            Err(cause) => {
                self.behind.insert(project);
                return Err(cause);
            }
        };
        if followed.became_full {
            log::warn!(
                "project {}: the catalogue is full, so it does not list further names of events and properties",
                project.0
            );
        }
        if followed.is_complete {
            if self.reported.remove(&project).is_some() {
                log::info!("project {}: the catalogue is complete", project.0);
            }
            return Ok(());
        }
        self.behind.insert(project);
        let reported = self.reported.entry(project);
        let is_first = matches!(reported, std::collections::hash_map::Entry::Vacant(_));
        let reported = reported.or_insert_with(Instant::now);
        if is_first || reported.elapsed() >= PROGRESS {
            *reported = Instant::now();
            log::info!(
                "project {}: the catalogue has the names of {} of {} writes",
                project.0,
                followed.through,
                followed.log_head
            );
        }
        Ok(())
    }
}
