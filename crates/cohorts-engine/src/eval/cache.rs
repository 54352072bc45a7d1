//! What several plans share: the set of persons that restricts the evaluation, the events of these
//! persons, and the results of leaves and of referenced cohorts.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Weak};

use roaring::RoaringBitmap;

use super::{LeafResult, bytes_of};
use crate::block::{EventBlock, intersection};
use crate::interrupt::{Interrupt, Meter};
use crate::plan::{Criterion, Plan};
use crate::source::{EventQuery, Source};

/// The results of the leaves that occur in several plans of one moment, and of the cohorts that
/// the plans refer to.
///
/// The plans must be evaluated over the same source, with [`Plan::evaluate_with`]. Each shared leaf
/// and each cohort is then evaluated once. An empty cache shares only cohorts.
///
/// The cache also decides for which persons the plans are evaluated: for all, or with
/// [`LeafCache::within`] for a few. Nothing else differs between the two.
///
/// # Examples
///
/// ```
/// use cohorts_engine::{Filter, LeafCache, Moment, plan};
/// use serde_json::json;
///
/// let filter = Filter::parse(&json!({"properties": {"type": "AND", "values": [
///     {"type": "person", "key": "plan", "operator": "exact", "value": "pro"},
/// ]}}))?;
/// let moment = Moment::utc(1_750_260_600_000_000);
/// let plans = [plan(&filter, &moment)?, plan(&filter, &moment)?];
/// let cache = LeafCache::new(&plans);
/// // plans[0].evaluate_with(&source, &cache), then plans[1].evaluate_with(&source, &cache)
/// # Ok::<(), cohorts_engine::FilterError>(())
/// ```
#[derive(Debug, Default)]
pub struct LeafCache {
    /// The leaves of several plans, by identity; `None` until a leaf is evaluated.
    leaves: RefCell<HashMap<String, Option<LeafResult>>>,
    /// The cohorts that were referred to, by id.
    cohorts: RefCell<HashMap<i64, LeafResult>>,
    /// The memory of keys and results, in bytes.
    bytes: Cell<usize>,
    /// The persons that the plans are evaluated for; `None` means all.
    persons: Option<Arc<RoaringBitmap>>,
    /// The blocks of the source by address, each with its events of `persons`.
    narrowed: RefCell<HashMap<usize, NarrowedBlock>>,
}

#[derive(Debug)]
struct NarrowedBlock {
    /// Keeps the address in use.
    _original: Weak<EventBlock>,
    block: Arc<EventBlock>,
}

impl LeafCache {
    /// Creates a cache for plans of one moment, before any of them is evaluated.
    pub fn new<'a>(plans: impl IntoIterator<Item = &'a Plan>) -> LeafCache {
        let mut identities = HashSet::new();
        let mut shared = HashMap::new();
        for plan in plans {
            for (leaf, identity) in plan.leaves.iter().zip(&plan.identities) {
                // Cohorts are shared by their ids.
                if let (false, Some(identity)) = (matches!(leaf, Criterion::Cohort(_)), identity)
                    && !identities.insert(identity)
                {
                    shared.insert(identity.clone(), None);
                }
            }
        }
        LeafCache {
            bytes: Cell::new(shared.keys().map(String::len).sum()),
            leaves: RefCell::new(shared),
            ..LeafCache::default()
        }
    }

    /// As [`LeafCache::new`]. The plans are evaluated for `persons` only, so their results are the
    /// members among these persons. The cost depends on the number of these persons and of their
    /// events.
    pub fn within<'a>(
        plans: impl IntoIterator<Item = &'a Plan>,
        persons: RoaringBitmap,
    ) -> LeafCache {
        LeafCache {
            persons: Some(Arc::new(persons)),
            ..LeafCache::new(plans)
        }
    }

    /// Drops all results. Later evaluations calculate them again.
    pub fn clear(&self) {
        let mut leaves = self.leaves.borrow_mut();
        leaves.values_mut().for_each(|result| *result = None);
        self.cohorts.borrow_mut().clear();
        self.narrowed.borrow_mut().clear();
        self.bytes.set(leaves.keys().map(String::len).sum());
    }

    /// The memory of the cache, in bytes, approximately.
    pub fn bytes(&self) -> usize {
        self.bytes.get()
    }

    /// Whether the plans are evaluated for all of `persons`.
    pub(crate) fn covers(&self, persons: &RoaringBitmap) -> bool {
        let all = self.persons.as_ref();
        all.is_none_or(|all| persons.is_subset(all))
    }

    /// The persons of `all` that the plans are evaluated for.
    pub(super) fn universe(&self, all: Arc<RoaringBitmap>) -> Arc<RoaringBitmap> {
        match &self.persons {
            Some(persons) => Arc::new(intersection(persons, &all)),
            None => all,
        }
    }

    /// The events of a source, of the persons that the plans are evaluated for.
    pub(super) fn events<S: Source>(
        &self,
        source: &S,
        query: &EventQuery,
        meter: &Meter<S>,
    ) -> Result<Vec<Arc<EventBlock>>, S::Error> {
        let blocks = source.events(query)?;
        let Some(persons) = &self.persons else {
            return Ok(blocks);
        };
        let (mut narrowed, mut inside) = (Vec::new(), Vec::new());
        for block in blocks {
            if query.persons_only && query.contains(block.span()) {
                meter.spend(20 + persons.len() / 16)?;
                inside.push(Arc::new(block.narrowed_to_persons(persons)));
            } else {
                narrowed.push(self.narrowed(&block, persons, meter)?);
            }
        }
        if !inside.is_empty() {
            narrowed.push(Arc::new(EventBlock::persons_of(&inside)));
        }
        narrowed.retain(|block| !block.persons().is_empty());
        Ok(narrowed)
    }

    fn narrowed<I: Interrupt>(
        &self,
        block: &Arc<EventBlock>,
        persons: &RoaringBitmap,
        meter: &Meter<I>,
    ) -> Result<Arc<EventBlock>, I::Error> {
        let address = Arc::as_ptr(block) as usize;
        if let Some(known) = self.narrowed.borrow().get(&address) {
            return Ok(Arc::clone(&known.block));
        }
        let narrowed = Arc::new(block.narrowed(persons));
        meter.spend(20 + persons.len() / 16 + 10 * narrowed.rows() as u64)?;
        self.bytes.update(|bytes| bytes + narrowed.bytes());
        let known = NarrowedBlock {
            _original: Arc::downgrade(block),
            block: Arc::clone(&narrowed),
        };
        self.narrowed.borrow_mut().insert(address, known);
        Ok(narrowed)
    }

    pub(super) fn get(&self, identity: Option<&String>) -> Option<LeafResult> {
        self.leaves.borrow().get(identity?)?.clone()
    }

    /// Stores a result if the leaf is shared.
    pub(super) fn put(&self, identity: Option<&String>, result: &LeafResult) {
        let mut shared = self.leaves.borrow_mut();
        if let Some(entry) = identity.and_then(|identity| shared.get_mut(identity)) {
            *entry = Some(result.clone());
            self.bytes.update(|bytes| bytes + bytes_of(result));
        }
    }

    pub(super) fn cohort(&self, id: i64) -> Option<LeafResult> {
        self.cohorts.borrow().get(&id).cloned()
    }

    pub(super) fn put_cohort(&self, id: i64, result: LeafResult) {
        self.bytes
            .update(|bytes| bytes + bytes_of(&result) + size_of::<(i64, LeafResult)>());
        self.cohorts.borrow_mut().insert(id, result);
    }
}
