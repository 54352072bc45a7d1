//! The rows of `member_chunks`, which only the change log writes.
//!
//! Each row has the member version that wrote it. A reader takes the newest row of each chunk that is not above the
//! cohort's `member_version`, so rows above it are seen by no reader. Each writer deletes them first.

use cohorts_engine::chunks::{self, Chunk};
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Bytea};
use roaring::RoaringBitmap;

use super::StagedMembers;
use crate::members::decode;
use crate::schema::member_chunks;
use crate::{CohortId, Conn, ProjectId, Result, ShardKey};

/// Chunks of one statement. It stays below the limit of bound values, and has at most 2 MiB of bitmaps.
const CHUNKS_AT_ONCE: usize = 256;

/// A chunk of a version that no reader sees yet.
pub(super) struct KeyedChunk {
    pub(super) cohort_id: i64,
    pub(super) version: i64,
    pub(super) attempt: i64,
    pub(super) chunk: Chunk,
}

/// Adds rows of versions that no reader sees yet.
pub(super) fn insert(conn: &mut Conn, shard_key: ShardKey, changed: &[KeyedChunk]) -> Result<()> {
    let row = |keyed: &KeyedChunk| {
        (
            member_chunks::shard_key.eq(shard_key.0),
            member_chunks::cohort_id.eq(keyed.cohort_id),
            member_chunks::chunk.eq(i64::from(keyed.chunk.number)),
            member_chunks::version.eq(keyed.version),
            member_chunks::attempt.eq(keyed.attempt),
            member_chunks::members.eq(chunks::encode(&keyed.chunk.persons)),
        )
    };
    for chunks in changed.chunks(CHUNKS_AT_ONCE) {
        diesel::insert_into(member_chunks::table)
            .values(chunks.iter().map(row).collect::<Vec<_>>())
            .execute(conn)?;
    }
    Ok(())
}

/// What an abandoned attempt has left above the published version of each cohort.
pub(crate) const CLEAR_CHUNKS: &str = "\
    delete from member_chunks m using unnest($2, $3) as keys(cohort_id, version) \
    where m.shard_key = $1 and m.cohort_id = keys.cohort_id and m.version > keys.version";

pub(crate) const PRUNE: &str = "\
    delete from member_chunks m where m.shard_key = $1 and m.cohort_id = $2 and m.chunk = any($3) and exists ( \
        select from member_chunks newer where newer.shard_key = $1 and newer.cohort_id = $2 \
            and newer.chunk = m.chunk and newer.version > m.version and newer.version <= $4)";

/// Deletes the rows of chunks that a row of `version` or an earlier one has replaced.
///
/// `version` must be older than the version that readers use, so that a reader of the version before has until the next
/// change to finish.
///
/// # Errors
///
/// Fails if the database fails.
pub fn prune(
    conn: &mut Conn,
    shard_key: ShardKey,
    cohort: CohortId,
    numbers: &[i64],
    version: i64,
) -> Result<()> {
    if numbers.is_empty() {
        return Ok(());
    }
    diesel::sql_query(PRUNE)
        .bind::<BigInt, _>(shard_key.0)
        .bind::<BigInt, _>(cohort.0)
        .bind::<Array<BigInt>, _>(numbers)
        .bind::<BigInt, _>(version)
        .execute(conn)?;
    Ok(())
}

pub(crate) const PRUNE_ALL: &str = "\
    delete from member_chunks m using unnest($2, $3, $4) as keys(cohort_id, chunk, version) \
    where m.shard_key = $1 and m.cohort_id = keys.cohort_id and m.chunk = keys.chunk and exists ( \
        select from member_chunks newer where newer.shard_key = $1 and newer.cohort_id = keys.cohort_id \
            and newer.chunk = keys.chunk and newer.version > m.version and newer.version <= keys.version)";

