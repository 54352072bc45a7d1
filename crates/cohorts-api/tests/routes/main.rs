//! Tests of the generated routes, with a service that stores nothing.

use actix_web::body::MessageBody;
use actix_web::dev::Payload;
use actix_web::http::{Method, header};
use actix_web::test::{TestRequest, call_service, init_service};
use actix_web::{App, HttpResponse, web};
use cohorts_api::{Limits, configure, unknown_path};

mod bodies;
mod echo;

use echo::Echo;

const COHORTS: &str = "/api/projects/1/cohorts/";

struct Reply {
    status: u16,
    allow: Option<String>,
    body: String,
}

async fn send(request: TestRequest) -> Reply {
    send_to(Echo::default(), request, None).await
}

async fn send_to(echo: Echo, request: TestRequest, payload: Option<Payload>) -> Reply {
    let mut request = request.to_request();
    if let Some(payload) = payload {
        *request.payload() = payload;
    }
    let limits = Limits {
        fields: echo.fields.max(200),
        raw: 200,
        upload: 200,
        without_key: 100,
        repeatable_upload: 150,
    };
    let app = init_service(
        App::new()
            .app_data(web::Data::new(echo))
            .app_data(web::Data::new(limits))
            .configure(configure::<Echo>)
            .configure(unknown_path::<Echo>),
    )
    .await;
    let response: HttpResponse<_> = call_service(&app, request).await.into();
    let allow = response.headers().get(header::ALLOW);
    let allow = allow.map(|value| value.to_str().expect("text").to_owned());
    let status = response.status().as_u16();
    let bytes = response
        .into_body()
        .try_into_bytes()
        .expect("a complete body");
    Reply {
        status,
        allow,
        body: String::from_utf8(bytes.to_vec()).expect("text"),
    }
}

fn with_key(method: Method, path: &str) -> TestRequest {
    TestRequest::with_uri(path)
        .method(method)
        .insert_header((header::AUTHORIZATION, "Bearer phx_good"))
}

fn json(method: Method, path: &str, body: &str) -> TestRequest {
    with_key(method, path)
        .insert_header((header::CONTENT_TYPE, "application/json; charset=utf-8"))
        .set_payload(body.to_owned())
}

#[actix_web::test]
async fn trailing_slash_is_optional() {
    for path in ["/api/projects/1/cohorts/7/", "/api/projects/1/cohorts/7"] {
        let reply = send(with_key(Method::GET, path)).await;
        assert_eq!(reply.status, 200);
        assert!(reply.body.starts_with("cohorts_retrieve"), "{}", reply.body);
        assert!(reply.body.contains("id: 7"), "{}", reply.body);
    }
}

#[actix_web::test]
async fn fixed_path_segment_precedes_a_parameter() {
    let reply = send(with_key(Method::GET, "/api/projects/1/cohorts/activity/")).await;
    assert!(
        reply.body.starts_with("cohorts_all_activity_retrieve"),
        "{}",
        reply.body
    );
}

#[actix_web::test]
async fn head_is_routed_like_get() {
    assert_eq!(send(with_key(Method::HEAD, COHORTS)).await.status, 200);
}

#[actix_web::test]
async fn get_that_writes_has_no_head() {
    let path = "/api/projects/1/cohorts/7/duplicate_as_static_cohort/";
    assert_eq!(send(with_key(Method::GET, path)).await.status, 200);
    let reply = send(with_key(Method::HEAD, path)).await;
    assert_eq!(reply.status, 405);
    assert_eq!(reply.allow.as_deref(), Some("GET, OPTIONS"));
    assert_eq!(
        send(TestRequest::with_uri(path).method(Method::HEAD))
            .await
            .status,
        401
    );
}

#[actix_web::test]
async fn missing_key_is_reported_before_other_errors() {
    let broken = TestRequest::post()
        .uri("/api/projects/1/cohorts/")
        .insert_header((header::CONTENT_TYPE, "application/xml"))
        .set_payload("{");
    assert_eq!(send(broken).await.status, 401);
    let bad_id = TestRequest::with_uri("/api/projects/1/cohorts/abc/");
    assert_eq!(send(bad_id).await.status, 401);
}

