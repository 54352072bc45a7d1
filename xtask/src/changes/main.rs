//! Finds the changes of the contract that break clients of the last release.
//!
//! A break is an error unless the list of intended breaks has it, with a reason. The list must not contain other lines.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use serde_json::Value;

mod flat;
mod intended;
mod operations;
mod parameters;
mod schemas;
#[cfg(test)]
mod tests;

use intended::Intended;

const USAGE: &str = "usage: cargo xtask contract-changes [--from DOCUMENT --to DOCUMENT]

Without arguments, compares the last release (tests/contract/released.yaml) with openapi.yaml.
The list of intended breaks is then tests/contract/intended_breaks.yaml.";

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(2).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let result = match arguments.as_slice() {
        [] => check(
            &root.join("tests/contract/released.yaml"),
            &root.join("openapi.yaml"),
            Some(&root.join("tests/contract/intended_breaks.yaml")),
        ),
        ["--from", from, "--to", to] => check(Path::new(from), Path::new(to), None),
        _ => Err(USAGE.to_owned()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

/// Compares two documents. An error lists the breaks that are not intended, and the intended ones that do not exist.
fn check(from: &Path, to: &Path, intended: Option<&Path>) -> Result<(), String> {
    let breaks = breaks(&document(from)?, &document(to)?);
    let intended = match intended {
        Some(path) => Intended::parse(&text(path)?)?,
        None => Intended::default(),
    };
    let findings = intended.findings(&breaks);
    if findings.is_empty() {
        return Ok(());
    }
    Err(findings.join("\n"))
}

/// The breaks between two documents, each with its location, in the order of the documents.
fn breaks(old: &Value, new: &Value) -> Vec<String> {
    let mut comparison = Comparison::new(old, new);
    comparison.operations();
    comparison.breaks
}

fn document(path: &Path) -> Result<Value, String> {
    parse(&text(path)?).map_err(|error| format!("{}: {error}", path.display()))
}

fn text(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
}

fn parse(text: &str) -> Result<Value, String> {
    let mut yaml: serde_yaml_ng::Value =
        serde_yaml_ng::from_str(text).map_err(|error| error.to_string())?;
    yaml.apply_merge().map_err(|error| error.to_string())?;
    serde_json::to_value(yaml).map_err(|error| error.to_string())
}

/// Two documents and the breaks that were found so far.
struct Comparison<'a> {
    old: &'a Value,
    new: &'a Value,
    breaks: Vec<String>,
    /// The pairs of schemas that were compared, by their addresses. Schemas refer to themselves.
    compared: schemas::Compared,
}

impl<'a> Comparison<'a> {
    fn new(old: &'a Value, new: &'a Value) -> Self {
        Self {
            old,
            new,
            breaks: Vec::new(),
            compared: schemas::Compared::default(),
        }
    }

    fn report(&mut self, location: &str, text: impl AsRef<str>) {
        let line = format!("{location}: {}", text.as_ref());
        if !self.breaks.contains(&line) {
            self.breaks.push(line);
        }
    }
}

/// The value that a chain of references leads to.
fn resolve<'a>(document: &'a Value, mut value: &'a Value) -> &'a Value {
    while let Some(reference) = value["$ref"].as_str() {
        let pointer = reference.strip_prefix('#').unwrap_or_default();
        value = document.pointer(pointer).unwrap_or(&Value::Null);
    }
    value
}

/// The members of an object; none of other values.
fn members(value: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let members = value.as_object().into_iter().flatten();
    members.map(|(name, value)| (name.as_str(), value))
}

/// A value of a key for messages.
fn show(value: &Value) -> String {
    match value {
        Value::Null => "absent".to_owned(),
        Value::String(text) => format!("`{text}`"),
        value => format!("`{value}`"),
    }
}
