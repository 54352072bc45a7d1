//! People: a row each under a dense number, and the distinct ids by which events find them.

use std::collections::{HashMap, VecDeque};
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard};

use anyhow::ensure;
use chrono::{DateTime, Utc};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::sql_types::{self, Array, BigInt, Bool, Jsonb, Text, Timestamptz};
use diesel::upsert::excluded;
use uuid::Uuid;

use super::schema::{distinct_ids, person_counters, persons};
use super::{Conn, JsonText, Place, ROWS, holding};
use crate::error::Error;

/// Numbers are taken from a project's counter so many at a time, at least.
const BLOCK: i64 = 64;

/// What is asked of people by their numbers: a prepared statement, as it is asked for each page.
///
/// Long lists come in as rows to join: Postgres compares each row with each item of an array, once it has made
/// a plan that serves any array. `offset 0` has it look up one row after the other, where it would rather read a
/// whole table for some thousand of them.
struct OfNumbers<'a, W> {
    place: Place,
    numbers: &'a [i64],
    wanted: PhantomData<W>,
}

impl<'a, W> OfNumbers<'a, W> {
    fn new(place: Place, numbers: &'a [i64]) -> Self {
        let wanted = PhantomData;
        Self {
            place,
            numbers,
            wanted,
        }
    }
}

/// Text of a statement between the names of its columns, a place and its end.
trait Wanted {
    type Row;
    const FROM: &str;
    const END: &str;
}

/// The people, the one created last first.
struct People;

impl Wanted for People {
    type Row = (BigInt, sql_types::Uuid, Jsonb, Bool, Timestamptz);
    const FROM: &str = "select number, uuid, properties, is_identified, created_at from persons";
    const END: &str = "offset 0) w order by w.created_at desc, w.number desc";
}

/// The first ten distinct ids of each.
struct ShownIds;

impl Wanted for ShownIds {
    type Row = (BigInt, Text);
    const FROM: &str = "select number, distinct_id from distinct_ids";
    const END: &str = "order by distinct_id limit 10) w";
}

impl<W: 'static> QueryId for OfNumbers<'_, W> {
    type QueryId = OfNumbers<'static, W>;
    const HAS_STATIC_QUERY_ID: bool = true;
}

impl<W: Wanted> Query for OfNumbers<'_, W> {
    type SqlType = W::Row;
}

impl<W> RunQueryDsl<Conn> for OfNumbers<'_, W> {}

impl<W: Wanted> QueryFragment<Pg> for OfNumbers<'_, W> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("select w.* from unnest(");
        out.push_bind_param::<Array<BigInt>, _>(&self.numbers)?;
        out.push_sql(") as wanted(number) cross join lateral (");
        out.push_sql(W::FROM);
        out.push_sql(" where place = ");
        out.push_bind_param::<BigInt, _>(&self.place.0)?;
        out.push_sql(" and number = wanted.number ");
        out.push_sql(W::END);
        Ok(())
    }
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
#[derive(Clone, Debug, PartialEq, Queryable, Selectable, QueryableByName)]
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
    ahead: Mutex<HashMap<Place, VecDeque<i64>>>,
}

impl Numbers {
    /// Numbers that nobody has, rising. What is not used is given back or stays a hole.
    ///
    /// Must not be called in a transaction: the counter's row is released at once.
    pub fn take(
        &self,
        conn: &mut Conn,
        place: Place,
        count: usize,
    ) -> Result<VecDeque<i64>, Error> {
        let mut ahead = self.ahead();
        let numbers = ahead.entry(place).or_default();
        if numbers.len() < count {
            let missing = (count - numbers.len()) as i64;
            numbers.extend(take_block(conn, place, missing.max(BLOCK))?);
        }
        Ok(numbers.drain(..count).collect())
    }

    /// Takes back numbers that were not used.
    pub fn give_back(&self, place: Place, numbers: VecDeque<i64>) {
        let mut ahead = self.ahead();
        let kept = ahead.entry(place).or_default();
        for number in numbers.into_iter().rev() {
            kept.push_front(number);
        }
    }

