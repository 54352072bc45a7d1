//! Webhooks: messages about changes of members, sent to URLs by the specification Standard Webhooks.
//!
//! [`secrets`] encrypts the secrets of webhooks and signs with them, [`address`] decides which URLs and addresses may be
//! called, and [`client`] makes one request. [`message`] makes the body of a message from the change log, and [`sender`]
//! sends the messages of all webhooks in the background. No secret and no body is ever logged.

mod address;
mod client;
mod message;
mod secrets;
mod sender;

use std::time::Duration;

use ipnet::IpNet;

use crate::pauses::DoublingPause;

pub use address::AddressRules;
pub use client::{HttpsClient, TlsRoots};
pub use message::{Message, log_position};
pub use secrets::{NewSecret, SecretKey, SecretKeyError, SecretKeySource, Secrets, WebhookSecret};
pub use sender::{Sender, SenderParts, outcome};

/// The settings of webhooks.
#[derive(Clone, Debug)]
pub struct WebhookSettings {
    /// Whether this process sends messages.
    pub send: bool,
    /// Addresses that may be called although they are not public, also without TLS.
    pub allow: Vec<IpNet>,
    /// The key that encrypts the secrets of webhooks.
    pub secret_key: SecretKeySource,
    /// When failed messages are sent again.
    pub retry: RetryPolicy,
}

/// When failed messages are sent again.
#[derive(Clone, Copy, Debug)]
pub struct RetryPolicy {
    /// The pause after the first failure. Each further one is twice as long.
    pub first: Duration,
    /// The longest pause.
    pub longest: Duration,
    /// A webhook that fails for longer is paused.
    pub give_up_after: Duration,
}

impl RetryPolicy {
    /// The pause after a number of failures.
    fn pause(&self, failures: i64) -> Duration {
        let Self { first, longest, .. } = *self;
        DoublingPause { first, longest }.after(failures)
    }
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            first: Duration::from_secs(1),
            longest: Duration::from_secs(3_600),
            give_up_after: Duration::from_secs(3 * 24 * 3_600),
        }
    }
}
