//! The properties that most of some persons have.

use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Text};

use crate::{Conn, Result, ShardKey};

pub(crate) const PROPERTY_NAMES: &str = "\
    select k.name \
    from persons p cross join lateral jsonb_object_keys(p.properties) as k(name) \
    where p.shard_key = $1 and p.ordinal = any($2) \
    group by k.name order by count(*) desc, k.name collate \"C\" limit $3";

#[derive(QueryableByName)]
struct PropertyName {
    #[diesel(sql_type = Text)]
    name: String,
}

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
    let rows: Vec<PropertyName> = diesel::sql_query(PROPERTY_NAMES)
        .bind::<BigInt, _>(shard_key.0)
        .bind::<Array<BigInt>, _>(ordinals)
        .bind::<BigInt, _>(limit as i64)
        .load(conn)?;
    Ok(rows.into_iter().map(|row| row.name).collect())
}
