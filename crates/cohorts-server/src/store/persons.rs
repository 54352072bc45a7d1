//! People: a row each under a dense number, and the distinct ids by which events find them.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Mutex;

use anyhow::ensure;
use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::upsert::excluded;
use uuid::Uuid;

use super::schema::{distinct_ids, person_counters, persons};
use super::{Conn, JsonText, Place};
use crate::error::Error;

/// Numbers are taken from a project's counter so many at a time, at least.
const BLOCK: i64 = 64;
/// Rows of one statement.
const ROWS: usize = 1_000;
/// Distinct ids that are shown of one person.
const SHOWN_IDS: usize = 10;

/// A row of `persons`.
#[derive(Clone, Debug, PartialEq, Queryable, Selectable, Insertable)]
#[diesel(table_name = persons)]
pub struct Person {
    /// Dense, given out in the order in which people are first seen, never given out again.
    pub number: i64,
    pub uuid: Uuid,
    pub properties: JsonText,
    pub is_identified: bool,
    pub created_at: DateTime<Utc>,
}

/// Person numbers taken ahead of need, by place.
#[derive(Debug, Default)]
pub struct Numbers {
    ahead: Mutex<HashMap<Place, Range<i64>>>,
}

impl Numbers {
    /// Numbers that nobody has. What is not used stays a hole.
    ///
    /// Must not be called in a transaction: the counter's row is released at once.
    pub fn take(&self, conn: &mut Conn, place: Place, count: usize) -> Result<Vec<i64>, Error> {
        let count = i64::try_from(count).map_err(anyhow::Error::from)?;
        let mut ahead = self
            .ahead
            .lock()
            .expect("nothing panics while it holds the numbers");
        let range = ahead.entry(place).or_insert(0..0);
        let mut numbers: Vec<i64> = range
            .take(usize::try_from(count).unwrap_or_default())
            .collect();
        let missing = count - numbers.len() as i64;
        if missing > 0 {
            let block = take_block(conn, place, missing.max(BLOCK))?;
            *range = block.start + missing..block.end;
            numbers.extend(block.start..block.start + missing);
        }
        Ok(numbers)
    }
}

fn take_block(conn: &mut Conn, place: Place, length: i64) -> Result<Range<i64>, Error> {
    let next: i64 = diesel::insert_into(person_counters::table)
        .values((
            person_counters::place.eq(place.0),
            person_counters::next_number.eq(length),
        ))
        .on_conflict(person_counters::place)
        .do_update()
        .set(person_counters::next_number.eq(person_counters::next_number + length))
        .returning(person_counters::next_number)
        .get_result(conn)?;
    let in_range = u32::try_from(next).is_ok();
    let check = || {
        ensure!(in_range, "the project has no person numbers left");
        Ok(next - length..next)
    };
    check().map_err(Error::Internal)
}

/// Whose each of these distinct ids is, where it is anybody's.
pub fn numbers_of(
    conn: &mut Conn,
    place: Place,
    ids: &[&str],
) -> QueryResult<HashMap<String, i64>> {
    let rows: Vec<(String, i64)> = distinct_ids::table
        .filter(distinct_ids::place.eq(place.0))
        .filter(distinct_ids::distinct_id.eq_any(ids))
        .select((distinct_ids::distinct_id, distinct_ids::number))
        .load(conn)?;
    Ok(rows.into_iter().collect())
}

/// Gives each distinct id to the number beside it, unless it is somebody's by now.
/// `wanted` comes sorted, so that two writers never wait for each other.
pub fn claim_ids(
    conn: &mut Conn,
    place: Place,
    wanted: &BTreeMap<&str, i64>,
) -> QueryResult<HashMap<String, i64>> {
    let ids: Vec<&str> = wanted.keys().copied().collect();
    for some in ids.chunks(ROWS) {
        let rows: Vec<_> = some
            .iter()
            .map(|id| {
                (
                    distinct_ids::place.eq(place.0),
                    distinct_ids::distinct_id.eq(*id),
                    distinct_ids::number.eq(wanted[id]),
                )
            })
            .collect();
        diesel::insert_into(distinct_ids::table)
            .values(&rows)
            .on_conflict_do_nothing()
            .execute(conn)?;
    }
    numbers_of(conn, place, &ids)
}

/// Reads people, by rising number, and keeps others from changing them until the transaction ends.
pub fn lock(conn: &mut Conn, place: Place, numbers: &[i64]) -> QueryResult<Vec<Person>> {
    persons::table
        .filter(persons::place.eq(place.0))
        .filter(persons::number.eq_any(numbers))
        .order(persons::number)
        .select(Person::as_select())
        .for_update()
        .load(conn)
}

/// Writes people as they are now, new and known ones alike. They come by rising number.
pub fn upsert(conn: &mut Conn, place: Place, people: &[Person]) -> QueryResult<()> {
    for some in people.chunks(ROWS) {
        let rows: Vec<_> = some
            .iter()
            .map(|person| (persons::place.eq(place.0), person))
            .collect();
        diesel::insert_into(persons::table)
            .values(rows)
            .on_conflict((persons::place, persons::number))
            .do_update()
            .set((
                persons::properties.eq(excluded(persons::properties)),
                persons::is_identified.eq(excluded(persons::is_identified)),
            ))
            .execute(conn)?;
    }
    Ok(())
}

/// Some of the people with these numbers, the one created last first.
pub fn page(
    conn: &mut Conn,
    place: Place,
    numbers: &[i64],
    limit: i64,
    offset: i64,
) -> QueryResult<Vec<Person>> {
    persons::table
        .filter(persons::place.eq(place.0))
        .filter(persons::number.eq_any(numbers))
        .order((persons::created_at.desc(), persons::number.desc()))
        .limit(limit)
        .offset(offset)
        .select(Person::as_select())
        .load(conn)
}

/// The first distinct ids of each person, those given earliest by name first.
pub fn shown_ids(
    conn: &mut Conn,
    place: Place,
    numbers: &[i64],
) -> QueryResult<HashMap<i64, Vec<String>>> {
    let rows: Vec<(i64, String)> = distinct_ids::table
        .filter(distinct_ids::place.eq(place.0))
        .filter(distinct_ids::number.eq_any(numbers))
        .order((distinct_ids::number, distinct_ids::distinct_id))
        .select((distinct_ids::number, distinct_ids::distinct_id))
        .load(conn)?;
    let mut shown: HashMap<i64, Vec<String>> = HashMap::new();
    for (number, id) in rows {
        let ids = shown.entry(number).or_default();
        if ids.len() < SHOWN_IDS {
            ids.push(id);
        }
    }
    Ok(shown)
}
