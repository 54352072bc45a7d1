//! What calculations read, kept in memory: of each project a view of its people and events as of a batch of the log.
//!
//! A view is never changed but replaced by the one after: a snapshot that finds a view of its own batch uses it, one
//! that finds an older view brings it up to date by what later batches wrote, and one that finds a newer view begins
//! anew. So an answer knows of everything that was committed before it was asked for, and of nothing else. What a view
//! has not read yet it reads when asked; under a bounded memory it forgets first what was asked for longest ago.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use chrono::{DateTime, Utc};
use cohorts_engine::{EventBlock, PropertyBlock, TimesBlock};
use parking_lot::{Mutex, MutexGuard};
use rayon::prelude::*;
use roaring::RoaringBitmap;

use super::forgotten::Forgotten;
use super::logs::{Day, Kept, Log, Logs, SEAL_EVERY, day_of};
use super::reader::{Among, Happened, Reader, Retention};
use super::sealed::{self, LogKey, Outcome, Seal, Sealed};
use super::{Conn, ProjectId, forgotten, persons, projects, refresh};
use crate::error::Error;

/// Beyond so many events, or people, it is better to read anew what is asked for.
pub const MOST_ROWS: usize = 200_000;
/// Fewer events of a name, or people, are read from their rows as fast as anything.
const WORTH_SEALING: u64 = 10_000;
/// A property is kept as it is while fewer than one of so many people have changed.
const FEW_CHANGED: u64 = 100;

/// A project's people and events as of a batch.
pub struct View {
    pub head: i64,
    /// How long events are kept: what was deleted since must not come back when more are kept again.
    pub(super) retention: Retention,
    /// Whom it is about.
    pub(super) among: Among,
    pub everyone: Arc<RoaringBitmap>,
    pub(super) forgotten: Arc<Forgotten>,
    pub(super) properties: Shelf<String, PropertyBlock>,
    pub(super) logs: Logs,
    pub(super) created_at: Shelf<(), TimesBlock>,
    pub(super) distinct_ids: Shelf<(), PropertyBlock>,
    pub(super) names: Shelf<(), Vec<String>>,
    /// When it was last looked at whether a property is kept, or nothing where what is kept of it is damaged;
    /// the same for a view and those that follow it.
    pub(super) sealed: Arc<Mutex<HashMap<String, Option<Instant>>>>,
}

impl View {
    fn new(reader: &Reader, head: i64, retention: Retention) -> Result<View, Error> {
        Ok(View {
            head,
            retention,
            among: Among::everybody(),
            everyone: Arc::new(reader.everyone(head, MOST_ROWS)?),
            forgotten: Arc::new(reader.forgotten_since(-1)?),
            properties: Shelf::default(),
            logs: Shelf::default(),
            created_at: Shelf::default(),
            distinct_ids: Shelf::default(),
            names: Shelf::default(),
            sealed: Arc::default(),
        })
    }

    /// A view of some of the people, with nothing read yet.
    pub fn piece(&self, people: RangeInclusive<u32>) -> View {
        let numbers = self.forgotten.numbers_of(people.clone());
        let mut everyone = RoaringBitmap::new();
        everyone.insert_range(people.clone());
        View {
            head: self.head,
            retention: self.retention,
            among: Among {
                people,
                numbers: numbers.into_iter().map(i64::from).collect(),
            },
            everyone: Arc::new(everyone & &*self.everyone),
            forgotten: Arc::clone(&self.forgotten),
            properties: Shelf::default(),
            logs: Shelf::default(),
            created_at: Shelf::default(),
            distinct_ids: Shelf::default(),
            names: Shelf::default(),
            sealed: Arc::default(),
        }
    }

    /// Whether it is about some people alone.
    fn is_piece(&self) -> bool {
        self.among.people != (0..=u32::MAX)
    }

    /// Whose the events are that stand under a number, if the view is about them.
    fn owner(&self, number: u32) -> Option<u32> {
        let owner = self.forgotten.owner(number);
        owner.filter(|owner| self.among.people.contains(owner))
    }

    /// When the oldest event may have happened that is kept, in microseconds.
    pub fn oldest(&self, now: DateTime<Utc>) -> i64 {
        let oldest = projects::oldest_event(self.retention.0, now);
        oldest.map_or(i64::MIN, |oldest| oldest.timestamp_micros())
    }

    /// The values of a property of people.
    pub fn property(&self, reader: &Reader, key: &str) -> Result<Arc<PropertyBlock>, Error> {
        let read = |_: Option<&_>| match self.sealed_property(reader, key)? {
            Some(block) => Ok(block),
            None => reader.property(key, &self.among),
        };
        let bytes = PropertyBlock::bytes;
        self.properties
            .get(key.to_owned(), reader.deadline(), |_| true, read, bytes)
    }

