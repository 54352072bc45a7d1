//! The errors of requests, and their responses.
//!
//! No other module sets the status of an error. The cause of an internal error is logged here, once, and is never part of
//! a response.

use actix_web::body::BoxBody;
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::{HttpResponse, ResponseError};
use cohorts_api::Rejection;
use cohorts_api::types::{self, ErrorType};
use cohorts_engine::FilterError;

use crate::index::IndexError;
use crate::index::background::LoadProgress;
use crate::ingest::CommitError;
use crate::logging;
use crate::shares::{ShareFull, ShareOwner};

mod retry;

pub use retry::RetryRefusal;

/// After how many seconds a caller tries again if its share of some work is used up.
const BUSY_SECONDS: u64 = 5;

/// An edit of a cohort that has changed since the caller read it.
#[derive(Debug)]
pub struct StaleEdit {
    /// The cohort as it is now.
    pub cohort: types::Cohort,
    /// Its ETag.
    pub tag: String,
}

/// Why a request failed.
#[derive(Debug)]
pub enum Error {
    /// A field, or the body as a whole, is invalid.
    Validation {
        attr: Option<String>,
        code: &'static str,
        detail: String,
    },
    /// The body cannot be decoded.
    Malformed {
        detail: String,
    },
    /// The request has no key.
    NotAuthenticated,
    /// The key is unknown.
    AuthenticationFailed {
        code: &'static str,
        detail: String,
    },
    /// The key does not allow the operation, or not in this project.
    PermissionDenied {
        detail: String,
    },
    /// The project has no such object.
    NotFound,
    /// The project does not exist.
    ProjectNotFound,
    /// The person in the body does not exist in the project.
    PersonNotFound,
    /// The change log no longer has the changes from which a reader continues.
    CursorExpired,
    MethodNotAllowed {
        method: String,
        allow: &'static str,
    },
    NotAcceptable,
    /// The change log no longer has the members of the time `as_of`.
    AsOfExpired,
    /// A request with an `Idempotency-Key` is not carried out.
    Retry(RetryRefusal),
    /// The cohort has changed since the tag in `If-Match`.
    PreconditionFailed(Box<StaleEdit>),
    TooLarge {
        limit: usize,
    },
    /// The events of one request take more memory than any request may have.
    TooManyEvents,
    UnsupportedMediaType {
        media_type: String,
    },
    /// The key has used up its rate limit.
    Throttled {
        /// The time until the next request is allowed.
        seconds: u64,
    },
    /// The database cannot store the data.
    NotStored {
        detail: String,
    },
    /// A calculation exceeds its time limit.
    TimedOut,
    /// The data of the request is being loaded in the background.
    Loading(LoadProgress),
    /// A calculation exceeds its memory limit.
    OverBudget,
    /// Another change of the same data did not end in time.
    Locked,
    /// The body of the request did not arrive in time.
    BodyTimedOut,
    /// A newer request of the same key has replaced this one, or its client has gone.
    Superseded,
    /// The share of a caller, or of all callers, in one kind of work is used up.
    ShareFull(ShareFull),
    /// The memory of requests is used up.
    Overloaded,
    /// The events of one project in memory have used up its share.
    ProjectOverloaded,
    /// The database is not reachable or is busy. A retry may succeed.
    Unavailable,
    Internal(anyhow::Error),
}

