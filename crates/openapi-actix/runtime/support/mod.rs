//! The runtime of a generated server: the trait [`Api`], how requests are parsed, and how responses are built.
//!
//! It has nothing that is specific to one operation. Generated code passes the differences as arguments.
#![allow(
    dead_code,
    unused_imports,
    reason = "which parts are used depends on the document"
)]

use std::fmt;
use std::future::Future;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, ResponseError, web};

mod body;
mod fields;
mod forms;
mod query;
mod response;
mod values;

pub(crate) use body::{Body, Media, admit, authorize};
pub use body::{RawBody, UploadedFile};
pub(crate) use fields::{Field, Kind, Limit, Rest};
pub(crate) use query::{Query, accepts, path_integer, path_text, required, within};
pub use response::{ResponseBody, undocumented_responses};
pub(crate) use response::{
    documented, empty_response, json_response, json_response_of, resource, set_header,
};
pub use values::{Patch, RawJson};

/// An operation of the document.
#[derive(Debug)]
pub struct Operation {
    /// The `operationId`, or a name from method and path.
    pub id: &'static str,
    /// The tag, which selects the trait.
    pub tag: &'static str,
    /// The HTTP method in upper case.
    pub method: &'static str,
    /// The path as in the document.
    pub path: &'static str,
    /// Alternatives, each with the schemes that are needed together. Empty if the operation needs none.
    pub security: &'static [&'static [Requirement]],
    /// The documented statuses: 200 is that status, 4 is the range `4XX`, and 0 is `default`, which covers every status.
    pub statuses: &'static [u16],
}

impl Operation {
    fn documents(&self, status: u16) -> bool {
        let statuses = self.statuses.iter().copied();
        status >= 500
            || statuses
                .into_iter()
                .any(|documented| [0, status, status / 100].contains(&documented))
    }
}

/// A security scheme with the scopes that an operation needs.
#[derive(Debug)]
pub struct Requirement {
    /// The scheme.
    pub scheme: &'static Scheme,
    /// The scopes; empty for a scheme without scopes.
    pub scopes: &'static [&'static str],
}

/// A security scheme of the document.
#[derive(Debug)]
pub struct Scheme {
    /// The name in the document.
    pub name: &'static str,
    /// Where the credentials are.
    pub kind: SchemeKind,
}

/// Where the credentials of a scheme are.
#[derive(Debug, Clone, Copy)]
pub enum SchemeKind {
    /// A header.
    Header(&'static str),
    /// A query parameter.
    Query(&'static str),
    /// A cookie.
    Cookie(&'static str),
    /// The header `Authorization: Bearer <token>`, also for OAuth 2 and OpenID Connect.
    Bearer,
    /// The header `Authorization: Basic <credentials>`.
    Basic,
}

impl Scheme {
    /// The key, the token, or the encoded credentials of a request. They are not checked.
    pub fn credentials(&self, request: &HttpRequest) -> Option<String> {
        let authorization = |scheme: &str| {
            let value = request.headers().get("authorization")?.to_str().ok()?;
            let (name, rest) = value.split_once(' ')?;
            name.eq_ignore_ascii_case(scheme)
                .then(|| rest.trim().to_owned())
        };
        let value = match self.kind {
            SchemeKind::Header(name) => Query::from_headers(request)
                .last(&name.to_ascii_lowercase())
                .map(str::to_owned),
            SchemeKind::Query(name) => Query::from_request(request).last(name).map(str::to_owned),
            SchemeKind::Cookie(name) => Query::from_cookies(request).last(name).map(str::to_owned),
            SchemeKind::Bearer => authorization("Bearer"),
            SchemeKind::Basic => authorization("Basic"),
        };
        value.filter(|value| !value.is_empty())
    }
}

/// The reason why a request does not reach the handler, or why its response is not sent.
///
/// It can be the error type of a service. Its responses are then JSON with the fields `status` and `detail`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rejection {
    /// No operation has this path.
    UnknownPath,
    /// A path parameter has the wrong type, so the object cannot exist.
    Path,
    /// A parameter is invalid, or a required one is missing.
    Parameter {
        /// Name of the parameter.
        name: &'static str,
        /// What is wrong.
        detail: String,
    },
    /// The operation needs a key, and the service does not implement [`Api::authorize`].
    Unauthorized,
    /// The body is missing or invalid.
    Body {
        /// The place in the body, such as `pets[0].name`; empty for the whole body.
        path: String,
        /// What is wrong.
        detail: String,
    },
    /// The body is too large.
    TooLarge {
        /// Maximum size in bytes.
        limit: usize,
    },
    /// The operation does not accept the content type.
    MediaType {
        /// The header `Content-Type`; empty if it is missing.
        media_type: String,
    },
    /// The header `Accept` excludes all media types of the operation.
    NotAcceptable,
    /// The path exists but does not have this method.
    MethodNotAllowed {
        /// The method of the request.
        method: String,
        /// Value of the header `Allow`.
        allow: &'static str,
    },
    /// The service answered with a status that the document does not describe for the operation.
    Undocumented {
        /// The operation.
        operation: &'static str,
        /// The status of the response that is not sent.
        status: u16,
    },
}

impl Rejection {
    /// The usual status of the response.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::UnknownPath | Self::Path => StatusCode::NOT_FOUND,
            Self::Parameter { .. } | Self::Body { .. } => StatusCode::BAD_REQUEST,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::MediaType { .. } => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::NotAcceptable => StatusCode::NOT_ACCEPTABLE,
            Self::MethodNotAllowed { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::Undocumented { .. } => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownPath | Self::Path => f.write_str("Not found."),
            Self::Parameter { name, detail } => {
                write!(f, "The parameter `{name}` is invalid: {detail}")
            }
            Self::Unauthorized => f.write_str("The request has no valid credentials."),
            Self::Body { path, detail } if path.is_empty() => {
                write!(f, "The body is invalid: {detail}")
            }
            Self::Body { path, detail } => write!(f, "The body is invalid at `{path}`: {detail}"),
            Self::TooLarge { limit } => write!(f, "The body is larger than {limit} bytes."),
            Self::MediaType { media_type } => {
                write!(f, "The content type `{media_type}` is not supported.")
            }
            Self::NotAcceptable => f.write_str("No media type of the response is acceptable."),
            Self::MethodNotAllowed { method, .. } => {
                write!(f, "The method {method} is not allowed.")
            }
            Self::Undocumented { .. } => f.write_str("The service failed."),
        }
    }
}

impl ResponseError for Rejection {
    fn status_code(&self) -> StatusCode {
        self.status()
    }

