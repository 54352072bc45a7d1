//! Exports: all persons of a query as one file, which is read and sent in pieces.

use std::iter;
use std::sync::Arc;

use actix_web::HttpResponse;
use cohorts_api::types::Person;
use cohorts_api::{RequestHead, Reservation};
use cohorts_store::ProjectId;

use super::query::PersonQuery;
use super::reader::PersonReader;
use super::{PersonList, table};
use crate::error::Error;
use crate::handlers::Service;
use crate::handlers::responses::{PIECE_BYTES, Piece, Pieces};
use crate::shares::ShareOwner;

const CSV: &str = "text/csv";
const NDJSON: &str = "application/x-ndjson";

/// The byte order mark of UTF-8.
const MARK: &[u8] = b"\xef\xbb\xbf";

/// The format that the parameters request.
pub(super) struct ExportFormat<'a> {
    pub name: Option<&'a str>,
    /// Whether a CSV file begins with a byte order mark.
    pub has_mark: bool,
}

enum Format {
    Json,
    Csv,
    Ndjson,
}

impl Service {
    pub(super) async fn persons(
        &self,
        query: PersonQuery,
        format: ExportFormat<'_>,
        head: &RequestHead,
    ) -> Result<PersonList, Error> {
        let accept = head.accept().unwrap_or_default();
        Ok(match self::format(format.name, accept)? {
            Format::Json => PersonList::Page(self.person_page(query, head).await?),
            Format::Csv => PersonList::Csv(self.csv(query, format.has_mark, head).await?),
            Format::Ndjson => PersonList::Ndjson(self.ndjson(query, head).await?),
        })
    }

    async fn csv(
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

    async fn ndjson(&self, query: PersonQuery, head: &RequestHead) -> Result<HttpResponse, Error> {
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

/// The format of the parameter `format`, otherwise the first known one in the header `Accept`.
fn format(parameter: Option<&str>, accept: &str) -> Result<Format, Error> {
    match parameter {
        Some("csv") => return Ok(Format::Csv),
        Some("ndjson") => return Ok(Format::Ndjson),
        Some("json") => return Ok(Format::Json),
        Some(_) => return Err(Error::NotFound),
        None => {}
    }
    let known = |range: &str| {
        let range = range.split(';').next().unwrap_or_default().trim();
        match range.to_ascii_lowercase().as_str() {
            CSV | "text/*" => Some(Format::Csv),
            NDJSON => Some(Format::Ndjson),
            "application/json" | "application/*" | "*/*" => Some(Format::Json),
            _ => None,
        }
    };
    Ok(accept.split(',').find_map(known).unwrap_or(Format::Json))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parameter_precedes_the_header() {
        let named = |parameter, accept| match format(parameter, accept) {
            Ok(Format::Json) => "json",
            Ok(Format::Csv) => "csv",
            Ok(Format::Ndjson) => "ndjson",
            Err(_) => "none",
        };
        assert_eq!(named(None, ""), "json");
        assert_eq!(named(Some("csv"), "application/json"), "csv");
        assert_eq!(named(Some("xml"), ""), "none");
        assert_eq!(named(None, "Text/CSV;q=0.5, application/json"), "csv");
        assert_eq!(named(None, "image/png, application/x-ndjson"), "ndjson");
        assert_eq!(named(None, "*/*, text/csv"), "json");
    }
}
