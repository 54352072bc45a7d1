//! Each kind of change in both directions, on one small document.

use serde_json::Value;

use super::intended::Intended;
use super::{breaks, parse};

const DOCUMENT: &str = "
security: [{key: []}]
paths:
  /pets/{id}:
    parameters:
      - {name: id, in: path, required: true, schema: {type: integer}}
    post:
      operationId: pets_create
      tags: [pets]
      x-required-scopes: ['pet:write']
      parameters:
        - {name: limit, in: query, schema: {type: integer, format: int64, default: 10}}
        - {name: X-Trace, in: header, schema: {type: string}}
        - {name: tags, in: query, explode: true, schema: {type: array, items: {type: string}}}
        - {name: filter, in: query, content: {application/json: {schema: {type: object}}}}
      requestBody:
        required: false
        content:
          application/json: {schema: {$ref: '#/components/schemas/Pet'}}
          text/csv: {schema: {type: string}}
      responses:
        '200':
          description: A pet.
          headers:
            X-Request-Id: {required: true, schema: {type: string, maxLength: 40}}
          content:
            application/json: {schema: {$ref: '#/components/schemas/Answer'}}
            text/csv: {schema: {type: string}}
        '404': {description: None.}
    delete:
      operationId: pets_destroy
      responses:
        '204': {description: Deleted.}
components:
  schemas:
    Pet:
      type: object
      required: [name]
      properties:
        name: {type: string, minLength: 1}
        age: {type: integer, minimum: 0, maximum: 99}
        kind: {type: string, enum: [cat, dog]}
        weight: {type: number}
        born: {type: string, format: date}
        note: {nullable: true, type: string, pattern: a}
        marks: {type: array, items: {type: string}}
        parent: {$ref: '#/components/schemas/Pet'}
        part: {anyOf: [{$ref: '#/components/schemas/Leg'}, {type: string}]}
        extra: {type: object, additionalProperties: {type: string}}
        both: {allOf: [{$ref: '#/components/schemas/Leg'}], nullable: true}
    Leg: {type: object, properties: {length: {type: integer}}}
    Answer:
      type: object
      required: [id]
      properties:
        id: {type: integer, maximum: 9}
        state: {type: string, enum: [on, off]}
        size: {type: number}
        text: {type: string, format: date}
        list: {type: array, items: {type: string}, maxItems: 5}
        self: {$ref: '#/components/schemas/Answer'}
        arm: {anyOf: [{$ref: '#/components/schemas/Arm'}, {type: string}]}
        more: {type: object, additionalProperties: {type: string}}
        shut: {type: object, additionalProperties: false}
    Arm: {type: object, properties: {length: {type: integer}}}
";

/// An edit of the document, the breaks that it causes, and those of the edit back.
type Row = (
    &'static str,
    &'static str,
    &'static [&'static str],
    &'static [&'static str],
);

const OPERATIONS: &[Row] = &[
    (
        "    delete:",
        "    put:",
        &["DELETE /pets/{id}: the operation was removed"],
        &["PUT /pets/{id}: the operation was removed"],
    ),
    (
        "operationId: pets_create",
        "operationId: pets_new",
        &["POST /pets/{id}: operationId is `pets_new`, was `pets_create`"],
        &["POST /pets/{id}: operationId is `pets_create`, was `pets_new`"],
    ),
    (
        "tags: [pets]",
        "tags: [animals]",
        &["POST /pets/{id}: first tag is `animals`, was `pets`"],
        &["POST /pets/{id}: first tag is `pets`, was `animals`"],
    ),
    (
        "['pet:write']",
        "['pet:write', 'pet:read']",
        &["POST /pets/{id}: needs the scope `pet:read`"],
        &[],
    ),
    (
        "security: [{key: []}]",
        "security: [{token: []}, {key: []}]",
        &[],
        &[
            "POST /pets/{id}: no longer accepts the credentials {\"token\"}",
            "DELETE /pets/{id}: no longer accepts the credentials {\"token\"}",
        ],
    ),
    (
        "      operationId: pets_destroy",
        "      operationId: pets_destroy\n      security: []",
        &[],
        &["DELETE /pets/{id}: no longer accepts the credentials {}"],
    ),
    (
        "required: false",
        "required: true",
        &["POST /pets/{id} request: the body is required"],
        &[],
    ),
    (
        "          text/csv: {schema: {type: string}}\n      responses:",
        "      responses:",
        &["POST /pets/{id} request text/csv: the media type was removed"],
        &[],
    ),
    (
        "            text/csv: {schema: {type: string}}\n        '404'",
        "        '404'",
        &["POST /pets/{id} 200 text/csv: the media type was removed"],
        &[],
    ),
    (
        "        '404': {description: None.}\n",
        "",
        &["POST /pets/{id} 404: the status was removed"],
        &[],
    ),
    (
        "        '404': {description: None.}\n",
        "        '4XX': {description: None.}\n",
        &[],
        &["POST /pets/{id} 4XX: the status was removed"],
    ),
    (
        "        '204':",
        "        '202': {description: Later.}\n        '204':",
        &["DELETE /pets/{id} 202: a new status of success"],
        &["DELETE /pets/{id} 202: the status was removed"],
    ),
    (
        "'204': {description: Deleted.}",
        "'204': {description: Deleted., content: {text/plain: {schema: {type: string}}}}",
        &["DELETE /pets/{id} 204 text/plain: the response has a body"],
        &["DELETE /pets/{id} 204 text/plain: the media type was removed"],
    ),
    (
        "X-Request-Id:",
        "X-Other:",
        &["POST /pets/{id} 200 header X-Request-Id: the header was removed"],
        &["POST /pets/{id} 200 header X-Other: the header was removed"],
    ),
    ("X-Request-Id:", "x-request-ID:", &[], &[]),
    (
        "{required: true, schema: {type: string, maxLength: 40}}",
        "{schema: {type: string, maxLength: 40}}",
        &["POST /pets/{id} 200 header X-Request-Id: the header may be absent"],
        &[],
    ),
    (
        "maxLength: 40",
        "maxLength: 50",
        &["POST /pets/{id} 200 header X-Request-Id: response: maxLength is `50`, was `40`"],
        &[],
    ),
];

