//! From a plan and a source to the bitmap of its members.
//!
//! Each leaf is evaluated once. AND narrows and stops when no person is left, OR is a union of its
//! operands, and only leaves are complemented, against all persons of the project. Plans of one
//! moment may share leaves. The evaluation reads no data except through the [`Source`], and keeps
//! the result of a leaf only until its last use.

mod behavior;
mod cache;
mod events;
mod evidence;
mod references;
mod rows;

use std::sync::Arc;

use roaring::{MultiOps, RoaringBitmap};

use crate::condition::Condition;
use crate::interrupt::Meter;
use crate::plan::{Criterion, Plan, RowTest, Tree};
use crate::source::Source;
use crate::window::{Moment, Range};

pub use cache::LeafCache;

/// Operands of OR with results in memory at the same time.
const UNION_OPERANDS: usize = 32;

/// The persons of a leaf. `None` means that the leaf refers to a cohort that does not exist, or
/// that is part of a loop: it matches no person, even if it is negated.
pub(crate) type LeafResult = Option<Arc<RoaringBitmap>>;

impl Plan {
    /// Returns the ordinals of the members.
    ///
    /// # Errors
    ///
    /// Returns the error of `source` if data cannot be read, or if the evaluation is interrupted.
    pub fn evaluate<S: Source>(&self, source: &S) -> Result<RoaringBitmap, S::Error> {
        self.evaluate_with(source, &LeafCache::default())
    }

