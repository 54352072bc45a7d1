//! Builds responses, and the actix resource of a path.

use std::sync::atomic::{AtomicU64, Ordering};

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::HttpServiceFactory;
use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::middleware::DefaultHeaders;
use actix_web::{HttpRequest, HttpResponse, Route, web};
use serde::Serialize;

use super::{Api, Operation, Rejection};

/// A body that a handler writes itself, as a whole or in pieces. The generated code sets its status and media type.
pub struct ResponseBody(BoxBody);

impl ResponseBody {
    /// A body in memory, or a stream such as [`actix_web::body::BodyStream`].
    pub fn new(body: impl MessageBody + 'static) -> Self {
        Self(BoxBody::new(body))
    }

    pub(crate) fn respond(self, status: u16, media_type: &'static str) -> HttpResponse {
        let mut response = HttpResponse::with_body(status_code(status), self.0);
        set_content_type(&mut response, media_type);
        response
    }
}

impl std::fmt::Debug for ResponseBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0.size() {
            BodySize::Sized(bytes) => write!(f, "ResponseBody({bytes} bytes)"),
            _ => f.write_str("ResponseBody(stream)"),
        }
    }
}

fn set_content_type(response: &mut HttpResponse, media_type: &'static str) {
    if let Ok(value) = HeaderValue::try_from(media_type) {
        response.headers_mut().insert(header::CONTENT_TYPE, value);
    }
}

pub(crate) fn json_response(status: u16, body: &impl Serialize) -> HttpResponse {
    HttpResponse::build(status_code(status)).json(body)
}

pub(crate) fn json_response_of(
    status: u16,
    media_type: &'static str,
    body: &impl Serialize,
) -> HttpResponse {
    let mut response = json_response(status, body);
    set_content_type(&mut response, media_type);
    response
}

pub(crate) fn empty_response(status: u16) -> HttpResponse {
    HttpResponse::new(status_code(status))
}

fn status_code(status: u16) -> StatusCode {
    StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// Sets a documented header. A value that cannot be in a header is omitted.
pub(crate) fn set_header(response: &mut HttpResponse, name: &'static str, value: String) {
    if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
        response.headers_mut().insert(name, value);
    }
}

static UNDOCUMENTED: AtomicU64 = AtomicU64::new(0);

/// The number of responses that were replaced since the start, because the document does not describe their status.
pub fn undocumented_responses() -> u64 {
    UNDOCUMENTED.load(Ordering::Relaxed)
}

/// Returns the response of an operation, unless the document does not describe its status.
///
/// Then it panics in a debug build. In a release build, the response is [`Rejection::Undocumented`], logged and counted.
/// A server error is always documented.
pub(crate) fn documented<A: Api>(
    api: &A,
    operation: &'static Operation,
    result: Result<HttpResponse, A::Error>,
) -> HttpResponse {
    let response = result.unwrap_or_else(HttpResponse::from_error);
    let status = response.status().as_u16();
    if operation.documents(status) {
        return response;
    }
    let operation = operation.id;
    if cfg!(debug_assertions) {
        panic!("{operation} answered {status}, which the document does not describe");
    }
    log::error!("{operation} answered {status}, which the document does not describe");
    UNDOCUMENTED.fetch_add(1, Ordering::Relaxed);
    HttpResponse::from_error(api.reject(Rejection::Undocumented { operation, status }))
}

/// A path. Every response has the header `Allow`.
pub(crate) fn resource<A: Api>(
    paths: &[&'static str],
    allow: &'static str,
    routes: impl IntoIterator<Item = Route>,
) -> impl HttpServiceFactory {
    let not_allowed = move |api: web::Data<A>, request: HttpRequest| async move {
        Err::<HttpResponse, _>(api.reject(Rejection::MethodNotAllowed {
            method: request.method().to_string(),
            allow,
        }))
    };
    let resource = routes
        .into_iter()
        .fold(web::resource(paths.to_vec()), |resource, route| {
            resource.route(route)
        });
    resource
        .route(web::method(Method::OPTIONS).to(HttpResponse::Ok))
        .default_service(web::to(not_allowed))
        .wrap(DefaultHeaders::new().add((header::ALLOW, allow)))
}
