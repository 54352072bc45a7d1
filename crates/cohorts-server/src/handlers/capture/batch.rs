//! The items of one request, with the project of each. Everything that is read here is in memory only.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use chrono::Utc;
use cohorts_api::{RawBody, Reservation};
use cohorts_store::ProjectId;
use serde::Deserialize;
use tokio::runtime::Handle;
use uuid::Uuid;

use super::body::{Payload, decode, parsing_bytes};
use super::decoding::DecodingMemory;
use crate::error::Error;
use crate::handlers::Service;
use crate::ingest::{self, Arrival, Item, Refusal, Scalar};

/// A batch before it is decoded.
#[derive(Clone)]
pub struct SentBatch {
    pub body: RawBody,
    /// The token in the header or the query.
    pub token: Option<String>,
    pub peer: IpAddr,
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
/// The bytes that one byte of an item takes while it is read: a member of six bytes takes a hundred.
const READ_COST: usize = 16;
/// The bytes of an outcome.
const OUTCOME_BYTES: usize = size_of::<ItemOutcome>() + 64;

/// The items of one request.
pub struct ItemBatch {
    pub items: BTreeMap<ProjectId, Vec<Item>>,
    pub outcomes: Vec<ItemOutcome>,
    pub reservations: Vec<Reservation>,
    /// The bytes of the last items, which are not reserved yet.
    unreserved: usize,
    /// Properties that were dropped because their names are too long.
    dropped: usize,
}

impl ItemBatch {
    pub fn read(
        service: &Service,
        memory: &DecodingMemory,
        sent: SentBatch,
    ) -> Result<Self, Error> {
        let body = decode(memory, sent.body)?;
        let text = body.text()?;
        let parsing = memory.reserve(parsing_bytes(text))?;
        let payload = Payload::parse(text)?;
        drop(parsing);
        let mut projects = TokenProjects::new(service, sent.peer);
        let project = projects.of_batch(payload.token.or(sent.token))?;
        let arrival = Arrival {
            now: Utc::now(),
            sent_at: payload.sent_at,
            is_export: false,
        };
        let longest = payload.items.iter().map(|item| item.len()).max();
        let longest = longest.unwrap_or(0).min(ingest::MAX_ITEM_BYTES);
        let _reading = memory.reserve(longest * READ_COST)?;
        let reservation = memory.reserve(payload.items.len() * OUTCOME_BYTES)?;
        let mut batch = Self {
            items: BTreeMap::new(),
            outcomes: Vec::with_capacity(payload.items.len()),
            reservations: vec![reservation],
            unreserved: 0,
            dropped: 0,
        };
        for text in &payload.items {
            let project = match project {
                Some(project) => Some(project),
                None => projects.of_item(text)?,
            };
            batch.add(memory, text, project, &arrival)?;
        }
        if !projects.has_token {
            return Err(missing_token());
        }
        if batch.items.is_empty() && project.is_none() {
            return Err(invalid_token());
        }
        batch.count_refusals(service);
        Ok(batch)
    }

    fn add(
        &mut self,
        memory: &DecodingMemory,
        text: &str,
        project: Option<ProjectId>,
        arrival: &Arrival,
    ) -> Result<(), Error> {
        let outcome = self.add_item(text, project, arrival);
        if self.unreserved > MAX_UNRESERVED {
            self.reservations.push(memory.reserve(self.unreserved)?);
            self.unreserved = 0;
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

    fn count_refusals(&self, service: &Service) {
        let refusals = self.outcomes.iter();
        let refusals = refusals.filter_map(|outcome| outcome.refusal.as_ref());
        let mut refused = 0;
        for refusal in refusals {
            service.metrics.refused(refusal.reason());
            refused += 1;
        }
        service.metrics.dropped_properties(self.dropped);
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

/// The most different tokens in one request.
const MAX_TOKENS: usize = 16;
/// The longest token, in bytes. Those of the service are far shorter.
const LONGEST_TOKEN: usize = 200;

/// The projects of tokens. Each token is looked up once.
struct TokenProjects<'a> {
    service: &'a Service,
    peer: IpAddr,
    projects: HashMap<String, Option<ProjectId>>,
    /// Whether any token was looked up.
    has_token: bool,
}

impl<'a> TokenProjects<'a> {
    fn new(service: &'a Service, peer: IpAddr) -> Self {
        Self {
            service,
            peer,
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
            self.look_up(token)?
        };
        self.projects.insert(token.to_owned(), project);
        Ok(project)
    }

    /// Blocks while the look-ups of a peer that sends many unknown tokens take turns.
    fn look_up(&self, token: &str) -> Result<Option<ProjectId>, Error> {
        let look_up = async { Ok(self.service.store.project_of_token(token)?) };
        let tokens = &self.service.tokens_in_bodies;
        Handle::current().block_on(tokens.find(self.peer, token, look_up))
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
