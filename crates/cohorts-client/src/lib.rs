//! The client side of the contract, `openapi.yaml`.
//!
//! [`Client`] has one method per operation. It returns a [`builder`] of the call.
//! Names, parameters and [`types`] are those of the contract, from which `cargo xtask codegen` generates them.
//! Calls that progenitor does not support are added: streams over pages, and uploads of files.
//! CSV and NDJSON files are operations of their own, and return a stream of bytes.
//!
//! The crate never depends on the server's crates, so the two sides are independent implementations of the contract.
//!
//! ```no_run
//! use cohorts_client::{Client, types};
//! use futures::TryStreamExt;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::with_key("http://localhost:8000", "phx_…")?;
//! let body = types::CohortCreate::builder().name("Trialists".to_owned());
//! let cohort = client
//!     .cohorts_create()
//!     .project_id("@current")
//!     .body(body)
//!     .send()
//!     .await?;
//! println!("cohort {}", cohort.id);
//!
//! // The calculation runs in the background.
//! let cohort = client
//!     .cohorts_retrieve()
//!     .project_id("@current")
//!     .id(cohort.id)
//!     .send()
//!     .await?;
//! println!("{:?} members", cohort.count);
//!
//! let members = client
//!     .cohorts_persons_retrieve()
//!     .project_id("@current")
//!     .id(cohort.id)
//!     .stream();
//! let members: Vec<types::Person> = members.try_collect().await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Questions about cohorts
//!
//! Is a person a member, and why? What would a draft change? Which of these cohorts are many persons in, and what is
//! more common among the members than among all others?
//!
//! ```no_run
//! use cohorts_client::{Client, types};
//! use serde_json::json;
//!
//! # async fn example(client: Client) -> Result<(), Box<dyn std::error::Error>> {
//! let why = client
//!     .cohorts_explain_retrieve()
//!     .project_id("@current")
//!     .id(5)
//!     .distinct_id("ana")
//!     .send()
//!     .await?;
//! println!("a member: {}, until {:?}", why.member, why.changes_at);
//! for criterion in &why.criteria {
//!     println!("{}: {}", criterion.path, criterion.holds);
//! }
//!
//! let draft: types::CohortFilters = serde_json::from_value(json!({
//!     "properties": {"type": "AND", "values": [
//!         {"type": "person", "key": "plan", "operator": "exact", "value": "trial"},
//!     ]},
//! }))?;
//! let body = types::CohortPreviewRequest::builder()
//!     .filters(draft)
//!     .compare_to(5);
//! let preview = client
//!     .cohorts_preview()
//!     .project_id("@current")
//!     .body(body)
//!     .send()
//!     .await?;
//! println!("{:?}", preview.compared);
//!
//! let body = types::MembershipsRequest::builder()
//!     .distinct_ids(vec!["ana".to_owned(), "bob".to_owned()])
//!     .cohort_ids(vec![5, 7]);
//! let memberships = client
//!     .cohorts_memberships()
//!     .project_id("@current")
//!     .body(body)
//!     .send()
//!     .await?;
//! for person in &memberships.results {
//!     println!("{:?} is in {:?}", person.distinct_id, person.cohort_ids);
//! }
//!
//! let body = types::CohortCompareRequest::builder().keys(vec!["plan".to_owned()]);
//! let compared = client
//!     .cohorts_compare()
//!     .project_id("@current")
//!     .id(5)
//!     .body(body)
//!     .send()
//!     .await?;
//! for event in &compared.events {
//!     println!("{}: {} of {} members", event.event, event.inside, compared.inside);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Values of later versions
//!
//! Enums in responses are open: a value that this version does not know is the variant `Other`, with its text.
//!
//! ```
//! use cohorts_client::types::{Cohort, CohortType};
//!
//! fn describe(cohort: &Cohort) -> String {
//!     match &cohort.cohort_type {
//!         Some(CohortType::Static) => "a stored list".to_owned(),
//!         Some(other) => format!("criteria of the type {other}"),
//!         None => "no type".to_owned(),
//!     }
//! }
//! ```
//!
//! # More
//!
//! The client also reads responses of PostHog. The fields that only this service sends are `Option`s.
//!
//! The changes of a cohort are a stream that waits for further ones, and continues where it was if the connection fails.
//!
//! ```no_run
//! # use cohorts_client::{Client, is_cursor_expired};
//! # use futures::TryStreamExt;
//! # async fn example(client: &Client) -> Result<(), Box<dyn std::error::Error>> {
//! let call = client.cohorts_changes().project_id("@current").id(5);
//! let changes = call.from("start").stream();
//! let mut changes = std::pin::pin!(changes);
//! while let Some(change) = changes.try_next().await? {
//!     println!("{} {:?}", change.change, change.person.distinct_ids);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! [`verify_webhook`] checks the signature of a message that a webhook of the service has sent.
//!
//! A call fails with [`Error`]. An error response of the service is [`Error::ErrorResponse`] with a [`types::Error`].
#![warn(missing_docs)]

mod changes;
mod download;
mod nullable;
mod paging;
mod person_id;
mod upload;
mod webhook;

#[rustfmt::skip]
#[allow(clippy::all, clippy::unwrap_used, reason = "generated; its style is the generator's")]
mod generated;

pub use changes::is_cursor_expired;
pub use generated::*;
pub use nullable::Nullable;
pub use person_id::PersonId;
pub use webhook::{WebhookError, WebhookHeaders, verify_webhook, verify_webhook_at};

use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};

/// The reason why [`Client::with_key`] fails.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The key contains a character that a header cannot contain.
    #[error("the key contains a character that a header cannot contain")]
    InvalidKey,
    /// The HTTP client cannot be created.
    #[error(transparent)]
    Transport(reqwest::Error),
}

impl Client {
    /// Creates a client that sends `key`, a personal API key, with every call.
    ///
    /// `base_url` is the URL of the service, such as `http://localhost:8000`.
    /// Connecting times out after 15 s; a call has no other time limit.
    ///
    /// # Errors
    ///
    /// Fails if a header cannot contain `key`, or if the HTTP client cannot be created.
    pub fn with_key(base_url: &str, key: &str) -> Result<Self, BuildError> {
        let mut value =
            HeaderValue::from_str(&format!("Bearer {key}")).map_err(|_| BuildError::InvalidKey)?;
        value.set_sensitive(true);
        let http = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(15))
            .default_headers(HeaderMap::from_iter([(AUTHORIZATION, value)]))
            .build()
            .map_err(BuildError::Transport)?;
        Ok(Self::new_with_client(base_url.trim_end_matches('/'), http))
    }
}
