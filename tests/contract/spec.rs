//! The contract as data: its operations, and a check that it describes a response.

use std::sync::LazyLock;

use jsonschema::Validator;
use reqwest::Method;
use serde_json::{Map, Value, json};

use crate::harness::Answer;

pub static DOCUMENT: LazyLock<Value> = LazyLock::new(|| {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../openapi.yaml");
    let text = std::fs::read_to_string(path).expect("the contract");
    serde_yaml_ng::from_str(&text).expect("YAML")
});

/// The components of the contract as JSON Schema.
static COMPONENTS: LazyLock<Value> = LazyLock::new(|| json_schema(&DOCUMENT["components"]));

/// The key of the response that covers all failures of the service.
const SERVER_ERRORS: &str = "5XX";

/// An `id` that no person has.
pub const UNKNOWN_PERSON: &str = "00000000-0000-0000-0000-000000000000";

/// An operation of the contract.
#[derive(Clone, Copy)]
pub struct Operation {
    pub id: &'static str,
    pub method: &'static str,
    /// The path, with `{…}` for each parameter.
    pub path: &'static str,
    definition: &'static Value,
}

impl Operation {
    pub fn method(&self) -> Method {
        self.method.to_uppercase().parse().expect("a method")
    }

    /// The path with arguments (an unknown person) and the required query.
    pub fn address(&self, project: i64, cohort: i64) -> String {
        let path = self
            .path
            .replace("{project_id}", &project.to_string())
            .replace("{id}", &cohort.to_string())
            .replace("{uuid}", UNKNOWN_PERSON)
            .replace("{upload_id}", "1");
        match self.id {
            "persons_cohorts_retrieve" => format!("{path}?person_id={UNKNOWN_PERSON}"),
            _ => path,
        }
    }

    /// The required scopes; `None` if the operation needs no key.
    pub fn scopes(&self) -> Option<Vec<&'static str>> {
        let scopes = self.definition["x-required-scopes"].as_array()?;
        Some(scopes.iter().filter_map(Value::as_str).collect())
    }

    /// The documented statuses in order, without server errors.
    pub fn statuses(&self) -> Vec<u16> {
        let responses = self.definition["responses"].as_object().expect("answers");
        let statuses = responses.keys().filter(|status| *status != SERVER_ERRORS);
        statuses
            .map(|status| status.parse().expect("a number"))
            .collect()
    }

    /// Whether a GET request changes something, so that HEAD is not available.
    pub fn writes(&self) -> bool {
        self.definition["x-writes"] == true
    }

    /// The media types of the body; none if the operation has no body.
    pub fn media_types(&self) -> Vec<&'static str> {
        let content = self.definition["requestBody"]["content"].as_object();
        let media_types = content.into_iter().flat_map(Map::keys);
        media_types.map(String::as_str).collect()
    }

    /// Whether its successful response is JSON.
    pub fn answers_json(&self) -> bool {
        let good = self.statuses().into_iter().find(|status| *status < 300);
        let good = good.and_then(|status| self.response(status));
        good.is_some_and(|answer| answer["content"].get("application/json").is_some())
    }

    fn response(&self, status: u16) -> Option<&'static Value> {
        let responses = &self.definition["responses"];
        let one = responses.get(status.to_string());
        let response = match status {
            500.. => one.or(responses.get(SERVER_ERRORS)),
            _ => one,
        }?;
        match response["$ref"].as_str() {
            None => Some(response),
            Some(reference) => DOCUMENT.pointer(&reference[1..]),
        }
    }

    fn has_path(&self, path: &str) -> bool {
        let parts = |path: &'_ str| {
            path.trim_end_matches('/')
                .split('/')
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        let (pattern, path) = (parts(self.path), parts(path));
        let same =
            |(pattern, part): (&String, &String)| pattern.starts_with('{') || pattern == part;
        pattern.len() == path.len() && pattern.iter().zip(&path).all(same)
    }

    fn parameters(&self) -> usize {
        self.path.matches('{').count()
    }
}

/// All operations, in the order of the contract.
pub fn operations() -> Vec<Operation> {
    let paths = DOCUMENT["paths"].as_object().expect("paths");
    let mut operations = Vec::new();
    for (path, item) in paths {
        for method in ["get", "post", "put", "patch", "delete"] {
            if let Some(definition) = item.get(method) {
                let id = definition["operationId"].as_str().expect("an operationId");
                operations.push(Operation {
                    id,
                    method,
                    path,
                    definition,
                });
            }
        }
    }
    operations
}

/// The operation with this `operationId`.
pub fn operation(id: &str) -> Operation {
    let operation = operations()
        .into_iter()
        .find(|operation| operation.id == id);
    operation.unwrap_or_else(|| panic!("the contract has no operation {id}"))
}

