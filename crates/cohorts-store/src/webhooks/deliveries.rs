//! Deliveries: the outcome of each attempt to send a message, without the message itself.

use chrono::{DateTime, Utc};
use diesel::prelude::*;

use crate::pages::{PageIds, RowSize, octet_length};
use crate::schema::{webhook_deliveries as deliveries, webhooks};
use crate::{Conn, ProjectId, Result};

/// Deliveries that a webhook keeps.
const KEPT: i64 = 1_000;

/// A row of `webhook_deliveries`.
#[derive(Clone, Debug, Queryable, Selectable)]
#[diesel(table_name = deliveries)]
pub struct Delivery {
    /// The id, unique among all webhooks.
    pub id: i64,
    /// The columns that the sender decides.
    #[diesel(embed)]
    pub outcome: DeliveryOutcome,
}

/// The outcome of an attempt.
#[derive(Clone, Debug, PartialEq, Eq, Queryable, Selectable, Insertable)]
#[diesel(table_name = deliveries)]
pub struct DeliveryOutcome {
    /// The id of the message; the same in all attempts.
    pub message_id: String,
    /// The type of the message.
    pub kind: String,
    /// The cursor before the changes; `None` for a test.
    pub from_cursor: Option<String>,
    /// The cursor after the changes; `None` for a test.
    pub cursor: Option<String>,
    /// The number of changes in the message.
    pub changes: i64,
    /// The number of the attempt; the first is 1.
    pub attempt: i64,
    /// The status of the response; `None` if there was none.
    pub response_status: Option<i64>,
    /// The beginning of the response; `None` if there was none.
    pub response_body: Option<String>,
    /// Why the message was not accepted; `None` if it was.
    pub error: Option<String>,
    /// The time of the attempt.
    pub started_at: DateTime<Utc>,
    /// How long the attempt took, in milliseconds.
    pub duration_ms: i64,
}

#[cfg(test)]
impl DeliveryOutcome {
    /// An accepted message without changes.
    pub(crate) fn of_test(message: &str) -> Self {
        Self {
            message_id: message.to_owned(),
            kind: "webhook.test".to_owned(),
            from_cursor: None,
            cursor: None,
            changes: 0,
            attempt: 1,
            response_status: Some(204),
            response_body: None,
            error: None,
            started_at: Utc::now(),
            duration_ms: 1,
        }
    }
}

/// Writes the outcome of an attempt, and deletes the oldest deliveries beyond the number that a webhook keeps. Returns `None`
/// if the webhook is deleted.
///
/// # Errors
///
/// Fails if the database fails.
pub fn record(
    conn: &mut Conn,
    webhook: i64,
    outcome: &DeliveryOutcome,
) -> Result<Option<Delivery>> {
    // A deletion of the webhook waits until this transaction ends.
    let locked: Option<i64> = webhooks::table
        .find(webhook)
        .select(webhooks::id)
        .for_key_share()
        .first(conn)
        .optional()?;
    if locked.is_none() {
        return Ok(None);
    }
    let delivery = diesel::insert_into(deliveries::table)
        .values((deliveries::webhook_id.eq(webhook), outcome))
        .returning(Delivery::as_returning())
        .get_result(conn)?;
    let of_webhook = deliveries::table.filter(deliveries::webhook_id.eq(webhook));
    let newest_to_delete: Option<i64> = of_webhook
        .order(deliveries::id.desc())
        .offset(KEPT)
        .select(deliveries::id)
        .first(conn)
        .optional()?;
    if let Some(id) = newest_to_delete {
        diesel::delete(of_webhook.filter(deliveries::id.le(id))).execute(conn)?;
    }
    Ok(Some(delivery))
}

/// The deliveries of a webhook, if it belongs to the project.
#[diesel::dsl::auto_type(no_type_alias)]
fn deliveries_of(project: i64, webhook: i64) -> _ {
    let ids = webhooks::table
        .filter(
            webhooks::project_id
                .eq(project)
                .and(webhooks::id.eq(webhook)),
        )
        .select(webhooks::id);
    deliveries::table.filter(deliveries::webhook_id.eq_any(ids))
}

/// The page of a webhook's deliveries, newest first.
///
/// # Errors
///
/// Fails if the database fails.
pub fn page(
    conn: &mut Conn,
    project: ProjectId,
    webhook: i64,
    limit: i64,
    offset: i64,
) -> Result<PageIds> {
    let of_webhook = deliveries_of(project.0, webhook);
    let ids = of_webhook
        .order(deliveries::id.desc())
        .limit(limit)
        .offset(offset)
        .select(deliveries::id)
        .load(conn)?;
    let count = of_webhook.count().get_result(conn)?;
    Ok(PageIds { ids, count })
}

/// The sizes of the webhook's deliveries `ids`.
///
/// # Errors
///
/// Fails if the database fails.
pub fn sizes(
    conn: &mut Conn,
    project: ProjectId,
    webhook: i64,
    ids: &[i64],
) -> Result<Vec<RowSize>> {
    let rows: Vec<(i64, Option<i32>, Option<i32>)> = deliveries_of(project.0, webhook)
        .filter(deliveries::id.eq_any(ids))
        .select((
            deliveries::id,
            octet_length(deliveries::response_body),
            octet_length(deliveries::error),
        ))
        .load(conn)?;
    let sizes = rows
        .into_iter()
        .map(|(id, body, error)| RowSize::new(id, [body, error]));
    Ok(sizes.collect())
}

/// The webhook's deliveries `ids`, newest first.
///
/// # Errors
///
/// Fails if the database fails.
pub fn by_ids(
    conn: &mut Conn,
    project: ProjectId,
    webhook: i64,
    ids: &[i64],
) -> Result<Vec<Delivery>> {
    Ok(deliveries_of(project.0, webhook)
        .filter(deliveries::id.eq_any(ids))
        .order(deliveries::id.desc())
        .select(Delivery::as_select())
        .load(conn)?)
}