    /// When people were created.
    pub fn created_at(&self, reader: &Reader) -> Result<Arc<TimesBlock>, Error> {
        let read = |_: Option<&_>| Ok(TimesBlock::new(reader.created_at(&self.among)?));
        self.created_at
            .get((), reader.deadline(), |_| true, read, TimesBlock::bytes)
    }

    /// The distinct ids of people.
    pub fn distinct_ids(&self, reader: &Reader) -> Result<Arc<PropertyBlock>, Error> {
        let read = |_: Option<&_>| reader.distinct_ids(&self.among);
        let bytes = PropertyBlock::bytes;
        self.distinct_ids
            .get((), reader.deadline(), |_| true, read, bytes)
    }

    /// The names of all events.
    pub fn names(&self, reader: &Reader) -> Result<Arc<Vec<String>>, Error> {
        let bytes = |names: &Vec<String>| names.iter().map(String::len).sum();
        self.names.get(
            (),
            reader.deadline(),
            |_| true,
            |_| reader.event_names(),
            bytes,
        )
    }

    /// The days of a name's events that a range touches, with columns for these properties at least.
    pub fn events(
        &self,
        reader: &Reader,
        name: &str,
        (from, to): (i64, i64),
        properties: &[String],
    ) -> Result<Vec<Arc<EventBlock>>, Error> {
        let log = self.log(reader, name, day_of(from), properties)?;
        Ok(log.between(day_of(from), day_of(to)))
    }

    /// The same of any properties; of the days inside the range perhaps only the people.
    pub fn people(
        &self,
        reader: &Reader,
        name: &str,
        (from, to): (i64, i64),
    ) -> Result<Vec<Arc<EventBlock>>, Error> {
        let log = self.log(reader, name, day_of(from), &[])?;
        let (blocks, is_new) = log.people_between(day_of(from), day_of(to));
        if is_new {
            let key = (name.to_owned(), Vec::new());
            self.logs.weigh(&key, log.bytes());
            reader.set_has_read();
        }
        Ok(blocks)
    }

    fn log(
        &self,
        reader: &Reader,
        name: &str,
        first: i64,
        properties: &[String],
    ) -> Result<Arc<Log>, Error> {
        let read = |former: Option<&Log>| self.read_log(reader, name, former, first, properties);
        let suits = |log: &Log| log.from <= first;
        let key = (name.to_owned(), properties.to_vec());
        let deadline = reader.deadline();
        self.logs.get(key, deadline, suits, read, Log::bytes)
    }

    /// A log, or the earlier days that a former one lacks.
    fn read_log(
        &self,
        reader: &Reader,
        name: &str,
        former: Option<&Log>,
        first: i64,
        properties: &[String],
    ) -> Result<Log, Error> {
        let (kept, is_damaged) = self.sealed_log(reader, name, first, properties)?;
        if let Some(log) = kept {
            return Ok(log);
        }
        let mut log = Log::new(first, BTreeMap::new(), self.head);
        let until = former.map(|former| former.from);
        if let Some(former) = former {
            log.days = former.days.clone();
            log.kept = Arc::clone(&former.kept);
        }
        log.kept.lock().is_damaged |= is_damaged;
        let owner = |number| self.owner(number);
        let span = (first, until);
        for (day, block) in reader.days(name, span, properties, self.head, &self.among, owner)? {
            log.days.insert(day, Day::from(vec![block]));
        }
        Ok(log)
    }
}

impl View {
    /// A property from what is kept of it beside the rows, and what came later.
    fn sealed_property(&self, reader: &Reader, key: &str) -> Result<Option<PropertyBlock>, Error> {
        // The rows of some people are found by their numbers.
        if self.is_piece() {
            return Ok(None);
        }
        let Some((head, block)) = reader.sealed_property(key)? else {
            return Ok(None);
        };
        let Some(block) = block else {
            self.sealed.lock().insert(key.to_owned(), None);
            return Ok(None);
        };
        if head > self.head {
            return Ok(None);
        }
        let Some(people) = reader.changed_people(head, &[key.to_owned()], MOST_ROWS)? else {
            return Ok(None);
        };
        let changed: RoaringBitmap = people.iter().map(|person| person.number).collect();
        let touched = changed | reader.forgotten_since(head)?.gone;
        Ok(Some(match touched.is_empty() {
            true => block,
            false => refresh::changed_property(&block, &touched, &people, 0),
        }))
    }

