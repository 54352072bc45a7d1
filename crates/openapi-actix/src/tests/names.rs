//! Names that collide, and documents with one feature that is not supported.

use super::*;

/// A document with this path, and with these schemas.
fn document(operation: &str, schemas: &str) -> String {
    format!(
        "openapi: 3.0.3\ninfo: {{ title: A, version: 1.0.0 }}\npaths:\n  /a:\n    get: {operation}\ncomponents:\n  schemas: {schemas}\n"
    )
}

const EMPTY: &str = "{ operationId: a, responses: { '204': { description: '' } } }";

/// Asserts that the default configuration reports exactly this finding.
#[track_caller]
fn assert_only(text: &str, finding: &str) {
    let expected = format!("openapi.yaml: {finding}");
    assert_eq!(findings_with(text, &Config::default()), [expected]);
}

/// An operation with this schema as its body.
fn with_body(schema: &str, schemas: &str) -> String {
    let operation = format!(
        "{{ operationId: a, requestBody: {{ content: {{ application/json: {{ schema: {schema} }} }} }}, responses: {{ '204': {{ description: '' }} }} }}"
    );
    document(&operation, schemas)
}

const BODY: &str = "paths./a.get.requestBody.content.application/json.schema";

#[test]
fn names_that_become_one_rust_name_are_findings() {
    assert_only(
        &with_body(
            "{ type: object, properties: { a: { $ref: '#/components/schemas/foo' }, b: { $ref: '#/components/schemas/Foo' } } }",
            "{ foo: { type: object, properties: { a: {} } }, Foo: { type: object, properties: { a: {} } } }",
        ),
        "components.schemas.Foo: `Foo` becomes the Rust name `Foo`, as does `foo` at components.schemas.foo; rename one of them",
    );
    assert_only(
        &with_body("{ type: object, properties: { a.b: {}, a_b: {} } }", "{}"),
        &format!(
            "{BODY}.properties.a_b: `a_b` becomes the Rust name `a_b`, as does `a.b` at {BODY}.properties.a.b; rename one of them"
        ),
    );
    assert_only(
        &with_body("{ type: string, enum: [a, A] }", "{}"),
        &format!(
            "{BODY}.enum: `A` becomes the Rust name `A`, as does `a` at {BODY}.enum; rename one of them"
        ),
    );
    let operations = "{ operationId: a.b, tags: [Pets], responses: { '204': { description: '' } } }\n    post: { operationId: a_b, tags: [pets], responses: { '204': { description: '' } } }";
    let expected = [
        "openapi.yaml: paths./a.post: `a_b` becomes the Rust name `AB`, as does `a.b` at paths./a.get; rename one of them",
        "openapi.yaml: paths./a.post: `pets` becomes the Rust name `Pets`, as does `Pets` at paths./a.get; rename one of them",
    ];
    assert_eq!(
        findings_with(&document(operations, "{}"), &Config::default()),
        expected
    );
    assert_only(
        &with_body(
            "{ $ref: '#/components/schemas/--' }",
            "{ '--': { type: object, properties: { a: {} } } }",
        ),
        "components.schemas.--: the name `--` has no ASCII letter or digit, so it has no Rust name",
    );
}

#[test]
fn valid_document_without_components_is_supported() {
    let text = document(EMPTY, "{}").replace("components:\n  schemas: {}\n", "");
    assert_eq!(
        findings_with(&text, &Config::default()),
        Vec::<String>::new()
    );
}

#[test]
fn unsupported_schemas_are_findings_with_a_remedy() {
    for (schema, schemas, finding) in [
        ("{ not: {} }", "{}", ": `not` is not supported"),
        ("{ type: [string] }", "{}", ": `type` must be text"),
        ("{ type: array }", "{}", ": an array must have `items`"),
        (
            "{ type: string, minimum: 1 }",
            "{}",
            ": `minimum` has no meaning here, for a string",
        ),
        (
            r"{ type: string, pattern: '^\w{1,255}$' }",
            "{}",
            r": the pattern `^\w{1,255}$` is larger than 10485760 bytes when it is compiled; use a class without Unicode, or `maxLength`",
        ),
        (
            "{ type: string, pattern: '(?=a)' }",
            "{}",
            ": the pattern `(?=a)` is not supported by the crate `regex`, which has no look-around and no back references",
        ),
        (
            "{ type: integer, minimum: 0.5 }",
            "{}",
            ": `minimum` of an integer must be a whole number of 64 bits",
        ),
        (
            "{ type: string, format: binary }",
            "{}",
            ": `binary` is only supported for the files of a multipart body, and for bodies that are not JSON",
        ),
        (
            "{ anyOf: [{ type: object, properties: { a: {} } }, { type: object, properties: { b: {} } }] }",
            "{}",
            ": `anyOf` with several objects is not supported, because a value may match more than one; use `oneOf`",
        ),
        (
            "{ allOf: [{ type: string }, { type: object }] }",
            "{}",
            ".allOf[0]: a part of `allOf` must be an object with `properties`; move other keywords into a property",
        ),
        (
            "{ type: object, discriminator: { propertyName: a }, properties: { a: {} } }",
            "{}",
            ": `discriminator` without `oneOf` is not supported; list the alternatives with `oneOf`",
        ),
        (
            "{ type: object, properties: { a: { type: integer, default: x } } }",
            "{}",
            ".properties.a: the default \"x\" is not a value of the schema, or not supported for it",
        ),
    ] {
        assert_only(&with_body(schema, schemas), &format!("{BODY}{finding}"));
    }
    assert_only(
        &with_body(
            "{ $ref: '#/components/schemas/A' }",
            "{ A: { oneOf: [{ $ref: '#/components/schemas/A' }] } }",
        ),
        "components.schemas.A: the schema contains itself only through lists or references; put the list into an object",
    );
    assert_only(
        &with_body(
            "{ $ref: '#/components/schemas/A' }",
            "{ A: { type: array, items: { $ref: '#/components/schemas/A' } } }",
        ),
        "components.schemas.A: the schema contains itself only through lists or references; put the list into an object",
    );
    assert_only(
        &with_body(
            "{ $ref: '#/components/schemas/A' }",
            "{ A: { allOf: [{ $ref: '#/components/schemas/A' }, { type: object, properties: { a: {} } }] } }",
        ),
        "components.schemas.A: the parts of `allOf` contain each other, or are more than 100",
    );
    assert_only(
        &with_body("{ $ref: 'other.yaml#/A' }", "{}"),
        "paths./a.get.requestBody.content.application/json.schema: `other.yaml#/A` is not one of components.schemas",
    );
}
