//! A definition with the cohorts and actions that it refers to, directly and through others.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use serde_json::Value;

use super::source::ChangeSource;
use super::state::{
    CohortState, EvaluationState, Fingerprint, FullReason, Position, SEMANTICS, Settings,
};
use crate::FilterError;
use crate::filter::Filter;
use crate::plan::{Names, Plan, Slot, SlotReader, plan, plan_query};
use crate::source::{Action, Reference};
use crate::window::Moment;

/// What determines the members of a cohort.
#[derive(Clone, Debug)]
pub enum Definition {
    /// The criteria of a dynamic cohort.
    Filter(Filter),
    /// A query, as [`plan_query`] takes it.
    Query(Value),
}

impl Definition {
    /// Makes a plan for the moment `at`.
    ///
    /// # Errors
    ///
    /// Fails like [`plan`](crate::plan()) or [`plan_query`].
    pub fn plan(&self, at: &Moment) -> Result<Plan, FilterError> {
        match self {
            Definition::Filter(filter) => plan(filter, at),
            Definition::Query(query) => plan_query(query, at),
        }
    }

    fn references(&self, at: &Moment) -> References {
        match self {
            Definition::Filter(filter) => References::of_filter(filter),
            Definition::Query(query) => References {
                cohorts: plan_query(query, at)
                    .map(|plan| plan.cohort_references().into_iter().collect())
                    .unwrap_or_default(),
                // A query has no criteria of behaviour.
                actions: Vec::new(),
            },
        }
    }

    fn fingerprint(&self) -> Fingerprint {
        match self {
            Definition::Filter(filter) => Fingerprint::of(filter),
            Definition::Query(query) => Fingerprint::of(query),
        }
    }
}

/// A definition with everything that it refers to, as of one position of the log.
///
/// It stays valid until one of its cohorts or actions changes; a caller may keep it for many passes.
#[derive(Clone, Debug)]
pub struct Definitions {
    root: Definition,
    fingerprint: Fingerprint,
    cohorts: BTreeMap<i64, ReferencedCohort>,
    actions: BTreeMap<i64, Option<Action>>,
    /// The names of the events that the plans read.
    pub(super) names: Names,
    /// Whether the plans read persons.
    pub(super) reads_persons: bool,
}

/// The ids in one definition.
struct References {
    cohorts: Vec<i64>,
    actions: Vec<i64>,
}

impl References {
    fn of_filter(filter: &Filter) -> References {
        References {
            cohorts: filter.cohort_references(),
            actions: filter.action_ids().into_iter().collect(),
        }
    }
}

#[derive(Clone, Debug)]
enum ReferencedCohort {
    Missing,
    /// The version of the members.
    Members(i64),
    Filter(Filter, Fingerprint),
}

/// The slots of a definition and of all that it refers to, for one moment.
#[derive(Default)]
pub(super) struct PlannedSlots {
    pub slots: Vec<Slot>,
    /// The cohorts with a filter that can be planned.
    planned: Vec<i64>,
    names: Names,
    reads_persons: bool,
}

impl Definitions {
    /// Reads what `root` refers to from a source. `at` is any moment in the time zone of the project.
    ///
    /// # Errors
    ///
    /// Returns the error of `source` if data cannot be read.
    pub fn read<S: ChangeSource>(
        root: Definition,
        source: &S,
        at: &Moment,
    ) -> Result<Definitions, S::Error> {
        let mut definitions = Definitions {
            fingerprint: root.fingerprint(),
            root,
            cohorts: BTreeMap::new(),
            actions: BTreeMap::new(),
            names: None,
            reads_persons: true,
        };
        let mut waiting = vec![definitions.root.references(at)];
        while let Some(references) = waiting.pop() {
            for id in references.actions {
                if let Entry::Vacant(entry) = definitions.actions.entry(id) {
                    entry.insert(source.action(id)?);
                }
            }
            for id in references.cohorts {
                if let Entry::Vacant(entry) = definitions.cohorts.entry(id) {
                    let cohort = entry.insert(referenced(source, id)?);
                    if let ReferencedCohort::Filter(filter, _) = cohort {
                        waiting.push(References::of_filter(filter));
                    }
                }
            }
        }
        definitions.read_names(at);
        Ok(definitions)
    }

