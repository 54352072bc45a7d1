//! Rate limits for each key: requests per minute and per hour, in windows that begin with the first request. And for each
//! client that sends wrong keys ([`wrong_keys`]).
//!
//! The limits of a key are those of PostHog's API. Each process has its own counts, so several replicas together allow more.

use std::convert::Infallible;
use std::time::Duration;

use actix_extensible_rate_limit::HeaderCompatibleOutput;
use actix_extensible_rate_limit::backend::memory::InMemoryBackend;
use actix_extensible_rate_limit::backend::{Backend, SimpleInput};

use crate::error::Error;

mod wrong_keys;

pub use wrong_keys::WrongKeys;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);

/// The most requests of one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    pub per_minute: u64,
    pub per_hour: u64,
}

impl Default for RateLimit {
    fn default() -> Self {
        Self {
            per_minute: 480,
            per_hour: 4_800,
        }
    }
}

/// Counts requests by key.
#[derive(Clone)]
pub struct RateLimiter {
    limit: RateLimit,
    counts: InMemoryBackend,
}

impl RateLimiter {
    pub fn new(limit: RateLimit) -> Self {
        Self {
            limit,
            // There are only two counts for each key, so old ones need no collection.
            counts: InMemoryBackend::builder().with_gc_interval(None).build(),
        }
    }

    /// Counts a request with this key.
    ///
    /// # Errors
    ///
    /// Fails if the key has used up its limit.
    pub async fn admit(&self, key: i64) -> Result<(), Error> {
        let windows = [(MINUTE, self.limit.per_minute), (HOUR, self.limit.per_hour)];
        for (interval, max_requests) in windows {
            let input = SimpleInput {
                interval,
                max_requests,
                key: format!("{key}/{}", interval.as_secs()),
            };
            let result: Result<_, Infallible> = self.counts.request(input).await;
            let Ok((decision, count, _)) = result;
            if decision.is_denied() {
                let seconds = count.seconds_until_reset().max(1);
                return Err(Error::Throttled { seconds });
            }
        }
        Ok(())
    }
}