/// The code of an error response, which the middleware counts.
#[derive(Clone, Copy, Debug)]
pub struct ErrorCode(pub &'static str);

/// The part of a response that is the same for all errors of a class.
struct ErrorClass {
    status: u16,
    type_: ErrorType,
    code: &'static str,
}

impl Error {
    /// An invalid field.
    pub fn field(attr: &str, detail: impl Into<String>) -> Self {
        Self::Validation {
            attr: Some(attr.to_owned()),
            code: "invalid_input",
            detail: detail.into(),
        }
    }

    /// An invalid request as a whole.
    pub fn whole(detail: impl Into<String>) -> Self {
        Self::coded("invalid_input", detail.into())
    }

    fn coded(code: &'static str, detail: String) -> Self {
        let attr = None;
        Self::Validation { attr, code, detail }
    }

    /// An invalid filter in the field `attr`.
    pub fn filter(attr: &str, error: FilterError) -> Self {
        if error.code == "missing_properties" {
            return Self::field(&format!("{attr}__detail"), error.detail);
        }
        Self::field(attr, error.detail)
    }

    /// Refuses the filter in the field `attr` if it refers to a cohort that cannot be calculated.
    pub fn reference(attr: &str, cause: IndexError) -> Self {
        match cause {
            IndexError::Uncalculable(error) => Self::filter(attr, error),
            other => other.into(),
        }
    }

    /// Whether a retry may succeed.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable | Self::Locked)
    }

    /// Whether the key does not allow the operation, or no such project exists.
    pub fn is_refusal(&self) -> bool {
        matches!(self.class().status, 401 | 403 | 404)
    }

    fn class(&self) -> ErrorClass {
        use ErrorType::*;
        let class = |status, type_, code| ErrorClass {
            status,
            type_,
            code,
        };
        match self {
            Self::Validation { code, .. } => class(400, ValidationError, code),
            Self::Malformed { .. } => class(400, InvalidRequest, "parse_error"),
            Self::NotAuthenticated => class(401, AuthenticationError, "not_authenticated"),
            Self::AuthenticationFailed { code, .. } => class(401, AuthenticationError, code),
            Self::PermissionDenied { .. } => class(403, AuthenticationError, "permission_denied"),
            Self::NotFound | Self::ProjectNotFound | Self::PersonNotFound => {
                class(404, InvalidRequest, "not_found")
            }
            Self::Retry(RetryRefusal::Running) => class(409, InvalidRequest, "request_running"),
            Self::Retry(RetryRefusal::NoResponse) => {
                class(409, InvalidRequest, "response_not_stored")
            }
            Self::Retry(RetryRefusal::OtherRequest) => {
                class(422, InvalidRequest, "idempotency_key_reused")
            }
            Self::CursorExpired => class(410, InvalidRequest, "cursor_expired"),
            Self::MethodNotAllowed { .. } => class(405, InvalidRequest, "method_not_allowed"),
            Self::NotAcceptable => class(406, InvalidRequest, "not_acceptable"),
            Self::AsOfExpired => class(410, InvalidRequest, "as_of_expired"),
            Self::PreconditionFailed(_) => class(412, InvalidRequest, "precondition_failed"),
            // SDKs send smaller batches after 413.
            Self::TooLarge { .. } | Self::TooManyEvents => {
                class(413, InvalidRequest, "request_too_large")
            }
            Self::UnsupportedMediaType { .. } => {
                class(415, InvalidRequest, "unsupported_media_type")
            }
            Self::Superseded => class(429, ThrottledError, "superseded"),
            Self::Throttled { .. } => class(429, ThrottledError, "throttled"),
            Self::NotStored { .. } => class(507, ServerError, "not_stored"),
            Self::TimedOut | Self::Locked | Self::BodyTimedOut => {
                class(503, ServerError, "timeout")
            }
            Self::Loading(_) => class(503, ServerError, "index_loading"),
            Self::OverBudget => class(503, ServerError, "capacity"),
            // SDKs send captures again after 503, and not all of them after 429.
            Self::ShareFull(ShareFull {
                owner: Some(ShareOwner::Project(_) | ShareOwner::Key(_)),
                ..
            }) => class(429, ThrottledError, "busy"),
            Self::Overloaded | Self::ProjectOverloaded | Self::ShareFull(_) => {
                class(503, ServerError, "overloaded")
            }
            Self::Unavailable => class(503, ServerError, "unavailable"),
            Self::Internal(_) => class(500, ServerError, "error"),
        }
    }

    /// The sentence of the response.
    fn detail(&self) -> String {
        match self {
            Self::Validation { detail, .. }
            | Self::Malformed { detail }
            | Self::AuthenticationFailed { detail, .. }
            | Self::PermissionDenied { detail }
            | Self::NotStored { detail } => detail.clone(),
            Self::MethodNotAllowed { method, .. } => format!("Method \"{method}\" not allowed."),
            Self::PreconditionFailed(stale) => format!(
                "The cohort has changed since it was read; its ETag is now {}. Apply the change to `cohort`, and send it again with this ETag.",
                stale.tag
            ),
            Self::TooLarge { limit } => format!("The request body is larger than {limit} bytes."),
            Self::UnsupportedMediaType { media_type } => {
                format!("Unsupported media type \"{media_type}\" in request.")
            }
            Self::Throttled { seconds } => {
                let unit = if *seconds == 1 { "second" } else { "seconds" };
                format!("Request was throttled. Expected available in {seconds} {unit}.")
            }
            Self::ShareFull(full) => {
                let owner = match full.owner {
                    Some(ShareOwner::Project(_)) => " of this project",
                    Some(ShareOwner::Key(_)) => " of this key",
                    Some(ShareOwner::Peer(_)) => " from this address",
                    None => "",
                };
                let work = full.work;
                format!("Too many {work}{owner} at once; try again in {BUSY_SECONDS} seconds.")
            }
            Self::TimedOut => IndexError::TimedOut.to_string(),
            Self::Loading(progress) => IndexError::Loading(*progress).to_string(),
            Self::OverBudget => IndexError::OverBudget.to_string(),
            Self::Superseded => IndexError::Stopped.to_string(),
            error => error.fixed_detail().to_owned(),
        }
    }

    fn fixed_detail(&self) -> &'static str {
        match self {
            Self::NotAuthenticated => "Authentication credentials were not provided.",
            Self::NotFound => "Not found.",
            Self::ProjectNotFound => "Project not found.",
            Self::PersonNotFound => "Person with this UUID does not exist in the cohort's team",
            Self::CursorExpired => {
                "The changes after the cursor do not exist any more; begin again with `from=start`."
            }
            Self::Retry(refusal) => refusal.detail(),
            Self::NotAcceptable => "Could not satisfy the request Accept header.",
            Self::Locked => {
                "Another change of the same data did not end in time; try again in a moment."
            }
            Self::AsOfExpired => {
                "The change log does not have the members of that time. Send a later `as_of`."
            }
            Self::BodyTimedOut => "The request body did not arrive in time.",
            Self::Overloaded => "The service is overloaded; try again in a moment.",
            Self::TooManyEvents => {
                "The events of the request take too much memory; send fewer in one request."
            }
            Self::ProjectOverloaded => {
                "Too many events of this project wait to be stored; try again in 5 seconds."
            }
            Self::Unavailable => "The database is not available; try again in a moment.",
            _ => "A server error occurred.",
        }
    }

    /// The header that the error adds to the response. All errors of status 503 are temporary.
    fn header(&self) -> Option<(HeaderName, HeaderValue)> {
        match self {
            Self::MethodNotAllowed { allow, .. } => {
                Some((header::ALLOW, HeaderValue::from_static(allow)))
            }
            Self::PreconditionFailed(stale) => {
                let tag = HeaderValue::from_str(&stale.tag).ok()?;
                Some((header::ETAG, tag))
            }
            Self::Throttled { seconds } => Some((header::RETRY_AFTER, (*seconds).into())),
            Self::ShareFull(_) | Self::ProjectOverloaded | Self::Loading(_) => {
                Some((header::RETRY_AFTER, BUSY_SECONDS.into()))
            }
            Self::Retry(RetryRefusal::Running) => {
                Some((header::RETRY_AFTER, HeaderValue::from_static("1")))
            }
            _ if self.class().status == 503 => {
                Some((header::RETRY_AFTER, HeaderValue::from_static("1")))
            }
            _ => None,
        }
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Internal(cause) => write!(f, "{cause:#}"),
            error => f.write_str(&error.detail()),
        }
    }
}

