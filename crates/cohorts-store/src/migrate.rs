//! Migrations: they run when a store opens, under an advisory lock, so that one process migrates at a time.
//!
//! A migration that is released is never edited; a later file changes its tables.
//! A statement that waits for a table lock blocks all later statements on the table, so each wait is short, and is
//! repeated after a pause in which the other sessions continue.

use std::fmt::Display;
use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection;
use diesel::migration::{Migration, MigrationSource};
use diesel::pg::{Pg, PgConnection};
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Bool, Integer, Text};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use crate::distribution;
use crate::pool::request_english;

const MIGRATIONS: EmbeddedMigrations = embed_migrations!();
/// The advisory lock under which migrations run.
const MIGRATION_LOCK: i64 = 0x636f_686f_7274_7301;
/// The oldest server version that the SQL of this crate supports, as `server_version_num` counts.
const OLDEST_SERVER: i32 = 140_000;
const LOCK_PAUSE: Duration = Duration::from_millis(100);
/// How migrations wait for locks that other sessions hold.
const LOCK_WAIT: LockWait = LockWait {
    each: Duration::from_secs(2),
    pause: Duration::from_secs(3),
    total: Duration::from_secs(600),
};

pub(crate) const HAS_TRIGRAMS: &str =
    "select exists (select from pg_extension where extname = 'pg_trgm') as has_trigrams";
pub(crate) const CREATE_TRIGRAMS: &str = "create extension if not exists pg_trgm";
pub(crate) const TRY_LOCK: &str = "select pg_try_advisory_lock($1) as is_locked";
pub(crate) const SERVER_VERSION: &str =
    "select current_setting('server_version_num')::int as version";

/// Runs the pending migrations, and returns whether the database has pg_trgm.
pub(crate) fn migrate(url: &str) -> anyhow::Result<bool> {
    let mut conn = PgConnection::establish(url)
        .map_err(|cause| anyhow::anyhow!("cannot connect to the database: {cause}"))?;
    request_english(&mut conn);
    check_server_version(&mut conn)?;
    anyhow::ensure!(
        !distribution::is_worker(&mut conn)?,
        "the database is on a worker of Citus; use the URL of the same database on the coordinator"
    );
    lock_migrations(&mut conn)?;
    refuse_development_build(&mut conn)?;
    drop_invalid_indexes(&mut conn)?;
    let count = run_pending(&mut conn).map_err(not_migrated)?;
    if count > 0 {
        log::info!("ran {count} migrations");
    }
    let created = create_trigrams(&mut conn);
    if let Err(cause) = &created {
        log::warn!("pg_trgm is missing, so searches find no misspelt names: {cause}");
    }
    Ok(created.is_ok())
}

/// Creates the extension if it does not exist. A distributed Postgres sends each `create extension` to its workers, also
/// one without effect, and fails if one of them is not available.
fn create_trigrams(conn: &mut PgConnection) -> QueryResult<()> {
    let row: TrigramsRow = diesel::sql_query(HAS_TRIGRAMS).get_result(conn)?;
    if !row.has_trigrams {
        diesel::sql_query(CREATE_TRIGRAMS).execute(conn)?;
    }
    Ok(())
}

#[derive(QueryableByName)]
struct TrigramsRow {
    #[diesel(sql_type = Bool)]
    has_trigrams: bool,
}

fn not_migrated(cause: Box<dyn std::error::Error + Send + Sync>) -> anyhow::Error {
    let remedy = if is_lock_timeout(&cause) {
        "; other sessions use the table all the time. End their transactions (`select * from pg_stat_activity`), and \
         start again"
    } else {
        ""
    };
    anyhow::anyhow!("cannot migrate the database: {cause}{remedy}")
}

/// Runs the migrations that the database does not have, and returns their number.
fn run_pending(conn: &mut PgConnection) -> diesel::migration::Result<usize> {
    let pending = conn.pending_migrations(MIGRATIONS)?;
    for migration in &pending {
        run(conn, migration.as_ref())?;
    }
    Ok(pending.len())
}

