//! Lists of rows that may be large, as JSON: the ids of the page first, then the rows in pieces.

use std::sync::Arc;

use actix_web::HttpResponse;
use cohorts_api::{RequestHead, Reservation};
use cohorts_store::pages::{PageIds, RowSize};
use cohorts_store::{Conn, ProjectId};
use serde::Serialize;

use super::{JSON, PIECE_BYTES, Piece, Pieces};
use crate::error::Error;
use crate::handlers::Service;

/// Memory per byte of the rows: as the database sends them, as text, in the response, and the room for its growth.
const COST: usize = 6;
/// Rows that are read with the first piece. Each further piece asks for twice the rows that the last one had room for.
const FIRST_ROWS: usize = 100;
const MIN_ROWS: usize = 8;

/// The rows of a list.
pub trait ListRows: Send + Sync + 'static {
    type Row: Serialize;

    /// The sizes of rows. Rows that do not exist any more are absent.
    fn sizes(&self, conn: &mut Conn, ids: &[i64]) -> Result<Vec<RowSize>, Error>;

    /// The rows in the order of the list.
    fn rows(&self, conn: &mut Conn, ids: &[i64]) -> Result<Vec<Self::Row>, Error>;
}

/// JSON around the rows of a list.
#[derive(Debug, PartialEq)]
pub struct Frame {
    pub head: String,
    pub tail: String,
}

impl Frame {
    /// The JSON of a page around its `results`, which are empty.
    pub fn new(page: &impl Serialize) -> Result<Self, Error> {
        // In a string, a backslash precedes each quotation mark, so this occurs once.
        const RESULTS: &str = "\"results\":[";
        let text = serde_json::to_string(page).map_err(anyhow::Error::from)?;
        let parts = text.split_once(RESULTS);
        let (before, tail) = parts.ok_or_else(|| anyhow::anyhow!("a page without results"))?;
        Ok(Self {
            head: format!("{before}{RESULTS}"),
            tail: tail.to_owned(),
        })
    }
}

impl Service {
    /// Responds with a list. `page` reads the ids of its rows, and `frame` is the page without rows for a number of rows on
    /// all pages.
    pub(in crate::handlers) async fn list<P: Serialize>(
        &self,
        project: ProjectId,
        head: &RequestHead,
        rows: impl ListRows,
        page: impl FnOnce(&mut Conn) -> Result<PageIds, Error> + Send + 'static,
        frame: impl FnOnce(i64) -> P + 'static,
    ) -> Result<HttpResponse, Error> {
        let pieces = ListPieces {
            service: self.clone(),
            project,
            rows: Arc::new(rows),
            start: Some((page, frame)),
            state: ListState::default(),
        };
        self.respond(project, JSON, head, pieces, None).await
    }
}

/// A list that is being written.
struct ListPieces<R, S> {
    service: Service,
    project: ProjectId,
    rows: Arc<R>,
    /// Reads the ids of the page, and frames it. `None` after the first piece.
    start: Option<S>,
    state: ListState,
}

/// The position in a list.
#[derive(Default)]
struct ListState {
    /// The ids of the rows that are not written yet.
    ids: Vec<i64>,
    /// The rows of the next piece, if their sizes allow it.
    next_rows: usize,
    has_rows: bool,
    /// The end of the JSON.
    tail: String,
}

/// The result of reading a piece.
enum ListReading {
    Text(Vec<u8>),
    /// The next row is larger than the memory that was reserved.
    TooLarge(usize),
}

impl<R, G, F, P> Pieces for ListPieces<R, (G, F)>
where
    R: ListRows,
    G: FnOnce(&mut Conn) -> Result<PageIds, Error> + Send + 'static,
    F: FnOnce(i64) -> P + 'static,
    P: Serialize,
{
    async fn next(&mut self) -> Result<Piece, Error> {
        let Some((page, frame)) = self.start.take() else {
            return self.read_more(PIECE_BYTES).await;
        };
        let memory = self.memory(PIECE_BYTES).await?;
        let rows = Arc::clone(&self.rows);
        let read = move |conn: &mut Conn| {
            let page = page(conn)?;
            let mut state = ListState {
                ids: page.ids,
                next_rows: FIRST_ROWS,
                ..ListState::default()
            };
            let reading = state.read(conn, &*rows, PIECE_BYTES)?;
            Ok((reading, state, page.count))
        };
        let (reading, state, count) = self.service.snapshot(self.project, read).await?;
        self.state = state;
        let frame = Frame::new(&frame(count))?;
        self.state.tail = frame.tail;
        let mut piece = match reading {
            ListReading::Text(text) => self.piece(text, memory),
            ListReading::TooLarge(bytes) => {
                drop(memory);
                self.read_more(bytes).await?
            }
        };
        piece.text.splice(0..0, frame.head.into_bytes());
        Ok(piece)
    }
}

