//! From an index to its successor: the writes of the log after the index are applied to its blocks.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use cohorts_engine::{PropertyBlock, PropertyBlockBuilder, TimesBlock};
use cohorts_store::scan::{self, EventRow};
use cohorts_store::tombstones::Tombstones;
use roaring::RoaringBitmap;

use super::IndexResult;
use super::cache::{Cache, Cached};
use super::events::{CachedEvents, EventAdder, EventIndex, EventIndexes};
use super::load::{CHECK_ROWS, changed_persons, events_between, tombstones_between};
use super::project::{ProjectIndex, STEP_ROWS};
use super::read::ReadTx;

/// Changes of a property that are kept as layers over its block.
const MAX_LAYERS: usize = 16;

/// Properties of persons, and properties of events, that a successor keeps: the last used ones. Each is read from every
/// changed row.
const MAX_PROPERTIES: usize = 256;
/// Event indexes that a successor keeps: the last used ones.
const MAX_EVENT_INDEXES: usize = 1_024;

/// The successor of an index, at most [`STEP_ROWS`] events and persons nearer to sequence number `seq`, which the
/// transaction sees. The caller releases the counted memory of the step, which the successor has.
pub fn advance(index: &ProjectIndex, tx: &ReadTx<'_>, seq: i64) -> IndexResult<ProjectIndex> {
    let span = (index.seq, seq);
    let end = tx.with_conn(|conn| scan::step_end(conn, tx.shard_key(), span, STEP_ROWS))?;
    let span = (index.seq, end);
    let later = tombstones_between(tx, span)?;
    let tombstones = if later.retired.is_empty() {
        Arc::clone(&index.tombstones)
    } else {
        Arc::new(index.tombstones.with(&later))
    };
    let mut properties = last_used(index.properties.all());
    properties.truncate(MAX_PROPERTIES);
    let changes = WrittenPersons::read(tx, span, &properties)?;
    let touched = &changes.persons | &later.retired;
    let persons = if touched.is_empty() {
        Arc::clone(&index.persons)
    } else {
        Arc::new((&*index.persons | &changes.persons) - &later.retired)
    };
    let events = advance_events(index, tx, span, &later, &tombstones)?;
    Ok(ProjectIndex {
        is_behind: end < seq,
        created_at: advance_created_at(index, &touched, &changes.created_at),
        properties: advance_properties(properties, &touched, changes.values),
        events,
        columns: Arc::clone(&index.columns),
        damaged_days: Arc::clone(&index.damaged_days),
        ..ProjectIndex::empty(
            end,
            index.retention,
            index.range.clone(),
            persons,
            tombstones,
            Arc::clone(&index.live),
        )
    })
}

/// The persons that were written in a span of the log, with their new values.
struct WrittenPersons {
    persons: RoaringBitmap,
    created_at: Vec<(u32, i64)>,
    /// The values of each advanced property.
    values: Vec<PropertyBlock>,
}

impl WrittenPersons {
    fn read(
        tx: &ReadTx<'_>,
        span: (i64, i64),
        properties: &[Cached<String, PropertyBlock>],
    ) -> IndexResult<Self> {
        let keys: Vec<String> = properties.iter().map(|block| block.key.clone()).collect();
        let mut builders: Vec<_> = keys.iter().map(|_| PropertyBlockBuilder::new()).collect();
        let (mut persons, mut created_at) = (RoaringBitmap::new(), Vec::new());
        changed_persons(tx, span, &keys, |person| {
            if created_at.len().is_multiple_of(CHECK_ROWS) {
                tx.count_memory(builders.iter().map(PropertyBlockBuilder::bytes).sum());
            }
            persons.insert(person.ordinal);
            created_at.push((person.ordinal, person.created_at));
            for (values, value) in builders.iter_mut().zip(&person.properties) {
                if let Some(value) = value {
                    values.push_raw(person.ordinal, value);
                }
            }
            Ok(())
        })?;
        let values = builders.into_iter().map(PropertyBlockBuilder::finish);
        let values: Vec<PropertyBlock> = values.collect();
        let bytes = values.iter().map(PropertyBlock::bytes).sum::<usize>();
        tx.count_memory(bytes + size_of_val(created_at.as_slice()) + persons.serialized_size());
        Ok(Self {
            persons,
            created_at,
            values,
        })
    }
}

fn advance_created_at(
    index: &ProjectIndex,
    touched: &RoaringBitmap,
    times: &[(u32, i64)],
) -> Cache<(), TimesBlock> {
    let created_at = Cache::default();
    for mut cached in index.created_at.all() {
        let times = times.iter().copied();
        cached.value = Arc::new(cached.value.with_changes(touched, times));
        let bytes = cached.value.bytes();
        created_at.put(cached, bytes);
    }
    created_at
}

