//! Claims on webhooks: one process at a time sends the messages of a webhook.
//!
//! A claim lasts for a lease, which its process extends while it sends. All writes of the process require the number of its
//! claim, so a process that has lost its claim writes nothing. No transaction is open while a message is sent.

use chrono::{DateTime, TimeDelta, Utc};
use diesel::prelude::*;

use super::deliveries::{self, Delivery, DeliveryOutcome};
use super::{LogPosition, StoredSecrets, WebhookFields, activity};
use crate::schema::{keys, projects, webhooks};
use crate::{Conn, ProjectId, Result, transaction};

/// An enabled webhook that no process has claimed.
#[derive(Clone, Debug, PartialEq, Eq, Queryable)]
pub struct FreeWebhook {
    /// The id of the webhook.
    pub id: i64,
    project_id: i64,
    position: i64,
    message_id: Option<String>,
    attempts: i64,
    key_revoked_at: Option<DateTime<Utc>>,
    key_expires_at: Option<DateTime<Utc>>,
}

impl FreeWebhook {
    /// The project of the webhook.
    pub fn project(&self) -> ProjectId {
        ProjectId(self.project_id)
    }

    /// Whether the webhook has something to send if the last change of its project has this number.
    pub fn has_changes(&self, head: i64) -> bool {
        self.message_id.is_some() || head > self.position
    }

    /// Whether the last attempt failed.
    pub fn is_failing(&self) -> bool {
        self.attempts > 0
    }

    /// Whether the key of the webhook is revoked or has expired.
    pub fn has_lost_key(&self, now: DateTime<Utc>) -> bool {
        self.key_revoked_at.is_some() || self.key_expires_at.is_some_and(|time| time <= now)
    }
}

/// The enabled webhooks that no process has claimed, if their next attempt is due. Projects that are being deleted have none.
///
/// # Errors
///
/// Fails if the database fails.
pub fn free(conn: &mut Conn, now: DateTime<Utc>) -> Result<Vec<FreeWebhook>> {
    Ok(webhooks::table
        .inner_join(keys::table)
        .inner_join(projects::table)
        .filter(webhooks::enabled)
        .filter(projects::deletion_started_at.is_null())
        .filter(
            webhooks::lease_until
                .is_null()
                .or(webhooks::lease_until.le(now)),
        )
        .filter(
            webhooks::next_attempt_at
                .is_null()
                .or(webhooks::next_attempt_at.le(now)),
        )
        .order(webhooks::id)
        .select((
            webhooks::id,
            webhooks::project_id,
            webhooks::position,
            webhooks::message_id,
            webhooks::attempts,
            keys::revoked_at,
            keys::expires_at,
        ))
        .load(conn)?)
}

/// The first time after `now` at which a claim on an enabled webhook ends, an attempt is due, or a key expires.
///
/// # Errors
///
/// Fails if the database fails.
pub fn next_time(conn: &mut Conn, now: DateTime<Utc>) -> Result<Option<DateTime<Utc>>> {
    type Times = (
        Option<DateTime<Utc>>,
        Option<DateTime<Utc>>,
        Option<DateTime<Utc>>,
    );
    let is_later = webhooks::lease_until
        .gt(now)
        .or(webhooks::next_attempt_at.gt(now))
        .or(keys::expires_at.gt(now));
    let times: Vec<Times> = webhooks::table
        .inner_join(keys::table)
        .filter(webhooks::enabled)
        .filter(is_later)
        .select((
            webhooks::lease_until,
            webhooks::next_attempt_at,
            keys::expires_at,
        ))
        .load(conn)?;
    let times = times.into_iter();
    let times = times.flat_map(|(lease, attempt, expiry)| [lease, attempt, expiry]);
    Ok(times.flatten().filter(|time| *time > now).min())
}

