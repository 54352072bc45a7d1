//! Person ordinals: each process reserves ranges of them from one counter per shard key.
//!
//! Gaps are allowed. An ordinal is never used twice.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use diesel::prelude::*;
use parking_lot::Mutex;

use crate::schema::ordinal_counters;
use crate::{Conn, Result, ShardKey, StoreError, projects, transaction};

/// The smallest range that is reserved at a time.
const RANGE: i64 = 64;

/// Ordinals that this process has reserved and not used yet, by shard key.
///
/// Each shard key has a lock of its own, because it is held while the counter is raised: one that waits for its row, or for
/// its worker of a distributed Postgres, must not stop the writers of all others.
#[derive(Debug, Default)]
pub struct Ordinals {
    reserved: Mutex<HashMap<ShardKey, Reserved>>,
}

type Reserved = Arc<Mutex<VecDeque<i64>>>;

impl Ordinals {
    /// Takes `count` unused ordinals, in rising order. Unused ones are given back or remain gaps.
    ///
    /// Must not be called in a transaction, because the counter's row must be released at once.
    ///
    /// # Errors
    ///
    /// [`StoreError::ProjectGone`] if the project is deleted; fails if the database fails, or if the project has used all
    /// ordinals that fit into 32 bits.
    pub fn take(
        &self,
        conn: &mut Conn,
        shard_key: ShardKey,
        count: usize,
    ) -> Result<VecDeque<i64>> {
        let reserved = self.reserved(shard_key);
        let mut ordinals = reserved.lock();
        if ordinals.len() < count {
            let missing = (count - ordinals.len()) as i64;
            ordinals.extend(reserve(conn, shard_key, missing.max(RANGE))?);
        }
        Ok(ordinals.drain(..count).collect())
    }

    /// Takes back ordinals that were not used.
    pub fn give_back(&self, shard_key: ShardKey, unused: VecDeque<i64>) {
        let reserved = self.reserved(shard_key);
        let mut ordinals = reserved.lock();
        for ordinal in unused.into_iter().rev() {
            ordinals.push_front(ordinal);
        }
    }

    fn reserved(&self, shard_key: ShardKey) -> Reserved {
        Arc::clone(self.reserved.lock().entry(shard_key).or_default())
    }
}

/// Increments the counter of a project that exists, in one transaction.
fn reserve(conn: &mut Conn, shard_key: ShardKey, length: i64) -> Result<Range<i64>> {
    transaction(conn, |conn| {
        projects::hold(conn, shard_key.project())?;
        increment(conn, shard_key, length)
    })
}

fn increment(conn: &mut Conn, shard_key: ShardKey, length: i64) -> Result<Range<i64>> {
    let next: i64 = diesel::insert_into(ordinal_counters::table)
        .values((
            ordinal_counters::shard_key.eq(shard_key.0),
            ordinal_counters::next_ordinal.eq(length),
        ))
        .on_conflict(ordinal_counters::shard_key)
        .do_update()
        .set(ordinal_counters::next_ordinal.eq(ordinal_counters::next_ordinal + length))
        .returning(ordinal_counters::next_ordinal)
        .get_result(conn)?;
    if u32::try_from(next).is_err() {
        let cause = anyhow::anyhow!("the project has no person ordinals left");
        return Err(StoreError::Other(cause));
    }
    Ok(next - length..next)
}

#[cfg(test)]
mod tests {
    use std::thread;

    use diesel::sql_types::Bool;

    use super::*;
    use crate::testing::TestDatabase;

    #[test]
    fn a_counter_that_waits_for_its_row_does_not_stop_the_writers_of_another_project() {
        let database = TestDatabase::create();
        let store = database.open();
        let conn = &mut *store.connection().unwrap();
        let [locked, other] = ["a", "b"].map(|token| {
            let project = projects::create(conn, "P", "UTC", token).unwrap();
            project.id().shard_key()
        });
        thread::scope(|scope| {
            transaction(conn, |conn| {
                increment(conn, locked, RANGE)?;
                scope.spawn(|| {
                    let conn = &mut *store.connection().unwrap();
                    store.ordinals.take(conn, locked, 1).unwrap()
                });
                let is_waiting = "exists (select from pg_locks where not granted)";
                while !diesel::select(diesel::dsl::sql::<Bool>(is_waiting)).get_result(conn)? {
                    thread::yield_now();
                }
                let second = &mut *store.connection()?;
                assert_eq!(store.ordinals.take(second, other, 1)?, [0]);
                Ok::<_, StoreError>(())
            })
            .unwrap();
        });
    }
}
