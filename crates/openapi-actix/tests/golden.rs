//! The committed output of the golden documents compiles, and one of the servers is called.
#![allow(
    clippy::all,
    clippy::unwrap_used,
    dead_code,
    unused_imports,
    reason = "generated; most of the servers are only compiled"
)]

// The example of the README uses a crate with this name.
extern crate self as petstore;

#[path = "golden/mod.rs"]
mod generated;
mod service;
#[path = "../runtime/support/mod.rs"]
pub mod support;

pub use generated::petstore::*;

pub const BASE_PATH: &str = "/v1";
