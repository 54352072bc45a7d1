//! The messages of webhooks: their bodies from the feed of changes, within the limits of a message.
//!
//! A message keeps its id in all attempts while it has the same changes. If the log was compacted since, or a person was
//! deleted, the changes differ, and the message gets another id: a receiver may ignore an id that it knows.

use chrono::{DateTime, SecondsFormat, Utc};
use cohorts_store::webhooks::LogPosition;
use cohorts_store::webhooks::queue::{self, ClaimedWebhook, OpenMessage};
use cohorts_store::{Conn, snapshot};
use hyper::body::Bytes;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::error::Error;
use crate::feed::{Feed, FeedCursor, FeedRow};

/// The type of a message with changes.
const CHANGES: &str = "cohort.changes";
/// The type of a message of a test.
const TEST: &str = "webhook.test";
/// The most changes of a message.
const MAX_ROWS: usize = 1_000;
/// The most bytes of the changes of a message. The rest of 1 MiB is for the fields around them.
const MAX_BYTES: usize = (1 << 20) - 4_096;

/// A message to send.
#[derive(Clone, Debug)]
pub struct Message {
    /// The header `webhook-id`.
    pub id: String,
    /// The type of the message.
    pub kind: &'static str,
    pub body: Bytes,
    /// The number of changes.
    pub changes: i64,
    /// The position before and after the changes; `None` for a test.
    pub span: Option<MessageSpan>,
}

/// The part of the log that a message has.
#[derive(Clone, Debug)]
pub struct MessageSpan {
    /// The cursor before the changes.
    pub from: String,
    /// The position after the changes.
    pub through: LogPosition,
}

#[derive(Serialize)]
struct MessageBody<'a, D> {
    #[serde(rename = "type")]
    kind: &'a str,
    timestamp: String,
    data: D,
}

#[derive(Serialize)]
struct ChangesData<'a> {
    webhook_id: i64,
    project_id: i64,
    results: &'a [Box<RawValue>],
    cursor: &'a str,
}

#[derive(Serialize)]
struct TestData {
    webhook_id: i64,
}

/// The id of a new message.
pub fn new_message_id() -> String {
    format!("msg_{}", Uuid::now_v7().simple())
}

/// The position of a cursor, as the store has it.
pub fn log_position(cursor: &FeedCursor) -> LogPosition {
    LogPosition {
        cursor: cursor.to_string(),
        position: cursor.finished(),
    }
}

/// What follows the position of a webhook.
#[derive(Debug)]
pub enum NextMessage {
    Message(Message),
    /// No changes of the cohorts of the webhook. The webhook was moved to the end of the log, or behind a part of it.
    Nothing {
        has_more: bool,
    },
    /// The log does not have the changes after the position.
    Expired,
    /// Another process has claimed the webhook, or it was changed.
    Lost,
}

impl Message {
    /// A message without changes.
    ///
    /// # Errors
    ///
    /// Never fails in practice: the body is a small JSON object.
    pub fn test(webhook: i64, now: DateTime<Utc>) -> anyhow::Result<Self> {
        let data = TestData {
            webhook_id: webhook,
        };
        Ok(Self {
            id: new_message_id(),
            kind: TEST,
            body: body(TEST, now, data)?,
            changes: 0,
            span: None,
        })
    }

