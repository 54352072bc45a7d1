//! The linted document, with its operations in the form that the generators need.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde_json::{Map, Value};

use super::findings::Findings;
use super::operations::{self, Operation};
use super::{DOCUMENT, rules, schemas};

pub struct Contract {
    /// The whole document, with YAML anchors and merge keys resolved.
    pub document: Value,
    /// The operations in the order of the document.
    pub operations: Vec<Operation>,
}

impl Contract {
    /// Parses and lints the document.
    ///
    /// # Errors
    ///
    /// Fails if `text` is not YAML, if there are findings (the error lists them all), or if it is not OpenAPI 3.0.
    pub fn read(text: &str) -> Result<Self> {
        let contract = Self::lint(parse(text)?)?;
        serde_json::from_value::<openapiv3::OpenAPI>(contract.document.clone())
            .with_context(|| format!("{DOCUMENT} is not an OpenAPI document"))?;
        Ok(contract)
    }

    fn lint(document: Value) -> Result<Self> {
        let findings = Findings::default();
        let version = document["openapi"].as_str().unwrap_or_default();
        if !version.starts_with("3.0.") {
            findings.report("openapi", "the version must be 3.0.x");
        }
        let linter = Linter {
            root: &document,
            findings: &findings,
        };
        let operations = operations::read(linter);
        schemas::lint(linter);
        let contract = Self {
            operations,
            document: document.clone(),
        };
        rules::lint(&contract, &findings);
        findings.into_result()?;
        Ok(contract)
    }

    pub fn schemas(&self) -> &Map<String, Value> {
        object(&self.document["components"]["schemas"])
    }

    pub fn schema(&self, name: &str) -> &Value {
        &self.document["components"]["schemas"][name]
    }

    /// Returns the component schema that `schema` refers to, or `schema` itself if it is not a reference.
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
    let parse = || -> Result<Value> {
        let mut yaml: serde_yaml_ng::Value = serde_yaml_ng::from_str(text)?;
        yaml.apply_merge()?;
        Ok(serde_json::to_value(yaml)?)
    };
    parse().with_context(|| format!("cannot parse {DOCUMENT}"))
}

/// The document during linting: resolves references and reports findings.
#[derive(Clone, Copy)]
pub struct Linter<'a> {
    pub root: &'a Value,
    pub findings: &'a Findings,
}

impl<'a> Linter<'a> {
    pub fn report(&self, location: &str, message: impl AsRef<str>) {
        self.findings.report(location, message);
    }

    /// Returns the component that `value` refers to, or `value` itself if it is not a reference.
    ///
    /// `kind` is the section of `components`, such as `schemas`.
    pub fn resolve(&self, value: &'a Value, kind: &str, location: &str) -> Option<&'a Value> {
        let Some(target) = value.get("$ref") else {
            return Some(value);
        };
        let target = target.as_str().unwrap_or_default();
        let component = target
            .strip_prefix("#/components/")
            .and_then(|rest| rest.strip_prefix(kind)?.strip_prefix('/'))
            .and_then(|name| self.root["components"][kind].get(name));
        if component.is_none() {
            self.report(
                location,
                format!("`{target}` is not one of components.{kind}"),
            );
        }
        component
    }

    /// Reports every key of `value` that is not in `allowed`, because the generators would ignore it.
    pub fn allow_keys(&self, value: &Value, allowed: &[&str], location: &str) {
        for key in object(value).keys() {
            if !allowed.contains(&key.as_str()) {
                self.report(location, format!("`{key}` is not supported"));
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
    schema["$ref"]
        .as_str()?
        .strip_prefix("#/components/schemas/")
}

/// Returns the names that occur more than once, each once and sorted.
pub fn duplicates<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut counts = BTreeMap::new();
    for name in names {
        *counts.entry(name).or_insert(0) += 1;
    }
    let duplicates = counts.into_iter().filter(|(_, count)| *count > 1);
    duplicates.map(|(name, _)| name).collect()
}
