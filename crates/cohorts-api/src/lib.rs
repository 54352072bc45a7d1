//! The server side of the contract.
//!
//! `openapi.yaml` decides every path, field, status and scope.
//! Generated from it are the request and response [`types`], a trait per tag whose methods are the operations,
//! and the actix routes which read a request, ask for its authorization and call the method.
//! What that code leans on is written by hand in `support`.
//!
//! This crate stores nothing, knows no database and never words an error answer:
//! it says what is wrong with a request as a [`Rejection`], and the service turns that into its envelope.

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

/// The contract itself, as it is written.
pub const OPENAPI_YAML: &str = include_str!("../../../openapi.yaml");
