//! Everything that knows SQL: the pool, transactions, and one file per table family.
//!
//! Functions here take a connection first and return rows of their own; absence is `Option`, never an error.
//! Nothing here knows the contract's types. Filters never become SQL text.

use std::sync::Arc;
use std::time::Duration;

use actix_web::web;
use diesel::pg::PgConnection;
use diesel::prelude::*;
use diesel::r2d2::Pool;
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use prometheus::IntCounter;
use quick_cache::sync::Cache;

use crate::error::Error;
use crate::request_id::RequestId;

pub mod actions;
pub mod activity;
pub mod blocks;
pub mod calculations;
pub mod cohorts;
pub mod events;
pub mod forgotten;
pub mod health;
pub mod ids;
pub mod json;
pub mod keys;
mod logs;
pub mod members;
pub mod order;
pub mod persons;
mod pool;
pub mod projects;
pub mod reader;
mod refresh;
mod schema;
#[cfg(test)]
mod schema_rules;
pub mod sealed;
#[cfg(test)]
pub mod testing;
pub mod uploads;
pub mod views;

pub use diesel::QueryResult;
pub use json::JsonText;
use pool::{Lent, Manager};

/// The connection that every function of the store works on.
pub type Conn = PgConnection;

const MIGRATIONS: EmbeddedMigrations = embed_migrations!();
/// Names the advisory lock under which migrations run, so that two services that start together do not both run them.
const MIGRATION_LOCK: i64 = 0x636f_686f_7274_7301;
/// The oldest server whose SQL this service speaks, as `server_version_num` counts.
const OLDEST_SERVER: i32 = 140_000;
const LOCK_PAUSE: Duration = Duration::from_millis(100);
/// Rows of one statement.
const ROWS: usize = 1_000;
/// Tokens that are remembered, about.
const TOKENS: usize = 10_000;
pub const POOL_SIZE: u32 = 16;
const POOL_WAIT: Duration = Duration::from_secs(5);

/// The number of a project.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProjectId(pub i64);

/// The number of a cohort.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CohortId(pub i64);

/// What leads every key of the person tables; a project's only one while projects have one stripe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place(pub i64);

impl ProjectId {
    /// The one place where a place is made.
    pub fn place(self) -> Place {
        Place(self.0 * 65_536)
    }
}

/// The pool of connections, and the person numbers taken ahead.
#[derive(Clone)]
pub struct Store {
    pool: Pool<Manager>,
    pub numbers: Arc<persons::Numbers>,
    pub orders: Arc<order::Orders>,
    pub ids: Arc<ids::Ids>,
    pub views: Arc<views::Views>,
    tokens: Arc<Cache<String, ProjectId>>,
    /// Whether the database can tell how much texts are like each other.
    pub similar: bool,
    /// How many statements were sent.
    pub statements: IntCounter,
}

impl Store {
    /// Connects, checks the server's version and brings its tables up to date.
    pub fn open(url: &str) -> anyhow::Result<Self> {
        let similar = migrate(url)?;
        let statements = IntCounter::new(
            "cohorts_database_statements_total",
            "Statements that were sent to the database.",
        )?;
        let pool = Pool::builder()
            .max_size(POOL_SIZE)
            .min_idle(Some(1))
            .connection_timeout(POOL_WAIT)
            .build(Manager {
                url: url.to_owned(),
                statements: statements.clone(),
            })?;
        Ok(Self {
            pool,
            numbers: Arc::default(),
            orders: Arc::default(),
            ids: Arc::default(),
            views: Arc::default(),
            tokens: Arc::new(Cache::new(TOKENS)),
            similar,
            statements,
        })
    }

    /// Runs `work` on a connection, on a thread that may block.
    pub async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Conn) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let store = self.clone();
        let request = RequestId::current();
        let work = move || request.scope(|| work(&mut *store.connection()?));
        web::block(work).await.map_err(|_| Error::Unavailable)?
    }

    /// Runs `work` in one transaction, on a thread that may block; an error rolls everything back.
    pub async fn transaction<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Conn) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.read(|conn| transaction(conn, work)).await
    }

    /// As `read`, with all statements seeing the data of one instant.
    pub async fn snapshot<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Conn) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.read(|conn| {
            conn.build_transaction()
                .read_only()
                .repeatable_read()
                .run(work)
        })
        .await
    }

    /// A connection for code that runs on a thread of its own. Waits for a free one for a bounded time.
    pub fn connection(&self) -> Result<Lent, Error> {
        self.pool.get().map(Lent).map_err(|cause| {
            log::warn!("no connection to the database: {cause}");
            Error::Unavailable
        })
    }

    /// The project of a token for capture. It is read once: no token ever becomes another project's, or nobody's.
    pub fn project_of_token(&self, token: &str) -> Result<Option<ProjectId>, Error> {
        if let Some(project) = self.tokens.get(token) {
            return Ok(Some(project));
        }
        let found = projects::find_by_token(&mut *self.connection()?, token)?;
        let project = found.map(|project| project.id());
        if let Some(project) = project {
            self.tokens.insert(token.to_owned(), project);
        }
        Ok(project)
    }

    /// Connections in use and open, for the metrics.
    pub fn connections(&self) -> (u32, u32) {
        let state = self.pool.state();
        (
            state.connections - state.idle_connections,
            state.connections,
        )
    }
}

