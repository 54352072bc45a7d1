//! Results of leaves that several plans share.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};

use super::LeafResult;
use crate::plan::{Criterion, Plan};

/// The results of the leaves that occur in several plans of one moment.
///
/// The plans must be evaluated over the same source, with [`Plan::evaluate_with`]. Each shared leaf
/// is then evaluated once. An empty cache shares nothing.
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
pub struct LeafCache(RefCell<HashMap<String, Option<LeafResult>>>);

impl LeafCache {
    /// Creates a cache for plans of one moment, before any of them is evaluated.
    pub fn new<'a>(plans: impl IntoIterator<Item = &'a Plan>) -> LeafCache {
        let mut identities = HashSet::new();
        let mut shared = HashMap::new();
        for plan in plans {
            for (leaf, identity) in plan.leaves.iter().zip(&plan.identities) {
                // The result of a cohort leaf depends on the cohorts that refer to it.
                if let (false, Some(identity)) = (matches!(leaf, Criterion::Cohort(_)), identity)
                    && !identities.insert(identity)
                {
                    shared.insert(identity.clone(), None);
                }
            }
        }
        LeafCache(RefCell::new(shared))
    }

    pub(super) fn get(&self, identity: Option<&String>) -> Option<LeafResult> {
        self.0.borrow().get(identity?)?.clone()
    }

    /// Stores a result if the leaf is shared.
    pub(super) fn put(&self, identity: Option<&String>, result: &LeafResult) {
        let mut shared = self.0.borrow_mut();
        if let Some(entry) = identity.and_then(|identity| shared.get_mut(identity)) {
            *entry = Some(result.clone());
        }
    }
}
