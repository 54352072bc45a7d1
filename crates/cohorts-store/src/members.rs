//! Membership as chunks of bitmaps. Each chunk carries the attempt that wrote it, and readers take of every chunk
//! the newest one that is not above the cohort's `member_version`.

use std::collections::BTreeSet;

use cohorts_engine::chunks::{self, Chunk};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::sql_types::{self, Array, BigInt, Bytea, Nullable, Text};
use roaring::RoaringBitmap;
use uuid::Uuid;

use crate::cohorts::{self, Cohort};
use crate::schema::member_chunks;
use crate::{CohortId, Conn, Error, ProjectId, Result, ShardKey, queue};

/// The members of a cohort as of a version.
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
    let decoded = rows.iter().map(|bytes| decode(cohort.0, bytes));
    Ok(chunks::join(&decoded.collect::<Result<Vec<_>, _>>()?))
}

fn decode(cohort: i64, bytes: &[u8]) -> Result<RoaringBitmap> {
    chunks::decode(bytes)
        .map_err(|cause| Error::Corrupt(format!("members of cohort {cohort}: {cause}")))
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

/// A cohort that somebody is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holding {
    pub id: i64,
    pub name: Option<String>,
    pub count: Option<i64>,
}

/// The live cohorts of a project that a person is in, by number; nothing where there is no such person.
/// It is one statement, so that all of it is of one moment, and a prepared one, as it is asked often.
pub fn cohorts_with(
    conn: &mut Conn,
    project: ProjectId,
    person: Uuid,
) -> Result<Option<Vec<Holding>>> {
    let rows: Vec<HoldingRow> = WithPerson::new(project, person).load(conn)?;
    if rows.is_empty() {
        return Ok(None);
    }
    let mut holding = Vec::new();
    for (ordinal, id, name, count, members) in rows {
        let (Some(id), Some(members)) = (id, members) else {
            continue;
        };
        let ordinal = u32::try_from(ordinal).map_err(anyhow::Error::from)?;
        if decode(id, &members)?.contains(ordinal) {
            holding.push(Holding { id, name, count });
        }
    }
    Ok(Some(holding))
}

/// A person's number beside each cohort, with the newest chunk that readers see of where the person would be.
type HoldingRow = (
    i64,
    Option<i64>,
    Option<String>,
    Option<i64>,
    Option<Vec<u8>>,
);

struct WithPerson {
    project: i64,
    shard_key: i64,
    person: Uuid,
}

impl WithPerson {
    fn new(project: ProjectId, person: Uuid) -> Self {
        Self {
            project: project.0,
            shard_key: project.shard_key().0,
            person,
        }
    }
}

impl QueryId for WithPerson {
    type QueryId = WithPerson;
    const HAS_STATIC_QUERY_ID: bool = true;
}

impl Query for WithPerson {
    type SqlType = (
        BigInt,
        Nullable<BigInt>,
        Nullable<Text>,
        Nullable<BigInt>,
        Nullable<Bytea>,
    );
}

impl RunQueryDsl<Conn> for WithPerson {}

impl QueryFragment<Pg> for WithPerson {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(
            "select p.ordinal, c.id, c.name, c.count, m.members from persons p \
             left join cohorts c on not c.deleted and c.project_id = ",
        );
        out.push_bind_param::<BigInt, _>(&self.project)?;
        out.push_sql(
            " left join lateral ( \
                select k.members from member_chunks k where k.shard_key = p.shard_key and k.cohort_id = c.id \
                    and k.chunk = p.ordinal >> 16 and k.version <= c.member_version \
                order by k.version desc limit 1) m on true \
             where p.shard_key = ",
        );
        out.push_bind_param::<BigInt, _>(&self.shard_key)?;
        out.push_sql(" and p.uuid = ");
        out.push_bind_param::<sql_types::Uuid, _>(&self.person)?;
        out.push_sql(" order by c.id");
        Ok(())
    }
}

/// Takes a person out of all of these cohorts, whose rows are locked, and tells which showed them.
///
/// Every version of the chunk is changed where it is, one that is written and not yet published too: nobody may see
/// the person any longer.
pub fn remove_everywhere(
    conn: &mut Conn,
    shard_key: ShardKey,
    cohorts: &[(i64, i64)],
    person: u32,
) -> Result<Vec<i64>> {
    let rows = chunks_of(conn, shard_key, cohorts, person)?;
    let left = in_sight(cohorts, &rows, person);
    for (cohort, version, mut members) in rows {
        if members.remove(person) {
            let own = member_chunks::table
                .filter(member_chunks::shard_key.eq(shard_key.0))
                .filter(member_chunks::cohort_id.eq(cohort))
                .filter(member_chunks::chunk.eq(i64::from(chunks::chunk_of(person))))
                .filter(member_chunks::version.eq(version));
            diesel::update(own)
                .set(member_chunks::members.eq(chunks::encode(&members)))
                .execute(conn)?;
        }
    }
    Ok(left)
}

/// A chunk of a cohort as of a version.
type Versioned = (i64, i64, RoaringBitmap);

/// All versions of the chunks of these cohorts that a person would be in.
fn chunks_of(
    conn: &mut Conn,
    shard_key: ShardKey,
    cohorts: &[(i64, i64)],
    person: u32,
) -> Result<Vec<Versioned>> {
    let ids: Vec<i64> = cohorts.iter().map(|(id, _)| *id).collect();
    let rows: Vec<ChunkRow> = diesel::sql_query(
        "select m.* from unnest($2) as asked(cohort_id) cross join lateral ( \
            select cohort_id, version, members from member_chunks \
            where shard_key = $1 and cohort_id = asked.cohort_id and chunk = $3 offset 0) m",
    )
    .bind::<BigInt, _>(shard_key.0)
    .bind::<Array<BigInt>, _>(ids)
    .bind::<BigInt, _>(i64::from(chunks::chunk_of(person)))
    .load(conn)?;
    rows.into_iter()
        .map(|row| {
            let members = decode(row.cohort_id, &row.members)?;
            Ok((row.cohort_id, row.version, members))
        })
        .collect()
}

