//! The order in which persons are listed: the newest first, and the higher ordinal first among persons of one instant.
//!
//! A bitmap knows nothing of this order. A ranking divides the persons of a project into buckets by their keys in this
//! order, so a page costs the same at any offset and with any number of persons: it counts on the bitmaps of the buckets,
//! and reads the orders of one or two of them. Rankings are stored (see [`stored`]), so a start reads the bitmaps, and the
//! persons written since. They share the memory budget with the index.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use cohorts_store::{Conn, ShardKey, events, rankings, scan, tombstones};
use parking_lot::Mutex;

mod buckets;
mod build;
mod checkpoint;
mod orders;
pub mod stored;
mod walk;

use super::cache::{Weight, lock_until, next_tick};
use super::memory::MemoryUse;
use super::read::RowCount;
use super::{IndexError, IndexResult};
pub use buckets::Ranking;
use build::Build;
pub use cohorts_store::rankings::RankKey;
use orders::Orders;
use stored::StoredState;
pub use walk::{PlacedPerson, RankPlace, RankedPersons};

/// The most persons of a step from a ranking to its successor.
const STEP_PERSONS: usize = if cfg!(test) { 1 << 8 } else { 1 << 16 };

/// The time and the memory that a caller may take.
pub struct RankingLimits<'a> {
    /// The latest instant at which the ranking must be there.
    pub deadline: Instant,
    /// The most bytes that all reads together may reserve.
    pub memory: u64,
    /// Counts the rows that are read.
    pub rows_read: &'a RowCount,
}

/// The rankings of all projects.
#[derive(Debug)]
pub struct RankingCache {
    projects: Mutex<HashMap<ShardKey, Arc<ProjectRanking>>>,
    memory: Arc<MemoryUse>,
    /// Whether an order was loaded since the last eviction.
    has_grown: Arc<AtomicBool>,
}

/// What the cache knows of a project.
#[derive(Debug)]
struct ProjectRanking {
    newest: Mutex<Option<Arc<Ranking>>>,
    /// The caller that makes the ranking, or writes it, holds the lock.
    making: Mutex<Making>,
    orders: Arc<Orders>,
    /// The tick of the last use.
    last_use: AtomicU64,
}

/// How far the making and the writing of a ranking are.
#[derive(Debug, Default)]
struct Making {
    build: Option<Build>,
    /// The version of the stored ranking that the one in memory builds upon.
    version: Option<i64>,
    /// The version of a stored ranking that is damaged, or that its writer may have given up.
    unusable: Option<i64>,
    /// Changes up to this sequence number are being written.
    writing_through: Option<i64>,
    /// When the stored ranking was last compared with the rows.
    checked: Option<Instant>,
}

impl ProjectRanking {
    fn new(shard_key: ShardKey, has_grown: &Arc<AtomicBool>) -> Self {
        Self {
            newest: Mutex::default(),
            making: Mutex::default(),
            orders: Arc::new(Orders::new(shard_key, has_grown)),
            last_use: AtomicU64::new(0),
        }
    }

    fn newest(&self) -> Option<Arc<Ranking>> {
        self.newest.lock().clone()
    }

    fn set(&self, ranking: &Arc<Ranking>) {
        *self.newest.lock() = Some(Arc::clone(ranking));
    }

    /// Forgets the ranking. The next reader loads it again.
    fn clear(&self, making: &mut Making) {
        *self.newest.lock() = None;
        self.orders.evict_before(u64::MAX);
        self.orders.forget_damaged();
        (making.version, making.writing_through) = (None, None);
    }
}

impl RankingCache {
    /// A cache that reserves the memory of builds from `memory`.
    pub fn new(memory: &Arc<MemoryUse>) -> Self {
        Self {
            projects: Mutex::default(),
            memory: Arc::clone(memory),
            has_grown: Arc::default(),
        }
    }

