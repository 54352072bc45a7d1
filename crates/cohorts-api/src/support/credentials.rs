//! Where a request may carry a key.

use actix_web::HttpRequest;
use actix_web::http::header;

use super::{Body, Query};

/// The name of the key's field in a body and of its query parameter.
const FIELD: &str = "personal_api_key";

/// The first key found in a request; others are not looked for.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    pub key: String,
    pub source: CredentialSource,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CredentialSource {
    Header,
    Body,
    Query,
}

impl std::fmt::Debug for Credentials {
    /// The key is a secret and stays out of logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Credentials(from {:?})", self.source)
    }
}

impl Credentials {
    /// Looks into the header, else the body, else the query.
    pub(crate) fn find(request: &HttpRequest, body: &Body) -> Option<Self> {
        let from = |source| move |key| Self { key, source };
        header_key(request)
            .map(from(CredentialSource::Header))
            .or_else(|| body.text(FIELD).map(from(CredentialSource::Body)))
            .or_else(|| query_key(request).map(from(CredentialSource::Query)))
    }

    /// Whether the header has a key, so that a body need not be read to find one.
    pub(crate) fn in_header(request: &HttpRequest) -> bool {
        header_key(request).is_some()
    }
}

/// `Bearer`, written just so, then one or more spaces, then the key.
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
    let key = Query::of(request).last(FIELD)?.to_owned();
    (!key.is_empty()).then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_not_printed() {
        let credentials = Credentials {
            key: "phx_secret".to_owned(),
            source: CredentialSource::Query,
        };
        assert_eq!(format!("{credentials:?}"), "Credentials(from Query)");
    }
}
