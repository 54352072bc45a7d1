//! Members of cohorts, as bitmaps of 65,536 ordinals each (chunks).
//!
//! Each row has a version: the attempt that wrote it. A reader takes the newest row of each chunk that is not above the
//! cohort's `member_version`. A calculation only adds rows above that version, so readers never see half of it.
//! An edit changes the rows that readers see, in the transaction of the caller, so a calculation in progress keeps its
//! claim and adds its members to the edited ones. A deleted person is removed from all rows.

use std::collections::{BTreeMap, BTreeSet};

use cohorts_engine::chunks::{self, Chunk};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::sql_types::{Array, BigInt, Bytea};
use diesel::upsert::excluded;
use roaring::RoaringBitmap;
use uuid::Uuid;

use crate::cohorts::{self, Cohort, LockedCohort};
use crate::schema::{cohorts as cohort_rows, member_chunks, persons};
use crate::{CohortId, Conn, ProjectId, Result, ShardKey, StoreError, queue};

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
    let rows: Vec<Vec<u8>> = member_chunks::table
        .filter(member_chunks::shard_key.eq(shard_key.0))
        .filter(member_chunks::cohort_id.eq(cohort.0))
        .filter(member_chunks::version.le(version))
        .distinct_on(member_chunks::chunk)
        .order((member_chunks::chunk, member_chunks::version.desc()))
        .select(member_chunks::members)
        .load(conn)?;
    let bitmaps = rows.iter().map(|bytes| decode(cohort.0, bytes));
    Ok(chunks::join(&bitmaps.collect::<Result<Vec<_>, _>>()?))
}

