//! The HTTP server: the routes of the API contract, the endpoints outside of it, and the middleware of every request.
//!
//! Nothing here knows a resource.

use std::future::pending;
use std::io;
use std::net::TcpListener;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use actix_cors::Cors;
use actix_web::body::MessageBody;
use actix_web::dev::{Server, ServerHandle, ServiceRequest, ServiceResponse};
use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::middleware::{Compat, Next, from_fn};
use actix_web::rt::signal::unix::{SignalKind, signal};
use actix_web::{App, Error as ActixError, HttpMessage, HttpServer, rt, web};
use anyhow::bail;
use cohorts_api::{Limits, OPERATIONS, configure, unknown_path};
use rustls::ServerConfig;

use crate::client_socket;
use crate::config::Config;
use crate::error::ErrorCode;
use crate::handlers::{Service, Waited};
use crate::logging::{self, RequestId};
use crate::path_compat;
use readiness::Readiness;

mod body_wait;
mod console;
mod endpoints;
mod protection;
mod readiness;
mod swagger;
mod tls;

use body_wait::BodyWait;
pub use swagger::{Offer, Page};

/// How long running requests may take to finish at shutdown, in seconds.
const SHUTDOWN_SECONDS: u64 = 20;
/// How long the headers of a request may take to arrive.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// The most open connections of one server thread.
const MAX_CONNECTIONS: usize = 4_096;
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// All routes of the service.
pub fn routes(
    service: &Service,
    page: Page,
    with_console: bool,
) -> impl Fn(&mut web::ServiceConfig) + Clone + Send + 'static {
    let service = service.clone();
    let readiness = web::Data::new(Readiness::new(&service.store));
    move |config| {
        config
            .app_data(readiness.clone())
            .app_data(web::Data::new(service.clone()))
            .app_data(web::Data::new(Limits::default()))
            .service(
                web::resource("/_livez")
                    .get(endpoints::livez)
                    .head(endpoints::livez),
            )
            .service(
                web::resource("/_readyz")
                    .get(endpoints::readyz)
                    .head(endpoints::readyz),
            )
            .service(
                web::resource("/metrics")
                    .get(endpoints::metrics)
                    .head(endpoints::metrics),
            )
            .service(
                web::resource("/array/{token}/config.js").get(endpoints::capture_config_script),
            )
            .configure(|config| page.configure(config, with_console))
            .configure(configure::<Service>);
        if with_console {
            config.configure(console::configure);
        }
        config.configure(unknown_path::<Service>);
    }
}

/// Web pages of any origin may send events. Other operations are not available to them.
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
    let mut capture = OPERATIONS
        .iter()
        .filter(|operation| operation.tag == "capture");
    bare.starts_with("/array/")
        || capture.any(|operation| operation.path.strip_suffix('/') == Some(bare))
}

/// Assigns an id to the request, counts it, logs it, and protects its response.
pub async fn observe(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, ActixError> {
    let id = RequestId::new();
    id.clone().accompany(respond(id, request, next)).await
}

async fn respond(
    id: RequestId,
    mut request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, ActixError> {
    let start = Instant::now();
    let service = request.app_data::<web::Data<Service>>().cloned();
    let wait = BodyWait::measure(&mut request);
    let mut response = next.call(request).await?;
    protection::protect(response.headers_mut());
    if let Ok(value) = HeaderValue::from_str(id.as_str()) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    let duration = start.elapsed().saturating_sub(waited(&response));
    if let Some(service) = &service {
        count(service, &response, duration);
    }
    let is_slow =
        service.is_some_and(|service| duration.saturating_sub(wait.total()) >= service.slow);
    log(&response, duration, is_slow);
    Ok(response)
}

/// How long the request has waited for a change.
fn waited<B>(response: &ServiceResponse<B>) -> Duration {
    let extensions = response.request().extensions();
    extensions
        .get::<Waited>()
        .map_or(Duration::ZERO, |waited| waited.0)
}

fn count<B>(service: &Service, response: &ServiceResponse<B>, duration: Duration) {
    let metrics = &service.metrics;
    let method = known_method(response.request().method().as_str());
    let pattern = response.request().match_pattern();
    let pattern = pattern.as_deref().unwrap_or("unknown");
    metrics.requested(method, pattern, response.status().as_u16(), duration);
    if let Some(ErrorCode(code)) = response.response().extensions().get() {
        metrics.failed(code);
    }
}

/// Clients choose the name of the method; other names than these share one metric.
fn known_method(method: &str) -> &str {
    match method {
        "GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE" | "OPTIONS" => method,
        _ => "other",
    }
}

/// Logs the request without its query, which may contain a key.
fn log<B>(response: &ServiceResponse<B>, duration: Duration, is_slow: bool) {
    let (method, path) = (response.request().method(), response.request().path());
    let path = logging::detail(path);
    let (status, millis) = (response.status().as_u16(), duration.as_secs_f64() * 1e3);
    if is_slow {
        log::warn!("slow: {method} {path} {status} {millis:.1} ms");
    } else {
        log::info!("{method} {path} {status} {millis:.1} ms");
    }
}

/// Starts the HTTP server on a new thread. Returns its handle, by which it can be stopped.
pub fn start(
    service: Service,
    page: Page,
    listener: TcpListener,
    config: &Config,
) -> anyhow::Result<(ServerHandle, JoinHandle<io::Result<()>>)> {
    let tls = config.tls.as_ref().map(tls::server_config).transpose()?;
    let (sender, receiver) = mpsc::channel();
    let (handle_signals, with_console) = (config.handle_signals, config.console);
    let run = move || {
        rt::System::new().block_on(async move {
            let changes = service.changes.clone();
            rt::spawn(
                changes
                    .clone()
                    .poll(cohorts_store::Store::clone(&service.store)),
            );
            let routes = routes(&service, page, with_console);
            drop(service);
            let server = server(routes, listener, tls, handle_signals)?;
            if handle_signals {
                rt::spawn(async move {
                    terminated().await;
                    changes.stop();
                });
            }
            // The send fails only if the starting thread has ended.
            let _ = sender.send(server.handle());
            server.await
        })
    };
    let thread = thread::Builder::new().name("http".to_owned()).spawn(run)?;
    match receiver.recv() {
        Ok(handle) => Ok((handle, thread)),
        Err(_) => match thread.join() {
            Ok(result) => bail!("the HTTP server did not start: {result:?}"),
            Err(_) => bail!("the HTTP server panicked"),
        },
    }
}

/// Returns at the signal that ends the service. Waiting readers of feeds end then, so that they do not delay it.
async fn terminated() {
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => drop(terminate.recv().await),
        Err(cause) => {
            log::warn!("streams end only when the service has stopped: {cause}");
            pending().await
        }
    }
}

fn server(
    routes: impl Fn(&mut web::ServiceConfig) + Clone + Send + 'static,
    listener: TcpListener,
    tls: Option<ServerConfig>,
    handle_signals: bool,
) -> io::Result<Server> {
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
        .max_connections(MAX_CONNECTIONS)
        .on_connect(client_socket::remember);
    if !handle_signals {
        server = server.disable_signals();
    }
    let server = match tls {
        None => server.listen(listener)?,
        Some(tls) => server.listen_rustls_0_23(listener, tls)?,
    };
    Ok(server.run())
}
