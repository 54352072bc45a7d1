//! Writes rankings next to the rows: the buckets that have changed, each in a transaction of its own.
//!
//! A round writes the changes up to a sequence number, and takes a limited time of each call. When it ends, the stored
//! ranking is complete up to that number. If another process has written meanwhile, the ranking in memory is dropped, and
//! the next reader loads that of the other process.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cohorts_store::outages::Outages;
use cohorts_store::rankings::{self, Begin, RankKey, StoredBucket, StoredRanking};
use cohorts_store::{
    Conn, Error as StoreError, ShardKey, persons as person_rows, projects, tombstones,
};

use super::super::cache::lock_until;
use super::super::{IndexError, IndexResult};
use super::buckets::{Bucket, Ranking};
use super::orders::Order;
use super::stored::{pack_keys, pack_ordinals};
use super::{Making, ProjectRanking, RankingCache, RankingLimits};

/// Smaller rankings are built from the rows as fast as from a checkpoint.
const MIN_PERSONS: u64 = if cfg!(test) { 300 } else { 10_000 };
/// A round begins when one person in this many has changed, or this many persons.
const PERSONS_PER_CHANGE: u64 = 100;
const MANY_CHANGES: u64 = 50_000;
/// The pause between two looks at what has changed.
const CHECK_EVERY: Duration = if cfg!(test) {
    Duration::ZERO
} else {
    Duration::from_secs(60)
};
/// The time of one call for each project.
const TIME_LIMIT: Duration = Duration::from_secs(3);

/// Whether a round goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RoundProgress {
    Wrote,
    /// No bucket has changes of the round.
    AllWritten,
    /// The round goes on at the next call.
    Interrupted,
    /// Another process has written; the ranking in memory must be dropped.
    Superseded,
}

impl RankingCache {
    /// Writes the rankings that are due: those in memory, and those of the projects with the index in memory, which are
    /// given with the numbers of their persons. A failure does not keep the others from being written.
    pub fn write_checkpoints(
        &self,
        conn: &mut Conn,
        memory: u64,
        indexed: &HashMap<ShardKey, u64>,
        outages: &Outages,
    ) {
        for shard_key in indexed.keys() {
            self.project(*shard_key);
        }
        for project in self.all() {
            if outages.affect(project.orders.shard_key.project()) {
                continue;
            }
            let indexed = indexed.get(&project.orders.shard_key).copied();
            let rows_read = Arc::default();
            let limits = RankingLimits {
                deadline: Instant::now() + TIME_LIMIT,
                memory,
                rows_read: &rows_read,
            };
            match self.write_checkpoint(conn, &project, indexed, &limits) {
                // The rest is written at the next call.
                Ok(()) | Err(IndexError::TimedOut) => {}
                Err(IndexError::Store(StoreError::ProjectGone)) => {
                    self.projects.lock().remove(&project.orders.shard_key);
                }
                Err(cause) => log::warn!(
                    "the ranking of shard key {} is not stored, will retry: {cause}",
                    project.orders.shard_key.0
                ),
            }
        }
    }

    fn write_checkpoint(
        &self,
        conn: &mut Conn,
        project: &ProjectRanking,
        indexed: Option<u64>,
        limits: &RankingLimits<'_>,
    ) -> IndexResult<()> {
        let shard_key = project.orders.shard_key;
        let ranked = project.newest().map(|ranking| ranking.all.len());
        let persons = ranked.or(indexed).unwrap_or(0);
        if persons < MIN_PERSONS || !is_due(conn, project, persons, ranked.is_some())? {
            return Ok(());
        }
        cohorts_store::snapshot(conn, |conn| self.get(conn, shard_key, limits))?;
        loop {
            let mut making = lock_until(&project.making, limits.deadline)?;
            let progress = match project.newest() {
                None => RoundProgress::Interrupted,
                Some(_) if Instant::now() >= limits.deadline => RoundProgress::Interrupted,
                Some(ranking) => Round {
                    project,
                    making: &mut making,
                    ranking,
                    deadline: limits.deadline,
                }
                .write_next(conn)?,
            };
            match progress {
                RoundProgress::Wrote => {}
                RoundProgress::Superseded => {
                    project.clear(&mut making);
                    return Ok(());
                }
                RoundProgress::AllWritten | RoundProgress::Interrupted => return Ok(()),
            }
        }
    }
}

