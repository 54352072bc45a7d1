//! What writes of the log show: the names of events and properties, and the kinds of their values.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::Deserializer;
use serde::de::{DeserializeSeed, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::kinds::ValueKinds;
use super::names::{CatalogueNames, PropertyKinds};

/// Properties of events that the service interprets, or that describe groups. They are not listed.
const HIDDEN: [&str; 9] = [
    "$set",
    "$set_once",
    "$unset",
    "$groups",
    "$group_0",
    "$group_1",
    "$group_2",
    "$group_3",
    "$group_4",
];

/// Names of events and properties. Those that a catalogue has already may be left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    pub events: BTreeMap<String, BTreeMap<String, ValueKinds>>,
    pub persons: BTreeMap<String, ValueKinds>,
    /// Whether names were left out because the catalogue has no room for them.
    pub leaves_out: bool,
}

impl Evidence {
    pub fn is_empty(&self) -> bool {
        self.events.is_empty() && self.persons.is_empty()
    }

    /// Adds the names of an event with these properties, as JSON text, that `known` does not have.
    pub fn add_event(&mut self, event: &str, properties: &str, known: &CatalogueNames) {
        let of_event = known.properties_of(event);
        if of_event.is_none() && !self.events.contains_key(event) {
            if !known.has_room() {
                self.leaves_out = true;
                return;
            }
            self.events.insert(event.to_owned(), BTreeMap::new());
        }
        for_each_member(properties, |name, value| {
            let kinds = ValueKinds::of(value);
            if has(of_event, name, kinds) || HIDDEN.contains(&name) {
                return;
            }
            if known.has_room() || of_event.is_some_and(|known| known.contains_key(name)) {
                let properties = self.events.entry(event.to_owned()).or_default();
                properties.entry(name.to_owned()).or_default().add(kinds);
            } else {
                self.leaves_out = true;
            }
        });
    }

    /// Adds the names of the properties of a person, as JSON text, that `known` does not have.
    pub fn add_person(&mut self, properties: &str, known: &CatalogueNames) {
        let of_persons = Some(known.person_properties());
        for_each_member(properties, |name, value| {
            let kinds = ValueKinds::of(value);
            if has(of_persons, name, kinds) {
                return;
            }
            if known.has_room() || known.person_properties().contains_key(name) {
                self.persons.entry(name.to_owned()).or_default().add(kinds);
            } else {
                self.leaves_out = true;
            }
        });
    }

    /// Adds other evidence.
    pub fn extend(&mut self, other: Self) {
        self.leaves_out |= other.leaves_out;
        for (event, properties) in other.events {
            let of_event = self.events.entry(event).or_default();
            for (name, kinds) in properties {
                of_event.entry(name).or_default().add(kinds);
            }
        }
        for (name, kinds) in other.persons {
            self.persons.entry(name).or_default().add(kinds);
        }
    }
}

/// Whether the name needs no evidence. An empty name is never listed.
fn has(properties: Option<&PropertyKinds>, name: &str, kinds: ValueKinds) -> bool {
    let known = properties.and_then(|properties| properties.get(name));
    name.is_empty() || known.is_some_and(|known| known.contains(kinds))
}

/// Calls `each` with the name and the JSON text of each member of an object.
fn for_each_member(object: &str, each: impl FnMut(&str, &str)) {
    let mut reader = serde_json::Deserializer::from_str(object);
    // Text of the database or of this service is JSON; anything else has no members.
    let _ = reader.deserialize_map(EachMember(each));
}

struct EachMember<F>(F);

impl<'de, F: FnMut(&str, &str)> Visitor<'de> for EachMember<F> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key_seed(BorrowedName)? {
            let value: &RawValue = map.next_value()?;
            (self.0)(&name, value.get());
        }
        Ok(())
    }
}

/// Reads a name without a copy, unless it has escapes.
struct BorrowedName;

impl<'de> DeserializeSeed<'de> for BorrowedName {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Self::Value, D::Error> {
        reader.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for BorrowedName {
    type Value = Cow<'de, str>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a name")
    }

    fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(name))
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(name.to_owned()))
    }
}
