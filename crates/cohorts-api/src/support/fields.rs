//! Field rules: what a body's fields must be, and what they are turned into.
//!
//! A table of rules is generated per body from its schema, in the order of the document.
//! The rules behave, message by message, as clients of PostHog's API know them:
//! values are coerced where that is customary, and the first field that breaks a rule is the one reported.
//! The outcome is the text of a JSON object that the request type can be read from;
//! free-form JSON gets there exactly as it was sent.

use std::collections::HashMap;

use serde_json::Value;
use serde_json::value::RawValue;

mod scalar;

use super::Rejection;
pub(super) use scalar::{read_boolean, read_instant, read_integer};

/// One field of a body.
#[derive(Debug)]
pub(crate) struct Field {
    pub name: &'static str,
    pub required: bool,
    pub nullable: bool,
    pub kind: Kind,
}

/// What a field, or an item of a list, must be.
#[derive(Debug)]
#[allow(
    dead_code,
    reason = "which kinds are constructed depends on the contract"
)]
pub(crate) enum Kind {
    Text {
        trim: bool,
        /// In characters; a text shorter than 1 is blank.
        min_length: usize,
        max_length: Option<usize>,
    },
    Boolean,
    Integer {
        minimum: Option<i64>,
        maximum: Option<i64>,
    },
    Number,
    Instant,
    Uuid,
    /// One of some words; blank is allowed if it is among them.
    Choice(&'static [&'static str]),
    List {
        item: &'static Kind,
        /// Whether an item may be null.
        nullable: bool,
        max_items: Option<usize>,
    },
    Object(&'static [Field]),
    /// Any JSON, taken as it is.
    Json,
}

/// A broken rule.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Failure {
    /// From the field inwards; empty for the body as a whole.
    path: Vec<String>,
    code: &'static str,
    detail: String,
    /// The fields before it, which keep their rules, as a JSON object.
    before: String,
}

impl Failure {
    fn new(code: &'static str, detail: impl Into<String>) -> Self {
        Self {
            path: Vec::new(),
            code,
            detail: detail.into(),
            before: "{}".to_owned(),
        }
    }

    fn invalid(detail: impl Into<String>) -> Self {
        Self::new("invalid_input", detail)
    }

    fn null() -> Self {
        Self::new("null", "This field may not be null.")
    }

    fn within(mut self, outer: impl Into<String>) -> Self {
        self.path.insert(0, outer.into());
        self
    }

    pub(super) fn reject(self) -> Rejection {
        Rejection::Field {
            attr: (!self.path.is_empty()).then(|| self.path.join("__")),
            code: self.code,
            detail: self.detail,
            before: self.before,
        }
    }
}

/// Reads a body, or a field, that must be a JSON object. `text` has been parsed before.
pub(super) fn read_object(text: &str, rules: &[Field]) -> Result<String, Failure> {
    let sent: HashMap<String, &RawValue> = serde_json::from_str(text).map_err(|_| {
        let found = type_name(&parse(text));
        Failure::invalid(format!(
            "Invalid data. Expected a dictionary, but got {found}."
        ))
    })?;
    let read = |rule: &Field| {
        let value = sent.get(rule.name).map(|raw| raw.get());
        value.map_or(Ok(None), |text| field_value(rule, text).map(Some))
    };
    write_object(rules, read)
}

/// Reads a form. JSON inside it is text; an empty text stands for null, or for nothing.
pub(super) fn read_form(pairs: &[(String, String)], rules: &[Field]) -> Result<String, Failure> {
    write_object(rules, |rule| form_value(pairs, rule))
}

/// Runs `read` over the rules and collects what it gives; `None` means that the field is absent.
fn write_object(
    rules: &[Field],
    read: impl Fn(&Field) -> Result<Option<String>, Failure>,
) -> Result<String, Failure> {
    let mut members = Vec::new();
    let object = |members: &[String]| format!("{{{}}}", members.join(","));
    for rule in rules {
        let value = match read(rule) {
            Ok(None) if rule.required => Err(Failure::new("required", "This field is required.")),
            value => value,
        };
        match value {
            Ok(Some(text)) => members.push(format!("{}:{text}", quote(rule.name))),
            Ok(None) => (),
            Err(failure) => {
                let mut failure = failure.within(rule.name);
                failure.before = object(&members);
                return Err(failure);
            }
        }
    }
    Ok(object(&members))
}

