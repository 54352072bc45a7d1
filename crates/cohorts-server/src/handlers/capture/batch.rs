//! The items of one request, with the project of each. Everything that is read here is in memory only.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};
use cohorts_api::{RawBody, Reservation};
use cohorts_store::ProjectId;
use serde::Deserialize;
use uuid::Uuid;

use super::body::{Payload, decode};
use crate::error::Error;
use crate::handlers::Service;
use crate::ingest::{self, Arrival, FaultyTime, Item, Refusal, Scalar};

/// What a request says about its body, outside of the body.
#[derive(Debug, Default)]
pub struct BodyContext {
    /// The token in the header or the query.
    pub token: Option<String>,
    /// The time in the query, `_`.
    pub query_sent_at: Option<String>,
    /// Whether the body is a batch of the newer SDKs, in which `created_at` means `sent_at`.
    pub is_analytics: bool,
}

impl BodyContext {
    /// When the body was sent, by the clock of the client. As in PostHog, the body takes precedence over the query.
    fn sent_at(&self, payload: &Payload<'_>) -> Option<DateTime<Utc>> {
        let value = if self.is_analytics && payload.sent_at.is_absent() {
            &payload.created_at
        } else {
            &payload.sent_at
        };
        if !value.is_absent() {
            match ingest::instant(value) {
                Ok(time) => return Some(time),
                Err(fault) => {
                    let time = FaultyTime::new(fault, value);
                    log::warn!("the clock of a sender is not corrected by `sent_at`: {time}");
                }
            }
        }
        ingest::query_sent_at(self.query_sent_at.as_deref()?)
    }
}

/// The result of one item.
pub struct ItemOutcome {
    /// The uuid as it was sent.
    pub uuid: Option<String>,
    /// `None` if the item is valid.
    pub refusal: Option<Refusal>,
}

/// The bytes that items may take before their memory is reserved.
const MAX_UNRESERVED: usize = 64 << 10;
/// The bytes that one byte of a body takes while the items are found: a string with escapes is copied, and so are the
/// brackets of nested lists.
const SCAN_COST: usize = 2;
/// The bytes that one byte of an item takes while it is read: a member of six bytes takes a hundred.
const READ_COST: usize = 16;
/// The bytes of an outcome.
const OUTCOME_BYTES: usize = size_of::<ItemOutcome>() + 64;

/// The most replaced times of a request that are logged one by one.
const MAX_LOGGED_TIMES: usize = 5;

/// The items of one request.
pub struct ItemBatch {
    pub items: BTreeMap<ProjectId, Vec<Item>>,
    pub outcomes: Vec<ItemOutcome>,
    pub reservation: Reservation,
    /// The bytes of the last items, which are not reserved yet.
    unreserved: usize,
    /// Properties that were dropped because their names are too long.
    dropped: usize,
    /// Times that were replaced by the time of the arrival.
    replaced_times: usize,
}

