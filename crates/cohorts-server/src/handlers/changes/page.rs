//! A page of a feed as JSON, which may wait for its first row. While it waits, it holds no thread and no connection.

use std::time::{Duration, Instant};

use actix_web::{HttpMessage, HttpResponse};
use cohorts_api::{RequestHead, Reservation};
use cohorts_store::Conn;

use super::frame;
use super::origin::FeedSource;
use crate::error::Error;
use crate::feed::{ChangeRows, Feed, FeedCursor, WaitEnd};
use crate::handlers::Service;
use crate::handlers::responses::{Frame, JSON, Piece, Pieces};

/// The most rows of a page.
const MAX_LIMIT: usize = 10_000;
/// Rows that are read at once.
pub const PIECE_ROWS: usize = 500;
/// The memory of the rows of a piece and of their text.
const PIECE_MEMORY: usize = 4 << 20;

/// How many rows a page has, and how long it waits for the first of them.
pub struct PageLimits {
    rows: usize,
    wait: Duration,
}

impl PageLimits {
    /// The parameters `limit` and `wait`.
    pub fn new(limit: i64, wait: i64) -> Self {
        Self {
            rows: usize::try_from(limit).unwrap_or(1).clamp(1, MAX_LIMIT),
            wait: Duration::from_secs(wait.try_into().unwrap_or(0)),
        }
    }
}

/// How long a request has waited for a change, in the extensions of the request. Its duration is without that time.
pub struct Waited(pub Duration);

/// Some rows with their memory.
pub struct HeldRows {
    pub rows: ChangeRows,
    pub memory: Reservation,
}

impl Service {
    /// Responds with a page of a feed.
    pub(super) async fn change_page(
        &self,
        source: FeedSource,
        limits: PageLimits,
        head: &RequestHead,
    ) -> Result<HttpResponse, Error> {
        let project = source.feed.project;
        let first = self.first_rows(&source, &limits, head).await?;
        let pieces = ChangePieces {
            service: self.clone(),
            feed: source.feed,
            cursor: first.rows.cursor,
            first: Some(first),
            rest: limits.rows,
            has_begun: false,
            has_rows: false,
        };
        self.respond(project, JSON, head, pieces, None).await
    }

    /// The first rows of a page. If there are none, waits for some.
    async fn first_rows(
        &self,
        source: &FeedSource,
        limits: &PageLimits,
        head: &RequestHead,
    ) -> Result<HeldRows, Error> {
        let mut waited = Duration::ZERO;
        let end = Instant::now() + limits.wait;
        let mut changes = self.changes.subscribe(source.feed.project);
        let limit = limits.rows.min(PIECE_ROWS);
        let start = source.clone();
        let mut first = self
            .change_rows(&source.feed, move |conn| start.cursor(conn), limit)
            .await?;
        loop {
            let rows = &first.rows;
            let is_done = !rows.rows.is_empty() || rows.has_more || Instant::now() >= end;
            if is_done {
                return Ok(first);
            }
            let start = Instant::now();
            let wait_end = changes.next(end).await;
            waited += start.elapsed();
            head.request().extensions_mut().insert(Waited(waited));
            if wait_end != WaitEnd::Changed {
                return Ok(first);
            }
            let cursor = rows.cursor;
            drop(first);
            first = self
                .change_rows(&source.feed, move |_| Ok(cursor), limit)
                .await?;
        }
    }

    /// Reads rows of a feed from a cursor on, in one transaction that first determines the cursor.
    ///
    /// # Errors
    ///
    /// [`Error::CursorExpired`] if the log does not have the changes after the cursor.
    pub(super) async fn change_rows(
        &self,
        feed: &Feed,
        cursor: impl FnOnce(&mut Conn) -> Result<FeedCursor, Error> + Send + 'static,
        limit: usize,
    ) -> Result<HeldRows, Error> {
        let memory = self.response_memory(feed.project, PIECE_MEMORY).await?;
        let reader = feed.clone();
        let read = move |conn: &mut Conn| {
            let cursor = cursor(conn)?;
            let rows = reader.page(conn, &cursor, limit)?;
            rows.ok_or(Error::CursorExpired)
        };
        let rows = self.snapshot(feed.project, read).await?;
        Ok(HeldRows { rows, memory })
    }
}

/// A page that is being written.
struct ChangePieces {
    service: Service,
    feed: Feed,
    /// The position after the rows that are written.
    cursor: FeedCursor,
    /// The rows of the first piece, until it is written.
    first: Option<HeldRows>,
    /// Rows that the page still has room for.
    rest: usize,
    has_begun: bool,
    has_rows: bool,
}

impl Pieces for ChangePieces {
    async fn next(&mut self) -> Result<Piece, Error> {
        let limit = self.rest.min(PIECE_ROWS);
        let held = match self.first.take() {
            Some(first) => Some(first),
            None => self.read(limit).await?,
        };
        self.rest -= limit;
        let (rows, memory, has_more) = match held {
            Some(HeldRows { rows, memory }) => {
                self.cursor = rows.cursor;
                (rows.rows, Some(memory), rows.has_more)
            }
            // The next request shows that the cursor has expired.
            None => {
                self.rest = 0;
                (Vec::new(), None, true)
            }
        };
        let is_last = !has_more || self.rest == 0;
        let mut text = Vec::new();
        let frame = Frame::new(&frame(self.cursor.to_string(), has_more))?;
        if !std::mem::replace(&mut self.has_begun, true) {
            text.extend(frame.head.as_bytes());
        }
        for row in &rows {
            if std::mem::replace(&mut self.has_rows, true) {
                text.push(b',');
            }
            serde_json::to_writer(&mut text, &row.change).map_err(anyhow::Error::from)?;
        }
        if is_last {
            text.extend(frame.tail.as_bytes());
        }
        let memory = match memory {
            Some(mut memory) => {
                memory.shrink_to(text.capacity());
                memory
            }
            None => {
                let project = self.feed.project;
                self.service
                    .response_memory(project, text.capacity())
                    .await?
            }
        };
        Ok(Piece {
            text,
            memory,
            is_last,
        })
    }
}

impl ChangePieces {
    /// The next rows; `None` if the cursor has expired since the page began.
    async fn read(&self, limit: usize) -> Result<Option<HeldRows>, Error> {
        let cursor = self.cursor;
        let read = self
            .service
            .change_rows(&self.feed, move |_| Ok(cursor), limit);
        match read.await {
            Err(Error::CursorExpired) => Ok(None),
            result => result.map(Some),
        }
    }
}
