//! The contract as a document, and Swagger UI to read it and try it out. The page's files are compiled in.

use std::sync::LazyLock;

use actix_web::{HttpResponse, web};
use cohorts_api::OPENAPI_YAML;
use cohorts_engine::Filter;
use serde::Deserialize;
use utoipa::OpenApi;
use utoipa_swagger_ui::{Config, SwaggerUi, Url};

use super::endpoints::OwnEndpoints;

const CONTRACT: &str = "/api/schema/";
const OWN: &str = "/api/schema/service/";
const FILTERS: &str = "/api/schema/filters/";

/// The contract as JSON. The document is read by a test, so it is never unreadable.
static OPENAPI_JSON: LazyLock<String> = LazyLock::new(|| {
    let document: serde_json::Value =
        serde_yaml_ng::from_str(OPENAPI_YAML).expect("the contract is YAML that JSON can express");
    document.to_string()
});
static FILTERS_JSON: LazyLock<String> = LazyLock::new(|| Filter::schema().to_string());
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
        .service(web::resource([FILTERS, "/api/schema/filters"]).get(filters))
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

/// The filters of cohorts as a JSON Schema, for editors. It accepts what may be sent, save that dates must exist and
/// that depth, number and length have bounds.
#[utoipa::path(
    get, path = "/api/schema/filters/", tag = "documents",
    responses((status = 200, description = "A JSON Schema, 2020-12.", content_type = "application/json", body = serde_json::Value))
)]
pub async fn filters() -> HttpResponse {
    json(&FILTERS_JSON)
}

async fn own() -> HttpResponse {
    json(&OWN_JSON)
}

fn json(text: &'static str) -> HttpResponse {
    HttpResponse::Ok()
        .content_type("application/json")
        .body(text)
}
