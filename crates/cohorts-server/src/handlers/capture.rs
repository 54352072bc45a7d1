//! Event capture: decodes the body, parses each item, and commits the valid ones before the response.

use std::sync::Arc;

use actix_web::http::header;
use cohorts_api::types::{
    AnalyticsAnswer, AnalyticsResult, AnalyticsResultResult, CaptureAnswer, CaptureAnswerStatus,
    CaptureConfig, NoFlags,
};
use cohorts_api::{
    CaptureAnalyticsRequest, CaptureAnalyticsResponse, CaptureApi, CaptureBatchRequest,
    CaptureBatchResponse, CaptureBrowserEventRequest, CaptureBrowserEventResponse,
    CaptureConfigRequest, CaptureConfigResponse, CaptureEventRequest, CaptureEventResponse,
    CaptureEventV0Request, CaptureEventV0Response, CaptureTrackRequest, CaptureTrackResponse,
    DecideRequest, DecideResponse, FlagsRequest, FlagsResponse, RawBody, RawJson, RequestHead,
};
use cohorts_store::Error as StoreError;
use futures::future::try_join_all;
use uuid::Uuid;

use super::Service;
use super::admission::{OUTAGE_WAIT, until_outage};
use crate::blocking;
use crate::error::Error;
use crate::ingest::CommitError;
use crate::peer::{network, peer};
use crate::shares::{Permit, ShareOwner};

mod batch;
mod body;
mod decoding;

pub(super) use batch::invalid_token;
#[cfg(fuzzing)]
pub use batch::token_of;
use batch::{BodyContext, ItemBatch, ItemOutcome, SentBatch};
#[cfg(fuzzing)]
pub use body::{Payload, decode};
#[cfg(not(fuzzing))]
use decoding::DecodingMemory;
#[cfg(fuzzing)]
pub use decoding::DecodingMemory;

impl CaptureApi for Service {
    async fn capture_batch(
        &self,
        request: CaptureBatchRequest,
    ) -> Result<CaptureBatchResponse, Error> {
        let response = self
            .capture(&request.http, request.raw, request.query.token)
            .await?;
        Ok(CaptureBatchResponse::Status200(response))
    }

    async fn capture_event(
        &self,
        request: CaptureEventRequest,
    ) -> Result<CaptureEventResponse, Error> {
        let response = self
            .capture(&request.http, request.raw, request.query.token)
            .await?;
        Ok(CaptureEventResponse::Status200(response))
    }

    async fn capture_browser_event(
        &self,
        request: CaptureBrowserEventRequest,
    ) -> Result<CaptureBrowserEventResponse, Error> {
        let response = self
            .capture(&request.http, request.raw, request.query.token)
            .await?;
        Ok(CaptureBrowserEventResponse::Status200(response))
    }

    async fn capture_event_v0(
        &self,
        request: CaptureEventV0Request,
    ) -> Result<CaptureEventV0Response, Error> {
        let response = self
            .capture(&request.http, request.raw, request.query.token)
            .await?;
        Ok(CaptureEventV0Response::Status200(response))
    }

    async fn capture_track(
        &self,
        request: CaptureTrackRequest,
    ) -> Result<CaptureTrackResponse, Error> {
        let response = self
            .capture(&request.http, request.raw, request.query.token)
            .await?;
        Ok(CaptureTrackResponse::Status200(response))
    }

    async fn capture_analytics(
        &self,
        request: CaptureAnalyticsRequest,
    ) -> Result<CaptureAnalyticsResponse, Error> {
        let context = BodyContext {
            token: bearer(&request.http),
            query_sent_at: None,
            is_analytics: true,
        };
        let outcomes = self.commit(&request.http, request.raw, context).await?;
        // An item without a uuid has no result, so an error must tell that it was refused.
        if outcomes.iter().any(|outcome| outcome.uuid.is_none())
            && let Some(error) = batch::all_refused(&outcomes)
        {
            return Err(error);
        }
        let results = outcomes.into_iter().filter_map(analytics_result);
        Ok(CaptureAnalyticsResponse::Status200(AnalyticsAnswer {
            results: results.collect(),
        }))
    }

    async fn capture_config(
        &self,
        request: CaptureConfigRequest,
    ) -> Result<CaptureConfigResponse, Error> {
        if !is_token(&request.path.token) {
            return Err(Error::NotFound);
        }
        Ok(CaptureConfigResponse::Status200(config()))
    }

    async fn flags(&self, _request: FlagsRequest) -> Result<FlagsResponse, Error> {
        Ok(FlagsResponse::Status200(no_flags()))
    }

    async fn decide(&self, _request: DecideRequest) -> Result<DecideResponse, Error> {
        Ok(DecideResponse::Status200(no_flags()))
    }
}

/// The result of an item under its uuid; `None` if the item has no uuid.
fn analytics_result(outcome: ItemOutcome) -> Option<(String, AnalyticsResult)> {
    let result = match outcome.refusal {
        None => AnalyticsResult {
            result: AnalyticsResultResult::Ok,
            details: None,
        },
        Some(refusal) => AnalyticsResult {
            result: AnalyticsResultResult::Drop,
            details: Some(refusal.to_string()),
        },
    };
    Some((outcome.uuid?, result))
}

