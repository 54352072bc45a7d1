//! Base of the generated code: the trait [`Api`], request parsing and response building.
//!
//! This module contains nothing that is specific to one operation.
//! Generated code passes the differences between operations as arguments.

use std::future::Future;

use actix_web::{HttpRequest, HttpResponse, web};

mod body;
mod credentials;
mod fields;
#[cfg(fuzzing)]
pub mod fuzzing;
mod json;
mod memory;
mod multipart;
mod once;
mod patch;
mod query;
mod raw_json;
mod request;
mod response;

pub(crate) use body::{Body, BodyRules, Media, PendingBody, admit, authorize};
pub use body::{BodyMemory, BodyReservation};
pub use credentials::{CredentialSource, Credentials};
pub(crate) use fields::{Field, Kind, UnknownFields};
pub use memory::{MemoryBudget, Reservation};
pub use multipart::{UploadPermit, UploadedFile};
pub use once::IdempotencyKey;
#[allow(unused_imports, reason = "called where the contract has the header")]
pub(crate) use once::once;
pub use patch::Patch;
#[allow(unused_imports, reason = "which are used depends on the contract")]
pub(crate) use query::{Query, required, within};
pub use raw_json::RawJson;
pub use request::{RawBody, RequestHead};
#[allow(unused_imports, reason = "which are used depends on the contract")]
pub(crate) use request::{accepts, path_integer, path_text};
pub use response::ResponseBody;
#[allow(unused_imports, reason = "which are used depends on the contract")]
pub(crate) use response::{documented, empty_response, json_response, resource, set_header};

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
    /// The scopes that the key needs in addition if the query has a parameter, by the name of the parameter.
    pub parameter_scopes: &'static [(&'static str, &'static [&'static str])],
    /// The documented statuses: 200 is that status, 4 is the range `4XX`, and 0 is `default`, which covers every status.
    pub statuses: &'static [u16],
}

impl Operation {
    /// The scopes that the key of a request needs.
    pub fn required_scopes(&self, request: &HttpRequest) -> Vec<&'static str> {
        let query = Query::from_request(request);
        let used = |name: &str| query.last(name).is_some();
        let parameters = self.parameter_scopes.iter();
        let parameters = parameters.filter(|(name, _)| used(name));
        let scopes = parameters.flat_map(|(_, scopes)| scopes.iter());
        self.scopes.iter().chain(scopes).copied().collect()
    }

    fn documents(&self, status: u16) -> bool {
        let statuses = self.statuses.iter();
        statuses
            .copied()
            .any(|documented| [0, status, status / 100].contains(&documented))
    }
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
    /// The values of the body would take too much memory.
    TooComplex {
        /// The bytes that they would take.
        bytes: usize,
        /// Maximum in bytes.
        limit: usize,
    },
    /// The body is large, neither the header nor the query has a key, and the beginning of the body has none.
    NoKey {
        /// The bytes that were searched.
        searched: usize,
    },
    /// The [`MemoryBudget`] has no room for the body.
    Overloaded,
    /// The memory for large bodies, or the caller's share of it, is used up.
    LargeBodies,
    /// The body did not arrive within the time limit, or at less than the minimum rate.
    Timeout,
    /// The operation does not accept the content type.
    MediaType {
        /// The header `Content-Type`; empty if it is missing.
        media_type: String,
    },
    /// The `Accept` header excludes all formats that the operation offers.
    NotAcceptable,
    /// The service answered with a status that the contract does not document for the operation.
    Undocumented {
        /// The `operationId`.
        operation: &'static str,
        /// The status of the response that is not sent.
        status: u16,
    },
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
    /// A route calls this if the operation needs a key, before it receives the body and checks path, query and body.
    /// It calls it twice if the query and the body have a key: for that of the query before it reads the body.
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

    /// Returns the memory that the body of a request may take. A route calls this before it reads any of the body.
    ///
    /// `caller` is `None` if the operation needs no key, or if the key is searched in the body.
    /// Without this method, the memory has no bound.
    ///
    /// # Errors
    ///
    /// Fails if the body of this request must not be received.
    fn admit(
        &self,
        request: &HttpRequest,
        operation: &'static Operation,
        caller: Option<&Self::Caller>,
    ) -> impl Future<Output = Result<BodyMemory, Self::Error>> {
        let _ = (request, operation, caller);
        async { Ok(BodyMemory::default()) }
    }

    /// Admits a file of a multipart body. A route calls this before it receives any of the file.
    ///
    /// `fields` are the fields before the file, and `length` is the length of the whole body, if it is known.
    /// Without this method, every file is admitted.
    ///
    /// # Errors
    ///
    /// Fails if the file of this request must not be received.
    fn admit_upload(
        &self,
        request: &HttpRequest,
        operation: &'static Operation,
        caller: &Self::Caller,
        fields: &[(String, String)],
        length: Option<u64>,
    ) -> impl Future<Output = Result<UploadPermit, Self::Error>> {
        let _ = (request, operation, caller, fields, length);
        async { Ok(UploadPermit::new(usize::MAX, ())) }
    }

    /// Carries out a request with an `Idempotency-Key`, or returns the response of an earlier request with the same key.
    ///
    /// `run` carries it out. Its response may be one for several requests, so the service may need to go on if the client
    /// disconnects. Without this method, each request is carried out.
    ///
    /// # Errors
    ///
    /// Fails if an earlier request with the key is another one or has not ended, or if `run` fails.
    fn once(
        &self,
        operation: &'static Operation,
        key: IdempotencyKey,
        caller: Self::Caller,
        run: impl AsyncFnOnce(Self::Caller) -> Result<HttpResponse, Self::Error> + 'static,
    ) -> impl Future<Output = Result<HttpResponse, Self::Error>> {
        let _ = (operation, key);
        run(caller)
    }
}

/// Bytes of a body that is never refused because of its caller's share.
pub const SMALL_BODY: usize = 64 << 10;

/// Maximum sizes of bodies in bytes. Set it with `app_data(web::Data::new(Limits { .. }))`.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Size of a body that field rules check. The default is 4 MiB.
    pub fields: usize,
    /// Size of a [`RawBody`]. The default is 20 MiB.
    pub raw: usize,
    /// Size of each [`UploadedFile`]. The default is 4 GiB.
    pub upload: usize,
    /// Bytes of a body that are read to find a key in it. The default is 64 KiB.
    pub without_key: usize,
    /// Size of a multipart body with an `Idempotency-Key`. For a larger one, the key is ignored. The default is 1 MiB.
    pub repeatable_upload: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            fields: 4 << 20,
            raw: 20 << 20,
            upload: 4 << 30,
            without_key: SMALL_BODY,
            repeatable_upload: 1 << 20,
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