    /// The ranking of at least the persons that the connection sees; it may contain later ones. A caller that runs out of
    /// time leaves less to do for the next one.
    pub fn get(
        &self,
        conn: &mut Conn,
        shard_key: ShardKey,
        limits: &RankingLimits<'_>,
    ) -> IndexResult<Arc<Ranking>> {
        let head = events::log_head(conn, shard_key)?;
        let project = self.project(shard_key);
        project.last_use.store(next_tick(), Ordering::Relaxed);
        let current = || {
            let newest = project.newest();
            newest.filter(|ranking| ranking.complete_seq >= head)
        };
        if let Some(ranking) = current() {
            return Ok(ranking);
        }
        let mut making = lock_until(&project.making, limits.deadline)?;
        if let Some(ranking) = current() {
            return Ok(ranking);
        }
        self.make(conn, &project, &mut making, head, limits)
    }

    /// Brings the ranking of a project to sequence number `head`, which the connection sees.
    fn make(
        &self,
        conn: &mut Conn,
        project: &ProjectRanking,
        making: &mut Making,
        head: i64,
        limits: &RankingLimits<'_>,
    ) -> IndexResult<Arc<Ranking>> {
        let mut ranking = match project.newest() {
            Some(ranking) => ranking,
            None => Arc::new(self.load(conn, project, making, limits)?),
        };
        split_large(conn, &mut ranking, limits)?;
        project.set(&ranking);
        while ranking.seq < head {
            check_time(limits)?;
            ranking = Arc::new(step(conn, &ranking, head, limits.rows_read)?);
            split_large(conn, &mut ranking, limits)?;
            project.set(&ranking);
        }
        if ranking.complete_seq < head {
            // The ranking is at a step of a caller that sees more, so this caller adds what it sees itself.
            let own = changed(
                conn,
                &ranking,
                (ranking.complete_seq, head),
                limits.rows_read,
            )?;
            return Ok(Arc::new(own));
        }
        Ok(ranking)
    }

    #[cfg(test)]
    pub fn step_once(&self, conn: &mut Conn, shard_key: ShardKey) -> Arc<Ranking> {
        let project = self.project(shard_key);
        let (ranking, rows_read) = (project.newest().unwrap(), RowCount::default());
        let head = events::log_head(conn, shard_key).unwrap();
        let ranking = step(conn, &ranking, head, &rows_read);
        let ranking = Arc::new(ranking.map_err(|cause| cause.to_string()).unwrap());
        project.set(&ranking);
        ranking
    }

    /// Loads the stored ranking, or builds one from rows.
    fn load(
        &self,
        conn: &mut Conn,
        project: &ProjectRanking,
        making: &mut Making,
        limits: &RankingLimits<'_>,
    ) -> IndexResult<Ranking> {
        let shard_key = project.orders.shard_key;
        if making.build.is_none() {
            match stored::load(conn, &project.orders)? {
                StoredState::Valid { version, ranking } => {
                    making.version = Some(version);
                    return Ok(ranking);
                }
                StoredState::Damaged(version) => making.unusable = Some(version),
                StoredState::Missing => {}
            }
            making.build = Some(Build::begin(conn, shard_key, &self.memory)?);
        }
        if let Some(build) = &mut making.build {
            while !build.is_done() {
                check_time(limits)?;
                build.step(conn, limits.memory, limits.rows_read)?;
            }
        }
        let build = making.build.take().map(Ok);
        let build = build.unwrap_or_else(|| Build::begin(conn, shard_key, &self.memory))?;
        making.version = None;
        Ok(build.finish(&project.orders))
    }

    fn project(&self, shard_key: ShardKey) -> Arc<ProjectRanking> {
        let mut projects = self.projects.lock();
        let project = projects.entry(shard_key);
        let new = || Arc::new(ProjectRanking::new(shard_key, &self.has_grown));
        Arc::clone(project.or_insert_with(new))
    }

