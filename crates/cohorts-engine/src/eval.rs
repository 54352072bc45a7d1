//! From a plan and a source to the bitmap of its members.
//!
//! Each leaf is evaluated once. AND narrows and stops when no person is left, OR is one union of
//! all operands, and only leaves are complemented, against all persons of the project. Plans of
//! one moment may share leaves. The evaluation reads no data except through the [`Source`].

mod behavior;
mod cache;
mod events;
mod rows;

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use roaring::{MultiOps, RoaringBitmap};

use crate::condition::Condition;
use crate::interrupt::Meter;
use crate::plan::{Criterion, Plan, RowTest, Tree, plan};
use crate::source::{Reference, Source};
use crate::window::Range;

pub use cache::LeafCache;

/// The longest chain of cohorts that refer to the next one by its filter.
const MAX_REFERENCES: usize = 16;

/// The persons of a leaf. `None` means that the leaf refers to a cohort that does not exist: it
/// matches no person, even if it is negated.
type LeafResult = Option<Arc<RoaringBitmap>>;

impl Plan {
    /// Returns the ordinals of the members.
    ///
    /// # Errors
    ///
    /// Returns the error of `source` if data cannot be read, or if the evaluation is interrupted.
    pub fn evaluate<S: Source>(&self, source: &S) -> Result<RoaringBitmap, S::Error> {
        self.evaluate_with(source, &LeafCache::default())
    }

    /// Returns the ordinals of the members, and shares the leaves of `cache` with other plans.
    ///
    /// The plans of `cache` must have the same moment and the same source.
    ///
    /// # Errors
    ///
    /// Returns the error of `source` if data cannot be read, or if the evaluation is interrupted.
    pub fn evaluate_with<S: Source>(
        &self,
        source: &S,
        cache: &LeafCache,
    ) -> Result<RoaringBitmap, S::Error> {
        let context = Context::new(source, cache);
        let mut evaluation = Evaluation::new(self, &context, source.persons()?, None);
        Ok(Arc::unwrap_or_clone(evaluation.tree(&self.root)?))
    }

    /// Returns the members, and the number of persons that each leaf matches by itself.
    ///
    /// # Errors
    ///
    /// Returns the error of `source` if data cannot be read, or if the evaluation is interrupted.
    pub fn explain<S: Source>(&self, source: &S) -> Result<Explanation, S::Error> {
        let cache = LeafCache::default();
        let context = Context::new(source, &cache);
        let mut evaluation = Evaluation::new(self, &context, source.persons()?, None);
        let members = evaluation.tree(&self.root)?;
        let mut leaves = Vec::new();
        for placed in self.criteria() {
            let persons = evaluation.signed(placed.leaf, placed.negated)?;
            leaves.push(LeafCount {
                path: placed.path.clone(),
                persons: persons.len(),
            });
        }
        Ok(Explanation {
            members: Arc::unwrap_or_clone(members),
            leaves,
        })
    }
}

/// The members of a plan, and the number of persons that each leaf matches.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Explanation {
    /// The ordinals of the members.
    pub members: RoaringBitmap,
    /// The leaves of the filter, in the order written.
    pub leaves: Vec<LeafCount>,
}

/// The number of persons that one leaf matches by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeafCount {
    /// The path of the leaf, such as `properties.values[0].values[2]`.
    pub path: String,
    /// The number of persons. For a negated leaf, it is the size of the complement.
    pub persons: u64,
}

impl Explanation {
    /// Adds the explanation of the same plan for other persons of the project.
    pub fn add(&mut self, other: Explanation) {
        self.members |= other.members;
        if self.leaves.is_empty() {
            self.leaves = other.leaves;
            return;
        }
        for (leaf, other) in self.leaves.iter_mut().zip(other.leaves) {
            leaf.persons += other.persons;
        }
    }
}

/// The cohorts that are being evaluated, innermost first.
#[derive(Clone, Copy)]
struct CohortStack<'a> {
    id: i64,
    above: Option<&'a CohortStack<'a>>,
}

impl CohortStack<'_> {
    fn contains(stack: Option<&CohortStack>, id: i64) -> bool {
        stack.is_some_and(|stack| stack.id == id || CohortStack::contains(stack.above, id))
    }

    fn depth(stack: Option<&CohortStack>) -> usize {
        stack.map_or(0, |stack| 1 + CohortStack::depth(stack.above))
    }
}

/// The state that an evaluation shares with those of the cohorts that it refers to.
struct Context<'a, S> {
    source: &'a S,
    cache: &'a LeafCache,
    cohorts: RefCell<HashMap<i64, LeafResult>>,
}

impl<'a, S> Context<'a, S> {
    fn new(source: &'a S, cache: &'a LeafCache) -> Context<'a, S> {
        Context {
            source,
            cache,
            cohorts: RefCell::default(),
        }
    }
}

struct Evaluation<'a, S: Source> {
    plan: &'a Plan,
    context: &'a Context<'a, S>,
    source: &'a S,
    /// All persons of the project.
    universe: Arc<RoaringBitmap>,
    /// The results of the leaves, as far as they are evaluated.
    leaves: Vec<Option<LeafResult>>,
    stack: Option<&'a CohortStack<'a>>,
}

