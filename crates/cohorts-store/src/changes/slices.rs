//! The rows of `member_change_slices`: the persons of changes, in slices of bounded size.

use std::collections::HashMap;

use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Bytea};

use super::delta::{MemberDelta, PackedSlice};
use super::rows::ChangeRow;
use crate::schema::member_change_slices as slices;
use crate::{Conn, INSERT_ROWS, Result, ShardKey};

/// The bytes of slices in one statement, about. A slice has about half of it at most.
const STATEMENT_BYTES: usize = 2 << 20;
/// The bytes of differences that are read together, about.
pub(super) const BYTES_TOGETHER: i64 = 2 << 20;

/// A slice with its cohort and version.
pub(super) struct KeyedSlice {
    pub(super) cohort_id: i64,
    pub(super) version: i64,
    pub(super) slice: PackedSlice,
}

/// The slices of a difference, packed. Returns also their bytes.
pub(super) fn pack(cohort_id: i64, version: i64, delta: &MemberDelta) -> (Vec<KeyedSlice>, i64) {
    let slices = delta.slices();
    let slices = slices.iter().map(|slice| KeyedSlice {
        cohort_id,
        version,
        slice: PackedSlice::new(slice),
    });
    let slices: Vec<KeyedSlice> = slices.collect();
    let bytes: usize = slices.iter().map(|keyed| keyed.slice.bytes()).sum();
    (slices, bytes as i64)
}

/// Writes slices in statements of bounded size.
pub(super) fn insert(conn: &mut Conn, shard_key: ShardKey, mut rest: &[KeyedSlice]) -> Result<()> {
    while !rest.is_empty() {
        let mut bytes = 0;
        let fitting = rest.iter().take(INSERT_ROWS).take_while(|keyed| {
            bytes += keyed.slice.bytes();
            bytes <= STATEMENT_BYTES
        });
        let (statement, next) = rest.split_at(fitting.count().max(1));
        let values = statement.iter().map(|keyed| {
            (
                slices::shard_key.eq(shard_key.0),
                slices::cohort_id.eq(keyed.cohort_id),
                slices::version.eq(keyed.version),
                slices::first_chunk.eq(keyed.slice.first_chunk),
                slices::entered.eq(&keyed.slice.entered),
                slices::left.eq(&keyed.slice.left),
                slices::reverted.eq(&keyed.slice.reverted),
            )
        });
        diesel::insert_into(slices::table)
            .values(values.collect::<Vec<_>>())
            .execute(conn)?;
        rest = next;
    }
    Ok(())
}

pub(crate) const VERSION_SLICES: &str = "\
    select s.* from unnest($2, $3) as keys(cohort_id, version) cross join lateral ( \
        select cohort_id, version, first_chunk, entered, \"left\", reverted from member_change_slices \
        where shard_key = $1 and cohort_id = keys.cohort_id and version = keys.version \
            and first_chunk >= $4 and first_chunk < $5 offset 0) s \
    order by s.cohort_id, s.version, s.first_chunk";

#[derive(QueryableByName)]
struct SliceRow {
    #[diesel(sql_type = BigInt)]
    cohort_id: i64,
    #[diesel(sql_type = BigInt)]
    version: i64,
    #[diesel(sql_type = BigInt)]
    first_chunk: i64,
    #[diesel(sql_type = Bytea)]
    entered: Vec<u8>,
    #[diesel(sql_type = Bytea)]
    left: Vec<u8>,
    #[diesel(sql_type = Bytea)]
    reverted: Vec<u8>,
}

/// The slices of these cohorts and versions with first chunks in `chunks`, by cohort, version and chunk.
pub(super) fn read(
    conn: &mut Conn,
    shard_key: ShardKey,
    (cohorts, versions): (&[i64], &[i64]),
    chunks: std::ops::Range<i64>,
) -> Result<Vec<KeyedSlice>> {
    let rows: Vec<SliceRow> = diesel::sql_query(VERSION_SLICES)
        .bind::<BigInt, _>(shard_key.0)
        .bind::<Array<BigInt>, _>(cohorts)
        .bind::<Array<BigInt>, _>(versions)
        .bind::<BigInt, _>(chunks.start)
        .bind::<BigInt, _>(chunks.end)
        .load(conn)?;
    let keyed = rows.into_iter().map(|row| KeyedSlice {
        cohort_id: row.cohort_id,
        version: row.version,
        slice: PackedSlice {
            first_chunk: row.first_chunk,
            entered: row.entered,
            left: row.left,
            reverted: row.reverted,
        },
    });
    Ok(keyed.collect())
}

