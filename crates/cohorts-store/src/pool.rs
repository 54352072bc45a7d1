//! Opens the connections of a pool with their time limits, counts their statements, and never reuses a lost one.
//!
//! The pool tests a connection only if it was idle or had an error of a lost connection, because a test costs a round trip.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use diesel::connection::{InstrumentationEvent, SimpleConnection};
use diesel::pg::PgConnection;
use diesel::prelude::*;
use diesel::r2d2::{ManageConnection, PooledConnection, R2D2Connection};
use diesel::result::DatabaseErrorKind::{ClosedConnection, UnableToSendCommand};
use diesel::result::Error::{self, DatabaseError};
use prometheus::IntCounter;

/// A connection that was not taken for longer is tested before it is returned to a caller.
const TEST_AFTER: Duration = Duration::from_secs(1);

/// Settings with which libpq detects within half a minute that the server cannot be reached.
const KEEPALIVES: [&str; 5] = [
    "keepalives_idle=10",
    "keepalives_interval=5",
    "keepalives_count=3",
    "tcp_user_timeout=30000",
    "connect_timeout=10",
];

/// Adds the settings of [`KEEPALIVES`] that `url` does not set.
fn with_keepalives(url: &str) -> String {
    let mut all = url.to_owned();
    for setting in KEEPALIVES {
        let name = setting.split('=').next().unwrap_or_default();
        if !url.contains(name) {
            let is_uri = url.contains("://");
            all.push(match (is_uri, all.contains('?')) {
                (false, _) => ' ',
                (true, false) => '?',
                (true, true) => '&',
            });
            all.push_str(setting);
        }
    }
    all
}

/// Opens a connection that notices a lost server.
pub(crate) fn establish(url: &str) -> ConnectionResult<PgConnection> {
    PgConnection::establish(&with_keepalives(url))
}

/// Time limits that the database enforces on each connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TimeLimits {
    /// The longest time of one statement.
    pub statement: Duration,
    /// The longest wait for one lock.
    pub lock: Duration,
    /// How long a transaction may be open without a statement; then the database ends the connection.
    pub idle_transaction: Duration,
}

impl TimeLimits {
    /// Sets the limits for the rest of the session. A zero is no limit.
    pub(crate) fn set(self, conn: &mut PgConnection) -> QueryResult<()> {
        conn.batch_execute(&format!(
            "set statement_timeout = {}; set lock_timeout = {}; set idle_in_transaction_session_timeout = {}",
            self.statement.as_millis(),
            self.lock.as_millis(),
            self.idle_transaction.as_millis()
        ))
    }
}

/// Requests errors in English, because errors without a kind are classified by their message.
///
/// A role without the right to do so keeps the language of the server, which `cohorts doctor` reports.
pub(crate) fn request_english(conn: &mut PgConnection) {
    if let Err(cause) = conn.batch_execute("set lc_messages = 'C'") {
        log::debug!("the database reports errors in its own language: {cause}");
    }
}

/// Opens and tests the connections of a pool.
#[derive(Debug)]
pub struct Manager {
    /// The libpq URL of the database.
    pub url: String,
    /// The time limits of each connection.
    pub(crate) limits: TimeLimits,
    /// Counts the statements of all connections.
    pub statements: IntCounter,
}

/// A connection with its state in the pool.
pub struct Managed {
    conn: PgConnection,
    last_taken: Instant,
    is_lost: Arc<AtomicBool>,
}

impl Managed {
    /// Whether the connection is lost. A distributed Postgres reports a lost worker with the same errors on a connection
    /// that still works, so the connection is tested.
    fn is_lost(&mut self) -> bool {
        self.is_lost.swap(false, Ordering::Relaxed) && self.conn.ping().is_err()
    }
}

impl ManageConnection for Manager {
    type Connection = Managed;
    type Error = diesel::r2d2::Error;

    fn connect(&self) -> Result<Managed, Self::Error> {
        let conn = establish(&self.url);
        let mut conn = conn.map_err(diesel::r2d2::Error::ConnectionError)?;
        request_english(&mut conn);
        let limited = self.limits.set(&mut conn);
        limited.map_err(diesel::r2d2::Error::QueryError)?;
        let is_lost = Arc::new(AtomicBool::new(false));
        let (statements, flag) = (self.statements.clone(), Arc::clone(&is_lost));
        conn.set_instrumentation(move |event: InstrumentationEvent<'_>| match event {
            InstrumentationEvent::StartQuery { .. } => statements.inc(),
            InstrumentationEvent::FinishQuery {
                error: Some(error), ..
            } if is_loss(error) => flag.store(true, Ordering::Relaxed),
            _ => {}
        });
        Ok(Managed {
            conn,
            last_taken: Instant::now(),
            is_lost,
        })
    }

    fn is_valid(&self, managed: &mut Managed) -> Result<(), Self::Error> {
        if managed.last_taken.elapsed() > TEST_AFTER {
            let answer = managed.conn.ping();
            answer.map_err(diesel::r2d2::Error::QueryError)?;
        }
        managed.last_taken = Instant::now();
        Ok(())
    }

    fn has_broken(&self, managed: &mut Managed) -> bool {
        std::thread::panicking() || managed.conn.is_broken() || managed.is_lost()
    }
}

/// Whether an error may mean that the connection is lost.
fn is_loss(error: &Error) -> bool {
    match error {
        DatabaseError(ClosedConnection | UnableToSendCommand, _) => true,
        DatabaseError(_, report) => [
            "terminating connection",
            "server closed the connection",
            "postmaster was shut down",
        ]
        .iter()
        .any(|words| report.message().contains(words)),
        _ => false,
    }
}

/// A connection of the pool, which takes it back when this is dropped.
pub struct PooledConn(pub(crate) PooledConnection<Manager>);

impl Deref for PooledConn {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.0.conn
    }
}

impl DerefMut for PooledConn {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.0.conn
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Lane;
    use crate::testing::TestDatabase;

    /// As a distributed Postgres reports the loss of a worker.
    const LOST_WORKER: &str = "do $$ begin raise 'connection to the remote node lost: server closed the connection' \
        using errcode = '08006'; end $$";

    #[test]
    fn a_connection_that_reported_a_lost_worker_is_used_again() {
        let database = TestDatabase::create();
        let store = database.open().in_lane(Lane::Readiness);
        let pid = || -> i32 {
            let pid = diesel::dsl::sql::<diesel::sql_types::Integer>("pg_backend_pid()");
            let conn = &mut *store.connection().unwrap();
            let pid = diesel::select(pid).get_result(conn).unwrap();
            conn.batch_execute(LOST_WORKER).unwrap_err();
            pid
        };
        assert_eq!(pid(), pid());
    }

    #[test]
    fn keepalives_are_added_to_every_form_of_address() {
        let rest =
            "keepalives_interval=5&keepalives_count=3&tcp_user_timeout=30000&connect_timeout=10";
        let cases = [
            (
                "postgresql://h/d",
                format!("postgresql://h/d?keepalives_idle=10&{rest}"),
            ),
            (
                "postgresql://h/d?sslmode=disable&keepalives_idle=1",
                format!("postgresql://h/d?sslmode=disable&keepalives_idle=1&{rest}"),
            ),
            (
                "host=h dbname=d",
                format!(
                    "host=h dbname=d keepalives_idle=10 {}",
                    rest.replace('&', " ")
                ),
            ),
        ];
        for (url, expected) in cases {
            assert_eq!(with_keepalives(url), expected);
        }
    }
}
