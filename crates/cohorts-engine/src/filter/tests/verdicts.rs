//! The parser, the derived JSON Schema and the schema of the contract accept the same filters.

use jsonschema::Validator;
use serde_json::{Map, Value, json};

use super::tree;
use crate::{Filter, cases};

const CONTRACT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../openapi.yaml");

fn derived() -> Validator {
    jsonschema::draft202012::new(&Filter::schema()).unwrap()
}

/// The lists of words that are closed in the contract, but not in the service: a filter with another word is stored, as in
/// PostHog, and its calculation fails.
const CLOSED_LISTS: [(&str, &[&str]); 4] = [
    ("PersonLeaf", &["operator"]),
    ("PersonMetadataLeaf", &["operator"]),
    ("EventFilter", &["operator"]),
    (
        "BehavioralLeaf",
        &[
            "value",
            "event_type",
            "time_interval",
            "operator",
            "seq_event_type",
            "seq_time_interval",
        ],
    ),
];
/// The operators of the other criteria on the same values.
const OTHER_OPERATORS: [&[&str]; 4] = [
    &["is_set", "is_not_set", "is_date_before", "is_date_after"],
    &["is_set", "is_not_set", "is_date_before", "is_date_after"],
    &["is_set", "is_not_set"],
    &[],
];

/// Opens the closed lists of the contract.
fn open_lists(schemas: &mut Value) {
    for ((schema, properties), others) in CLOSED_LISTS.into_iter().zip(OTHER_OPERATORS) {
        for property in properties {
            let property = schemas[schema]["properties"][property]
                .as_object_mut()
                .unwrap();
            property.shift_remove("enum").expect("a closed list");
            property.insert("not".to_owned(), json!({"enum": others}));
        }
    }
}

/// The filter schema of `openapi.yaml`, with open lists of words.
fn contract() -> Validator {
    let text = std::fs::read_to_string(CONTRACT).unwrap();
    let mut document: Value = serde_yaml_ng::from_str(&text).unwrap();
    open_lists(&mut document["components"]["schemas"]);
    let schema = json!({
        "type": "object",
        "required": ["properties"],
        "additionalProperties": false,
        "properties": {
            "properties": {"$ref": "#/components/schemas/FilterGroup"},
            "filterTestAccounts": {"$ref": "#/components/schemas/CohortFilters/properties/filterTestAccounts"},
        },
        "components": {"schemas": as_json_schema(&document["components"]["schemas"])},
    });
    jsonschema::draft202012::new(&schema).unwrap()
}

/// Converts `nullable` and `int64` of OpenAPI 3.0 to JSON Schema.
fn as_json_schema(schema: &Value) -> Value {
    match schema {
        Value::Array(list) => list.iter().map(as_json_schema).collect(),
        Value::Object(map) => {
            let members = map
                .iter()
                .map(|(key, value)| (key.clone(), as_json_schema(value)));
            let mut map: Map<String, Value> = members.collect();
            let is_nullable = map.shift_remove("nullable") == Some(json!(true));
            // A schema without a type allows null anyway.
            if let Some(kind) = map.get_mut("type").filter(|_| is_nullable) {
                *kind = json!([kind, "null"]);
            }
            if map.get("format") == Some(&json!("int64")) {
                map.insert("minimum".to_owned(), json!(i64::MIN));
                map.insert("maximum".to_owned(), json!(i64::MAX));
            }
            Value::Object(map)
        }
        other => other.clone(),
    }
}

fn leaves() -> Vec<Value> {
    let person = |operator: &str, value: Value| json!({"type": "person", "key": "k", "operator": operator, "value": value, "negation": true});
    vec![
        person("exact", json!("a")),
        person("in", json!(["a", 1])),
        person("is_set", json!(null)),
        person("is_date_before", json!("-7d")),
        person("is_date_after", json!(["2025-01-01", "March 3, 2025"])),
        person("is_date_exact", json!("soon")),
        person("unknown", json!({"a": 1})),
        json!({"type": "person_metadata", "key": "created_at", "operator": "is_date_after", "value": "2025-01-01T00:00:00Z"}),
        json!({"type": "cohort", "key": "id", "value": 5}),
        json!({"type": "behavioral", "key": "e", "value": "performed_event", "event_type": "events",
            "explicit_datetime": "-3d", "explicit_datetime_to": "-1d", "bytecode": [1], "conditionHash": "x"}),
        json!({"type": "behavioral", "key": 5, "value": "performed_event_sequence", "event_type": "actions",
            "time_value": 3, "time_interval": "day", "operator": "gte", "operator_value": 2, "seq_event": "f",
            "seq_event_type": "events", "seq_time_value": 1, "seq_time_interval": "day", "total_periods": 4,
            "min_periods": 2, "negation": false,
            "event_filters": [{"type": "event", "key": "k", "operator": "exact", "value": 1}, {"type": "event", "key": "k", "operator": "is_set"}]}),
    ]
}

