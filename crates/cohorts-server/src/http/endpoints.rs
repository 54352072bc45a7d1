//! The endpoints outside of the API contract: probes, metrics, and the script of browser SDKs.

use actix_web::{HttpResponse, web};
use utoipa::OpenApi;

use super::readiness::Readiness;
use crate::error::Error;
use crate::handlers::{Service, config_script};
use crate::index::segments::segment_bytes_read;
use crate::metrics::IndexFigures;

/// The endpoints outside of the API contract.
#[derive(OpenApi)]
#[openapi(
    paths(livez, readyz, metrics, capture_config_script, super::swagger::filters),
    info(
        title = "Cohorts: operation of the service",
        description = "Endpoints for operators and browser SDKs. None of them needs a key."
    )
)]
pub struct ServiceEndpoints;

/// Reports that the process runs.
#[utoipa::path(get, path = "/_livez", tag = "operation", responses((status = 200, description = "The process runs.", body = String)))]
pub async fn livez() -> HttpResponse {
    HttpResponse::Ok().content_type("text/plain").body("ok\n")
}

/// Reports whether the database is available. The second line contains the number of cohorts that wait for their
/// calculation, and how long the first of them has waited, in seconds; or that a lock delays this count. With Citus, the
/// third line contains how many workers respond.
#[utoipa::path(
    get, path = "/_readyz", tag = "operation",
    responses(
        (status = 200, description = "The service is ready.", body = String),
        (status = 503, description = "The service is not ready. The body contains the reason.", body = String),
    )
)]
pub async fn readyz(readiness: web::Data<Readiness>) -> HttpResponse {
    match readiness.check().await {
        Ok(line) => HttpResponse::Ok()
            .content_type("text/plain")
            .body(format!("ok\n{line}\n")),
        Err(reason) => HttpResponse::ServiceUnavailable()
            .content_type("text/plain")
            .body(format!("{reason}\n")),
    }
}

/// The metrics of the service in the text format of Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "operation", responses((status = 200, description = "The metrics.", body = String)))]
pub async fn metrics(service: web::Data<Service>) -> Result<HttpResponse, Error> {
    let index = &service.store.caches.index;
    let figures = IndexFigures {
        bytes: index.bytes(),
        segment_bytes_read: segment_bytes_read(),
        builds: index.builds(),
    };
    let connections = |lane| service.store.connections(lane);
    let text = service.metrics.text(connections, figures)?;
    Ok(HttpResponse::Ok()
        .content_type("text/plain; version=0.0.4")
        .body(text))
}

/// The configuration of browser SDKs, as the script that they load first.
#[utoipa::path(
    get, path = "/array/{token}/config.js", tag = "capture",
    params(("token" = String, Path, description = "The token of a project. It is not checked.")),
    responses(
        (status = 200, description = "The script, which is the same for every project.", body = String),
        (status = 404, description = "The text is not a token.", body = String),
    )
)]
pub async fn capture_config_script(token: web::Path<String>) -> HttpResponse {
    match config_script(&token) {
        Some(script) => HttpResponse::Ok()
            .content_type("application/javascript")
            .body(script),
        None => HttpResponse::NotFound()
            .content_type("text/plain")
            .body("the text is not a token\n"),
    }
}