    fn ahead(&self) -> MutexGuard<'_, HashMap<Place, VecDeque<i64>>> {
        self.ahead
            .lock()
            .expect("nothing panics while it holds the numbers")
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

/// The number of each of these distinct ids' person, where there is one.
pub fn numbers_of(
    conn: &mut Conn,
    place: Place,
    ids: &[&str],
) -> QueryResult<HashMap<String, i64>> {
    let owners = owners(conn, place, ids)?.into_iter();
    let people = owners.filter(|(_, owner)| owner.is_person);
    Ok(people.map(|(id, owner)| (id, owner.number)).collect())
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

/// Whose a distinct id is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    pub number: i64,
    /// Whether there is a person of that number: there is none while nothing was told but events that make nobody.
    pub is_person: bool,
}

#[derive(QueryableByName)]
struct OwnerRow {
    #[diesel(sql_type = Text)]
    distinct_id: String,
    #[diesel(sql_type = BigInt)]
    number: i64,
    #[diesel(sql_type = Bool)]
    is_person: bool,
}

/// Whose each of these distinct ids is, where it is anybody's.
pub fn owners(conn: &mut Conn, place: Place, ids: &[&str]) -> QueryResult<HashMap<String, Owner>> {
    let rows: Vec<OwnerRow> = diesel::sql_query(
        "select d.* from unnest($2) as wanted(id) cross join lateral ( \
            select distinct_id, number, \
                exists (select from persons p where p.place = $1 and p.number = i.number) as is_person \
            from distinct_ids i where place = $1 and distinct_id = wanted.id offset 0) d",
    )
    .bind::<BigInt, _>(place.0)
    .bind::<Array<Text>, _>(ids)
    .load(conn)?;
    let owner = |row: OwnerRow| {
        let (number, is_person) = (row.number, row.is_person);
        (row.distinct_id, Owner { number, is_person })
    };
    Ok(rows.into_iter().map(owner).collect())
}

/// Gives each distinct id, which must be nobody's, to the number beside it.
pub fn add_ids(conn: &mut Conn, place: Place, ids: &[(&str, i64)]) -> QueryResult<()> {
    let row = |(id, number): &(&str, i64)| {
        (
            distinct_ids::place.eq(place.0),
            distinct_ids::distinct_id.eq(id.to_string()),
            distinct_ids::number.eq(*number),
        )
    };
    if !ids.is_empty() {
        let rows: Vec<_> = ids.iter().map(row).collect();
        diesel::copy_from(distinct_ids::table)
            .from_insertable(rows)
            .execute(conn)?;
    }
    Ok(())
}

/// Gives all distinct ids of the first of each pair to the second, and deletes the first's row.
pub fn merge(conn: &mut Conn, place: Place, merged: &[(i64, i64)]) -> QueryResult<()> {
    let (from, into): (Vec<i64>, Vec<i64>) = merged.iter().copied().unzip();
    diesel::sql_query(
        "update distinct_ids d set number = m.into_number from unnest($2, $3) as m(number, into_number) \
         where d.place = $1 and d.number = m.number",
    )
    .bind::<BigInt, _>(place.0)
    .bind::<Array<BigInt>, _>(&from)
    .bind::<Array<BigInt>, _>(&into)
    .execute(conn)?;
    let own = persons::table
        .filter(persons::place.eq(place.0))
        .filter(persons::number.eq_any(&from));
    diesel::delete(own).execute(conn)?;
    Ok(())
}

/// Adds people whom a batch has made. They come by rising number.
pub fn add(conn: &mut Conn, place: Place, batch: i64, people: &[Person]) -> QueryResult<()> {
    if !people.is_empty() {
        diesel::copy_from(persons::table)
            .from_insertable(rows(place, batch, people))
            .execute(conn)?;
    }
    Ok(())
}

/// Writes people as they are after a batch. They come by rising number.
pub fn update(conn: &mut Conn, place: Place, batch: i64, people: &[Person]) -> QueryResult<()> {
    for some in people.chunks(ROWS) {
        diesel::insert_into(persons::table)
            .values(rows(place, batch, some))
            .on_conflict((persons::place, persons::number))
            .do_update()
            .set((
                persons::properties.eq(excluded(persons::properties)),
                persons::is_identified.eq(excluded(persons::is_identified)),
                persons::created_at.eq(excluded(persons::created_at)),
                persons::batch.eq(excluded(persons::batch)),
            ))
            .execute(conn)?;
    }
    Ok(())
}

/// A person's row beside what leads its key and the batch that wrote it.
#[derive(Insertable)]
#[diesel(table_name = persons, treat_none_as_default_value = false)]
struct NewRow<'a> {
    place: i64,
    number: i64,
    uuid: Uuid,
    properties: &'a JsonText,
    is_identified: bool,
    created_at: DateTime<Utc>,
    batch: i64,
    /// Of no effect where the person is there.
    made_in: i64,
}

fn rows(place: Place, batch: i64, people: &[Person]) -> Vec<NewRow<'_>> {
    let people = people.iter();
    let rows = people.map(|person| NewRow {
        place: place.0,
        number: person.number,
        uuid: person.uuid,
        properties: &person.properties,
        is_identified: person.is_identified,
        created_at: person.created_at,
        batch,
        made_in: batch,
    });
    rows.collect()
}

/// The people with these numbers, the one created last first.
pub fn of_numbers(conn: &mut Conn, place: Place, numbers: &[i64]) -> QueryResult<Vec<Person>> {
    OfNumbers::<People>::new(place, numbers).load(conn)
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
    let rows: Vec<(i64, String)> = OfNumbers::<ShownIds>::new(place, numbers).load(conn)?;
    let mut shown: HashMap<i64, Vec<String>> = HashMap::new();
    for (number, distinct_id) in rows {
        shown.entry(number).or_default().push(distinct_id);
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

/// Whether anybody was made since a batch.
pub fn have_been_made(conn: &mut Conn, place: Place, since: i64) -> QueryResult<bool> {
    let made = persons::table
        .filter(persons::place.eq(place.0).and(persons::batch.gt(since)))
        .filter(persons::made_in.gt(since));
    diesel::select(diesel::dsl::exists(made)).get_result(conn)
}

/// Whether people were changed since a batch: at least so many.
pub fn have_changed(conn: &mut Conn, place: Place, since: i64, many: i64) -> QueryResult<bool> {
    let changed = persons::table
        .filter(persons::place.eq(place.0).and(persons::batch.gt(since)))
        .select(persons::number)
        .offset((many - 1).max(0))
        .first::<i64>(conn);
    Ok(changed.optional()?.is_some())
}