    fn error_response(&self) -> HttpResponse {
        let status = self.status();
        let body = serde_json::json!({ "status": status.as_u16(), "detail": self.to_string() });
        HttpResponse::build(status).json(body)
    }
}

/// The functions that the service provides for all operations. The trait of each tag extends it.
pub trait Api: Sized + 'static {
    /// The authorized caller, which [`authorize`](Self::authorize) returns.
    type Caller: 'static;
    /// The error of all operations. [`Rejection`] is one.
    type Error: ResponseError + 'static;

    /// Converts a rejected request into an error.
    fn reject(&self, rejection: Rejection) -> Self::Error;

    /// Identifies the caller of an operation with security.
    ///
    /// A route calls this before it reads the body and the parameters. Without this method, every request is rejected.
    ///
    /// # Errors
    ///
    /// Fails if no alternative of the operation's security is fulfilled.
    fn authorize(
        &self,
        request: &HttpRequest,
        operation: &'static Operation,
    ) -> impl Future<Output = Result<Self::Caller, Self::Error>> {
        let _ = (request, operation);
        async { Err(self.reject(Rejection::Unauthorized)) }
    }
}

/// Maximum sizes in bytes. Set it with `app_data(web::Data::new(Limits { .. }))`.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Size of a body. The default is 4 MiB.
    pub body: usize,
    /// Number of parts of a multipart body. The default is 1,000.
    pub parts: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body: 4 << 20,
            parts: 1_000,
        }
    }
}

impl Limits {
    fn from_request(request: &HttpRequest) -> Self {
        let limits = request.app_data::<web::Data<Self>>();
        limits.map_or_else(Self::default, |limits| *limits.get_ref())
    }
}

/// The head of a request.
#[derive(Debug, Clone)]
pub struct RequestHead(HttpRequest);

impl RequestHead {
    pub(crate) fn new(request: HttpRequest) -> Self {
        Self(request)
    }

    /// The whole request, without its body.
    pub fn request(&self) -> &HttpRequest {
        &self.0
    }
}

/// Rejects every path without a route, as [`Rejection::UnknownPath`]. Configure it after all routes.
pub fn unknown_path<A: Api>(config: &mut web::ServiceConfig) {
    config.default_service(web::to(async |api: web::Data<A>| {
        Err::<HttpResponse, _>(api.reject(Rejection::UnknownPath))
    }));
}
