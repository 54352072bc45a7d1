//! Why the store could not do what its caller asked for: the one place that classifies the database's errors.
//!
//! Diesel reports a kind for some SQLSTATEs and gives no access to the code of all others. The kind decides wherever there
//! is one. Where there is none, the message decides, in English: each connection requests `lc_messages = 'C'`.
//! DECISIONS.md has the reasons.

use diesel::result::DatabaseErrorKind::{
    ClosedConnection, SerializationFailure, UnableToSendCommand,
};
use diesel::result::Error as DieselError;

use crate::Lane;

/// The result of a function of the store.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;

/// Why the store could not do what its caller asked for.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database cannot be reached, or ended the transaction. A repetition may succeed.
    #[error("the database is not available: {0}")]
    Unavailable(String),
    /// All connections of the lane stayed in use. A repetition may succeed.
    #[error("all connections for {} are in use", .0.name())]
    Busy(Lane),
    /// Another transaction held a lock for longer than the time limit of the wait. A repetition may succeed.
    #[error("another change of the same data did not end within the time limit")]
    Locked,
    /// A statement took longer than its time limit.
    #[error("the database took longer than the time limit")]
    TimedOut,
    /// The database has no space left to write.
    #[error("the disk of the database is full: {0}")]
    DiskFull(String),
    /// Stored bytes cannot be decoded.
    #[error("stored data is damaged: {0}")]
    Corrupt(String),
    /// The project does not exist, or its deletion has begun.
    #[error("the project does not exist")]
    ProjectGone,
    /// A defect of this service or of the database's set-up. A repetition does not help.
    #[error("{0:#}")]
    Other(anyhow::Error),
}

impl StoreError {
    /// Whether a repetition may succeed.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Busy(_) | Self::Locked)
    }
}

impl From<anyhow::Error> for StoreError {
    fn from(cause: anyhow::Error) -> Self {
        Self::Other(cause)
    }
}

/// Messages of SQLSTATEs without a kind (40P01, 57014 by an administrator, 57P01 to 57P03, and XX000 of a lost worker of a
/// distributed Postgres) after which a repetition may succeed.
const TRANSIENT: [&str; 11] = [
    "deadlock detected",
    "involved in a distributed deadlock",
    "could not commit transaction",
    "could not prepare transaction",
    "failed to execute task",
    "connection to the remote node",
    "postmaster was shut down",
    "canceling statement due to user request",
    "terminating connection",
    "server closed the connection",
    "the database system is",
];