/// Runs a migration. One without a transaction creates or drops an index concurrently: it blocks no other session while
/// it waits, so its wait is not limited.
fn run(conn: &mut PgConnection, migration: &dyn Migration<Pg>) -> diesel::migration::Result<()> {
    if !migration.metadata().run_in_transaction() {
        conn.run_migration(migration)?;
        return Ok(());
    }
    let warn = |waited: Duration| {
        log::warn!(
            "migration {} waits for a table that other sessions use, for {} s now",
            migration.name(),
            waited.as_secs()
        );
    };
    with_lock_wait(conn, LOCK_WAIT, warn, |conn| {
        conn.run_migration(migration).map(drop)
    })
}

/// How long to wait for a lock.
#[derive(Clone, Copy, Debug)]
struct LockWait {
    /// The time of one wait. Other sessions queue behind it.
    each: Duration,
    /// The pause between two waits. Other sessions continue.
    pause: Duration,
    /// The time of all waits and pauses.
    total: Duration,
}

/// Runs `work`, which must be repeatable, until it gets its locks. Calls `on_pause` before each pause, with the time so far.
fn with_lock_wait<E: Display + From<diesel::result::Error>>(
    conn: &mut PgConnection,
    wait: LockWait,
    mut on_pause: impl FnMut(Duration),
    mut work: impl FnMut(&mut PgConnection) -> Result<(), E>,
) -> Result<(), E> {
    let started = Instant::now();
    conn.batch_execute(&format!("set lock_timeout = {}", wait.each.as_millis()))?;
    let result = loop {
        match work(conn) {
            Err(cause) if is_lock_timeout(&cause) && started.elapsed() < wait.total => {
                on_pause(started.elapsed());
                std::thread::sleep(wait.pause);
            }
            result => break result,
        }
    };
    conn.batch_execute("set lock_timeout = 0")?;
    result
}

/// Whether a migration ended because of a lock. Its error hides the error of the database, except for the message.
fn is_lock_timeout(cause: &impl Display) -> bool {
    cause.to_string().contains("due to lock timeout")
}

/// Refuses a database with tables that were created before the baseline of version 0.1.0.
fn refuse_development_build(conn: &mut PgConnection) -> anyhow::Result<()> {
    let baseline = MigrationSource::<Pg>::migrations(&MIGRATIONS)
        .map_err(|cause| anyhow::anyhow!("cannot read the migrations: {cause}"))?
        .iter()
        .map(|migration| migration.name().version().to_string())
        .min()
        .unwrap_or_default();
    let applied = conn
        .applied_migrations()
        .map_err(|cause| anyhow::anyhow!("cannot read the applied migrations: {cause}"))?;
    let is_older = |version: &&diesel::migration::MigrationVersion<'_>| {
        version.to_string().as_str() < baseline.as_str()
    };
    anyhow::ensure!(
        applied.iter().find(is_older).is_none(),
        "the database was created by a development build before version 0.1.0; start with an empty database and load \
         the data again with `cohorts import`"
    );
    Ok(())
}

/// Drops indexes that a migration was creating concurrently when its process died. They are useless and occupy the name
/// of the index that the migration creates next.
fn drop_invalid_indexes(conn: &mut PgConnection) -> anyhow::Result<()> {
    let invalid: Vec<IndexName> = diesel::sql_query(INVALID_INDEXES).load(conn)?;
    for IndexName { name } in invalid {
        log::warn!("index {name} is incomplete; it is created again");
        let statement = format!("drop index concurrently if exists \"{name}\"");
        diesel::sql_query(statement).execute(conn)?;
    }
    Ok(())
}

/// Invalid indexes of our own tables, unless a session is creating them at this moment.
pub(crate) const INVALID_INDEXES: &str = "\
    select c.relname::text as name from pg_index i \
        join pg_class c on c.oid = i.indexrelid join pg_class t on t.oid = i.indrelid \
    where not i.indisvalid and c.relnamespace = 'public'::regnamespace \
        and t.relname in ('persons', 'distinct_ids', 'events', 'tombstones', 'member_chunks', 'cohorts', \
            'activities', 'calculations') \
        and not exists (select from pg_stat_progress_create_index p where p.index_relid = i.indexrelid)";

