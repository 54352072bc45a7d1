//! The tables of checkpoints: the persons, and properties, as packed bytes.
//!
//! A checkpoint of an older state of the log never replaces one of a newer state. Everything here is derived from rows,
//! and may be dropped at any time.

use diesel::prelude::*;

use crate::schema::{person_checkpoints, property_checkpoints};
use crate::{Conn, Result, ShardKey};

/// The longest name of a property that fits into a key, in bytes.
const MAX_KEY_BYTES: usize = 1_000;

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

/// The checkpoint of a person property.
///
/// # Errors
///
/// Fails if the database fails.
pub fn property(conn: &mut Conn, shard_key: ShardKey, key: &str) -> Result<Option<Checkpoint>> {
    let row: Option<(i64, Vec<u8>)> = property_checkpoints::table
        .find((shard_key.0, key))
        .select((
            property_checkpoints::through_seq,
            property_checkpoints::data,
        ))
        .first(conn)
        .optional()?;
    Ok(row.map(Checkpoint::from))
}

/// The sequence number of the checkpoint of a person property.
///
/// # Errors
///
/// Fails if the database fails.
pub fn property_seq(conn: &mut Conn, shard_key: ShardKey, key: &str) -> Result<Option<i64>> {
    let row = property_checkpoints::table.find((shard_key.0, key));
    Ok(row
        .select(property_checkpoints::through_seq)
        .first(conn)
        .optional()?)
}

/// Writes the checkpoint of a person property, unless a newer one is stored, or the name is too long for a key.
///
/// # Errors
///
/// Fails if the database fails.
pub fn write_property(
    conn: &mut Conn,
    shard_key: ShardKey,
    key: &str,
    through_seq: i64,
    data: &[u8],
) -> Result<()> {
    let stored = property_seq(conn, shard_key, key)?;
    if key.len() > MAX_KEY_BYTES || stored.is_some_and(|stored| stored > through_seq) {
        return Ok(());
    }
    diesel::insert_into(property_checkpoints::table)
        .values((
            property_checkpoints::shard_key.eq(shard_key.0),
            property_checkpoints::key.eq(key),
            property_checkpoints::through_seq.eq(through_seq),
            property_checkpoints::data.eq(data),
        ))
        .on_conflict((property_checkpoints::shard_key, property_checkpoints::key))
        .do_update()
        .set((
            property_checkpoints::through_seq.eq(through_seq),
            property_checkpoints::data.eq(data),
        ))
        .execute(conn)?;
    Ok(())
}

/// The names of the person properties with a checkpoint.
///
/// # Errors
///
/// Fails if the database fails.
pub fn properties(conn: &mut Conn, shard_key: ShardKey) -> Result<Vec<String>> {
    Ok(property_checkpoints::table
        .filter(property_checkpoints::shard_key.eq(shard_key.0))
        .select(property_checkpoints::key)
        .load(conn)?)
}

/// Drops the checkpoint of a person property.
///
/// # Errors
///
/// Fails if the database fails.
pub fn drop_property(conn: &mut Conn, shard_key: ShardKey, key: &str) -> Result<()> {
    diesel::delete(property_checkpoints::table.find((shard_key.0, key))).execute(conn)?;
    Ok(())
}

/// Drops all checkpoints of a shard key, because they contain persons that are deleted.
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
