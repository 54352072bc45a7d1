//! Reads the members of one leaf with their types, and builds the normalised leaf.

use serde_json::{Map, Value};

use super::{MAX_ITEMS, Mode, event_name, kind_of, long_name, long_word, refuse_unknown, short};
use crate::FilterError;
use crate::filter::Name;

/// Keys that PostHog's server adds to leaves; accepted and dropped.
pub(crate) const MACHINE_FIELDS: [&str; 3] = ["bytecode", "bytecode_error", "conditionHash"];

/// The members of one leaf. A null member counts as absent.
pub(super) struct Fields<'a> {
    pub path: &'a str,
    kind: &'a str,
    members: &'a Map<String, Value>,
    /// Members with a normalised value that differs from the input.
    coerced: Map<String, Value>,
}

impl<'a> Fields<'a> {
    pub fn new(path: &'a str, kind: &'a str, members: &'a Map<String, Value>) -> Fields<'a> {
        Fields {
            path,
            kind,
            members,
            coerced: Map::new(),
        }
    }

    pub fn fail(&self, sentence: String) -> FilterError {
        FilterError::input(self.path, sentence)
    }

    /// Fails if any key is absent. The sentence names the absent ones, in PostHog's wording.
    pub fn require(&self, keys: &[&str]) -> Result<(), FilterError> {
        let absent = keys.iter().filter(|key| self.get(key).is_none());
        let absent: Vec<&str> = absent.copied().collect();
        if absent.is_empty() {
            return Ok(());
        }
        let detail = format!(
            "Missing required keys for {} filter: {}",
            self.kind,
            absent.join(", ")
        );
        Err(FilterError::new(self.path, "invalid_input", detail))
    }

    pub fn refuse_unknown(&self, mode: Mode, known: &[&str]) -> Result<(), FilterError> {
        if mode == Mode::Stored {
            return Ok(());
        }
        let mut members = self.members.clone();
        members.retain(|key, _| !MACHINE_FIELDS.contains(&key.as_str()));
        refuse_unknown(self.path, &members, known)
    }

    pub fn get(&self, key: &str) -> Option<&'a Value> {
        self.members.get(key).filter(|value| !value.is_null())
    }

    pub fn text(&self, key: &str) -> Result<Option<String>, FilterError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(other) => Err(self.fail(format!("'{key}' must be text, got {}", kind_of(other)))),
        }
    }

    /// An operator, a unit, a date or the like. In a request, it must not be too long.
    pub fn word(&self, key: &str, mode: Mode) -> Result<Option<String>, FilterError> {
        let word = self.text(key)?;
        let long = word
            .as_deref()
            .and_then(|word| long_word(&format!("'{key}'"), word));
        match long {
            Some(sentence) if mode == Mode::Write => Err(self.fail(sentence)),
            _ => Ok(word),
        }
    }

    /// The name of a property. In a request, it must not be too long.
    pub fn property(&self, key: &str, mode: Mode) -> Result<String, FilterError> {
        let name = self.text(key)?.unwrap_or_default();
        self.check_name(key, &name, mode)?;
        Ok(name)
    }

    fn check_name(&self, key: &str, name: &str, mode: Mode) -> Result<(), FilterError> {
        match long_name(&format!("'{key}'"), name) {
            Some(sentence) if mode == Mode::Write => Err(self.fail(sentence)),
            _ => Ok(()),
        }
    }

    pub fn integer(&mut self, key: &str) -> Result<Option<i64>, FilterError> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        let Some(number) = whole_number(value) else {
            let sentence = format!("'{key}' must be a whole number, got {}", shown(value));
            return Err(self.fail(sentence));
        };
        self.coerced.insert(key.to_owned(), number.into());
        Ok(Some(number))
    }

    pub fn boolean(&mut self, key: &str) -> Result<bool, FilterError> {
        let flag = match self.get(key) {
            None => Some(false),
            Some(Value::Bool(value)) => Some(*value),
            Some(Value::String(text)) => match text.to_ascii_lowercase().as_str() {
                "true" => Some(true),
                "false" => Some(false),
                _ => None,
            },
            Some(_) => None,
        };
        let Some(flag) = flag else {
            return Err(self.fail(format!("'{key}' must be true or false")));
        };
        self.coerced.insert(key.to_owned(), flag.into());
        Ok(flag)
    }

    /// The name of an event in its stored form, or the id of an action.
    pub fn name(&self, key: &str, mode: Mode) -> Result<Option<Name>, FilterError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::String(text)) => {
                self.check_name(key, text, mode)?;
                Ok(Some(Name::Text(event_name(text))))
            }
            Some(value) => match whole_number(value) {
                Some(number) => Ok(Some(Name::Number(number))),
                None => Err(self.fail(format!("'{key}' must be text or a whole number"))),
            },
        }
    }

    /// A value of any type; a list must not exceed [`MAX_ITEMS`].
    pub fn value(&self, key: &str) -> Result<Option<Value>, FilterError> {
        let value = self.get(key);
        match value.and_then(Value::as_array) {
            Some(list) if list.len() > MAX_ITEMS => Err(self.fail(format!(
                "'{key}' lists {} items; at most {MAX_ITEMS} are allowed",
                list.len()
            ))),
            _ => Ok(value.cloned()),
        }
    }

    pub fn list(&self, key: &str) -> Result<Option<&'a Vec<Value>>, FilterError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Array(list)) if list.len() > MAX_ITEMS => Err(self.fail(format!(
                "'{key}' lists {} items; at most {MAX_ITEMS} are allowed",
                list.len()
            ))),
            Some(Value::Array(list)) => Ok(Some(list)),
            Some(other) => {
                Err(self.fail(format!("'{key}' must be a list, got {}", kind_of(other))))
            }
        }
    }

    pub fn replace(&mut self, key: &str, value: Value) {
        self.coerced.insert(key.to_owned(), value);
    }

    /// The normalised leaf: the members in their order, with coerced values.
    pub fn wire(mut self) -> Value {
        let mut wire = Map::new();
        for (key, value) in self.members {
            if value.is_null() || MACHINE_FIELDS.contains(&key.as_str()) {
                continue;
            }
            let coerced = self.coerced.shift_remove(key);
            wire.insert(key.clone(), coerced.unwrap_or_else(|| value.clone()));
        }
        wire.extend(self.coerced);
        Value::Object(wire)
    }
}

/// A whole number given as an integer, an integral float, or text of at most 18 digits.
fn whole_number(value: &Value) -> Option<i64> {
    const END: f64 = 9_223_372_036_854_775_808.0;
    match value {
        Value::Number(number) => number.as_i64().or_else(|| {
            let float = number.as_f64()?;
            let whole = float.fract() == 0.0 && (-END..END).contains(&float);
            whole.then_some(float as i64)
        }),
        Value::String(text) => {
            let text = text.trim();
            let digits = text.bytes().filter(u8::is_ascii_digit).count();
            text.parse().ok().filter(|_| digits <= 18)
        }
        _ => None,
    }
}

/// The JSON text of a value, cut to 60 characters for use in a sentence.
pub(super) fn shown(value: &Value) -> String {
    short(&value.to_string()).into_owned()
}
