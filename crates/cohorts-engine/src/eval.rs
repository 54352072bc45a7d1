//! From a plan and a source to a bitmap of persons.
//! Each leaf is found once; AND narrows and stops when nobody is left, OR is one union over
//! all its parts, and only leaves are complemented, against everyone. Plans of one moment may share
//! the leaves that recur in them.

mod behavior;
mod events;
mod rows;

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use roaring::{MultiOps, RoaringBitmap};

use crate::condition::Condition;
use crate::interrupt::Meter;
use crate::plan::{Criterion, Plan, RowTest, Tree, plan};
use crate::source::{Reference, Source};

/// How many cohorts may stand for one another by their definitions.
const MAX_REFERENCES: usize = 16;

/// The persons of a leaf, or nothing where it names a cohort that does not exist: such a leaf
/// matches nobody, negated or not.
type LeafResult = Option<Arc<RoaringBitmap>>;

/// What plans of one moment have found of the leaves that recur in them, over one source.
#[derive(Debug, Default)]
pub struct LeafCache(RefCell<HashMap<String, Option<LeafResult>>>);

impl LeafCache {
    /// For plans of one moment, none of them evaluated yet.
    pub fn new<'a>(plans: impl IntoIterator<Item = &'a Plan>) -> LeafCache {
        let mut seen = HashSet::new();
        let mut recurring = HashMap::new();
        for plan in plans {
            let shareable = plan.leaves.iter().zip(&plan.identities);
            for (leaf, identity) in shareable {
                // Who is in a cohort depends on the cohorts by which it is reached.
                if let (false, Some(identity)) = (matches!(leaf, Criterion::Cohort(_)), identity)
                    && !seen.insert(identity)
                {
                    recurring.insert(identity.clone(), None);
                }
            }
        }
        LeafCache(RefCell::new(recurring))
    }

    fn get(&self, identity: Option<&String>) -> Option<LeafResult> {
        self.0.borrow().get(identity?)?.clone()
    }

    fn put(&self, identity: Option<&String>, found: &LeafResult) {
        let mut shared = self.0.borrow_mut();
        if let Some(slot) = identity.and_then(|identity| shared.get_mut(identity)) {
            *slot = Some(found.clone());
        }
    }
}

impl Plan {
    /// The members.
    pub fn evaluate<S: Source>(&self, source: &S) -> Result<RoaringBitmap, S::Error> {
        self.evaluate_with(source, &LeafCache::default())
    }

    /// The members, with what other plans have found of leaves that recur.
    pub fn evaluate_with<S: Source>(
        &self,
        source: &S,
        shared: &LeafCache,
    ) -> Result<RoaringBitmap, S::Error> {
        let context = Context::new(source, shared);
        let mut evaluation = Evaluation::new(self, &context, source.persons()?, None);
        Ok(Arc::unwrap_or_clone(evaluation.tree(&self.root)?))
    }

    /// The members, and how many persons satisfy each leaf by itself, negated if it is, with the path of the leaf, in
    /// the order written.
    pub fn explain<S: Source>(&self, source: &S) -> Result<Explanation, S::Error> {
        let shared = LeafCache::default();
        let context = Context::new(source, &shared);
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

/// The members of a plan, with the number of persons that each leaf matches.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Explanation {
    /// The members.
    pub members: RoaringBitmap,
    /// The leaves of the filter, in the order written.
    pub leaves: Vec<LeafCount>,
}

impl Explanation {
    /// Adds the explanation of the same plan over other persons of the project.
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

/// The number of persons that one leaf matches by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeafCount {
    /// The path of the leaf, such as `properties.values[0].values[2]`.
    pub path: String,
    /// The number of persons. A negated leaf counts the complement.
    pub persons: u64,
}

/// The cohorts whose definitions are being evaluated, innermost first.
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

/// What an evaluation and those of the cohorts that it refers to have in common.
struct Context<'a, S> {
    source: &'a S,
    shared: &'a LeafCache,
    cohorts: RefCell<HashMap<i64, LeafResult>>,
}

