//! The in-memory index of each project, and the other caches that follow the event log.
//!
//! Three caches follow the log: the index that plans are evaluated on ([`registry`]), the rankings of persons
//! ([`ranking`]), and the owners of distinct ids ([`distinct_ids`]). All of their contents may be dropped at any time,
//! because they are built from rows. Each knows the sequence number of the log that it is complete up to, and compares it
//! with the log head that its reader's transaction sees. Nothing here contains SQL or writes rows; checkpoints go through
//! the store.

use std::ops::Deref;
use std::sync::Arc;

use cohorts_engine::FilterError;
use cohorts_store::{Lane, Store};

mod actions;
mod advance;
pub mod background;
mod cache;
pub mod catalogue;
mod changed;
pub mod checkpoint;
pub mod columns;
pub mod distinct_ids;
mod events;
mod live;
mod load;
pub mod look_ups;
pub mod members;
pub mod memory;
pub mod person;
mod project;
pub mod ranking;
pub mod read;
pub mod references;
pub mod registry;
mod retirements;
pub mod segments;
pub mod snapshot;
pub mod stop;
#[cfg(test)]
mod tests;

use background::{BackgroundLoads, LoadProgress};
use catalogue::CatalogueCache;
use distinct_ids::DistinctIdCache;
use look_ups::LookUpCache;
use members::MemberCache;
use registry::IndexCache;

use crate::signals::Signals;

/// Why the index could not be read.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    #[error(transparent)]
    Store(#[from] cohorts_store::Error),
    /// The deadline of the caller passed.
    #[error("The calculation is taking too long; narrow the request.")]
    TimedOut,
    /// The data of a request is not loaded yet.
    #[error("{}", loading_detail(.0))]
    Loading(LoadProgress),
    /// A block takes more memory than the limit of the caller.
    #[error("The calculation exceeds its memory limit; narrow the request.")]
    OverBudget,
    /// An explanation reads more events of one person, or of their properties, than the limits.
    #[error(
        "The criteria read more than {} events of this person, or more than {} MiB of their properties; use shorter time windows.",
        person::MAX_EVENTS,
        person::MAX_BYTES >> 20
    )]
    TooManyEvents,
    #[error("Project not found.")]
    ProjectNotFound,
    /// Another thread has stopped the reader.
    #[error("A newer preview of the same API key has replaced this one.")]
    Stopped,
    /// The plan refers to a cohort that cannot be calculated.
    #[error(transparent)]
    Uncalculable(FilterError),
}

fn loading_detail(progress: &LoadProgress) -> String {
    let progress = match progress.elapsed {
        Some(elapsed) => format!("{} rows in {} seconds", progress.rows, elapsed.as_secs()),
        None => "it waits for other loads".to_owned(),
    };
    format!("The data is being loaded for the first time ({progress}); try again in 5 seconds.")
}

impl IndexError {
    /// The failure in words for the user of the cohort, without a text of the database.
    pub fn detail(&self) -> String {
        use cohorts_store::Error as StoreError;
        match self {
            Self::Store(StoreError::Unavailable(_)) => {
                "The database is not available; try again in a moment.".to_owned()
            }
            Self::Store(StoreError::TimedOut) => Self::TimedOut.to_string(),
            Self::Store(StoreError::DiskFull(_)) => "The disk of the database is full.".to_owned(),
            Self::Store(StoreError::Corrupt(_) | StoreError::Other(_)) => {
                "The calculation ended in an internal error; the log of the service has the cause."
                    .to_owned()
            }
            other => other.to_string(),
        }
    }
}

pub type IndexResult<T> = std::result::Result<T, IndexError>;

/// The caches that follow the log, under one memory budget. Their contents may be dropped at any time.
pub struct Caches {
    pub index: IndexCache,
    pub distinct_ids: DistinctIdCache,
    pub members: MemberCache,
    pub look_ups: LookUpCache,
    pub loads: BackgroundLoads,
    pub catalogue: CatalogueCache,
}

impl Default for Caches {
    fn default() -> Self {
        let index = IndexCache::default();
        Self {
            distinct_ids: DistinctIdCache::new(&index.memory),
            members: MemberCache::new(&index.memory),
            look_ups: LookUpCache::default(),
            loads: BackgroundLoads::default(),
            catalogue: CatalogueCache::default(),
            index,
        }
    }
}

/// The store, together with the caches that follow its log, and the signals of its writers. Clones share everything.
#[derive(Clone)]
pub struct IndexedStore {
    store: Store,
    pub caches: Arc<Caches>,
    pub signals: Signals,
}

impl IndexedStore {
    pub fn new(store: Store) -> Self {
        Self {
            store,
            caches: Arc::default(),
            signals: Signals::default(),
        }
    }

    /// The same store and caches with the connections of another lane.
    pub fn in_lane(&self, lane: Lane) -> Self {
        Self {
            store: self.store.in_lane(lane),
            caches: Arc::clone(&self.caches),
            signals: self.signals.clone(),
        }
    }
}

impl Deref for IndexedStore {
    type Target = Store;

    fn deref(&self) -> &Store {
        &self.store
    }
}
