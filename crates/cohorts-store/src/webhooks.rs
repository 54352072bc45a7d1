//! Webhooks: the URLs that receive the changes of members, their secrets, and their positions in the change log.
//!
//! [`queue`] has the claims of the processes that send messages, [`deliveries`] the outcomes, and [`activity`] the log of
//! changes to webhooks. Secrets arrive here encrypted; the store neither reads nor makes them.

use chrono::{DateTime, Utc};
use diesel::prelude::*;

use crate::keys::Teammate;
use crate::pages::{PageIds, RowSize, octet_length};
use crate::schema::{cohorts, teammates, webhook_deliveries, webhooks};
use crate::{Conn, ProjectId, Result};

pub mod activity;
pub mod deliveries;
pub mod queue;
#[cfg(test)]
mod tests;

/// A row of `webhooks`, without its secrets and its claim.
#[derive(Clone, Debug, Queryable, Selectable)]
#[diesel(table_name = webhooks)]
pub struct Webhook {
    /// The id, unique among all projects.
    pub id: i64,
    /// The time of creation.
    pub created_at: DateTime<Utc>,
    /// The columns that callers decide.
    #[diesel(embed)]
    pub fields: WebhookFields,
    /// Why the service has paused the webhook; `None` if it has not.
    pub paused_reason: Option<String>,
    /// The reason as text, with a remedy.
    pub paused_detail: Option<String>,
    /// The time of the first failed attempt since the last success.
    pub failing_since: Option<DateTime<Utc>>,
    /// The time of the next attempt after a failure.
    pub next_attempt_at: Option<DateTime<Utc>>,
}

/// The columns of a webhook that callers decide.
#[derive(Clone, Debug, PartialEq, Eq, Queryable, Selectable, Insertable, AsChangeset)]
#[diesel(table_name = webhooks, treat_none_as_null = true)]
pub struct WebhookFields {
    /// The URL that receives the messages.
    pub url: String,
    /// The ids of the cohorts; `None` for all cohorts of the project.
    pub cohort_ids: Option<Vec<i64>>,
    /// A text for users.
    pub description: String,
    /// Whether messages are sent.
    pub enabled: bool,
}

/// The encrypted secrets of a webhook.
#[derive(Clone, Debug, Queryable, Selectable)]
#[diesel(table_name = webhooks)]
pub struct StoredSecrets {
    /// The secret.
    pub secret: Vec<u8>,
    /// The secret before the last rotation.
    pub old_secret: Option<Vec<u8>>,
    /// The time up to which the secret before the rotation signs too.
    pub old_secret_until: Option<DateTime<Utc>>,
}

/// A position in the change log of a project.
#[derive(Clone, Debug, PartialEq, Eq, Queryable, Selectable, Insertable, AsChangeset)]
#[diesel(table_name = webhooks)]
pub struct LogPosition {
    /// The cursor of the position, which the store does not read.
    pub cursor: String,
    /// All changes up to this number are before the position.
    pub position: i64,
}

/// A webhook and the teammate who created it.
pub type WebhookWithCreator = (Webhook, Option<Teammate>);

/// A webhook to create.
pub struct NewWebhook<'a> {
    /// The teammate who creates it.
    pub creator: &'a Teammate,
    /// The key that creates it.
    pub key: i64,
    /// The columns that callers decide.
    pub fields: &'a WebhookFields,
    /// The encrypted secret.
    pub secret: &'a [u8],
    /// The position at which the webhook begins.
    pub position: &'a LogPosition,
}

/// Creates a webhook of the project.
///
/// # Errors
///
/// Fails if the database fails.
pub fn create(conn: &mut Conn, project: ProjectId, new: &NewWebhook<'_>) -> Result<Webhook> {
    Ok(diesel::insert_into(webhooks::table)
        .values((
            webhooks::project_id.eq(project.0),
            webhooks::key_id.eq(new.key),
            webhooks::created_by.eq(new.creator.id),
            webhooks::created_at.eq(Utc::now()),
            webhooks::secret.eq(new.secret),
            new.position,
            new.fields,
        ))
        .returning(Webhook::as_returning())
        .get_result(conn)?)
}

/// The number of webhooks of a project.
///
/// # Errors
///
/// Fails if the database fails.
pub fn count(conn: &mut Conn, project: ProjectId) -> Result<i64> {
    Ok(webhooks::table
        .filter(webhooks::project_id.eq(project.0))
        .count()
        .get_result(conn)?)
}

