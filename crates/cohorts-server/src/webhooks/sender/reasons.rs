//! Why the sender pauses a webhook, and what its owner can do.

use cohorts_store::webhooks::queue::PauseReason;

/// The key of the webhook is not valid any more.
pub(super) fn key_lost() -> PauseReason {
    PauseReason {
        name: "key_revoked",
        detail:
            "The key of the webhook is revoked or has expired. Enable the webhook with another key."
                .to_owned(),
    }
}

/// The position of the webhook is before the change log.
pub(super) fn changes_expired() -> PauseReason {
    PauseReason {
        name: "changes_expired",
        detail: "The change log no longer has the changes after the position of the webhook. Read the members again, set \
                 the position with `replay/` and a time, and enable the webhook."
            .to_owned(),
    }
}

/// All attempts have failed for too long.
pub(super) fn failing(error: Option<&str>) -> PauseReason {
    let error = error.unwrap_or_default();
    PauseReason {
        name: "failing",
        detail: format!(
            "No attempt succeeded for three days. Repair the receiver, try it with `test/`, and enable the webhook. The \
             last error: {error}"
        ),
    }
}