    /// A log from what is kept of it beside the rows, and what came later; and whether what is kept is damaged.
    /// Where old events are deleted, blocks would have to follow, so none are kept.
    fn sealed_log(
        &self,
        reader: &Reader,
        name: &str,
        first: i64,
        columns: &[String],
    ) -> Result<(Option<Log>, bool), Error> {
        const NONE: (Option<Log>, bool) = (None, false);
        let Some(key) = LogKey::new(name, columns).filter(|_| self.retention.0.is_none()) else {
            return Ok(NONE);
        };
        let among = |block: EventBlock| match self.is_piece() {
            true => block.renumbered(|number| self.owner(number)),
            false => block,
        };
        let Some((sealed, days)) = reader.sealed_log(&key, first, among)? else {
            return Ok(NONE);
        };
        let Some(days) = days else {
            return Ok((None, true));
        };
        if sealed.head > self.head {
            return Ok(NONE);
        }
        let names = [name.to_owned()];
        let tail = reader.events_between(sealed.head, self.head, &names, columns, MOST_ROWS)?;
        let Some(tail) = tail else {
            return Ok(NONE);
        };
        let days = days
            .into_iter()
            .map(|(day, blocks)| (day, Day::from(blocks)));
        let mut log = Log::new(first, days.collect(), sealed.head);
        *log.kept.lock() = Kept {
            sealed: Some(sealed),
            days: log.days.clone(),
            ..Kept::default()
        };
        log.follow(&self.forgotten, &self.forgotten);
        let own = tail
            .iter()
            .filter(|event| self.owner(event.number).is_some());
        let tail: Vec<&Happened> = own.collect();
        log.add(&tail, columns, columns, &self.forgotten);
        Ok((Some(log), false))
    }

    /// Keeps beside the rows what is not kept yet of larger projects.
    fn seal(&self, conn: &mut Conn, project: ProjectId) -> Result<(), Error> {
        if self.everyone.len() >= WORTH_SEALING {
            self.sealing(conn, project, |conn| {
                sealed::seal_people(conn, project.place(), self.head, &self.everyone)
            })?;
        }
        for (key, block, _) in self.properties.all() {
            if block.rows() as u64 >= WORTH_SEALING {
                self.seal_property(conn, project, &key, &block)?;
            }
        }
        if self.retention.0.is_some() {
            return Ok(());
        }
        for ((name, columns), log, _) in self.logs.all() {
            let rows: usize = log.blocks().map(|block| block.rows()).sum();
            if let Some(key) = LogKey::new(&name, &columns).filter(|_| rows as u64 >= WORTH_SEALING)
            {
                self.seal_log(conn, project, &key, &log)?;
            }
        }
        Ok(())
    }

    /// A property is kept anew when many people have changed: a start makes up for a few.
    fn seal_property(
        &self,
        conn: &mut Conn,
        project: ProjectId,
        key: &str,
        block: &PropertyBlock,
    ) -> Result<(), Error> {
        let looked = self.sealed.lock().get(key).copied();
        if looked
            .flatten()
            .is_some_and(|time| time.elapsed() < SEAL_EVERY)
        {
            return Ok(());
        }
        let place = project.place();
        let is_damaged = looked == Some(None);
        let head = sealed::property_head(conn, place, key)?.filter(|_| !is_damaged);
        let many = (self.everyone.len() / FEW_CHANGED).max(1) as i64;
        let is_kept = match head {
            Some(head) => head >= self.head || !persons::have_changed(conn, place, head, many)?,
            None => false,
        };
        if !is_kept {
            self.sealing(conn, project, |conn| {
                sealed::seal_property(conn, place, key, self.head, block)
            })?;
        }
        self.sealed
            .lock()
            .insert(key.to_owned(), Some(Instant::now()));
        Ok(())
    }

    fn seal_log(
        &self,
        conn: &mut Conn,
        project: ProjectId,
        key: &LogKey,
        log: &Log,
    ) -> Result<(), Error> {
        let mut kept = log.kept.lock();
        if kept.is_current(self.head, log.from) {
            return Ok(());
        }
        let days = kept.changed(log).into_par_iter();
        let days = days.map(|(number, day)| Ok((number, sealed::pack(&day.compact())?)));
        let (since, missed) = log.watched;
        let seal = Seal {
            key,
            sealed: Sealed {
                head: self.head,
                from: log.from,
            },
            unmissed: (!missed).then_some(since),
            kept: kept.sealed,
            is_damaged: kept.is_damaged,
            days: &days.collect::<Result<Vec<_>, Error>>()?,
        };
        let outcome = self.sealing(conn, project, |conn| {
            Ok(sealed::seal_log(conn, project.place(), &seal)?)
        })?;
        match outcome {
            Some(Outcome::Done(sealed)) => {
                *kept = Kept {
                    sealed: Some(sealed),
                    written: Some(Instant::now()),
                    days: log.days.clone(),
                    ..Kept::default()
                };
            }
            Some(Outcome::Stale) => *kept = Kept::default(),
            Some(Outcome::Refused) | None => {}
        }
        Ok(())
    }

    /// Writes what is to be kept, unless somebody was deleted since the view was made, or how long events are kept was
    /// changed. Whoever reads it follows the merges that came later.
    fn sealing<T>(
        &self,
        conn: &mut Conn,
        project: ProjectId,
        write: impl FnOnce(&mut Conn) -> Result<T, Error>,
    ) -> Result<Option<T>, Error> {
        super::transaction(conn, |conn| {
            projects::lock(conn, project)?;
            let now = projects::find(conn, project)?;
            let now = now.map(|now| (now.event_retention_days, now.retention_changes));
            let later = forgotten::since(conn, project.place(), self.head)?;
            match now == Some(self.retention) && !later.has_deleted() {
                true => write(conn).map(Some),
                false => Ok(None),
            }
        })
    }
}

