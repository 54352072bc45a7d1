//! Keys that were looked up a moment ago, so that most requests need no statement for their key.
//!
//! A cached key is used for at most a second. A revocation by this process, or a hint of another one, ends that at once. A key
//! that expires soon is never cached, because only the clock of the database decides about it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use chrono::{TimeDelta, Utc};
use quick_cache::sync::Cache;

use crate::keys::{self, KeyAccess};
use crate::{Conn, Result};

/// Keys in the cache, about.
const KEYS: usize = 10_000;
/// How long a key is used after its look-up began.
const LIFETIME: Duration = Duration::from_secs(1);
/// A key that expires sooner is not cached. The clocks of service and database may differ by less.
const EXPIRES_SOON: TimeDelta = TimeDelta::minutes(1);

/// The hash of a key, and the requested project.
type Question = (Vec<u8>, Option<i64>);

#[derive(Clone)]
struct CachedAccess {
    access: Arc<KeyAccess>,
    read_at: Instant,
    generation: u64,
}

/// The keys that are cached, by their hashes.
pub struct KeyCache {
    cached: Cache<Question, CachedAccess>,
    /// Each revocation raises it. Keys that were read before are not used any more.
    generation: AtomicU64,
}

impl Default for KeyCache {
    fn default() -> Self {
        Self {
            cached: Cache::new(KEYS),
            generation: AtomicU64::new(0),
        }
    }
}

impl KeyCache {
    /// The live key with this hash, as [`keys::access`] finds it, if that was looked up a moment ago.
    pub fn get(&self, hash: &[u8], project: Option<i64>) -> Option<Arc<KeyAccess>> {
        let found = self.cached.get(&(hash.to_vec(), project))?;
        let is_current = found.generation == self.generation();
        (is_current && found.read_at.elapsed() < LIFETIME).then_some(found.access)
    }

    /// Looks up the live key with this hash, and caches it.
    ///
    /// # Errors
    ///
    /// Fails if the database fails.
    pub fn read(
        &self,
        conn: &mut Conn,
        hash: &[u8],
        project: Option<i64>,
    ) -> Result<Option<Arc<KeyAccess>>> {
        let (read_at, generation) = (Instant::now(), self.generation());
        let question = (hash.to_vec(), project);
        let Some(access) = keys::access(conn, hash, project)? else {
            self.cached.remove(&question);
            return Ok(None);
        };
        let access = Arc::new(access);
        let soon = Utc::now() + EXPIRES_SOON;
        if access.expires_at.is_none_or(|expiry| expiry > soon) {
            let access = Arc::clone(&access);
            let cached = CachedAccess {
                access,
                read_at,
                generation,
            };
            self.cached.insert(question, cached);
        }
        Ok(Some(access))
    }

    /// How often all keys were forgotten.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Forgets all keys, because one of them was revoked.
    pub fn forget(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use chrono::DateTime;

    use super::*;
    use crate::keys::NewKey;
    use crate::testing::TestDatabase;

    fn add(conn: &mut Conn, hash: u8, expires_at: Option<DateTime<Utc>>) -> i64 {
        let owner = keys::teammate(conn, "a@x.io", "").unwrap();
        let new = NewKey {
            hash: &[hash; 32],
            label: "",
            scopes: &["*".to_owned()],
            projects: None,
            expires_at,
        };
        keys::create(conn, &owner, &new).unwrap().id
    }

    #[test]
    fn a_key_is_cached_for_a_second_or_until_a_revocation() {
        let database = TestDatabase::create();
        let store = database.open();
        let conn = &mut *store.connection().unwrap();
        let cache = KeyCache::default();
        let id = add(conn, 1, None);
        let hash = [1; 32];
        assert!(cache.get(&hash, None).is_none());
        let read_at = Instant::now();
        assert_eq!(cache.read(conn, &hash, None).unwrap().unwrap().key, id);
        if read_at.elapsed() < LIFETIME / 2 {
            assert!(cache.get(&hash, None).is_some());
        }
        assert!(cache.get(&hash, Some(1)).is_none(), "of another project");
        while read_at.elapsed() < LIFETIME {
            thread::yield_now();
        }
        assert!(cache.get(&hash, None).is_none(), "after a second");
        cache.read(conn, &hash, None).unwrap();
        assert!(keys::revoke(conn, id).unwrap());
        cache.forget();
        assert!(cache.get(&hash, None).is_none(), "after a revocation");
        assert!(cache.read(conn, &hash, None).unwrap().is_none());
    }

    #[test]
    fn a_key_that_was_read_before_a_revocation_is_not_used_after_it() {
        let cache = KeyCache::default();
        let access = |conn: &mut Conn| cache.read(conn, &[1; 32], None).unwrap();
        let database = TestDatabase::create();
        let conn = &mut *database.open().connection().unwrap();
        add(conn, 1, None);
        access(conn).unwrap();
        let cached = cache.cached.get(&(vec![1; 32], None)).unwrap();
        cache.forget();
        // A look-up that began before the revocation ends after it.
        cache.cached.insert((vec![1; 32], None), cached);
        assert!(cache.get(&[1; 32], None).is_none());
    }

    #[test]
    fn a_key_that_expires_soon_is_not_cached() {
        let database = TestDatabase::create();
        let store = database.open();
        let conn = &mut *store.connection().unwrap();
        let cache = KeyCache::default();
        add(
            conn,
            1,
            Some(Utc::now() + EXPIRES_SOON - TimeDelta::seconds(1)),
        );
        assert!(cache.read(conn, &[1; 32], None).unwrap().is_some());
        assert!(cache.cached.get(&(vec![1; 32], None)).is_none());
        add(conn, 2, Some(Utc::now() + EXPIRES_SOON * 2));
        assert!(cache.read(conn, &[2; 32], None).unwrap().is_some());
        assert!(cache.cached.get(&(vec![2; 32], None)).is_some());
    }
}
