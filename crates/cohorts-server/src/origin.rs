//! The origin with which links in responses begin.

use actix_web::http::Uri;
use cohorts_api::RequestHead;

/// The source of the origin: scheme, host, and perhaps a path.
#[derive(Clone, Debug, Default)]
pub enum Origin {
    /// The `Host` of the request.
    #[default]
    Request,
    /// The headers `Forwarded` or `X-Forwarded-…`, which a trusted proxy sets.
    Proxy,
    /// A fixed origin, such as `https://cohorts.example.org`, without a slash at its end.
    Fixed(String),
}

impl Origin {
    /// A fixed origin; `None` if `url` has no scheme or host, or has a query.
    pub fn fixed(url: &str) -> Option<Self> {
        let uri: Uri = url.parse().ok()?;
        let is_absolute =
            matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some();
        (is_absolute && uri.query().is_none())
            .then(|| Self::Fixed(url.trim_end_matches('/').to_owned()))
    }

    /// The origin for the response to a request.
    pub fn of(&self, head: &RequestHead) -> String {
        match self {
            Self::Request => head.origin(),
            Self::Fixed(origin) => origin.clone(),
            Self::Proxy => {
                let connection = head.request().connection_info();
                format!("{}://{}", connection.scheme(), connection.host())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fixed_origin_has_a_scheme_and_a_host() {
        let fixed = |url| match Origin::fixed(url) {
            Some(Origin::Fixed(origin)) => Some(origin),
            _ => None,
        };
        assert_eq!(fixed("https://a.org/").as_deref(), Some("https://a.org"));
        assert_eq!(
            fixed("http://a.org:80/x").as_deref(),
            Some("http://a.org:80/x")
        );
        for url in ["a.org", "ftp://a.org", "https://", "https://a.org/?b", ""] {
            assert_eq!(fixed(url), None, "{url}");
        }
    }
}
