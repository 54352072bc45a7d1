//! Documents that are deep, large or no YAML have findings with a location, and end no process.

use serde_json::{Value, json};

use super::*;

/// A document with one operation that receives and returns `schema`.
fn document(schema: Value, components: impl IntoIterator<Item = (String, Value)>) -> String {
    let content = json!({ "application/json": { "schema": schema } });
    let components: serde_json::Map<_, _> = components.into_iter().collect();
    let document = json!({
        "openapi": "3.0.3",
        "info": { "title": "Limits", "version": "1" },
        "paths": { "/a": { "post": {
            "operationId": "send",
            "requestBody": { "required": true, "content": content },
            "responses": { "200": { "description": "The same.", "content": content } },
        } } },
        "components": { "schemas": components },
    });
    document.to_string()
}

fn reference(index: usize) -> Value {
    json!({ "$ref": format!("#/components/schemas/A{index}") })
}

/// A document with a chain of components: each contains the next.
fn chain(length: usize, link: impl Fn(Value) -> Value) -> String {
    let links = (0..length).map(|index| (format!("A{index}"), link(reference(index + 1))));
    let end = json!({ "type": "object", "properties": { "a": { "type": "string" } } });
    document(reference(0), links.chain([(format!("A{length}"), end)]))
}

fn findings_of(text: &str) -> Vec<String> {
    findings_with(text, &Config::default())
}

#[track_caller]
fn assert_finding_of(text: &str, finding: &str) {
    let findings = findings_of(text);
    let expected = format!("openapi.yaml: {finding}");
    assert!(findings.contains(&expected), "{findings:#?}");
}

/// Returns a schema that contains another.
type Link = fn(Value) -> Value;

#[test]
fn chain_of_components_has_a_bound() {
    let links: [(&str, Link); 7] = [
        (
            "properties.next",
            |next| json!({ "type": "object", "properties": { "next": next } }),
        ),
        (
            "properties.next",
            |next| json!({ "type": "object", "required": ["next"], "properties": { "next": next } }),
        ),
        ("items", |next| json!({ "type": "array", "items": next })),
        (
            "additionalProperties",
            |next| json!({ "type": "object", "additionalProperties": next }),
        ),
        (
            "oneOf[0]",
            |next| json!({ "oneOf": [next, { "type": "string" }] }),
        ),
        ("allOf[0]", |next| json!({ "allOf": [next] })),
        ("anyOf[0]", |next| json!({ "anyOf": [next] })),
    ];
    for (place, link) in links {
        let finding = format!(
            "components.schemas.A199.{place}: this schema is inside 200 others, which refer to each other; shorten the chain"
        );
        assert_finding_of(&chain(3_000, link), &finding);
    }
}

#[test]
fn chain_of_objects_within_the_bound_is_read() {
    let link = |next| json!({ "type": "object", "properties": { "next": next } });
    assert_eq!(findings_of(&chain(150, link)), [""; 0]);
}

#[test]
fn chain_of_references_has_a_bound() {
    let finding =
        "components.schemas.A0: `#/components/schemas/A33` is behind more than 32 references";
    assert_finding_of(&chain(3_000, |next| next), finding);
    assert_eq!(findings_of(&chain(30, |next| next)), [""; 0]);
}

#[test]
fn chain_of_all_of_has_a_bound() {
    let part = json!({ "type": "object", "properties": { "b": {} } });
    let text = chain(3_000, |next| json!({ "allOf": [next, part] }));
    let finding =
        "components.schemas.A101: the parts of `allOf` contain each other, or are more than 100";
    assert_finding_of(&text, finding);
}

#[test]
fn lists_and_maps_inside_each_other_have_a_bound() {
    let nested = |depth: usize| {
        let list = |inner, _| json!({ "type": "array", "items": inner });
        (0..depth).fold(json!({ "type": "string" }), list)
    };
    assert_eq!(findings_of(&document(nested(16), [])), [""; 0]);
    let findings = findings_of(&document(nested(17), []));
    let location = "paths./a.post.requestBody.content.application/json.schema: ";
    let message =
        "more than 16 lists and maps are inside each other; put one of them into an object";
    assert_eq!(findings[0], format!("openapi.yaml: {location}{message}"));
}

