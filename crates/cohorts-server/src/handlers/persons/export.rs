//! Exports: all persons of a query as one file, which is read and sent in pieces.

use std::iter;
use std::sync::Arc;

use actix_web::HttpResponse;
use cohorts_api::types::Person;
use cohorts_api::{RequestHead, Reservation};
use cohorts_store::ProjectId;

use super::query::PersonQuery;
use super::reader::PersonReader;
use super::table;
use crate::error::Error;
use crate::handlers::Service;
use crate::handlers::responses::{PIECE_BYTES, Piece, Pieces};
use crate::shares::ShareOwner;

const CSV: &str = "text/csv";
const NDJSON: &str = "application/x-ndjson";

/// The byte order mark of UTF-8.
const MARK: &[u8] = b"\xef\xbb\xbf";

impl Service {
    /// A table of the persons. `has_mark` is whether it begins with a byte order mark.
    pub(super) async fn csv(
        &self,
        query: PersonQuery,
        has_mark: bool,
        head: &RequestHead,
    ) -> Result<HttpResponse, Error> {
        let pieces = CsvPieces {
            reader: self.all_persons(query),
            columns: None,
            has_mark,
        };
        let project = pieces.reader.query.project;
        self.export(project, CSV, head, pieces).await
    }

    /// A line of JSON for each of the persons.
    pub(super) async fn ndjson(
        &self,
        query: PersonQuery,
        head: &RequestHead,
    ) -> Result<HttpResponse, Error> {
        let pieces = NdjsonPieces(self.all_persons(query));
        let project = pieces.0.query.project;
        self.export(project, NDJSON, head, pieces).await
    }

    fn all_persons(&self, query: PersonQuery) -> PersonReader {
        let limit = query.limit.unwrap_or(usize::MAX);
        PersonReader::new(self.clone(), query, limit)
    }

    async fn export(
        &self,
        project: ProjectId,
        media_type: &str,
        head: &RequestHead,
        pieces: impl Pieces,
    ) -> Result<HttpResponse, Error> {
        let permit = self
            .shares
            .exports
            .acquire(ShareOwner::Project(project))
            .await?;
        let media_type = format!("{media_type}; charset=utf-8");
        self.respond(project, &media_type, head, pieces, Some(permit))
            .await
    }
}

/// A file with one line of JSON per person.
struct NdjsonPieces(PersonReader);

impl Pieces for NdjsonPieces {
    async fn next(&mut self) -> Result<Piece, Error> {
        let (text, memory) = self.0.read(usize::MAX, json_lines).await?;
        Ok(piece(text, memory, self.0.is_done()))
    }
}

fn json_lines(persons: Vec<Person>) -> Result<Vec<u8>, Error> {
    let mut text = Vec::new();
    for person in persons {
        serde_json::to_writer(&mut text, &person).map_err(anyhow::Error::from)?;
        text.push(b'\n');
    }
    Ok(text)
}

/// A table. The persons are read twice: for the columns, and for the rows. A property that a person receives in between
/// has no column.
struct CsvPieces {
    reader: PersonReader,
    /// `None` before the first piece.
    columns: Option<TableColumns>,
    /// Whether the file begins with a byte order mark. A file without persons is empty.
    has_mark: bool,
}

struct TableColumns {
    columns: Arc<table::Columns>,
    /// The memory of the columns.
    _memory: Reservation,
}

impl Pieces for CsvPieces {
    async fn next(&mut self) -> Result<Piece, Error> {
        let mut header = Vec::new();
        let columns = match &self.columns {
            Some(table) => Arc::clone(&table.columns),
            None => {
                let columns = self.read_columns().await?;
                if !columns.names().is_empty() {
                    header = if self.has_mark {
                        MARK.to_vec()
                    } else {
                        Vec::new()
                    };
                    header.extend(line(columns.names())?);
                }
                columns
            }
        };
        // Each row has a separator for each column.
        let most = PIECE_BYTES / columns.names().len().max(1);
        let write = move |persons: Vec<Person>| rows(header.clone(), &columns, persons);
        let (text, memory) = self.reader.read(most.max(1), write).await?;
        Ok(piece(text, memory, self.reader.is_done()))
    }
}

impl CsvPieces {
    async fn read_columns(&mut self) -> Result<Arc<table::Columns>, Error> {
        let (service, project) = (self.reader.service.clone(), self.reader.query.project);
        let memory = service.response_memory(project, table::MAX_NAME_BYTES);
        let mut memory = memory.await?;
        let mut columns = table::Columns::default();
        while !self.reader.is_done() {
            let (found, _memory) = self.reader.read(usize::MAX, columns_of).await?;
            for name in found.into_names() {
                columns.add(name).map_err(too_wide)?;
            }
        }
        self.reader.rewind();
        memory.shrink_to(columns.bytes());
        let columns = Arc::new(columns);
        self.columns = Some(TableColumns {
            columns: Arc::clone(&columns),
            _memory: memory,
        });
        Ok(columns)
    }
}

fn columns_of(persons: Vec<Person>) -> Result<table::Columns, Error> {
    let mut columns = table::Columns::default();
    for person in persons {
        for name in table::cells(&person).map_err(too_wide)?.into_keys() {
            columns.add(name).map_err(too_wide)?;
        }
    }
    Ok(columns)
}

fn rows(header: Vec<u8>, columns: &table::Columns, persons: Vec<Person>) -> Result<Vec<u8>, Error> {
    let mut text = header;
    for person in persons {
        let cells = table::cells(&person).map_err(too_wide)?;
        text.extend(line(table::row(columns, &cells))?);
    }
    Ok(text)
}

fn piece(text: Vec<u8>, mut memory: Reservation, is_last: bool) -> Piece {
    memory.shrink_to(text.capacity());
    Piece {
        text,
        memory,
        is_last,
    }
}

fn too_wide(_: table::TooWide) -> Error {
    let most = table::MAX_COLUMNS;
    Error::field(
        "format",
        format!(
            "The persons have too many different properties for CSV, which has at most {most} columns. Use ndjson instead."
        ),
    )
}

fn line(cells: Vec<&str>) -> Result<Vec<u8>, Error> {
    Ok(table::lines(iter::once(cells)).map_err(anyhow::Error::from)?)
}
