//! The server side of the contract, `openapi.yaml`.
//!
//! The contract defines every path, field, status and scope.
//! `cargo xtask codegen` generates from it the request and response [`types`], one trait per tag, and the actix routes.
//! The trait methods are the operations. A route parses the request, authorizes the caller and calls the method.
//!
//! The crate stores nothing, knows no database and never words an error response.
//! It describes an invalid request as a [`Rejection`]; the service turns the rejection into a response.
//!
//! # Implementing a trait
//!
//! A service implements [`Api`] once, and then the trait of each tag.
//! [`configure`] needs all traits; this example implements [`ProjectsApi`].
//!
//! ```
//! use actix_web::http::StatusCode;
//! use actix_web::{HttpRequest, ResponseError};
//! use cohorts_api::*;
//!
//! #[derive(Debug)]
//! struct Failure(StatusCode);
//!
//! impl std::fmt::Display for Failure {
//!     fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
//!         self.0.fmt(f)
//!     }
//! }
//!
//! impl ResponseError for Failure {
//!     fn status_code(&self) -> StatusCode {
//!         self.0
//!     }
//! }
//!
//! struct Service {
//!     key: String,
//!     user: types::User,
//! }
//!
//! impl Api for Service {
//!     type Caller = types::User;
//!     type Error = Failure;
//!
//!     fn reject(&self, rejection: Rejection) -> Failure {
//!         Failure(match rejection {
//!             Rejection::UnknownPath | Rejection::Path => StatusCode::NOT_FOUND,
//!             Rejection::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
//!             _ => StatusCode::BAD_REQUEST,
//!         })
//!     }
//!
//!     async fn authorize(
//!         &self,
//!         _request: &HttpRequest,
//!         _operation: &'static Operation,
//!         credentials: Option<Credentials>,
//!     ) -> Result<types::User, Failure> {
//!         let credentials = credentials.ok_or(Failure(StatusCode::UNAUTHORIZED))?;
//!         if credentials.key == self.key {
//!             Ok(self.user.clone())
//!         } else {
//!             Err(Failure(StatusCode::FORBIDDEN))
//!         }
//!     }
//! }
//!
//! impl ProjectsApi for Service {
//!     async fn projects_list(
//!         &self,
//!         caller: types::User,
//!         request: ProjectsListRequest,
//!     ) -> Result<ProjectsListResponse, Failure> {
//!         let projects = [caller.team];
//!         let offset = usize::try_from(request.query.offset).unwrap_or(0);
//!         let page = types::PaginatedProjectList {
//!             count: 1,
//!             next: None,
//!             previous: None,
//!             results: projects.into_iter().skip(offset).collect(),
//!         };
//!         Ok(ProjectsListResponse::Status200(page))
//!     }
//!
//!     async fn projects_retrieve(
//!         &self,
//!         caller: types::User,
//!         _request: ProjectsRetrieveRequest,
//!     ) -> Result<ProjectsRetrieveResponse, Failure> {
//!         Ok(ProjectsRetrieveResponse::Status200(caller.team))
//!     }
//!
//!     async fn users_retrieve(
//!         &self,
//!         caller: types::User,
//!         _request: UsersRetrieveRequest,
//!     ) -> Result<UsersRetrieveResponse, Failure> {
//!         Ok(UsersRetrieveResponse::Status200(caller))
//!     }
//! }
//! ```
#![warn(missing_docs)]

mod support;

mod generated {
    #[rustfmt::skip]
    #[allow(clippy::all, clippy::unwrap_used, reason = "generated; its style is the generator's")]
    pub mod server;
    #[rustfmt::skip]
    #[allow(clippy::all, clippy::unwrap_used, reason = "generated; its style is the generator's")]
    pub mod types;
}

pub use generated::server::*;
pub use generated::types;
pub use support::*;

/// The text of `openapi.yaml`.
pub const OPENAPI_YAML: &str = include_str!("../../../openapi.yaml");
