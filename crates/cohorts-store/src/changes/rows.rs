//! The rows of `member_changes`, without their persons.
//!
//! A row of `member_changes` exists only for a published version, and its slices were written before or with it.
//! On a distributed Postgres, a row can become visible shortly before the version of its cohort does.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt};

use super::heads;
use crate::schema::member_changes as changes;
use crate::{Conn, INSERT_ROWS, Result, ShardKey};

/// The bytes of a row and its slices beside the bitmaps, about.
pub(super) const ROW_BYTES: i64 = 400;

/// One published version of a cohort's members, or several that were compacted.
#[derive(Clone, Debug, PartialEq, Eq, Queryable, Selectable, QueryableByName)]
#[diesel(table_name = changes)]
pub struct ChangeRow {
    /// The publication number; numbers of a project rise in the order of commits.
    pub number: i64,
    /// The id of the cohort.
    pub cohort_id: i64,
    /// The member version before the change.
    pub base_version: i64,
    /// The member version after the change.
    pub version: i64,
    /// The last attempt at a calculation when the change was written.
    pub attempt: i64,
    /// The name of a [`super::Cause`], or [`super::MIXED`].
    pub cause: String,
    /// The time of the publication.
    pub published_at: DateTime<Utc>,
    /// The number of persons who entered.
    pub entered: i64,
    /// The number of persons who left.
    pub left: i64,
    /// The number of members after the change.
    pub count: i64,
    /// The bytes of the row and its slices, about.
    pub(super) bytes: i64,
}

/// Adds rows with their numbers.
pub(super) fn insert(conn: &mut Conn, shard_key: ShardKey, rows: &[ChangeRow]) -> Result<()> {
    for rows in rows.chunks(INSERT_ROWS) {
        let values = rows.iter().map(|row| {
            (
                changes::shard_key.eq(shard_key.0),
                changes::number.eq(row.number),
                changes::cohort_id.eq(row.cohort_id),
                changes::base_version.eq(row.base_version),
                changes::version.eq(row.version),
                changes::attempt.eq(row.attempt),
                changes::cause.eq(&row.cause),
                changes::published_at.eq(row.published_at),
                changes::entered.eq(row.entered),
                changes::left.eq(row.left),
                changes::count.eq(row.count),
                changes::bytes.eq(row.bytes),
            )
        });
        diesel::insert_into(changes::table)
            .values(values.collect::<Vec<_>>())
            .execute(conn)?;
    }
    Ok(())
}

/// The newest row of a cohort if it is above a version.
pub(crate) const UNPUBLISHED: &str = "\
    select newest.number from unnest($2, $3) as keys(cohort_id, version) cross join lateral ( \
        select number, version from member_changes where shard_key = $1 and cohort_id = keys.cohort_id \
        order by number desc limit 1) newest \
    where newest.version > keys.version";

#[derive(QueryableByName)]
struct ChangeNumber {
    #[diesel(sql_type = BigInt)]
    number: i64,
}

/// Deletes the row above the published version of each cohort: that of a commit that a distributed Postgres has lost on the
/// node of the cohorts. Each writer deletes it, so there is at most one.
pub(super) fn clear(
    conn: &mut Conn,
    shard_key: ShardKey,
    cohorts: &[i64],
    versions: &[i64],
) -> Result<()> {
    let unpublished: Vec<ChangeNumber> = diesel::sql_query(UNPUBLISHED)
        .bind::<BigInt, _>(shard_key.0)
        .bind::<Array<BigInt>, _>(cohorts)
        .bind::<Array<BigInt>, _>(versions)
        .load(conn)?;
    if unpublished.is_empty() {
        return Ok(());
    }
    let numbers: Vec<i64> = unpublished.iter().map(|row| row.number).collect();
    let deleted = delete(conn, shard_key, &numbers)?;
    heads::subtract_bytes(conn, shard_key, deleted.iter().map(|row| row.bytes).sum())
}

/// The rows with numbers above `after` up to `through`, at most `limit`, in order.
pub(super) fn after(
    conn: &mut Conn,
    shard_key: ShardKey,
    (after, through): (i64, i64),
    limit: i64,
) -> Result<Vec<ChangeRow>> {
    Ok(changes::table
        .filter(changes::shard_key.eq(shard_key.0))
        .filter(changes::number.gt(after).and(changes::number.le(through)))
        .order(changes::number)
        .limit(limit)
        .select(ChangeRow::as_select())
        .load(conn)?)
}

pub(crate) const OF_COHORTS: &str = "\
    select m.* from unnest($2) as keys(cohort_id) cross join lateral ( \
        select number, cohort_id, base_version, version, attempt, cause, published_at, entered, \"left\", count, bytes \
        from member_changes where shard_key = $1 and cohort_id = keys.cohort_id and number > $3 and number <= $4 \
        order by number limit $5) m \
    order by m.number limit $5";

/// As [`after`], for these cohorts only.
pub(super) fn of_cohorts(
    conn: &mut Conn,
    shard_key: ShardKey,
    cohorts: &[i64],
    (after, through): (i64, i64),
    limit: i64,
) -> Result<Vec<ChangeRow>> {
    Ok(diesel::sql_query(OF_COHORTS)
        .bind::<BigInt, _>(shard_key.0)
        .bind::<Array<BigInt>, _>(cohorts)
        .bind::<BigInt, _>(after)
        .bind::<BigInt, _>(through)
        .bind::<BigInt, _>(limit)
        .load(conn)?)
}

