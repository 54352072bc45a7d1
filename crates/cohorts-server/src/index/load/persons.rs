//! Loads the columns of persons: properties, times of creation and distinct ids.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use cohorts_engine::{PropertyBlock, PropertyBlockBuilder, TimesBlock};
use cohorts_store::scan::{self, PersonRange};
use serde_json::value::RawValue;

use super::super::advance::with_changes;
use super::super::cache::{Cached, Load, next_tick};
use super::super::columns::{self, PART_BITS};
use super::super::project::ProjectIndex;
use super::super::ranking::stored::{self, StoredTimes};
use super::super::read::ReadTx;
use super::super::{IndexError, IndexResult};
use super::{CHECK_ROWS, changed_persons, tombstones_between};

/// If a plan reads at least this number of properties, one scan of all properties is cheaper than a scan for each.
const MIN_TOGETHER: usize = 16;

/// The memory of a time of creation while all are loaded: as a row, and in the block.
const BYTES_PER_TIME: usize = 2 * size_of::<(u32, i64)>() + size_of::<(i64, i64)>();

impl ProjectIndex {
    /// The values of a person property.
    pub fn property(&self, tx: &ReadTx<'_>, key: &str) -> IndexResult<Arc<PropertyBlock>> {
        let load = |_: Option<&_>| {
            let block = self.load_property(tx, key);
            tx.release_loading();
            block
        };
        let how = Load {
            deadline: tx.limits.deadline,
            suits: |_: &_| true,
            load,
            bytes: PropertyBlock::bytes,
        };
        self.properties.get(key.to_owned(), how)
    }

    /// Loads the properties `keys` with one scan, as far as they are not loaded and have no checkpoint. If they exceed the
    /// memory limit, none is loaded.
    pub fn load_together(&self, tx: &ReadTx<'_>, keys: BTreeSet<String>) -> IndexResult<()> {
        let live = self.live.columns();
        let is_missing = |key: &String| !live.has_property(key) && !self.properties.contains(key);
        let mut keys: Vec<String> = keys.into_iter().filter(is_missing).collect();
        if keys.len() >= MIN_TOGETHER && !self.stored_parts().is_empty() {
            let stored =
                tx.with_conn(|conn| cohorts_store::columns::properties(conn, tx.shard_key()))?;
            keys.retain(|key| !stored.contains(key));
        }
        if keys.len() < MIN_TOGETHER {
            return Ok(());
        }
        let loaded = self.properties_from_rows(tx, keys);
        tx.release_loading();
        match loaded {
            Err(IndexError::OverBudget) => Ok(()),
            Err(cause) => Err(cause),
            Ok(blocks) => {
                for (key, block) in blocks {
                    let bytes = block.bytes();
                    let cached = Cached {
                        key,
                        value: Arc::new(block),
                        last_use: next_tick(),
                    };
                    self.properties.put(cached, bytes);
                }
                Ok(())
            }
        }
    }

    fn properties_from_rows(
        &self,
        tx: &ReadTx<'_>,
        keys: Vec<String>,
    ) -> IndexResult<Vec<(String, PropertyBlock)>> {
        let mut builders: HashMap<String, PropertyBlockBuilder> = keys
            .into_iter()
            .map(|key| (key, PropertyBlockBuilder::with_parts(PART_BITS)))
            .collect();
        let bytes = |builders: &HashMap<String, PropertyBlockBuilder>| -> usize {
            builders.values().map(PropertyBlockBuilder::bytes).sum()
        };
        let mut rows = 0;
        tx.with_conn(|conn| {
            scan::properties(conn, tx.shard_key(), &self.range, |person, properties| {
                let properties: HashMap<Cow<'_, str>, &RawValue> =
                    serde_json::from_str(properties).unwrap_or_default();
                for (key, value) in properties {
                    if let Some(builder) = builders.get_mut(&*key) {
                        builder.push_raw(person, value.get());
                    }
                }
                rows += 1;
                if rows % CHECK_ROWS == 0 {
                    tx.count_rows(CHECK_ROWS);
                    tx.check_time()?;
                    tx.check_memory(bytes(&builders))?;
                }
                Ok::<_, IndexError>(())
            })
        })?;
        tx.check_memory(bytes(&builders))?;
        let blocks = builders.into_iter();
        Ok(blocks
            .map(|(key, builder)| (key, builder.finish()))
            .collect())
    }

    /// The times of creation.
    pub fn created_at(&self, tx: &ReadTx<'_>) -> IndexResult<Arc<TimesBlock>> {
        let load = |_: Option<&_>| {
            tx.check_memory(self.persons.len() as usize * BYTES_PER_TIME)?;
            let times = self
                .stored_times(tx)
                .and_then(|stored| stored.map_or_else(|| self.times_from_rows(tx), Ok));
            tx.release_loading();
            times
        };
        let how = Load {
            deadline: tx.limits.deadline,
            suits: |_: &_| true,
            load,
            bytes: TimesBlock::bytes,
        };
        self.created_at.get((), how)
    }

    fn times_from_rows(&self, tx: &ReadTx<'_>) -> IndexResult<TimesBlock> {
        let rows = tx.with_conn(|conn| scan::created_at(conn, tx.shard_key(), &self.range))?;
        Ok(TimesBlock::new(rows))
    }

