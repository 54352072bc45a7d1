//! Requests with an `Idempotency-Key`: which attempt carries a request out, and the response of the request.
//!
//! An attempt holds its row by a lease. The transaction of its effect marks the row, and fails if another attempt has the
//! row by then. So the effect is committed at most once, also if a process stops or loses its connection.

use chrono::{DateTime, TimeDelta, Utc};
use diesel::prelude::*;
use diesel::sql_types::BigInt;
use uuid::Uuid;

use crate::schema::idempotency_keys;
use crate::{Conn, JsonText, ProjectId, Result, transaction};

#[cfg(test)]
mod tests;

/// How long a request is remembered.
pub const LIFETIME: TimeDelta = TimeDelta::hours(24);

/// A request with an `Idempotency-Key`.
#[derive(Clone, Debug)]
pub struct KeyedRequest {
    /// The key of the caller.
    pub key: i64,
    /// The hash of the `Idempotency-Key`.
    pub hash: Vec<u8>,
    /// The project of the call.
    pub project: ProjectId,
    /// Whether the operation changes nothing.
    pub is_read: bool,
    /// The hash of everything that a retry repeats.
    pub fingerprint: Vec<u8>,
}

/// The right to carry a request out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestAttempt {
    /// The key of the caller.
    pub key: i64,
    /// The hash of the `Idempotency-Key`.
    pub hash: Vec<u8>,
    /// The same for all attempts of a request.
    pub request: Uuid,
    /// The number of the attempt.
    pub number: i64,
}

/// The response of a request.
#[derive(Clone, Debug, PartialEq, Eq, Queryable)]
pub struct StoredResponse {
    /// The HTTP status.
    pub status: i32,
    /// A JSON list of names and values.
    pub headers: JsonText,
    /// The body.
    pub body: Vec<u8>,
    /// Whether the body is encrypted.
    pub is_sealed: bool,
}

/// What the row of a request says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// The caller carries the request out.
    Granted(RequestAttempt),
    /// Another attempt is running.
    Running,
    /// The `Idempotency-Key` belongs to another request.
    OtherRequest,
    /// The request was carried out, with this response.
    Done(RequestAttempt, StoredResponse),
    /// The request was carried out, and its response is not stored.
    DoneWithoutResponse,
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = idempotency_keys)]
struct Row {
    fingerprint: Vec<u8>,
    request: Uuid,
    attempt: i64,
    created_at: DateTime<Utc>,
    lease_until: DateTime<Utc>,
    committed: bool,
    status: Option<i32>,
    headers: Option<JsonText>,
    body: Option<Vec<u8>>,
    is_sealed: bool,
}

impl Row {
    fn response(self) -> Option<StoredResponse> {
        Some(StoredResponse {
            status: self.status?,
            headers: self.headers?,
            body: self.body?,
            is_sealed: self.is_sealed,
        })
    }

    fn has_ended(&self, now: DateTime<Utc>) -> bool {
        self.status.is_some() || self.lease_until <= now
    }

    fn is_expired(&self, now: DateTime<Utc>) -> bool {
        self.created_at + LIFETIME <= now && self.has_ended(now)
    }
}

/// The row of an attempt that begins: without an effect and without a response.
#[derive(Insertable, AsChangeset)]
#[diesel(table_name = idempotency_keys, primary_key(key_id, hash), treat_none_as_null = true)]
#[diesel(treat_none_as_default_value = false)]
struct AttemptRow<'a> {
    key_id: i64,
    hash: &'a [u8],
    project_id: i64,
    is_read: bool,
    fingerprint: &'a [u8],
    request: Uuid,
    attempt: i64,
    created_at: DateTime<Utc>,
    lease_until: DateTime<Utc>,
    committed: bool,
    status: Option<i32>,
    headers: Option<JsonText>,
    body: Option<Vec<u8>>,
    is_sealed: bool,
}

impl<'a> AttemptRow<'a> {
    fn new(
        request: &'a KeyedRequest,
        attempt: &RequestAttempt,
        created_at: DateTime<Utc>,
        lease_until: DateTime<Utc>,
    ) -> Self {
        Self {
            key_id: request.key,
            hash: &request.hash,
            project_id: request.project.0,
            is_read: request.is_read,
            fingerprint: &request.fingerprint,
            request: attempt.request,
            attempt: attempt.number,
            created_at,
            lease_until,
            committed: false,
            status: None,
            headers: None,
            body: None,
            is_sealed: false,
        }
    }
}

