//! Webhooks and their deliveries as responses show them.

use cohorts_api::types;
use cohorts_store::webhooks::WebhookWithCreator;
use cohorts_store::webhooks::deliveries::Delivery;

use super::user;
use crate::webhooks::WebhookSecret;

/// A webhook; with its secret in the responses that show it.
pub fn webhook(
    (row, teammate): WebhookWithCreator,
    secret: Option<&WebhookSecret>,
) -> types::Webhook {
    let fields = row.fields;
    types::Webhook {
        id: row.id,
        url: fields.url,
        cohort_ids: fields.cohort_ids,
        description: fields.description,
        enabled: fields.enabled,
        paused_reason: row.paused_reason.map(Into::into),
        paused_detail: row.paused_detail,
        failing_since: row.failing_since,
        next_attempt_at: row.next_attempt_at,
        created_at: row.created_at,
        created_by: teammate.map(user),
        secret: secret.map(WebhookSecret::text),
    }
}

pub fn delivery(row: Delivery) -> types::WebhookDelivery {
    let outcome = row.outcome;
    types::WebhookDelivery {
        id: row.id,
        message_id: outcome.message_id,
        type_: outcome.kind.into(),
        from_cursor: outcome.from_cursor,
        cursor: outcome.cursor,
        changes: outcome.changes,
        attempt: outcome.attempt,
        status: if outcome.error.is_none() {
            types::WebhookDeliveryStatus::Delivered
        } else {
            types::WebhookDeliveryStatus::Failed
        },
        response_status: outcome.response_status,
        response_body: outcome.response_body,
        error: outcome.error,
        started_at: outcome.started_at,
        duration_ms: outcome.duration_ms,
    }
}
