//! The tables of checkpoints of persons: their ordinals, and the values of their properties in parts, as packed bytes.
//!
//! A part has the persons of a range of ordinals, and a sequence number of its own. A checkpoint of an older state of the
//! log never replaces one of a newer state. Everything here is derived from rows, and may be dropped at any time. Values
//! of deleted persons stay in a part until it is rewritten without them: see [`crate::erasures`].

use std::collections::HashMap;

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Integer};

use crate::schema::{person_checkpoints, property_checkpoints};
use crate::{Conn, Result, ShardKey, transaction};

/// The longest name of a property that fits into a key, in bytes.
pub const MAX_NAME_BYTES: usize = 1_000;

/// The packed state of something at a sequence number of the log.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// The last sequence number that the state contains.
    pub through_seq: i64,
    /// The packed bytes.
    pub data: Vec<u8>,
}

impl From<(i64, Vec<u8>)> for Checkpoint {
    fn from((through_seq, data): (i64, Vec<u8>)) -> Self {
        Self { through_seq, data }
    }
}

/// The checkpoint of all persons.
///
/// # Errors
///
/// Fails if the database fails.
pub fn persons(conn: &mut Conn, shard_key: ShardKey) -> Result<Option<Checkpoint>> {
    let row: Option<(i64, Vec<u8>)> = person_checkpoints::table
        .find(shard_key.0)
        .select((person_checkpoints::through_seq, person_checkpoints::data))
        .first(conn)
        .optional()?;
    Ok(row.map(Checkpoint::from))
}

/// The sequence number of the checkpoint of all persons.
///
/// # Errors
///
/// Fails if the database fails.
pub fn persons_seq(conn: &mut Conn, shard_key: ShardKey) -> Result<Option<i64>> {
    Ok(person_checkpoints::table
        .find(shard_key.0)
        .select(person_checkpoints::through_seq)
        .first(conn)
        .optional()?)
}

/// Writes the checkpoint of all persons, unless a newer one is stored.
///
/// # Errors
///
/// Fails if the database fails.
pub fn write_persons(
    conn: &mut Conn,
    shard_key: ShardKey,
    through_seq: i64,
    data: &[u8],
) -> Result<()> {
    let created = diesel::insert_into(person_checkpoints::table)
        .values((
            person_checkpoints::shard_key.eq(shard_key.0),
            person_checkpoints::through_seq.eq(through_seq),
            person_checkpoints::data.eq(data),
        ))
        .on_conflict_do_nothing()
        .execute(conn)?;
    if created == 0 {
        let older = person_checkpoints::table
            .find(shard_key.0)
            .filter(person_checkpoints::through_seq.lt(through_seq));
        diesel::update(older)
            .set((
                person_checkpoints::through_seq.eq(through_seq),
                person_checkpoints::data.eq(data),
            ))
            .execute(conn)?;
    }
    Ok(())
}

/// Rewrites the checkpoint of all persons in a transaction of its own, which locks its row. `rewrite` returns `None` if
/// nothing must change.
///
/// # Errors
///
/// Fails with the error of `rewrite`, or if the database fails.
pub fn rewrite_persons(
    conn: &mut Conn,
    shard_key: ShardKey,
    rewrite: impl FnOnce(Checkpoint) -> Result<Option<Vec<u8>>>,
) -> Result<()> {
    let row = person_checkpoints::table.find(shard_key.0);
    transaction(conn, |conn| {
        let stored: Option<(i64, Vec<u8>)> = row
            .select((person_checkpoints::through_seq, person_checkpoints::data))
            .for_update()
            .first(conn)
            .optional()?;
        let data = stored.map(|stored| rewrite(stored.into())).transpose()?;
        if let Some(data) = data.flatten() {
            diesel::update(row)
                .set(person_checkpoints::data.eq(data))
                .execute(conn)?;
        }
        Ok(())
    })
}

