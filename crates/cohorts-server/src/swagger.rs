//! The contract as a document, and Swagger UI to read it and try it out. The page's files are compiled in.

use std::sync::LazyLock;

use actix_web::{HttpResponse, web};
use cohorts_api::OPENAPI_YAML;
use serde::Deserialize;
use utoipa::OpenApi;
use utoipa_swagger_ui::{Config, SwaggerUi, Url};

use crate::http::OwnEndpoints;

const CONTRACT: &str = "/api/schema/";
const OWN: &str = "/api/schema/service/";

/// The contract as JSON. The document is read by a test, so it is never unreadable.
static OPENAPI_JSON: LazyLock<String> = LazyLock::new(|| {
    let document: serde_json::Value =
        serde_yaml_ng::from_str(OPENAPI_YAML).expect("the contract is YAML that JSON can express");
    document.to_string()
});
static OWN_JSON: LazyLock<String> = LazyLock::new(|| {
    let document = OwnEndpoints::openapi().to_json();
    document.expect("a derived document is JSON")
});

pub fn configure(config: &mut web::ServiceConfig) {
    let documents = [
        Url::with_primary("Cohorts", CONTRACT, true),
        Url::new("The service's own endpoints", OWN),
    ];
    let page = Config::new(documents);
    let to_page = || async {
        HttpResponse::PermanentRedirect()
            .insert_header(("Location", "/docs/"))
            .finish()
    };
    config
        .service(web::resource([CONTRACT, "/api/schema"]).get(contract))
        .service(web::resource([OWN, "/api/schema/service"]).get(own))
        .service(web::resource("/docs").get(to_page))
        .service(SwaggerUi::new("/docs/{_:.*}").config(page));
}

#[derive(Deserialize)]
struct Format {
    format: Option<String>,
}

async fn contract(query: web::Query<Format>) -> HttpResponse {
    match query.format.as_deref() {
        Some("yaml") => HttpResponse::Ok()
            .content_type("application/yaml")
            .body(OPENAPI_YAML),
        _ => json(&OPENAPI_JSON),
    }
}

async fn own() -> HttpResponse {
    json(&OWN_JSON)
}

fn json(text: &'static str) -> HttpResponse {
    HttpResponse::Ok()
        .content_type("application/json")
        .body(text)
}
