//! A definition with the cohorts and actions that it refers to, directly and through others.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::source::ChangeSource;
use super::state::{
    CohortState, EvaluationState, Fingerprint, FullReason, Position, SEMANTICS, Settings,
};
use crate::FilterError;
use crate::filter::Filter;
use crate::plan::{Names, Plan, Slot, SlotReader, plan, plan_query};
use crate::source::{Action, Reference, Source};
use crate::window::Moment;

/// What determines the members of a cohort.
#[derive(Clone, Debug)]
pub enum Definition {
    /// The criteria of a dynamic cohort.
    Filter(Filter),
    /// The query of a dynamic cohort, as [`plan_query`] takes it.
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

    /// The ids of the cohorts that it refers to directly. A query that cannot be planned at the moment
    /// refers to none.
    pub fn cohort_references(&self, at: &Moment) -> Vec<i64> {
        self.references(at).cohorts
    }

    fn references(&self, at: &Moment) -> References {
        match self {
            Definition::Filter(filter) => References {
                cohorts: filter.cohort_references(),
                actions: filter.action_ids().into_iter().collect(),
            },
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

impl From<Definition> for Reference {
    fn from(definition: Definition) -> Reference {
        match definition {
            Definition::Filter(filter) => Reference::Filter(filter),
            Definition::Query(query) => Reference::Query(query),
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

#[derive(Clone, Debug)]
enum ReferencedCohort {
    Missing,
    /// The version of the members.
    Members(i64),
    /// A dynamic cohort.
    Dynamic(Definition, Fingerprint),
}

/// The slots of a definition and of all that it refers to, for one moment.
#[derive(Default)]
pub(crate) struct PlannedSlots {
    pub slots: Vec<Slot>,
    /// The dynamic cohorts that can be planned.
    planned: Vec<i64>,
    pub names: Names,
    reads_persons: bool,
    /// The properties of events that the plans read.
    pub properties: BTreeSet<String>,
    /// The earliest event that the plans read.
    pub earliest: i64,
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
        Definitions::read_with(root, source, at, |id| source.members_version(id))
    }

    /// As [`Definitions::read`], with the versions of static cohorts from `version`.
    pub(crate) fn read_with<S: Source>(
        root: Definition,
        source: &S,
        at: &Moment,
        version: impl Fn(i64) -> Result<i64, S::Error>,
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
                    let cohort = entry.insert(referenced(source, id, &version)?);
                    if let ReferencedCohort::Dynamic(definition, _) = cohort {
                        waiting.push(definition.references(at));
                    }
                }
            }
        }
        definitions.read_names(at);
        Ok(definitions)
    }

    /// Finds out what the plans read. A cohort that cannot be planned now may read anything later.
    fn read_names(&mut self, at: &Moment) {
        let Ok(planned) = self.slots(at) else {
            return;
        };
        if planned.planned.len() == self.dynamic().count() {
            (self.names, self.reads_persons) = (planned.names, planned.reads_persons);
        }
    }

    /// The definitions of the dynamic cohorts.
    fn dynamic(&self) -> impl Iterator<Item = (i64, &Definition)> {
        self.cohorts.iter().filter_map(|(id, cohort)| match cohort {
            ReferencedCohort::Dynamic(definition, _) => Some((*id, definition)),
            _ => None,
        })
    }

    pub(crate) fn root(&self) -> &Definition {
        &self.root
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
                ReferencedCohort::Dynamic(_, fingerprint) => CohortState::Filter(*fingerprint),
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

    /// Whether no other dynamic cohort is part of the definition.
    pub(super) fn has_one_plan(&self) -> bool {
        self.dynamic().next().is_none()
    }

    /// The slots of all plans for one moment.
    pub(crate) fn slots(&self, at: &Moment) -> Result<PlannedSlots, FilterError> {
        let mut reader = SlotReader::new(at, |id| self.actions.get(&id)?.as_ref());
        reader.add_plan(&self.root.plan(at)?);
        let mut planned = Vec::new();
        for (id, definition) in self.dynamic() {
            if let Ok(plan) = definition.plan(at) {
                reader.add_plan(&plan);
                planned.push(id);
            }
        }
        Ok(PlannedSlots {
            slots: reader.slots,
            planned,
            names: reader.names,
            reads_persons: reader.reads_persons,
            properties: reader.properties,
            earliest: reader.earliest,
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
pub(crate) type SlotPairs<'a> =
    std::iter::Zip<std::slice::Iter<'a, Slot>, std::slice::Iter<'a, Slot>>;

fn referenced<S: Source>(
    source: &S,
    id: i64,
    version: &impl Fn(i64) -> Result<i64, S::Error>,
) -> Result<ReferencedCohort, S::Error> {
    Ok(match source.cohort(id)? {
        None => ReferencedCohort::Missing,
        Some(Reference::Members(_)) => ReferencedCohort::Members(version(id)?),
        Some(Reference::Filter(filter)) => Definition::Filter(filter).into(),
        Some(Reference::Query(query)) => Definition::Query(query).into(),
    })
}

impl From<Definition> for ReferencedCohort {
    fn from(definition: Definition) -> ReferencedCohort {
        let fingerprint = definition.fingerprint();
        ReferencedCohort::Dynamic(definition, fingerprint)
    }
}
