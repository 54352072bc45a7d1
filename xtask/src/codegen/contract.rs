//! The document as the generators see it: linted, references within reach.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde_json::{Map, Value};

use super::findings::Findings;
use super::operations::{self, Operation};
use super::{DOCUMENT, rules, schemas};

pub struct Contract {
    /// The whole document, with YAML's anchors and merges resolved.
    pub document: Value,
    /// In the order of the document.
    pub operations: Vec<Operation>,
}

impl Contract {
    /// Reads and lints; the error names every place where something is wrong.
    pub fn read(text: &str) -> Result<Self> {
        let contract = Self::lint(parse(text)?)?;
        serde_json::from_value::<openapiv3::OpenAPI>(contract.document.clone())
            .with_context(|| format!("{DOCUMENT} is no OpenAPI document"))?;
        Ok(contract)
    }

    fn lint(document: Value) -> Result<Self> {
        let findings = Findings::default();
        let version = document["openapi"].as_str().unwrap_or_default();
        if !version.starts_with("3.0.") {
            findings.add("openapi", "the version must be 3.0.x");
        }
        let reader = Document {
            root: &document,
            findings: &findings,
        };
        let operations = operations::read(reader);
        schemas::lint(reader);
        let contract = Self {
            operations,
            document: document.clone(),
        };
        rules::lint(&contract, &findings);
        findings.settle()?;
        Ok(contract)
    }

    pub fn schemas(&self) -> &Map<String, Value> {
        object(&self.document["components"]["schemas"])
    }

    pub fn schema(&self, name: &str) -> &Value {
        &self.document["components"]["schemas"][name]
    }

    /// The schema itself, or the component that it refers to.
    pub fn resolve<'a>(&'a self, schema: &'a Value) -> &'a Value {
        reference(schema).map_or(schema, |name| self.schema(name))
    }

    /// The operations of each tag, in the order of the tag's first operation.
    pub fn by_tag(&self) -> Vec<(&str, Vec<&Operation>)> {
        group(&self.operations, |operation| &operation.tag)
    }

    /// The operations of each path, in the order of the document.
    pub fn by_path(&self) -> Vec<(&str, Vec<&Operation>)> {
        group(&self.operations, |operation| &operation.path)
    }
}

fn group(operations: &[Operation], key: fn(&Operation) -> &str) -> Vec<(&str, Vec<&Operation>)> {
    let mut groups: Vec<(&str, Vec<&Operation>)> = Vec::new();
    for operation in operations {
        match groups.iter_mut().find(|(name, _)| *name == key(operation)) {
            Some((_, members)) => members.push(operation),
            None => groups.push((key(operation), vec![operation])),
        }
    }
    groups
}

fn parse(text: &str) -> Result<Value> {
    let read = || -> Result<Value> {
        let mut yaml: serde_yaml_ng::Value = serde_yaml_ng::from_str(text)?;
        yaml.apply_merge()?;
        Ok(serde_json::to_value(yaml)?)
    };
    read().with_context(|| format!("{DOCUMENT} is not readable"))
}

/// The document while it is read: where to look things up and where to complain.
#[derive(Clone, Copy)]
pub struct Document<'a> {
    pub root: &'a Value,
    pub findings: &'a Findings,
}

impl<'a> Document<'a> {
    pub fn add(&self, place: &str, what: impl AsRef<str>) {
        self.findings.add(place, what);
    }

    /// The value itself, or the component of that kind which it refers to.
    pub fn resolve(&self, value: &'a Value, kind: &str, place: &str) -> Option<&'a Value> {
        let Some(target) = value.get("$ref") else {
            return Some(value);
        };
        let target = target.as_str().unwrap_or_default();
        let found = target
            .strip_prefix("#/components/")
            .and_then(|rest| rest.strip_prefix(kind)?.strip_prefix('/'))
            .and_then(|name| self.root["components"][kind].get(name));
        if found.is_none() {
            self.add(place, format!("`{target}` is not one of components.{kind}"));
        }
        found
    }

    /// Refuses keys that the generators would pass over.
    pub fn only(&self, value: &Value, known: &[&str], place: &str) {
        for key in object(value).keys() {
            if !known.contains(&key.as_str()) {
                self.add(place, format!("`{key}` is not supported"));
            }
        }
    }

    /// A truth value that is false if absent.
    pub fn flag(&self, value: &Value, name: &str, place: &str) -> bool {
        match value.get(name) {
            None => false,
            Some(flag) => flag.as_bool().unwrap_or_else(|| {
                self.add(place, format!("`{name}` must be true or false"));
                false
            }),
        }
    }

    /// A list of texts; none if absent.
    pub fn texts(&self, value: &Value, name: &str, place: &str) -> Option<Vec<String>> {
        let list = value.get(name)?;
        let texts = list.as_array().and_then(|items| {
            let texts = items.iter().map(|item| item.as_str().map(str::to_owned));
            texts.collect::<Option<Vec<_>>>()
        });
        if texts.is_none() {
            self.add(place, format!("`{name}` must be a list of texts"));
        }
        texts
    }
}

/// The members of an object; of anything else, none.
pub fn object(value: &Value) -> &Map<String, Value> {
    static NONE: std::sync::LazyLock<Map<String, Value>> = std::sync::LazyLock::new(Map::new);
    value.as_object().unwrap_or(&NONE)
}

/// The name of the component schema that is referred to.
pub fn reference(schema: &Value) -> Option<&str> {
    schema["$ref"]
        .as_str()?
        .strip_prefix("#/components/schemas/")
}

/// Names that appear more than once, each with how often.
pub fn repeated<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut counts = BTreeMap::new();
    for name in names {
        *counts.entry(name).or_insert(0) += 1;
    }
    let more = counts.into_iter().filter(|(_, count)| *count > 1);
    more.map(|(name, _)| name).collect()
}