#[actix_web::test]
async fn authorize_receives_the_operation_and_its_scopes() {
    let reply = send(with_key(
        Method::GET,
        "/api/projects/99/cohorts/abc/persons/",
    ))
    .await;
    assert_eq!(
        reply.body,
        r#"cohorts_persons_retrieve ["cohort:read", "person:read"]"#
    );
}

#[actix_web::test]
async fn key_is_read_from_body_and_query() {
    let key = r#"{"personal_api_key": "phx_good"}"#;
    let body_of = |request: TestRequest| async move { send(request).await.body };
    let bare = || TestRequest::post().uri(COHORTS);
    let body = bare()
        .insert_header((header::CONTENT_TYPE, "application/json"))
        .set_payload(key);
    assert!(body_of(body).await.starts_with("cohorts_create by Body"));
    let form = TestRequest::get()
        .uri(COHORTS)
        .insert_header((header::CONTENT_TYPE, "application/x-www-form-urlencoded"))
        .set_payload("personal_api_key=phx_good");
    assert!(body_of(form).await.starts_with("cohorts_list by Body"));
    let query = TestRequest::with_uri("/api/projects/1/cohorts/?personal_api_key=phx_good");
    assert!(body_of(query).await.starts_with("cohorts_list by Query"));
}

#[actix_web::test]
async fn only_the_first_key_is_tried() {
    let request = TestRequest::with_uri("/api/projects/1/cohorts/?personal_api_key=phx_good")
        .insert_header((header::AUTHORIZATION, "Bearer phx_bad"));
    assert_eq!(send(request).await.status, 401);
}

#[actix_web::test]
async fn bearer_keyword_is_case_sensitive() {
    for (value, status) in [
        ("Bearer   phx_good", 200),
        ("bearer phx_good", 401),
        ("Bearerphx_good", 401),
        ("Bearer ", 401),
    ] {
        let request = TestRequest::with_uri(COHORTS).insert_header((header::AUTHORIZATION, value));
        assert_eq!(send(request).await.status, status, "{value}");
    }
}

#[actix_web::test]
async fn id_that_is_not_a_number_is_a_path_rejection() {
    let reply = send(with_key(Method::GET, "/api/projects/1/cohorts/abc/")).await;
    assert_eq!(reply.body, "Request(Path)");
}

#[actix_web::test]
async fn unknown_path_is_distinguished_from_an_unknown_id() {
    let reply = send(with_key(Method::GET, "/api/nothing/")).await;
    assert_eq!(reply.body, "Request(UnknownPath)");
}

