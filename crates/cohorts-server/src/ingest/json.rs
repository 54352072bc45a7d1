//! Rewrites the JSON of senders as JSON text that Postgres can store, in one pass and without a tree of values.
//!
//! The output never contains what `jsonb` refuses: it has no NUL, no lone surrogate, no number beyond a double, and at
//! most 128 levels.

use std::fmt::{self, Write};

use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

/// Properties that the service interprets.
const INTERPRETED: [&str; 8] = [
    "$set",
    "$set_once",
    "$unset",
    "$anon_distinct_id",
    "alias",
    "distinct_id",
    "$ignore_sent_at",
    "$process_person_profile",
];

/// The properties of an event.
#[derive(Debug, PartialEq)]
pub struct Properties {
    /// The text of the object.
    pub text: String,
    /// The members that the service interprets.
    pub interpreted: Map<String, Value>,
}

/// The value of a field that should be an object.
#[derive(Debug, Default, PartialEq)]
pub enum ObjectField {
    /// The field is missing or null.
    #[default]
    Absent,
    Object(Properties),
    NotAnObject,
}

impl Default for Properties {
    fn default() -> Self {
        Self {
            text: String::from("{}"),
            interpreted: Map::new(),
        }
    }
}

impl Properties {
    /// Adds or replaces a member. Of two members with one name, `jsonb` stores the last.
    pub fn insert(&mut self, name: &str, value: &Value) {
        self.text.pop();
        if self.text.len() > 1 {
            self.text.push(',');
        }
        write_string(&mut self.text, name);
        self.text.push(':');
        self.text.push_str(&value.to_string());
        self.text.push('}');
    }
}

impl<'de> Deserialize<'de> for ObjectField {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ObjectFieldVisitor)
    }
}

struct ObjectFieldVisitor;

impl<'de> Visitor<'de> for ObjectFieldVisitor {
    type Value = ObjectField;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_unit<E>(self) -> Result<ObjectField, E> {
        Ok(ObjectField::Absent)
    }

    fn visit_bool<E>(self, _: bool) -> Result<ObjectField, E> {
        Ok(ObjectField::NotAnObject)
    }

    fn visit_i64<E>(self, _: i64) -> Result<ObjectField, E> {
        Ok(ObjectField::NotAnObject)
    }

    fn visit_u64<E>(self, _: u64) -> Result<ObjectField, E> {
        Ok(ObjectField::NotAnObject)
    }

    fn visit_f64<E>(self, _: f64) -> Result<ObjectField, E> {
        Ok(ObjectField::NotAnObject)
    }

    fn visit_str<E>(self, _: &str) -> Result<ObjectField, E> {
        Ok(ObjectField::NotAnObject)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<ObjectField, A::Error> {
        while list
            .next_element_seed(CopyTo(&mut String::new()))?
            .is_some()
        {}
        Ok(ObjectField::NotAnObject)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ObjectField, A::Error> {
        let mut properties = Properties {
            text: String::from("{"),
            interpreted: Map::new(),
        };
        while let Some(name) = map.next_key::<MemberName>()? {
            push_comma(&mut properties.text, '{');
            write_string(&mut properties.text, &name.0);
            properties.text.push(':');
            let from = properties.text.len();
            map.next_value_seed(CopyTo(&mut properties.text))?;
            if INTERPRETED.contains(&name.0.as_str()) {
                let value =
                    serde_json::from_str(&properties.text[from..]).map_err(A::Error::custom)?;
                properties.interpreted.insert(name.0, value);
            }
        }
        properties.text.push('}');
        Ok(ObjectField::Object(properties))
    }
}

/// The name of a member.
struct MemberName(String);

impl<'de> Deserialize<'de> for MemberName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        // serde_json reserves these names for itself.
        if name.starts_with("$serde_json::private::") {
            Ok(MemberName(name.replacen('$', "_", 1)))
        } else {
            Ok(MemberName(name))
        }
    }
}

/// Copies the value that is read to a text.
struct CopyTo<'a>(&'a mut String);