    /// The times of creation from the stored ranking and the persons written after it.
    fn stored_times(&self, tx: &ReadTx<'_>) -> IndexResult<Option<TimesBlock>> {
        if !self.range.is_all() {
            return Ok(None);
        }
        let stored = tx.with_conn(|conn| stored::times(conn, tx.shard_key()))?;
        let stored = stored.filter(|stored| stored.through_seq <= self.seq);
        let Some(StoredTimes { through_seq, times }) = stored else {
            return Ok(None);
        };
        let mut touched = tombstones_between(tx, (through_seq, self.seq))?.retired;
        let mut changes = Vec::new();
        changed_persons(tx, (through_seq, self.seq), &[], |person| {
            touched.insert(person.ordinal);
            changes.push((person.ordinal, person.created_at));
            Ok(())
        })?;
        let times = TimesBlock::new(times);
        Ok(Some(if touched.is_empty() {
            times
        } else {
            times.with_changes(&touched, changes)
        }))
    }

    /// The distinct ids of the persons.
    pub fn distinct_ids(&self, tx: &ReadTx<'_>) -> IndexResult<Arc<PropertyBlock>> {
        let load = |_: Option<&_>| {
            let ids = self.distinct_ids_from_rows(tx);
            tx.release_loading();
            ids
        };
        let how = Load {
            deadline: tx.limits.deadline,
            suits: |_: &_| true,
            load,
            bytes: PropertyBlock::bytes,
        };
        self.distinct_ids.get((), how)
    }

    /// The values of the persons of `range`, while `bytes` are loaded already.
    fn property_from_rows(
        &self,
        tx: &ReadTx<'_>,
        key: &str,
        range: &PersonRange,
        bytes: usize,
    ) -> IndexResult<PropertyBlock> {
        let mut builder = RowBuilder::new(tx, bytes);
        tx.with_conn(|conn| {
            scan::property(conn, tx.shard_key(), key, range, |person, value| {
                builder.add(|block| block.push_raw(person, value))
            })
        })?;
        builder.finish()
    }

    fn distinct_ids_from_rows(&self, tx: &ReadTx<'_>) -> IndexResult<PropertyBlock> {
        let mut builder = RowBuilder::new(tx, 0);
        tx.with_conn(|conn| {
            scan::distinct_ids(conn, tx.shard_key(), &self.range, |person, id| {
                builder.add(|block| block.push(person, &id.into()))
            })
        })?;
        builder.finish()
    }

    /// The parts that are read from checkpoints: none if the index has less than the persons of a part. Their rows are found by
    /// their ordinals.
    fn stored_parts(&self) -> Vec<u32> {
        let (first, last) = (*self.range.ordinals.start(), *self.range.ordinals.end());
        if last - first < 1 << PART_BITS {
            return Vec::new();
        }
        columns::parts_of(&self.persons)
    }

    /// A property from its checkpoint, with missing parts from the rows, and the persons written after it.
    fn load_property(&self, tx: &ReadTx<'_>, key: &str) -> IndexResult<PropertyBlock> {
        let wanted = self.stored_parts();
        let mut stored = columns::property(tx, key, &wanted, self.seq)?;
        self.columns.lock().set_damaged(key, &stored.damaged);
        let Some(through_seq) = stored.through_seq else {
            return self.property_from_rows(tx, key, &self.range, 0);
        };
        for part in wanted {
            if !stored.blocks.iter().any(|(number, _)| *number == part) {
                let (own, part_of) = (&self.range.ordinals, columns::ordinals_of(part));
                let range = PersonRange {
                    ordinals: *own.start().max(part_of.start())..=*own.end().min(part_of.end()),
                    merged: Vec::new(),
                };
                let block = self.property_from_rows(tx, key, &range, stored.bytes())?;
                stored.blocks.push((part, block));
            }
        }
        let bytes = stored.bytes();
        let block = PropertyBlock::from_parts(PART_BITS, stored.blocks);
        self.with_later_changes(tx, key, block, (through_seq, bytes))
    }

    /// Returns `block` with the persons written and retired after its sequence number.
    fn with_later_changes(
        &self,
        tx: &ReadTx<'_>,
        key: &str,
        block: PropertyBlock,
        (through_seq, bytes): (i64, usize),
    ) -> IndexResult<PropertyBlock> {
        let span = (through_seq, self.seq);
        let mut touched = tombstones_between(tx, span)?.retired;
        let mut changes = RowBuilder::new(tx, bytes);
        changed_persons(tx, span, &[key.to_owned()], |person| {
            touched.insert(person.ordinal);
            let value = person.properties[0].as_deref();
            value.map_or(Ok(()), |value| {
                changes.add(|values| values.push_raw(person.ordinal, value))
            })
        })?;
        Ok(if touched.is_empty() {
            block
        } else {
            with_changes(&block, &touched, changes.finish()?)
        })
    }
}

/// Builds a block from rows, within the memory limit.
struct RowBuilder<'a, 't> {
    tx: &'a ReadTx<'t>,
    block: PropertyBlockBuilder,
    rows: usize,
    /// Other memory of the same load, in bytes.
    others: usize,
}

impl<'a, 't> RowBuilder<'a, 't> {
    fn new(tx: &'a ReadTx<'t>, others: usize) -> Self {
        Self {
            tx,
            block: PropertyBlockBuilder::with_parts(PART_BITS),
            rows: 0,
            others,
        }
    }

    /// Adds a row by `push`.
    fn add(&mut self, push: impl FnOnce(&mut PropertyBlockBuilder)) -> IndexResult<()> {
        push(&mut self.block);
        self.rows += 1;
        if self.rows.is_multiple_of(CHECK_ROWS) {
            self.tx.count_rows(CHECK_ROWS);
            self.tx.check_memory(self.others + self.block.bytes())?;
        }
        Ok(())
    }

    fn finish(self) -> IndexResult<PropertyBlock> {
        self.tx.check_memory(self.others + self.block.bytes())?;
        Ok(self.block.finish())
    }
}
