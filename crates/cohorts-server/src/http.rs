//! The HTTP application: the contract's routes, the service's own endpoints, and what surrounds every request.

use std::net::TcpListener;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use actix_cors::Cors;
use actix_web::body::MessageBody;
use actix_web::dev::{ServerHandle, ServiceRequest, ServiceResponse};
use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::middleware::{Compat, Next, from_fn};
use actix_web::{App, Error as ActixError, HttpServer, rt, web};
use anyhow::bail;
use cohorts_api::{Limits, OPERATIONS, configure, unknown_path};

use crate::config::Config;
use crate::error::ErrorCode;
use crate::handlers::Service;
use crate::logging::RequestId;
use crate::path_compat;

mod endpoints;
mod swagger;
mod tls;

/// How long running requests may take to finish at shutdown, in seconds.
const SHUTDOWN_SECONDS: u64 = 20;
/// How long the headers of a request may take to arrive.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// The most open connections of one server thread.
const MAX_CONNECTIONS: usize = 4_096;
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Everything that the service answers.
pub fn routes(service: &Service) -> impl Fn(&mut web::ServiceConfig) + Clone + Send + 'static {
    let service = service.clone();
    move |config| {
        config
            .app_data(web::Data::new(service.clone()))
            .app_data(web::Data::new(Limits::default()))
            .app_data(web::Data::new(service.budget.clone()))
            .service(web::resource("/_livez").get(endpoints::livez))
            .service(web::resource("/_readyz").get(endpoints::readyz))
            .service(web::resource("/metrics").get(endpoints::metrics))
            .service(
                web::resource("/array/{token}/config.js").get(endpoints::capture_config_script),
            )
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

/// Starts the HTTP server on a new thread, and returns when it can be stopped.
pub fn start(
    service: Service,
    listener: TcpListener,
    config: &Config,
) -> anyhow::Result<(ServerHandle, JoinHandle<std::io::Result<()>>)> {
    let tls = config.tls.as_ref().map(tls::server).transpose()?;
    let (send, receive) = std::sync::mpsc::channel();
    let handle_signals = config.handle_signals;
    let run = move || {
        rt::System::new().block_on(async move {
            let routes = routes(&service);
            drop(service);
            let app = move || {
                App::new()
                    .wrap(cross_origin())
                    .wrap(from_fn(path_compat::resolve))
                    .wrap(Compat::new(from_fn(observe)))
                    .configure(routes.clone())
            };
            let mut server = HttpServer::new(app)
                .shutdown_timeout(SHUTDOWN_SECONDS)
                .client_request_timeout(HEADER_TIMEOUT)
                .max_connections(MAX_CONNECTIONS);
            if !handle_signals {
                server = server.disable_signals();
            }
            let server = match tls {
                None => server.listen(listener)?,
                Some(tls) => server.listen_rustls_0_23(listener, tls)?,
            };
            let server = server.run();
            // Nobody waits any more only if the starting thread is gone.
            let _ = send.send(server.handle());
            server.await
        })
    };
    let thread = thread::Builder::new().name("http".to_owned()).spawn(run)?;
    match receive.recv() {
        Ok(handle) => Ok((handle, thread)),
        Err(_) => match thread.join() {
            Ok(ended) => bail!("the HTTP server did not start: {ended:?}"),
            Err(_) => bail!("the HTTP server panicked"),
        },
    }
}
