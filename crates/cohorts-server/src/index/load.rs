//! Loads blocks of an index: from segments or a checkpoint and the rows written after these, or from rows alone.

mod persons;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cohorts_engine::{EventBlock, EventBlockBuilder};
use cohorts_store::scan::{self, EventRow, EventScan, PersonRow};
use cohorts_store::tombstones::{self, Tombstones};
use roaring::RoaringBitmap;

use super::cache::Load;
use super::columns;
use super::events::{DayPartition, EventAdder, EventIndex, day_of};
use super::project::ProjectIndex;
use super::read::ReadTx;
use super::segments::{StoredRange, read_days};
use super::{IndexError, IndexResult};

/// Rows between two checks of the memory limit.
pub const CHECK_ROWS: usize = 1_024;

/// The instants of events to read.
#[derive(Clone, Copy)]
pub struct EventSpan {
    pub from: i64,
    pub to: i64,
    /// If the events are not loaded yet, they are loaded from this instant on, because others need them.
    pub load_from: i64,
}

/// The ordinals of all persons, from their checkpoint if one was written at or before `seq`.
pub fn persons(tx: &ReadTx<'_>, seq: i64) -> IndexResult<RoaringBitmap> {
    let stored = columns::persons(tx)?;
    if let Some((through_seq, mut persons)) = stored.filter(|(through_seq, _)| *through_seq <= seq)
    {
        changed_persons(tx, (through_seq, seq), &[], |person| {
            persons.insert(person.ordinal);
            Ok(())
        })?;
        return Ok(persons - tombstones_between(tx, (through_seq, seq))?.retired);
    }
    tx.with_conn(|conn| scan::person_ordinals(conn, tx.shard_key()))
}

/// The tombstones with a sequence number after the first of `span`, up to the second.
pub fn tombstones_between(tx: &ReadTx<'_>, span: (i64, i64)) -> IndexResult<Tombstones> {
    tx.with_conn(|conn| tombstones::between(conn, tx.shard_key(), span))
}

/// Calls `each` with each person last written after `after`, up to `through`, with the properties `keys`.
pub fn changed_persons(
    tx: &ReadTx<'_>,
    span: (i64, i64),
    keys: &[String],
    mut each: impl FnMut(PersonRow) -> IndexResult<()>,
) -> IndexResult<()> {
    if span.0 == span.1 {
        return Ok(());
    }
    tx.with_conn(|conn| scan::changed_persons(conn, tx.shard_key(), span, keys, &mut each))
}

/// Calls `each` with each event of `names` written after `after`, up to `through`.
pub fn events_between(
    tx: &ReadTx<'_>,
    span: (i64, i64),
    names: &[String],
    properties: &[String],
    mut each: impl FnMut(EventRow) -> IndexResult<()>,
) -> IndexResult<()> {
    if span.0 == span.1 || names.is_empty() {
        return Ok(());
    }
    let shard_key = tx.shard_key();
    tx.with_conn(|conn| scan::events_between(conn, shard_key, span, names, properties, &mut each))
}

impl ProjectIndex {
    /// The names of all events, sorted.
    pub fn event_names(&self, tx: &ReadTx<'_>) -> IndexResult<Arc<Vec<String>>> {
        let how = Load {
            deadline: tx.limits.deadline,
            suits: |_: &_| true,
            load: |_: Option<&_>| {
                let mut names = tx.with_conn(|conn| scan::event_names(conn, tx.shard_key()))?;
                // The database may have another order.
                names.sort_unstable();
                Ok(names)
            },
            bytes: |names: &Vec<String>| {
                names
                    .iter()
                    .map(|name| name.len() + size_of::<String>())
                    .sum()
            },
        };
        self.event_names.get((), how)
    }

    /// The segments of the days that a range of instants touches, with columns for at least these properties, which are
    /// sorted.
    pub fn events(
        &self,
        tx: &ReadTx<'_>,
        name: &str,
        span: EventSpan,
        properties: &[String],
    ) -> IndexResult<Vec<Arc<EventBlock>>> {
        let index = self.event_index_with(tx, name, span, properties)?;
        Ok(index.between(day_of(span.from), day_of(span.to)))
    }

    /// The events with all columns that are stored together. If these exceed the memory limit, or if the index has a part
    /// of the persons only, they have the columns `properties`.
    fn event_index_with(
        &self,
        tx: &ReadTx<'_>,
        name: &str,
        span: EventSpan,
        properties: &[String],
    ) -> IndexResult<Arc<EventIndex>> {
        if self.range.is_all() {
            let columns = self.live.columns_for(name, properties);
            match self.event_index(tx, name, span, &columns) {
                Err(IndexError::OverBudget) if columns != properties => {
                    self.live.set_too_large(name);
                }
                result => return result,
            }
        }
        self.event_index(tx, name, span, properties)
    }

    /// As [`Self::events`] without properties. Whole days inside the range may have persons only.
    pub fn events_of_persons(
        &self,
        tx: &ReadTx<'_>,
        name: &str,
        span: EventSpan,
    ) -> IndexResult<Vec<Arc<EventBlock>>> {
        let index = self.event_index(tx, name, span, &[])?;
        let persons = index.persons_between(day_of(span.from), day_of(span.to));
        if persons.has_new_rollup {
            let key = (name.to_owned(), Vec::new());
            self.events.set_bytes(&key, index.bytes());
            tx.set_has_grown();
        }
        Ok(persons.blocks)
    }

