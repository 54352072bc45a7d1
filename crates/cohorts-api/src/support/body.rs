//! Bodies: how they are received, and the fields of a JSON body or a form.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use actix_web::{HttpMessage, HttpRequest, web};
use bytes::Bytes;
use serde::de::DeserializeOwned;

use super::fields::{Field, UnknownFields, Violation, read_body, read_form};
use super::json;
use super::multipart::UploadedFile;
use super::{MemoryBudget, Rejection, Reservation, SMALL_BODY};

mod charge;
mod content_type;
mod incoming;
mod pace;
mod pending;

pub(super) use charge::BodyCharge;
pub use charge::{BodyMemory, BodyReservation};
use content_type::ContentType;
pub(super) use content_type::json_bytes;
pub(super) use pace::Pace;
pub(crate) use pending::{PendingBody, admit, authorize};

/// The content types of a body with fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Media {
    Json,
    #[allow(dead_code, reason = "constructed where the contract has a form body")]
    Form,
    #[allow(dead_code, reason = "constructed where the contract takes files")]
    Multipart,
}

impl Media {
    fn parse(media_type: &str) -> Option<Self> {
        let is = |name: &str| media_type.eq_ignore_ascii_case(name);
        if is("application/json") {
            Some(Self::Json)
        } else if is("application/x-www-form-urlencoded") {
            Some(Self::Form)
        } else if is("multipart/form-data") {
            Some(Self::Multipart)
        } else {
            None
        }
    }
}

/// How long a large body waits for the memory in which it is parsed.
const PARSING_WAIT: Duration = Duration::from_secs(30);
/// The most that the values of a body may take, as a multiple of the largest body.
const MAX_GROWTH: usize = 64;

/// The rules of a body with fields.
#[derive(Clone, Copy)]
pub(crate) struct BodyRules {
    pub fields: &'static [Field],
    /// The fields that only forms have.
    pub form: &'static [Field],
    pub unknown: UnknownFields,
}

/// A received body with fields.
pub(crate) struct Body {
    content: Arc<Content>,
    content_type: ContentType,
    files: Vec<UploadedFile>,
    parsing: Option<MemoryBudget>,
    limit: usize,
}

enum Content {
    Bytes(Bytes),
    /// Names and values of the fields of a multipart body.
    Pairs(Vec<(String, String)>),
}