    /// The next message of a webhook, recorded as the one that is being sent.
    pub fn next(conn: &mut Conn, claimed: &ClaimedWebhook) -> Result<NextMessage, Error> {
        let feed = Feed::new(claimed.project(), claimed.fields.cohort_ids.clone());
        let from = &claimed.position.cursor;
        let Ok(cursor) = FeedCursor::parse(&feed, from) else {
            return Ok(NextMessage::Expired);
        };
        let open = claimed.message();
        let limit = open.as_ref().map_or(MAX_ROWS, OpenMessage::limit);
        let page = snapshot(conn, |conn| feed.page(conn, &cursor, limit))?;
        let Some(page) = page else {
            return Ok(NextMessage::Expired);
        };
        let count = page.rows.len();
        let (rows, results) = fitting(page.rows)?;
        let Some(last) = rows.last() else {
            let through = log_position(&page.cursor);
            return Ok(match queue::advance(conn, claimed, &through)? {
                true => NextMessage::Nothing {
                    has_more: page.has_more,
                },
                false => NextMessage::Lost,
            });
        };
        let is_cut = rows.len() < count;
        let through = log_position(if is_cut { &last.cursor } else { &page.cursor });
        let digest = digest(&rows);
        let id = match open.filter(|open| open.digest == digest) {
            Some(open) => open.id,
            None => {
                let message = OpenMessage {
                    id: new_message_id(),
                    rows: rows.len() as i64,
                    digest,
                };
                if !queue::open_message(conn, claimed, &message)? {
                    return Ok(NextMessage::Lost);
                }
                message.id
            }
        };
        let data = ChangesData {
            webhook_id: claimed.id,
            project_id: claimed.project().0,
            results: &results,
            cursor: &through.cursor,
        };
        Ok(NextMessage::Message(Self {
            id,
            kind: CHANGES,
            body: body(CHANGES, last.change.at, data)?,
            changes: results.len() as i64,
            span: Some(MessageSpan {
                from: from.clone(),
                through,
            }),
        }))
    }
}

/// The first rows that fit into a message, at least one, and their JSON.
fn fitting(mut rows: Vec<FeedRow>) -> anyhow::Result<(Vec<FeedRow>, Vec<Box<RawValue>>)> {
    let results: Result<Vec<_>, _> = rows.iter().map(|row| to_raw_value(&row.change)).collect();
    let mut results = results?;
    let count = count_fitting(results.iter().map(|result| result.get().len() + 1));
    rows.truncate(count);
    results.truncate(count);
    Ok((rows, results))
}

/// How many of the first rows with these sizes fit into a message; at least one, if there is one.
fn count_fitting(sizes: impl Iterator<Item = usize>) -> usize {
    let (mut bytes, mut count) = (0, 0);
    for size in sizes {
        bytes += size;
        if count > 0 && bytes > MAX_BYTES {
            break;
        }
        count += 1;
    }
    count
}

fn body(kind: &str, time: DateTime<Utc>, data: impl Serialize) -> anyhow::Result<Bytes> {
    let envelope = MessageBody {
        kind,
        timestamp: time.to_rfc3339_opts(SecondsFormat::Micros, true),
        data,
    };
    Ok(serde_json::to_vec(&envelope)?.into())
}

/// A hash of the changes, without what may change later: the distinct ids of the persons.
fn digest(rows: &[FeedRow]) -> String {
    let mut hash = Sha256::new();
    for FeedRow { change: row, .. } in rows {
        hash.update(row.cohort_id.to_be_bytes());
        hash.update(row.version.to_be_bytes());
        hash.update(row.change.to_string());
        hash.update(row.person.uuid);
    }
    hex::encode(hash.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_has_at_most_one_mebibyte_and_at_least_one_change() {
        let count = |sizes: &[usize]| count_fitting(sizes.iter().copied());
        assert_eq!(count(&[]), 0);
        assert_eq!(count(&[2 << 20, 1]), 1);
        assert_eq!(count(&[1, 2 << 20]), 1);
        assert_eq!(count(&[100; 1_000]), 1_000);
        let fitting = count(&[8_192; 1_000]);
        assert!(fitting * 8_192 <= MAX_BYTES && (fitting + 1) * 8_192 > MAX_BYTES);
    }

    #[test]
    fn a_test_has_no_changes() {
        let message = Message::test(7, DateTime::UNIX_EPOCH).unwrap();
        let expected = r#"{"type":"webhook.test","timestamp":"1970-01-01T00:00:00.000000Z","data":{"webhook_id":7}}"#;
        assert_eq!(message.body, expected);
        assert!(message.id.starts_with("msg_") && message.span.is_none());
    }
}