const PARAMETERS: &[Row] = &[
    (
        "        - {name: X-Trace, in: header, schema: {type: string}}\n",
        "",
        &["POST /pets/{id} header parameter X-Trace: the parameter was removed"],
        &[],
    ),
    (
        "        - {name: X-Trace, in: header, schema: {type: string}}\n",
        "        - {name: X-Trace, in: header, required: true, schema: {type: string}}\n",
        &["POST /pets/{id} header parameter X-Trace: the parameter is required"],
        &[],
    ),
    (
        "        - {name: X-Trace, in: header, schema: {type: string}}\n",
        "        - {name: x-trace, in: header, schema: {type: string}}\n        - {name: page, in: query, required: true, schema: {type: integer}}\n",
        &["POST /pets/{id} query parameter page: a new required parameter"],
        &["POST /pets/{id} query parameter page: the parameter was removed"],
    ),
    (
        "/pets/{id}:\n    parameters:\n      - {name: id,",
        "/pets/{pet}:\n    parameters:\n      - {name: pet,",
        &[
            "POST /pets/{id} path parameter id: the name is `pet`",
            "DELETE /pets/{id} path parameter id: the name is `pet`",
        ],
        &[
            "POST /pets/{pet} path parameter pet: the name is `id`",
            "DELETE /pets/{pet} path parameter pet: the name is `id`",
        ],
    ),
    (
        "default: 10",
        "default: 20",
        &["POST /pets/{id} query parameter limit: request: default is `20`, was `10`"],
        &["POST /pets/{id} query parameter limit: request: default is `10`, was `20`"],
    ),
    (
        "format: int64",
        "format: int32",
        &["POST /pets/{id} query parameter limit: request: format is `int32`, was `int64`"],
        &[],
    ),
    (
        "explode: true",
        "explode: false",
        &["POST /pets/{id} query parameter tags: explode is `false`, was `true`"],
        &["POST /pets/{id} query parameter tags: explode is `true`, was `false`"],
    ),
    (
        "content: {application/json: {schema: {type: object}}}",
        "content: {application/json: {schema: {type: array}}}",
        &["POST /pets/{id} query parameter filter: request: type is `array`, was `object`"],
        &["POST /pets/{id} query parameter filter: request: type is `object`, was `array`"],
    ),
];

