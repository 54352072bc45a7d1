//! Person ordinals: each process reserves ranges of them from one counter per shard key.
//!
//! Gaps are allowed. An ordinal is never used twice.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;

use diesel::prelude::*;
use parking_lot::{Mutex, MutexGuard};

use crate::schema::ordinal_counters;
use crate::{Conn, Result, ShardKey, StoreError, projects, transaction};

/// The smallest range that is reserved at a time.
const RANGE: i64 = 64;

/// Ordinals that this process has reserved and not used yet, by shard key.
#[derive(Debug, Default)]
pub struct Ordinals {
    reserved: Mutex<HashMap<ShardKey, VecDeque<i64>>>,
}

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
        let mut reserved = self.reserved();
        let ordinals = reserved.entry(shard_key).or_default();
        if ordinals.len() < count {
            let missing = (count - ordinals.len()) as i64;
            ordinals.extend(reserve(conn, shard_key, missing.max(RANGE))?);
        }
        Ok(ordinals.drain(..count).collect())
    }

    /// Takes back ordinals that were not used.
    pub fn give_back(&self, shard_key: ShardKey, unused: VecDeque<i64>) {
        let mut reserved = self.reserved();
        let ordinals = reserved.entry(shard_key).or_default();
        for ordinal in unused.into_iter().rev() {
            ordinals.push_front(ordinal);
        }
    }

    fn reserved(&self) -> MutexGuard<'_, HashMap<ShardKey, VecDeque<i64>>> {
        self.reserved.lock()
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
