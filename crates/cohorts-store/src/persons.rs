//! Persons: one row per person under a dense ordinal, and the distinct ids by which events name them.
//!
//! All writes here run under the lock of [`crate::events::begin_write`]. A merge or a deletion retires ordinals as
//! [`crate::tombstones`], and never rewrites events.

use std::collections::HashMap;
use std::marker::PhantomData;

use chrono::{DateTime, Utc};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::sql_types::{self, Array, BigInt, Bool, Jsonb, Text, Timestamptz};
use diesel::upsert::excluded;
use uuid::Uuid;

use crate::schema::{distinct_ids, persons};
use crate::tombstones::{self, NewTombstone};
use crate::{Conn, FEW_ROWS, INSERT_ROWS, JsonText, Result, ShardKey, like_pattern};

pub(crate) mod addresses;
pub(crate) mod ids;
pub(crate) mod page;
pub(crate) mod property_names;

pub use addresses::{first_spellings, ordinals_by_email};
pub use ids::{Owner, add_ids, count_ids, ordinals_by_id, owners, persons_by_id};
pub use page::{first_within, sizes};
pub use property_names::property_names;

/// Distinct ids of a person that responses show.
pub const SHOWN_IDS: usize = 10;
/// The most distinct ids of a person. Writers deny merges and new ids beyond it.
pub const MAX_IDS: u64 = 50_000;
/// The bytes of properties that one statement writes, about.
const UPDATE_BYTES: usize = 1 << 20;

/// Rows of persons by their ordinals. Each page of persons runs this, so it is a prepared statement.
///
/// The ordinals are joined as rows: in a plan for any array, Postgres compares each row with each item. OFFSET 0 makes
/// it look up each row by the primary key; otherwise it scans the table for some thousand ordinals.
pub(crate) struct ByOrdinals<'a, S> {
    shard_key: ShardKey,
    ordinals: &'a [i64],
    selection: PhantomData<S>,
}

impl<'a, S> ByOrdinals<'a, S> {
    pub(crate) fn new(shard_key: ShardKey, ordinals: &'a [i64]) -> Self {
        Self {
            shard_key,
            ordinals,
            selection: PhantomData,
        }
    }
}

/// The text of a statement around its conditions on shard key and ordinal.
pub(crate) trait RowsOfPerson {
    type Row;
    const SELECT: &str;
    const END: &str;
}

/// The persons, the newest first.
pub(crate) struct PersonRows;

impl RowsOfPerson for PersonRows {
    type Row = (BigInt, sql_types::Uuid, Jsonb, Bool, Timestamptz);
    const SELECT: &str = "select ordinal, uuid, properties, is_identified, created_at from persons";
    const END: &str = "offset 0) r order by r.created_at desc, r.ordinal desc";
}

/// The first [`SHOWN_IDS`] distinct ids of each person.
pub(crate) struct ShownIds;

impl RowsOfPerson for ShownIds {
    type Row = (BigInt, Text);
    const SELECT: &str = "select ordinal, distinct_id from distinct_ids";
    const END: &str = "order by distinct_id limit 10) r";
}

impl<S: 'static> QueryId for ByOrdinals<'_, S> {
    type QueryId = ByOrdinals<'static, S>;
    const HAS_STATIC_QUERY_ID: bool = true;
}

impl<S: RowsOfPerson> Query for ByOrdinals<'_, S> {
    type SqlType = S::Row;
}

impl<S> RunQueryDsl<Conn> for ByOrdinals<'_, S> {}

impl<S: RowsOfPerson> QueryFragment<Pg> for ByOrdinals<'_, S> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("select r.* from unnest(");
        out.push_bind_param::<Array<BigInt>, _>(&self.ordinals)?;
        out.push_sql(") as keys(ordinal) cross join lateral (");
        out.push_sql(S::SELECT);
        out.push_sql(" where shard_key = ");
        out.push_bind_param::<BigInt, _>(&self.shard_key.0)?;
        out.push_sql(" and ordinal = keys.ordinal ");
        out.push_sql(S::END);
        Ok(())
    }
}

