//! Parsing of criteria: fields, errors and bounds.

use serde_json::{Value, json};

use super::*;
use crate::cases;

fn tree(values: Value) -> Value {
    json!({"properties": {"type": "OR", "values": values}})
}

#[track_caller]
fn refused(filters: Value) -> FilterError {
    Filter::parse(&filters).unwrap_err()
}

/// The sentence of the error in a leaf at `properties.values[0]`.
#[track_caller]
fn refused_leaf(leaf: Value) -> String {
    let error = refused(tree(json!([leaf])));
    assert_eq!(error.code, "invalid_input");
    assert!(
        error.path.starts_with("properties.values[0]"),
        "{}",
        error.path
    );
    error.detail
}

fn person(more: Value) -> Value {
    merged(
        json!({"type": "person", "key": "x", "operator": "exact", "value": "1"}),
        more,
    )
}

fn behavioral(more: Value) -> Value {
    let leaf = json!({"type": "behavioral", "key": "e", "value": "performed_event",
        "event_type": "events"});
    merged(leaf, more)
}

fn merged(mut leaf: Value, more: Value) -> Value {
    for (key, value) in more.as_object().unwrap() {
        leaf[key] = value.clone();
    }
    leaf
}

#[test]
fn filters_without_properties_have_a_code_of_their_own() {
    for filters in [
        json!(null),
        json!([]),
        json!("x"),
        json!({}),
        json!({"properties": null}),
    ] {
        let error = refused(filters);
        assert_eq!(error.code, "missing_properties");
        assert_eq!(
            error.detail,
            "Must contain a 'properties' key with type and values"
        );
    }
}

#[test]
fn bad_groups_are_refused_with_their_path() {
    let cases = [
        (
            json!({"properties": {}}),
            "properties: the key 'type' is missing; expected one of AND, OR",
        ),
        (
            json!({"properties": []}),
            "properties: expected an object, got a list",
        ),
        (
            json!({"properties": {"type": "and", "values": []}}),
            "properties: unknown group type 'and'; expected one of AND, OR",
        ),
        (
            json!({"properties": {"type": 1, "values": []}}),
            "properties: 'type' must be text, got a number; expected one of AND, OR",
        ),
        (
            json!({"properties": {"type": "OR"}}),
            "properties: a group must have 'values'",
        ),
        (
            json!({"properties": {"type": "OR", "values": {}}}),
            "properties: 'values' must be a list, got an object",
        ),
        (
            json!({"properties": {"type": "OR", "values": [], "negation": true}}),
            "properties: unknown key 'negation'; allowed are type, values",
        ),
        (
            json!({"properties": {"type": "OR", "values": []}, "more": 1}),
            "filters: unknown key 'more'; allowed are properties, filterTestAccounts",
        ),
        (
            tree(json!([{"type": "AND", "values": [person(json!({})), 7]}])),
            "properties.values[0].values[1]: expected an object, got a number",
        ),
    ];
    for (filters, sentence) in cases {
        assert_eq!(refused(filters).detail, sentence);
    }
}

#[test]
fn unknown_leaf_types_are_named() {
    assert_eq!(
        refused_leaf(json!({"type": "event"})),
        "properties.values[0]: unknown filter type 'event'; expected one of behavioral, cohort, \
         person, person_metadata, AND, OR"
    );
    assert_eq!(
        refused_leaf(json!({"key": "x"})),
        "properties.values[0]: the key 'type' is missing; expected one of behavioral, cohort, \
         person, person_metadata, AND, OR"
    );
}

#[test]
fn missing_keys_are_named_in_the_wording_of_posthog() {
    let cases = [
        (
            json!({"type": "person", "key": "x"}),
            "person filter: value, operator",
        ),
        (
            json!({"type": "person", "key": "x", "value": 1}),
            "person filter: operator",
        ),
        (person(json!({"operator": null})), "person filter: operator"),
        (
            json!({"type": "person", "key": "x", "operator": "gt"}),
            "person filter: value",
        ),
        (person(json!({"value": null})), "person filter: value"),
        (json!({"type": "person"}), "person filter: key"),
        (
            json!({"type": "person_metadata", "key": "created_at"}),
            "person_metadata filter: value, operator",
        ),
        (
            json!({"type": "cohort", "key": "id"}),
            "cohort filter: value",
        ),
        (json!({"type": "cohort", "value": 1}), "cohort filter: key"),
        (json!({"type": "behavioral"}), "behavioral filter: key"),
        (
            json!({"type": "behavioral", "key": "e"}),
            "behavioral filter: value",
        ),
        (
            behavioral(json!({"event_type": null})),
            "behavioral filter: event_type",
        ),
        (
            behavioral(json!({"event_filters": [{"type": "event", "key": "k"}]})),
            "behavioral filter: value",
        ),
        (
            behavioral(json!({"event_filters": [{"type": "event", "value": 1}]})),
            "behavioral filter: key",
        ),
        (
            behavioral(json!({"event_filters": [{}]})),
            "behavioral filter: type",
        ),
    ];
    for (leaf, sentence) in cases {
        assert_eq!(
            refused_leaf(leaf),
            format!("Missing required keys for {sentence}")
        );
    }
}

