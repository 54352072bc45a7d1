//! Bodies: how they are received, and how they are parsed.

use actix_multipart::Multipart;
use actix_web::http::header;
use actix_web::{HttpRequest, web};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use serde::de::DeserializeOwned;

use super::fields::{Kind, check};
use super::forms::from_pairs;
use super::{Api, Limits, Operation, Rejection};

/// The media types that the server parses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Media {
    Json,
    Form,
    Multipart,
}

impl Media {
    fn parse(essence: &str) -> Option<Self> {
        match essence {
            "application/json" => Some(Self::Json),
            "application/x-www-form-urlencoded" => Some(Self::Form),
            "multipart/form-data" => Some(Self::Multipart),
            other => other.ends_with("+json").then_some(Self::Json),
        }
    }
}

/// A body that the handler parses.
#[derive(Debug, Clone)]
pub struct RawBody {
    /// The bytes as received.
    pub bytes: Bytes,
    /// The header `Content-Type`.
    pub content_type: String,
}

/// A file of a multipart body, in memory.
#[derive(Debug, Clone)]
pub struct UploadedFile {
    /// The name of the field.
    pub field: String,
    /// The name of the file, if the client sends one.
    pub file_name: Option<String>,
    /// The media type, if the client sends one.
    pub content_type: Option<String>,
    /// The content.
    pub bytes: Bytes,
}

/// A body of an admitted request, which is not received yet.
pub(crate) struct PendingBody {
    payload: web::Payload,
    content_type: String,
}

/// A received body.
pub(crate) struct Body {
    bytes: Bytes,
    /// The fields of a multipart body.
    pairs: Vec<(String, String)>,
    files: Vec<UploadedFile>,
    content_type: String,
}

/// Authorizes the caller. Its result is the only access to the body.
pub(crate) async fn authorize<A: Api>(
    api: &A,
    request: &HttpRequest,
    payload: web::Payload,
    operation: &'static Operation,
) -> Result<(A::Caller, PendingBody), A::Error> {
    let caller = api.authorize(request, operation).await?;
    Ok((caller, PendingBody::new(request, payload)))
}

/// Admits a request of an operation without security.
pub(crate) async fn admit<A: Api>(
    _api: &A,
    request: &HttpRequest,
    payload: web::Payload,
    _operation: &'static Operation,
) -> Result<PendingBody, A::Error> {
    Ok(PendingBody::new(request, payload))
}

fn invalid(detail: impl ToString) -> Rejection {
    Rejection::Body {
        path: String::new(),
        detail: detail.to_string(),
    }
}

/// The media type without parameters, in lower case.
fn essence(content_type: &str) -> String {
    let essence = content_type.split(';').next().unwrap_or_default();
    essence.trim().to_ascii_lowercase()
}

impl PendingBody {
    fn new(request: &HttpRequest, payload: web::Payload) -> Self {
        let value = request.headers().get(header::CONTENT_TYPE);
        let content_type = value
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        Self {
            payload,
            content_type: content_type.to_owned(),
        }
    }

