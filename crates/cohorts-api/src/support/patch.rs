//! A field of a partial update: absent, null, or a value.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A field that distinguishes absent from null.
///
/// In a struct, annotate the field with `#[serde(default, skip_serializing_if = "Patch::is_absent")]`.
///
/// ```
/// use cohorts_api::Patch;
///
/// #[derive(serde::Deserialize)]
/// struct Change {
///     #[serde(default, skip_serializing_if = "Patch::is_absent")]
///     name: Patch<String>,
/// }
///
/// # fn main() -> Result<(), serde_json::Error> {
/// let change: Change = serde_json::from_str(r#"{"name": null}"#)?;
/// assert_eq!(change.name, Patch::Null);
/// let change: Change = serde_json::from_str("{}")?;
/// assert_eq!(change.name, Patch::Absent);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Patch<T> {
    /// The field was not sent.
    #[default]
    Absent,
    /// The field was sent as null.
    Null,
    /// The field was sent with a value.
    Value(T),
}

impl<T> Patch<T> {
    /// Whether the field was not sent.
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }

    /// Borrows the value.
    pub fn as_ref(&self) -> Patch<&T> {
        match self {
            Self::Absent => Patch::Absent,
            Self::Null => Patch::Null,
            Self::Value(value) => Patch::Value(value),
        }
    }

    /// Applies `function` to the value.
    pub fn map<U>(self, function: impl FnOnce(T) -> U) -> Patch<U> {
        match self {
            Self::Absent => Patch::Absent,
            Self::Null => Patch::Null,
            Self::Value(value) => Patch::Value(function(value)),
        }
    }

    /// The value; `None` if the field is absent or null.
    pub fn value(self) -> Option<T> {
        match self {
            Self::Value(value) => Some(value),
            Self::Absent | Self::Null => None,
        }
    }

    /// The new value to store: `None` if the field is absent, `Some(None)` if it is null.
    pub fn change(self) -> Option<Option<T>> {
        match self {
            Self::Absent => None,
            Self::Null => Some(None),
            Self::Value(value) => Some(Some(value)),
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Patch<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Option::deserialize(deserializer)?.map_or(Self::Null, Self::Value))
    }
}

impl<T: Serialize> Serialize for Patch<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Absent | Self::Null => serializer.serialize_none(),
            Self::Value(value) => value.serialize(serializer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
    struct Renamed {
        #[serde(default, skip_serializing_if = "Patch::is_absent")]
        name: Patch<String>,
    }

    fn read(text: &str) -> Patch<String> {
        serde_json::from_str::<Renamed>(text).unwrap().name
    }

    #[test]
    fn absent_null_and_value_are_distinguished() {
        assert_eq!(read("{}"), Patch::Absent);
        assert_eq!(read(r#"{"name":null}"#), Patch::Null);
        assert_eq!(read(r#"{"name":"a"}"#), Patch::Value("a".to_owned()));
    }

    #[test]
    fn serialization_reverses_deserialization() {
        for text in ["{}", r#"{"name":null}"#, r#"{"name":"a"}"#] {
            let change: Renamed = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&change).unwrap(), text);
        }
    }

    #[test]
    fn change_is_none_null_or_a_value() {
        assert_eq!(Patch::<i64>::Absent.change(), None);
        assert_eq!(Patch::<i64>::Null.change(), Some(None));
        assert_eq!(Patch::Value(1).map(|n| n + 1).change(), Some(Some(2)));
        assert_eq!(Patch::Value(1).as_ref().value(), Some(&1));
    }
}
