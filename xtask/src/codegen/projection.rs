//! The document as progenitor takes it.

use serde_json::{Map, Value, json};

use super::answers::{ENVELOPE, JSON};
use super::contract::{Contract, object, reference};
use super::operations::{METHODS, Operation};
use super::print::case;
use super::schemas::unwrap;

pub struct Projection {
    pub document: Value,
    /// Schemas that stand for a null or a value, each with the Rust type of the value.
    pub nullable: Vec<(String, String)>,
}

/// What only narrows a value. In a type it would be a newtype per field, or refuse what a later service answers.
const CHECKS: [&str; 10] = [
    "minLength",
    "maxLength",
    "pattern",
    "minimum",
    "maximum",
    "minItems",
    "maxItems",
    "minProperties",
    "maxProperties",
    "example",
];

pub fn project(contract: &Contract) -> Projection {
    let mut projection = Projection {
        document: contract.document.clone(),
        nullable: Vec::new(),
    };
    projection.patches(contract);
    let document = &mut projection.document;
    for operation in &contract.operations {
        let path = &mut document["paths"][&operation.path];
        project_operation(operation, &mut path[&operation.method]);
    }
    simplify(&mut document["components"]["parameters"]);
    let paths = object(&contract.document["paths"]).keys();
    for path in paths {
        for part in ["parameters"].into_iter().chain(METHODS) {
            if let Some(part) = document["paths"][path].get_mut(part) {
                simplify(part);
            }
        }
    }
    for schema in members(&mut document["components"]["schemas"]) {
        simplify(schema);
    }
    projection
}

fn members(value: &mut Value) -> impl Iterator<Item = &mut Value> {
    value.as_object_mut().into_iter().flat_map(Map::values_mut)
}

fn project_operation(operation: &Operation, value: &mut Value) {
    if let Some(body) = &operation.body {
        let schema = json!({ "$ref": format!("#/components/schemas/{}", body.schema) });
        value["requestBody"] =
            json!({ "required": true, "content": { JSON: { "schema": schema } } });
    }
    value["responses"] = responses(operation);
}

/// The answer in JSON, and the envelope for every error that has one.
///
/// An error without a body must not be read as an envelope; left out, it reaches the caller as an unexpected response.
fn responses(operation: &Operation) -> Value {
    let mut responses = Map::new();
    let envelope = json_answer(ENVELOPE);
    let empty_error = |answer: &&super::answers::Answer| answer.is_error() && !answer.is_envelope();
    if operation.answers.iter().any(|answer| empty_error(&answer)) {
        for answer in operation
            .answers
            .iter()
            .filter(|answer| answer.is_envelope())
        {
            responses.insert(answer.status.to_string(), envelope.clone());
        }
    } else {
        responses.insert("4XX".to_owned(), envelope.clone());
    }
    responses.insert("5XX".to_owned(), envelope);
    let success = operation.answers.iter().find(|answer| !answer.is_error());
    let (status, answer) = match success {
        Some(answer) => (
            answer.status.to_string(),
            answer
                .json()
                .map_or_else(|| json!({ "description": "" }), json_answer),
        ),
        None => ("2XX".to_owned(), json!({ "description": "" })),
    };
    responses.insert(status, answer);
    responses.into()
}

fn json_answer(schema: &str) -> Value {
    let schema = json!({ "$ref": format!("#/components/schemas/{schema}") });
    json!({ "description": "", "content": { JSON: { "schema": schema } } })
}

/// Leaves of a schema, or of anything with schemas in it, what shapes a type.
fn simplify(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(simplify),
        Value::Object(members) => {
            simplify_members(members);
            for (name, member) in members {
                // The names of properties are no keywords.
                if name == "properties" {
                    member
                        .as_object_mut()
                        .into_iter()
                        .flat_map(Map::values_mut)
                        .for_each(simplify);
                } else {
                    simplify(member);
                }
            }
        }
        _ => (),
    }
}

fn simplify_members(members: &mut Map<String, Value>) {
    members.retain(|key, value| {
        let open = key == "additionalProperties" && *value == false;
        !CHECKS.contains(&key.as_str()) && !key.starts_with("x-") && !open
    });
    // Either word makes an enum in the end; of `anyOf` typify would make a struct with all choices in it.
    if let Some(mut choices) = members.remove("anyOf") {
        leave_open(&mut choices);
        members.insert("oneOf".to_owned(), choices);
    }
    // Blank has no name as a variant; absent or null says the same.
    if let Some(words) = members.get_mut("enum").and_then(Value::as_array_mut) {
        words.retain(|word| *word != "");
    }
}

/// A choice between components has one more variant: what a later service adds must not make a whole answer unreadable.
fn leave_open(choices: &mut Value) {
    if let Some(choices) = choices.as_array_mut()
        && choices.iter().all(|choice| choice.get("$ref").is_some())
    {
        choices.push(json!({ "title": "Other", "type": "object", "additionalProperties": true }));
    }
}

impl Projection {
    /// In `Patched…` bodies null says something else than absent.
    fn patches(&mut self, contract: &Contract) {
        for (name, schema) in contract.schemas() {
            if !name.starts_with("Patched") {
                continue;
            }
            for (field, property) in object(&schema["properties"]) {
                let target = contract.resolve(unwrap(property));
                let replacement = if property["nullable"] == true || target["nullable"] == true {
                    self.nullable(name, field, property)
                } else {
                    without_default(property)
                };
                self.document["components"]["schemas"][name]["properties"][field] = replacement;
            }
        }
    }

    fn nullable(&mut self, schema: &str, field: &str, property: &Value) -> Value {
        let inner = unwrap(property);
        let (name, rust) = match reference(inner) {
            Some(target) => (target.to_owned(), format!("crate::types::{target}")),
            None if inner.get("enum").is_some() => {
                let name = format!("{schema}{}", case::pascal(field));
                let rust = format!("crate::types::{name}");
                let mut words = without_default(inner);
                words["nullable"] = false.into();
                words["enum"]
                    .as_array_mut()
                    .into_iter()
                    .for_each(|all| all.retain(|one| !one.is_null()));
                self.document["components"]["schemas"][&name] = words;
                (name, rust)
            }
            None => {
                let (name, rust) = plain(inner);
                (name.to_owned(), rust.to_owned())
            }
        };
        let nullable = format!("Nullable{name}");
        if !self.nullable.iter().any(|(one, _)| *one == nullable) {
            self.document["components"]["schemas"][&nullable] = json!({ "type": "object" });
            self.nullable.push((nullable.clone(), rust));
        }
        json!({
            "allOf": [{ "$ref": format!("#/components/schemas/{nullable}") }],
            "description": property["description"].as_str().unwrap_or_default(),
        })
    }
}

fn without_default(property: &Value) -> Value {
    let mut property = property.clone();
    if let Some(members) = property.as_object_mut() {
        members.remove("default");
    }
    property
}

/// A name for a type without one, and what it is in Rust.
fn plain(schema: &Value) -> (&'static str, &'static str) {
    match (schema["type"].as_str(), schema["format"].as_str()) {
        (Some("string"), Some("date-time")) => {
            ("Instant", "::chrono::DateTime<::chrono::offset::Utc>")
        }
        (Some("string"), Some("uuid")) => ("Uuid", "::uuid::Uuid"),
        (Some("string"), _) => ("String", "::std::string::String"),
        (Some("integer"), _) => ("Integer", "i64"),
        (Some("number"), _) => ("Number", "f64"),
        (Some("boolean"), _) => ("Boolean", "bool"),
        _ => ("Json", "::serde_json::Value"),
    }
}
