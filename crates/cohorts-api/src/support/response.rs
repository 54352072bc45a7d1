//! Builds responses, and the actix resource of a path.

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::HttpServiceFactory;
use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use actix_web::http::{Method, StatusCode, header};
use actix_web::middleware::DefaultHeaders;
use actix_web::{HttpRequest, HttpResponse, Route, web};
use serde::Serialize;

use super::{Api, Operation, Rejection, authorize};

pub(crate) fn json_response(status: u16, body: &impl Serialize) -> HttpResponse {
    HttpResponse::build(status_code(status)).json(body)
}

pub(crate) fn empty_response(status: u16) -> HttpResponse {
    HttpResponse::new(status_code(status))
}

/// A body that a handler writes itself, as a whole or in pieces. The generated code sets its status and media type.
pub struct ResponseBody {
    body: BoxBody,
    headers: HeaderMap,
}

impl ResponseBody {
    /// A body in memory, or a stream such as [`actix_web::body::SizedStream`].
    pub fn new(body: impl MessageBody + 'static) -> Self {
        Self {
            body: BoxBody::new(body),
            headers: HeaderMap::new(),
        }
    }

    /// Builds the response. A media type with parameters that the handler has chosen is more precise than the documented one.
    pub(crate) fn respond(self, status: u16, media_type: &'static str) -> HttpResponse {
        let mut response = HttpResponse::with_body(status_code(status), self.body);
        for (name, value) in self.headers {
            response.headers_mut().append(name, value);
        }
        let headers = response.headers_mut();
        let chosen = headers
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok());
        if !chosen.is_some_and(|chosen| chosen.starts_with(media_type)) {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
        }
        response
    }
}

impl From<HttpResponse> for ResponseBody {
    /// Takes body and headers. The status is that of the variant.
    fn from(response: HttpResponse) -> Self {
        let (head, body) = response.into_parts();
        Self {
            body,
            headers: head.headers().clone(),
        }
    }
}

impl std::fmt::Debug for ResponseBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.body.size() {
            BodySize::Sized(bytes) => write!(f, "ResponseBody({bytes} bytes)"),
            _ => f.write_str("ResponseBody(stream)"),
        }
    }
}

/// Sets a documented header. A value that cannot be in a header is omitted.
#[allow(dead_code, reason = "called where the contract has such a header")]
pub(crate) fn set_header(response: &mut HttpResponse, name: &'static str, value: String) {
    if let Ok(value) = HeaderValue::try_from(value) {
        response
            .headers_mut()
            .insert(HeaderName::from_static(name), value);
    }
}

/// Returns the response of an operation, unless the contract does not document its status.
///
/// Then it panics in a debug build. In a release build the response is [`Rejection::Undocumented`], which is a server error.
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
        panic!("{operation} answered {status}, which the contract does not document");
    }
    HttpResponse::from_error(api.reject(Rejection::Undocumented { operation, status }))
}

fn status_code(status: u16) -> StatusCode {
    StatusCode::from_u16(status).expect("codegen accepts only statuses from 200 to 599")
}

/// A path, with and without its trailing slash. Every response has the header `Allow`.
///
/// `guards` are the pseudo-operations for `OPTIONS` and for a method that the path does not have.
/// They are `None` if the path needs no key.
pub(crate) fn resource<A: Api>(
    paths: [&'static str; 2],
    allow: &'static str,
    guards: Option<[&'static Operation; 2]>,
    routes: impl IntoIterator<Item = Route>,
) -> impl HttpServiceFactory {
    let options = move |api: web::Data<A>, request: HttpRequest, payload: web::Payload| async move {
        if let Some([guard, _]) = guards {
            authorize(api.get_ref(), &request, payload, guard).await?;
        }
        Ok::<_, A::Error>(HttpResponse::Ok().finish())
    };
    let not_allowed = move |api: web::Data<A>, request: HttpRequest, payload: web::Payload| async move {
        if let Some([_, guard]) = guards {
            authorize(api.get_ref(), &request, payload, guard).await?;
        }
        Err::<HttpResponse, _>(api.reject(Rejection::MethodNotAllowed {
            method: request.method().to_string(),
            allow,
        }))
    };
    let resource = routes
        .into_iter()
        .fold(web::resource(paths), |resource, route| {
            resource.route(route)
        });
    resource
        .route(web::method(Method::OPTIONS).to(options))
        .default_service(web::to(not_allowed))
        .wrap(DefaultHeaders::new().add((header::ALLOW, allow)))
}
