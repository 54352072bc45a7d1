//! Databases for tests: all tests of a binary share one temporary cluster, and each test has its own database.
//!
//! A new database is a copy of a migrated template. Only tests may use this module.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

use cohorts_postgres::Ephemeral;
use diesel::RunQueryDsl;
use diesel::connection::SimpleConnection;
use diesel::dsl;
use diesel::sql_types::BigInt;

use crate::migrate::migrate;
use crate::{Conn, Store};

const TEMPLATE: &str = "template_of_tests";

/// The cluster of this binary, with the template.
static CLUSTER: LazyLock<Ephemeral> = LazyLock::new(|| {
    let cluster = Ephemeral::start(None);
    cluster.create_database(TEMPLATE, None);
    migrate(&cluster.url_for(TEMPLATE)).expect("a migrated template");
    cluster
});
static DATABASES: AtomicU32 = AtomicU32::new(0);

/// A database with all tables and no rows, which is dropped with this value.
///
/// Declare it before the [`Store`] and its connections, so that these are dropped first.
pub struct TestDatabase {
    name: String,
}

impl TestDatabase {
    /// Copies the template. The first call starts the cluster.
    ///
    /// # Panics
    ///
    /// If the cluster cannot be started or the template cannot be copied.
    pub fn create() -> Self {
        let name = format!("test_{}", DATABASES.fetch_add(1, Ordering::Relaxed));
        CLUSTER.create_database(&name, Some(TEMPLATE));
        Self { name }
    }

    /// The libpq URL of the database.
    pub fn url(&self) -> String {
        CLUSTER.url_for(&self.name)
    }

    /// Opens a store on the database.
    ///
    /// # Panics
    ///
    /// If the database cannot be opened.
    pub fn open(&self) -> Store {
        Store::open(&self.url()).expect("a store")
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        // A second panic would abort the process and hide the first one.
        if !std::thread::panicking() {
            CLUSTER.drop_database(&self.name);
        }
    }
}

/// Lists the extension of a distributed Postgres in the catalogue, without the extension.
///
/// # Panics
///
/// If the database fails.
pub fn pretend_distributed(conn: &mut Conn) {
    let row = "insert into pg_extension select 4294967295, 'citus', extowner, extnamespace, false, '13.2', null, null \
        from pg_extension where extname = 'plpgsql'";
    conn.batch_execute(row).expect("a row of the catalogue");
}

/// Ends all other sessions of the database.
///
/// # Panics
///
/// If the database fails.
pub fn end_other_sessions(conn: &mut Conn) {
    let end = "select pg_terminate_backend(pid) from pg_stat_activity \
        where datname = current_database() and pid <> pg_backend_pid()";
    conn.batch_execute(end).expect("the sessions are ended");
}

/// How many transactions have written the rows of `events`.
///
/// # Panics
///
/// If the database fails.
pub fn transactions_of_events(conn: &mut Conn) -> i64 {
    let count = dsl::sql::<BigInt>("select count(distinct xmin::text) from events");
    count.get_result(conn).expect("a count")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::projects;

    #[test]
    fn each_database_has_all_tables_and_only_its_own_rows() {
        let databases = [TestDatabase::create(), TestDatabase::create()];
        assert_ne!(databases[0].url(), databases[1].url());
        for database in &databases {
            let store = database.open();
            let conn = &mut *store.connection().unwrap();
            projects::create(conn, "P", "UTC", "phc_x").unwrap();
            assert_eq!(projects::all(conn).unwrap().len(), 1);
        }
    }
}
