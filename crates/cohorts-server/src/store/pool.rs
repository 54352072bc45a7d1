//! The pool of connections: each counts its statements, and one that was lost is not lent again.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use diesel::connection::InstrumentationEvent;
use diesel::pg::PgConnection;
use diesel::prelude::*;
use diesel::r2d2::{ManageConnection, PooledConnection, R2D2Connection};
use diesel::result::DatabaseErrorKind::{ClosedConnection, UnableToSendCommand};
use diesel::result::Error::{self, DatabaseError};
use prometheus::IntCounter;

/// A connection that rested longer is tried before it is lent. One that did not would be found out by its first
/// statement, which every request would pay for by one more.
const RESTED: Duration = Duration::from_secs(1);

/// How libpq notices within half a minute that a server can no longer be reached over the network.
const NOTICING: [&str; 5] = [
    "keepalives_idle=10",
    "keepalives_interval=5",
    "keepalives_count=3",
    "tcp_user_timeout=30000",
    "connect_timeout=10",
];

/// The address with these settings, save those that it has already.
fn noticing(url: &str) -> String {
    let mut all = url.to_owned();
    for setting in NOTICING {
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

/// Makes connections and looks after them.
#[derive(Debug)]
pub struct Manager {
    pub url: String,
    /// Counts the statements of all connections.
    pub statements: IntCounter,
}

/// A connection of the pool.
pub struct Kept {
    conn: PgConnection,
    lent: Instant,
    lost: Arc<AtomicBool>,
}

impl ManageConnection for Manager {
    type Connection = Kept;
    type Error = diesel::r2d2::Error;

    fn connect(&self) -> Result<Kept, Self::Error> {
        let made = PgConnection::establish(&noticing(&self.url));
        let mut conn = made.map_err(diesel::r2d2::Error::ConnectionError)?;
        let lost = Arc::new(AtomicBool::new(false));
        let (statements, flag) = (self.statements.clone(), Arc::clone(&lost));
        conn.set_instrumentation(move |event: InstrumentationEvent<'_>| match event {
            InstrumentationEvent::StartQuery { .. } => statements.inc(),
            InstrumentationEvent::FinishQuery {
                error: Some(error), ..
            } if is_loss(error) => flag.store(true, Ordering::Relaxed),
            _ => {}
        });
        let lent = Instant::now();
        Ok(Kept { conn, lent, lost })
    }

    fn is_valid(&self, kept: &mut Kept) -> Result<(), Self::Error> {
        if kept.lent.elapsed() > RESTED {
            let tried = kept.conn.ping();
            tried.map_err(diesel::r2d2::Error::QueryError)?;
        }
        kept.lent = Instant::now();
        Ok(())
    }

    fn has_broken(&self, kept: &mut Kept) -> bool {
        std::thread::panicking() || kept.lost.load(Ordering::Relaxed) || kept.conn.is_broken()
    }
}

/// Whether an error means that the connection is of no use any more.
fn is_loss(error: &Error) -> bool {
    match error {
        DatabaseError(ClosedConnection | UnableToSendCommand, _) => true,
        DatabaseError(_, said) => ["terminating connection", "server closed the connection"]
            .iter()
            .any(|words| said.message().contains(words)),
        _ => false,
    }
}

/// A connection that is lent until it is dropped.
pub struct Lent(pub(super) PooledConnection<Manager>);

impl Deref for Lent {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.0.conn
    }
}

impl DerefMut for Lent {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.0.conn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_form_an_address_has_it_is_told_how_to_notice() {
        let rest =
            "keepalives_interval=5&keepalives_count=3&tcp_user_timeout=30000&connect_timeout=10";
        let asked = [
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
        for (url, wanted) in asked {
            assert_eq!(noticing(url), wanted);
        }
    }
}
