//! Records changes of cohorts and webhooks in their activity logs, in the transaction of the change.

use cohorts_store::activity::{self, NewActivity};
use cohorts_store::definition::Definition;
use cohorts_store::webhooks::WebhookFields;
use cohorts_store::webhooks::activity::{self as webhook_activity, NewWebhookActivity};
use cohorts_store::{CohortId, Conn, JsonText};
use serde::Serialize;
use serde_json::Value;

use crate::auth::Caller;
use crate::error::Error;

/// A changed field, in the form of the contract's `ActivityChange`. Responses contain the stored text as it is.
#[derive(Serialize)]
struct FieldChange {
    #[serde(rename = "type")]
    scope: &'static str,
    action: &'static str,
    /// `None` for a change to the list of members.
    field: Option<&'static str>,
    before: Value,
    after: Value,
}

fn record(conn: &mut Conn, caller: &Caller, entry: &NewActivity<'_>) -> Result<(), Error> {
    let project = caller.project.id();
    Ok(activity::record(conn, project, &caller.teammate, entry)?)
}

/// Records that a cohort was created.
pub fn created(
    conn: &mut Conn,
    caller: &Caller,
    cohort: CohortId,
    definition: &Definition,
) -> Result<(), Error> {
    let entry = NewActivity {
        cohort,
        activity: "created",
        name: definition.name.as_deref(),
        changes: None,
    };
    record(conn, caller, &entry)
}

/// Records the changed fields of a cohort, if there are any.
pub fn changed(
    conn: &mut Conn,
    caller: &Caller,
    cohort: CohortId,
    before: &Definition,
    after: &Definition,
) -> Result<(), Error> {
    let changes = differences(before, after);
    if changes.is_empty() {
        return Ok(());
    }
    let entry = NewActivity {
        cohort,
        activity: match (before.deleted, after.deleted) {
            (false, true) => "deleted",
            (true, false) => "restored",
            _ => "updated",
        },
        name: after.name.as_deref(),
        changes: Some(json_of(&changes)?),
    };
    record(conn, caller, &entry)
}

/// Records that members were added to or removed from a static cohort.
pub fn persons_edited(
    conn: &mut Conn,
    caller: &Caller,
    cohort: CohortId,
    activity: &str,
) -> Result<(), Error> {
    let entry = NewActivity {
        cohort,
        activity,
        name: None,
        changes: Some(json_of(&[change(None, Value::Null, Value::Null)])?),
    };
    record(conn, caller, &entry)
}

/// Records a change of a webhook that has no fields, such as its creation.
pub fn webhook_changed(
    conn: &mut Conn,
    caller: &Caller,
    webhook: i64,
    activity: &str,
    fields: &WebhookFields,
) -> Result<(), Error> {
    record_webhook(conn, caller, webhook, (activity, fields), None)
}

/// Records the changed fields of a webhook, if there are any.
pub fn webhook_updated(
    conn: &mut Conn,
    caller: &Caller,
    webhook: i64,
    before: &WebhookFields,
    after: &WebhookFields,
) -> Result<(), Error> {
    if before == after {
        return Ok(());
    }
    let is_url_changed = before.url != after.url;
    let pairs = webhook_fields(before)
        .into_iter()
        .zip(webhook_fields(after));
    let changes: Vec<FieldChange> = pairs
        .filter(|((field, before), (_, after))| {
            before != after || (is_url_changed && *field == "url")
        })
        .map(|((field, before), (_, after))| FieldChange {
            scope: "Webhook",
            ..change(Some(field), before, after)
        })
        .collect();
    let changes = json_of(&changes)?;
    record_webhook(conn, caller, webhook, ("updated", after), Some(changes))
}

fn record_webhook(
    conn: &mut Conn,
    caller: &Caller,
    webhook: i64,
    (activity, fields): (&str, &WebhookFields),
    changes: Option<JsonText>,
) -> Result<(), Error> {
    let entry = NewWebhookActivity {
        webhook,
        activity,
        description: &fields.description,
        changes,
    };
    let (project, teammate) = (caller.project.id(), Some(&caller.teammate));
    Ok(webhook_activity::record(conn, project, teammate, &entry)?)
}

/// The fields of a webhook in the log. The path of a URL may contain a secret.
fn webhook_fields(fields: &WebhookFields) -> [(&'static str, Value); 4] {
    let end = fields.url.match_indices('/').nth(2).map(|(end, _)| end);
    let origin = &fields.url[..end.unwrap_or(fields.url.len())];
    [
        ("url", origin.into()),
        ("cohort_ids", fields.cohort_ids.clone().into()),
        ("description", fields.description.clone().into()),
        ("enabled", fields.enabled.into()),
    ]
}

fn differences(before: &Definition, after: &Definition) -> Vec<FieldChange> {
    let (before, after) = (fields(before), fields(after));
    let pairs = before.into_iter().zip(after);
    pairs
        .filter(|((_, before), (_, after))| before != after)
        .map(|((field, before), (_, after))| change(Some(field), before, after))
        .collect()
}

fn fields(definition: &Definition) -> [(&'static str, Value); 8] {
    let json = |text: Option<&JsonText>| text.map_or(Value::Null, JsonText::parse);
    [
        ("name", definition.name.clone().into()),
        ("description", definition.description.clone().into()),
        ("groups", definition.groups().parse()),
        ("deleted", definition.deleted.into()),
        ("filters", json(definition.filters())),
        ("query", json(definition.query.as_ref())),
        ("is_static", definition.is_static.into()),
        ("cohort_type", definition.cohort_type.clone().into()),
    ]
}

fn change(field: Option<&'static str>, before: Value, after: Value) -> FieldChange {
    let action = if field.is_none() {
        "changed"
    } else if before.is_null() {
        "created"
    } else if after.is_null() {
        "deleted"
    } else {
        "changed"
    };
    FieldChange {
        scope: "Cohort",
        action,
        field,
        before,
        after,
    }
}

fn json_of(changes: &[FieldChange]) -> Result<JsonText, Error> {
    let text = serde_json::to_string(changes).map_err(anyhow::Error::from)?;
    Ok(JsonText(text))
}
