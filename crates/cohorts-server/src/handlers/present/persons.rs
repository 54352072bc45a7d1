//! Persons as responses show them.

use cohorts_api::types::{Person, PersonType};
use cohorts_store::{Conn, Result, ShardKey, persons};
use serde::Deserialize;
use serde_json::Number;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::raw;
use crate::index::IndexResult;
use crate::index::ranking::RankedPersons;

/// The persons with these ordinals, the newest first. Ordinals without a person are skipped.
fn persons_by_ordinals(
    conn: &mut Conn,
    shard_key: ShardKey,
    ordinals: &[i64],
) -> Result<Vec<Person>> {
    let rows = persons::by_ordinals(conn, shard_key, ordinals)?;
    self::persons(conn, shard_key, rows)
}

/// The newest `limit` persons of a selection, the newest first.
pub fn first_persons(
    conn: &mut Conn,
    shard_key: ShardKey,
    persons: &RankedPersons,
    limit: i64,
) -> IndexResult<Vec<Person>> {
    let limit = usize::try_from(limit).unwrap_or(0);
    let first = persons.next(conn, persons.start(), limit)?;
    let ordinals: Vec<i64> = (first.iter())
        .map(|person| person.key.ordinal.into())
        .collect();
    Ok(persons_by_ordinals(conn, shard_key, &ordinals)?)
}

pub fn persons(
    conn: &mut Conn,
    shard_key: ShardKey,
    rows: Vec<persons::Person>,
) -> Result<Vec<Person>> {
    let ordinals: Vec<i64> = rows.iter().map(|row| row.ordinal).collect();
    let mut ids = persons::shown_ids(conn, shard_key, &ordinals)?;
    let persons = rows.into_iter().map(|row| {
        let distinct_ids = ids.remove(&row.ordinal).unwrap_or_default();
        person(row, distinct_ids)
    });
    Ok(persons.collect())
}

fn person(row: persons::Person, distinct_ids: Vec<String>) -> Person {
    Person {
        type_: PersonType::Person,
        id: row.uuid,
        uuid: row.uuid,
        name: name(&row, &distinct_ids),
        distinct_ids,
        properties: raw(row.properties),
        created_at: row.created_at,
        last_seen_at: None,
        is_identified: Some(row.is_identified),
        matched_recordings: Vec::new(),
        value_at_data_point: None,
    }
}

/// The properties that may name a person, in order of preference, as JSON. They are not parsed, because any value may be
/// large.
#[derive(Default, Deserialize)]
struct Names<'a> {
    #[serde(borrow)]
    email: Option<&'a RawValue>,
    #[serde(borrow)]
    name: Option<&'a RawValue>,
    #[serde(borrow)]
    username: Option<&'a RawValue>,
}

/// The first usable name property; else a distinct id, preferably not a UUID; else the ordinal.
fn name(row: &persons::Person, ids: &[String]) -> String {
    let names: Names = serde_json::from_str(&row.properties.0).unwrap_or_default();
    let property = [names.email, names.name, names.username]
        .into_iter()
        .flatten()
        .filter_map(text)
        .find(|text| !text.trim().is_empty());
    let distinct_id = || {
        let readable = ids.iter().find(|id| Uuid::parse_str(id).is_err());
        readable.or(ids.first()).cloned()
    };
    property
        .or_else(distinct_id)
        .unwrap_or_else(|| row.ordinal.to_string())
}

/// The text of a text or a number.
fn text(value: &RawValue) -> Option<String> {
    let json = value.get();
    match json.as_bytes().first()? {
        b'"' => serde_json::from_str(json).ok(),
        b'-' | b'0'..=b'9' => Some(serde_json::from_str::<Number>(json).ok()?.to_string()),
        _ => None,
    }
}
