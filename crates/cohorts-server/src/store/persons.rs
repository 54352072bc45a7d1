//! People: a row each under a dense number, and the distinct ids by which events find them.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Mutex;

use anyhow::ensure;
use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{self, Array, BigInt, Text};
use diesel::upsert::excluded;
use uuid::Uuid;

use super::schema::{distinct_ids, person_counters, persons};
use super::{Conn, JsonText, Place, holding};
use crate::error::Error;

/// Numbers are taken from a project's counter so many at a time, at least.
const BLOCK: i64 = 64;
/// Rows of one statement.
const ROWS: usize = 1_000;

/// Long lists come in as rows to join: Postgres compares each row with each item of an array, once it has made
/// a plan that serves any array. `offset 0` has it look up one row after the other, where it would rather read a
/// whole table for some thousand of them.
const PEOPLE: &str = "\
    select p.* from unnest($2) as wanted(number) cross join lateral ( \
        select number, uuid, properties, is_identified, created_at from persons \
        where place = $1 and number = wanted.number offset 0) p";
const LOCKED: &str = "\
    select p.number, p.uuid, p.properties, p.is_identified, p.created_at \
    from unnest($2) as wanted(number) join persons p on p.place = $1 and p.number = wanted.number \
    order by p.number for update of p";

#[derive(QueryableByName)]
struct IdRow {
    #[diesel(sql_type = Text)]
    distinct_id: String,
    #[diesel(sql_type = BigInt)]
    number: i64,
}

#[derive(QueryableByName)]
struct UuidRow {
    #[diesel(sql_type = sql_types::Uuid)]
    uuid: Uuid,
    #[diesel(sql_type = BigInt)]
    number: i64,
}

#[derive(QueryableByName)]
struct EmailRow {
    #[diesel(sql_type = Text)]
    email: String,
    #[diesel(sql_type = BigInt)]
    number: i64,
}

#[derive(QueryableByName)]
struct NumberRow {
    #[diesel(sql_type = BigInt)]
    number: i64,
}

/// A row of `persons`.
#[derive(Clone, Debug, PartialEq, Queryable, Selectable, QueryableByName, Insertable)]
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
    let rows: Vec<IdRow> = diesel::sql_query(
        "select d.* from unnest($2) as wanted(id) cross join lateral ( \
            select distinct_id, number from distinct_ids \
            where place = $1 and distinct_id = wanted.id offset 0) d",
    )
    .bind::<BigInt, _>(place.0)
    .bind::<Array<Text>, _>(ids)
    .load(conn)?;
    let rows = rows.into_iter().map(|row| (row.distinct_id, row.number));
    Ok(rows.collect())
}

/// The numbers of those of these people who are in the project.
pub fn numbers_of_uuids(
    conn: &mut Conn,
    place: Place,
    uuids: &[Uuid],
) -> QueryResult<HashMap<Uuid, i64>> {
    let rows: Vec<UuidRow> = diesel::sql_query(
        "select p.* from unnest($2) as wanted(uuid) cross join lateral ( \
            select uuid, number from persons where place = $1 and uuid = wanted.uuid offset 0) p",
    )
    .bind::<BigInt, _>(place.0)
    .bind::<Array<sql_types::Uuid>, _>(uuids)
    .load(conn)?;
    Ok(rows.into_iter().map(|row| (row.uuid, row.number)).collect())
}

/// The people whose property `email` is one of these, with the address each.
pub fn numbers_of_emails(
    conn: &mut Conn,
    place: Place,
    emails: &[&str],
) -> QueryResult<Vec<(String, i64)>> {
    let rows: Vec<EmailRow> = diesel::sql_query(
        "select wanted.email, p.number from (select distinct unnest($2) as email) as wanted cross join lateral ( \
            select number from persons where place = $1 and properties ? 'email' \
                and md5(properties ->> 'email') = md5(wanted.email) \
                and properties ->> 'email' = wanted.email offset 0) p",
    )
    .bind::<BigInt, _>(place.0)
    .bind::<Array<Text>, _>(emails)
    .load(conn)?;
    Ok(rows
        .into_iter()
        .map(|row| (row.email, row.number))
        .collect())
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
    diesel::sql_query(LOCKED)
        .bind::<BigInt, _>(place.0)
        .bind::<Array<BigInt>, _>(numbers)
        .load(conn)
}

