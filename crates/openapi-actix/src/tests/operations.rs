//! Findings in operations, bodies and responses.

use super::*;

#[test]
fn sample_has_no_findings() {
    assert_eq!(findings(SAMPLE), Vec::<String>::new());
}

#[test]
fn all_findings_are_reported_together() {
    let text = edited_sample("operationId: things_list", "deprecated: true");
    let text = text.replacen("tags: [intake]", "tags: []", 1);
    let expected = [
        format!("openapi.yaml: {LIST}: operationId is missing"),
        "openapi.yaml: paths./intake/.post: an operation must have exactly one tag".to_owned(),
    ];
    assert_eq!(findings(&text), expected);
}

#[test]
fn document_must_be_yaml() {
    assert!(findings("a: [")[0].starts_with("openapi.yaml: cannot be parsed: "));
}

#[test]
fn openapi_version_must_be_3_0_or_3_1() {
    assert_finding(
        "openapi: 3.0.3",
        "openapi: 3.2.0",
        "openapi: the version must be 3.0.x or 3.1.x",
    );
}

#[test]
fn document_must_be_openapi() {
    let text = edited_sample("title: Sample", "title: []");
    assert_eq!(
        findings(&text),
        ["openapi.yaml: info: `title` must be text"; 1]
            .map(str::to_owned)
            .into_iter()
            .chain(["openapi.yaml: info: `title` is missing".to_owned()])
            .collect::<Vec<_>>()
    );
}

#[test]
fn path_must_end_with_a_slash() {
    assert_finding(
        "  /intake/:",
        "  /intake:",
        "paths./intake: a path must start with a slash, and end with a slash or with the name of a file such as `list.csv`",
    );
}

