//! Lints the component schemas. A keyword that no generator supports is a finding.

use serde_json::Value;

use super::contract::{Linter, object};

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

pub fn lint(linter: Linter) {
    for (name, schema) in object(&linter.root["components"]["schemas"]) {
        let location = format!("components.schemas.{name}");
        lint_schema(linter, schema, &location);
        if linter.flag(schema, "nullable", &location) && !is_raw_json(schema) {
            linter.report(
                &location,
                "write `nullable` where the component is used, around an `allOf`",
            );
        }
    }
}

fn lint_schema(linter: Linter, schema: &Value, location: &str) {
    linter.allow_keys(schema, &KEYWORDS, location);
    linter.resolve(schema, "schemas", location);
    if schema.get("$ref").is_some() && object(schema).len() > 1 {
        linter.report(location, "keys next to `$ref` are ignored; use `allOf`");
    }
    for flag in ["nullable", "readOnly", "writeOnly", "x-raw-json", "x-trim"] {
        linter.flag(schema, flag, location);
    }
    if schema.get("x-null").is_some_and(|null| null != "passes") {
        linter.report(location, "`x-null` must be `passes`");
    }
    lint_required(linter, schema, location);
    for (path, subschema) in subschemas(schema) {
        lint_schema(linter, subschema, &format!("{location}.{path}"));
    }
}

fn lint_required(linter: Linter, schema: &Value, location: &str) {
    for name in linter
        .strings(schema, "required", location)
        .unwrap_or_default()
    {
        if schema["properties"].get(&name).is_none() {
            linter.report(
                location,
                format!("the required property `{name}` is not described"),
            );
        }
    }
}

/// Returns the direct subschemas of `schema`, each with its path relative to `schema`.
pub fn subschemas(schema: &Value) -> Vec<(String, &Value)> {
    let mut subschemas = Vec::new();
    for (name, property) in object(&schema["properties"]) {
        subschemas.push((format!("properties.{name}"), property));
    }
    for name in ["allOf", "anyOf", "oneOf"] {
        for (index, choice) in schema[name].as_array().into_iter().flatten().enumerate() {
            subschemas.push((format!("{name}[{index}]"), choice));
        }
    }
    for name in ["items", "additionalProperties"] {
        if let Some(subschema) = schema.get(name).filter(|value| value.is_object()) {
            subschemas.push((name.to_owned(), subschema));
        }
    }
    subschemas
}

/// Whether the server keeps the JSON text of the value unchanged.
pub fn is_raw_json(schema: &Value) -> bool {
    schema["x-raw-json"] == true
}

/// Whether the schema accepts any value.
pub fn is_free_form(schema: &Value) -> bool {
    is_raw_json(schema)
        || (schema.get("type").is_none()
            && subschemas(schema).is_empty()
            && schema.get("$ref").is_none()
            && schema.get("enum").is_none())
}

/// Returns the schema inside an `allOf` with one element, or `schema` itself.
pub fn unwrap_all_of(schema: &Value) -> &Value {
    match schema["allOf"].as_array().map(Vec::as_slice) {
        Some([inner]) => inner,
        _ => schema,
    }
}