#[test]
fn invalid_members_are_named() {
    let cohort = |more| merged(json!({"type": "cohort", "key": "id", "value": 1}), more);
    let cases = [
        (
            person(json!({"shade": null})),
            ": unknown key 'shade'; allowed are type, key, value, operator, negation",
        ),
        (
            cohort(json!({"operator": "not_in"})),
            ": unknown key 'operator'; allowed are type, key, value, negation",
        ),
        (
            cohort(json!({"key": "name"})),
            ": 'key' of a cohort filter must be 'id'",
        ),
        (
            cohort(json!({"value": "@x"})),
            ": 'value' must be a whole number, got \"@x\"",
        ),
        (
            cohort(json!({"value": 1.5})),
            ": 'value' must be a whole number, got 1.5",
        ),
        (
            person(json!({"key": 1})),
            ": 'key' must be text, got a number",
        ),
        (
            person(json!({"operator": []})),
            ": 'operator' must be text, got a list",
        ),
        (
            person(json!({"negation": "maybe"})),
            ": 'negation' must be true or false",
        ),
        (
            person(json!({"type": "person_metadata"})),
            ": 'key' of a person_metadata filter must be created_at, got 'x'",
        ),
        (
            behavioral(json!({"key": true})),
            ": 'key' must be text or a whole number",
        ),
        (
            behavioral(json!({"operator_value": "many"})),
            ": 'operator_value' must be a whole number, got \"many\"",
        ),
        (
            behavioral(json!({"event_filters": {}})),
            ": 'event_filters' must be a list, got an object",
        ),
        (
            behavioral(json!({"event_filters": ["x"]})),
            ".event_filters[0]: expected an object, got text",
        ),
        (
            behavioral(json!({"event_filters": [{"type": "hogql", "key": "1 = 1"}]})),
            ".event_filters[0]: event filters of type 'hogql' are not supported; only 'event' is",
        ),
        (
            behavioral(json!({"event_filters": [{"type": "person", "key": "x", "value": 1}]})),
            ".event_filters[0]: unknown type 'person'; expected event",
        ),
    ];
    for (leaf, sentence) in cases {
        assert_eq!(
            refused_leaf(leaf),
            format!("properties.values[0]{sentence}")
        );
    }
    let unknown = refused_leaf(behavioral(json!({"not_a_field": 1})));
    assert!(unknown.contains("unknown key 'not_a_field'"), "{unknown}");
}

#[test]
fn invalid_dates_are_refused_for_before_and_after_only() {
    let dated =
        |operator: &str, value: Value| person(json!({"operator": operator, "value": value}));
    for value in [
        json!("soon"),
        json!(7),
        json!(["2025-01-01", "soon"]),
        json!("-10000d"),
    ] {
        for operator in ["is_date_before", "is_date_after"] {
            let sentence = refused_leaf(dated(operator, value.clone()));
            assert!(sentence.contains("Invalid date value"), "{sentence}");
            assert!(sentence.contains(operator), "{sentence}");
        }
        assert!(Filter::parse(&tree(json!([dated("is_date_exact", value)]))).is_ok());
    }
    for value in ["-7d", "30d", "March 3, 2025", "2025-01-01T00:00:00+01:00"] {
        assert!(Filter::parse(&tree(json!([dated("is_date_after", json!(value))]))).is_ok());
    }
}

