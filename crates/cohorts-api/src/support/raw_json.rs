//! JSON that is kept as it was written.

use serde::ser::SerializeStruct;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

/// By this name serde_json knows text that is JSON already. Its `RawValue` would read through the text once more.
const RAW: &str = "$serde_json::private::RawValue";

/// The text of one JSON value.
///
/// It is stored and answered without being parsed, so unknown keys, their order and the form of numbers survive.
#[derive(Debug, Clone)]
pub struct RawJson(String);

impl RawJson {
    /// Takes text that is JSON already, such as a column of that type in the database; it is not looked at.
    pub fn trusted(text: String) -> Self {
        Self(text)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn is_null(&self) -> bool {
        self.as_str() == "null"
    }

    /// The value itself.
    ///
    /// What came in a request always has one. Other text may not have: it may be nested too deeply
    /// or hold a number out of range, and is then read as null.
    pub fn parse(&self) -> serde_json::Value {
        serde_json::from_str(self.as_str()).unwrap_or_default()
    }

    #[allow(dead_code, reason = "called where the contract has such a field")]
    /// For a field where null is a value like any other: what is there is taken, null too.
    pub(crate) fn present<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Self>, D::Error> {
        Self::deserialize(deserializer).map(Some)
    }
}

impl<'de> Deserialize<'de> for RawJson {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        Ok(Self(Box::<str>::from(raw).into_string()))
    }
}

impl Serialize for RawJson {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut raw = serializer.serialize_struct(RAW, 1)?;
        raw.serialize_field(RAW, &self.0)?;
        raw.end()
    }
}

impl From<&serde_json::Value> for RawJson {
    fn from(value: &serde_json::Value) -> Self {
        Self(value.to_string())
    }
}

impl PartialEq for RawJson {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_survives_as_it_was_written() {
        let text = r#"{"b": 1.0, "a":[ 12345678901234567890123 ]}"#;
        let raw: RawJson = serde_json::from_str(text).unwrap();
        assert_eq!(raw.as_str(), text);
        assert_eq!(serde_json::to_string(&raw).unwrap(), text);
        assert_eq!(raw.parse()["b"], 1.0);
        // Within other values too, where it must not become a text or an object of its own.
        let list = serde_json::to_string(&[&raw, &RawJson::trusted("null".to_owned())]);
        assert_eq!(list.unwrap(), format!("[{text},null]"));
    }

    #[test]
    fn what_is_not_json_is_refused() {
        assert!(serde_json::from_str::<RawJson>("{").is_err());
    }

    #[test]
    fn text_without_a_value_is_read_as_null() {
        let raw = RawJson::trusted("1e999".to_owned());
        assert_eq!(raw.parse(), serde_json::Value::Null);
    }

    #[test]
    fn null_is_present_where_null_is_a_value() {
        #[derive(Deserialize)]
        struct Body {
            #[serde(default, deserialize_with = "RawJson::present")]
            filters: Option<RawJson>,
        }
        let sent: Body = serde_json::from_str(r#"{"filters":null}"#).unwrap();
        assert!(sent.filters.unwrap().is_null());
        let absent: Body = serde_json::from_str("{}").unwrap();
        assert!(absent.filters.is_none());
    }
}
