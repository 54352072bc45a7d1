//! Finds the personal API key of a request.

use actix_web::HttpRequest;
use actix_web::http::header;

use super::{Body, Query};

/// Name of the body field and of the query parameter.
const FIELD: &str = "personal_api_key";

/// The personal API key of a request. If the request contains several keys, it is the first in the order of [`CredentialSource`].
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The key, such as `phx_…`. It is not checked.
    pub key: String,
    /// The part of the request that contained the key.
    pub source: CredentialSource,
}

/// The parts of a request that can contain a key, in the order in which they are searched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CredentialSource {
    /// The header `Authorization: Bearer <key>`.
    Header,
    /// The field `personal_api_key` of a JSON or form body.
    Body,
    /// The query parameter `personal_api_key`.
    Query,
}

impl std::fmt::Debug for Credentials {
    /// Omits the key, which is a secret and must not be logged.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Credentials(from {:?})", self.source)
    }
}

impl Credentials {
    /// Searches the header, then the body, then the query.
    pub(crate) fn find(request: &HttpRequest, body: &Body) -> Option<Self> {
        let credentials = |source| move |key| Self { key, source };
        header_key(request)
            .map(credentials(CredentialSource::Header))
            .or_else(|| {
                body.text_field(FIELD)
                    .map(credentials(CredentialSource::Body))
            })
            .or_else(|| query_key(request).map(credentials(CredentialSource::Query)))
    }

    /// Whether the header contains a key. The body need not be read then.
    pub(crate) fn in_header(request: &HttpRequest) -> bool {
        header_key(request).is_some()
    }
}

/// Parses `Bearer` (case-sensitive), white space, and the key.
fn header_key(request: &HttpRequest) -> Option<String> {
    let value = request
        .headers()
        .get(header::AUTHORIZATION)?
        .to_str()
        .ok()?;
    let rest = value.strip_prefix("Bearer")?;
    let key = rest.trim();
    (rest.starts_with(char::is_whitespace) && !key.is_empty()).then(|| key.to_owned())
}

fn query_key(request: &HttpRequest) -> Option<String> {
    let key = Query::from_request(request).last(FIELD)?.to_owned();
    (!key.is_empty()).then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_omits_the_key() {
        let credentials = Credentials {
            key: "phx_secret".to_owned(),
            source: CredentialSource::Query,
        };
        assert_eq!(format!("{credentials:?}"), "Credentials(from Query)");
    }
}
