//! A body that is read by field rules, as JSON or as a form.

use std::time::Duration;

use actix_web::http::header;
use actix_web::rt::time::timeout;
use actix_web::{HttpRequest, web};
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::fields::{Failure, Field, read_form, read_object};
use super::multipart::{Parts, Upload};
use super::request::read_bytes;
use super::{Credentials, Limits, Rejection};

/// The content types that field rules can read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Media {
    Json,
    #[allow(dead_code, reason = "constructed where the contract has a form body")]
    Form,
    #[allow(dead_code, reason = "constructed where the contract takes files")]
    Multipart,
}

impl Media {
    fn of(media_type: &str) -> Option<Self> {
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

/// How long a body with files may take to come.
#[allow(dead_code, reason = "used where the contract takes files")]
const UPLOAD_TIME: Duration = Duration::from_secs(900);

/// The bytes of a body and what they are said to be.
pub(crate) struct Body {
    bytes: Bytes,
    /// As sent, with its parameters.
    content_type: String,
    /// A multipart body that is not received yet, and what came out of it when it is.
    waiting: Option<web::Payload>,
    parts: Parts,
}

impl Body {
    /// Reads the whole body of an operation that has one.
    pub(crate) async fn read(
        request: &HttpRequest,
        payload: web::Payload,
    ) -> Result<Self, Rejection> {
        let content_type = request.headers().get(header::CONTENT_TYPE);
        let mut body = Self::empty();
        if let Some(value) = content_type.and_then(|value| value.to_str().ok()) {
            value.clone_into(&mut body.content_type);
        }
        match Media::of(body.media_type()) {
            Some(Media::Multipart) => body.waiting = Some(payload),
            _ => body.bytes = read_bytes(payload, Limits::of(request).fields).await?,
        }
        Ok(body)
    }

    fn empty() -> Self {
        Self {
            bytes: Bytes::new(),
            content_type: String::new(),
            waiting: None,
            parts: Parts::default(),
        }
    }

    #[allow(dead_code, reason = "called where the contract takes files")]
    /// Receives a multipart body, if it is one: the `files` onto disk, other parts as the fields of a form.
    pub(crate) async fn receive(
        mut self,
        request: &HttpRequest,
        files: &[&str],
    ) -> Result<Self, Rejection> {
        if let Some(payload) = self.waiting.take() {
            let received = timeout(UPLOAD_TIME, Parts::receive(request, payload, files)).await;
            self.parts = received.map_err(|_| Rejection::Late)??;
        }
        Ok(self)
    }

    #[allow(dead_code, reason = "called where the contract takes files")]
    /// The files that were received.
    pub(crate) fn uploads(&self) -> Vec<Upload> {
        self.parts.uploads.clone()
    }

    /// Reads the body of an operation that has none, which may carry a key all the same.
    pub(crate) async fn read_for_key(request: &HttpRequest, payload: web::Payload) -> Self {
        if Credentials::in_header(request) {
            return Self::empty();
        }
        let read = Self::read(request, payload).await;
        read.unwrap_or_else(|_| Self::empty())
    }

    /// A text at the top of the body; none if it is missing, blank or the body cannot be read.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        let text = match Media::of(self.media_type())? {
            Media::Json => serde_json::from_slice::<Value>(&self.bytes)
                .ok()?
                .get(name)?
                .as_str()?
                .to_owned(),
            Media::Form => self.pairs().into_iter().rfind(|(key, _)| key == name)?.1,
            // It is not received before it is known who sends it.
            Media::Multipart => return None,
        };
        (!text.is_empty()).then_some(text)
    }

    /// The fields of the body as a request type, after every rule has been met. An absent body has no fields.
    pub(crate) fn fields<T: DeserializeOwned>(
        &self,
        accepted: &[Media],
        rules: &[Field],
    ) -> Result<T, Rejection> {
        let media = Media::of(self.media_type());
        let text = if self.bytes.is_empty() && media != Some(Media::Multipart) {
            read_form(&[], rules)
        } else {
            match media.filter(|media| accepted.contains(media)) {
                Some(Media::Json) => read_object(json_text(&self.bytes)?, rules),
                Some(Media::Form) => read_form(&self.pairs(), rules),
                Some(Media::Multipart) => read_form(&self.parts.pairs, rules),
                None => return Err(self.unsupported()),
            }
        };
        let text = text.map_err(Failure::reject)?;
        serde_json::from_str(&text).map_err(|error| Rejection::Field {
            attr: None,
            code: "invalid_input",
            detail: format!("Invalid data: {error}"),
            before: "{}".to_owned(),
        })
    }

    fn media_type(&self) -> &str {
        self.content_type
            .split(';')
            .next()
            .unwrap_or_default()
            .trim()
    }

    fn unsupported(&self) -> Rejection {
        Rejection::MediaType {
            media_type: self.content_type.clone(),
        }
    }

    fn pairs(&self) -> Vec<(String, String)> {
        serde_urlencoded::from_bytes(&self.bytes).unwrap_or_default()
    }
}

/// The text of a body which is JSON through and through: no part of it can fail to parse later.
fn json_text(bytes: &Bytes) -> Result<&str, Rejection> {
    let malformed = |why: String| Rejection::Malformed {
        detail: format!("JSON parse error - {why}"),
    };
    let text = std::str::from_utf8(bytes).map_err(|error| malformed(error.to_string()))?;
    serde_json::from_str::<Value>(text).map_err(|error| malformed(error.to_string()))?;
    Ok(text)
}
