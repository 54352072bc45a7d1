//! A feed as server-sent events. While nothing changes, an open stream holds no thread, no connection and no memory of
//! responses.

use std::time::{Duration, Instant};

use actix_web::HttpResponse;
use actix_web::http::Method;
use actix_web::http::header::{CACHE_CONTROL, HeaderName};
use cohorts_api::RequestHead;
use cohorts_api::types::ChangeKind;
use form_urlencoded::parse;
use futures::stream;
use tokio::time::sleep;

use super::origin::FeedSource;
use super::page::{HeldRows, PIECE_ROWS};
use crate::auth::{self, Caller};
use crate::client_socket::ClientSocket;
use crate::error::Error;
use crate::feed::{ChangeReader, Feed, FeedCursor, FeedRow, WaitEnd};
use crate::handlers::Service;
use crate::handlers::responses::{Client, connect};
use crate::logging::RequestId;
use crate::shares::{Permit, ShareOwner};

/// How often a stream without events has a comment.
const COMMENT_INTERVAL: Duration = Duration::from_secs(15);
/// How often the key is checked.
const KEY_INTERVAL: Duration = Duration::from_secs(10);
/// The pause after a failure that may be temporary.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// Tells proxies to pass each event on at once.
const NO_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

impl Service {
    /// Responds with a stream of a feed. A request that cannot be served is refused before the stream begins.
    pub(super) async fn change_stream(
        &self,
        caller: Caller,
        source: FeedSource,
        head: &RequestHead,
    ) -> Result<HttpResponse, Error> {
        refuse_key_in_query(head)?;
        let project = source.feed.project;
        let permits = [
            self.shares
                .key_streams
                .acquire(ShareOwner::Key(caller.key))
                .await?,
            self.shares
                .streams
                .acquire(ShareOwner::Project(project))
                .await?,
        ];
        let changes = self.changes.subscribe(project);
        let start = source.clone();
        let first = self
            .change_rows(&source.feed, move |conn| start.cursor(conn), PIECE_ROWS)
            .await?;
        let (client, body) = connect();
        let cursor = first.rows.cursor;
        let stream = ChangeStream {
            service: self.clone(),
            caller,
            feed: source.feed,
            cursor,
            changes,
            client,
            socket: ClientSocket::of(head.request()),
            key_checked: Instant::now(),
            written: Instant::now(),
            _permits: permits,
        };
        if *head.method() == Method::HEAD {
            stream.client.complete();
        } else {
            actix_web::rt::spawn(RequestId::current().accompany(stream.run(first)));
        }
        let body = stream::unfold(body, |mut body| async { Some((body.next().await?, body)) });
        Ok(HttpResponse::Ok()
            .content_type("text/event-stream")
            .insert_header((CACHE_CONTROL, "no-store"))
            .insert_header((NO_BUFFERING, "no"))
            .streaming(body))
    }
}

/// The address of an open stream is visible in logs of proxies and lists of requests.
fn refuse_key_in_query(head: &RequestHead) -> Result<(), Error> {
    let mut parameters = parse(head.query().as_bytes());
    if parameters.any(|(name, _)| name == "personal_api_key") {
        return Err(Error::AuthenticationFailed {
            code: "authentication_failed",
            detail: "A stream accepts no key in the query string; send the header `Authorization: Bearer <key>`."
                .to_owned(),
        });
    }
    Ok(())
}

/// An open stream.
struct ChangeStream {
    service: Service,
    caller: Caller,
    feed: Feed,
    /// The position after the events that are written.
    cursor: FeedCursor,
    changes: ChangeReader,
    client: Client,
    /// The connection of the client. A client that has closed it must not count against the limits.
    socket: Option<ClientSocket>,
    key_checked: Instant,
    /// When the last event or comment was written.
    written: Instant,
    _permits: [Permit; 2],
}

/// Whether a stream goes on.
type GoesOn = bool;

impl ChangeStream {
    /// Writes events until the client has gone, the key is not valid any more, or the service stops.
    async fn run(mut self, first: HeldRows) {
        let mut goes_on = self.write(comment(self.cursor_before(&first))).await;
        let has_more = first.rows.has_more;
        goes_on = goes_on && self.write_rows(first).await && (!has_more || self.read().await);
        while goes_on {
            goes_on = self.step().await;
        }
        self.client.complete();
    }

