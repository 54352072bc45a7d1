//! One attempt to commit a batch. All of it happens under the lock on the log head.

pub mod halves;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet, VecDeque};

use cohorts_store::definitions::{self, CatalogueEntry};
use cohorts_store::events::{self, EventKey, NewEvent};
use cohorts_store::persons::{self, Owner};
use cohorts_store::{
    Conn, Error, ProjectId, ShardKey, distribution, projects, tombstones, transaction,
};
use uuid::Uuid;

use super::batch_persons::{BatchItem, BatchPersons, PersonChanges};
use super::merged_members::{bits, move_in_cohorts, replace_in_static_cohorts};
use super::{Committed, Item};
use crate::index::IndexedStore;
use crate::index::catalogue::{CatalogueNames, Evidence};
use crate::kill_points::KillPoint;

/// Why an attempt failed.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    #[error(transparent)]
    Store(#[from] Error),
    /// The batch merges existing persons, so the next attempt must lock the project first.
    #[error("the batch merges persons, and the project is not locked")]
    MustLockProject,
    /// A person was deleted after the ordinals were counted; the next attempt takes more.
    #[error("the batch needs more ordinals than were reserved")]
    NoOrdinal,
    /// The other half of the batch was not written.
    #[error("the other half of the batch was not written")]
    HalfWritten,
}

impl From<Failed> for Error {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Store(cause) => cause,
            passing => Self::Unavailable(passing.to_string()),
        }
    }
}

/// The memory that the persons of a commit may take. Items with persons beyond it are committed later.
const PERSON_BYTES: usize = 16 << 20;
/// Persons that are read at first. Their sizes decide how many are read next.
const FIRST_PERSONS: usize = 2;
/// The bytes of persons that are read at once, about.
const READ_BYTES: usize = 1 << 20;
/// The most persons that are read at once.
const READ_PERSONS: usize = 1_000;

/// How a batch is committed.
#[derive(Clone, Copy, Default)]
pub struct Attempt {
    /// On plain Postgres, two connections write half of the events each.
    pub in_halves: bool,
    /// The project is locked, so no other writer changes its static cohorts.
    pub locks_project: bool,
    /// The caller wants the added events.
    pub records_events: bool,
    /// No earlier attempt may have written the items, so the log has none of those with new uuids.
    pub is_first: bool,
}

/// The events that one write of the log has added.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WrittenEvents {
    pub seq: i64,
    /// Whether no other event has the sequence number. An interrupted write of two halves leaves such events.
    pub is_complete: bool,
    /// The position of each item, and the ordinal under which its event was written.
    pub events: Vec<(usize, u32)>,
}

/// Items that are committed together.
pub struct WriteBatch<'a> {
    store: &'a IndexedStore,
    project: ProjectId,
    shard_key: ShardKey,
    items: Vec<BatchItem<'a>>,
    /// Every distinct id of the items, once.
    ids: Vec<&'a str>,
}

/// The part of a batch that was committed.
pub struct CommittedPart {
    /// The number of items, from the first on.
    pub items: usize,
    pub committed: Committed,
    /// The added events, if the attempt records them.
    pub written: Option<WrittenEvents>,
}

/// The rows of a committed transaction.
struct BatchResult {
    /// The sequence number of the write.
    seq: i64,
    /// The number of items that were written or known, from the first on.
    items: usize,
    added: usize,
    changes: PersonChanges,
    written: Option<WrittenEvents>,
    /// The positions of the items that added events.
    new_events: Vec<usize>,
}

