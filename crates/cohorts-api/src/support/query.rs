//! The query of a request, read parameter by parameter.
//!
//! Each reader answers `None` for an absent parameter and a [`Rejection`] for one that cannot be read;
//! generated code turns the latter into `None` where the contract says that such a parameter counts as absent.
#![allow(dead_code, reason = "which readers are called depends on the contract")]

use std::str::FromStr;

use actix_web::HttpRequest;
use chrono::{DateTime, Utc};

use super::Rejection;
use super::fields::{read_boolean, read_instant, read_integer};

/// The parameters in the order sent; of one sent twice the last counts.
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn of(request: &HttpRequest) -> Self {
        Self(serde_urlencoded::from_str(request.query_string()).unwrap_or_default())
    }

    pub(crate) fn last(&self, name: &str) -> Option<&str> {
        let mut sent = self.0.iter().rev();
        sent.find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self, name: &'static str) -> Result<Option<String>, Rejection> {
        Ok(self.last(name).map(str::to_owned))
    }

    pub(crate) fn texts(&self, name: &'static str) -> Vec<String> {
        let sent = self.0.iter().filter(|(key, _)| key == name);
        sent.map(|(_, value)| value.clone()).collect()
    }

    pub(crate) fn integer(
        &self,
        name: &'static str,
        minimum: Option<i64>,
        maximum: Option<i64>,
    ) -> Result<Option<i64>, Rejection> {
        self.read(name, |text| read_integer(text, minimum, maximum))
    }

    pub(crate) fn boolean(&self, name: &'static str) -> Result<Option<bool>, Rejection> {
        self.read(name, read_boolean)
    }

    /// A parameter that is on if it is one of `words`, in capitals or not, and else off.
    pub(crate) fn switch(&self, name: &'static str, words: &[&str]) -> bool {
        self.last(name)
            .is_some_and(|text| words.iter().any(|word| word.eq_ignore_ascii_case(text)))
    }

    pub(crate) fn instant(&self, name: &'static str) -> Result<Option<DateTime<Utc>>, Rejection> {
        self.read(name, read_instant)
    }

    /// A parameter which is one of some words.
    pub(crate) fn choice<T: FromStr>(&self, name: &'static str) -> Result<Option<T>, Rejection> {
        self.read(name, |text| {
            text.parse()
                .map_err(|_| format!("\"{text}\" is not a valid choice."))
        })
    }

    fn read<T>(
        &self,
        name: &'static str,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, Rejection> {
        self.last(name)
            .map(read)
            .transpose()
            .map_err(|detail| Rejection::Query { attr: name, detail })
    }
}

/// Refuses the absence of a parameter that must be there.
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

    fn refused<T>(detail: &str) -> Result<T, Rejection> {
        Err(Rejection::Query {
            attr: "a",
            detail: detail.to_owned(),
        })
    }

    #[test]
    fn of_a_parameter_sent_twice_the_last_counts() {
        let query = query("a=1&b=2&a=x+y%21");
        assert_eq!(query.text("a"), Ok(Some("x y!".to_owned())));
        assert_eq!(query.texts("a"), ["1", "x y!"]);
    }

    #[test]
    fn an_absent_parameter_is_none() {
        let query = query("");
        assert_eq!(query.text("a"), Ok(None));
        assert_eq!(query.integer("a", None, None), Ok(None));
        assert_eq!(
            required("a", None::<i64>),
            refused("This field is required.")
        );
    }

    #[test]
    fn a_blank_parameter_is_there_and_is_no_number() {
        let read = query("a=").integer("a", None, None);
        assert_eq!(read, refused("A valid integer is required."));
    }

    #[test]
    fn a_choice_is_one_of_its_words() {
        // Any type that reads itself from text will do.
        let read = |text: &str| query(text).choice::<std::net::Ipv4Addr>("a");
        assert_eq!(read("a=127.0.0.1"), Ok(Some(std::net::Ipv4Addr::LOCALHOST)));
        assert_eq!(read("a=nope"), refused("\"nope\" is not a valid choice."));
    }

    #[test]
    fn a_switch_is_on_at_its_words_alone() {
        let words = ["y", "true"];
        assert!(query("a=TRUE").switch("a", &words));
        assert!(!query("a=yes").switch("a", &words));
        assert!(!query("").switch("a", &words));
    }

    #[test]
    fn an_instant_is_read_with_its_offset() {
        let read = query("a=2026-03-01T13:00:00%2B01:00")
            .instant("a")
            .unwrap()
            .unwrap();
        assert_eq!(read.to_rfc3339(), "2026-03-01T12:00:00+00:00");
    }
}