#[derive(QueryableByName)]
struct UuidRow {
    #[diesel(sql_type = sql_types::Uuid)]
    uuid: Uuid,
    #[diesel(sql_type = BigInt)]
    ordinal: i64,
}

#[derive(QueryableByName)]
struct OrdinalRow {
    #[diesel(sql_type = BigInt)]
    ordinal: i64,
}

/// A row of `persons`.
#[derive(Clone, Debug, PartialEq, Queryable, Selectable, QueryableByName)]
#[diesel(table_name = persons)]
pub struct Person {
    /// Dense, in the order of creation; never reused.
    pub ordinal: i64,
    /// The id of the person in responses.
    pub uuid: Uuid,
    /// A JSON object.
    pub properties: JsonText,
    /// Whether an `$identify` or `$create_alias` event named the person.
    pub is_identified: bool,
    /// The time of the person's first event.
    pub created_at: DateTime<Utc>,
}

/// The ordinal of the person with this uuid. Look-ups of a person are frequent, so the statement is prepared.
///
/// # Errors
///
/// Fails if the database fails.
pub fn ordinal(conn: &mut Conn, shard_key: ShardKey, uuid: Uuid) -> Result<Option<i64>> {
    Ok(persons::table
        .filter(persons::shard_key.eq(shard_key.0))
        .filter(persons::uuid.eq(uuid))
        .select(persons::ordinal)
        .first(conn)
        .optional()?)
}

pub(crate) const BY_UUID: &str = "\
    select p.* from unnest($2) as keys(uuid) cross join lateral ( \
        select uuid, ordinal from persons where shard_key = $1 and uuid = keys.uuid offset 0) p";

/// The ordinals of the persons with these uuids; uuids without a person are absent.
///
/// # Errors
///
/// Fails if the database fails.
pub fn ordinals_by_uuid(
    conn: &mut Conn,
    shard_key: ShardKey,
    uuids: &[Uuid],
) -> Result<HashMap<Uuid, i64>> {
    let rows: Vec<UuidRow> = diesel::sql_query(BY_UUID)
        .bind::<BigInt, _>(shard_key.0)
        .bind::<Array<sql_types::Uuid>, _>(uuids)
        .load(conn)?;
    Ok(rows
        .into_iter()
        .map(|row| (row.uuid, row.ordinal))
        .collect())
}

/// The uuids of the persons with these ordinals. Ordinals without a person are absent.
///
/// # Errors
///
/// Fails if the database fails.
pub fn uuids_by_ordinal(
    conn: &mut Conn,
    shard_key: ShardKey,
    ordinals: &[i64],
) -> Result<HashMap<i64, Uuid>> {
    let rows: Vec<(i64, Uuid)> = persons::table
        .filter(persons::shard_key.eq(shard_key.0))
        .filter(persons::ordinal.eq_any(ordinals))
        .select((persons::ordinal, persons::uuid))
        .load(conn)?;
    Ok(rows.into_iter().collect())
}

pub(crate) const MOVE_IDS: &str = "\
    update distinct_ids d set ordinal = m.survivor, seq = $4 from unnest($2, $3) as m(ordinal, survivor) \
    where d.shard_key = $1 and d.ordinal = m.ordinal";

/// Merges persons: the distinct ids of the first of each pair go to the second, and the first is retired.
///
/// The time depends on the ids of the first, so that should be the one with fewer ids. Which of both uuids remains is the
/// caller's decision: [`update`] writes it afterwards.
///
/// # Errors
///
/// Fails if the database fails.
pub fn merge(conn: &mut Conn, shard_key: ShardKey, seq: i64, merged: &[(i64, i64)]) -> Result<()> {
    let (from, into): (Vec<i64>, Vec<i64>) = merged.iter().copied().unzip();
    diesel::sql_query(MOVE_IDS)
        .bind::<BigInt, _>(shard_key.0)
        .bind::<Array<BigInt>, _>(&from)
        .bind::<Array<BigInt>, _>(&into)
        .bind::<BigInt, _>(seq)
        .execute(conn)?;
    let uuids = delete_rows(conn, shard_key, &from)?;
    let retired: Vec<NewTombstone> = merged
        .iter()
        .map(|(ordinal, survivor)| NewTombstone {
            ordinal: *ordinal,
            uuid: uuids.get(ordinal).copied(),
            merged_into: Some(*survivor),
        })
        .collect();
    tombstones::record(conn, shard_key, seq, &retired)
}

