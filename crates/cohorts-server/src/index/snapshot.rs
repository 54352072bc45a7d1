//! The engine's `Source` over one database snapshot: the project's index, and the rows that are not indexed.
//!
//! An evaluation sees everything that was committed before it began and nothing later.

mod values;

use std::cell::RefCell;
use std::ops::RangeInclusive;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::Utc;
use cohorts_engine::lift::{self, GroupCounts, GroupValueCounts, Groups};
use cohorts_engine::{
    Action, EventBlock, EventQuery, Explanation, Interrupt, LeafCache, Plan, PlannedReads,
    PropertyBlock, Reference, Source, TimesBlock,
};
use cohorts_store::tombstones::Tombstones;
use cohorts_store::{CohortId, Conn, ProjectId, cohorts, members};
use roaring::RoaringBitmap;

use super::actions::{self, ActionCache};
use super::load::EventSpan;
use super::project::ProjectIndex;
use super::read::{Limits, ReadTx, RowCount};
use super::registry::IndexCache;
use super::stop::StopFlag;
use super::{IndexError, IndexResult};
pub use values::ValueOwner;

/// The data of one project as of one instant.
///
/// Dynamic cohorts that a filter refers to are given by their definitions, so they are evaluated at the same moment;
/// static cohorts are given by their members.
pub struct Snapshot<'a, 'c> {
    tx: ReadTx<'a>,
    cache: &'c IndexCache,
    index: Arc<ProjectIndex>,
    /// Earlier events are invisible, deleted or not yet, in microseconds since 1970.
    oldest_event: i64,
    /// What the current plan may read. The properties are taken when the first one is read.
    expected: RefCell<PlannedReads>,
    actions: Rc<ActionCache>,
}

/// If a plan reads events of more names, the names that no event has are found first.
const MANY_NAMES: usize = 64;
/// The time to bring loaded blocks to the newest index.
const KEEP_LIMIT: Duration = Duration::from_secs(10);
/// A range with fewer persons is not divided further, whatever memory it takes.
const MIN_RANGE_PERSONS: u64 = 256;

impl<'a, 'c> Snapshot<'a, 'c> {
    /// Runs `work` on the data as it is now. Reading may take `limit` in all.
    ///
    /// # Errors
    ///
    /// [`IndexError::TimedOut`] if reading takes longer; otherwise the error of `work` or of the database.
    pub fn read<T, E: From<IndexError> + From<cohorts_store::Error>>(
        conn: &mut Conn,
        cache: &'c IndexCache,
        project: ProjectId,
        limit: Duration,
        work: impl FnOnce(&Snapshot<'_, 'c>) -> Result<T, E>,
    ) -> Result<T, E> {
        Self::read_counting(conn, cache, project, limit, &Arc::default(), work)
    }

    /// As [`Self::read`], and counts the rows of loaded blocks in `rows_read`.
    ///
    /// # Errors
    ///
    /// As [`Self::read`].
    pub fn read_counting<T, E: From<IndexError> + From<cohorts_store::Error>>(
        conn: &mut Conn,
        cache: &'c IndexCache,
        project: ProjectId,
        limit: Duration,
        rows_read: &RowCount,
        work: impl FnOnce(&Snapshot<'_, 'c>) -> Result<T, E>,
    ) -> Result<T, E> {
        let limits = Limits {
            deadline: Instant::now() + limit,
            memory: cache.budget(),
        };
        let unlimited = Limits {
            memory: u64::MAX,
            ..limits
        };
        let (mut work, mut used) = (Some(work), None);
        loop {
            let memory = &cache.memory;
            let result = ReadTx::run_with(conn, project, unlimited, memory, rows_read, |tx| {
                let Some(index) = cache.get(&tx)? else {
                    return Ok(None);
                };
                used = Some(Arc::clone(&index));
                let snapshot = Snapshot {
                    oldest_event: index.oldest_event(Utc::now()),
                    tx: tx.with_limits(limits),
                    cache,
                    index,
                    expected: RefCell::default(),
                    actions: Rc::default(),
                };
                work.take().map(|work| work(&snapshot)).transpose()
            });
            if let Some(index) = used.take() {
                keep_loaded(conn, cache, project, &index);
            }
            cache.evict(None);
            if let Some(value) = result? {
                return Ok(value);
            }
        }
    }

    /// The same snapshot for work with a time limit of its own.
    pub fn with_time_limit(&self, limit: Duration) -> Self {
        let limits = Limits {
            deadline: Instant::now() + limit,
            ..self.tx.limits
        };
        self.with_index(Arc::clone(&self.index), limits)
    }

