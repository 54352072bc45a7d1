//! All SQL of Cohorts: the pools of connections, transactions, migrations, and one module per table family.
//!
//! A function takes a connection as its first argument and returns plain rows. Absence is [`Option`], never an error.
//! Nothing here depends on the types of the API, on HTTP, or on the time of a request. Filters never become SQL text.
//! The crate's README describes the tables, and DECISIONS.md the reasons.

#![warn(missing_docs)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use diesel::Connection;
use diesel::RunQueryDsl;
use diesel::pg::PgConnection;
use prometheus::IntCounter;
use quick_cache::sync::Cache;

pub mod actions;
pub mod activity;
mod activity_log;
pub mod changes;
pub mod cohorts;
pub mod columns;
pub mod console_codes;
pub mod definition;
pub mod definitions;
pub mod distribution;
pub mod erasures;
mod error;
pub mod events;
pub mod frames;
#[cfg(test)]
mod golden;
pub mod health;
pub mod hints;
pub mod history;
pub mod idempotency;
mod json;
pub mod key_cache;
pub mod keys;
mod lanes;
pub mod latest_events;
pub mod live;
pub mod members;
mod migrate;
pub mod ordinals;
pub mod outages;
pub mod pages;
pub mod person_events;
pub mod persons;
#[cfg(test)]
mod plans;
mod pool;
pub mod project_deletion;
pub mod projects;
pub mod purge;
pub mod queue;
pub mod rankings;
pub mod scan;
mod schema;
#[cfg(test)]
mod schema_rules;
pub mod segments;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod tombstones;
pub mod uncertain;
pub mod uploads;
pub mod webhooks;

pub use error::{Result, StoreError, StoreError as Error};
pub use json::JsonText;
use lanes::Lanes;
pub use lanes::{Lane, MAX_CONNECTIONS};
pub use pool::PooledConn;

/// The connection that every function of the store works on.
pub type Conn = PgConnection;

/// Rows of one INSERT.
const INSERT_ROWS: usize = 1_000;
/// The most rows that an INSERT writes instead of a COPY. On a distributed Postgres, a COPY makes the commit two-phase.
const FEW_ROWS: usize = 1_000;
/// Capture tokens in the cache, about.
const TOKENS: usize = 10_000;
/// How long a cached token is used without a look-up. Another process may delete its project meanwhile, which a writer
/// notices before it writes.
const TOKEN_LIFETIME: Duration = Duration::from_secs(10);

/// The number of shard keys of a project. Only the first is used.
const STRIPES: i64 = 65_536;

/// The id of a project.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProjectId(pub i64);

/// The id of a cohort.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CohortId(pub i64);

/// The first part of every key of the person tables; a distributed Postgres shards them by it.
///
/// A project has one shard key while it has one stripe: `project × 65,536 + stripe`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShardKey(pub i64);

impl ShardKey {
    /// The project of the shard key.
    pub fn project(self) -> ProjectId {
        ProjectId(self.0.div_euclid(STRIPES))
    }
}

impl ProjectId {
    /// The shard key of the project. No other code computes one.
    pub fn shard_key(self) -> ShardKey {
        ShardKey(self.0 * STRIPES)
    }
}

/// The open database: the pools of connections, ordinals reserved ahead, and the cache of capture tokens.
///
/// Clones share everything. Each clone takes its connections from one lane.
#[derive(Clone)]
pub struct Store {
    url: Arc<str>,
    lanes: Lanes,
    lane: Lane,
    /// Person ordinals that this process has reserved and not used yet.
    pub ordinals: Arc<ordinals::Ordinals>,
    /// The workers of a distributed Postgres that do not respond.
    pub outages: Arc<outages::Outages>,
    /// Projects with a transaction of unknown outcome.
    pub uncertain: Arc<uncertain::UncertainProjects>,
    /// The keys that were looked up a moment ago.
    pub keys: Arc<key_cache::KeyCache>,
    tokens: Arc<Cache<String, (ProjectId, Instant)>>,
    /// Whether the database has pg_trgm, so that searches also find similar names.
    pub has_trigrams: bool,
    /// Statements sent to the database by this process.
    pub statements: IntCounter,
}

/// How many connections a lane has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionCounts {
    /// Connections that code works on now.
    pub in_use: u32,
    /// All open connections.
    pub open: u32,
}

