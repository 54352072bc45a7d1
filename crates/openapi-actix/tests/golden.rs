//! The committed output of the golden documents compiles, and one of the servers is called.
#![allow(
    clippy::all,
    clippy::unwrap_used,
    dead_code,
    unused_imports,
    reason = "generated; most of the servers are only compiled"
)]

#[path = "golden/mod.rs"]
mod generated;
mod petstore;
#[path = "../runtime/support/mod.rs"]
pub mod support;
