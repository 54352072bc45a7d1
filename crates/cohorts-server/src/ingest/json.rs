//! JSON as senders write it, to JSON text that can be stored: read once, without a tree of values for what is only
//! to be kept.
//!
//! What comes out is never what a database refuses: no NUL, no half of a character, numbers that a double holds, and
//! at most 128 levels.

use std::fmt::{self, Write};

use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

/// The members of an object that say more than that they are to be kept.
const PICKED: [&str; 8] = [
    "$set",
    "$set_once",
    "$unset",
    "$anon_distinct_id",
    "alias",
    "distinct_id",
    "$ignore_sent_at",
    "$process_person_profile",
];

/// An event's properties.
#[derive(Debug, PartialEq)]
pub struct Properties {
    /// The text of the object.
    pub text: String,
    /// Those members that mean something here.
    pub picked: Map<String, Value>,
}

/// Properties, or what stands where they should be.
#[derive(Debug, Default, PartialEq)]
pub enum Told {
    #[default]
    Nothing,
    Object(Properties),
    NoObject,
}

impl Default for Properties {
    fn default() -> Self {
        Self {
            text: String::from("{}"),
            picked: Map::new(),
        }
    }
}

impl Properties {
    /// Adds or replaces a member: of two with one name, the database keeps the last.
    pub fn insert(&mut self, name: &str, value: &Value) {
        self.text.pop();
        if self.text.len() > 1 {
            self.text.push(',');
        }
        write_text(&mut self.text, name);
        self.text.push(':');
        self.text.push_str(&value.to_string());
        self.text.push('}');
    }
}

impl<'de> Deserialize<'de> for Told {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ToldVisitor)
    }
}

struct ToldVisitor;

impl<'de> Visitor<'de> for ToldVisitor {
    type Value = Told;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_unit<E>(self) -> Result<Told, E> {
        Ok(Told::Nothing)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Told, E> {
        Ok(Told::NoObject)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Told, E> {
        Ok(Told::NoObject)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Told, E> {
        Ok(Told::NoObject)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Told, E> {
        Ok(Told::NoObject)
    }

    fn visit_str<E>(self, _: &str) -> Result<Told, E> {
        Ok(Told::NoObject)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Told, A::Error> {
        while list
            .next_element_seed(Copied(&mut String::new()))?
            .is_some()
        {}
        Ok(Told::NoObject)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Told, A::Error> {
        let mut told = Properties {
            text: String::from("{"),
            picked: Map::new(),
        };
        while let Some(name) = map.next_key::<Name>()? {
            separate(&mut told.text, '{');
            write_text(&mut told.text, &name.0);
            told.text.push(':');
            let from = told.text.len();
            map.next_value_seed(Copied(&mut told.text))?;
            if PICKED.contains(&name.0.as_str()) {
                // What has just been written can be read.
                let value = serde_json::from_str(&told.text[from..]).map_err(A::Error::custom)?;
                told.picked.insert(name.0, value);
            }
        }
        told.text.push('}');
        Ok(Told::Object(told))
    }
}

/// A member's name.
struct Name(String);

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        // Names that the library which reads JSON keeps for itself.
        match name.starts_with("$serde_json::private::") {
            true => Ok(Name(name.replacen('$', "_", 1))),
            false => Ok(Name(name)),
        }
    }
}

/// Writes the value that is read.
struct Copied<'a>(&'a mut String);

impl<'de> DeserializeSeed<'de> for Copied<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Copied<'_> {
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
        // As `Value` writes it, but for an exponent: the database writes all digits, which must count.
        match Value::from(value).to_string() {
            text if text.contains('e') => write!(self.0, "{value}").map_err(E::custom),
            text => {
                self.0.push_str(&text);
                Ok(())
            }
        }
    }

    fn visit_str<E>(self, value: &str) -> Result<(), E> {
        write_text(self.0, value);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        self.0.push('[');
        let mut rest = false;
        loop {
            let length = self.0.len();
            if rest {
                self.0.push(',');
            }
            if list.next_element_seed(Copied(self.0))?.is_none() {
                self.0.truncate(length);
                break;
            }
            rest = true;
        }
        self.0.push(']');
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        self.0.push('{');
        while let Some(name) = map.next_key::<Name>()? {
            separate(self.0, '{');
            write_text(self.0, &name.0);
            self.0.push(':');
            map.next_value_seed(Copied(self.0))?;
        }
        self.0.push('}');
        Ok(())
    }
}

/// A comma, unless nothing stands before it.
fn separate(text: &mut String, begin: char) {
    if !text.ends_with(begin) {
        text.push(',');
    }
}

/// A text as a JSON string; NUL, which a database cannot store, is replaced.
fn write_text(out: &mut String, text: &str) {
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
            // Control characters have two hexadecimal digits at most.
            Some(other) => out.push_str(&format!("\\u{:04x}", u32::from(other))),
            None => {}
        }
        rest = characters.as_str();
    }
    out.push_str(rest);
    out.push('"');
}

