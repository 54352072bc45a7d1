//! What is refused in parameters.

use super::*;

#[test]
fn a_parameter_has_a_name_that_can_be_one() {
    refuses(
        "name: search",
        "name: ''",
        &format!("{LIST}.parameters.: a parameter has a name"),
    );
    refuses(
        "name: search",
        "name: body",
        &format!(
            "{LIST}.parameters.body: a parameter called `body` cannot be expressed in the client"
        ),
    );
    refuses(
        "name: search",
        "name: limit",
        &format!("{LIST}: two parameters are called `limit`"),
    );
}

#[test]
fn a_parameter_is_in_the_path_or_in_the_query() {
    let finding = format!("{LIST}.parameters.search: a parameter is in the path or in the query");
    refuses("search, in: query", "search, in: header", &finding);
}

#[test]
fn path_parameters_are_those_of_the_path() {
    refuses(
        "{ name: project_id, in: path",
        "{ name: project, in: path",
        &format!("{LIST}: the path parameter `project_id` is not described"),
    );
    refuses(
        "{ name: project_id, in: path",
        "{ name: project, in: path",
        &format!("{LIST}: the path has no parameter `project`"),
    );
    refuses(
        "/intake/:",
        "/intake-{id}/:",
        "paths./intake-{id}/.post: a parameter fills a whole part of the path",
    );
}

#[test]
fn a_parameter_is_of_a_kind_that_can_be_read() {
    let place = format!("{LIST}.parameters");
    refuses(
        "name: search, in: query, required: true, schema: { type: string }",
        "name: search, in: query, schema: { type: object }",
        &format!(
            r#"{place}.search: the schema {{"type":"object"}} cannot be read from a path or query"#
        ),
    );
    refuses(
        "search, in: query, required: true, schema: { type: string }",
        "search, in: query, schema: { type: string, pattern: a }",
        &format!("{place}.search.schema: `pattern` is not supported"),
    );
    refuses(
        "in: path, required: true, schema: { type: integer, format: int64 }",
        "in: path, required: true, schema: { type: boolean }",
        "paths./api/projects/{project_id}/things/{id}/.patch.parameters.id: a path parameter is a string or an integer",
    );
    refuses(
        "required: true, schema: { type: string } }\n        - { name: label",
        "schema: { type: string, default: a } }\n        - { name: label",
        &format!("{place}.search: only an integer parameter may have a default"),
    );
    refuses(
        "search, in: query, required: true",
        "search, in: query, x-true: [a]",
        &format!("{place}.search: `x-true` is for a boolean"),
    );
}
