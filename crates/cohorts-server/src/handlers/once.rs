//! Requests with an `Idempotency-Key` are carried out once, and a retry gets the response of the first request.
//!
//! A request holds its key by a lease, and goes on if its client disconnects. The transaction of its effect marks the key, so
//! the effect is committed at most once, also if the process stops before the response is stored.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::body::MessageBody;
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::{HttpResponse, rt};
use anyhow::{Context, anyhow};
use chrono::TimeDelta;
use cohorts_api::{IdempotencyKey, Operation};
use cohorts_store::idempotency::{self, Claim, KeyedRequest, RequestAttempt, StoredResponse};
use cohorts_store::{Conn, JsonText, Lane, Store};
use sha2::{Digest, Sha256};
use tokio::time::{sleep, timeout};

use super::Service;
use crate::auth::Caller;
use crate::blocking;
use crate::error::{Error, RetryRefusal};
use crate::logging::RequestId;

/// How long a request holds its key after the last renewal.
const LEASE: TimeDelta = TimeDelta::seconds(20);
const RENEWAL: Duration = Duration::from_secs(5);
/// How long the end of a request is tried again while the database restarts. The lease lasts longer.
const END_LIMIT: Duration = Duration::from_secs(10);
const END_PAUSE: Duration = Duration::from_millis(200);
/// The longest body that is stored.
const MAX_BODY: usize = 1 << 20;
/// The headers that are stored.
const HEADERS: [HeaderName; 3] = [header::CONTENT_TYPE, header::ETAG, header::LOCATION];
/// The tag of operations with secrets in their responses.
const SECRET_TAG: &str = "webhooks";

tokio::task_local! {
    static ATTEMPT: RequestAttempt;
}

/// The attempt that carries out the current request; `None` for a request without an `Idempotency-Key`.
pub(super) fn current() -> Option<RequestAttempt> {
    ATTEMPT.try_with(RequestAttempt::clone).ok()
}

/// Marks the key of a request in the transaction of its effect. Fails if another attempt has the request.
pub(super) fn mark_committed(
    conn: &mut Conn,
    attempt: Option<&RequestAttempt>,
) -> Result<(), Error> {
    match attempt {
        Some(attempt) if !idempotency::mark_committed(conn, attempt)? => {
            Err(Error::Retry(RetryRefusal::Running))
        }
        _ => Ok(()),
    }
}

impl Service {
    /// Carries a request out by `run`, or returns the response of an earlier one with the same key.
    pub(super) async fn carry_out_once(
        &self,
        operation: &'static Operation,
        key: IdempotencyKey,
        caller: Caller,
        run: impl AsyncFnOnce(Caller) -> Result<HttpResponse, Error> + 'static,
    ) -> Result<HttpResponse, Error> {
        let request = keyed_request(operation, &key, &caller);
        let (service, id) = (self.clone(), RequestId::current());
        let task = async move {
            match service.claim(request).await? {
                Claim::Granted(attempt) => {
                    let work = ATTEMPT.scope(attempt.clone(), run(caller));
                    let response = service.with_lease(&attempt, work).await;
                    let response = response.unwrap_or_else(HttpResponse::from_error);
                    Ok(service.end(operation, attempt, response).await)
                }
                Claim::Done(attempt, response) => service.stored(&attempt, response),
                Claim::Running => Err(Error::Retry(RetryRefusal::Running)),
                Claim::OtherRequest => Err(Error::Retry(RetryRefusal::OtherRequest)),
                Claim::DoneWithoutResponse => Err(Error::Retry(RetryRefusal::NoResponse)),
            }
        };
        // A task of its own goes on if the client disconnects.
        let task = rt::spawn(id.accompany(task));
        task.await
            .unwrap_or_else(|cause| Err(Error::Internal(anyhow!("a request ended early: {cause}"))))
    }

    async fn claim(&self, request: KeyedRequest) -> Result<Claim, Error> {
        let claim = move |conn: &mut Conn| Ok(idempotency::claim(conn, &request, LEASE)?);
        blocking::read(&self.key_store(), claim).await
    }

    /// The connections for keys, which no project can use up.
    fn key_store(&self) -> Store {
        Store::in_lane(&self.store, Lane::Authorization)
    }

    /// Waits for `work`, and renews the lease of its attempt meanwhile.
    async fn with_lease<T>(&self, attempt: &RequestAttempt, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        loop {
            if let Ok(result) = timeout(RENEWAL, &mut work).await {
                return result;
            }
            let attempt = attempt.clone();
            let renew = move |conn: &mut Conn| Ok(idempotency::renew(conn, &attempt, LEASE)?);
            if let Err(cause) = blocking::read(&self.key_store(), renew).await {
                log::warn!(
                    "the lease of a request with an Idempotency-Key is not renewed: {cause}"
                );
            }
        }
    }

