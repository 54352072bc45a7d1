//! JSON that is kept as it was written.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

/// The text of one JSON value.
///
/// It is stored and answered without being parsed, so unknown keys, their order and the form of numbers survive.
#[derive(Debug, Clone, Serialize)]
#[serde(transparent)]
pub struct RawJson(Box<RawValue>);

impl RawJson {
    /// Takes text which is JSON already, such as a column of the database.
    pub fn from_string(text: String) -> Result<Self, serde_json::Error> {
        RawValue::from_string(text).map(Self)
    }

    pub fn as_str(&self) -> &str {
        self.0.get()
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
        Box::deserialize(deserializer).map(Self)
    }
}

impl From<&serde_json::Value> for RawJson {
    fn from(value: &serde_json::Value) -> Self {
        RawValue::from_string(value.to_string())
            .map(Self)
            .expect("a value is written as JSON")
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
    }

    #[test]
    fn what_is_not_json_is_refused() {
        assert!(RawJson::from_string("{".to_owned()).is_err());
    }

    #[test]
    fn text_without_a_value_is_read_as_null() {
        let raw = RawJson::from_string("1e999".to_owned()).unwrap();
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