/// The search for the property of a discriminator visits a limited number of schemas.
#[test]
fn discriminator_of_wide_schemas_is_read() {
    let parts = |index: usize| json!({ "allOf": vec![reference(index + 1); 50] });
    let components = (0..60).map(|index| (format!("A{index}"), parts(index)));
    let union = json!({
        "oneOf": [reference(0), reference(1)],
        "discriminator": { "propertyName": "kind" },
    });
    let last = (
        "A60".to_owned(),
        json!({ "type": "object", "properties": { "a": {} } }),
    );
    let finding = "paths./a.post.requestBody.content.application/json.schema.discriminator: the alternative `A0` does not describe the property `kind`";
    assert_finding_of(&document(union, components.chain([last])), finding);
}

#[test]
fn large_enum_is_read() {
    let words: Vec<String> = (0..5_000).map(|number| format!("word{number}")).collect();
    let text = document(json!({ "type": "string", "enum": words }), []);
    assert_eq!(findings_of(&text), [""; 0]);
}

#[test]
fn all_of_that_contains_itself_is_a_finding() {
    let part = json!({ "type": "object", "properties": { "b": {} } });
    let of = |index| json!({ "allOf": [reference(index), part] });
    let text = document(
        reference(0),
        [("A0".to_owned(), of(1)), ("A1".to_owned(), of(0))],
    );
    let finding =
        "components.schemas.A0: the parts of `allOf` contain each other, or are more than 100";
    assert_finding_of(&text, finding);
}

/// The beginning and the end of a document, around one part.
fn with_part(part: &str) -> String {
    edited_sample("openapi: 3.0.3\n", &format!("openapi: 3.0.3\n{part}\n"))
}

#[test]
fn yaml_that_is_no_document_is_a_finding() {
    let bomb = (0..9).map(|level| {
        let items = vec![format!("*a{level}"); 10].join(", ");
        format!("x-a{}: &a{} [{items}]\n", level + 1, level + 1)
    });
    let bomb = format!("x-a0: &a0 [x]\n{}", bomb.collect::<String>());
    for (part, finding) in [
        (bomb.as_str(), "cannot be parsed: repetition limit exceeded"),
        (
            "x-a: &a [*a]",
            "cannot be parsed: recursion limit exceeded at line 2 column 6",
        ),
        (
            "x-a: *b",
            "cannot be parsed: unknown anchor at line 2 column 6",
        ),
        (
            "x-a: { b: 1, b: 2 }",
            "cannot be parsed: x-a: duplicate entry with key \"b\" at line 2 column 6",
        ),
        (
            "x-a: { '1': a, 1: b }",
            "x-a.1: this key occurs twice, with quotes and without",
        ),
        (
            "x-a: [{ ? [b] : 1 }]",
            "x-a[0]: a key must be text, not a list, an object or a tag",
        ),
        ("x-a: { ~: 1 }", "x-a: a key must be text, not null"),
        (
            "x-a: !date 2026-01-01",
            "x-a: the YAML tag `!date` is not supported",
        ),
    ] {
        assert_eq!(
            findings(&with_part(part)),
            [format!("openapi.yaml: {finding}")]
        );
    }
    let deep = format!("x-a: {}{}", "[".repeat(5_000), "]".repeat(5_000));
    let findings = findings(&with_part(&deep));
    assert!(
        findings[0].contains("recursion limit exceeded at line 2"),
        "{findings:#?}"
    );
    for text in ["", "  \n", "# A comment.\n", "null", "[]", "text"] {
        assert_finding_of(
            text,
            "this is not an OpenAPI document: it must be an object",
        );
    }
}

#[test]
fn byte_order_mark_is_skipped() {
    assert_eq!(findings(&format!("\u{feff}{SAMPLE}")), [""; 0]);
}
