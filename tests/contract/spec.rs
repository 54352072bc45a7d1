//! The contract as data: its operations, and a check that it describes a response.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex};

use jsonschema::Validator;
use reqwest::Method;
use serde_json::{Map, Value, json};

use crate::contract::headers;
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
            "persons_cohorts_retrieve" | "cohorts_explain_retrieve" | "events_list" => {
                format!("{path}?person_id={UNKNOWN_PERSON}")
            }
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

    pub fn tag(&self) -> &'static str {
        self.definition["tags"][0].as_str().expect("a tag")
    }

    /// The parameters of the operation and of its path.
    pub fn parameters(&self) -> Vec<&'static Value> {
        let lists = [self.definition, &DOCUMENT["paths"][self.path]];
        let lists = lists
            .into_iter()
            .filter_map(|one| one["parameters"].as_array());
        lists.flatten().map(resolve).collect()
    }

    /// The examples of bodies, each with its media type. An example of the schema counts if the body has none.
    pub fn request_examples(&self) -> Vec<(&'static str, &'static Value)> {
        let content = members(&self.definition["requestBody"]["content"]);
        let of_media = |(media_type, media): (&'static str, &'static Value)| {
            let examples = members(&media["examples"]).map(|(_, one)| &resolve(one)["value"]);
            let own: Vec<_> = media.get("example").into_iter().chain(examples).collect();
            let of_schema = resolve(&media["schema"]).get("example");
            let all = match own.is_empty() {
                true => of_schema.into_iter().collect(),
                false => own,
            };
            all.into_iter().map(move |value| (media_type, value))
        };
        content.flat_map(of_media).collect()
    }

    /// The documented responses of success.
    pub fn successes(&self) -> Vec<&'static Value> {
        let statuses = self.statuses().into_iter();
        let successes = statuses.filter(|status| *status < 300);
        successes
            .filter_map(|status| self.response(status))
            .collect()
    }

    fn response(&self, status: u16) -> Option<&'static Value> {
        let responses = &self.definition["responses"];
        let one = responses.get(status.to_string());
        let response = match status {
            500.. => one.or(responses.get(SERVER_ERRORS)),
            _ => one,
        };
        response.map(resolve)
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

    fn parameters_of_path(&self) -> usize {
        self.path.matches('{').count()
    }
}

/// The value that a reference leads to, or the value itself.
pub fn resolve(value: &'static Value) -> &'static Value {
    match value["$ref"].as_str() {
        None => value,
        Some(reference) => DOCUMENT.pointer(&reference[1..]).expect("a component"),
    }
}

/// The members of an object; none of other values.
pub fn members(value: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let members = value.as_object().into_iter().flatten();
    members.map(|(name, value)| (name.as_str(), value))
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

/// Asserts that the contract describes this response: status, headers, content type and body. Unknown paths and methods
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
    let ends = [".csv", ".json", ".ndjson", ".sse"];
    let bare = ends.iter().find_map(|end| path.strip_suffix(end));
    let file = match media_type(answer) {
        "text/csv" => ".csv",
        "application/x-ndjson" => ".ndjson",
        "text/event-stream" => ".sse",
        _ => "",
    };
    let path = match bare {
        Some(bare) if !operations().iter().any(|one| one.has_path(path)) => bare,
        Some(_) => path,
        None => &format!("{path}{file}"),
    };
    let fitting = operations()
        .into_iter()
        .filter(|one| one.has_path(path) && one.method == name);
    // A fixed segment of a path takes precedence over a parameter.
    let Some(operation) = fitting.min_by_key(Operation::parameters_of_path) else {
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
    headers::check(&place, response, answer);
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
    let sent = media_type(answer);
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

fn media_type(answer: &Answer) -> &str {
    let sent = answer.header("content-type").unwrap_or_default();
    sent.split(';').next().unwrap_or_default()
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
    differences_of(&json!({"$ref": reference}), value)
}

/// The differences between a value and a schema, which may refer to the contract.
pub fn differences_of(schema: &Value, value: &Value) -> Vec<String> {
    let errors = validator(schema);
    let errors = errors.iter_errors(value);
    errors
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect()
}

/// The validators that were built so far, by their schemas.
static VALIDATORS: LazyLock<Mutex<HashMap<String, Arc<Validator>>>> = LazyLock::new(Mutex::default);

fn validator(schema: &Value) -> Arc<Validator> {
    let build = || {
        let schema = json!({"allOf": [json_schema(schema)], "components": *COMPONENTS});
        let options = jsonschema::draft202012::options().should_validate_formats(true);
        Arc::new(options.build(&schema).expect("a schema"))
    };
    let mut validators = VALIDATORS.lock().expect("no test panics here");
    let validator = validators.entry(schema.to_string()).or_insert_with(build);
    Arc::clone(validator)
}

/// Requires what the service always sends, and closes open lists: clients must accept other words, but this version of the
/// service sends none.
fn json_schema(value: &Value) -> Value {
    match value {
        Value::Object(map) if is_open_list(map) => {
            let mut choices = map["anyOf"].as_array().cloned().unwrap_or_default();
            let is_nullable = choices.iter().any(allows_null);
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
                .filter(|(key, _)| *key != "example")
                .map(|(key, value)| (key.clone(), json_schema(value)))
                .collect();
            require_always_sent(&mut inner);
            Value::Object(inner)
        }
        other => other.clone(),
    }
}

/// Whether the types of a schema contain null.
fn allows_null(schema: &Value) -> bool {
    let types = schema["type"].as_array();
    types.is_some_and(|types| types.contains(&json!("null")))
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
        choices.iter().any(|choice| choice.get("enum").is_some()) && choices.iter().all(is_text)
    })
}

/// Whether a schema has texts only, or texts and null.
fn is_text(schema: &Value) -> bool {
    schema["type"] == "string" || schema["type"] == json!(["string", "null"])
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
