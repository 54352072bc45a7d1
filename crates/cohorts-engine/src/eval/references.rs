//! The cohorts that a plan refers to, each evaluated after those that it refers to.
//!
//! References are followed with an explicit stack, so chains may have any length. A cohort that is
//! part of a loop counts as a missing cohort for all that refer to it. The result of a cohort
//! therefore does not depend on the chain of references that leads to it, and is shared.

use std::collections::HashMap;
use std::sync::Arc;

use roaring::RoaringBitmap;

use super::{Evaluation, LeafCache, LeafResult};
use crate::block::intersection;
use crate::plan::Plan;
use crate::source::{Reference, Source};
use crate::window::Moment;

/// The persons of the cohort `id`, from the cache if it has them.
pub(super) fn members<S: Source>(
    source: &S,
    cache: &LeafCache,
    universe: &Arc<RoaringBitmap>,
    id: i64,
    moment: &Moment,
) -> Result<LeafResult, S::Error> {
    if let Some(result) = cache.cohort(id) {
        return Ok(result);
    }
    let mut search = Search {
        source,
        cache,
        universe,
        moment,
        visits: Vec::new(),
        open: Vec::new(),
        orders: HashMap::new(),
    };
    search.evaluate_all(id)?;
    Ok(cache.cohort(id).flatten())
}

/// A depth-first search for strongly connected components, by Tarjan's algorithm. A component with
/// a loop has no members; every other component is one cohort, and is evaluated when it is complete.
struct Search<'a, S> {
    source: &'a S,
    cache: &'a LeafCache,
    universe: &'a Arc<RoaringBitmap>,
    moment: &'a Moment,
    /// The cohorts from the first one to the current one.
    visits: Vec<Visit>,
    /// The visited cohorts with an incomplete component, in the order of the visits.
    open: Vec<i64>,
    /// The positions of the open cohorts in the order of the visits.
    orders: HashMap<i64, usize>,
}

/// A cohort with references that are being followed.
struct Visit {
    id: i64,
    references: std::vec::IntoIter<i64>,
    order: usize,
    /// The earliest open cohort that is reachable from this one.
    earliest: usize,
    is_own_reference: bool,
}

impl<S: Source> Search<'_, S> {
    fn evaluate_all(&mut self, first: i64) -> Result<(), S::Error> {
        self.visit(first)?;
        while let Some(visit) = self.visits.last_mut() {
            let Some(next) = visit.references.next() else {
                self.leave()?;
                continue;
            };
            if self.cache.cohort(next).is_some() {
                continue;
            }
            match self.orders.get(&next) {
                None => self.visit(next)?,
                Some(order) => {
                    visit.earliest = visit.earliest.min(*order);
                    visit.is_own_reference |= next == visit.id;
                }
            }
        }
        Ok(())
    }

    /// Evaluates a cohort without references at once, and begins to follow those of others.
    fn visit(&mut self, id: i64) -> Result<(), S::Error> {
        self.source.interrupt()?;
        let reference = self.source.cohort(id)?;
        if let Some(Reference::Members(members)) = &reference {
            let members = Arc::new(intersection(members, self.universe));
            return self.finish(id, Some(members));
        }
        // A cohort that cannot be planned counts as a missing cohort.
        let Some(plan) = self.plan(reference) else {
            return self.finish(id, None);
        };
        let references = Vec::from_iter(plan.cohort_references());
        if references.is_empty() {
            let members = self.evaluate(&plan)?;
            return self.finish(id, Some(members));
        }
        // The plan is made again when it is evaluated, because a chain of plans takes much memory.
        let order = self.orders.len();
        self.orders.insert(id, order);
        self.open.push(id);
        self.visits.push(Visit {
            id,
            references: references.into_iter(),
            order,
            earliest: order,
            is_own_reference: false,
        });
        Ok(())
    }

    /// Ends the current visit, and evaluates its component if it is complete.
    fn leave(&mut self) -> Result<(), S::Error> {
        let Some(visit) = self.visits.pop() else {
            return Ok(());
        };
        if let Some(above) = self.visits.last_mut() {
            above.earliest = above.earliest.min(visit.earliest);
        }
        if visit.earliest < visit.order {
            return Ok(());
        }
        let component = self.open.split_off(visit.order);
        for id in &component {
            self.orders.remove(id);
        }
        if component.len() > 1 || visit.is_own_reference {
            return component.iter().try_for_each(|id| self.finish(*id, None));
        }
        let plan = self.plan(self.source.cohort(visit.id)?);
        let members = plan.map(|plan| self.evaluate(&plan)).transpose()?;
        self.finish(visit.id, members)
    }

    fn plan(&self, reference: Option<Reference>) -> Option<Plan> {
        reference?.plan(self.moment)?.ok()
    }

    fn evaluate(&self, plan: &Plan) -> Result<Arc<RoaringBitmap>, S::Error> {
        let universe = Arc::clone(self.universe);
        Evaluation::new(plan, self.source, self.cache, universe).tree(&plan.root)
    }

    fn finish(&self, id: i64, result: LeafResult) -> Result<(), S::Error> {
        self.cache.put_cohort(id, result);
        self.source.check_memory(self.cache.bytes())
    }
}