/// The row of an attempt, unless another attempt has it.
#[diesel::dsl::auto_type(no_type_alias)]
fn of_attempt<'a>(attempt: &'a RequestAttempt) -> _ {
    let key: i64 = attempt.key;
    let hash: &'a [u8] = &attempt.hash;
    let number: i64 = attempt.number;
    idempotency_keys::table
        .filter(idempotency_keys::key_id.eq(key))
        .filter(idempotency_keys::hash.eq(hash))
        .filter(idempotency_keys::attempt.eq(number))
        .filter(idempotency_keys::status.is_null())
}

/// Claims a request until `lease`, or returns why another attempt has it.
///
/// # Errors
///
/// Fails if the database fails.
pub fn claim(conn: &mut Conn, request: &KeyedRequest, lease: TimeDelta) -> Result<Claim> {
    transaction(conn, |conn| {
        let now = Utc::now();
        loop {
            if let Some(attempt) = begin(conn, request, now, lease)? {
                return Ok(Claim::Granted(attempt));
            }
            let row = idempotency_keys::table
                .find((request.key, &request.hash))
                .select(Row::as_select())
                .for_update()
                .first(conn)
                .optional()?;
            // Without a row, it was deleted a moment ago.
            if let Some(row) = row {
                return continue_with(conn, request, row, now, lease);
            }
        }
    })
}

/// Inserts the row of a request; `None` if there is one.
fn begin(
    conn: &mut Conn,
    request: &KeyedRequest,
    now: DateTime<Utc>,
    lease: TimeDelta,
) -> Result<Option<RequestAttempt>> {
    let attempt = RequestAttempt {
        key: request.key,
        hash: request.hash.clone(),
        request: Uuid::now_v7(),
        number: 1,
    };
    let inserted = diesel::insert_into(idempotency_keys::table)
        .values(AttemptRow::new(request, &attempt, now, now + lease))
        .on_conflict_do_nothing()
        .execute(conn)?;
    Ok((inserted == 1).then_some(attempt))
}

/// Decides about a request that has a row, which the caller has locked.
fn continue_with(
    conn: &mut Conn,
    request: &KeyedRequest,
    row: Row,
    now: DateTime<Utc>,
    lease: TimeDelta,
) -> Result<Claim> {
    let mut attempt = RequestAttempt {
        key: request.key,
        hash: request.hash.clone(),
        request: row.request,
        number: row.attempt + 1,
    };
    let mut created_at = row.created_at;
    if row.is_expired(now) {
        attempt.request = Uuid::now_v7();
        created_at = now;
    } else if row.fingerprint != request.fingerprint {
        return Ok(Claim::OtherRequest);
    } else if !row.has_ended(now) {
        return Ok(Claim::Running);
    } else if row.status.is_some() || row.committed {
        attempt.number = row.attempt;
        return Ok(match row.response() {
            Some(response) => Claim::Done(attempt, response),
            None => Claim::DoneWithoutResponse,
        });
    }
    diesel::update(idempotency_keys::table.find((request.key, &request.hash)))
        .set(AttemptRow::new(request, &attempt, created_at, now + lease))
        .execute(conn)?;
    Ok(Claim::Granted(attempt))
}

/// Extends the lease of an attempt. Returns false if another attempt has the request.
///
/// # Errors
///
/// Fails if the database fails.
pub fn renew(conn: &mut Conn, attempt: &RequestAttempt, lease: TimeDelta) -> Result<bool> {
    let renewed = diesel::update(of_attempt(attempt))
        .set(idempotency_keys::lease_until.eq(Utc::now() + lease))
        .execute(conn)?;
    Ok(renewed == 1)
}

/// Notes, in the transaction of the effect of a request, that it has an effect. Returns false if another attempt has the
/// request; the caller then rolls the transaction back.
///
/// # Errors
///
/// Fails if the database fails.
pub fn mark_committed(conn: &mut Conn, attempt: &RequestAttempt) -> Result<bool> {
    let marked = diesel::update(of_attempt(attempt))
        .set(idempotency_keys::committed.eq(true))
        .execute(conn)?;
    Ok(marked == 1)
}

