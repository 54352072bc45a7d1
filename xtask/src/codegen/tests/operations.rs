//! What is refused in operations and what they answer.

use super::*;

#[test]
fn the_sample_is_taken() {
    assert_eq!(findings(SAMPLE), Vec::<String>::new());
}

#[test]
fn all_findings_are_told_at_once() {
    let text = sample("operationId: things_list", "deprecated: true");
    let text = text.replacen("tags: [intake]", "tags: []", 1);
    let expected = [
        format!("openapi.yaml: {LIST}: operationId is missing"),
        "openapi.yaml: paths./intake/.post: an operation has exactly one tag".to_owned(),
    ];
    assert_eq!(findings(&text), expected);
}

#[test]
fn a_document_that_is_no_yaml_is_refused() {
    assert!(findings("a: [")[0].starts_with("openapi.yaml is not readable: "));
}

#[test]
fn only_openapi_3_0_is_taken() {
    refuses(
        "openapi: 3.0.3",
        "openapi: 3.1.0",
        "openapi: the version must be 3.0.x",
    );
}

#[test]
fn what_openapi_does_not_know_is_refused() {
    let text = sample("title: Sample", "title: []");
    assert!(findings(&text)[0].starts_with("openapi.yaml is no OpenAPI document: "));
}

#[test]
fn a_path_ends_with_a_slash() {
    refuses(
        "  /intake/:",
        "  /intake:",
        "paths./intake: a path starts and ends with a slash",
    );
}

#[test]
fn a_path_is_described_once() {
    refuses(
        "  /intake/:",
        "  /api/projects/{project}/things/:",
        "paths: `/api/projects/{}/things/` is described more than once",
    );
}

#[test]
fn a_key_that_no_generator_reads_is_refused() {
    refuses(
        "x-raw-body: true",
        "x-rawbody: true",
        "paths./intake/.post: `x-rawbody` is not supported",
    );
    refuses(
        "security: []",
        "servers: []",
        "paths./intake/.post: `servers` is not supported",
    );
}

#[test]
fn an_operation_id_is_in_snake_case() {
    let finding = format!("{LIST}: operationId `thingsList` is not in snake_case");
    refuses(
        "operationId: things_list",
        "operationId: thingsList",
        &finding,
    );
}

#[test]
fn an_operation_id_is_used_once() {
    refuses(
        "operationId: things_create",
        "operationId: things_list",
        "paths: operationId `things_list` is used more than once",
    );
}

#[test]
fn a_tag_is_described() {
    refuses(
        "tags: [intake]",
        "tags: [other]",
        "paths./intake/.post: the tag `other` is not described under `tags`",
    );
}

#[test]
fn security_is_said() {
    refuses(
        "security: []",
        "deprecated: true",
        "paths./intake/.post: `security` is missing",
    );
    refuses(
        "security: []",
        "security: [{}]",
        "paths./intake/.post: `security` is either empty or one entry, `personalApiKey`",
    );
}

#[test]
fn scopes_go_with_security() {
    let finding = format!("{LIST}: `x-required-scopes` is missing");
    refuses(
        "x-required-scopes: ['thing:read', 'person:read']",
        "deprecated: true",
        &finding,
    );
    refuses(
        "security: []",
        "{ security: [], x-required-scopes: [a] }"
            .trim_matches(['{', '}', ' '])
            .replace(", ", "\n      ")
            .as_str(),
        "paths./intake/.post: without `security` there is nothing to have `x-required-scopes`",
    );
    let finding = format!("{LIST}: `x-required-scopes` must be a list of texts");
    refuses("['thing:read', 'person:read']", "thing:read", &finding);
}

#[test]
fn a_raw_body_has_a_body_and_no_key() {
    let finding = format!("{LIST}: `x-raw-body` needs a `requestBody`");
    refuses("summary: List things", "x-raw-body: true", &finding);
    let finding = format!("{CREATE}: `x-raw-body` is only supported where no key is wanted");
    refuses("summary: Create a thing", "x-raw-body: true", &finding);
    let finding = "paths./intake/.post: `x-raw-body` must be true or false";
    refuses("x-raw-body: true", "x-raw-body: 1", finding);
}

