//! All people asked for as one file, made piece by piece while it is sent.

use std::iter;
use std::time::{Duration, Instant};

use actix_web::HttpResponse;
use actix_web::web::Bytes;
use cohorts_api::RequestHead;
use cohorts_api::types::Person;
use futures::stream::{self, StreamExt};
use tokio::runtime::Handle;
use tokio::sync::mpsc::{self, Sender};
use tokio::time::timeout;

use super::select::{SelectedPersons, Selection};
use super::{Answer, show, table};
use crate::blocking;
use crate::error::Error;
use crate::handlers::{PATIENCE, Service, turn};
use crate::logging::RequestId;
use cohorts_store::Conn;

/// People who are read at a time.
const PEOPLE: usize = 250;
/// The size of a piece, about, in bytes.
const PIECE: usize = 64 << 10;
/// Pieces that may wait for a slow reader.
const PIECES: usize = 4;
/// How long an export may take in all: it holds a connection, and what it reads is kept for it.
const LONGEST: Duration = Duration::from_secs(3_600);

const CSV: &str = "text/csv";
const NDJSON: &str = "application/x-ndjson";

enum Form {
    Json,
    Csv,
    Ndjson,
}

impl Service {
    pub(super) async fn people(
        &self,
        asked: Selection,
        format: Option<&str>,
        head: &RequestHead,
    ) -> Result<Answer, Error> {
        match form(format, head.accept().unwrap_or_default())? {
            Form::Json => self.page(asked, head).await,
            Form::Csv => Ok(Answer::Csv(self.file(asked, CSV, write_csv).await?)),
            Form::Ndjson => Ok(Answer::Ndjson(
                self.file(asked, NDJSON, write_ndjson).await?,
            )),
        }
    }

    /// The answer begins with the first piece, and is sent as it is made.
    async fn file(
        &self,
        asked: Selection,
        media_type: &str,
        write: fn(&mut Conn, &Selection, &SelectedPersons, &mut Pieces) -> Result<(), Error>,
    ) -> Result<HttpResponse, Error> {
        let turn = turn(&self.exports).await?;
        let (sender, mut sent) = mpsc::channel(PIECES);
        let store = self.store.clone();
        let request = RequestId::current();
        actix_web::rt::spawn(request.accompany(async move {
            let failed = sender.clone();
            let own = store.clone();
            let work = move |conn: &mut Conn| {
                asked.find(conn, &own, |conn, found| {
                    let mut pieces = Pieces {
                        sender,
                        made: Vec::new(),
                        runtime: Handle::current(),
                        until: Instant::now() + LONGEST,
                    };
                    write(conn, &asked, &found, &mut pieces)?;
                    pieces.send()
                })
            };
            let written = blocking::read(&store, work).await;
            drop(turn);
            if let Err(cause) = written {
                // Nobody reads on where the reader is gone.
                let _ = timeout(PATIENCE, failed.send(Err(cause))).await;
            }
        }));
        // What fails before the first piece is still an answer of its own.
        let first = sent.recv().await.transpose()?;
        let rest = stream::unfold(sent, |mut sent| async { Some((sent.recv().await?, sent)) });
        let all = stream::iter(first.map(Ok)).chain(rest);
        Ok(HttpResponse::Ok()
            .content_type(format!("{media_type}; charset=utf-8"))
            .streaming(all))
    }
}

/// The parameter decides, else what is accepted first.
fn form(format: Option<&str>, accept: &str) -> Result<Form, Error> {
    match format {
        Some("csv") => return Ok(Form::Csv),
        Some("ndjson") => return Ok(Form::Ndjson),
        Some("json") => return Ok(Form::Json),
        Some(_) => return Err(Error::NotFound),
        None => {}
    }
    let known = |range: &str| {
        let range = range.split(';').next().unwrap_or_default().trim();
        match range.to_ascii_lowercase().as_str() {
            CSV | "text/*" => Some(Form::Csv),
            NDJSON => Some(Form::Ndjson),
            "application/json" | "application/*" | "*/*" => Some(Form::Json),
            _ => None,
        }
    };
    Ok(accept.split(',').find_map(known).unwrap_or(Form::Json))
}

/// What is made and not yet sent.
struct Pieces {
    sender: Sender<Result<Bytes, Error>>,
    made: Vec<u8>,
    runtime: Handle,
    until: Instant,
}

impl Pieces {
    fn push(&mut self, text: &[u8]) -> Result<(), Error> {
        self.made.extend_from_slice(text);
        match self.made.len() < PIECE {
            true => Ok(()),
            false => self.send(),
        }
    }

    /// Waits for the reader, though not for ever: the connection to the database is needed by others.
    fn send(&mut self) -> Result<(), Error> {
        if self.made.is_empty() {
            return Ok(());
        }
        if Instant::now() > self.until {
            return Err(gone("is too slow"));
        }
        let piece = Ok(Bytes::from(std::mem::take(&mut self.made)));
        let sent = timeout(PATIENCE, self.sender.send(piece));
        match self.runtime.block_on(sent) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(gone("is gone")),
            Err(_) => Err(gone("takes nothing any more")),
        }
    }
}

fn gone(how: &str) -> Error {
    log::warn!("an export ends early: its reader {how}");
    Error::Unavailable
}

/// The people in their order, some at a time.
fn each_some(
    conn: &mut Conn,
    asked: &Selection,
    found: &SelectedPersons,
    mut then: impl FnMut(Vec<Person>) -> Result<(), Error>,
) -> Result<(), Error> {
    let wanted = found.page(asked).take(asked.limit.unwrap_or(usize::MAX));
    let mut wanted = wanted.map(|key| i64::from(key.ordinal));
    loop {
        let ordinals: Vec<i64> = wanted.by_ref().take(PEOPLE).collect();
        if ordinals.is_empty() {
            return Ok(());
        }
        then(show::by_ordinals(
            conn,
            asked.project.shard_key(),
            &ordinals,
        )?)?;
    }
}

fn write_ndjson(
    conn: &mut Conn,
    asked: &Selection,
    found: &SelectedPersons,
    pieces: &mut Pieces,
) -> Result<(), Error> {
    each_some(conn, asked, found, |people| {
        people.iter().try_for_each(|person| {
            let mut line = serde_json::to_vec(person).map_err(anyhow::Error::from)?;
            line.push(b'\n');
            pieces.push(&line)
        })
    })
}

/// Two passes over the people: one for the columns, one for the rows.
fn write_csv(
    conn: &mut Conn,
    asked: &Selection,
    found: &SelectedPersons,
    pieces: &mut Pieces,
) -> Result<(), Error> {
    let mut columns = table::Columns::default();
    each_some(conn, asked, found, |people| {
        people.iter().try_for_each(|person| {
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
    each_some(conn, asked, found, |people| {
        people.iter().try_for_each(|person| {
            let cells = table::cells(person).map_err(too_wide)?;
            pieces.push(&line(table::row(&columns, &cells))?)
        })
    })
}

fn too_wide(_: table::TooWide) -> Error {
    Error::field(
        "format",
        format!(
            "These people have too many different properties for the columns of a table, more than {}; ask for ndjson.",
            table::WIDEST
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
    fn the_parameter_decides_and_then_what_is_accepted_first() {
        let named = |format, accept| match form(format, accept) {
            Ok(Form::Json) => "json",
            Ok(Form::Csv) => "csv",
            Ok(Form::Ndjson) => "ndjson",
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