impl std::error::Error for Error {}

impl ResponseError for Error {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.class().status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn error_response(&self) -> HttpResponse<BoxBody> {
        if let Self::Internal(cause) = self {
            log::error!("internal error: {cause:#}");
        }
        let ErrorClass { type_, code, .. } = self.class();
        let attr = match self {
            Self::Validation { attr, .. } => attr.clone().map(logging::truncated),
            Self::AsOfExpired => Some("as_of".to_owned()),
            Self::PreconditionFailed(_) => Some("If-Match".to_owned()),
            Self::Retry(_) => Some("Idempotency-Key".to_owned()),
            _ => None,
        };
        let cohort = match self {
            Self::PreconditionFailed(stale) => Some(stale.cohort.clone()),
            _ => None,
        };
        let mut response = HttpResponse::build(self.status_code());
        if let Some(header) = self.header() {
            response.insert_header(header);
        }
        response.extensions_mut().insert(ErrorCode(code));
        response.json(types::Error {
            type_,
            code: code.into(),
            detail: logging::truncated(self.detail()),
            attr,
            cohort,
        })
    }
}

impl From<Rejection> for Error {
    fn from(rejection: Rejection) -> Self {
        match rejection {
            Rejection::UnknownPath | Rejection::Path => Self::NotFound,
            Rejection::Query { attr, detail } => Self::field(attr, detail),
            Rejection::Malformed { detail } => Self::Malformed { detail },
            Rejection::Field {
                attr, code, detail, ..
            } => Self::Validation { attr, code, detail },
            Rejection::NotStored { detail } => Self::NotStored { detail },
            Rejection::Overloaded => Self::Overloaded,
            Rejection::LargeBodies => Self::ShareFull(ShareFull {
                work: "large request bodies",
                owner: None,
            }),
            Rejection::NoKey { searched } => Self::AuthenticationFailed {
                code: "not_authenticated",
                detail: format!(
                    "Authentication credentials were not provided. The first {searched} bytes of the body have no \
                     `personal_api_key`; send the key in the header `Authorization: Bearer <key>`."
                ),
            },
            Rejection::TooComplex { bytes, limit } => {
                let (bytes, limit) = (bytes.div_ceil(1 << 20), limit >> 20);
                let detail = format!(
                    "The body has too many values: they would take {bytes} MiB of memory, and {limit} MiB are allowed. \
                     Send fewer values."
                );
                Self::coded("too_complex", detail)
            }
            Rejection::Timeout => Self::BodyTimedOut,
            Rejection::TooLarge { limit } => Self::TooLarge { limit },
            Rejection::MediaType { media_type } => Self::UnsupportedMediaType { media_type },
            Rejection::NotAcceptable => Self::NotAcceptable,
            Rejection::Undocumented { operation, status } => Self::Internal(anyhow::anyhow!(
                "{operation} answered {status}, which the contract does not document"
            )),
            Rejection::MethodNotAllowed { method, allow } => {
                Self::MethodNotAllowed { method, allow }
            }
        }
    }
}

