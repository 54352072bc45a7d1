//! Rewrites the JSON of senders as JSON text that Postgres can store, in one pass and without a tree of values.
//!
//! The output never contains what `jsonb` refuses: it has no NUL, no lone surrogate, no number beyond a double, and at
//! most 128 levels.

use std::fmt::{self, Write};

use serde::de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::fields::{FromMap, IdText, NameList, ObjectField, Scalar};
use super::person_members::Members;

/// The longest name of a property, in bytes. Members with longer names are dropped.
pub const LONGEST_PROPERTY_NAME: usize = 1_000;
/// The most bytes of rewritten text. Numbers are written with all digits, so it may be longer than the sender's.
const MAX_TEXT_BYTES: usize = 1 << 20;
/// The beginning of the error for text that would be longer.
pub const TEXT_TOO_LONG: &str = "the rewritten text is too long";
/// Properties of a person that an item sets.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PersonProperties {
    pub members: Members,
    /// Members that were dropped because their names are too long.
    pub dropped: usize,
}

impl FromMap for PersonProperties {
    fn from_map<'de, A: MapAccess<'de>>(mut map: A) -> Result<Self, A::Error> {
        let mut properties = Self::default();
        let mut text = String::new();
        let mut bytes = 0;
        while let Some(MemberName(name)) = map.next_key()? {
            if name.len() > LONGEST_PROPERTY_NAME {
                map.next_value::<IgnoredAny>()?;
                properties.dropped += 1;
                continue;
            }
            text.clear();
            map.next_value_seed(CopyTo(&mut text))?;
            bytes += name.len() + text.len();
            check_length(bytes)?;
            let name = name.replace('\0', "\u{fffd}");
            properties.members.insert(name.into(), text.as_str().into());
        }
        Ok(properties)
    }
}

/// The properties of an event.
#[derive(Debug, PartialEq)]
pub struct Properties {
    /// The text of the object.
    pub text: String,
    pub interpreted: Interpreted,
    /// Members that were dropped because their names are too long.
    pub dropped: usize,
}

/// The properties that the service interprets. They are also in the text.
#[derive(Debug, Default, PartialEq)]
pub struct Interpreted {
    pub set: ObjectField<PersonProperties>,
    pub set_once: ObjectField<PersonProperties>,
    pub unset: NameList,
    pub anon_distinct_id: IdText,
    pub alias: IdText,
    pub distinct_id: IdText,
    pub ignore_sent_at: Scalar,
    pub process_person_profile: Scalar,
}

impl Interpreted {
    /// Reads the member `name`, if the service interprets it, from its rewritten text.
    fn read(&mut self, name: &str, text: &str) -> serde_json::Result<()> {
        match name {
            "$set" => self.set = serde_json::from_str(text)?,
            "$set_once" => self.set_once = serde_json::from_str(text)?,
            "$unset" => self.unset = serde_json::from_str(text)?,
            "$anon_distinct_id" => self.anon_distinct_id = serde_json::from_str(text)?,
            "alias" => self.alias = serde_json::from_str(text)?,
            "distinct_id" => self.distinct_id = serde_json::from_str(text)?,
            "$ignore_sent_at" => self.ignore_sent_at = serde_json::from_str(text)?,
            "$process_person_profile" => self.process_person_profile = serde_json::from_str(text)?,
            _ => {}
        }
        Ok(())
    }
}

impl Default for Properties {
    fn default() -> Self {
        Self {
            text: String::from("{}"),
            interpreted: Interpreted::default(),
            dropped: 0,
        }
    }
}

impl Properties {
    /// Adds or replaces a member. Of two members with one name, `jsonb` stores the last.
    pub fn insert(&mut self, name: &str, value: &str) {
        self.text.pop();
        if self.text.len() > 1 {
            self.text.push(',');
        }
        write_string(&mut self.text, name);
        self.text.push(':');
        self.text.push_str(value);
        self.text.push('}');
    }
}

