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
        .map_err(Failure::reject)
}

/// What one field called `f` is turned into.
fn value(kind: Kind, sent: Value) -> Result<Value, Rejection> {
    read(&[field("f", kind)], &json!({ "f": sent })).map(|mut object| object["f"].take())
}

fn nullable(kind: Kind, sent: Value) -> Result<Value, Rejection> {
    let rule = Field {
        nullable: true,
        ..field("f", kind)
    };
    read(&[rule], &json!({ "f": sent })).map(|mut object| object["f"].take())
}

fn form(rules: &[Field], pairs: &[(&str, &str)]) -> Result<Value, Rejection> {
    let pairs: Vec<_> = pairs
        .iter()
        .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
        .collect();
    read_form(&pairs, rules)
        .map(|text| serde_json::from_str(&text).unwrap())
        .map_err(Failure::reject)
}

fn broken(attr: &str, code: &'static str, detail: &str) -> Rejection {
    Rejection::Field {
        attr: Some(attr.to_owned()),
        code,
        detail: detail.to_owned(),
        before: "{}".to_owned(),
    }
}

fn invalid(detail: &str) -> Result<Value, Rejection> {
    Err(broken("f", "invalid_input", detail))
}

#[test]
fn a_body_that_is_no_object_is_named_by_its_type() {
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
            before: "{}".to_owned(),
        };
        assert_eq!(read(&[], &body), Err(expected));
    }
}

#[test]
fn unknown_keys_are_ignored() {
    let read = read(&[field("f", TEXT)], &json!({ "x": [], "f": "a" }));
    assert_eq!(read, Ok(json!({ "f": "a" })));
}

#[test]
fn the_first_broken_field_in_the_order_of_the_rules_is_reported() {
    let rules = [field("a", Kind::Boolean), field("b", Kind::Boolean)];
    let read = read(&rules, &json!({ "b": "x", "a": "x" }));
    assert_eq!(
        read,
        Err(broken("a", "invalid_input", "Must be a valid boolean."))
    );
}

#[test]
fn a_refusal_tells_what_comes_before_and_keeps_the_rules() {
    let rules = [
        field("a", Kind::Boolean),
        field("b", Kind::Boolean),
        field("c", TEXT),
    ];
    match read(&rules, &json!({ "c": "x", "b": "x", "a": "yes" })) {
        Err(Rejection::Field { before, .. }) => assert_eq!(before, r#"{"a":true}"#),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_required_field_must_be_there() {
    let rule = Field {
        required: true,
        ..field("f", TEXT)
    };
    let expected = Err(broken("f", "required", "This field is required."));
    assert_eq!(read(&[rule], &json!({})), expected);
}

#[test]
fn null_needs_a_nullable_field() {
    for kind in [TEXT, Kind::Boolean, Kind::Json, Kind::Object(&[])] {
        let expected = Err(broken("f", "null", "This field may not be null."));
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
fn a_list_is_read_item_by_item() {
    assert_eq!(value(list(), json!([" a ", 1])), Ok(json!(["a", "1"])));
    assert_eq!(value(list(), json!([])), Ok(json!([])));
}

#[test]
fn what_is_no_list_is_named_by_its_type() {
    let detail = "Expected a list of items but got type \"str\".";
    assert_eq!(
        value(list(), json!("a")),
        Err(broken("f", "not_a_list", detail))
    );
    let detail = "Expected a list of items but got type \"dict\".";
    assert_eq!(
        value(list(), json!({})),
        Err(broken("f", "not_a_list", detail))
    );
}

#[test]
fn an_item_is_named_by_its_place() {
    let detail = "Not a valid string.";
    let read = value(list(), json!(["a", {}]));
    assert_eq!(read, Err(broken("f__1", "invalid_input", detail)));
    let read = value(list(), json!([null]));
    assert_eq!(
        read,
        Err(broken("f__0", "null", "This field may not be null."))
    );
}

#[test]
fn a_list_may_have_a_most() {
    let detail = "Ensure this field has no more than 3 elements.";
    let read = value(list(), json!([1, 2, 3, 4]));
    assert_eq!(read, Err(broken("f", "max_length", detail)));
    let read = value(list(), json!([1, 2, 3]));
    assert_eq!(read, Ok(json!(["1", "2", "3"])));
}

#[test]
fn a_field_within_an_object_is_named_by_its_way() {
    const INNER: &[Field] = &[field("g", Kind::Boolean)];
    assert_eq!(
        value(Kind::Object(INNER), json!({ "g": 1 })),
        Ok(json!({ "g": true }))
    );
    let read = value(Kind::Object(INNER), json!({ "g": "x" }));
    assert_eq!(
        read,
        Err(broken("f__g", "invalid_input", "Must be a valid boolean."))
    );
    let detail = "Invalid data. Expected a dictionary, but got list.";
    assert_eq!(value(Kind::Object(INNER), json!([])), invalid(detail));
}

#[test]
fn free_form_json_is_taken_to_the_letter() {
    let text = r#"{"f": {"b": 1.0, "a":[ 12345678901234567890123 ]} }"#;
    let read = read_object(text, &[field("f", Kind::Json)]);
    let expected = r#"{"f":{"b": 1.0, "a":[ 12345678901234567890123 ]}}"#;
    assert_eq!(read.as_deref(), Ok(expected));
}

#[test]
fn of_a_key_sent_twice_the_last_counts() {
    let read = read_object(r#"{"f": "a", "f": "b"}"#, &[field("f", TEXT)]);
    assert_eq!(read.as_deref(), Ok(r#"{"f":"b"}"#));
}

#[test]
fn a_form_holds_json_as_text() {
    let rules = [field("f", Kind::Json), field("g", Kind::Boolean)];
    let read = form(&rules, &[("f", r#"{"a":[1]}"#), ("g", "on")]);
    assert_eq!(read, Ok(json!({ "f": { "a": [1] }, "g": true })));
    let read = form(&rules, &[("g", "on"), ("g", "off")]);
    assert_eq!(read, Ok(json!({ "g": false })), "the last counts");
    let read = form(&rules, &[("f", "{")]);
    assert_eq!(read, invalid("Value must be valid JSON."));
}

#[test]
fn a_list_in_a_form_is_its_field_repeated() {
    let read = form(&[field("f", list())], &[("f", "a"), ("f", "b")]);
    assert_eq!(read, Ok(json!({ "f": ["a", "b"] })));
    assert_eq!(form(&[field("f", list())], &[]), Ok(json!({})));
}

#[test]
fn blank_in_a_form_is_null_or_nothing_where_it_is_no_value() {
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