    /// The same snapshot for work that a flag can stop.
    pub fn with_stop(&self, stop: &StopFlag) -> Self {
        Snapshot {
            tx: self.tx.with_stop(stop),
            ..self.with_index(Arc::clone(&self.index), self.tx.limits)
        }
    }

    fn with_index(&self, index: Arc<ProjectIndex>, limits: Limits) -> Self {
        Snapshot {
            tx: self.tx.with_limits(limits),
            cache: self.cache,
            index,
            oldest_event: self.oldest_event,
            expected: RefCell::default(),
            actions: Rc::clone(&self.actions),
        }
    }

    /// The members of a plan. If its blocks exceed the memory budget, it is evaluated in ranges of persons.
    pub fn evaluate(&self, plan: &Plan, leaves: &LeafCache) -> IndexResult<RoaringBitmap> {
        let result = plan.evaluate_with(self, leaves);
        self.or_in_ranges(
            result,
            |range| {
                leaves.clear();
                plan.evaluate(range)
            },
            |members, more| *members |= more,
        )
    }

    /// The members of a plan, and the number of persons that meet each of its criteria.
    pub fn explain(&self, plan: &Plan) -> IndexResult<Explanation> {
        let result = plan.explain(self);
        self.or_in_ranges(result, |range| plan.explain(range), Explanation::add)
    }

    /// The numbers of persons of the groups with each value of these properties, in their order.
    pub fn compare_values(
        &self,
        keys: &[String],
        groups: &Groups,
    ) -> IndexResult<Vec<GroupValueCounts>> {
        self.expect(PlannedReads {
            properties: keys.iter().cloned().collect(),
            ..PlannedReads::default()
        });
        let count = |key: &String| {
            let work = |range: &Snapshot<'_, '_>| lift::count_values(range, groups, key);
            self.or_in_ranges(work(self), work, GroupValueCounts::add)
        };
        keys.iter().map(count).collect()
    }

    /// The numbers of persons of the groups with an event of a name.
    pub fn count_event(&self, name: &str, groups: &Groups) -> IndexResult<GroupCounts> {
        let work = |range: &Snapshot<'_, '_>| lift::count_event(range, groups, name);
        self.or_in_ranges(work(self), work, GroupCounts::add)
    }

    /// A result of all persons. If it exceeds the memory budget, the sum of the results of `work` for ranges of persons.
    fn or_in_ranges<T: Default>(
        &self,
        result: IndexResult<T>,
        work: impl Fn(&Snapshot<'a, 'c>) -> IndexResult<T>,
        add: impl Fn(&mut T, T),
    ) -> IndexResult<T> {
        self.tx.release_memory();
        match result {
            Err(IndexError::OverBudget) => {
                let mut total = T::default();
                self.for_each_range(|range| {
                    add(&mut total, work(range)?);
                    Ok(())
                })?;
                Ok(total)
            }
            result => result,
        }
    }

    /// Runs `work` for ranges of persons that are so small that their blocks fit into the memory budget. Membership of a
    /// person depends on that person's data alone, so the results of the ranges add up.
    fn for_each_range(
        &self,
        mut work: impl FnMut(&Snapshot<'a, 'c>) -> IndexResult<()>,
    ) -> IndexResult<()> {
        let mut ranges = quarters(0..=u32::MAX, &self.index.persons);
        while let Some(ordinals) = ranges.pop() {
            let index = Arc::new(self.index.for_range(ordinals.clone()));
            let persons = Arc::clone(&index.persons);
            let limits = if persons.len() <= MIN_RANGE_PERSONS {
                Limits {
                    memory: u64::MAX,
                    ..self.tx.limits
                }
            } else {
                self.tx.limits
            };
            let result = work(&self.with_index(index, limits));
            self.tx.release_memory();
            match result {
                Err(IndexError::OverBudget) => ranges.extend(quarters(ordinals, &persons)),
                result => result?,
            }
        }
        Ok(())
    }

    fn span(&self, query: &EventQuery) -> EventSpan {
        let key = (query.event.clone(), query.properties.clone());
        let from = query.from.unwrap_or(i64::MIN);
        let expected = self.expected.borrow().events.get(&key).copied();
        EventSpan {
            from: from.max(self.oldest_event),
            to: query.to,
            load_from: expected.unwrap_or(from).max(self.oldest_event),
        }
    }

    /// Evicts blocks if memory has grown since the last call.
    fn evict(&self) {
        if self.tx.take_has_grown() {
            self.cache.evict(Some(&self.index));
        }
    }

    /// The last sequence number of the log that the snapshot contains.
    pub fn seq(&self) -> i64 {
        self.index.seq
    }

    /// The retired ordinals of the project.
    pub(super) fn tombstones(&self) -> &Tombstones {
        &self.index.tombstones
    }