/// Asserts that the contract describes this response: status, content type and body. Unknown paths and methods
/// must have the error envelope.
pub fn check(method: &Method, path: &str, answer: &Answer) {
    if method == Method::OPTIONS && answer.status == 200 {
        assert_eq!(answer.text, "", "{method} {path} has no body");
        return;
    }
    let name = method.as_str().to_ascii_lowercase();
    // The contract allows these forms of its paths.
    let path = path.split('/').filter(|part| !part.is_empty());
    let path = format!("/{}", path.collect::<Vec<_>>().join("/"));
    let path = &path.replacen("/api/environments", "/api/projects", 1);
    let ends = [".csv", ".json", ".ndjson"];
    let bare = ends.iter().find_map(|end| path.strip_suffix(end));
    let path = bare.unwrap_or(path);
    let fitting = operations()
        .into_iter()
        .filter(|one| one.has_path(path) && one.method == name);
    // A fixed segment of a path takes precedence over a parameter.
    let Some(operation) = fitting.min_by_key(Operation::parameters) else {
        if path.starts_with("/api/projects/") {
            validate("#/components/schemas/Error", answer);
        }
        return;
    };
    let place = format!(
        "{} ({method} {path}) answered {}",
        operation.id, answer.status
    );
    let response = operation.response(answer.status);
    let response =
        response.unwrap_or_else(|| panic!("{place}, which is not documented: {}", answer.text));
    let content = response["content"].as_object();
    let may_be_empty = response["x-or-empty"] == true;
    let Some(content) = content.filter(|_| !(may_be_empty && answer.text.is_empty())) else {
        assert_eq!(answer.text, "", "{place}, which has no body");
        assert_eq!(
            answer.header("content-type"),
            None,
            "{place}, which has no body"
        );
        return;
    };
    let sent = answer.header("content-type").unwrap_or_default();
    let sent = sent.split(';').next().unwrap_or_default();
    let media = content
        .get(sent)
        .unwrap_or_else(|| panic!("{place} with the content type `{sent}`"));
    if sent == "application/json" {
        validate(
            media["schema"]["$ref"].as_str().expect("a component"),
            answer,
        );
    }
}

fn validate(reference: &str, answer: &Answer) {
    let body = answer.json();
    let errors = differences(reference, &body);
    assert!(
        errors.is_empty(),
        "{} does not fit {reference}: {}",
        answer.text,
        errors.join("; ")
    );
}

/// The differences between a value and a schema of the contract.
pub fn differences(reference: &str, value: &Value) -> Vec<String> {
    let errors = validator(reference);
    let errors = errors.iter_errors(value);
    errors
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect()
}

fn validator(reference: &str) -> Validator {
    let schema = json!({"$ref": reference, "components": *COMPONENTS});
    jsonschema::draft4::options()
        .should_validate_formats(true)
        .build(&schema)
        .expect("a schema")
}

/// Replaces `nullable` of OpenAPI 3.0 by its equivalent in JSON Schema, requires what the service always sends, and
/// closes open lists: clients must accept other words, but this version of the service sends none.
fn json_schema(value: &Value) -> Value {
    match value {
        Value::Object(map) if is_open_list(map) => {
            let mut choices = map["anyOf"].as_array().cloned().unwrap_or_default();
            let is_nullable = choices.iter().any(|choice| choice["nullable"] == true);
            choices.retain(|choice| choice.get("enum").is_some());
            if is_nullable {
                choices.push(json!({"type": "null"}));
            }
            json!({ "anyOf": choices })
        }
        Value::Array(list) => list.iter().map(json_schema).collect(),
        Value::Object(map) => {
            let mut inner: Map<String, Value> = map
                .iter()
                .filter(|(key, _)| *key != "nullable" && *key != "example")
                .map(|(key, value)| (key.clone(), json_schema(value)))
                .collect();
            require_always_sent(&mut inner);
            match map.get("nullable") {
                Some(Value::Bool(true)) => json!({"anyOf": [{"type": "null"}, inner]}),
                _ => Value::Object(inner),
            }
        }
        other => other.clone(),
    }
}

/// Clients may read the responses of PostHog, so fields that PostHog does not send are not required in the contract.
fn require_always_sent(schema: &mut Map<String, Value>) {
    let properties = schema.get("properties").and_then(Value::as_object);
    let names = properties
        .into_iter()
        .flatten()
        .filter(|(_, property)| property["x-always-sent"] == true)
        .map(|(name, _)| Value::from(name.as_str()));
    let names: Vec<_> = names.collect();
    if names.is_empty() {
        return;
    }
    let required = schema.entry("required").or_insert_with(|| json!([]));
    required.as_array_mut().expect("a list").extend(names);
}