#[actix_web::test]
async fn unsupported_method_is_rejected_with_the_allowed_methods() {
    let reply = send(with_key(Method::PUT, COHORTS)).await;
    assert_eq!(reply.status, 405);
    assert!(reply.body.contains(r#"method: "PUT""#), "{}", reply.body);
    assert_eq!(reply.allow.as_deref(), Some("GET, POST, HEAD, OPTIONS"));
}

#[actix_web::test]
async fn every_response_has_the_allow_header() {
    for (request, status) in [
        (with_key(Method::GET, COHORTS), 200),
        (TestRequest::with_uri(COHORTS), 401),
        (with_key(Method::OPTIONS, COHORTS), 200),
        (TestRequest::with_uri(COHORTS).method(Method::OPTIONS), 401),
        (TestRequest::with_uri(COHORTS).method(Method::PUT), 401),
    ] {
        let reply = send(request).await;
        assert_eq!(reply.status, status);
        assert_eq!(reply.allow.as_deref(), Some("GET, POST, HEAD, OPTIONS"));
    }
}

#[actix_web::test]
async fn documented_405_has_no_body() {
    let reply = send(with_key(Method::DELETE, "/api/projects/1/cohorts/7/")).await;
    assert_eq!((reply.status, reply.body.as_str()), (405, ""));
}

#[actix_web::test]
async fn lenient_query_parameter_falls_back_to_its_default() {
    for query in ["", "?limit=abc&offset=", "?limit=1.5"] {
        let reply = send(with_key(Method::GET, &format!("{COHORTS}{query}"))).await;
        assert!(
            reply.body.contains("limit: 100, offset: 0"),
            "{}",
            reply.body
        );
    }
    let reply = send(with_key(Method::GET, &format!("{COHORTS}?limit=5&limit=7"))).await;
    assert!(reply.body.contains("limit: 7"), "{}", reply.body);
}

#[actix_web::test]
async fn invalid_query_parameter_is_reported_with_its_name() {
    let path = "/api/projects/1/cohorts/7/persons/?limit=abc";
    let reply = send(with_key(Method::GET, path)).await;
    assert_eq!(reply.status, 400);
    assert!(reply.body.contains(r#"attr: "limit""#), "{}", reply.body);
    assert!(
        reply.body.contains("A valid integer is required."),
        "{}",
        reply.body
    );
    let path = "/api/projects/1/cohorts/7/persons/?offset=-1";
    let reply = send(with_key(Method::GET, path)).await;
    assert!(
        reply.body.contains("greater than or equal to 0."),
        "{}",
        reply.body
    );
}

#[actix_web::test]
async fn body_fields_are_converted_by_rules() {
    let body = r#"{"name": " a ", "is_static": "yes", "groups": [ 1.0 ], "x": 1}"#;
    let reply = send(json(Method::POST, COHORTS, body)).await;
    for part in [r#"name: Some("a")"#, "is_static: Some(true)", "[ 1.0 ]"] {
        assert!(reply.body.contains(part), "{part} is not in {}", reply.body);
    }
}

#[actix_web::test]
async fn partial_update_distinguishes_null_from_absent() {
    let reply = send(json(
        Method::PATCH,
        "/api/projects/1/cohorts/7/",
        r#"{"name": null}"#,
    ))
    .await;
    assert!(
        reply.body.contains("name: Null, description: Absent"),
        "{}",
        reply.body
    );
}

#[actix_web::test]
async fn missing_body_has_no_fields() {
    let reply = send(with_key(Method::POST, COHORTS)).await;
    assert_eq!(reply.status, 201);
    assert!(
        reply.body.contains("CohortCreate { name: None"),
        "{}",
        reply.body
    );
}

#[actix_web::test]
async fn violation_is_reported_with_its_field() {
    let reply = send(json(Method::POST, COHORTS, r#"{"deleted": "banana"}"#)).await;
    assert_eq!(reply.status, 400);
    assert!(
        reply
            .body
            .contains(r#"attr: Some("deleted"), code: "invalid_input""#),
        "{}",
        reply.body
    );
}

#[actix_web::test]
async fn body_with_invalid_json_at_any_depth_is_malformed() {
    let deep = format!("{{\"filters\": {}", "[".repeat(150));
    for body in [
        "{",
        r#"{"filters": 1e999}"#,
        r#"{"filters": "\ud800"}"#,
        &deep,
    ] {
        let reply = send(json(Method::POST, COHORTS, body)).await;
        assert_eq!(reply.status, 400, "{body}");
        assert!(
            reply
                .body
                .contains("Malformed { detail: \"JSON parse error - "),
            "{}",
            reply.body
        );
    }
}

#[actix_web::test]
async fn unsupported_content_type_is_reported_with_its_name() {
    let request = with_key(Method::POST, COHORTS)
        .insert_header((header::CONTENT_TYPE, "application/xml"))
        .set_payload("<a/>");
    let reply = send(request).await;
    assert_eq!(reply.status, 415);
    assert!(reply.body.contains("application/xml"), "{}", reply.body);
}

#[actix_web::test]
async fn body_over_the_limit_is_rejected() {
    let body = format!(r#"{{"name": "{}"}}"#, "a".repeat(200));
    let reply = send(json(Method::POST, COHORTS, &body)).await;
    assert_eq!(
        (reply.status, reply.body.as_str()),
        (413, "Request(TooLarge { limit: 200 })")
    );
}

#[actix_web::test]
async fn raw_body_reaches_the_handler_with_its_encoding() {
    let request = || {
        TestRequest::post()
            .uri("/batch")
            .insert_header(("Content-Encoding", "gzip"))
    };
    assert_eq!(send(request()).await.body, r#"Some("gzip")"#);
    assert_eq!(
        send(request().set_payload("x")).await.body,
        r#"{"status":"Ok"}"#
    );
}

#[actix_web::test]
#[should_panic(expected = "cohorts_list answered 418, which the contract does not document")]
async fn undocumented_status_is_not_sent() {
    send(with_key(Method::GET, "/api/projects/98/cohorts/")).await;
}