/// Runs `work` in one transaction; an error rolls everything back.
pub fn transaction<T>(
    conn: &mut Conn,
    work: impl FnOnce(&mut Conn) -> Result<T, Error>,
) -> Result<T, Error> {
    conn.transaction(work)
}

/// Brings the tables up to date, and tells whether the database has pg_trgm.
fn migrate(url: &str) -> anyhow::Result<bool> {
    let mut conn = PgConnection::establish(url)
        .map_err(|cause| anyhow::anyhow!("cannot connect to the database: {cause}"))?;
    check_version(&mut conn)?;
    lock_migrations(&mut conn)?;
    drop_unfinished_indexes(&mut conn)?;
    let done = conn.run_pending_migrations(MIGRATIONS).map_err(|cause| {
        anyhow::anyhow!("cannot bring the database's tables up to date: {cause}")
    })?;
    if !done.is_empty() {
        log::info!("ran {} migrations", done.len());
    }
    let made = diesel::sql_query("create extension if not exists pg_trgm").execute(&mut conn);
    if let Err(cause) = &made {
        log::warn!("without pg_trgm, searches find no names with typing errors: {cause}");
    }
    Ok(made.is_ok())
}

/// An index that was being made concurrently when its maker died stays behind, good for nothing, and in the way of the
/// next one who makes it.
fn drop_unfinished_indexes(conn: &mut PgConnection) -> anyhow::Result<()> {
    let unfinished: Vec<Unfinished> = diesel::sql_query(UNFINISHED).load(conn)?;
    for Unfinished { name } in unfinished {
        log::warn!("index {name} was left unfinished, and is made anew");
        diesel::sql_query(format!("drop index concurrently if exists {name}")).execute(conn)?;
    }
    Ok(())
}

/// Those that migrations make concurrently, unless somebody makes one just now.
const UNFINISHED: &str = "\
    select c.relname::text as name from pg_index i join pg_class c on c.oid = i.indexrelid \
    where not i.indisvalid and c.relnamespace = 'public'::regnamespace and c.relname in ( \
            'persons_by_batch', 'persons_by_email', 'events_by_person', 'events_identity', \
            'forgotten_persons_by_target', 'events_by_time') \
        and not exists (select from pg_stat_progress_create_index p where p.index_relid = i.indexrelid)";

#[derive(QueryableByName)]
struct Unfinished {
    #[diesel(sql_type = diesel::sql_types::Text)]
    name: String,
}

/// The lock belongs to the session, so it goes with the connection.
///
/// It is asked for again and again rather than waited for: a statement that waits would keep an index from being
/// made concurrently.
fn lock_migrations(conn: &mut PgConnection) -> anyhow::Result<()> {
    loop {
        let Locked { locked } = diesel::sql_query("select pg_try_advisory_lock($1) as locked")
            .bind::<diesel::sql_types::BigInt, _>(MIGRATION_LOCK)
            .get_result(conn)?;
        if locked {
            return Ok(());
        }
        std::thread::sleep(LOCK_PAUSE);
    }
}

#[derive(QueryableByName)]
struct Locked {
    #[diesel(sql_type = diesel::sql_types::Bool)]
    locked: bool,
}

#[derive(QueryableByName)]
struct ServerVersion {
    #[diesel(sql_type = diesel::sql_types::Integer)]
    version: i32,
}

fn check_version(conn: &mut PgConnection) -> anyhow::Result<()> {
    let ServerVersion { version } =
        diesel::sql_query("select current_setting('server_version_num')::int as version")
            .get_result(conn)?;
    new_enough(version)
}

fn new_enough(version: i32) -> anyhow::Result<()> {
    anyhow::ensure!(
        version >= OLDEST_SERVER,
        "the database is PostgreSQL {}, which is too old: {} or newer is needed",
        version / 10_000,
        OLDEST_SERVER / 10_000
    );
    Ok(())
}

/// The pattern of texts that hold the term, for `ilike`.
fn holding(term: &str) -> String {
    let escaped = term
        .replace('\\', r"\\")
        .replace('%', r"\%")
        .replace('_', r"\_");
    format!("%{escaped}%")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_that_is_too_old_is_refused_by_its_version() {
        assert!(new_enough(140_000).is_ok() && new_enough(180_001).is_ok());
        let said = new_enough(130_011).unwrap_err().to_string();
        assert_eq!(
            said,
            "the database is PostgreSQL 13, which is too old: 14 or newer is needed"
        );
    }
}
