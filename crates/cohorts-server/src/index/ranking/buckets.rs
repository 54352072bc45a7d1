//! A ranking as of a sequence number of the log: the persons of a project in buckets by their time of creation.
//!
//! A bucket has a bitmap of its persons in memory. The order of its persons is loaded when it is read: see `orders`. A
//! ranking is never changed; its successor shares the buckets without changes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cohorts_store::rankings::RankKey;
use roaring::RoaringBitmap;

use super::orders::Orders;

/// The persons of a new bucket. A bucket with twice as many is split. It is smaller in tests, so that they have several.
pub const BUCKET_PERSONS: usize = if cfg!(test) { 1 << 6 } else { 1 << 17 };

/// The memory of a container of a bitmap besides its values, and of a bucket besides its parts, in bytes, about.
const OVERHEAD: u64 = 64;

static NEXT_ID: AtomicU64 = AtomicU64::new(0);

/// The persons with keys from `start` up to the next newer bucket.
#[derive(Clone, Debug)]
pub struct Bucket {
    /// Differs for each set of persons and keys.
    pub id: u64,
    pub start: RankKey,
    pub ordinals: RoaringBitmap,
    /// What was stored at this sequence number of the log, or later, has the keys that `added` lacks.
    pub base_seq: i64,
    /// The keys of persons written after `base_seq`, in order.
    pub added: Vec<RankKey>,
    /// The start of the stored bucket with the other keys. It may have other persons too.
    pub source: Option<RankKey>,
    /// The stored bucket has the changes up to this sequence number of the log; `None` if it has all.
    pub unsaved_since: Option<i64>,
    bytes: u64,
}

/// The persons that leave a bucket, and the keys that it gets.
#[derive(Debug, Default)]
pub struct Edit {
    pub removed: RoaringBitmap,
    pub added: Vec<RankKey>,
}

/// The persons of a project in the order of lists.
#[derive(Clone, Debug)]
pub struct Ranking {
    /// The last sequence number of the log that it contains.
    pub seq: i64,
    /// The last sequence number up to which it lacks no person. Between this and `seq`, persons that were written again
    /// after `seq` may be missing.
    pub complete_seq: i64,
    pub all: Arc<RoaringBitmap>,
    /// The newest first. The last one begins with the smallest key.
    pub buckets: Vec<Arc<Bucket>>,
    pub orders: Arc<Orders>,
    bytes: u64,
}

impl Bucket {
    /// A bucket with all keys as of `base_seq`, which is not stored.
    pub fn new(start: RankKey, ordinals: RoaringBitmap, base_seq: i64) -> Self {
        Self {
            id: next_id(),
            start,
            ordinals,
            base_seq,
            added: Vec::new(),
            source: None,
            unsaved_since: Some(-1),
            bytes: 0,
        }
        .counted()
    }

    /// This bucket after all its keys as of `base_seq` were stored at `source`.
    pub fn saved(&self, source: RankKey, base_seq: i64) -> Self {
        Self {
            base_seq,
            added: Vec::new(),
            source: Some(source),
            unsaved_since: None,
            ..self.clone()
        }
        .counted()
    }

    /// This bucket as if it were not stored.
    pub fn unsaved(&self) -> Self {
        Self {
            source: None,
            unsaved_since: Some(-1),
            ..self.clone()
        }
    }

    /// This bucket with its memory.
    pub fn counted(mut self) -> Self {
        let containers = u64::from(self.ordinals.statistics().n_containers);
        let keys = (self.added.len() * size_of::<RankKey>()) as u64;
        self.bytes = self.ordinals.serialized_size() as u64 + (containers + 3) * OVERHEAD + keys;
        self
    }

    pub fn is_large(&self) -> bool {
        self.ordinals.len() > 2 * BUCKET_PERSONS as u64
    }