/// Whether a round goes on or begins: a start applies a few changed persons from their rows.
fn is_due(
    conn: &mut Conn,
    project: &ProjectRanking,
    persons: u64,
    is_in_memory: bool,
) -> IndexResult<bool> {
    let Some(mut making) = project.making.try_lock() else {
        return Ok(false);
    };
    let is_recent = |checked: Instant| checked.elapsed() < CHECK_EVERY;
    if making.writing_through.is_some() {
        return Ok(true);
    }
    if making.checked.is_some_and(is_recent) && !project.orders.has_damaged() {
        return Ok(false);
    }
    let shard_key = project.orders.shard_key;
    let stored = rankings::find(conn, shard_key)?;
    let is_known = |version| !is_in_memory || making.version == Some(version);
    let is_due = match stored {
        Some(StoredRanking {
            through_seq: Some(seq),
            version,
            ..
        }) if is_known(version) => {
            let many = (persons / PERSONS_PER_CHANGE).clamp(1, MANY_CHANGES);
            project.orders.has_damaged()
                || person_rows::at_least_changed(conn, shard_key, seq, many as i64)?
        }
        _ => true,
    };
    if !is_due {
        making.checked = Some(Instant::now());
    }
    Ok(is_due)
}

/// A round of a project, with the lock of its maker.
struct Round<'a> {
    project: &'a ProjectRanking,
    making: &'a mut Making,
    ranking: Arc<Ranking>,
    deadline: Instant,
}

