//! Persons of a page, as many at once as there is memory for.

use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::sql_types::{self, Array, BigInt};

use super::{Person, PersonRows, RowsOfPerson};
use crate::pages::RowSize;
use crate::{Conn, Result, ShardKey};

/// The first persons of a list with rows that fit into a number of bytes, in the order of the list. Each page of persons
/// runs this, so it is a prepared statement.
pub(crate) struct RowsWithin<'a> {
    shard_key: ShardKey,
    ordinals: &'a [i64],
    bytes: i64,
}

impl<'a> RowsWithin<'a> {
    pub(crate) fn new(shard_key: ShardKey, ordinals: &'a [i64], bytes: i64) -> Self {
        Self {
            shard_key,
            ordinals,
            bytes,
        }
    }
}

impl QueryId for RowsWithin<'_> {
    type QueryId = RowsWithin<'static>;
    const HAS_STATIC_QUERY_ID: bool = true;
}

impl Query for RowsWithin<'_> {
    type SqlType = <PersonRows as RowsOfPerson>::Row;
}

impl RunQueryDsl<Conn> for RowsWithin<'_> {}

impl QueryFragment<Pg> for RowsWithin<'_> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(
            "select r.ordinal, r.uuid, r.properties, r.is_identified, r.created_at from ( \
                select p.*, keys.nth, sum(octet_length(p.properties::text)) over (order by keys.nth) as bytes from unnest(",
        );
        out.push_bind_param::<Array<BigInt>, _>(&self.ordinals)?;
        out.push_sql(") with ordinality as keys(ordinal, nth) cross join lateral (");
        out.push_sql(PersonRows::SELECT);
        out.push_sql(" where shard_key = ");
        out.push_bind_param::<BigInt, _>(&self.shard_key.0)?;
        out.push_sql(" and ordinal = keys.ordinal offset 0) p) r where r.bytes <= ");
        out.push_bind_param::<BigInt, _>(&self.bytes)?;
        out.push_sql(" order by r.nth");
        Ok(())
    }
}

pub(crate) const SIZES: &str = "\
    select r.* from unnest($2) as keys(ordinal) cross join lateral ( \
        select ordinal as id, octet_length(properties::text) as bytes \
        from persons where shard_key = $1 and ordinal = keys.ordinal offset 0) r";

#[derive(QueryableByName)]
struct SizeRow {
    #[diesel(sql_type = BigInt)]
    id: i64,
    #[diesel(sql_type = sql_types::Integer)]
    bytes: i32,
}

/// The first of the persons with these ordinals, in the order of `ordinals`: as many as have at most `bytes` bytes of
/// properties together. Ordinals without a person are skipped.
///
/// # Errors
///
/// Fails if the database fails.
pub fn first_within(
    conn: &mut Conn,
    shard_key: ShardKey,
    ordinals: &[i64],
    bytes: usize,
) -> Result<Vec<Person>> {
    let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
    Ok(RowsWithin::new(shard_key, ordinals, bytes).load(conn)?)
}

/// The sizes of the properties of the persons with these ordinals. Ordinals without a person are absent.
///
/// # Errors
///
/// Fails if the database fails.
pub fn sizes(conn: &mut Conn, shard_key: ShardKey, ordinals: &[i64]) -> Result<Vec<RowSize>> {
    let rows: Vec<SizeRow> = diesel::sql_query(SIZES)
        .bind::<BigInt, _>(shard_key.0)
        .bind::<Array<BigInt>, _>(ordinals)
        .load(conn)?;
    let size = |row: SizeRow| RowSize::new(row.id, [Some(row.bytes)]);
    Ok(rows.into_iter().map(size).collect())
}
