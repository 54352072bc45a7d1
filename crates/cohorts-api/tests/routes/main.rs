//! The generated routes, in front of a service that stores nothing.

use actix_web::body::MessageBody;
use actix_web::http::{Method, header};
use actix_web::test::{TestRequest, call_service, init_service};
use actix_web::{App, HttpResponse, web};
use cohorts_api::{Limits, configure, unknown_path};

mod echo;

use echo::Echo;

const COHORTS: &str = "/api/projects/1/cohorts/";

struct Answer {
    status: u16,
    allow: Option<String>,
    body: String,
}

async fn send(request: TestRequest) -> Answer {
    let limits = Limits {
        fields: 200,
        raw: 200,
        upload: 200,
    };
    let app = init_service(
        App::new()
            .app_data(web::Data::new(Echo))
            .app_data(web::Data::new(limits))
            .configure(configure::<Echo>)
            .configure(unknown_path::<Echo>),
    )
    .await;
    let response: HttpResponse<_> = call_service(&app, request.to_request()).await.into();
    let allow = response.headers().get(header::ALLOW);
    let allow = allow.map(|value| value.to_str().expect("a text").to_owned());
    let status = response.status().as_u16();
    let bytes = response.into_body().try_into_bytes().expect("a whole body");
    Answer {
        status,
        allow,
        body: String::from_utf8(bytes.to_vec()).expect("a text"),
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
async fn both_slash_forms_reach_the_operation() {
    for path in ["/api/projects/1/cohorts/7/", "/api/projects/1/cohorts/7"] {
        let answer = send(with_key(Method::GET, path)).await;
        assert_eq!(answer.status, 200);
        assert!(
            answer.body.starts_with("cohorts_retrieve"),
            "{}",
            answer.body
        );
        assert!(answer.body.contains("id: 7"), "{}", answer.body);
    }
}

#[actix_web::test]
async fn a_fixed_part_of_a_path_wins_over_a_parameter() {
    let answer = send(with_key(Method::GET, "/api/projects/1/cohorts/activity/")).await;
    assert!(
        answer.body.starts_with("cohorts_all_activity"),
        "{}",
        answer.body
    );
}

#[actix_web::test]
async fn head_is_answered_where_get_is() {
    assert_eq!(send(with_key(Method::HEAD, COHORTS)).await.status, 200);
}

#[actix_web::test]
async fn without_a_key_nothing_else_is_judged() {
    let broken = TestRequest::post()
        .uri("/api/projects/1/cohorts/")
        .insert_header((header::CONTENT_TYPE, "application/xml"))
        .set_payload("{");
    assert_eq!(send(broken).await.status, 401);
    let bad_id = TestRequest::with_uri("/api/projects/1/cohorts/abc/");
    assert_eq!(send(bad_id).await.status, 401);
}

#[actix_web::test]
async fn authorization_is_asked_for_the_operation_and_its_scopes() {
    let answer = send(with_key(
        Method::GET,
        "/api/projects/99/cohorts/abc/persons/",
    ))
    .await;
    assert_eq!(
        answer.body,
        r#"cohorts_persons ["cohort:read", "person:read"]"#
    );
}

#[actix_web::test]
async fn a_key_is_looked_for_in_header_body_and_query() {
    let key = r#"{"personal_api_key": "phx_good"}"#;
    let sent = |request: TestRequest| async move { send(request).await.body };
    let bare = || TestRequest::post().uri(COHORTS);
    let body = bare()
        .insert_header((header::CONTENT_TYPE, "application/json"))
        .set_payload(key);
    assert!(sent(body).await.starts_with("cohorts_create by Body"));
    let form = TestRequest::get()
        .uri(COHORTS)
        .insert_header((header::CONTENT_TYPE, "application/x-www-form-urlencoded"))
        .set_payload("personal_api_key=phx_good");
    assert!(sent(form).await.starts_with("cohorts_list by Body"));
    let query = TestRequest::with_uri("/api/projects/1/cohorts/?personal_api_key=phx_good");
    assert!(sent(query).await.starts_with("cohorts_list by Query"));
}

#[actix_web::test]
async fn the_first_key_found_is_the_only_one_tried() {
    let request = TestRequest::with_uri("/api/projects/1/cohorts/?personal_api_key=phx_good")
        .insert_header((header::AUTHORIZATION, "Bearer phx_bad"));
    assert_eq!(send(request).await.status, 401);
}

#[actix_web::test]
async fn the_keyword_of_the_header_is_written_just_so() {
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
async fn an_id_that_is_no_number_is_not_found() {
    let answer = send(with_key(Method::GET, "/api/projects/1/cohorts/abc/")).await;
    assert_eq!(answer.body, "Request(Path)");
}

#[actix_web::test]
async fn an_unknown_path_is_told_from_an_unknown_id() {
    let answer = send(with_key(Method::GET, "/api/nothing/")).await;
    assert_eq!(answer.body, "Request(UnknownPath)");
}

#[actix_web::test]
async fn a_wrong_method_is_refused_with_the_right_ones() {
    let answer = send(with_key(Method::PUT, COHORTS)).await;
    assert_eq!(answer.status, 405);
    assert!(answer.body.contains(r#"method: "PUT""#), "{}", answer.body);
    assert_eq!(answer.allow.as_deref(), Some("GET, POST, HEAD, OPTIONS"));
}

#[actix_web::test]
async fn every_answer_says_which_methods_there_are() {
    for (request, status) in [
        (with_key(Method::GET, COHORTS), 200),
        (TestRequest::with_uri(COHORTS), 401),
        (with_key(Method::OPTIONS, COHORTS), 200),
        (TestRequest::with_uri(COHORTS).method(Method::OPTIONS), 401),
        (TestRequest::with_uri(COHORTS).method(Method::PUT), 401),
    ] {
        let answer = send(request).await;
        assert_eq!(answer.status, status);
        assert_eq!(answer.allow.as_deref(), Some("GET, POST, HEAD, OPTIONS"));
    }
}

#[actix_web::test]
async fn a_documented_405_is_an_answer_without_a_body() {
    let answer = send(with_key(Method::DELETE, "/api/projects/1/cohorts/7/")).await;
    assert_eq!((answer.status, answer.body.as_str()), (405, ""));
}

#[actix_web::test]
async fn a_query_parameter_has_its_default_and_may_be_lenient() {
    for query in ["", "?limit=abc&offset=", "?limit=1.5"] {
        let answer = send(with_key(Method::GET, &format!("{COHORTS}{query}"))).await;
        assert!(
            answer.body.contains("limit: 100, offset: 0"),
            "{}",
            answer.body
        );
    }
    let answer = send(with_key(Method::GET, &format!("{COHORTS}?limit=5&limit=7"))).await;
    assert!(answer.body.contains("limit: 7"), "{}", answer.body);
}

#[actix_web::test]
async fn a_strict_query_parameter_is_named_when_it_cannot_be_read() {
    let path = "/api/projects/1/cohorts/7/persons/?limit=abc";
    let answer = send(with_key(Method::GET, path)).await;
    assert_eq!(answer.status, 400);
    assert!(answer.body.contains(r#"attr: "limit""#), "{}", answer.body);
    assert!(
        answer.body.contains("A valid integer is required."),
        "{}",
        answer.body
    );
    let path = "/api/projects/1/cohorts/7/persons/?offset=-1";
    let answer = send(with_key(Method::GET, path)).await;
    assert!(
        answer.body.contains("greater than or equal to 0."),
        "{}",
        answer.body
    );
}

#[actix_web::test]
async fn a_body_is_read_by_its_rules() {
    let body = r#"{"name": " a ", "is_static": "yes", "groups": [ 1.0 ], "x": 1}"#;
    let answer = send(json(Method::POST, COHORTS, body)).await;
    for part in [r#"name: Some("a")"#, "is_static: Some(true)", "[ 1.0 ]"] {
        assert!(
            answer.body.contains(part),
            "{part} is not in {}",
            answer.body
        );
    }
}

#[actix_web::test]
async fn null_and_absent_differ_in_a_partial_update() {
    let answer = send(json(
        Method::PATCH,
        "/api/projects/1/cohorts/7/",
        r#"{"name": null}"#,
    ))
    .await;
    assert!(
        answer.body.contains("name: Null, description: Absent"),
        "{}",
        answer.body
    );
}

#[actix_web::test]
async fn an_absent_body_has_no_fields() {
    let answer = send(with_key(Method::POST, COHORTS)).await;
    assert_eq!(answer.status, 200);
    assert!(
        answer.body.contains("CohortCreate { name: None"),
        "{}",
        answer.body
    );
}

#[actix_web::test]
async fn a_broken_rule_names_the_field() {
    let answer = send(json(Method::POST, COHORTS, r#"{"deleted": "banana"}"#)).await;
    assert_eq!(answer.status, 400);
    assert!(
        answer
            .body
            .contains(r#"attr: Some("deleted"), code: "invalid_input""#),
        "{}",
        answer.body
    );
}

#[actix_web::test]
async fn what_is_not_json_through_and_through_is_malformed() {
    let deep = format!("{{\"filters\": {}", "[".repeat(150));
    for body in [
        "{",
        r#"{"filters": 1e999}"#,
        r#"{"filters": "\ud800"}"#,
        &deep,
    ] {
        let answer = send(json(Method::POST, COHORTS, body)).await;
        assert_eq!(answer.status, 400, "{body}");
        assert!(
            answer
                .body
                .contains("Malformed { detail: \"JSON parse error - "),
            "{}",
            answer.body
        );
    }
}

#[actix_web::test]
async fn another_content_type_is_refused_with_its_name() {
    let request = with_key(Method::POST, COHORTS)
        .insert_header((header::CONTENT_TYPE, "application/xml"))
        .set_payload("<a/>");
    let answer = send(request).await;
    assert_eq!(answer.status, 415);
    assert!(answer.body.contains("application/xml"), "{}", answer.body);
}

#[actix_web::test]
async fn a_body_over_the_limit_is_not_read() {
    let body = format!(r#"{{"name": "{}"}}"#, "a".repeat(200));
    let answer = send(json(Method::POST, COHORTS, &body)).await;
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (413, "Request(TooLarge { limit: 200 })")
    );
}

#[actix_web::test]
async fn a_raw_body_comes_through_with_what_it_is_said_to_be() {
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
