//! Fields of items, read by visitors that ignore values of other types: a tree of values may take fifty times the memory
//! of its text.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::json::{MemberName, copied_list, copied_object};

/// What is read from a value of any type. The default is to ignore lists and objects.
pub trait FromAny: Sized {
    fn from_scalar(scalar: Scalar) -> Self;

    fn from_list<'de, A: SeqAccess<'de>>(mut list: A) -> Result<Self, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Self::from_scalar(Scalar::Other))
    }

    fn from_object<'de, A: MapAccess<'de>>(mut map: A) -> Result<Self, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Self::from_scalar(Scalar::Other))
    }
}

struct AnyVisitor<T>(PhantomData<T>);

impl<T> AnyVisitor<T> {
    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error>
    where
        T: FromAny,
    {
        deserializer.deserialize_any(Self(PhantomData))
    }
}

impl<'de, T: FromAny> Visitor<'de> for AnyVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<T, E> {
        Ok(T::from_scalar(Scalar::Absent))
    }

    fn visit_bool<E>(self, value: bool) -> Result<T, E> {
        Ok(T::from_scalar(Scalar::Bool(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<T, E> {
        Ok(T::from_scalar(Scalar::Integer(value)))
    }

    fn visit_u64<E>(self, value: u64) -> Result<T, E> {
        let integer = i64::try_from(value).map(Scalar::Integer);
        Ok(T::from_scalar(
            integer.unwrap_or_else(|_| Scalar::Number(value.to_string())),
        ))
    }

    fn visit_f64<E>(self, value: f64) -> Result<T, E> {
        Ok(T::from_scalar(Scalar::Number(
            Value::from(value).to_string(),
        )))
    }

    fn visit_str<E>(self, value: &str) -> Result<T, E> {
        Ok(T::from_scalar(Scalar::Text(value.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<T, A::Error> {
        T::from_list(list)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        T::from_object(map)
    }
}

/// The value of a field that should be a text, a number or a truth value.
#[derive(Debug, Default, PartialEq)]
pub enum Scalar {
    /// The field is missing or null.
    #[default]
    Absent,
    Bool(bool),
    Integer(i64),
    /// The text of another number.
    Number(String),
    Text(String),
    /// A list or an object.
    Other,
}

impl Scalar {
    pub fn is_absent(&self) -> bool {
        *self == Self::Absent
    }

    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The text, or that of a number.
    pub fn as_text(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Text(text) | Self::Number(text) => Some(text.into()),
            Self::Integer(integer) => Some(integer.to_string().into()),
            Self::Absent | Self::Bool(_) | Self::Other => None,
        }
    }

    /// The kind of the value, in words.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Absent => "nothing",
            Self::Bool(_) => "true or false",
            Self::Integer(_) | Self::Number(_) => "a number",
            Self::Text(_) => "a text",
            Self::Other => "a list or an object",
        }
    }

    /// The text, or that of a number.
    pub fn into_text(self) -> Option<String> {
        match self {
            Self::Text(text) | Self::Number(text) => Some(text),
            Self::Integer(integer) => Some(integer.to_string()),
            Self::Absent | Self::Bool(_) | Self::Other => None,
        }
    }
}

impl FromAny for Scalar {
    fn from_scalar(scalar: Scalar) -> Self {
        scalar
    }
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        AnyVisitor::read(deserializer)
    }
}

/// A distinct id: a text, or the JSON text of another value, as in PostHog. `None` if the field is missing or null.
#[derive(Debug, Default, PartialEq)]
pub struct IdText(pub Option<String>);

impl FromAny for IdText {
    fn from_scalar(scalar: Scalar) -> Self {
        match scalar {
            Scalar::Bool(value) => Self(Some(value.to_string())),
            scalar => Self(scalar.into_text()),
        }
    }

    fn from_list<'de, A: SeqAccess<'de>>(list: A) -> Result<Self, A::Error> {
        copied_list(list).map(|text| Self(Some(text)))
    }

    fn from_object<'de, A: MapAccess<'de>>(map: A) -> Result<Self, A::Error> {
        copied_object(map).map(|text| Self(Some(text)))
    }
}

impl<'de> Deserialize<'de> for IdText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        AnyVisitor::read(deserializer)
    }
}

/// The strings of a list, or the names of an object's members.
#[derive(Debug, Default, PartialEq)]
pub struct NameList(pub Vec<String>);

impl FromAny for NameList {
    fn from_scalar(_: Scalar) -> Self {
        Self::default()
    }

    fn from_list<'de, A: SeqAccess<'de>>(mut list: A) -> Result<Self, A::Error> {
        let mut names = Vec::new();
        while let Some(name) = list.next_element::<Scalar>()? {
            if let Scalar::Text(name) = name {
                names.push(name);
            }
        }
        Ok(Self(names))
    }

    fn from_object<'de, A: MapAccess<'de>>(mut map: A) -> Result<Self, A::Error> {
        let mut names = Vec::new();
        while let Some((name, IgnoredAny)) = map.next_entry()? {
            names.push(name);
        }
        Ok(Self(names))
    }
}

impl<'de> Deserialize<'de> for NameList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        AnyVisitor::read(deserializer)
    }
}

