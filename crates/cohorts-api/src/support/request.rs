//! The parts of a request other than query and fields: head, raw body, path and `Accept`.

use std::net::IpAddr;
use std::sync::Arc;

use actix_web::HttpRequest;
use actix_web::http::{Method, header};
use bytes::Bytes;

use super::{BodyReservation, Query, Rejection};

/// The head of a request, from which a handler builds links and chooses a format.
#[derive(Debug, Clone)]
pub struct RequestHead(HttpRequest);

impl RequestHead {
    pub(crate) fn new(request: HttpRequest) -> Self {
        Self(request)
    }

    /// The HTTP method.
    pub fn method(&self) -> &Method {
        self.0.method()
    }

    /// The scheme and host of the request, such as `http://localhost:8000`.
    ///
    /// The headers that a proxy adds are ignored.
    pub fn origin(&self) -> String {
        let config = self.0.app_config();
        let scheme = if config.secure() { "https" } else { "http" };
        let host = self.header(header::HOST).unwrap_or_else(|| config.host());
        format!("{scheme}://{host}")
    }

    /// The path of the request, with or without a trailing slash.
    pub fn path(&self) -> &str {
        self.0.path()
    }

    /// The query string without the question mark.
    pub fn query(&self) -> &str {
        self.0.query_string()
    }

    /// The header `Accept`, unless it is missing or not text.
    pub fn accept(&self) -> Option<&str> {
        self.header(header::ACCEPT)
    }

    /// The value of the header `name`, unless it is missing or not text.
    pub fn header(&self, name: header::HeaderName) -> Option<&str> {
        self.0.headers().get(name)?.to_str().ok()
    }

    /// The IP address of the peer. `None` if the connection has none, such as a Unix socket.
    pub fn peer(&self) -> Option<IpAddr> {
        self.0.peer_addr().map(|address| address.ip())
    }

    /// The whole request, without its body.
    pub fn request(&self) -> &HttpRequest {
        &self.0
    }
}

/// A body that the handler parses.
#[derive(Debug, Clone)]
pub struct RawBody {
    /// The bytes as received, possibly compressed.
    pub bytes: Bytes,
    /// The memory that the body takes.
    pub reservation: Option<Arc<BodyReservation>>,
    /// The header `Content-Type`.
    pub content_type: Option<String>,
    /// The header `Content-Encoding`.
    pub content_encoding: Option<String>,
}

/// A path parameter as text. The route's pattern guarantees that it is present.
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

/// Rejects a request if its `format` excludes all `offered` media types.
/// Without a `format`, the `Accept` header is checked instead.
#[allow(dead_code, reason = "called where the contract has a 406")]
pub(crate) fn accepts(request: &HttpRequest, offered: &[&str]) -> Result<(), Rejection> {
    let query = Query::from_request(request);
    if let Some(format) = query.last("format").filter(|format| !format.is_empty()) {
        let media_type = match format {
            "json" => "application/json",
            "csv" => "text/csv",
            "ndjson" => "application/x-ndjson",
            _ => return Err(Rejection::UnknownPath),
        };
        let is_offered = offered.contains(&media_type);
        return is_offered.then_some(()).ok_or(Rejection::UnknownPath);
    }
    let Some(accept) = request.headers().get(header::ACCEPT) else {
        return Ok(());
    };
    let is_offered = accept.to_str().is_ok_and(|accept| {
        let mut ranges = accept
            .split(',')
            .map(str::trim)
            .filter(|range| !range.is_empty());
        accept.trim().is_empty()
            || ranges.any(|range| offered.iter().any(|offer| covers(range, offer)))
    });
    is_offered.then_some(()).ok_or(Rejection::NotAcceptable)
}

/// Whether a media range such as `text/*;q=0.5` covers `media_type`.
#[allow(dead_code, reason = "called where the contract has a 406")]
fn covers(range: &str, media_type: &str) -> bool {
    let range = range.split(';').next().unwrap_or_default().trim();
    let family = media_type.split('/').next().unwrap_or_default();
    range == "*/*"
        || range.eq_ignore_ascii_case(media_type)
        || range
            .strip_suffix("/*")
            .is_some_and(|prefix| prefix.eq_ignore_ascii_case(family))
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    const OFFERED: &[&str] = &["application/json", "text/csv"];

    fn is_accepted(accept: &str) -> bool {
        let request = TestRequest::default().insert_header((header::ACCEPT, accept));
        accepts(&request.to_http_request(), OFFERED).is_ok()
    }

    #[test]
    fn one_covering_media_range_is_sufficient() {
        for accept in ["*/*", "text/*;q=0.5", "application/xml, Text/CSV", ""] {
            assert!(is_accepted(accept), "{accept}");
        }
        for accept in ["application/xml", "image/*", "text"] {
            assert!(!is_accepted(accept), "{accept}");
        }
    }

    #[test]
    fn format_that_is_not_offered_is_an_unknown_path() {
        let check = |query: &str| {
            let request = TestRequest::with_uri(&format!("/a?{query}"));
            accepts(&request.to_http_request(), OFFERED)
        };
        for query in ["format=csv", "format=json", "format=", "b=c"] {
            assert_eq!(check(query), Ok(()), "{query}");
        }
        for query in ["format=ndjson", "format=xml", "format=JSON"] {
            assert_eq!(check(query), Err(Rejection::UnknownPath), "{query}");
        }
    }

    #[test]
    fn missing_accept_header_accepts_everything() {
        let request = TestRequest::default().to_http_request();
        assert_eq!(accepts(&request, OFFERED), Ok(()));
    }

    #[test]
    fn origin_ignores_proxy_headers() {
        let request = TestRequest::with_uri("/a/b?c=d")
            .insert_header((header::HOST, "cohorts.test:8000"))
            .insert_header(("X-Forwarded-Host", "evil.test"))
            .insert_header(("Forwarded", "host=evil.test;proto=https"));
        let head = RequestHead::new(request.to_http_request());
        assert_eq!(head.origin(), "http://cohorts.test:8000");
        assert_eq!((head.path(), head.query()), ("/a/b", "c=d"));
    }
}