/// Writes people as they are after a batch, new and known ones alike. They come by rising number.
pub fn upsert(conn: &mut Conn, place: Place, batch: i64, people: &[Person]) -> QueryResult<()> {
    for some in people.chunks(ROWS) {
        let rows: Vec<_> = some
            .iter()
            .map(|person| (persons::place.eq(place.0), persons::batch.eq(batch), person))
            .collect();
        diesel::insert_into(persons::table)
            .values(rows)
            .on_conflict((persons::place, persons::number))
            .do_update()
            .set((
                persons::properties.eq(excluded(persons::properties)),
                persons::is_identified.eq(excluded(persons::is_identified)),
                persons::batch.eq(excluded(persons::batch)),
            ))
            .execute(conn)?;
    }
    Ok(())
}

/// The people with these numbers, the one created last first.
pub fn of_numbers(conn: &mut Conn, place: Place, numbers: &[i64]) -> QueryResult<Vec<Person>> {
    diesel::sql_query(format!(
        "{PEOPLE} order by p.created_at desc, p.number desc"
    ))
    .bind::<BigInt, _>(place.0)
    .bind::<Array<BigInt>, _>(numbers)
    .load(conn)
}

/// The person with that uuid.
pub fn find(conn: &mut Conn, place: Place, uuid: Uuid) -> QueryResult<Option<Person>> {
    persons::table
        .filter(persons::place.eq(place.0).and(persons::uuid.eq(uuid)))
        .select(Person::as_select())
        .first(conn)
        .optional()
}

/// The people with the term in their e-mail address, their name or a distinct id, in any letters.
pub fn search(conn: &mut Conn, place: Place, term: &str) -> QueryResult<Vec<i64>> {
    let rows: Vec<NumberRow> = diesel::sql_query(
        "select number from persons where place = $1 \
            and (properties ->> 'email' ilike $2 or properties ->> 'name' ilike $2) \
         union select number from distinct_ids where place = $1 and distinct_id ilike $2",
    )
    .bind::<BigInt, _>(place.0)
    .bind::<Text, _>(holding(term))
    .load(conn)?;
    Ok(rows.into_iter().map(|row| row.number).collect())
}

/// The first ten distinct ids of each person, in their order.
pub fn shown_ids(
    conn: &mut Conn,
    place: Place,
    numbers: &[i64],
) -> QueryResult<HashMap<i64, Vec<String>>> {
    let rows: Vec<IdRow> = diesel::sql_query(
        "select d.* from unnest($2) as wanted(number) cross join lateral ( \
            select distinct_id, number from distinct_ids where place = $1 and number = wanted.number \
            order by distinct_id limit 10) d",
    )
    .bind::<BigInt, _>(place.0)
    .bind::<Array<BigInt>, _>(numbers)
    .load(conn)?;
    let mut shown: HashMap<i64, Vec<String>> = HashMap::new();
    for row in rows {
        shown.entry(row.number).or_default().push(row.distinct_id);
    }
    Ok(shown)
}

/// Deletes a person's row and distinct ids.
pub fn delete(conn: &mut Conn, place: Place, number: i64) -> QueryResult<()> {
    let ids = distinct_ids::table
        .filter(distinct_ids::place.eq(place.0))
        .filter(distinct_ids::number.eq(number));
    diesel::delete(ids).execute(conn)?;
    let own = persons::table
        .filter(persons::place.eq(place.0))
        .filter(persons::number.eq(number));
    diesel::delete(own).execute(conn)?;
    Ok(())
}
