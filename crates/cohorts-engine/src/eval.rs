//! From a plan and a source to a bitmap of persons.
//! Each leaf is found once; AND narrows and stops when nobody is left, OR is one union over
//! all its parts, and only leaves are complemented, against everyone.

mod behavior;
mod events;
mod rows;

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use roaring::{MultiOps, RoaringBitmap};

use crate::condition::Condition;
use crate::plan::{Criterion, Plan, RowTest, Tree, plan};
use crate::source::{Meter, Reference, Source};

/// How many cohorts may stand for one another by their definitions.
const MAX_REFERENCES: usize = 16;

/// The persons of a leaf, or nothing where it names a cohort that does not exist: such a leaf
/// matches nobody, negated or not.
type Found = Option<Arc<RoaringBitmap>>;

impl Plan {
    /// The members.
    pub fn evaluate<S: Source>(&self, source: &S) -> Result<RoaringBitmap, S::Error> {
        let cohorts = RefCell::default();
        let mut evaluation = Evaluation::new(self, source, source.everyone()?, &cohorts, None);
        Ok(Arc::unwrap_or_clone(evaluation.tree(&self.root)?))
    }

    /// The members, and how many persons satisfy each leaf by itself, negated if it is, with the path of the leaf, in
    /// the order written.
    pub fn explain<S: Source>(&self, source: &S) -> Result<(RoaringBitmap, Counts), S::Error> {
        let cohorts = RefCell::default();
        let mut evaluation = Evaluation::new(self, source, source.everyone()?, &cohorts, None);
        let members = evaluation.tree(&self.root)?;
        let mut counts = Vec::new();
        for placed in self.criteria() {
            let persons = evaluation.signed(placed.leaf, placed.negated)?;
            counts.push((placed.path.clone(), persons.len()));
        }
        Ok((Arc::unwrap_or_clone(members), counts))
    }
}

/// Paths of leaves, and how many persons satisfy each.
pub type Counts = Vec<(String, u64)>;

/// The cohorts whose definitions are being evaluated, innermost first.
#[derive(Clone, Copy)]
struct Trail<'a> {
    id: i64,
    above: Option<&'a Trail<'a>>,
}

impl Trail<'_> {
    fn holds(trail: Option<&Trail>, id: i64) -> bool {
        trail.is_some_and(|trail| trail.id == id || Trail::holds(trail.above, id))
    }

    fn length(trail: Option<&Trail>) -> usize {
        trail.map_or(0, |trail| 1 + Trail::length(trail.above))
    }
}

struct Evaluation<'a, S: Source> {
    plan: &'a Plan,
    source: &'a S,
    everyone: Arc<RoaringBitmap>,
    leaves: Vec<Option<Found>>,
    cohorts: &'a RefCell<HashMap<i64, Found>>,
    trail: Option<&'a Trail<'a>>,
}

impl<'a, S: Source> Evaluation<'a, S> {
    fn new(
        plan: &'a Plan,
        source: &'a S,
        everyone: Arc<RoaringBitmap>,
        cohorts: &'a RefCell<HashMap<i64, Found>>,
        trail: Option<&'a Trail<'a>>,
    ) -> Evaluation<'a, S> {
        Evaluation {
            plan,
            source,
            everyone,
            leaves: vec![None; plan.leaves.len()],
            cohorts,
            trail,
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
            return Ok(self.everyone.clone());
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
            (Some(persons), true) => Arc::new(&*self.everyone - &*persons),
        })
    }

    fn leaf(&mut self, leaf: usize) -> Result<Found, S::Error> {
        if let Some(found) = &self.leaves[leaf] {
            return Ok(found.clone());
        }
        let found = self.criterion(&self.plan.leaves[leaf])?;
        self.leaves[leaf] = Some(found.clone());
        Ok(found)
    }

    fn criterion(&mut self, criterion: &Criterion) -> Result<Found, S::Error> {
        let everyone = &self.everyone;
        self.source.checkpoint()?;
        let meter = Meter::new(self.source);
        let persons = match criterion {
            Criterion::Property { key, predicate } => {
                let values = self.source.person_property(key)?;
                values.matching(predicate, everyone, &meter)?
            }
            Criterion::DistinctId(predicate) => {
                let ids = self.source.distinct_ids()?;
                ids.matching(predicate, everyone, &meter)?
            }
            Criterion::CreatedAt(predicate) => {
                let times = self.source.created_at()?;
                times.matching(predicate, everyone, &meter)?
            }
            Criterion::Cohort(id) => return self.cohort(*id),
            Criterion::Rows(rows) => {
                let condition = rows.condition.try_map(&mut |test| self.resolved(test))?;
                rows::persons(self.source, &condition, &rows.having)? & &*self.everyone
            }
            Criterion::Behavior { target, rule } => {
                behavior::persons(self.source, target, rule, &self.plan.moment)? & &**everyone
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

    fn cohort(&self, id: i64) -> Result<Found, S::Error> {
        if let Some(found) = self.cohorts.borrow().get(&id) {
            return Ok(found.clone());
        }
        let found = match self.source.cohort(id)? {
            None => None,
            Some(Reference::Members(members)) => Some(Arc::new(&*members & &*self.everyone)),
            Some(Reference::Filter(filter)) => {
                // A loop, or a definition that cannot be calculated, counts as no cohort.
                let looped = Trail::holds(self.trail, id);
                if looped || Trail::length(self.trail) >= MAX_REFERENCES {
                    return Ok(None);
                }
                match plan(&filter, &self.plan.moment) {
                    Err(_) => None,
                    Ok(plan) => Some(self.nested(id, &plan)?),
                }
            }
        };
        self.cohorts.borrow_mut().insert(id, found.clone());
        Ok(found)
    }

    fn nested(&self, id: i64, plan: &Plan) -> Result<Arc<RoaringBitmap>, S::Error> {
        let trail = Trail {
            id,
            above: self.trail,
        };
        let everyone = self.everyone.clone();
        let mut nested = Evaluation::new(plan, self.source, everyone, self.cohorts, Some(&trail));
        nested.tree(&plan.root)
    }
}

#[cfg(test)]
mod tests;
