//! A write by two connections, each with half of the events.

use std::sync::mpsc;
use std::thread;

use cohorts_store::events::{self, NewEvent};
use cohorts_store::{Conn, definitions, transaction};

use super::{Failed, PersonChanges, WriteBatch};

/// A place at which a test ends a write, as the end of the process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteStop {
    /// The persons are committed, and no event.
    AfterPersons,
    /// The persons and the first half of the events are committed.
    BetweenHalves,
}

#[cfg(test)]
thread_local! {
    /// Where the next writes of this thread end.
    pub static STOP: std::cell::Cell<Option<WriteStop>> = const { std::cell::Cell::new(None) };
}

#[cfg(test)]
fn stop_in_test(place: WriteStop) -> Result<(), Failed> {
    if STOP.get() == Some(place) {
        let cause = anyhow::anyhow!("the write is interrupted");
        return Err(Failed::Store(cause.into()));
    }
    Ok(())
}

#[cfg(not(test))]
fn stop_in_test(_place: WriteStop) -> Result<(), Failed> {
    Ok(())
}

impl WriteBatch<'_> {
    /// Writes the persons first and then the events, by two other connections; `conn` has locked the log head. After an
    /// interruption the next attempt finds the written events by their keys, and the catalogue reads the rows of both.
    pub(super) fn write_in_halves(
        &self,
        conn: &mut Conn,
        seq: i64,
        changes: &PersonChanges,
        rows: &[NewEvent<'_>],
    ) -> Result<(), Failed> {
        let (first_rows, second_rows) = rows.split_at(rows.len() / 2);
        let mut first = self.store.connection()?;
        let mut second = self.store.connection()?;
        let is_first = definitions::begin_halves(&mut first, self.shard_key, seq)?;
        transaction(&mut first, |conn| self.write_persons(conn, seq, changes))?;
        stop_in_test(WriteStop::AfterPersons)?;
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
            let first = first.and_then(|()| stop_in_test(WriteStop::BetweenHalves));
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
        })?;
        if is_first {
            definitions::finish_halves(conn, self.shard_key, seq)?;
        }
        Ok(())
    }
}
