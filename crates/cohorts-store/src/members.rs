//! Members of cohorts, as bitmaps of 65,536 ordinals each (chunks).
//!
//! Each row has a version. A reader takes the newest row of each chunk that is not above the cohort's `member_version`.
//! A writer only adds rows above that version and raises it later, so readers never see half of a change.
//! This module only reads. All writers are in [`crate::changes`].

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;

use cohorts_engine::chunks::{self, Chunk};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::sql_types::{Array, BigInt, Bytea};
use roaring::RoaringBitmap;
use uuid::Uuid;

use crate::changes::StaticCohort;
use crate::cohorts::{self, LockedCohort};
use crate::persons as person_rows;
use crate::schema::{cohorts as cohort_rows, member_chunks};
use crate::{CohortId, Conn, ProjectId, Result, ShardKey, StoreError};

/// The members of a cohort as of a version.
///
/// # Errors
///
/// [`StoreError::Corrupt`] if a chunk cannot be decoded; fails if the database fails.
pub fn read(
    conn: &mut Conn,
    shard_key: ShardKey,
    cohort: CohortId,
    version: i64,
) -> Result<RoaringBitmap> {
    read_chunks(conn, shard_key, cohort, version, 0..CHUNKS)
}

/// The number of all chunks.
const CHUNKS: i64 = 1 << 16;

/// The first members as of a version with ordinals from `first` on: more than `count` of them, or all.
///
/// # Errors
///
/// [`StoreError::Corrupt`] if a chunk cannot be decoded; fails if the database fails.
pub fn read_from(
    conn: &mut Conn,
    shard_key: ShardKey,
    (cohort, version): (CohortId, i64),
    first: u32,
    count: usize,
) -> Result<RoaringBitmap> {
    let mut members = RoaringBitmap::new();
    let (mut start, mut width) = (i64::from(chunks::chunk_of(first)), 1);
    while start < CHUNKS && members.len() <= count as u64 {
        members |= read_chunks(conn, shard_key, cohort, version, start..start + width)?;
        members.remove_range(..first);
        start += width;
        width *= 2;
    }
    Ok(members)
}

/// The members in a range of chunks.
fn read_chunks(
    conn: &mut Conn,
    shard_key: ShardKey,
    cohort: CohortId,
    version: i64,
    numbers: Range<i64>,
) -> Result<RoaringBitmap> {
    let rows: Vec<Vec<u8>> = member_chunks::table
        .filter(member_chunks::shard_key.eq(shard_key.0))
        .filter(member_chunks::cohort_id.eq(cohort.0))
        .filter(member_chunks::chunk.ge(numbers.start))
        .filter(member_chunks::chunk.lt(numbers.end))
        .filter(member_chunks::version.le(version))
        .distinct_on(member_chunks::chunk)
        .order((member_chunks::chunk, member_chunks::version.desc()))
        .select(member_chunks::members)
        .load(conn)?;
    let bitmaps = rows.iter().map(|bytes| decode(cohort.0, bytes));
    Ok(chunks::join(&bitmaps.collect::<Result<Vec<_>, _>>()?))
}

/// Whether a person is a member of a cohort as of a version.
///
/// # Errors
///
/// [`StoreError::Corrupt`] if the chunk cannot be decoded; fails if the database fails.
pub fn contains(
    conn: &mut Conn,
    shard_key: ShardKey,
    cohort: CohortId,
    version: i64,
    ordinal: u32,
) -> Result<bool> {
    let chunk: Option<Vec<u8>> = member_chunks::table
        .filter(member_chunks::shard_key.eq(shard_key.0))
        .filter(member_chunks::cohort_id.eq(cohort.0))
        .filter(member_chunks::chunk.eq(i64::from(chunks::chunk_of(ordinal))))
        .filter(member_chunks::version.le(version))
        .order(member_chunks::version.desc())
        .select(member_chunks::members)
        .first(conn)
        .optional()?;
    match chunk {
        Some(bytes) => Ok(decode(cohort.0, &bytes)?.contains(ordinal)),
        None => Ok(false),
    }
}

pub(crate) fn decode(cohort: i64, bytes: &[u8]) -> Result<RoaringBitmap> {
    chunks::decode(bytes)
        .map_err(|cause| StoreError::Corrupt(format!("members of cohort {cohort}: {cause}")))
}

#[derive(QueryableByName)]
struct ChunkRow {
    #[diesel(sql_type = BigInt)]
    cohort_id: i64,
    #[diesel(sql_type = Bytea)]
    members: Vec<u8>,
}

/// A cohort that a person is a member of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// The id of the cohort.
    pub id: i64,
    /// The name of the cohort.
    pub name: Option<String>,
    /// The number of the cohort's members.
    pub count: Option<i64>,
}

