//! The contract `openapi.yaml` against the running service: documents, statuses, access, wire format.

mod access;
mod conformance;
mod documents;
mod head;
mod isolation;
mod media_types;
pub mod spec;
mod wire;
mod words;
