//! The caller's side of the contract.
//!
//! One call per operation, by builders; names, parameters and answers are those of `openapi.yaml`, from which they are generated.
//! Lists can be followed over all their pages as a stream.
//!
//! ```no_run
//! use cohorts_client::{Client, types};
//! use futures::TryStreamExt;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::with_key("http://localhost:8000", "phx_…")?;
//! let body = types::CohortCreate::builder().name("Trialists".to_owned());
//! let cohort = client.cohorts_create().project_id("@current").body(body).send().await?;
//! println!("cohort {}", cohort.id);
//!
//! let people = client.cohorts_persons().project_id("@current").id(cohort.id).stream();
//! let people: Vec<types::Person> = people.try_collect().await?;
//! # Ok(())
//! # }
//! ```

mod download;
mod nullable;
mod paging;
mod upload;

#[rustfmt::skip]
#[allow(clippy::all, clippy::unwrap_used, reason = "generated; its style is the generator's")]
mod generated;

pub use generated::*;
pub use nullable::Nullable;

use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};

/// The address or the key is not one that a client can be made with.
#[derive(Debug)]
pub enum InvalidKey {
    /// The key has a character that no header can carry.
    Key,
    Transport(reqwest::Error),
}

impl std::fmt::Display for InvalidKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Key => f.write_str("the key has a character that no header can carry"),
            Self::Transport(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for InvalidKey {}

impl Client {
    /// A client that sends `key`, a personal key, with every call. Beyond the connection it sets no time limit.
    pub fn with_key(base_url: &str, key: &str) -> Result<Self, InvalidKey> {
        let mut value =
            HeaderValue::from_str(&format!("Bearer {key}")).map_err(|_| InvalidKey::Key)?;
        value.set_sensitive(true);
        let http = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(15))
            .default_headers(HeaderMap::from_iter([(AUTHORIZATION, value)]))
            .build()
            .map_err(InvalidKey::Transport)?;
        Ok(Self::new_with_client(base_url.trim_end_matches('/'), http))
    }
}
