//! Rewrites the document into the part of OpenAPI that progenitor supports. The result is never written to disk.

use serde_json::{Map, Value, json};

use super::open;
use crate::contract::Contract;
use crate::naming::pascal;
use crate::operations::{METHODS, Operation};
use crate::reader::{object, reference};
use crate::responses::{JSON, Response, Status};
use crate::schemas::only_part;

pub struct Projection {
    pub document: Value,
    /// Names of schemas for a nullable value, each with the Rust type of the value.
    pub nullable: Vec<(String, String)>,
}

/// Keywords that only restrict a value.
///
/// typify would make a newtype per field, or reject a response of a later version of the service.
const RESTRICTIONS: [&str; 10] = [
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
        document: contract.document.root.clone(),
        nullable: Vec::new(),
    };
    open::mark_lists(&mut projection.document);
    open::mark_responses(&mut projection.document, contract);
    projection.project_patches();
    let document = &mut projection.document;
    for operation in &contract.operations {
        let path = &mut document["paths"][&operation.path];
        project_operation(contract, operation, &mut path[&operation.method]);
    }
    if let Some(parameters) = document["components"].get_mut("parameters") {
        simplify(parameters);
    }
    let paths = object(&contract.document.root["paths"]).keys();
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

fn project_operation(contract: &Contract, operation: &Operation, value: &mut Value) {
    let body = object(&value["requestBody"]);
    if !body.is_empty() {
        let schema = body["content"][JSON]["schema"].clone();
        value["requestBody"] =
            json!({ "required": true, "content": { JSON: { "schema": schema } } });
    }
    value["responses"] = responses(contract, operation);
}

/// Returns the success response as JSON or as bytes, and the envelope for every error with a body.
///
/// The client must not parse an error without a body as an envelope.
/// Such an error is omitted here, so the caller gets it as an unexpected response.
fn responses(contract: &Contract, operation: &Operation) -> Value {
    let envelope = contract.config.rules.envelope.as_deref().unwrap_or("Error");
    let mut responses = Map::new();
    let envelope = json_response(envelope);
    let has_empty_error = operation
        .responses
        .iter()
        .any(|response| response.is_error() && !response.has_error_body());
    if has_empty_error {
        for response in operation
            .responses
            .iter()
            .filter(|response| response.has_error_body() && response.status != Status::Range(5))
        {
            responses.insert(response.status.text(), envelope.clone());
        }
    } else {
        responses.insert("4XX".to_owned(), envelope.clone());
    }
    responses.insert("5XX".to_owned(), envelope);
    let success = operation
        .responses
        .iter()
        .find(|response| !response.is_error());
    let (status, response) = match success {
        Some(response) => (response.status.text(), success_response(response)),
        None => ("2XX".to_owned(), json!({ "description": "" })),
    };
    responses.insert(status, response);
    responses.into()
}

/// The response of a builder: JSON, the bytes of a response that is never JSON, or nothing.
fn success_response(response: &Response) -> Value {
    match response.json_schema() {
        Some(schema) => json_response(schema),
        None if response.content.is_empty() => json!({ "description": "" }),
        None => json!({ "description": "", "content": { "application/octet-stream": {} } }),
    }
}

fn json_response(schema: &str) -> Value {
    let schema = json!({ "$ref": format!("#/components/schemas/{schema}") });
    json!({ "description": "", "content": { JSON: { "schema": schema } } })
}

/// Removes keywords that do not affect the generated type, from a schema or a value that contains schemas.
fn simplify(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(simplify),
        Value::Object(members) => {
            simplify_members(members);
            for (name, member) in members {
                // The names of properties are not keywords.
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
        let closed = key == "additionalProperties" && *value == false;
        !RESTRICTIONS.contains(&key.as_str()) && !key.starts_with("x-") && !closed
    });
    // `oneOf` becomes an enum. For `anyOf`, typify would generate a struct with all choices as fields.
    if let Some(mut choices) = members.remove("anyOf") {
        add_open_variant(&mut choices);
        members.insert("oneOf".to_owned(), choices);
    }
    // An empty string has no variant name. Absent and null mean the same.
    if let Some(choices) = members.get_mut("enum").and_then(Value::as_array_mut) {
        choices.retain(|choice| *choice != "");
    }
}

/// Adds a variant for unknown objects to a choice between components.
///
/// Without it, a choice that a later version of the service adds would make the whole response unreadable.
fn add_open_variant(choices: &mut Value) {
    if let Some(choices) = choices.as_array_mut()
        && choices.iter().all(|choice| choice.get("$ref").is_some())
    {
        choices.push(json!({ "title": "Other", "type": "object", "additionalProperties": true }));
    }
}

impl Projection {
    /// Replaces the properties of bodies with `x-patch`, where null and absent have different meanings.
    fn project_patches(&mut self) {
        let schemas = self.document["components"]["schemas"].clone();
        for (name, schema) in object(&schemas) {
            if schema["x-patch"] != true {
                continue;
            }
            for (field, property) in object(&schema["properties"]) {
                let inner = only_part(property);
                let target = reference(inner).map_or(inner, |name| &schemas[name]);
                let replacement = if property["nullable"] == true || target["nullable"] == true {
                    self.nullable_property(name, field, property)
                } else {
                    without_default(property)
                };
                self.document["components"]["schemas"][name]["properties"][field] = replacement;
            }
        }
    }

    /// Returns a reference to a `Nullable…` schema and adds that schema if it is new.
    fn nullable_property(&mut self, schema: &str, field: &str, property: &Value) -> Value {
        let inner = only_part(property);
        let (name, rust) = match reference(inner) {
            Some(target) => (target.to_owned(), format!("crate::types::{target}")),
            None if inner.get("enum").is_some() => {
                let name = format!("{schema}{}", pascal(field));
                let rust = format!("crate::types::{name}");
                let mut choices = without_default(inner);
                choices["nullable"] = false.into();
                choices["enum"]
                    .as_array_mut()
                    .into_iter()
                    .for_each(|choices| choices.retain(|choice| !choice.is_null()));
                self.document["components"]["schemas"][&name] = choices;
                (name, rust)
            }
            None => {
                let (name, rust) = primitive(inner);
                (name.to_owned(), rust.to_owned())
            }
        };
        let nullable = format!("Nullable{name}");
        if !self.nullable.iter().any(|(known, _)| *known == nullable) {
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

/// Returns a name and the Rust type for a schema that is not a component.
fn primitive(schema: &Value) -> (&'static str, &'static str) {
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