    /// The position at which the stream begins, for a client that gets no event.
    fn cursor_before(&self, first: &HeldRows) -> Option<FeedCursor> {
        first.rows.rows.is_empty().then_some(self.cursor)
    }

    /// Waits for a change or for the time of a comment or a check, and does what is due.
    async fn step(&mut self) -> GoesOn {
        let end = (self.written + COMMENT_INTERVAL).min(self.key_checked + KEY_INTERVAL);
        let wake = tokio::select! {
            () = self.client.gone() => return false,
            () = ClientSocket::closed(self.socket.as_ref()) => return false,
            wake = self.changes.next(end) => wake,
        };
        match wake {
            WaitEnd::Stopped => false,
            WaitEnd::Changed => self.has_valid_key().await && self.read().await,
            WaitEnd::TimedOut => {
                let is_silent = self.written.elapsed() >= COMMENT_INTERVAL;
                self.has_valid_key().await
                    && (!is_silent || self.write(comment(Some(self.cursor))).await)
            }
        }
    }

    /// Writes all events that are available.
    async fn read(&mut self) -> GoesOn {
        loop {
            let cursor = self.cursor;
            let rows = self
                .service
                .change_rows(&self.feed, move |_| Ok(cursor), PIECE_ROWS);
            match rows.await {
                Ok(rows) => {
                    let has_more = rows.rows.has_more;
                    if !self.write_rows(rows).await {
                        return false;
                    }
                    if !has_more {
                        return true;
                    }
                }
                // The next request gives 410.
                Err(Error::CursorExpired) => return false,
                Err(cause) => {
                    log::warn!("a stream of changes waits: {cause}");
                    tokio::select! {
                        () = self.changes.stopped() => return false,
                        () = self.client.gone() => return false,
                        () = sleep(RETRY_PAUSE) => {}
                    }
                }
            }
            if !self.has_valid_key().await {
                return false;
            }
        }
    }

    async fn write_rows(&mut self, held: HeldRows) -> GoesOn {
        let HeldRows { rows, memory } = held;
        let mut text = String::new();
        for row in &rows.rows {
            match event(row) {
                Ok(event) => text.push_str(&event),
                Err(cause) => {
                    log::error!("a stream of changes was cut: {cause}");
                    return false;
                }
            }
        }
        self.cursor = rows.cursor;
        drop(rows);
        let goes_on = text.is_empty() || self.write(text).await;
        drop(memory);
        goes_on
    }

    /// Writes to the client, unless the service stops meanwhile.
    async fn write(&mut self, text: String) -> GoesOn {
        self.written = Instant::now();
        tokio::select! {
            () = self.changes.stopped() => false,
            result = self.client.write(text.as_bytes()) => result.is_ok(),
        }
    }

    /// Whether the key still allows the stream. It is checked only after a while, and counts as valid while it cannot be
    /// checked.
    async fn has_valid_key(&mut self) -> bool {
        if self.key_checked.elapsed() < KEY_INTERVAL {
            return true;
        }
        self.key_checked = Instant::now();
        match auth::check_again(&self.service.store, &self.caller).await {
            Ok(()) => true,
            Err(cause) if cause.is_refusal() => {
                log::info!("a stream of changes ends: {cause}");
                false
            }
            Err(cause) => {
                log::warn!("cannot check the key of a stream of changes: {cause}");
                true
            }
        }
    }
}

/// A comment, with the position from which a client continues that reconnects.
fn comment(cursor: Option<FeedCursor>) -> String {
    let id = cursor.map(|cursor| format!("id: {cursor}\n"));
    format!(":\n{}\n", id.unwrap_or_default())
}

fn event(row: &FeedRow) -> Result<String, Error> {
    let name = match row.change.change {
        ChangeKind::Entered => "entered",
        ChangeKind::Left => "left",
    };
    // JSON text has no line breaks.
    let data = serde_json::to_string(&row.change).map_err(anyhow::Error::from)?;
    Ok(format!(
        "id: {}\nevent: {name}\ndata: {data}\n\n",
        row.cursor
    ))
}
