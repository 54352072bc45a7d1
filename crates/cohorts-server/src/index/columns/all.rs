//! Writes the checkpoints of all properties of a project, after an import.
//!
//! The persons of each part are read once, whatever the number of properties, and only if the part has changed enough. So
//! the first question on any property reads checkpoints.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::{Duration, Instant};

use cohorts_engine::{PropertyBlock, PropertyBlockBuilder};
use cohorts_store::columns::{self, MAX_NAME_BYTES, StoredPart};
use cohorts_store::scan::{self, PersonRange};
use cohorts_store::tombstones::{self, Tombstones};
use cohorts_store::{Conn, Error as StoreError, ProjectId, frames, projects};
use rayon::prelude::*;
use roaring::RoaringBitmap;
use serde_json::value::RawValue;

use super::super::read::{Limits, ReadTx};
use super::super::{IndexError, IndexResult, load};
use super::write::{PartChanges, are_many};
use super::{MIN_PERSONS, PART_BITS, ordinals_of, pack_persons, parts_of, unpack_part};

/// The properties that are written: those that are stored, then the most frequent ones.
const MAX_PROPERTIES: usize = if cfg!(test) { 8 } else { 256 };
/// Ranges of persons that are read first, to count their properties.
const SAMPLES: u64 = 64;
/// The persons of such a range.
const SAMPLE_PERSONS: u32 = 500;
/// The memory of the values of a part while it is read. Properties that do not fit are read by another scan.
const SCAN_BYTES: usize = if cfg!(test) { 1 << 17 } else { 256 << 20 };
/// Persons between two looks at the memory.
const CHECK_PERSONS: usize = 1_024;
/// Packed bytes of one transaction, about.
const WRITE_BYTES: usize = 8 << 20;
/// The time that the read of one part may take.
const PART_LIMIT: Duration = Duration::from_secs(3_600);

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WrittenColumns {
    /// The number of properties with checkpoints.
    pub properties: usize,
    /// Parts of persons that were read.
    pub parts: usize,
}

/// Writes the persons and all properties, as far as they have changed enough. Calls `progress` with the number of parts
/// that are done and the number of all parts.
pub fn write_all(
    conn: &mut Conn,
    project: ProjectId,
    mut progress: impl FnMut(usize, usize),
) -> IndexResult<WrittenColumns> {
    let (seq, persons) = read(conn, project, |tx| {
        let seq = tx.log_head()?;
        Ok((seq, load::persons(tx, seq)?))
    })?;
    if persons.len() < MIN_PERSONS {
        return Ok(WrittenColumns::default());
    }
    write_locked(conn, project, seq, |conn, deleted| {
        let data = pack_persons(&(&persons - &deleted.retired))?;
        columns::write_persons(conn, project.shard_key(), seq, &data)
    })?;
    let mut writer = ColumnsWriter::new(conn, project)?;
    writer.add_frequent(conn, &persons)?;
    let (parts, mut read) = (parts_of(&persons), 0);
    for (nth, part) in parts.iter().enumerate() {
        progress(nth, parts.len());
        if writer.is_due(conn, *part, &persons)? {
            writer.write_part(conn, *part)?;
            read += 1;
        }
    }
    writer.write_empty_parts(conn)?;
    Ok(WrittenColumns {
        properties: writer.names.len(),
        parts: read,
    })
}

fn read<T>(
    conn: &mut Conn,
    project: ProjectId,
    work: impl FnOnce(&ReadTx<'_>) -> IndexResult<T>,
) -> IndexResult<T> {
    let limits = Limits {
        deadline: Instant::now() + PART_LIMIT,
        memory: u64::MAX,
    };
    ReadTx::run(conn, project, limits, |tx| work(&tx))
}

/// Runs `write` under the project's lock, with the persons that were retired after sequence number `seq`. Those of them that
/// were deleted must not be written.
fn write_locked(
    conn: &mut Conn,
    project: ProjectId,
    seq: i64,
    write: impl FnOnce(&mut Conn, &Tombstones) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    cohorts_store::transaction(conn, |conn| {
        projects::lock(conn, project)?;
        let later = tombstones::since(conn, project.shard_key(), seq)?;
        write(conn, &later)
    })
}

fn key_values(properties: &str) -> HashMap<Cow<'_, str>, &RawValue> {
    serde_json::from_str(properties).unwrap_or_default()
}