    pub(crate) async fn receive(mut self, request: &HttpRequest) -> Result<Body, Rejection> {
        let limit = Limits::from_request(request).body;
        let mut bytes = BytesMut::new();
        while let Some(chunk) = self.payload.next().await {
            let chunk = chunk.map_err(invalid)?;
            if bytes.len() + chunk.len() > limit {
                return Err(Rejection::TooLarge { limit });
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(Body {
            bytes: bytes.freeze(),
            pairs: Vec::new(),
            files: Vec::new(),
            content_type: self.content_type,
        })
    }

    /// Receives a body. Of a multipart body, the parts named in `names` are files.
    pub(crate) async fn receive_with_files<A: Api>(
        self,
        api: &A,
        request: &HttpRequest,
        _operation: &'static Operation,
        names: &[&str],
    ) -> Result<Body, A::Error> {
        let body = match Media::parse(&essence(&self.content_type)) {
            Some(Media::Multipart) => self.receive_parts(request, names).await,
            _ => self.receive(request).await,
        };
        body.map_err(|rejection| api.reject(rejection))
    }

    async fn receive_parts(self, request: &HttpRequest, names: &[&str]) -> Result<Body, Rejection> {
        let Limits { body: limit, parts } = Limits::from_request(request);
        let mut body = Body {
            bytes: Bytes::new(),
            pairs: Vec::new(),
            files: Vec::new(),
            content_type: self.content_type,
        };
        let mut received = 0;
        let mut multipart = Multipart::new(request.headers(), self.payload);
        while let Some(field) = multipart.next().await {
            let mut field = field.map_err(invalid)?;
            if body.pairs.len() + body.files.len() >= parts {
                return Err(invalid(format!("it has more than {parts} parts")));
            }
            let mut bytes = BytesMut::new();
            while let Some(chunk) = field.next().await {
                let chunk = chunk.map_err(invalid)?;
                received += chunk.len();
                if received > limit {
                    return Err(Rejection::TooLarge { limit });
                }
                bytes.extend_from_slice(&chunk);
            }
            let name = field.name().unwrap_or_default().to_owned();
            if names.contains(&name.as_str()) {
                let disposition = field.content_disposition();
                body.files.push(UploadedFile {
                    field: name,
                    file_name: disposition
                        .and_then(|value| value.get_filename())
                        .map(str::to_owned),
                    content_type: field.content_type().map(ToString::to_string),
                    bytes: bytes.freeze(),
                });
            } else {
                let text = String::from_utf8(bytes.to_vec()).map_err(invalid)?;
                body.pairs.push((name, text));
            }
        }
        Ok(body)
    }

    /// Receives a body that the handler parses.
    pub(crate) async fn raw(self, request: &HttpRequest) -> Result<RawBody, Rejection> {
        let body = self.receive(request).await?;
        Ok(RawBody {
            bytes: body.bytes,
            content_type: body.content_type,
        })
    }
}

impl RawBody {
    /// Rejects a body of another media type.
    pub(crate) fn accept(self, accepted: &[&str]) -> Result<Self, Rejection> {
        let is_accepted =
            self.bytes.is_empty() || is_covered(accepted, &essence(&self.content_type));
        is_accepted.then_some(()).ok_or(Rejection::MediaType {
            media_type: self.content_type.clone(),
        })?;
        Ok(self)
    }
}

/// Whether a media type is one of the accepted ones, which may be ranges such as `image/*`.
fn is_covered(accepted: &[&str], media_type: &str) -> bool {
    accepted
        .iter()
        .map(|accepted| essence(accepted))
        .any(|accepted| {
            let family = accepted.strip_suffix('*');
            accepted == "*/*"
                || accepted == media_type
                || family.is_some_and(|family| media_type.starts_with(family))
        })
}

impl Body {
    /// Whether the request has no body.
    pub(crate) fn is_absent(&self) -> bool {
        self.bytes.is_empty() && self.pairs.is_empty() && self.files.is_empty()
    }

    /// The files of a multipart body, which must have those with the names `required`, unless the body is optional and
    /// absent.
    pub(crate) fn uploads(
        &self,
        required: &[&str],
        optional: bool,
    ) -> Result<Vec<UploadedFile>, Rejection> {
        let media = Media::parse(&essence(&self.content_type));
        let is_checked = matches!(media, Some(Media::Multipart)) && !(optional && self.is_absent());
        let is_missing = |name: &&&str| self.files.iter().all(|file| file.field != **name);
        match required.iter().filter(|_| is_checked).find(is_missing) {
            Some(name) => Err(Rejection::Body {
                path: (*name).to_owned(),
                detail: "it is required".to_owned(),
            }),
            None => Ok(self.files.clone()),
        }
    }

    /// The body, if its media type is one of those that the server does not parse.
    pub(crate) fn opaque(&self, accepted: &[&str]) -> Option<RawBody> {
        let media_type = essence(&self.content_type);
        let is_parsed = Media::parse(&media_type).is_some();
        (!is_parsed && is_covered(accepted, &media_type)).then(|| RawBody {
            bytes: self.bytes.clone(),
            content_type: self.content_type.clone(),
        })
    }

    /// Checks the body by a rule, and deserializes it. A form may have more fields, with these names.
    pub(crate) fn read<T: DeserializeOwned>(
        &self,
        accepted: &[Media],
        kind: &Kind,
        nullable: bool,
        form_names: &[&str],
    ) -> Result<T, Rejection> {
        let media = self.media(accepted)?;
        let mut value = match media {
            Media::Json => serde_json::from_slice(&self.bytes).map_err(invalid)?,
            _ => from_pairs(
                &self.form_pairs(media, |name| !form_names.contains(&name)),
                kind,
            ),
        };
        if !(nullable && value.is_null()) {
            check(kind, &mut value).map_err(|violation| violation.into_rejection())?;
        }
        serde_json::from_value(value).map_err(invalid)
    }

    /// Reads the fields that only forms have; `None` for a JSON body.
    pub(crate) fn form<T: DeserializeOwned>(
        &self,
        accepted: &[Media],
        kind: &Kind,
    ) -> Result<Option<T>, Rejection> {
        let media = self.media(accepted).ok();
        let Some(media) = media.filter(|media| *media != Media::Json) else {
            return Ok(None);
        };
        let mut value = from_pairs(&self.form_pairs(media, |name| kind.has_field(name)), kind);
        check(kind, &mut value).map_err(|violation| violation.into_rejection())?;
        serde_json::from_value(value).map(Some).map_err(invalid)
    }

    fn media(&self, accepted: &[Media]) -> Result<Media, Rejection> {
        let media = Media::parse(&essence(&self.content_type));
        media
            .filter(|media| accepted.contains(media))
            .ok_or_else(|| Rejection::MediaType {
                media_type: self.content_type.clone(),
            })
    }

    /// The fields of a form that have such names.
    fn form_pairs(&self, media: Media, has_name: impl Fn(&str) -> bool) -> Vec<(String, String)> {
        let pairs: Vec<_> = match media {
            Media::Multipart => self.pairs.clone(),
            _ => form_urlencoded::parse(&self.bytes).into_owned().collect(),
        };
        let named = pairs.into_iter().filter(|(name, _)| has_name(name));
        named.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(content_type: &str, files: &[&str]) -> Body {
        let file = |field: &&str| UploadedFile {
            field: (*field).to_owned(),
            file_name: None,
            content_type: None,
            bytes: Bytes::new(),
        };
        Body {
            bytes: Bytes::new(),
            pairs: Vec::new(),
            files: files.iter().map(file).collect(),
            content_type: content_type.to_owned(),
        }
    }

    #[test]
    fn a_required_file_must_be_in_a_multipart_body() {
        const MULTIPART: &str = "multipart/form-data; boundary=x";
        let present = body(MULTIPART, &["other", "file"]);
        assert_eq!(present.uploads(&["file"], true).unwrap().len(), 2);
        let missing = body(MULTIPART, &["other"]).uploads(&["file"], true);
        assert!(matches!(missing, Err(Rejection::Body { path, .. }) if path == "file"));
        let absent = body(MULTIPART, &[]);
        assert!(
            absent.uploads(&["file"], true).is_ok(),
            "the body is optional"
        );
        assert!(absent.uploads(&["file"], false).is_err());
        let json = body("application/json", &[]);
        assert!(json.uploads(&["file"], false).is_ok());
    }
}
