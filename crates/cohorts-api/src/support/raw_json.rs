//! JSON with its original text.

use serde::ser::SerializeStruct;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

/// Struct name by which `serde_json` recognises text that is already JSON.
/// Creating a `RawValue` instead would parse the text again.
const TOKEN: &str = "$serde_json::private::RawValue";

/// The text of one JSON value.
///
/// It is stored and returned without being parsed. Unknown keys, their order and the notation of numbers are preserved.
#[derive(Debug, Clone)]
pub struct RawJson(String);

impl RawJson {
    /// Wraps text that is known to be JSON, such as a database column of that type. The text is not checked.
    pub fn trusted(text: String) -> Self {
        Self(text)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the value is null.
    pub fn is_null(&self) -> bool {
        self.as_str() == "null"
    }

    /// Parses the value.
    ///
    /// Returns null if the text cannot be parsed: it is nested too deeply, or a number is out of range.
    /// JSON of a request can always be parsed.
    pub fn parse(&self) -> serde_json::Value {
        serde_json::from_str(self.as_str()).unwrap_or_default()
    }

    /// For `deserialize_with`, on a field where null is a value: null gives `Some`, and only an absent field gives `None`.
    #[allow(dead_code, reason = "called where the contract has such a field")]
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
        let mut raw = serializer.serialize_struct(TOKEN, 1)?;
        raw.serialize_field(TOKEN, &self.0)?;
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
    fn text_is_preserved() {
        let text = r#"{"b": 1.0, "a":[ 12345678901234567890123 ]}"#;
        let raw: RawJson = serde_json::from_str(text).unwrap();
        assert_eq!(raw.as_str(), text);
        assert_eq!(serde_json::to_string(&raw).unwrap(), text);
        assert_eq!(raw.parse()["b"], 1.0);
        // Nested in another value it must not become a string or an object.
        let list = serde_json::to_string(&[&raw, &RawJson::trusted("null".to_owned())]);
        assert_eq!(list.unwrap(), format!("[{text},null]"));
    }

    #[test]
    fn invalid_json_is_an_error() {
        assert!(serde_json::from_str::<RawJson>("{").is_err());
    }

    #[test]
    fn unparsable_text_parses_as_null() {
        let raw = RawJson::trusted("1e999".to_owned());
        assert_eq!(raw.parse(), serde_json::Value::Null);
    }

    #[test]
    fn present_distinguishes_null_from_absent() {
        #[derive(Deserialize)]
        struct Filtered {
            #[serde(default, deserialize_with = "RawJson::present")]
            filters: Option<RawJson>,
        }
        let null: Filtered = serde_json::from_str(r#"{"filters":null}"#).unwrap();
        assert!(null.filters.unwrap().is_null());
        let absent: Filtered = serde_json::from_str("{}").unwrap();
        assert!(absent.filters.is_none());
    }
}
