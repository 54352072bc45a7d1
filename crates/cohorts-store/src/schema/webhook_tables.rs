//! The tables of webhooks.

use super::{keys, projects, teammates};

diesel::table! {
    webhooks (id) {
        id -> Int8,
        project_id -> Int8,
        key_id -> Int8,
        created_by -> Nullable<Int8>,
        created_at -> Timestamptz,
        url -> Text,
        cohort_ids -> Nullable<Array<Int8>>,
        description -> Text,
        enabled -> Bool,
        secret -> Bytea,
        old_secret -> Nullable<Bytea>,
        old_secret_until -> Nullable<Timestamptz>,
        cursor -> Text,
        position -> Int8,
        message_id -> Nullable<Text>,
        message_rows -> Nullable<Int8>,
        message_digest -> Nullable<Text>,
        attempts -> Int8,
        failing_since -> Nullable<Timestamptz>,
        next_attempt_at -> Nullable<Timestamptz>,
        paused_reason -> Nullable<Text>,
        paused_detail -> Nullable<Text>,
        claim -> Int8,
        lease_until -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    webhook_deliveries (id) {
        id -> Int8,
        webhook_id -> Int8,
        message_id -> Text,
        kind -> Text,
        from_cursor -> Nullable<Text>,
        cursor -> Nullable<Text>,
        changes -> Int8,
        attempt -> Int8,
        response_status -> Nullable<Int8>,
        response_body -> Nullable<Text>,
        error -> Nullable<Text>,
        started_at -> Timestamptz,
        duration_ms -> Int8,
    }
}

diesel::table! {
    webhook_activities (id) {
        id -> Int8,
        project_id -> Int8,
        webhook_id -> Int8,
        teammate_id -> Nullable<Int8>,
        activity -> Text,
        description -> Text,
        changes -> Nullable<Json>,
        created_at -> Timestamptz,
    }
}

diesel::joinable!(webhook_activities -> teammates (teammate_id));
diesel::joinable!(webhook_deliveries -> webhooks (webhook_id));
diesel::joinable!(webhooks -> keys (key_id));
diesel::joinable!(webhooks -> projects (project_id));
diesel::joinable!(webhooks -> teammates (created_by));