/// Values that are read when they are first asked for, one reader for each.
pub(super) struct Shelf<K, V>(Mutex<HashMap<K, Arc<Slot<V>>>>);

struct Slot<V> {
    value: Mutex<Option<Arc<V>>>,
    /// Held by whoever reads the value, for as long as that takes.
    reading: Mutex<()>,
    bytes: AtomicU64,
    /// When it was last asked for, by a clock that ticks with each question.
    used: AtomicU64,
}

static CLOCK: AtomicU64 = AtomicU64::new(0);

impl<K, V> Default for Shelf<K, V> {
    fn default() -> Self {
        Shelf(Mutex::default())
    }
}

impl<V> Slot<V> {
    fn new(value: Option<Arc<V>>, bytes: u64, used: u64) -> Arc<Self> {
        Arc::new(Slot {
            value: Mutex::new(value),
            reading: Mutex::new(()),
            bytes: AtomicU64::new(bytes),
            used: AtomicU64::new(used),
        })
    }
}

/// Waits for whoever holds the lock until a deadline.
fn until<T>(mutex: &Mutex<T>, deadline: Instant) -> Result<MutexGuard<'_, T>, Error> {
    mutex.try_lock_until(deadline).ok_or(Error::TimedOut)
}

impl<K: Eq + Hash + Clone, V> Shelf<K, V> {
    /// The value if there is one that suits, else one that is made from it or from nothing.
    fn get(
        &self,
        key: K,
        deadline: Instant,
        suits: impl Fn(&V) -> bool,
        read: impl FnOnce(Option<&V>) -> Result<V, Error>,
        bytes: impl Fn(&V) -> usize,
    ) -> Result<Arc<V>, Error> {
        let slot = {
            let mut slots = self.0.lock();
            Arc::clone(slots.entry(key).or_insert_with(|| Slot::new(None, 0, 0)))
        };
        slot.used
            .store(CLOCK.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
        let known = || slot.value.lock().clone();
        let suiting = || known().filter(|value| suits(value));
        if let Some(value) = suiting() {
            return Ok(value);
        }
        let _reading = until(&slot.reading, deadline)?;
        if let Some(value) = suiting() {
            return Ok(value);
        }
        let value = Arc::new(read(known().as_deref())?);
        slot.bytes.store(bytes(&value) as u64, Ordering::Relaxed);
        *slot.value.lock() = Some(Arc::clone(&value));
        Ok(value)
    }

    /// Says how much memory a value takes by now.
    fn weigh(&self, key: &K, bytes: usize) {
        if let Some(slot) = self.0.lock().get(key) {
            slot.bytes.store(bytes as u64, Ordering::Relaxed);
        }
    }

    /// The values that are there.
    pub fn all(&self) -> Vec<(K, Arc<V>, u64)> {
        let slots = self.0.lock();
        let there = slots.iter().filter_map(|(key, slot)| {
            let value = slot.value.lock().clone()?;
            Some((key.clone(), value, slot.used.load(Ordering::Relaxed)))
        });
        there.collect()
    }

    pub fn put(&self, key: K, value: Arc<V>, bytes: usize, used: u64) {
        self.0
            .lock()
            .insert(key, Slot::new(Some(value), bytes as u64, used));
    }

    /// The memory of each value, and when it was last asked for.
    fn weights(&self) -> Vec<(u64, u64)> {
        let slots = self.0.lock();
        let weights = slots.values().map(|slot| {
            let load = |number: &AtomicU64| number.load(Ordering::Relaxed);
            (load(&slot.used), load(&slot.bytes))
        });
        weights.collect()
    }

    /// Forgets what was last asked for before a tick of the clock.
    fn forget_before(&self, tick: u64) {
        self.0
            .lock()
            .retain(|_, slot| slot.used.load(Ordering::Relaxed) >= tick);
    }
}

/// The newest view of a project; whoever brings it up to date holds the lock.
type Newest = Arc<Mutex<Option<Arc<View>>>>;

/// The views of all projects.
pub struct Views {
    projects: Mutex<HashMap<ProjectId, Newest>>,
    budget: AtomicU64,
}

/// Where nothing else is said.
const DEFAULT_BUDGET: u64 = 1 << 30;

impl Default for Views {
    fn default() -> Self {
        Views {
            projects: Mutex::default(),
            budget: AtomicU64::new(DEFAULT_BUDGET),
        }
    }
}

impl Views {
    /// How much memory views may take together, in bytes.
    pub fn budget(&self) -> u64 {
        self.budget.load(Ordering::Relaxed)
    }