    /// The bucket after an edit that follows sequence number `seq`.
    fn edited(&self, edit: Edit, seq: i64) -> Self {
        let changed: RoaringBitmap = edit.added.iter().map(|key| key.ordinal).collect();
        let removed = &edit.removed | &changed;
        let mut added = self.added.clone();
        added.retain(|key| !removed.contains(key.ordinal));
        added.extend(edit.added);
        sort(&mut added);
        Self {
            id: next_id(),
            start: self.start,
            ordinals: (&self.ordinals - &edit.removed) | changed,
            base_seq: self.base_seq,
            added,
            source: self.source,
            unsaved_since: self.unsaved_since.or(Some(seq)),
            bytes: 0,
        }
        .counted()
    }

    /// The parts of a bucket that is too large, each with its order.
    fn parts(&self, order: &[RankKey]) -> Vec<(Self, Vec<RankKey>)> {
        let count = order.len() / BUCKET_PERSONS;
        let parts = order.chunks(order.len().div_ceil(count.max(1)));
        let mut parts: Vec<_> = parts.map(|keys| (self.part(keys), keys.to_vec())).collect();
        if let Some((last, _)) = parts.last_mut() {
            last.start = self.start;
        }
        parts
    }

    fn part(&self, keys: &[RankKey]) -> Self {
        let ordinals: RoaringBitmap = keys.iter().map(|key| key.ordinal).collect();
        let added = self.added.iter();
        let added = added.filter(|key| ordinals.contains(key.ordinal));
        Self {
            id: next_id(),
            start: keys.last().copied().unwrap_or(self.start),
            added: added.copied().collect(),
            ordinals,
            base_seq: self.base_seq,
            source: self.source,
            unsaved_since: self.unsaved_since,
            bytes: 0,
        }
        .counted()
    }
}

impl Ranking {
    /// A ranking of buckets without common persons, the newest first.
    pub fn new(seq: i64, buckets: Vec<Bucket>, orders: Arc<Orders>) -> Self {
        let mut all = RoaringBitmap::new();
        for bucket in &buckets {
            all |= &bucket.ordinals;
        }
        let buckets = buckets.into_iter().map(Arc::new).collect();
        Self::with_buckets(seq, Arc::new(all), buckets, orders)
    }

    fn with_buckets(
        seq: i64,
        all: Arc<RoaringBitmap>,
        buckets: Vec<Arc<Bucket>>,
        orders: Arc<Orders>,
    ) -> Self {
        let parts = buckets.iter().map(|bucket| bucket.bytes);
        Self {
            bytes: all.serialized_size() as u64 + parts.sum::<u64>(),
            seq,
            complete_seq: seq,
            all,
            buckets,
            orders,
        }
    }

    /// The memory of everything except the orders, in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The bucket of the persons with a key.
    pub fn bucket_of(&self, key: RankKey) -> usize {
        let at = self.buckets.partition_point(|bucket| bucket.start > key);
        at.min(self.buckets.len() - 1)
    }

    /// The bucket that contains a person.
    pub fn bucket_with(&self, ordinal: u32) -> Option<usize> {
        let has_person = |bucket: &Arc<Bucket>| bucket.ordinals.contains(ordinal);
        self.buckets.iter().position(has_person)
    }