/// The cohorts of which the newest chunk that readers may see holds the person, in the order given.
fn in_sight(cohorts: &[(i64, i64)], rows: &[Versioned], person: u32) -> Vec<i64> {
    let shows = |(cohort, seen): &&(i64, i64)| {
        let own = rows
            .iter()
            .filter(|(id, version, _)| id == cohort && version <= seen);
        let newest = own.max_by_key(|(_, version, _)| *version);
        newest.is_some_and(|(_, _, members)| members.contains(person))
    };
    cohorts.iter().filter(shows).map(|(id, _)| *id).collect()
}

/// A list of people whose row is locked.
pub struct List {
    pub id: CohortId,
    pub shard_key: ShardKey,
    /// The version that readers use.
    pub version: i64,
}

impl From<&Cohort> for List {
    fn from(cohort: &Cohort) -> Self {
        Self {
            id: cohort.id(),
            shard_key: cohort.project().shard_key(),
            version: cohort.member_version,
        }
    }
}

/// Locks all lists of a project, and gives those that hold any of these people.
pub fn lists_with(
    conn: &mut Conn,
    project: ProjectId,
    people: &RoaringBitmap,
) -> Result<Vec<List>> {
    let shard_key = project.shard_key();
    let mut lists = cohorts::lock_all(conn, project)?;
    lists.retain(|list| list.is_static);
    for list in lists.iter().filter(|list| list.is_calculating) {
        // What is written and not yet shown may hold any of them: it is made again.
        queue::next_attempt(conn, CohortId(list.id))?;
    }
    let (ids, versions): (Vec<i64>, Vec<i64>) = lists
        .iter()
        .map(|list| (list.id, list.member_version))
        .unzip();
    let chunks: BTreeSet<i64> = people
        .iter()
        .map(|person| chunks::chunk_of(person).into())
        .collect();
    let rows: Vec<ChunkRow> = diesel::sql_query(
        "select m.* from unnest($2, $3) as asked(cohort_id, version) cross join lateral ( \
            select distinct on (chunk) cohort_id, version, members from member_chunks \
            where shard_key = $1 and cohort_id = asked.cohort_id and chunk = any($4) and version <= asked.version \
            order by chunk, version desc) m",
    )
    .bind::<BigInt, _>(shard_key.0)
    .bind::<Array<BigInt>, _>(&ids)
    .bind::<Array<BigInt>, _>(&versions)
    .bind::<Array<BigInt>, _>(chunks.into_iter().collect::<Vec<_>>())
    .load(conn)?;
    let mut holding = BTreeSet::new();
    for row in rows {
        if !decode(row.cohort_id, &row.members)?.is_disjoint(people) {
            holding.insert(row.cohort_id);
        }
    }
    lists.retain(|list| holding.contains(&list.id));
    let list = |locked: cohorts::Locked| List {
        id: CohortId(locked.id),
        shard_key,
        version: locked.member_version,
    };
    Ok(lists.into_iter().map(list).collect())
}

/// Who was in a list before an edit, and who is after it.
pub struct Edit {
    pub before: RoaringBitmap,
    pub after: RoaringBitmap,
}

/// Changes the people of a list whose row is locked, and its count with them. People who are looked up under that
/// lock cannot be deleted or merged before the transaction ends.
pub fn edit(
    conn: &mut Conn,
    list: &List,
    change: impl FnOnce(RoaringBitmap) -> Result<RoaringBitmap>,
) -> Result<Edit> {
    let before = read(conn, list.shard_key, list.id, list.version)?;
    let after = change(before.clone())?;
    // A calculation under way loses its claim by this, and is made again on top of what is written here.
    let version = queue::next_attempt(conn, list.id)?;
    let changed = chunks::changed(&before, &after);
    write(
        conn,
        list.shard_key,
        list.id,
        list.version,
        version,
        &changed,
    )?;
    prune(conn, list.shard_key, list.id, list.version)?;
    queue::publish_edit(conn, list.id, version, after.len() as i64)?;
    Ok(Edit { before, after })
}

/// Writes the changed chunks of a version that nobody reads yet. `base` is the version they differ from.
///
/// What an attempt that was given up wrote above `base` goes first: it must never be read.
pub fn write(
    conn: &mut Conn,
    shard_key: ShardKey,
    cohort: CohortId,
    base: i64,
    version: i64,
    changed: &[Chunk],
) -> Result<()> {
    let own = member_chunks::table
        .filter(member_chunks::shard_key.eq(shard_key.0))
        .filter(member_chunks::cohort_id.eq(cohort.0));
    diesel::delete(own.filter(member_chunks::version.gt(base))).execute(conn)?;
    let rows: Vec<_> = changed
        .iter()
        .map(|chunk| {
            (
                member_chunks::shard_key.eq(shard_key.0),
                member_chunks::cohort_id.eq(cohort.0),
                member_chunks::chunk.eq(i64::from(chunk.number)),
                member_chunks::version.eq(version),
                member_chunks::attempt.eq(version),
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
pub fn prune(conn: &mut Conn, shard_key: ShardKey, cohort: CohortId, version: i64) -> Result<()> {
    let newer = diesel::alias!(member_chunks as newer);
    let replaced = newer
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
            .filter(diesel::dsl::exists(replaced)),
    )
    .execute(conn)?;
    Ok(())
}
