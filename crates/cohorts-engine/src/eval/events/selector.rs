//! Which events a target means.

use std::collections::BTreeSet;

use super::scan::Selection;
use crate::block::EventBlock;
use crate::interrupt::Meter;
use crate::plan::{EventSource, Target};
use crate::predicate::Predicate;
use crate::source::{ActionStep, Source};
use crate::window::Moment;

/// A target with its action looked up: an event belongs to it that meets any of the steps.
pub(in crate::eval) struct Selector {
    steps: Vec<Step>,
}

#[derive(Clone)]
struct Step {
    event: Option<String>,
    /// All must hold.
    tests: Vec<(String, Predicate)>,
}

impl Selector {
    /// Looks the target up; an unknown action has no events. With `filters` left out, only the
    /// name or the action counts.
    pub fn resolve<S: Source>(
        source: &S,
        target: &Target,
        filters: bool,
        at: &Moment,
    ) -> Result<Selector, S::Error> {
        let mut steps = match &target.source {
            EventSource::Event(name) => vec![Step {
                event: Some(name.clone()),
                tests: Vec::new(),
            }],
            EventSource::Action(id) => {
                let action = source.action(*id)?.unwrap_or_default();
                action
                    .steps
                    .iter()
                    .filter_map(|step| compile(step, at))
                    .collect()
            }
        };
        if filters {
            for step in &mut steps {
                step.tests.extend(target.filters.iter().cloned());
            }
        }
        Ok(Selector { steps })
    }
}

/// A step with a test that cannot be calculated matches no event.
fn compile(step: &ActionStep, at: &Moment) -> Option<Step> {
    let mut tests = Vec::new();
    if let Some(url) = &step.url {
        let predicate = Predicate::url(url, step.url_matching.as_deref());
        tests.push(("$current_url".to_owned(), predicate));
    }
    for property in &step.properties {
        let operator = property.operator.as_deref();
        let predicate = Predicate::compile("", operator, property.value.as_ref(), at).ok()?;
        tests.push((property.key.clone(), predicate));
    }
    Some(Step {
        event: step.event.clone(),
        tests,
    })
}

impl Selector {
    /// Whether every event of a name belongs to it.
    pub fn takes_all(&self, event: &str) -> bool {
        let mut steps = self.steps.iter();
        steps.any(|step| concerns(step, event) && step.tests.is_empty())
    }

    pub(super) fn marks<'a, S: Source>(
        &self,
        block: &'a EventBlock,
        event: &str,
        meter: &Meter<S>,
    ) -> Result<Selection<'a>, S::Error> {
        if self.takes_all(event) {
            return Ok(Selection::All);
        }
        let mut steps = Vec::new();
        for step in self.steps.iter().filter(|step| concerns(step, event)) {
            let tests = step
                .tests
                .iter()
                .map(|(key, test)| block.answers(key, test, meter));
            steps.push(tests.collect::<Result<Vec<_>, _>>()?);
        }
        Ok(Selection::AnyOf(steps))
    }
}

/// The names to read events of; nothing where these are all.
pub(super) fn names(selectors: &[&Selector]) -> Option<BTreeSet<String>> {
    let steps = selectors.iter().flat_map(|selector| &selector.steps);
    steps.map(|step| step.event.clone()).collect()
}

/// The properties that are looked at of events of a name, sorted.
pub(super) fn properties(selectors: &[&Selector], event: &str) -> Vec<String> {
    let steps = selectors.iter().flat_map(|selector| &selector.steps);
    let steps = steps.filter(|step| concerns(step, event));
    let keys: BTreeSet<&String> = steps
        .flat_map(|step| &step.tests)
        .map(|(key, _)| key)
        .collect();
    keys.into_iter().cloned().collect()
}

fn concerns(step: &Step, event: &str) -> bool {
    step.event.as_deref().is_none_or(|name| name == event)
}
