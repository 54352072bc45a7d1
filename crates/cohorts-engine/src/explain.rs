//! Whether one person is a member, why, and when time alone will change it.
//!
//! A [`PersonSource`] has the rows of one person, and the evaluation of all other members runs over
//! it: there is no second implementation. An explanation therefore costs as much as the person has
//! events, whatever the size of the project.
//!
//! - [`Explainer::explain`] evaluates each criterion, and names the events that decide it.
//! - [`Explainer::next_change`] finds the next instant at which time alone changes the membership.

mod change;
mod person;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde_json::Value;

use crate::FilterError;
use crate::delta::{Definition, Definitions};
use crate::eval::referenced;
use crate::plan::{Criterion, PlacedLeaf, Plan};
use crate::source::{Reference, Source};
use crate::window::Moment;

pub use change::NextChange;
pub use person::{EventRows, PersonEvent, PersonRows, PersonSource};

/// Events that evidence names.
const SHOWN_EVENTS: usize = 10;
/// Levels of cohorts that an explanation follows. Deeper ones have no criteria.
const MAX_DEPTH: usize = 16;
/// Criteria of an explanation. Cohorts beyond them have no criteria.
const MAX_CRITERIA: usize = 1_000;

/// The explanation of one membership.
#[derive(Clone, Debug, PartialEq)]
pub struct PersonExplanation {
    /// Whether the person is a member.
    pub member: bool,
    /// The criteria in the order written; those of a query are one.
    pub criteria: Vec<ExplainedCriterion>,
}

/// One criterion, for one person.
#[derive(Clone, Debug, PartialEq)]
pub struct ExplainedCriterion {
    /// The path in the filter, such as `properties.values[0]`; `query` for a query.
    pub path: String,
    /// Whether the person meets the criterion as it is written, with its negation.
    pub holds: bool,
    /// Whether the criterion selects the complement.
    pub negated: bool,
    /// The data that the criterion is about.
    pub found: Found,
}

/// What a criterion has found in the data of a person.
#[derive(Clone, Debug, PartialEq)]
pub enum Found {
    /// A value; null if the person has none.
    Value(Value),
    /// Events.
    Events(FoundEvents),
    /// Another cohort.
    Cohort {
        /// The id of the cohort.
        cohort_id: i64,
        /// Whether the person is a member of it. A cohort that does not exist has no members.
        member: bool,
        /// Its criteria. A static cohort has none.
        criteria: Vec<ExplainedCriterion>,
    },
}

/// The events of a person that a criterion reads: those in its window, of its name or action, that
/// its filters admit. A criterion on a first time reads all earlier events, whatever its filters.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FoundEvents {
    /// The number of these events.
    pub count: usize,
    /// The time of the first event, in microseconds since the Unix epoch.
    pub first_at: Option<i64>,
    /// The time of the last event.
    pub last_at: Option<i64>,
    /// At most ten of these events, the newest first.
    pub events: Vec<PersonEvent>,
}

/// Explains the membership of one person in one cohort.
pub struct Explainer<'a, R> {
    source: &'a PersonSource<R>,
    definitions: Definitions,
}

impl<'a, R: PersonRows> Explainer<'a, R> {
    /// Reads what the definition refers to. `at` is any moment in the time zone of the project.
    ///
    /// # Errors
    ///
    /// Returns the error of `source` if data cannot be read.
    pub fn new(
        definition: Definition,
        source: &'a PersonSource<R>,
        at: &Moment,
    ) -> Result<Explainer<'a, R>, R::Error> {
        let definitions = Definitions::read_with(definition, source, at, |_| Ok(0))?;
        if let Ok(slots) = definitions.slots(at) {
            source.expect_events(&slots);
        }
        Ok(Explainer {
            source,
            definitions,
        })
    }

    /// The plan of the definition for the moment `at`.
    ///
    /// # Errors
    ///
    /// Fails like [`Definition::plan`].
    pub fn plan(&self, at: &Moment) -> Result<Plan, FilterError> {
        self.definitions.plan(at)
    }

    /// Explains the membership by a plan of the definition.
    ///
    /// # Errors
    ///
    /// Returns the error of the source if data cannot be read, or if the evaluation is interrupted.
    pub fn explain(&self, plan: &Plan) -> Result<PersonExplanation, R::Error> {
        let mut walk = Walk {
            source: self.source,
            depth: 0,
            criteria: 0,
        };
        walk.explain(self.definitions.root(), plan)
    }
}

/// Follows the cohorts that a definition refers to.
struct Walk<'a, R> {
    source: &'a PersonSource<R>,
    /// The number of cohorts between the definition and the current one.
    depth: usize,
    /// The number of criteria so far.
    criteria: usize,
}