/// The rows of a cohort up to a version with numbers below `before`, the newest first, at most `limit`.
pub(super) fn before(
    conn: &mut Conn,
    shard_key: ShardKey,
    cohort: i64,
    (version, before): (i64, i64),
    limit: i64,
) -> Result<Vec<ChangeRow>> {
    Ok(changes::table
        .filter(changes::shard_key.eq(shard_key.0))
        .filter(changes::cohort_id.eq(cohort))
        .filter(changes::number.lt(before))
        .filter(changes::version.le(version))
        .order(changes::number.desc())
        .limit(limit)
        .select(ChangeRow::as_select())
        .load(conn)?)
}

pub(crate) const NEWEST_OF_COHORTS: &str = "\
    select m.* from unnest($2, $3) as keys(cohort_id, version) cross join lateral ( \
        select number, cohort_id, base_version, version, attempt, cause, published_at, entered, \"left\", count, bytes \
        from member_changes where shard_key = $1 and cohort_id = keys.cohort_id and version <= keys.version \
        order by number desc limit 1) m";

/// The newest row of each cohort up to a version. A cohort without changes has none.
pub(super) fn newest_of_cohorts(
    conn: &mut Conn,
    shard_key: ShardKey,
    (cohorts, versions): (&[i64], &[i64]),
) -> Result<Vec<ChangeRow>> {
    Ok(diesel::sql_query(NEWEST_OF_COHORTS)
        .bind::<BigInt, _>(shard_key.0)
        .bind::<Array<BigInt>, _>(cohorts)
        .bind::<Array<BigInt>, _>(versions)
        .load(conn)?)
}

/// The number of the first row of a cohort above a version.
pub(super) fn first_above(
    conn: &mut Conn,
    shard_key: ShardKey,
    cohort: i64,
    version: i64,
) -> Result<Option<i64>> {
    let newest: Vec<(i64, i64)> = changes::table
        .filter(changes::shard_key.eq(shard_key.0))
        .filter(changes::cohort_id.eq(cohort))
        .order(changes::number.desc())
        .limit(2)
        .select((changes::number, changes::version))
        .load(conn)?;
    let above = newest.into_iter().filter(|(_, row)| *row > version);
    Ok(above.map(|(number, _)| number).min())
}

/// The rows with these numbers, in order, locked until the transaction ends.
pub(super) fn lock(
    conn: &mut Conn,
    shard_key: ShardKey,
    numbers: &[i64],
) -> Result<Vec<ChangeRow>> {
    Ok(changes::table
        .filter(changes::shard_key.eq(shard_key.0))
        .filter(changes::number.eq_any(numbers))
        .order(changes::number)
        .select(ChangeRow::as_select())
        .for_update()
        .load(conn)?)
}

/// Replaces what compaction changes in a row.
pub(super) fn update(conn: &mut Conn, shard_key: ShardKey, row: &ChangeRow) -> Result<()> {
    diesel::update(changes::table.find((shard_key.0, row.number)))
        .set((
            changes::base_version.eq(row.base_version),
            changes::cause.eq(&row.cause),
            changes::entered.eq(row.entered),
            changes::left.eq(row.left),
            changes::bytes.eq(row.bytes),
        ))
        .execute(conn)?;
    Ok(())
}

/// Deletes rows by their numbers, and returns those that existed.
pub(super) fn delete(
    conn: &mut Conn,
    shard_key: ShardKey,
    numbers: &[i64],
) -> Result<Vec<ChangeRow>> {
    let rows = changes::table
        .filter(changes::shard_key.eq(shard_key.0))
        .filter(changes::number.eq_any(numbers));
    Ok(diesel::delete(rows)
        .returning(ChangeRow::as_returning())
        .get_results(conn)?)
}

/// The numbers of a cohort's rows, at most `limit`.
pub(super) fn numbers_of(
    conn: &mut Conn,
    shard_key: ShardKey,
    cohort: i64,
    limit: i64,
) -> Result<Vec<i64>> {
    Ok(changes::table
        .filter(changes::shard_key.eq(shard_key.0))
        .filter(changes::cohort_id.eq(cohort))
        .limit(limit)
        .select(changes::number)
        .load(conn)?)
}

/// The cohorts with rows in the log of a shard key.
pub(super) fn cohorts(conn: &mut Conn, shard_key: ShardKey) -> Result<Vec<i64>> {
    Ok(changes::table
        .filter(changes::shard_key.eq(shard_key.0))
        .select(changes::cohort_id)
        .distinct()
        .load(conn)?)
}

/// The number of changes of these cohorts.
pub(super) fn count(conn: &mut Conn, shard_key: ShardKey, cohorts: &[i64]) -> Result<i64> {
    Ok(changes::table
        .filter(changes::shard_key.eq(shard_key.0))
        .filter(changes::cohort_id.eq_any(cohorts))
        .count()
        .get_result(conn)?)
}
