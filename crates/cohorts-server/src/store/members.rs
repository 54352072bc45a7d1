//! Membership as chunks of bitmaps. Each chunk carries the attempt that wrote it, and readers take of every chunk
//! the newest one that is not above the cohort's `member_version`.

use cohorts_engine::chunks::{self, Chunk};
use diesel::prelude::*;
use roaring::RoaringBitmap;

use super::schema::member_chunks;
use super::{CohortId, Conn, Place};
use crate::error::Error;

/// The members of a cohort as of a version.
pub fn read(
    conn: &mut Conn,
    place: Place,
    cohort: CohortId,
    version: i64,
) -> Result<RoaringBitmap, Error> {
    let rows: Vec<Vec<u8>> = member_chunks::table
        .filter(member_chunks::place.eq(place.0))
        .filter(member_chunks::cohort_id.eq(cohort.0))
        .filter(member_chunks::version.le(version))
        .distinct_on(member_chunks::chunk)
        .order((member_chunks::chunk, member_chunks::version.desc()))
        .select(member_chunks::members)
        .load(conn)?;
    let decoded = rows.iter().map(|bytes| chunks::decode(bytes));
    let decoded = decoded.collect::<Result<Vec<_>, _>>();
    let decoded = decoded.map_err(|cause| {
        anyhow::Error::new(cause).context(format!("the members of cohort {} are damaged", cohort.0))
    })?;
    Ok(chunks::join(&decoded))
}

/// Writes the changed chunks of a version that nobody reads yet. `base` is the version they differ from.
///
/// What an attempt that was given up wrote above `base` goes first: it must never be read.
pub fn write(
    conn: &mut Conn,
    place: Place,
    cohort: CohortId,
    base: i64,
    version: i64,
    changed: &[Chunk],
) -> QueryResult<()> {
    let own = member_chunks::table
        .filter(member_chunks::place.eq(place.0))
        .filter(member_chunks::cohort_id.eq(cohort.0));
    diesel::delete(own.filter(member_chunks::version.gt(base))).execute(conn)?;
    let rows: Vec<_> = changed
        .iter()
        .map(|chunk| {
            (
                member_chunks::place.eq(place.0),
                member_chunks::cohort_id.eq(cohort.0),
                member_chunks::chunk.eq(i64::from(chunk.number)),
                member_chunks::version.eq(version),
                member_chunks::members.eq(chunks::encode(&chunk.persons)),
            )
        })
        .collect();
    diesel::insert_into(member_chunks::table)
        .values(rows)
        .execute(conn)?;
    Ok(())
}

/// Deletes the chunks that were replaced at `version` already, which must not be the newest version:
/// whoever still reads the one before has as long as the cohort goes uncalculated.
pub fn prune(conn: &mut Conn, place: Place, cohort: CohortId, version: i64) -> QueryResult<()> {
    let newer = diesel::alias!(member_chunks as newer);
    let replaced = newer
        .filter(newer.field(member_chunks::place).eq(place.0))
        .filter(newer.field(member_chunks::cohort_id).eq(cohort.0))
        .filter(newer.field(member_chunks::chunk).eq(member_chunks::chunk))
        .filter(
            newer
                .field(member_chunks::version)
                .gt(member_chunks::version),
        )
        .filter(newer.field(member_chunks::version).le(version));
    diesel::delete(
        member_chunks::table
            .filter(member_chunks::place.eq(place.0))
            .filter(member_chunks::cohort_id.eq(cohort.0))
            .filter(diesel::dsl::exists(replaced)),
    )
    .execute(conn)?;
    Ok(())
}
