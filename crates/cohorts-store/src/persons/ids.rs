//! Distinct ids, and the persons that have them.

use std::collections::HashMap;

use diesel::prelude::*;
use diesel::sql_types::{self, Array, BigInt, Bool, Text};
use uuid::Uuid;

use super::MAX_IDS;
use crate::schema::distinct_ids;
use crate::{Conn, FEW_ROWS, Result, ShardKey};

pub(crate) const BY_ID: &str = "\
    select d.* from unnest($2) as keys(id) cross join lateral ( \
        select i.distinct_id, p.ordinal, p.uuid from distinct_ids i \
        join persons p on p.shard_key = $1 and p.ordinal = i.ordinal \
        where i.shard_key = $1 and i.distinct_id = keys.id offset 0) d";

#[derive(QueryableByName)]
struct IdRow {
    #[diesel(sql_type = Text)]
    distinct_id: String,
    #[diesel(sql_type = BigInt)]
    ordinal: i64,
    #[diesel(sql_type = sql_types::Uuid)]
    uuid: Uuid,
}

/// The ordinals and uuids of the persons with these distinct ids; ids without a person are absent.
///
/// # Errors
///
/// Fails if the database fails.
pub fn persons_by_id(
    conn: &mut Conn,
    shard_key: ShardKey,
    ids: &[&str],
) -> Result<HashMap<String, (i64, Uuid)>> {
    let rows: Vec<IdRow> = diesel::sql_query(BY_ID)
        .bind::<BigInt, _>(shard_key.0)
        .bind::<Array<Text>, _>(ids)
        .load(conn)?;
    let person = |row: IdRow| (row.distinct_id, (row.ordinal, row.uuid));
    Ok(rows.into_iter().map(person).collect())
}

/// The ordinals of the persons with these distinct ids; ids without a person are absent.
///
/// # Errors
///
/// Fails if the database fails.
pub fn ordinals_by_id(
    conn: &mut Conn,
    shard_key: ShardKey,
    ids: &[&str],
) -> Result<HashMap<String, i64>> {
    let owners = owners(conn, shard_key, ids)?.into_iter();
    let persons = owners.filter(|(_, owner)| owner.is_person);
    Ok(persons.map(|(id, owner)| (id, owner.ordinal)).collect())
}

/// The owner of a distinct id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The ordinal under which the id's events are written.
    pub ordinal: i64,
    /// Whether the ordinal has a person. Events with `$process_person_profile: false` create none.
    pub is_person: bool,
}

#[derive(QueryableByName)]
struct OwnerRow {
    #[diesel(sql_type = Text)]
    distinct_id: String,
    #[diesel(sql_type = BigInt)]
    ordinal: i64,
    #[diesel(sql_type = Bool)]
    is_person: bool,
}

pub(crate) const OWNERS: &str = "\
    select d.* from unnest($2) as keys(id) cross join lateral ( \
        select distinct_id, ordinal, \
            exists (select from persons p where p.shard_key = $1 and p.ordinal = i.ordinal) as is_person \
        from distinct_ids i where shard_key = $1 and distinct_id = keys.id offset 0) d";

/// The owners of these distinct ids; ids without an owner are absent.
///
/// # Errors
///
/// Fails if the database fails.
pub fn owners(
    conn: &mut Conn,
    shard_key: ShardKey,
    ids: &[&str],
) -> Result<HashMap<String, Owner>> {
    let rows: Vec<OwnerRow> = diesel::sql_query(OWNERS)
        .bind::<BigInt, _>(shard_key.0)
        .bind::<Array<Text>, _>(ids)
        .load(conn)?;
    let owner = |row: OwnerRow| {
        let (ordinal, is_person) = (row.ordinal, row.is_person);
        (row.distinct_id, Owner { ordinal, is_person })
    };
    Ok(rows.into_iter().map(owner).collect())
}

/// Assigns distinct ids without an owner to ordinals.
///
/// # Errors
///
/// Fails if the database fails, or if an id has an owner.
pub fn add_ids(conn: &mut Conn, shard_key: ShardKey, seq: i64, ids: &[(&str, i64)]) -> Result<()> {
    if ids.is_empty() {
        return Ok(());
    }
    let rows: Vec<_> = ids
        .iter()
        .map(|(id, ordinal)| {
            (
                distinct_ids::shard_key.eq(shard_key.0),
                distinct_ids::distinct_id.eq(id.to_string()),
                distinct_ids::ordinal.eq(*ordinal),
                distinct_ids::seq.eq(seq),
            )
        })
        .collect();
    if rows.len() <= FEW_ROWS {
        let rows = diesel::insert_into(distinct_ids::table).values(rows);
        rows.execute(conn)?;
    } else {
        let rows = diesel::copy_from(distinct_ids::table).from_insertable(rows);
        rows.execute(conn)?;
    }
    Ok(())
}

pub(crate) const COUNT_IDS: &str = "\
    select keys.ordinal, d.count from unnest($2) as keys(ordinal) cross join lateral ( \
        select count(*) as count from ( \
            select from distinct_ids where shard_key = $1 and ordinal = keys.ordinal limit $3) i) d";

#[derive(QueryableByName)]
struct IdCountRow {
    #[diesel(sql_type = BigInt)]
    ordinal: i64,
    #[diesel(sql_type = BigInt)]
    count: i64,
}

/// The number of distinct ids of each ordinal. The count stops above [`MAX_IDS`].
///
/// # Errors
///
/// Fails if the database fails.
pub fn count_ids(
    conn: &mut Conn,
    shard_key: ShardKey,
    ordinals: &[i64],
) -> Result<HashMap<i64, u64>> {
    let rows: Vec<IdCountRow> = diesel::sql_query(COUNT_IDS)
        .bind::<BigInt, _>(shard_key.0)
        .bind::<Array<BigInt>, _>(ordinals)
        .bind::<BigInt, _>(MAX_IDS as i64 + 1)
        .load(conn)?;
    Ok(rows
        .into_iter()
        .map(|row| (row.ordinal, row.count as u64))
        .collect())
}
