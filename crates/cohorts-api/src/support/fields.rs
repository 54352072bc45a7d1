//! Field rules: check and convert the fields of a body.
//!
//! Codegen writes a table of rules for each body schema, in the order of the contract.
//! The rules, their conversions and their messages are those of PostHog's API.
//! The first field that violates a rule is reported.
//! The result is the text of a JSON object, from which the request type is deserialized.
//! Free-form JSON is copied to it unchanged.

use std::collections::HashMap;

use serde_json::Value;
use serde_json::value::RawValue;

mod scalar;

use super::Rejection;
pub(super) use scalar::{read_boolean, read_instant, read_integer};

/// The rule of a field.
#[derive(Debug)]
pub(crate) struct Field {
    pub name: &'static str,
    pub required: bool,
    pub nullable: bool,
    pub kind: Kind,
}

/// The type of a field or of a list item.
#[derive(Debug)]
#[allow(
    dead_code,
    reason = "which kinds are constructed depends on the contract"
)]
pub(crate) enum Kind {
    Text {
        trim: bool,
        /// In characters. If it is above 0, an empty text is reported as blank.
        min_length: usize,
        /// In characters.
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
    /// One of the words. An empty text is allowed if it is one of them.
    Choice(&'static [&'static str]),
    List {
        item: &'static Kind,
        /// Whether items can be null.
        nullable: bool,
        max_items: Option<usize>,
    },
    Object(&'static [Field]),
    /// Any JSON, copied unchanged.
    Json,
}

/// A violated rule.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Violation {
    /// Names from the field inwards; empty for the body itself.
    path: Vec<String>,
    code: &'static str,
    detail: String,
    /// The valid fields that precede it, as the text of a JSON object.
    preceding: String,
}

impl Violation {
    fn new(code: &'static str, detail: impl Into<String>) -> Self {
        Self {
            path: Vec::new(),
            code,
            detail: detail.into(),
            preceding: "{}".to_owned(),
        }
    }

    fn invalid(detail: impl Into<String>) -> Self {
        Self::new("invalid_input", detail)
    }

    fn null() -> Self {
        Self::new("null", "This field may not be null.")
    }

    /// Prepends the name of the enclosing field, or the index of the list item.
    fn within(mut self, outer: impl Into<String>) -> Self {
        self.path.insert(0, outer.into());
        self
    }

    pub(super) fn into_rejection(self) -> Rejection {
        Rejection::Field {
            attr: (!self.path.is_empty()).then(|| self.path.join("__")),
            code: self.code,
            detail: self.detail,
            preceding: self.preceding,
        }
    }
}

/// Reads a JSON object, the body or a field. `text` must be valid JSON.
pub(super) fn read_object(text: &str, rules: &[Field]) -> Result<String, Violation> {
    let values: HashMap<String, &RawValue> = serde_json::from_str(text).map_err(|_| {
        let name = type_name(&parse(text));
        Violation::invalid(format!(
            "Invalid data. Expected a dictionary, but got {name}."
        ))
    })?;
    let read = |rule: &Field| {
        let value = values.get(rule.name).map(|raw| raw.get());
        value.map_or(Ok(None), |text| field_value(rule, text).map(Some))
    };
    write_object(rules, read)
}

/// Reads a form. JSON fields are text. An empty text means null or absent.
pub(super) fn read_form(pairs: &[(String, String)], rules: &[Field]) -> Result<String, Violation> {
    write_object(rules, |rule| form_value(pairs, rule))
}

/// Writes an object with the result of `read` for each rule. `None` means that the field is absent.
fn write_object(
    rules: &[Field],
    read: impl Fn(&Field) -> Result<Option<String>, Violation>,
) -> Result<String, Violation> {
    let mut members = Vec::new();
    let object = |members: &[String]| format!("{{{}}}", members.join(","));
    for rule in rules {
        let value = match read(rule) {
            Ok(None) if rule.required => Err(Violation::new("required", "This field is required.")),
            value => value,
        };
        match value {
            Ok(Some(text)) => members.push(format!("{}:{text}", quote(rule.name))),
            Ok(None) => (),
            Err(violation) => {
                let mut violation = violation.within(rule.name);
                violation.preceding = object(&members);
                return Err(violation);
            }
        }
    }
    Ok(object(&members))
}

