//! How often a key may ask: so many requests a minute and an hour, counted in windows that begin with the first one.
//!
//! The limits are those of PostHog's API. They are counted in this process alone, so that replicas allow more together.

use std::convert::Infallible;
use std::time::Duration;

use actix_extensible_rate_limit::HeaderCompatibleOutput;
use actix_extensible_rate_limit::backend::memory::InMemoryBackend;
use actix_extensible_rate_limit::backend::{Backend, SimpleInput};

use crate::error::Error;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);

/// Requests that one key may make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    pub a_minute: u64,
    pub an_hour: u64,
}

impl Default for RateLimit {
    fn default() -> Self {
        Self {
            a_minute: 480,
            an_hour: 4_800,
        }
    }
}

/// Counts requests by key.
#[derive(Clone)]
pub struct Throttle {
    limit: RateLimit,
    counts: InMemoryBackend,
}

impl Throttle {
    pub fn new(limit: RateLimit) -> Self {
        Self {
            limit,
            // There are two counts for each key in use, so none need be thrown away.
            counts: InMemoryBackend::builder().with_gc_interval(None).build(),
        }
    }

    /// Counts a request with this key, or refuses it.
    pub async fn admit(&self, key: i64) -> Result<(), Error> {
        let windows = [(MINUTE, self.limit.a_minute), (HOUR, self.limit.an_hour)];
        for (interval, max_requests) in windows {
            let input = SimpleInput {
                interval,
                max_requests,
                key: format!("{key}/{}", interval.as_secs()),
            };
            let counted: Result<_, Infallible> = self.counts.request(input).await;
            let Ok((decision, count, _)) = counted;
            if decision.is_denied() {
                let seconds = count.seconds_until_reset().max(1);
                return Err(Error::Throttled { seconds });
            }
        }
        Ok(())
    }
}