/// A webhook that this process has claimed.
#[derive(Clone, Debug, Queryable, Selectable)]
#[diesel(table_name = webhooks)]
pub struct ClaimedWebhook {
    /// The id of the webhook.
    pub id: i64,
    project_id: i64,
    claim: i64,
    /// The columns that callers decide.
    #[diesel(embed)]
    pub fields: WebhookFields,
    /// The encrypted secrets.
    #[diesel(embed)]
    pub secrets: StoredSecrets,
    /// The position after the last accepted message.
    #[diesel(embed)]
    pub position: LogPosition,
    message_id: Option<String>,
    message_rows: Option<i64>,
    message_digest: Option<String>,
    /// The number of failed attempts of the message.
    pub attempts: i64,
    /// The time of the first failed attempt since the last success.
    pub failing_since: Option<DateTime<Utc>>,
}

/// A message that is being sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenMessage {
    /// The id of the message; the same in all attempts.
    pub id: String,
    /// The number of its changes.
    pub rows: i64,
    /// A hash of its changes.
    pub digest: String,
}

impl OpenMessage {
    /// The number of its changes.
    pub fn limit(&self) -> usize {
        usize::try_from(self.rows).unwrap_or(1).max(1)
    }
}

impl ClaimedWebhook {
    /// The project of the webhook.
    pub fn project(&self) -> ProjectId {
        ProjectId(self.project_id)
    }

    /// The message that is being sent; `None` if the last one was accepted.
    pub fn message(&self) -> Option<OpenMessage> {
        Some(OpenMessage {
            id: self.message_id.clone()?,
            rows: self.message_rows?,
            digest: self.message_digest.clone()?,
        })
    }
}

/// The row of a claimed webhook; no row if the claim is lost.
macro_rules! claimed_row {
    ($claimed:expr) => {
        webhooks::table
            .filter(webhooks::id.eq($claimed.id))
            .filter(webhooks::claim.eq($claimed.claim))
    };
}

/// Claims a webhook for the length of a lease; `None` if another process has claimed it, or it is not enabled any more.
///
/// # Errors
///
/// Fails if the database fails.
pub fn claim(conn: &mut Conn, id: i64, lease: TimeDelta) -> Result<Option<ClaimedWebhook>> {
    let now = Utc::now();
    let is_free = webhooks::lease_until
        .is_null()
        .or(webhooks::lease_until.le(now));
    let row = webhooks::table
        .filter(webhooks::id.eq(id))
        .filter(webhooks::enabled)
        .filter(is_free);
    Ok(diesel::update(row)
        .set((
            webhooks::claim.eq(webhooks::claim + 1),
            webhooks::lease_until.eq(now + lease),
        ))
        .returning(ClaimedWebhook::as_returning())
        .get_result(conn)
        .optional()?)
}

/// Reads a claimed webhook again, and extends its lease; `None` if the claim is lost, or the webhook is not enabled any more.
///
/// # Errors
///
/// Fails if the database fails.
pub fn renew(
    conn: &mut Conn,
    claimed: &ClaimedWebhook,
    lease: TimeDelta,
) -> Result<Option<ClaimedWebhook>> {
    let row = claimed_row!(claimed).filter(webhooks::enabled);
    Ok(diesel::update(row)
        .set(webhooks::lease_until.eq(Utc::now() + lease))
        .returning(ClaimedWebhook::as_returning())
        .get_result(conn)
        .optional()?)
}

/// Records a message before its first attempt. Returns false if the claim is lost.
///
/// # Errors
///
/// Fails if the database fails.
pub fn open_message(
    conn: &mut Conn,
    claimed: &ClaimedWebhook,
    message: &OpenMessage,
) -> Result<bool> {
    let rows = diesel::update(claimed_row!(claimed))
        .set((
            webhooks::message_id.eq(&message.id),
            webhooks::message_rows.eq(message.rows),
            webhooks::message_digest.eq(&message.digest),
        ))
        .execute(conn)?;
    Ok(rows == 1)
}