impl FromMap for Properties {
    fn from_map<'de, A: MapAccess<'de>>(mut map: A) -> Result<Self, A::Error> {
        let mut properties = Properties {
            text: String::from("{"),
            ..Self::default()
        };
        while let Some(name) = map.next_key::<MemberName>()? {
            if name.0.len() > LONGEST_PROPERTY_NAME {
                map.next_value::<IgnoredAny>()?;
                properties.dropped += 1;
                continue;
            }
            push_comma(&mut properties.text, '{');
            write_string(&mut properties.text, &name.0);
            properties.text.push(':');
            let from = properties.text.len();
            map.next_value_seed(CopyTo(&mut properties.text))?;
            let value = &properties.text[from..];
            let interpreted = properties.interpreted.read(&name.0, value);
            interpreted.map_err(A::Error::custom)?;
        }
        properties.text.push('}');
        Ok(properties)
    }
}

fn check_length<E: serde::de::Error>(length: usize) -> Result<(), E> {
    if length > MAX_TEXT_BYTES {
        Err(E::custom(TEXT_TOO_LONG))
    } else {
        Ok(())
    }
}

/// The name of a member.
pub struct MemberName(pub String);

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

/// The JSON text of a list, without white space.
pub fn copied_list<'de, A: SeqAccess<'de>>(list: A) -> Result<String, A::Error> {
    let mut text = String::new();
    CopyTo(&mut text).visit_seq(list)?;
    Ok(text)
}

/// The JSON text of an object, without white space.
pub fn copied_object<'de, A: MapAccess<'de>>(map: A) -> Result<String, A::Error> {
    let mut text = String::new();
    CopyTo(&mut text).visit_map(map)?;
    Ok(text)
}

/// Copies the value that is read to a text.
struct CopyTo<'a>(&'a mut String);

impl<'de> DeserializeSeed<'de> for CopyTo<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        check_length(self.0.len())?;
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
pub fn push_comma(text: &mut String, begin: char) {
    if !text.ends_with(begin) {
        text.push(',');
    }
}

/// Writes `text` as a JSON string. NUL, which Postgres cannot store, is replaced by U+FFFD.
pub fn write_string(out: &mut String, text: &str) {
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
    use crate::ingest::person_members::object_text;

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
        assert_eq!(sent.interpreted.alias, IdText(Some("b".to_owned())));
        let ObjectField::Object(set) = &sent.interpreted.set else {
            panic!("{sent:?}");
        };
        assert_eq!(object_text(&set.members), "{\"a\":\"\u{fffd}\"}");
        sent.insert("$set_once", r#"{"c":2}"#);
        let end = r#","x":1,"$set_once":{"c":2}}"#;
        assert!(sent.text.ends_with(end), "{}", sent.text);
        let mut empty = Properties::default();
        empty.insert("a", "null");
        assert_eq!(empty.text, r#"{"a":null}"#);
    }

    #[test]
    fn json_that_postgres_refuses_is_refused_or_replaced() {
        let deep = format!(r#"{{"a":{}1{}}}"#, "[".repeat(200), "]".repeat(200));
        for text in [&deep, r#"{"a":1e400}"#, r#"{"a":"\ud800"}"#, r#"{"a":01}"#] {
            let parsed = serde_json::from_str::<ObjectField<Properties>>(text);
            assert!(parsed.is_err(), "{text}");
        }
        assert_eq!(
            replace_lone_surrogates(r#"\ud800 \ud83d\ude00 \\ud800"#),
            r#"\ufffd \ud83d\ude00 \\ud800"#
        );
    }

    #[test]
    fn text_that_grows_beyond_the_limit_is_an_error() {
        let numbers = "1e300,".repeat(MAX_TEXT_BYTES / 300);
        let text = format!(r#"{{"a":[{numbers}0]}}"#);
        let error = serde_json::from_str::<ObjectField<Properties>>(&text).unwrap_err();
        assert!(error.to_string().starts_with(TEXT_TOO_LONG), "{error}");
    }

    #[test]
    fn members_with_long_names_are_dropped_and_counted() {
        let (longest, long) = ("a".repeat(1_000), "a".repeat(1_001));
        let text =
            format!(r#"{{"{long}":1,"{longest}":2,"$set":{{"{long}":[3],"b":4}},"{long}":5}}"#);
        let properties = properties(&text);
        assert_eq!(properties.dropped, 2);
        assert!(properties.text.starts_with(&format!("{{\"{longest}\":2,")));
        let ObjectField::Object(set) = properties.interpreted.set else {
            panic!("no properties are set");
        };
        assert_eq!((set.members.len(), set.dropped), (1, 1));
    }
}