/// The ids among `ids` that are not cohorts of the project, or are deleted.
///
/// # Errors
///
/// Fails if the database fails.
pub fn unknown_cohorts(conn: &mut Conn, project: ProjectId, ids: &[i64]) -> Result<Vec<i64>> {
    let known: Vec<i64> = cohorts::table
        .filter(cohorts::project_id.eq(project.0))
        .filter(cohorts::id.eq_any(ids))
        .filter(diesel::dsl::not(cohorts::deleted))
        .select(cohorts::id)
        .load(conn)?;
    let unknown = ids.iter().filter(|id| !known.contains(id));
    Ok(unknown.copied().collect())
}

/// The webhook of the project with this id.
///
/// # Errors
///
/// Fails if the database fails.
pub fn find(conn: &mut Conn, project: ProjectId, id: i64) -> Result<Option<WebhookWithCreator>> {
    Ok(by_ids(conn, project, &[id])?.pop())
}

/// The encrypted secrets of a webhook of the project.
///
/// # Errors
///
/// Fails if the database fails.
pub fn secrets(conn: &mut Conn, project: ProjectId, id: i64) -> Result<Option<StoredSecrets>> {
    Ok(webhooks::table
        .filter(webhooks::project_id.eq(project.0))
        .filter(webhooks::id.eq(id))
        .select(StoredSecrets::as_select())
        .first(conn)
        .optional()?)
}

/// The encrypted secrets of all webhooks, with the ids of the webhook and its project.
///
/// # Errors
///
/// Fails if the database fails.
pub fn all_secrets(conn: &mut Conn) -> Result<Vec<(i64, ProjectId, StoredSecrets)>> {
    let rows: Vec<(i64, i64, StoredSecrets)> = webhooks::table
        .order(webhooks::id)
        .select((
            webhooks::id,
            webhooks::project_id,
            StoredSecrets::as_select(),
        ))
        .load(conn)?;
    let rows = rows.into_iter();
    Ok(rows
        .map(|(id, project, secrets)| (id, ProjectId(project), secrets))
        .collect())
}

/// Locks a webhook of the project until the transaction ends, and returns its position; `None` if there is no such webhook.
///
/// # Errors
///
/// Fails if the database fails.
pub fn lock(conn: &mut Conn, project: ProjectId, id: i64) -> Result<Option<LogPosition>> {
    Ok(webhooks::table
        .filter(webhooks::project_id.eq(project.0))
        .filter(webhooks::id.eq(id))
        .select(LogPosition::as_select())
        .for_no_key_update()
        .first(conn)
        .optional()?)
}

/// The encrypted secret of the newest webhook of all projects.
///
/// # Errors
///
/// Fails if the database fails.
pub fn newest_secret(conn: &mut Conn) -> Result<Option<Vec<u8>>> {
    Ok(webhooks::table
        .order(webhooks::id.desc())
        .select(webhooks::secret)
        .first(conn)
        .optional()?)
}

/// Replaces the fields of a webhook.
///
/// # Errors
///
/// Fails if the database fails.
pub fn update(conn: &mut Conn, id: i64, fields: &WebhookFields) -> Result<()> {
    diesel::update(webhooks::table.find(id))
        .set(fields)
        .execute(conn)?;
    Ok(())
}

/// Gives a webhook to a key, and clears why it was paused, and its failures.
///
/// # Errors
///
/// Fails if the database fails.
pub fn resume(conn: &mut Conn, id: i64, key: i64) -> Result<()> {
    diesel::update(webhooks::table.find(id))
        .set((
            webhooks::key_id.eq(key),
            webhooks::paused_reason.eq(None::<String>),
            webhooks::paused_detail.eq(None::<String>),
        ))
        .execute(conn)?;
    forget_failures(conn, id)
}

/// Replaces the secret of a webhook. The present one signs too, until `until`.
///
/// # Errors
///
/// Fails if the database fails.
pub fn rotate(conn: &mut Conn, id: i64, secret: &[u8], until: DateTime<Utc>) -> Result<()> {
    diesel::update(webhooks::table.find(id))
        .set((
            webhooks::old_secret.eq(webhooks::secret.nullable()),
            webhooks::old_secret_until.eq(until),
            webhooks::secret.eq(secret),
        ))
        .execute(conn)?;
    Ok(())
}

