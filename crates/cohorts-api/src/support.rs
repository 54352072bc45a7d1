//! What the generated routes lean on: the traits' common part, and how a request is read.
//!
//! Nothing here knows a single operation; what differs from one to the next is passed in by generated code.

use std::future::Future;

use actix_web::{HttpRequest, web};

mod answer;
mod body;
mod budget;
mod credentials;
mod fields;
mod multipart;
mod patch;
mod query;
mod raw_json;
mod request;

pub(crate) use answer::{empty_answer, json_answer, resource};
pub(crate) use body::{Body, Media};
pub use budget::{Budget, Lent};
pub use credentials::{CredentialSource, Credentials};
pub(crate) use fields::{Field, Kind};
pub use multipart::Upload;
pub use patch::Patch;
#[allow(unused_imports, reason = "which are used depends on the contract")]
pub(crate) use query::{Query, required};
pub use raw_json::RawJson;
pub use request::{RawBody, RequestHead};
#[allow(unused_imports, reason = "which are used depends on the contract")]
pub(crate) use request::{accepts, authorize, path_integer, path_text};

/// One operation of the contract.
#[derive(Debug, PartialEq, Eq)]
pub struct Operation {
    /// Its `operationId`, which is also the name of the trait method.
    pub id: &'static str,
    pub tag: &'static str,
    /// In capitals, as in a request.
    pub method: &'static str,
    /// As in the contract, with a slash at the end and `{…}` where a parameter stands.
    pub path: &'static str,
    /// The scopes that a key needs, in the order in which a missing one is named. Empty if no key is wanted.
    pub scopes: &'static [&'static str],
}

/// Why a request never reaches the handler.
///
/// The service words the answer; `detail` is worded here where the field rules decide it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rejection {
    /// No operation has this path.
    UnknownPath,
    /// A part of the path is not what its parameter wants, so nothing can be there.
    Path,
    /// A query parameter cannot be read.
    Query { attr: &'static str, detail: String },
    /// The body is not what its content type says. `detail` starts with "JSON parse error - ".
    Malformed { detail: String },
    /// A field of the body breaks a rule; without `attr`, the body as a whole does.
    Field {
        attr: Option<String>,
        code: &'static str,
        detail: String,
        /// The fields that come before it in the contract and keep their rules, as a JSON object. Where they break
        /// a rule that only the service knows, that is the first one broken.
        before: String,
    },
    /// A file in the body cannot be kept here for now.
    NotStored { detail: String },
    /// The body is larger than `limit` bytes.
    TooLarge { limit: usize },
    /// There is no memory for the body for now.
    Busy,
    /// The body does not come in the time that it has.
    Late,
    /// The body has a content type that is not read here; empty if it has none.
    MediaType { media_type: String },
    /// No representation that the operation offers is acceptable.
    NotAcceptable,
    /// The path is known, but not with this method. `allow` is the text of the `Allow` header.
    MethodNotAllowed { method: String, allow: &'static str },
}

/// What the service gives to every operation. Each tag's trait builds on it.
pub trait Api: Sized + 'static {
    /// Who calls, as found by `authorize`.
    type Caller: 'static;
    type Error: actix_web::ResponseError + 'static;

    /// Words the answer to a request that is refused before its handler runs.
    fn reject(&self, why: Rejection) -> Self::Error;

    /// Finds out who calls, and whether that key may call `operation`.
    ///
    /// Called once per request, before ids, query and body are judged, for every operation that wants a key.
    /// The project is named by `request.match_info().get("project_id")`.
    fn authorize(
        &self,
        request: &HttpRequest,
        operation: &'static Operation,
        credentials: Option<Credentials>,
    ) -> impl Future<Output = Result<Self::Caller, Self::Error>>;
}

/// How many bytes a body may have. Set by `app_data(web::Data::new(Limits { .. }))`.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bodies that are read by field rules.
    pub fields: usize,
    /// Bodies that are handed on as they are.
    pub raw: usize,
    /// Each file that comes with a body.
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
    pub(crate) fn of(request: &HttpRequest) -> Self {
        request
            .app_data::<web::Data<Self>>()
            .map_or_else(Self::default, |limits| *limits.get_ref())
    }
}

/// Answers every path that no route has. Call it on the app, after all routes.
pub fn unknown_path<A: Api>(config: &mut web::ServiceConfig) {
    config.default_service(web::to(async |api: web::Data<A>| {
        Err::<actix_web::HttpResponse, _>(api.reject(Rejection::UnknownPath))
    }));
}
