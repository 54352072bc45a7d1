//! Responses, and what tests assert of them. Each response is checked against the contract when it is read.

use std::io::Read;

use reqwest::Method;
use reqwest::blocking::{RequestBuilder, Response};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use serde_json::Value;

use crate::contract::spec;

/// A response that was read to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub text: String,
}

/// Sends a request and checks its response against the contract.
pub fn send(method: &Method, request: RequestBuilder) -> Answer {
    let response = request.send().expect("a response");
    let path = response.url().path().to_owned();
    let answer = Answer {
        status: response.status().as_u16(),
        headers: response.headers().clone(),
        text: text(response),
    };
    spec::check(method, &path, &answer);
    assert_eq!(
        answer.header("x-content-type-options"),
        Some("nosniff"),
        "{path}"
    );
    answer
}

/// The text of a response. Of a stream, which does not end, it is what comes first.
fn text(mut response: Response) -> String {
    let is_stream = response
        .headers()
        .get(CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"text/event-stream"));
    if !is_stream {
        return response.text().expect("a text");
    }
    let mut first = vec![0; 64 << 10];
    let length = response.read(&mut first).expect("an event");
    first.truncate(length);
    String::from_utf8(first).expect("a text")
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(HeaderValue::to_str)?.ok()
    }

    /// Asserts the status, the code and the attribute of the error envelope.
    pub fn is_error(&self, status: u16, code: &str, attr: Option<&str>) -> &Self {
        let body = self.json();
        let actual = (self.status, body["code"].as_str(), body["attr"].as_str());
        assert_eq!(actual, (status, Some(code), attr), "{}", self.text);
        self
    }

    /// The detail of the error envelope.
    pub fn detail(&self) -> String {
        self.json()["detail"].as_str().expect("a detail").to_owned()
    }
}

/// Asserts a validation error with a detail that contains `part`.
pub fn assert_invalid(answer: &Answer, attr: Option<&str>, part: &str) {
    let detail = answer.is_error(400, "invalid_input", attr).detail();
    assert!(detail.contains(part), "{detail}");
}

/// Asserts a validation error with exactly this detail.
pub fn assert_detail(answer: &Answer, attr: Option<&str>, detail: &str) {
    let actual = answer.is_error(400, "invalid_input", attr).detail();
    assert_eq!(actual, detail);
}

/// The id of the object that the request created.
pub fn id_of(creation: &Answer) -> i64 {
    assert_eq!(creation.status, 201, "{}", creation.text);
    creation.json()["id"].as_i64().expect("an id")
}

/// The rows of a page.
pub fn rows(page: &Value) -> &[Value] {
    page["results"].as_array().expect("rows")
}

/// The first distinct id of each person, sorted.
pub fn first_ids(persons: &Value) -> Vec<String> {
    let persons = persons.as_array().expect("a list of persons");
    let first = |person: &Value| {
        person["distinct_ids"][0]
            .as_str()
            .expect("a distinct id")
            .to_owned()
    };
    let mut ids: Vec<String> = persons.iter().map(first).collect();
    ids.sort_unstable();
    ids
}