#[derive(QueryableByName)]
struct IndexName {
    #[diesel(sql_type = Text)]
    name: String,
}

/// Takes the session's advisory lock. It is released with the connection.
///
/// This polls, because a statement that waits for the lock would block an index that is created concurrently.
fn lock_migrations(conn: &mut PgConnection) -> anyhow::Result<()> {
    loop {
        let LockRow { is_locked } = diesel::sql_query(TRY_LOCK)
            .bind::<BigInt, _>(MIGRATION_LOCK)
            .get_result(conn)?;
        if is_locked {
            return Ok(());
        }
        std::thread::sleep(LOCK_PAUSE);
    }
}

#[derive(QueryableByName)]
struct LockRow {
    #[diesel(sql_type = Bool)]
    is_locked: bool,
}

#[derive(QueryableByName)]
struct ServerVersion {
    #[diesel(sql_type = Integer)]
    version: i32,
}

fn check_server_version(conn: &mut PgConnection) -> anyhow::Result<()> {
    let ServerVersion { version } = diesel::sql_query(SERVER_VERSION).get_result(conn)?;
    require_server(version)
}

fn require_server(version: i32) -> anyhow::Result<()> {
    anyhow::ensure!(
        version >= OLDEST_SERVER,
        "the database is PostgreSQL {}, which is too old: {} or newer is needed",
        version / 10_000,
        OLDEST_SERVER / 10_000
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::*;
    use crate::testing::TestDatabase;

    #[test]
    fn a_server_that_is_too_old_is_refused_with_its_version() {
        assert!(require_server(140_000).is_ok() && require_server(180_001).is_ok());
        let sentence = require_server(130_011).unwrap_err().to_string();
        assert_eq!(
            sentence,
            "the database is PostgreSQL 13, which is too old: 14 or newer is needed"
        );
    }

    fn connect(database: &TestDatabase) -> PgConnection {
        PgConnection::establish(&database.url()).unwrap()
    }

    const READ: &str = "select count(*) from persons";

    #[test]
    fn a_migration_that_waits_for_a_long_transaction_does_not_block_other_readers() {
        let database = TestDatabase::create();
        let (mut long, mut other) = (connect(&database), connect(&database));
        long.batch_execute("begin").unwrap();
        long.batch_execute(READ).unwrap();
        let wait = LockWait {
            each: Duration::from_millis(20),
            pause: Duration::from_millis(100),
            total: Duration::from_secs(60),
        };
        let (paused, pauses) = mpsc::channel();
        let mut conn = connect(&database);
        let migration = thread::spawn(move || {
            let on_pause = |_| paused.send(()).unwrap_or_default();
            with_lock_wait(&mut conn, wait, on_pause, |conn| {
                conn.batch_execute("alter table persons add column hue text")
            })
        });
        // A reader with a statement that queued behind the migration would fail.
        other
            .batch_execute("set statement_timeout = '30s'")
            .unwrap();
        for _ in 0..3 {
            pauses.recv_timeout(Duration::from_secs(60)).unwrap();
            other.batch_execute(READ).unwrap();
        }
        long.batch_execute("commit").unwrap();
        migration.join().unwrap().unwrap();
        other.batch_execute("select hue from persons").unwrap();
    }

    #[test]
    fn a_migration_that_never_gets_its_lock_ends_with_a_remedy() {
        let database = TestDatabase::create();
        let (mut long, mut conn) = (connect(&database), connect(&database));
        long.batch_execute("begin").unwrap();
        long.batch_execute(READ).unwrap();
        let wait = LockWait {
            each: Duration::from_millis(1),
            pause: Duration::ZERO,
            total: Duration::ZERO,
        };
        let result = with_lock_wait(&mut conn, wait, drop, |conn| {
            conn.batch_execute("alter table persons add column hue text")
        });
        let sentence = not_migrated(result.unwrap_err().into()).to_string();
        assert!(sentence.contains("End their transactions"), "{sentence}");
        // The limit does not stay on the connection.
        let limits = diesel::sql_query(
            "select 1 from pg_settings where name = 'lock_timeout' and setting = '0'",
        );
        assert_eq!(limits.execute(&mut conn).unwrap(), 1);
    }
}
