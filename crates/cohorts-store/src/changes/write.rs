//! Writes members: stages a version, publishes it, edits a static cohort, and removes deleted persons.
//!
//! The next version is always one above the published one. A writer locks the row of the cohort, and first deletes what is
//! above the published version. So an edit also discards the staged chunks of a calculation, which stages them again.

use std::collections::{BTreeMap, BTreeSet};

use cohorts_engine::chunks::{Chunk, changed, split};
use diesel::sql_types::{Array, BigInt};
use diesel::{QueryableByName, RunQueryDsl};
use roaring::RoaringBitmap;

use super::chunks::{self, CLEAR_CHUNKS, ChunkVersion, KeyedChunk};
use super::delta::MemberDelta;
use super::rows::{self, ChangeRow, ROW_BYTES};
use super::slices::{self, CLEAR_SLICES};
use super::{Cause, heads, sizes};
use crate::cohorts::{Cohort, LockedCohort};
use crate::{CohortId, Conn, Result, ShardKey, members, queue};

/// A static cohort, so that its members can be edited.
#[derive(Clone, Copy, Debug)]
pub struct StaticCohort {
    /// The id of the cohort.
    pub id: CohortId,
    /// The shard key of the project.
    pub shard_key: ShardKey,
}

impl From<&Cohort> for StaticCohort {
    fn from(cohort: &Cohort) -> Self {
        Self {
            id: cohort.id(),
            shard_key: cohort.project().shard_key(),
        }
    }
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
/// Returns the error of `change`; [`crate::StoreError::Corrupt`] if a chunk cannot be decoded; fails if the database
/// fails.
pub fn edit(
    conn: &mut Conn,
    cohort: &StaticCohort,
    cause: Cause,
    change: impl FnOnce(RoaringBitmap) -> Result<RoaringBitmap>,
) -> Result<MemberEdit> {
    let StaticCohort { id, shard_key } = *cohort;
    let (base, attempt) = queue::lock_members(conn, id)?;
    let before = members::read(conn, shard_key, id, base)?;
    let after = change(before.clone())?;
    let mut version = base;
    let new = NewMembers {
        cohort: id,
        base,
        attempt,
        before: &before,
        after: &after,
    };
    if before != after {
        for staged in stage(conn, shard_key, &[new])? {
            publish(conn, shard_key, &[(&staged, cause)])?;
            chunks::prune(conn, shard_key, id, &staged.chunks, base)?;
            version = staged.version;
        }
    }
    queue::publish_edit(conn, id, version, after.len() as i64)?;
    Ok(MemberEdit { before, after })
}

/// Members that are written under the next version of a cohort, and that no reader sees yet.
#[derive(Clone, Debug)]
pub struct StagedMembers {
    /// The id of the cohort.
    cohort: CohortId,
    /// The published version that the members replace.
    pub base: i64,
    /// The version of the members; `base` if no person changed.
    pub version: i64,
    /// The number of members.
    pub count: i64,
    /// The numbers of the chunks that changed.
    pub chunks: Vec<i64>,
    attempt: i64,
    entered: i64,
    left: i64,
    bytes: i64,
}

/// Members to write, which replace those of the published version.
#[derive(Clone, Copy, Debug)]
pub struct NewMembers<'a> {
    /// The id of the cohort.
    pub cohort: CohortId,
    /// The published version.
    pub base: i64,
    /// The number of the calculation, or the last one.
    pub attempt: i64,
    /// The members of the published version.
    pub before: &'a RoaringBitmap,
    /// The members to write.
    pub after: &'a RoaringBitmap,
}

