//! The work in the background: events beyond the head are written to segments, and crowded days are compacted.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use chrono::Utc;
use cohorts_store::outages::Outages;
use cohorts_store::segments::{self, SegmentHead};
use cohorts_store::tombstones::{self, Tombstones};
use cohorts_store::{Conn, Error, ProjectId, ShardKey, events, projects, scan, transaction};
use parking_lot::Mutex;

use super::compaction::{CROWD, SMALL_ROWS, compact};
use super::format;
use super::writer::{SegmentWrite, SegmentWriter};

/// The memory of the events of one write, in bytes.
const MAX_BYTES: usize = 64 << 20;
/// The time after which a run leaves the rest to the next run.
const RUN_LIMIT: Duration = Duration::from_secs(5);
/// As [`RUN_LIMIT`], for compaction, which no request waits for.
const COMPACTION_LIMIT: Duration = Duration::from_secs(1);
/// Crowded days that are found at once.
const DAYS: i64 = 100;

/// What the last run knew of each project.
#[derive(Default)]
pub struct SegmentUpkeep(Mutex<HashMap<ProjectId, Seen>>);

#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Seen {
    /// The log head and the head of the segments, if no segments were due at them.
    heads: (i64, i64),
    is_compact: bool,
}

impl SegmentUpkeep {
    /// Writes and compacts the segments of all projects that are due. A project that fails is due again at the next time.
    pub fn run(&self, conn: &mut Conn, outages: &Outages) -> Result<(), Error> {
        let start = Instant::now();
        let all = projects::all(conn)?;
        self.0.lock().retain(|project, _| all.contains(project));
        for project in all {
            if outages.affect(project) {
                continue;
            }
            let seen = self.0.lock().get(&project).copied().unwrap_or_default();
            match run_project(conn, project, seen, start) {
                Ok(seen) => drop(self.0.lock().insert(project, seen)),
                Err(Error::ProjectGone) => {}
                Err(cause) => {
                    let project = project.0;
                    log::warn!("project {project}: segments were not written, will retry: {cause}");
                }
            }
        }
        Ok(())
    }
}

fn run_project(
    conn: &mut Conn,
    project: ProjectId,
    mut seen: Seen,
    start: Instant,
) -> Result<Seen, Error> {
    let heads = heads(conn, project)?;
    if heads != seen.heads {
        let mut is_written = false;
        while write_due(conn, project)? {
            is_written = true;
            if start.elapsed() > RUN_LIMIT {
                return Ok(Seen::default());
            }
        }
        seen.is_compact &= !is_written;
        seen.heads = self::heads(conn, project)?;
        if is_claimed(&segments::head(conn, project.shard_key())?) {
            return Ok(Seen::default());
        }
    }
    if !seen.is_compact {
        seen.is_compact = compact_crowded(conn, project)?;
    }
    Ok(seen)
}

/// The log head, and the head of the segments.
fn heads(conn: &mut Conn, project: ProjectId) -> Result<(i64, i64), Error> {
    let shard_key = project.shard_key();
    let through = segments::head(conn, shard_key)?.through_seq;
    Ok((events::log_head(conn, shard_key)?, through))
}

fn is_claimed(head: &SegmentHead) -> bool {
    head.claimed_until.is_some_and(|until| until > Utc::now())
}

/// Writes some of the events beyond the head, if there are many. Returns whether it wrote any.
fn write_due(conn: &mut Conn, project: ProjectId) -> Result<bool, Error> {
    let shard_key = project.shard_key();
    let head = segments::head(conn, shard_key)?;
    if is_claimed(&head) || !SegmentWriter::is_due(conn, project)? {
        return Ok(false);
    }
    transaction(conn, |conn| {
        let head = segments::lock_head(conn, shard_key)?;
        // Another process may have written meanwhile.
        if is_claimed(&head) || !SegmentWriter::is_due(conn, project)? {
            return Ok(false);
        }
        let Some(mut writer) = SegmentWriter::begin(conn, project, MAX_BYTES)? else {
            return Ok(false);
        };
        let through = events::log_head(conn, shard_key)?;
        writer.add_rows(conn, through)?;
        Ok(writer.write(conn)? == SegmentWrite::Written)
    })
}

/// Compacts crowded days. Returns whether none is left.
fn compact_crowded(conn: &mut Conn, project: ProjectId) -> Result<bool, Error> {
    let (start, shard_key) = (Instant::now(), project.shard_key());
    let days = segments::crowded_days(conn, shard_key, (SMALL_ROWS, CROWD), DAYS)?;
    let mut has_merged = false;
    for (event, day) in &days {
        has_merged |= compact(conn, project, event, *day)?;
        if start.elapsed() > COMPACTION_LIMIT {
            return Ok(false);
        }
    }
    // Days with segments of very different sizes stay crowded.
    Ok(!has_merged || (days.len() as i64) < DAYS)
}

/// The names of events with damaged segments, or with segments that contain another number of events than the rows. Events
/// of deleted persons do not count.
pub fn mismatched_events(conn: &mut Conn, shard_key: ShardKey) -> Result<Vec<String>, Error> {
    let through = segments::head(conn, shard_key)?.through_seq;
    if through == 0 {
        return Ok(Vec::new());
    }
    let tombstones = tombstones::all(conn, shard_key)?;
    let mut names: BTreeSet<String> = segments::names(conn, shard_key)?.into_iter().collect();
    names.extend(scan::event_names(conn, shard_key)?);
    let mut mismatched = Vec::new();
    for name in names {
        let in_segments = count_events(conn, shard_key, &name, &tombstones)?;
        let in_rows = events::count_of_name(conn, shard_key, &name, through, i64::MIN)?;
        if in_segments != Some(in_rows) {
            mismatched.push(name);
        }
    }
    Ok(mismatched)
}

/// The number of events in the segments of a name, without those of deleted persons; `None` if a segment is damaged.
fn count_events(
    conn: &mut Conn,
    shard_key: ShardKey,
    name: &str,
    tombstones: &Tombstones,
) -> Result<Option<i64>, Error> {
    let mut count = 0;
    for size in segments::sizes(conn, shard_key, name, i64::MIN, None)? {
        let places = (size.place, size.place);
        for segment in segments::read(conn, shard_key, name, places, true)? {
            let Some(wide) = format::unpack_all(&segment) else {
                return Ok(None);
            };
            let block = if wide.block.persons().is_disjoint(&tombstones.retired) {
                wide.block
            } else {
                wide.block.resolved(|ordinal| tombstones.resolve(ordinal))
            };
            count += block.rows() as i64;
        }
    }
    Ok(Some(count))
}