impl Store {
    /// Connects to the database of a libpq URL, checks the server's version and runs the pending migrations.
    ///
    /// The store takes its connections from [`Lane::Background`].
    ///
    /// # Errors
    ///
    /// Fails if the database cannot be reached, is older than PostgreSQL 14, or was created by a development build
    /// before version 0.1.0; or if other sessions lock a table that a migration changes, for several minutes.
    pub fn open(url: &str) -> anyhow::Result<Self> {
        let has_trigrams = migrate::migrate(url)?;
        let statements = IntCounter::new(
            "cohorts_database_statements_total",
            "Statements sent to the database.",
        )?;
        let lane = Lane::Background;
        Ok(Self {
            url: Arc::from(url),
            lanes: Lanes::open(url, &statements, lane)?,
            lane,
            ordinals: Arc::default(),
            outages: Arc::default(),
            uncertain: Arc::default(),
            keys: Arc::default(),
            tokens: Arc::new(Cache::new(TOKENS)),
            has_trigrams,
            statements,
        })
    }

    /// The same store with the connections of another lane.
    pub fn in_lane(&self, lane: Lane) -> Self {
        Self {
            lane,
            ..self.clone()
        }
    }

    /// Takes a connection of the lane; waits some seconds for a free one.
    ///
    /// # Errors
    ///
    /// [`StoreError::Busy`] if no connection becomes free in that time; [`StoreError::Unavailable`] if the database
    /// cannot be reached.
    pub fn connection(&self) -> Result<PooledConn> {
        self.lanes.connection(self.lane)
    }

    /// The project of a capture token. A token never moves to another project, but its project may have been deleted in
    /// the last ten seconds: then [`events::begin_write`] fails with [`StoreError::ProjectGone`].
    ///
    /// # Errors
    ///
    /// Fails if the database fails.
    pub fn project_of_token(&self, token: &str) -> Result<Option<ProjectId>> {
        if let Some((project, read_at)) = self.tokens.get(token)
            && read_at.elapsed() < TOKEN_LIFETIME
        {
            return Ok(Some(project));
        }
        let read_at = Instant::now();
        let conn = &mut *self.lanes.connection(Lane::Authorization)?;
        let project = projects::find_by_token(conn, token)?;
        let id = project.map(|project| project.id());
        match id {
            Some(id) => self.tokens.insert(token.to_owned(), (id, read_at)),
            None => drop(self.tokens.remove(token)),
        }
        Ok(id)
    }

    /// How many connections of a lane are open and in use.
    pub fn connections(&self, lane: Lane) -> ConnectionCounts {
        self.lanes.counts(lane)
    }
}

/// What ends a transaction early: its work, or the database at BEGIN or COMMIT.
enum Abort<E> {
    Work(E),
    Database(StoreError),
}

impl<E> From<diesel::result::Error> for Abort<E> {
    fn from(cause: diesel::result::Error) -> Self {
        Self::Database(cause.into())
    }
}

impl<E: From<StoreError>> Abort<E> {
    fn into_cause(self) -> E {
        match self {
            Self::Work(cause) => cause,
            Self::Database(cause) => cause.into(),
        }
    }
}

/// Runs `work` in one transaction; an error rolls everything back. Nested calls are savepoints.
///
/// # Errors
///
/// Returns the error of `work`, or the database's own if BEGIN or COMMIT fails.
pub fn transaction<T, E: From<StoreError>>(
    conn: &mut Conn,
    work: impl FnOnce(&mut Conn) -> std::result::Result<T, E>,
) -> std::result::Result<T, E> {
    conn.transaction(|conn| work(conn).map_err(Abort::Work))
        .map_err(Abort::into_cause)
}

/// Does not wait for the disk at the end of this transaction. A crash may lose it, but no later transaction without it.
///
/// This fits a transaction that means nothing without a later one, and one that may be repeated. The nodes of a distributed
/// Postgres have logs of their own, so there the transaction waits.
///
/// # Errors
///
/// Fails if the database fails.
pub fn postpone_flush(conn: &mut Conn) -> Result<()> {
    diesel::sql_query(POSTPONE_FLUSH).execute(conn)?;
    Ok(())
}

pub(crate) const POSTPONE_FLUSH: &str = "\
    select set_config('synchronous_commit', 'off', true) \
    where not exists (select from pg_extension where extname = 'citus')";

/// Runs `work` in a read-only transaction. All its statements see the data of one instant.
///
/// # Errors
///
/// Returns the error of `work`, or the database's own if BEGIN or COMMIT fails.
pub fn snapshot<T, E: From<StoreError>>(
    conn: &mut Conn,
    work: impl FnOnce(&mut Conn) -> std::result::Result<T, E>,
) -> std::result::Result<T, E> {
    conn.build_transaction()
        .read_only()
        .repeatable_read()
        .run(|conn| work(conn).map_err(Abort::Work))
        .map_err(Abort::into_cause)
}

/// The `like` pattern of texts that contain `term`.
fn like_pattern(term: &str) -> String {
    let escaped = term
        .replace('\\', r"\\")
        .replace('%', r"\%")
        .replace('_', r"\_");
    format!("%{escaped}%")
}
