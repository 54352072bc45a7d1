//! Why a request with an `Idempotency-Key` is not carried out.

/// Why a request is not carried out although an earlier one with the same key has no response for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryRefusal {
    /// The earlier request has not ended.
    Running,
    /// The earlier request was carried out, and its response is not stored.
    NoResponse,
    /// The earlier request was another one.
    OtherRequest,
}

impl RetryRefusal {
    pub(super) fn detail(self) -> &'static str {
        match self {
            Self::Running => {
                "An earlier request with this Idempotency-Key is still running; try again in 1 second."
            }
            Self::NoResponse => {
                "An earlier request with this Idempotency-Key was carried out, but its response is not stored. Read what it has changed; a new key would carry the request out again."
            }
            Self::OtherRequest => {
                "An earlier request with this Idempotency-Key had another path, query or body. Send a new key with a new request."
            }
        }
    }
}