impl<'a, S: Source> Evaluation<'a, S> {
    fn new(
        plan: &'a Plan,
        context: &'a Context<'a, S>,
        universe: Arc<RoaringBitmap>,
        stack: Option<&'a CohortStack<'a>>,
    ) -> Evaluation<'a, S> {
        Evaluation {
            plan,
            context,
            source: context.source,
            universe,
            leaves: vec![None; plan.leaves.len()],
            stack,
        }
    }

    fn tree(&mut self, tree: &Tree) -> Result<Arc<RoaringBitmap>, S::Error> {
        match tree {
            Tree::Leaf { leaf, negated } => self.signed(*leaf, *negated),
            Tree::And(trees) => self.intersection(trees),
            Tree::Or(trees) => {
                let operands = trees.iter().map(|tree| self.tree(tree));
                let operands = operands.collect::<Result<Vec<_>, _>>()?;
                Ok(Arc::new(operands.iter().map(Arc::as_ref).union()))
            }
        }
    }

    fn intersection(&mut self, trees: &[Tree]) -> Result<Arc<RoaringBitmap>, S::Error> {
        let Some((first, rest)) = trees.split_first() else {
            return Ok(self.universe.clone());
        };
        let mut persons = Arc::unwrap_or_clone(self.tree(first)?);
        for tree in rest {
            if persons.is_empty() {
                break;
            }
            match tree {
                Tree::Leaf {
                    leaf,
                    negated: true,
                } => match self.leaf(*leaf)? {
                    Some(excluded) => persons -= &*excluded,
                    None => persons.clear(),
                },
                tree => persons &= &*self.tree(tree)?,
            }
        }
        Ok(Arc::new(persons))
    }

    fn signed(&mut self, leaf: usize, negated: bool) -> Result<Arc<RoaringBitmap>, S::Error> {
        Ok(match (self.leaf(leaf)?, negated) {
            (None, _) => Arc::default(),
            (Some(persons), false) => persons,
            (Some(persons), true) => Arc::new(&*self.universe - &*persons),
        })
    }

    fn leaf(&mut self, leaf: usize) -> Result<LeafResult, S::Error> {
        if let Some(result) = &self.leaves[leaf] {
            return Ok(result.clone());
        }
        let identity = self.plan.identities[leaf].as_ref();
        let result = match self.context.cache.get(identity) {
            Some(result) => result,
            None => self.criterion(&self.plan.leaves[leaf])?,
        };
        self.context.cache.put(identity, &result);
        self.leaves[leaf] = Some(result.clone());
        Ok(result)
    }

    fn criterion(&mut self, criterion: &Criterion) -> Result<LeafResult, S::Error> {
        let universe = &self.universe;
        self.source.interrupt()?;
        let meter = Meter::new(self.source);
        let persons = match criterion {
            Criterion::Property { key, predicate } => {
                let values = self.source.person_property(key)?;
                values.matching(predicate, universe, &meter)?
            }
            Criterion::DistinctId(predicate) => {
                let ids = self.source.distinct_ids()?;
                ids.matching(predicate, universe, &meter)?
            }
            Criterion::CreatedAt(predicate) => {
                let times = self.source.created_at()?;
                times.matching(predicate, universe, &meter)?
            }
            Criterion::Cohort(id) => return self.cohort(*id),
            Criterion::Rows(rows) => {
                let condition = rows.condition.try_map(&mut |test| self.resolved(test))?;
                rows::persons(self.source, &condition, &rows.having)? & &*self.universe
            }
            Criterion::Behavior { target, rule } => {
                behavior::persons(self.source, target, rule, &self.plan.moment)? & &**universe
            }
        };
        Ok(Some(Arc::new(persons)))
    }

    /// Replaces a tree over persons by its result.
    fn resolved(&mut self, test: &RowTest) -> Result<Condition<rows::ResolvedTest>, S::Error> {
        Ok(Condition::Test(match test {
            RowTest::Person(tree) => RowTest::Person(self.tree(tree)?),
            RowTest::Named(names) => RowTest::Named(names.clone()),
            RowTest::Name(predicate) => RowTest::Name(predicate.clone()),
            RowTest::Property(key, predicate) => RowTest::Property(key.clone(), predicate.clone()),
            RowTest::Time(comparison, instant) => RowTest::Time(*comparison, *instant),
        }))
    }

    fn cohort(&self, id: i64) -> Result<LeafResult, S::Error> {
        if let Some(result) = self.context.cohorts.borrow().get(&id) {
            return Ok(result.clone());
        }
        let result = match self.source.cohort(id)? {
            None => None,
            Some(Reference::Members(members)) => Some(Arc::new(&*members & &*self.universe)),
            Some(Reference::Filter(filter)) => {
                // A cycle, and a filter that cannot be planned, count as a missing cohort.
                let is_cycle = CohortStack::contains(self.stack, id);
                if is_cycle || CohortStack::depth(self.stack) >= MAX_REFERENCES {
                    return Ok(None);
                }
                match plan(&filter, &self.plan.moment) {
                    Err(_) => None,
                    Ok(plan) => Some(self.nested(id, &plan)?),
                }
            }
        };
        self.context.cohorts.borrow_mut().insert(id, result.clone());
        Ok(result)
    }

    fn nested(&self, id: i64, plan: &Plan) -> Result<Arc<RoaringBitmap>, S::Error> {
        let stack = CohortStack {
            id,
            above: self.stack,
        };
        let universe = self.universe.clone();
        let mut evaluation = Evaluation::new(plan, self.context, universe, Some(&stack));
        evaluation.tree(&plan.root)
    }
}

/// Whether no instant is in the range.
fn is_empty(range: &Range) -> bool {
    range.from.is_some_and(|from| from > range.to)
}

#[cfg(test)]
mod tests;
