//! From items of a batch, in the wire format, to events and people in the store.
//!
//! Capture, import and the demo all come this way. An item is either read whole or refused with its reason;
//! what a batch holds is committed together.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use chrono::Utc;
use roaring::RoaringBitmap;
use serde_json::json;
use uuid::Uuid;

use crate::error::Error;
use crate::store::events::{self, NewEvent};
use crate::store::persons::{self, Owner, Person};
use crate::store::{self, Conn, JsonText, ShardKey, ProjectId, Store, tombstones, members, projects};

mod intake;
mod item;
mod json;
mod people;

pub use intake::{Intake, Writers};
pub use item::{Arrival, Item, LONGEST_NAME, Refusal, instant, sent_uuid};
pub use people::Denied;
use people::{People, Placed, Written, new_person};

/// A lost connection or a conflict is tried again that often.
const TRIES: u32 = 3;

/// What became of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    /// Events that were not there before.
    pub added: usize,
    pub denied: Denied,
}

/// Keeps a batch: people are made, changed and merged, and the events stand in the log. What was kept before counts
/// once. May be repeated, and repeats itself where the database was not available.
pub fn commit(store: &Store, project: ProjectId, items: &[Item]) -> Result<Committed, Error> {
    commit_with(store, project, items, false)
}

/// As `keep`, for a batch of many thousands which nobody waits for: its events are written by two connections at once,
/// and those of one half may be seen before the others. The log tells of the batch when all of it is there.
pub fn commit_in_halves(store: &Store, project: ProjectId, items: &[Item]) -> Result<Committed, Error> {
    commit_with(store, project, items, true)
}

fn commit_with(store: &Store, project: ProjectId, items: &[Item], splits: bool) -> Result<Committed, Error> {
    if items.is_empty() {
        return Ok(Committed::default());
    }
    retried(|| {
        let mut batch = WriteBatch::new(store, project, items);
        batch.splits = splits;
        match batch.commit() {
            // People who were there before become one, which may change lists of people: the project is locked first,
            // and all is written in one piece.
            Err(Error::Unavailable) if batch.merges => {
                batch.locks = true;
                batch.splits = false;
                batch.commit()
            }
            done => done,
        }
    })
}

/// Repeats work that can be repeated, where the database was not available or somebody else was in the way.
pub fn retried<T>(mut work: impl FnMut() -> Result<T, Error>) -> Result<T, Error> {
    let mut tries = 1;
    loop {
        match work() {
            Err(Error::Unavailable) if tries < TRIES => {
                thread::sleep(Duration::from_millis(50) * tries);
                tries += 1;
            }
            done => return done,
        }
    }
}

/// Items that are committed together.
struct WriteBatch<'a> {
    store: &'a Store,
    project: ProjectId,
    shard_key: ShardKey,
    items: Vec<Placed<'a>>,
    /// Every id that the items name, once.
    ids: Vec<&'a str>,
    /// Whether the project is locked, and others cannot change its lists of people.
    locks: bool,
    /// Whether what is written is committed in parts, before the log tells of it.
    splits: bool,
    /// Whether it was found that people who were there before become one.
    merges: bool,
}