/// The object in which newer SDKs send options of an event.
#[derive(Debug, Default, PartialEq)]
pub struct EventOptions {
    pub process_person_profile: Scalar,
}

impl FromAny for EventOptions {
    fn from_scalar(_: Scalar) -> Self {
        Self::default()
    }

    fn from_object<'de, A: MapAccess<'de>>(mut map: A) -> Result<Self, A::Error> {
        let mut options = Self::default();
        while let Some(name) = map.next_key::<MemberName>()? {
            if name.0 == "process_person_profile" {
                options.process_person_profile = map.next_value()?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(options)
    }
}

impl<'de> Deserialize<'de> for EventOptions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        AnyVisitor::read(deserializer)
    }
}

/// The value of a field that should be an object.
#[derive(Debug, Default, PartialEq)]
pub enum ObjectField<T> {
    /// The field is missing, null or an empty list: PHP writes an empty object as `[]`.
    #[default]
    Absent,
    Object(T),
    NotAnObject,
}

impl<T> ObjectField<T> {
    pub fn into_object(self) -> Option<T> {
        match self {
            Self::Object(object) => Some(object),
            Self::Absent | Self::NotAnObject => None,
        }
    }
}

/// What is read from an object.
pub trait FromMap: Sized {
    fn from_map<'de, A: MapAccess<'de>>(map: A) -> Result<Self, A::Error>;
}

impl<T: FromMap> FromAny for ObjectField<T> {
    fn from_scalar(scalar: Scalar) -> Self {
        if scalar.is_absent() {
            Self::Absent
        } else {
            Self::NotAnObject
        }
    }

    fn from_list<'de, A: SeqAccess<'de>>(mut list: A) -> Result<Self, A::Error> {
        let mut field = Self::Absent;
        while list.next_element::<IgnoredAny>()?.is_some() {
            field = Self::NotAnObject;
        }
        Ok(field)
    }

    fn from_object<'de, A: MapAccess<'de>>(map: A) -> Result<Self, A::Error> {
        T::from_map(map).map(Self::Object)
    }
}

impl<'de, T: FromMap> Deserialize<'de> for ObjectField<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        AnyVisitor::read(deserializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_other_types_are_ignored() {
        let scalar = |text: &str| serde_json::from_str::<Scalar>(text).unwrap();
        for text in ["[[0],[0]]", r#"{"a":{"b":[1]}}"#] {
            assert_eq!(scalar(text), Scalar::Other, "{text}");
        }
        assert_eq!(scalar("1.50").into_text().as_deref(), Some("1.5"));
        let large = u64::MAX.to_string();
        assert_eq!(scalar(&large).into_text(), Some(large));
        let names = |text: &str| serde_json::from_str::<NameList>(text).unwrap().0;
        assert_eq!(names(r#"["a",1,["b"],"c"]"#), ["a", "c"]);
        assert_eq!(names(r#"{"a":1,"b":[2]}"#), ["a", "b"]);
        assert_eq!(names("7"), [""; 0]);
    }

    #[test]
    fn ids_of_other_types_become_their_json_text() {
        let id = |text: &str| serde_json::from_str::<IdText>(text).unwrap().0;
        for (sent, expected) in [
            (r#""a b""#, Some("a b")),
            ("17", Some("17")),
            ("true", Some("true")),
            ("null", None),
            (r#"[ "a", 1, null ]"#, Some(r#"["a",1,null]"#)),
            (
                r#"{ "id": 7, "a": "\u00e9\"" }"#,
                Some(r#"{"id":7,"a":"é\""}"#),
            ),
            ("[]", Some("[]")),
        ] {
            assert_eq!(id(sent).as_deref(), expected, "{sent}");
        }
    }
}
