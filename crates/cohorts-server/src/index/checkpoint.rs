//! Checkpoints: blocks of larger projects, written next to the rows so that a start need not read the rows.
//!
//! A checkpoint that is missing or damaged is never an error: its reader loads the rows, and the next write replaces it.
//! An index may be checkpointed even if merges happened after it was built, because readers resolve merges. It must not
//! be checkpointed if a deletion, or a change of the retention, happened after it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use cohorts_engine::EventBlock;
use cohorts_store::segments::{self, SegmentKey, SegmentManifest, SegmentWrite, WriteOutcome};
use cohorts_store::{
    Conn, Error as StoreError, ProjectId, ShardKey, events, frames, projects, tombstones,
};
use rayon::prelude::*;

use super::cache::Cached;
use super::events::{CheckpointState, EventIndex};
use super::project::ProjectIndex;
use super::read::{ReadTx, RetentionState};
use super::{IndexError, IndexResult};

/// Smaller blocks are loaded from their rows as fast as from a checkpoint.
const MIN_ROWS: u64 = 10_000;
/// Days with packed segments in memory at the same time.
const DAYS_AT_ONCE: usize = 16;

/// Bytes of segments that this process has read.
static SEGMENT_BYTES_READ: AtomicU64 = AtomicU64::new(0);

/// Bytes of packed segments that this process has read instead of rows.
pub fn segment_bytes_read() -> u64 {
    SEGMENT_BYTES_READ.load(Ordering::Relaxed)
}

/// A UTC day, counted from 1970, with its segments.
type DaySegments = (i64, Vec<EventBlock>);
/// The segments of some days.
type Segments = BTreeMap<i64, Vec<EventBlock>>;

/// The checkpoint of an event's segments.
pub enum StoredEvents {
    Missing,
    Damaged,
    Valid {
        manifest: SegmentManifest,
        days: Segments,
    },
}

/// The segments of an event from a day on, each mapped by `map`.
pub fn events(
    tx: &ReadTx<'_>,
    key: &SegmentKey,
    from_day: i64,
    map: impl Fn(EventBlock) -> EventBlock + Sync,
) -> IndexResult<StoredEvents> {
    let shard_key = tx.shard_key();
    tx.with_conn(|conn| {
        let stored = segments::manifest(conn, shard_key, key)?;
        let Some(stored) = stored.filter(|stored| stored.manifest.from_day <= from_day) else {
            return Ok(StoredEvents::Missing);
        };
        let Some(mut numbers) = stored_days(conn, shard_key, key, stored.days)? else {
            return Ok(StoredEvents::Damaged);
        };
        numbers.retain(|day| *day >= from_day);
        let (mut days, mut bytes) = (Segments::new(), 0);
        for chunk in numbers.chunks(DAYS_AT_ONCE) {
            let Some(decoded) = decode_days(conn, shard_key, key, chunk)? else {
                return Ok(StoredEvents::Damaged);
            };
            let decoded: Vec<DaySegments> = decoded
                .into_par_iter()
                .map(|(day, segments)| (day, segments.into_iter().map(&map).collect()))
                .collect();
            let segments = decoded.iter().flat_map(|(_, segments)| segments);
            bytes += segments.map(EventBlock::bytes).sum::<usize>();
            tx.check_memory(bytes)?;
            days.extend(decoded);
        }
        let manifest = stored.manifest;
        Ok::<_, IndexError>(StoredEvents::Valid { manifest, days })
    })
}

/// The days that have a segment; `None` if their number is not `expected`.
fn stored_days(
    conn: &mut Conn,
    shard_key: ShardKey,
    key: &SegmentKey,
    expected: i64,
) -> Result<Option<Vec<i64>>, StoreError> {
    let days = segments::days(conn, shard_key, key)?;
    if days.len() as i64 == expected {
        return Ok(Some(days));
    }
    log::warn!(
        "event {:?} of shard key {} has segments of {} days instead of {expected}; they are written again",
        key.event,
        shard_key.0,
        days.len()
    );
    Ok(None)
}

/// The decoded segments of some days; `None` if one is damaged.
fn decode_days(
    conn: &mut Conn,
    shard_key: ShardKey,
    key: &SegmentKey,
    days: &[i64],
) -> Result<Option<Vec<DaySegments>>, StoreError> {
    let rows = segments::read(conn, shard_key, key, days)?;
    let bytes: usize = rows.iter().map(|(_, data)| data.len()).sum();
    SEGMENT_BYTES_READ.fetch_add(bytes as u64, Ordering::Relaxed);
    let decoded = rows.par_iter().map(|(day, data)| {
        let segments = frames::unpack(data).and_then(|bytes| EventBlock::decode_all(&bytes));
        if segments.is_none() {
            log::warn!(
                "the segment of event {:?}, day {day}, shard key {} is damaged; it is written again",
                key.event,
                shard_key.0
            );
        }
        Some((*day, segments?))
    });
    Ok(decoded.collect())
}

