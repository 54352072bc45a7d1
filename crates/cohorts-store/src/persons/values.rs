//! The properties that most persons have, and the values of a property that most persons have.

use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Text};

use crate::{Conn, Result, ShardKey, like_pattern};

/// The values that one call returns.
const MAX_VALUES: i64 = 20;
/// The most bytes of a value. Longer values are left out.
const MAX_VALUE_BYTES: i64 = 4_096;

/// This reads all persons of the shard key. OFFSET 0 makes it read the property of each row once.
pub(crate) const VALUES: &str = "\
    select v.name, count(*) as count from ( \
        select properties ->> $2 as name from persons where shard_key = $1 and properties ? $2 offset 0) v \
    where v.name <> '' and octet_length(v.name) <= $4 and v.name ilike $3 \
    group by v.name order by count desc, v.name collate \"C\" limit $5";

/// A value of a property, and the number of persons that have it.
#[derive(Clone, Debug, PartialEq, Eq, QueryableByName)]
pub struct ValueCount {
    /// The text of the value; JSON text if it is not a text.
    #[diesel(sql_type = Text)]
    pub name: String,
    /// The number of persons.
    #[diesel(sql_type = BigInt)]
    pub count: i64,
}

/// The values of the property `key` that contain `term`, in any case of letters: those that most persons have.
///
/// # Errors
///
/// Fails if the database fails.
pub fn values(
    conn: &mut Conn,
    shard_key: ShardKey,
    key: &str,
    term: &str,
) -> Result<Vec<ValueCount>> {
    Ok(diesel::sql_query(VALUES)
        .bind::<BigInt, _>(shard_key.0)
        .bind::<Text, _>(key)
        .bind::<Text, _>(like_pattern(term))
        .bind::<BigInt, _>(MAX_VALUE_BYTES)
        .bind::<BigInt, _>(MAX_VALUES)
        .load(conn)?)
}

pub(crate) const PROPERTY_NAMES: &str = "\
    select k.name, count(*) as count \
    from persons p cross join lateral jsonb_object_keys(p.properties) as k(name) \
    where p.shard_key = $1 and p.ordinal = any($2) \
    group by k.name order by count desc, k.name collate \"C\" limit $3";

/// The names of the properties that most of these persons have, at most `limit`.
///
/// # Errors
///
/// Fails if the database fails.
pub fn property_names(
    conn: &mut Conn,
    shard_key: ShardKey,
    ordinals: &[i64],
    limit: usize,
) -> Result<Vec<String>> {
    let rows: Vec<ValueCount> = diesel::sql_query(PROPERTY_NAMES)
        .bind::<BigInt, _>(shard_key.0)
        .bind::<Array<BigInt>, _>(ordinals)
        .bind::<BigInt, _>(limit as i64)
        .load(conn)?;
    Ok(rows.into_iter().map(|row| row.name).collect())
}
