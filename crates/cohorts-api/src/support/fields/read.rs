//! Reads lists and objects without building them: items are converted one by one, unknown members are skipped.

use std::fmt;

use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use serde_json::value::RawValue;

use super::{Field, Kind, Violation, type_name, value};

/// The last value of each field of an object, in the order of `rules`. `None` if `text` is not an object.
pub(super) fn members<'a>(text: &'a str, rules: &[Field]) -> Option<Vec<Option<&'a RawValue>>> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    deserializer.deserialize_map(Members(rules)).ok()
}

struct Members<'r>(&'r [Field]);

impl<'de> Visitor<'de> for Members<'_> {
    type Value = Vec<Option<&'de RawValue>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let mut values = vec![None; self.0.len()];
        while let Some(index) = members.next_key_seed(Position(self.0))? {
            match index {
                Some(index) => values[index] = Some(members.next_value()?),
                None => drop(members.next_value::<IgnoredAny>()?),
            }
        }
        Ok(values)
    }
}

/// The position of the rule with the name of a member.
struct Position<'r>(&'r [Field]);

impl<'de> DeserializeSeed<'de> for Position<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Position<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.0.iter().position(|rule| rule.name == name))
    }
}

/// Converts a list. `text` must be valid JSON.
pub(super) fn list(
    text: &str,
    kind: &Kind,
    nullable: bool,
    max_items: Option<usize>,
) -> Result<String, Violation> {
    let name = type_name(text);
    if name != "list" {
        return Err(Violation::new(
            "not_a_list",
            format!("Expected a list of items but got type \"{name}\"."),
        ));
    }
    let mut items = Items {
        kind,
        nullable,
        count: 0,
        text: String::from("["),
        violation: None,
    };
    // The only error is a violation.
    let _ = serde_json::Deserializer::from_str(text).deserialize_seq(&mut items);
    if let Some(violation) = items.violation {
        return Err(violation);
    }
    if let Some(max) = max_items.filter(|max| items.count > *max) {
        let detail = format!("Ensure this field has no more than {max} elements.");
        return Err(Violation::new("max_length", detail));
    }
    Ok(items.text + "]")
}

/// The converted items of a list.
struct Items<'r> {
    kind: &'r Kind,
    nullable: bool,
    count: usize,
    text: String,
    violation: Option<Violation>,
}

impl Items<'_> {
    fn convert(&self, text: &str) -> Result<String, Violation> {
        match text {
            "null" if self.nullable => Ok("null".to_owned()),
            "null" => Err(Violation::null()),
            text => value(self.kind, text),
        }
    }
}

impl<'de> Visitor<'de> for &mut Items<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while let Some(item) = list.next_element::<&RawValue>()? {
            match self.convert(item.get()) {
                Ok(text) => {
                    let comma = if self.count > 0 { "," } else { "" };
                    self.text.extend([comma, &text]);
                }
                Err(violation) => {
                    self.violation = Some(violation.within(self.count.to_string()));
                    return Err(A::Error::custom("violation"));
                }
            }
            self.count += 1;
        }
        Ok(())
    }
}