/// Deletes rows of `persons`, and returns their uuids by ordinal.
fn delete_rows(
    conn: &mut Conn,
    shard_key: ShardKey,
    ordinals: &[i64],
) -> Result<HashMap<i64, Uuid>> {
    let rows = persons::table
        .filter(persons::shard_key.eq(shard_key.0))
        .filter(persons::ordinal.eq_any(ordinals));
    let deleted: Vec<(i64, Uuid)> = diesel::delete(rows)
        .returning((persons::ordinal, persons::uuid))
        .get_results(conn)?;
    Ok(deleted.into_iter().collect())
}

/// Inserts new persons, which are sorted by ordinal.
///
/// # Errors
///
/// Fails if the database fails, or if a person exists.
pub fn add(conn: &mut Conn, shard_key: ShardKey, seq: i64, persons: &[Person]) -> Result<()> {
    if persons.is_empty() {
        return Ok(());
    }
    let rows = rows(shard_key, seq, persons);
    if rows.len() <= FEW_ROWS {
        let rows = diesel::insert_into(persons::table).values(rows);
        rows.execute(conn)?;
    } else {
        let rows = diesel::copy_from(persons::table).from_insertable(rows);
        rows.execute(conn)?;
    }
    Ok(())
}

/// Writes changed persons, which are sorted by ordinal.
///
/// # Errors
///
/// Fails if the database fails.
pub fn update(conn: &mut Conn, shard_key: ShardKey, seq: i64, changed: &[Person]) -> Result<()> {
    let mut rest = changed;
    while !rest.is_empty() {
        let (chunk, later) = rest.split_at(statement_length(rest));
        rest = later;
        diesel::insert_into(persons::table)
            .values(rows(shard_key, seq, chunk))
            .on_conflict((persons::shard_key, persons::ordinal))
            .do_update()
            .set((
                persons::uuid.eq(excluded(persons::uuid)),
                persons::properties.eq(excluded(persons::properties)),
                persons::is_identified.eq(excluded(persons::is_identified)),
                persons::created_at.eq(excluded(persons::created_at)),
                persons::seq.eq(excluded(persons::seq)),
            ))
            .execute(conn)?;
    }
    Ok(())
}

/// How many of these persons one statement writes: at least one.
fn statement_length(persons: &[Person]) -> usize {
    let mut bytes = 0;
    let fitting = persons.iter().take(INSERT_ROWS).take_while(|person| {
        bytes += person.properties.0.len();
        bytes <= UPDATE_BYTES
    });
    fitting.count().max(1)
}

/// A row of `persons` with all its columns.
#[derive(Insertable)]
#[diesel(table_name = persons, treat_none_as_default_value = false)]
struct NewRow<'a> {
    shard_key: i64,
    ordinal: i64,
    uuid: Uuid,
    properties: &'a JsonText,
    is_identified: bool,
    created_at: DateTime<Utc>,
    seq: i64,
    /// Updates leave it as it is.
    created_seq: i64,
}

fn rows(shard_key: ShardKey, seq: i64, persons: &[Person]) -> Vec<NewRow<'_>> {
    persons
        .iter()
        .map(|person| NewRow {
            shard_key: shard_key.0,
            ordinal: person.ordinal,
            uuid: person.uuid,
            properties: &person.properties,
            is_identified: person.is_identified,
            created_at: person.created_at,
            seq,
            created_seq: seq,
        })
        .collect()
}

