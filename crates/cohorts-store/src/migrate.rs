//! Migrations: they run when a store opens, under an advisory lock, so that one process migrates at a time.
//!
//! A migration that is released is never edited; a later file changes its tables.

use std::time::Duration;

use diesel::migration::MigrationSource;
use diesel::pg::{Pg, PgConnection};
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Bool, Integer, Text};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

const MIGRATIONS: EmbeddedMigrations = embed_migrations!();
/// The advisory lock under which migrations run.
const MIGRATION_LOCK: i64 = 0x636f_686f_7274_7301;
/// The oldest server version that the SQL of this crate supports, as `server_version_num` counts.
const OLDEST_SERVER: i32 = 140_000;
const LOCK_PAUSE: Duration = Duration::from_millis(100);

pub(crate) const CREATE_TRIGRAMS: &str = "create extension if not exists pg_trgm";
pub(crate) const TRY_LOCK: &str = "select pg_try_advisory_lock($1) as is_locked";
pub(crate) const SERVER_VERSION: &str =
    "select current_setting('server_version_num')::int as version";

/// Runs the pending migrations, and returns whether the database has pg_trgm.
pub(crate) fn migrate(url: &str) -> anyhow::Result<bool> {
    let mut conn = PgConnection::establish(url)
        .map_err(|cause| anyhow::anyhow!("cannot connect to the database: {cause}"))?;
    check_server_version(&mut conn)?;
    lock_migrations(&mut conn)?;
    refuse_development_build(&mut conn)?;
    drop_invalid_indexes(&mut conn)?;
    let versions = conn
        .run_pending_migrations(MIGRATIONS)
        .map_err(|cause| anyhow::anyhow!("cannot migrate the database: {cause}"))?;
    if !versions.is_empty() {
        log::info!("ran {} migrations", versions.len());
    }
    let created = diesel::sql_query(CREATE_TRIGRAMS).execute(&mut conn);
    if let Err(cause) = &created {
        log::warn!("pg_trgm is missing, so searches find no misspelt names: {cause}");
    }
    Ok(created.is_ok())
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
    use super::*;

    #[test]
    fn a_server_that_is_too_old_is_refused_with_its_version() {
        assert!(require_server(140_000).is_ok() && require_server(180_001).is_ok());
        let sentence = require_server(130_011).unwrap_err().to_string();
        assert_eq!(
            sentence,
            "the database is PostgreSQL 13, which is too old: 14 or newer is needed"
        );
    }
}
