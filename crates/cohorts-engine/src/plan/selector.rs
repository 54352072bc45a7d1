//! The events that a target means.

use std::collections::BTreeSet;

use super::{EventSource, Target};
use crate::predicate::Predicate;
use crate::source::{Action, ActionStep, Source};
use crate::window::Moment;

/// A target with its action resolved. An event belongs to it if it matches any of the steps.
pub(crate) struct Selector {
    pub steps: Vec<Step>,
}

#[derive(Clone)]
pub(crate) struct Step {
    /// The name of the event. `None` matches every name.
    pub event: Option<String>,
    /// Conditions on properties; all must hold.
    pub conditions: Vec<(String, Predicate)>,
}

impl Selector {
    /// Resolves the action of a target. An unknown action has no events. Without `filters`, only
    /// the name or the action counts.
    pub fn resolve<S: Source>(
        source: &S,
        target: &Target,
        filters: bool,
        at: &Moment,
    ) -> Result<Selector, S::Error> {
        let action = match target.source {
            EventSource::Event(_) => None,
            EventSource::Action(id) => source.action(id)?,
        };
        let filters = if filters {
            target.filters.as_slice()
        } else {
            &[]
        };
        Ok(Selector::new(&target.source, action.as_ref(), filters, at))
    }

    /// From the action of a target; `None` if the target is no action, or the action is unknown.
    pub fn new(
        source: &EventSource,
        action: Option<&Action>,
        filters: &[(String, Predicate)],
        at: &Moment,
    ) -> Selector {
        let mut steps = match source {
            EventSource::Event(name) => vec![Step {
                event: Some(name.clone()),
                conditions: Vec::new(),
            }],
            EventSource::Action(_) => {
                let steps = action.iter().flat_map(|action| &action.steps);
                steps.filter_map(|step| compile(step, at)).collect()
            }
        };
        for step in &mut steps {
            step.conditions.extend(filters.iter().cloned());
        }
        Selector { steps }
    }

    /// Whether every event with this name belongs to the selector.
    pub fn takes_all(&self, event: &str) -> bool {
        let mut steps = self.steps.iter();
        steps.any(|step| step.matches_name(event) && step.conditions.is_empty())
    }
}

impl Step {
    pub fn matches_name(&self, event: &str) -> bool {
        self.event.as_deref().is_none_or(|name| name == event)
    }
}

/// Compiles a step. A step with an invalid condition matches no event.
fn compile(step: &ActionStep, at: &Moment) -> Option<Step> {
    let mut conditions = Vec::new();
    if let Some(url) = &step.url {
        let predicate = Predicate::url(url, step.url_matching.as_deref()).ok()?;
        conditions.push(("$current_url".to_owned(), predicate));
    }
    for property in &step.properties {
        let operator = property.operator.as_deref();
        let predicate = Predicate::compile("", operator, property.value.as_ref(), at).ok()?;
        conditions.push((property.key.clone(), predicate));
    }
    Some(Step {
        event: step.event.clone(),
        conditions,
    })
}

/// The names of the events to read, or `None` if these are all names.
pub(crate) fn names(selectors: &[&Selector]) -> Option<BTreeSet<String>> {
    let steps = selectors.iter().flat_map(|selector| &selector.steps);
    steps.map(|step| step.event.clone()).collect()
}

/// The properties to read for events with this name, sorted.
pub(crate) fn properties(selectors: &[&Selector], event: &str) -> Vec<String> {
    let steps = selectors.iter().flat_map(|selector| &selector.steps);
    let steps = steps.filter(|step| step.matches_name(event));
    let keys: BTreeSet<&String> = steps
        .flat_map(|step| &step.conditions)
        .map(|(key, _)| key)
        .collect();
    keys.into_iter().cloned().collect()
}
