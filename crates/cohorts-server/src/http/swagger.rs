//! The API contract as a document, and Swagger UI to read and try it. The files of the page are part of the program.

use std::sync::LazyLock;

use actix_web::{HttpResponse, web};
use cohorts_api::OPENAPI_YAML;
use cohorts_engine::Filter;
use serde::Deserialize;
use utoipa::OpenApi;
use utoipa_swagger_ui::{Config, SwaggerUi, Url};

use super::endpoints::ServiceEndpoints;

const CONTRACT: &str = "/api/schema/";
const SERVICE: &str = "/api/schema/service/";
const FILTERS: &str = "/api/schema/filters/";

/// The contract as JSON. A test parses the document, so it is always valid.
static OPENAPI_JSON: LazyLock<String> = LazyLock::new(|| {
    let document: serde_json::Value =
        serde_yaml_ng::from_str(OPENAPI_YAML).expect("the contract is YAML that JSON can express");
    document.to_string()
});
static FILTERS_JSON: LazyLock<String> = LazyLock::new(|| Filter::schema().to_string());
static SERVICE_JSON: LazyLock<String> = LazyLock::new(|| {
    let document = ServiceEndpoints::openapi().to_json();
    document.expect("a derived document is JSON")
});

pub fn configure(config: &mut web::ServiceConfig) {
    let documents = [
        Url::with_primary("Cohorts", CONTRACT, true),
        Url::new("Operation of the service", SERVICE),
    ];
    let page = Config::new(documents);
    let redirect = || async {
        HttpResponse::PermanentRedirect()
            .insert_header(("Location", "/docs/"))
            .finish()
    };
    config
        .service(web::resource([CONTRACT, "/api/schema"]).get(contract))
        .service(web::resource([SERVICE, "/api/schema/service"]).get(service))
        .service(web::resource([FILTERS, "/api/schema/filters"]).get(filters))
        .service(web::resource("/docs").get(redirect))
        .service(SwaggerUi::new("/docs/{_:.*}").config(page));
}

#[derive(Deserialize)]
struct ContractParameters {
    format: Option<String>,
}

async fn contract(query: web::Query<ContractParameters>) -> HttpResponse {
    match query.format.as_deref() {
        Some("yaml") => HttpResponse::Ok()
            .content_type("application/yaml")
            .body(OPENAPI_YAML),
        _ => json(&OPENAPI_JSON),
    }
}

/// The JSON Schema of cohort filters, for editors. It does not express that dates must exist, and that depth, number of
/// criteria and length of texts are limited.
#[utoipa::path(
    get, path = "/api/schema/filters/", tag = "documents",
    responses((status = 200, description = "A JSON Schema (2020-12).", content_type = "application/json", body = serde_json::Value))
)]
pub async fn filters() -> HttpResponse {
    json(&FILTERS_JSON)
}

async fn service() -> HttpResponse {
    json(&SERVICE_JSON)
}

fn json(text: &'static str) -> HttpResponse {
    HttpResponse::Ok()
        .content_type("application/json")
        .body(text)
}
