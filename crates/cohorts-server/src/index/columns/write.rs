//! Writes the checkpoints of persons that are due, from an index.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use cohorts_engine::PropertyBlock;
use cohorts_store::columns::{self, StoredPart};
use cohorts_store::{
    Conn, Error as StoreError, ProjectId, frames, persons as person_rows, projects,
};

use super::super::cache::Cached;
use super::super::live::LiveColumns;
use super::super::project::ProjectIndex;
use super::{MAX_UNREAD, MIN_PERSONS, PART_BITS, ordinals_of, pack_persons, parts_of};

/// The time between two looks at the checkpoint of a property.
const CHECK_EVERY: Duration = Duration::from_secs(60);
/// A checkpoint is written again when one person in this many has changed.
pub const PERSONS_PER_CHANGE: u64 = 100;

/// What is known about the checkpoints of persons, shared by an index and its successors.
#[derive(Debug, Default)]
pub struct ColumnsState {
    persons_checked_at: Option<Instant>,
    properties: HashMap<String, PropertyState>,
}

#[derive(Debug, Default)]
struct PropertyState {
    checked_at: Option<Instant>,
    /// The parts that cannot be decoded.
    damaged: BTreeSet<u32>,
}

fn is_recent(checked_at: Option<Instant>) -> bool {
    checked_at.is_some_and(|time| time.elapsed() < CHECK_EVERY)
}

impl ColumnsState {
    /// Records that parts of a property cannot be decoded, so that they are written again.
    pub fn set_damaged(&mut self, key: &str, parts: &[u32]) {
        if !parts.is_empty() {
            let state = self.properties.entry(key.to_owned()).or_default();
            state.damaged.extend(parts);
            state.checked_at = None;
        }
    }
}

/// The properties with checkpoints, the newest first; none if no limit can be exceeded.
pub fn with_checkpoints(conn: &mut Conn, project: ProjectId) -> Result<Vec<String>, StoreError> {
    let names = columns::properties(conn, project.shard_key())?;
    Ok(if names.len() > MAX_UNREAD {
        names
    } else {
        Vec::new()
    })
}

/// Drops the checkpoints of those properties that no live cohort reads, except the first ones.
pub fn drop_unread(
    conn: &mut Conn,
    project: ProjectId,
    names: Vec<String>,
    live: &LiveColumns,
) -> Result<(), StoreError> {
    let shard_key = project.shard_key();
    let names = names.into_iter();
    for name in names
        .filter(|name| !live.has_property(name))
        .skip(MAX_UNREAD)
    {
        cohorts_store::transaction(conn, |conn| {
            projects::lock(conn, project)?;
            columns::drop_property(conn, shard_key, &name)
        })?;
    }
    Ok(())
}

/// The number of changed persons by part since sequence numbers. Each is counted once.
pub struct PartChanges {
    project: ProjectId,
    since: HashMap<i64, HashMap<i64, i64>>,
}

impl PartChanges {
    pub fn new(project: ProjectId) -> Self {
        Self {
            project,
            since: HashMap::new(),
        }
    }

    fn since(&mut self, conn: &mut Conn, seq: i64) -> Result<&HashMap<i64, i64>, StoreError> {
        Ok(match self.since.entry(seq) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let shard_key = self.project.shard_key();
                let changes = columns::changes_by_part(conn, shard_key, seq, PART_BITS)?;
                entry.insert(changes)
            }
        })
    }

    /// The number of persons of a stored part that have changed since it was written.
    pub fn of(&mut self, conn: &mut Conn, stored: &StoredPart) -> Result<u64, StoreError> {
        let changes = self.since(conn, stored.through_seq)?;
        let count = changes.get(&stored.part).copied().unwrap_or_default();
        Ok(count.unsigned_abs())
    }

    /// The number of all persons that have changed since a sequence number.
    fn total(&mut self, conn: &mut Conn, seq: i64) -> Result<u64, StoreError> {
        let changes = self.since(conn, seq)?;
        Ok(changes.values().sum::<i64>().unsigned_abs())
    }
}

/// Whether enough of `persons` have changed to write their checkpoint again.
pub fn are_many(changes: u64, persons: u64) -> bool {
    changes >= (persons / PERSONS_PER_CHANGE).max(1)
}

/// The parts of a property that are due.
#[derive(Default)]
struct DueParts {
    /// Parts to write with their values.
    written: Vec<u32>,
    /// Parts without changes. Only their sequence number is written.
    unchanged: Vec<StoredPart>,
}

