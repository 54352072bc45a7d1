//! What is generated.

use super::*;

fn server() -> String {
    server::generate(&Contract::read(SAMPLE).unwrap()).unwrap()
}

fn types() -> String {
    types::generate(&Contract::read(SAMPLE).unwrap()).unwrap()
}

fn client() -> String {
    client::generate(&Contract::read(SAMPLE).unwrap()).unwrap()
}

/// Demands a piece of generated code; how it is broken into lines does not count.
#[track_caller]
fn holds(code: &str, piece: &str) {
    let flat = |text: &str| {
        let text: String = text.split_whitespace().collect();
        let ends = [",)", ",>", ",}"].into_iter();
        ends.fold(text, |text, end| text.replace(end, &end[1..]))
    };
    assert!(flat(code).contains(&flat(piece)), "{piece}");
}

#[test]
fn a_fixed_path_is_routed_before_one_with_a_parameter() {
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
    let code = server::generate(&Contract::read(&text).unwrap()).unwrap();
    let place = |path: &str| code.find(&format!("\"{path}\",\n")).unwrap();
    let routes = code.find("pub fn configure").unwrap();
    let code_after = &code[routes..];
    assert!(code_after.find("things/all").unwrap() < code_after.find("things/{id}").unwrap());
    assert!(place("/api/projects/{project_id}/things/all/") < routes);
}

#[test]
fn an_operation_without_security_has_no_caller() {
    holds(
        &server(),
        "fn intake_send(&self, request: IntakeSendRequest,) -> impl Future",
    );
    holds(
        &server(),
        "fn things_create(&self, caller: Self::Caller, request: ThingsCreateRequest,) -> impl Future",
    );
}

#[test]
fn an_answer_is_a_variant_per_status_and_content_type() {
    holds(
        &server(),
        "pub enum ThingsListResponse { /// One page. Status200(types::ThingPage), \
         /// One page. Status200Csv(HttpResponse), /// One page. Status200Ndjson(HttpResponse), }",
    );
    holds(&server(), "Status405, }");
    // An error that may come without its body has a variant for that alone.
    holds(&server(), "/// Perhaps without a body. Status409, }");
}

#[test]
fn a_default_or_leniency_spares_the_option() {
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
        holds(&server(), field);
    }
    holds(&server(), r#"basic: query.switch("basic", &["y", "yes"])"#);
    holds(
        &server(),
        r#"limit: query.integer("limit", Some(1), None).unwrap_or_default().unwrap_or(100)"#,
    );
    holds(
        &server(),
        r#"offset: query.integer("offset", Some(0), None)?.unwrap_or(0)"#,
    );
}

#[test]
fn accept_is_judged_where_the_contract_has_a_406() {
    let call = r#"accepts(&request, &["application/json", "text/csv", "application/x-ndjson"])"#;
    holds(&server(), call);
    assert_eq!(server().matches("accepts(&request").count(), 1);
}

#[test]
fn what_is_always_present_is_null_rather_than_left_out() {
    let code = types();
    let thing = &code[code.find("pub struct Thing {").unwrap()..];
    let thing = &thing[..thing.find("\n}").unwrap()];
    holds(
        thing,
        "deserialize_with = \"::std::option::Option::deserialize\")] pub name: ::std::option::Option<::std::string::String>,",
    );
    assert_eq!(thing.matches("skip_serializing_if").count(), 1, "{thing}");
}

#[test]
fn fields_keep_the_order_of_the_document() {
    let code = types();
    let places = [
        "pub id:",
        "pub name:",
        "pub filters:",
        "pub kind:",
        "pub made:",
    ]
    .map(|field| {
        code.find(&format!("    {field}")).map(|_| {
            let thing = &code[code.find("pub struct Thing {").unwrap()..];
            thing.find(field).unwrap()
        })
    });
    assert!(places.is_sorted(), "{code}");
}

#[test]
fn a_patch_tells_null_from_absent_in_every_field() {
    for field in [
        "pub name: crate::Patch<::std::string::String>",
        "pub filters: crate::Patch<crate::RawJson>",
        "pub kind: crate::Patch<PatchedThingKind>",
        "pub ids: crate::Patch<::std::vec::Vec<::std::string::String>>",
        "pub amount: crate::Patch<i64>",
    ] {
        holds(&types(), field);
    }
}

#[test]
fn raw_json_has_no_type_of_its_own_on_the_server() {
    let code = types();
    holds(&code, "pub filters: crate::RawJson,");
    for name in ["ThingFilters", "Node", "Leaf"] {
        assert!(!code.contains(&format!("pub struct {name}")), "{name}");
    }
    holds(&client(), "pub filters: ThingFilters,");
}

#[test]
fn the_client_can_send_null() {
    holds(
        &client(),
        "pub kind: ::std::option::Option<crate::Nullable<crate::types::PatchedThingKind>>",
    );
    holds(
        &client(),
        "pub filters: ::std::option::Option<crate::Nullable<crate::types::ThingFilters>>",
    );
}

#[test]
fn the_client_has_a_call_per_answer_that_is_not_json() {
    for name in ["things_list_csv", "things_list_ndjson"] {
        holds(
            &client(),
            &format!("pub async fn {name}(&self, project_id: &str, query: &[(&str, &str)],)"),
        );
    }
}

#[test]
fn the_client_streams_lists_with_limit_and_offset() {
    holds(
        &client(),
        "pub fn stream(self,) -> impl futures::Stream<Item = Result<types::Thing, Error<types::Error>>,> + 'a",
    );
}

#[test]
fn a_choice_stays_open_in_the_client() {
    holds(
        &client(),
        "Other(::serde_json::Map<::std::string::String, ::serde_json::Value>)",
    );
}

#[test]
fn files_of_a_multipart_body_are_received_after_the_key_is_known() {
    holds(
        &server(),
        "let caller = authorize(api, &request, &OPERATIONS[1], &body).await?; \
         let body = body.receive(&request, &[\"sheet\"]).await.map_err(reject)?;",
    );
    holds(&server(), "pub uploads: Vec<Upload>,");
    holds(&client(), "pub async fn things_create_multipart(");
}
