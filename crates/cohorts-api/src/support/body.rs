//! A body with fields, as JSON or as a form.

use std::time::Duration;

use actix_web::http::header;
use actix_web::rt::time::timeout;
use actix_web::{HttpRequest, web};
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::fields::{Field, Violation, read_form, read_object};
use super::multipart::{Parts, UploadedFile};
use super::request::read_bytes;
use super::{Credentials, Limits, Rejection};

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

/// Time limit for receiving a body with files.
#[allow(dead_code, reason = "used where the contract takes files")]
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(900);

/// A body and its content type.
pub(crate) struct Body {
    bytes: Bytes,
    /// The header `Content-Type`, with its parameters.
    content_type: String,
    /// A multipart body before [`receive`](Self::receive).
    payload: Option<web::Payload>,
    /// A multipart body after [`receive`](Self::receive).
    parts: Parts,
}

impl Body {
    /// Reads the body, unless it is multipart: that waits for [`receive`](Self::receive).
    pub(crate) async fn read(
        request: &HttpRequest,
        payload: web::Payload,
    ) -> Result<Self, Rejection> {
        let content_type = request.headers().get(header::CONTENT_TYPE);
        let mut body = Self::empty();
        if let Some(value) = content_type.and_then(|value| value.to_str().ok()) {
            value.clone_into(&mut body.content_type);
        }
        match Media::parse(body.media_type()) {
            Some(Media::Multipart) => body.payload = Some(payload),
            _ => body.bytes = read_bytes(payload, Limits::from_request(request).fields).await?,
        }
        Ok(body)
    }

    fn empty() -> Self {
        Self {
            bytes: Bytes::new(),
            content_type: String::new(),
            payload: None,
            parts: Parts::default(),
        }
    }

    /// Receives a multipart body: the parts named in `files` onto disk, the other parts as fields.
    /// Other bodies are returned unchanged.
    #[allow(dead_code, reason = "called where the contract takes files")]
    pub(crate) async fn receive(
        mut self,
        request: &HttpRequest,
        files: &[&str],
    ) -> Result<Self, Rejection> {
        if let Some(payload) = self.payload.take() {
            let parts = timeout(UPLOAD_TIMEOUT, Parts::receive(request, payload, files)).await;
            self.parts = parts.map_err(|_| Rejection::Timeout)??;
        }
        Ok(self)
    }

    /// The files of a multipart body.
    #[allow(dead_code, reason = "called where the contract takes files")]
    pub(crate) fn uploads(&self) -> Vec<UploadedFile> {
        self.parts.files.clone()
    }

    /// Reads the body of an operation without one, because it can contain the key.
    pub(crate) async fn read_for_key(request: &HttpRequest, payload: web::Payload) -> Self {
        if Credentials::in_header(request) {
            return Self::empty();
        }
        let body = Self::read(request, payload).await;
        body.unwrap_or_else(|_| Self::empty())
    }

    /// A text field at the top level. `None` if it is missing or empty, or if the body is invalid.
    pub(super) fn text_field(&self, name: &str) -> Option<String> {
        let text = match Media::parse(self.media_type())? {
            Media::Json => serde_json::from_slice::<Value>(&self.bytes)
                .ok()?
                .get(name)?
                .as_str()?
                .to_owned(),
            Media::Form => self.pairs().into_iter().rfind(|(key, _)| key == name)?.1,
            // The parts are received only after authorization.
            Media::Multipart => return None,
        };
        (!text.is_empty()).then_some(text)
    }

    /// Checks the fields by `rules` and deserializes them. A missing body is equivalent to an empty object.
    pub(crate) fn fields<T: DeserializeOwned>(
        &self,
        accepted: &[Media],
        rules: &[Field],
    ) -> Result<T, Rejection> {
        let media = Media::parse(self.media_type());
        let text = if self.bytes.is_empty() && media != Some(Media::Multipart) {
            read_form(&[], rules)
        } else {
            match media.filter(|media| accepted.contains(media)) {
                Some(Media::Json) => read_object(json_text(&self.bytes)?, rules),
                Some(Media::Form) => read_form(&self.pairs(), rules),
                Some(Media::Multipart) => read_form(&self.parts.pairs, rules),
                None => return Err(self.media_type_rejection()),
            }
        };
        let text = text.map_err(Violation::into_rejection)?;
        serde_json::from_str(&text).map_err(|error| Rejection::Field {
            attr: None,
            code: "invalid_input",
            detail: format!("Invalid data: {error}"),
            preceding: "{}".to_owned(),
        })
    }

    fn media_type(&self) -> &str {
        self.content_type
            .split(';')
            .next()
            .unwrap_or_default()
            .trim()
    }

    fn media_type_rejection(&self) -> Rejection {
        Rejection::MediaType {
            media_type: self.content_type.clone(),
        }
    }

    fn pairs(&self) -> Vec<(String, String)> {
        serde_urlencoded::from_bytes(&self.bytes).unwrap_or_default()
    }
}

/// The text of a JSON body. Parses all of it, so that no part can fail to parse later.
fn json_text(bytes: &Bytes) -> Result<&str, Rejection> {
    let malformed = |cause: String| Rejection::Malformed {
        detail: format!("JSON parse error - {cause}"),
    };
    let text = std::str::from_utf8(bytes).map_err(|error| malformed(error.to_string()))?;
    serde_json::from_str::<Value>(text).map_err(|error| malformed(error.to_string()))?;
    Ok(text)
}
