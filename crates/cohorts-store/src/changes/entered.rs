//! When and why a person became a member, from the log.

use chrono::{DateTime, Utc};
use cohorts_engine::chunks::chunk_of;
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Bytea};

use super::rows::{self, ChangeRow};
use super::slices;
use crate::members::decode;
use crate::{CohortId, Conn, ProjectId, Result, ShardKey};

/// Rows that are read together.
const ROWS_AT_ONCE: i64 = 100;
/// The most changes of a cohort that are read.
const MAX_ROWS: usize = 500;

/// The last slice that begins at or before a chunk, for each of some versions. It has the persons of the chunk.
pub(crate) const SLICES_OF_CHUNK: &str = "\
    select s.* from unnest($2) as keys(version) cross join lateral ( \
        select version, entered, \"left\" from member_change_slices \
        where shard_key = $1 and cohort_id = $3 and version = keys.version and first_chunk <= $4 \
        order by first_chunk desc limit 1) s";

#[derive(QueryableByName)]
struct SliceOfChunk {
    #[diesel(sql_type = BigInt)]
    version: i64,
    #[diesel(sql_type = Bytea)]
    entered: Vec<u8>,
    #[diesel(sql_type = Bytea)]
    left: Vec<u8>,
}

/// The change by which a person became a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entered {
    /// The time of the publication.
    pub at: DateTime<Utc>,
    /// The name of a [`super::Cause`], or [`super::MIXED`].
    pub cause: String,
}

/// The last change up to a member version by which a person became a member. `None` if the person is no member, or if the
/// change is not among the last 500 of the cohort.
///
/// The caller reads in a [`crate::snapshot`].
///
/// # Errors
///
/// [`crate::StoreError::Corrupt`] if a slice cannot be decoded; fails if the database fails.
pub fn last_entered(
    conn: &mut Conn,
    project: ProjectId,
    cohort: CohortId,
    version: i64,
    ordinal: u32,
) -> Result<Option<Entered>> {
    let shard_key = project.shard_key();
    let (mut before, mut read) = (i64::MAX, 0);
    while read < MAX_ROWS {
        let key = (version, before);
        let page = rows::before(conn, shard_key, cohort.0, key, ROWS_AT_ONCE)?;
        let Some(oldest) = page.last() else {
            return Ok(None);
        };
        (before, read) = (oldest.number, read + page.len());
        let mut rest = page.as_slice();
        while !rest.is_empty() {
            let (together, later) = rest.split_at(slices::count_together(rest));
            if let Some((row, has_entered)) = last_change(conn, shard_key, together, ordinal)? {
                return Ok(has_entered.then(|| Entered {
                    at: row.published_at,
                    cause: row.cause.clone(),
                }));
            }
            rest = later;
        }
    }
    Ok(None)
}

/// The first of some rows of a cohort in which a person changed, and whether the person entered.
fn last_change<'a>(
    conn: &mut Conn,
    shard_key: ShardKey,
    rows: &'a [ChangeRow],
    ordinal: u32,
) -> Result<Option<(&'a ChangeRow, bool)>> {
    let Some(cohort) = rows.first().map(|row| row.cohort_id) else {
        return Ok(None);
    };
    let versions: Vec<i64> = rows.iter().map(|row| row.version).collect();
    let slices: Vec<SliceOfChunk> = diesel::sql_query(SLICES_OF_CHUNK)
        .bind::<BigInt, _>(shard_key.0)
        .bind::<Array<BigInt>, _>(versions)
        .bind::<BigInt, _>(cohort)
        .bind::<BigInt, _>(i64::from(chunk_of(ordinal)))
        .load(conn)?;
    for row in rows {
        let Some(slice) = slices.iter().find(|slice| slice.version == row.version) else {
            continue;
        };
        if decode(cohort, &slice.entered)?.contains(ordinal) {
            return Ok(Some((row, true)));
        }
        if decode(cohort, &slice.left)?.contains(ordinal) {
            return Ok(Some((row, false)));
        }
    }
    Ok(None)
}