/// The first chunks of a row's slices, in order.
pub(super) fn first_chunks(
    conn: &mut Conn,
    shard_key: ShardKey,
    row: &ChangeRow,
) -> Result<Vec<i64>> {
    Ok(slices::table
        .filter(slices::shard_key.eq(shard_key.0))
        .filter(slices::cohort_id.eq(row.cohort_id))
        .filter(slices::version.eq(row.version))
        .order(slices::first_chunk)
        .select(slices::first_chunk)
        .load(conn)?)
}

/// The differences of rows by cohort and version.
pub(super) type Deltas = HashMap<(i64, i64), MemberDelta>;

/// The number of the first rows that are read together. It is 0 only without rows.
pub(super) fn count_together(rows: &[ChangeRow]) -> usize {
    let mut bytes = 0;
    let small = rows.iter().take_while(|row| {
        bytes += row.bytes;
        bytes <= BYTES_TOGETHER
    });
    small.count().max(1).min(rows.len())
}

/// The differences of rows.
pub(super) fn deltas(conn: &mut Conn, shard_key: ShardKey, rows: &[ChangeRow]) -> Result<Deltas> {
    let keys = rows.iter().map(|row| (row.cohort_id, row.version));
    let (cohorts, versions): (Vec<i64>, Vec<i64>) = keys.clone().unzip();
    let mut deltas: Deltas = keys.map(|key| (key, MemberDelta::default())).collect();
    for keyed in read(conn, shard_key, (&cohorts, &versions), 0..i64::MAX)? {
        let delta = keyed.slice.delta(keyed.cohort_id)?;
        let key = (keyed.cohort_id, keyed.version);
        deltas.entry(key).or_default().join(delta);
    }
    Ok(deltas)
}

/// Calls `visit` with the difference of each row, in order, until it returns false. Small differences are read together.
pub(super) fn for_each_delta(
    conn: &mut Conn,
    shard_key: ShardKey,
    mut rest: &[ChangeRow],
    mut visit: impl FnMut(&ChangeRow, &MemberDelta) -> bool,
) -> Result<()> {
    while !rest.is_empty() {
        let (together, next) = rest.split_at(count_together(rest));
        let deltas = deltas(conn, shard_key, together)?;
        for row in together {
            if !visit(row, &deltas[&(row.cohort_id, row.version)]) {
                return Ok(());
            }
        }
        rest = next;
    }
    Ok(())
}

pub(crate) const DELETE_SLICES: &str = "\
    delete from member_change_slices s using unnest($2, $3) as keys(cohort_id, version) \
    where s.shard_key = $1 and s.cohort_id = keys.cohort_id and s.version = keys.version \
        and s.first_chunk >= $4 and s.first_chunk < $5";

/// Deletes the slices of these cohorts and versions with first chunks in `chunks`.
pub(super) fn delete(
    conn: &mut Conn,
    shard_key: ShardKey,
    (cohorts, versions): (&[i64], &[i64]),
    chunks: std::ops::Range<i64>,
) -> Result<()> {
    diesel::sql_query(DELETE_SLICES)
        .bind::<BigInt, _>(shard_key.0)
        .bind::<Array<BigInt>, _>(cohorts)
        .bind::<Array<BigInt>, _>(versions)
        .bind::<BigInt, _>(chunks.start)
        .bind::<BigInt, _>(chunks.end)
        .execute(conn)?;
    Ok(())
}

/// Deletes slices of a cohort that no longer exists, at most about `limit`, and returns their number.
pub(super) fn delete_of_cohort(
    conn: &mut Conn,
    shard_key: ShardKey,
    cohort: i64,
    limit: i64,
) -> Result<usize> {
    let of_cohort = slices::table
        .filter(slices::shard_key.eq(shard_key.0))
        .filter(slices::cohort_id.eq(cohort));
    let versions: Vec<i64> = of_cohort
        .order(slices::version)
        .limit(limit)
        .select(slices::version)
        .load(conn)?;
    let rows = of_cohort.filter(slices::version.eq_any(versions));
    Ok(diesel::delete(rows).execute(conn)?)
}

/// What an abandoned attempt has left above the published version of each cohort.
pub(crate) const CLEAR_SLICES: &str = "\
    delete from member_change_slices s using unnest($2, $3) as keys(cohort_id, version) \
    where s.shard_key = $1 and s.cohort_id = keys.cohort_id and s.version > keys.version";

/// The cohorts with slices in the log of a shard key.
pub(super) fn cohorts(conn: &mut Conn, shard_key: ShardKey) -> Result<Vec<i64>> {
    Ok(slices::table
        .filter(slices::shard_key.eq(shard_key.0))
        .select(slices::cohort_id)
        .distinct()
        .load(conn)?)
}