    /// Changes how much memory views may take together, in bytes.
    pub fn set_budget(&self, bytes: u64) {
        self.budget.store(bytes, Ordering::Relaxed);
    }

    /// The view of what a reader's snapshot sees. Nothing if there is a later one: the reader is to begin anew.
    pub fn of(&self, reader: &Reader) -> Result<Option<Arc<View>>, Error> {
        let project = {
            let mut projects = self.projects.lock();
            Arc::clone(projects.entry(reader.project).or_default())
        };
        let mut kept = until(&project, reader.deadline())?;
        let (head, retention) = (reader.head()?, reader.retention()?);
        let former = kept.as_ref().filter(|view| view.retention == retention);
        let view = match former {
            Some(view) if view.head == head => return Ok(Some(Arc::clone(view))),
            Some(view) if view.head > head => return Ok(None),
            Some(view) => refresh::after(view, reader, head)?,
            None => None,
        };
        let view = match view {
            Some(view) => Arc::new(view),
            None => Arc::new(View::new(reader, head, retention)?),
        };
        *kept = Some(Arc::clone(&view));
        Ok(Some(view))
    }

    /// Forgets what was asked for longest ago until the rest fits into the budget, of a view that stands by itself too.
    pub fn trim(&self, beside: Option<&View>) {
        let views = self.views();
        let views: Vec<&View> = views
            .iter()
            .map(|(_, view)| &**view)
            .chain(beside)
            .collect();
        let mut weights: Vec<(u64, u64)> = views.iter().flat_map(|view| view.weights()).collect();
        let mut total: u64 = weights.iter().map(|(_, bytes)| bytes).sum();
        let budget = self.budget();
        if total <= budget {
            return;
        }
        weights.sort_unstable();
        let mut tick = 0;
        for (used, bytes) in weights {
            if total <= budget {
                break;
            }
            total -= bytes;
            tick = used + 1;
        }
        views.iter().for_each(|view| view.forget_before(tick));
    }

    /// Keeps beside the rows what is not kept yet, so that the next start finds it.
    pub fn seal(&self, conn: &mut Conn) {
        for (project, view) in self.views() {
            if let Err(cause) = view.seal(conn, project) {
                log::warn!("blocks of project {} are kept later: {cause}", project.0);
            }
        }
    }

    /// How many bytes of kept blocks of events this process has read.
    pub fn kept_bytes_read(&self) -> u64 {
        sealed::READ.load(Ordering::Relaxed)
    }

    /// How much memory the views take, in bytes.
    pub fn bytes(&self) -> u64 {
        let views = self.views();
        let weights = views.iter().flat_map(|(_, view)| view.weights());
        weights.map(|(_, bytes)| bytes).sum()
    }

    fn views(&self) -> Vec<(ProjectId, Arc<View>)> {
        let projects: Vec<(ProjectId, Newest)> = {
            let projects = self.projects.lock();
            projects
                .iter()
                .map(|(place, newest)| (*place, Arc::clone(newest)))
                .collect()
        };
        // One that is being brought up to date is looked at the next time.
        let views = projects.iter().filter_map(|(place, newest)| {
            let view = newest.try_lock()?.clone()?;
            Some((*place, view))
        });
        views.collect()
    }
}

impl View {
    fn weights(&self) -> Vec<(u64, u64)> {
        let mut all = self.properties.weights();
        all.extend(self.logs.weights());
        all.extend(self.created_at.weights());
        all.extend(self.distinct_ids.weights());
        all.extend(self.names.weights());
        all
    }