struct ColumnsWriter {
    project: ProjectId,
    /// The properties to write, in the order in which they were found.
    names: Vec<String>,
    known: HashSet<String>,
    stored: HashMap<(String, i64), StoredPart>,
    changes: PartChanges,
    /// The parts that were read.
    scanned: Vec<ScanEnd>,
}

/// A part that was read.
struct ScanEnd {
    part: u32,
    seq: i64,
    /// The number of properties that were known at the end. No person of the part has a property that was found later.
    names: usize,
}

/// The values of a part by property, as of a sequence number.
struct ScannedPart {
    seq: i64,
    blocks: Vec<(String, PropertyBlock)>,
}

impl ColumnsWriter {
    fn new(conn: &mut Conn, project: ProjectId) -> IndexResult<Self> {
        let parts = columns::all_parts(conn, project.shard_key())?;
        let parts = parts.into_iter();
        let stored: HashMap<(String, i64), StoredPart> = parts
            .map(|part| ((part.property.clone(), part.part), part))
            .collect();
        let known: HashSet<String> = stored.keys().map(|(name, _)| name.clone()).collect();
        Ok(Self {
            project,
            names: known.iter().cloned().collect(),
            known,
            stored,
            changes: PartChanges::new(project),
            scanned: Vec::new(),
        })
    }

    /// Adds the most frequent properties of some persons.
    fn add_frequent(&mut self, conn: &mut Conn, persons: &RoaringBitmap) -> IndexResult<()> {
        let mut counts: HashMap<String, u64> = HashMap::new();
        read(conn, self.project, |tx| {
            for nth in 0..SAMPLES {
                let rank = persons.len() * nth / SAMPLES;
                let first = persons.select(u32::try_from(rank).unwrap_or(u32::MAX));
                let first = first.unwrap_or_default();
                let range = range(first..=first.saturating_add(SAMPLE_PERSONS));
                tx.with_conn(|conn| {
                    scan::properties(conn, tx.shard_key(), &range, |_, properties| {
                        for key in key_values(properties).into_keys() {
                            *counts.entry(key.into_owned()).or_default() += 1;
                        }
                        Ok::<_, IndexError>(())
                    })
                })?;
            }
            Ok(())
        })?;
        let mut frequent: Vec<(String, u64)> = counts.into_iter().collect();
        frequent.sort_unstable_by(|a, b| (Reverse(a.1), &a.0).cmp(&(Reverse(b.1), &b.0)));
        for (name, _) in frequent {
            self.add(&name);
        }
        Ok(())
    }

    /// Adds a property unless there are too many. Returns whether it is written.
    fn add(&mut self, name: &str) -> bool {
        if self.known.contains(name) {
            return true;
        }
        let fits = self.names.len() < MAX_PROPERTIES && name.len() <= MAX_NAME_BYTES;
        if fits {
            self.names.push(name.to_owned());
            self.known.insert(name.to_owned());
        }
        fits
    }

