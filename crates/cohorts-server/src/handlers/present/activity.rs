//! Entries of the activity log as responses show them.

use cohorts_api::types::{ActivityDetail, ActivityEntry, ActivityEntryScope, ActivityUser};
use cohorts_store::activity::ActivityRow;
use cohorts_store::keys::Teammate;
use cohorts_store::webhooks::activity::WebhookActivityWithTeammate;

use super::raw;

pub fn activity_entry((entry, teammate): (ActivityRow, Option<Teammate>)) -> ActivityEntry {
    ActivityEntry {
        user: activity_user(teammate),
        activity: entry.activity.into(),
        scope: ActivityEntryScope::Cohort,
        item_id: entry.cohort_id.to_string(),
        detail: ActivityDetail {
            changes: entry.changes.map(raw),
            trigger: None,
            name: entry.name,
            short_id: None,
            type_: None,
        },
        created_at: entry.created_at,
    }
}

pub fn webhook_activity((entry, teammate): WebhookActivityWithTeammate) -> ActivityEntry {
    ActivityEntry {
        user: activity_user(teammate),
        activity: entry.activity.into(),
        scope: ActivityEntryScope::Webhook,
        item_id: entry.webhook_id.to_string(),
        detail: ActivityDetail {
            changes: entry.changes.map(raw),
            trigger: None,
            name: Some(entry.description),
            short_id: None,
            type_: None,
        },
        created_at: entry.created_at,
    }
}

fn activity_user(teammate: Option<Teammate>) -> ActivityUser {
    match teammate {
        Some(teammate) => ActivityUser {
            first_name: teammate.first_name,
            email: Some(teammate.email),
            is_system: None,
        },
        None => ActivityUser {
            first_name: "System".to_owned(),
            email: None,
            is_system: Some(true),
        },
    }
}
