//! Access to the document while it is read: references, types of values, and keys that are not supported.

use serde_json::{Map, Value};

use crate::config::{Config, Rules};
use crate::findings::Collector;

pub const SCHEMA_PREFIX: &str = "#/components/schemas/";

/// The most references that refer to each other.
const MAX_REFERENCES: usize = 32;

/// The document, its configuration and the findings so far.
#[derive(Clone, Copy)]
pub struct Reader<'a> {
    pub root: &'a Value,
    pub config: &'a Config,
    pub findings: &'a Collector,
}

impl<'a> Reader<'a> {
    pub fn rules(&self) -> &'a Rules {
        &self.config.rules
    }

    pub fn report(&self, location: &str, message: impl AsRef<str>) {
        self.findings.report(location, message);
    }

    /// Returns the component that `value` refers to, or `value` itself if it is not a reference.
    ///
    /// `kind` is the section of `components`, such as `schemas`.
    pub fn resolve<'v>(&self, value: &'v Value, kind: &str, location: &str) -> Option<&'v Value>
    where
        'a: 'v,
    {
        let mut value: &'v Value = value;
        let mut seen = Vec::new();
        while let Some(target) = value.get("$ref") {
            if object(value).len() > 1 {
                self.report(
                    location,
                    "keys next to `$ref` are ignored; remove them, or use `allOf` in a schema",
                );
            }
            let target = target.as_str().unwrap_or_default();
            if seen.contains(&target) {
                self.report(location, format!("`{target}` refers to itself"));
                return None;
            }
            if seen.len() == MAX_REFERENCES {
                let message = format!("`{target}` is behind more than {MAX_REFERENCES} references");
                self.report(location, message);
                return None;
            }
            seen.push(target);
            let Some(component) = self.component(target, kind) else {
                self.report(
                    location,
                    format!("`{target}` is not one of components.{kind}"),
                );
                return None;
            };
            value = component;
        }
        Some(value)
    }

    fn component(&self, target: &str, kind: &str) -> Option<&'a Value> {
        let name = target
            .strip_prefix("#/components/")?
            .strip_prefix(kind)?
            .strip_prefix('/')?;
        self.root["components"][kind].get(name)
    }

    /// Reports every key of `value` that is not in `allowed`, because the generator would ignore it.
    pub fn allow_keys(&self, value: &Value, allowed: &[&[&str]], location: &str) {
        for key in self.object(value, location).keys() {
            let is_for_readers = key.starts_with("x-") && !self.rules().known_extensions;
            if !is_for_readers && !allowed.iter().any(|keys| keys.contains(&key.as_str())) {
                self.report(location, format!("`{key}` is not supported"));
            }
        }
    }

    /// Returns the members of an object. Any other value is a finding, except for an absent one.
    pub fn object<'v>(&self, value: &'v Value, location: &str) -> &'v Map<String, Value> {
        if !value.is_object() && !value.is_null() {
            self.report(location, "this must be an object");
        }
        object(value)
    }

    /// Returns the items of a list; none if it is absent.
    pub fn list<'v>(&self, value: &'v Value, name: &str, location: &str) -> &'v [Value] {
        match value.get(name) {
            None => &[],
            Some(Value::Array(items)) => items,
            Some(_) => {
                self.report(location, format!("`{name}` must be a list"));
                &[]
            }
        }
    }

    /// Reads a boolean; `false` if absent.
    pub fn flag(&self, value: &Value, name: &str, location: &str) -> bool {
        match value.get(name) {
            None => false,
            Some(flag) => flag.as_bool().unwrap_or_else(|| {
                self.report(location, format!("`{name}` must be true or false"));
                false
            }),
        }
    }

    /// Reads a text.
    pub fn text<'v>(&self, value: &'v Value, name: &str, location: &str) -> Option<&'v str> {
        let text = value.get(name)?;
        if !text.is_string() {
            self.report(location, format!("`{name}` must be text"));
        }
        text.as_str()
    }

    /// Reads a text of several lines; empty if absent.
    pub fn prose(&self, value: &Value, name: &str, location: &str) -> String {
        let text = self.text(value, name, location).unwrap_or_default();
        text.trim().to_owned()
    }

    /// Reads a number that is not negative, such as a length.
    pub fn length(&self, value: &Value, name: &str, location: &str) -> Option<u64> {
        let number = value.get(name)?;
        if number.as_u64().is_none() {
            self.report(
                location,
                format!("`{name}` must be an integer that is not negative"),
            );
        }
        number.as_u64()
    }

    /// Reads a list of strings; `None` if absent.
    pub fn strings(&self, value: &Value, name: &str, location: &str) -> Option<Vec<String>> {
        let list = value.get(name)?;
        let strings = list.as_array().and_then(|items| {
            let strings = items.iter().map(|item| item.as_str().map(str::to_owned));
            strings.collect::<Option<Vec<_>>>()
        });
        if strings.is_none() {
            self.report(location, format!("`{name}` must be a list of strings"));
        }
        strings
    }
}

/// Returns the members of an object, or an empty map for any other value.
pub fn object(value: &Value) -> &Map<String, Value> {
    static EMPTY: std::sync::LazyLock<Map<String, Value>> = std::sync::LazyLock::new(Map::new);
    value.as_object().unwrap_or(&EMPTY)
}

/// Returns the name of the component schema that `schema` refers to.
pub fn reference(schema: &Value) -> Option<&str> {
    schema["$ref"].as_str()?.strip_prefix(SCHEMA_PREFIX)
}