impl<'a> WriteBatch<'a> {
    pub fn new(
        store: &'a IndexedStore,
        project: ProjectId,
        items: impl Iterator<Item = &'a Item>,
    ) -> Self {
        let mut ids = Vec::new();
        let mut positions: HashMap<&str, usize> = HashMap::new();
        let mut position_of = |id: &'a str| {
            *positions.entry(id).or_insert_with(|| {
                ids.push(id);
                ids.len() - 1
            })
        };
        let items = items.enumerate().map(|(position, item)| BatchItem {
            position,
            item,
            key: EventKey::new(item.uuid, &item.event, &item.distinct_id),
            id: position_of(&item.distinct_id),
            other_id: item.other_id.as_deref().map(&mut position_of),
        });
        Self {
            items: items.collect(),
            store,
            project,
            shard_key: project.shard_key(),
            ids,
        }
    }

    /// Commits the first items, as far as their persons fit into [`PERSON_BYTES`], and at least one item.
    pub fn commit(&mut self, attempt: Attempt) -> Result<CommittedPart, Failed> {
        let (store, shard_key) = (self.store, self.shard_key);
        let conn = &mut *store.connection()?;
        let cached = store.caches.distinct_ids.owners(shard_key, &self.ids);
        let unknown = cached.iter().filter(|owner| owner.is_none()).count();
        let free = store.ordinals.take(conn, shard_key, unknown)?;
        let unused = free.clone();
        let result = transaction(conn, |conn| self.write(conn, attempt, cached.clone(), free));
        if matches!(result, Err(Failed::MustLockProject)) {
            // Nothing was written, so the ordinals are still free.
            store.ordinals.give_back(shard_key, unused);
        }
        let BatchResult {
            seq,
            items,
            added,
            changes,
            written,
            new_events,
        } = result?;
        KillPoint::CaptureCommitted.reached();
        store.caches.catalogue.note(self.project, seq, |names| {
            self.evidence(&new_events, &changes, names)
        });
        let owners = self.ids.iter().zip(&changes.owners).zip(&cached);
        let changed = owners.filter_map(|((id, owner), cached)| {
            let owner = (*owner)?;
            (cached.map(i64::from) != Some(owner)).then_some((*id, owner))
        });
        store.caches.distinct_ids.insert(shard_key, changed);
        if changes.merged.is_empty() {
            store.caches.distinct_ids.retired_none(shard_key, seq);
        }
        store.ordinals.give_back(shard_key, changes.free);
        let denied = changes.denied;
        let committed = Committed { added, denied };
        Ok(CommittedPart {
            items,
            committed,
            written,
        })
    }

    fn write(
        &self,
        conn: &mut Conn,
        attempt: Attempt,
        mut cached: Vec<Option<u32>>,
        free: VecDeque<i64>,
    ) -> Result<BatchResult, Failed> {
        let shard_key = self.shard_key;
        if attempt.locks_project {
            projects::lock(conn, self.project)?;
        }
        // From here to the commit, no other writer changes events or persons of the project.
        let seq = events::begin_write(conn, shard_key)?;
        let mut written_events = attempt
            .records_events
            .then(|| Self::begin_record(conn, shard_key, seq))
            .transpose()?;
        let cache = &self.store.caches.distinct_ids;
        cache.refresh(conn, shard_key, seq - 1)?;
        cache.remove_retired(shard_key, &mut cached);
        let owners = self.owners(conn, &cached)?;
        let mut batch_persons = BatchPersons::new(owners, free);
        let mut items = self.new_items(conn, &mut batch_persons, attempt.is_first)?;
        batch_persons.set_exported(self.exported_persons(conn, &items)?);
        let fitting = self.load_persons(conn, &mut batch_persons, &items)?;
        let next = items.get(fitting).map(|entry| entry.position);
        items.truncate(fitting);
        let id_counts = self.id_counts(conn, &batch_persons, &items)?;
        batch_persons.set_id_counts(id_counts.clone());
        let ordinals: Result<Vec<i64>, _> = items
            .iter()
            .map(|entry| batch_persons.apply(entry))
            .collect();
        let ordinals = ordinals.map_err(|_| Failed::NoOrdinal)?;
        if batch_persons.merges_existing() && !attempt.locks_project {
            return Err(Failed::MustLockProject);
        }
        batch_persons.choose_ordinals(&id_counts);
        let written = ordinals
            .iter()
            .map(|ordinal| batch_persons.written_ordinal(*ordinal));
        let written: Vec<i64> = written.collect();
        let changes = batch_persons.into_changes();
        let new_events = items
            .into_iter()
            .zip(written)
            .filter(|(entry, _)| entry.item.exported_person.is_none());
        let new_events: Vec<(BatchItem<'_>, i64)> = new_events.collect();
        if let Some(record) = &mut written_events {
            let events = new_events.iter();
            let events = events.map(|(entry, ordinal)| Ok((entry.position, bits(*ordinal)?)));
            record.events = events.collect::<Result<_, Error>>()?;
        }
        let positions = new_events.iter().map(|(entry, _)| entry.position);
        let positions = positions.collect();
        let rows: Vec<NewEvent<'_>> = new_events
            .into_iter()
            .map(|(entry, ordinal)| row(shard_key, seq, entry, ordinal))
            .collect();
        // A distributed Postgres may show a half only seconds after its commit, if a node fails meanwhile. Other writers
        // would have raised the log head, and readers would not find the half.
        if attempt.in_halves && !distribution::is_possible(conn)? {
            self.write_in_halves(conn, seq, &changes, &rows)?;
        } else {
            self.write_persons(conn, seq, &changes)?;
            events::append(conn, &rows)?;
        }
        KillPoint::CaptureWritten.reached();
        Ok(BatchResult {
            seq,
            items: next.unwrap_or(self.items.len()),
            added: rows.len(),
            changes,
            written: written_events,
            new_events: positions,
        })
    }

    /// The items that are not in the log yet, each once. A repeated item must not undo what later items did. If the only
    /// item may change one person, the statement that looks for the event also reads the person.
    fn new_items(
        &self,
        conn: &mut Conn,
        batch_persons: &mut BatchPersons,
        is_first: bool,
    ) -> Result<Vec<BatchItem<'a>>, Error> {
        let may_be_known = |entry: &BatchItem<'_>| !is_first || !entry.item.has_new_uuid;
        if let [entry] = &self.items[..]
            && may_be_known(entry)
            && let Some(ordinal) = batch_persons.only_to_load(entry)
            && let Some((is_known, person)) =
                events::known_with_person(conn, self.shard_key, entry.key, ordinal)?
        {
            batch_persons.load(person);
            return Ok((!is_known).then_some(*entry).into_iter().collect());
        }
        let keys = self.items.iter().filter(|entry| may_be_known(entry));
        let keys: Vec<EventKey> = keys.map(|entry| entry.key).collect();
        let mut known = events::known(conn, self.shard_key, &keys)?;
        let is_new = |entry: &&BatchItem<'a>| known.insert(entry.key);
        Ok(self.items.iter().filter(is_new).copied().collect())
    }

    /// The names of the added events and of the changed persons that `names` does not have.
    fn evidence(
        &self,
        new_events: &[usize],
        changes: &PersonChanges,
        names: &CatalogueNames,
    ) -> Evidence {
        let mut evidence = Evidence::default();
        for position in new_events {
            let item = self.items[*position].item;
            evidence.add_event(&item.event, &item.properties.0, names);
        }
        for person in changes.new.iter().chain(&changes.changed) {
            evidence.add_person(&person.properties.0, names);
        }
        evidence
    }

    /// The record of a write that has added no event yet.
    fn begin_record(
        conn: &mut Conn,
        shard_key: ShardKey,
        seq: i64,
    ) -> Result<WrittenEvents, Error> {
        Ok(WrittenEvents {
            seq,
            is_complete: !events::has_from(conn, shard_key, seq)?,
            events: Vec::new(),
        })
    }

    /// Loads the other persons that the items may change, in the order of the items, until they take [`PERSON_BYTES`]. Returns
    /// the number of items with loaded persons: at least one, however large its persons are.
    fn load_persons(
        &self,
        conn: &mut Conn,
        batch_persons: &mut BatchPersons,
        items: &[BatchItem<'_>],
    ) -> Result<usize, Error> {
        let mut seen = HashSet::new();
        let to_load = items.iter().flat_map(|entry| batch_persons.to_load(entry));
        let to_load = to_load.filter(|ordinal| !batch_persons.is_loaded(*ordinal));
        let ordinals: Vec<i64> = to_load.filter(|ordinal| seen.insert(*ordinal)).collect();
        let (mut rest, mut length, mut memory) = (&ordinals[..], FIRST_PERSONS, 0);
        while !rest.is_empty() && memory < PERSON_BYTES {
            let (next, later) = rest.split_at(length.min(rest.len()));
            rest = later;
            let persons = persons::by_ordinals(conn, self.shard_key, next)?;
            let bytes = persons.iter().map(|person| person.properties.0.len());
            let average = bytes.sum::<usize>() / next.len() + 1;
            length = (READ_BYTES / average).clamp(1, READ_PERSONS);
            memory += persons
                .into_iter()
                .map(|person| batch_persons.load(person))
                .sum::<usize>();
        }
        let unread: HashSet<i64> = rest.iter().copied().collect();
        let is_loaded = |entry: &&BatchItem<'_>| {
            let mut ordinals = batch_persons.to_load(entry);
            ordinals.all(|ordinal| !unread.contains(&ordinal))
        };
        Ok(items.iter().take_while(is_loaded).count())
    }

    /// The persons that have a uuid of an exported person.
    fn exported_persons(
        &self,
        conn: &mut Conn,
        items: &[BatchItem<'_>],
    ) -> Result<HashMap<Uuid, i64>, Error> {
        let exported = items.iter().filter_map(|entry| entry.item.exported_person);
        let exported: HashSet<Uuid> = exported.collect();
        if exported.is_empty() {
            return Ok(HashMap::new());
        }
        let uuids: Vec<Uuid> = exported.into_iter().collect();
        persons::ordinals_by_uuid(conn, self.shard_key, &uuids)
    }

    /// The numbers of distinct ids of the ordinals that the items may give more ids.
    fn id_counts(
        &self,
        conn: &mut Conn,
        batch_persons: &BatchPersons,
        items: &[BatchItem<'_>],
    ) -> Result<HashMap<i64, u64>, Error> {
        let ordinals = batch_persons.to_count(items);
        if ordinals.is_empty() {
            return Ok(HashMap::new());
        }
        persons::count_ids(conn, self.shard_key, &ordinals)
    }

    /// The owners of the ids of the batch. `cached` owners are true; the others are read.
    fn owners(&self, conn: &mut Conn, cached: &[Option<u32>]) -> Result<Vec<Option<Owner>>, Error> {
        let all = || self.ids.iter().zip(cached);
        let missing: Vec<&str> = all()
            .filter(|(_, cached)| cached.is_none())
            .map(|(id, _)| *id)
            .collect();
        let read = if missing.is_empty() {
            HashMap::new()
        } else {
            persons::owners(conn, self.shard_key, &missing)?
        };
        let owner = |(id, cached): (&&str, &Option<u32>)| match cached {
            Some(ordinal) => Some(Owner {
                ordinal: i64::from(*ordinal),
                is_person: true,
            }),
            None => read.get(*id).copied(),
        };
        Ok(all().map(owner).collect())
    }

    fn write_persons(
        &self,
        conn: &mut Conn,
        seq: i64,
        changes: &PersonChanges,
    ) -> Result<(), Error> {
        let shard_key = self.shard_key;
        let survivors = changes.merged.iter().map(|(_, survivor)| *survivor);
        let survivors: Vec<i64> = survivors.collect();
        let mut uuids = HashMap::new();
        if !changes.merged.is_empty() {
            uuids = persons::uuids_by_ordinal(conn, shard_key, &survivors)?;
            persons::merge(conn, shard_key, seq, &changes.merged)?;
            move_in_cohorts(conn, self.project, &changes.moved)?;
            replace_in_static_cohorts(conn, self.project, &changes.merged)?;
        }
        let new_ids = changes.new_ids.iter();
        let new_ids: Vec<(&str, i64)> = new_ids
            .map(|(id, ordinal)| (self.ids[*id], *ordinal))
            .collect();
        persons::add_ids(conn, shard_key, seq, &new_ids)?;
        persons::add(conn, shard_key, seq, &changes.new)?;
        persons::update(conn, shard_key, seq, &changes.changed)?;
        for person in &changes.changed {
            let before = uuids.get(&person.ordinal);
            if let Some(before) = before.filter(|before| **before != person.uuid) {
                let uuids = (person.uuid, *before);
                tombstones::replace_uuid(conn, shard_key, person.ordinal, uuids)?;
            }
        }
        if !changes.lost.is_empty() {
            let lost = changes.lost.iter().cloned();
            let lost = lost.map(CatalogueEntry::PersonProperty).collect();
            definitions::add_checks(conn, shard_key, seq, &lost)?;
        }
        Ok(())
    }
}

fn row<'a>(shard_key: ShardKey, seq: i64, entry: BatchItem<'a>, ordinal: i64) -> NewEvent<'a> {
    let BatchItem { item, key, .. } = entry;
    NewEvent {
        shard_key: shard_key.0,
        uuid: key.uuid,
        identity: key.identity,
        day: item.timestamp.date_naive(),
        seq,
        ordinal,
        event: &item.event,
        distinct_id: &item.distinct_id,
        timestamp: item.timestamp,
        properties: &item.properties,
    }
}
