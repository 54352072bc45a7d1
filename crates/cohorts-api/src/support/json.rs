//! Checks the syntax of JSON and estimates what its values would take. No values are built.
//!
//! The errors are those of parsing into `serde_json::Value`: syntax, nesting, numbers out of range, invalid escapes.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

/// The first allocation of a list: four values.
const LIST: usize = 4 * size_of::<Value>();
/// The first allocation of an object: four members and their hash table.
const OBJECT: usize = 4 * (size_of::<Value>() + 32) + 64;
/// A text or the name of a member, in addition to its bytes.
const TEXT: usize = 16;

/// Checks that `text` is JSON.
pub(super) fn check(text: &str) -> serde_json::Result<()> {
    tree_bytes(text).map(drop)
}

/// The bytes that a `serde_json::Value` of the text would take, about.
pub(super) fn tree_bytes(text: &str) -> serde_json::Result<usize> {
    let mut bytes = text.len();
    let mut deserializer = serde_json::Deserializer::from_str(text);
    Counter(&mut bytes).deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(bytes)
}

/// Whether `text`, which must be JSON, is a list or an object.
pub(super) fn is_container(text: &str) -> bool {
    text.trim_start().starts_with(['[', '{'])
}

/// Adds what each value takes.
struct Counter<'a>(&'a mut usize);

impl<'de> DeserializeSeed<'de> for Counter<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Counter<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any valid JSON value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        *self.0 += TEXT;
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let mut count = 0;
        while items.next_element_seed(Counter(self.0))?.is_some() {
            count += 1;
        }
        *self.0 += if count == 0 {
            0
        } else {
            LIST.max(size_of::<Value>() * count)
        };
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let mut count = 0;
        while members.next_key_seed(Counter(self.0))?.is_some() {
            members.next_value_seed(Counter(self.0))?;
            count += 1;
        }
        *self.0 += if count == 0 {
            0
        } else {
            OBJECT.max(OBJECT / 4 * count)
        };
        Ok(())
    }
}

/// Parses `text`, which must be valid JSON.
pub(super) fn parse(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_those_of_parsing_into_values() {
        let deep = format!("{}1{}", "[".repeat(200), "]".repeat(200));
        let allowed = format!("{}1{}", "[".repeat(127), "]".repeat(127));
        for text in [
            "{}",
            r#"{"a": [1, -2, 1.5e3, "\u00e9\ud83d\ude00", null, true], "a": {}}"#,
            &allowed,
            &deep,
            "",
            "{",
            "[1,]",
            "[1] 2",
            r#"{"a": 1e999}"#,
            r#"{"a": "\ud800"}"#,
            r#"{"\ud800": 1}"#,
            r#"{"a": "\x"}"#,
            r#"{"a" 1}"#,
            r#"{1: 1}"#,
            "\"a\nb\"",
            "12345678901234567890123",
            "nul",
        ] {
            let expected = serde_json::from_str::<Value>(text).map(drop);
            let actual = check(text);
            let words = |result: serde_json::Result<()>| result.map_err(|error| error.to_string());
            assert_eq!(words(actual), words(expected), "{text}");
        }
    }

    #[test]
    fn small_containers_take_much_more_than_their_text() {
        let lists = format!("[{}[0]]", "[0],".repeat(1_000));
        assert!(tree_bytes(&lists).unwrap() > 80 * lists.len());
        let text = format!("\"{}\"", "a".repeat(1_000));
        assert!(tree_bytes(&text).unwrap() < 2 * text.len());
    }
}