    /// Whether a property of a part is not stored, or many persons have changed since.
    fn is_due(
        &mut self,
        conn: &mut Conn,
        part: u32,
        persons: &RoaringBitmap,
    ) -> Result<bool, StoreError> {
        let persons = persons.range_cardinality(ordinals_of(part));
        for name in &self.names {
            let Some(stored) = self.stored.get(&(name.clone(), part.into())) else {
                return Ok(true);
            };
            if are_many(self.changes.of(conn, stored)?, persons) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Reads a part and writes all its properties.
    fn write_part(&mut self, conn: &mut Conn, part: u32) -> IndexResult<()> {
        let (scanned, mut left) = self.scan(conn, part, None)?;
        self.scanned.push(ScanEnd {
            part,
            seq: scanned.seq,
            names: self.names.len(),
        });
        self.write(conn, part, scanned)?;
        while !left.is_empty() {
            let (scanned, rest) = self.scan(conn, part, Some(&left))?;
            self.write(conn, part, scanned)?;
            left = rest;
        }
        Ok(())
    }

    /// Reads the properties `only` of a part, or all. Returns also the properties that did not fit into memory.
    fn scan(
        &mut self,
        conn: &mut Conn,
        part: u32,
        only: Option<&BTreeSet<String>>,
    ) -> IndexResult<(ScannedPart, BTreeSet<String>)> {
        let mut builders: HashMap<String, PropertyBlockBuilder> = HashMap::new();
        let (mut left, mut rows) = (BTreeSet::new(), 0_usize);
        let names = self.names.iter();
        for name in names.filter(|name| only.is_none_or(|only| only.contains(*name))) {
            builders.insert(name.clone(), PropertyBlockBuilder::with_parts(PART_BITS));
        }
        let mut refused = HashSet::new();
        let seq = read(conn, self.project, |tx| {
            let range = range(ordinals_of(part));
            tx.with_conn(|conn| {
                scan::properties(conn, tx.shard_key(), &range, |person, properties| {
                    for (key, value) in key_values(properties) {
                        if let Some(builder) = builders.get_mut(&*key) {
                            builder.push_raw(person, value.get());
                        } else if only.is_none()
                            && !left.contains(&*key)
                            && !refused.contains(&*key)
                        {
                            if self.add(&key) {
                                let mut builder = PropertyBlockBuilder::with_parts(PART_BITS);
                                builder.push_raw(person, value.get());
                                builders.insert(key.into_owned(), builder);
                            } else if refused.len() < MAX_PROPERTIES {
                                refused.insert(key.into_owned());
                            }
                        }
                    }
                    rows += 1;
                    if rows.is_multiple_of(CHECK_PERSONS) {
                        leave_out(&mut builders, &mut left);
                    }
                    Ok::<_, IndexError>(())
                })
            })?;
            tx.log_head()
        })?;
        let blocks = builders.into_iter();
        let blocks = blocks.map(|(name, builder)| (name, builder.finish()));
        let blocks = blocks.collect();
        Ok((ScannedPart { seq, blocks }, left))
    }

    fn write(&self, conn: &mut Conn, part: u32, scanned: ScannedPart) -> IndexResult<()> {
        let ScannedPart { seq, blocks } = scanned;
        let pack = |(property, block): (String, PropertyBlock)| {
            let row = StoredPart {
                property,
                part: part.into(),
                through_seq: seq,
            };
            Ok((row, frames::pack(&block.encode())?))
        };
        let packed: Result<Vec<_>, StoreError> = blocks.into_par_iter().map(pack).collect();
        let packed = packed?;
        let mut rest = packed.as_slice();
        while !rest.is_empty() {
            let mut bytes = 0;
            let count = rest.iter().take_while(|(_, data)| {
                let fits = bytes == 0 || bytes + data.len() <= WRITE_BYTES;
                bytes += data.len();
                fits
            });
            let (chunk, later) = rest.split_at(count.count());
            rest = later;
            write_locked(conn, self.project, seq, |conn, later| {
                let mut rows = chunk.iter();
                rows.try_for_each(|(row, data)| self.write_row(conn, row, data, later))
            })?;
        }
        Ok(())
    }

    /// Writes a part without the persons that were deleted since it was read.
    fn write_row(
        &self,
        conn: &mut Conn,
        row: &StoredPart,
        data: &[u8],
        later: &Tombstones,
    ) -> Result<(), StoreError> {
        let shard_key = self.project.shard_key();
        if !later.has_deletions() {
            return columns::write(conn, shard_key, row, data);
        }
        let block = unpack_part(self.project, &row.property, row.part as u32, data);
        let block = block.unwrap_or_default().without(&later.retired);
        columns::write(conn, shard_key, row, &frames::pack(&block.encode())?)
    }

    /// Writes that no person of a part has a property, for properties that were found in a later part.
    fn write_empty_parts(&self, conn: &mut Conn) -> IndexResult<()> {
        for ScanEnd { part, seq, names } in &self.scanned {
            let found_later = self.names[*names..].iter();
            let blocks = found_later.map(|name| (name.clone(), PropertyBlock::default()));
            let (seq, blocks) = (*seq, blocks.collect());
            self.write(conn, *part, ScannedPart { seq, blocks })?;
        }
        Ok(())
    }
}

/// Removes the largest builders until the others fit into the memory, except the last one.
fn leave_out(builders: &mut HashMap<String, PropertyBlockBuilder>, left: &mut BTreeSet<String>) {
    let mut bytes: usize = builders.values().map(PropertyBlockBuilder::bytes).sum();
    while bytes > SCAN_BYTES && builders.len() > 1 {
        let largest = builders.iter().max_by_key(|(_, builder)| builder.bytes());
        let Some(name) = largest.map(|(name, _)| name.clone()) else {
            return;
        };
        let removed = builders.remove(&name);
        bytes -= removed.map_or(0, |builder| builder.bytes());
        left.insert(name);
    }
}

fn range(ordinals: std::ops::RangeInclusive<u32>) -> PersonRange {
    PersonRange {
        ordinals,
        merged: Vec::new(),
    }
}
