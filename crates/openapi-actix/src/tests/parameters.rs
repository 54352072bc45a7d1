//! Findings in parameters.

use super::*;

#[test]
#[cfg(feature = "client")]
fn parameter_has_a_unique_and_valid_name() {
    assert_finding(
        "name: search",
        "name: ''",
        &format!("{LIST}.parameters.: a parameter must have a name"),
    );
    assert_finding(
        "name: search",
        "name: body",
        &format!("{LIST}.parameters.body: the client cannot have a parameter with the name `body`"),
    );
    assert_finding(
        "name: search",
        "name: limit",
        &format!("{LIST}: two parameters have the name `limit`"),
    );
}

#[test]
fn parameter_is_in_a_known_part_of_the_request() {
    let finding = format!(
        "{LIST}.parameters.search: `in` of a parameter must be path, query, header or cookie"
    );
    assert_finding("search, in: query", "search, in: body", &finding);
}

#[test]
fn path_parameters_match_the_path() {
    assert_finding(
        "{ name: project_id, in: path",
        "{ name: project, in: path",
        &format!("{LIST}: the path parameter `project_id` is not described"),
    );
    assert_finding(
        "{ name: project_id, in: path",
        "{ name: project, in: path",
        &format!("{LIST}: the path has no parameter `project`"),
    );
    assert_finding(
        "/intake/:",
        "/intake-{id}/:",
        "paths./intake-{id}/.post: a path parameter must fill a whole path segment",
    );
}

#[test]
fn parameter_has_a_supported_schema() {
    let location = format!("{LIST}.parameters");
    assert_finding(
        "name: search, in: query, required: true, schema: { type: string }",
        "name: search, in: query, schema: { type: object }",
        &format!(
            r#"{location}.search: the schema {{"type":"object"}} is not supported in a query"#
        ),
    );
    assert_finding(
        "search, in: query, required: true, schema: { type: string }",
        "search, in: query, schema: { type: string, pattern: a }",
        &format!(
            "{location}.search: the runtime `crate::support` does not read the schema {{\"type\":\"string\",\"pattern\":\"a\"}} from a query"
        ),
    );
    assert_finding(
        "in: path, required: true, schema: { type: integer, format: int64 }",
        "in: path, required: true, schema: { type: boolean }",
        "paths./api/projects/{project_id}/things/{id}/.patch.parameters.id: the runtime `crate::support` does not read the schema {\"type\":\"boolean\"} from a path",
    );
    assert_finding(
        "required: true, schema: { type: string } }\n        - { name: label",
        "schema: { type: string, default: 1 } }\n        - { name: label",
        &format!(
            "{location}.search: the default 1 is not a value of the schema, or not supported for it"
        ),
    );
    assert_finding(
        "search, in: query, required: true",
        "search, in: query, x-true: [a]",
        &format!("{location}.search: `x-true` needs a boolean"),
    );
}