#[test]
fn path_of_a_file_needs_no_slash_and_is_served_with_and_without_it() {
    let server = generated(&edited_sample("  /intake/:", "  /intake.csv:"), "server.rs");
    assert!(
        server.contains(r#"["/intake.csv/", "/intake.csv"]"#),
        "{server}"
    );
    for other in ["/intake/.csv", "/intake.", "/{intake}.csv"] {
        let text = edited_sample("  /intake/:", &format!("  {other}:"));
        let findings = findings(&text);
        assert!(
            findings
                .iter()
                .any(|finding| finding.contains("the name of a file")),
            "{other}"
        );
    }
}

#[test]
fn path_is_described_once() {
    assert_finding(
        "  /intake/:",
        "  /api/projects/{project}/things/:",
        "paths: `/api/projects/{}/things/` is described more than once",
    );
}

#[test]
fn path_of_a_file_is_described_once_with_or_without_a_slash() {
    let text = edited_sample("  /api/projects/{project_id}/things/:", "  /intake.csv/:");
    let findings = findings(&text.replace("  /intake/:", "  /intake.csv:"));
    let expected = "openapi.yaml: paths: `/intake.csv/` is described more than once";
    assert!(
        findings.iter().any(|finding| finding == expected),
        "{findings:#?}"
    );
}

#[test]
fn unsupported_keys_are_findings() {
    assert_finding(
        "x-raw-body: true",
        "x-rawbody: true",
        "paths./intake/.post: `x-rawbody` is not supported",
    );
    assert_finding(
        "security: []",
        "servers: []",
        "paths./intake/.post: `servers` is not supported",
    );
}

#[test]
fn operation_id_is_in_snake_case() {
    let finding = format!("{LIST}: operationId `thingsList` is not in snake_case");
    assert_finding(
        "operationId: things_list",
        "operationId: thingsList",
        &finding,
    );
}

#[test]
fn operation_id_is_unique() {
    assert_finding(
        "operationId: things_create",
        "operationId: things_list",
        "paths: operationId `things_list` is used more than once",
    );
}

#[test]
fn tag_is_described() {
    assert_finding(
        "tags: [intake]",
        "tags: [other]",
        "paths./intake/.post: the tag `other` is not described under `tags`",
    );
}

#[test]
fn security_is_required() {
    assert_finding(
        "security: []",
        "deprecated: true",
        "paths./intake/.post: `security` is missing",
    );
    assert_finding(
        "security: []",
        "security: [{ other: [] }]",
        "paths./intake/.post: `security` must be empty or have the alternatives `personalApiKey`, or some of `projectToken`",
    );
}

#[test]
fn scopes_require_security() {
    let finding = format!("{LIST}: `x-required-scopes` is missing");
    assert_finding(
        "x-required-scopes: ['thing:read', 'person:read']",
        "deprecated: true",
        &finding,
    );
    assert_finding(
        "security: []",
        "{ security: [], x-required-scopes: [a] }"
            .trim_matches(['{', '}', ' '])
            .replace(", ", "\n      ")
            .as_str(),
        "paths./intake/.post: `x-required-scopes` needs `security`",
    );
    let finding = format!("{LIST}: `x-required-scopes` must be a list of strings");
    assert_finding("['thing:read', 'person:read']", "thing:read", &finding);
}

#[test]
fn raw_body_requires_a_body_and_no_key() {
    let finding = format!("{LIST}: `x-raw-body` needs a `requestBody`");
    assert_finding("summary: List things", "x-raw-body: true", &finding);
    let finding =
        format!("{CREATE}: `x-raw-body` is only supported for an operation without `security`");
    assert_finding("summary: Create a thing", "x-raw-body: true", &finding);
    let finding = "paths./intake/.post: `x-raw-body` must be true or false";
    assert_finding("x-raw-body: true", "x-raw-body: 1", finding);
}

#[test]
fn get_with_a_write_scope_states_whether_it_writes() {
    let scopes = "x-required-scopes: ['thing:read', 'person:read']";
    let write = "x-required-scopes: ['thing:write']";
    let finding = format!("{LIST}: `x-writes` is missing: state whether this GET changes data");
    assert_finding(scopes, write, &finding);
    let stated = edited_sample(scopes, &format!("{write}\n      x-writes: false"));
    assert_eq!(findings(&stated), Vec::<String>::new());
    let finding = format!("{CREATE}: `x-writes` is only supported for GET");
    assert_finding("summary: Create a thing", "x-writes: true", &finding);
}

#[test]
fn file_requires_a_key() {
    let keyless = edited_sample(
        "security: [{ personalApiKey: [] }]\n      x-required-scopes: ['thing:write']\n      requestBody",
        "security: []\n      requestBody",
    );
    let finding = format!("openapi.yaml: {CREATE}: a file is only supported with `security`");
    assert!(findings(&keyless).contains(&finding));
}

#[test]
fn body_is_a_component_with_a_supported_media_type() {
    let location = format!("{CREATE}.requestBody");
    let json = "application/json: { schema: { $ref: '#/components/schemas/ThingCreate' } }";
    let finding =
        format!("{location}.content.application/json: the schema of a body must be a component");
    assert_finding(
        json,
        "application/json: { schema: { type: object } }",
        &finding,
    );
    let finding = format!("{location}: application/json is missing");
    assert_finding(&format!("          {json}\n"), "", &finding);
    let finding = format!(
        "{location}.content.application/xml: a body of `application/xml` is not supported; use \
         application/json, application/x-www-form-urlencoded or multipart/form-data"
    );
    assert_finding(
        "application/x-www-form-urlencoded",
        "application/xml",
        &finding,
    );
    let form = "application/x-www-form-urlencoded";
    let finding = format!(
        "{location}.content.{form}: a multipart body must have a property of the format `binary`, and no other form may have one"
    );
    let content = format!("{form}: {{ schema: {{ $ref: '#/components/schemas/");
    assert_finding(
        &format!("{content}ThingCreate"),
        &format!("{content}ThingUpload"),
        &finding,
    );
}

#[test]
fn reference_resolves_to_a_component() {
    let finding =
        format!("{LIST}: `#/components/parameters/Project` is not one of components.parameters");
    assert_finding("parameters/ProjectId'", "parameters/Project'", &finding);
    let finding = format!(
        "{LIST}.responses.400: `#/components/responses/None` is not one of components.responses"
    );
    assert_finding("responses/Problem' }", "responses/None' }", &finding);
    let finding = "components.schemas.Thing.properties.filters: \
                   `#/components/schemas/None` is not one of components.schemas";
    assert_finding(
        "filters: { $ref: '#/components/schemas/ThingFilters' }",
        "filters: { $ref: '#/components/schemas/None' }",
        finding,
    );
}

#[test]
fn status_is_a_number_or_5xx() {
    let finding = format!(
        "{LIST}.responses.default: a status must be a number or `5XX`; other ranges and `default` are not supported"
    );
    assert_finding("'400'", "default", &finding);
    let finding = format!("{LIST}.responses.5XX: `5XX` must have the body `Error`");
    assert_finding(
        "'400': { $ref: '#/components/responses/Problem' }",
        "'5XX': { description: '' }",
        &finding,
    );
}

#[test]
#[cfg(feature = "client")]
fn operation_has_one_success_status() {
    let finding = format!("{LIST}: for the client, an operation must have only one success status");
    assert_finding(
        "'400': { $ref: '#/components/responses/Problem' }",
        "'204': { description: '' }",
        &finding,
    );
    let finding = format!(
        "{}: an operation must have a success status or an error without a body",
        "paths./api/projects/{project_id}/things/{id}/.delete"
    );
    assert_finding(
        "        '405': { description: Always; without a body. }\n",
        "",
        &finding,
    );
}

#[test]
fn error_has_the_envelope_or_no_body() {
    let finding = format!(
        "{LIST}.responses.400.content.application/json: an error must have no body or `Error` as application/json"
    );
    let envelope = "application/json: { schema: { $ref: '#/components/schemas/Error' } }";
    assert_finding(
        envelope,
        "application/json: { schema: { $ref: '#/components/schemas/Thing' } }",
        &finding,
    );
}

#[test]
#[cfg(feature = "client")]
fn response_is_a_component_with_a_supported_media_type() {
    let location = format!("{LIST}.responses.200.content");
    let json = "application/json: { schema: { $ref: '#/components/schemas/ThingPage' } }";
    let finding = format!(
        "{location}.application/json: for the client, the schema of a response must be a component"
    );
    assert_finding(
        json,
        "application/json: { schema: { type: object } }",
        &finding,
    );
    let finding = format!(
        "{location}.text/*: `text/*` is not one media type, so the server does not know which one it sends"
    );
    assert_finding("text/csv", "text/*", &finding);
}

#[test]
fn only_a_success_of_json_is_streamed() {
    let location = format!("{LIST}.responses.200.content.text/csv");
    assert_finding(
        "text/csv: { schema",
        "text/csv: { x-streamed: true, schema",
        &format!("{location}: `x-streamed` is for successes of JSON"),
    );
}

#[test]
fn response_that_may_be_empty_needs_content() {
    assert_finding(
        "'204': { description: Taken. }",
        "'204': { description: Taken., x-or-empty: true }",
        "paths./intake/.post.responses.204: `x-or-empty` needs `content`",
    );
}

#[test]
fn multipart_body_contains_a_file_and_fields_of_the_json_body() {
    let location = format!("{CREATE}.requestBody.content.multipart/form-data");
    let finding = format!(
        "{location}: a multipart body must have a property of the format `binary`, and no other form may have one"
    );
    assert_finding("format: binary", "format: uri", &finding);
}

const COLOUR: &str = "ThingUpload:
      type: object
      properties:
        colour: { type: string }";

#[test]
fn field_that_only_forms_have_is_required_in_all_forms_or_in_none() {
    let text = edited_sample(
        "ThingUpload:\n      type: object\n      properties:",
        &COLOUR.replace("properties:", "required: [colour]\n      properties:"),
    );
    let finding = format!(
        "openapi.yaml: {CREATE}.requestBody: `colour` must be required in all forms of the body, or in none of them"
    );
    assert_eq!(findings(&text), [finding]);
}

#[test]
fn field_that_only_forms_have_is_described_once() {
    let text = edited_sample(
        "ThingUpload:\n      type: object\n      properties:",
        COLOUR,
    );
    let form = "application/x-www-form-urlencoded: { schema: { $ref: '#/components/schemas/ThingCreate' } }";
    assert!(text.contains(form));
    let text = text.replace(
        form,
        "application/x-www-form-urlencoded: { schema: { $ref: '#/components/schemas/ThingForm' } }",
    );
    let text = text.replace(
        "    ThingUpload:",
        "    ThingForm: { type: object, properties: { colour: { type: integer, format: int64 } } }\n    ThingUpload:",
    );
    let finding = format!(
        "openapi.yaml: {CREATE}.requestBody.content.multipart/form-data: `colour` is described differently in another form"
    );
    assert_eq!(findings(&text), [finding]);
}

/// The sample with two ways to send a key, and a token that the handler of `intake_send` reads.
fn with_alternatives() -> (String, Config) {
    let mut config = project();
    let rule = config.rules.key.as_mut().unwrap();
    rule.schemes.push("keyInQuery".to_owned());
    let text = SAMPLE.replace(
        "security: [{ personalApiKey: [] }]",
        "security: [{ personalApiKey: [] }, { keyInQuery: [] }]",
    );
    let text = text.replace("security: []", "security: [{ projectToken: [] }, {}]");
    let schemes = "securitySchemes:\n    keyInQuery: { type: apiKey, in: query, name: key }\n    projectToken: { type: apiKey, in: query, name: token }";
    (text.replace("securitySchemes:", schemes), config)
}

#[test]
fn key_has_all_of_its_places_as_alternatives() {
    let (text, config) = with_alternatives();
    assert_eq!(findings_with(&text, &config), Vec::<String>::new());
    let text = text.replacen(
        "[{ personalApiKey: [] }, { keyInQuery: [] }]",
        "[{ keyInQuery: [] }]",
        1,
    );
    let finding = format!(
        "openapi.yaml: {LIST}: `security` must be empty or have the alternatives `personalApiKey`, `keyInQuery`, or some of `projectToken`"
    );
    assert_eq!(findings_with(&text, &config), [finding]);
}

#[test]
fn handler_checks_the_token_of_an_operation_without_a_key() {
    let (text, config) = with_alternatives();
    let files = generate_with(&text, &config).unwrap();
    let code = files.text("server.rs").unwrap();
    assert!(
        code.contains("fn intake_send(\n        &self,\n        request: IntakeSendRequest,"),
        "{code}"
    );
}

#[test]
fn only_a_parameter_of_the_query_of_an_operation_with_a_key_needs_scopes() {
    let scoped = "schema: { type: string }, x-required-scopes: ['thing:write'] }";
    let finding = "paths./api/projects/{project_id}/things/.get.parameters.project_id: only a parameter of the query can need scopes";
    assert_finding(
        "in: path, required: true, schema: { type: string } }",
        &format!("in: path, required: true, {scoped}"),
        finding,
    );
    assert_finding(
        "security: []",
        &format!("security: []\n      parameters: [{{ name: page, in: query, {scoped}]"),
        "paths./intake/.post: the parameter `page` needs scopes, and the operation needs no key",
    );
}

#[test]
fn every_property_parameter_and_header_has_a_description_if_the_rule_says_so() {
    let mut config = project();
    config.rules.descriptions = true;
    let text = edited_sample(
        "description: The new thing.",
        "description: The new thing.\n          headers: { X-Request-Id: { schema: { type: string } } }",
    );
    let findings = findings_with(&text, &config);
    for location in [
        "components.parameters.ProjectId",
        "components.schemas.Thing.properties.name",
        "components.schemas.ThingPage.properties.results",
        "paths./api/projects/{project_id}/things/.get.parameters.limit",
        "paths./api/projects/{project_id}/things/.post.responses.201.headers.X-Request-Id",
    ] {
        let finding = format!("openapi.yaml: {location}: a description is missing");
        assert!(findings.contains(&finding), "{findings:#?}");
    }
}

#[test]
fn operation_with_a_body_or_a_key_documents_the_statuses_of_the_checks() {
    let mut config = project();
    config.rules.statuses_with_parsed_body = vec![415];
    config.rules.statuses_with_body = vec![413];
    config.rules.statuses_with_key = vec![401];
    let findings = findings_with(SAMPLE, &config);
    for finding in [
        format!("{CREATE}: an operation with a body must document 413"),
        format!("{CREATE}: an operation with a body must document 415"),
        format!("{LIST}: an operation with `security` must document 401"),
        "paths./intake/.post: an operation with a body must document 413".to_owned(),
    ] {
        assert!(
            findings.contains(&format!("openapi.yaml: {finding}")),
            "{findings:#?}"
        );
    }
    let raw = "openapi.yaml: paths./intake/.post: an operation with a body must document 415";
    assert!(!findings.contains(&raw.to_owned()));
}

#[test]
fn a_post_with_a_key_has_the_header_that_names_a_request() {
    let mut config = project();
    config.rules.idempotency_key = Some("Idempotency-Key".to_owned());
    let findings = |text: &str| findings_with(text, &config);
    let finding = |text: &str| format!("openapi.yaml: {CREATE}: {text}");
    let missing =
        finding("a POST with `security` must have the header parameter `Idempotency-Key`");
    assert!(findings(SAMPLE).contains(&missing));
    let header = "parameters: [{ name: Idempotency-Key, in: header, schema: { type: string } }]";
    let text = edited_sample(
        "operationId: things_create",
        &format!("{header}\n      operationId: things_create"),
    );
    for status in [409, 422] {
        let missing = finding(&format!(
            "an operation with `Idempotency-Key` must document {status}"
        ));
        assert!(findings(&text).contains(&missing), "{:#?}", findings(&text));
    }
    let files = generate_with(&text, &project()).unwrap();
    assert!(
        !files.text("server.rs").unwrap().contains("once("),
        "without the rule"
    );
    let text = edited_sample("security: []", &format!("security: []\n      {header}"));
    let wrong = "openapi.yaml: paths./intake/.post: only a POST with `security` can have the parameter `Idempotency-Key`";
    assert!(
        findings(&text).contains(&wrong.to_owned()),
        "{:#?}",
        findings(&text)
    );
}

/// A document with one operation that needs the key `key`.
fn with_scheme(scheme: &str) -> String {
    format!(
        "openapi: 3.0.3
info: {{ title: Keys, version: '1' }}
security: [{{ key: [] }}]
paths: {{ /a: {{ get: {{ operationId: read, responses: {{ '204': {{ description: Done. }} }} }} }} }}
components: {{ securitySchemes: {{ key: {scheme}, other: {{ type: http, scheme: basic }} }} }}
"
    )
}

#[test]
fn security_scheme_can_be_a_reference() {
    let text = with_scheme("{ $ref: '#/components/securitySchemes/other' }");
    let files = generate_with(&text, &Config::default()).unwrap();
    let server = files.text("src/server.rs").unwrap();
    let scheme = "name: \"key\",\n    kind: SchemeKind::Basic,";
    assert!(server.contains(scheme), "{server}");
}

#[test]
fn unknown_kind_of_scheme_is_the_only_finding() {
    let text = with_scheme("{ type: http, scheme: digest }");
    let findings = findings_with(&text, &Config::default());
    let finding = "components.securitySchemes.key: `scheme` must be bearer or basic";
    assert_eq!(findings, [format!("openapi.yaml: {finding}")]);
}
