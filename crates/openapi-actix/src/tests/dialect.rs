//! A document of OpenAPI 3.1 gives the code of its form in 3.0.

use super::*;

/// A document with one operation that receives `schema`, and has a response with it.
fn document(version: &str, schema: &str) -> String {
    format!(
        "openapi: {version}
info: {{ title: Dialects, version: '1' }}
paths:
  /a:
    post:
      operationId: send
      requestBody: {{ required: true, content: {{ application/json: {{ schema: {{ $ref: '#/components/schemas/Part' }} }} }} }}
      responses: {{ '200': {{ description: The same., content: {{ application/json: {{ schema: {{ $ref: '#/components/schemas/Part' }} }} }} }} }}
components:
  schemas:
    Word: {{ type: string, enum: [a, b] }}
    Pet: {{ type: object, properties: {{ name: {{ type: string }} }} }}
    Cat: {{ type: object, required: [lives], properties: {{ lives: {{ type: integer }} }} }}
    Part: {{ type: object, properties: {{ part: {schema} }} }}
"
    )
}

fn code(version: &str, schema: &str) -> [String; 2] {
    let text = document(version, schema);
    let files = generate_with(&text, &Config::default());
    let files = files.unwrap_or_else(|findings| panic!("{schema}: {findings}"));
    ["src/types.rs", "src/server.rs"].map(|path| files.text(path).unwrap().to_owned())
}

const LOCATION: &str = "openapi.yaml: components.schemas.Part.properties.part";

/// Schemas of 3.1, each with its form in 3.0.
const FORMS: &[(&str, &str)] = &[
    (
        "{ type: [string, 'null'] }",
        "{ type: string, nullable: true }",
    ),
    ("{ type: [string] }", "{ type: string }"),
    (
        "{ type: [string, 'null'], enum: [a, b, null] }",
        "{ type: string, nullable: true, enum: [a, b, null] }",
    ),
    // A value must be in the list, so it is not null.
    (
        "{ type: [string, 'null'], enum: [a, b] }",
        "{ type: string, enum: [a, b] }",
    ),
    (
        "{ type: [string, integer, 'null'], minLength: 1, minimum: 2 }",
        "{ nullable: true, anyOf: [{ type: string, minLength: 1 }, { type: integer, minimum: 2 }] }",
    ),
    (
        "{ type: [array, 'null'], items: { type: [integer, 'null'] } }",
        "{ type: array, nullable: true, items: { type: integer, nullable: true } }",
    ),
    ("{ const: a }", "{ type: string, enum: [a] }"),
    ("{ const: 3 }", "{ type: integer, enum: [3] }"),
    ("{ enum: [1, 2] }", "{ type: integer, enum: [1, 2] }"),
    (
        "{ type: number, exclusiveMinimum: 0.5 }",
        "{ type: number, minimum: 0.5, exclusiveMinimum: true }",
    ),
    (
        "{ type: integer, exclusiveMaximum: 9, maximum: 7 }",
        "{ type: integer, maximum: 7 }",
    ),
    (
        "{ type: integer, exclusiveMaximum: 7, maximum: 7 }",
        "{ type: integer, maximum: 7, exclusiveMaximum: true }",
    ),
    (
        "{ $ref: '#/components/schemas/Pet', description: A pet. }",
        "{ allOf: [{ $ref: '#/components/schemas/Pet' }], description: A pet. }",
    ),
    (
        "{ $ref: '#/components/schemas/Word', default: a }",
        "{ allOf: [{ $ref: '#/components/schemas/Word' }], default: a }",
    ),
    (
        "{ anyOf: [{ $ref: '#/components/schemas/Pet' }, { type: 'null' }], description: A pet. }",
        "{ allOf: [{ $ref: '#/components/schemas/Pet' }], nullable: true, description: A pet. }",
    ),
    (
        "{ oneOf: [{ type: string, format: uuid, title: Id }, { type: 'null' }], title: Key }",
        "{ type: string, format: uuid, nullable: true }",
    ),
    (
        "{ oneOf: [{ $ref: '#/components/schemas/Pet' }, { $ref: '#/components/schemas/Cat' }, { type: 'null' }] }",
        "{ oneOf: [{ $ref: '#/components/schemas/Pet' }, { $ref: '#/components/schemas/Cat' }], nullable: true }",
    ),
    (
        "{ type: string, examples: [a, b], $comment: Why. }",
        "{ type: string }",
    ),
    ("true", "{}"),
    ("{ type: array, items: true }", "{ type: array, items: {} }"),
    (
        "{ type: string, contentEncoding: base64, contentMediaType: image/png }",
        "{ type: string }",
    ),
    (
        "{ allOf: [{ $ref: '#/components/schemas/Pet' }, { $ref: '#/components/schemas/Cat' }], unevaluatedProperties: false }",
        "{ allOf: [{ $ref: '#/components/schemas/Pet' }, { $ref: '#/components/schemas/Cat' }], additionalProperties: false }",
    ),
    (
        "{ type: object, additionalProperties: { type: [string, 'null'] } }",
        "{ type: object, additionalProperties: { type: string, nullable: true } }",
    ),
];

