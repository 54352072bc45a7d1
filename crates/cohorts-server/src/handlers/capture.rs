//! Event capture: decodes the body, parses each item, and commits the valid ones before the response.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use actix_web::http::header;
use actix_web::web;
use chrono::Utc;
use cohorts_api::types::{
    AnalyticsAnswer, AnalyticsResult, AnalyticsResultResult, CaptureAnswer, CaptureAnswerStatus,
    CaptureConfig, NoFlags,
};
use cohorts_api::{
    CaptureAnalyticsRequest, CaptureAnalyticsResponse, CaptureApi, CaptureBatchRequest,
    CaptureBatchResponse, CaptureConfigRequest, CaptureConfigResponse, CaptureERequest,
    CaptureEResponse, CaptureEventRequest, CaptureEventResponse, CaptureIRequest, CaptureIResponse,
    CaptureTrackRequest, CaptureTrackResponse, DecideRequest, DecideResponse, FlagsRequest,
    FlagsResponse, Lent, RawBody, RawJson, RequestHead,
};
use cohorts_store::ProjectId;
use futures::future::try_join_all;
use serde::Deserialize;
use uuid::Uuid;

use super::{Service, acquire};
use crate::error::Error;
use crate::ingest::{self, Arrival, Item, Refusal};
use crate::logging::RequestId;

mod body;

use body::{Payload, decode};

/// The places of the token in an item, if the batch has none.
#[derive(Deserialize)]
struct ItemTokens {
    api_key: Option<String>,
    token: Option<String>,
    properties: Option<TokenProperty>,
}

#[derive(Deserialize)]
struct TokenProperty {
    token: Option<String>,
}

impl CaptureApi for Service {
    async fn capture_batch(
        &self,
        request: CaptureBatchRequest,
    ) -> Result<CaptureBatchResponse, Error> {
        let response = self.capture(request.raw, request.query.token).await?;
        Ok(CaptureBatchResponse::Status200(response))
    }

    async fn capture_event(
        &self,
        request: CaptureEventRequest,
    ) -> Result<CaptureEventResponse, Error> {
        let response = self.capture(request.raw, request.query.token).await?;
        Ok(CaptureEventResponse::Status200(response))
    }

    async fn capture_e(&self, request: CaptureERequest) -> Result<CaptureEResponse, Error> {
        let response = self.capture(request.raw, request.query.token).await?;
        Ok(CaptureEResponse::Status200(response))
    }

    async fn capture_i(&self, request: CaptureIRequest) -> Result<CaptureIResponse, Error> {
        let response = self.capture(request.raw, request.query.token).await?;
        Ok(CaptureIResponse::Status200(response))
    }

    async fn capture_track(
        &self,
        request: CaptureTrackRequest,
    ) -> Result<CaptureTrackResponse, Error> {
        let response = self.capture(request.raw, request.query.token).await?;
        Ok(CaptureTrackResponse::Status200(response))
    }

