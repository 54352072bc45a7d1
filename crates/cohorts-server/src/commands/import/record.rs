//! A line as the members of its JSON object. The values stay JSON text until a format needs them.

use std::borrow::Cow;
use std::collections::BTreeMap;

use anyhow::{anyhow, bail};
use chrono::{DateTime, Utc};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::ingest::{FaultyTime, Scalar, Standardized, instant};

/// The most characters of an error in a message.
const SHOWN_CHARS: usize = 200;

/// An object that is part of a line or a line itself.
pub struct Record<'a> {
    members: BTreeMap<String, &'a RawValue>,
}

impl<'a> Record<'a> {
    /// Reads the members of an object, but not their contents.
    pub fn parse(text: &'a str) -> anyhow::Result<Self> {
        if !text.trim_start().starts_with('{') {
            bail!(
                "it is not a JSON object; a file must have one object per line (NDJSON), so convert CSV or a list first"
            );
        }
        let members = serde_json::from_str(text);
        let members = members.map_err(|error| not_json(&error))?;
        Ok(Self { members })
    }

    /// The JSON text of a member; `None` if it is missing or null.
    pub fn get(&self, name: &str) -> Option<&'a str> {
        let json = self.members.get(name)?.get();
        (json != "null").then_some(json)
    }

    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    pub fn has_any(&self, names: &[&str]) -> bool {
        names.iter().any(|name| self.has(name))
    }

    /// The id in a member: a string or a number; `None` if it is blank or another value.
    pub fn id(&self, name: &str) -> Option<String> {
        id(serde_json::from_str(self.get(name)?).ok().as_ref())
    }

    /// The value of a string.
    pub fn text(&self, name: &str) -> Option<String> {
        serde_json::from_str(self.get(name)?).ok()
    }

    /// The time in the first of these members that is present.
    pub fn time(&self, names: &[&str]) -> anyhow::Result<DateTime<Utc>> {
        let mut present = names
            .iter()
            .filter_map(|name| Some((name, self.get(name)?)));
        let Some((name, json)) = present.next() else {
            return Err(no_time(names));
        };
        let value: Scalar = serde_json::from_str(json).map_err(|error| not_json(&error))?;
        instant(&value).map_err(|fault| anyhow!("`{name}`: {}", FaultyTime::new(fault, &value)))
    }

    /// The JSON text of a member that should be an object. The member may also be a string with the object's JSON text,
    /// as in exports of databases; `None` if there is no object.
    pub fn object(&self, name: &str) -> anyhow::Result<Option<Cow<'a, str>>> {
        self.nested(name, '{')
    }

    /// As [`Self::object`], for a list.
    pub fn list(&self, name: &str) -> anyhow::Result<Option<Cow<'a, str>>> {
        self.nested(name, '[')
    }

    fn nested(&self, name: &str, begin: char) -> anyhow::Result<Option<Cow<'a, str>>> {
        let Some(json) = self.get(name) else {
            return Ok(None);
        };
        if !json.starts_with('"') {
            return Ok(Some(Cow::Borrowed(json)));
        }
        let text: String = serde_json::from_str(json).map_err(|error| not_json(&error))?;
        let text = text.trim();
        if matches!(text, "" | "null") {
            return Ok(None);
        }
        if begin == '{' && is_empty_list(text) {
            return Ok(Some(Cow::Borrowed("{}")));
        }
        let is_json = |text: &str| serde_json::from_str::<&RawValue>(text).is_ok();
        let json = if is_json(text) {
            Some(text.to_owned())
        } else {
            let standard = Standardized::of(text).map(|standard| standard.rewritten());
            standard.filter(|text| is_json(text))
        };
        match json.filter(|json| json.starts_with(begin)) {
            Some(json) => Ok(Some(Cow::Owned(json))),
            None => {
                let kind = if begin == '{' { "an object" } else { "a list" };
                bail!("`{name}` is a text that is not {kind} in JSON")
            }
        }
    }

    /// The values of an object; without members if it is missing.
    pub fn values(&self, name: &str) -> anyhow::Result<Map<String, Value>> {
        match self.object(name)? {
            None => Ok(Map::new()),
            Some(object) => serde_json::from_str(&object)
                .map_err(|_| anyhow!("`{name}` is not an object of JSON values")),
        }
    }

    /// The names and values that are not null.
    pub fn members(&self) -> impl Iterator<Item = (&str, &'a str)> {
        let members = self.members.iter();
        let members = members.map(|(name, value)| (name.as_str(), value.get()));
        members.filter(|(_, value)| *value != "null")
    }
}

/// The error of a line without a time.
fn no_time(names: &[&str]) -> anyhow::Error {
    let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    match &names[..] {
        [name] => anyhow!("{name} is missing, so it has no time"),
        names => anyhow!("it has no time: {} are missing", names.join(", ")),
    }
}

/// PHP has no other empty object.
fn is_empty_list(text: &str) -> bool {
    let inner = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'));
    inner.is_some_and(|inner| inner.trim().is_empty())
}

fn not_json(error: &serde_json::Error) -> anyhow::Error {
    anyhow!("it is not valid JSON: {}", shortened(&error.to_string()))
}

fn shortened(text: &str) -> String {
    text.chars().take(SHOWN_CHARS).collect()
}

/// The id in a value: a string or a number; `None` if it is blank or another value.
pub fn id(value: Option<&Value>) -> Option<String> {
    let text = match value? {
        Value::String(text) => text.trim().to_owned(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    (!text.is_empty()).then_some(text)
}