impl From<DieselError> for StoreError {
    fn from(cause: DieselError) -> Self {
        // The rollback failed after the commit, usually for the same reason.
        if let DieselError::RollbackErrorOnCommit { commit_error, .. } = cause {
            return Self::from(*commit_error);
        }
        match &cause {
            DieselError::DatabaseError(
                ClosedConnection | SerializationFailure | UnableToSendCommand,
                _,
            )
            | DieselError::BrokenTransactionManager => Self::Unavailable(cause.to_string()),
            DieselError::DatabaseError(_, report) => {
                let (message, hint) = (report.message(), report.hint().unwrap_or_default());
                if message.contains("statement timeout") {
                    Self::TimedOut
                } else if message.contains("lock timeout") {
                    Self::Locked
                } else if message.contains("No space left on device")
                    || hint.contains("free disk space")
                {
                    Self::DiskFull(cause.to_string())
                } else if TRANSIENT.iter().any(|words| message.contains(words)) {
                    Self::Unavailable(cause.to_string())
                } else {
                    Self::Other(cause.into())
                }
            }
            _ => Self::Other(cause.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::io::Write;
    use std::sync::Barrier;
    use std::thread;

    use diesel::connection::SimpleConnection;
    use diesel::prelude::*;
    use diesel::result::DatabaseErrorKind;

    use super::*;
    use crate::schema::persons;
    use crate::testing::{TestDatabase, end_other_sessions};
    use crate::{Conn, Store, transaction};

    fn execute(conn: &mut Conn, statements: &str) -> Result<()> {
        Ok(conn.batch_execute(statements)?)
    }

    #[test]
    fn a_kind_decides_before_a_message() {
        let report = |kind, message: &str| {
            StoreError::from(DieselError::DatabaseError(
                kind,
                Box::new(message.to_owned()),
            ))
        };
        let closed = report(ClosedConnection, "gone");
        assert!(matches!(closed, StoreError::Unavailable(_)) && closed.is_transient());
        for message in [
            "canceling the transaction since it was involved in a distributed deadlock",
            "could not commit transaction for shard 102008 on at least one worker node",
            "connection to the remote node 10.0.0.2:5432 failed with the following error: Connection refused",
            "server closed the connection unexpectedly",
            "postmaster was shut down, exiting",
        ] {
            let lost = report(DatabaseErrorKind::Unknown, message);
            assert!(matches!(lost, StoreError::Unavailable(_)), "{message}");
        }
        let failed = |message: &str| {
            let report = Box::new(message.to_owned());
            Box::new(DieselError::DatabaseError(
                DatabaseErrorKind::Unknown,
                report,
            ))
        };
        let commit = StoreError::from(DieselError::RollbackErrorOnCommit {
            commit_error: failed("terminating connection due to unexpected postmaster exit"),
            rollback_error: failed(""),
        });
        assert!(matches!(commit, StoreError::Unavailable(_)), "{commit:?}");
        let full = report(DatabaseErrorKind::Unknown, "No space left on device");
        assert!(matches!(full, StoreError::DiskFull(_)));
        let defect = report(DatabaseErrorKind::NotNullViolation, "null value");
        assert!(matches!(defect, StoreError::Other(_)) && !defect.is_transient());
    }

    #[test]
    fn the_time_limits_of_statements_and_locks_have_errors_of_their_own() {
        let database = TestDatabase::create();
        let store = database.open();
        let (first, second) = (
            &mut *store.connection().unwrap(),
            &mut *store.connection().unwrap(),
        );
        let slow = "set statement_timeout = 1; select pg_sleep(60)";
        assert!(matches!(execute(first, slow), Err(StoreError::TimedOut)));
        execute(
            first,
            "set statement_timeout = 0; select pg_advisory_lock(1)",
        )
        .unwrap();
        let locked = execute(second, "set lock_timeout = 1; select pg_advisory_lock(1)");
        assert!(matches!(&locked, Err(StoreError::Locked)), "{locked:?}");
        assert!(locked.unwrap_err().is_transient());
    }

    #[test]
    fn a_deadlock_is_transient() {
        let database = TestDatabase::create();
        let store = database.open();
        let both_locked = Barrier::new(2);
        let locked = |own: i64, other: i64| {
            let conn = &mut *store.connection().unwrap();
            transaction(conn, |conn| {
                execute(conn, &format!("select pg_advisory_xact_lock({own})"))?;
                both_locked.wait();
                execute(conn, &format!("select pg_advisory_xact_lock({other})"))
            })
        };
        let results = thread::scope(|scope| {
            let first = scope.spawn(|| locked(1, 2));
            [locked(2, 1), first.join().unwrap()]
        });
        let errors: Vec<_> = results.into_iter().filter_map(Result::err).collect();
        assert_eq!(errors.len(), 1);
        assert!(
            matches!(errors[0], StoreError::Unavailable(_)),
            "{errors:?}"
        );
    }

    /// The error of a statement on a connection that another session ended or cancelled with `function`.
    fn after_signal(store: &Store, function: &str) -> StoreError {
        let (conn, other) = (
            &mut *store.connection().unwrap(),
            &mut *store.connection().unwrap(),
        );
        let pid: i32 = diesel::select(diesel::dsl::sql::<diesel::sql_types::Integer>(
            "pg_backend_pid()",
        ))
        .get_result(conn)
        .unwrap();
        thread::scope(|scope| {
            let waiting = scope.spawn(|| execute(conn, "select pg_sleep(60)").unwrap_err());
            let signal = format!(
                "do $$ begin loop if {function}(pid) from pg_stat_activity \
                 where pid = {pid} and wait_event = 'PgSleep' then exit; end if; \
                 perform pg_stat_clear_snapshot(); end loop; end $$"
            );
            execute(other, &signal).unwrap();
            waiting.join().unwrap()
        })
    }

    #[test]
    fn a_connection_that_is_lost_while_rows_are_copied_is_transient() {
        let database = TestDatabase::create();
        let store = database.open();
        let (conn, other) = (
            &mut *store.connection().unwrap(),
            &mut *store.connection().unwrap(),
        );
        let other = RefCell::new(other);
        let rows = |out: &mut dyn Write| -> QueryResult<()> {
            end_other_sessions(*other.borrow_mut());
            let row = format!("1\t{}\n", "x".repeat(1 << 16));
            while out.write_all(row.as_bytes()).is_ok() {}
            Ok(())
        };
        let copied = diesel::copy_from(persons::table)
            .from_raw_data(persons::table, rows)
            .execute(conn);
        let error = StoreError::from(copied.unwrap_err());
        assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
    }

    #[test]
    fn a_statement_that_an_administrator_ended_is_transient() {
        let database = TestDatabase::create();
        let store = database.open();
        for function in ["pg_cancel_backend", "pg_terminate_backend"] {
            let error = after_signal(&store, function);
            assert!(
                matches!(error, StoreError::Unavailable(_)),
                "{function}: {error:?}"
            );
        }
        // The pool does not return the ended connection.
        execute(&mut store.connection().unwrap(), "select 1").unwrap();
    }
}