impl ItemBatch {
    pub fn read(service: &Service, body: RawBody, context: BodyContext) -> Result<Self, Error> {
        let body = decode(&service.memory.events, body)?;
        let text = body.text()?;
        let scanning = reserve(service, text.len() * SCAN_COST)?;
        let payload = Payload::parse(text)?;
        drop(scanning);
        let mut projects = TokenProjects::new(service);
        let arrival = Arrival {
            now: Utc::now(),
            sent_at: context.sent_at(&payload),
            is_export: false,
        };
        let project = projects.of_batch(payload.token.or(context.token))?;
        let longest = payload.items.iter().map(|item| item.len()).max();
        let longest = longest.unwrap_or(0).min(ingest::MAX_ITEM_BYTES);
        let _reading = reserve(service, longest * READ_COST)?;
        let reservation = reserve(service, payload.items.len() * OUTCOME_BYTES)?;
        let mut batch = Self {
            items: BTreeMap::new(),
            outcomes: Vec::with_capacity(payload.items.len()),
            reservation,
            unreserved: 0,
            dropped: 0,
            replaced_times: 0,
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
        service.metrics.dropped_properties(batch.dropped);
        Ok(batch)
    }

    fn add(
        &mut self,
        service: &Service,
        text: &str,
        project: Option<ProjectId>,
        arrival: &Arrival,
    ) -> Result<(), Error> {
        let outcome = self.add_item(service, text, project, arrival);
        if self.unreserved > MAX_UNRESERVED {
            self.reservation.merge(reserve(service, self.unreserved)?);
            self.unreserved = 0;
        }
        if let Some(refusal) = &outcome.refusal {
            service.metrics.refused(refusal.reason());
        }
        self.outcomes.push(outcome);
        Ok(())
    }

    fn add_item(
        &mut self,
        service: &Service,
        text: &str,
        project: Option<ProjectId>,
        arrival: &Arrival,
    ) -> ItemOutcome {
        match (Item::read(text, arrival, Uuid::now_v7), project) {
            (Ok(mut item), Some(project)) => {
                if let Some(time) = item.replaced_time.take() {
                    service.metrics.replaced_timestamp(time.fault.reason());
                    self.log_replaced_time(&item.event, &time);
                }
                let uuid = Some(item.uuid.to_string());
                self.unreserved += item.memory();
                self.dropped += item.dropped;
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

    fn log_replaced_time(&mut self, event: &str, time: &FaultyTime) {
        self.replaced_times += 1;
        if self.replaced_times <= MAX_LOGGED_TIMES {
            log::warn!("the event `{event}` got the time of its arrival: {time}");
        }
    }

    fn log_refusals(&self) {
        if self.replaced_times > MAX_LOGGED_TIMES {
            let count = self.replaced_times;
            log::warn!("{count} events of one request got the time of their arrival");
        }
        let outcomes = self.outcomes.iter();
        let refused = outcomes.filter(|outcome| outcome.refusal.is_some()).count();
        if refused > 0 {
            log::warn!("refused {refused} of {} items", self.outcomes.len());
        }
        if self.dropped > 0 {
            log::warn!(
                "dropped {} properties with names longer than {} bytes",
                self.dropped,
                ingest::LONGEST_PROPERTY_NAME
            );
        }
    }
}

fn reserve(service: &Service, bytes: usize) -> Result<Reservation, Error> {
    service
        .memory
        .events
        .reserve(bytes)
        .ok_or(Error::Overloaded)
}

/// The most different tokens in one request.
const MAX_TOKENS: usize = 16;
/// The longest token, in bytes. Those of the service are far shorter.
const LONGEST_TOKEN: usize = 200;

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
        if token.len() > LONGEST_TOKEN {
            return Ok(None);
        }
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

/// The token in an item.
pub fn token_of(item: &str) -> Option<String> {
    let tokens: ItemTokens = serde_json::from_str(item).ok()?;
    let fields = [tokens.api_key, tokens.token].into_iter();
    let token = fields
        .chain(tokens.properties.map(|properties| properties.token))
        .find_map(Scalar::into_text);
    token.filter(|token| !token.is_empty())
}

fn missing_token() -> Error {
    Error::AuthenticationFailed {
        code: "not_authenticated",
        detail: "The project token is missing. Send it in the field `api_key`.".to_owned(),
    }
}

pub fn invalid_token() -> Error {
    Error::AuthenticationFailed {
        code: "invalid_api_key",
        detail: "The project token is not valid.".to_owned(),
    }
}

/// The places of the token in an item, if the batch has none.
#[derive(Deserialize)]
struct ItemTokens {
    #[serde(default)]
    api_key: Scalar,
    #[serde(default)]
    token: Scalar,
    properties: Option<TokenProperty>,
}

#[derive(Deserialize)]
struct TokenProperty {
    #[serde(default)]
    token: Scalar,
}