/// The JSON that a field is turned into.
fn field_value(rule: &Field, text: &str) -> Result<String, Failure> {
    let null = match parse_if_scalar(text) {
        Some(Value::Null) => true,
        Some(Value::String(word)) if matches!(rule.kind, Kind::Boolean) && rule.nullable => {
            matches!(word.to_ascii_lowercase().as_str(), "null" | "")
        }
        _ => false,
    };
    match (null, rule.nullable) {
        (true, true) => Ok("null".to_owned()),
        (true, false) => Err(Failure::null()),
        (false, _) => value(&rule.kind, text),
    }
}

fn value(kind: &Kind, text: &str) -> Result<String, Failure> {
    match kind {
        Kind::Json => Ok(text.to_owned()),
        Kind::Object(rules) => read_object(text, rules),
        Kind::List {
            item,
            nullable,
            max_items,
        } => list(text, item, *nullable, *max_items),
        scalar => scalar::read(scalar, &parse(text)).map(|value| value.to_string()),
    }
}

fn list(
    text: &str,
    item: &Kind,
    nullable: bool,
    max_items: Option<usize>,
) -> Result<String, Failure> {
    let items: Vec<&RawValue> = serde_json::from_str(text).map_err(|_| {
        let found = type_name(&parse(text));
        Failure::new(
            "not_a_list",
            format!("Expected a list of items but got type \"{found}\"."),
        )
    })?;
    let mut texts = Vec::with_capacity(items.len());
    for (index, raw) in items.iter().enumerate() {
        let read = match raw.get() {
            "null" if nullable => Ok("null".to_owned()),
            "null" => Err(Failure::null()),
            text => value(item, text),
        };
        texts.push(read.map_err(|failure| failure.within(index.to_string()))?);
    }
    match max_items {
        Some(most) if items.len() > most => Err(Failure::new(
            "max_length",
            format!("Ensure this field has no more than {most} elements."),
        )),
        _ => Ok(format!("[{}]", texts.join(","))),
    }
}

fn form_value(pairs: &[(String, String)], rule: &Field) -> Result<Option<String>, Failure> {
    let mut sent = pairs
        .iter()
        .filter(|(name, _)| name == rule.name)
        .map(|(_, text)| text.as_str());
    if let Kind::List { .. } = rule.kind {
        let items: Vec<_> = sent.map(quote).collect();
        let absent = items.is_empty();
        let list = format!("[{}]", items.join(","));
        return (!absent).then(|| value(&rule.kind, &list)).transpose();
    }
    let Some(text) = sent.next_back() else {
        return Ok(None);
    };
    match &rule.kind {
        Kind::Json | Kind::Object(_) => match serde_json::from_str::<Value>(text) {
            Ok(_) => field_value(rule, text).map(Some),
            Err(_) => Err(Failure::invalid("Value must be valid JSON.")),
        },
        kind if text.is_empty() && !kind.takes_blank() => match (rule.nullable, rule.required) {
            (true, _) => Ok(Some("null".to_owned())),
            (false, false) => Ok(None),
            (false, true) => value(kind, "\"\"").map(Some),
        },
        _ => field_value(rule, &quote(text)).map(Some),
    }
}

impl Kind {
    fn takes_blank(&self) -> bool {
        match self {
            Self::Text { min_length, .. } => *min_length == 0,
            Self::Choice(words) => words.contains(&""),
            _ => false,
        }
    }
}

/// Text that was parsed before, so the error cannot occur.
fn parse(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_default()
}

/// Spares parsing what is large only to see that it is not null.
fn parse_if_scalar(text: &str) -> Option<Value> {
    (!text.starts_with(['{', '['])).then(|| parse(text))
}

fn quote(text: &str) -> String {
    Value::from(text).to_string()
}

/// The names that messages use for the types of JSON.
fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "NoneType",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float",
        Value::Number(_) => "int",
        Value::String(_) => "str",
        Value::Array(_) => "list",
        Value::Object(_) => "dict",
    }
}

#[cfg(test)]
mod tests;
