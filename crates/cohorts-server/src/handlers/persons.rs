//! People, as callers see them.

use std::collections::HashMap;
use std::iter;

use actix_web::HttpResponse;
use actix_web::web::Bytes;
use cohorts_api::types::{Person, PersonPage, PersonType};
use cohorts_api::{CohortsPersonsRequest, CohortsPersonsResponse, RequestHead};
use futures::stream::{self, StreamExt};
use roaring::RoaringBitmap;
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::mpsc::{self, Sender};
use uuid::Uuid;

use super::cohorts::raw;
use super::{Service, links};
use crate::auth::Caller;
use crate::error::Error;
use crate::store::{CohortId, Conn, Place, ProjectId, cohorts, members, persons};

mod table;

const DEFAULT_LIMIT: i64 = 100;
const MOST: i64 = 10_000;
/// Rows of CSV that are made at a time.
const ROWS: usize = 1_000;
/// Pieces of CSV that may wait for a slow reader.
const PIECES: usize = 4;

impl Service {
    pub(super) async fn members(
        &self,
        caller: Caller,
        request: CohortsPersonsRequest,
    ) -> Result<CohortsPersonsResponse, Error> {
        let asked = Asked {
            project: caller.project.id(),
            cohort: CohortId(request.path.id),
            limit: request
                .query
                .limit
                .filter(|limit| *limit > 0)
                .map(|limit| limit.min(MOST)),
            offset: request.query.offset,
        };
        let as_csv = match request.query.format.as_deref() {
            Some("csv") => true,
            Some("json") => false,
            Some(_) => return Err(Error::NotFound),
            None => wants_csv(request.http.accept().unwrap_or_default()),
        };
        match as_csv {
            true => self.members_csv(asked).await,
            false => self.members_page(asked, &request.http).await,
        }
    }

    async fn members_page(
        &self,
        asked: Asked,
        head: &RequestHead,
    ) -> Result<CohortsPersonsResponse, Error> {
        let (limit, offset) = (asked.limit.unwrap_or(DEFAULT_LIMIT), asked.offset);
        let read = move |conn: &mut Conn| {
            let members = asked.members(conn)?;
            page(conn, asked.project.place(), &members, limit, offset)
        };
        let results = self.store.snapshot(read).await?;
        let full = results.len() as i64 >= limit;
        Ok(CohortsPersonsResponse::Status200(PersonPage {
            next: full.then(|| links::with(head, &[("offset", offset.saturating_add(limit))])),
            previous: (offset >= limit).then(|| links::with(head, &[("offset", offset - limit)])),
            results,
        }))
    }

    /// The answer begins when the columns are known, and is sent as it is made.
    async fn members_csv(&self, asked: Asked) -> Result<CohortsPersonsResponse, Error> {
        let (pieces, mut sent) = mpsc::channel(PIECES);
        let store = self.store.clone();
        actix_web::rt::spawn(async move {
            let failed = pieces.clone();
            let written = store
                .snapshot(move |conn| write_csv(conn, asked, &pieces))
                .await;
            if let Err(cause) = written {
                // Nobody reads on where the reader is gone.
                let _ = failed.send(Err(cause)).await;
            }
        });
        // What fails before the first piece is still an answer of its own.
        let first = sent.recv().await.transpose()?;
        let rest = stream::unfold(sent, |mut sent| async { Some((sent.recv().await?, sent)) });
        let all = stream::iter(first.map(Ok)).chain(rest);
        let answer = HttpResponse::Ok()
            .content_type("text/csv; charset=utf-8")
            .streaming(all);
        Ok(CohortsPersonsResponse::Status200Csv(answer))
    }
}

/// Which members are asked for.
#[derive(Clone, Copy)]
struct Asked {
    project: ProjectId,
    cohort: CohortId,
    limit: Option<i64>,
    offset: i64,
}

impl Asked {
    fn members(&self, conn: &mut Conn) -> Result<RoaringBitmap, Error> {
        let found = cohorts::find(conn, self.project, self.cohort)?;
        let (cohort, _) = found.ok_or(Error::NotFound)?;
        members::read(
            conn,
            self.project.place(),
            self.cohort,
            cohort.member_version,
        )
    }
}

/// Whether CSV comes before JSON among what is accepted.
fn wants_csv(accept: &str) -> bool {
    let types = accept
        .split(',')
        .map(|range| range.split(';').next().unwrap_or_default().trim());
    let known = |range: &&str| {
        matches!(
            *range,
            "text/csv" | "text/*" | "application/json" | "application/*" | "*/*"
        )
    };
    types
        .into_iter()
        .find(known)
        .is_some_and(|range| range.starts_with("text/"))
}