/// Replacement values for a member.
fn replacements() -> Vec<Value> {
    vec![
        json!(null),
        json!(true),
        json!("TRUE"),
        json!(5),
        json!(-5.0),
        json!(5.5),
        json!(1e30),
        json!("7"),
        json!(" +7 "),
        json!("7.0"),
        json!("1234567890123456789"),
        json!(""),
        json!("is_set"),
        json!("is_date_before"),
        json!("-10000d"),
        json!(" -7d"),
        json!("00007d"),
        json!("20250617"),
        json!(" 2025-06-17 "),
        json!("March3,2025"),
        json!("2025-06-17"),
        json!([]),
        json!(["x"]),
        json!({}),
        json!({"type": "event", "key": "k"}),
        json!([{"type": "element", "key": "k", "value": 1}]),
    ]
}

/// All variants of the value with one member removed, replaced or added, at any depth.
fn mutations(value: &Value) -> Vec<Value> {
    let mut variants = Vec::new();
    match value {
        Value::Object(map) => {
            let with = |key: &str, value: Option<Value>| {
                let mut map = map.clone();
                match value {
                    Some(value) => map.insert(key.to_owned(), value),
                    None => map.shift_remove(key),
                };
                Value::Object(map)
            };
            for (key, value) in map {
                variants.push(with(key, None));
                let values = replacements().into_iter().chain(mutations(value));
                variants.extend(values.map(|value| with(key, Some(value))));
            }
            for name in [
                "shade",
                "operator",
                "negation",
                "bytecode",
                "values",
                "event_filters",
            ] {
                variants.push(with(name, Some(json!(["x"]))));
            }
        }
        Value::Array(list) => {
            for (index, value) in list.iter().enumerate() {
                variants.extend(mutations(value).into_iter().map(|value| {
                    let mut list = list.clone();
                    list[index] = value;
                    Value::Array(list)
                }));
            }
        }
        _ => {}
    }
    variants
}

#[test]
fn parser_derived_schema_and_contract_agree_on_every_filter() {
    let (derived, contract) = (derived(), contract());
    let mut corpus: Vec<Value> = leaves()
        .into_iter()
        .map(|leaf| tree(json!([leaf])))
        .collect();
    corpus.push(tree(
        json!([{"type": "AND", "values": [{"type": "OR", "values": []}, leaves()[0]]}]),
    ));
    corpus.push(json!({"properties": {"type": "OR", "values": []}, "filterTestAccounts": false}));
    let mutated: Vec<Value> = corpus.iter().flat_map(mutations).collect();
    corpus.extend(mutated);
    corpus.extend(
        cases::all()
            .into_iter()
            .map(|(_, case)| case["filters"].clone()),
    );
    let (mut accepted, mut refused) = (0, 0);
    for filters in &corpus {
        let verdict = Filter::parse(filters);
        let verdicts = (
            verdict.is_ok(),
            derived.is_valid(filters),
            contract.is_valid(filters),
        );
        match verdicts {
            (true, true, true) => accepted += 1,
            (false, false, false) => refused += 1,
            _ => panic!("parser, derived, contract: {verdicts:?} on {filters} ({verdict:?})"),
        }
    }
    assert!(
        accepted > 500 && refused > 1_500,
        "{accepted} and {refused}"
    );
}

#[test]
fn normalised_filters_satisfy_the_derived_schema() {
    let derived = derived();
    for leaf in leaves() {
        let normalised = Filter::normalised(&tree(json!([leaf]))).unwrap();
        assert!(derived.is_valid(&normalised), "{normalised}");
    }
}
