//! Membership as chunks of bitmaps. Each chunk carries the attempt that wrote it, and readers take of every chunk
//! the newest one that is not above the cohort's `member_version`.

use cohorts_engine::chunks::{self, Chunk};
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Bytea};
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
    let decoded = rows.iter().map(|bytes| decode(cohort.0, bytes));
    Ok(chunks::join(&decoded.collect::<Result<Vec<_>, _>>()?))
}

fn decode(cohort: i64, bytes: &[u8]) -> Result<RoaringBitmap, Error> {
    let decoded = chunks::decode(bytes).map_err(|cause| {
        anyhow::Error::new(cause).context(format!("the members of cohort {cohort} are damaged"))
    });
    Ok(decoded?)
}

#[derive(QueryableByName)]
struct ChunkRow {
    #[diesel(sql_type = BigInt)]
    cohort_id: i64,
    #[diesel(sql_type = BigInt)]
    version: i64,
    #[diesel(sql_type = Bytea)]
    members: Vec<u8>,
}

/// Of these cohorts, each with the version that readers use, those that a person is in: number and version of the
/// chunk that says so, and who else is in it.
fn chunks_with(
    conn: &mut Conn,
    place: Place,
    cohorts: &[(i64, i64)],
    person: u32,
) -> Result<Vec<(i64, i64, RoaringBitmap)>, Error> {
    let (ids, versions): (Vec<i64>, Vec<i64>) = cohorts.iter().copied().unzip();
    let rows: Vec<ChunkRow> = diesel::sql_query(
        "select c.cohort_id, c.version, c.members from unnest($2, $3) as asked(cohort_id, version) \
         cross join lateral (select m.cohort_id, m.version, m.members from member_chunks m \
            where m.place = $1 and m.cohort_id = asked.cohort_id and m.chunk = $4 and m.version <= asked.version \
            order by m.version desc limit 1) c",
    )
    .bind::<BigInt, _>(place.0)
    .bind::<Array<BigInt>, _>(ids)
    .bind::<Array<BigInt>, _>(versions)
    .bind::<BigInt, _>(i64::from(chunks::chunk_of(person)))
    .load(conn)?;
    let mut found = Vec::new();
    for row in rows {
        let members = decode(row.cohort_id, &row.members)?;
        if members.contains(person) {
            found.push((row.cohort_id, row.version, members));
        }
    }
    Ok(found)
}

/// Those of these cohorts, each with the version that readers use, that a person is in.
pub fn cohorts_of(
    conn: &mut Conn,
    place: Place,
    cohorts: &[(i64, i64)],
    person: u32,
) -> Result<Vec<i64>, Error> {
    let found = chunks_with(conn, place, cohorts, person)?;
    Ok(found.into_iter().map(|(cohort, _, _)| cohort).collect())
}

/// Takes a person out of all of these cohorts, whose rows are locked, and tells which had them.
/// The chunk is changed where it is: nobody may see the person any longer, not even who reads an older version.
pub fn remove_everywhere(
    conn: &mut Conn,
    place: Place,
    cohorts: &[(i64, i64)],
    person: u32,
) -> Result<Vec<i64>, Error> {
    let mut left = Vec::new();
    for (cohort, version, mut members) in chunks_with(conn, place, cohorts, person)? {
        members.remove(person);
        let own = member_chunks::table
            .filter(member_chunks::place.eq(place.0))
            .filter(member_chunks::cohort_id.eq(cohort))
            .filter(member_chunks::chunk.eq(i64::from(chunks::chunk_of(person))))
            .filter(member_chunks::version.eq(version));
        diesel::update(own)
            .set(member_chunks::members.eq(chunks::encode(&members)))
            .execute(conn)?;
        left.push(cohort);
    }
    Ok(left)
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