impl From<anyhow::Error> for Error {
    fn from(cause: anyhow::Error) -> Self {
        Self::Internal(cause)
    }
}

impl From<cohorts_store::Error> for Error {
    fn from(cause: cohorts_store::Error) -> Self {
        use cohorts_store::Error as StoreError;
        match cause {
            StoreError::Unavailable(_) => {
                log::warn!("{cause}");
                Self::Unavailable
            }
            StoreError::Busy(_) => {
                log::warn!("{cause}");
                Self::Overloaded
            }
            StoreError::Locked => Self::Locked,
            StoreError::TimedOut => Self::TimedOut,
            StoreError::ProjectGone => Self::ProjectNotFound,
            StoreError::DiskFull(_) => {
                log::error!("{cause}");
                let detail = "The disk of the database is full.".to_owned();
                Self::NotStored { detail }
            }
            StoreError::Corrupt(_) => Self::Internal(cause.into()),
            StoreError::Other(cause) => Self::Internal(cause),
        }
    }
}

impl From<CommitError> for Error {
    fn from(cause: CommitError) -> Self {
        match cause {
            CommitError::Store(cause) => cause.into(),
            CommitError::TooManyWaiting => Self::ProjectOverloaded,
        }
    }
}

impl From<ShareFull> for Error {
    fn from(full: ShareFull) -> Self {
        Self::ShareFull(full)
    }
}

