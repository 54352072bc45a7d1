//! What is refused in schemas.

use super::*;

const BODY: &str = "components.schemas.ThingCreate.properties";

#[test]
fn a_schema_says_nothing_that_would_be_passed_over() {
    refuses(
        "attr: { type: string, nullable: true }",
        "attr: { not: { type: string } }",
        "components.schemas.Error.properties.attr: `not` is not supported",
    );
    refuses(
        "attr: { type: string, nullable: true }",
        "attr: { $ref: '#/components/schemas/Leaf', nullable: true }",
        "components.schemas.Error.properties.attr: what stands beside `$ref` is ignored; use `allOf`",
    );
    refuses(
        "    Maker:\n",
        "    Maker:\n      nullable: true\n",
        "components.schemas.Maker: write `nullable` where the component is used, around an `allOf`",
    );
    refuses(
        "required: [detail, attr]",
        "required: [detail, extra]",
        "components.schemas.Error: the required property `extra` is not described",
    );
    refuses(
        "x-null: passes",
        "x-null: true",
        &format!("{BODY}.filters: `x-null` can only be `passes`"),
    );
    refuses(
        "x-trim: false",
        "x-trim: no!",
        &format!("{BODY}.name: `x-trim` must be true or false"),
    );
}

#[test]
fn a_body_says_nothing_that_no_rule_enforces() {
    let place = "components.schemas.ThingCreate";
    refuses(
        "    ThingCreate:\n      type: object\n",
        "    ThingCreate:\n      type: array\n",
        &format!("{place}: a body is an object"),
    );
    refuses(
        "    ThingCreate:\n",
        "    ThingCreate:\n      additionalProperties: false\n",
        &format!(
            "{place}: `additionalProperties: false` is untrue: unknown keys of a body are ignored"
        ),
    );
    refuses(
        "    ThingCreate:\n",
        "    ThingCreate:\n      minProperties: 1\n",
        &format!("{place}: no rule enforces `minProperties` in a body"),
    );
    refuses(
        "required: [amount]",
        "required: [made]",
        &format!("{BODY}.made: a body cannot require what is `readOnly`"),
    );
    refuses(
        "minLength: 1,",
        "pattern: a,",
        &format!("{BODY}.zone: no rule enforces `pattern` in a body"),
    );
    refuses(
        "zone: { type: string,",
        "zone: { type: string, format: ipv4,",
        &format!("{BODY}.zone: no rule checks the format `ipv4`"),
    );
    refuses(
        "amount: { type: integer,",
        "amount: { type: integer, enum: [1],",
        &format!("{BODY}.amount: no rule enforces `enum` in a body"),
    );
    refuses(
        "maxItems: 1000",
        "uniqueItems: true",
        &format!("{BODY}.ids: `uniqueItems` is not supported"),
    );
    refuses(
        "x-trim: false",
        "x-null: passes",
        &format!("{BODY}.name: no rule enforces `x-null` in a body"),
    );
    refuses(
        "maker: { $ref: '#/components/schemas/Maker' }",
        "maker: { type: object, properties: {} }",
        &format!(
            "{BODY}.maker: no rule reads this from a body; name the object under components, or mark it `x-raw-json: true`"
        ),
    );
}
