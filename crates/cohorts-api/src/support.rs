//! Base of the generated code: the trait [`Api`], request parsing and response building.
//!
//! This module contains nothing that is specific to one operation.
//! Generated code passes the differences between operations as arguments.

use std::future::Future;

use actix_web::{HttpRequest, web};

mod body;
mod credentials;
mod fields;
mod memory;
mod multipart;
mod patch;
mod query;
mod raw_json;
mod request;
mod response;

pub(crate) use body::{Body, Media};
pub use credentials::{CredentialSource, Credentials};
pub(crate) use fields::{Field, Kind};
pub use memory::{MemoryBudget, Reservation};
pub use multipart::UploadedFile;
pub use patch::Patch;
#[allow(unused_imports, reason = "which are used depends on the contract")]
pub(crate) use query::{Query, required};
pub use raw_json::RawJson;
pub use request::{RawBody, RequestHead};
#[allow(unused_imports, reason = "which are used depends on the contract")]
pub(crate) use request::{accepts, authorize, path_integer, path_text};
pub(crate) use response::{empty_response, json_response, resource};

/// An operation of the contract.
#[derive(Debug, PartialEq, Eq)]
pub struct Operation {
    /// The `operationId`, which is also the name of the trait method.
    /// Empty for `OPTIONS` and for a method that the path does not have.
    pub id: &'static str,
    /// The tag, which selects the trait.
    pub tag: &'static str,
    /// The HTTP method in upper case.
    pub method: &'static str,
    /// The path as in the contract: with a trailing slash, and with parameters as `{name}`.
    pub path: &'static str,
    /// The scopes that the key needs. An error names the first one that is missing.
    /// Empty if the operation needs no key.
    pub scopes: &'static [&'static str],
}

/// The reason why a request does not reach the handler.
///
/// The service words the response, except for `detail`, which the field rules determine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rejection {
    /// No operation has this path, or the operation does not offer the requested `format`.
    UnknownPath,
    /// A path parameter has the wrong type, so the object cannot exist.
    Path,
    /// A query parameter is invalid.
    Query {
        /// Name of the parameter.
        attr: &'static str,
        /// Text for the response.
        detail: String,
    },
    /// The body is not valid for its content type.
    Malformed {
        /// Text for the response. It starts with "JSON parse error - " if the body is not JSON.
        detail: String,
    },
    /// A field of the body, or the body itself, violates a rule.
    Field {
        /// Path of the field, with `__` between its parts. `None` for the body itself.
        attr: Option<String>,
        /// Code of the error.
        code: &'static str,
        /// Text for the response.
        detail: String,
        /// The valid fields that precede this one in the contract, as the text of a JSON object.
        /// If one of them violates a rule that only the service knows, the service reports that field instead.
        preceding: String,
    },
    /// An uploaded file cannot be written to disk.
    NotStored {
        /// Text for the response.
        detail: String,
    },
    /// The body is too large.
    TooLarge {
        /// Maximum size in bytes.
        limit: usize,
    },
    /// The [`MemoryBudget`] has no room for the body.
    Overloaded,
    /// The body did not arrive within the time limit.
    Timeout,
    /// The operation does not accept the content type.
    MediaType {
        /// The header `Content-Type`; empty if it is missing.
        media_type: String,
    },
    /// The `Accept` header excludes all formats that the operation offers.
    NotAcceptable,
    /// The path exists but does not have this method.
    MethodNotAllowed {
        /// The method of the request.
        method: String,
        /// Value of the header `Allow`.
        allow: &'static str,
    },
}

/// The functions that the service provides for all operations. The trait of each tag extends it.
pub trait Api: Sized + 'static {
    /// The authorized caller, which [`authorize`](Self::authorize) returns.
    type Caller: 'static;
    /// The error of all operations.
    type Error: actix_web::ResponseError + 'static;

    /// Converts a rejected request into an error.
    fn reject(&self, rejection: Rejection) -> Self::Error;

    /// Identifies the caller and checks that the key has access to `operation`.
    ///
    /// A route calls this once per request if the operation needs a key, before it checks path, query and body.
    /// The project is `request.match_info().get("project_id")`.
    ///
    /// # Errors
    ///
    /// Fails if the key is missing or invalid, or if it has no access to the operation or the project.
    fn authorize(
        &self,
        request: &HttpRequest,
        operation: &'static Operation,
        credentials: Option<Credentials>,
    ) -> impl Future<Output = Result<Self::Caller, Self::Error>>;
}

/// Maximum sizes of bodies in bytes. Set it with `app_data(web::Data::new(Limits { .. }))`.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Size of a body that field rules check. The default is 4 MiB.
    pub fields: usize,
    /// Size of a [`RawBody`]. The default is 20 MiB.
    pub raw: usize,
    /// Size of each [`UploadedFile`]. The default is 4 GiB.
    pub upload: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            fields: 4 << 20,
            raw: 20 << 20,
            upload: 4 << 30,
        }
    }
}

impl Limits {
    pub(crate) fn from_request(request: &HttpRequest) -> Self {
        request
            .app_data::<web::Data<Self>>()
            .map_or_else(Self::default, |limits| *limits.get_ref())
    }
}

/// Rejects every path without a route, as [`Rejection::UnknownPath`]. Configure it after all routes.
pub fn unknown_path<A: Api>(config: &mut web::ServiceConfig) {
    config.default_service(web::to(async |api: web::Data<A>| {
        Err::<actix_web::HttpResponse, _>(api.reject(Rejection::UnknownPath))
    }));
}
