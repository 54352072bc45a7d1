//! How events come in: the body is unpacked, each item read or refused, and the good ones are kept before the answer.

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
    FlagsResponse, RawBody, RawJson, RequestHead, Reservation,
};
use futures::future::try_join_all;
use serde::Deserialize;
use uuid::Uuid;

use super::{Service, turn};
use crate::error::Error;
use crate::ingest::{self, Arrival, Item, Refusal};
use crate::logging::RequestId;
use cohorts_store::ProjectId;

mod body;

use body::{Sent, unpacked};

/// Where an item may carry the token, if the batch does not.
#[derive(Deserialize)]
struct Token {
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
        let taken = self.capture(request.raw, request.query.token).await?;
        Ok(CaptureBatchResponse::Status200(taken))
    }

    async fn capture_event(
        &self,
        request: CaptureEventRequest,
    ) -> Result<CaptureEventResponse, Error> {
        let taken = self.capture(request.raw, request.query.token).await?;
        Ok(CaptureEventResponse::Status200(taken))
    }

    async fn capture_e(&self, request: CaptureERequest) -> Result<CaptureEResponse, Error> {
        let taken = self.capture(request.raw, request.query.token).await?;
        Ok(CaptureEResponse::Status200(taken))
    }

    async fn capture_i(&self, request: CaptureIRequest) -> Result<CaptureIResponse, Error> {
        let taken = self.capture(request.raw, request.query.token).await?;
        Ok(CaptureIResponse::Status200(taken))
    }

    async fn capture_track(
        &self,
        request: CaptureTrackRequest,
    ) -> Result<CaptureTrackResponse, Error> {
        let taken = self.capture(request.raw, request.query.token).await?;
        Ok(CaptureTrackResponse::Status200(taken))
    }

    async fn capture_analytics(
        &self,
        request: CaptureAnalyticsRequest,
    ) -> Result<CaptureAnalyticsResponse, Error> {
        let token = bearer(&request.http);
        let outcomes = self.kept(request.raw, token).await?;
        let results = outcomes.into_iter().filter_map(|outcome| {
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
        });
        Ok(CaptureAnalyticsResponse::Status200(AnalyticsAnswer {
            results: results.collect(),
        }))
    }

    async fn capture_config(
        &self,
        request: CaptureConfigRequest,
    ) -> Result<CaptureConfigResponse, Error> {
        if !may_be_token(&request.path.token) {
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

fn config() -> CaptureConfig {
    CaptureConfig {
        supported_compression: compressions(),
        has_feature_flags: false,
    }
}

/// What SDKs in browsers load as a script, for a token that is no script itself.
pub fn config_script(token: &str) -> Option<String> {
    if !may_be_token(token) {
        return None;
    }
    let config = serde_json::to_string(&config()).ok()?;
    Some(format!(
        "(window._POSTHOG_REMOTE_CONFIG = window._POSTHOG_REMOTE_CONFIG || {{}})[\"{token}\"] = \
         {{config: {config}, siteApps: []}};\n"
    ))
}

fn may_be_token(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    text.bytes().all(fits)
}

fn compressions() -> Vec<String> {
    vec!["gzip".to_owned(), "gzip-js".to_owned()]
}

fn no_flags() -> NoFlags {
    let nothing = || RawJson::trusted("{}".to_owned());
    NoFlags {
        flags: nothing(),
        feature_flags: nothing(),
        feature_flag_payloads: nothing(),
        errors_while_computing_flags: false,
        request_id: Uuid::new_v4(),
        supported_compression: compressions(),
        session_recording: false,
        site_apps: Vec::new(),
    }
}

/// The token in the header, where newer SDKs have it.
fn bearer(head: &RequestHead) -> Option<String> {
    let value = head.header(header::AUTHORIZATION)?;
    let token = value.strip_prefix("Bearer ")?.trim();
    (!token.is_empty()).then(|| token.to_owned())
}

/// What became of an item.
struct Outcome {
    /// As it was sent.
    uuid: Option<String>,
    refusal: Option<Refusal>,
}

impl Service {
    async fn capture(&self, body: RawBody, token: Option<String>) -> Result<CaptureAnswer, Error> {
        self.kept(body, token).await?;
        Ok(CaptureAnswer {
            status: CaptureAnswerStatus::Ok,
        })
    }

    /// Keeps what can be kept. `token` is that of a header or the query.
    async fn kept(&self, body: RawBody, token: Option<String>) -> Result<Vec<Outcome>, Error> {
        let turn = turn(&self.unpacking).await.map_err(|_| Error::Overloaded)?;
        let service = self.clone();
        let id = RequestId::current();
        let read = move || id.scope(|| service.read(body, token));
        let read = web::block(read).await.map_err(|_| Error::Unavailable)??;
        drop(turn);
        let commits = read.batches.into_iter();
        let lent = Arc::new(read.lent);
        let commits = commits.map(|(project, items)| {
            let lent = Arc::clone(&lent);
            self.group_commit.commit(project, items, lent)
        });
        try_join_all(commits).await?;
        Ok(read.outcomes)
    }

    fn lend(&self, bytes: usize) -> Result<Reservation, Error> {
        self.budget.reserve(bytes).ok_or(Error::Overloaded)
    }

    fn read(&self, body: RawBody, token: Option<String>) -> Result<Read, Error> {
        let text = unpacked(&body)?;
        let lent = self.lend(text.len())?;
        // From here on there is only what was unpacked.
        drop(body);
        let sent = Sent::read(&text)?;
        let arrival = Arrival {
            now: Utc::now(),
            sent_at: sent.sent_at,
            is_export: false,
        };
        let mut projects = Projects::new(self);
        let everywhere = match sent.token.or(token).filter(|token| !token.is_empty()) {
            Some(token) => Some(projects.find(&token)?.ok_or_else(invalid_token)?),
            None => None,
        };
        let mut read = Read {
            batches: BTreeMap::new(),
            outcomes: Vec::with_capacity(sent.items.len()),
            lent,
            owed: 0,
        };
        let mut has_token = everywhere.is_some();
        for text in &sent.items {
            let project = match everywhere {
                Some(project) => Some(project),
                None => match token_of(text) {
                    None => None,
                    Some(token) => {
                        has_token = true;
                        projects.find(&token)?
                    }
                },
            };
            let outcome = read.take(text, project, &arrival);
            if read.owed > STEP {
                let more = self.lend(read.owed)?;
                read.lent.merge(more);
                read.owed = 0;
            }
            if let Some(refusal) = &outcome.refusal {
                self.metrics.refused(refusal.reason());
            }
            read.outcomes.push(outcome);
        }
        if !has_token {
            return Err(no_token());
        }
        if read.batches.is_empty() && everywhere.is_none() {
            return Err(invalid_token());
        }
        let refused = read.outcomes.iter().filter(|one| one.refusal.is_some());
        match refused.count() {
            0 => {}
            count => log::warn!("refused {count} of {} items", read.outcomes.len()),
        }
        Ok(read)
    }
}

/// So many bytes of items are asked for at once.
const STEP: usize = 64 << 10;

/// What a request sends.
struct Read {
    batches: BTreeMap<ProjectId, Vec<Item>>,
    outcomes: Vec<Outcome>,
    lent: Reservation,
    /// What the last items take, for which nothing is lent yet.
    owed: usize,
}

impl Read {
    fn take(&mut self, text: &str, project: Option<ProjectId>, arrival: &Arrival) -> Outcome {
        match (Item::read(text, arrival, Uuid::now_v7), project) {
            (Ok(item), Some(project)) => {
                let uuid = Some(item.uuid.to_string());
                self.owed += item.memory() + size_of::<Outcome>();
                self.batches.entry(project).or_default().push(item);
                let refusal = None;
                Outcome { uuid, refusal }
            }
            (Ok(item), None) => Outcome {
                uuid: Some(item.uuid.to_string()),
                refusal: Some(Refusal::UnknownToken),
            },
            (Err(refusal), _) => Outcome {
                uuid: ingest::sent_uuid(text),
                refusal: Some(refusal),
            },
        }
    }
}

/// Projects that one request may send to.
const MOST_TOKENS: usize = 16;

/// The projects of tokens, each looked up once.
struct Projects<'a> {
    service: &'a Service,
    known: HashMap<String, Option<ProjectId>>,
}

impl<'a> Projects<'a> {
    fn new(service: &'a Service) -> Self {
        Self {
            service,
            known: HashMap::new(),
        }
    }

    fn find(&mut self, token: &str) -> Result<Option<ProjectId>, Error> {
        if let Some(known) = self.known.get(token) {
            return Ok(*known);
        }
        let found = match token.contains('\0') || self.known.len() >= MOST_TOKENS {
            true => None,
            false => self.service.store.project_of_token(token)?,
        };
        self.known.insert(token.to_owned(), found);
        Ok(found)
    }
}

fn token_of(item: &str) -> Option<String> {
    let token: Token = serde_json::from_str(item).ok()?;
    let token = token
        .api_key
        .or(token.token)
        .or_else(|| token.properties?.token);
    token.filter(|token| !token.is_empty())
}

fn no_token() -> Error {
    Error::AuthenticationFailed {
        code: "not_authenticated",
        detail: "The project's token is missing: name it in `api_key`.".to_owned(),
    }
}

fn invalid_token() -> Error {
    Error::AuthenticationFailed {
        code: "invalid_api_key",
        detail: "The project's token is not valid.".to_owned(),
    }
}
