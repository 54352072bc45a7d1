//! The documents that the service serves about itself.

use serde_json::{Value, json};

use crate::contract::spec;
use crate::harness::{any_of, did, get, person};

#[test]
fn schema_endpoint_serves_the_contract_as_json_and_yaml() {
    assert_eq!(get("/api/schema/").json(), contract_with_scopes());
    let yaml: Value = serde_yaml_ng::from_str(&get("/api/schema/?format=yaml").text).expect("YAML");
    assert_eq!(yaml, *spec::DOCUMENT);
}

/// The contract, with the scopes of each operation at the end of its description.
fn contract_with_scopes() -> Value {
    let mut document = spec::DOCUMENT.clone();
    let items = document["paths"].as_object_mut().expect("paths");
    let items = items.values_mut().filter_map(Value::as_object_mut);
    for operation in items.flat_map(serde_json::Map::values_mut) {
        let Some(scopes) = operation["x-required-scopes"].as_array() else {
            continue;
        };
        let scopes: Vec<&str> = scopes.iter().filter_map(Value::as_str).collect();
        let description = operation["description"].as_str().unwrap_or_default();
        let (description, scopes) = (description.trim_end(), scopes.join("`, `"));
        operation["description"] = format!("{description}\n\n**Scopes:** `{scopes}`").into();
    }
    document
}

#[test]
fn filter_schema_accepts_valid_and_rejects_invalid_filters() {
    let schema = get("/api/schema/filters/").json();
    let schema = jsonschema::draft202012::new(&schema).expect("a schema");
    let filters = any_of(json!([person("plan", "exact", "pro"), did("paid", 7)]));
    assert!(schema.is_valid(&filters));
    for wrong in [
        json!({}),
        any_of(json!([{"type": "person", "key": "plan"}])),
    ] {
        assert!(!schema.is_valid(&wrong), "{wrong}");
    }
}

#[test]
fn own_endpoints_have_a_separate_document() {
    let document = get("/api/schema/service/").json();
    let paths: Vec<&String> = document["paths"]
        .as_object()
        .expect("paths")
        .keys()
        .collect();
    assert_eq!(
        paths,
        [
            "/_livez",
            "/_readyz",
            "/api/schema/filters/",
            "/array/{token}/config.js",
            "/metrics"
        ]
    );
}