    fn event_index(
        &self,
        tx: &ReadTx<'_>,
        name: &str,
        span: EventSpan,
        properties: &[String],
    ) -> IndexResult<Arc<EventIndex>> {
        let from_day = day_of(span.from.min(span.load_from));
        let how = Load {
            deadline: tx.limits.deadline,
            suits: |index: &EventIndex| index.from_day <= day_of(span.from),
            load: |cached: Option<&EventIndex>| {
                let events = self.load_events(tx, name, cached, from_day, properties);
                tx.release_loading();
                events
            },
            bytes: EventIndex::bytes,
        };
        self.events.get((name.to_owned(), properties.to_vec()), how)
    }

    /// Loads the events of a name, or only the earlier days that `cached` lacks.
    fn load_events(
        &self,
        tx: &ReadTx<'_>,
        name: &str,
        cached: Option<&EventIndex>,
        from_day: i64,
        properties: &[String],
    ) -> IndexResult<EventIndex> {
        let range = StoredRange {
            name,
            from_day,
            until_day: cached.map(|cached| cached.from_day),
            columns: properties,
        };
        let mut index = match self.stored_events(tx, &range)? {
            Some(index) => index,
            None => {
                let mut index = EventIndex::new(from_day, BTreeMap::new());
                self.add_rows(tx, &mut index, &range, self.seq)?;
                index
            }
        };
        if let Some(cached) = cached {
            let days = cached.days.iter();
            index
                .days
                .extend(days.map(|(day, partition)| (*day, partition.clone())));
        }
        Ok(index)
    }

    /// Adds the days of a range from the rows up to sequence number `through_seq`.
    fn add_rows(
        &self,
        tx: &ReadTx<'_>,
        index: &mut EventIndex,
        range: &StoredRange<'_>,
        through_seq: i64,
    ) -> IndexResult<()> {
        let scan = EventScan {
            name: range.name,
            from_day: range.from_day,
            until_day: range.until_day,
            properties: range.columns,
            through_seq,
            range: &self.range,
        };
        for (day, segment) in self.segments_from_rows(tx, &scan)? {
            index.days.insert(day, DayPartition::from(vec![segment]));
        }
        Ok(())
    }

    fn segments_from_rows(
        &self,
        tx: &ReadTx<'_>,
        scan: &EventScan<'_>,
    ) -> IndexResult<BTreeMap<i64, EventBlock>> {
        let mut builders: BTreeMap<i64, EventBlockBuilder> = BTreeMap::new();
        let bytes = |builders: &BTreeMap<i64, EventBlockBuilder>| -> usize {
            builders.values().map(EventBlockBuilder::bytes).sum()
        };
        let mut rows = 0;
        tx.with_conn(|conn| {
            scan::events(conn, tx.shard_key(), scan, |event| {
                if let Some(person) = self.resolve(event.ordinal) {
                    let builder = builders
                        .entry(day_of(event.time))
                        .or_insert_with(|| EventBlockBuilder::new(scan.properties));
                    let properties = event.properties.iter().map(Option::as_deref);
                    builder.push_raw(person, event.time, properties);
                }
                rows += 1;
                if rows % CHECK_ROWS == 0 {
                    tx.count_rows(CHECK_ROWS);
                    tx.check_memory(bytes(&builders))?;
                }
                Ok::<_, IndexError>(())
            })
        })?;
        tx.check_memory(bytes(&builders))?;
        let builders = builders.into_iter();
        Ok(builders
            .map(|(day, builder)| (day, builder.finish()))
            .collect())
    }

    /// The events of a name from their segments and the rows written after these; `None` if the segments cannot be used.
    fn stored_events(
        &self,
        tx: &ReadTx<'_>,
        range: &StoredRange<'_>,
    ) -> IndexResult<Option<EventIndex>> {
        if self.retention.days.is_some() {
            return Ok(None);
        }
        let resolved = |block: EventBlock| {
            let is_whole =
                self.range.is_all() && block.persons().is_disjoint(&self.tombstones.retired);
            if is_whole {
                block
            } else {
                block.resolved(|ordinal| self.resolve(ordinal))
            }
        };
        let Some(stored) = read_days(tx, self.seq, range, resolved)? else {
            return Ok(None);
        };
        let damaged = stored.damaged.iter();
        let damaged = damaged.map(|day| (range.name.to_owned(), *day));
        self.damaged_days.lock().extend(damaged);
        let mut index = EventIndex::new(range.from_day, stored.days);
        for (from_day, until_day) in runs(&stored.unreadable) {
            let days = StoredRange {
                from_day,
                until_day: Some(until_day),
                ..*range
            };
            self.add_rows(tx, &mut index, &days, stored.through_seq)?;
        }
        self.with_tail(tx, index, range, stored.through_seq)
            .map(Some)
    }

    /// Adds the events of a range that were written after sequence number `after`.
    fn with_tail(
        &self,
        tx: &ReadTx<'_>,
        index: EventIndex,
        range: &StoredRange<'_>,
        after: i64,
    ) -> IndexResult<EventIndex> {
        let (columns, until) = (range.columns, range.until_day);
        let mut adder = EventAdder::new(index, columns, columns);
        let mut rows = 0;
        events_between(
            tx,
            (after, self.seq),
            &[range.name.to_owned()],
            columns,
            |event| {
                if until.is_none_or(|until| day_of(event.time) < until) {
                    adder.add(&event, self.resolve(event.ordinal));
                }
                rows += 1;
                if rows % CHECK_ROWS == 0 {
                    tx.count_rows(CHECK_ROWS);
                    tx.check_memory(adder.bytes())?;
                }
                Ok(())
            },
        )?;
        Ok(adder.finish())
    }
}

/// The runs of consecutive days, each with the day after it.
fn runs(days: &BTreeSet<i64>) -> Vec<(i64, i64)> {
    let mut runs: Vec<(i64, i64)> = Vec::new();
    for day in days {
        match runs.last_mut() {
            Some((_, until)) if until == day => *until += 1,
            _ => runs.push((*day, day + 1)),
        }
    }
    runs
}