#[test]
fn schemas_have_the_code_of_their_form_in_3_0() {
    for (new, old) in FORMS {
        assert_eq!(code("3.1.0", new), code("3.0.3", old), "{new}");
    }
}

#[test]
fn keyword_without_a_form_in_3_0_is_a_finding() {
    for (schema, finding) in [
        (
            "{ type: array, prefixItems: [{ type: string }], items: {} }",
            "`prefixItems` is not supported",
        ),
        ("{ if: {}, then: {} }", "`if` is not supported"),
        (
            "{ type: object, patternProperties: {} }",
            "`patternProperties` is not supported",
        ),
        ("{ type: object, $defs: {} }", "`$defs` is not supported"),
        (
            "{ type: 'null' }",
            "a schema that is null alone is not supported; add a type",
        ),
        (
            "{ const: null }",
            "a schema that is null alone is not supported; add a type",
        ),
        (
            "{ type: string, nullable: true }",
            "`nullable` is not OpenAPI 3.1; add 'null' to the list `type`",
        ),
        (
            "{ type: integer, minimum: 1, exclusiveMinimum: true }",
            "`exclusiveMinimum` of OpenAPI 3.1 is the bound itself, a number",
        ),
        ("{ const: true }", "`enum` is not supported for a boolean"),
        ("false", "this must be an object"),
        (
            "{ $ref: '#/components/schemas/Word', maxLength: 3 }",
            "a part of `allOf` must be an object with `properties`; move other keywords into a property",
        ),
    ] {
        let findings = findings_with(&document("3.1.1", schema), &Config::default());
        let expected = format!("{LOCATION}: {finding}");
        assert!(findings.contains(&expected), "{schema}: {findings:#?}");
    }
}

/// Keywords of 3.1 are no keywords of 3.0.
#[test]
fn keyword_of_3_1_is_a_finding_in_3_0() {
    for (schema, finding) in [
        ("{ const: a }", "`const` is not supported"),
        ("{ type: [string, 'null'] }", "`type` must be text"),
        (
            "{ type: number, exclusiveMinimum: 3 }",
            "`exclusiveMinimum` must be true or false",
        ),
        (
            "{ type: string, examples: [a] }",
            "`examples` is not supported",
        ),
        (
            "{ $ref: '#/components/schemas/Pet', description: A pet. }",
            "keys next to `$ref` are ignored; remove them, or use `allOf` in a schema",
        ),
    ] {
        let findings = findings_with(&document("3.0.3", schema), &Config::default());
        let expected = format!("{LOCATION}: {finding}");
        assert!(findings.contains(&expected), "{schema}: {findings:#?}");
    }
}

#[test]
fn text_next_to_a_reference_replaces_that_of_the_component() {
    let text = "openapi: 3.1.0
info: { title: References, version: '1' }
paths:
  /a:
    get:
      operationId: read
      parameters: [{ $ref: '#/components/parameters/Page', description: The page of this list. }]
      responses: { '200': { $ref: '#/components/responses/List', description: This list. } }
components:
  parameters: { Page: { name: page, in: query, description: A page., schema: { type: [integer] } } }
  responses: { List: { description: A list., content: { application/json: { schema: { type: [array], items: true } } } } }
";
    let files = generate_with(text, &Config::default()).unwrap();
    let server = files.text("src/server.rs").unwrap();
    for (own, component) in [
        ("The page of this list.", "A page."),
        ("This list.", "A list."),
    ] {
        assert!(
            server.contains(own) && !server.contains(component),
            "{server}"
        );
    }
}

#[test]
fn webhooks_and_other_dialects_are_findings() {
    let text = document("3.1.0", "{}");
    for (part, finding) in [
        ("webhooks: {}", "`webhooks` is not supported"),
        (
            "jsonSchemaDialect: 'https://example.com'",
            "`jsonSchemaDialect` is not supported",
        ),
    ] {
        let findings = findings_with(&format!("{text}{part}\n"), &Config::default());
        assert_eq!(findings, [format!("openapi.yaml: the document: {finding}")]);
    }
    let usual = "jsonSchemaDialect: 'https://spec.openapis.org/oas/3.1/dialect/base'";
    assert_eq!(
        findings_with(&format!("{text}{usual}\n"), &Config::default()),
        [""; 0]
    );
}
