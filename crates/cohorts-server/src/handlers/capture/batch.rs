//! The items of one request, with the project of each. Everything that is read here is in memory only.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use chrono::{DateTime, Utc};
use cohorts_api::{RawBody, Reservation};
use cohorts_store::ProjectId;
use serde::Deserialize;
use serde::de::{IgnoredAny, MapAccess};
use tokio::runtime::Handle;
use uuid::Uuid;

use super::body::{BodyBytes, Payload, decode, parsing_bytes};
use super::decoding::DecodingMemory;
use crate::error::Error;
use crate::handlers::Service;
use crate::ingest::{
    self, Arrival, FaultyTime, FromMap, Item, ObjectField, Refusal, Scalar, Truncated,
};

/// What a request says about its body, outside of the body.
#[derive(Clone, Debug, Default)]
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

/// A batch before it is decoded.
#[derive(Clone)]
pub struct SentBatch {
    pub body: RawBody,
    pub context: BodyContext,
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
/// The refusals of one request that are logged.
const LOGGED_REFUSALS: usize = 3;
/// The characters of an event name in the log.
const SHOWN_CHARS: usize = 200;
/// The bytes of an outcome.
const OUTCOME_BYTES: usize = size_of::<ItemOutcome>() + 64;

/// The most replaced times of a request that are logged one by one.
const MAX_LOGGED_TIMES: usize = 5;

/// The items of one request.
pub struct ItemBatch {
    pub items: BTreeMap<ProjectId, Vec<Item>>,
    pub outcomes: Vec<ItemOutcome>,
    pub reservations: Vec<Reservation>,
    /// The bytes of the last items, which are not reserved yet.
    unreserved: usize,
    /// Properties that were dropped because their names are too long.
    dropped: usize,
    /// Why times were replaced by the time of the arrival.
    replaced_times: Vec<&'static str>,
    /// The log lines of the first of them.
    first_replaced_times: Vec<String>,
    truncated: Truncated,
    refused: usize,
    /// The log lines of the first refusals.
    first_refusals: Vec<String>,
}

impl ItemBatch {
    pub fn read(
        service: &Service,
        memory: &DecodingMemory,
        sent: SentBatch,
    ) -> Result<Self, Error> {
        let SentBatch {
            body,
            context,
            peer,
        } = sent;
        let body = decode(memory, body)?;
        let standard;
        let payload = match parse(memory, &body) {
            Ok(payload) => payload,
            Err(Error::TooManyEvents) => return Err(Error::TooManyEvents),
            Err(error) => {
                standard = body.standardized(memory)?.ok_or(error)?;
                parse(memory, &standard)?
            }
        };
        let mut projects = TokenProjects::new(service, peer);
        let arrival = Arrival {
            now: Utc::now(),
            sent_at: context.sent_at(&payload),
            is_export: false,
        };
        let project = projects.of_batch(payload.token.or(context.token))?;
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
            replaced_times: Vec::new(),
            first_replaced_times: Vec::new(),
            truncated: Truncated::default(),
            refused: 0,
            first_refusals: Vec::new(),
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
        if !projects.has_project() {
            return Err(invalid_token());
        }
        batch.log_refusals();
        batch.count(service);
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
        if let Some(refusal) = &outcome.refusal {
            self.add_refusal(text, project, refusal);
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
        let new_uuid = Uuid::now_v7();
        match (Item::read(text, arrival, || new_uuid), project) {
            (Ok(mut item), Some(project)) => {
                item.has_new_uuid = item.uuid == new_uuid;
                if let Some(time) = item.replaced_time.take() {
                    self.add_replaced_time(&item.event, &time);
                }
                let uuid = Some(item.uuid.to_string());
                self.unreserved += item.memory();
                self.dropped += item.dropped;
                self.truncated.add(item.truncated);
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

    fn add_replaced_time(&mut self, event: &str, time: &FaultyTime) {
        self.replaced_times.push(time.fault.reason());
        if self.replaced_times.len() <= MAX_LOGGED_TIMES {
            let line = format!("the event `{event}` got the time of its arrival: {time}");
            self.first_replaced_times.push(line);
        }
    }

    /// Adds a refusal, and describes it for the log if it is one of the first.
    fn add_refusal(&mut self, text: &str, project: Option<ProjectId>, refusal: &Refusal) {
        self.refused += 1;
        if self.first_refusals.len() == LOGGED_REFUSALS {
            return;
        }
        let project = match project {
            Some(project) => format!("project {}", project.0),
            None => "no project".to_owned(),
        };
        let item = match ingest::sent_event(text) {
            Some(name) => format!("the event {}", shortened(name)),
            None => "an item without an event name".to_owned(),
        };
        self.first_refusals
            .push(format!("{project}: refused {item}: {refusal}"));
    }

    /// Counts in the end, because a large body is read twice.
    fn count(&self, service: &Service) {
        let refusals = self.outcomes.iter();
        for refusal in refusals.filter_map(|outcome| outcome.refusal.as_ref()) {
            service.metrics.refused(refusal.reason());
        }
        for reason in &self.replaced_times {
            service.metrics.replaced_timestamp(reason);
        }
        service.metrics.dropped_properties(self.dropped);
        let Truncated {
            events,
            distinct_ids,
        } = self.truncated;
        service.metrics.truncated("event", events);
        service.metrics.truncated("distinct_id", distinct_ids);
    }

    /// Logs a bounded number of lines. The log escapes control characters.
    fn log_refusals(&self) {
        for line in &self.first_replaced_times {
            log::warn!("{line}");
        }
        let count = self.replaced_times.len();
        if count > MAX_LOGGED_TIMES {
            log::warn!("{count} events of one request got the time of their arrival");
        }
        for refusal in &self.first_refusals {
            log::warn!("{refusal}");
        }
        if self.refused > self.first_refusals.len() {
            let items = self.outcomes.len();
            log::warn!("refused {} of {items} items in total", self.refused);
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

/// The first characters of a text.
fn shortened(name: &str) -> String {
    name.chars().take(SHOWN_CHARS).collect()
}

/// The error for a request without a valid item; `None` if it has one or is empty.
pub fn all_refused(outcomes: &[ItemOutcome]) -> Option<Error> {
    let mut refusals = outcomes.iter().map(|outcome| outcome.refusal.as_ref());
    let first = refusals.next()??;
    if refusals.any(|refusal| refusal.is_none()) {
        return None;
    }
    let detail = match outcomes.len() {
        1 => format!("The event was refused: {first}."),
        count => format!("All {count} events were refused, the first because {first}."),
    };
    let missing = match first {
        Refusal::NoEvent => Some("event"),
        Refusal::NoDistinctId => Some("distinct_id"),
        _ => None,
    };
    Some(match missing {
        Some(field) => Error::Validation {
            attr: Some(field.to_owned()),
            code: "required",
            detail,
        },
        None => Error::Validation {
            attr: None,
            code: "invalid_payload",
            detail,
        },
    })
}

/// Finds the items of a body.
fn parse<'a>(memory: &DecodingMemory, body: &'a BodyBytes) -> Result<Payload<'a>, Error> {
    let text = body.text()?;
    let _parsing = memory.reserve(parsing_bytes(text))?;
    Payload::parse(text)
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

    /// Whether any of the tokens is valid.
    fn has_project(&self) -> bool {
        self.projects.values().any(Option::is_some)
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
        .chain(
            tokens
                .properties
                .into_object()
                .map(|properties| properties.token),
        )
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
    #[serde(default)]
    properties: ObjectField<TokenProperty>,
}

struct TokenProperty {
    token: Scalar,
}

impl FromMap for TokenProperty {
    fn from_map<'de, A: MapAccess<'de>>(mut map: A) -> Result<Self, A::Error> {
        let mut token = Scalar::Absent;
        while let Some(name) = map.next_key::<Cow<'_, str>>()? {
            if name == "token" {
                token = map.next_value()?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(Self { token })
    }
}