impl<R: ListRows, S> ListPieces<R, S> {
    async fn memory(&self, bytes: usize) -> Result<Reservation, Error> {
        let memory = self.service.response_memory(self.project, bytes * COST);
        memory.await
    }

    /// Reads rows of `bytes` bytes, or the next one alone if it is larger.
    async fn read_more(&mut self, mut bytes: usize) -> Result<Piece, Error> {
        loop {
            let memory = self.memory(bytes).await?;
            let (rows, mut state) = (Arc::clone(&self.rows), std::mem::take(&mut self.state));
            let read = move |conn: &mut Conn| {
                let reading = state.read(conn, &*rows, bytes)?;
                Ok((reading, state))
            };
            let (reading, state) = self.service.snapshot(self.project, read).await?;
            self.state = state;
            match reading {
                ListReading::Text(text) => return Ok(self.piece(text, memory)),
                ListReading::TooLarge(size) => bytes = size,
            }
        }
    }

    fn piece(&self, mut text: Vec<u8>, mut memory: Reservation) -> Piece {
        let is_last = self.state.ids.is_empty();
        if is_last {
            text.extend(self.state.tail.as_bytes());
        }
        memory.shrink_to(text.capacity());
        Piece {
            text,
            memory,
            is_last,
        }
    }
}

impl ListState {
    fn read(
        &mut self,
        conn: &mut Conn,
        rows: &impl ListRows,
        bytes: usize,
    ) -> Result<ListReading, Error> {
        let candidates = &self.ids[..self.next_rows.min(self.ids.len())];
        let sizes = rows.sizes(conn, candidates)?;
        let taken = fitting(candidates, &sizes, bytes);
        if taken == 0
            && let Some(size) = candidates.first().and_then(|id| size_of(&sizes, *id))
        {
            return Ok(ListReading::TooLarge(size));
        }
        let mut text = Vec::new();
        for row in rows.rows(conn, &candidates[..taken])? {
            if std::mem::replace(&mut self.has_rows, true) {
                text.push(b',');
            }
            serde_json::to_writer(&mut text, &row).map_err(anyhow::Error::from)?;
        }
        self.ids.drain(..taken);
        self.next_rows = (taken * 2).clamp(MIN_ROWS, super::super::MAX_LIMIT as usize);
        Ok(ListReading::Text(text))
    }
}

fn size_of(sizes: &[RowSize], id: i64) -> Option<usize> {
    let size = sizes.iter().find(|size| size.id == id);
    size.map(|size| size.bytes)
}

/// How many of the first rows have at most `bytes` bytes together.
pub fn fitting(ids: &[i64], sizes: &[RowSize], bytes: usize) -> usize {
    let sizes: std::collections::HashMap<i64, usize> =
        sizes.iter().map(|size| (size.id, size.bytes)).collect();
    let mut left = bytes;
    let fits = |id: &&i64| {
        let rest = left.checked_sub(sizes.get(id).copied().unwrap_or(0));
        left = rest.unwrap_or(0);
        rest.is_some()
    };
    ids.iter().take_while(fits).count()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn frame_is_the_json_around_the_results() {
        let page = json!({"count": 1, "next": "a\"results\":[]", "results": [], "previous": null});
        let frame = Frame::new(&page).unwrap();
        assert_eq!(frame.tail, "],\"previous\":null}");
        assert_eq!(format!("{}{}", frame.head, frame.tail), page.to_string());
    }

    #[test]
    fn rows_of_a_piece_fit_into_its_bytes() {
        let sizes: Vec<RowSize> = [(1, 4), (2, 4), (4, 4)]
            .map(|(id, bytes)| RowSize { id, bytes })
            .into();
        let ids = [1, 2, 3, 4];
        for (bytes, taken) in [(3, 0), (4, 1), (8, 3), (12, 4)] {
            assert_eq!(fitting(&ids, &sizes, bytes), taken, "{bytes}");
        }
    }
}
