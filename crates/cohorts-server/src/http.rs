//! The HTTP application: the contract's routes, the service's own endpoints, and what surrounds every request.

use std::time::Instant;

use actix_cors::Cors;
use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::middleware::Next;
use actix_web::{Error as ActixError, HttpResponse, web};
use chrono::Utc;
use cohorts_api::{Limits, OPERATIONS, configure, unknown_path};
use utoipa::OpenApi;

use crate::error::ErrorCode;
use crate::handlers::{Service, config_script};
use crate::request_id::RequestId;
use crate::store::{Conn, calculations};
use crate::swagger;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Everything that the service answers.
pub fn routes(service: &Service) -> impl Fn(&mut web::ServiceConfig) + Clone + Send + 'static {
    let service = service.clone();
    move |config| {
        config
            .app_data(web::Data::new(service.clone()))
            .app_data(web::Data::new(Limits::default()))
            .app_data(web::Data::new(service.budget.clone()))
            .service(web::resource("/_livez").get(livez))
            .service(web::resource("/_readyz").get(readyz))
            .service(web::resource("/metrics").get(metrics))
            .service(web::resource("/array/{token}/config.js").get(capture_config_script))
            .configure(swagger::configure)
            .configure(configure::<Service>)
            .configure(unknown_path::<Service>);
    }
}

/// Browsers on any page may send events; nothing else is for them.
pub fn cross_origin() -> Cors {
    Cors::default()
        .allowed_origin_fn(|_, head| is_capture(head.uri.path()))
        .allow_any_method()
        .allow_any_header()
        .expose_headers([header::RETRY_AFTER])
        .supports_credentials()
        .max_age(86_400)
}

fn is_capture(path: &str) -> bool {
    let bare = path.strip_suffix('/').unwrap_or(path);
    let mut capture = OPERATIONS.iter().filter(|one| one.tag == "capture");
    bare.starts_with("/array/") || capture.any(|one| one.path.strip_suffix('/') == Some(bare))
}

/// The service's own endpoints, which belong to no contract.
#[derive(OpenApi)]
#[openapi(
    paths(livez, readyz, metrics, capture_config_script, crate::swagger::filters),
    info(
        title = "Cohorts: the service's own endpoints",
        description = "For whoever operates the service. None of them wants a key."
    )
)]
pub struct OwnEndpoints;

/// Whether the process runs.
#[utoipa::path(get, path = "/_livez", tag = "operation", responses((status = 200, description = "It does.", body = String)))]
async fn livez() -> HttpResponse {
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
async fn readyz(service: web::Data<Service>) -> HttpResponse {
    let waiting = |conn: &mut Conn| Ok(queue::waiting_for(conn, Utc::now())?);
    match service.store.read(waiting).await {
        Ok((count, since)) => {
            let longest = since.map_or(0, |since| (Utc::now() - since).num_seconds().max(0));
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
async fn metrics(service: web::Data<Service>) -> Result<HttpResponse, crate::Error> {
    let text = service
        .metrics
        .text(service.store.connections(), &service.store.views)?;
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
async fn capture_config_script(token: web::Path<String>) -> HttpResponse {
    match config_script(&token) {
        Some(script) => HttpResponse::Ok()
            .content_type("application/javascript")
            .body(script),
        None => HttpResponse::NotFound()
            .content_type("text/plain")
            .body("that is no token\n"),
    }
}

/// Gives the request an id, counts it, and logs it. The query is left out of the log, as it may hold a key.
pub async fn observe(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, ActixError> {
    let id = RequestId::new();
    id.clone().accompany(observed(id, request, next)).await
}

async fn observed(
    id: RequestId,
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, ActixError> {
    let begun = Instant::now();
    let service = request.app_data::<web::Data<Service>>().cloned();
    let mut answer = next.call(request).await?;
    if let Ok(value) = HeaderValue::from_str(id.as_str()) {
        answer.headers_mut().insert(REQUEST_ID, value);
    }
    let took = begun.elapsed();
    let method = answer.request().method().as_str();
    let status = answer.status().as_u16();
    let pattern = answer.request().match_pattern();
    let mut slow = false;
    if let Some(service) = service {
        let pattern = pattern.as_deref().unwrap_or("unknown");
        let metrics = &service.metrics;
        metrics.requested(known(method), pattern, status, took);
        if let Some(ErrorCode(code)) = answer.response().extensions().get() {
            metrics.failed(code);
        }
        slow = took >= service.slow;
    }
    let (path, millis) = (answer.request().path(), took.as_secs_f64() * 1e3);
    match slow {
        false => log::info!("{method} {path} {status} {millis:.1} ms"),
        true => log::warn!("slow: {method} {path} {status} {millis:.1} ms"),
    }
    Ok(answer)
}

/// Callers choose the method's name; no more than these make a series.
fn known(method: &str) -> &str {
    match method {
        "GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE" | "OPTIONS" => method,
        _ => "other",
    }
}
