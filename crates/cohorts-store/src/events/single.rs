//! The begin of a write of one event on a distributed Postgres: one statement locks the log head and reads what the write
//! needs, because each statement on a worker costs more than its work.

use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::sql_types::{self, BigInt, Bool, Jsonb, Nullable, Timestamptz};

use super::{EventKey, begin_write, check_is_live};
use crate::persons::Person;
use crate::{Conn, Result, ShardKey};

/// Raises the log head, and reads an event and a person. Each write of one event runs this, so it is a prepared statement.
///
/// The reads, also that of the head, see the data from before a wait for the lock. Without a head there is no row.
pub(crate) struct RaiseAndRead {
    pub shard_key: ShardKey,
    pub key: EventKey,
    pub ordinal: i64,
}

impl QueryId for RaiseAndRead {
    type QueryId = Self;
    const HAS_STATIC_QUERY_ID: bool = true;
}

impl Query for RaiseAndRead {
    type SqlType = (BigInt, BigInt, Bool, Nullable<PersonColumns>);
}

/// The columns of [`Person`].
type PersonColumns = (BigInt, sql_types::Uuid, Jsonb, Bool, Timestamptz);

impl RunQueryDsl<Conn> for RaiseAndRead {}

impl QueryFragment<Pg> for RaiseAndRead {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("with head as (update log_heads set seq = seq + 1 where shard_key = ");
        out.push_bind_param::<BigInt, _>(&self.shard_key.0)?;
        out.push_sql(" returning seq) select head.seq, seen.seq, exists (select from events where shard_key = ");
        out.push_bind_param::<BigInt, _>(&self.shard_key.0)?;
        out.push_sql(" and uuid = ");
        out.push_bind_param::<sql_types::Uuid, _>(&self.key.uuid)?;
        out.push_sql(" and identity = ");
        out.push_bind_param::<BigInt, _>(&self.key.identity)?;
        out.push_sql(
            "), p.ordinal, p.uuid, p.properties, p.is_identified, p.created_at from head cross join log_heads seen \
             left join persons p on p.shard_key = ",
        );
        out.push_bind_param::<BigInt, _>(&self.shard_key.0)?;
        out.push_sql(" and p.ordinal = ");
        out.push_bind_param::<BigInt, _>(&self.ordinal)?;
        out.push_sql(" where seen.shard_key = ");
        out.push_bind_param::<BigInt, _>(&self.shard_key.0)?;
        Ok(())
    }
}

/// What the first statement of a write has read.
#[derive(Clone, Debug, PartialEq)]
pub struct SingleRead {
    /// Whether the event is in the log, whatever its day.
    pub is_known: bool,
    /// The person of the ordinal, if there is one.
    pub person: Option<Person>,
}

/// A write that has locked the log head.
#[derive(Clone, Debug, PartialEq)]
pub struct BegunWrite {
    /// The sequence number of the write.
    pub seq: i64,
    /// `None` if another writer has committed during the statement, or if this is the first write: then it must be read.
    pub read: Option<SingleRead>,
}

/// As [`begin_write`], and reads the event of `key` and the person of `ordinal` in the same statement.
///
/// Only for a distributed Postgres: elsewhere, a write in halves that was interrupted may have added events and persons
/// without raising the log head, also during the statement.
///
/// # Errors
///
/// As [`begin_write`].
pub fn begin_single_write(
    conn: &mut Conn,
    shard_key: ShardKey,
    key: EventKey,
    ordinal: i64,
) -> Result<BegunWrite> {
    let statement = RaiseAndRead {
        shard_key,
        key,
        ordinal,
    };
    let row: Option<(i64, i64, bool, Option<Person>)> = statement.get_result(conn).optional()?;
    let Some((seq, seen, is_known, person)) = row else {
        let seq = begin_write(conn, shard_key)?;
        return Ok(BegunWrite { seq, read: None });
    };
    check_is_live(conn, shard_key)?;
    let read = (seen == seq - 1).then_some(SingleRead { is_known, person });
    Ok(BegunWrite { seq, read })
}
