//! The index of one project: an immutable view of its persons and events as of a sequence number of the log.
//!
//! An index is never changed. A successor replaces it: see `advance`. Blocks are loaded on first use: see `load`.

use chrono::{DateTime, Utc};
use cohorts_engine::{PropertyBlock, TimesBlock};
use cohorts_store::projects;
use cohorts_store::scan::PersonRange;
use cohorts_store::tombstones::Tombstones;
use parking_lot::Mutex;
use roaring::RoaringBitmap;
use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::sync::Arc;

use super::IndexResult;
use super::cache::{Cache, Cached, Weight};
use super::columns::ColumnsState;
use super::events::{CachedEvents, EventIndexes};
use super::live::SharedLiveColumns;
use super::read::{ReadTx, RetentionState};

/// The most events, and the most persons, of a step from an index to its successor. It is smaller in tests, so that they
/// catch up in several steps.
pub const STEP_ROWS: usize = if cfg!(test) { 1 << 10 } else { 1 << 16 };

/// The persons and events of a project as of a sequence number.
pub struct ProjectIndex {
    /// The last sequence number of the log that the index contains.
    pub seq: i64,
    /// Whether the index is at a step of a catch-up: persons that were written again later have older values, so it can
    /// be advanced and checkpointed, but not evaluated.
    pub is_behind: bool,
    /// The retention when the index was built. Events deleted since must not come back when more are kept again.
    pub retention: RetentionState,
    /// The persons that the index contains.
    pub range: PersonRange,
    /// The ordinals of the persons.
    pub persons: Arc<RoaringBitmap>,
    pub tombstones: Arc<Tombstones>,
    pub properties: Cache<String, PropertyBlock>,
    pub events: EventIndexes,
    pub created_at: Cache<(), TimesBlock>,
    pub distinct_ids: Cache<(), PropertyBlock>,
    pub event_names: Cache<(), Vec<String>>,
    /// What is known about the checkpoints of persons, shared by an index and its successors.
    pub columns: Arc<Mutex<ColumnsState>>,
    /// Days of names with a damaged segment, shared by an index and its successors.
    pub damaged_days: Arc<Mutex<BTreeSet<(String, i64)>>>,
    /// The columns that live cohorts read, shared by all indexes of the project.
    pub live: Arc<SharedLiveColumns>,
}

impl ProjectIndex {
    /// The index of what a transaction sees, with nothing loaded but the persons.
    pub fn new(
        tx: &ReadTx<'_>,
        seq: i64,
        retention: RetentionState,
        live: &Arc<SharedLiveColumns>,
    ) -> IndexResult<Self> {
        tx.with_conn(|conn| live.refresh(conn, tx.project))?;
        Ok(Self::empty(
            seq,
            retention,
            PersonRange::all(),
            Arc::new(super::load::persons(tx, seq)?),
            Arc::new(super::load::tombstones_between(tx, (-1, seq))?),
            Arc::clone(live),
        ))
    }

    /// An index of these persons with nothing loaded.
    pub fn empty(
        seq: i64,
        retention: RetentionState,
        range: PersonRange,
        persons: Arc<RoaringBitmap>,
        tombstones: Arc<Tombstones>,
        live: Arc<SharedLiveColumns>,
    ) -> Self {
        Self {
            seq,
            is_behind: false,
            retention,
            range,
            persons,
            tombstones,
            properties: Cache::default(),
            events: Cache::default(),
            created_at: Cache::default(),
            distinct_ids: Cache::default(),
            event_names: Cache::default(),
            columns: Arc::default(),
            damaged_days: Arc::default(),
            live,
        }
    }

