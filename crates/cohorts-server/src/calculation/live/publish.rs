//! Publishes all cohorts that a pass has changed, in two commits: first the chunks and the changes, then the versions by
//! which readers see them.
//!
//! Between the snapshot and the second commit, persons may be merged or deleted, and cohorts may be edited or claimed by
//! the queue. Such a cohort is left out, and the next pass evaluates it again from its earlier position.

use std::time::Duration;

use chrono::Utc;
use cohorts_store::changes::{self, NewMembers, StagedMembers};
use cohorts_store::live::{self, LiveMembers, LiveRow};
use cohorts_store::{CohortId, ShardKey};
use cohorts_store::{Conn, Error, events, postpone_flush, queue, tombstones, transaction};

use super::evaluate::{ChangedCohort, PassResult};
use super::project::LiveProject;
use super::state::text_of;
use super::{LivePasses, time_of};
use crate::kill_points::KillPoint;
use cohorts_store::changes::Cause;

/// The members of one project take at most this part of the memory budget.
const MEMBERS_SHARE: u64 = 4;

/// The outcome of a pass.
#[derive(Default)]
pub struct PassOutcome {
    /// The ids of the published cohorts.
    pub changed: Vec<i64>,
    /// Whether a cohort was left out.
    pub is_partial: bool,
    /// Whether another process makes the passes now.
    pub is_lost: bool,
    /// For each cohort that time has changed, the time since the instant of the change.
    pub lags: Vec<Duration>,
}

/// A changed cohort with written chunks.
struct WrittenCohort {
    changed: ChangedCohort,
    staged: StagedMembers,
    attempt: i64,
}

/// Publishes the changed cohorts, includes new ones in the passes, and hands those over to the queue that need a full
/// evaluation. Calls `between` between the two commits.
pub fn publish(
    passes: &LivePasses,
    conn: &mut Conn,
    live: &mut LiveProject,
    evaluated: PassResult,
    between: impl Fn(),
) -> Result<PassOutcome, Error> {
    let PassResult {
        reached,
        changed,
        fallen,
        ..
    } = evaluated;
    let mut publication = PassOutcome::default();
    for (id, reason) in fallen {
        passes.metrics.fallen(reason);
        fall(conn, live, id, reason)?;
        passes.store.signals.looks.soon();
    }
    let changed_ids: Vec<i64> = changed.iter().map(|changed| changed.id).collect();
    let new = live.cohorts.values().filter(|cohort| !cohort.row.is_live);
    let new = new.filter(|cohort| !changed_ids.contains(&cohort.row.id));
    let joining: Vec<(i64, i64)> = new
        .map(|cohort| (cohort.row.id, cohort.row.attempt))
        .collect();
    if !(changed.is_empty() && joining.is_empty()) {
        let bytes = changed
            .iter()
            .map(|changed| changed.after.serialized_size());
        let _memory = passes.store.caches.index.reserve(bytes.sum());
        let (written, log_head) = write_chunks(conn, live, changed, reached.seq)?;
        between();
        KillPoint::PassBetweenCommits.reached();
        let outcome = publish_versions(passes, conn, live, written, &joining, log_head)?;
        let Some((published, left_out)) = outcome else {
            publication.is_lost = true;
            return Ok(publication);
        };
        KillPoint::PassPublished.reached();
        publication.is_partial = left_out || published.len() < changed_ids.len();
        for (id, _) in joining {
            if let Some(cohort) = live.cohorts.get_mut(&id) {
                cohort.row.is_live = true;
            }
        }
        let shard_key = live.project().shard_key();
        let staged: Vec<StagedMembers> = published
            .iter()
            .map(|written| written.staged.clone())
            .collect();
        for written in published {
            publication.changed.push(written.changed.id);
            publication.lags.extend(settle(live, written));
        }
        if !staged.is_empty() {
            passes.store.signals.changed(live.project());
            // The rows stay until the next change of their chunks if this is lost.
            transaction(conn, |conn| {
                postpone_flush(conn)?;
                changes::prune_all(conn, shard_key, &staged)
            })?;
        }
    }
    live.settle(reached);
    let cache = &passes.store.caches.index;
    let bytes = live.limit_members(cache.budget() / MEMBERS_SHARE);
    live.set_memory(cache.reserve(bytes));
    Ok(publication)
}

/// Hands a cohort over to the queue. If this repeats soon, the queue waits.
fn fall(conn: &mut Conn, live: &mut LiveProject, id: i64, reason: &str) -> Result<(), Error> {
    let project = live.project().0;
    log::info!("project {project}: cohort {id} is evaluated fully ({reason})");
    let pause = live.leave(id);
    live::leave(conn, id, Utc::now() + pause)?;
    if pause.is_zero() {
        queue::request_if_idle(conn, &[id])?;
    }
    Ok(())
}

/// Whether nothing but passes has changed the cohort since the rows were read.
fn is_same(row: Option<&LiveRow>, version: i64, attempt: i64) -> bool {
    row.is_some_and(|row| {
        row.member_version == version
            && row.attempt == attempt
            && !row.is_calculating
            && !row.deleted
            && !row.is_static
    })
}