impl<'de> DeserializeSeed<'de> for CopyTo<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for CopyTo<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.0.push_str("null");
        Ok(())
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.0.push_str(if value { "true" } else { "false" });
        Ok(())
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<(), E> {
        write!(self.0, "{value}").map_err(E::custom)
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<(), E> {
        write!(self.0, "{value}").map_err(E::custom)
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<(), E> {
        // As `Value` writes it, but without an exponent: Postgres writes all digits, and limits count them.
        match Value::from(value).to_string() {
            text if text.contains('e') => write!(self.0, "{value}").map_err(E::custom),
            text => {
                self.0.push_str(&text);
                Ok(())
            }
        }
    }

    fn visit_str<E>(self, value: &str) -> Result<(), E> {
        write_string(self.0, value);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        self.0.push('[');
        let mut has_elements = false;
        loop {
            let length = self.0.len();
            if has_elements {
                self.0.push(',');
            }
            if list.next_element_seed(CopyTo(self.0))?.is_none() {
                self.0.truncate(length);
                break;
            }
            has_elements = true;
        }
        self.0.push(']');
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        self.0.push('{');
        while let Some(name) = map.next_key::<MemberName>()? {
            push_comma(self.0, '{');
            write_string(self.0, &name.0);
            self.0.push(':');
            map.next_value_seed(CopyTo(self.0))?;
        }
        self.0.push('}');
        Ok(())
    }
}

/// Adds a comma, unless the text ends with `begin`.
fn push_comma(text: &mut String, begin: char) {
    if !text.ends_with(begin) {
        text.push(',');
    }
}

/// Writes `text` as a JSON string. NUL, which Postgres cannot store, is replaced by U+FFFD.
fn write_string(out: &mut String, text: &str) {
    out.push('"');
    let mut rest = text;
    while let Some(at) = rest.find(|c: char| c < ' ' || c == '"' || c == '\\') {
        let (plain, special) = rest.split_at(at);
        out.push_str(plain);
        let mut characters = special.chars();
        match characters.next() {
            Some('\0') => out.push('\u{fffd}'),
            Some('"') => out.push_str("\\\""),
            Some('\\') => out.push_str("\\\\"),
            Some('\n') => out.push_str("\\n"),
            Some('\r') => out.push_str("\\r"),
            Some('\t') => out.push_str("\\t"),
            Some(other) => out.push_str(&format!("\\u{:04x}", u32::from(other))),
            None => {}
        }
        rest = characters.as_str();
    }
    out.push_str(rest);
    out.push('"');
}

/// Replaces lone surrogates, which JavaScript can send, by `\ufffd`.
pub fn replace_lone_surrogates(text: &str) -> String {
    let mut replaced = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        let (before, escape) = rest.split_at(at);
        replaced.push_str(before);
        let unit = |text: &str| {
            let digits = text.strip_prefix("\\u")?.get(..4)?;
            u32::from_str_radix(digits, 16).ok()
        };
        let length = match (unit(escape), escape.get(6..).and_then(unit)) {
            (Some(0xD800..=0xDBFF), Some(0xDC00..=0xDFFF)) => 12,
            (Some(0xD800..=0xDFFF), _) => {
                replaced.push_str("\\ufffd");
                rest = &escape[6..];
                continue;
            }
            // Another escape: a backslash and one character.
            _ => 1 + escape[1..].chars().next().map_or(0, char::len_utf8),
        };
        replaced.push_str(&escape[..length]);
        rest = &escape[length..];
    }
    replaced.push_str(rest);
    replaced
}

#[cfg(test)]
mod tests {
    use super::*;

    fn properties(text: &str) -> Properties {
        match serde_json::from_str(text) {
            Ok(ObjectField::Object(properties)) => properties,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn stored_json_equals_the_sent_json() {
        for text in [
            r#"{}"#,
            r#"{"a":[],"b":{},"c":[1,-2,3.5,true,false,null,"x"],"d":{"e":{"f":[{}]}}}"#,
            r#"{"text":"\"\\\n\r\t\u0001é🦊"}"#,
            r#"{"large":18446744073709551615,"small":-9223372036854775808,"far":1e300}"#,
        ] {
            let stored: Value = serde_json::from_str(&properties(text).text).unwrap();
            assert_eq!(
                stored,
                serde_json::from_str::<Value>(text).unwrap(),
                "{text}"
            );
        }
    }

    #[test]
    fn interpreted_properties_are_parsed() {
        let mut sent = properties(r#"{"alias":"b","$set":{"a":"\u0000"},"x":1}"#);
        assert_eq!(sent.interpreted.len(), 2);
        assert_eq!(sent.interpreted["$set"]["a"], "\u{fffd}");
        sent.insert("$set_once", &serde_json::json!({"c": 2}));
        let end = r#","x":1,"$set_once":{"c":2}}"#;
        assert!(sent.text.ends_with(end), "{}", sent.text);
        let mut empty = Properties::default();
        empty.insert("a", &Value::Null);
        assert_eq!(empty.text, r#"{"a":null}"#);
    }

    #[test]
    fn json_that_postgres_refuses_is_refused_or_replaced() {
        let deep = format!(r#"{{"a":{}1{}}}"#, "[".repeat(200), "]".repeat(200));
        for text in [&deep, r#"{"a":1e400}"#, r#"{"a":"\ud800"}"#, r#"{"a":01}"#] {
            assert!(serde_json::from_str::<ObjectField>(text).is_err(), "{text}");
        }
        assert_eq!(
            replace_lone_surrogates(r#"\ud800 \ud83d\ude00 \\ud800"#),
            r#"\ufffd \ud83d\ude00 \\ud800"#
        );
    }
}
