//! The begin of a write: the lock on the log head, and the items that are not in the log yet.

use cohorts_store::events::{self, BegunWrite, EventKey, SingleRead};
use cohorts_store::persons::Person;
use cohorts_store::{Conn, Error};

use super::WriteBatch;
use crate::ingest::batch_persons::{BatchItem, BatchPersons};

impl<'a> WriteBatch<'a> {
    /// Locks the log head. On a distributed Postgres, the same statement reads the only item and its cached person.
    pub(super) fn begin(
        &self,
        conn: &mut Conn,
        cached: &[Option<u32>],
    ) -> Result<BegunWrite, Error> {
        if let [entry] = &self.items[..]
            && let Some(ordinal) = cached[entry.id]
            && self.store.is_distributed
        {
            return events::begin_single_write(conn, self.shard_key, entry.key, ordinal.into());
        }
        let seq = events::begin_write(conn, self.shard_key)?;
        Ok(BegunWrite { seq, read: None })
    }

    /// The items that are not in the log yet, each once. A repeated item must not undo what later items did. If the only
    /// item may change one person, the same statement reads the person.
    pub(super) fn new_items(
        &self,
        conn: &mut Conn,
        batch_persons: &mut BatchPersons,
        read: Option<SingleRead>,
    ) -> Result<Vec<BatchItem<'a>>, Error> {
        if let ([entry], Some(read)) = (&self.items[..], read) {
            // The cached ordinal may have been retired, and the item may change no person.
            let is_needed =
                |person: &Person| batch_persons.only_to_load(entry) == Some(person.ordinal);
            if let Some(person) = read.person.filter(is_needed) {
                batch_persons.load(person);
            }
            return Ok((!read.is_known).then_some(*entry).into_iter().collect());
        }
        if let [entry] = &self.items[..]
            && let Some(ordinal) = batch_persons.only_to_load(entry)
            && let Some((is_known, person)) =
                events::known_with_person(conn, self.shard_key, entry.key, ordinal)?
        {
            batch_persons.load(person);
            return Ok((!is_known).then_some(*entry).into_iter().collect());
        }
        let keys: Vec<EventKey> = self.items.iter().map(|entry| entry.key).collect();
        let mut known = events::known(conn, self.shard_key, &keys)?;
        let is_new = |entry: &&BatchItem<'a>| known.insert(entry.key);
        Ok(self.items.iter().filter(is_new).copied().collect())
    }
}
