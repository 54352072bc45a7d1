//! People, as callers see them.

use std::collections::HashMap;
use std::iter;
use std::sync::Arc;
use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::web::Bytes;
use chrono::Utc;
use cohorts_api::types::{Person, PersonPage, PersonType};
use cohorts_api::{CohortsPersonsRequest, CohortsPersonsResponse, RequestHead};
use cohorts_engine::{Filter, Plan, plan};
use futures::stream::{self, StreamExt};
use roaring::RoaringBitmap;
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::mpsc::{self, Sender};
use uuid::Uuid;

use super::cohorts::raw;
use super::members::bitmap;
use super::{Service, links};
use crate::auth::Caller;
use crate::calculation::moment;
use crate::error::Error;
use crate::store::blocks::Snapshot;
use crate::store::{CohortId, Conn, Place, ProjectId, cohorts, members, persons};

mod table;

const DEFAULT_LIMIT: i64 = 100;
const MOST: i64 = 10_000;
/// Rows of CSV that are made at a time.
const ROWS: usize = 1_000;
/// Pieces of CSV that may wait for a slow reader.
const PIECES: usize = 4;
/// How long finding the people, or any one statement after it, may take.
const READ_LIMIT: Duration = Duration::from_secs(20);

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
            plan: plan_of(&caller, request.query.properties.as_deref())?,
            search: request
                .query
                .search
                .map(|term| term.replace('\0', "").trim().to_owned())
                .filter(|term| !term.is_empty()),
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
            let place = asked.project.place();
            asked.with_members(conn, |conn, members| {
                page(conn, place, &members, limit, offset)
            })
        };
        let results = self.store.read(read).await?;
        let full = results.len() as i64 >= limit;
        Ok(CohortsPersonsResponse::Status200(PersonPage {
            next: full.then(|| links::with(head, &[("offset", offset.saturating_add(limit))])),
            previous: (offset >= limit).then(|| links::with(head, &[("offset", offset - limit)])),
            results,
        }))
    }

    /// The answer begins when the columns are known, and is sent as it is made.
    async fn members_csv(&self, asked: Asked) -> Result<CohortsPersonsResponse, Error> {
        let turn = Arc::clone(&self.exports).acquire_owned().await;
        let turn = turn.map_err(|_| Error::Unavailable)?;
        let (pieces, mut sent) = mpsc::channel(PIECES);
        let store = self.store.clone();
        actix_web::rt::spawn(async move {
            let failed = pieces.clone();
            let write = move |conn: &mut Conn| {
                asked.with_members(conn, |conn, members| {
                    write_csv(conn, &asked, &members, &pieces)
                })
            };
            let written = store.read(write).await;
            drop(turn);
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
struct Asked {
    project: ProjectId,
    cohort: CohortId,
    limit: Option<i64>,
    offset: i64,
    /// Further criteria that they must meet.
    plan: Option<Plan>,
    search: Option<String>,
}

impl Asked {
    /// Goes on with those members that are asked for, all of it under one snapshot.
    fn with_members<T>(
        &self,
        conn: &mut Conn,
        then: impl FnOnce(&mut Conn, RoaringBitmap) -> Result<T, Error>,
    ) -> Result<T, Error> {
        Snapshot::read(conn, self.project, READ_LIMIT, |snapshot| {
            let mut members = snapshot.ask(|conn| self.members(conn))?;
            if let Some(plan) = &self.plan {
                members &= plan.evaluate(snapshot)?;
            }
            if let Some(term) = &self.search {
                let place = self.project.place();
                let found = snapshot.ask(|conn| Ok(persons::search(conn, place, term)?))?;
                members &= bitmap(found.into_iter())?;
            }
            snapshot.ask(|conn| then(conn, members))
        })
    }

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

/// The criteria in the parameter `properties`: a list of tests of properties, all of which must hold.
fn plan_of(caller: &Caller, properties: Option<&str>) -> Result<Option<Plan>, Error> {
    let Some(text) = properties.filter(|text| !text.trim().is_empty()) else {
        return Ok(None);
    };
    let wrong = |detail: String| Error::field("properties", detail);
    let list: Value =
        serde_json::from_str(text).map_err(|error| wrong(format!("It is no JSON: {error}")))?;
    let Value::Array(mut leaves) = list else {
        return Err(wrong("It must be a list of property filters.".to_owned()));
    };
    if leaves.is_empty() {
        return Ok(None);
    }
    for leaf in leaves.iter_mut().filter_map(Value::as_object_mut) {
        leaf.entry("type").or_insert_with(|| "person".into());
    }
    let tree = serde_json::json!({"properties": {"type": "AND", "values": leaves}});
    let filter = Filter::parse_stored(&tree).map_err(|error| wrong(error.detail))?;
    let now = moment(&caller.project, Utc::now().timestamp_micros())?;
    plan(&filter, &now)
        .map(Some)
        .map_err(|error| wrong(error.detail))
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
    asked: &Asked,
    members: &RoaringBitmap,
    pieces: &Sender<Result<Bytes, Error>>,
) -> Result<(), Error> {
    let place = asked.project.place();
    let members: Vec<i64> = members.iter().map(i64::from).collect();
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