#[test]
fn the_normalised_form_keeps_the_order_and_drops_nulls_and_machine_fields() {
    let leaf = json!({"value": "performed_event", "type": "behavioral", "time_value": "30",
        "key": "e", "operator": null, "event_type": "events", "conditionHash": "0123456789abcdef",
        "event_filters": [{"value": 1, "operator": null, "key": "k", "type": "event"}],
        "bytecode": [1], "bytecode_error": "x", "time_interval": "day"});
    let cohort = json!({"negation": "true", "value": "12", "type": "cohort", "key": "id"});
    let filters = json!({"properties": {"values": [leaf, cohort], "type": "OR"}});
    assert_eq!(
        Filter::normalised(&filters).unwrap().to_string(),
        concat!(
            r#"{"properties":{"values":[{"value":"performed_event","type":"behavioral","#,
            r#""time_value":30,"key":"e","event_type":"events","#,
            r#""event_filters":[{"value":1,"key":"k","type":"event"}],"#,
            r#""time_interval":"day","negation":false},"#,
            r#"{"negation":true,"value":12,"type":"cohort","key":"id"}],"type":"OR"}}"#
        )
    );
}

#[test]
fn test_accounts_are_not_excluded() {
    let filters = |option: Value| json!({"properties": {"type": "OR", "values": []}, "filterTestAccounts": option});
    assert_eq!(
        Filter::normalised(&filters(json!(false))),
        Ok(filters(json!(false)))
    );
    let plain = json!({"properties": {"type": "OR", "values": []}});
    assert_eq!(Filter::normalised(&filters(Value::Null)), Ok(plain));
    for option in [json!(true), json!(0), json!("false")] {
        let error = refused(filters(option));
        assert_eq!(
            (error.path.as_str(), error.code),
            ("filterTestAccounts", "invalid_input")
        );
    }
    assert!(Filter::parse_stored(&filters(json!(true))).is_ok());
}

#[test]
fn normalising_is_idempotent_and_keeps_the_meaning() {
    for (name, case) in cases::all() {
        let Ok((filter, wire)) = Filter::parse_and_normalise(&case["filters"]) else {
            continue;
        };
        assert_eq!(
            Filter::parse_and_normalise(&wire).unwrap(),
            (filter.clone(), wire.clone())
        );
        assert_eq!(Filter::parse_stored(&wire).unwrap(), filter, "{name}");
        assert_eq!(serde_json::to_value(&filter).unwrap(), wire, "{name}");
    }
}

/// Wraps a value `levels` times. It moves the value, because `json!` would recurse into it.
fn wrapped(mut value: Value, levels: usize, wrap: fn(Value) -> Value) -> Value {
    for _ in 0..levels {
        value = wrap(value);
    }
    value
}

fn group(value: Value) -> Value {
    let mut group = json!({"type": "AND"});
    group["values"] = Value::Array(vec![value]);
    group
}

#[test]
fn trees_that_are_too_deep_are_refused() {
    let nested = |levels: usize| {
        let mut filters = json!({});
        filters["properties"] = wrapped(person(json!({})), levels, group);
        filters
    };
    assert!(Filter::parse(&nested(MAX_DEPTH)).is_ok());
    for levels in [MAX_DEPTH + 1, 10_000] {
        let filters = nested(levels);
        let error = Filter::parse(&filters).unwrap_err();
        assert_eq!(
            error.detail,
            "properties: groups or values nest deeper than 64 levels"
        );
        // Dropping the value recurses, which could overflow the stack of the test.
        std::mem::forget(filters);
    }
}

#[test]
fn values_that_are_too_deep_are_refused() {
    let mut leaf = person(json!({}));
    leaf["value"] = wrapped(json!(1), 10_000, |value| Value::Array(vec![value]));
    let mut filters = json!({});
    filters["properties"] = group(leaf);
    for read in [Filter::parse, Filter::parse_stored] {
        let error = read(&filters).unwrap_err();
        assert_eq!(
            error.detail,
            "properties: groups or values nest deeper than 64 levels"
        );
    }
    std::mem::forget(filters);
}

#[test]
fn filters_with_too_many_nodes_or_items_are_refused() {
    let leaves = |count: usize| tree(Value::Array(vec![person(json!({})); count]));
    assert!(Filter::parse(&leaves(MAX_NODES)).is_ok());
    assert_eq!(
        refused(leaves(MAX_NODES + 1)).detail,
        "properties: a filter may hold 10000 groups and leaves at most"
    );
    let items = |count: usize| json!(vec!["a"; count]);
    assert!(Filter::parse(&tree(json!([person(json!({"value": items(MAX_ITEMS)}))]))).is_ok());
    let too_long = "lists 10001 items; at most 10000 are allowed";
    let sentence = refused_leaf(person(json!({"value": items(MAX_ITEMS + 1)})));
    assert_eq!(
        sentence,
        format!("properties.values[0]: 'value' {too_long}")
    );
    let sentence = refused_leaf(behavioral(json!({"event_filters": items(MAX_ITEMS + 1)})));
    assert_eq!(
        sentence,
        format!("properties.values[0]: 'event_filters' {too_long}")
    );
}

