//! A field of a partial update that is not absent.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Null or a value. A field of this type is an `Option`, which is `None` if the field is not sent.
///
/// ```
/// use cohorts_client::{Nullable, types::PatchedCohort};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let change: PatchedCohort = PatchedCohort::builder()
///     .name(Nullable::Null)
///     .try_into()?;
/// assert_eq!(serde_json::to_string(&change)?, r#"{"name":null}"#);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nullable<T> {
    /// The field is sent as null.
    Null,
    /// The field is sent with a value.
    Value(T),
}

impl<T> From<T> for Nullable<T> {
    fn from(value: T) -> Self {
        Self::Value(value)
    }
}

impl<T: Serialize> Serialize for Nullable<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_none(),
            Self::Value(value) => value.serialize(serializer),
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Nullable<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Option::deserialize(deserializer)?.map_or(Self::Null, Self::Value))
    }
}
