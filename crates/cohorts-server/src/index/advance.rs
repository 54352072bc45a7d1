//! From an index to its successor: the writes of the log after the index are applied to its blocks.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use cohorts_engine::{PropertyBlock, PropertyBlockBuilder, TimesBlock};
use cohorts_store::scan::{EventRow, PersonRow};
use cohorts_store::tombstones::Tombstones;
use roaring::RoaringBitmap;

use super::IndexResult;
use super::cache::{Cache, Cached};
use super::events::{EventIndex, EventIndexes};
use super::load::{changed_persons, events_between, tombstones_since};
use super::project::ProjectIndex;
use super::read::ReadTx;

/// Changes of a property that are kept as layers over its block.
const MAX_LAYERS: usize = 16;

/// Properties of persons, and properties of events, that a successor keeps: the last used ones. Each is read from every
/// changed row.
const MAX_PROPERTIES: usize = 256;
/// Event indexes that a successor keeps: the last used ones.
const MAX_EVENT_INDEXES: usize = 1_024;

/// The index as of the later sequence number `seq`; `None` if a new index is as cheap.
pub fn advance(
    index: &ProjectIndex,
    tx: &ReadTx<'_>,
    seq: i64,
) -> IndexResult<Option<ProjectIndex>> {
    let later = tombstones_since(tx, index.seq)?;
    let mut properties = last_used(index.properties.all());
    properties.truncate(MAX_PROPERTIES);
    let keys: Vec<String> = properties.iter().map(|block| block.key.clone()).collect();
    let Some(rows) = changed_persons(tx, index.seq, &keys)? else {
        return Ok(None);
    };
    let tombstones = if later.retired.is_empty() {
        Arc::clone(&index.tombstones)
    } else {
        Arc::new(index.tombstones.with(&later))
    };
    let Some(events) = advance_events(index, tx, seq, &later, &tombstones)? else {
        return Ok(None);
    };
    let changed: RoaringBitmap = rows.iter().map(|person| person.ordinal).collect();
    let touched = &changed | &later.retired;
    let persons = if touched.is_empty() {
        Arc::clone(&index.persons)
    } else {
        Arc::new((&*index.persons | &changed) - &later.retired)
    };
    Ok(Some(ProjectIndex {
        properties: advance_properties(properties, &touched, &rows),
        created_at: advance_created_at(index, &touched, &rows),
        events,
        property_checkpoints: Arc::clone(&index.property_checkpoints),
        ..ProjectIndex::empty(
            seq,
            index.retention,
            index.range.clone(),
            persons,
            tombstones,
            Arc::clone(&index.live),
        )
    }))
}

fn advance_created_at(
    index: &ProjectIndex,
    touched: &RoaringBitmap,
    rows: &[PersonRow],
) -> Cache<(), TimesBlock> {
    let created_at = Cache::default();
    for Cached {
        key,
        value,
        last_use,
    } in index.created_at.all()
    {
        let times = rows
            .iter()
            .map(|person| (person.ordinal, person.created_at));
        let value = Arc::new(value.with_changes(touched, times));
        let bytes = value.bytes();
        created_at.put(
            Cached {
                key,
                value,
                last_use,
            },
            bytes,
        );
    }
    created_at
}

fn advance_properties(
    blocks: Vec<Cached<String, PropertyBlock>>,
    touched: &RoaringBitmap,
    rows: &[PersonRow],
) -> Cache<String, PropertyBlock> {
    let properties = Cache::default();
    for (nth, mut cached) in blocks.into_iter().enumerate() {
        if !touched.is_empty() {
            cached.value = Arc::new(with_changed_persons(&cached.value, touched, rows, nth));
        }
        let bytes = cached.value.bytes();
        properties.put(cached, bytes);
    }
    properties
}

/// Returns `block` with the values of the persons `touched` replaced by `properties[nth]` of their rows.
pub fn with_changed_persons(
    block: &PropertyBlock,
    touched: &RoaringBitmap,
    rows: &[PersonRow],
    nth: usize,
) -> PropertyBlock {
    let mut values = PropertyBlockBuilder::new();
    for person in rows {
        if let Some(value) = &person.properties[nth] {
            values.push_raw(person.ordinal, value);
        }
    }
    let block = block.with_changes(touched, values.finish());
    if block.layers() < MAX_LAYERS {
        block
    } else {
        block.flattened()
    }
}

/// The event indexes with later events, and with the events of merged persons under their survivors.
fn advance_events(
    index: &ProjectIndex,
    tx: &ReadTx<'_>,
    seq: i64,
    later: &Tombstones,
    tombstones: &Tombstones,
) -> IndexResult<Option<EventIndexes>> {
    let cached = advanced_events(index.events.all());
    let events = Cache::default();
    if cached.is_empty() {
        return Ok(Some(events));
    }
    let names = cached.iter().map(|cached| cached.key.0.clone());
    let names = sorted_unique(names.collect());
    let keys = cached.iter().flat_map(|cached| cached.key.1.clone());
    let keys = sorted_unique(keys.collect());
    let Some(tail) = events_between(tx, (index.seq, seq), &names, &keys)? else {
        return Ok(None);
    };
    let mut by_name: HashMap<&str, Vec<&EventRow>> = HashMap::new();
    for event in &tail {
        by_name.entry(&event.name).or_default().push(event);
    }
    for mut cached in cached {
        let (name, columns) = &cached.key;
        let rows = by_name.get(name.as_str()).map_or(&[][..], Vec::as_slice);
        if !rows.is_empty() || !later.retired.is_empty() {
            let mut successor = cached.value.successor();
            successor.resolve(later, tombstones);
            successor.add(rows, &keys, columns, tombstones);
            cached.value = Arc::new(successor);
        }
        let bytes = cached.value.bytes();
        events.put(cached, bytes);
    }
    Ok(Some(events))
}

/// The last used event indexes, as far as their columns are not too many.
fn advanced_events(
    cached: Vec<Cached<(String, Vec<String>), EventIndex>>,
) -> Vec<Cached<(String, Vec<String>), EventIndex>> {
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