impl From<IndexError> for Error {
    fn from(cause: IndexError) -> Self {
        match cause {
            IndexError::Store(cause) => cause.into(),
            IndexError::TimedOut => Self::TimedOut,
            IndexError::Loading(progress) => Self::Loading(progress),
            IndexError::OverBudget => Self::OverBudget,
            IndexError::TooManyEvents => Self::coded("too_many_events", cause.to_string()),
            IndexError::ProjectNotFound => Self::ProjectNotFound,
            IndexError::Stopped => Self::Superseded,
            IndexError::Uncalculable(error) => Self::whole(error.detail),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(error: &Error) -> (u16, String) {
        let response = error.error_response();
        let status = response.status().as_u16();
        let bytes = actix_web::body::MessageBody::try_into_bytes(response.into_body());
        (status, String::from_utf8(bytes.unwrap().to_vec()).unwrap())
    }

    #[test]
    fn an_error_response_has_four_fields() {
        let (status, text) = body(&Error::field("name", "Not a valid string."));
        assert_eq!(status, 400);
        assert_eq!(
            text,
            r#"{"type":"validation_error","code":"invalid_input","detail":"Not a valid string.","attr":"name"}"#
        );
    }

    #[test]
    fn a_full_share_names_the_work_and_the_owner() {
        let full = |owner| {
            Error::ShareFull(ShareFull {
                work: "exports",
                owner,
            })
        };
        let project = ShareOwner::Project(cohorts_store::ProjectId(1));
        let (status, text) = body(&full(Some(project)));
        assert_eq!(status, 429);
        assert!(
            text.contains("Too many exports of this project at once"),
            "{text}"
        );
        let (status, text) = body(&full(None));
        assert_eq!(status, 503);
        assert!(text.contains("Too many exports at once"), "{text}");
        let retry_after = full(None).error_response();
        assert_eq!(retry_after.headers().get(header::RETRY_AFTER).unwrap(), "5");
    }

    #[test]
    fn each_temporary_failure_of_the_store_has_its_own_error() {
        use cohorts_store::{Error as StoreError, Lane};
        let cases = [
            (
                StoreError::Busy(Lane::Requests),
                "overloaded",
                "The service is overloaded",
            ),
            (
                StoreError::Locked,
                "timeout",
                "Another change of the same data",
            ),
            (
                StoreError::TimedOut,
                "timeout",
                "The calculation is taking too long",
            ),
            (
                StoreError::Unavailable("gone".to_owned()),
                "unavailable",
                "The database is not",
            ),
        ];
        for (cause, code, detail) in cases {
            let error = Error::from(cause);
            assert!(
                error
                    .error_response()
                    .headers()
                    .contains_key(header::RETRY_AFTER)
            );
            let (status, text) = body(&error);
            assert_eq!(status, 503);
            assert!(text.contains(code) && text.contains(detail), "{text}");
        }
    }

    #[test]
    fn too_many_events_of_a_person_are_an_error_of_the_request() {
        let response = Error::from(IndexError::TooManyEvents).error_response();
        assert!(!response.headers().contains_key(header::RETRY_AFTER));
        let (status, text) = body(&IndexError::TooManyEvents.into());
        assert_eq!(status, 400);
        let expected = r#"{"type":"validation_error","code":"too_many_events","detail":"The criteria read more than 100000 events of this person, or more than 64 MiB of their properties; use shorter time windows.","attr":null}"#;
        assert_eq!(text, expected);
    }

    #[test]
    fn the_cause_of_an_internal_error_is_not_in_the_response() {
        let cause = anyhow::anyhow!("the password is 1234");
        let (status, text) = body(&Error::Internal(cause));
        assert_eq!(status, 500);
        assert!(text.contains("A server error occurred."), "{text}");
        assert!(!text.contains("1234"), "{text}");
    }
}