/// Writes the chunks that differ from the published ones, and the changes. Returns the log head at that time.
fn write_chunks(
    conn: &mut Conn,
    live: &LiveProject,
    changed: Vec<ChangedCohort>,
    seen_seq: i64,
) -> Result<(Vec<WrittenCohort>, i64), Error> {
    if changed.is_empty() {
        return Ok((Vec::new(), seen_seq));
    }
    let shard_key = live.project().shard_key();
    transaction(conn, |conn| {
        postpone_flush(conn)?;
        let ids: Vec<i64> = changed.iter().map(|changed| changed.id).collect();
        let rows = live::lock(conn, &ids)?;
        let log_head = events::log_head(conn, shard_key)?;
        let tombstones = tombstones::since(conn, shard_key, seen_seq)?;
        let mut kept = Vec::new();
        for mut changed in changed {
            let known = &live.cohorts[&changed.id].row;
            if !is_same(rows.get(&changed.id), known.member_version, known.attempt) {
                continue;
            }
            // Persons that were deleted or merged since the snapshot must not come back.
            if !tombstones.retired.is_disjoint(&changed.after) {
                changed.after = tombstones.resolved(&changed.after);
            }
            kept.push((changed, known.attempt));
        }
        let new: Vec<NewMembers<'_>> = kept
            .iter()
            .map(|(changed, attempt)| NewMembers {
                cohort: CohortId(changed.id),
                base: live.cohorts[&changed.id].row.member_version,
                attempt: *attempt,
                before: &changed.before,
                after: &changed.after,
            })
            .collect();
        let staged = changes::stage(conn, shard_key, &new)?;
        drop(new);
        KillPoint::PassStaged.reached();
        let written = kept.into_iter().zip(staged);
        let written = written.map(|((changed, attempt), staged)| WrittenCohort {
            changed,
            staged,
            attempt,
        });
        Ok((written.collect(), log_head))
    })
}

/// Publishes the written cohorts that are still the same, and includes others in the passes. Returns the published ones, and
/// whether one was left out; or `None` if another process makes the passes.
fn publish_versions(
    passes: &LivePasses,
    conn: &mut Conn,
    live: &LiveProject,
    written: Vec<WrittenCohort>,
    joining: &[(i64, i64)],
    log_head: i64,
) -> Result<Option<(Vec<WrittenCohort>, bool)>, Error> {
    let (project, shard_key) = (live.project(), live.project().shard_key());
    transaction(conn, |conn| {
        if !live::hold(conn, project, passes.holder.owner)? {
            return Ok(None);
        }
        let ids = written.iter().map(|written| written.changed.id);
        let ids: Vec<i64> = ids.chain(joining.iter().map(|(id, _)| *id)).collect();
        let rows = live::lock(conn, &ids)?;
        let retired = tombstones::since(conn, shard_key, log_head)?.retired;
        let count = written.len();
        let is_current = |written: &WrittenCohort| {
            let row = rows.get(&written.changed.id);
            is_same(row, written.staged.base, written.attempt)
                && retired.is_disjoint(&written.changed.after)
        };
        let published: Vec<WrittenCohort> = written.into_iter().filter(is_current).collect();
        live::join(conn, joining)?;
        publish_all(conn, shard_key, &published)?;
        KillPoint::PassNumbered.reached();
        let left_out = published.len() < count;
        Ok(Some((published, left_out)))
    })
}

/// Sets the versions of locked cohorts. The head of the change log is the last lock.
fn publish_all(
    conn: &mut Conn,
    shard_key: ShardKey,
    published: &[WrittenCohort],
) -> Result<(), Error> {
    let Some(first) = published.first() else {
        return Ok(());
    };
    let members = published.iter().map(|written| LiveMembers {
        cohort: written.changed.id,
        version: written.staged.version,
        count: written.staged.count,
        evaluation: text_of(&written.changed.state),
    });
    let members: Vec<LiveMembers> = members.collect();
    let position = first.changed.state.position;
    live::publish(conn, &members, time_of(position), position.seq)?;
    let staged = published.iter();
    let staged: Vec<(&StagedMembers, Cause)> = staged
        .map(|written| (&written.staged, written.changed.cause))
        .collect();
    changes::publish(conn, shard_key, &staged)
}

/// Brings the cohort in memory to what was published. Returns the time since time alone has changed it.
fn settle(live: &mut LiveProject, written: WrittenCohort) -> Option<Duration> {
    let WrittenCohort {
        changed, staged, ..
    } = written;
    let cohort = live.cohorts.get_mut(&changed.id)?;
    let due = cohort.next_change.take();
    cohort.row.member_version = staged.version;
    cohort.row.attempt = cohort.row.attempt.max(staged.version);
    cohort.row.is_live = true;
    cohort.stored = changed.state.position;
    cohort.state = changed.state;
    cohort.members = Some(changed.after);
    let due = due.filter(|_| changed.cause == Cause::Time)?;
    let lag = Utc::now().timestamp_micros().saturating_sub(due);
    Some(Duration::from_micros(lag.max(0).unsigned_abs()))
}