/// The persons with these ordinals, the newest first. One person is read by the key alone, which costs a distributed
/// Postgres less than a join.
///
/// # Errors
///
/// Fails if the database fails.
pub fn by_ordinals(conn: &mut Conn, shard_key: ShardKey, ordinals: &[i64]) -> Result<Vec<Person>> {
    if let [ordinal] = ordinals {
        let person = persons::table.find((shard_key.0, *ordinal));
        return Ok(person.select(Person::as_select()).load(conn)?);
    }
    Ok(ByOrdinals::<PersonRows>::new(shard_key, ordinals).load(conn)?)
}

/// The person with this uuid.
///
/// # Errors
///
/// Fails if the database fails.
pub fn find(conn: &mut Conn, shard_key: ShardKey, uuid: Uuid) -> Result<Option<Person>> {
    Ok(persons::table
        .filter(
            persons::shard_key
                .eq(shard_key.0)
                .and(persons::uuid.eq(uuid)),
        )
        .select(Person::as_select())
        .first(conn)
        .optional()?)
}

pub(crate) const SEARCH: &str = "\
    select ordinal from persons where shard_key = $1 \
        and (properties ->> 'email' ilike $2 or properties ->> 'name' ilike $2) \
    union select ordinal from distinct_ids where shard_key = $1 and distinct_id ilike $2";

/// The ordinals of persons with an e-mail address, a name or a distinct id that contains `term`, in any case of letters.
///
/// # Errors
///
/// Fails if the database fails.
pub fn search(conn: &mut Conn, shard_key: ShardKey, term: &str) -> Result<Vec<i64>> {
    let rows: Vec<OrdinalRow> = diesel::sql_query(SEARCH)
        .bind::<BigInt, _>(shard_key.0)
        .bind::<Text, _>(like_pattern(term))
        .load(conn)?;
    Ok(rows.into_iter().map(|row| row.ordinal).collect())
}

/// The first [`SHOWN_IDS`] distinct ids of each person, sorted.
///
/// # Errors
///
/// Fails if the database fails.
pub fn shown_ids(
    conn: &mut Conn,
    shard_key: ShardKey,
    ordinals: &[i64],
) -> Result<HashMap<i64, Vec<String>>> {
    let rows: Vec<(i64, String)> = ByOrdinals::<ShownIds>::new(shard_key, ordinals).load(conn)?;
    let mut shown: HashMap<i64, Vec<String>> = HashMap::new();
    for (ordinal, distinct_id) in rows {
        shown.entry(ordinal).or_default().push(distinct_id);
    }
    Ok(shown)
}

/// Deletes a person's row and distinct ids, and retires the ordinal.
///
/// # Errors
///
/// Fails if the database fails.
pub fn delete(conn: &mut Conn, shard_key: ShardKey, seq: i64, ordinal: i64) -> Result<()> {
    let ids = distinct_ids::table
        .filter(distinct_ids::shard_key.eq(shard_key.0))
        .filter(distinct_ids::ordinal.eq(ordinal));
    diesel::delete(ids).execute(conn)?;
    let uuids = delete_rows(conn, shard_key, &[ordinal])?;
    let tombstone = NewTombstone {
        ordinal,
        uuid: uuids.get(&ordinal).copied(),
        merged_into: None,
    };
    tombstones::record(conn, shard_key, seq, &[tombstone])
}

/// Whether at least `count` persons were written after sequence number `after`.
///
/// # Errors
///
/// Fails if the database fails.
pub fn at_least_changed(
    conn: &mut Conn,
    shard_key: ShardKey,
    after: i64,
    count: i64,
) -> Result<bool> {
    let changed = persons::table
        .filter(
            persons::shard_key
                .eq(shard_key.0)
                .and(persons::seq.gt(after)),
        )
        .select(persons::ordinal)
        .offset((count - 1).max(0))
        .first::<i64>(conn);
    Ok(changed.optional()?.is_some())
}
