//! Whose distinct ids are, as far as it was lately asked: kept in memory, so that most events find their person
//! without a look into the database.
//!
//! What is kept is true unless the number has become nobody's since, which the log tells: see `refresh`.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::{Mutex, MutexGuard};

use quick_cache::unsync::Cache;
use quick_cache::{Equivalent, Weighter};
use roaring::RoaringBitmap;

use super::{Conn, ShardKey, QueryResult, tombstones};

/// What all ids that are kept may take together, in bytes: some six hundred thousand of them.
const BUDGET: u64 = 64 << 20;
/// What an id takes beside its text, about.
const ENTRY: u64 = 80;

#[derive(Clone, Debug, PartialEq, Eq)]
struct Key {
    place: ShardKey,
    id: Box<str>,
}

/// A key that is looked for.
#[derive(PartialEq, Eq)]
struct Asked<'a> {
    place: ShardKey,
    id: &'a str,
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let (place, id) = (self.place, &*self.id);
        Asked { place, id }.hash(state);
    }
}

impl Hash for Asked<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.place.hash(state);
        self.id.hash(state);
    }
}

impl Equivalent<Key> for Asked<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        self.place == key.place && self.id == &*key.id
    }
}

#[derive(Clone, Debug)]
struct ByMemory;

impl Weighter<Key, u32> for ByMemory {
    fn weight(&self, key: &Key, _: &u32) -> u64 {
        key.id.len() as u64 + ENTRY
    }
}

/// Numbers of a place that are nobody's any longer, as of a batch of its log.
#[derive(Debug)]
struct Gone {
    batch: i64,
    numbers: RoaringBitmap,
}

#[derive(Debug)]
struct Inner {
    owners: Cache<Key, u32, ByMemory>,
    gone: HashMap<ShardKey, Gone>,
}

/// Distinct ids and the numbers of their people. Never of a number without a person: that may get one at any time.
#[derive(Debug)]
pub struct Ids(Mutex<Inner>);

impl Default for Ids {
    fn default() -> Self {
        let about = BUDGET / (2 * ENTRY);
        Self(Mutex::new(Inner {
            owners: Cache::with_weighter(about as usize, BUDGET, ByMemory),
            gone: HashMap::new(),
        }))
    }
}

impl Ids {
    /// Learns which numbers have become nobody's up to the last batch but the one that is being written: the log's
    /// head is locked.
    pub fn refresh(&self, conn: &mut Conn, place: ShardKey, head: i64) -> QueryResult<()> {
        let known = self.inner().gone.get(&place).map(|gone| gone.batch);
        let since = match known {
            Some(batch) => tombstones::since(conn, place, batch)?.gone,
            // Of what is kept from now on nothing is older.
            None => RoaringBitmap::new(),
        };
        let mut inner = self.inner();
        let gone = inner.gone.entry(place).or_insert(Gone {
            batch: head,
            numbers: RoaringBitmap::new(),
        });
        gone.batch = head.max(gone.batch);
        gone.numbers |= since;
        Ok(())
    }

    /// The number of each of these ids' person, where it is kept: true as of the last `refresh`.
    pub fn owners(&self, place: ShardKey, ids: &[&str]) -> Vec<Option<u32>> {
        let inner = &mut *self.inner();
        let gone = inner.gone.get(&place);
        let owner = |id: &&str| {
            let number = *inner.owners.get(&Asked { place, id })?;
            let is_gone = gone.is_some_and(|gone| gone.numbers.contains(number));
            (!is_gone).then_some(number)
        };
        ids.iter().map(owner).collect()
    }

    /// Forgets those of these numbers that the last `refresh` says are nobody's.
    pub fn check(&self, place: ShardKey, owners: &mut [Option<u32>]) {
        let inner = self.inner();
        if let Some(gone) = inner
            .gone
            .get(&place)
            .filter(|gone| !gone.numbers.is_empty())
        {
            for owner in owners {
                *owner = owner.filter(|number| !gone.numbers.contains(*number));
            }
        }
    }

    /// Keeps whose ids are, after the commit of a batch that was written after a `refresh`.
    pub fn keep<'a>(&self, place: ShardKey, owners: impl Iterator<Item = (&'a str, i64)>) {
        let inner = &mut *self.inner();
        for (id, number) in owners {
            if let Ok(number) = u32::try_from(number) {
                let id = id.into();
                inner.owners.insert(Key { place, id }, number);
            }
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0
            .lock()
            .expect("nothing panics while it holds the ids")
    }
}
