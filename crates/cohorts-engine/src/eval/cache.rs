//! Results of leaves and of referenced cohorts that several plans share.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};

use super::{LeafResult, bytes_of};
use crate::plan::{Criterion, Plan};

/// The results of the leaves that occur in several plans of one moment, and of the cohorts that
/// the plans refer to.
///
/// The plans must be evaluated over the same source, with [`Plan::evaluate_with`]. Each shared leaf
/// and each cohort is then evaluated once. An empty cache shares only cohorts.
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
            cohorts: RefCell::default(),
        }
    }

    /// Drops all results. Later evaluations calculate them again.
    pub fn clear(&self) {
        let mut leaves = self.leaves.borrow_mut();
        leaves.values_mut().for_each(|result| *result = None);
        self.cohorts.borrow_mut().clear();
        self.bytes.set(leaves.keys().map(String::len).sum());
    }

    /// The memory of the cache, in bytes, approximately.
    pub fn bytes(&self) -> usize {
        self.bytes.get()
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