const REQUESTS: &[Row] = &[
    (
        "        weight: {type: number}\n",
        "",
        &["components.schemas.Pet.weight: request: the field was removed"],
        &[],
    ),
    (
        "required: [name]",
        "required: [name, age]",
        &["components.schemas.Pet.age: request: the field is required"],
        &[],
    ),
    (
        "required: [name]\n      properties:",
        "required: [name, size]\n      properties:\n        size: {type: string}",
        &["components.schemas.Pet.size: request: a new required field"],
        &["components.schemas.Pet.size: request: the field was removed"],
    ),
    (
        "minLength: 1",
        "minLength: 2",
        &["components.schemas.Pet.name: request: minLength is `2`, was `1`"],
        &[],
    ),
    (
        "maximum: 99",
        "maximum: 98",
        &["components.schemas.Pet.age: request: maximum is `98`, was `99`"],
        &[],
    ),
    (
        ", maximum: 99",
        "",
        &[],
        &["components.schemas.Pet.age: request: maximum is `99`, was absent"],
    ),
    (
        "enum: [cat, dog]",
        "enum: [cat]",
        &["components.schemas.Pet.kind: request: `dog` is no longer accepted"],
        &[],
    ),
    (
        ", enum: [cat, dog]",
        "",
        &[],
        &["components.schemas.Pet.kind: request: accepts only listed values"],
    ),
    (
        "weight: {type: number}",
        "weight: {type: integer}",
        &["components.schemas.Pet.weight: request: type is `integer`, was `number`"],
        &[],
    ),
    (
        "format: date}\n        note",
        "format: date-time}\n        note",
        &["components.schemas.Pet.born: request: format is `date-time`, was `date`"],
        &["components.schemas.Pet.born: request: format is `date`, was `date-time`"],
    ),
    (
        "nullable: true, type: string, pattern: a",
        "type: string, pattern: a",
        &["components.schemas.Pet.note: request: null is no longer accepted"],
        &[],
    ),
    (
        "nullable: true, type: string, pattern: a",
        "type: [string, 'null'], pattern: a",
        &[],
        &[],
    ),
    (
        "pattern: a",
        "pattern: b",
        &["components.schemas.Pet.note: request: pattern is `b`, was `a`"],
        &["components.schemas.Pet.note: request: pattern is `a`, was `b`"],
    ),
    (
        "marks: {type: array, items: {type: string}}",
        "marks: {type: array}",
        &[],
        &["components.schemas.Pet.marks.items: request: items have a schema"],
    ),
    (
        "marks: {type: array, items: {type: string}}",
        "marks: {type: array, items: {type: string, maxLength: 3}}",
        &["components.schemas.Pet.marks.items: request: maxLength is `3`, was absent"],
        &[],
    ),
    (
        "anyOf: [{$ref: '#/components/schemas/Leg'}, {type: string}]",
        "anyOf: [{type: string}]",
        &["components.schemas.Pet.part: request: `#/components/schemas/Leg` is no longer accepted"],
        &[],
    ),
    (
        "anyOf: [{$ref: '#/components/schemas/Leg'}, {type: string}]",
        "oneOf: [{type: string}, {$ref: '#/components/schemas/Leg'}]",
        &[],
        &[],
    ),
    (
        "anyOf: [{$ref: '#/components/schemas/Leg'}, {type: string}]",
        "$ref: '#/components/schemas/Leg'",
        &["components.schemas.Pet.part: request: `{\"type\":\"string\"}` is no longer accepted"],
        &[],
    ),
    (
        "Leg: {type: object, properties: {length: {type: integer}}}",
        "Leg: {type: object, properties: {length: {type: integer, minimum: 1}}}",
        &["components.schemas.Leg.length: request: minimum is `1`, was absent"],
        &[],
    ),
    (
        "extra: {type: object, additionalProperties: {type: string}}",
        "extra: {type: object, additionalProperties: false}",
        &["components.schemas.Pet.extra: request: other fields are no longer accepted"],
        &[],
    ),
    (
        "extra: {type: object, additionalProperties: {type: string}}",
        "extra: {type: object}",
        &[],
        &["components.schemas.Pet.extra: request: other fields have a schema"],
    ),
    (
        "extra: {type: object, additionalProperties: {type: string}}",
        "extra: {type: object, additionalProperties: {type: integer}}",
        &["components.schemas.Pet.extra.*: request: type is `integer`, was `string`"],
        &["components.schemas.Pet.extra.*: request: type is `string`, was `integer`"],
    ),
    (
        "both: {allOf: [{$ref: '#/components/schemas/Leg'}], nullable: true}",
        "both: {anyOf: [{type: object, properties: {length: {type: integer}}}, {type: 'null'}]}",
        &[],
        &[],
    ),
    (
        "both: {allOf: [{$ref: '#/components/schemas/Leg'}], nullable: true}",
        "both: {anyOf: [{type: object, properties: {length: {type: boolean}}}, {type: 'null'}]}",
        &["components.schemas.Pet.both.length: request: type is `boolean`, was `integer`"],
        &["components.schemas.Pet.both.length: request: type is `integer`, was `boolean`"],
    ),
];

