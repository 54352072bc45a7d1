//! Exports: all persons of a query as one file, which is written in pieces while it is sent.

use std::iter;
use std::time::{Duration, Instant};

use actix_web::HttpResponse;
use actix_web::web::Bytes;
use cohorts_api::RequestHead;
use cohorts_api::types::Person;
use cohorts_store::Conn;
use futures::stream::{self, StreamExt};
use tokio::runtime::Handle;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::time::timeout;

use super::query::{PersonQuery, SelectedPersons};
use super::{PersonList, table};
use crate::blocking;
use crate::error::Error;
use crate::handlers::{CLIENT_TIMEOUT, Service, present};
use crate::logging::RequestId;
use crate::shares::Owner;

/// Persons that one statement reads.
const PERSONS: usize = 250;
/// The approximate size of a piece, in bytes.
const PIECE_BYTES: usize = 64 << 10;
/// Pieces that wait for a slow client.
const QUEUED_PIECES: usize = 4;
/// The longest duration of an export, because it holds a connection and its snapshot of the data.
const MAX_DURATION: Duration = Duration::from_secs(3_600);

const CSV: &str = "text/csv";
const NDJSON: &str = "application/x-ndjson";

enum Format {
    Json,
    Csv,
    Ndjson,
}

type WriteFile =
    fn(&mut Conn, &PersonQuery, &SelectedPersons, &mut PieceWriter) -> Result<(), Error>;

impl Service {
    pub(super) async fn persons(
        &self,
        query: PersonQuery,
        format: Option<&str>,
        head: &RequestHead,
    ) -> Result<PersonList, Error> {
        Ok(
            match self::format(format, head.accept().unwrap_or_default())? {
                Format::Json => PersonList::Page(self.person_page(query, head).await?),
                Format::Csv => PersonList::Csv(self.export(query, CSV, write_csv).await?),
                Format::Ndjson => {
                    PersonList::Ndjson(self.export(query, NDJSON, write_ndjson).await?)
                }
            },
        )
    }

    /// Responds when the first piece is written, and sends the others as they are written.
    async fn export(
        &self,
        query: PersonQuery,
        media_type: &str,
        write: WriteFile,
    ) -> Result<HttpResponse, Error> {
        let mut pieces = self.start_export(query, write).await?;
        // A failure before the first piece is an error response.
        let first = pieces.recv().await.transpose()?;
        let rest = stream::unfold(pieces, |mut pieces| async {
            Some((pieces.recv().await?, pieces))
        });
        let body = stream::iter(first.map(Ok)).chain(rest);
        Ok(HttpResponse::Ok()
            .content_type(format!("{media_type}; charset=utf-8"))
            .streaming(body))
    }

    /// Writes the file in a task of its own, which outlives the handler.
    async fn start_export(
        &self,
        query: PersonQuery,
        write: WriteFile,
    ) -> Result<Receiver<Result<Bytes, Error>>, Error> {
        let permit = self
            .shares
            .exports
            .acquire(Owner::Project(query.project))
            .await?;
        let (sender, receiver) = mpsc::channel(QUEUED_PIECES);
        let store = self.store.clone();
        let task = async move {
            let failures = sender.clone();
            let work_store = store.clone();
            let work = move |conn: &mut Conn| {
                query.run(conn, &work_store, |conn, selected| {
                    let mut pieces = PieceWriter::new(sender);
                    write(conn, &query, &selected, &mut pieces)?;
                    pieces.send()
                })
            };
            let result = blocking::read(&store, work).await;
            drop(permit);
            if let Err(cause) = result {
                // The send fails if the client has disconnected.
                let _ = timeout(CLIENT_TIMEOUT, failures.send(Err(cause))).await;
            }
        };
        actix_web::rt::spawn(RequestId::current().accompany(task));
        Ok(receiver)
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

/// Collects the text of a file, and sends it to the client in pieces.
struct PieceWriter {
    sender: Sender<Result<Bytes, Error>>,
    unsent: Vec<u8>,
    runtime: Handle,
    deadline: Instant,
}

impl PieceWriter {
    fn new(sender: Sender<Result<Bytes, Error>>) -> Self {
        Self {
            sender,
            unsent: Vec::new(),
            runtime: Handle::current(),
            deadline: Instant::now() + MAX_DURATION,
        }
    }

    fn push(&mut self, text: &[u8]) -> Result<(), Error> {
        self.unsent.extend_from_slice(text);
        if self.unsent.len() < PIECE_BYTES {
            Ok(())
        } else {
            self.send()
        }
    }

    /// Waits for the client, with a time limit, because the export holds a connection to the database.
    fn send(&mut self) -> Result<(), Error> {
        if self.unsent.is_empty() {
            return Ok(());
        }
        if Instant::now() > self.deadline {
            return Err(stopped("the client is too slow"));
        }
        let piece = Ok(Bytes::from(std::mem::take(&mut self.unsent)));
        let sent = timeout(CLIENT_TIMEOUT, self.sender.send(piece));
        match self.runtime.block_on(sent) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(stopped("the client has disconnected")),
            Err(_) => Err(stopped("the client has stopped reading")),
        }
    }
}

fn stopped(reason: &str) -> Error {
    log::warn!("export stopped: {reason}");
    Error::Unavailable
}

/// Runs `write` on the persons in their order, some at a time.
fn for_each_chunk(
    conn: &mut Conn,
    query: &PersonQuery,
    selected: &SelectedPersons,
    mut write: impl FnMut(Vec<Person>) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut ordinals = selected
        .page(query)
        .take(query.limit.unwrap_or(usize::MAX))
        .map(|key| i64::from(key.ordinal));
    let shard_key = query.project.shard_key();
    loop {
        let chunk: Vec<i64> = ordinals.by_ref().take(PERSONS).collect();
        if chunk.is_empty() {
            return Ok(());
        }
        write(present::persons_by_ordinals(conn, shard_key, &chunk)?)?;
    }
}

fn write_ndjson(
    conn: &mut Conn,
    query: &PersonQuery,
    selected: &SelectedPersons,
    pieces: &mut PieceWriter,
) -> Result<(), Error> {
    for_each_chunk(conn, query, selected, |persons| {
        persons.iter().try_for_each(|person| {
            let mut line = serde_json::to_vec(person).map_err(anyhow::Error::from)?;
            line.push(b'\n');
            pieces.push(&line)
        })
    })
}

/// Reads the persons twice: for the columns, and for the rows.
fn write_csv(
    conn: &mut Conn,
    query: &PersonQuery,
    selected: &SelectedPersons,
    pieces: &mut PieceWriter,
) -> Result<(), Error> {
    let mut columns = table::Columns::default();
    for_each_chunk(conn, query, selected, |persons| {
        persons.iter().try_for_each(|person| {
            let mut names = table::cells(person).map_err(too_wide)?.into_keys();
            names
                .try_for_each(|name| columns.add(name))
                .map_err(too_wide)
        })
    })?;
    let header = columns.names();
    if !header.is_empty() {
        pieces.push(&line(header)?)?;
    }
    for_each_chunk(conn, query, selected, |persons| {
        persons.iter().try_for_each(|person| {
            let cells = table::cells(person).map_err(too_wide)?;
            pieces.push(&line(table::row(&columns, &cells))?)
        })
    })
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