/// Sets the position from which a webhook continues. A claim on it ends, and the message that is being sent is forgotten.
///
/// # Errors
///
/// Fails if the database fails.
pub fn set_position(conn: &mut Conn, id: i64, position: &LogPosition) -> Result<()> {
    diesel::update(webhooks::table.find(id))
        .set((
            position,
            webhooks::message_id.eq(None::<String>),
            webhooks::message_rows.eq(None::<i64>),
            webhooks::message_digest.eq(None::<String>),
            webhooks::claim.eq(webhooks::claim + 1),
            webhooks::lease_until.eq(None::<DateTime<Utc>>),
        ))
        .execute(conn)?;
    Ok(())
}

/// Forgets the failures of a webhook, so that the next attempt follows at once.
///
/// # Errors
///
/// Fails if the database fails.
pub fn forget_failures(conn: &mut Conn, id: i64) -> Result<()> {
    diesel::update(webhooks::table.find(id))
        .set((
            webhooks::attempts.eq(0),
            webhooks::failing_since.eq(None::<DateTime<Utc>>),
            webhooks::next_attempt_at.eq(None::<DateTime<Utc>>),
        ))
        .execute(conn)?;
    Ok(())
}

/// Deletes a webhook and its deliveries. Returns false if the project has no such webhook.
///
/// # Errors
///
/// Fails if the database fails.
pub fn delete(conn: &mut Conn, project: ProjectId, id: i64) -> Result<bool> {
    let webhook = webhooks::table
        .filter(webhooks::project_id.eq(project.0))
        .filter(webhooks::id.eq(id));
    // The lock keeps a process from adding a delivery meanwhile.
    let locked: Option<i64> = webhook
        .select(webhooks::id)
        .for_update()
        .first(conn)
        .optional()?;
    if locked.is_none() {
        return Ok(false);
    }
    let of_webhook = webhook_deliveries::table.filter(webhook_deliveries::webhook_id.eq(id));
    diesel::delete(of_webhook).execute(conn)?;
    diesel::delete(webhooks::table.find(id)).execute(conn)?;
    Ok(true)
}

/// Deletes a webhook of a project that is being deleted, or the activity log of its webhooks if there is none left. Returns
/// the number of deleted rows.
///
/// # Errors
///
/// Fails if the database fails.
pub(crate) fn delete_next(conn: &mut Conn, project: ProjectId, limit: i64) -> Result<usize> {
    let next: Option<i64> = webhooks::table
        .filter(webhooks::project_id.eq(project.0))
        .order(webhooks::id)
        .select(webhooks::id)
        .first(conn)
        .optional()?;
    match next {
        Some(id) => crate::transaction(conn, |conn| delete(conn, project, id)).map(usize::from),
        None => activity::delete_of_project(conn, project, limit),
    }
}

/// The page of the project's webhooks, newest first.
///
/// # Errors
///
/// Fails if the database fails.
pub fn page(conn: &mut Conn, project: ProjectId, limit: i64, offset: i64) -> Result<PageIds> {
    let of_project = webhooks::table.filter(webhooks::project_id.eq(project.0));
    let ids = of_project
        .order(webhooks::id.desc())
        .limit(limit)
        .offset(offset)
        .select(webhooks::id)
        .load(conn)?;
    let count = of_project.count().get_result(conn)?;
    Ok(PageIds { ids, count })
}

/// The sizes of the project's webhooks `ids`.
///
/// # Errors
///
/// Fails if the database fails.
pub fn sizes(conn: &mut Conn, project: ProjectId, ids: &[i64]) -> Result<Vec<RowSize>> {
    let rows: Vec<(i64, Option<i32>, Option<i32>)> = webhooks::table
        .filter(webhooks::project_id.eq(project.0))
        .filter(webhooks::id.eq_any(ids))
        .select((
            webhooks::id,
            octet_length(webhooks::url.nullable()),
            octet_length(webhooks::description.nullable()),
        ))
        .load(conn)?;
    let sizes = rows
        .into_iter()
        .map(|(id, url, description)| RowSize::new(id, [url, description]));
    Ok(sizes.collect())
}

/// The project's webhooks `ids`, newest first.
///
/// # Errors
///
/// Fails if the database fails.
pub fn by_ids(conn: &mut Conn, project: ProjectId, ids: &[i64]) -> Result<Vec<WebhookWithCreator>> {
    Ok(webhooks::table
        .left_join(teammates::table)
        .filter(webhooks::project_id.eq(project.0))
        .filter(webhooks::id.eq_any(ids))
        .order(webhooks::id.desc())
        .select((Webhook::as_select(), Option::<Teammate>::as_select()))
        .load(conn)?)
}
