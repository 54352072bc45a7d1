//! The head of the log of each shard key: the last publication number, and up to where the log is compacted and deleted.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::Timestamptz;
use diesel::upsert::excluded;

use crate::schema::change_heads;
use crate::{Conn, ProjectId, Result, ShardKey};

/// The head of a project's log.
#[derive(Clone, Debug, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = change_heads)]
pub struct ChangeHead {
    /// The shard key; see [`ChangeHead::project`].
    shard_key: i64,
    /// The number of the last change.
    pub number: i64,
    /// The time of the last change.
    pub published_at: DateTime<Utc>,
    /// The bytes of the log, about.
    pub bytes: i64,
    /// Changes up to this number are compacted to one row per minute.
    pub by_minute_through: i64,
    /// Changes up to this number are compacted to one row per hour.
    pub by_hour_through: i64,
    /// Changes up to this number are deleted.
    pub expired_through: i64,
    /// The log has all changes after this time.
    pub complete_since: DateTime<Utc>,
}

impl ChangeHead {
    /// The project of the log.
    pub fn project(&self) -> ProjectId {
        ShardKey(self.shard_key).project()
    }
}

/// The head of a project's log; `None` before the first change.
pub(super) fn head(conn: &mut Conn, shard_key: ShardKey) -> Result<Option<ChangeHead>> {
    Ok(change_heads::table
        .find(shard_key.0)
        .select(ChangeHead::as_select())
        .first(conn)
        .optional()?)
}

/// The heads of these projects' logs. A project without changes has none.
///
/// # Errors
///
/// Fails if the database fails.
pub fn heads(conn: &mut Conn, projects: &[ProjectId]) -> Result<Vec<ChangeHead>> {
    let shard_keys = projects.iter().map(|project| project.shard_key().0);
    Ok(change_heads::table
        .filter(change_heads::shard_key.eq_any(shard_keys))
        .order(change_heads::shard_key)
        .select(ChangeHead::as_select())
        .load(conn)?)
}

/// The bytes of the logs of these heads, about.
pub fn total_bytes(heads: &[ChangeHead]) -> u64 {
    let bytes = heads.iter().map(|head| head.bytes);
    bytes.filter_map(|bytes| u64::try_from(bytes).ok()).sum()
}

diesel::define_sql_function! {
    /// The later of two times.
    fn greatest(first: Timestamptz, second: Timestamptz) -> Timestamptz;
}

/// The numbers and the time of some changes.
pub(super) struct TakenNumbers {
    /// The last of the numbers.
    pub(super) last: i64,
    pub(super) published_at: DateTime<Utc>,
}

/// Takes the next `count` numbers, and locks the head until the transaction ends. Takes no other lock afterwards.
///
/// The time is that of this process, but never before that of an earlier number.
pub(super) fn take_numbers(
    conn: &mut Conn,
    shard_key: ShardKey,
    count: i64,
    bytes: i64,
) -> Result<TakenNumbers> {
    let (last, published_at) = diesel::insert_into(change_heads::table)
        .values((
            change_heads::shard_key.eq(shard_key.0),
            change_heads::number.eq(count),
            change_heads::published_at.eq(Utc::now()),
            change_heads::bytes.eq(bytes),
            change_heads::by_minute_through.eq(0),
            change_heads::by_hour_through.eq(0),
            change_heads::expired_through.eq(0),
            change_heads::complete_since.eq(DateTime::UNIX_EPOCH),
        ))
        .on_conflict(change_heads::shard_key)
        .do_update()
        .set((
            change_heads::number.eq(change_heads::number + excluded(change_heads::number)),
            change_heads::bytes.eq(change_heads::bytes + excluded(change_heads::bytes)),
            change_heads::published_at.eq(greatest(
                change_heads::published_at,
                excluded(change_heads::published_at),
            )),
        ))
        .returning((change_heads::number, change_heads::published_at))
        .get_result(conn)?;
    Ok(TakenNumbers { last, published_at })
}

/// Subtracts deleted bytes.
pub(super) fn subtract_bytes(conn: &mut Conn, shard_key: ShardKey, bytes: i64) -> Result<()> {
    if bytes != 0 {
        diesel::update(change_heads::table.find(shard_key.0))
            .set(change_heads::bytes.eq(change_heads::bytes - bytes))
            .execute(conn)?;
    }
    Ok(())
}

/// Records that changes up to a number are compacted by minute.
pub(super) fn compacted_by_minute(
    conn: &mut Conn,
    shard_key: ShardKey,
    through: i64,
) -> Result<()> {
    let row = change_heads::table.find(shard_key.0);
    diesel::update(row.filter(change_heads::by_minute_through.lt(through)))
        .set(change_heads::by_minute_through.eq(through))
        .execute(conn)?;
    Ok(())
}

/// Records that changes up to a number are compacted by hour.
pub(super) fn compacted_by_hour(conn: &mut Conn, shard_key: ShardKey, through: i64) -> Result<()> {
    let row = change_heads::table.find(shard_key.0);
    diesel::update(row.filter(change_heads::by_hour_through.lt(through)))
        .set(change_heads::by_hour_through.eq(through))
        .execute(conn)?;
    Ok(())
}

/// Records that changes up to a number were deleted; the last of them was published at `time`.
pub(super) fn expired(
    conn: &mut Conn,
    shard_key: ShardKey,
    through: i64,
    time: DateTime<Utc>,
) -> Result<()> {
    let row = change_heads::table.find(shard_key.0);
    diesel::update(row.filter(change_heads::expired_through.lt(through)))
        .set((
            change_heads::expired_through.eq(through),
            change_heads::complete_since.eq(greatest(change_heads::complete_since, time)),
        ))
        .execute(conn)?;
    Ok(())
}