    /// Ends an attempt, and stores its response for retries if that is possible.
    async fn end(
        &self,
        operation: &Operation,
        attempt: RequestAttempt,
        response: HttpResponse,
    ) -> HttpResponse {
        let (response, body) = with_bytes(response);
        let may_repeat = |status: StatusCode| {
            status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS
        };
        let body = body.filter(|body| body.len() <= MAX_BODY && !may_repeat(response.status()));
        let stored = body.map(|body| self.to_store(operation, &attempt, &response, body));
        let stored = stored.transpose().unwrap_or_else(|cause| {
            log::warn!(
                "the response of a request with an Idempotency-Key cannot be stored: {cause:#}"
            );
            None
        });
        let end = move |conn: &mut Conn| match &stored {
            Some(stored) => Ok(idempotency::finish(conn, &attempt, stored)?),
            None => Ok(idempotency::release(conn, &attempt)?),
        };
        if let Err(cause) = self.through_restart(end).await {
            log::warn!("the response of a request with an Idempotency-Key is not stored: {cause}");
        }
        response
    }

    /// Runs `work`, which may be repeated, and tries it again for [`END_LIMIT`] if it fails for a transient reason.
    async fn through_restart(
        &self,
        work: impl Fn(&mut Conn) -> Result<(), Error> + Send + Sync + 'static,
    ) -> Result<(), Error> {
        let (work, deadline) = (Arc::new(work), Instant::now() + END_LIMIT);
        loop {
            let work = Arc::clone(&work);
            match blocking::read(&self.key_store(), move |conn| work(conn)).await {
                Err(cause) if cause.is_transient() && Instant::now() < deadline => {
                    sleep(END_PAUSE).await;
                }
                result => return result,
            }
        }
    }

    fn to_store(
        &self,
        operation: &Operation,
        attempt: &RequestAttempt,
        response: &HttpResponse,
        body: Vec<u8>,
    ) -> anyhow::Result<StoredResponse> {
        let value = |name: &HeaderName| response.headers().get(name)?.to_str().ok();
        let headers = HEADERS.iter();
        let headers = headers.filter_map(|name| Some((name.as_str(), value(name)?)));
        let headers: Vec<(&str, &str)> = headers.collect();
        let is_sealed = operation.tag == SECRET_TAG && response.status().is_success();
        Ok(StoredResponse {
            status: response.status().as_u16().into(),
            headers: JsonText(serde_json::to_string(&headers)?),
            body: match is_sealed {
                true => self.webhooks.secrets.seal_text(&place(attempt), &body)?,
                false => body,
            },
            is_sealed,
        })
    }

    /// The response of an earlier request.
    fn stored(
        &self,
        attempt: &RequestAttempt,
        stored: StoredResponse,
    ) -> Result<HttpResponse, Error> {
        let body = match stored.is_sealed {
            true => self
                .webhooks
                .secrets
                .open_text(&place(attempt), &stored.body),
            false => Ok(stored.body),
        };
        let body = body.map_err(|cause| {
            log::warn!("a stored response cannot be read: {cause:#}");
            Error::Retry(RetryRefusal::NoResponse)
        })?;
        http_response(stored.status, &stored.headers, body).map_err(Error::Internal)
    }
}

/// The place of a stored response, to which its encrypted form is bound.
fn place(attempt: &RequestAttempt) -> Vec<u8> {
    let mut place = b"response ".to_vec();
    place.extend(attempt.key.to_be_bytes());
    place.extend(&attempt.hash);
    place
}

fn http_response(status: i32, headers: &JsonText, body: Vec<u8>) -> anyhow::Result<HttpResponse> {
    let status = u16::try_from(status).ok();
    let status = status.and_then(|status| StatusCode::from_u16(status).ok());
    let mut response = HttpResponse::build(status.context("a stored response has no status")?);
    let headers: Vec<(String, String)> = serde_json::from_str(&headers.0)?;
    for (name, value) in headers {
        let name = HeaderName::try_from(name)?;
        response.insert_header((name, HeaderValue::try_from(value)?));
    }
    Ok(response.body(body))
}

fn keyed_request(operation: &Operation, key: &IdempotencyKey, caller: &Caller) -> KeyedRequest {
    KeyedRequest {
        key: caller.key,
        hash: Sha256::digest(key.text.as_bytes()).to_vec(),
        project: caller.project.id(),
        is_read: operation
            .scopes
            .iter()
            .all(|scope| scope.ends_with(":read")),
        fingerprint: key.fingerprint.to_vec(),
    }
}

/// A response, and a copy of its body; `None` for a stream.
fn with_bytes(response: HttpResponse) -> (HttpResponse, Option<Vec<u8>>) {
    let (head, body) = response.into_parts();
    match body.try_into_bytes() {
        Ok(bytes) => {
            let copy = bytes.to_vec();
            (head.set_body(bytes).map_into_boxed_body(), Some(copy))
        }
        Err(body) => (head.set_body(body), None),
    }
}
