//! Field rules of whole bodies.

use serde_json::{Value, json};

use super::*;

mod scalars;

const TEXT: Kind = Kind::Text {
    trim: true,
    min_length: 0,
    max_length: Some(5),
};

const fn field(name: &'static str, kind: Kind) -> Field {
    Field {
        name,
        required: false,
        nullable: false,
        kind,
    }
}

fn read(rules: &[Field], body: &Value) -> Result<Value, Rejection> {
    read_object(&body.to_string(), rules)
        .map(|text| serde_json::from_str(&text).unwrap())
        .map_err(Violation::into_rejection)
}

/// The converted value of a field `f`.
fn value(kind: Kind, input: Value) -> Result<Value, Rejection> {
    read(&[field("f", kind)], &json!({ "f": input })).map(|mut object| object["f"].take())
}

fn nullable(kind: Kind, input: Value) -> Result<Value, Rejection> {
    let rule = Field {
        nullable: true,
        ..field("f", kind)
    };
    read(&[rule], &json!({ "f": input })).map(|mut object| object["f"].take())
}

fn form(rules: &[Field], pairs: &[(&str, &str)]) -> Result<Value, Rejection> {
    let pairs: Vec<_> = pairs
        .iter()
        .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
        .collect();
    read_form(&pairs, rules)
        .map(|text| serde_json::from_str(&text).unwrap())
        .map_err(Violation::into_rejection)
}

fn violation(attr: &str, code: &'static str, detail: &str) -> Rejection {
    Rejection::Field {
        attr: Some(attr.to_owned()),
        code,
        detail: detail.to_owned(),
        preceding: "{}".to_owned(),
    }
}

fn invalid(detail: &str) -> Result<Value, Rejection> {
    Err(violation("f", "invalid_input", detail))
}

#[test]
fn body_that_is_not_an_object_is_reported_with_its_type() {
    for (body, name) in [
        (json!([]), "list"),
        (json!("a"), "str"),
        (json!(1), "int"),
        (json!(1.5), "float"),
        (json!(true), "bool"),
        (json!(null), "NoneType"),
    ] {
        let expected = Rejection::Field {
            attr: None,
            code: "invalid_input",
            detail: format!("Invalid data. Expected a dictionary, but got {name}."),
            preceding: "{}".to_owned(),
        };
        assert_eq!(read(&[], &body), Err(expected));
    }
}

#[test]
fn unknown_keys_are_ignored() {
    let result = read(&[field("f", TEXT)], &json!({ "x": [], "f": "a" }));
    assert_eq!(result, Ok(json!({ "f": "a" })));
}

#[test]
fn first_violation_in_the_order_of_the_rules_is_reported() {
    let rules = [field("a", Kind::Boolean), field("b", Kind::Boolean)];
    let result = read(&rules, &json!({ "b": "x", "a": "x" }));
    assert_eq!(
        result,
        Err(violation("a", "invalid_input", "Must be a valid boolean."))
    );
}