/// A part of a property, without its values.
#[derive(Clone, Debug, PartialEq, Eq, Queryable)]
pub struct StoredPart {
    /// The name of the property.
    pub property: String,
    /// The number of the part.
    pub part: i64,
    /// The last sequence number that the part contains.
    pub through_seq: i64,
}

/// The stored parts of a property, sorted by number.
///
/// # Errors
///
/// Fails if the database fails.
pub fn parts(conn: &mut Conn, shard_key: ShardKey, property: &str) -> Result<Vec<StoredPart>> {
    Ok(property_checkpoints::table
        .filter(property_checkpoints::shard_key.eq(shard_key.0))
        .filter(property_checkpoints::property.eq(property))
        .order(property_checkpoints::part)
        .select((
            property_checkpoints::property,
            property_checkpoints::part,
            property_checkpoints::through_seq,
        ))
        .load(conn)?)
}

/// The stored parts of all properties.
///
/// # Errors
///
/// Fails if the database fails.
pub fn all_parts(conn: &mut Conn, shard_key: ShardKey) -> Result<Vec<StoredPart>> {
    Ok(property_checkpoints::table
        .filter(property_checkpoints::shard_key.eq(shard_key.0))
        .select((
            property_checkpoints::property,
            property_checkpoints::part,
            property_checkpoints::through_seq,
        ))
        .load(conn)?)
}

/// Parts of a property with their values. Those that are not stored are absent.
///
/// # Errors
///
/// Fails if the database fails.
pub fn read(
    conn: &mut Conn,
    shard_key: ShardKey,
    property: &str,
    parts: &[i64],
) -> Result<Vec<(i64, Checkpoint)>> {
    let rows: Vec<(i64, i64, Vec<u8>)> = property_checkpoints::table
        .filter(property_checkpoints::shard_key.eq(shard_key.0))
        .filter(property_checkpoints::property.eq(property))
        .filter(property_checkpoints::part.eq_any(parts))
        .select((
            property_checkpoints::part,
            property_checkpoints::through_seq,
            property_checkpoints::data,
        ))
        .load(conn)?;
    let checkpoint = |(part, seq, data)| (part, Checkpoint::from((seq, data)));
    Ok(rows.into_iter().map(checkpoint).collect())
}

/// Writes a part, unless a newer one is stored, or the name of the property is too long for a key. The caller holds the
/// lock of the project.
///
/// # Errors
///
/// Fails if the database fails.
pub fn write(
    conn: &mut Conn,
    shard_key: ShardKey,
    StoredPart {
        property,
        part,
        through_seq,
    }: &StoredPart,
    data: &[u8],
) -> Result<()> {
    let stored: Option<i64> = property_checkpoints::table
        .find((shard_key.0, property, part))
        .select(property_checkpoints::through_seq)
        .first(conn)
        .optional()?;
    if property.len() > MAX_NAME_BYTES || stored.is_some_and(|stored| stored > *through_seq) {
        return Ok(());
    }
    diesel::insert_into(property_checkpoints::table)
        .values((
            property_checkpoints::shard_key.eq(shard_key.0),
            property_checkpoints::property.eq(property),
            property_checkpoints::part.eq(part),
            property_checkpoints::through_seq.eq(through_seq),
            property_checkpoints::data.eq(data),
        ))
        .on_conflict((
            property_checkpoints::shard_key,
            property_checkpoints::property,
            property_checkpoints::part,
        ))
        .do_update()
        .set((
            property_checkpoints::through_seq.eq(through_seq),
            property_checkpoints::data.eq(data),
        ))
        .execute(conn)?;
    Ok(())
}

/// Records that no person of a stored part has changed up to sequence number `through_seq`.
///
/// # Errors
///
/// Fails if the database fails.
pub fn set_unchanged(
    conn: &mut Conn,
    shard_key: ShardKey,
    stored: &StoredPart,
    through_seq: i64,
) -> Result<()> {
    let row = property_checkpoints::table
        .find((shard_key.0, &stored.property, stored.part))
        .filter(property_checkpoints::through_seq.eq(stored.through_seq));
    diesel::update(row)
        .set(property_checkpoints::through_seq.eq(through_seq))
        .execute(conn)?;
    Ok(())
}