fn decode(cohort: i64, bytes: &[u8]) -> Result<RoaringBitmap> {
    chunks::decode(bytes)
        .map_err(|cause| StoreError::Corrupt(format!("members of cohort {cohort}: {cause}")))
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
    let ordinal: Option<i64> = persons::table
        .filter(persons::shard_key.eq(shard_key.0))
        .filter(persons::uuid.eq(person))
        .select(persons::ordinal)
        .first(conn)
        .optional()?;
    let Some(ordinal) = ordinal else {
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
    let membership = |cohort: PublishedCohort| Membership {
        id: cohort.id,
        name: cohort.name,
        count: cohort.count,
    };
    let cohorts = cohorts.into_iter();
    let with_person = cohorts.filter(|cohort| with_person.contains(&cohort.id));
    Ok(Some(with_person.map(membership).collect()))
}

/// A live cohort with what readers see of it.
#[derive(Queryable)]
pub(crate) struct PublishedCohort {
    id: i64,
    name: Option<String>,
    count: Option<i64>,
    member_version: i64,
}

/// The live cohorts of a project, sorted by id.
fn published(conn: &mut Conn, project: ProjectId) -> Result<Vec<PublishedCohort>> {
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

/// Removes persons from `cohorts`. Returns, by the id of the cohort, the number of members that readers saw and do not see
/// any more.
///
/// This changes every version of a chunk in place, also a version that is written and not published yet: no reader may
/// see the persons after the commit.
///
/// # Errors
///
/// [`StoreError::Corrupt`] if a chunk cannot be decoded; fails if the database fails.
pub fn remove_everywhere(
    conn: &mut Conn,
    shard_key: ShardKey,
    cohorts: &[LockedCohort],
    persons: &RoaringBitmap,
) -> Result<BTreeMap<i64, i64>> {
    let mut left = BTreeMap::new();
    for Chunk { number, persons } in chunks::split(persons) {
        let versions = chunk_versions(conn, shard_key, cohorts, number)?;
        count_visible(cohorts, &versions, &persons, &mut left);
        for chunk in versions {
            if chunk.members.is_disjoint(&persons) {
                continue;
            }
            let row = member_chunks::table
                .filter(member_chunks::shard_key.eq(shard_key.0))
                .filter(member_chunks::cohort_id.eq(chunk.cohort_id))
                .filter(member_chunks::chunk.eq(i64::from(number)))
                .filter(member_chunks::version.eq(chunk.version));
            diesel::update(row)
                .set(member_chunks::members.eq(chunks::encode(&(chunk.members - &persons))))
                .execute(conn)?;
        }
    }
    Ok(left)
}

/// One version of a cohort's chunk.
struct ChunkVersion {
    cohort_id: i64,
    version: i64,
    members: RoaringBitmap,
}

pub(crate) const CHUNK_VERSIONS: &str = "\
    select m.* from unnest($2) as keys(cohort_id) cross join lateral ( \
        select cohort_id, version, members from member_chunks \
        where shard_key = $1 and cohort_id = keys.cohort_id and chunk = $3 offset 0) m";

/// All versions of a chunk of these cohorts.
fn chunk_versions(
    conn: &mut Conn,
    shard_key: ShardKey,
    cohorts: &[LockedCohort],
    number: u16,
) -> Result<Vec<ChunkVersion>> {
    let ids: Vec<i64> = cohorts.iter().map(|cohort| cohort.id).collect();
    let rows: Vec<ChunkRow> = diesel::sql_query(CHUNK_VERSIONS)
        .bind::<BigInt, _>(shard_key.0)
        .bind::<Array<BigInt>, _>(ids)
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

/// Adds to `counts`, by the id of the cohort, how many of the persons readers see in these versions of a chunk.
fn count_visible(
    cohorts: &[LockedCohort],
    versions: &[ChunkVersion],
    persons: &RoaringBitmap,
    counts: &mut BTreeMap<i64, i64>,
) {
    for cohort in cohorts {
        let visible = versions
            .iter()
            .filter(|chunk| chunk.cohort_id == cohort.id && chunk.version <= cohort.member_version)
            .max_by_key(|chunk| chunk.version);
        let count = visible.map_or(0, |chunk| chunk.members.intersection_len(persons));
        if count > 0 {
            *counts.entry(cohort.id).or_default() += count as i64;
        }
    }
}

/// A static cohort that the transaction has locked, so that its members can be edited.
pub struct StaticCohort {
    /// The id of the cohort.
    pub id: CohortId,
    /// The shard key of the project.
    pub shard_key: ShardKey,
    /// The attempt that wrote the members that readers use.
    pub version: i64,
}

impl From<&Cohort> for StaticCohort {
    fn from(cohort: &Cohort) -> Self {
        Self {
            id: cohort.id(),
            shard_key: cohort.project().shard_key(),
            version: cohort.member_version,
        }
    }
}

pub(crate) const NEWEST_CHUNKS: &str = "\
    select m.* from unnest($2, $3) as keys(cohort_id, version) cross join lateral ( \
        select distinct on (chunk) cohort_id, version, members from member_chunks \
        where shard_key = $1 and cohort_id = keys.cohort_id and chunk = any($4) and version <= keys.version \
        order by chunk, version desc) m";

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
    let mut with_persons = BTreeSet::new();
    for row in rows {
        if !decode(row.cohort_id, &row.members)?.is_disjoint(persons) {
            with_persons.insert(row.cohort_id);
        }
    }
    cohorts.retain(|cohort| with_persons.contains(&cohort.id));
    let static_cohort = |cohort: LockedCohort| StaticCohort {
        id: CohortId(cohort.id),
        shard_key,
        version: cohort.member_version,
    };
    Ok(cohorts.into_iter().map(static_cohort).collect())
}

/// The members of a static cohort before and after an edit.
pub struct MemberEdit {
    /// The members before the edit.
    pub before: RoaringBitmap,
    /// The members after the edit.
    pub after: RoaringBitmap,
}

/// Replaces the members of a static cohort by the result of `change`, and updates the count.
///
/// The lock on the cohort's row also keeps the persons that `change` looks up from being deleted or merged before the
/// transaction ends.
///
/// # Errors
///
/// Returns the error of `change`; [`StoreError::Corrupt`] if a chunk cannot be decoded; fails if the database fails.
pub fn edit(
    conn: &mut Conn,
    cohort: &StaticCohort,
    change: impl FnOnce(RoaringBitmap) -> Result<RoaringBitmap>,
) -> Result<MemberEdit> {
    let StaticCohort {
        id,
        shard_key,
        version,
    } = *cohort;
    let before = read(conn, shard_key, id, version)?;
    let after = change(before.clone())?;
    let changed = chunks::changed(&before, &after);
    replace(conn, shard_key, id, version, &changed)?;
    queue::publish_edit(conn, id, after.len() as i64)?;
    Ok(MemberEdit { before, after })
}

/// Replaces chunks of `version`, which readers use.
fn replace(
    conn: &mut Conn,
    shard_key: ShardKey,
    cohort: CohortId,
    version: i64,
    changed: &[Chunk],
) -> Result<()> {
    let key = (
        member_chunks::shard_key,
        member_chunks::cohort_id,
        member_chunks::chunk,
        member_chunks::version,
    );
    for chunks in changed.chunks(CHUNKS_AT_ONCE) {
        diesel::insert_into(member_chunks::table)
            .values(rows(shard_key, cohort, version, chunks))
            .on_conflict(key)
            .do_update()
            .set(member_chunks::members.eq(excluded(member_chunks::members)))
            .execute(conn)?;
    }
    Ok(())
}

/// Chunks of one statement. It stays below the limit of bound values, and has at most 2 MiB of bitmaps.
const CHUNKS_AT_ONCE: usize = 256;

type ChunkValues = (
    diesel::dsl::Eq<member_chunks::shard_key, i64>,
    diesel::dsl::Eq<member_chunks::cohort_id, i64>,
    diesel::dsl::Eq<member_chunks::chunk, i64>,
    diesel::dsl::Eq<member_chunks::version, i64>,
    diesel::dsl::Eq<member_chunks::attempt, i64>,
    diesel::dsl::Eq<member_chunks::members, Vec<u8>>,
);

/// The rows of chunks.
fn rows(shard_key: ShardKey, cohort: CohortId, version: i64, chunks: &[Chunk]) -> Vec<ChunkValues> {
    let row = |chunk: &Chunk| {
        (
            member_chunks::shard_key.eq(shard_key.0),
            member_chunks::cohort_id.eq(cohort.0),
            member_chunks::chunk.eq(i64::from(chunk.number)),
            member_chunks::version.eq(version),
            member_chunks::attempt.eq(version),
            member_chunks::members.eq(chunks::encode(&chunk.persons)),
        )
    };
    chunks.iter().map(row).collect()
}

/// Writes the chunks of `version` that differ from those of `base`, the version that readers use.
///
/// This first deletes all rows above `base`, which an abandoned attempt has left: they must never be published.
///
/// # Errors
///
/// Fails if the database fails.
pub fn write(
    conn: &mut Conn,
    shard_key: ShardKey,
    cohort: CohortId,
    base: i64,
    version: i64,
    changed: &[Chunk],
) -> Result<()> {
    let unpublished = member_chunks::table
        .filter(member_chunks::shard_key.eq(shard_key.0))
        .filter(member_chunks::cohort_id.eq(cohort.0))
        .filter(member_chunks::version.gt(base));
    diesel::delete(unpublished).execute(conn)?;
    for chunks in changed.chunks(CHUNKS_AT_ONCE) {
        diesel::insert_into(member_chunks::table)
            .values(rows(shard_key, cohort, version, chunks))
            .execute(conn)?;
    }
    Ok(())
}

/// Deletes the chunks that a row of `version` or an earlier one has replaced.
///
/// `version` must be older than the version that readers use, so that a reader of the version before has until the next
/// calculation to finish.
///
/// # Errors
///
/// Fails if the database fails.
pub fn prune(conn: &mut Conn, shard_key: ShardKey, cohort: CohortId, version: i64) -> Result<()> {
    let newer = diesel::alias!(member_chunks as newer);
    let replacements = newer
        .filter(newer.field(member_chunks::shard_key).eq(shard_key.0))
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
            .filter(member_chunks::shard_key.eq(shard_key.0))
            .filter(member_chunks::cohort_id.eq(cohort.0))
            .filter(diesel::dsl::exists(replacements)),
    )
    .execute(conn)?;
    Ok(())
}

#[cfg(test)]
mod tests;
