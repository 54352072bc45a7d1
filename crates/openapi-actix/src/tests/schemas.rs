//! Findings in schemas.

use super::*;

const BODY: &str = "components.schemas.ThingCreate.properties";

#[test]
fn schema_has_no_ignored_keywords() {
    assert_finding(
        "attr: { type: string, nullable: true }",
        "attr: { not: { type: string } }",
        "components.schemas.Error.properties.attr: `not` is not supported",
    );
    assert_finding(
        "attr: { type: string, nullable: true }",
        "attr: { $ref: '#/components/schemas/Leaf', nullable: true }",
        "components.schemas.Error.properties.attr: keys next to `$ref` are ignored; remove them, or use `allOf` in a schema",
    );
    assert_finding(
        "required: [detail, attr]",
        "required: [detail, extra]",
        "components.schemas.Error: the required property `extra` is not described",
    );
    assert_finding(
        "x-null: passes",
        "x-null: true",
        &format!("{BODY}.filters: `x-null` must be `passes`"),
    );
    assert_finding(
        "x-trim: false",
        "x-trim: no!",
        &format!("{BODY}.name: `x-trim` must be true or false"),
    );
}

#[test]
fn body_has_no_keywords_without_a_rule() {
    let location = "components.schemas.ThingCreate";
    assert_finding(
        "    ThingCreate:\n      type: object\n",
        "    ThingCreate:\n      type: array\n      items: {}\n",
        &format!("{location}: a body must be an object"),
    );
    assert_finding(
        "    ThingCreate:\n",
        "    ThingCreate:\n      additionalProperties: false\n",
        &format!(
            "{location}: `additionalProperties: false` is wrong: unknown keys of a body are ignored"
        ),
    );
    assert_finding(
        "    ThingCreate:\n",
        "    ThingCreate:\n      minProperties: 1\n",
        &format!("{location}: no rule enforces `minProperties` in a body"),
    );
    assert_finding(
        "required: [amount]",
        "required: [made]",
        &format!("{BODY}.made: a `readOnly` property cannot be required in a body"),
    );
    assert_finding(
        "minLength: 1,",
        "pattern: a,",
        &format!("{BODY}.zone: no rule enforces `pattern` in a body"),
    );
    assert_finding(
        "zone: { type: string,",
        "zone: { type: string, format: ipv4,",
        &format!("{BODY}.zone: no rule checks the format `ipv4`"),
    );
    assert_finding(
        "amount: { type: integer,",
        "amount: { type: integer, enum: [1],",
        &format!("{BODY}.amount: no rule enforces `enum` in a body"),
    );
    assert_finding(
        "maxItems: 1000",
        "uniqueItems: true",
        &format!("{BODY}.ids: no rule enforces `uniqueItems` in a body"),
    );
    assert_finding(
        "x-trim: false",
        "x-null: passes",
        &format!("{BODY}.name: `x-null` is only supported for free-form JSON"),
    );
    assert_finding(
        "maker: { $ref: '#/components/schemas/Maker' }",
        "maker: { type: object, properties: {} }",
        &format!("{BODY}.maker: no rule can read a map from a body; mark it `x-raw-json: true`"),
    );
}

#[test]
fn schema_that_contains_itself_by_all_of_is_a_finding() {
    let finding = "components.schemas.Maker.properties.self: the schema contains itself by `allOf`; refer to a component instead";
    assert_finding(
        "on: { type: boolean }",
        "self: { type: object, allOf: [{ $ref: '#/components/schemas/Maker' }, { type: object }] }",
        finding,
    );
}
