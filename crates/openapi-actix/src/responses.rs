//! Reads and lints the responses of an operation.

use serde_json::Value;

use super::contract::{Linter, object, reference};

pub const JSON: &str = "application/json";

/// The component schema of every error body.
pub const ENVELOPE: &str = "Error";

/// The status of a failure of the service itself. Every operation has it, documented or not.
const SERVER_ERROR_RANGE: &str = "5XX";

/// The response with one status.
pub struct Response {
    pub status: u16,
    pub description: String,
    /// Empty if the response has no body.
    pub content: Vec<ResponseContent>,
    /// Whether the body described in `content` may be absent (`x-or-empty`).
    pub may_be_empty: bool,
}

pub struct ResponseContent {
    pub media_type: String,
    /// The name of the component schema; `None` for other media types than JSON.
    pub schema: Option<String>,
    /// Whether the handler writes the body itself, in pieces (`x-streamed`). Bodies of other media types than JSON always are.
    pub is_streamed: bool,
}

impl Response {
    pub fn is_error(&self) -> bool {
        self.status >= 400
    }

    /// Whether it is an error with a body. A handler returns it as an error, not as a variant of its response.
    pub fn has_envelope(&self) -> bool {
        self.is_error() && !self.content.is_empty()
    }

    /// Returns the name of the component schema of the JSON body, if it has one.
    pub fn json_schema(&self) -> Option<&str> {
        let json = self
            .content
            .iter()
            .find(|content| content.media_type == JSON)?;
        json.schema.as_deref()
    }
}

pub fn read(linter: Linter, operation: &Value, location: &str) -> Vec<Response> {
    let responses: Vec<_> = object(&operation["responses"])
        .iter()
        .filter_map(|(status, response)| {
            read_one(
                linter,
                status,
                response,
                &format!("{location}.responses.{status}"),
            )
        })
        .collect();
    let successes = responses
        .iter()
        .filter(|response| !response.is_error())
        .count();
    let empty_error = responses
        .iter()
        .any(|response| response.is_error() && !response.has_envelope());
    if successes > 1 {
        linter.report(location, "an operation must have only one success status");
    } else if successes == 0 && !empty_error {
        linter.report(
            location,
            "an operation must have a success status or an error without a body",
        );
    }
    responses
}

fn read_one(linter: Linter, status: &str, response: &Value, location: &str) -> Option<Response> {
    let response = linter.resolve(response, "responses", location)?;
    linter.allow_keys(
        response,
        &["description", "content", "headers", "x-or-empty"],
        location,
    );
    let may_be_empty = linter.flag(response, "x-or-empty", location);
    if may_be_empty && response.get("content").is_none() {
        linter.report(location, "`x-or-empty` needs `content`");
    }
    let number = status.parse().ok();
    let number = number.filter(|status| (200..600).contains(status));
    if number.is_none() && status != SERVER_ERROR_RANGE {
        linter.report(
            location,
            format!("a status must be a number or `{SERVER_ERROR_RANGE}`; other ranges and `default` are not supported"),
        );
        return None;
    }
    let is_error = number.is_none_or(|number| number >= 400);
    let content = object(&response["content"])
        .iter()
        .filter_map(|(media_type, content)| {
            let location = format!("{location}.content.{media_type}");
            read_content(linter, media_type, content, is_error, &location)
        });
    let content: Vec<_> = content.collect();
    if number.is_none() && (content.is_empty() || may_be_empty) {
        linter.report(
            location,
            format!("`{SERVER_ERROR_RANGE}` must have the body `{ENVELOPE}`"),
        );
    }
    // A handler never returns the server error range, so it is not part of the operation.
    Some(Response {
        status: number?,
        description: response["description"]
            .as_str()
            .unwrap_or_default()
            .trim()
            .to_owned(),
        content,
        may_be_empty,
    })
}

fn read_content(
    linter: Linter,
    media_type: &str,
    content: &Value,
    is_error: bool,
    location: &str,
) -> Option<ResponseContent> {
    linter.allow_keys(
        content,
        &["schema", "example", "examples", "x-streamed"],
        location,
    );
    let is_streamed = linter.flag(content, "x-streamed", location);
    if is_streamed && (is_error || media_type != JSON) {
        linter.report(location, "`x-streamed` is for successes of JSON");
    }
    let schema = &content["schema"];
    let name = reference(schema).map(str::to_owned);
    linter.resolve(schema, "schemas", location);
    match media_type {
        _ if is_error && (media_type != JSON || name.as_deref() != Some(ENVELOPE)) => {
            let message = format!("an error must have no body or `{ENVELOPE}` as {JSON}");
            linter.report(location, message);
        }
        JSON if name.is_none() => {
            linter.report(location, "the schema of a response must be a component")
        }
        JSON | "text/csv" | "application/x-ndjson" => (),
        other => linter.report(
            location,
            format!(
                "a response of `{other}` is not supported; use \
                 {JSON}, text/csv or application/x-ndjson"
            ),
        ),
    }
    Some(ResponseContent {
        media_type: media_type.to_owned(),
        schema: name.filter(|_| media_type == JSON),
        is_streamed: is_streamed || media_type != JSON,
    })
}
