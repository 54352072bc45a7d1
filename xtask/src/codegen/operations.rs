//! Reads the operations, and lints them on the way.

use serde_json::Value;

use super::answers::{self, Answer, JSON};
use super::contract::{Document, object, reference, repeated};
use super::parameters::{self, Parameter};

pub const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];

const PATH_KEYS: [&str; 6] = ["parameters", "get", "post", "put", "patch", "delete"];
const OPERATION_KEYS: [&str; 12] = [
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
];

/// The one scheme that keys are sent by.
const SCHEME: &str = "personalApiKey";

pub struct Operation {
    pub id: String,
    /// In small letters, as in the document.
    pub method: String,
    pub path: String,
    pub tag: String,
    pub summary: String,
    pub description: String,
    /// The scopes that a key needs; `None` if no key is wanted.
    pub scopes: Option<Vec<String>>,
    pub parameters: Vec<Parameter>,
    pub body: Option<Body>,
    pub answers: Vec<Answer>,
}

pub struct Body {
    /// The component schema.
    pub schema: String,
    pub media: Vec<Media>,
    /// Whether the handler gets the bytes as they came.
    pub raw: bool,
    /// The files that a multipart body may hold, by their names. The rest of it has the fields of `schema`.
    pub uploads: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Media {
    Json,
    Form,
    Multipart,
}

impl Operation {
    /// Whether the status is documented with the error envelope or without a body.
    pub fn has_status(&self, status: u16) -> bool {
        self.answers.iter().any(|answer| answer.status == status)
    }
}

pub fn read(document: Document) -> Vec<Operation> {
    let mut operations = Vec::new();
    for (path, item) in object(&document.root["paths"]) {
        let place = format!("paths.{path}");
        lint_path(document, path, item, &place);
        for method in METHODS {
            if let Some(operation) = item.get(method) {
                operations.push(read_one(document, path, method, item, operation));
            }
        }
    }
    lint_uniqueness(document, &operations);
    operations
}

fn lint_path(document: Document, path: &str, item: &Value, place: &str) {
    document.only(item, &PATH_KEYS, place);
    if !path.starts_with('/') || !path.ends_with('/') {
        document.add(place, "a path starts and ends with a slash");
    }
}

fn lint_uniqueness(document: Document, operations: &[Operation]) {
    for id in repeated(operations.iter().map(|one| one.id.as_str())) {
        if !id.is_empty() {
            document.add(
                "paths",
                format!("operationId `{id}` is used more than once"),
            );
        }
    }
    let shapes: Vec<_> = object(&document.root["paths"])
        .keys()
        .map(|path| shape(path))
        .collect();
    for shape in repeated(shapes.iter().map(String::as_str)) {
        document.add("paths", format!("`{shape}` is described more than once"));
    }
}

/// A path without the names of its parameters.
fn shape(path: &str) -> String {
    let parts = path
        .split('/')
        .map(|part| if part.starts_with('{') { "{}" } else { part });
    parts.collect::<Vec<_>>().join("/")
}

fn read_one(
    document: Document,
    path: &str,
    method: &str,
    item: &Value,
    value: &Value,
) -> Operation {
    let place = format!("paths.{path}.{method}");
    let text = |name: &str| value[name].as_str().unwrap_or_default().trim().to_owned();
    document.only(value, &OPERATION_KEYS, &place);
    let operation = Operation {
        id: id(document, value, &place),
        method: method.to_owned(),
        path: path.to_owned(),
        tag: tag(document, value, &place),
        summary: text("summary"),
        description: text("description"),
        scopes: scopes(document, value, &place),
        parameters: parameters::read(document, path, item, value, &place),
        body: body(document, value, &place),
        answers: answers::read(document, value, &place),
    };
    if operation.scopes.is_some() && operation.body.as_ref().is_some_and(|body| body.raw) {
        document.add(
            &place,
            "`x-raw-body` is only supported where no key is wanted",
        );
    }
    operation
}

fn id(document: Document, operation: &Value, place: &str) -> String {
    let Some(id) = operation["operationId"].as_str() else {
        document.add(place, "operationId is missing");
        return String::new();
    };
    let snake = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if !id.starts_with(|c: char| c.is_ascii_lowercase()) || !id.chars().all(snake) {
        document.add(place, format!("operationId `{id}` is not in snake_case"));
    }
    id.to_owned()
}

fn tag(document: Document, operation: &Value, place: &str) -> String {
    let tags = document.texts(operation, "tags", place).unwrap_or_default();
    let [tag] = tags.as_slice() else {
        document.add(place, "an operation has exactly one tag");
        return String::new();
    };
    let declared = document.root["tags"].as_array();
    if !declared.is_some_and(|all| all.iter().any(|one| one["name"] == **tag)) {
        document.add(
            place,
            format!("the tag `{tag}` is not described under `tags`"),
        );
    }
    tag.clone()
}

fn scopes(document: Document, operation: &Value, place: &str) -> Option<Vec<String>> {
    let scopes = document.texts(operation, "x-required-scopes", place);
    let Some(security) = operation["security"].as_array() else {
        document.add(place, "`security` is missing");
        return None;
    };
    match security.as_slice() {
        [] if scopes.is_some() => {
            document.add(
                place,
                "without `security` there is nothing to have `x-required-scopes`",
            );
            None
        }
        [] => None,
        [one] if object(one).keys().eq([SCHEME]) => {
            if scopes.as_ref().is_none_or(Vec::is_empty) {
                document.add(place, "`x-required-scopes` is missing");
            }
            Some(scopes.unwrap_or_default())
        }
        _ => {
            let what = format!("`security` is either empty or one entry, `{SCHEME}`");
            document.add(place, what);
            None
        }
    }
}

fn body(document: Document, operation: &Value, place: &str) -> Option<Body> {
    let raw = document.flag(operation, "x-raw-body", place);
    let Some(body) = operation.get("requestBody") else {
        if raw {
            document.add(place, "`x-raw-body` needs a `requestBody`");
        }
        return None;
    };
    let place = format!("{place}.requestBody");
    let body = document.resolve(body, "requestBodies", &place)?;
    document.only(body, &["description", "required", "content"], &place);
    let mut media = Vec::new();
    let mut json = None;
    let mut forms = Vec::new();
    for (media_type, content) in object(&body["content"]) {
        let place = format!("{place}.content.{media_type}");
        document.only(content, &["schema", "example", "examples"], &place);
        if raw && media_type != JSON {
            // The handler reads it.
            document.resolve(&content["schema"], "schemas", &place);
            continue;
        }
        let kind = body_media(document, media_type, &place);
        media.extend(kind);
        match (reference(&content["schema"]), kind) {
            (Some(name), Some(Media::Json)) => json = Some(name),
            (Some(name), Some(kind)) => forms.push((name, kind, place.clone())),
            (Some(_), None) => {}
            (None, _) => document.add(&place, "the schema of a body must be a component"),
        }
        document.resolve(&content["schema"], "schemas", &place);
    }
    if !media.contains(&Media::Json) {
        document.add(&place, "application/json is missing");
    }
    let schema = json?;
    let mut uploads = Vec::new();
    for (name, kind, place) in forms {
        uploads.extend(form(document, name, kind, schema, &place));
    }
    Some(Body {
        schema: schema.to_owned(),
        media,
        raw,
        uploads,
    })
}

/// The files of a form. What is no file must be a field of the JSON body too.
fn form(document: Document, form: &str, kind: Media, json: &str, place: &str) -> Vec<String> {
    let properties =
        |name: &str| object(&document.root["components"]["schemas"][name]["properties"]);
    let fields = properties(json);
    let is_file = |property: &Value| property["format"] == "binary";
    let (files, others): (Vec<_>, Vec<_>) = properties(form)
        .iter()
        .partition(|(_, property)| is_file(property));
    if (kind == Media::Multipart) == files.is_empty() {
        document.add(
            place,
            "a multipart body has a property of the format `binary`, and no other form has",
        );
    }
    for (name, _) in others {
        if !fields.contains_key(name) {
            let what = format!("`{name}` is neither a file nor a field of {json}");
            document.add(place, what);
        }
    }
    files.into_iter().map(|(name, _)| name.clone()).collect()
}

fn body_media(document: Document, media_type: &str, place: &str) -> Option<Media> {
    match media_type {
        "application/json" => Some(Media::Json),
        "application/x-www-form-urlencoded" => Some(Media::Form),
        "multipart/form-data" => Some(Media::Multipart),
        other => {
            let what = format!(
                "a body of `{other}` is not supported; \
                 application/json, application/x-www-form-urlencoded and multipart/form-data are"
            );
            document.add(place, what);
            None
        }
    }
}
