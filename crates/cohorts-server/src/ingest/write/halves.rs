//! A write by two connections, each with half of the events.

use std::sync::mpsc;
use std::thread;

use cohorts_store::events::{self, NewEvent};
use cohorts_store::transaction;

use super::{Failed, PersonChanges, WriteBatch};

impl WriteBatch<'_> {
    /// Writes the persons first and then the events, by two other connections. After an interruption the next attempt
    /// finds the written events by their keys.
    pub(super) fn write_in_halves(
        &self,
        seq: i64,
        changes: &PersonChanges,
        rows: &[NewEvent<'_>],
    ) -> Result<(), Failed> {
        let (first_rows, second_rows) = rows.split_at(rows.len() / 2);
        let mut first = self.store.connection()?;
        let mut second = self.store.connection()?;
        transaction(&mut first, |conn| self.write_persons(conn, seq, changes))?;
        // The first half commits first, and only when the second can. After an interruption in between, a
        // repetition of the batch writes the second half.
        let (second_ready, wait_for_second) = mpsc::channel();
        let (first_committed, wait_for_first) = mpsc::channel();
        thread::scope(|scope| {
            let second = scope.spawn(move || {
                transaction(&mut second, |conn| {
                    events::append(conn, second_rows)?;
                    second_ready.send(()).map_err(|_| Failed::HalfWritten)?;
                    wait_for_first.recv().map_err(|_| Failed::HalfWritten)
                })
            });
            let first = transaction(&mut first, |conn| {
                events::append(conn, first_rows)?;
                wait_for_second.recv().map_err(|_| Failed::HalfWritten)
            });
            if first.is_ok() {
                // A second half that does not receive this has failed, and returns its error.
                let _ = first_committed.send(());
            } else {
                drop(first_committed);
            }
            let second = second.join().map_err(|_| {
                let cause = anyhow::anyhow!("a writer panicked");
                Failed::Store(cause.into())
            })?;
            first.and(second)
        })
    }
}
