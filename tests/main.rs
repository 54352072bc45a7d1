//! Contract and behaviour tests. They speak only HTTP, to a real server on a real Postgres.
//!
//! There is one file or folder per resource, and a new test goes to its resource. A test that covers a shared
//! conformance case has the number of the case in its doc comment.
//!
//! Cases without a test, because this service has no such thing:
//!
//! - 108: an upload is processed within its request, so no background import can fail.
//! - 119 to 124: there are no feature flags, no insights and no filters of test accounts.
//!
//! Cases that are tested in part:
//!
//! - 11: no entry for a folder, because there are no folders.
//! - 16: not the number of SQL statements, because no response shows it; `service/statements.rs` counts them.
//! - 54: no intermediate state of an upload, because the response already has the final one.
//! - 104, 105: not the messages of a timeout and of exhausted memory, because no request causes these.
//! - 107: no periodic calculation, because the server of the tests calculates only on demand.
//! - 115: the key of another project instead of a user without membership, because projects have no members.
//! - 125 to 127: only cohorts, because nothing else can reference a cohort.

mod actions;
mod activity;
mod capture;
mod catalogue;
mod changes;
mod clients;
mod cohorts;
mod contract;
mod filters;
mod harness;
mod keys;
mod members;
mod persons;
mod projects;
mod queries;
mod retries;
mod service;
mod tidy;
mod twin;
mod uploads;
mod webhooks;
