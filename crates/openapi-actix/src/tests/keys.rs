//! Every key that the generator allows changes the output, or is for readers.

use std::collections::BTreeSet;

use super::*;
use crate::keys;

/// A document that uses none of the keys below. Each row of [`ROWS`] adds one key to it.
const BASE: &str = include_str!("keys.yaml");

/// The kind of object, the key, and the text that replaces the mark of the kind in the document.
///
/// A key that is needed in every document has an edit that changes its value.
const ROWS: &[(&[&str], &str, &str, &str)] = &[
    (
        keys::DOCUMENT,
        "openapi",
        "openapi: 3.0.3",
        "openapi: 3.2.0",
    ),
    (keys::DOCUMENT, "info", "title: Keys", "title: Other"),
    (
        keys::DOCUMENT,
        "servers",
        "#document",
        "servers: [{ url: /v1 }]",
    ),
    (
        keys::DOCUMENT,
        "tags",
        "#document",
        "tags: [{ name: pets, description: Other. }]",
    ),
    (keys::DOCUMENT, "paths", "/pets/{id}:", "/cats/{id}:"),
    (keys::DOCUMENT, "components", "small, large", "small, huge"),
    (
        keys::DOCUMENT,
        "security",
        "#document",
        "security: [{ key: [] }]",
    ),
    (keys::COMPONENTS, "schemas", "small, large", "small, huge"),
    (
        keys::COMPONENTS,
        "responses",
        "A failure.",
        "Another failure.",
    ),
    (keys::COMPONENTS, "parameters", "The page.", "Another page."),
    (
        keys::COMPONENTS,
        "requestBodies",
        "A pet as a body.",
        "Another body.",
    ),
    (
        keys::COMPONENTS,
        "headers",
        "A version.",
        "Another version.",
    ),
    (
        keys::COMPONENTS,
        "securitySchemes",
        "name: X-Key",
        "name: X-Other",
    ),
    (
        keys::PATH,
        "parameters",
        "parameters: [{ name: id",
        "parameters: [{ name: q, in: query, schema: { type: string } }, { name: id",
    ),
    (
        keys::PATH,
        "get",
        "get:\n      operationId: getPet",
        "put:\n      operationId: getPet",
    ),
    (keys::PATH, "post", "post: # create", "put: # create"),
    (
        keys::PATH,
        "put",
        "#path",
        "put: { operationId: other, responses: { '204': { description: '' } } }",
    ),
    (
        keys::PATH,
        "patch",
        "#path",
        "patch: { operationId: other, responses: { '204': { description: '' } } }",
    ),
    (
        keys::PATH,
        "delete",
        "#path",
        "delete: { operationId: other, responses: { '204': { description: '' } } }",
    ),
    (
        keys::OPERATION,
        "operationId",
        "operationId: getPet",
        "operationId: readPet",
    ),
    (
        keys::OPERATION,
        "tags",
        "tags: [pets] # get",
        "tags: [cats]",
    ),
    (keys::OPERATION, "summary", "#operation", "summary: Other"),
    (
        keys::OPERATION,
        "description",
        "#operation",
        "description: Other",
    ),
    (
        keys::OPERATION,
        "security",
        "#operation",
        "security: [{ key: [] }]",
    ),
    (
        keys::OPERATION,
        "parameters",
        "#operation",
        "parameters: [{ name: q, in: query, schema: { type: string } }]",
    ),
    (
        keys::OPERATION,
        "requestBody",
        "#operation",
        "requestBody: { content: { application/json: { schema: {} } } }",
    ),
    (
        keys::OPERATION,
        "responses",
        "'404': { $ref",
        "'409': { $ref",
    ),
    (
        keys::OPERATION,
        "deprecated",
        "#operation",
        "deprecated: true",
    ),
    (keys::OPERATION, "x-raw-body", "#create", "x-raw-body: true"),
    (keys::OPERATION, "x-writes", "#operation", "x-writes: true"),
    (keys::PARAMETER, "name", "name: page", "name: sheet"),
    (keys::PARAMETER, "in", "in: query #", "in: header #"),
    (keys::PARAMETER, "required", "#parameter", "required: true"),
    (keys::PARAMETER, "description", "The page.", "Another page."),
    (
        keys::PARAMETER,
        "deprecated",
        "#parameter",
        "deprecated: true",
    ),
    (
        keys::PARAMETER,
        "schema",
        "schema: { type: array, items: { type: boolean } }",
        "schema: { type: array, items: { type: integer } }",
    ),
    (
        keys::PARAMETER,
        "style",
        "#parameter",
        "style: pipeDelimited\n      explode: false",
    ),
    (keys::PARAMETER, "explode", "#parameter", "explode: false"),
    (
        keys::PARAMETER,
        "x-lenient",
        "#parameter",
        "x-lenient: true",
    ),
    (
        keys::PARAMETER,
        "x-true",
        "schema: { type: boolean } }",
        "x-true: [on], x-lenient: true, schema: { type: boolean } }",
    ),
    (
        keys::BODY,
        "description",
        "A pet as a body.",
        "Another body.",
    ),
    (keys::BODY, "required", "#body", "required: true"),
    (
        keys::BODY,
        "content",
        "application/json: # body",
        "application/x-www-form-urlencoded: # body",
    ),
    (
        keys::BODY_CONTENT,
        "schema",
        "schema: { $ref: '#/components/schemas/Pet' } # body",
        "schema: {}",
    ),
    (
        keys::RESPONSE,
        "description",
        "A failure.",
        "Another failure.",
    ),
    (
        keys::RESPONSE,
        "content",
        "#empty",
        "content: { text/plain: {} }",
    ),
    (
        keys::RESPONSE,
        "headers",
        "#empty",
        "headers: { X-A: { schema: { type: string } } }",
    ),
    (keys::RESPONSE, "x-or-empty", "#failure", "x-or-empty: true"),
    (
        keys::RESPONSE_CONTENT,
        "schema",
        "schema: { type: string } # failure",
        "schema: { type: integer }",
    ),
    (
        keys::RESPONSE_CONTENT,
        "x-streamed",
        "#content",
        "x-streamed: true",
    ),
    (
        keys::HEADER,
        "description",
        "A version.",
        "Another version.",
    ),
    (keys::HEADER, "required", "#header", "required: true"),
    (
        keys::HEADER,
        "schema",
        "schema: { type: string } # header",
        "schema: { type: integer }",
    ),
    (keys::HEADER, "deprecated", "#header", "deprecated: true"),
    (
        keys::SCHEMA,
        "$ref",
        "$ref: '#/components/schemas/Size' }",
        "$ref: '#/components/schemas/Pet' }",
    ),
    (
        keys::SCHEMA,
        "additionalProperties",
        "#object",
        "additionalProperties: false",
    ),
    (
        keys::SCHEMA,
        "allOf",
        "#schema",
        "a: { allOf: [{ $ref: '#/components/schemas/Size' }] }",
    ),
    (
        keys::SCHEMA,
        "anyOf",
        "#schema",
        "a: { anyOf: [{ type: string }, { type: integer }] }",
    ),
    (
        keys::SCHEMA,
        "oneOf",
        "#schema",
        "a: { oneOf: [{ type: string }, { type: integer }] }",
    ),
    (keys::SCHEMA, "default", "#text", ", default: a"),
    (keys::SCHEMA, "deprecated", "#text", ", deprecated: true"),
    (
        keys::SCHEMA,
        "description",
        "#text",
        ", description: Other.",
    ),
    (
        keys::SCHEMA,
        "discriminator",
        "#union",
        ", discriminator: { propertyName: kind }",
    ),
    (keys::SCHEMA, "enum", "#text", ", enum: [a]"),
    (
        keys::SCHEMA,
        "exclusiveMaximum",
        "#number",
        ", maximum: 3, exclusiveMaximum: true",
    ),
    (
        keys::SCHEMA,
        "exclusiveMinimum",
        "#number",
        ", minimum: 3, exclusiveMinimum: true",
    ),
    (keys::SCHEMA, "format", "#number", ", format: float"),
    (
        keys::SCHEMA,
        "items",
        "type: array, items: {} #list",
        "type: array, items: { type: string } #list",
    ),
    (keys::SCHEMA, "maxItems", " #list", ", maxItems: 1"),
    (keys::SCHEMA, "minItems", " #list", ", minItems: 1"),
    (keys::SCHEMA, "uniqueItems", " #list", ", uniqueItems: true"),
    (keys::SCHEMA, "maxLength", "#text", ", maxLength: 1"),
    (keys::SCHEMA, "minLength", "#text", ", minLength: 1"),
    (keys::SCHEMA, "pattern", "#text", ", pattern: a"),
    (keys::SCHEMA, "x-trim", "#text", ", x-trim: true"),
    (
        keys::SCHEMA,
        "x-always-sent",
        "length: { type: integer",
        "length: { type: integer, x-always-sent: true",
    ),
    (keys::SCHEMA, "nullable", "#text", ", nullable: true"),
    (keys::SCHEMA, "readOnly", "#text", ", readOnly: true"),
    (keys::SCHEMA, "writeOnly", "#text", ", writeOnly: true"),
    (keys::SCHEMA, "maxProperties", "#object", "maxProperties: 1"),
    (keys::SCHEMA, "minProperties", "#object", "minProperties: 1"),
    (keys::SCHEMA, "maximum", "#number", ", maximum: 1"),
    (keys::SCHEMA, "minimum", "#number", ", minimum: 1"),
    (keys::SCHEMA, "multipleOf", "#number", ", multipleOf: 2"),
    (
        keys::SCHEMA,
        "properties",
        "#schema",
        "a: { type: object, properties: { b: {} } }",
    ),
    (keys::SCHEMA, "required", "#object", "required: [text]"),
    (keys::SCHEMA, "type", "{ type: number", "{ type: boolean"),
    (
        keys::SCHEMA,
        "x-null",
        "x-raw-json: true",
        "x-raw-json: true, x-null: passes",
    ),
    (keys::SCHEMA, "x-patch", "#object", "x-patch: true"),
    (
        keys::SCHEMA,
        "x-raw-json",
        "x-raw-json: true",
        "type: object",
    ),
    (
        keys::SCHEMA,
        "x-rust-name",
        "#object",
        "x-rust-name: Animal",
    ),
];