impl<'a, S> Context<'a, S> {
    fn new(source: &'a S, shared: &'a LeafCache) -> Context<'a, S> {
        let cohorts = RefCell::default();
        Context {
            source,
            shared,
            cohorts,
        }
    }
}

struct Evaluation<'a, S: Source> {
    plan: &'a Plan,
    context: &'a Context<'a, S>,
    source: &'a S,
    universe: Arc<RoaringBitmap>,
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
                let parts = trees.iter().map(|tree| self.tree(tree));
                let parts = parts.collect::<Result<Vec<_>, _>>()?;
                Ok(Arc::new(parts.iter().map(Arc::as_ref).union()))
            }
        }
    }

    fn intersection(&mut self, trees: &[Tree]) -> Result<Arc<RoaringBitmap>, S::Error> {
        let Some((first, rest)) = trees.split_first() else {
            return Ok(self.universe.clone());
        };
        let mut left = Arc::unwrap_or_clone(self.tree(first)?);
        for tree in rest {
            if left.is_empty() {
                break;
            }
            match tree {
                Tree::Leaf {
                    leaf,
                    negated: true,
                } => match self.leaf(*leaf)? {
                    Some(persons) => left -= &*persons,
                    None => left.clear(),
                },
                tree => left &= &*self.tree(tree)?,
            }
        }
        Ok(Arc::new(left))
    }

    fn signed(&mut self, leaf: usize, negated: bool) -> Result<Arc<RoaringBitmap>, S::Error> {
        Ok(match (self.leaf(leaf)?, negated) {
            (None, _) => Arc::default(),
            (Some(persons), false) => persons,
            (Some(persons), true) => Arc::new(&*self.universe - &*persons),
        })
    }

    fn leaf(&mut self, leaf: usize) -> Result<LeafResult, S::Error> {
        if let Some(found) = &self.leaves[leaf] {
            return Ok(found.clone());
        }
        let identity = self.plan.identities[leaf].as_ref();
        let found = match self.context.shared.get(identity) {
            Some(found) => found,
            None => self.criterion(&self.plan.leaves[leaf])?,
        };
        self.context.shared.put(identity, &found);
        self.leaves[leaf] = Some(found.clone());
        Ok(found)
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

    /// A test of an event with the persons that it asks for.
    fn resolved(&mut self, test: &RowTest) -> Result<Condition<rows::Test>, S::Error> {
        Ok(Condition::Test(match test {
            RowTest::Person(tree) => RowTest::Person(self.tree(tree)?),
            RowTest::Named(names) => RowTest::Named(names.clone()),
            RowTest::Name(predicate) => RowTest::Name(predicate.clone()),
            RowTest::Property(key, predicate) => RowTest::Property(key.clone(), predicate.clone()),
            RowTest::Time(comparison, instant) => RowTest::Time(*comparison, *instant),
        }))
    }

    fn cohort(&self, id: i64) -> Result<LeafResult, S::Error> {
        if let Some(found) = self.context.cohorts.borrow().get(&id) {
            return Ok(found.clone());
        }
        let found = match self.source.cohort(id)? {
            None => None,
            Some(Reference::Members(members)) => Some(Arc::new(&*members & &*self.universe)),
            Some(Reference::Filter(filter)) => {
                // A loop, or a definition that cannot be calculated, counts as no cohort.
                let looped = CohortStack::contains(self.stack, id);
                if looped || CohortStack::depth(self.stack) >= MAX_REFERENCES {
                    return Ok(None);
                }
                match plan(&filter, &self.plan.moment) {
                    Err(_) => None,
                    Ok(plan) => Some(self.nested(id, &plan)?),
                }
            }
        };
        self.context.cohorts.borrow_mut().insert(id, found.clone());
        Ok(found)
    }

    fn nested(&self, id: i64, plan: &Plan) -> Result<Arc<RoaringBitmap>, S::Error> {
        let stack = CohortStack {
            id,
            above: self.stack,
        };
        let universe = self.universe.clone();
        let mut nested = Evaluation::new(plan, self.context, universe, Some(&stack));
        nested.tree(&plan.root)
    }
}

#[cfg(test)]
mod tests;
