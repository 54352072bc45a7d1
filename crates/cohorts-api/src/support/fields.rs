//! Field rules: check and convert the fields of a body.
//!
//! Codegen writes a table of rules for each body schema, in the order of the contract.
//! The rules, their conversions and their messages are those of PostHog's API.
//! The first field that violates a rule is reported.
//! The result is the text of a JSON object, from which the request type is deserialized.
//! Free-form JSON is copied to it unchanged. Lists and objects are read member by member, so that a body takes only a
//! small multiple of its text.

use serde_json::Value;

mod near;
mod read;
mod scalar;

use super::{Rejection, json};
pub(crate) use near::UnknownFields;
use read::{list, members};
pub(super) use scalar::{read_boolean, read_instant, read_integer, read_text};

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
    /// The rules are behind a second reference, so that an object can contain itself.
    Object(&'static &'static [Field]),
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

    /// Sets the valid fields that precede it, unless they are too long.
    fn after(mut self, fields: String) -> Self {
        if fields.len() <= MAX_PRECEDING {
            self.preceding = fields;
        }
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

/// Reads a body that is a JSON object. `text` must be valid JSON.
pub(super) fn read_body(
    text: &str,
    rules: &[Field],
    unknown: UnknownFields,
) -> Result<String, Violation> {
    let fields = read_object(text, rules)?;
    unknown.check_object(fields, text, rules)
}

/// Reads a JSON object, the body or a field. `text` must be valid JSON.
pub(super) fn read_object(text: &str, rules: &[Field]) -> Result<String, Violation> {
    let values = members(text, rules).ok_or_else(|| {
        let name = type_name(text);
        Violation::invalid(format!(
            "Invalid data. Expected a dictionary, but got {name}."
        ))
    })?;
    write_object(rules, |index, rule| {
        let value = values[index].map(|raw| field_value(rule, raw.get()));
        value.transpose()
    })
}

/// Reads a form. JSON fields are text. An empty text means null or absent.
pub(super) fn read_form<T: AsRef<str>>(
    pairs: &[(T, T)],
    rules: &[Field],
) -> Result<String, Violation> {
    write_object(rules, |_, rule| form_value(pairs, rule))
}

/// The most bytes of the valid fields that are reported with a violation.
const MAX_PRECEDING: usize = 64 << 10;

/// Writes an object with the result of `read` for each rule. `None` means that the field is absent.
fn write_object(
    rules: &[Field],
    read: impl Fn(usize, &Field) -> Result<Option<String>, Violation>,
) -> Result<String, Violation> {
    let mut members = String::from("{");
    for (index, rule) in rules.iter().enumerate() {
        let value = match read(index, rule) {
            Ok(None) if rule.required => Err(Violation::new("required", "This field is required.")),
            value => value,
        };
        match value {
            Ok(Some(text)) => {
                let comma = if members.len() > 1 { "," } else { "" };
                members.extend([comma, &quote(rule.name), ":", &text]);
            }
            Ok(None) => (),
            Err(violation) => {
                members.push('}');
                return Err(violation.within(rule.name).after(members));
            }
        }
    }
    members.push('}');
    Ok(members)
}

/// The converted value of a field, as JSON.
fn field_value(rule: &Field, text: &str) -> Result<String, Violation> {
    let is_null = match text.as_bytes().first() {
        Some(b'n') => true,
        Some(b'"') if matches!(rule.kind, Kind::Boolean) && rule.nullable => {
            let word = json::parse(text);
            let word = word.as_str().unwrap_or_default().to_ascii_lowercase();
            matches!(word.as_str(), "null" | "")
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
        scalar => scalar::read(scalar, &scalar_value(text)).map(|value| value.to_string()),
    }
}

/// The most bytes of a list or an object that is parsed in the place of a scalar, for the text of an error.
const MAX_SHOWN: usize = 1_000;

/// The value of a scalar. A large list or object, which is an error in its place, is shown as an empty one.
fn scalar_value(text: &str) -> Value {
    if json::is_container(text) && text.len() > MAX_SHOWN {
        return Value::Array(Vec::new());
    }
    json::parse(text)
}

fn form_value<T: AsRef<str>>(pairs: &[(T, T)], rule: &Field) -> Result<Option<String>, Violation> {
    let mut texts = pairs
        .iter()
        .filter(|(name, _)| name.as_ref() == rule.name)
        .map(|(_, text)| text.as_ref());
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
        Kind::Json | Kind::Object(_) => match json::check(text) {
            Ok(()) => field_value(rule, text.trim()).map(Some),
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

fn quote(text: &str) -> String {
    Value::from(text).to_string()
}

/// The name of a JSON type in messages, which are Python's as in PostHog's API. `text` must be valid JSON.
fn type_name(text: &str) -> &'static str {
    match text.trim_start().as_bytes().first() {
        Some(b'n') => "NoneType",
        Some(b't' | b'f') => "bool",
        Some(b'"') => "str",
        Some(b'[') => "list",
        Some(b'{') => "dict",
        _ if json::parse(text).is_f64() => "float",
        _ => "int",
    }
}

#[cfg(test)]
mod tests;
