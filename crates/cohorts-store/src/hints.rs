//! Notifications between the processes of one database: which projects a process has written.
//!
//! They are hints for speed. Through a pooler of transactions they do not arrive, so a receiver checks with notifications to
//! itself whether they do, and otherwise looks more often.

use diesel::pg::PgConnection;
use diesel::prelude::*;
use diesel::sql_types::Text;

use crate::{Conn, Result, Store, StoreError, pool};

/// The name of the channel. Each database has channels of its own.
pub(crate) const LISTEN: &str = "listen cohorts";
pub(crate) const NOTIFY: &str = "select 1 from pg_notify('cohorts', $1)";

/// The text that tells all services that a key was revoked, or a project was deleted.
pub const KEYS_CHANGED: &str = "command keys";

/// A connection that receives notifications.
pub struct Listener(PgConnection);

impl Store {
    /// Opens a connection that receives the notifications that are sent from now on.
    ///
    /// # Errors
    ///
    /// Fails if the database cannot be reached.
    pub fn listen(&self) -> Result<Listener> {
        let conn = pool::establish(&self.url);
        let mut conn = conn.map_err(|cause| StoreError::Unavailable(cause.to_string()))?;
        diesel::sql_query(LISTEN).execute(&mut conn)?;
        Ok(Listener(conn))
    }
}

impl Listener {
    /// The texts that have arrived since the last call. Does not wait, and sends nothing to the database.
    ///
    /// # Errors
    ///
    /// Fails if the connection is lost.
    pub fn received(&mut self) -> Result<Vec<String>> {
        let texts = self.0.notifications_iter();
        Ok(texts
            .map(|received| received.map(|received| received.payload))
            .collect::<QueryResult<Vec<String>>>()?)
    }
}

/// Sends a text to all listeners.
///
/// # Errors
///
/// Fails if the database fails.
pub fn send(conn: &mut Conn, text: &str) -> Result<()> {
    diesel::sql_query(NOTIFY)
        .bind::<Text, _>(text)
        .execute(conn)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::{Duration, Instant};

    use crate::testing::TestDatabase;

    #[test]
    fn a_listener_receives_what_is_sent_after_its_start() {
        let database = TestDatabase::create();
        let store = database.open();
        let conn = &mut *store.connection().unwrap();
        super::send(conn, "before").unwrap();
        let mut listener = store.listen().unwrap();
        assert!(listener.received().unwrap().is_empty());
        super::send(conn, "one").unwrap();
        super::send(conn, "two").unwrap();
        let (start, mut received) = (Instant::now(), Vec::new());
        while received.len() < 2 && start.elapsed() < Duration::from_secs(30) {
            received.extend(listener.received().unwrap());
            thread::yield_now();
        }
        assert_eq!(received, ["one", "two"]);
    }
}