    /// The edits by which some persons get their keys, and some retire. `written` has each person once.
    pub fn edits(&self, written: &[RankKey], retired: &RoaringBitmap) -> BTreeMap<usize, Edit> {
        let mut edits: BTreeMap<usize, Edit> = BTreeMap::new();
        for key in written {
            edits
                .entry(self.bucket_of(*key))
                .or_default()
                .added
                .push(*key);
        }
        for (at, edit) in &mut edits {
            let bucket = &self.buckets[*at];
            let order = self.orders.peek(bucket.id);
            edit.added.retain(|key| {
                let holds = |keys: &[RankKey]| keys.binary_search_by(|k| key.cmp(k)).is_ok();
                !(bucket.ordinals.contains(key.ordinal)
                    && (holds(&bucket.added) || order.as_ref().is_some_and(|order| holds(order))))
            });
        }
        let keys = edits
            .iter()
            .flat_map(|(at, edit)| edit.added.iter().map(|key| (*at, *key)));
        let moved: Vec<(usize, u32)> = keys
            .filter(|(at, key)| {
                self.all.contains(key.ordinal) && !self.buckets[*at].ordinals.contains(key.ordinal)
            })
            .filter_map(|(_, key)| Some((self.bucket_with(key.ordinal)?, key.ordinal)))
            .collect();
        for (at, ordinal) in moved {
            edits.entry(at).or_default().removed.insert(ordinal);
        }
        let retired = retired & &*self.all;
        if !retired.is_empty() {
            for (at, bucket) in self.buckets.iter().enumerate() {
                let retired = &retired & &bucket.ordinals;
                if !retired.is_empty() {
                    edits.entry(at).or_default().removed |= retired;
                }
            }
        }
        edits.retain(|_, edit| !edit.added.is_empty() || !edit.removed.is_empty());
        edits
    }

    /// The ranking as of `seq`, after edits.
    pub fn edited(&self, seq: i64, edits: BTreeMap<usize, Edit>) -> Self {
        let (mut all, mut buckets) = (Arc::clone(&self.all), self.buckets.clone());
        let (mut removed, mut added) = (RoaringBitmap::new(), RoaringBitmap::new());
        for (at, edit) in edits {
            removed |= &edit.removed;
            added.extend(edit.added.iter().map(|key| key.ordinal));
            let before = Arc::clone(&buckets[at]);
            let after = before.edited(edit, self.seq);
            self.orders.succeed(&before, &after);
            buckets[at] = Arc::new(after);
        }
        if !removed.is_empty() || !added.is_empty() {
            all = Arc::new((&*all - removed) | added);
        }
        Self::with_buckets(seq, all, buckets, Arc::clone(&self.orders))
    }

    /// The ranking with a bucket in parts.
    pub fn split(&self, at: usize, order: &[RankKey]) -> Self {
        let bucket = &self.buckets[at];
        let mut buckets = self.buckets[..at].to_vec();
        for (part, keys) in bucket.parts(order) {
            self.orders.insert(part.id, Arc::new(keys));
            buckets.push(Arc::new(part));
        }
        self.orders.remove(bucket.id);
        buckets.extend(self.buckets[at + 1..].iter().cloned());
        self.rearranged(buckets)
    }

    /// The ranking with other versions of some buckets, which have the same persons.
    pub fn with_saved(&self, saved: Vec<Bucket>) -> Self {
        let mut buckets = self.buckets.clone();
        for bucket in saved {
            if let Some(place) = buckets.iter_mut().find(|other| other.id == bucket.id) {
                *place = Arc::new(bucket);
            }
        }
        self.rearranged(buckets)
    }

    /// The same persons in other buckets.
    fn rearranged(&self, buckets: Vec<Arc<Bucket>>) -> Self {
        let (all, orders) = (Arc::clone(&self.all), Arc::clone(&self.orders));
        Self {
            complete_seq: self.complete_seq,
            ..Self::with_buckets(self.seq, all, buckets, orders)
        }
    }

    /// The last sequence number of the log up to which the stored buckets have all changes.
    pub fn saved_through(&self) -> i64 {
        let unsaved = self
            .buckets
            .iter()
            .filter_map(|bucket| bucket.unsaved_since);
        unsaved.min().unwrap_or(self.seq).min(self.complete_seq)
    }
}

/// Sorts keys in the order of lists.
pub fn sort(keys: &mut [RankKey]) {
    // Most keys are in order, so a stable sort is fast.
    keys.sort_by(|left, right| right.cmp(left));
}

fn next_id() -> u64 {
    NEXT_ID.fetch_add(1, Ordering::Relaxed)
}
