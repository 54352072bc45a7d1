//! The values of a property: which of them most persons have.

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};

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
