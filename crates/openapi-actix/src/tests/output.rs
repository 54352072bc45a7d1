//! The generated code of the sample.

use super::*;

fn server() -> String {
    generated(SAMPLE, "server.rs")
}

fn types() -> String {
    generated(SAMPLE, "types.rs")
}

#[cfg(feature = "client")]
fn client() -> String {
    generated(SAMPLE, "client.rs")
}

/// Asserts that `code` contains `piece`. White space and trailing commas are ignored.
#[track_caller]
fn assert_contains(code: &str, piece: &str) {
    let normalized = |text: &str| {
        let text: String = text.split_whitespace().collect();
        let ends = [",)", ",>", ",}"].into_iter();
        ends.fold(text, |text, end| text.replace(end, &end[1..]))
    };
    assert!(normalized(code).contains(&normalized(piece)), "{piece}");
}

#[test]
fn literal_path_is_routed_before_a_path_with_a_parameter() {
    let text = SAMPLE.replacen(
        "  /intake/:",
        "  /api/projects/{project_id}/things/all/:",
        1,
    );
    let text = text.replacen(
        "security: []",
        "security: []\n      parameters: [{ $ref: '#/components/parameters/ProjectId' }]",
        1,
    );
    let code = generated(&text, "server.rs");
    let routes = &code[code.find("pub fn configure").unwrap()..];
    assert!(routes.find("things/all").unwrap() < routes.find("things/{id}").unwrap());
}

#[test]
fn operation_without_security_has_no_caller() {
    assert_contains(
        &server(),
        "fn intake_send(&self, request: IntakeSendRequest,) -> impl Future",
    );
    assert_contains(
        &server(),
        "fn things_create(&self, caller: Self::Caller, request: ThingsCreateRequest,) -> impl Future",
    );
}

#[test]
fn response_has_a_variant_per_status_and_media_type() {
    assert_contains(
        &server(),
        "pub enum ThingsListResponse { /// One page. Status200(types::ThingPage), \
         /// One page. Status200Csv(ResponseBody), /// One page. Status200Ndjson(ResponseBody), }",
    );
    assert_contains(&server(), "Status405, }");
    // An error that may have no body has a variant for the empty form only.
    assert_contains(&server(), "/// Perhaps without a body. Status409, }");
}

#[test]
fn streamed_response_is_written_by_the_handler() {
    let text = SAMPLE.replacen(
        "application/json: { schema: { $ref: '#/components/schemas/ThingPage' } }",
        "application/json: { x-streamed: true, schema: { $ref: '#/components/schemas/ThingPage' } }",
        1,
    );
    let code = generated(&text, "server.rs");
    assert_contains(
        &code,
        "pub enum ThingsListResponse { /// One page. Status200(ResponseBody),",
    );
}

