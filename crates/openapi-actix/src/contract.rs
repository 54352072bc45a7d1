//! The checked document, with its operations and types in the form that the printers need.

use serde_json::Value;

use crate::config::Config;
use crate::document::Document;
use crate::findings::{Collector, Findings};
use crate::keys;
use crate::model::Model;
use crate::operations::{self, Operation};
use crate::reader::{Reader, object};
use crate::schemas::{self, Schemas};
use crate::security::{self, Scheme};
use crate::{bodies, descriptions, rules};

pub struct Contract<'a> {
    pub document: &'a Document,
    pub config: &'a Config,
    /// The operations in the order of the document.
    pub operations: Vec<Operation>,
    /// The types that operations use.
    pub model: Model,
    pub schemes: Vec<Scheme>,
}

impl<'a> Contract<'a> {
    /// Reads and checks the document.
    pub fn read(document: &'a Document, config: &'a Config) -> Result<Self, Findings> {
        let findings = Collector::default();
        let reader = Reader {
            root: &document.root,
            config,
            findings: &findings,
        };
        lint_document(reader);
        let mut schemas = Schemas::new(reader);
        let schemes = security::schemes(reader);
        let operations = operations::read(&mut schemas);
        let model = schemas.model;
        schemas::lint(reader);
        descriptions::lint(reader);
        let contract = Self {
            document,
            config,
            operations,
            model,
            schemes,
        };
        rules::lint(&contract, &findings);
        findings.into_result(&document.name)?;
        Ok(contract)
    }

    /// The operations of each tag, in the order of the tag's first operation.
    pub fn by_tag(&self) -> Vec<(&str, Vec<&Operation>)> {
        group(&self.operations, |operation| &operation.tag)
    }

    /// The operations of each path, in the order of the document.
    pub fn by_path(&self) -> Vec<(&str, Vec<&Operation>)> {
        group(&self.operations, |operation| &operation.path)
    }

    /// The types of bodies that the server parses, each with its operation.
    pub fn typed_bodies(&self) -> impl Iterator<Item = &bodies::TypedBody> {
        let bodies = self
            .operations
            .iter()
            .filter_map(|operation| operation.body.as_ref());
        bodies.filter_map(|body| body.typed.as_ref())
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

fn lint_document(reader: Reader) {
    let root = reader.root;
    if !root.is_object() {
        return reader.report("", "this is not an OpenAPI document: it must be an object");
    }
    let version = reader.text(root, "openapi", "openapi").unwrap_or_default();
    if !version.starts_with("3.0.") {
        reader.report("openapi", "the version must be 3.0.x or 3.1.x");
    }
    reader.allow_keys(root, &[keys::DOCUMENT], "the document");
    reader.allow_keys(&root["components"], &[keys::COMPONENTS], "components");
    for name in ["title", "version"] {
        if reader.text(&root["info"], name, "info").is_none() {
            reader.report("info", format!("`{name}` is missing"));
        }
    }
    if object(&root["paths"]).is_empty() {
        reader.report("paths", "the document must have at least one path");
    }
    for (index, tag) in reader.list(root, "tags", "tags").iter().enumerate() {
        let location = format!("tags[{index}]");
        reader.allow_keys(tag, &[&["name", "description", "externalDocs"]], &location);
        reader.text(tag, "description", &location);
    }
    for (index, server) in reader.list(root, "servers", "servers").iter().enumerate() {
        let location = format!("servers[{index}]");
        reader.allow_keys(server, &[&["url", "description", "variables"]], &location);
    }
}

/// The description of a tag.
pub fn tag_description<'a>(document: &'a Value, tag: &str) -> Option<&'a str> {
    let entries = document["tags"].as_array().into_iter().flatten();
    let mut entries = entries.filter(|entry| entry["name"] == tag);
    entries.find_map(|entry| entry["description"].as_str())
}