/// The converted value of a field, as JSON.
fn field_value(rule: &Field, text: &str) -> Result<String, Violation> {
    let is_null = match parse_if_scalar(text) {
        Some(Value::Null) => true,
        Some(Value::String(word)) if matches!(rule.kind, Kind::Boolean) && rule.nullable => {
            matches!(word.to_ascii_lowercase().as_str(), "null" | "")
        }
        _ => false,
    };
    match (is_null, rule.nullable) {
        (true, true) => Ok("null".to_owned()),
        (true, false) => Err(Violation::null()),
        (false, _) => value(&rule.kind, text),
    }
}

fn value(kind: &Kind, text: &str) -> Result<String, Violation> {
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
    item_kind: &Kind,
    nullable: bool,
    max_items: Option<usize>,
) -> Result<String, Violation> {
    let items: Vec<&RawValue> = serde_json::from_str(text).map_err(|_| {
        let name = type_name(&parse(text));
        Violation::new(
            "not_a_list",
            format!("Expected a list of items but got type \"{name}\"."),
        )
    })?;
    let mut texts = Vec::with_capacity(items.len());
    for (index, raw) in items.iter().enumerate() {
        let item = match raw.get() {
            "null" if nullable => Ok("null".to_owned()),
            "null" => Err(Violation::null()),
            text => value(item_kind, text),
        };
        texts.push(item.map_err(|violation| violation.within(index.to_string()))?);
    }
    match max_items {
        Some(max) if items.len() > max => Err(Violation::new(
            "max_length",
            format!("Ensure this field has no more than {max} elements."),
        )),
        _ => Ok(format!("[{}]", texts.join(","))),
    }
}

fn form_value(pairs: &[(String, String)], rule: &Field) -> Result<Option<String>, Violation> {
    let mut texts = pairs
        .iter()
        .filter(|(name, _)| name == rule.name)
        .map(|(_, text)| text.as_str());
    if let Kind::List { .. } = rule.kind {
        let items: Vec<_> = texts.map(quote).collect();
        let is_absent = items.is_empty();
        let list = format!("[{}]", items.join(","));
        return (!is_absent).then(|| value(&rule.kind, &list)).transpose();
    }
    let Some(text) = texts.next_back() else {
        return Ok(None);
    };
    match &rule.kind {
        Kind::Json | Kind::Object(_) => match serde_json::from_str::<Value>(text) {
            Ok(_) => field_value(rule, text).map(Some),
            Err(_) => Err(Violation::invalid("Value must be valid JSON.")),
        },
        kind if text.is_empty() && !kind.allows_blank() => match (rule.nullable, rule.required) {
            (true, _) => Ok(Some("null".to_owned())),
            (false, false) => Ok(None),
            (false, true) => value(kind, "\"\"").map(Some),
        },
        _ => field_value(rule, &quote(text)).map(Some),
    }
}

impl Kind {
    fn allows_blank(&self) -> bool {
        match self {
            Self::Text { min_length, .. } => *min_length == 0,
            Self::Choice(words) => words.contains(&""),
            _ => false,
        }
    }
}

/// Parses `text`, which must be valid JSON.
fn parse(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_default()
}

/// Parses `text` unless it is an object or a list, which can be large.
fn parse_if_scalar(text: &str) -> Option<Value> {
    (!text.starts_with(['{', '['])).then(|| parse(text))
}

fn quote(text: &str) -> String {
    Value::from(text).to_string()
}

/// The name of a JSON type in messages, which are Python's as in PostHog's API.
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
