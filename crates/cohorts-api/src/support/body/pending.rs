//! The order of checks before a body is received: key or token first, then the body.
//!
//! Only [`authorize`] and [`admit`] create a [`PendingBody`], so no route receives a body without them.

use std::iter;

use actix_web::http::header;
use actix_web::{HttpRequest, web};
use memchr::memmem;

use super::super::credentials::in_body;
use super::super::multipart::Parts;
use super::super::{Api, Credentials, Limits, Operation, RawBody, Rejection};
use super::incoming::Incoming;
use super::{Body, BodyMemory, Content, ContentType, Held, Media, hold};

/// A body of an admitted request, which is not received yet.
pub(crate) struct PendingBody {
    incoming: Incoming,
    content_type: ContentType,
}

/// Authorizes the caller of an operation with a key.
///
/// With a key in the header, none of the body is read. Otherwise the first 64 KiB of the body are searched for a key, and
/// the query is the last choice. A key in the query is checked before the body is read nevertheless.
pub(crate) async fn authorize<A: Api>(
    api: &A,
    request: &HttpRequest,
    payload: web::Payload,
    operation: &'static Operation,
) -> Result<(A::Caller, PendingBody), A::Error> {
    if let Some(credentials) = Credentials::in_header(request) {
        let caller = api.authorize(request, operation, Some(credentials)).await?;
        let memory = api.admit(request, operation, Some(&caller)).await?;
        return Ok((caller, PendingBody::new(request, payload, memory)));
    }
    let mut by_query = None;
    if let Some(credentials) = Credentials::in_query(request) {
        by_query = Some(api.authorize(request, operation, Some(credentials)).await);
    }
    let memory = api.admit(request, operation, None).await?;
    let mut body = PendingBody::new(request, payload, memory);
    let limit = Limits::from_request(request).without_key;
    let received = body.incoming.receive(limit.saturating_add(1)).await;
    received.map_err(|why| api.reject(why))?;
    let is_searched = body.incoming.is_complete && body.incoming.bytes.len() <= limit;
    let start = &body.incoming.bytes[..body.incoming.bytes.len().min(limit)];
    let media = body.content_type.of_body(start);
    let key = in_body(request, media, start, is_searched).await;
    let caller = match (key, by_query) {
        (Some(key), _) => api.authorize(request, operation, Some(key)).await?,
        (None, Some(caller)) => caller?,
        (None, None) if !is_searched => {
            return Err(api.reject(Rejection::NoKey { searched: limit }));
        }
        (None, None) => api.authorize(request, operation, None).await?,
    };
    body.incoming.charge.memory = api.admit(request, operation, Some(&caller)).await?;
    Ok((caller, body))
}

/// Admits a request of an operation without a key.
pub(crate) async fn admit<A: Api>(
    api: &A,
    request: &HttpRequest,
    payload: web::Payload,
    operation: &'static Operation,
) -> Result<PendingBody, A::Error> {
    let memory = api.admit(request, operation, None).await?;
    Ok(PendingBody::new(request, payload, memory))
}

impl PendingBody {
    fn new(request: &HttpRequest, payload: web::Payload, memory: BodyMemory) -> Self {
        Self {
            incoming: Incoming::new(request, payload, memory),
            content_type: ContentType::of_request(request),
        }
    }

    fn is_multipart(&self) -> bool {
        self.content_type.declared() == Some(Media::Multipart)
    }

    /// Receives the whole body, unless it is too large to be one of a request with an `Idempotency-Key`.
    pub(crate) async fn receive_small(&mut self, request: &HttpRequest) -> Result<bool, Rejection> {
        let limits = Limits::from_request(request);
        let limit = match self.is_multipart() {
            true => limits.repeatable_upload,
            false => limits.fields,
        };
        let incoming = &mut self.incoming;
        if incoming.declared.is_some_and(|length| length > limit) {
            return Ok(false);
        }
        incoming.receive(limit.saturating_add(1)).await?;
        Ok(incoming.is_complete && incoming.bytes.len() <= limit)
    }

