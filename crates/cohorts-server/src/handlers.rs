//! The operations of the API contract, one file per resource.
//!
//! Each operation takes a request type and returns a response type. Paths, scopes and statuses are not decided here.
//! What several resources need is in [`present`] (rows to responses), [`lookup`] (ids to
//! persons) and [`activity_log`].

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
mod activity_log;
mod capture;
mod cohorts;
#[cfg(fuzzing)]
pub mod fuzzing;
mod links;
mod lookup;
mod members;
mod people_csv;
mod persons;
mod present;
mod projects;
mod uploads;

pub use capture::config_script;
use links::Links;

/// The state that all handlers share. Clones share everything.
#[derive(Clone)]
pub struct Service {
    pub store: IndexedStore,
    pub signal: WorkerSignal,
    pub metrics: Metrics,
    pub group_commit: GroupCommit,
    /// The memory for events between their arrival and their commit.
    pub budget: MemoryBudget,
    /// Limits the bodies of events that are decoded at the same time, because decoding uses a processor.
    pub decoding: Arc<Semaphore>,
    /// Limits the exports at the same time, because each holds a connection until its client has read everything.
    pub exports: Arc<Semaphore>,
    /// Limits the CSV files that are read at the same time, because each holds a connection.
    pub uploads: Arc<Semaphore>,
    /// Limits the previews at the same time, because each holds a connection.
    pub previews: Arc<Semaphore>,
    /// The beginning of links in responses.
    pub origin: Origin,
    /// `None` if requests are not limited.
    pub rate_limiter: Option<RateLimiter>,
    /// Requests that take at least this long are logged as warnings.
    pub slow: Duration,
}

impl Service {
    fn links(&self, head: &RequestHead) -> Links {
        Links::new(&self.origin, head)
    }
}

/// Rows on a page if the request has no valid limit.
const DEFAULT_LIMIT: i64 = 100;

/// Limit and offset of a list. Invalid numbers count as absent.
fn limit_and_offset(limit: i64, offset: i64) -> (i64, i64) {
    let limit = if limit > 0 { limit } else { DEFAULT_LIMIT };
    (limit, offset.max(0))
}

/// Permits of [`Service::decoding`].
pub const MAX_DECODING: usize = 4;
/// Permits each of exports, uploads and previews: far fewer than there are connections.
pub const MAX_LONG_REQUESTS: usize = 4;
/// How long a request waits for a permit, and an export for its client to read.
const WAIT_TIMEOUT: Duration = Duration::from_secs(30);

/// Waits for a permit, which is returned when it is dropped.
async fn acquire(semaphore: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, Error> {
    let permit = timeout(WAIT_TIMEOUT, Arc::clone(semaphore).acquire_owned()).await;
    permit.ok().and_then(Result::ok).ok_or(Error::Unavailable)
}

impl Api for Service {
    type Caller = Caller;
    type Error = Error;

    fn reject(&self, rejection: Rejection) -> Error {
        let earlier = match &rejection {
            Rejection::Field { preceding, .. } => cohorts::check_fields(preceding).err(),
            _ => None,
        };
        earlier.unwrap_or_else(|| rejection.into())
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
