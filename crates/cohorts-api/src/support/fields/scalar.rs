//! Fields with a single value. Query parameters use the functions that read text.

use chrono::{DateTime, NaiveDateTime, Utc};
use serde_json::Value;

use super::{Kind, Violation};

const NOT_BOOLEAN: &str = "Must be a valid boolean.";
const NOT_INTEGER: &str = "A valid integer is required.";
const NOT_NUMBER: &str = "A valid number is required.";
const NOT_TEXT: &str = "Not a valid string.";
const NOT_UUID: &str = "Must be a valid UUID.";
const NOT_INSTANT: &str = "Datetime has wrong format. Use one of these formats instead: \
     YYYY-MM-DDThh:mm[:ss[.uuuuuu]][+HH:MM|-HH:MM|Z].";

/// Converts a value that is neither null nor a list or an object.
pub(super) fn read(kind: &Kind, value: &Value) -> Result<Value, Violation> {
    match kind {
        Kind::Text {
            trim,
            min_length,
            max_length,
        } => text(value, *trim, *min_length, *max_length),
        Kind::Boolean => boolean_text(value)
            .ok_or_else(|| NOT_BOOLEAN.to_owned())
            .and_then(|text| read_boolean(&text))
            .map(Value::from)
            .map_err(Violation::invalid),
        Kind::Integer { minimum, maximum } => {
            let text = number_text(value).ok_or_else(|| Violation::invalid(NOT_INTEGER))?;
            let number = integer(&text).ok_or_else(|| Violation::invalid(NOT_INTEGER))?;
            in_range(number, *minimum, *maximum)?;
            Ok(number.into())
        }
        Kind::Number => number_text(value)
            .and_then(|text| text.trim().parse::<f64>().ok())
            .filter(|number| number.is_finite())
            .map(Value::from)
            .ok_or_else(|| Violation::invalid(NOT_NUMBER)),
        Kind::Instant => value
            .as_str()
            .ok_or_else(|| NOT_INSTANT.to_owned())
            .and_then(read_instant)
            .map(|instant| instant.to_rfc3339().into())
            .map_err(Violation::invalid),
        Kind::Uuid => value
            .as_str()
            .and_then(|text| text.parse::<uuid::Uuid>().ok())
            .map(|uuid| uuid.to_string().into())
            .ok_or_else(|| Violation::invalid(NOT_UUID)),
        Kind::Choice(words) => choice(value, words),
        Kind::List { .. } | Kind::Object(_) | Kind::Json => Ok(value.clone()),
    }
}

fn text(
    value: &Value,
    trim: bool,
    min_length: usize,
    max_length: Option<usize>,
) -> Result<Value, Violation> {
    let text = number_text(value).ok_or_else(|| Violation::invalid(NOT_TEXT))?;
    let text = if trim { trim_space(&text) } else { &text };
    let length = text.chars().count();
    if length == 0 && min_length > 0 {
        return Err(Violation::new("blank", "This field may not be blank."));
    }
    if let Some(max) = max_length.filter(|max| length > *max) {
        let detail = format!("Ensure this field has no more than {max} characters.");
        return Err(Violation::new("max_length", detail));
    }
    if length < min_length {
        let detail = format!("Ensure this field has at least {min_length} characters.");
        return Err(Violation::new("min_length", detail));
    }
    if text.contains('\0') {
        return Err(Violation::new(
            "null_characters_not_allowed",
            "Null characters are not allowed.",
        ));
    }
    Ok(text.into())
}

/// Reads a text by a rule.
pub(crate) fn read_text(kind: &Kind, text: String) -> Result<String, String> {
    let value = read(kind, &Value::String(text)).map_err(|violation| violation.detail)?;
    Ok(value.as_str().unwrap_or_default().to_owned())
}

fn choice(value: &Value, words: &[&str]) -> Result<Value, Violation> {
    let word = number_text(value).unwrap_or_else(|| value.to_string());
    if words.contains(&word.as_str()) {
        return Ok(word.into());
    }
    let detail = format!("\"{word}\" is not a valid choice.");
    Err(Violation::new("invalid_choice", detail))
}

/// A text, or a number as text. `None` for other types.
fn number_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// The text from which a boolean is read.
fn boolean_text(value: &Value) -> Option<String> {
    match value {
        Value::Bool(true) => Some("1".to_owned()),
        Value::Bool(false) => Some("0".to_owned()),
        other => number_text(other),
    }
}

/// Trims white space, including the ASCII separators U+001C to U+001F, as Python does.
fn trim_space(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_whitespace() || ('\x1c'..='\x1f').contains(&c))
}

/// Reads a boolean in one of its spellings, case-insensitive.
pub(crate) fn read_boolean(text: &str) -> Result<bool, String> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "t" | "yes" | "y" | "on" | "1" | "1.0" => Ok(true),
        "false" | "f" | "no" | "n" | "off" | "0" | "0.0" | "-0.0" => Ok(false),
        _ => Err(NOT_BOOLEAN.to_owned()),
    }
}

/// Reads an integer from `minimum` to `maximum`, both inclusive.
pub(crate) fn read_integer(
    text: &str,
    minimum: Option<i64>,
    maximum: Option<i64>,
) -> Result<i64, String> {
    let number = integer(text).ok_or(NOT_INTEGER)?;
    in_range(number, minimum, maximum).map_err(|violation| violation.detail)?;
    Ok(number)
}

/// Reads an integer. A fraction of zeros is ignored.
fn integer(text: &str) -> Option<i64> {
    let text = text.trim();
    let whole = match text.split_once('.') {
        Some((whole, fraction)) if fraction.bytes().all(|digit| digit == b'0') => whole,
        Some(_) => return None,
        None => text,
    };
    whole.parse().ok()
}

fn in_range(number: i64, minimum: Option<i64>, maximum: Option<i64>) -> Result<(), Violation> {
    if let Some(minimum) = minimum.filter(|minimum| number < *minimum) {
        let detail = format!("Ensure this value is greater than or equal to {minimum}.");
        return Err(Violation::new("min_value", detail));
    }
    if let Some(maximum) = maximum.filter(|maximum| number > *maximum) {
        let detail = format!("Ensure this value is less than or equal to {maximum}.");
        return Err(Violation::new("max_value", detail));
    }
    Ok(())
}

/// Reads an instant with at most microseconds. Without an offset it is in UTC.
pub(crate) fn read_instant(text: &str) -> Result<DateTime<Utc>, String> {
    let text = text.trim().replacen(' ', "T", 1);
    let fraction = text.find('.').map_or(0, |dot| {
        text[dot + 1..]
            .bytes()
            .take_while(u8::is_ascii_digit)
            .count()
    });
    let has_separator = text.as_bytes().get(10) == Some(&b'T');
    let instant = ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M"]
        .iter()
        .find_map(|format| with_offset(&text, format).or_else(|| in_utc(&text, format)));
    instant
        .filter(|_| has_separator && fraction <= 6)
        .ok_or_else(|| NOT_INSTANT.to_owned())
}

fn with_offset(text: &str, format: &str) -> Option<DateTime<Utc>> {
    let zulu = text
        .strip_suffix(['Z', 'z'])
        .map(|rest| format!("{rest}+00:00"));
    let text = zulu.as_deref().unwrap_or(text);
    let instant = DateTime::parse_from_str(text, &format!("{format}%#z")).ok()?;
    Some(instant.to_utc())
}

fn in_utc(text: &str, format: &str) -> Option<DateTime<Utc>> {
    let local = NaiveDateTime::parse_from_str(text, format).ok()?;
    Some(local.and_utc())
}