/// Ends an attempt with a response for all retries.
///
/// # Errors
///
/// Fails if the database fails.
pub fn finish(conn: &mut Conn, attempt: &RequestAttempt, response: &StoredResponse) -> Result<()> {
    diesel::update(of_attempt(attempt))
        .set((
            idempotency_keys::status.eq(Some(response.status)),
            idempotency_keys::headers.eq(Some(&response.headers)),
            idempotency_keys::body.eq(Some(&response.body)),
            idempotency_keys::is_sealed.eq(response.is_sealed),
        ))
        .execute(conn)?;
    Ok(())
}

/// Ends an attempt without a response. A retry is carried out, unless the attempt had an effect.
///
/// # Errors
///
/// Fails if the database fails.
pub fn release(conn: &mut Conn, attempt: &RequestAttempt) -> Result<()> {
    transaction(conn, |conn| {
        let without_effect = of_attempt(attempt).filter(idempotency_keys::committed.eq(false));
        if diesel::delete(without_effect).execute(conn)? == 0 {
            diesel::update(of_attempt(attempt))
                .set(idempotency_keys::lease_until.eq(Utc::now()))
                .execute(conn)?;
        }
        Ok(())
    })
}

/// Deletes the responses of requests of a project that changed nothing, because they may show deleted persons. A retry is
/// carried out again.
///
/// # Errors
///
/// Fails if the database fails.
pub fn forget_reads(conn: &mut Conn, project: ProjectId) -> Result<usize> {
    let reads = idempotency_keys::table
        .filter(idempotency_keys::project_id.eq(project.0))
        .filter(idempotency_keys::is_read)
        .filter(idempotency_keys::status.is_not_null());
    Ok(diesel::delete(reads).execute(conn)?)
}

/// Deletes all requests of a project.
///
/// # Errors
///
/// Fails if the database fails.
pub fn delete_of_project(conn: &mut Conn, project: ProjectId) -> Result<usize> {
    let of_project = idempotency_keys::table.filter(idempotency_keys::project_id.eq(project.0));
    Ok(diesel::delete(of_project).execute(conn)?)
}

/// Deletes at most `limit` requests that are no longer remembered.
///
/// # Errors
///
/// Fails if the database fails.
pub fn delete_expired(conn: &mut Conn, limit: i64) -> Result<usize> {
    let now = Utc::now();
    let expired: Vec<(i64, Vec<u8>)> = idempotency_keys::table
        .filter(idempotency_keys::created_at.le(now - LIFETIME))
        .filter(idempotency_keys::lease_until.le(now))
        .order(idempotency_keys::created_at)
        .limit(limit)
        .select((idempotency_keys::key_id, idempotency_keys::hash))
        .load(conn)?;
    let mut deleted = 0;
    for (key, hash) in &expired {
        let row = idempotency_keys::table.find((key, hash));
        // A retry may have begun the request again.
        let expired = row.filter(idempotency_keys::created_at.le(now - LIFETIME));
        deleted += diesel::delete(expired).execute(conn)?;
    }
    Ok(deleted)
}

/// What one key stores at most.
#[derive(Clone, Copy, Debug)]
pub struct StoredLimits {
    /// Responses.
    pub responses: i64,
    /// Bytes of their bodies.
    pub bytes: i64,
}

pub(crate) const DELETE_EXCESS: &str = "\
    delete from idempotency_keys k using ( \
        select key_id, hash, attempt from ( \
            select key_id, hash, attempt, row_number() over newer as responses, \
                sum(octet_length(body)) over newer as bytes \
            from idempotency_keys where status is not null \
            window newer as (partition by key_id order by created_at desc, hash)) r \
        where responses > $1 or bytes > $2 limit $3) excess \
    where k.key_id = excess.key_id and k.hash = excess.hash and k.attempt = excess.attempt";

/// Deletes at most `limit` of the oldest responses of each key that exceeds the limits.
///
/// # Errors
///
/// Fails if the database fails.
pub fn delete_excess(conn: &mut Conn, limits: StoredLimits, limit: i64) -> Result<usize> {
    Ok(diesel::sql_query(DELETE_EXCESS)
        .bind::<BigInt, _>(limits.responses)
        .bind::<BigInt, _>(limits.bytes)
        .bind::<BigInt, _>(limit)
        .execute(conn)?)
}
