//! The operations of the API contract, one file per resource.
//!
//! Each operation takes a request type and returns a response type. Paths, scopes and statuses are not decided here.
//! What several resources need is in [`present`] (rows to responses), [`lookup`] (ids to
//! persons) and [`activity_log`].

use std::time::Duration;

use actix_web::{HttpRequest, HttpResponse};
use cohorts_api::{
    Api, BodyMemory, Credentials, IdempotencyKey, Operation, Rejection, RequestHead, UploadPermit,
};

use crate::auth::{self, Caller};
use crate::background::WorkerSignal;
use crate::error::Error;
use crate::feed::ChangeWatch;
use crate::index::IndexedStore;
use crate::ingest::GroupCommit;
use crate::metrics::Metrics;
use crate::origin::Origin;
use crate::peer::{PeerSource, peer};
use crate::rate_limit::{RateLimiter, WrongKeys};
use crate::shares::ShareOwner;

mod actions;
mod activity;
mod activity_log;
mod admission;
mod capture;
mod catalogue;
mod changes;
mod cohorts;
mod console;
mod formula;
#[cfg(fuzzing)]
pub mod fuzzing;
mod known_persons;
mod links;
mod lookup;
mod members;
mod once;
mod person_file;
mod persons;
mod present;
mod projects;
mod responses;
mod uploads;
mod webhooks;

pub use admission::{RequestMemory, UploadDisk, WorkShares};
pub use capture::config_script;
pub use changes::Waited;
pub use cohorts::{MembershipQuestion, static_from_file};
pub use known_persons::KnownPersons;
use links::Links;
pub use lookup::PersonId;
pub use webhooks::WebhookTools;

/// The state that all handlers share. Clones share everything.
#[derive(Clone)]
pub struct Service {
    pub store: IndexedStore,
    pub signal: WorkerSignal,
    /// Wakes readers of feeds.
    pub changes: ChangeWatch,
    pub metrics: Metrics,
    pub group_commit: GroupCommit,
    pub memory: RequestMemory,
    pub shares: WorkShares,
    pub upload_disk: UploadDisk,
    pub webhooks: WebhookTools,
    /// The beginning of links in responses.
    pub origin: Origin,
    /// Where the address of a client is found.
    pub peer_source: PeerSource,
    /// `None` if requests are not limited.
    pub rate_limiter: Option<RateLimiter>,
    pub wrong_keys: WrongKeys,
    /// The tokens of captures in headers and queries.
    pub tokens: WrongKeys,
    /// The tokens in bodies. Their look-ups hold a permit to decode, so they do not wait behind those of `tokens`.
    pub tokens_in_bodies: WrongKeys,
    /// The ordinals of persons that were looked up.
    pub known_persons: KnownPersons,
    /// Whether the service shows the console.
    pub with_console: bool,
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

/// The most rows on a page of any list but persons. A higher limit counts as this one.
const MAX_LIMIT: i64 = 1_000;

/// Limit and offset of a list. Invalid numbers count as absent.
fn limit_and_offset(limit: i64, offset: i64) -> (i64, i64) {
    let limit = if limit > 0 { limit } else { DEFAULT_LIMIT };
    (limit.min(MAX_LIMIT), offset.max(0))
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
        let credentials = credentials.ok_or(Error::NotAuthenticated)?;
        let (address, key) = (peer(request, self.peer_source), credentials.key.clone());
        let look_up = auth::authorize(&self.store, request, operation, credentials);
        let caller = self.wrong_keys.check(address, &key, look_up).await?;
        if let Some(limiter) = &self.rate_limiter {
            limiter.admit(caller.key).await?;
        }
        Ok(caller)
    }

    async fn admit(
        &self,
        request: &HttpRequest,
        operation: &'static Operation,
        caller: Option<&Caller>,
    ) -> Result<BodyMemory, Error> {
        let owner = match caller {
            Some(caller) => ShareOwner::Project(caller.project.id()),
            None => self.sender(request, operation).await?,
        };
        Ok(self.memory.of_body(owner))
    }

    async fn admit_upload(
        &self,
        request: &HttpRequest,
        _operation: &'static Operation,
        caller: &Caller,
        fields: &[(String, String)],
        length: Option<u64>,
    ) -> Result<UploadPermit, Error> {
        let cohort = request.match_info().get("id");
        self.permit_upload(caller, cohort, fields, length).await
    }

    async fn once(
        &self,
        operation: &'static Operation,
        key: IdempotencyKey,
        caller: Caller,
        run: impl AsyncFnOnce(Caller) -> Result<HttpResponse, Error> + 'static,
    ) -> Result<HttpResponse, Error> {
        self.carry_out_once(operation, key, caller, run).await
    }
}
