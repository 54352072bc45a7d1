//! The parts of a request that are not a body's fields.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use actix_web::http::{Method, header};
use actix_web::rt::time::timeout;
use actix_web::{HttpRequest, web};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;

use super::budget::{Budget, Lent};
use super::{Api, Body, Credentials, Limits, Operation, Query, Rejection};

/// What a handler may want to know of the request beside its parameters, to build links or to choose a format.
#[derive(Debug, Clone)]
pub struct RequestHead(HttpRequest);

impl RequestHead {
    pub(crate) fn new(request: HttpRequest) -> Self {
        Self(request)
    }

    pub fn method(&self) -> &Method {
        self.0.method()
    }

    /// The scheme and host that the caller used, such as `http://localhost:8000`.
    ///
    /// Taken from the request itself: headers that a proxy adds are not trusted here.
    pub fn origin(&self) -> String {
        let config = self.0.app_config();
        let scheme = if config.secure() { "https" } else { "http" };
        let host = self.header(header::HOST).unwrap_or_else(|| config.host());
        format!("{scheme}://{host}")
    }

    /// The path as requested, with or without a slash at its end.
    pub fn path(&self) -> &str {
        self.0.path()
    }

    /// The query as sent, without its question mark.
    pub fn query(&self) -> &str {
        self.0.query_string()
    }

    pub fn accept(&self) -> Option<&str> {
        self.header(header::ACCEPT)
    }

    /// The value of a header, unless it is missing or no text.
    pub fn header(&self, name: header::HeaderName) -> Option<&str> {
        self.0.headers().get(name)?.to_str().ok()
    }

    /// The address at the other end of the connection.
    pub fn peer(&self) -> Option<IpAddr> {
        self.0.peer_addr().map(|address| address.ip())
    }

    pub fn request(&self) -> &HttpRequest {
        &self.0
    }
}

/// A body that is handed on as it came.
#[derive(Debug, Clone)]
pub struct RawBody {
    pub bytes: Bytes,
    /// The memory that it takes, where that is bounded.
    pub lent: Option<Arc<Lent>>,
    pub content_type: Option<String>,
    pub content_encoding: Option<String>,
}

impl RawBody {
    pub(crate) async fn read(
        request: &HttpRequest,
        payload: web::Payload,
    ) -> Result<Self, Rejection> {
        let text = |name: header::HeaderName| {
            let value = request.headers().get(name)?.to_str().ok()?;
            Some(value.to_owned())
        };
        let budget = request.app_data::<web::Data<Budget>>();
        let limit = Limits::of(request).raw;
        let read = timeout(PATIENCE, read_within(budget, payload, limit)).await;
        let (bytes, lent) = read.map_err(|_| Rejection::Late)??;
        Ok(Self {
            bytes,
            lent: lent.map(Arc::new),
            content_type: text(header::CONTENT_TYPE),
            content_encoding: text(header::CONTENT_ENCODING),
        })
    }
}

/// A body that takes longer to come is given up, and the memory that it takes is given back.
const PATIENCE: Duration = Duration::from_secs(60);
/// What a request takes beside its body.
const OVERHEAD: usize = 4 << 10;
/// Memory for a body is lent in steps that double up to this one.
const STEP: usize = 64 << 10;

/// The whole body, if it has at most `limit` bytes and there is memory for it.
async fn read_within(
    budget: Option<&web::Data<Budget>>,
    mut payload: web::Payload,
    limit: usize,
) -> Result<(Bytes, Option<Lent>), Rejection> {
    let lend = |bytes| match budget {
        None => Ok(None),
        Some(budget) => budget.lend(bytes).ok_or(Rejection::Busy).map(Some),
    };
    let mut lent = lend(OVERHEAD)?;
    // A body may come in many small pieces.
    let mut paid = 0;
    let mut body = BytesMut::new();
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(|broken| Rejection::Malformed {
            detail: format!("The body could not be read: {broken}"),
        })?;
        let length = body.len() + chunk.len();
        if length > limit {
            return Err(Rejection::TooLarge { limit });
        }
        if length > paid {
            let more = (length - paid).max(STEP.min(paid.max(1 << 10)));
            if let (Some(lent), Some(more)) = (&mut lent, lend(more)?) {
                lent.and(more);
            }
            paid += more;
        }
        body.extend_from_slice(&chunk);
    }
    Ok((body.freeze(), lent))
}

/// The whole body, if it has at most `limit` bytes and comes in time.
pub(super) async fn read_bytes(payload: web::Payload, limit: usize) -> Result<Bytes, Rejection> {
    let read = timeout(PATIENCE, read_within(None, payload, limit)).await;
    let (bytes, _) = read.map_err(|_| Rejection::Late)??;
    Ok(bytes)
}