/// Replaces each `\uD800` to `\uDFFF` that is no half of a pair, which JavaScript lets stand alone.
pub fn mended(text: &str) -> String {
    let mut mended = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        let (before, escape) = rest.split_at(at);
        mended.push_str(before);
        let unit = |text: &str| {
            let digits = text.strip_prefix("\\u")?.get(..4)?;
            u32::from_str_radix(digits, 16).ok()
        };
        let length = match (unit(escape), escape.get(6..).and_then(unit)) {
            (Some(0xD800..=0xDBFF), Some(0xDC00..=0xDFFF)) => 12,
            (Some(0xD800..=0xDFFF), _) => {
                mended.push_str("\\ufffd");
                rest = &escape[6..];
                continue;
            }
            // A backslash and what it stands for.
            _ => 1 + escape[1..].chars().next().map_or(0, char::len_utf8),
        };
        mended.push_str(&escape[..length]);
        rest = &escape[length..];
    }
    mended.push_str(rest);
    mended
}

#[cfg(test)]
mod tests {
    use super::*;

    fn properties(text: &str) -> Properties {
        match serde_json::from_str(text) {
            Ok(Told::Object(properties)) => properties,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn what_is_kept_says_the_same_as_what_was_sent() {
        for text in [
            r#"{}"#,
            r#"{"a":[],"b":{},"c":[1,-2,3.5,true,false,null,"x"],"d":{"e":{"f":[{}]}}}"#,
            r#"{"text":"\"\\\n\r\t\u0001é🦊"}"#,
            r#"{"large":18446744073709551615,"small":-9223372036854775808,"far":1e300}"#,
        ] {
            let kept: Value = serde_json::from_str(&properties(text).text).unwrap();
            assert_eq!(kept, serde_json::from_str::<Value>(text).unwrap(), "{text}");
        }
    }

    #[test]
    fn what_means_something_is_picked() {
        let mut told = properties(r#"{"alias":"b","$set":{"a":"\u0000"},"x":1}"#);
        assert_eq!(told.picked.len(), 2);
        assert_eq!(told.picked["$set"]["a"], "\u{fffd}");
        told.insert("$set_once", &serde_json::json!({"c": 2}));
        let end = r#","x":1,"$set_once":{"c":2}}"#;
        assert!(told.text.ends_with(end), "{}", told.text);
        let mut nothing = Properties::default();
        nothing.insert("a", &Value::Null);
        assert_eq!(nothing.text, r#"{"a":null}"#);
    }

    #[test]
    fn what_a_database_refuses_is_refused_here() {
        let deep = format!(r#"{{"a":{}1{}}}"#, "[".repeat(200), "]".repeat(200));
        for text in [&deep, r#"{"a":1e400}"#, r#"{"a":"\ud800"}"#, r#"{"a":01}"#] {
            assert!(serde_json::from_str::<Told>(text).is_err(), "{text}");
        }
        assert_eq!(
            mended(r#"\ud800 \ud83d\ude00 \\ud800"#),
            r#"\ufffd \ud83d\ude00 \\ud800"#
        );
    }
}
