//! Lints the component schemas: what no generator can express is refused.

use serde_json::Value;

use super::contract::{Document, object};

const KEYWORDS: [&str; 32] = [
    "$ref",
    "additionalProperties",
    "allOf",
    "anyOf",
    "default",
    "deprecated",
    "description",
    "enum",
    "example",
    "externalDocs",
    "format",
    "items",
    "maxItems",
    "maxLength",
    "maxProperties",
    "maximum",
    "minItems",
    "minLength",
    "minProperties",
    "minimum",
    "nullable",
    "oneOf",
    "pattern",
    "properties",
    "readOnly",
    "required",
    "title",
    "type",
    "writeOnly",
    "x-null",
    "x-raw-json",
    "x-trim",
];

pub fn lint(document: Document) {
    for (name, schema) in object(&document.root["components"]["schemas"]) {
        let place = format!("components.schemas.{name}");
        lint_schema(document, schema, &place);
        if document.flag(schema, "nullable", &place) && !raw_json(schema) {
            document.add(
                &place,
                "write `nullable` where the component is used, around an `allOf`",
            );
        }
    }
}

fn lint_schema(document: Document, schema: &Value, place: &str) {
    document.only(schema, &KEYWORDS, place);
    document.resolve(schema, "schemas", place);
    if schema.get("$ref").is_some() && object(schema).len() > 1 {
        document.add(place, "what stands beside `$ref` is ignored; use `allOf`");
    }
    for flag in ["nullable", "readOnly", "writeOnly", "x-raw-json", "x-trim"] {
        document.flag(schema, flag, place);
    }
    if schema.get("x-null").is_some_and(|null| null != "passes") {
        document.add(place, "`x-null` can only be `passes`");
    }
    lint_required(document, schema, place);
    for (name, part) in parts(schema) {
        lint_schema(document, part, &format!("{place}.{name}"));
    }
}

fn lint_required(document: Document, schema: &Value, place: &str) {
    for name in document
        .texts(schema, "required", place)
        .unwrap_or_default()
    {
        if schema["properties"].get(&name).is_none() {
            document.add(
                place,
                format!("the required property `{name}` is not described"),
            );
        }
    }
}

/// The schemas directly inside a schema, each with its way from there.
pub fn parts(schema: &Value) -> Vec<(String, &Value)> {
    let mut parts = Vec::new();
    for (name, property) in object(&schema["properties"]) {
        parts.push((format!("properties.{name}"), property));
    }
    for name in ["allOf", "anyOf", "oneOf"] {
        for (index, one) in schema[name].as_array().into_iter().flatten().enumerate() {
            parts.push((format!("{name}[{index}]"), one));
        }
    }
    for name in ["items", "additionalProperties"] {
        if let Some(part) = schema.get(name).filter(|part| part.is_object()) {
            parts.push((name.to_owned(), part));
        }
    }
    parts
}

/// Whether the server keeps it as it was written.
pub fn raw_json(schema: &Value) -> bool {
    schema["x-raw-json"] == true
}

/// Whether it says only that anything goes.
pub fn free_form(schema: &Value) -> bool {
    raw_json(schema)
        || (schema.get("type").is_none()
            && parts(schema).is_empty()
            && schema.get("$ref").is_none()
            && schema.get("enum").is_none())
}

/// The one schema that an `allOf` of one wraps, or the schema itself.
pub fn unwrap(schema: &Value) -> &Value {
    match schema["allOf"].as_array().map(Vec::as_slice) {
        Some([one]) => one,
        _ => schema,
    }
}