pub(crate) async fn authorize<A: Api>(
    api: &A,
    request: &HttpRequest,
    operation: &'static Operation,
    body: &Body,
) -> Result<A::Caller, A::Error> {
    let credentials = Credentials::find(request, body);
    api.authorize(request, operation, credentials).await
}

/// A part of the path as it is. It is never missing: the route's pattern has it.
pub(crate) fn path_text(request: &HttpRequest, name: &str) -> String {
    request
        .match_info()
        .get(name)
        .unwrap_or_default()
        .to_owned()
}

pub(crate) fn path_integer(request: &HttpRequest, name: &str) -> Result<i64, Rejection> {
    path_text(request, name)
        .parse()
        .map_err(|_| Rejection::Path)
}

#[allow(dead_code, reason = "called where the contract has a 406")]
/// Refuses a request for a `format`, or with an `Accept` header, that has none of the `offered` media types.
pub(crate) fn accepts(request: &HttpRequest, offered: &[&str]) -> Result<(), Rejection> {
    let query = Query::of(request);
    if let Some(format) = query.last("format").filter(|format| !format.is_empty()) {
        let wanted = match format {
            "json" => "application/json",
            "csv" => "text/csv",
            "ndjson" => "application/x-ndjson",
            _ => return Err(Rejection::UnknownPath),
        };
        let met = offered.contains(&wanted);
        return met.then_some(()).ok_or(Rejection::UnknownPath);
    }
    let Some(accept) = request.headers().get(header::ACCEPT) else {
        return Ok(());
    };
    let met = accept.to_str().is_ok_and(|accept| {
        let mut ranges = accept
            .split(',')
            .map(str::trim)
            .filter(|range| !range.is_empty());
        accept.trim().is_empty()
            || ranges.any(|range| offered.iter().any(|one| matches(range, one)))
    });
    met.then_some(()).ok_or(Rejection::NotAcceptable)
}

#[allow(dead_code, reason = "called where the contract has a 406")]
/// Whether a media range such as `text/*;q=0.5` covers a media type.
fn matches(range: &str, offered: &str) -> bool {
    let range = range.split(';').next().unwrap_or_default().trim();
    let family = offered.split('/').next().unwrap_or_default();
    range == "*/*"
        || range.eq_ignore_ascii_case(offered)
        || range
            .strip_suffix("/*")
            .is_some_and(|wanted| wanted.eq_ignore_ascii_case(family))
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    const OFFERED: &[&str] = &["application/json", "text/csv"];

    fn accepted(accept: &str) -> bool {
        let request = TestRequest::default().insert_header((header::ACCEPT, accept));
        accepts(&request.to_http_request(), OFFERED).is_ok()
    }

    #[test]
    fn a_range_that_covers_an_offer_is_enough() {
        for accept in ["*/*", "text/*;q=0.5", "application/xml, Text/CSV", ""] {
            assert!(accepted(accept), "{accept}");
        }
        for accept in ["application/xml", "image/*", "text"] {
            assert!(!accepted(accept), "{accept}");
        }
    }

    #[test]
    fn a_format_that_is_not_offered_is_as_unknown_as_a_path() {
        let read = |query: &str| {
            let request = TestRequest::with_uri(&format!("/a?{query}"));
            accepts(&request.to_http_request(), OFFERED)
        };
        for query in ["format=csv", "format=json", "format=", "b=c"] {
            assert_eq!(read(query), Ok(()), "{query}");
        }
        for query in ["format=ndjson", "format=xml", "format=JSON"] {
            assert_eq!(read(query), Err(Rejection::UnknownPath), "{query}");
        }
    }

    #[test]
    fn without_the_header_anything_is_accepted() {
        let request = TestRequest::default().to_http_request();
        assert_eq!(accepts(&request, OFFERED), Ok(()));
    }

    #[test]
    fn the_origin_is_the_host_asked_and_no_proxy_is_believed() {
        let request = TestRequest::with_uri("/a/b?c=d")
            .insert_header((header::HOST, "cohorts.test:8000"))
            .insert_header(("X-Forwarded-Host", "evil.test"))
            .insert_header(("Forwarded", "host=evil.test;proto=https"));
        let head = RequestHead::new(request.to_http_request());
        assert_eq!(head.origin(), "http://cohorts.test:8000");
        assert_eq!((head.path(), head.query()), ("/a/b", "c=d"));
    }
}