/// Writes members of some cohorts of a shard key, each under its next version. They are returned in the same order.
///
/// The caller has locked the cohorts. What an abandoned attempt has left is deleted first: it must never be published.
///
/// # Errors
///
/// Fails if the database fails.
pub fn stage(
    conn: &mut Conn,
    shard_key: ShardKey,
    new: &[NewMembers<'_>],
) -> Result<Vec<StagedMembers>> {
    let deltas = new
        .iter()
        .map(|new| MemberDelta::between(new.before, new.after));
    stage_deltas(conn, shard_key, new, deltas.collect())
}

/// As [`stage`], with the differences as the log shows them.
pub(super) fn stage_deltas(
    conn: &mut Conn,
    shard_key: ShardKey,
    new: &[NewMembers<'_>],
    deltas: Vec<MemberDelta>,
) -> Result<Vec<StagedMembers>> {
    let keys = new.iter().map(|new| (new.cohort.0, new.base));
    let (cohorts, bases): (Vec<i64>, Vec<i64>) = keys.unzip();
    clear(conn, shard_key, &cohorts, &bases)?;
    let (mut chunks, mut slices, mut staged) = (Vec::new(), Vec::new(), Vec::new());
    for (new, delta) in new.iter().zip(deltas) {
        let NewMembers {
            cohort,
            base,
            attempt,
            before,
            after,
        } = *new;
        let version = base + i64::from(!delta.is_empty());
        let (packed, bytes) = slices::pack(cohort.0, version, &delta);
        slices.extend(packed);
        let changed = changed(before, after);
        staged.push(StagedMembers {
            cohort,
            base,
            version,
            count: after.len() as i64,
            chunks: changed.iter().map(|chunk| chunk.number.into()).collect(),
            attempt,
            entered: delta.entered.len() as i64,
            left: delta.left.len() as i64,
            bytes,
        });
        chunks.extend(changed.into_iter().map(|chunk| KeyedChunk {
            cohort_id: cohort.0,
            version,
            attempt,
            chunk,
        }));
    }
    chunks::insert(conn, shard_key, &chunks)?;
    slices::insert(conn, shard_key, &slices)?;
    Ok(staged)
}

/// The cohorts with chunks or slices above their published version. The ORDER BY makes each look-up use the primary key.
pub(crate) const UNCLEARED: &str = "\
    select keys.cohort_id, keys.version from unnest($2, $3) as keys(cohort_id, version) cross join lateral ( \
        select from ( \
            (select from member_chunks where shard_key = $1 and cohort_id = keys.cohort_id and version > keys.version \
            order by shard_key, cohort_id, chunk limit 1) \
            union all \
            (select from member_change_slices where shard_key = $1 and cohort_id = keys.cohort_id and version > keys.version \
            order by shard_key, cohort_id, version limit 1)) rows limit 1) uncleared";

#[derive(QueryableByName)]
struct Uncleared {
    #[diesel(sql_type = BigInt)]
    cohort_id: i64,
    #[diesel(sql_type = BigInt)]
    version: i64,
}

/// Deletes everything above the published version of each cohort.
fn clear(conn: &mut Conn, shard_key: ShardKey, cohorts: &[i64], versions: &[i64]) -> Result<()> {
    let uncleared: Vec<Uncleared> = diesel::sql_query(UNCLEARED)
        .bind::<BigInt, _>(shard_key.0)
        .bind::<Array<BigInt>, _>(cohorts)
        .bind::<Array<BigInt>, _>(versions)
        .load(conn)?;
    if !uncleared.is_empty() {
        let keys = uncleared.iter().map(|row| (row.cohort_id, row.version));
        let (cohorts, versions): (Vec<i64>, Vec<i64>) = keys.unzip();
        clear_rows(conn, shard_key, &cohorts, &versions)?;
    }
    rows::clear(conn, shard_key, cohorts, versions)
}

fn clear_rows(
    conn: &mut Conn,
    shard_key: ShardKey,
    cohorts: &[i64],
    versions: &[i64],
) -> Result<()> {
    for statement in [CLEAR_CHUNKS, CLEAR_SLICES] {
        diesel::sql_query(statement)
            .bind::<BigInt, _>(shard_key.0)
            .bind::<Array<BigInt>, _>(cohorts)
            .bind::<Array<BigInt>, _>(versions)
            .execute(conn)?;
    }
    Ok(())
}

/// Gives staged members of some cohorts of a shard key their numbers in the log, each with its cause, and records the
/// sizes of the cohorts.
///
/// The caller has locked the cohorts, checked that `base` is still their published version, and sets it to `version` in
/// the same transaction. It takes no lock of cohorts afterwards.
///
/// # Errors
///
/// Fails if the database fails.
pub fn publish(
    conn: &mut Conn,
    shard_key: ShardKey,
    staged: &[(&StagedMembers, Cause)],
) -> Result<()> {
    let changed = staged
        .iter()
        .filter(|(staged, _)| staged.version > staged.base);
    let mut changes: Vec<ChangeRow> = changed.map(|(staged, cause)| row(staged, *cause)).collect();
    if changes.is_empty() {
        return Ok(());
    }
    let bytes = changes.iter().map(|change| change.bytes).sum();
    let numbers = heads::take_numbers(conn, shard_key, changes.len() as i64, bytes)?;
    for (change, number) in changes.iter_mut().rev().zip((1..=numbers.last).rev()) {
        change.number = number;
        change.published_at = numbers.published_at;
    }
    rows::insert(conn, shard_key, &changes)?;
    sizes::record(conn, shard_key, &changes)
}

/// The row of staged members. Its number and time follow from the head.
fn row(staged: &StagedMembers, cause: Cause) -> ChangeRow {
    ChangeRow {
        number: 0,
        cohort_id: staged.cohort.0,
        base_version: staged.base,
        version: staged.version,
        attempt: staged.attempt,
        cause: cause.name().to_owned(),
        published_at: chrono::DateTime::UNIX_EPOCH,
        entered: staged.entered,
        left: staged.left,
        count: staged.count,
        bytes: staged.bytes + ROW_BYTES,
    }
}

/// Removes deleted persons from `cohorts`, and updates the counts. Returns the ids of the cohorts in which readers saw any of
/// the persons.
///
/// This also changes the older versions of a chunk, in place: no reader may see the persons after the commit.
///
/// # Errors
///
/// [`crate::StoreError::Corrupt`] if a chunk cannot be decoded; fails if the database fails.
pub fn remove_persons(
    conn: &mut Conn,
    shard_key: ShardKey,
    cohorts: &[LockedCohort],
    persons: &RoaringBitmap,
) -> Result<BTreeSet<i64>> {
    let ids: Vec<i64> = cohorts.iter().map(|cohort| cohort.id).collect();
    let mut left: BTreeMap<i64, RoaringBitmap> = BTreeMap::new();
    for Chunk { number, persons } in split(persons) {
        let versions = chunks::versions(conn, shard_key, &ids, number)?;
        collect_visible(cohorts, &versions, &persons, &mut left);
        for chunk in versions {
            if !chunk.members.is_disjoint(&persons) {
                chunks::remove(conn, shard_key, number, chunk, &persons)?;
            }
        }
    }
    publish_removal(conn, shard_key, cohorts, &left)?;
    Ok(left.into_keys().collect())
}

/// Adds to `left`, by the id of the cohort, the persons that readers see in these versions of a chunk.
fn collect_visible(
    cohorts: &[LockedCohort],
    versions: &[ChunkVersion],
    persons: &RoaringBitmap,
    left: &mut BTreeMap<i64, RoaringBitmap>,
) {
    for cohort in cohorts {
        let visible = versions
            .iter()
            .filter(|chunk| chunk.cohort_id == cohort.id && chunk.version <= cohort.member_version)
            .max_by_key(|chunk| chunk.version);
        let members = visible.map(|chunk| &chunk.members & persons);
        if let Some(members) = members.filter(|members| !members.is_empty()) {
            *left.entry(cohort.id).or_default() |= members;
        }
    }
}

/// Publishes a version of each cohort that has lost members. Their chunks are changed already.
fn publish_removal(
    conn: &mut Conn,
    shard_key: ShardKey,
    cohorts: &[LockedCohort],
    left: &BTreeMap<i64, RoaringBitmap>,
) -> Result<()> {
    let changed: Vec<&LockedCohort> = cohorts
        .iter()
        .filter(|cohort| left.contains_key(&cohort.id))
        .collect();
    let (ids, versions): (Vec<i64>, Vec<i64>) = changed
        .iter()
        .map(|cohort| (cohort.id, cohort.member_version))
        .unzip();
    if ids.is_empty() {
        return Ok(());
    }
    clear(conn, shard_key, &ids, &versions)?;
    let mut slices = Vec::new();
    let mut staged = Vec::new();
    for cohort in changed {
        let delta = MemberDelta {
            left: left[&cohort.id].clone(),
            ..MemberDelta::default()
        };
        let version = cohort.member_version + 1;
        let (packed, bytes) = slices::pack(cohort.id, version, &delta);
        slices.extend(packed);
        let left = delta.left.len() as i64;
        staged.push(StagedMembers {
            cohort: CohortId(cohort.id),
            base: cohort.member_version,
            version,
            count: cohort.count.unwrap_or(left) - left,
            chunks: Vec::new(),
            attempt: cohort.attempt,
            entered: 0,
            left,
            bytes,
        });
    }
    slices::insert(conn, shard_key, &slices)?;
    queue::publish_removals(conn, &staged)?;
    let changes: Vec<_> = staged
        .iter()
        .map(|staged| (staged, Cause::PersonDeleted))
        .collect();
    publish(conn, shard_key, &changes)
}

impl StagedMembers {
    /// The id of the cohort.
    pub fn cohort(&self) -> CohortId {
        self.cohort
    }
}