#[test]
fn a_body_is_a_component_in_a_known_content_type() {
    let place = format!("{CREATE}.requestBody");
    let json = "application/json: { schema: { $ref: '#/components/schemas/ThingCreate' } }";
    let finding =
        format!("{place}.content.application/json: the schema of a body must be a component");
    refuses(
        json,
        "application/json: { schema: { type: object } }",
        &finding,
    );
    let finding = format!("{place}: application/json is missing");
    refuses(&format!("          {json}\n"), "", &finding);
    let finding = format!(
        "{place}.content.application/xml: a body of `application/xml` is not supported; \
         application/json, application/x-www-form-urlencoded and multipart/form-data are"
    );
    refuses(
        "application/x-www-form-urlencoded",
        "application/xml",
        &finding,
    );
    let form = "application/x-www-form-urlencoded";
    let finding = format!(
        "{place}.content.{form}: a multipart body has a property of the format `binary`, and no other form has"
    );
    let content = format!("{form}: {{ schema: {{ $ref: '#/components/schemas/");
    refuses(
        &format!("{content}ThingCreate"),
        &format!("{content}ThingUpload"),
        &finding,
    );
}

#[test]
fn a_reference_leads_to_a_component() {
    let finding =
        format!("{LIST}: `#/components/parameters/Project` is not one of components.parameters");
    refuses("parameters/ProjectId'", "parameters/Project'", &finding);
    let finding = format!(
        "{LIST}.responses.400: `#/components/responses/None` is not one of components.responses"
    );
    refuses("responses/Problem' }", "responses/None' }", &finding);
    let finding = "components.schemas.Thing.properties.filters: \
                   `#/components/schemas/None` is not one of components.schemas";
    refuses(
        "filters: { $ref: '#/components/schemas/ThingFilters' }",
        "filters: { $ref: '#/components/schemas/None' }",
        finding,
    );
}

#[test]
fn a_status_is_a_number() {
    let finding = format!(
        "{LIST}.responses.default: a status is a number, or `5XX`; other ranges and `default` are not supported"
    );
    refuses("'400'", "default", &finding);
    let finding = format!("{LIST}.responses.5XX: `5XX` has the body `Error`");
    refuses(
        "'400': { $ref: '#/components/responses/Problem' }",
        "'5XX': { description: '' }",
        &finding,
    );
}

#[test]
fn an_operation_succeeds_in_one_way() {
    let finding = format!("{LIST}: an operation has one status of success");
    refuses(
        "'400': { $ref: '#/components/responses/Problem' }",
        "'204': { description: '' }",
        &finding,
    );
    let finding = format!(
        "{}: an operation has a status of success, or an error without a body",
        "paths./api/projects/{project_id}/things/{id}/.delete"
    );
    refuses(
        "        '405': { description: Always; without a body. }\n",
        "",
        &finding,
    );
}

#[test]
fn an_error_is_the_envelope_or_nothing() {
    let finding = format!(
        "{LIST}.responses.400.content.application/json: an error has no body, or `Error` as application/json"
    );
    let envelope = "application/json: { schema: { $ref: '#/components/schemas/Error' } }";
    refuses(
        envelope,
        "application/json: { schema: { $ref: '#/components/schemas/Thing' } }",
        &finding,
    );
}

#[test]
fn an_answer_is_a_component_in_a_known_content_type() {
    let place = format!("{LIST}.responses.200.content");
    let json = "application/json: { schema: { $ref: '#/components/schemas/ThingPage' } }";
    let finding = format!("{place}.application/json: the schema of an answer must be a component");
    refuses(
        json,
        "application/json: { schema: { type: object } }",
        &finding,
    );
    let finding = format!(
        "{place}.text/html: an answer of `text/html` is not supported; \
         application/json, text/csv and application/x-ndjson are"
    );
    refuses("text/csv", "text/html", &finding);
}

#[test]
fn an_answer_that_may_be_empty_says_what_else_it_is() {
    refuses(
        "'204': { description: Taken. }",
        "'204': { description: Taken., x-or-empty: true }",
        "paths./intake/.post.responses.204: `x-or-empty` says nothing without `content`",
    );
}

#[test]
fn a_multipart_body_holds_a_file_beside_fields_that_are_known() {
    let place = format!("{CREATE}.requestBody.content.multipart/form-data");
    let finding = format!(
        "{place}: a multipart body has a property of the format `binary`, and no other form has"
    );
    refuses("format: binary", "format: uri", &finding);
    let finding = format!("{place}: `colour` is neither a file nor a field of ThingCreate");
    refuses(
        "sheet: { type: string, format: binary }",
        "sheet: { type: string, format: binary }\n        colour: { type: string }",
        &finding,
    );
}
