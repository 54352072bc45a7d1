//! The rule that every property, parameter and response header has a description.
//!
//! A reference to a component with a description counts as one, because OpenAPI 3.0 has no text next to `$ref`.

use serde_json::Value;

use crate::reader::{Reader, object};
use crate::schemas::{only_part, subschemas};

/// Parts of the document that contain examples, which are no descriptions of anything.
const EXAMPLES: [&str; 2] = ["example", "examples"];

/// Reports what has no description.
pub fn lint(reader: Reader) {
    if !reader.rules().descriptions {
        return;
    }
    let components = &reader.root["components"];
    for (name, schema) in object(&components["schemas"]) {
        properties(reader, schema, &format!("components.schemas.{name}"));
    }
    for part in ["parameters", "headers"] {
        for (name, value) in object(&components[part]) {
            member(reader, value, part, &format!("components.{part}.{name}"));
        }
    }
    for part in ["responses", "requestBodies"] {
        walk(reader, &components[part], &format!("components.{part}"));
    }
    walk(reader, &reader.root["paths"], "paths");
}

/// Searches a part of the document for parameters, headers and schemas.
fn walk(reader: Reader, value: &Value, location: &str) {
    for (key, value) in object(value) {
        let location = format!("{location}.{key}");
        match (key.as_str(), value) {
            ("parameters", Value::Array(list)) => {
                for value in list {
                    let name = value["name"].as_str().unwrap_or_default();
                    member(reader, value, "parameters", &format!("{location}.{name}"));
                }
            }
            ("headers", _) => {
                for (name, value) in object(value) {
                    member(reader, value, "headers", &format!("{location}.{name}"));
                }
            }
            ("schema", _) => properties(reader, value, &location),
            (key, _) if EXAMPLES.contains(&key) => {}
            _ => walk(reader, value, &location),
        }
    }
}

/// Checks a parameter or a header.
fn member(reader: Reader, value: &Value, section: &str, location: &str) {
    require(reader, value, section, location);
    properties(reader, &value["schema"], &format!("{location}.schema"));
}

/// Checks the properties of a schema and of the schemas in it.
fn properties(reader: Reader, schema: &Value, location: &str) {
    for (path, subschema) in subschemas(schema) {
        let location = format!("{location}.{path}");
        if path.starts_with("properties.") {
            let own = subschema.get("description").is_some();
            let described = if own { subschema } else { only_part(subschema) };
            require(reader, described, "schemas", &location);
        }
        properties(reader, subschema, &location);
    }
}

fn require(reader: Reader, value: &Value, section: &str, location: &str) {
    let target = value["$ref"].as_str().and_then(|target| {
        let name = target
            .strip_prefix("#/components/")?
            .strip_prefix(section)?;
        reader.root["components"][section].get(name.strip_prefix('/')?)
    });
    let text = target.unwrap_or(value)["description"].as_str();
    if text.is_none_or(|text| text.trim().is_empty()) {
        reader.report(location, "a description is missing");
    }
}
