//! Parameters in the path, the query, headers and cookies.

use std::str::FromStr;

use actix_web::HttpRequest;
use actix_web::http::header;
use chrono::{DateTime, NaiveDate, Utc};
use serde::Serialize;

use super::Rejection;
use super::fields::{Kind, check};

/// Parameters in the order of the request. If a parameter is repeated, the last value counts.
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn from_request(request: &HttpRequest) -> Self {
        let pairs = form_urlencoded::parse(request.query_string().as_bytes());
        Self(pairs.into_owned().collect())
    }

    pub(crate) fn from_path(request: &HttpRequest) -> Self {
        let pairs = request.match_info().iter();
        Self(
            pairs
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
        )
    }

    /// The headers that are text.
    pub(crate) fn from_headers(request: &HttpRequest) -> Self {
        let headers = request.headers().iter();
        let pairs = headers.filter_map(|(name, value)| {
            Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()))
        });
        Self(pairs.collect())
    }

    pub(crate) fn from_cookies(request: &HttpRequest) -> Self {
        let headers = request.headers().get_all(header::COOKIE);
        let texts = headers
            .filter_map(|value| value.to_str().ok())
            .flat_map(|text| text.split(';'));
        let pairs = texts.filter_map(|pair| pair.trim().split_once('='));
        Self(
            pairs
                .map(|(name, value)| (name.to_owned(), value.trim_matches('"').to_owned()))
                .collect(),
        )
    }

    /// The last value of a parameter. Names of headers are in lower case.
    pub(crate) fn last(&self, name: &str) -> Option<&str> {
        self.all(name).last()
    }

    fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        let pairs = self.0.iter().filter(move |(key, _)| key == name);
        pairs.map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self, name: &'static str) -> Result<Option<String>, Rejection> {
        Ok(self.last(name).map(str::to_owned))
    }

    /// All values of a repeated parameter.
    pub(crate) fn texts(&self, name: &'static str) -> Vec<String> {
        self.all(name).map(str::to_owned).collect()
    }

    pub(crate) fn integer(
        &self,
        name: &'static str,
        minimum: Option<i64>,
        maximum: Option<i64>,
    ) -> Result<Option<i64>, Rejection> {
        let number = self.parse::<i64>(name, "it must be an integer of 64 bits")?;
        within(name, number, &Kind::Integer { minimum, maximum })
    }

    pub(crate) fn boolean(&self, name: &'static str) -> Result<Option<bool>, Rejection> {
        self.parse(name, "it must be true or false")
    }

    /// Whether the parameter is one of `words`, case-insensitive.
    pub(crate) fn switch(&self, name: &'static str, words: &[&str]) -> bool {
        self.last(name)
            .is_some_and(|text| words.iter().any(|word| word.eq_ignore_ascii_case(text)))
    }

    pub(crate) fn instant(&self, name: &'static str) -> Result<Option<DateTime<Utc>>, Rejection> {
        let instant = self.parse::<DateTime<chrono::FixedOffset>>(
            name,
            "it must be a time such as 2026-01-31T12:00:00Z",
        )?;
        Ok(instant.map(|instant| instant.to_utc()))
    }

    pub(crate) fn date(&self, name: &'static str) -> Result<Option<NaiveDate>, Rejection> {
        self.parse(name, "it must be a date such as 2026-01-31")
    }

    pub(crate) fn uuid(&self, name: &'static str) -> Result<Option<uuid::Uuid>, Rejection> {
        self.parse(name, "it must be a UUID")
    }

    pub(crate) fn f64(&self, name: &'static str) -> Result<Option<f64>, Rejection> {
        let number = self.parse::<f64>(name, "it must be a number")?;
        match number.is_none_or(f64::is_finite) {
            true => Ok(number),
            false => Err(invalid(name, "it must be a number")),
        }
    }

    pub(crate) fn f32(&self, name: &'static str) -> Result<Option<f32>, Rejection> {
        Ok(self.f64(name)?.map(|number| number as f32))
    }

    /// A parameter that is one of the words of `T`.
    pub(crate) fn choice<T: FromStr>(&self, name: &'static str) -> Result<Option<T>, Rejection> {
        self.parse(name, "it is not one of the documented values")
    }

    /// A list: the values between separators, or those of a repeated parameter. `read` reads one item.
    pub(crate) fn list<T>(
        &self,
        name: &'static str,
        separator: Option<char>,
        read: impl Fn(&Self) -> Result<Option<T>, Rejection>,
    ) -> Result<Option<Vec<T>>, Rejection> {
        if self.last(name).is_none() {
            return Ok(None);
        }
        let texts: Vec<&str> = match separator {
            None => self.all(name).collect(),
            Some(separator) => {
                let text = self.last(name).unwrap_or_default();
                text.split(separator)
                    .map(str::trim)
                    .filter(|_| !text.is_empty())
                    .collect()
            }
        };
        let items = texts.into_iter().map(|text| {
            let item = Self(vec![(name.to_owned(), text.to_owned())]);
            required(name, read(&item)?)
        });
        items.collect::<Result<_, _>>().map(Some)
    }

    fn parse<T: FromStr>(&self, name: &'static str, detail: &str) -> Result<Option<T>, Rejection> {
        let value = self
            .last(name)
            .map(|text| text.parse().map_err(|_| invalid(name, detail)));
        value.transpose()
    }
}