impl Round<'_> {
    /// Writes the next buckets, or ends the round.
    fn write_next(mut self, conn: &mut Conn) -> IndexResult<RoundProgress> {
        let Some(version) = self.making.version else {
            return self.begin(conn);
        };
        let through = *(self.making.writing_through).get_or_insert(self.ranking.seq);
        let orders = &self.ranking.orders;
        let is_unsaved = |bucket: &&Arc<Bucket>| {
            bucket.unsaved_since.is_some_and(|since| since < through) || orders.is_damaged(bucket)
        };
        let unsaved = self.ranking.buckets.iter().find(is_unsaved).cloned();
        match unsaved {
            Some(bucket) => self.write_group(conn, version, &bucket),
            None => self.end(conn, version),
        }
    }

    /// Begins a stored ranking without buckets.
    fn begin(&mut self, conn: &mut Conn) -> IndexResult<RoundProgress> {
        let unusable = self.making.unusable;
        let begun = self.write(conn, |conn, ranking| {
            rankings::begin(conn, ranking.orders.shard_key, unusable)
        })?;
        Ok(match begun {
            None => RoundProgress::Interrupted,
            Some(Begin::Begun(version)) => {
                (self.making.version, self.making.unusable) = (Some(version), None);
                self.forget_stored();
                RoundProgress::Wrote
            }
            Some(Begin::Taken(stored)) if stored.through_seq.is_some() => RoundProgress::Superseded,
            Some(Begin::Taken(stored)) => {
                // If its version is the same at the next call, the other process has given up.
                self.making.unusable = Some(stored.version);
                RoundProgress::Interrupted
            }
        })
    }

    /// Makes all buckets unsaved.
    fn forget_stored(&mut self) {
        let buckets = self.ranking.buckets.iter().map(|bucket| bucket.unsaved());
        let ranking = self.ranking.with_saved(buckets.collect());
        self.project.set(&Arc::new(ranking));
    }

    /// Writes a bucket, and all others that are stored with it, in place of the stored one.
    fn write_group(
        &mut self,
        conn: &mut Conn,
        version: i64,
        bucket: &Arc<Bucket>,
    ) -> IndexResult<RoundProgress> {
        let group: Vec<&Arc<Bucket>> = match bucket.source {
            None => vec![bucket],
            Some(_) => {
                let is_in_group = |other: &&Arc<Bucket>| other.source == bucket.source;
                self.ranking.buckets.iter().filter(is_in_group).collect()
            }
        };
        let mut rows = Vec::new();
        for bucket in &group {
            let Some(order) = self.order(conn, bucket)? else {
                return Ok(RoundProgress::Interrupted);
            };
            rows.push(StoredBucket {
                start: bucket.start,
                through_seq: self.ranking.seq,
                ordinals: pack_ordinals(&bucket.ordinals)?,
                keys: pack_keys(&order)?,
            });
        }
        let written = match self.unchanged(conn, bucket.source, &rows)? {
            Some(row) => {
                rows = vec![row];
                Some(Some(version))
            }
            None => self.write(conn, |conn, ranking| {
                let shard_key = ranking.orders.shard_key;
                rankings::write(conn, shard_key, version, bucket.source, &rows)
            })?,
        };
        let next = match written {
            None => return Ok(RoundProgress::Interrupted),
            Some(None) => return Ok(RoundProgress::Superseded),
            Some(Some(version)) => version,
        };
        let saved = group.iter().zip(&rows);
        let saved = saved.map(|(bucket, row)| bucket.saved(row.start, row.through_seq));
        let saved = self.ranking.with_saved(saved.collect());
        if let Some(source) = bucket.source {
            self.ranking.orders.set_intact(source);
        }
        self.making.version = Some(next);
        self.project.set(&Arc::new(saved));
        Ok(RoundProgress::Wrote)
    }

    /// The order of a bucket, if the connection sees exactly that of the ranking.
    fn order(&self, conn: &mut Conn, bucket: &Bucket) -> IndexResult<Option<Order>> {
        let (ranking, deadline) = (&self.ranking, self.deadline);
        let (order, is_exact) = cohorts_store::snapshot(conn, |conn| {
            ranking.orders.get_checked(conn, ranking, bucket, deadline)
        })?;
        Ok(is_exact.then_some(order))
    }

    /// The stored bucket at `source`, if it is intact and the only row to write has the same contents.
    fn unchanged(
        &self,
        conn: &mut Conn,
        source: Option<RankKey>,
        rows: &[StoredBucket],
    ) -> IndexResult<Option<StoredBucket>> {
        let ([row], Some(source)) = (rows, source) else {
            return Ok(None);
        };
        let stored = rankings::bucket(conn, self.ranking.orders.shard_key, source)?;
        Ok(stored.filter(|stored| {
            stored.start == row.start && stored.ordinals == row.ordinals && stored.keys == row.keys
        }))
    }

    /// Records that the stored buckets have all changes of the round.
    fn end(&mut self, conn: &mut Conn, version: i64) -> IndexResult<RoundProgress> {
        let ended = self.write(conn, |conn, ranking| {
            let shard_key = ranking.orders.shard_key;
            rankings::complete(conn, shard_key, version, ranking.saved_through())
        })?;
        Ok(match ended {
            None => RoundProgress::Interrupted,
            Some(None) => RoundProgress::Superseded,
            Some(version) => {
                self.making.version = version;
                self.ranking.orders.forget_damaged();
                (self.making.writing_through, self.making.checked) = (None, Some(Instant::now()));
                RoundProgress::AllWritten
            }
        })
    }

    /// Runs `write` in a transaction with the lock of the project, unless persons were deleted that the ranking has.
    fn write<T>(
        &self,
        conn: &mut Conn,
        write: impl FnOnce(&mut Conn, &Ranking) -> Result<T, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        let (ranking, shard_key) = (&*self.ranking, self.ranking.orders.shard_key);
        cohorts_store::transaction(conn, |conn| {
            projects::lock(conn, shard_key.project())?;
            let later = tombstones::since(conn, shard_key, ranking.seq)?;
            if later.has_deletions() {
                return Ok(None);
            }
            write(conn, ranking).map(Some)
        })
    }
}