    /// The index of a part of the persons, with nothing loaded.
    pub fn for_range(&self, ordinals: RangeInclusive<u32>) -> Self {
        let merged = self.tombstones.merged_into(ordinals.clone());
        let mut persons = RoaringBitmap::new();
        persons.insert_range(ordinals.clone());
        let range = PersonRange {
            ordinals,
            merged: merged.into_iter().map(i64::from).collect(),
        };
        Self {
            columns: Arc::clone(&self.columns),
            damaged_days: Arc::clone(&self.damaged_days),
            ..Self::empty(
                self.seq,
                self.retention,
                range,
                Arc::new(persons & &*self.persons),
                Arc::clone(&self.tombstones),
                Arc::clone(&self.live),
            )
        }
    }

    /// Whether this index has properties or events that `other` lacks.
    pub fn has_more_than(&self, other: &Self) -> bool {
        let mut properties = self.properties.all().into_iter();
        let mut events = self.events.all().into_iter();
        properties.any(|cached| !other.properties.contains(&cached.key))
            || events.any(|cached| other.lacks_events(&cached))
    }

    fn lacks_events(&self, events: &CachedEvents) -> bool {
        let known = self.events.peek(&events.key);
        known.is_none_or(|known| known.from_day > events.value.from_day)
    }

    /// This index with the properties and events only that `other` lacks.
    pub fn blocks_missing_in(&self, other: &Self) -> Self {
        let missing = Self {
            is_behind: self.is_behind,
            columns: Arc::clone(&self.columns),
            damaged_days: Arc::clone(&self.damaged_days),
            ..Self::empty(
                self.seq,
                self.retention,
                self.range.clone(),
                Arc::clone(&self.persons),
                Arc::clone(&self.tombstones),
                Arc::clone(&self.live),
            )
        };
        missing.add_blocks(
            |cached| !other.properties.contains(&cached.key),
            |cached| other.lacks_events(cached),
            self,
        );
        missing
    }

    /// Adds the properties and events of an index of the same sequence number.
    pub fn take_blocks(&self, other: &Self) {
        self.add_blocks(|_| true, |_| true, other);
    }

    /// Adds those properties and events of `other` that are wanted.
    fn add_blocks(
        &self,
        is_wanted_property: impl Fn(&Cached<String, PropertyBlock>) -> bool,
        are_wanted_events: impl Fn(&CachedEvents) -> bool,
        other: &Self,
    ) {
        for cached in other
            .properties
            .all()
            .into_iter()
            .filter(is_wanted_property)
        {
            let bytes = cached.value.bytes();
            self.properties.put(cached, bytes);
        }
        for cached in other.events.all().into_iter().filter(are_wanted_events) {
            let bytes = cached.value.bytes();
            self.events.put(cached, bytes);
        }
    }

    /// The person that has the events of `ordinal`, if the index contains the person.
    pub fn resolve(&self, ordinal: u32) -> Option<u32> {
        let person = self.tombstones.resolve(ordinal);
        person.filter(|person| self.range.ordinals.contains(person))
    }

    /// The time of the oldest event that retention keeps, in microseconds since 1970.
    pub fn oldest_event(&self, now: DateTime<Utc>) -> i64 {
        let oldest = projects::oldest_event(self.retention.days, now);
        oldest.map_or(i64::MIN, |oldest| oldest.timestamp_micros())
    }

    /// The memory of what every index of the project has: persons, tombstones and the names of live columns, in bytes.
    pub fn base_bytes(&self) -> u64 {
        let persons = self.persons.serialized_size();
        (persons + self.tombstones.bytes() + self.live.columns().bytes()) as u64
    }

    /// The memory of each loaded block.
    pub fn weights(&self) -> Vec<Weight> {
        let mut weights = self.properties.weights();
        weights.extend(self.events.weights());
        weights.extend(self.created_at.weights());
        weights.extend(self.distinct_ids.weights());
        weights.extend(self.event_names.weights());
        weights
    }

    /// Evicts the blocks that were last used before `tick`.
    pub fn evict_before(&self, tick: u64) {
        self.properties.evict_before(tick);
        self.events.evict_before(tick);
        self.created_at.evict_before(tick);
        self.distinct_ids.evict_before(tick);
        self.event_names.evict_before(tick);
    }
}