impl ProjectIndex {
    /// Writes the checkpoints of persons that are due. One that cannot be written does not keep the others from being
    /// written.
    pub fn write_columns(
        &self,
        conn: &mut Conn,
        project: ProjectId,
        live: &LiveColumns,
    ) -> Result<(), StoreError> {
        if self.persons.len() < MIN_PERSONS {
            return Ok(());
        }
        let mut written = self.write_persons(conn, project);
        let due = self.due_properties();
        if due.is_empty() {
            return written;
        }
        let mut stored: HashMap<String, Vec<StoredPart>> = HashMap::new();
        for part in columns::all_parts(conn, project.shard_key())? {
            stored.entry(part.property.clone()).or_default().push(part);
        }
        let mut changes = PartChanges::new(project);
        for Cached { key, value, .. } in due {
            let stored = stored.remove(&key);
            if live.has_property(&key) || stored.is_some() {
                let stored = stored.unwrap_or_default();
                let changes = &mut changes;
                let property = self.write_property(conn, project, (&key, &value), &stored, changes);
                written = written.and(property);
            }
        }
        written
    }

    /// The loaded properties that were not looked at lately.
    fn due_properties(&self) -> Vec<Cached<String, PropertyBlock>> {
        let mut due = self.properties.all();
        let state = self.columns.lock();
        due.retain(|cached| {
            let property = state.properties.get(&cached.key);
            !property.is_some_and(|property| is_recent(property.checked_at))
        });
        due
    }

    fn write_persons(&self, conn: &mut Conn, project: ProjectId) -> Result<(), StoreError> {
        let shard_key = project.shard_key();
        if is_recent(self.columns.lock().persons_checked_at) {
            return Ok(());
        }
        let many = (self.persons.len() / PERSONS_PER_CHANGE).max(1) as i64;
        let is_current = match columns::persons_seq(conn, shard_key)? {
            None => false,
            Some(seq) => {
                seq >= self.seq || !person_rows::at_least_changed(conn, shard_key, seq, many)?
            }
        };
        if !is_current {
            let data = pack_persons(&self.persons)?;
            self.write_if_valid(conn, project, |conn| {
                columns::write_persons(conn, shard_key, self.seq, &data)
            })?;
        }
        self.columns.lock().persons_checked_at = Some(Instant::now());
        Ok(())
    }

    /// Writes the parts of a property that have changed. A start reads a few changed persons from their rows.
    fn write_property(
        &self,
        conn: &mut Conn,
        project: ProjectId,
        (key, block): (&str, &PropertyBlock),
        stored: &[StoredPart],
        changes: &mut PartChanges,
    ) -> Result<(), StoreError> {
        let due = self.due_parts(conn, key, stored, changes)?;
        let shard_key = project.shard_key();
        for part in &due.unchanged {
            columns::set_unchanged(conn, shard_key, part, self.seq)?;
        }
        let mut written = Ok(());
        for part in due.written {
            written = written.and(self.write_part(conn, project, (key, block), part));
        }
        written?;
        let mut state = self.columns.lock();
        let checked = PropertyState {
            checked_at: Some(Instant::now()),
            damaged: BTreeSet::new(),
        };
        state.properties.insert(key.to_owned(), checked);
        Ok(())
    }

    fn due_parts(
        &self,
        conn: &mut Conn,
        key: &str,
        stored: &[StoredPart],
        changes: &mut PartChanges,
    ) -> Result<DueParts, StoreError> {
        let damaged = {
            let state = self.columns.lock();
            let property = state.properties.get(key);
            property.map_or_else(BTreeSet::new, |property| property.damaged.clone())
        };
        let (mut due, mut others) = (DueParts::default(), Vec::new());
        for part in parts_of(&self.persons) {
            let stored = stored.iter().find(|stored| stored.part == i64::from(part));
            let Some(stored) = stored.filter(|_| !damaged.contains(&part)) else {
                due.written.push(part);
                continue;
            };
            if stored.through_seq >= self.seq {
                continue;
            }
            let changed = changes.of(conn, stored)?;
            let persons = self.persons.range_cardinality(ordinals_of(part));
            if are_many(changed, persons) {
                due.written.push(part);
            } else {
                others.push((part, stored.clone(), changed));
            }
        }
        // A reader applies all changes since the oldest part.
        let oldest = others.iter().map(|(_, stored, _)| stored.through_seq).min();
        let Some(oldest) = oldest else {
            return Ok(due);
        };
        if are_many(changes.total(conn, oldest)?, self.persons.len()) {
            for (part, stored, changed) in others {
                if changed == 0 {
                    due.unchanged.push(stored);
                } else {
                    due.written.push(part);
                }
            }
        }
        Ok(due)
    }

    fn write_part(
        &self,
        conn: &mut Conn,
        project: ProjectId,
        (key, block): (&str, &PropertyBlock),
        part: u32,
    ) -> Result<(), StoreError> {
        let data = frames::pack(&block.within(&ordinals_of(part)).encode())?;
        let row = StoredPart {
            property: key.to_owned(),
            part: part.into(),
            through_seq: self.seq,
        };
        self.write_if_valid(conn, project, |conn| {
            columns::write(conn, project.shard_key(), &row, &data)
        })?;
        Ok(())
    }
}
