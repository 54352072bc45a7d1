//! Parses the query parameters of a request.
//!
//! Each method returns `None` for an absent parameter and a [`Rejection`] for an invalid one.
//! For a parameter with `x-lenient` in the contract, generated code turns the rejection into `None`.
#![allow(dead_code, reason = "which methods are called depends on the contract")]

use std::str::FromStr;

use actix_web::HttpRequest;
use actix_web::http::header::HeaderValue;
use chrono::{DateTime, Utc};

use super::Rejection;
use super::fields::{Kind, read_boolean, read_instant, read_integer, read_text};

/// The parameters in the order of the request. If a parameter is repeated, the last value counts.
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn from_request(request: &HttpRequest) -> Self {
        Self(serde_urlencoded::from_str(request.query_string()).unwrap_or_default())
    }

    /// The headers that are text. Their names are in lower case.
    pub(crate) fn from_headers(request: &HttpRequest) -> Self {
        let headers = request.headers().iter();
        let text = |value: &HeaderValue| value.to_str().ok().map(str::to_owned);
        let pairs = headers.filter_map(|(name, value)| Some((name.to_string(), text(value)?)));
        Self(pairs.collect())
    }

    /// The last value of the parameter `name`.
    pub(crate) fn last(&self, name: &str) -> Option<&str> {
        let mut pairs = self.0.iter().rev();
        pairs
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self, name: &'static str) -> Result<Option<String>, Rejection> {
        Ok(self.last(name).map(str::to_owned))
    }

    /// All values of the parameter `name`.
    pub(crate) fn texts(&self, name: &'static str) -> Vec<String> {
        let pairs = self.0.iter().filter(|(key, _)| key == name);
        pairs.map(|(_, value)| value.clone()).collect()
    }

    pub(crate) fn integer(
        &self,
        name: &'static str,
        minimum: Option<i64>,
        maximum: Option<i64>,
    ) -> Result<Option<i64>, Rejection> {
        self.parse(name, |text| read_integer(text, minimum, maximum))
    }

    pub(crate) fn boolean(&self, name: &'static str) -> Result<Option<bool>, Rejection> {
        self.parse(name, read_boolean)
    }

    /// Whether the parameter is one of `words`, case-insensitive.
    pub(crate) fn switch(&self, name: &'static str, words: &[&str]) -> bool {
        self.last(name)
            .is_some_and(|text| words.iter().any(|word| word.eq_ignore_ascii_case(text)))
    }

    pub(crate) fn instant(&self, name: &'static str) -> Result<Option<DateTime<Utc>>, Rejection> {
        self.parse(name, read_instant)
    }

    /// A parameter that is one of the words of `T`.
    pub(crate) fn choice<T: FromStr>(&self, name: &'static str) -> Result<Option<T>, Rejection> {
        self.parse(name, |text| {
            text.parse()
                .map_err(|_| format!("\"{text}\" is not a valid choice."))
        })
    }

    fn parse<T>(
        &self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, Rejection> {
        self.last(name)
            .map(parse)
            .transpose()
            .map_err(|detail| Rejection::Query { attr: name, detail })
    }
}

/// Rejects a text that violates a rule.
pub(crate) fn within(
    name: &'static str,
    value: Option<String>,
    kind: &Kind,
) -> Result<Option<String>, Rejection> {
    let Some(text) = value else { return Ok(None) };
    let checked =
        read_text(kind, text).map_err(|detail| Rejection::Query { attr: name, detail })?;
    Ok(Some(checked))
}

/// Rejects the absence of a required parameter.
pub(crate) fn required<T>(name: &'static str, value: Option<T>) -> Result<T, Rejection> {
    value.ok_or_else(|| Rejection::Query {
        attr: name,
        detail: "This field is required.".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(text: &str) -> Query {
        Query(serde_urlencoded::from_str(text).unwrap())
    }

    fn rejected<T>(detail: &str) -> Result<T, Rejection> {
        Err(Rejection::Query {
            attr: "a",
            detail: detail.to_owned(),
        })
    }

    #[test]
    fn last_value_of_a_repeated_parameter_counts() {
        let query = query("a=1&b=2&a=x+y%21");
        assert_eq!(query.text("a"), Ok(Some("x y!".to_owned())));
        assert_eq!(query.texts("a"), ["1", "x y!"]);
    }

    #[test]
    fn absent_parameter_is_none() {
        let query = query("");
        assert_eq!(query.text("a"), Ok(None));
        assert_eq!(query.integer("a", None, None), Ok(None));
        assert_eq!(
            required("a", None::<i64>),
            rejected("This field is required.")
        );
    }

    #[test]
    fn empty_parameter_is_not_an_integer() {
        let result = query("a=").integer("a", None, None);
        assert_eq!(result, rejected("A valid integer is required."));
    }

    #[test]
    fn choice_is_parsed_from_text() {
        // A substitute for a generated enum; both implement `FromStr`.
        let choice = |text: &str| query(text).choice::<std::net::Ipv4Addr>("a");
        assert_eq!(
            choice("a=127.0.0.1"),
            Ok(Some(std::net::Ipv4Addr::LOCALHOST))
        );
        assert_eq!(
            choice("a=nope"),
            rejected("\"nope\" is not a valid choice.")
        );
    }

    #[test]
    fn switch_is_on_only_for_its_words() {
        let words = ["y", "true"];
        assert!(query("a=TRUE").switch("a", &words));
        assert!(!query("a=yes").switch("a", &words));
        assert!(!query("").switch("a", &words));
    }

    #[test]
    fn instant_is_converted_to_utc() {
        let instant = query("a=2026-03-01T13:00:00%2B01:00")
            .instant("a")
            .unwrap()
            .unwrap();
        assert_eq!(instant.to_rfc3339(), "2026-03-01T12:00:00+00:00");
    }
}
