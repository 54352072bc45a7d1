//! Reads and lints the operations of the document.

use serde_json::Value;

use super::contract::{Linter, duplicates, object, reference};
use super::parameters::{self, Parameter};
use super::responses::{self, JSON, Response};

pub const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];

const PATH_KEYS: [&str; 6] = ["parameters", "get", "post", "put", "patch", "delete"];
const OPERATION_KEYS: [&str; 13] = [
    "operationId",
    "tags",
    "summary",
    "description",
    "security",
    "parameters",
    "requestBody",
    "responses",
    "deprecated",
    "externalDocs",
    "x-required-scopes",
    "x-raw-body",
    "x-writes",
];

/// The only supported security scheme.
const SCHEME: &str = "personalApiKey";

pub struct Operation {
    pub id: String,
    /// The method in lower case, as in the document.
    pub method: String,
    pub path: String,
    pub tag: String,
    pub summary: String,
    pub description: String,
    /// The scopes that the caller's key needs; `None` if the operation needs no key.
    pub scopes: Option<Vec<String>>,
    /// Whether a GET changes data, so that it has no HEAD.
    pub writes: bool,
    pub parameters: Vec<Parameter>,
    pub body: Option<Body>,
    pub responses: Vec<Response>,
}

pub struct Body {
    /// The name of the component schema.
    pub schema: String,
    pub media: Vec<Media>,
    /// Whether the handler reads the bytes of the body itself.
    pub raw: bool,
    /// The names of the files in a multipart body. Its other parts are the fields of `schema`.
    pub uploads: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Media {
    Json,
    Form,
    Multipart,
}

impl Operation {
    /// Whether the contract documents a response with this status.
    pub fn has_status(&self, status: u16) -> bool {
        self.responses
            .iter()
            .any(|response| response.status == status)
    }
}

pub fn read(linter: Linter) -> Vec<Operation> {
    let mut operations = Vec::new();
    for (path, item) in object(&linter.root["paths"]) {
        let location = format!("paths.{path}");
        lint_path(linter, path, item, &location);
        for method in METHODS {
            if let Some(operation) = item.get(method) {
                operations.push(read_one(linter, path, method, item, operation));
            }
        }
    }
    lint_uniqueness(linter, &operations);
    operations
}

fn lint_path(linter: Linter, path: &str, item: &Value, location: &str) {
    linter.allow_keys(item, &PATH_KEYS, location);
    if !path.starts_with('/') || !path.ends_with('/') {
        linter.report(location, "a path must start and end with a slash");
    }
}

fn lint_uniqueness(linter: Linter, operations: &[Operation]) {
    for id in duplicates(operations.iter().map(|operation| operation.id.as_str())) {
        if !id.is_empty() {
            linter.report(
                "paths",
                format!("operationId `{id}` is used more than once"),
            );
        }
    }
    let shapes: Vec<_> = object(&linter.root["paths"])
        .keys()
        .map(|path| shape(path))
        .collect();
    for shape in duplicates(shapes.iter().map(String::as_str)) {
        linter.report("paths", format!("`{shape}` is described more than once"));
    }
}

/// Returns the path without the names of its parameters.
fn shape(path: &str) -> String {
    let parts = path
        .split('/')
        .map(|part| if part.starts_with('{') { "{}" } else { part });
    parts.collect::<Vec<_>>().join("/")
}

fn read_one(linter: Linter, path: &str, method: &str, item: &Value, value: &Value) -> Operation {
    let location = format!("paths.{path}.{method}");
    let text = |name: &str| value[name].as_str().unwrap_or_default().trim().to_owned();
    linter.allow_keys(value, &OPERATION_KEYS, &location);
    let operation = Operation {
        id: id(linter, value, &location),
        method: method.to_owned(),
        path: path.to_owned(),
        tag: tag(linter, value, &location),
        summary: text("summary"),
        description: text("description"),
        scopes: scopes(linter, value, &location),
        writes: linter.flag(value, "x-writes", &location),
        parameters: parameters::read(linter, path, item, value, &location),
        body: body(linter, value, &location),
        responses: responses::read(linter, value, &location),
    };
    if operation.scopes.is_some() && operation.body.as_ref().is_some_and(|body| body.raw) {
        linter.report(
            &location,
            "`x-raw-body` is only supported for an operation without `security`",
        );
    }
    let has_files = |body: &Body| !body.uploads.is_empty();
    if operation.scopes.is_none() && operation.body.as_ref().is_some_and(has_files) {
        linter.report(&location, "a file is only supported with `security`");
    }
    lint_writes(linter, &operation, value, &location);
    operation
}

/// Requires a statement of each GET with a scope to write, because clients expect that GET and HEAD change nothing.
fn lint_writes(linter: Linter, operation: &Operation, value: &Value, location: &str) {
    let is_stated = value.get("x-writes").is_some();
    let mut scopes = operation.scopes.iter().flatten();
    let may_write = scopes.any(|scope| scope.ends_with(":write"));
    if operation.method != "get" && is_stated {
        linter.report(location, "`x-writes` is only supported for GET");
    } else if operation.method == "get" && may_write && !is_stated {
        let message = "`x-writes` is missing: state whether this GET changes data";
        linter.report(location, message);
    }
}

fn id(linter: Linter, operation: &Value, location: &str) -> String {
    let Some(id) = operation["operationId"].as_str() else {
        linter.report(location, "operationId is missing");
        return String::new();
    };
    let snake = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if !id.starts_with(|c: char| c.is_ascii_lowercase()) || !id.chars().all(snake) {
        linter.report(location, format!("operationId `{id}` is not in snake_case"));
    }
    id.to_owned()
}

fn tag(linter: Linter, operation: &Value, location: &str) -> String {
    let tags = linter
        .strings(operation, "tags", location)
        .unwrap_or_default();
    let [tag] = tags.as_slice() else {
        linter.report(location, "an operation must have exactly one tag");
        return String::new();
    };
    let declared = linter.root["tags"].as_array();
    if !declared.is_some_and(|tags| tags.iter().any(|entry| entry["name"] == **tag)) {
        linter.report(
            location,
            format!("the tag `{tag}` is not described under `tags`"),
        );
    }
    tag.clone()
}

fn scopes(linter: Linter, operation: &Value, location: &str) -> Option<Vec<String>> {
    let scopes = linter.strings(operation, "x-required-scopes", location);
    let Some(security) = operation["security"].as_array() else {
        linter.report(location, "`security` is missing");
        return None;
    };
    match security.as_slice() {
        [] if scopes.is_some() => {
            linter.report(location, "`x-required-scopes` needs `security`");
            None
        }
        [] => None,
        [scheme] if object(scheme).keys().eq([SCHEME]) => {
            if scopes.as_ref().is_none_or(Vec::is_empty) {
                linter.report(location, "`x-required-scopes` is missing");
            }
            Some(scopes.unwrap_or_default())
        }
        _ => {
            let message = format!("`security` must be empty or have the one entry `{SCHEME}`");
            linter.report(location, message);
            None
        }
    }
}

fn body(linter: Linter, operation: &Value, location: &str) -> Option<Body> {
    let raw = linter.flag(operation, "x-raw-body", location);
    let Some(body) = operation.get("requestBody") else {
        if raw {
            linter.report(location, "`x-raw-body` needs a `requestBody`");
        }
        return None;
    };
    let location = format!("{location}.requestBody");
    let body = linter.resolve(body, "requestBodies", &location)?;
    linter.allow_keys(body, &["description", "required", "content"], &location);
    let mut media = Vec::new();
    let mut json = None;
    let mut forms = Vec::new();
    for (media_type, content) in object(&body["content"]) {
        let location = format!("{location}.content.{media_type}");
        linter.allow_keys(content, &["schema", "example", "examples"], &location);
        if raw && media_type != JSON {
            // The handler parses this body itself.
            linter.resolve(&content["schema"], "schemas", &location);
            continue;
        }
        let kind = body_media(linter, media_type, &location);
        media.extend(kind);
        match (reference(&content["schema"]), kind) {
            (Some(name), Some(Media::Json)) => json = Some(name),
            (Some(name), Some(kind)) => forms.push((name, kind, location.clone())),
            (Some(_), None) => {}
            (None, _) => linter.report(&location, "the schema of a body must be a component"),
        }
        linter.resolve(&content["schema"], "schemas", &location);
    }
    if !media.contains(&Media::Json) {
        linter.report(&location, "application/json is missing");
    }
    let schema = json?;
    let mut uploads = Vec::new();
    for (name, kind, location) in forms {
        uploads.extend(form(linter, name, kind, schema, &location));
    }
    Some(Body {
        schema: schema.to_owned(),
        media,
        raw,
        uploads,
    })
}

/// Returns the names of the files in a form. Every other property must be a field of the JSON body too.
fn form(linter: Linter, form: &str, kind: Media, json: &str, location: &str) -> Vec<String> {
    let properties = |name: &str| object(&linter.root["components"]["schemas"][name]["properties"]);
    let fields = properties(json);
    let is_file = |property: &Value| property["format"] == "binary";
    let (files, others): (Vec<_>, Vec<_>) = properties(form)
        .iter()
        .partition(|(_, property)| is_file(property));
    if (kind == Media::Multipart) == files.is_empty() {
        linter.report(
            location,
            "a multipart body must have a property of the format `binary`, and no other form may have one",
        );
    }
    for (name, _) in others {
        if !fields.contains_key(name) {
            let message = format!("`{name}` is neither a file nor a field of {json}");
            linter.report(location, message);
        }
    }
    files.into_iter().map(|(name, _)| name.clone()).collect()
}

fn body_media(linter: Linter, media_type: &str, location: &str) -> Option<Media> {
    match media_type {
        "application/json" => Some(Media::Json),
        "application/x-www-form-urlencoded" => Some(Media::Form),
        "multipart/form-data" => Some(Media::Multipart),
        other => {
            let message = format!(
                "a body of `{other}` is not supported; use \
                 application/json, application/x-www-form-urlencoded or multipart/form-data"
            );
            linter.report(location, message);
            None
        }
    }
}
