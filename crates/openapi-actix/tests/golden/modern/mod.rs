//! The server of `modern.yaml`.

pub use crate::support;
#[rustfmt::skip]
pub mod server;
#[rustfmt::skip]
pub mod types;

pub use server::*;
pub use support::*;