    async fn capture_analytics(
        &self,
        request: CaptureAnalyticsRequest,
    ) -> Result<CaptureAnalyticsResponse, Error> {
        let token = bearer(&request.http);
        let outcomes = self.commit(request.raw, token).await?;
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

/// The result of one item.
struct ItemOutcome {
    /// The uuid as it was sent.
    uuid: Option<String>,
    /// `None` if the item is valid.
    refusal: Option<Refusal>,
}

impl Service {
    async fn capture(&self, body: RawBody, token: Option<String>) -> Result<CaptureAnswer, Error> {
        self.commit(body, token).await?;
        Ok(CaptureAnswer {
            status: CaptureAnswerStatus::Ok,
        })
    }

    /// Commits the valid items of a body. `token` is that of the header or the query.
    async fn commit(
        &self,
        body: RawBody,
        token: Option<String>,
    ) -> Result<Vec<ItemOutcome>, Error> {
        let batch = self.read_batch(body, token).await?;
        let lent = Arc::new(batch.lent);
        let commits = batch.items.into_iter().map(|(project, items)| {
            let lent = Arc::clone(&lent);
            self.group_commit.commit(project, items, lent)
        });
        try_join_all(commits).await?;
        Ok(batch.outcomes)
    }

    async fn read_batch(&self, body: RawBody, token: Option<String>) -> Result<ItemBatch, Error> {
        let permit = acquire(&self.decoding).await;
        let _permit = permit.map_err(|_| Error::Overloaded)?;
        let service = self.clone();
        let id = RequestId::current();
        let read = move || id.scope(|| ItemBatch::read(&service, body, token));
        web::block(read).await.map_err(|_| Error::Unavailable)?
    }

    fn lend(&self, bytes: usize) -> Result<Lent, Error> {
        self.budget.lend(bytes).ok_or(Error::Overloaded)
    }
}

/// Items may take this many bytes before their memory is taken from the budget.
const MAX_UNLENT: usize = 64 << 10;

/// The items of one request.
struct ItemBatch {
    items: BTreeMap<ProjectId, Vec<Item>>,
    outcomes: Vec<ItemOutcome>,
    lent: Lent,
    /// The bytes of the last items, which are not taken from the budget yet.
    unlent: usize,
}

impl ItemBatch {
    fn read(service: &Service, body: RawBody, token: Option<String>) -> Result<Self, Error> {
        let text = decode(&body)?;
        let lent = service.lend(text.len())?;
        // The encoded body is no longer needed; this frees its memory.
        drop(body);
        let payload = Payload::parse(&text)?;
        let mut projects = TokenProjects::new(service);
        let project = projects.of_batch(payload.token.or(token))?;
        let arrival = Arrival {
            now: Utc::now(),
            sent_at: payload.sent_at,
            is_export: false,
        };
        let mut batch = Self {
            items: BTreeMap::new(),
            outcomes: Vec::with_capacity(payload.items.len()),
            lent,
            unlent: 0,
        };
        for text in &payload.items {
            let project = match project {
                Some(project) => Some(project),
                None => projects.of_item(text)?,
            };
            batch.add(service, text, project, &arrival)?;
        }
        if !projects.has_token {
            return Err(missing_token());
        }
        if batch.items.is_empty() && project.is_none() {
            return Err(invalid_token());
        }
        batch.log_refusals();
        Ok(batch)
    }

    fn add(
        &mut self,
        service: &Service,
        text: &str,
        project: Option<ProjectId>,
        arrival: &Arrival,
    ) -> Result<(), Error> {
        let outcome = self.add_item(text, project, arrival);
        if self.unlent > MAX_UNLENT {
            self.lent.and(service.lend(self.unlent)?);
            self.unlent = 0;
        }
        if let Some(refusal) = &outcome.refusal {
            service.metrics.refused(refusal.reason());
        }
        self.outcomes.push(outcome);
        Ok(())
    }

    fn add_item(
        &mut self,
        text: &str,
        project: Option<ProjectId>,
        arrival: &Arrival,
    ) -> ItemOutcome {
        match (Item::read(text, arrival, Uuid::now_v7), project) {
            (Ok(item), Some(project)) => {
                let uuid = Some(item.uuid.to_string());
                self.unlent += item.memory() + size_of::<ItemOutcome>();
                self.items.entry(project).or_default().push(item);
                let refusal = None;
                ItemOutcome { uuid, refusal }
            }
            (Ok(item), None) => ItemOutcome {
                uuid: Some(item.uuid.to_string()),
                refusal: Some(Refusal::UnknownToken),
            },
            (Err(refusal), _) => ItemOutcome {
                uuid: ingest::sent_uuid(text),
                refusal: Some(refusal),
            },
        }
    }

    fn log_refusals(&self) {
        let outcomes = self.outcomes.iter();
        let refused = outcomes.filter(|outcome| outcome.refusal.is_some()).count();
        if refused > 0 {
            log::warn!("refused {refused} of {} items", self.outcomes.len());
        }
    }
}

/// The most different tokens in one request.
const MAX_TOKENS: usize = 16;

/// The projects of tokens. Each token is looked up once.
struct TokenProjects<'a> {
    service: &'a Service,
    projects: HashMap<String, Option<ProjectId>>,
    /// Whether any token was looked up.
    has_token: bool,
}

impl<'a> TokenProjects<'a> {
    fn new(service: &'a Service) -> Self {
        Self {
            service,
            projects: HashMap::new(),
            has_token: false,
        }
    }

    fn find(&mut self, token: &str) -> Result<Option<ProjectId>, Error> {
        self.has_token = true;
        if let Some(project) = self.projects.get(token) {
            return Ok(*project);
        }
        let project = if token.contains('\0') || self.projects.len() >= MAX_TOKENS {
            None
        } else {
            self.service.store.project_of_token(token)?
        };
        self.projects.insert(token.to_owned(), project);
        Ok(project)
    }

    /// The project of all items; `None` if the batch has no token.
    fn of_batch(&mut self, token: Option<String>) -> Result<Option<ProjectId>, Error> {
        match token.filter(|token| !token.is_empty()) {
            Some(token) => Ok(Some(self.find(&token)?.ok_or_else(invalid_token)?)),
            None => Ok(None),
        }
    }

    fn of_item(&mut self, item: &str) -> Result<Option<ProjectId>, Error> {
        match token_of(item) {
            Some(token) => self.find(&token),
            None => Ok(None),
        }
    }
}

fn token_of(item: &str) -> Option<String> {
    let tokens: ItemTokens = serde_json::from_str(item).ok()?;
    let token = tokens
        .api_key
        .or(tokens.token)
        .or_else(|| tokens.properties?.token);
    token.filter(|token| !token.is_empty())
}

fn missing_token() -> Error {
    Error::AuthenticationFailed {
        code: "not_authenticated",
        detail: "The project token is missing. Send it in the field `api_key`.".to_owned(),
    }
}

fn invalid_token() -> Error {
    Error::AuthenticationFailed {
        code: "invalid_api_key",
        detail: "The project token is not valid.".to_owned(),
    }
}
