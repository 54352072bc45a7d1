//! From rows to people as callers see them.

use std::collections::HashMap;

use cohorts_api::types::{Person, PersonType};
use roaring::RoaringBitmap;
use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use crate::handlers::cohorts::raw;
use crate::index::ranking::Ranking;
use cohorts_store::{Conn, ShardKey, persons};

/// The people with these numbers, the one created last first. Those who are gone are missing.
pub fn by_ordinals(
    conn: &mut Conn,
    shard_key: ShardKey,
    ordinals: &[i64],
) -> Result<Vec<Person>, cohorts_store::Error> {
    let rows = persons::by_ordinals(conn, shard_key, ordinals)?;
    all(conn, shard_key, rows)
}

/// The first people of a set, the one created last first.
pub fn first(
    conn: &mut Conn,
    ranking: &Ranking,
    shard_key: ShardKey,
    persons: &RoaringBitmap,
    limit: i64,
) -> Result<Vec<Person>, cohorts_store::Error> {
    if limit == 0 || persons.is_empty() {
        return Ok(Vec::new());
    }
    let ranks = ranking.ranks(persons);
    let ranks = ranks.iter().take(usize::try_from(limit).unwrap_or(0));
    let ordinals: Vec<i64> = ranks
        .map(|rank| ranking.key_at(rank).ordinal.into())
        .collect();
    by_ordinals(conn, shard_key, &ordinals)
}

pub fn all(
    conn: &mut Conn,
    shard_key: ShardKey,
    rows: Vec<persons::Person>,
) -> Result<Vec<Person>, cohorts_store::Error> {
    let ordinals: Vec<i64> = rows.iter().map(|person| person.ordinal).collect();
    let mut ids = persons::shown_ids(conn, shard_key, &ordinals)?;
    let shown = rows.into_iter().map(|person| one(person, &mut ids));
    Ok(shown.collect())
}

fn one(person: persons::Person, ids: &mut HashMap<i64, Vec<String>>) -> Person {
    let distinct_ids = ids.remove(&person.ordinal).unwrap_or_default();
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
        .unwrap_or_else(|| person.ordinal.to_string())
}