/// As [`prune`], for several cohorts after the publication of staged members. Their base versions are the older ones.
///
/// # Errors
///
/// Fails if the database fails.
pub fn prune_all(conn: &mut Conn, shard_key: ShardKey, staged: &[StagedMembers]) -> Result<()> {
    let (mut cohorts, mut numbers, mut versions) = (Vec::new(), Vec::new(), Vec::new());
    for staged in staged {
        for number in &staged.chunks {
            cohorts.push(staged.cohort().0);
            numbers.push(*number);
            versions.push(staged.base);
        }
    }
    diesel::sql_query(PRUNE_ALL)
        .bind::<BigInt, _>(shard_key.0)
        .bind::<Array<BigInt>, _>(cohorts)
        .bind::<Array<BigInt>, _>(numbers)
        .bind::<Array<BigInt>, _>(versions)
        .execute(conn)?;
    Ok(())
}

/// One version of a cohort's chunk.
pub(super) struct ChunkVersion {
    pub(super) cohort_id: i64,
    pub(super) version: i64,
    pub(super) members: RoaringBitmap,
}

#[derive(QueryableByName)]
struct ChunkVersionRow {
    #[diesel(sql_type = BigInt)]
    cohort_id: i64,
    #[diesel(sql_type = BigInt)]
    version: i64,
    #[diesel(sql_type = Bytea)]
    members: Vec<u8>,
}

pub(crate) const CHUNK_VERSIONS: &str = "\
    select m.* from unnest($2) as keys(cohort_id) cross join lateral ( \
        select cohort_id, version, members from member_chunks \
        where shard_key = $1 and cohort_id = keys.cohort_id and chunk = $3 offset 0) m";

/// All versions of a chunk of these cohorts.
pub(super) fn versions(
    conn: &mut Conn,
    shard_key: ShardKey,
    cohorts: &[i64],
    number: u16,
) -> Result<Vec<ChunkVersion>> {
    let rows: Vec<ChunkVersionRow> = diesel::sql_query(CHUNK_VERSIONS)
        .bind::<BigInt, _>(shard_key.0)
        .bind::<Array<BigInt>, _>(cohorts)
        .bind::<BigInt, _>(i64::from(number))
        .load(conn)?;
    rows.into_iter()
        .map(|row| {
            Ok(ChunkVersion {
                cohort_id: row.cohort_id,
                version: row.version,
                members: decode(row.cohort_id, &row.members)?,
            })
        })
        .collect()
}

/// Removes persons from a version of a chunk, in place.
pub(super) fn remove(
    conn: &mut Conn,
    shard_key: ShardKey,
    number: u16,
    chunk: ChunkVersion,
    persons: &RoaringBitmap,
) -> Result<()> {
    let row = member_chunks::table
        .filter(member_chunks::shard_key.eq(shard_key.0))
        .filter(member_chunks::cohort_id.eq(chunk.cohort_id))
        .filter(member_chunks::chunk.eq(i64::from(number)))
        .filter(member_chunks::version.eq(chunk.version));
    diesel::update(row)
        .set(member_chunks::members.eq(chunks::encode(&(chunk.members - persons))))
        .execute(conn)?;
    Ok(())
}

pub(crate) const DELETE_CHUNKS: &str = "\
    delete from member_chunks m using ( \
        select chunk, version from member_chunks where shard_key = $1 and cohort_id = $2 limit $3) old \
    where m.shard_key = $1 and m.cohort_id = $2 and m.chunk = old.chunk and m.version = old.version";

/// Deletes chunks of a cohort that no longer exists, at most `limit` of them, and returns their number.
pub(super) fn delete(
    conn: &mut Conn,
    project: ProjectId,
    cohort: CohortId,
    limit: i64,
) -> Result<usize> {
    Ok(diesel::sql_query(DELETE_CHUNKS)
        .bind::<BigInt, _>(project.shard_key().0)
        .bind::<BigInt, _>(cohort.0)
        .bind::<BigInt, _>(limit)
        .execute(conn)?)
}

/// The number of chunks of these cohorts, of all versions.
pub(super) fn count(conn: &mut Conn, project: ProjectId, cohorts: &[i64]) -> Result<i64> {
    Ok(member_chunks::table
        .filter(member_chunks::shard_key.eq(project.shard_key().0))
        .filter(member_chunks::cohort_id.eq_any(cohorts))
        .count()
        .get_result(conn)?)
}
