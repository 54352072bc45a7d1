//! Removes deleted persons from stored checkpoints.
//!
//! Each part is rewritten in a transaction of its own, under the lock of its row, so other processes may do the same at
//! the same time. A run that is interrupted leaves the records of the erasures, and the next one begins them again: a part
//! that was rewritten already is only read.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use cohorts_store::columns::{self, StoredPart};
use cohorts_store::erasures::{self, Erasure};
use cohorts_store::{Conn, Error as StoreError, ProjectId, frames};
use roaring::RoaringBitmap;

use super::super::ranking;
use super::super::segments::rewrite_without;
use super::{ordinals_of, pack_persons, unpack_part, unpack_persons};

/// Erasures that are done together.
const ERASURES_AT_ONCE: i64 = 1_000;

/// Erasures of a project that are being done.
pub struct ErasureBatch {
    project: ProjectId,
    erasures: Vec<Erasure>,
    /// Stored parts that may contain the persons.
    parts: VecDeque<StoredPart>,
    /// The names and days of the persons' events.
    events: VecDeque<(EventDay, RoaringBitmap)>,
}

/// The name and the UTC day of events.
type EventDay = (String, i64);

impl ErasureBatch {
    /// The next erasures of a project; `None` if none is pending.
    pub fn begin(conn: &mut Conn, project: ProjectId) -> Result<Option<Self>, StoreError> {
        let shard_key = project.shard_key();
        let erasures = erasures::pending(conn, shard_key, ERASURES_AT_ONCE)?;
        if erasures.is_empty() {
            return Ok(None);
        }
        let mut batch = Self {
            project,
            events: event_days(&erasures),
            erasures,
            parts: VecDeque::new(),
        };
        let parts = columns::all_parts(conn, shard_key)?.into_iter();
        batch.parts = parts
            .filter(|part| !batch.persons_in(part).is_empty())
            .collect();
        Ok(Some(batch))
    }

    /// The persons of a part that were deleted after it was written.
    fn persons_in(&self, part: &StoredPart) -> RoaringBitmap {
        let ordinals = ordinals_of(part.part as u32);
        self.erasures
            .iter()
            .filter(|erasure| erasure.seq > part.through_seq)
            .filter_map(|erasure| u32::try_from(erasure.ordinal).ok())
            .filter(|ordinal| ordinals.contains(ordinal))
            .collect()
    }

    /// Continues until `end`, but for at least one part. Returns whether the erasures are done.
    pub fn run(&mut self, conn: &mut Conn, end: Instant) -> Result<bool, StoreError> {
        while let Some(part) = self.parts.front() {
            self.erase_from(conn, part)?;
            self.parts.pop_front();
            if Instant::now() >= end {
                return Ok(false);
            }
        }
        while let Some(((name, day), persons)) = self.events.front() {
            rewrite_without(conn, self.project, name, *day, persons)?;
            self.events.pop_front();
            if Instant::now() >= end {
                return Ok(false);
            }
        }
        let erased = self.persons();
        self.erase_from_persons(conn, &erased)?;
        cohorts_store::transaction(conn, |conn| {
            ranking::stored::rewrite_without(conn, self.project.shard_key(), &erased)
        })?;
        let ordinals = self.erasures.iter().map(|erasure| erasure.ordinal);
        let ordinals: Vec<i64> = ordinals.collect();
        erasures::finish(conn, self.project.shard_key(), &ordinals)?;
        Ok(true)
    }

    fn erase_from(&self, conn: &mut Conn, part: &StoredPart) -> Result<(), StoreError> {
        let persons = self.persons_in(part);
        let (project, number) = (self.project, part.part as u32);
        columns::rewrite(
            conn,
            project.shard_key(),
            &part.property,
            part.part,
            |stored| {
                match unpack_part(project, &part.property, number, &stored.data) {
                    Some(block) if !block.has_any_of(&persons) => Ok(None),
                    Some(block) => frames::pack(&block.without(&persons).encode()).map(Some),
                    // Without bytes, the part is still damaged, and readers use the rows.
                    None => Ok(Some(Vec::new())),
                }
            },
        )
    }

    /// The persons of all erasures.
    fn persons(&self) -> RoaringBitmap {
        let ordinals = self.erasures.iter();
        let ordinals = ordinals.filter_map(|erasure| u32::try_from(erasure.ordinal).ok());
        ordinals.collect()
    }

    fn erase_from_persons(
        &self,
        conn: &mut Conn,
        erased: &RoaringBitmap,
    ) -> Result<(), StoreError> {
        columns::rewrite_persons(
            conn,
            self.project.shard_key(),
            |stored| match unpack_persons(&stored) {
                Some(persons) if persons.is_disjoint(erased) => Ok(None),
                Some(persons) => pack_persons(&(persons - erased)).map(Some),
                None => Ok(Some(Vec::new())),
            },
        )
    }
}

/// The deleted persons by the names and days of their events.
fn event_days(erasures: &[Erasure]) -> VecDeque<(EventDay, RoaringBitmap)> {
    let mut days: BTreeMap<EventDay, RoaringBitmap> = BTreeMap::new();
    for erasure in erasures {
        let Ok(ordinal) = u32::try_from(erasure.ordinal) else {
            continue;
        };
        for event in &erasure.events {
            days.entry(event.clone()).or_default().insert(ordinal);
        }
    }
    days.into_iter().collect()
}
