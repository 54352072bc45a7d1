//! Reads what an operation answers, and lints it on the way.

use serde_json::Value;

use super::contract::{Document, object, reference};

pub const JSON: &str = "application/json";

/// The component schema of every error that has a body.
pub const ENVELOPE: &str = "Error";

/// Where the service itself fails. Any operation may, so codegen takes it as said of all.
const SERVER_ERRORS: &str = "5XX";

/// What is answered with one status.
pub struct Answer {
    pub status: u16,
    pub description: String,
    /// Empty if the answer has no body.
    pub content: Vec<Content>,
    /// Whether the answer may have no body although `content` says what one looks like.
    pub or_empty: bool,
}

pub struct Content {
    pub media_type: String,
    /// The component schema, for JSON.
    pub schema: Option<String>,
}

impl Answer {
    pub fn is_error(&self) -> bool {
        self.status >= 400
    }

    /// Whether the handler gives it as an error, rather than as one of its answers; never so for its empty form.
    pub fn is_envelope(&self) -> bool {
        self.is_error() && !self.content.is_empty()
    }

    /// The component schema of its JSON, if it has any.
    pub fn json(&self) -> Option<&str> {
        let json = self
            .content
            .iter()
            .find(|content| content.media_type == JSON)?;
        json.schema.as_deref()
    }
}

pub fn read(document: Document, operation: &Value, place: &str) -> Vec<Answer> {
    let answers: Vec<_> = object(&operation["responses"])
        .iter()
        .filter_map(|(status, answer)| {
            read_one(
                document,
                status,
                answer,
                &format!("{place}.responses.{status}"),
            )
        })
        .collect();
    let successes = answers.iter().filter(|answer| !answer.is_error()).count();
    let empty_error = answers
        .iter()
        .any(|answer| answer.is_error() && !answer.is_envelope());
    if successes > 1 {
        document.add(place, "an operation has one status of success");
    } else if successes == 0 && !empty_error {
        document.add(
            place,
            "an operation has a status of success, or an error without a body",
        );
    }
    answers
}

fn read_one(document: Document, status: &str, answer: &Value, place: &str) -> Option<Answer> {
    let answer = document.resolve(answer, "responses", place)?;
    document.only(
        answer,
        &["description", "content", "headers", "x-or-empty"],
        place,
    );
    let or_empty = document.flag(answer, "x-or-empty", place);
    if or_empty && answer.get("content").is_none() {
        document.add(place, "`x-or-empty` says nothing without `content`");
    }
    let number = status.parse().ok();
    let number = number.filter(|status| (200..600).contains(status));
    if number.is_none() && status != SERVER_ERRORS {
        document.add(
            place,
            format!("a status is a number, or `{SERVER_ERRORS}`; other ranges and `default` are not supported"),
        );
        return None;
    }
    let error = number.is_none_or(|number| number >= 400);
    let content = object(&answer["content"])
        .iter()
        .filter_map(|(media_type, content)| {
            let place = format!("{place}.content.{media_type}");
            read_content(document, media_type, content, error, &place)
        });
    let content: Vec<_> = content.collect();
    if number.is_none() && (content.is_empty() || or_empty) {
        document.add(
            place,
            format!("`{SERVER_ERRORS}` has the body `{ENVELOPE}`"),
        );
    }
    // What the service fails by itself is no answer of a handler's.
    Some(Answer {
        status: number?,
        description: answer["description"]
            .as_str()
            .unwrap_or_default()
            .trim()
            .to_owned(),
        content,
        or_empty,
    })
}

fn read_content(
    document: Document,
    media_type: &str,
    content: &Value,
    error: bool,
    place: &str,
) -> Option<Content> {
    document.only(content, &["schema", "example", "examples"], place);
    let schema = &content["schema"];
    let name = reference(schema).map(str::to_owned);
    document.resolve(schema, "schemas", place);
    match media_type {
        _ if error && (media_type != JSON || name.as_deref() != Some(ENVELOPE)) => {
            let what = format!("an error has no body, or `{ENVELOPE}` as {JSON}");
            document.add(place, what);
        }
        JSON if name.is_none() => {
            document.add(place, "the schema of an answer must be a component")
        }
        JSON | "text/csv" | "application/x-ndjson" => (),
        other => document.add(
            place,
            format!(
                "an answer of `{other}` is not supported; \
                 {JSON}, text/csv and application/x-ndjson are"
            ),
        ),
    }
    Some(Content {
        media_type: media_type.to_owned(),
        schema: name.filter(|_| media_type == JSON),
    })
}
