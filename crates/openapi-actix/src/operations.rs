//! Reads the operations of the document.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::bodies::{self, Body};
use crate::keys;
use crate::naming::{self, Namespace};
use crate::parameters::{self, Parameter, Source};
use crate::reader::{Reader, object};
use crate::responses::{self, Response, Status};
use crate::schemas::Schemas;
use crate::security::{self, Security};

pub const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];

/// The tag of an operation without a tag.
const DEFAULT_TAG: &str = "default";

pub struct Operation {
    /// The `operationId`, or a name from method and path.
    pub id: String,
    /// The name of the trait method.
    pub rust: String,
    /// The beginning of the names of its types.
    pub pascal: String,
    /// The method in lower case, as in the document.
    pub method: String,
    pub path: String,
    pub tag: String,
    pub summary: String,
    pub description: String,
    pub deprecated: bool,
    /// `None` if the operation needs no key.
    pub security: Option<Security>,
    /// Whether a GET changes data, so that it has no HEAD.
    pub writes: bool,
    pub parameters: Vec<Parameter>,
    pub body: Option<Body>,
    pub responses: Vec<Response>,
}

impl Operation {
    /// Whether the document describes a response with this status.
    pub fn has_status(&self, status: u16) -> bool {
        self.responses
            .iter()
            .any(|response| response.status == Status::Code(status))
    }

    /// Whether a client can name a request of the operation by the header `name`.
    pub fn has_idempotency_key(&self, name: Option<&String>) -> bool {
        let headers = self.parameters_in(Source::Header);
        name.is_some_and(|name| headers.iter().any(|header| header.name == *name))
    }

    /// The parameters of a part of the request.
    pub fn parameters_in(&self, source: Source) -> Vec<&Parameter> {
        let parameters = self.parameters.iter();
        parameters
            .filter(|parameter| parameter.source == source)
            .collect()
    }
}

pub fn read(schemas: &mut Schemas) -> Vec<Operation> {
    let reader = schemas.reader;
    let mut operations = Vec::new();
    for (path, item) in reader.object(&reader.root["paths"], "paths") {
        let location = format!("paths.{path}");
        lint_path(reader, path, item, &location);
        for method in METHODS {
            if let Some(operation) = item.get(method) {
                operations.push(read_one(schemas, path, method, item, operation));
            }
        }
    }
    lint_uniqueness(reader, &operations);
    operations
}

fn lint_path(reader: Reader, path: &str, item: &Value, location: &str) {
    reader.allow_keys(item, &[keys::PATH], location);
    reader.text(item, "summary", location);
    reader.text(item, "description", location);
    let has_end = path.ends_with('/') || is_file(path);
    if reader.rules().trailing_slash && (!path.starts_with('/') || !has_end) {
        reader.report(
            location,
            "a path must start with a slash, and end with a slash or with the name of a file such as `list.csv`",
        );
    } else if !path.starts_with('/') {
        reader.report(location, "a path must start with a slash");
    }
    if path.contains(|c: char| c.is_whitespace() || c.is_control() || "?#".contains(c)) {
        reader.report(location, "a path must not contain white space, `?` or `#`");
    }
}

/// Whether a path ends with the name of a file, such as `/list.csv`.
fn is_file(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    !name.contains('{')
        && name
            .rsplit_once('.')
            .is_some_and(|(stem, extension)| !stem.is_empty() && !extension.is_empty())
}

fn lint_uniqueness(reader: Reader, operations: &[Operation]) {
    for id in duplicates(operations.iter().map(|operation| operation.id.as_str())) {
        if !id.is_empty() {
            reader.report(
                "paths",
                format!("operationId `{id}` is used more than once"),
            );
        }
    }
    let shapes: Vec<_> = object(&reader.root["paths"])
        .keys()
        .map(|path| match reader.rules().trailing_slash {
            true => format!("{}/", shape(path).trim_end_matches('/')),
            false => shape(path),
        })
        .collect();
    for shape in duplicates(shapes.iter().map(String::as_str)) {
        reader.report("paths", format!("`{shape}` is described more than once"));
    }
    let (mut methods, mut tags) = (Namespace::default(), Namespace::default());
    let mut ids: Vec<&str> = Vec::new();
    let mut known_tags: Vec<&str> = Vec::new();
    for operation in operations {
        let location = format!("paths.{}.{}", operation.path, operation.method);
        if !operation.id.is_empty() && !ids.contains(&operation.id.as_str()) {
            ids.push(&operation.id);
            methods.claim(reader.findings, &operation.pascal, &operation.id, &location);
        }
        if !operation.tag.is_empty() && !known_tags.contains(&operation.tag.as_str()) {
            known_tags.push(&operation.tag);
            tags.claim(
                reader.findings,
                &naming::pascal(&operation.tag),
                &operation.tag,
                &location,
            );
        }
    }
}

/// Returns the names that occur more than once, each once and sorted.
fn duplicates<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut counts = BTreeMap::new();
    for name in names {
        *counts.entry(name).or_insert(0) += 1;
    }
    let duplicates = counts.into_iter().filter(|(_, count)| *count > 1);
    duplicates.map(|(name, _)| name).collect()
}

/// Returns the path without the names of its parameters.
fn shape(path: &str) -> String {
    let parts = path
        .split('/')
        .map(|part| if part.starts_with('{') { "{}" } else { part });
    parts.collect::<Vec<_>>().join("/")
}

