//! Evaluates a dynamic cohort as of instants of the past, which no record covers.
//!
//! The newest instants come first, so that a request with too many of them, or too little time, has the sizes next to the
//! record.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use cohorts_engine::delta::Definition as Rule;
use cohorts_engine::filter::Leaf;
use cohorts_engine::{LeafCache, Moment};
use cohorts_store::cohorts::{self, Cohort};
use cohorts_store::projects::Project;
use cohorts_store::{Conn, ProjectId};

use crate::calculation::moment;
use crate::error::Error;
use crate::index::references::CheckedCohorts;
use crate::index::{IndexError, IndexedStore};

/// The most instants that one request evaluates.
const MAX_EVALUATED: usize = 60;
/// After this time, no further instant is evaluated.
const TIME_LIMIT: Duration = Duration::from_secs(10);

/// The sizes of a dynamic cohort to evaluate.
pub struct PastSizes {
    project: ProjectId,
    cohort: Cohort,
    moments: Vec<Moment>,
}

/// The sizes that were evaluated.
#[derive(Default)]
pub struct EvaluatedSizes {
    /// The numbers of members at the first instants.
    pub counts: Vec<i64>,
    /// Whether they depend on data that is only known as of now.
    pub uses_current_properties: bool,
}

impl PastSizes {
    pub fn new(
        project: &Project,
        cohort: &Cohort,
        instants: impl Iterator<Item = DateTime<Utc>>,
    ) -> Result<Self, Error> {
        let instants = instants.take(MAX_EVALUATED);
        let moments = instants.map(|instant| moment(project, instant.timestamp_micros()));
        Ok(Self {
            project: project.id(),
            cohort: cohort.clone(),
            moments: moments.collect::<Result<_, _>>()?,
        })
    }

    /// Evaluates as many instants as there is time for. There are none if the cohort cannot be calculated.
    ///
    /// # Errors
    ///
    /// Fails if there is no time for any instant.
    pub fn evaluate(&self, conn: &mut Conn, store: &IndexedStore) -> Result<EvaluatedSizes, Error> {
        let mut evaluated = EvaluatedSizes::default();
        let Some(first) = self.moments.first() else {
            return Ok(evaluated);
        };
        let (Ok(rule), Ok(plans)) = (self.cohort.definition.rule(), self.cohort.plans(first))
        else {
            return Ok(evaluated);
        };
        evaluated.uses_current_properties =
            uses_current_properties(conn, self.project, rule, first)?;
        let Some(plan) = plans.first() else {
            return Ok(evaluated);
        };
        let counts = &mut evaluated.counts;
        let read = store.read_for_request(conn, self.project, plan, |snapshot| {
            let start = Instant::now();
            snapshot.check_references(plan, &mut CheckedCohorts::default())?;
            for moment in &self.moments {
                let Ok(plans) = self.cohort.plans(moment) else {
                    break;
                };
                let mut count = 0;
                for plan in plans {
                    count += snapshot.evaluate(&plan, &LeafCache::default())?.len() as i64;
                }
                counts.push(count);
                if start.elapsed() >= TIME_LIMIT {
                    break;
                }
            }
            Ok::<_, IndexError>(())
        });
        match read {
            Ok(()) | Err(IndexError::Uncalculable(_)) => Ok(evaluated),
            Err(_) if !evaluated.counts.is_empty() => Ok(evaluated),
            Err(cause) => Err(cause.into()),
        }
    }
}

/// Whether a definition reads persons, or refers to a static cohort, directly or through other cohorts.
fn uses_current_properties(
    conn: &mut Conn,
    project: ProjectId,
    rule: Rule,
    at: &Moment,
) -> Result<bool, Error> {
    let mut seen = HashSet::new();
    let mut level = vec![rule];
    loop {
        let mut references = Vec::new();
        for rule in &level {
            if reads_persons(rule, at) {
                return Ok(true);
            }
            let cohorts = rule.cohort_references(at).into_iter();
            references.extend(cohorts.filter(|id| seen.insert(*id)));
        }
        if references.is_empty() {
            return Ok(false);
        }
        let definitions = cohorts::definitions(conn, project, &references)?;
        if definitions.values().any(|definition| definition.is_static) {
            return Ok(true);
        }
        let rules = definitions.values().map(|definition| definition.rule());
        level = rules.filter_map(Result::ok).collect();
    }
}

fn reads_persons(rule: &Rule, at: &Moment) -> bool {
    let is_of_persons = |leaf: &Leaf| matches!(leaf, Leaf::Person(_) | Leaf::PersonMetadata(_));
    match rule {
        Rule::Filter(filter) => filter.leaves().into_iter().any(is_of_persons),
        Rule::Query(_) => rule.plan(at).is_ok_and(|plan| plan.dependencies().persons),
    }
}
