//! The catalogue of each project: the names of events and properties, and the kinds of their values, for those who write a
//! filter.
//!
//! The names of a project are in memory, and equal to the stored definitions of a version. A write of the log by this process
//! compares its names with them, and leaves what is new as [`Evidence`]; a background thread stores it ([`follow`]). Other
//! writes are read from rows. Names that a deletion or a change has perhaps removed from all rows are looked up in the rows
//! again ([`recheck`]).

mod evidence;
mod follow;
mod kinds;
mod names;
mod recheck;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Instant;

use cohorts_store::definitions::{self, DefinitionHead};
use cohorts_store::{Conn, Error, ProjectId};
use parking_lot::Mutex;

pub use evidence::Evidence;
pub use follow::HeadMoves;
pub use kinds::{PropertyType, ValueKinds};
pub use names::CatalogueNames;
pub use recheck::Rechecked;

/// The most writes with evidence that waits in memory. Further ones are read from rows.
const MAX_WAITING: usize = 20_000;
/// The most projects in memory.
const MAX_PROJECTS: usize = 1_000;

/// The catalogues in memory. They may be dropped at any time.
#[derive(Default)]
pub struct CatalogueCache(Mutex<HashMap<ProjectId, Arc<Mutex<Catalogue>>>>);

/// The names of a project, as of a version of the stored definitions.
#[derive(Default)]
struct Catalogue {
    names: Arc<CatalogueNames>,
    /// `None` before the first load.
    version: Option<i64>,
    is_full: bool,
    /// Changes if names were removed, or if another process has changed them. Evidence of before does not count then.
    generation: u64,
    /// What writes of this process have added to the names, by sequence number.
    waiting: BTreeMap<i64, Evidence>,
    /// When this process last moved the stored head.
    moved: Option<Instant>,
}

/// The names of a project for a reader.
pub struct CatalogueRead {
    pub names: Arc<CatalogueNames>,
    /// Whether names are missing because there are too many.
    pub is_full: bool,
}

impl CatalogueCache {
    fn of(&self, project: ProjectId) -> Arc<Mutex<Catalogue>> {
        let mut projects = self.0.lock();
        if projects.len() >= MAX_PROJECTS && !projects.contains_key(&project) {
            projects.clear();
        }
        Arc::clone(projects.entry(project).or_default())
    }

    /// The names of a project as they are stored.
    ///
    /// # Errors
    ///
    /// Fails if the database fails.
    pub fn read(&self, conn: &mut Conn, project: ProjectId) -> Result<CatalogueRead, Error> {
        let catalogue = self.of(project);
        let head = definitions::head(conn, project.shard_key())?;
        let known = catalogue.lock().names_of(head.version);
        let (names, head) = match known {
            Some(names) => (names, head),
            None => load(conn, project, &catalogue)?,
        };
        let is_full = head.is_full;
        Ok(CatalogueRead { names, is_full })
    }

    /// The number of projects with too many names.
    pub fn full_count(&self) -> usize {
        let projects: Vec<_> = self.0.lock().values().map(Arc::clone).collect();
        let is_full = |project: &Arc<Mutex<Catalogue>>| project.lock().is_full;
        projects.iter().filter(|project| is_full(project)).count()
    }

    /// Takes what a committed write of this process shows. `evidence` compares its names with the known ones.
    pub fn note(
        &self,
        project: ProjectId,
        seq: i64,
        evidence: impl FnOnce(&CatalogueNames) -> Evidence,
    ) {
        let Some(catalogue) = self.0.lock().get(&project).map(Arc::clone) else {
            return;
        };
        let (names, generation) = {
            let catalogue = catalogue.lock();
            // A process that stores no names collects none.
            if catalogue.moved.is_none() || catalogue.waiting.len() >= MAX_WAITING {
                return;
            }
            (Arc::clone(&catalogue.names), catalogue.generation)
        };
        let evidence = evidence(&names);
        let mut catalogue = catalogue.lock();
        if catalogue.generation == generation {
            catalogue.waiting.insert(seq, evidence);
        }
    }
}

/// Reads the stored names, and keeps them in memory unless it has a newer version.
fn load(
    conn: &mut Conn,
    project: ProjectId,
    catalogue: &Mutex<Catalogue>,
) -> Result<(Arc<CatalogueNames>, DefinitionHead), Error> {
    let shard_key = project.shard_key();
    let (head, rows) = cohorts_store::snapshot(conn, |conn| {
        let head = definitions::head(conn, shard_key)?;
        Ok::<_, Error>((head, definitions::all(conn, shard_key)?))
    })?;
    let names = Arc::new(CatalogueNames::new(rows));
    let mut catalogue = catalogue.lock();
    if catalogue
        .version
        .is_none_or(|version| version < head.version)
    {
        catalogue.replace(Arc::clone(&names), head);
    }
    Ok((names, head))
}

impl Catalogue {
    /// The names of a version of the stored definitions; `None` if memory has another one.
    fn names_of(&self, version: i64) -> Option<Arc<CatalogueNames>> {
        (self.version == Some(version)).then(|| Arc::clone(&self.names))
    }

    /// Drops the evidence of writes that are stored.
    fn forget_through(&mut self, seq: i64) {
        if self
            .waiting
            .first_key_value()
            .is_some_and(|(first, _)| *first <= seq)
        {
            self.waiting = self.waiting.split_off(&(seq + 1));
        }
    }

    /// Takes names that may lack some of the former ones.
    fn replace(&mut self, names: Arc<CatalogueNames>, head: DefinitionHead) {
        self.names = names;
        self.version = Some(head.version);
        self.is_full = head.is_full;
        self.generation += 1;
        self.waiting.clear();
    }
}