#[test]
fn names_beyond_the_limit_are_refused_with_their_place() {
    let (long, longest) = ("é".repeat(501), "é".repeat(500));
    let sentence = "has 1002 bytes; the name of a property or an event may have 1000 at most";
    let event_filters = |key: &str| json!([{"type": "event", "key": key, "value": 1}]);
    type Leaf<'a> = (&'a dyn Fn(&str) -> Value, &'a str);
    let leaves: [Leaf; 4] = [
        (
            &|name| person(json!({"key": name})),
            "properties.values[0]: 'key'",
        ),
        (
            &|name| behavioral(json!({"key": name})),
            "properties.values[0]: 'key'",
        ),
        (
            &|name| behavioral(json!({"seq_event": name, "seq_event_type": "events"})),
            "properties.values[0]: 'seq_event'",
        ),
        (
            &|name| behavioral(json!({"event_filters": event_filters(name)})),
            "properties.values[0].event_filters[0]: 'key'",
        ),
    ];
    for (leaf, place) in leaves {
        assert_eq!(refused_leaf(leaf(&long)), format!("{place} {sentence}"));
        assert!(Filter::parse(&tree(json!([leaf(&longest)]))).is_ok());
    }
}

#[test]
fn words_beyond_the_limit_are_refused_and_parsed_if_stored() {
    let long = "x".repeat(401);
    let mut leaves = vec![person(json!({"operator": long}))];
    for member in [
        "value",
        "event_type",
        "operator",
        "time_interval",
        "explicit_datetime",
        "explicit_datetime_to",
        "seq_event_type",
        "seq_time_interval",
    ] {
        leaves.push(behavioral(json!({member: long})));
    }
    let filter = json!({"type": "event", "key": "a", "operator": long, "value": 1});
    leaves.push(behavioral(json!({"event_filters": [filter]})));
    for leaf in leaves {
        let sentence = refused_leaf(leaf.clone());
        assert!(
            sentence.ends_with("has 401 bytes; at most 400 are allowed"),
            "{sentence}"
        );
        assert!(Filter::parse_stored(&tree(json!([leaf]))).is_ok());
    }
}

#[test]
fn stored_names_beyond_the_limit_are_parsed_and_not_planned() {
    let long = "k".repeat(1_001);
    let now = crate::Moment::utc(0);
    for leaf in [
        person(json!({"key": long})),
        behavioral(json!({"key": long, "time_value": 1, "time_interval": "day"})),
    ] {
        let filter = Filter::parse_stored(&tree(json!([leaf]))).unwrap();
        let error = crate::plan(&filter, &now).unwrap_err();
        assert_eq!(
            error.detail,
            "properties.values[0]: a name has 1001 bytes; the name of a property or an event may have 1000 at most"
        );
    }
    for column in ["event", "properties.x"] {
        let query = format!("select distinct person_id from events where {column} = '{long}'");
        let query = query.replace("properties.x", &format!("properties.`{long}`"));
        let query = json!({"kind": "HogQLQuery", "query": query});
        let error = crate::plan_query(&query, &now).unwrap_err();
        assert!(error.detail.contains("has 1001 bytes"), "{}", error.detail);
    }
}

#[test]
fn the_numbers_of_objects_and_values_are_limited() {
    let value =
        |item: Value, count: usize| tree(json!([person(json!({"value": [[vec![item; count]]]}))]));
    for (filters, sentence) in [
        (
            value(json!({}), 50_001),
            "a filter may hold 50000 JSON objects at most",
        ),
        (
            value(json!(0), 500_001),
            "a filter may hold 500000 JSON values at most",
        ),
    ] {
        assert_eq!(
            refused(filters.clone()).detail,
            format!("properties: {sentence}")
        );
        let text = filters.to_string();
        let error = read_json(&text, "filters").unwrap_err();
        assert_eq!(error.detail, format!("filters: {sentence}"));
    }
    let filters = value(json!({}), 40_000);
    assert_eq!(read_json(&filters.to_string(), "filters").unwrap(), filters);
    assert!(Filter::parse(&filters).is_ok());
    assert_eq!(read_json("1e999", "filters").unwrap(), Value::Null);
    assert_eq!(read_json("{", "filters").unwrap(), Value::Null);
}
