//! A cache with a weight per entry, in which each value is loaded by one caller at a time.
//!
//! Eviction is decided outside, over several caches at once: see `registry`.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::{Mutex, MutexGuard};

use super::{IndexError, IndexResult};

/// Ticks with each use of an entry of any cache.
static CLOCK: AtomicU64 = AtomicU64::new(0);

/// The memory of an entry besides its key and its value, in bytes, about.
const ENTRY: usize = 200;

/// The key of a cached value.
pub trait CacheKey: Eq + Hash + Clone {
    /// The memory of the key's texts, in bytes.
    fn bytes(&self) -> usize;
}

impl CacheKey for () {
    fn bytes(&self) -> usize {
        0
    }
}

impl CacheKey for String {
    fn bytes(&self) -> usize {
        self.len()
    }
}

impl CacheKey for (String, Vec<String>) {
    fn bytes(&self) -> usize {
        let columns = self
            .1
            .iter()
            .map(|column| column.len() + size_of::<String>());
        self.0.len() + columns.sum::<usize>()
    }
}

/// The memory of an entry with its key, in bytes.
fn weight<K: CacheKey>(key: &K, bytes: usize) -> u64 {
    (ENTRY + key.bytes() + bytes) as u64
}

/// Values by key, loaded on first use.
pub struct Cache<K, V>(Mutex<HashMap<K, Arc<Entry<V>>>>);

struct Entry<V> {
    value: Mutex<Option<Arc<V>>>,
    /// Held by the caller that loads the value, for as long as that takes.
    loading: Mutex<()>,
    bytes: AtomicU64,
    /// The tick of the last use.
    last_use: AtomicU64,
}

/// A cached value.
pub struct Cached<K, V> {
    pub key: K,
    pub value: Arc<V>,
    /// The tick of the last use.
    pub last_use: u64,
}

/// The memory of an entry, and the tick of its last use. Orders by the last use.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Weight {
    pub last_use: u64,
    pub bytes: u64,
}

/// How a value of the cache is loaded.
pub struct Load<S, L, B> {
    /// The latest instant to wait for another caller that loads the same value.
    pub deadline: Instant,
    /// Whether a cached value serves this caller.
    pub suits: S,
    /// Loads the value. The argument is the cached value, which does not suit.
    pub load: L,
    /// The memory of a value, in bytes.
    pub bytes: B,
}

impl<K, V> Default for Cache<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<V> Entry<V> {
    fn new(value: Option<Arc<V>>, bytes: u64, last_use: u64) -> Arc<Self> {
        Arc::new(Self {
            value: Mutex::new(value),
            loading: Mutex::new(()),
            bytes: AtomicU64::new(bytes),
            last_use: AtomicU64::new(last_use),
        })
    }
}

/// The tick of a use that happens now.
pub fn next_tick() -> u64 {
    CLOCK.fetch_add(1, Ordering::Relaxed)
}

/// Waits for a lock until `deadline`.
pub fn lock_until<T>(mutex: &Mutex<T>, deadline: Instant) -> IndexResult<MutexGuard<'_, T>> {
    mutex.try_lock_until(deadline).ok_or(IndexError::TimedOut)
}

impl<K: CacheKey, V> Cache<K, V> {
    /// Returns the cached value if it suits, and loads it otherwise.
    pub fn get(
        &self,
        key: K,
        how: Load<
            impl Fn(&V) -> bool,
            impl FnOnce(Option<&V>) -> IndexResult<V>,
            impl Fn(&V) -> usize,
        >,
    ) -> IndexResult<Arc<V>> {
        let empty = weight(&key, 0);
        let entry = {
            let mut entries = self.0.lock();
            let entry = entries
                .entry(key)
                .or_insert_with(|| Entry::new(None, empty, 0));
            Arc::clone(entry)
        };
        let tick = next_tick();
        entry.last_use.store(tick, Ordering::Relaxed);
        let cached = || entry.value.lock().clone();
        let suitable = || cached().filter(|value| (how.suits)(value));
        if let Some(value) = suitable() {
            return Ok(value);
        }
        let _loading = lock_until(&entry.loading, how.deadline)?;
        if let Some(value) = suitable() {
            return Ok(value);
        }
        let value = Arc::new((how.load)(cached().as_deref())?);
        let bytes = empty + (how.bytes)(&value) as u64;
        entry.bytes.store(bytes, Ordering::Relaxed);
        *entry.value.lock() = Some(Arc::clone(&value));
        Ok(value)
    }

    /// Changes the recorded memory of a value that has grown.
    pub fn set_bytes(&self, key: &K, bytes: usize) {
        if let Some(entry) = self.0.lock().get(key) {
            entry.bytes.store(weight(key, bytes), Ordering::Relaxed);
        }
    }

    /// The cached value, if there is one. This is not a use.
    pub fn peek(&self, key: &K) -> Option<Arc<V>> {
        self.0.lock().get(key)?.value.lock().clone()
    }

    /// Whether a value is cached.
    pub fn contains(&self, key: &K) -> bool {
        self.peek(key).is_some()
    }

    /// All cached values.
    pub fn all(&self) -> Vec<Cached<K, V>> {
        let entries = self.0.lock();
        entries
            .iter()
            .filter_map(|(key, entry)| {
                let value = entry.value.lock().clone()?;
                Some(Cached {
                    key: key.clone(),
                    value,
                    last_use: entry.last_use.load(Ordering::Relaxed),
                })
            })
            .collect()
    }

    pub fn put(&self, cached: Cached<K, V>, bytes: usize) {
        let bytes = weight(&cached.key, bytes);
        let entry = Entry::new(Some(cached.value), bytes, cached.last_use);
        self.0.lock().insert(cached.key, entry);
    }

    pub fn weights(&self) -> Vec<Weight> {
        let entries = self.0.lock();
        entries
            .values()
            .map(|entry| Weight {
                last_use: entry.last_use.load(Ordering::Relaxed),
                bytes: entry.bytes.load(Ordering::Relaxed),
            })
            .collect()
    }

    /// Evicts the entries with keys that are not wanted.
    pub fn retain(&self, is_wanted: impl Fn(&K) -> bool) {
        self.0.lock().retain(|key, _| is_wanted(key));
    }

    /// Evicts the entries that were last used before `tick`.
    pub fn evict_before(&self, tick: u64) {
        self.0
            .lock()
            .retain(|_, entry| entry.last_use.load(Ordering::Relaxed) >= tick);
    }
}