#[test]
fn fields_that_posthog_does_not_send_are_not_required_but_checked() {
    let schemas = DOCUMENT["components"]["schemas"].as_object();
    let mut count = 0;
    for (name, schema) in schemas.into_iter().flatten() {
        let properties = schema["properties"].as_object();
        for (field, property) in properties.into_iter().flatten() {
            let description = property["description"].as_str().unwrap_or_default();
            let is_own = description.contains("Extension of this service");
            let is_always_sent = property["x-always-sent"] == true;
            let required = schema["required"].as_array();
            let is_required = required.is_some_and(|names| names.iter().any(|name| name == field));
            assert!(
                !(is_required && (is_own || is_always_sent)),
                "{name}.{field}"
            );
            count += usize::from(is_always_sent);
        }
    }
    assert!(count >= 10, "only {count} fields");

    let project = "#/components/schemas/Project";
    let mut body = DOCUMENT["components"]["schemas"]["Project"]["example"].clone();
    assert_eq!(differences(project, &body), Vec::<String>::new());
    body.as_object_mut()
        .expect("an object")
        .remove("created_at");
    assert_ne!(differences(project, &body), Vec::<String>::new());
}

/// Whether a schema is an enum or any text.
fn is_open_list(map: &Map<String, Value>) -> bool {
    let choices = map.get("anyOf").and_then(Value::as_array);
    choices.is_some_and(|choices| {
        choices.iter().any(|choice| choice.get("enum").is_some())
            && choices.iter().all(|choice| choice["type"] == "string")
    })
}

/// The check itself must be able to fail.
#[test]
fn invalid_bodies_are_detected() {
    let error = "#/components/schemas/Error";
    let good = json!({"type": "server_error", "code": "error", "detail": "y", "attr": null});
    assert_eq!(differences(error, &good), Vec::<String>::new());
    for (key, value) in [
        ("type", json!("nope")),
        ("attr", json!(5)),
        ("code", Value::Null),
        ("code", json!("unlisted")),
    ] {
        let mut bad = good.clone();
        bad[key] = value;
        assert_ne!(differences(error, &bad), Vec::<String>::new(), "{bad}");
    }
    let mut short = good;
    short.as_object_mut().expect("an object").remove("attr");
    assert_ne!(differences(error, &short), Vec::<String>::new());
}

/// The examples of the contract, with their places and their schemas.
fn examples() -> Vec<(String, String, &'static Value)> {
    let of_media = |(place, media): (String, &'static Value)| {
        let reference = media["schema"]["$ref"].as_str()?;
        Some((place, reference.to_owned(), media.get("example")?))
    };
    let of_schema = |(name, schema): (&String, &'static Value)| {
        let reference = format!("#/components/schemas/{name}");
        Some((name.clone(), reference, schema.get("example")?))
    };
    let media = media_types(&DOCUMENT, String::new());
    let schemas = DOCUMENT["components"]["schemas"].as_object();
    let of_schemas = schemas.into_iter().flatten().filter_map(of_schema);
    let of_media = media.into_iter().filter_map(of_media);
    of_media.chain(of_schemas).collect()
}

#[test]
fn examples_are_valid_for_their_schemas() {
    let examples = examples();
    assert!(examples.len() >= 40, "only {} examples", examples.len());
    for (place, reference, example) in examples {
        let errors = differences(&reference, example);
        assert!(errors.is_empty(), "{place}: {}", errors.join("; "));
    }
}

/// Swagger UI shows the example of the response, or of its schema.
#[test]
fn every_successful_response_has_an_example() {
    for operation in operations() {
        let successes = operation
            .statuses()
            .into_iter()
            .filter(|status| *status < 300);
        for response in successes.filter_map(|status| operation.response(status)) {
            let content = response["content"].as_object();
            for (media_type, media) in content.into_iter().flatten() {
                let schema = media["schema"]["$ref"].as_str();
                let schema = schema.and_then(|reference| DOCUMENT.pointer(&reference[1..]));
                let has_example = media.get("example").is_some()
                    || schema.is_some_and(|schema| schema.get("example").is_some());
                assert!(has_example, "{}: {media_type}", operation.id);
            }
        }
    }
}

fn media_types(value: &'static Value, path: String) -> Vec<(String, &'static Value)> {
    let Some(map) = value.as_object() else {
        return Vec::new();
    };
    let below = map.iter().flat_map(|(key, value)| {
        let path = format!("{path}.{key}");
        let media = (key == "application/json").then(|| (path.clone(), value));
        media.into_iter().chain(media_types(value, path))
    });
    below.collect()
}