    /// The transaction, to read other rows of the same instant.
    pub fn tx(&self) -> &ReadTx<'a> {
        &self.tx
    }
}

/// Keeps what an evaluation has loaded, if the project's index has advanced since.
fn keep_loaded(conn: &mut Conn, cache: &IndexCache, project: ProjectId, index: &ProjectIndex) {
    if !cache.lacks_blocks_of(project, index) {
        return;
    }
    let limits = Limits {
        deadline: Instant::now() + KEEP_LIMIT,
        memory: u64::MAX,
    };
    let rows_read = RowCount::default();
    let kept = ReadTx::run_with(conn, project, limits, &cache.memory, &rows_read, |tx| {
        cache.keep_loaded(&tx, index)
    });
    if let Err(cause) = kept {
        let project = project.0;
        log::warn!("project {project}: loaded data is not kept, and will be read again: {cause}");
    }
}

/// Divides a range of ordinals into four parts with about the same number of `persons`.
fn quarters(ordinals: RangeInclusive<u32>, persons: &RoaringBitmap) -> Vec<RangeInclusive<u32>> {
    let (mut parts, mut first) = (Vec::new(), *ordinals.start());
    for quarter in 1..4 {
        let rank = u32::try_from(persons.len() * quarter / 4).unwrap_or(u32::MAX);
        let last = persons.select(rank);
        if let Some(last) = last.filter(|last| (first..*ordinals.end()).contains(last)) {
            parts.push(first..=last);
            first = last + 1;
        }
    }
    parts.push(first..=*ordinals.end());
    parts
}

impl Interrupt for Snapshot<'_, '_> {
    type Error = IndexError;

    fn interrupt(&self) -> IndexResult<()> {
        self.tx.check_time()
    }
}

impl Source for Snapshot<'_, '_> {
    fn persons(&self) -> IndexResult<Arc<RoaringBitmap>> {
        Ok(Arc::clone(&self.index.persons))
    }

    fn expect(&self, reads: PlannedReads) {
        self.expected.replace(reads);
    }

    fn person_property(&self, key: &str) -> IndexResult<Arc<PropertyBlock>> {
        self.evict();
        let together = std::mem::take(&mut self.expected.borrow_mut().properties);
        self.index.load_together(&self.tx, together)?;
        self.index.property(&self.tx, key)
    }

    fn created_at(&self) -> IndexResult<Arc<TimesBlock>> {
        self.evict();
        self.index.created_at(&self.tx)
    }

    fn distinct_ids(&self) -> IndexResult<Arc<PropertyBlock>> {
        self.evict();
        self.index.distinct_ids(&self.tx)
    }

    fn events(&self, query: &EventQuery) -> IndexResult<Vec<Arc<EventBlock>>> {
        self.evict();
        let oldest = self.oldest_event;
        let (index, tx) = (&self.index, &self.tx);
        if self.expected.borrow().events.len() > MANY_NAMES
            && index.event_names(tx)?.binary_search(&query.event).is_err()
        {
            return Ok(Vec::new());
        }
        let span = self.span(query);
        let mut blocks = if query.persons_only {
            index.events_of_persons(tx, &query.event, span)?
        } else {
            index.events(tx, &query.event, span, &query.properties)?
        };
        for block in &mut blocks {
            if block.span().first < oldest {
                *block = Arc::new(block.since(oldest));
            }
        }
        Ok(blocks)
    }

    fn event_names(&self) -> IndexResult<Vec<String>> {
        Ok(self.index.event_names(&self.tx)?.to_vec())
    }

    fn cohort(&self, id: i64) -> IndexResult<Option<Reference>> {
        let project = self.tx.project;
        self.tx.with_conn(|conn| {
            let Some((cohort, _)) = cohorts::find(conn, project, CohortId(id))? else {
                return Ok(None);
            };
            if cohort.definition.is_static {
                let version = cohort.member_version;
                let members = members::read(conn, project.shard_key(), cohort.id(), version)?;
                return Ok(Some(Reference::Members(Arc::new(members))));
            }
            // Criteria that cannot be parsed cannot be calculated, so the cohort has no members to refer to.
            let rule = cohort.definition.rule().ok();
            Ok::<_, IndexError>(rule.map(Reference::from))
        })
    }

    fn action(&self, id: i64) -> IndexResult<Option<Action>> {
        let project = self.tx.project;
        let read = || self.tx.with_conn(|conn| actions::read(conn, project, id));
        self.actions.get(id, read)
    }

    fn check_memory(&self, bytes: usize) -> IndexResult<()> {
        self.tx.hold_memory(bytes)
    }
}
