//! Why the store could not do what its caller asked for: the one place that classifies the database's errors.
//!
//! Diesel reports a kind for some SQLSTATEs and keeps the code of all others to itself. The kind decides wherever there
//! is one. Where there is none, the message decides, in English: the pool asks for `lc_messages = 'C'` on each of its
//! connections.

use diesel::result::DatabaseErrorKind::{
    ClosedConnection, SerializationFailure, UnableToSendCommand,
};
use diesel::result::Error as DieselError;

/// The result of a function of the store.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;

/// Why the store could not do what its caller asked for.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database cannot be reached, is busy, or ended the transaction. A repetition may succeed.
    #[error("the database is not available: {0}")]
    Unavailable(String),
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
        matches!(self, Self::Unavailable(_))
    }
}

impl From<anyhow::Error> for StoreError {
    fn from(cause: anyhow::Error) -> Self {
        Self::Other(cause)
    }
}

/// Messages of SQLSTATEs without a kind (40P01, 57P01 to 57P03, and XX000 of a lost worker) after which a repetition may
/// succeed.
const TRANSIENT: [&str; 4] = [
    "deadlock detected",
    "terminating connection",
    "server closed the connection",
    "the database system is",
];

impl From<DieselError> for StoreError {
    fn from(cause: DieselError) -> Self {
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
    use diesel::result::DatabaseErrorKind;

    use super::*;

    #[test]
    fn a_statement_timeout_is_distinguished_from_a_lost_connection() {
        let report = |kind, message: &str| {
            StoreError::from(DieselError::DatabaseError(
                kind,
                Box::new(message.to_owned()),
            ))
        };
        let timeout = report(
            DatabaseErrorKind::Unknown,
            "canceling statement due to statement timeout",
        );
        assert!(matches!(timeout, StoreError::TimedOut));
        let closed = report(ClosedConnection, "gone");
        assert!(matches!(closed, StoreError::Unavailable(_)) && closed.is_transient());
        let full = report(DatabaseErrorKind::Unknown, "No space left on device");
        assert!(matches!(full, StoreError::DiskFull(_)));
        let defect = report(DatabaseErrorKind::NotNullViolation, "null value");
        assert!(matches!(defect, StoreError::Other(_)) && !defect.is_transient());
    }
}
