//! Limits on the size of a filter, and on names, that are checked before anything is built from them.
//!
//! A JSON object takes hundreds of bytes in memory, and its text takes two. So the text of a request
//! is counted first, and becomes a tree only within the limits.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::MAX_NODES;
use crate::FilterError;
use crate::names::stored_name;

/// Bytes of the name of a property or of an event. Names are keys of caches and of stored columns.
pub(crate) const MAX_NAME_BYTES: usize = 1_000;
/// Bytes of a word, such as an operator, a unit or a date.
const MAX_WORD_BYTES: usize = 400;
/// Objects of one filter, with those inside values.
pub(crate) const MAX_OBJECTS: usize = 5 * MAX_NODES;
/// JSON values of one filter.
pub(crate) const MAX_VALUES: usize = 500_000;

/// The error for a name that is too long, as a sentence.
pub(crate) fn long_name(field: &str, name: &str) -> Option<String> {
    let bytes = name.len();
    (bytes > MAX_NAME_BYTES).then(|| {
        format!(
            "{field} has {bytes} bytes; the name of a property or an event may have {MAX_NAME_BYTES} at most"
        )
    })
}

/// The error for a word that is too long, as a sentence.
pub(crate) fn long_word(field: &str, word: &str) -> Option<String> {
    let bytes = word.len();
    (bytes > MAX_WORD_BYTES)
        .then(|| format!("{field} has {bytes} bytes; at most {MAX_WORD_BYTES} are allowed"))
}

/// The stored form of the name of an event in a filter. A name that is too long is unchanged, so that its error names its
/// length.
pub(crate) fn event_name(name: &str) -> String {
    if name.len() > MAX_NAME_BYTES {
        name.to_owned()
    } else {
        stored_name(name).into_owned()
    }
}

/// Parses the JSON text of criteria within the limits of a filter. Text that is not JSON is null.
///
/// # Errors
///
/// Fails with code `invalid_input` and the path `path` if the text has more than 50,000 objects or
/// 500,000 values.
pub fn read_json(text: &str, path: &str) -> Result<Value, FilterError> {
    read_within_limits(text).map_err(|size| size.error(path, "a filter"))
}

/// Parses a JSON text within the limits. Text that is not JSON is null. Fails with the counts that exceed the limits.
pub(super) fn read_within_limits(text: &str) -> Result<Value, Size> {
    let mut size = Size::default();
    let mut json = serde_json::Deserializer::from_str(text);
    let counted = SizeCounter(&mut size).deserialize(&mut json);
    if counted.is_err() && size.is_exceeded() {
        return Err(size);
    }
    Ok(serde_json::from_str(text).unwrap_or_default())
}

/// The number of JSON values, and of objects among them.
#[derive(Default)]
pub(super) struct Size {
    pub objects: usize,
    pub values: usize,
}

impl Size {
    pub fn is_exceeded(&self) -> bool {
        self.objects > MAX_OBJECTS || self.values > MAX_VALUES
    }

    /// The error of `what`, such as "a filter", at `path`.
    pub fn error(&self, path: &str, what: &str) -> FilterError {
        let (limit, kind) = if self.objects > MAX_OBJECTS {
            (MAX_OBJECTS, "objects")
        } else {
            (MAX_VALUES, "values")
        };
        FilterError::input(path, format!("{what} may hold {limit} JSON {kind} at most"))
    }
}

/// Counts the values of a JSON text without building them.
struct SizeCounter<'a>(&'a mut Size);

impl SizeCounter<'_> {
    fn add<E: Error>(&mut self, objects: usize) -> Result<(), E> {
        self.0.values += 1;
        self.0.objects += objects;
        if self.0.is_exceeded() {
            return Err(E::custom("too many values"));
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for SizeCounter<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for SizeCounter<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: Error>(mut self) -> Result<(), E> {
        self.add(0)
    }

    fn visit_bool<E: Error>(mut self, _: bool) -> Result<(), E> {
        self.add(0)
    }

    fn visit_i64<E: Error>(mut self, _: i64) -> Result<(), E> {
        self.add(0)
    }

    fn visit_u64<E: Error>(mut self, _: u64) -> Result<(), E> {
        self.add(0)
    }

    fn visit_f64<E: Error>(mut self, _: f64) -> Result<(), E> {
        self.add(0)
    }

    fn visit_str<E: Error>(mut self, _: &str) -> Result<(), E> {
        self.add(0)
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<(), A::Error> {
        self.add(0)?;
        while list.next_element_seed(SizeCounter(self.0))?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        self.add(1)?;
        while map.next_key::<serde::de::IgnoredAny>()?.is_some() {
            map.next_value_seed(SizeCounter(self.0))?;
        }
        Ok(())
    }
}
