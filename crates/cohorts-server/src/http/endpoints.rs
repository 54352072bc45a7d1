//! The service's own endpoints, which are not part of the contract: probes, metrics, the script of browser SDKs.

use actix_web::{HttpResponse, web};
use chrono::Utc;
use cohorts_store::{Conn, queue};
use utoipa::OpenApi;

use crate::blocking;
use crate::handlers::{Service, config_script};
use crate::index::checkpoint::segment_bytes_read;

/// The service's own endpoints, which belong to no contract.
#[derive(OpenApi)]
#[openapi(
    paths(livez, readyz, metrics, capture_config_script, super::swagger::filters),
    info(
        title = "Cohorts: the service's own endpoints",
        description = "For whoever operates the service. None of them wants a key."
    )
)]
pub struct OwnEndpoints;

/// Whether the process runs.
#[utoipa::path(get, path = "/_livez", tag = "operation", responses((status = 200, description = "It does.", body = String)))]
pub async fn livez() -> HttpResponse {
    HttpResponse::Ok().content_type("text/plain").body("ok\n")
}

/// Whether the service can answer: its database does. A second line tells how many cohorts wait for their calculation,
/// and for how many seconds the first of them has.
#[utoipa::path(
    get, path = "/_readyz", tag = "operation",
    responses(
        (status = 200, description = "It can.", body = String),
        (status = 503, description = "It cannot, and why.", body = String),
    )
)]
pub async fn readyz(service: web::Data<Service>) -> HttpResponse {
    let backlog = |conn: &mut Conn| Ok(queue::backlog(conn, Utc::now())?);
    match blocking::read(&service.store, backlog).await {
        Ok(backlog) => {
            let since = backlog.waiting_since;
            let longest = since.map_or(0, |since| (Utc::now() - since).num_seconds().max(0));
            let count = backlog.count;
            let body = format!("ok\n{count} cohorts wait, the first for {longest} s\n");
            HttpResponse::Ok().content_type("text/plain").body(body)
        }
        Err(cause) => HttpResponse::ServiceUnavailable()
            .content_type("text/plain")
            .body(format!("{cause}\n")),
    }
}

/// What the service counts, in Prometheus' text format.
#[utoipa::path(get, path = "/metrics", tag = "operation", responses((status = 200, description = "The counters.", body = String)))]
pub async fn metrics(service: web::Data<Service>) -> Result<HttpResponse, crate::Error> {
    let text = service.metrics.text(
        service.store.connections(),
        service.store.caches.index.bytes(),
        segment_bytes_read(),
    )?;
    Ok(HttpResponse::Ok()
        .content_type("text/plain; version=0.0.4")
        .body(text))
}

/// What SDKs in browsers may do, as the script that they load first.
#[utoipa::path(
    get, path = "/array/{token}/config.js", tag = "capture",
    params(("token" = String, Path, description = "The token of a project, which is not looked up.")),
    responses(
        (status = 200, description = "The same for every project.", body = String),
        (status = 404, description = "That is no token.", body = String),
    )
)]
pub async fn capture_config_script(token: web::Path<String>) -> HttpResponse {
    match config_script(&token) {
        Some(script) => HttpResponse::Ok()
            .content_type("application/javascript")
            .body(script),
        None => HttpResponse::NotFound()
            .content_type("text/plain")
            .body("that is no token\n"),
    }
}
