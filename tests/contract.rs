//! The contract `openapi.yaml` against the running service: documents, statuses, access, wire format.

mod access;
mod conformance;
mod documents;
mod examples;
mod expired;
mod head;
mod headers;
mod isolation;
mod media_types;
pub mod spec;
mod wire;
mod words;
