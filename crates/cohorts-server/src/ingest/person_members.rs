//! The properties of a person as members of an object, each value as JSON text.
//!
//! A tree of values may take fifty times the memory of its text, and most values of a person do not change.

use std::collections::BTreeMap;

use serde::de::MapAccess;
use serde_json::Value;
use serde_json::value::RawValue;

use super::fields::{FromMap, ObjectField};
use super::json::{push_comma, write_string};

/// The longest values that are compared as trees.
const MAX_COMPARED_BYTES: usize = 64 << 10;
/// The approximate memory of a member, besides its texts.
const MEMBER_OVERHEAD: usize = 100;

/// The members of an object: names, and values as JSON text.
pub type Members = BTreeMap<Box<str>, Box<str>>;

/// The approximate memory of members.
pub fn members_memory(members: &Members) -> usize {
    let texts: usize = members
        .iter()
        .map(|(name, value)| name.len() + value.len())
        .sum();
    members.len() * MEMBER_OVERHEAD + texts
}

/// The text of the object with these members.
pub fn object_text(members: &Members) -> String {
    let lengths = members.iter().map(|(name, value)| name.len() + value.len());
    let mut text = String::with_capacity(lengths.map(|length| length + 4).sum::<usize>() + 2);
    text.push('{');
    for (name, value) in members {
        push_comma(&mut text, '{');
        write_string(&mut text, name);
        text.push(':');
        text.push_str(value);
    }
    text.push('}');
    text
}

/// The members of a stored object; `None` if the text is not an object.
pub fn stored_members(text: &str) -> Option<Members> {
    struct Stored(Members);
    impl FromMap for Stored {
        fn from_map<'de, A: MapAccess<'de>>(mut map: A) -> Result<Self, A::Error> {
            let mut members = Members::new();
            while let Some((name, value)) = map.next_entry::<Box<str>, Box<RawValue>>()? {
                members.insert(name, value.into());
            }
            Ok(Self(members))
        }
    }
    match serde_json::from_str(text) {
        Ok(ObjectField::Object(Stored(members))) => Some(members),
        _ => None,
    }
}

/// Whether two values are equal, whatever the white space and the order of members. Large objects with different texts
/// count as different.
pub fn is_same_value(left: &str, right: &str) -> bool {
    let value = |text| serde_json::from_str::<Value>(text).ok();
    left == right
        || left.len().max(right.len()) <= MAX_COMPARED_BYTES
            && left.as_bytes().first() == right.as_bytes().first()
            && value(left).is_some_and(|left| Some(left) == value(right))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_the_same_whatever_their_white_space() {
        let stored = stored_members(r#"{"a": {"b": 1, "cc": [1, 2]}, "d": "\u0008"}"#).unwrap();
        assert!(is_same_value(&stored["a"], r#"{"cc":[1,2],"b":1}"#));
        assert!(is_same_value(&stored["d"], r#""\b""#));
        for (name, other) in [("a", "{}"), ("a", "1"), ("d", r#""b""#)] {
            assert!(!is_same_value(&stored[name], other), "{name} {other}");
        }
        assert_eq!(stored_members(&object_text(&stored)), Some(stored));
        assert_eq!(stored_members("[]"), None);
    }
}