/// The live cohorts of a project that a person is a member of, sorted by id; `None` if there is no such person.
///
/// The caller reads in a [`crate::snapshot`]. There are three statements, because a distributed Postgres does not join person
/// tables with control tables. All of them are prepared, because lookups of memberships are frequent.
///
/// # Errors
///
/// [`StoreError::Corrupt`] if a chunk cannot be decoded; fails if the database fails.
pub fn memberships(
    conn: &mut Conn,
    project: ProjectId,
    person: Uuid,
) -> Result<Option<Vec<Membership>>> {
    let shard_key = project.shard_key();
    let Some(ordinal) = person_rows::ordinal(conn, shard_key, person)? else {
        return Ok(None);
    };
    let ordinal = u32::try_from(ordinal).map_err(anyhow::Error::from)?;
    let cohorts = published(conn, project)?;
    let chunk = chunks::chunk_of(ordinal);
    let mut with_person = BTreeSet::new();
    let rows: Vec<(i64, Vec<u8>)> = ChunksOf::new(shard_key, &cohorts, chunk).load(conn)?;
    for (cohort, members) in rows {
        if decode(cohort, &members)?.contains(ordinal) {
            with_person.insert(cohort);
        }
    }
    let cohorts = cohorts.into_iter();
    let with_person = cohorts.filter(|cohort| with_person.contains(&cohort.id));
    Ok(Some(
        with_person.map(|cohort| cohort.membership()).collect(),
    ))
}

/// A cohort that is not deleted, with what readers see of it.
#[derive(Clone, Debug, Queryable)]
pub struct PublishedCohort {
    /// The id of the cohort.
    pub id: i64,
    name: Option<String>,
    /// The number of members; `None` before the first calculation.
    pub count: Option<i64>,
    /// The version of the members that readers use.
    pub member_version: i64,
}

impl PublishedCohort {
    /// The cohort as one that a person is a member of.
    pub fn membership(&self) -> Membership {
        Membership {
            id: self.id,
            name: self.name.clone(),
            count: self.count,
        }
    }
}

/// The cohorts of a project that are not deleted, sorted by id.
///
/// # Errors
///
/// Fails if the database fails.
pub fn published(conn: &mut Conn, project: ProjectId) -> Result<Vec<PublishedCohort>> {
    Ok(cohort_rows::table
        .filter(cohort_rows::project_id.eq(project.0))
        .filter(diesel::dsl::not(cohort_rows::deleted))
        .order(cohort_rows::id)
        .select((
            cohort_rows::id,
            cohort_rows::name,
            cohort_rows::count,
            cohort_rows::member_version,
        ))
        .load(conn)?)
}

/// For each of some cohorts, its id and the bytes of one chunk in the version that readers use.
pub(crate) struct ChunksOf {
    shard_key: i64,
    ids: Vec<i64>,
    versions: Vec<i64>,
    chunk: i64,
}

impl ChunksOf {
    pub(crate) fn new(shard_key: ShardKey, cohorts: &[PublishedCohort], chunk: u16) -> Self {
        Self {
            shard_key: shard_key.0,
            ids: cohorts.iter().map(|cohort| cohort.id).collect(),
            versions: cohorts.iter().map(|cohort| cohort.member_version).collect(),
            chunk: chunk.into(),
        }
    }
}

impl QueryId for ChunksOf {
    type QueryId = ChunksOf;
    const HAS_STATIC_QUERY_ID: bool = true;
}

impl Query for ChunksOf {
    type SqlType = (BigInt, Bytea);
}

impl RunQueryDsl<Conn> for ChunksOf {}

impl QueryFragment<Pg> for ChunksOf {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("select m.* from unnest(");
        out.push_bind_param::<Array<BigInt>, _>(&self.ids)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<BigInt>, _>(&self.versions)?;
        out.push_sql(
            ") as keys(cohort_id, version) cross join lateral ( \
                select cohort_id, members from member_chunks where shard_key = ",
        );
        out.push_bind_param::<BigInt, _>(&self.shard_key)?;
        out.push_sql(" and cohort_id = keys.cohort_id and chunk = ");
        out.push_bind_param::<BigInt, _>(&self.chunk)?;
        out.push_sql(" and version <= keys.version order by version desc limit 1) m");
        Ok(())
    }
}

pub(crate) const NEWEST_CHUNKS: &str = "\
    select m.* from unnest($2, $3) as keys(cohort_id, version) cross join lateral ( \
        select distinct on (chunk) cohort_id, members from member_chunks \
        where shard_key = $1 and cohort_id = keys.cohort_id and chunk = any($4) and version <= keys.version \
        order by chunk, version desc) m";

/// The newest row of each chunk between two versions of each cohort.
pub(crate) const NEWER_CHUNKS: &str = "\
    select m.* from unnest($2, $3, $4) as keys(cohort_id, after, version) cross join lateral ( \
        select distinct on (chunk) cohort_id, chunk, members from member_chunks \
        where shard_key = $1 and cohort_id = keys.cohort_id and version > keys.after and version <= keys.version \
        order by chunk, version desc) m";