fn config() -> CaptureConfig {
    CaptureConfig {
        supported_compression: compressions(),
        has_feature_flags: false,
    }
}

/// The script that browser SDKs load; `None` if `token` could not be a token, so that it is never executed as script.
pub fn config_script(token: &str) -> Option<String> {
    if !is_token(token) {
        return None;
    }
    let config = serde_json::to_string(&config()).ok()?;
    Some(format!(
        "(window._POSTHOG_REMOTE_CONFIG = window._POSTHOG_REMOTE_CONFIG || {{}})[\"{token}\"] = \
         {{config: {config}, siteApps: []}};\n"
    ))
}

fn is_token(text: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    text.bytes().all(is_allowed)
}

fn compressions() -> Vec<String> {
    vec!["gzip".to_owned(), "gzip-js".to_owned()]
}

fn no_flags() -> NoFlags {
    let empty = || RawJson::trusted("{}".to_owned());
    NoFlags {
        flags: empty(),
        feature_flags: empty(),
        feature_flag_payloads: empty(),
        errors_while_computing_flags: false,
        request_id: Uuid::new_v4(),
        supported_compression: compressions(),
        session_recording: false,
        site_apps: Vec::new(),
    }
}

/// The token in the header, where newer SDKs send it.
fn bearer(head: &RequestHead) -> Option<String> {
    let value = head.header(header::AUTHORIZATION)?;
    let token = value.strip_prefix("Bearer ")?.trim();
    (!token.is_empty()).then(|| token.to_owned())
}

/// The time in the query at which a browser SDK sent the request.
fn sent_at(head: &RequestHead) -> Option<String> {
    let mut pairs = form_urlencoded::parse(head.query().as_bytes());
    pairs.find_map(|(name, value)| (name == "_").then(|| value.into_owned()))
}

impl Service {
    async fn capture(
        &self,
        head: &RequestHead,
        body: RawBody,
        token: Option<String>,
    ) -> Result<CaptureAnswer, Error> {
        let context = BodyContext {
            token,
            query_sent_at: sent_at(head),
            is_analytics: false,
        };
        let outcomes = self.commit(head, body, context).await?;
        match batch::all_refused(&outcomes) {
            Some(error) => Err(error),
            None => Ok(CaptureAnswer {
                status: CaptureAnswerStatus::Ok,
            }),
        }
    }

    /// Commits the valid items of a body.
    async fn commit(
        &self,
        head: &RequestHead,
        body: RawBody,
        context: BodyContext,
    ) -> Result<Vec<ItemOutcome>, Error> {
        let peer = network(peer(head.request(), self.peer_source));
        let sent = SentBatch {
            body,
            context,
            peer,
        };
        let batch = self.read_batch(sent).await?;
        for project in batch.items.keys() {
            self.store.outages.check(*project)?;
        }
        let reservation = Arc::new(batch.reservations);
        let commits = batch.items.into_iter().map(|(project, items)| {
            let reservation = Arc::clone(&reservation);
            let commit = self.group_commit.commit(project, items, reservation);
            until_outage(&self.store.outages, project, OUTAGE_WAIT, commit)
        });
        // The project may have been deleted after its token was read.
        let committed = try_join_all(commits).await;
        committed.map_err(|cause| match cause {
            CommitError::Store(StoreError::ProjectGone) => batch::invalid_token(),
            cause => cause.into(),
        })?;
        Ok(batch.outcomes)
    }

    async fn read_batch(&self, sent: SentBatch) -> Result<ItemBatch, Error> {
        let shares = self.shares.decoding(sent.body.bytes.len());
        let permit = shares.acquire(ShareOwner::Peer(sent.peer)).await?;
        let small = DecodingMemory::small(&self.memory);
        if let Some(batch) = self.decode(small, sent.clone(), permit).await? {
            return Ok(batch);
        }
        let owner = self.owner(&sent).await?;
        let turn = self.shares.large_decoding.acquire(owner).await;
        let turn = turn.map_err(|_| Error::Overloaded)?;
        let large = DecodingMemory::in_turn(&self.memory);
        let batch = self.decode(large, sent, turn).await?;
        batch.ok_or(Error::TooManyEvents)
    }

    /// The project of the token in the header or the query, else the peer.
    async fn owner(&self, sent: &SentBatch) -> Result<ShareOwner, Error> {
        let project = match sent.context.token.clone() {
            Some(token) => self.look_up_token(token).await?,
            None => None,
        };
        Ok(project.map_or(ShareOwner::Peer(sent.peer), ShareOwner::Project))
    }

    /// Decodes a batch on a thread that may block. Returns `None` if it takes more than `memory`.
    async fn decode(
        &self,
        memory: DecodingMemory,
        sent: SentBatch,
        permit: Permit,
    ) -> Result<Option<ItemBatch>, Error> {
        let service = self.clone();
        blocking::compute(move || {
            let _permit = permit;
            match ItemBatch::read(&service, &memory, sent) {
                Err(Error::TooManyEvents) => Ok(None),
                batch => batch.map(Some),
            }
        })
        .await
    }
}