    fn all(&self) -> Vec<Arc<ProjectRanking>> {
        self.projects.lock().values().cloned().collect()
    }

    /// The memory of everything except the orders, in bytes.
    pub fn base_bytes(&self) -> u64 {
        let newest = self
            .all()
            .into_iter()
            .filter_map(|project| project.newest());
        newest.map(|ranking| ranking.bytes()).sum()
    }

    /// The memory of each order.
    pub fn weights(&self) -> Vec<Weight> {
        let projects = self.all().into_iter();
        projects
            .flat_map(|project| project.orders.weights())
            .collect()
    }

    /// Whether an order was loaded since the last call.
    pub fn take_has_grown(&self) -> bool {
        self.has_grown.swap(false, Ordering::Relaxed)
    }

    /// Evicts the orders that were last used before `tick`.
    pub fn evict_before(&self, tick: u64) {
        for project in self.all() {
            project.orders.evict_before(tick);
        }
    }

    /// Evicts the least recently used rankings until `bytes` are free. One that is being made stays.
    pub fn evict_projects(&self, mut bytes: u64) {
        let mut projects = self.all();
        projects.sort_by_key(|project| project.last_use.load(Ordering::Relaxed));
        for project in projects {
            if bytes == 0 {
                break;
            }
            if let Some(mut making) = project.making.try_lock()
                && let Some(ranking) = project.newest()
            {
                project.clear(&mut making);
                bytes = bytes.saturating_sub(ranking.bytes());
            }
        }
    }
}

fn check_time(limits: &RankingLimits<'_>) -> IndexResult<()> {
    if Instant::now() < limits.deadline {
        Ok(())
    } else {
        Err(IndexError::TimedOut)
    }
}

/// The successor of a ranking, nearer to sequence number `head`, which the connection sees.
fn step(
    conn: &mut Conn,
    ranking: &Ranking,
    head: i64,
    rows_read: &RowCount,
) -> IndexResult<Ranking> {
    let shard_key = ranking.orders.shard_key;
    let end = rankings::step_end(conn, shard_key, (ranking.seq, head), STEP_PERSONS)?;
    let mut next = changed(conn, ranking, (ranking.seq, end), rows_read)?;
    if end < head {
        next.complete_seq = ranking.complete_seq;
    }
    Ok(next)
}

/// The ranking with the persons that were last written in a span of the log, and without those retired since.
fn changed(
    conn: &mut Conn,
    ranking: &Ranking,
    span: (i64, i64),
    rows_read: &RowCount,
) -> IndexResult<Ranking> {
    let shard_key = ranking.orders.shard_key;
    let mut written = Vec::new();
    scan::changed_persons(conn, shard_key, span, &[], |person| {
        written.push(RankKey {
            created_at: person.created_at,
            ordinal: person.ordinal,
        });
        Ok::<_, IndexError>(())
    })?;
    rows_read.fetch_add(written.len() as u64, Ordering::Relaxed);
    let retired = tombstones::since(conn, shard_key, span.0)?.retired;
    let edits = ranking.edits(&written, &retired);
    Ok(ranking.edited(span.1.max(ranking.seq), edits))
}

/// Splits the buckets that are too large.
fn split_large(
    conn: &mut Conn,
    ranking: &mut Arc<Ranking>,
    limits: &RankingLimits<'_>,
) -> IndexResult<()> {
    let large: Vec<u64> = (ranking.buckets.iter())
        .filter(|bucket| bucket.is_large())
        .map(|bucket| bucket.id)
        .collect();
    for id in large {
        let Some(at) = ranking.buckets.iter().position(|bucket| bucket.id == id) else {
            continue;
        };
        let bucket = &ranking.buckets[at];
        let orders = &ranking.orders;
        let (order, is_exact) = orders.get_checked(conn, ranking, bucket, limits.deadline)?;
        if is_exact {
            *ranking = Arc::new(ranking.split(at, &order));
        }
    }
    Ok(())
}
