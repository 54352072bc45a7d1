//! Finds the personal API key of a request.

use actix_web::HttpRequest;
use actix_web::http::header;

use super::Query;

mod in_body;

pub(super) use in_body::in_body;

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
    /// The field `personal_api_key` in the first 64 KiB of a JSON or form body.
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
    fn new(source: CredentialSource) -> impl FnOnce(String) -> Self {
        move |key| Self { key, source }
    }

    /// The key of the header: `Bearer` (case-sensitive), white space, and the key.
    pub(super) fn in_header(request: &HttpRequest) -> Option<Self> {
        let value = request
            .headers()
            .get(header::AUTHORIZATION)?
            .to_str()
            .ok()?;
        let rest = value.strip_prefix("Bearer")?;
        let key = rest.trim();
        let is_key = rest.starts_with(char::is_whitespace) && !key.is_empty();
        is_key
            .then(|| key.to_owned())
            .map(Self::new(CredentialSource::Header))
    }

    /// The key of the query.
    pub(super) fn in_query(request: &HttpRequest) -> Option<Self> {
        let key = Query::from_request(request).last(FIELD)?.to_owned();
        Some(key)
            .filter(|key| !key.is_empty())
            .map(Self::new(CredentialSource::Query))
    }
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