const RESPONSES: &[Row] = &[
    (
        "        size: {type: number}\n",
        "",
        &["components.schemas.Answer.size: response: the field was removed"],
        &[],
    ),
    (
        "required: [id]",
        "required: [id, size]",
        &[],
        &["components.schemas.Answer.size: response: the field may be absent"],
    ),
    (
        "maximum: 9}",
        "maximum: 10}",
        &["components.schemas.Answer.id: response: maximum is `10`, was `9`"],
        &[],
    ),
    (
        "enum: [on, off]",
        "enum: [on, off, broken]",
        &["components.schemas.Answer.state: response: `broken` is new"],
        &[],
    ),
    (
        ", enum: [on, off]",
        "",
        &["components.schemas.Answer.state: response: has other than the listed values"],
        &[],
    ),
    (
        "{type: string, enum: [on, off]}",
        "{anyOf: [{type: string, enum: [on, off]}, {type: string}]}",
        &["components.schemas.Answer.state: response: `{\"type\":\"string\"}` is new"],
        &[],
    ),
    (
        "size: {type: number}",
        "size: {type: integer}",
        &[],
        &["components.schemas.Answer.size: response: type is `number`, was `integer`"],
    ),
    (
        "text: {type: string, format: date}",
        "text: {type: string}",
        &["components.schemas.Answer.text: response: format is absent, was `date`"],
        &[],
    ),
    (
        "text: {type: string,",
        "text: {nullable: true, type: string,",
        &["components.schemas.Answer.text: response: may be null"],
        &[],
    ),
    (
        "maxItems: 5",
        "maxItems: 6",
        &["components.schemas.Answer.list: response: maxItems is `6`, was `5`"],
        &[],
    ),
    (
        "list: {type: array, items: {type: string}, ",
        "list: {type: array, ",
        &["components.schemas.Answer.list.items: response: items may have any type"],
        &[],
    ),
    (
        "anyOf: [{$ref: '#/components/schemas/Arm'}, {type: string}]",
        "anyOf: [{type: string}]",
        &[],
        &["components.schemas.Answer.arm: response: `#/components/schemas/Arm` is new"],
    ),
    (
        "Arm: {type: object, properties: {length: {type: integer}}}",
        "Arm: {type: object, properties: {length: {type: number}}}",
        &["components.schemas.Arm.length: response: type is `number`, was `integer`"],
        &[],
    ),
    (
        "more: {type: object, additionalProperties: {type: string}}",
        "more: {type: object}",
        &["components.schemas.Answer.more: response: other fields may have any type"],
        &[],
    ),
    (
        "shut: {type: object, additionalProperties: false}",
        "shut: {type: object}",
        &["components.schemas.Answer.shut: response: may have other fields"],
        &[],
    ),
];

fn document(text: &str) -> Value {
    parse(text).expect("YAML")
}

fn check(rows: &[Row]) {
    let old = document(DOCUMENT);
    for (from, to, forward, backward) in rows {
        assert_eq!(
            DOCUMENT.matches(from).count(),
            1,
            "the document has once: {from}"
        );
        let new = document(&DOCUMENT.replace(from, to));
        assert_eq!(breaks(&old, &new), *forward, "{from} -> {to}");
        assert_eq!(breaks(&new, &old), *backward, "{to} -> {from}");
    }
}

#[test]
fn changes_of_operations_are_found() {
    check(OPERATIONS);
}

#[test]
fn changes_of_parameters_are_found() {
    check(PARAMETERS);
}

#[test]
fn changes_of_requests_are_found() {
    check(REQUESTS);
}

#[test]
fn changes_of_responses_are_found() {
    check(RESPONSES);
}

#[test]
fn a_removed_body_is_found() {
    let old =
        document("paths: {/a: {post: {requestBody: {content: {text/csv: {}}}, responses: {}}}}");
    let new = document("paths: {/a: {post: {responses: {}}}}");
    assert_eq!(
        breaks(&old, &new),
        ["POST /a request: the body was removed"]
    );
    assert_eq!(breaks(&new, &old), [""; 0]);
}

#[test]
fn only_listed_breaks_are_intended() {
    let list = "[{reason: Faster., breaks: ['GET /a: x', 'GET /b*: y']}]";
    let intended = Intended::parse(list).expect("a list");
    let lines = |lines: &[&str]| {
        lines
            .iter()
            .map(|line| (*line).to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        intended.findings(&lines(&["GET /a: x", "GET /b/c: y"])),
        [""; 0]
    );
    assert_eq!(
        intended.findings(&lines(&["GET /a: x", "GET /a: y"])),
        [
            "GET /a: y",
            "no such break, remove it from the list: GET /b*: y"
        ]
    );
    assert!(Intended::parse("[{breaks: ['GET /a: x']}]").is_err());
}
