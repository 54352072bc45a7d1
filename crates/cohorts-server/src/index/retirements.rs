//! The last merges and deletions of a project: which ordinals have the same person and ids as at an earlier write.

use std::collections::HashMap;
use std::sync::Arc;

use cohorts_store::{Conn, Error, ShardKey, events, tombstones};

/// The ordinals that are known at most. With more, everything before the last retirement is unknown.
const MOST: i64 = if cfg!(test) { 4 } else { 10_000 };

/// The writes that last retired ordinals, or gave an ordinal the ids of another.
#[derive(Clone, Debug, Default)]
pub struct Retirements {
    /// The sequence number of the last write that retired an ordinal; 0 without one.
    pub last: i64,
    /// All later writes that retired ordinals are known.
    first: i64,
    /// The last of these writes for each ordinal that it retired or that survived its merges.
    changed: HashMap<i64, i64>,
}

impl Retirements {
    /// Adds the later retirements. The caller has begun a transaction, so it sees all of them up to the log head. A write in
    /// halves that was interrupted has retired ordinals above the head; they are read again, because the next write has the
    /// same sequence number.
    ///
    /// # Errors
    ///
    /// Fails if the database fails.
    pub fn later(
        self: &Arc<Self>,
        conn: &mut Conn,
        shard_key: ShardKey,
    ) -> Result<Arc<Self>, Error> {
        // A merge adds two ordinals, so there may be more than `MOST` already.
        let free = (MOST - self.changed.len() as i64).max(0);
        let rows = tombstones::first_since(conn, shard_key, self.last, free + 1)?;
        if rows.is_empty() {
            return Ok(Arc::clone(self));
        }
        let head = events::log_head(conn, shard_key)?;
        if rows.len() as i64 > free {
            let first = tombstones::last_seq(conn, shard_key)?.unwrap_or(0);
            return Ok(Arc::new(Self {
                last: first.min(head),
                first,
                changed: HashMap::new(),
            }));
        }
        let mut later = Self::clone(self);
        for (seq, ordinal, survivor) in rows {
            later.last = seq.min(head);
            let ordinals = [Some(ordinal), survivor].into_iter().flatten();
            later.changed.extend(ordinals.map(|ordinal| (ordinal, seq)));
        }
        Ok(Arc::new(later))
    }

    /// Whether the ids of an ordinal are those that it had after the write `seq`.
    pub fn is_same(&self, ordinal: u32, seq: i64) -> bool {
        let changed = self.changed.get(&i64::from(ordinal));
        (self.first..=self.last).contains(&seq) && changed.is_none_or(|changed| *changed <= seq)
    }

    /// The memory of this, in bytes, about.
    pub fn bytes(&self) -> u64 {
        32 * self.changed.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use cohorts_store::projects;
    use cohorts_store::testing::TestDatabase;
    use cohorts_store::tombstones::NewTombstone;
    use diesel::connection::SimpleConnection;

    use super::*;

    #[test]
    fn only_ordinals_of_later_merges_and_deletions_change_and_too_many_end_all() {
        let database = TestDatabase::create();
        let store = database.open();
        let conn = &mut *store.connection().unwrap();
        let project = projects::create(conn, "P", "UTC", "t").unwrap().id();
        let shard_key = project.shard_key();
        let retire = |conn: &mut Conn, seq, ordinal, merged_into| {
            let uuid = None;
            let tombstone = NewTombstone {
                ordinal,
                uuid,
                merged_into,
            };
            tombstones::record(conn, shard_key, seq, &[tombstone]).unwrap();
        };
        let set_head = |conn: &mut Conn, seq: i64| {
            let key = shard_key.0;
            let head = format!(
                "insert into log_heads values ({key}, {seq}) on conflict (shard_key) do update set seq = {seq}"
            );
            conn.batch_execute(&head).unwrap();
        };
        set_head(conn, 1_000);
        let none = Arc::new(Retirements::default());
        let none = none.later(conn, shard_key).unwrap();
        assert!(none.is_same(1, 0));
        retire(conn, 5, 1, Some(2));
        let merged = none.later(conn, shard_key).unwrap();
        assert_eq!(merged.last, 5);
        // The survivor may have another uuid.
        assert_eq!(
            [1, 2, 3].map(|ordinal| merged.is_same(ordinal, 0)),
            [false, false, true]
        );
        assert!(merged.is_same(2, 5));
        // It is not known whether a merge that is not seen concerns an ordinal.
        assert!(!none.is_same(3, 5));
        retire(conn, 7, 4, None);
        let deleted = merged.later(conn, shard_key).unwrap();
        assert_eq!(
            [2, 3, 4].map(|ordinal| deleted.is_same(ordinal, 5)),
            [true, true, false]
        );
        for ordinal in 10..10 + MOST {
            retire(conn, 10 + ordinal, ordinal, None);
        }
        let many = deleted.later(conn, shard_key).unwrap();
        assert_eq!(many.last, 19 + MOST);
        assert_eq!(
            [7, many.last].map(|seq| many.is_same(3, seq)),
            [false, true]
        );
        assert!(many.changed.is_empty());
        let mut merges = many;
        for nth in 0..2 * MOST {
            retire(conn, 100 + nth, 1_000 + nth, Some(2_000 + nth));
            merges = merges.later(conn, shard_key).unwrap();
            assert_eq!(merges.last, 100 + nth);
            let survivor = u32::try_from(2_000 + nth).unwrap();
            assert_eq!(
                [99, 100].map(|seq| merges.is_same(survivor, seq + nth)),
                [false, true]
            );
        }
        // A write in halves was interrupted, and the next write has the same sequence number.
        retire(conn, 1_001, 5_000, None);
        let interrupted = merges.later(conn, shard_key).unwrap();
        assert_eq!(interrupted.last, 1_000);
        assert!(!interrupted.is_same(5_000, 1_000));
        set_head(conn, 1_001);
        retire(conn, 1_001, 5_001, None);
        let next = interrupted.later(conn, shard_key).unwrap();
        assert_eq!((next.last, next.is_same(5_001, 1_000)), (1_001, false));
    }
}
