//! Links to the next and the previous page, with the origin and the path of the request.
//!
//! They never repeat a key or a token from its query, because links are logged, stored and passed on.

use actix_web::HttpMessage;
use cohorts_api::RequestHead;
use form_urlencoded::{Serializer, parse};

use crate::origin::Origin;
use crate::path_compat::OriginalUri;

/// Query parameters that contain keys or tokens.
pub const SECRETS: [&str; 4] = ["personal_api_key", "api_key", "secret_api_key", "token"];

/// The links in the response to one request.
pub struct Links {
    /// The address of the request without its query.
    base: String,
    query: String,
}

impl Links {
    pub fn new(origin: &Origin, head: &RequestHead) -> Self {
        let request = head.request();
        let original = request
            .extensions()
            .get::<OriginalUri>()
            .map(|original| original.0.clone());
        let uri = original.unwrap_or_else(|| request.uri().clone());
        Self {
            base: format!("{}{}", origin.of(head), uri.path()),
            query: without_secrets(uri.query().unwrap_or_default()),
        }
    }

    /// The link to a page. It contains `limit`, and `offset` unless it is 0; its parameters are sorted by name.
    pub fn page(&self, limit: i64, offset: i64) -> String {
        let mut pairs: Vec<(String, String)> = parse(self.query.as_bytes())
            .into_owned()
            .filter(|(key, _)| key != "limit" && key != "offset")
            .collect();
        pairs.push(("limit".to_owned(), limit.to_string()));
        if offset > 0 {
            pairs.push(("offset".to_owned(), offset.to_string()));
        }
        pairs.sort_by(|(left, _), (right, _)| left.cmp(right));
        let query = Serializer::new(String::new()).extend_pairs(pairs).finish();
        // PostHog encodes these two differently from the serializer.
        let query = query.replace("%7E", "~").replace('*', "%2A");
        format!("{}?{query}", self.base)
    }

    /// The links to the next and the previous page of a list of `count` rows.
    pub fn around(&self, limit: i64, offset: i64, count: i64) -> (Option<String>, Option<String>) {
        let after = offset.saturating_add(limit);
        let next = (after < count).then(|| self.page(limit, after));
        let previous = (offset > 0).then(|| self.page(limit, (offset - limit).max(0)));
        (next, previous)
    }

    /// The link of the request with parameters replaced in place, or appended if they are absent.
    pub fn with(&self, values: &[(&str, String)]) -> String {
        let mut parts: Vec<String> = Vec::new();
        let mut rest = values.to_vec();
        for part in self.query.split('&').filter(|part| !part.is_empty()) {
            let is_named = |(key, _): &(&str, String)| has_name(part, |name| name == *key);
            if !values.iter().any(is_named) {
                parts.push(part.to_owned());
            } else if let Some(at) = rest.iter().position(is_named) {
                let (key, value) = rest.remove(at);
                parts.push(format!("{key}={value}"));
            }
        }
        let appended = rest.iter().map(|(key, value)| format!("{key}={value}"));
        parts.extend(appended);
        format!("{}?{}", self.base, parts.join("&"))
    }
}

/// A query without the parameters in [`SECRETS`]; the others are unchanged.
fn without_secrets(query: &str) -> String {
    let is_secret = |name: &str| SECRETS.contains(&name.to_lowercase().as_str());
    let parts = query.split('&').filter(|part| !has_name(part, is_secret));
    parts.collect::<Vec<_>>().join("&")
}

/// Whether the name of a part of a query, which can be encoded, is one that is wanted.
fn has_name(part: &str, is_wanted: impl Fn(&str) -> bool) -> bool {
    parse(part.as_bytes()).any(|(name, _)| is_wanted(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_contain_no_secrets() {
        for (query, expected) in [
            ("a=1&personal_api_key=phx_a&b=%20c", "a=1&b=%20c"),
            ("personal%5Fapi_key=phx_a", ""),
            ("PERSONAL_API_KEY=phx_a&token=phc_a&api_key=phc_b", ""),
            ("personal_api_key&limit=2", "limit=2"),
            ("tokens=3&&", "tokens=3&&"),
        ] {
            assert_eq!(without_secrets(query), expected, "{query}");
        }
    }

    #[test]
    fn links_keep_the_other_parameters() {
        let links = Links {
            base: "http://h/p/".to_owned(),
            query: "type=static&offset=4&search=a+b~*".to_owned(),
        };
        let (next, previous) = links.around(2, 2, 5);
        assert_eq!(
            next.as_deref(),
            Some("http://h/p/?limit=2&offset=4&search=a+b~%2A&type=static")
        );
        assert_eq!(
            previous.as_deref(),
            Some("http://h/p/?limit=2&search=a+b~%2A&type=static")
        );
        assert_eq!(
            links.with(&[("offset", "6".to_owned()), ("limit", "2".to_owned())]),
            "http://h/p/?type=static&offset=6&search=a+b~*&limit=2"
        );
        let links = Links {
            base: "http://h/p/".to_owned(),
            query: "curso%72=1&%6Cimit&a=curso%72".to_owned(),
        };
        assert_eq!(
            links.with(&[("cursor", "2".to_owned()), ("limit", "3".to_owned())]),
            "http://h/p/?cursor=2&limit=3&a=curso%72"
        );
    }
}