/// Two passes over the people: one for the columns, one for the rows.
fn write_csv(
    conn: &mut Conn,
    asked: Asked,
    pieces: &Sender<Result<Bytes, Error>>,
) -> Result<(), Error> {
    let place = asked.project.place();
    let members: Vec<i64> = asked.members(conn)?.iter().map(i64::from).collect();
    let ordered = persons::in_order(conn, place, &members)?;
    let skipped = ordered
        .get(usize::try_from(asked.offset).unwrap_or(usize::MAX)..)
        .unwrap_or_default();
    let length = asked
        .limit
        .map_or(skipped.len(), |limit| skipped.len().min(limit as usize));
    let wanted = &skipped[..length];

    let mut columns = table::Columns::new();
    for numbers in wanted.chunks(ROWS) {
        let people = people(conn, place, numbers, ROWS as i64, 0)?;
        columns.extend(
            people
                .iter()
                .flat_map(|person| table::cells(person).into_keys()),
        );
    }
    let header = columns.iter().map(String::as_str).collect();
    let mut text = table::lines(iter::once(header).filter(|header: &Vec<_>| !header.is_empty()))
        .map_err(anyhow::Error::from)?;
    for numbers in wanted.chunks(ROWS) {
        let people = people(conn, place, numbers, ROWS as i64, 0)?;
        let cells: Vec<_> = people.iter().map(table::cells).collect();
        let rows = cells.iter().map(|cells| table::row(&columns, cells));
        text.extend(table::lines(rows).map_err(anyhow::Error::from)?);
        if pieces
            .blocking_send(Ok(Bytes::from(std::mem::take(&mut text))))
            .is_err()
        {
            return Ok(());
        }
    }
    Ok(())
}

/// Some of the people of a set, the one created last first.
pub(super) fn page(
    conn: &mut Conn,
    place: Place,
    people: &RoaringBitmap,
    limit: i64,
    offset: i64,
) -> Result<Vec<Person>, Error> {
    if limit == 0 || people.len() <= offset.unsigned_abs() {
        return Ok(Vec::new());
    }
    let numbers: Vec<i64> = people.iter().map(i64::from).collect();
    self::people(conn, place, &numbers, limit, offset)
}

fn people(
    conn: &mut Conn,
    place: Place,
    numbers: &[i64],
    limit: i64,
    offset: i64,
) -> Result<Vec<Person>, Error> {
    let rows = persons::page(conn, place, numbers, limit, offset)?;
    let shown: Vec<i64> = rows.iter().map(|person| person.number).collect();
    let mut ids = persons::shown_ids(conn, place, &shown)?;
    Ok(rows
        .into_iter()
        .map(|person| shown_person(person, &mut ids))
        .collect())
}

fn shown_person(person: persons::Person, ids: &mut HashMap<i64, Vec<String>>) -> Person {
    let distinct_ids = ids.remove(&person.number).unwrap_or_default();
    Person {
        type_: PersonType::Person,
        id: person.uuid,
        uuid: person.uuid,
        name: name(&person, &distinct_ids),
        distinct_ids,
        properties: raw(person.properties),
        created_at: person.created_at,
        last_seen_at: None,
        is_identified: Some(person.is_identified),
        matched_recordings: Vec::new(),
        value_at_data_point: None,
    }
}

/// The properties that a person may be called by, in that order.
#[derive(Default, Deserialize)]
struct Names {
    email: Option<Value>,
    name: Option<Value>,
    username: Option<Value>,
}

/// The first property that can serve as a name, else a distinct id, chosen ones before random ones, else the number.
fn name(person: &persons::Person, ids: &[String]) -> String {
    let names: Names = serde_json::from_str(&person.properties.0).unwrap_or_default();
    let texts = [names.email, names.name, names.username]
        .into_iter()
        .flatten();
    let text = texts
        .map(|value| match value {
            Value::String(text) => text,
            Value::Number(number) => number.to_string(),
            _ => String::new(),
        })
        .find(|text| !text.trim().is_empty());
    let chosen = || {
        ids.iter()
            .find(|id| Uuid::parse_str(id).is_err())
            .or(ids.first())
    };
    text.or_else(|| chosen().cloned())
        .unwrap_or_else(|| person.number.to_string())
}
