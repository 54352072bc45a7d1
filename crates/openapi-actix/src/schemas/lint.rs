//! Checks the keywords of all component schemas.

use serde_json::Value;

use crate::keys;
use crate::reader::{Reader, object};

/// Checks the keywords of all component schemas, those that no operation uses included.
pub fn lint(reader: Reader) {
    let components = reader.object(&reader.root["components"]["schemas"], "components.schemas");
    for (name, schema) in components {
        let location = format!("components.schemas.{name}");
        let is_valid = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
        if !name.chars().all(is_valid) {
            reader.report(
                &location,
                "the name of a component has letters, digits, `.`, `-` and `_` only",
            );
        }
        lint_schema(reader, schema, &location);
    }
}

fn lint_schema(reader: Reader, schema: &Value, location: &str) {
    reader.allow_keys(schema, &[keys::SCHEMA], location);
    reader.resolve(schema, "schemas", location);
    for flag in [
        "nullable",
        "readOnly",
        "writeOnly",
        "x-raw-json",
        "x-trim",
        "x-patch",
    ] {
        reader.flag(schema, flag, location);
    }
    reader.strings(schema, "x-ignored-fields", location);
    for (path, subschema) in subschemas(schema) {
        lint_schema(reader, subschema, &format!("{location}.{path}"));
    }
    let required = reader.strings(schema, "required", location);
    let is_described = |name: &String| schema["properties"].get(name).is_some();
    for name in required
        .unwrap_or_default()
        .iter()
        .filter(|name| !is_described(name))
    {
        // Other parts of an `allOf` may describe it.
        if !location.contains(".allOf[") && schema.get("allOf").is_none() {
            reader.report(
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