    /// Returns the ordinals of the members, and shares the leaves of `cache` with other plans. The
    /// cache may restrict the evaluation to some persons.
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
        source.expect(self.planned_reads());
        let universe = cache.universe(source.persons()?);
        let mut evaluation = Evaluation::new(self, source, cache, universe);
        Ok(Arc::unwrap_or_clone(evaluation.tree(&self.root)?))
    }

    /// Returns the members, and the number of persons that each leaf matches by itself.
    ///
    /// # Errors
    ///
    /// Returns the error of `source` if data cannot be read, or if the evaluation is interrupted.
    pub fn explain<S: Source>(&self, source: &S) -> Result<Explanation, S::Error> {
        let cache = LeafCache::default();
        source.expect(self.planned_reads());
        let mut evaluation = Evaluation::new(self, source, &cache, source.persons()?);
        let members = evaluation.tree(&self.root)?;
        let mut leaves = Vec::new();
        for placed in self.criteria() {
            leaves.push(LeafCount {
                path: placed.path.clone(),
                persons: evaluation.count(placed.leaf, placed.negated)?,
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

struct Evaluation<'a, S: Source> {
    plan: &'a Plan,
    source: &'a S,
    cache: &'a LeafCache,
    /// All persons that the plan is evaluated for.
    universe: Arc<RoaringBitmap>,
    leaves: Vec<LeafState>,
    /// The memory of the results in `leaves`, in bytes.
    bytes: usize,
}

/// What an evaluation knows about a leaf.
#[derive(Clone, Default)]
struct LeafState {
    /// Where the tree has the leaf, not counting the places that are evaluated.
    uses: usize,
    /// The result, while there are uses.
    result: Option<LeafResult>,
    /// The number of persons; `None` if the leaf is not evaluated yet.
    count: Option<LeafSize>,
}

/// The number of persons of a leaf, and of its complement.
#[derive(Clone, Copy)]
struct LeafSize {
    matching: u64,
    others: u64,
}

impl<'a, S: Source> Evaluation<'a, S> {
    fn new(
        plan: &'a Plan,
        source: &'a S,
        cache: &'a LeafCache,
        universe: Arc<RoaringBitmap>,
    ) -> Evaluation<'a, S> {
        let mut leaves = vec![LeafState::default(); plan.leaves.len()];
        count_uses(&plan.root, &mut leaves);
        Evaluation {
            plan,
            source,
            cache,
            universe,
            leaves,
            bytes: 0,
        }
    }

    fn tree(&mut self, tree: &Tree) -> Result<Arc<RoaringBitmap>, S::Error> {
        match tree {
            Tree::Leaf { leaf, negated } => self.signed(*leaf, *negated),
            Tree::And(trees) => self.intersection(trees),
            Tree::Or(trees) => self.union(trees),
        }
    }

    fn union(&mut self, trees: &[Tree]) -> Result<Arc<RoaringBitmap>, S::Error> {
        let mut union = RoaringBitmap::new();
        for trees in trees.chunks(UNION_OPERANDS) {
            let operands = trees.iter().map(|tree| self.tree(tree));
            let operands = operands.collect::<Result<Vec<_>, _>>()?;
            let mut bitmaps: Vec<&RoaringBitmap> = operands.iter().map(Arc::as_ref).collect();
            bitmaps.push(&union);
            union = bitmaps.union();
        }
        Ok(Arc::new(union))
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

    /// The result of one use of a leaf.
    fn leaf(&mut self, leaf: usize) -> Result<LeafResult, S::Error> {
        let state = &mut self.leaves[leaf];
        state.uses = state.uses.saturating_sub(1);
        if state.uses == 0
            && let Some(result) = state.result.take()
        {
            self.bytes -= bytes_of(&result);
            return Ok(result);
        }
        if let Some(result) = &state.result {
            return Ok(result.clone());
        }
        self.evaluated(leaf)
    }

    /// Evaluates a leaf, and keeps the result if the tree has it again.
    fn evaluated(&mut self, leaf: usize) -> Result<LeafResult, S::Error> {
        let identity = self.plan.identities[leaf].as_ref();
        let result = match self.cache.get(identity) {
            Some(result) => result,
            None => {
                let result = self.criterion(&self.plan.leaves[leaf])?;
                self.cache.put(identity, &result);
                result
            }
        };
        let state = &mut self.leaves[leaf];
        state.count = Some(LeafSize::new(&result, self.universe.len()));
        if state.uses > 0 {
            state.result = Some(result.clone());
            self.bytes += bytes_of(&result);
        }
        self.source.check_memory(self.bytes + self.cache.bytes())?;
        Ok(result)
    }

    /// The number of persons of a leaf, which is evaluated if the tree did not need it.
    fn count(&mut self, leaf: usize, negated: bool) -> Result<u64, S::Error> {
        if self.leaves[leaf].count.is_none() {
            self.leaves[leaf].uses = 0;
            self.evaluated(leaf)?;
        }
        let size = self.leaves[leaf].count;
        Ok(size.map_or(0, |size| if negated { size.others } else { size.matching }))
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
            Criterion::Cohort(id) => {
                return references::members(
                    self.source,
                    self.cache,
                    universe,
                    *id,
                    &self.plan.moment,
                );
            }
            Criterion::Rows(rows) => {
                let condition = rows.condition.try_map(&mut |test| self.resolved(test))?;
                rows::persons(self.source, self.cache, &condition, &rows.having)? & &*self.universe
            }
            Criterion::Behavior { target, rule } => {
                behavior::persons(self.source, self.cache, target, rule, &self.plan.moment)?
                    & &**universe
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
}

/// The persons of a cohort that a plan of this moment refers to. `None` means that the cohort does
/// not exist, or is part of a loop.
pub(crate) fn referenced<S: Source>(
    source: &S,
    id: i64,
    moment: &Moment,
) -> Result<LeafResult, S::Error> {
    let cache = LeafCache::default();
    references::members(source, &cache, &source.persons()?, id, moment)
}

/// Counts where a tree has each leaf. Persons of row tests are trees of their own.
fn count_uses(tree: &Tree, leaves: &mut [LeafState]) {
    match tree {
        Tree::Leaf { leaf, .. } => leaves[*leaf].uses += 1,
        Tree::And(trees) | Tree::Or(trees) => {
            trees.iter().for_each(|tree| count_uses(tree, leaves));
        }
    }
}

impl LeafSize {
    fn new(result: &LeafResult, universe: u64) -> LeafSize {
        let matching = result.as_ref().map(|persons| persons.len());
        LeafSize {
            matching: matching.unwrap_or(0),
            others: matching.map_or(0, |matching| universe - matching),
        }
    }
}

/// The memory of a result, in bytes, approximately.
fn bytes_of(result: &LeafResult) -> usize {
    let persons = result.as_ref();
    persons.map_or(0, |persons| persons.serialized_size())
}

/// Whether no instant is in the range.
fn is_empty(range: &Range) -> bool {
    range.from.is_some_and(|from| from > range.to)
}

#[cfg(test)]
pub(crate) mod tests;
