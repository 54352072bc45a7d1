//! Plans: filters and queries with everything resolved that does not depend on data.
//!
//! A plan belongs to one moment: windows are instants, operators are predicates. Equal leaves
//! occur once, and leaves of low cost come first. A plan reads no data; `eval` does.

mod behavioral;
mod criterion;
mod planner;
mod query;
mod selector;
mod slots;

pub(crate) use behavioral::Count;
pub use criterion::Dependencies;
pub(crate) use criterion::properties as row_properties;
pub(crate) use criterion::{
    Behavior, Criterion, EventSource, GroupTest, RowCriterion, RowTest, Target,
};
pub use planner::plan;
use planner::{Planner, check_moment};
pub use query::{PlacedReference, QUERY_KINDS, plan_query};
pub(crate) use selector::{Selector, names, properties};
pub(crate) use slots::{Names, Slot, SlotReader, Subject, Turn};

use crate::source::PlannedReads;
use crate::window::Moment;

/// A filter or query, ready for evaluation as of one moment.
///
/// Made by [`plan`](plan()) or [`plan_query`], evaluated by [`Plan::evaluate`].
#[derive(Clone, Debug)]
pub struct Plan {
    pub(crate) moment: Moment,
    pub(crate) leaves: Vec<Criterion>,
    /// For each leaf, the key that identifies it in other plans of the same moment; `None` for a
    /// leaf of a query.
    pub(crate) identities: Vec<Option<String>>,
    pub(crate) root: Tree,
    criteria: Vec<PlacedLeaf>,
}

/// One leaf of a filter with its path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacedLeaf {
    /// The path in the filter, such as `properties.values[0].values[2]`.
    pub path: String,
    /// Whether the leaf selects the complement.
    pub negated: bool,
    pub(crate) leaf: usize,
}

/// The boolean tree of a plan; a leaf is an index into [`Plan::leaves`].
#[derive(Clone, Debug)]
pub(crate) enum Tree {
    Leaf {
        leaf: usize,
        negated: bool,
    },
    /// Without parts: all persons.
    And(Vec<Tree>),
    /// Without parts: no persons.
    Or(Vec<Tree>),
}

impl Plan {
    /// All leaves of the filter in document order. Conditions of a SELECT are not included.
    pub fn criteria(&self) -> &[PlacedLeaf] {
        &self.criteria
    }

    /// The data that the members depend on. If none of it changes, only time changes the members.
    pub fn dependencies(&self) -> Dependencies {
        let mut dependencies = Dependencies::default();
        for leaf in &self.leaves {
            leaf.collect_dependencies(&mut dependencies);
        }
        // A new person satisfies a negated criterion without any event.
        dependencies.persons |= self.criteria.iter().any(|placed| placed.negated);
        dependencies
    }

    /// What the evaluation may read.
    pub(crate) fn planned_reads(&self) -> PlannedReads {
        let mut reads = PlannedReads::default();
        for leaf in &self.leaves {
            leaf.collect_reads(&mut reads);
        }
        reads
    }

    /// The moment for which the plan was made.
    pub fn moment(&self) -> &Moment {
        &self.moment
    }
}

#[cfg(test)]
mod tests;