/// The names of events with damaged segments, or with segments that contain another number of events than the rows.
pub fn mismatched_events(conn: &mut Conn, shard_key: ShardKey) -> Result<Vec<String>, StoreError> {
    let mut mismatched = Vec::new();
    for (key, stored) in segments::manifests(conn, shard_key)? {
        let in_segments = count_events(conn, shard_key, &key, stored.days)?;
        let SegmentManifest {
            through_seq,
            from_day,
        } = stored.manifest;
        let in_rows = events::count_of_name(conn, shard_key, &key.event, through_seq, from_day)?;
        if in_segments != Some(in_rows) {
            mismatched.push(key.event);
        }
    }
    Ok(mismatched)
}

/// The number of events in the segments; `None` if a segment is damaged or missing.
fn count_events(
    conn: &mut Conn,
    shard_key: ShardKey,
    key: &SegmentKey,
    days: i64,
) -> Result<Option<i64>, StoreError> {
    let Some(days) = stored_days(conn, shard_key, key, days)? else {
        return Ok(None);
    };
    let mut count = 0;
    for chunk in days.chunks(DAYS_AT_ONCE) {
        let Some(decoded) = decode_days(conn, shard_key, key, chunk)? else {
            return Ok(None);
        };
        let segments = decoded.iter().flat_map(|(_, segments)| segments);
        count += segments.map(|segment| segment.rows() as i64).sum::<i64>();
    }
    Ok(Some(count))
}

impl ProjectIndex {
    /// Writes the blocks of larger projects that live cohorts read and that are not written yet. A block that cannot be
    /// written does not keep the others from being written.
    pub fn write_checkpoints(&self, conn: &mut Conn, project: ProjectId) -> Result<(), StoreError> {
        let live = self.live.refresh(conn, project)?;
        // Other columns of these events were loaded before the live columns changed, and are not read again.
        self.events
            .retain(|(name, columns)| self.live.columns_for(name, columns) == *columns);
        let mut written = self.write_columns(conn, project, &live);
        if self.retention.days.is_some() {
            return written;
        }
        for Cached { key, value, .. } in self.events.all() {
            let (name, columns) = key;
            let rows: usize = value.segments().map(|segment| segment.rows()).sum();
            if rows as u64 >= MIN_ROWS
                && live.has_segments(&name, &columns)
                && let Some(key) = SegmentKey::new(&name, &columns)
            {
                written = written.and(self.write_events(conn, project, &key, &value));
            }
        }
        written
    }

    fn write_events(
        &self,
        conn: &mut Conn,
        project: ProjectId,
        key: &SegmentKey,
        index: &EventIndex,
    ) -> Result<(), StoreError> {
        let mut state = index.checkpoint.lock();
        if state.is_current(self.seq, index.from_day) {
            return Ok(());
        }
        let days = state.changed_days(index).into_par_iter();
        let days = days.map(|(number, day)| {
            let pieces = EventBlock::encode_all(&day.compacted()).collect::<Vec<_>>();
            Ok((number, frames::pack_all(pieces)?))
        });
        let coverage = index.coverage;
        let write = SegmentWrite {
            key,
            manifest: SegmentManifest {
                through_seq: self.seq,
                from_day: index.from_day,
            },
            complete_since: (!coverage.has_gap).then_some(coverage.since),
            base: state.manifest,
            is_damaged: state.is_damaged,
            days: &days.collect::<Result<Vec<_>, StoreError>>()?,
        };
        let outcome = self.write_if_valid(conn, project, |conn| {
            segments::write(conn, project.shard_key(), &write)
        })?;
        match outcome {
            Some(WriteOutcome::Written(manifest)) => {
                *state = CheckpointState {
                    manifest: Some(manifest),
                    written_at: Some(Instant::now()),
                    days: index.days.clone(),
                    ..CheckpointState::default()
                };
            }
            Some(WriteOutcome::Stale) => *state = CheckpointState::default(),
            Some(WriteOutcome::Superseded) | None => {}
        }
        Ok(())
    }

    /// Runs `write`, unless a person was deleted or the retention was changed after the index was built. It holds the
    /// project's lock, under which both happen.
    pub(super) fn write_if_valid<T>(
        &self,
        conn: &mut Conn,
        project: ProjectId,
        write: impl FnOnce(&mut Conn) -> Result<T, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        cohorts_store::transaction(conn, |conn| {
            projects::lock(conn, project)?;
            let row = projects::find(conn, project)?;
            let retention = row.map(|row| RetentionState {
                days: row.event_retention_days,
                changes: row.retention_changes,
            });
            let later = tombstones::since(conn, project.shard_key(), self.seq)?;
            if retention == Some(self.retention) && !later.has_deletions() {
                write(conn).map(Some)
            } else {
                Ok(None)
            }
        })
    }
}