    /// Finds out what the plans read. A filter that cannot be planned now may read anything later.
    fn read_names(&mut self, at: &Moment) {
        let Ok(planned) = self.slots(at) else {
            return;
        };
        if planned.planned.len() == self.filters().count() {
            (self.names, self.reads_persons) = (planned.names, planned.reads_persons);
        }
    }

    /// The filters of the cohorts.
    fn filters(&self) -> impl Iterator<Item = (i64, &Filter)> {
        self.cohorts.iter().filter_map(|(id, cohort)| match cohort {
            ReferencedCohort::Filter(filter, _) => Some((*id, filter)),
            _ => None,
        })
    }

    /// The ids of the cohorts that the definition refers to, directly and through other cohorts.
    pub fn cohort_ids(&self) -> impl Iterator<Item = i64> {
        self.cohorts.keys().copied()
    }

    /// Makes a plan of the definition for the moment `at`.
    ///
    /// # Errors
    ///
    /// Fails like [`Definition::plan`].
    pub fn plan(&self, at: &Moment) -> Result<Plan, FilterError> {
        self.root.plan(at)
    }

    /// The state of an evaluation at a position.
    pub fn state(&self, position: Position, settings: &Settings) -> EvaluationState {
        let cohorts = self.cohorts.iter().map(|(id, cohort)| {
            let state = match cohort {
                ReferencedCohort::Missing => CohortState::Missing,
                ReferencedCohort::Members(version) => CohortState::Members(*version),
                ReferencedCohort::Filter(_, fingerprint) => CohortState::Filter(*fingerprint),
            };
            (*id, state)
        });
        let actions = self.actions.iter();
        let actions = actions.map(|(id, action)| (*id, action.as_ref().map(Fingerprint::of)));
        EvaluationState {
            position,
            semantics: SEMANTICS,
            settings: settings.clone(),
            definition: self.fingerprint,
            cohorts: cohorts.collect(),
            actions: actions.collect(),
        }
    }

    /// Whether no other filter is part of the definition.
    pub(super) fn has_one_plan(&self) -> bool {
        self.filters().next().is_none()
    }

    /// The slots of all plans for one moment.
    pub(super) fn slots(&self, at: &Moment) -> Result<PlannedSlots, FilterError> {
        let mut reader = SlotReader::new(at, |id| self.actions.get(&id)?.as_ref());
        reader.add_plan(&self.root.plan(at)?);
        let mut planned = Vec::new();
        for (id, filter) in self.filters() {
            if let Ok(plan) = plan(filter, at) {
                reader.add_plan(&plan);
                planned.push(id);
            }
        }
        Ok(PlannedSlots {
            slots: reader.slots,
            planned,
            names: reader.names,
            reads_persons: reader.reads_persons,
        })
    }
}

impl PlannedSlots {
    /// The slots of two moments, side by side.
    pub fn paired<'a>(&'a self, later: &'a PlannedSlots) -> Result<SlotPairs<'a>, FullReason> {
        if self.planned != later.planned {
            return Err(FullReason::Reference);
        }
        let is_same = |(a, b): (&Slot, &Slot)| a.turn == b.turn && a.subject == b.subject;
        let mut pairs = self.slots.iter().zip(&later.slots);
        if self.slots.len() != later.slots.len() || !pairs.all(is_same) {
            return Err(FullReason::Instants);
        }
        Ok(self.slots.iter().zip(&later.slots))
    }
}

/// The same slots for two moments.
pub(super) type SlotPairs<'a> =
    std::iter::Zip<std::slice::Iter<'a, Slot>, std::slice::Iter<'a, Slot>>;

fn referenced<S: ChangeSource>(source: &S, id: i64) -> Result<ReferencedCohort, S::Error> {
    Ok(match source.cohort(id)? {
        None => ReferencedCohort::Missing,
        Some(Reference::Members(_)) => ReferencedCohort::Members(source.members_version(id)?),
        Some(Reference::Filter(filter)) => {
            let fingerprint = Fingerprint::of(&filter);
            ReferencedCohort::Filter(filter, fingerprint)
        }
    })
}