impl<R: PersonRows> Walk<'_, R> {
    fn explain(
        &mut self,
        definition: &Definition,
        plan: &Plan,
    ) -> Result<PersonExplanation, R::Error> {
        let explanation = plan.explain(self.source)?;
        let member = !explanation.members.is_empty();
        if matches!(definition, Definition::Query(_)) {
            let criterion = ExplainedCriterion {
                path: "query".to_owned(),
                holds: member,
                negated: false,
                found: self.found_by_query(plan)?,
            };
            return Ok(PersonExplanation {
                member,
                criteria: vec![criterion],
            });
        }
        let mut criteria = Vec::new();
        for (placed, leaf) in plan.criteria().iter().zip(&explanation.leaves) {
            self.criteria += 1;
            criteria.push(ExplainedCriterion {
                path: placed.path.clone(),
                holds: leaf.persons > 0,
                negated: placed.negated,
                found: self.found(plan, placed)?,
            });
        }
        Ok(PersonExplanation { member, criteria })
    }

    fn found(&mut self, plan: &Plan, placed: &PlacedLeaf) -> Result<Found, R::Error> {
        let criterion = &plan.leaves[placed.leaf];
        if let Criterion::Cohort(id) = criterion {
            return self.cohort(*id, plan.moment());
        }
        Ok(match plan.events_of(placed.leaf, self.source)? {
            Some(rows) => Found::Events(self.source.evidence(&rows, SHOWN_EVENTS)?),
            None => Found::Value(self.value(criterion)?.unwrap_or(Value::Null)),
        })
    }

    /// The value that a criterion on persons reads.
    fn value(&self, criterion: &Criterion) -> Result<Option<Value>, R::Error> {
        match criterion {
            Criterion::Property { key, .. } => self.source.value(key),
            Criterion::DistinctId(_) => Ok(Some(self.source.first_ids(SHOWN_EVENTS)?)),
            Criterion::CreatedAt(_) => Ok(Some(self.source.created_at_text())),
            _ => Ok(None),
        }
    }

    fn cohort(&mut self, id: i64, at: &Moment) -> Result<Found, R::Error> {
        let persons = referenced(self.source, id, at)?;
        let mut criteria = Vec::new();
        let may_follow = self.depth < MAX_DEPTH && self.criteria < MAX_CRITERIA;
        if persons.is_some()
            && may_follow
            && let Some(definition) = definition(self.source.cohort(id)?)
            && let Ok(plan) = definition.plan(at)
        {
            self.depth += 1;
            criteria = self.explain(&definition, &plan)?.criteria;
            self.depth -= 1;
        }
        Ok(Found::Cohort {
            cohort_id: id,
            member: persons.is_some_and(|persons| !persons.is_empty()),
            criteria,
        })
    }

    /// The events that a query chooses; without events, the only cohort or all values that it reads.
    fn found_by_query(&mut self, plan: &Plan) -> Result<Found, R::Error> {
        let mut chosen: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        let (mut has_events, mut values) = (false, serde_json::Map::new());
        for (leaf, criterion) in plan.leaves.iter().enumerate() {
            if let Some(rows) = plan.events_of(leaf, self.source)? {
                has_events = true;
                for (name, rows) in rows {
                    chosen.entry(name).or_default().extend(rows);
                }
            }
            if let Some(name) = criterion.value_name() {
                let value = self.value(criterion)?.unwrap_or(Value::Null);
                values.insert(name.to_owned(), value);
            }
        }
        for rows in chosen.values_mut() {
            rows.sort_unstable();
            rows.dedup();
        }
        if has_events {
            let chosen: Vec<_> = chosen.into_iter().collect();
            return Ok(Found::Events(self.source.evidence(&chosen, SHOWN_EVENTS)?));
        }
        match plan.leaves.as_slice() {
            [Criterion::Cohort(id)] => self.cohort(*id, plan.moment()),
            _ => Ok(Found::Value(Value::Object(values))),
        }
    }
}

/// The definition of a dynamic cohort.
fn definition(reference: Option<Reference>) -> Option<Definition> {
    match reference? {
        Reference::Members(_) => None,
        Reference::Filter(filter) => Some(Definition::Filter(filter)),
        Reference::Query(query) => Some(Definition::Query(query)),
    }
}

impl Criterion {
    /// The name of the value of persons that the criterion reads.
    fn value_name(&self) -> Option<&str> {
        match self {
            Criterion::Property { key, .. } => Some(key),
            Criterion::DistinctId(_) => Some("distinct_id"),
            Criterion::CreatedAt(_) => Some("created_at"),
            _ => None,
        }
    }
}