fn read_one(
    schemas: &mut Schemas,
    path: &str,
    method: &str,
    item: &Value,
    value: &Value,
) -> Operation {
    let reader = schemas.reader;
    let location = format!("paths.{path}.{method}");
    let extension = reader.rules().key.as_ref().map(|rule| rule.scopes.as_str());
    let extension: Vec<_> = extension.into_iter().collect();
    reader.allow_keys(value, &[keys::OPERATION, &extension], &location);
    let id = id(reader, path, method, value, &location);
    let pascal = naming::pascal(&id);
    let operation = Operation {
        rust: naming::field(&id),
        tag: tag(reader, value, &location),
        method: method.to_owned(),
        path: path.to_owned(),
        summary: reader.prose(value, "summary", &location),
        description: reader.prose(value, "description", &location),
        deprecated: reader.flag(value, "deprecated", &location),
        security: security::read(reader, value, &location),
        writes: reader.flag(value, "x-writes", &location),
        parameters: parameters::read(schemas, path, item, value, &pascal, &location),
        body: bodies::read(schemas, value, &pascal, &location),
        responses: responses::read(schemas, value, &pascal, &location),
        id,
        pascal,
    };
    lint_own(reader, &operation, &location);
    lint_writes(reader, &operation, value, &location);
    lint_parameter_scopes(reader, &operation, &location);
    lint_statuses(reader, &operation, &location);
    lint_idempotency(reader, &operation, &location);
    operation
}

fn lint_own(reader: Reader, operation: &Operation, location: &str) {
    if reader.config.is_bundled() {
        return;
    }
    let Some(body) = &operation.body else { return };
    if operation.security.is_some() && body.raw {
        reader.report(
            location,
            "`x-raw-body` is only supported for an operation without `security`",
        );
    }
    if operation.security.is_none() && !body.uploads().is_empty() {
        reader.report(location, "a file is only supported with `security`");
    }
}

/// Requires a statement of each GET with a scope to write, because clients expect that GET and HEAD change nothing.
fn lint_writes(reader: Reader, operation: &Operation, value: &Value, location: &str) {
    let is_stated = value.get("x-writes").is_some();
    let mut scopes = operation
        .security
        .iter()
        .flat_map(|security| security.scopes());
    let may_write = scopes.any(|scope| scope.ends_with(":write"));
    if operation.method != "get" && is_stated {
        reader.report(location, "`x-writes` is only supported for GET");
    } else if operation.method == "get" && may_write && !is_stated {
        let message = "`x-writes` is missing: state whether this GET changes data";
        reader.report(location, message);
    }
}

fn lint_parameter_scopes(reader: Reader, operation: &Operation, location: &str) {
    let mut parameters = operation.parameters.iter();
    let parameter = parameters.find(|parameter| !parameter.scopes.is_empty());
    if let Some(parameter) = parameter.filter(|_| operation.security.is_none()) {
        let name = &parameter.name;
        reader.report(
            location,
            format!("the parameter `{name}` needs scopes, and the operation needs no key"),
        );
    }
}

/// Reports the statuses that every operation with a body or with a key must document.
fn lint_statuses(reader: Reader, operation: &Operation, location: &str) {
    let rules = reader.rules();
    let parsed = operation.body.iter().filter(|body| body.typed.is_some());
    let with_parsed_body = parsed.flat_map(|_| &rules.statuses_with_parsed_body);
    let with_body = operation
        .body
        .iter()
        .flat_map(|_| &rules.statuses_with_body);
    let with_key = operation
        .security
        .iter()
        .flat_map(|_| &rules.statuses_with_key);
    let lists = with_body
        .chain(with_parsed_body)
        .map(|status| (status, "a body"));
    let lists = lists.chain(with_key.map(|status| (status, "`security`")));
    for (status, cause) in lists {
        if !operation.has_status(*status) {
            reader.report(
                location,
                format!("an operation with {cause} must document {status}"),
            );
        }
    }
}

/// Requires the header that names a request of each POST with a key, and of no other operation.
fn lint_idempotency(reader: Reader, operation: &Operation, location: &str) {
    let Some(name) = &reader.rules().idempotency_key else {
        return;
    };
    let is_repeatable = operation.method == "post" && operation.security.is_some();
    match (is_repeatable, operation.has_idempotency_key(Some(name))) {
        (true, false) => {
            let message = format!("a POST with `security` must have the header parameter `{name}`");
            reader.report(location, message);
        }
        (false, true) => {
            let message = format!("only a POST with `security` can have the parameter `{name}`");
            reader.report(location, message);
        }
        (true, true) => {
            for status in [409, 422] {
                if !operation.has_status(status) {
                    let message = format!("an operation with `{name}` must document {status}");
                    reader.report(location, message);
                }
            }
        }
        (false, false) => {}
    }
}

fn id(reader: Reader, path: &str, method: &str, operation: &Value, location: &str) -> String {
    let strict = reader.rules().snake_case_ids;
    let Some(id) = reader.text(operation, "operationId", location) else {
        if strict {
            reader.report(location, "operationId is missing");
            return String::new();
        }
        return naming::snake(&format!("{method}{path}"));
    };
    let snake = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if strict && (!id.starts_with(|c: char| c.is_ascii_lowercase()) || !id.chars().all(snake)) {
        reader.report(location, format!("operationId `{id}` is not in snake_case"));
    }
    id.to_owned()
}

fn tag(reader: Reader, operation: &Value, location: &str) -> String {
    let tags = reader
        .strings(operation, "tags", location)
        .unwrap_or_default();
    if !reader.rules().one_tag {
        return tags
            .into_iter()
            .next()
            .unwrap_or_else(|| DEFAULT_TAG.to_owned());
    }
    let [tag] = tags.as_slice() else {
        reader.report(location, "an operation must have exactly one tag");
        return String::new();
    };
    let declared = reader.list(reader.root, "tags", "tags");
    if !declared.iter().any(|entry| entry["name"] == **tag) {
        reader.report(
            location,
            format!("the tag `{tag}` is not described under `tags`"),
        );
    }
    tag.clone()
}
