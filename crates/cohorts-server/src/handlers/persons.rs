//! People, as callers see them.

use std::collections::HashMap;

use cohorts_api::types::{Person, PersonPage, PersonType};
use cohorts_api::{CohortsPersonsRequest, CohortsPersonsResponse};
use roaring::RoaringBitmap;
use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use super::cohorts::raw;
use super::{Service, links};
use crate::auth::Caller;
use crate::error::Error;
use crate::store::{CohortId, Conn, Place, cohorts, members, persons};

const DEFAULT_LIMIT: i64 = 100;
const MOST: i64 = 10_000;

impl Service {
    pub(super) async fn members_page(
        &self,
        caller: Caller,
        request: CohortsPersonsRequest,
    ) -> Result<CohortsPersonsResponse, Error> {
        let id = CohortId(request.path.id);
        let limit = match request.query.limit {
            0 => DEFAULT_LIMIT,
            limit => limit.min(MOST),
        };
        let offset = request.query.offset;
        let project = caller.project.id();
        let read = move |conn: &mut Conn| {
            let (cohort, _) = cohorts::find(conn, project, id)?.ok_or(Error::NotFound)?;
            let members = members::read(conn, project.place(), id, cohort.member_version)?;
            page(conn, project.place(), &members, limit, offset)
        };
        let results = self.store.snapshot(read).await?;
        let full = results.len() as i64 >= limit;
        let head = &request.http;
        Ok(CohortsPersonsResponse::Status200(PersonPage {
            next: full.then(|| links::same_but_offset(head, offset + limit)),
            previous: (offset >= limit).then(|| links::same_but_offset(head, offset - limit)),
            results,
        }))
    }
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
    let rows = persons::page(conn, place, &numbers, limit, offset)?;
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
