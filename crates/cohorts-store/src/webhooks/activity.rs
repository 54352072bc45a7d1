//! The activity log of webhooks: which teammate changed which webhook, and how.
//!
//! An entry is written in the transaction of the change that it describes, and outlives the webhook.

use chrono::{DateTime, Utc};
use diesel::prelude::*;

use crate::activity_log::activity_log;
use crate::keys::Teammate;
use crate::pages::PageIds;
use crate::schema::webhook_activities as activities;
use crate::{Conn, JsonText, ProjectId, Result};

/// Entries that a project keeps.
const KEPT: i64 = 10_000;

/// A row of `webhook_activities`.
#[derive(Clone, Debug, Queryable, Selectable)]
#[diesel(table_name = activities)]
pub struct WebhookActivityRow {
    /// The id of the changed webhook.
    pub webhook_id: i64,
    /// The kind of change, such as `updated`.
    pub activity: String,
    /// The description of the webhook after the change.
    pub description: String,
    /// A JSON list of the changed fields; `None` if the kind of change has no fields.
    pub changes: Option<JsonText>,
    /// The time of the change.
    pub created_at: DateTime<Utc>,
}

/// An entry and the teammate who made the change; `None` if the service made it.
pub type WebhookActivityWithTeammate = (WebhookActivityRow, Option<Teammate>);

/// An entry to write.
pub struct NewWebhookActivity<'a> {
    /// The id of the changed webhook.
    pub webhook: i64,
    /// The kind of change, such as `updated`.
    pub activity: &'a str,
    /// The description of the webhook after the change.
    pub description: &'a str,
    /// A JSON list of the changed fields.
    pub changes: Option<JsonText>,
}

/// Writes an entry in the transaction of the caller. An entry without a teammate is a change by the service.
///
/// # Errors
///
/// Fails if the database fails.
pub fn record(
    conn: &mut Conn,
    project: ProjectId,
    teammate: Option<&Teammate>,
    entry: &NewWebhookActivity<'_>,
) -> Result<()> {
    diesel::insert_into(activities::table)
        .values((
            activities::project_id.eq(project.0),
            activities::webhook_id.eq(entry.webhook),
            activities::teammate_id.eq(teammate.map(|teammate| teammate.id)),
            activities::activity.eq(entry.activity),
            activities::description.eq(entry.description),
            activities::changes.eq(&entry.changes),
            activities::created_at.eq(Utc::now()),
        ))
        .execute(conn)?;
    let of_project = activities::table.filter(activities::project_id.eq(project.0));
    let newest_to_delete: Option<i64> = of_project
        .order(activities::id.desc())
        .offset(KEPT)
        .select(activities::id)
        .first(conn)
        .optional()?;
    if let Some(id) = newest_to_delete {
        diesel::delete(of_project.filter(activities::id.le(id))).execute(conn)?;
    }
    Ok(())
}

/// The page of the entries of a project, newest first.
///
/// # Errors
///
/// Fails if the database fails.
pub fn page(conn: &mut Conn, project: ProjectId, limit: i64, offset: i64) -> Result<PageIds> {
    let of_project = activities::table.filter(activities::project_id.eq(project.0));
    let ids = of_project
        .order(activities::id.desc())
        .limit(limit)
        .offset(offset)
        .select(activities::id)
        .load(conn)?;
    let count = of_project.count().get_result(conn)?;
    Ok(PageIds { ids, count })
}

activity_log!(activities, WebhookActivityRow);

/// Deletes entries of a project, at most `limit` of them, and returns their number.
pub(super) fn delete_of_project(conn: &mut Conn, project: ProjectId, limit: i64) -> Result<usize> {
    let ids: Vec<i64> = activities::table
        .filter(activities::project_id.eq(project.0))
        .limit(limit)
        .select(activities::id)
        .load(conn)?;
    delete(conn, &ids)
}