#[derive(QueryableByName)]
struct NewerChunkRow {
    #[diesel(sql_type = BigInt)]
    cohort_id: i64,
    #[diesel(sql_type = BigInt)]
    chunk: i64,
    #[diesel(sql_type = Bytea)]
    members: Vec<u8>,
}

/// A span of versions of a cohort's members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WantedVersions {
    /// The id of the cohort.
    pub cohort: i64,
    /// The version that the caller has; `None` if it has no members.
    pub after: Option<i64>,
    /// The version that the caller wants.
    pub version: i64,
}

/// The chunks that have changed in the span of each cohort, with their members at its end, by cohort.
///
/// # Errors
///
/// [`StoreError::Corrupt`] if a chunk cannot be decoded; fails if the database fails.
pub fn newer_chunks(
    conn: &mut Conn,
    shard_key: ShardKey,
    spans: &[WantedVersions],
) -> Result<HashMap<i64, Vec<Chunk>>> {
    let of_spans =
        |number: fn(&WantedVersions) -> i64| spans.iter().map(number).collect::<Vec<_>>();
    let rows: Vec<NewerChunkRow> = diesel::sql_query(NEWER_CHUNKS)
        .bind::<BigInt, _>(shard_key.0)
        .bind::<Array<BigInt>, _>(of_spans(|span| span.cohort))
        .bind::<Array<BigInt>, _>(of_spans(|span| span.after.unwrap_or(i64::MIN)))
        .bind::<Array<BigInt>, _>(of_spans(|span| span.version))
        .load(conn)?;
    let mut chunks: HashMap<i64, Vec<Chunk>> = HashMap::new();
    for row in rows {
        let chunk = Chunk {
            number: u16::try_from(row.chunk).map_err(anyhow::Error::from)?,
            persons: decode(row.cohort_id, &row.members)?,
        };
        chunks.entry(row.cohort_id).or_default().push(chunk);
    }
    Ok(chunks)
}

/// The members with some chunks replaced.
#[must_use]
pub fn with_chunks(mut members: RoaringBitmap, chunks: Vec<Chunk>) -> RoaringBitmap {
    for chunk in chunks {
        let first = u32::from(chunk.number) << 16;
        members.remove_range(first..=first | 0xFFFF);
        members |= chunk.persons;
    }
    members
}

/// Locks the static cohorts of a project, and returns those that have any of `persons` as a member.
///
/// # Errors
///
/// [`StoreError::Corrupt`] if a chunk cannot be decoded; fails if the database fails.
pub fn static_cohorts_with(
    conn: &mut Conn,
    project: ProjectId,
    persons: &RoaringBitmap,
) -> Result<Vec<StaticCohort>> {
    let shard_key = project.shard_key();
    // A calculation that publishes later resolves the persons itself.
    let mut cohorts = cohorts::lock_static(conn, project)?;
    let near = near(conn, shard_key, &cohorts, persons)?;
    let has_any = |id| near.get(&id).is_some_and(|near| !near.is_disjoint(persons));
    cohorts.retain(|cohort| has_any(cohort.id));
    let static_cohort = |cohort: LockedCohort| StaticCohort {
        id: CohortId(cohort.id),
        shard_key,
    };
    Ok(cohorts.into_iter().map(static_cohort).collect())
}

/// For each of these cohorts, its members in the chunks of `persons`.
pub(crate) fn near(
    conn: &mut Conn,
    shard_key: ShardKey,
    cohorts: &[LockedCohort],
    persons: &RoaringBitmap,
) -> Result<BTreeMap<i64, RoaringBitmap>> {
    let (ids, versions): (Vec<i64>, Vec<i64>) = cohorts
        .iter()
        .map(|cohort| (cohort.id, cohort.member_version))
        .unzip();
    let chunks: BTreeSet<i64> = persons
        .iter()
        .map(|person| chunks::chunk_of(person).into())
        .collect();
    let rows: Vec<ChunkRow> = diesel::sql_query(NEWEST_CHUNKS)
        .bind::<BigInt, _>(shard_key.0)
        .bind::<Array<BigInt>, _>(&ids)
        .bind::<Array<BigInt>, _>(&versions)
        .bind::<Array<BigInt>, _>(chunks.into_iter().collect::<Vec<_>>())
        .load(conn)?;
    let mut near: BTreeMap<i64, RoaringBitmap> = BTreeMap::new();
    for row in rows {
        *near.entry(row.cohort_id).or_default() |= decode(row.cohort_id, &row.members)?;
    }
    Ok(near)
}

/// The ids of the cohorts with members in a project, also of cohorts that no longer exist.
pub(crate) fn cohorts(conn: &mut Conn, project: ProjectId) -> Result<Vec<i64>> {
    Ok(member_chunks::table
        .filter(member_chunks::shard_key.eq(project.shard_key().0))
        .select(member_chunks::cohort_id)
        .distinct()
        .load(conn)?)
}