/// Moves a webhook to a position, without a message or failures. Returns false if the claim is lost.
///
/// # Errors
///
/// Fails if the database fails.
pub fn advance(conn: &mut Conn, claimed: &ClaimedWebhook, position: &LogPosition) -> Result<bool> {
    let rows = diesel::update(claimed_row!(claimed))
        .set((
            position,
            webhooks::message_id.eq(None::<String>),
            webhooks::message_rows.eq(None::<i64>),
            webhooks::message_digest.eq(None::<String>),
            webhooks::attempts.eq(0),
            webhooks::failing_since.eq(None::<DateTime<Utc>>),
            webhooks::next_attempt_at.eq(None::<DateTime<Utc>>),
        ))
        .execute(conn)?;
    Ok(rows == 1)
}

/// What follows an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AfterAttempt {
    /// The message is accepted, and the webhook continues from this position.
    Continue(LogPosition),
    /// The message is sent again at this time.
    Retry(DateTime<Utc>),
    /// The webhook is paused for this reason.
    Pause(PauseReason),
}

/// Why the service pauses a webhook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PauseReason {
    /// The reason in the API.
    pub name: &'static str,
    /// The reason as text, with a remedy.
    pub detail: String,
}

/// Records an attempt and what follows. Returns the delivery; `None` if the claim is lost.
///
/// # Errors
///
/// Fails if the database fails.
pub fn finish(
    conn: &mut Conn,
    claimed: &ClaimedWebhook,
    outcome: &DeliveryOutcome,
    next: &AfterAttempt,
) -> Result<Option<Delivery>> {
    transaction(conn, |conn| {
        let is_mine = match next {
            AfterAttempt::Continue(position) => advance(conn, claimed, position)?,
            AfterAttempt::Retry(time) => fail(conn, claimed, outcome, Some(*time))?,
            AfterAttempt::Pause(reason) => {
                fail(conn, claimed, outcome, None)? && pause(conn, claimed, reason)?
            }
        };
        if !is_mine {
            return Ok(None);
        }
        deliveries::record(conn, claimed.id, outcome)
    })
}

fn fail(
    conn: &mut Conn,
    claimed: &ClaimedWebhook,
    outcome: &DeliveryOutcome,
    next: Option<DateTime<Utc>>,
) -> Result<bool> {
    let rows = diesel::update(claimed_row!(claimed))
        .set((
            webhooks::attempts.eq(outcome.attempt),
            webhooks::failing_since.eq(claimed.failing_since.unwrap_or(outcome.started_at)),
            webhooks::next_attempt_at.eq(next),
        ))
        .execute(conn)?;
    Ok(rows == 1)
}

/// Pauses a claimed webhook, and records this in its activity log. Returns false if the claim is lost.
///
/// # Errors
///
/// Fails if the database fails.
pub fn pause(conn: &mut Conn, claimed: &ClaimedWebhook, reason: &PauseReason) -> Result<bool> {
    let rows = diesel::update(claimed_row!(claimed))
        .set((
            webhooks::enabled.eq(false),
            webhooks::paused_reason.eq(reason.name),
            webhooks::paused_detail.eq(&reason.detail),
        ))
        .execute(conn)?;
    if rows == 1 {
        let entry = activity::NewWebhookActivity {
            webhook: claimed.id,
            activity: "paused",
            description: &claimed.fields.description,
            changes: None,
        };
        activity::record(conn, claimed.project(), None, &entry)?;
    }
    Ok(rows == 1)
}

/// Ends the claim on a webhook, so that another process can claim it at once.
///
/// # Errors
///
/// Fails if the database fails.
pub fn release(conn: &mut Conn, claimed: &ClaimedWebhook) -> Result<()> {
    diesel::update(claimed_row!(claimed))
        .set(webhooks::lease_until.eq(None::<DateTime<Utc>>))
        .execute(conn)?;
    Ok(())
}