#[test]
fn parameter_with_a_default_or_lenient_switch_is_not_optional() {
    for field in [
        "pub limit: i64",
        "pub offset: i64",
        "pub type_: Option<types::ThingsListType>",
        "pub basic: bool",
        "pub strict: Option<bool>",
        "pub since: Option<::chrono::DateTime<::chrono::Utc>>",
        "pub search: String",
        "pub label: Vec<String>",
    ] {
        assert_contains(&server(), field);
    }
    assert_contains(&server(), r#"basic: query.switch("basic", &["y", "yes"])"#);
    assert_contains(
        &server(),
        r#"limit: query.integer("limit", Some(1), None).unwrap_or_default().unwrap_or(100)"#,
    );
    assert_contains(
        &server(),
        r#"offset: query.integer("offset", Some(0), None)?.unwrap_or(0)"#,
    );
}

#[test]
fn accept_header_is_checked_for_operations_with_a_406() {
    let call = r#"accepts(&request, &["application/json", "text/csv", "application/x-ndjson"])"#;
    assert_contains(&server(), call);
    assert_eq!(server().matches("accepts(&request").count(), 1);
}

#[test]
fn required_nullable_field_is_serialized_as_null() {
    let code = types();
    let thing = &code[code.find("pub struct Thing {").unwrap()..];
    let thing = &thing[..thing.find("\n}").unwrap()];
    assert_contains(
        thing,
        "deserialize_with = \"::std::option::Option::deserialize\")] pub name: ::std::option::Option<::std::string::String>,",
    );
    assert_eq!(thing.matches("skip_serializing_if").count(), 1, "{thing}");
}

#[test]
fn fields_have_the_order_of_the_document() {
    let code = types();
    let thing = &code[code.find("pub struct Thing {").unwrap()..];
    let positions = [
        "pub id:",
        "pub name:",
        "pub filters:",
        "pub kind:",
        "pub made:",
    ]
    .map(|field| thing.find(field).unwrap());
    assert!(positions.is_sorted(), "{code}");
}

#[test]
fn every_field_of_a_patch_distinguishes_null_from_absent() {
    for field in [
        "pub name: crate::Patch<::std::string::String>",
        "pub filters: crate::Patch<crate::RawJson>",
        "pub kind: crate::Patch<PatchedThingKind>",
        "pub ids: crate::Patch<::std::vec::Vec<::std::string::String>>",
        "pub amount: crate::Patch<i64>",
    ] {
        assert_contains(&types(), field);
    }
}

#[test]
fn raw_json_schema_has_no_server_type() {
    let code = types();
    assert_contains(&code, "pub filters: crate::RawJson,");
    for name in ["ThingFilters", "Node", "Leaf"] {
        assert!(!code.contains(&format!("pub struct {name}")), "{name}");
    }
    #[cfg(feature = "client")]
    assert_contains(&client(), "pub filters: ThingFilters,");
}

#[test]
#[cfg(feature = "client")]
fn client_can_send_null() {
    assert_contains(
        &client(),
        "pub kind: ::std::option::Option<crate::Nullable<crate::types::PatchedThingKind>>",
    );
    assert_contains(
        &client(),
        "pub filters: ::std::option::Option<crate::Nullable<crate::types::ThingFilters>>",
    );
}

#[test]
#[cfg(feature = "client")]
fn client_has_a_call_per_response_that_is_not_json() {
    for name in ["things_list_csv", "things_list_ndjson"] {
        assert_contains(
            &client(),
            &format!("pub async fn {name}(&self, project_id: &str, query: &[(&str, &str)],)"),
        );
    }
}

#[test]
#[cfg(feature = "client")]
fn client_returns_bytes_for_an_operation_without_json() {
    let table =
        "'204': { description: Taken., content: { text/csv: { schema: { type: string } } } }";
    let text = edited_sample("'204': { description: Taken. }", table);
    let client = generated(&text.replace("'204'", "'200'"), "client.rs");
    assert_contains(
        &client,
        "pub async fn send(self,) -> Result<ResponseValue<ByteStream>, Error<types::Error>>",
    );
    assert!(!client.contains("fn intake_send_csv"), "{client}");
}

#[test]
#[cfg(feature = "client")]
fn client_streams_lists_with_limit_and_offset() {
    assert_contains(
        &client(),
        "pub fn stream(self,) -> impl futures::Stream<Item = Result<types::Thing, Error<types::Error>>,> + 'a",
    );
}

#[test]
#[cfg(feature = "client")]
fn client_choice_has_a_variant_for_unknown_objects() {
    assert_contains(
        &client(),
        "Other(::serde_json::Map<::std::string::String, ::serde_json::Value>)",
    );
}

#[test]
fn multipart_files_are_received_after_authorization() {
    assert_contains(
        &server(),
        "let (caller, body) = authorize(api, &request, payload, operation).await?; \
         let files = &[\"sheet\"]; \
         let body = body.receive_with_files(api, &request, operation, &caller, files).await?;",
    );
    assert_contains(&server(), "pub uploads: Vec<UploadedFile>,");
    #[cfg(feature = "client")]
    assert_contains(&client(), "pub async fn things_create_multipart(");
}

/// The code of each route, by the name of its operation.
fn handlers(code: &str, contract: &Contract) -> Vec<(String, String)> {
    let handler = |id: &str| {
        let start = code.find(&format!("async fn route_{id}<A:")).unwrap();
        let end = start + code[start..].find("\n}").unwrap();
        (id.to_owned(), code[start..end].to_owned())
    };
    let operations = contract.operations.iter();
    operations.map(|operation| handler(&operation.id)).collect()
}

#[test]
fn every_operation_checks_key_or_token_before_its_body() {
    let document = concat!(env!("CARGO_MANIFEST_DIR"), "/../../openapi.yaml");
    let document = std::fs::read_to_string(document).unwrap();
    let mut cohorts = project();
    cohorts.rules.key = Some(KeyRule {
        schemes: ["personalApiKey", "personalApiKeyInQuery"]
            .map(str::to_owned)
            .to_vec(),
        handled: ["projectToken", "projectTokenInHeader"]
            .map(str::to_owned)
            .to_vec(),
        scopes: "x-required-scopes".to_owned(),
    });
    for (text, config) in [(SAMPLE, project()), (&document, cohorts)] {
        let document = Document::parse("openapi.yaml", text).unwrap();
        let document = crate::dialect::to_3_0(&document).unwrap();
        let contract = Contract::read(&document, &config).unwrap();
        let files = generate_with(text, &config).unwrap();
        let code = files.text("server.rs").unwrap();
        let handlers = handlers(code, &contract);
        for (operation, (id, handler)) in contract.operations.iter().zip(&handlers) {
            let check = if operation.security.is_some() {
                "authorize(api, &request, payload,"
            } else {
                "admit(api, &request, payload,"
            };
            let check = handler.find(check);
            assert_eq!(
                check.is_some(),
                handler.contains("payload: web::Payload"),
                "{id}"
            );
            assert!(check.is_some() || operation.security.is_none(), "{id}");
            for receive in ["body.receive", "body.raw", "body.fields", "::read("] {
                let after = handler
                    .find(receive)
                    .is_none_or(|at| check.is_none_or(|check| check < at));
                assert!(after, "{id}: {receive}");
            }
            assert_eq!(
                handler.matches("payload").count(),
                2 * usize::from(check.is_some()),
                "{id}"
            );
        }
    }
}

#[test]
fn unknown_fields_are_ignored_unless_the_schema_lists_the_ignored_ones() {
    assert_contains(
        &server(),
        "BodyRules { fields: THING_CREATE_FIELDS, form: &[], unknown: UnknownFields::Ignored }",
    );
    let text = edited_sample(
        "    ThingCreate:\n",
        "    ThingCreate:\n      x-ignored-fields: [id, made]\n",
    );
    let code = generated(&text, "server.rs");
    let checked = "form: &[], unknown: UnknownFields::NearRefused(THING_CREATE_IGNORED) }";
    assert_contains(&code, checked);
    let list = r#"static THING_CREATE_IGNORED: &[&str] = &["id", "made"];"#;
    assert_contains(&code, list);
}

#[test]
fn headers_of_a_response_are_typed_except_for_common_ones() {
    let headers = "description: The new thing.\n          headers:\n            Location: { required: true, schema: { type: string } }\n            X-Request-Id: { schema: { type: string } }";
    let code = generated(
        &edited_sample("description: The new thing.", headers),
        "server.rs",
    );
    assert_contains(
        &code,
        "Status201(types::Thing, ThingsCreateStatus201Headers)",
    );
    assert_contains(
        &code,
        "pub struct ThingsCreateStatus201Headers { /// The header `Location`. pub location: ::std::string::String, }",
    );
}

#[test]
fn fields_that_only_forms_have_are_a_type_of_their_own() {
    let text = edited_sample(
        "sheet: { type: string, format: binary }",
        "sheet: { type: string, format: binary }\n        colour: { type: string }",
    );
    let types = generated(&text, "types.rs");
    assert_contains(&types, "pub struct ThingUploadOnly {");
    let code = generated(&text, "server.rs");
    assert_contains(&code, "pub form: Option<types::ThingUploadOnly>");
    assert_contains(
        &code,
        "fields: THING_CREATE_FIELDS, form: THING_UPLOAD_ONLY_FIELDS",
    );
    assert_contains(
        &code,
        "form: body.form(&[Media::Json, Media::Form, Media::Multipart], THING_UPLOAD_ONLY_FIELDS)?",
    );
}

#[test]
fn scopes_of_a_parameter_are_data_of_the_operation() {
    let text = edited_sample(
        "{ name: strict, in: query,",
        "{ name: strict, in: query, x-required-scopes: ['thing:write'],",
    );
    let code = generated(&text, "server.rs");
    assert_contains(
        &code,
        r#"parameter_scopes: &[("strict", &["thing:write"])]"#,
    );
}

#[test]
fn open_list_is_an_enum_with_a_variant_for_other_texts() {
    let closed = "kind: { type: string, nullable: true, enum: [plain, fancy, '', null] }";
    let open = "kind: { nullable: true, anyOf: [{ type: string, enum: [plain, other] }, { type: string, maxLength: 9 }] }";
    let text = edited_sample(closed, open);
    let types = generated(&text, "types.rs");
    let variants = "pub enum ThingCreateKind { /// The value `plain`. #[serde(rename = \"plain\")] Plain, \
        /// The value `other`. #[serde(rename = \"other\")] Other, \
        /// A value that this version of the document does not list. #[serde(untagged)] OtherValue(::std::string::String), }";
    assert_contains(&types, variants);
    assert_contains(&types, "pub kind: ::std::option::Option<ThingCreateKind>");
    let rule = "name: \"kind\", required: false, nullable: true, \
        kind: Kind::Text { trim: true, min_length: 0, max_length: Some(9) }";
    assert_contains(&generated(&text, "server.rs"), rule);
    #[cfg(feature = "client")]
    {
        let code = generated(&text, "client.rs");
        assert_contains(&code, variants);
        assert_contains(&code, "pub kind: ::std::option::Option<ThingCreateKind>");
    }
}

#[test]
#[cfg(feature = "client")]
fn enum_is_open_in_responses_and_closed_in_requests() {
    let code = client();
    let fancy = "#[serde(rename = \"fancy\")] Fancy,";
    let other = "/// A value that this version of the document does not list. \
        #[serde(untagged)] Other(::std::string::String), }";
    assert_contains(&code, &format!("{fancy} {other} impl ThingKind"));
    assert_contains(
        &code,
        &format!("{fancy} }} impl ::std::fmt::Display for ThingCreateKind"),
    );
    // It selects an alternative of `Node`.
    let leaf = "#[serde(rename = \"leaf\")] Leaf, } impl ::std::fmt::Display for LeafType";
    assert_contains(&code, leaf);
    assert!(!code.contains("x-open"));
}

#[test]
#[cfg(feature = "client")]
fn only_types_of_requests_have_builders() {
    let code = client();
    for (name, is_built) in [
        ("ThingCreate", true),
        ("ThingFilters", true),
        ("Maker", true),
        ("Thing", false),
        ("ThingPage", false),
        ("Error", false),
    ] {
        for piece in [
            format!("-> builder::{name} {{"),
            format!("From<super::{name}> for {name} {{"),
        ] {
            assert_eq!(code.contains(&piece), is_built, "{piece}");
        }
    }
}

#[test]
#[cfg(feature = "client")]
fn client_has_its_own_type_for_a_schema() {
    let mut config = project();
    config.client_types = vec![("Maker".to_owned(), "crate::Maker".to_owned())];
    let files = generate_with(SAMPLE, &config).unwrap();
    let code = files.text("client.rs").unwrap();
    assert_contains(code, "pub maker: ::std::option::Option<crate::Maker>");
    config.client_types[0].0.push('s');
    let finding = "openapi.yaml: the client cannot be generated: the document has no schema `Makers`, which has a type of its own";
    assert_eq!(findings_with(SAMPLE, &config), [finding]);
}

#[test]
fn field_that_is_always_sent_is_null_instead_of_absent() {
    let text = edited_sample(
        "anything: { nullable: true }",
        "note: { type: string, nullable: true, x-always-sent: true }",
    );
    assert_contains(
        &generated(&text, "types.rs"),
        "#[serde(deserialize_with = \"::std::option::Option::deserialize\")] \
         pub note: ::std::option::Option<::std::string::String>",
    );
    assert_finding(
        "made: { type: string, format: date-time, nullable: true }",
        "made: { type: string, x-always-sent: true }",
        "components.schemas.Thing.properties.made: `x-always-sent` has no effect on a required property",
    );
    assert_finding(
        "weight: { type: number }",
        "weight: { type: number, x-always-sent: true }",
        "components.schemas.Maker.properties.weight: `x-always-sent` is only supported in responses",
    );
}

#[test]
fn each_tag_has_a_prelude() {
    assert_contains(
        &server(),
        "pub mod intake { pub use super::super::{IntakeApi, IntakeSendRequest, IntakeSendResponse}; }",
    );
}

#[test]
fn document_without_parameters_has_a_client() {
    let text = SAMPLE.replace(
        "- $ref: '#/components/parameters/ProjectId'",
        "- { name: project_id, in: path, required: true, schema: { type: string } }",
    );
    let text = text.replace("  parameters:\n    ProjectId: { name: project_id, in: path, required: true, schema: { type: string } }\n", "");
    assert!(!text.contains("#/components/parameters"));
    assert_eq!(findings(&text), Vec::<String>::new());
}

#[test]
fn texts_of_the_document_have_no_characters_that_a_comment_must_not_have() {
    let text = edited_sample("summary: ", "summary: \"A\\u202e\\u2066\\rB\" #");
    let code = generated(&text, "server.rs");
    assert_contains(&code, "/// AB");
    assert!(!code.contains(['\u{202e}', '\u{2066}', '\r']));
}