impl<'a> WriteBatch<'a> {
    fn new(store: &'a Store, project: ProjectId, items: &'a [Item]) -> Self {
        let mut ids = Vec::new();
        let mut positions: HashMap<&str, usize> = HashMap::new();
        let mut position_of = |id: &'a str| {
            *positions.entry(id).or_insert_with(|| {
                ids.push(id);
                ids.len() - 1
            })
        };
        let placed = items.iter().map(|item| Placed {
            item,
            id: position_of(&item.distinct_id),
            other_id: item.other_id.as_deref().map(&mut position_of),
        });
        Self {
            items: placed.collect(),
            store,
            project,
            shard_key: project.shard_key(),
            ids,
            locks: false,
            splits: false,
            merges: false,
        }
    }

    fn commit(&mut self) -> Result<Committed, Error> {
        let (store, shard_key) = (self.store, self.shard_key);
        let conn = &mut *store.connection()?;
        let kept = store.ids.owners(shard_key, &self.ids);
        let unknown = kept.iter().filter(|owner| owner.is_none()).count();
        let free = store.ordinals.take(conn, shard_key, unknown)?;
        let unused = free.clone();
        let write = |conn: &mut Conn| self.write(conn, kept.clone(), free);
        let outcome = conn.build_transaction().run(write);
        if outcome.is_err() && self.merges && !self.locks {
            // Nothing was written, so nobody has them.
            store.ordinals.give_back(shard_key, unused);
        }
        let (added, written) = outcome?;
        let owners = self.ids.iter().zip(&written.owners).zip(&kept);
        let new = owners.filter_map(|((id, owner), kept)| {
            let owner = (*owner)?;
            (kept.map(i64::from) != Some(owner)).then_some((*id, owner))
        });
        store.ids.keep(shard_key, new);
        store.ordinals.give_back(shard_key, written.free);
        let denied = written.denied;
        Ok(Committed { added, denied })
    }

    fn write(
        &mut self,
        conn: &mut Conn,
        mut kept: Vec<Option<u32>>,
        free: VecDeque<i64>,
    ) -> Result<(usize, Written), Error> {
        let shard_key = self.shard_key;
        if self.locks {
            projects::lock(conn, self.project)?;
        }
        // From here to the commit nobody else writes people or events of the project.
        let seq = events::begin_write(conn, shard_key)?;
        self.store.ids.refresh(conn, shard_key, seq - 1)?;
        self.store.ids.check(shard_key, &mut kept);
        let owners = self.owners(conn, &kept)?;
        let items = self.new_items(conn)?;
        let mut people = People::new(owners, free);
        let told = people.told(&items);
        people.add(persons::by_ordinals(conn, shard_key, &told)?);
        let ordinals = items.iter().map(|placed| people.take(placed));
        // Somebody was deleted since it was counted how many numbers are needed: the next try takes more.
        let ordinals = ordinals.collect::<Result<Vec<i64>, _>>();
        let ordinals = ordinals.map_err(|_| Error::Unavailable)?;
        self.merges = people.merges();
        if self.merges && !self.locks {
            return Err(Error::Unavailable);
        }
        let ordinals: Vec<i64> = ordinals.iter().map(|ordinal| people.now(*ordinal)).collect();
        let written = people.written();
        let rows = items.into_iter().zip(ordinals);
        let rows: Vec<NewEvent<'_>> = rows
            .filter(|(placed, _)| placed.item.exported_person.is_none())
            .map(|(placed, ordinal)| row(shard_key, seq, placed.item, ordinal))
            .collect();
        if self.splits {
            self.write_apart(seq, &written, &rows)?;
        } else {
            self.write_people(conn, seq, &written)?;
            events::append(conn, &rows)?;
        }
        Ok((rows.len(), written))
    }

    /// People first, then the events. If that ends halfway, what is there is found when the batch is sent again.
    fn write_apart(
        &self,
        seq: i64,
        written: &Written,
        rows: &[NewEvent<'_>],
    ) -> Result<(), Error> {
        let (one, other) = rows.split_at(rows.len() / 2);
        let store = self.store;
        let mut first = store.connection()?;
        let mut second = store.connection()?;
        store::transaction(&mut first, |conn| self.write_people(conn, seq, written))?;
        // The first half is committed first, and only when both can be: if that ends between the two, what is told
        // again is what came last.
        let (written, both) = mpsc::channel();
        let (go, gone) = mpsc::channel();
        let undone = |_| Error::Unavailable;
        thread::scope(|scope| {
            let other = scope.spawn(move || {
                store::transaction(&mut second, |conn| {
                    events::append(conn, other)?;
                    written.send(()).map_err(|_| Error::Unavailable)?;
                    gone.recv().map_err(undone)
                })
            });
            let one = store::transaction(&mut first, |conn| {
                events::append(conn, one)?;
                both.recv().map_err(undone)
            });
            match one {
                // Whoever does not hear it has failed, and says so.
                Ok(()) => drop(go.send(())),
                Err(_) => drop(go),
            }
            let other = other
                .join()
                .map_err(|_| anyhow::anyhow!("a writer panicked"))?;
            one.and(other)
        })
    }

    /// Whose the ids of the batch are, where they are anybody's: `kept` is true, and the others are asked for.
    fn owners(&self, conn: &mut Conn, kept: &[Option<u32>]) -> Result<Vec<Option<Owner>>, Error> {
        let all = || self.ids.iter().zip(kept);
        let asked: Vec<&str> = all()
            .filter(|(_, kept)| kept.is_none())
            .map(|(id, _)| *id)
            .collect();
        let found = match asked.is_empty() {
            true => HashMap::new(),
            false => persons::owners(conn, self.shard_key, &asked)?,
        };
        let owner = |(id, kept): (&&str, &Option<u32>)| match kept {
            Some(ordinal) => Some(Owner {
                ordinal: i64::from(*ordinal),
                is_person: true,
            }),
            None => found.get(*id).copied(),
        };
        Ok(all().map(owner).collect())
    }

    /// The items that are not in the log yet, each once. What is told again must not undo what was told since.
    fn new_items(&self, conn: &mut Conn) -> Result<Vec<Placed<'a>>, Error> {
        let uuids: Vec<Uuid> = self.items.iter().map(|placed| placed.item.uuid).collect();
        let mut seen = events::known(conn, self.shard_key, &uuids)?;
        let new = |placed: &&Placed<'a>| seen.insert(placed.item.uuid);
        Ok(self.items.iter().filter(new).copied().collect())
    }

    fn write_people(&self, conn: &mut Conn, seq: i64, written: &Written) -> Result<(), Error> {
        let shard_key = self.shard_key;
        if !written.merged.is_empty() {
            persons::merge(conn, shard_key, &written.merged)?;
            tombstones::record_merged(conn, shard_key, seq, &written.merged)?;
            follow_in_lists(conn, self.project, &written.merged)?;
        }
        let new_ids = written.new_ids.iter();
        let new_ids: Vec<(&str, i64)> = new_ids
            .map(|(id, ordinal)| (self.ids[*id], *ordinal))
            .collect();
        persons::add_ids(conn, shard_key, &new_ids)?;
        persons::add(conn, shard_key, seq, &written.new)?;
        Ok(persons::update(conn, shard_key, seq, &written.changed)?)
    }
}