#[test]
fn violation_contains_the_preceding_valid_fields() {
    let rules = [
        field("a", Kind::Boolean),
        field("b", Kind::Boolean),
        field("c", TEXT),
    ];
    match read(&rules, &json!({ "c": "x", "b": "x", "a": "yes" })) {
        Err(Rejection::Field { preceding, .. }) => assert_eq!(preceding, r#"{"a":true}"#),
        other => panic!("{other:?}"),
    }
}

#[test]
fn missing_required_field_is_a_violation() {
    let rule = Field {
        required: true,
        ..field("f", TEXT)
    };
    let expected = Err(violation("f", "required", "This field is required."));
    assert_eq!(read(&[rule], &json!({})), expected);
}

#[test]
fn null_needs_a_nullable_field() {
    for kind in [
        TEXT,
        Kind::Boolean,
        Kind::Json,
        Kind::Object(&(&[] as &[Field])),
    ] {
        let expected = Err(violation("f", "null", "This field may not be null."));
        assert_eq!(value(kind, json!(null)), expected);
    }
    assert_eq!(nullable(TEXT, json!(null)), Ok(json!(null)));
    assert_eq!(nullable(Kind::Json, json!(null)), Ok(json!(null)));
}

fn list() -> Kind {
    Kind::List {
        item: &TEXT,
        nullable: false,
        max_items: Some(3),
    }
}

#[test]
fn list_items_are_converted() {
    assert_eq!(value(list(), json!([" a ", 1])), Ok(json!(["a", "1"])));
    assert_eq!(value(list(), json!([])), Ok(json!([])));
}

#[test]
fn value_that_is_not_a_list_is_reported_with_its_type() {
    let detail = "Expected a list of items but got type \"str\".";
    assert_eq!(
        value(list(), json!("a")),
        Err(violation("f", "not_a_list", detail))
    );
    let detail = "Expected a list of items but got type \"dict\".";
    assert_eq!(
        value(list(), json!({})),
        Err(violation("f", "not_a_list", detail))
    );
}

#[test]
fn list_item_is_reported_with_its_index() {
    let detail = "Not a valid string.";
    let result = value(list(), json!(["a", {}]));
    assert_eq!(result, Err(violation("f__1", "invalid_input", detail)));
    let result = value(list(), json!([null]));
    assert_eq!(
        result,
        Err(violation("f__0", "null", "This field may not be null."))
    );
}

#[test]
fn list_is_limited_to_max_items() {
    let detail = "Ensure this field has no more than 3 elements.";
    let result = value(list(), json!([1, 2, 3, 4]));
    assert_eq!(result, Err(violation("f", "max_length", detail)));
    let result = value(list(), json!([1, 2, 3]));
    assert_eq!(result, Ok(json!(["1", "2", "3"])));
}

#[test]
fn nested_field_is_reported_with_its_path() {
    const INNER: &[Field] = &[field("g", Kind::Boolean)];
    assert_eq!(
        value(Kind::Object(&INNER), json!({ "g": 1 })),
        Ok(json!({ "g": true }))
    );
    let result = value(Kind::Object(&INNER), json!({ "g": "x" }));
    assert_eq!(
        result,
        Err(violation(
            "f__g",
            "invalid_input",
            "Must be a valid boolean."
        ))
    );
    let detail = "Invalid data. Expected a dictionary, but got list.";
    assert_eq!(value(Kind::Object(&INNER), json!([])), invalid(detail));
}

#[test]
fn free_form_json_is_copied_unchanged() {
    let text = r#"{"f": {"b": 1.0, "a":[ 12345678901234567890123 ]} }"#;
    let result = read_object(text, &[field("f", Kind::Json)]);
    let expected = r#"{"f":{"b": 1.0, "a":[ 12345678901234567890123 ]}}"#;
    assert_eq!(result.as_deref(), Ok(expected));
}

#[test]
fn last_value_of_a_repeated_key_counts() {
    let result = read_object(r#"{"f": "a", "f": "b"}"#, &[field("f", TEXT)]);
    assert_eq!(result.as_deref(), Ok(r#"{"f":"b"}"#));
}

#[test]
fn json_in_a_form_is_text() {
    let rules = [field("f", Kind::Json), field("g", Kind::Boolean)];
    let result = form(&rules, &[("f", r#"{"a":[1]}"#), ("g", "on")]);
    assert_eq!(result, Ok(json!({ "f": { "a": [1] }, "g": true })));
    let result = form(&rules, &[("g", "on"), ("g", "off")]);
    assert_eq!(result, Ok(json!({ "g": false })), "the last value counts");
    let result = form(&rules, &[("f", "{")]);
    assert_eq!(result, invalid("Value must be valid JSON."));
}

#[test]
fn list_in_a_form_is_a_repeated_field() {
    let result = form(&[field("f", list())], &[("f", "a"), ("f", "b")]);
    assert_eq!(result, Ok(json!({ "f": ["a", "b"] })));
    assert_eq!(form(&[field("f", list())], &[]), Ok(json!({})));
}

#[test]
fn empty_form_field_is_null_or_absent_unless_blank_is_allowed() {
    let rules = |nullable| {
        [Field {
            nullable,
            ..field("f", Kind::Number)
        }]
    };
    assert_eq!(form(&rules(true), &[("f", "")]), Ok(json!({ "f": null })));
    assert_eq!(form(&rules(false), &[("f", "")]), Ok(json!({})));
    assert_eq!(
        form(&[field("f", TEXT)], &[("f", "")]),
        Ok(json!({ "f": "" }))
    );
}