/// Keys that have no meaning for the bundled runtime, which reports them.
const FINDINGS: [(&[&str], &str); 1] = [(keys::SCHEMA, "x-ignored-fields")];

/// Keys that are for readers in some kinds of objects only.
const READERS_HERE: [(&[&str], &str); 7] = [
    (keys::HEADER, "style"),
    (keys::HEADER, "explode"),
    (keys::COMPONENTS, "examples"),
    (keys::COMPONENTS, "links"),
    (keys::PATH, "summary"),
    (keys::PATH, "description"),
    (keys::RESPONSE, "links"),
];

fn lists() -> [&'static [&'static str]; 11] {
    [
        keys::DOCUMENT,
        keys::COMPONENTS,
        keys::PATH,
        keys::OPERATION,
        keys::PARAMETER,
        keys::BODY,
        keys::BODY_CONTENT,
        keys::RESPONSE,
        keys::RESPONSE_CONTENT,
        keys::HEADER,
        keys::SCHEMA,
    ]
}

/// The output without the copy of the document.
fn output(text: &str) -> Result<Vec<(String, String)>, String> {
    let files = generate_with(text, &Config::default()).map_err(|findings| findings.to_string())?;
    let files = files
        .0
        .into_iter()
        .filter(|file| file.path != "openapi.yaml");
    Ok(files.map(|file| (file.path, file.text)).collect())
}

