//! Checks the cohorts that a plan refers to, at any distance, before it is evaluated.
//!
//! The evaluation treats a cohort that cannot be calculated as one without members, and might not even reach it. The
//! members of the plan would then depend on an error elsewhere, so the plan fails instead, and the error names the path.
//! A cohort that does not exist has no members, as in PostHog.

use std::collections::{HashMap, HashSet};

use cohorts_engine::{FilterError, Moment, PlacedReference, Plan};
use cohorts_store::cohorts;
use cohorts_store::definition::Definition;

use super::read::ReadTx;
use super::snapshot::Snapshot;
use super::{IndexError, IndexResult};

/// A longer path shows this many cohorts at its start and at its end.
const SHOWN_COHORTS: usize = 3;

/// The cohorts that can be calculated, as far as they are known.
#[derive(Default)]
pub struct CheckedCohorts(HashSet<i64>);

/// From each found cohort to the place that refers to it.
#[derive(Default)]
struct Paths(HashMap<i64, Referrer>);

struct Referrer {
    /// The referring cohort; `None` if it is the plan.
    referring: Option<i64>,
    path: String,
}

impl Snapshot<'_, '_> {
    /// As [`check`], in the transaction of the snapshot.
    pub fn check_references(&self, plan: &Plan, checked: &mut CheckedCohorts) -> IndexResult<()> {
        check(self.tx(), plan, checked)
    }
}

/// Fails with [`IndexError::Uncalculable`] if the plan refers to a cohort that cannot be calculated, directly or through
/// other cohorts. Cohorts in `checked` are not checked again.
pub fn check(tx: &ReadTx<'_>, plan: &Plan, checked: &mut CheckedCohorts) -> IndexResult<()> {
    let mut paths = Paths::default();
    let mut level = paths.add(None, plan.placed_references(), checked);
    while !level.is_empty() {
        let definitions = tx.with_conn(|conn| cohorts::definitions(conn, tx.project, &level))?;
        let mut next = Vec::new();
        for id in level {
            tx.check_time()?;
            let Some(definition) = definitions.get(&id) else {
                continue;
            };
            let references = references(definition, plan.moment())
                .map_err(|error| IndexError::Uncalculable(paths.error(id, error)))?;
            next.extend(paths.add(Some(id), references, checked));
        }
        level = next;
    }
    checked.0.extend(paths.0.into_keys());
    Ok(())
}

/// The direct references of a cohort. The criteria of a static cohort are not evaluated again.
fn references(definition: &Definition, at: &Moment) -> Result<Vec<PlacedReference>, FilterError> {
    if definition.is_static {
        return Ok(Vec::new());
    }
    Ok(definition.rule()?.plan(at)?.placed_references())
}

impl Paths {
    /// Returns the cohorts among `references` that were not found before.
    fn add(
        &mut self,
        referring: Option<i64>,
        references: Vec<PlacedReference>,
        checked: &CheckedCohorts,
    ) -> Vec<i64> {
        let mut found = Vec::new();
        for PlacedReference { path, cohort } in references {
            if !checked.0.contains(&cohort) && !self.0.contains_key(&cohort) {
                self.0.insert(cohort, Referrer { referring, path });
                found.push(cohort);
            }
        }
        found
    }

    /// The error of a cohort, with the path that leads to it.
    fn error(&self, id: i64, error: FilterError) -> FilterError {
        let mut steps = Vec::new();
        let mut next = Some(id);
        while let Some(id) = next
            && let Some(origin) = self.0.get(&id)
        {
            steps.push(format!("{} → cohort {id} → ", origin.path));
            next = origin.referring;
        }
        steps.reverse();
        FilterError {
            path: self.first_path(id),
            code: error.code,
            detail: format!("{}{}", shortened(&steps), error.detail),
        }
    }

    /// The path of the criterion of the plan that leads to a cohort.
    fn first_path(&self, mut id: i64) -> String {
        loop {
            match self.0.get(&id) {
                Some(Referrer {
                    referring: Some(referring),
                    ..
                }) => id = *referring,
                origin => return origin.map(|origin| origin.path.clone()).unwrap_or_default(),
            }
        }
    }
}

/// The steps of a path. A long path has a number in place of its middle.
fn shortened(steps: &[String]) -> String {
    let hidden = steps.len().saturating_sub(2 * SHOWN_COHORTS);
    if hidden == 0 {
        return steps.concat();
    }
    let (start, end) = (&steps[..SHOWN_COHORTS], &steps[SHOWN_COHORTS + hidden..]);
    format!(
        "{}({hidden} more cohorts) → {}",
        start.concat(),
        end.concat()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The detail of an error in the last of `count` cohorts. Each refers to the next.
    fn detail_of_chain(count: i64) -> String {
        let mut paths = Paths::default();
        for id in 1..=count {
            let path = format!("properties.values[{id}]");
            let reference = PlacedReference { path, cohort: id };
            let referring = (id > 1).then_some(id - 1);
            paths.add(referring, vec![reference], &CheckedCohorts::default());
        }
        let error = paths.error(
            count,
            FilterError {
                path: "properties".to_owned(),
                code: "no_properties",
                detail: "properties: empty".to_owned(),
            },
        );
        assert_eq!(
            (error.path.as_str(), error.code),
            ("properties.values[1]", "no_properties")
        );
        error.detail
    }

    #[test]
    fn an_error_names_the_path_to_the_cohort() {
        assert_eq!(
            detail_of_chain(2),
            "properties.values[1] → cohort 1 → properties.values[2] → cohort 2 → properties: empty"
        );
    }

    #[test]
    fn a_long_path_shows_its_start_and_its_end() {
        let detail = detail_of_chain(1_000);
        assert!(detail.starts_with("properties.values[1] → cohort 1 → "));
        assert!(
            detail.contains("cohort 3 → (994 more cohorts) → properties.values[998]"),
            "{detail}"
        );
        assert!(
            detail.ends_with("cohort 1000 → properties: empty"),
            "{detail}"
        );
    }
}