    /// The parts of the received body that a retry repeats: the media type, and the bytes without boundaries.
    pub(crate) fn repeated_parts(&self) -> impl Iterator<Item = &[u8]> {
        let boundary = self.content_type.boundary().unwrap_or_default();
        let media_type = self.content_type.media_type().as_bytes();
        iter::once(media_type).chain(split(&self.incoming.bytes, boundary.as_bytes()))
    }

    /// Receives a body with fields and without files. A multipart body is not received.
    pub(crate) async fn receive(self, request: &HttpRequest) -> Result<Body, Rejection> {
        let limit = Limits::from_request(request).fields;
        let parsing = self.incoming.charge.memory.parsing.clone();
        let mut content = Content::Pairs(Vec::new());
        if !self.is_multipart() {
            let (bytes, memory) = self.incoming.receive_all(limit).await?;
            hold(request, Held::Body(memory));
            content = Content::Bytes(bytes);
        }
        Ok(Body {
            content: content.into(),
            content_type: self.content_type,
            files: Vec::new(),
            parsing,
            limit,
        })
    }

    /// Receives a body with fields. Of a multipart body, the parts named in `files` go onto disk.
    #[allow(dead_code, reason = "called where the contract takes files")]
    pub(crate) async fn receive_with_files<A: Api>(
        self,
        api: &A,
        request: &HttpRequest,
        operation: &'static Operation,
        caller: &A::Caller,
        files: &[&str],
    ) -> Result<Body, A::Error> {
        if !self.is_multipart() {
            return self.receive(request).await.map_err(|why| api.reject(why));
        }
        let limits = Limits::from_request(request);
        let parsing = self.incoming.charge.memory.parsing.clone();
        let length = self.incoming.declared;
        if length.is_some_and(|length| length > limits.upload.saturating_add(limits.fields)) {
            let limit = limits.upload;
            return Err(api.reject(Rejection::TooLarge { limit }));
        }
        let length = length.map(|length| length as u64);
        let admit = async |fields: &[_]| {
            api.admit_upload(request, operation, caller, fields, length)
                .await
        };
        let (stream, charge, pace) = self.incoming.into_stream();
        let receiver = Parts::receiver(request.headers(), stream, files, limits, charge, pace);
        let parts = receiver.receive(|why| api.reject(why), admit).await?;
        hold(request, Held::Body(parts.memory));
        Ok(Body {
            content: Content::Pairs(parts.pairs).into(),
            content_type: self.content_type,
            files: parts.files,
            parsing,
            limit: limits.fields,
        })
    }

    /// Receives a body that the handler parses.
    pub(crate) async fn raw(self, request: &HttpRequest) -> Result<RawBody, Rejection> {
        let limit = Limits::from_request(request).raw;
        let content_encoding = request.headers().get(header::CONTENT_ENCODING);
        let content_encoding = content_encoding.and_then(|value| value.to_str().ok());
        let (bytes, memory) = self.incoming.receive_all(limit).await?;
        Ok(RawBody {
            bytes,
            reservation: Some(memory.into()),
            content_type: Some(self.content_type.text).filter(|text| !text.is_empty()),
            content_encoding: content_encoding.map(str::to_owned),
        })
    }
}

/// The parts of `bytes` between the occurrences of `separator`.
fn split<'a>(bytes: &'a [u8], separator: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    let mut rest = Some(bytes);
    iter::from_fn(move || {
        let bytes = rest?;
        let found = memmem::find(bytes, separator).filter(|_| !separator.is_empty());
        rest = found.map(|at| &bytes[at + separator.len()..]);
        Some(&bytes[..found.unwrap_or(bytes.len())])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_split_at_the_separator() {
        let parts = |bytes, separator| split(bytes, separator).collect::<Vec<_>>();
        assert_eq!(
            parts(b"--xa--xb--x--", b"--x"),
            [&b""[..], b"a", b"b", b"--"]
        );
        assert_eq!(parts(b"a--", b""), [b"a--"]);
        assert_eq!(parts(b"", b"x"), [b""]);
    }
}