#[test]
fn every_key_changes_the_output() {
    let base = output(BASE).unwrap();
    for (_, key, from, to) in ROWS {
        assert!(BASE.contains(from), "`{from}` is not in the document");
        let changed = output(&BASE.replacen(from, to, 1));
        match key {
            &"openapi" => assert!(changed.is_err()),
            _ => assert_ne!(
                changed.unwrap_or_else(|findings| panic!("{key}: {findings}")),
                base,
                "{key}"
            ),
        }
    }
}

#[test]
fn every_key_has_a_row_or_is_for_readers() {
    let name = |list: &[&str], key: &str| format!("{key} of the list with {}", list[0]);
    let known: BTreeSet<_> = ROWS
        .iter()
        .map(|(list, key, _, _)| name(list, key))
        .chain(FINDINGS.map(|(list, key)| name(list, key)))
        .chain(READERS_HERE.map(|(list, key)| name(list, key)))
        .collect();
    for list in lists() {
        for key in list.iter().filter(|key| !keys::READERS.contains(key)) {
            assert!(known.contains(&name(list, key)), "{}", name(list, key));
        }
    }
}

#[test]
fn key_for_readers_changes_nothing() {
    let base = output(BASE).unwrap();
    for (from, to) in [
        ("#header", "style: simple\n      explode: true"),
        ("#document", "externalDocs: { url: 'https://example.com' }"),
        ("#operation", "externalDocs: { url: 'https://example.com' }"),
        ("#parameter", "example: [true]\n      allowReserved: true"),
        ("#header", "examples: { a: { value: b } }"),
        ("#empty", "links: {}"),
        (
            "#text",
            ", title: A, example: b, xml: { name: c }, externalDocs: { url: 'https://example.com' }",
        ),
        ("#path", "summary: A\n    description: b"),
    ] {
        let text = BASE.replacen(from, to, 1);
        assert_ne!(text, BASE, "{from}");
        assert_eq!(output(&text).unwrap(), base, "{to}");
    }
}
