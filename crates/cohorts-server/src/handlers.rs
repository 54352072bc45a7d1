//! The operations of the contract, one file per resource. Each takes a request type and gives a response type;
//! paths, scopes and statuses are not decided here.

use std::sync::Arc;
use std::time::Duration;

use actix_web::HttpRequest;
use cohorts_api::{Api, Credentials, MemoryBudget, Operation, Rejection, RequestHead};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::auth::{self, Caller};
use crate::background::WorkerSignal;
use crate::error::Error;
use crate::index::IndexedStore;
use crate::ingest::GroupCommit;
use crate::metrics::Metrics;
use crate::origin::Origin;
use crate::rate_limit::RateLimiter;

mod actions;
mod activity;
mod capture;
mod cohorts;
mod links;
mod members;
mod people_csv;
mod persons;
mod projects;
mod uploads;

pub use capture::config_script;
use links::Links;

/// What every handler works with.
#[derive(Clone)]
pub struct Service {
    pub store: IndexedStore,
    pub signal: WorkerSignal,
    pub metrics: Metrics,
    pub group_commit: GroupCommit,
    /// The memory that events may take from when they come until they are kept.
    pub budget: MemoryBudget,
    /// Bodies that are unpacked at a time.
    pub unpacking: Arc<Semaphore>,
    /// Exports hold a connection as long as their readers take, so only some run at a time and others wait.
    pub exports: Arc<Semaphore>,
    /// So do uploads while they are read.
    pub uploads: Arc<Semaphore>,
    /// So do previews.
    pub previews: Arc<Semaphore>,
    /// What links in answers begin with.
    pub origin: Origin,
    /// Absent where requests are not limited.
    pub rate_limiter: Option<RateLimiter>,
    /// A request that takes longer is a warning in the log.
    pub slow: Duration,
}

impl Service {
    fn links(&self, head: &RequestHead) -> Links {
        Links::new(&self.origin, head)
    }
}

/// Rows on a page of a list, where none are asked for.
const DEFAULT_LIMIT: i64 = 100;

/// Limit and offset of a list, where what makes no sense counts as absent.
fn rows_of(limit: i64, offset: i64) -> (i64, i64) {
    let limit = if limit > 0 { limit } else { DEFAULT_LIMIT };
    (limit, offset.max(0))
}

/// Bodies of events that are unpacked at a time: it is work for a processor.
pub const UNPACKING: usize = 4;
/// Exports, uploads, and previews, that run at a time; far fewer than there are connections.
pub const LONG: usize = 4;
/// How long something waits for those before it, or for its reader to take a piece.
const PATIENCE: Duration = Duration::from_secs(30);

/// Waits for the turn of something that takes long; it lasts until it is dropped.
async fn turn(turns: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, Error> {
    let turn = timeout(PATIENCE, Arc::clone(turns).acquire_owned()).await;
    turn.ok().and_then(Result::ok).ok_or(Error::Unavailable)
}

impl Api for Service {
    type Caller = Caller;
    type Error = Error;

    fn reject(&self, why: Rejection) -> Error {
        let earlier = match &why {
            Rejection::Field { preceding, .. } => cohorts::judge(preceding).err(),
            _ => None,
        };
        earlier.unwrap_or_else(|| why.into())
    }

    async fn authorize(
        &self,
        request: &HttpRequest,
        operation: &'static Operation,
        credentials: Option<Credentials>,
    ) -> Result<Caller, Error> {
        let caller = auth::authorize(&self.store, request, operation, credentials).await?;
        if let Some(limiter) = &self.rate_limiter {
            limiter.admit(caller.key).await?;
        }
        Ok(caller)
    }
}