    fn forget_before(&self, tick: u64) {
        self.properties.forget_before(tick);
        self.logs.forget_before(tick);
        self.created_at.forget_before(tick);
        self.distinct_ids.forget_before(tick);
        self.names.forget_before(tick);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use cohorts_engine::{Filter, Moment, Shared, plan};
    use diesel::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::ingest::{Arrival, Item, keep};
    use crate::store::blocks::Snapshot;
    use crate::store::testing::TestDatabase;
    use crate::store::{ProjectId, Store, projects};

    fn item(event: &str, id: usize, more: &str) -> Item {
        let text = format!(
            r#"{{"event": "{event}", "distinct_id": "p{id}", "timestamp": "2025-06-{:02}T10:00:00Z"{more}}}"#,
            id % 9 + 1
        );
        Item::read(&text, &Arrival::of_file(), uuid::Uuid::now_v7).unwrap()
    }

    /// A project in a new database, with `events` events of `people` persons.
    fn begun(events: usize, people: usize) -> (TestDatabase, Store, ProjectId) {
        let database = TestDatabase::create();
        let store = database.open();
        let conn = &mut *store.connection().unwrap();
        let project = projects::create(conn, "P", "UTC", "phc_x").unwrap().id();
        let items: Vec<Item> = (0..events).map(|nth| item("x", nth % people, "")).collect();
        keep(&store, project, &items).unwrap();
        (database, store, project)
    }

    /// Who did x, seen by these views.
    fn who(store: &Store, views: &Views, project: ProjectId) -> RoaringBitmap {
        since(store, views, project, 1)
    }

    /// Who did x since a day of June.
    fn since(store: &Store, views: &Views, project: ProjectId, day: u32) -> RoaringBitmap {
        let leaf = json!({"type": "behavioral", "key": "x", "value": "performed_event", "event_type": "events",
            "explicit_datetime": format!("2025-06-0{day}T00:00:00Z")});
        meeting(store, views, project, leaf)
    }

    /// Who meets a criterion.
    fn meeting(store: &Store, views: &Views, project: ProjectId, leaf: Value) -> RoaringBitmap {
        let filters = json!({"properties": {"type": "OR", "values": [leaf]}});
        let plan = plan(
            &Filter::parse(&filters).unwrap(),
            &Moment::utc(1_770_000_000_000_000),
        )
        .unwrap();
        let conn = &mut *store.connection().unwrap();
        let limit = Duration::from_secs(60);
        Snapshot::read(conn, views, project, limit, |snapshot| {
            let (members, counts) = snapshot.explain(&plan)?;
            assert_eq!(counts[0].1, members.len());
            assert_eq!(snapshot.evaluate(&plan, &Shared::default())?, members);
            Ok(members)
        })
        .unwrap()
    }

    #[test]
    fn what_was_sealed_is_found_after_a_start_with_all_that_came_later() {
        let (_data, store, project) = begun(12_000, 100);
        let conn = &mut *store.connection().unwrap();
        let run = |conn: &mut Conn, statement: &str| {
            assert!(
                diesel::sql_query(statement).execute(conn).unwrap() > 0,
                "{statement}"
            );
        };
        let views = Views::default();
        assert_eq!(who(&store, &views, project).len(), 100);
        // The people of several days are weighed with what they were made of.
        let logs = views.views()[0].1.logs.all();
        let weights = logs.iter().map(|(_, log, _)| log.bytes() as u64);
        let alone = logs[0].1.blocks().map(|block| block.bytes() as u64);
        assert!(views.bytes() >= weights.sum() && views.bytes() > alone.sum());
        views.seal(conn);

        // Somebody new, somebody merged, and an event on a day that is sealed.
        let merge = r#", "properties": {"alias": "p7"}"#;
        keep(
            &store,
            project,
            &[item("x", 500, ""), item("$merge_dangerously", 8, merge)],
        )
        .unwrap();
        let fresh = |store: &Store| who(store, &Views::default(), project);
        let found = fresh(&store);
        assert_eq!((found.len(), &found), (100, &who(&store, &views, project)));
        // A damaged block is none.
        run(
            conn,
            "update blocks set data = overlay(data placing '\\x55'::bytea from 20) where day = (select min(day) from blocks)",
        );
        assert_eq!(fresh(&store), found);
        // So is one of which a block is missing.
        run(
            conn,
            "delete from blocks where day = (select max(day) from blocks)",
        );
        assert_eq!(fresh(&store), found);
        run(conn, "delete from sealed_logs");
        assert_eq!(fresh(&store), found);

        let views = Views::default();
        who(&store, &views, project);
        views.seal(conn);
        // That it is the blocks which are read: there is nothing else.
        run(conn, "delete from events where event = 'x'");
        assert_eq!(fresh(&store), found);
        run(conn, "delete from sealed_logs");
        assert!(fresh(&store).is_empty());
    }

    #[test]
    fn properties_that_were_sealed_are_found_after_a_start_with_all_that_came_later() {
        let (_data, store, project) = begun(0, 1);
        let conn = &mut *store.connection().unwrap();
        let set = |id: usize, plan: usize| {
            let more =
                format!(r#", "properties": {{"at": "v{plan}", "$set": {{"plan": "v{plan}"}}}}"#);
            item("x", id, &more)
        };
        let items: Vec<Item> = (0..12_000).map(|nth| set(nth, nth % 300)).collect();
        keep(&store, project, &items).unwrap();
        let person =
            || json!({"type": "person", "key": "plan", "operator": "exact", "value": ["v7", "v8"]});
        let filter = json!({"type": "event", "key": "at", "operator": "exact", "value": "v7"});
        let event = || {
            json!({"type": "behavioral", "key": "x", "value": "performed_event", "event_type": "events",
                "explicit_datetime": "2025-06-01T00:00:00Z", "event_filters": [filter]})
        };
        let ask = |views: &Views| {
            let people = meeting(&store, views, project, person());
            (people, meeting(&store, views, project, event()))
        };
        let views = Views::default();
        let (people, events) = ask(&views);
        assert_eq!((people.len(), events.len()), (80, 40));
        views.seal(conn);

        // One has another value, one a first one, one is merged.
        let merge = r#", "properties": {"alias": "p7"}"#;
        let later = [
            set(8, 9),
            set(50_000, 7),
            item("$merge_dangerously", 308, merge),
        ];
        keep(&store, project, &later).unwrap();
        let found = ask(&Views::default());
        assert_eq!((found.0.len(), found.1.len()), (79, 41));
        assert_eq!(found, ask(&views));

        // That it is what was kept which is read: the rows say something else.
        let run = |conn: &mut Conn, statement: &str| {
            assert!(
                diesel::sql_query(statement).execute(conn).unwrap() > 0,
                "{statement}"
            );
        };
        run(
            conn,
            r#"update persons set properties = '{"plan": "v1"}' where batch <= 1"#,
        );
        run(
            conn,
            r#"update events set properties = '{"at": "v1"}' where batch <= 1"#,
        );
        assert_eq!(ask(&Views::default()), found);
        // What is damaged is none, and is made anew although nothing has changed.
        for table in ["sealed_properties", "blocks"] {
            run(
                conn,
                &format!("update {table} set data = overlay(data placing '\\x55'::bytea from 20)"),
            );
        }
        let views = Views::default();
        let rest = ask(&views);
        assert_eq!((rest.0.len(), rest.1.len()), (2, 1));
        views.seal(conn);
        run(conn, "delete from persons");
        run(conn, "delete from events");
        assert_eq!(ask(&Views::default()), rest);
    }

    #[test]
    fn a_view_seals_what_it_knows_unless_somebody_was_deleted_since() {
        let (_data, store, project) = begun(12_000, 100);
        let conn = &mut *store.connection().unwrap();
        let sealed = |conn: &mut Conn| {
            let key = LogKey::stored("x", "");
            sealed::log(conn, project.place(), &key).unwrap()
        };
        let (view, late) = (Views::default(), Views::default());
        who(&store, &late, project);
        who(&store, &view, project);
        let merge = r#", "properties": {"alias": "p7"}"#;
        keep(&store, project, &[item("$merge_dangerously", 8, merge)]).unwrap();
        forgotten::record(conn, project.place(), 3, i64::MAX).unwrap();
        late.seal(conn);
        assert!(sealed(conn).is_none());
        let undone = "delete from forgotten_persons where number = 3";
        assert_eq!(diesel::sql_query(undone).execute(conn).unwrap(), 1);
        view.seal(conn);
        assert!(sealed(conn).is_some());
        assert_eq!(who(&store, &Views::default(), project).len(), 99);
    }

    #[test]
    fn an_older_view_seals_nothing_over_a_newer_one() {
        let (_data, store, project) = begun(12_000, 100);
        let conn = &mut *store.connection().unwrap();
        let (older, newer) = (Views::default(), Views::default());
        who(&store, &older, project);
        keep(&store, project, &[item("x", 500, "")]).unwrap();
        let found = who(&store, &newer, project);
        newer.seal(conn);
        older.seal(conn);
        assert_eq!(who(&store, &Views::default(), project), found);
    }

    #[test]
    fn who_knows_the_later_days_alone_seals_them_unless_earlier_ones_have_changed() {
        let (_data, store, project) = begun(27_000, 100);
        let conn = &mut *store.connection().unwrap();
        let first = Views::default();
        who(&store, &first, project);
        first.seal(conn);
        let sealed = |conn: &mut Conn| {
            let found = sealed::log(conn, project.place(), &LogKey::stored("x", ""));
            found.unwrap().unwrap().0
        };
        let begun = sealed(conn);

        // On the seventh of June.
        let late = Views::default();
        since(&store, &late, project, 5);
        keep(&store, project, &[item("x", 501, "")]).unwrap();
        since(&store, &late, project, 5);
        late.seal(conn);
        let next = sealed(conn);
        assert!(
            (next.from, next.head > begun.head) == (begun.from, true),
            "{next:?}"
        );

        // On the first and on the eighth.
        let late = Views::default();
        since(&store, &late, project, 5);
        keep(&store, project, &[item("x", 504, ""), item("x", 502, "")]).unwrap();
        since(&store, &late, project, 5);
        late.seal(conn);
        assert_eq!(sealed(conn), next);
        assert_eq!(who(&store, &Views::default(), project).len(), 103);

        // Where a block is missing, the earlier days are not taken for kept: they are read from their rows.
        let lost = "delete from blocks where day = (select min(day) from blocks)";
        assert_eq!(diesel::sql_query(lost).execute(conn).unwrap(), 1);
        let late = Views::default();
        since(&store, &late, project, 5);
        keep(&store, project, &[item("x", 508, "")]).unwrap();
        since(&store, &late, project, 5);
        late.seal(conn);
        assert!(sealed(conn).from > next.from);
        assert_eq!(who(&store, &Views::default(), project).len(), 104);
    }

    #[test]
    fn events_that_were_deleted_do_not_come_back_with_the_blocks() {
        let (_data, store, project) = begun(12_000, 100);
        let conn = &mut *store.connection().unwrap();
        let views = Views::default();
        assert_eq!(who(&store, &views, project).len(), 100);
        views.seal(conn);
        projects::set_retention(conn, project, Some(30)).unwrap();
        diesel::sql_query("delete from events")
            .execute(conn)
            .unwrap();
        projects::set_retention(conn, project, None).unwrap();
        // Neither from a memory that is older, nor from what that memory would keep.
        views.seal(conn);
        assert!(who(&store, &Views::default(), project).is_empty());
        assert!(who(&store, &views, project).is_empty());
    }

    #[test]
    fn what_is_not_kept_any_longer_is_written_whole() {
        let (_data, store, project) = begun(12_000, 100);
        let conn = &mut *store.connection().unwrap();
        // One that was read from blocks, so that it is not too soon to write them again.
        who(&store, &Views::default(), project);
        let first = Views::default();
        who(&store, &first, project);
        first.seal(conn);
        let views = Views::default();
        who(&store, &views, project);
        keep(&store, project, &[item("x", 500, "")]).unwrap();
        let found = who(&store, &views, project);
        sealed::forget(conn, project.place()).unwrap();
        // The first time it finds out, the second time it writes.
        views.seal(conn);
        views.seal(conn);
        let kept = sealed::log(conn, project.place(), &LogKey::stored("x", "")).unwrap();
        assert!(kept.is_some());
        assert_eq!(who(&store, &Views::default(), project), found);
    }

    #[test]
    fn what_finds_no_room_is_read_in_pieces() {
        let (_data, store, project) = begun(0, 1);
        let conn = &mut *store.connection().unwrap();
        let items: Vec<Item> = (0..18_000_usize)
            .map(|nth| {
                let id = nth * 7 % 3_000;
                let more = format!(
                    r#", "properties": {{"at": "v{}", "$set": {{"name": "n{id}"}}}}"#,
                    nth % 50
                );
                item(if nth % 3 == 0 { "y" } else { "x" }, id, &more)
            })
            .collect();
        keep(&store, project, &items).unwrap();
        // Events of people on one side of any cut are somebody's on the other.
        let merges: Vec<Item> = (0..40)
            .map(|nth| {
                item(
                    "$merge_dangerously",
                    nth,
                    &format!(r#", "properties": {{"alias": "p{}"}}"#, 2_999 - nth),
                )
            })
            .collect();
        keep(&store, project, &merges).unwrap();
        let event = |kind: &str, more: Value| {
            let mut leaf = json!({"type": "behavioral", "key": "x", "value": kind, "event_type": "events",
                "time_value": 1, "time_interval": "year"});
            leaf.as_object_mut()
                .unwrap()
                .extend(more.as_object().unwrap().clone());
            leaf
        };
        let filter = json!([{"type": "event", "key": "at", "operator": "exact", "value": ["v1", "v2", "v3"]}]);
        let leaves = [
            json!({"type": "person", "key": "name", "operator": "icontains", "value": "N1"}),
            json!({"type": "person", "key": "name", "operator": "is_not", "value": "n5"}),
            json!({"type": "person", "key": "distinct_id", "operator": "icontains", "value": "p29"}),
            json!({"type": "person_metadata", "key": "created_at", "operator": "is_date_after", "value": "2020-01-01"}),
            event("performed_event", json!({})),
            event("performed_event", json!({"event_filters": filter})),
            event(
                "performed_event_multiple",
                json!({"operator": "gte", "operator_value": 3}),
            ),
            event(
                "performed_event_sequence",
                json!({"seq_event": "y", "seq_event_type": "events",
                "seq_time_value": 3, "seq_time_interval": "day"}),
            ),
        ];
        let ask = |budget: u64| {
            let views = Views::default();
            views.set_budget(budget);
            let found = leaves
                .clone()
                .map(|leaf| meeting(&store, &views, project, leaf));
            assert!(views.bytes() <= budget);
            (found, views)
        };
        let (whole, views) = ask(DEFAULT_BUDGET);
        assert!(whole.iter().all(|people| !people.is_empty()));
        for kept in [false, true] {
            if kept {
                views.seal(conn);
                // That it is the blocks which are read.
                let rows = "delete from events where event = 'x'";
                assert!(diesel::sql_query(rows).execute(conn).unwrap() > 0);
            }
            for budget in [100_000, 40_000, 12_000, 0] {
                let found = ask(budget).0;
                for (nth, leaf) in leaves.iter().enumerate() {
                    assert_eq!(found[nth], whole[nth], "{budget} {kept} {leaf}");
                }
            }
        }
    }

    #[test]
    fn views_that_may_take_no_memory_answer_all_the_same() {
        let (_data, store, project) = begun(50, 50);
        let views = Views::default();
        assert_eq!(who(&store, &views, project).len(), 50);
        assert!(views.bytes() > 0);
        views.set_budget(0);
        for _ in 0..2 {
            assert_eq!(who(&store, &views, project).len(), 50);
            assert_eq!(views.bytes(), 0);
        }
    }
}
