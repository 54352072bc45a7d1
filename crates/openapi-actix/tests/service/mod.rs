//! The example of the README is a service that works.

use actix_web::test::{TestRequest, call_and_read_body, call_service, init_service};
use serde_json::{Value, json};

use crate::generated;

const README: &str = include_str!("../../README.md");
const SERVICE: &str = include_str!("example.rs");

mod example;
mod reports;

#[test]
fn readme_contains_the_service() {
    assert!(SERVICE.lines().count() < 60);
    assert!(README.contains(SERVICE));
}

#[actix_web::test]
async fn service_answers_by_the_document() {
    let store = actix_web::web::Data::new(example::Store(std::sync::Mutex::default()));
    let pets =
        actix_web::web::scope("/v1").configure(generated::petstore::configure::<example::Store>);
    let app = init_service(actix_web::App::new().app_data(store).service(pets)).await;
    let post = |body: Value| {
        TestRequest::post()
            .uri("/v1/pets")
            .set_json(body)
            .to_request()
    };
    let created = call_service(&app, post(json!({ "id": 1, "name": "Rex" }))).await;
    assert_eq!(created.status(), 201);
    for (body, status, detail) in [
        (
            json!({ "name": "Rex" }),
            400,
            "The body is invalid at `id`: it is required",
        ),
        (
            json!({ "id": 1.5, "name": "Rex" }),
            400,
            "The body is invalid at `id`: it must be an integer of 64 bits",
        ),
    ] {
        let response = call_service(&app, post(body)).await;
        assert_eq!(response.status(), status);
        let body: Value = actix_web::test::read_body_json(response).await;
        assert_eq!(body["detail"], detail);
    }
    let get = |uri: &str| TestRequest::get().uri(uri).to_request();
    let pet: Value =
        serde_json::from_slice(&call_and_read_body(&app, get("/v1/pets/1")).await).unwrap();
    assert_eq!(pet, json!({ "id": 1, "name": "Rex" }));
    let missing = call_service(&app, get("/v1/pets/2")).await;
    assert_eq!(missing.status(), 404);
    let limit = call_service(&app, get("/v1/pets?limit=101")).await;
    assert_eq!(limit.status(), 400);
    let wrong = TestRequest::delete().uri("/v1/pets").to_request();
    let wrong = call_service(&app, wrong).await;
    assert_eq!(
        (
            wrong.status().as_u16(),
            wrong.headers().get("allow").unwrap().to_str().unwrap()
        ),
        (405, "GET, POST, HEAD, OPTIONS")
    );
}