fn row(shard_key: ShardKey, seq: i64, item: &Item, ordinal: i64) -> NewEvent<'_> {
    NewEvent {
        shard_key: shard_key.0,
        day: item.timestamp.date_naive(),
        uuid: item.uuid,
        seq,
        ordinal,
        event: &item.event,
        distinct_id: &item.distinct_id,
        timestamp: item.timestamp,
        properties: &item.properties,
    }
}

/// Whoever was merged stands in every list of people as whom they were merged into.
fn follow_in_lists(
    conn: &mut Conn,
    project: ProjectId,
    merged: &[(i64, i64)],
) -> Result<(), Error> {
    let ordinal = |ordinal: i64| u32::try_from(ordinal).map_err(anyhow::Error::from);
    let from = merged.iter().map(|(from, _)| ordinal(*from));
    let from = from.collect::<Result<RoaringBitmap, _>>()?;
    for list in members::lists_with(conn, project, &from)? {
        let followed = |mut people: RoaringBitmap| {
            for (from, into) in merged {
                if people.remove(ordinal(*from)?) {
                    people.insert(ordinal(*into)?);
                }
            }
            Ok(people)
        };
        members::edit(conn, &list, followed)?;
    }
    Ok(())
}

/// Somebody by a distinct id.
pub struct Known {
    pub ordinal: i64,
    /// Whether the person was made for it.
    pub is_new: bool,
}

/// Makes a person for each of these distinct ids that has none, and tells whose each is.
/// With `by_email` they are e-mail addresses, and become that property too.
pub fn make_people(
    store: &Store,
    conn: &mut Conn,
    project: ProjectId,
    ids: &[&str],
    by_email: bool,
) -> Result<HashMap<String, Known>, Error> {
    let shard_key = project.shard_key();
    let ids: BTreeSet<&str> = ids.iter().copied().collect();
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let mut free = store.ordinals.take(conn, shard_key, ids.len())?;
    let (known, free) = conn.build_transaction().run(|conn| {
        let seq = events::begin_write(conn, shard_key)?;
        let asked: Vec<&str> = ids.iter().copied().collect();
        let owners = persons::owners(conn, shard_key, &asked)?;
        let mut new_ids = Vec::new();
        let mut people = BTreeMap::new();
        let mut known = HashMap::new();
        for id in ids {
            let (ordinal, is_person) = match owners.get(id) {
                Some(owner) => (owner.ordinal, owner.is_person),
                None => {
                    let ordinal = free.pop_front().ok_or(Error::Unavailable)?;
                    new_ids.push((id, ordinal));
                    (ordinal, false)
                }
            };
            if !is_person {
                let mut person = new_person(ordinal, Utc::now());
                if by_email {
                    person.properties = JsonText::of(&json!({"email": id}));
                }
                people.insert(ordinal, person);
            }
            let is_new = !is_person;
            known.insert(id.to_owned(), Known { ordinal, is_new });
        }
        persons::add_ids(conn, shard_key, &new_ids)?;
        let people: Vec<Person> = people.into_values().collect();
        persons::add(conn, shard_key, seq, &people)?;
        Ok::<_, Error>((known, free))
    })?;
    store.ordinals.give_back(shard_key, free);
    Ok(known)
}