fn advance_properties(
    blocks: Vec<Cached<String, PropertyBlock>>,
    touched: &RoaringBitmap,
    changes: Vec<PropertyBlock>,
) -> Cache<String, PropertyBlock> {
    let properties = Cache::default();
    for (mut cached, changes) in blocks.into_iter().zip(changes) {
        if !touched.is_empty() {
            cached.value = Arc::new(with_changes(&cached.value, touched, changes));
        }
        let bytes = cached.value.bytes();
        properties.put(cached, bytes);
    }
    properties
}

/// Returns `block` with the values of the persons `touched` replaced by `changes`.
pub fn with_changes(
    block: &PropertyBlock,
    touched: &RoaringBitmap,
    changes: PropertyBlock,
) -> PropertyBlock {
    let block = block.with_changes(touched, changes);
    if block.layers() < MAX_LAYERS {
        block
    } else {
        block.compacted()
    }
}

/// The event indexes with the events of a span of the log, and with the events of merged persons under their survivors.
fn advance_events(
    index: &ProjectIndex,
    tx: &ReadTx<'_>,
    span: (i64, i64),
    later: &Tombstones,
    tombstones: &Tombstones,
) -> IndexResult<EventIndexes> {
    let cached = advanced_events(index.events.all());
    let names = cached.iter().map(|cached| cached.key.0.clone());
    let names = sorted_unique(names.collect());
    let keys = cached.iter().flat_map(|cached| cached.key.1.clone());
    let keys = sorted_unique(keys.collect());
    let mut successors: HashMap<&str, Vec<Successor<'_>>> = HashMap::new();
    for cached in &cached {
        let successor = Successor::new(cached, &keys, later, tombstones);
        successors.entry(&cached.key.0).or_default().push(successor);
    }
    events_between(tx, span, &names, &keys, |event| {
        let person = tombstones.resolve(event.ordinal);
        for successor in successors
            .get_mut(event.name.as_str())
            .into_iter()
            .flatten()
        {
            successor.add(&event, person);
        }
        Ok(())
    })?;
    let events = Cache::default();
    for successor in successors.into_values().flatten() {
        let cached = successor.finish();
        let bytes = cached.value.bytes();
        events.put(cached, bytes);
    }
    Ok(events)
}

/// An event index with later events. It is copied when the first event is added.
struct Successor<'a> {
    cached: &'a CachedEvents,
    keys: &'a [String],
    /// The index with moved events of merged persons, if there are any.
    resolved: Option<EventIndex>,
    adder: Option<EventAdder<'a>>,
}

impl<'a> Successor<'a> {
    fn new(
        cached: &'a CachedEvents,
        keys: &'a [String],
        later: &Tombstones,
        tombstones: &Tombstones,
    ) -> Self {
        let resolved = (!later.retired.is_empty()).then(|| {
            let mut index = cached.value.successor();
            index.resolve(later, tombstones);
            index
        });
        Self {
            cached,
            keys,
            resolved,
            adder: None,
        }
    }

    fn add(&mut self, event: &EventRow, person: Option<u32>) {
        let adder = self.adder.get_or_insert_with(|| {
            let index = self.resolved.take();
            let index = index.unwrap_or_else(|| self.cached.value.successor());
            EventAdder::new(index, &self.cached.key.1, self.keys)
        });
        adder.add(event, person);
    }

    fn finish(self) -> CachedEvents {
        let changed = self.adder.map(EventAdder::finish).or(self.resolved);
        Cached {
            key: self.cached.key.clone(),
            value: changed.map_or_else(|| Arc::clone(&self.cached.value), Arc::new),
            last_use: self.cached.last_use,
        }
    }
}

/// The last used event indexes, as far as their columns are not too many.
fn advanced_events(cached: Vec<CachedEvents>) -> Vec<CachedEvents> {
    let mut cached = last_used(cached);
    cached.truncate(MAX_EVENT_INDEXES);
    let mut columns = HashSet::new();
    cached.retain(|cached| {
        let added = cached.key.1.iter().filter(|key| !columns.contains(*key));
        let fits = columns.len() + added.count() <= MAX_PROPERTIES;
        if fits {
            columns.extend(cached.key.1.iter().cloned());
        }
        fits
    });
    cached
}

/// Sorts cached values by their last use, the latest first.
fn last_used<K, V>(mut cached: Vec<Cached<K, V>>) -> Vec<Cached<K, V>> {
    cached.sort_by_key(|cached| Reverse(cached.last_use));
    cached
}

fn sorted_unique(mut texts: Vec<String>) -> Vec<String> {
    texts.sort_unstable();
    texts.dedup();
    texts
}
