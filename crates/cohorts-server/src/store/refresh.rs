//! From a view to the one after: what later batches wrote is laid upon it.

use std::collections::HashMap;
use std::sync::Arc;

use cohorts_engine::{PropertyBlock, PropertyBlockBuilder, TimesBlock};
use roaring::RoaringBitmap;

use super::forgotten::Forgotten;
use super::logs::Logs;
use super::reader::{Among, Changed, Reader};
use super::views::{MOST_ROWS, Shelf, View};
use crate::error::Error;

/// Changes of a property that may lie upon one another.
const MOST_LAYERS: usize = 16;

/// The view as of a later batch, or nothing where so much was written that a new one is as good.
pub fn after(view: &View, reader: &Reader, head: i64) -> Result<Option<View>, Error> {
    let later = reader.forgotten_since(view.head)?;
    let known = view.properties.all();
    let keys: Vec<String> = known.iter().map(|(key, ..)| key.clone()).collect();
    let Some(people) = reader.changed_people(view.head, &keys, MOST_ROWS)? else {
        return Ok(None);
    };
    let forgotten = match later.gone.is_empty() {
        true => Arc::clone(&view.forgotten),
        false => Arc::new(view.forgotten.with(&later)),
    };
    let Some(logs) = logs(view, reader, head, &later, &forgotten)? else {
        return Ok(None);
    };
    let changed: RoaringBitmap = people.iter().map(|person| person.number).collect();
    let touched = &changed | &later.gone;
    let created_at = Shelf::default();
    for ((), times, used) in view.created_at.all() {
        let rows = people
            .iter()
            .map(|person| (person.number, person.created_at));
        let times = times.with_changes(&touched, rows);
        let bytes = TimesBlock::bytes(&times);
        created_at.put((), Arc::new(times), bytes, used);
    }
    let properties = Shelf::default();
    for (nth, (key, block, used)) in known.into_iter().enumerate() {
        let block = match touched.is_empty() {
            true => block,
            false => Arc::new(changed_property(&block, &touched, &people, nth)),
        };
        let bytes = block.bytes();
        properties.put(key, block, bytes, used);
    }
    let everyone = match touched.is_empty() {
        true => Arc::clone(&view.everyone),
        false => Arc::new((&*view.everyone | &changed) - &later.gone),
    };
    Ok(Some(View {
        head,
        retention: view.retention,
        among: Among::everybody(),
        everyone,
        forgotten,
        properties,
        logs,
        created_at,
        distinct_ids: Shelf::default(),
        names: Shelf::default(),
        sealed: Arc::clone(&view.sealed),
    }))
}

/// A property with some people as they are now, whose values stand at a place of theirs.
pub fn changed_property(
    block: &PropertyBlock,
    touched: &RoaringBitmap,
    people: &[Changed],
    nth: usize,
) -> PropertyBlock {
    let mut now = PropertyBlockBuilder::new();
    for person in people {
        if let Some(value) = &person.properties[nth] {
            now.push_raw(person.number, value);
        }
    }
    let block = block.with_changes(touched, now.finish());
    match block.layers() < MOST_LAYERS {
        true => block,
        false => block.flattened(),
    }
}

/// The logs with later events, and with all events of people who are others now under their numbers.
fn logs(
    view: &View,
    reader: &Reader,
    head: i64,
    later: &Forgotten,
    forgotten: &Forgotten,
) -> Result<Option<Logs>, Error> {
    let kept = view.logs.all();
    let logs = Shelf::default();
    if kept.is_empty() {
        return Ok(Some(logs));
    }
    let mut names: Vec<String> = kept.iter().map(|((name, _), ..)| name.clone()).collect();
    names.sort_unstable();
    names.dedup();
    let all = kept.iter().flat_map(|((_, columns), ..)| columns.clone());
    let mut columns: Vec<String> = all.collect();
    columns.sort_unstable();
    columns.dedup();
    let Some(tail) = reader.events_between(view.head, head, &names, &columns, MOST_ROWS)? else {
        return Ok(None);
    };
    let mut by_name: HashMap<&str, Vec<_>> = HashMap::new();
    for event in &tail {
        by_name.entry(&event.name).or_default().push(event);
    }
    for ((name, own_columns), log, used) in kept {
        let own = by_name.get(name.as_str()).map_or(&[][..], Vec::as_slice);
        let is_same = own.is_empty() && later.gone.is_empty();
        let log = if is_same {
            log
        } else {
            let mut log = log.copy();
            log.follow(later, forgotten);
            log.add(own, &columns, &own_columns, forgotten);
            Arc::new(log)
        };
        let bytes = log.bytes();
        logs.put((name, own_columns), log, bytes, used);
    }
    Ok(Some(logs))
}