/// The memory of a body, which a request holds until it has been answered.
struct HeldMemory(#[allow(dead_code, reason = "held until it is dropped")] Vec<Held>);

enum Held {
    Body(#[allow(dead_code, reason = "held until it is dropped")] BodyReservation),
    Parsing(#[allow(dead_code, reason = "held until it is dropped")] Reservation),
}

fn hold(request: &HttpRequest, memory: Held) {
    let mut extensions = request.extensions_mut();
    match extensions.get_mut::<HeldMemory>() {
        Some(held) => held.0.push(memory),
        None => drop(extensions.insert(HeldMemory(vec![memory]))),
    }
}

impl Body {
    /// The files of a multipart body.
    #[allow(dead_code, reason = "called where the contract takes files")]
    pub(crate) fn uploads(&self) -> Vec<UploadedFile> {
        self.files.clone()
    }

    /// Checks the fields by `rules` and deserializes them. A missing body is equivalent to an empty object.
    ///
    /// A large body is parsed on a thread that may block, after the memory of its values is reserved.
    pub(crate) async fn fields<T: DeserializeOwned + Send + 'static>(
        &self,
        request: &HttpRequest,
        accepted: &'static [Media],
        rules: BodyRules,
    ) -> Result<T, Rejection> {
        let media = self.media(accepted)?;
        if self.content.len() <= SMALL_BODY {
            self.content
                .check(media)
                .map_err(|why| self.explain(media, why))?;
            return self.content.read(media, rules);
        }
        let content = Arc::clone(&self.content);
        let bytes = blocking(move || content.check(media)).await;
        let bytes = bytes.map_err(|why| self.explain(media, why))?;
        self.reserve_values(request, bytes).await?;
        let content = Arc::clone(&self.content);
        blocking(move || content.read(media, rules)).await
    }

    /// Reads the fields that only forms have, after [`Self::fields`]; `None` for a JSON body.
    #[allow(dead_code, reason = "called where the contract has such fields")]
    pub(crate) fn form<T: DeserializeOwned>(
        &self,
        accepted: &[Media],
        rules: &[Field],
    ) -> Result<Option<T>, Rejection> {
        if self.media(accepted)? == Media::Json {
            return Ok(None);
        }
        let fields = self.content.read_form(rules);
        deserialize(fields.map_err(Violation::into_rejection)?).map(Some)
    }

    /// How the content is read. A missing body is read as a form without fields.
    fn media(&self, accepted: &[Media]) -> Result<Media, Rejection> {
        let media = match self.content.as_ref() {
            Content::Bytes(bytes) if bytes.is_empty() => return Ok(Media::Form),
            Content::Bytes(bytes) => self.content_type.of_body(bytes),
            Content::Pairs(_) => Some(Media::Multipart),
        };
        let media = media.filter(|media| accepted.contains(media));
        media.ok_or_else(|| Rejection::MediaType {
            media_type: self.content_type.text.clone(),
        })
    }

    fn explain(&self, media: Media, rejection: Rejection) -> Rejection {
        match media {
            Media::Json => self.content_type.explain(rejection),
            _ => rejection,
        }
    }

    /// Reserves memory for the values of a large body. One body takes at most three quarters of the budget.
    async fn reserve_values(&self, request: &HttpRequest, bytes: usize) -> Result<(), Rejection> {
        let limit = self.limit.saturating_mul(MAX_GROWTH);
        if bytes > limit {
            return Err(Rejection::TooComplex { bytes, limit });
        }
        let Some(budget) = &self.parsing else {
            return Ok(());
        };
        let bytes = bytes.min(budget.capacity() / 4 * 3);
        let reservation = budget.reserve_within(bytes, PARSING_WAIT).await;
        hold(
            request,
            Held::Parsing(reservation.ok_or(Rejection::LargeBodies)?),
        );
        Ok(())
    }
}

/// Runs `work` on a thread that may block.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Rejection> + Send + 'static,
) -> Result<T, Rejection> {
    web::block(work).await.map_err(|_| Rejection::Overloaded)?
}

impl Content {
    /// The bytes of all fields.
    fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Pairs(pairs) => pairs
                .iter()
                .map(|(name, text)| name.len() + text.len())
                .sum(),
        }
    }

    /// Checks the syntax of JSON, so that no part can fail to parse later. Returns the bytes that its values would take.
    fn check(&self, media: Media) -> Result<usize, Rejection> {
        match self {
            Self::Bytes(bytes) if media == Media::Json => {
                json::tree_bytes(text(bytes)?).map_err(malformed)
            }
            Self::Bytes(bytes) => content_type::check_form(bytes).map(|()| bytes.len()),
            Self::Pairs(pairs) => {
                let values = pairs.iter().filter(|(_, text)| json::is_container(text));
                Ok(values
                    .filter_map(|(_, text)| json::tree_bytes(text).ok())
                    .sum())
            }
        }
    }

    /// Reads the fields of checked content.
    fn read<T: DeserializeOwned>(&self, media: Media, rules: BodyRules) -> Result<T, Rejection> {
        let BodyRules { unknown, form, .. } = rules;
        let fields = match self {
            Self::Bytes(bytes) if media == Media::Json => {
                read_body(text(bytes)?, rules.fields, unknown)
            }
            content => content.read_form(rules.fields).and_then(|fields| {
                let known = [rules.fields, form];
                unknown.check(fields, content.names(), &known)
            }),
        };
        deserialize(fields.map_err(Violation::into_rejection)?)
    }

    /// Reads the fields of a form that have rules.
    fn read_form(&self, rules: &[Field]) -> Result<String, Violation> {
        match self {
            Self::Bytes(bytes) => read_form(&form_pairs(bytes, rules), rules),
            Self::Pairs(pairs) => read_form(pairs, rules),
        }
    }

    /// The names of the fields of a form.
    fn names(&self) -> Box<dyn Iterator<Item = Cow<'_, str>> + '_> {
        match self {
            Self::Bytes(bytes) => Box::new(form_urlencoded::parse(bytes).map(|(name, _)| name)),
            Self::Pairs(pairs) => Box::new(pairs.iter().map(|(name, _)| name.into())),
        }
    }
}

/// Builds a request type from fields that the rules have checked.
fn deserialize<T: DeserializeOwned>(fields: String) -> Result<T, Rejection> {
    serde_json::from_str(&fields).map_err(|error| Rejection::Field {
        attr: None,
        code: "invalid_input",
        detail: format!("Invalid data: {error}"),
        preceding: "{}".to_owned(),
    })
}

/// The fields of a form that have rules.
fn form_pairs<'a>(bytes: &'a [u8], rules: &[Field]) -> Vec<(Cow<'a, str>, Cow<'a, str>)> {
    let pairs = form_urlencoded::parse(bytes);
    pairs
        .filter(|(name, _)| rules.iter().any(|rule| rule.name == name))
        .collect()
}

/// The text of a body of JSON.
fn text(bytes: &[u8]) -> Result<&str, Rejection> {
    std::str::from_utf8(json_bytes(bytes)).map_err(malformed)
}

fn malformed(cause: impl std::fmt::Display) -> Rejection {
    Rejection::Malformed {
        detail: format!("JSON parse error - {cause}"),
    }
}
