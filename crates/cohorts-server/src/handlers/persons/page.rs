//! One page of persons as JSON, with links to its neighbours.

use actix_web::HttpResponse;
use cohorts_api::RequestHead;
use cohorts_api::types::{Person, PersonPage};

use super::cursor::Cursor;
use super::query::PersonQuery;
use super::reader::PersonReader;
use crate::error::Error;
use crate::handlers::Service;
use crate::handlers::links::Links;
use crate::handlers::responses::{Frame, JSON, Piece, Pieces};

const DEFAULT_LIMIT: usize = 100;

impl Service {
    pub(super) async fn person_page(
        &self,
        query: PersonQuery,
        head: &RequestHead,
    ) -> Result<HttpResponse, Error> {
        let (project, limit) = (query.project, query.limit.unwrap_or(DEFAULT_LIMIT));
        let pieces = PagePieces {
            reader: PersonReader::new(self.clone(), query, limit),
            links: self.links(head),
            limit,
            has_begun: false,
            written: 0,
        };
        self.respond(project, JSON, head, pieces, None).await
    }
}

/// A page that is being written.
struct PagePieces {
    reader: PersonReader,
    links: Links,
    limit: usize,
    has_begun: bool,
    /// The persons that are written.
    written: usize,
}

impl Pieces for PagePieces {
    async fn next(&mut self) -> Result<Piece, Error> {
        let start = Start {
            head: if self.has_begun {
                String::new()
            } else {
                Frame::new(&page(None, None, None))?.head
            },
            has_persons: self.written > 0,
        };
        let most = self.limit;
        let write = move |persons: Vec<Person>| Ok((persons.len(), items(&start, persons)?));
        let ((count, mut text), mut memory) = self.reader.read(most, write).await?;
        self.has_begun = true;
        self.written += count;
        let is_last = self.reader.is_done();
        if is_last {
            let (next, previous) = self.neighbours();
            text.extend(
                Frame::new(&page(next, previous, self.total()))?
                    .tail
                    .as_bytes(),
            );
        }
        memory.shrink_to(text.capacity());
        Ok(Piece {
            text,
            memory,
            is_last,
        })
    }
}

impl PagePieces {
    /// The number of persons on all pages, if the request wants it.
    fn total(&self) -> Option<i64> {
        let selection = self.reader.selection();
        let selection = selection.filter(|_| self.reader.query.has_total);
        selection.map(|selection| selection.count() as i64)
    }

    /// The links to the next and the previous page, after the last person.
    fn neighbours(&self) -> (Option<String>, Option<String>) {
        let query = &self.reader.query;
        if query.cursor.is_none() {
            return by_offset(&self.links, self.limit, query.offset, self.written);
        }
        let selection = self.reader.selection();
        let last = selection.filter(|selection| selection.has_more());
        let last = last.and_then(|selection| selection.last());
        let next = last.map(|key| self.links.with(&[("cursor", Cursor::after(key))]));
        (next, None)
    }
}

/// The beginning of a piece.
#[derive(Clone)]
struct Start {
    head: String,
    /// Whether persons precede those of the piece.
    has_persons: bool,
}

fn items(start: &Start, persons: Vec<Person>) -> Result<Vec<u8>, Error> {
    let mut text = start.head.clone().into_bytes();
    let mut has_persons = start.has_persons;
    for person in persons {
        if std::mem::replace(&mut has_persons, true) {
            text.push(b',');
        }
        serde_json::to_writer(&mut text, &person).map_err(anyhow::Error::from)?;
    }
    Ok(text)
}

/// A page without persons.
fn page(next: Option<String>, previous: Option<String>, count: Option<i64>) -> PersonPage {
    PersonPage {
        results: Vec::new(),
        next,
        previous,
        count,
    }
}

/// Links by offset. As in PostHog's API, a full page has a next page.
fn by_offset(
    links: &Links,
    limit: usize,
    offset: i64,
    length: usize,
) -> (Option<String>, Option<String>) {
    let is_full = length >= limit;
    let limit = limit as i64;
    let link = |offset: i64| links.with(&[("offset", offset.to_string())]);
    (
        is_full.then(|| link(offset.saturating_add(limit))),
        (offset >= limit).then(|| link(offset - limit)),
    )
}