/// Rewrites the values of a stored part in a transaction of its own, which locks the row of the part. `rewrite` returns
/// `None` if nothing must change.
///
/// # Errors
///
/// Fails with the error of `rewrite`, or if the database fails.
pub fn rewrite(
    conn: &mut Conn,
    shard_key: ShardKey,
    property: &str,
    part: i64,
    rewrite: impl FnOnce(Checkpoint) -> Result<Option<Vec<u8>>>,
) -> Result<()> {
    let row = property_checkpoints::table.find((shard_key.0, property, part));
    transaction(conn, |conn| {
        let stored: Option<(i64, Vec<u8>)> = row
            .select((
                property_checkpoints::through_seq,
                property_checkpoints::data,
            ))
            .for_update()
            .first(conn)
            .optional()?;
        let data = stored.map(|stored| rewrite(stored.into())).transpose()?;
        if let Some(data) = data.flatten() {
            diesel::update(row)
                .set(property_checkpoints::data.eq(data))
                .execute(conn)?;
        }
        Ok(())
    })
}

pub(crate) const CHANGES_BY_PART: &str = "\
    select part, count(*) as count from ( \
        select ordinal >> $3 as part from persons where shard_key = $1 and seq > $2 \
        union all \
        select ordinal >> $3 as part from tombstones where shard_key = $1 and seq > $2) c \
    group by part";

#[derive(QueryableByName)]
struct ChangeCount {
    #[diesel(sql_type = BigInt)]
    part: i64,
    #[diesel(sql_type = BigInt)]
    count: i64,
}

/// The number of persons of each part that were written or retired after sequence number `after`. A part has
/// 2^`part_bits` ordinals.
///
/// # Errors
///
/// Fails if the database fails.
pub fn changes_by_part(
    conn: &mut Conn,
    shard_key: ShardKey,
    after: i64,
    part_bits: u32,
) -> Result<HashMap<i64, i64>> {
    let rows: Vec<ChangeCount> = diesel::sql_query(CHANGES_BY_PART)
        .bind::<BigInt, _>(shard_key.0)
        .bind::<BigInt, _>(after)
        .bind::<Integer, _>(part_bits as i32)
        .load(conn)?;
    let rows = rows.into_iter();
    Ok(rows.map(|row| (row.part, row.count)).collect())
}

/// The properties with stored parts, those with the newest parts first.
///
/// # Errors
///
/// Fails if the database fails.
pub fn properties(conn: &mut Conn, shard_key: ShardKey) -> Result<Vec<String>> {
    let newest = diesel::dsl::max(property_checkpoints::through_seq);
    Ok(property_checkpoints::table
        .filter(property_checkpoints::shard_key.eq(shard_key.0))
        .group_by(property_checkpoints::property)
        .order((newest.desc(), property_checkpoints::property))
        .select(property_checkpoints::property)
        .load(conn)?)
}

/// Drops the parts of a property.
///
/// # Errors
///
/// Fails if the database fails.
pub fn drop_property(conn: &mut Conn, shard_key: ShardKey, property: &str) -> Result<()> {
    let parts = property_checkpoints::table
        .filter(property_checkpoints::shard_key.eq(shard_key.0))
        .filter(property_checkpoints::property.eq(property));
    diesel::delete(parts).execute(conn)?;
    Ok(())
}

/// Drops the checkpoints of all persons and properties of a shard key.
///
/// # Errors
///
/// Fails if the database fails.
pub fn drop_all(conn: &mut Conn, shard_key: ShardKey) -> Result<()> {
    let key = shard_key.0;
    diesel::delete(person_checkpoints::table.filter(person_checkpoints::shard_key.eq(key)))
        .execute(conn)?;
    diesel::delete(property_checkpoints::table.filter(property_checkpoints::shard_key.eq(key)))
        .execute(conn)?;
    Ok(())
}
