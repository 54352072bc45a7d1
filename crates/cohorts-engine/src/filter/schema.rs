//! The parts of the filter's JSON Schema that the types cannot express.
//!
//! Numbers and flags may be text, the operator decides which values are valid, and the fields
//! that PostHog's server adds to leaves are allowed.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};

use crate::date;
use crate::parse::{MACHINE_FIELDS, TEST_ACCOUNTS};

/// A whole number, or text with a whole number.
pub(super) struct WholeNumber;

impl JsonSchema for WholeNumber {
    fn schema_name() -> Cow<'static, str> {
        "WholeNumber".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A whole number; numeric text is accepted.",
            "anyOf": [
                {"type": "integer", "minimum": i64::MIN, "maximum": i64::MAX},
                {"type": "string", "pattern": r"^\s*[+-]?[0-9]{1,18}\s*$"},
            ],
        })
    }
}

/// A boolean, or its name as text; null is false.
pub(super) struct Flag;

impl JsonSchema for Flag {
    fn schema_name() -> Cow<'static, str> {
        "Flag".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "True or false; text is accepted.",
            "anyOf": [
                {"type": ["boolean", "null"]},
                {"type": "string", "pattern": "^([Tt][Rr][Uu][Ee]|[Ff][Aa][Ll][Ss][Ee])$"},
            ],
        })
    }
}

fn insert(schema: &mut Schema, key: &str, value: Value) {
    schema.insert(key.to_owned(), value);
}

fn properties(schema: &mut Schema) -> Option<&mut Map<String, Value>> {
    schema.get_mut("properties")?.as_object_mut()
}

/// Allows the option of PostHog's filters that has no effect.
pub(super) fn filter(schema: &mut Schema) {
    let option = json!({
        "description": "False or null. True would exclude PostHog's test accounts, which this service does not know.",
        "enum": [false, null],
    });
    if let Some(properties) = properties(schema) {
        properties.insert(TEST_ACCOUNTS.to_owned(), option);
    }
}

/// Allows the fields that PostHog's server adds to leaves.
pub(super) fn with_machine_fields(schema: &mut Schema) {
    if let Some(properties) = properties(schema) {
        let added =
            MACHINE_FIELDS.map(|name| (name.to_owned(), json!({"description": "Dropped."})));
        properties.extend(added);
    }
}

/// Requires `value`, except for the operators that take none.
fn needs_value(schema: &mut Schema, rules: &[Value]) {
    let valueless = json!({"properties": {"operator": {"enum": ["is_set", "is_not_set"]}}, "required": ["operator"]});
    let needed = json!({"properties": {"value": {"not": {"type": "null"}}}, "required": ["value"]});
    let mut all = vec![json!({"if": valueless, "else": needed})];
    all.extend(rules.iter().cloned());
    insert(schema, "allOf", Value::Array(all));
}

pub(super) fn person_leaf(schema: &mut Schema) {
    with_machine_fields(schema);
    if let Some(properties) = properties(schema) {
        // Optional in the type, for filters converted from legacy groups; required in requests.
        properties.insert(
            "operator".to_owned(),
            json!({"type": "string", "description": "The operator."}),
        );
    }
    if let Some(required) = schema.get_mut("required").and_then(Value::as_array_mut) {
        required.push(json!("operator"));
    }
    let date = json!({"type": "string", "pattern": date::FORM});
    let dates = json!({"anyOf": [date, {"type": "array", "items": date, "minItems": 1}]});
    let dated = json!({"properties": {"operator": {"enum": ["is_date_before", "is_date_after"]}}});
    needs_value(
        schema,
        &[json!({"if": dated, "then": {"properties": {"value": dates}}})],
    );
}

pub(super) fn event_filter(schema: &mut Schema) {
    with_machine_fields(schema);
    needs_value(schema, &[]);
}

/// Restricts the key to the only column of the person record.
pub(super) fn created_at(schema: &mut Schema) {
    if let Some(properties) = properties(schema) {
        properties.insert("key".to_owned(), json!({"const": "created_at"}));
    }
}
