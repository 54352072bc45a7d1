//! The errors of requests, and their responses.
//!
//! No other module sets the status of an error. The cause of an internal error is logged here, once, and is never part of
//! a response.

use actix_web::body::BoxBody;
use actix_web::http::{StatusCode, header};
use actix_web::{HttpResponse, ResponseError};
use cohorts_api::Rejection;
use cohorts_api::types::{self, ErrorType};
use cohorts_engine::FilterError;

use crate::index;

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
    MethodNotAllowed {
        method: String,
        allow: &'static str,
    },
    NotAcceptable,
    TooLarge {
        limit: usize,
    },
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
    /// A calculation exceeds its memory limit.
    OverBudget,
    /// The body of the request did not arrive in time.
    Late,
    /// The events in memory have used up their budget.
    Overloaded,
    /// The database is not reachable or is busy. A retry may succeed.
    Unavailable,
    Internal(anyhow::Error),
}

/// The code of an error response, which the middleware counts.
#[derive(Clone, Copy, Debug)]
pub struct ErrorCode(pub &'static str);

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
        Self::Validation {
            attr: None,
            code: "invalid_input",
            detail: detail.into(),
        }
    }

    /// An invalid filter in the field `attr`.
    pub fn filter(attr: &str, error: FilterError) -> Self {
        if error.code == "missing_properties" {
            return Self::field(&format!("{attr}__detail"), error.detail);
        }
        Self::field(attr, error.detail)
    }

    /// Whether a retry may succeed.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable)
    }

    /// Status, type, code and detail of the response.
    fn row(&self) -> (u16, ErrorType, &'static str, String) {
        use ErrorType::*;
        let text = str::to_owned;
        match self {
            Self::Validation { code, detail, .. } => (400, ValidationError, code, detail.clone()),
            Self::Malformed { detail } => (400, InvalidRequest, "parse_error", detail.clone()),
            Self::NotAuthenticated => {
                let detail = text("Authentication credentials were not provided.");
                (401, AuthenticationError, "not_authenticated", detail)
            }
            Self::AuthenticationFailed { code, detail } => {
                (401, AuthenticationError, code, detail.clone())
            }
            Self::PermissionDenied { detail } => (
                403,
                AuthenticationError,
                "permission_denied",
                detail.clone(),
            ),
            Self::NotFound => (404, InvalidRequest, "not_found", text("Not found.")),
            Self::ProjectNotFound => (404, InvalidRequest, "not_found", text("Project not found.")),
            Self::PersonNotFound => {
                let detail = text("Person with this UUID does not exist in the cohort's team");
                (404, InvalidRequest, "not_found", detail)
            }
            Self::MethodNotAllowed { method, .. } => {
                let detail = format!("Method \"{method}\" not allowed.");
                (405, InvalidRequest, "method_not_allowed", detail)
            }
            Self::NotAcceptable => {
                let detail = text("Could not satisfy the request Accept header.");
                (406, InvalidRequest, "not_acceptable", detail)
            }
            Self::TooLarge { limit } => {
                let detail = format!("The request body is larger than {limit} bytes.");
                (413, InvalidRequest, "request_too_large", detail)
            }
            Self::UnsupportedMediaType { media_type } => {
                let detail = format!("Unsupported media type \"{media_type}\" in request.");
                (415, InvalidRequest, "unsupported_media_type", detail)
            }
            Self::Throttled { seconds } => {
                let unit = if *seconds == 1 { "second" } else { "seconds" };
                let detail =
                    format!("Request was throttled. Expected available in {seconds} {unit}.");
                (429, ThrottledError, "throttled", detail)
            }
            Self::NotStored { detail } => (507, ServerError, "not_stored", detail.clone()),
            Self::TimedOut => {
                let detail = index::Error::TimedOut.to_string();
                (503, ServerError, "timeout", detail)
            }
            Self::OverBudget => {
                let detail = index::Error::OverBudget.to_string();
                (503, ServerError, "capacity", detail)
            }
            Self::Late => {
                let detail = text("The request body did not arrive in time.");
                (503, ServerError, "timeout", detail)
            }
            Self::Overloaded => {
                let detail = text("The service is overloaded; try again in a moment.");
                (503, ServerError, "overloaded", detail)
            }
            Self::Unavailable => {
                let detail = text("The database is not available; try again in a moment.");
                (503, ServerError, "unavailable", detail)
            }
            Self::Internal(_) => (500, ServerError, "error", text("A server error occurred.")),
        }
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Internal(cause) => write!(f, "{cause:#}"),
            error => f.write_str(&error.row().3),
        }
    }
}

impl std::error::Error for Error {}

impl ResponseError for Error {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.row().0).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn error_response(&self) -> HttpResponse<BoxBody> {
        if let Self::Internal(cause) = self {
            log::error!("internal error: {cause:#}");
        }
        let (_, type_, code, detail) = self.row();
        let attr = match self {
            Self::Validation { attr, .. } => attr.clone(),
            _ => None,
        };
        let mut response = HttpResponse::build(self.status_code());
        match self {
            Self::MethodNotAllowed { allow, .. } => {
                response.insert_header((header::ALLOW, *allow));
            }
            Self::Throttled { seconds } => {
                response.insert_header((header::RETRY_AFTER, *seconds));
            }
            Self::TimedOut
            | Self::OverBudget
            | Self::Late
            | Self::Overloaded
            | Self::Unavailable => {
                response.insert_header((header::RETRY_AFTER, "1"));
            }
            _ => {}
        }
        response.extensions_mut().insert(ErrorCode(code));
        response.json(types::Error {
            type_,
            code: code.to_owned(),
            detail,
            attr,
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
            Rejection::Busy => Self::Overloaded,
            Rejection::Late => Self::Late,
            Rejection::TooLarge { limit } => Self::TooLarge { limit },
            Rejection::MediaType { media_type } => Self::UnsupportedMediaType { media_type },
            Rejection::NotAcceptable => Self::NotAcceptable,
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
            StoreError::TimedOut => Self::TimedOut,
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

impl From<index::Error> for Error {
    fn from(cause: index::Error) -> Self {
        match cause {
            index::Error::Store(cause) => cause.into(),
            index::Error::TimedOut => Self::TimedOut,
            index::Error::OverBudget => Self::OverBudget,
            index::Error::ProjectNotFound => Self::ProjectNotFound,
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
    fn the_cause_of_an_internal_error_is_not_in_the_response() {
        let cause = anyhow::anyhow!("the password is 1234");
        let (status, text) = body(&Error::Internal(cause));
        assert_eq!(status, 500);
        assert!(text.contains("A server error occurred."), "{text}");
        assert!(!text.contains("1234"), "{text}");
    }
}