fn invalid(name: &'static str, detail: impl Into<String>) -> Rejection {
    Rejection::Parameter {
        name,
        detail: detail.into(),
    }
}

/// Rejects the absence of a required parameter.
pub(crate) fn required<T>(name: &'static str, value: Option<T>) -> Result<T, Rejection> {
    value.ok_or_else(|| invalid(name, "it is required"))
}

/// Rejects a value that violates a rule.
pub(crate) fn within<T: Serialize>(
    name: &'static str,
    value: Option<T>,
    kind: &Kind,
) -> Result<Option<T>, Rejection> {
    if let Some(value) = &value {
        let mut value =
            serde_json::to_value(value).map_err(|error| invalid(name, error.to_string()))?;
        check(kind, &mut value).map_err(|violation| invalid(name, violation.detail))?;
    }
    Ok(value)
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

/// Rejects a request if the header `Accept` excludes all `offered` media types.
pub(crate) fn accepts(request: &HttpRequest, offered: &[&str]) -> Result<(), Rejection> {
    let Some(accept) = request.headers().get(header::ACCEPT) else {
        return Ok(());
    };
    let ranges = accept.to_str().unwrap_or("*/*").split(',');
    let mut ranges = ranges.map(|range| range.split(';').next().unwrap_or_default().trim());
    let is_offered = ranges.any(|range| {
        let family = range.strip_suffix('*');
        let covers = |offer: &&str| {
            range.eq_ignore_ascii_case(offer)
                || family.is_some_and(|family| offer.starts_with(family))
        };
        range.is_empty() || range == "*/*" || offered.iter().any(|offer| covers(&offer))
    });
    is_offered.then_some(()).ok_or(Rejection::NotAcceptable)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(pairs: &[(&str, &str)]) -> Query {
        let pairs = pairs.iter();
        Query(
            pairs
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
        )
    }

    #[test]
    fn lists_are_repeated_or_separated() {
        let repeated = query(&[("a", "1"), ("b", "x"), ("a", "2")]);
        assert_eq!(
            repeated.list("a", None, |item| item.integer("a", None, None)),
            Ok(Some(vec![1, 2]))
        );
        let separated = query(&[("a", "1|2")]);
        assert_eq!(
            separated.list("a", Some('|'), |item| item.integer("a", None, None)),
            Ok(Some(vec![1, 2]))
        );
        assert_eq!(
            separated.list("b", Some('|'), |item| item.text("b")),
            Ok(None)
        );
        assert!(
            separated
                .list("a", Some(','), |item| item.integer("a", None, None))
                .is_err()
        );
    }

    #[test]
    fn numbers_are_within_their_bounds() {
        let headers = query(&[("x-count", "3")]);
        assert_eq!(headers.integer("x-count", None, None), Ok(Some(3)));
        assert!(headers.integer("x-count", Some(4), None).is_err());
        assert!(query(&[]).f64("a").is_ok_and(|number| number.is_none()));
    }
}
