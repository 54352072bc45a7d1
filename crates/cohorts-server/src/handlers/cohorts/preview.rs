//! Counts the members that a filter would have, without storing a cohort.

use std::time::Instant;

use chrono::{DateTime, Utc};
use cohorts_api::types::{CohortPreview, CohortPreviewRequest, CriterionCount};
use cohorts_engine::filter::read_json;
use cohorts_engine::{Filter, FilterError, LeafCount, Moment, plan};
use cohorts_store::{Conn, ProjectId};

use crate::auth::Caller;
use crate::calculation::moment;
use crate::error::Error;
use crate::handlers::present;
use crate::index::IndexedStore;
use crate::index::ranking::RankedPersons;
use crate::index::references::CheckedCohorts;

pub struct Preview {
    project: ProjectId,
    filter: Filter,
    as_of: DateTime<Utc>,
    moment: Moment,
    /// The number of members to show.
    sample: i64,
}

impl Preview {
    pub fn new(caller: &Caller, body: &CohortPreviewRequest) -> Result<Self, Error> {
        let filters = read_json(body.filters.as_str(), "properties").map_err(invalid)?;
        let filter = Filter::parse(&filters).map_err(invalid)?;
        let as_of = body.as_of.unwrap_or_else(Utc::now);
        Ok(Self {
            project: caller.project.id(),
            filter,
            as_of,
            moment: moment(&caller.project, as_of.timestamp_micros())?,
            sample: body.sample,
        })
    }

    pub fn read(&self, conn: &mut Conn, store: &IndexedStore) -> Result<CohortPreview, Error> {
        let start = Instant::now();
        let plan = plan(&self.filter, &self.moment).map_err(invalid)?;
        store.read_for_request(conn, self.project, &plan, |snapshot| {
            snapshot
                .check_references(&plan, &mut CheckedCohorts::default())
                .map_err(|cause| Error::reference("filters", cause))?;
            let explanation = snapshot.explain(&plan)?;
            let members = explanation.members;
            let duration = start.elapsed();
            let shard_key = self.project.shard_key();
            let count = members.len() as i64;
            let sample = snapshot.tx().with_conn(|conn| {
                if self.sample == 0 || members.is_empty() {
                    return Ok(Vec::new());
                }
                let ranking = store.ranking_for_request(conn, self.project)?;
                let persons = RankedPersons::new(&store.caches, ranking, Some(members));
                present::first_persons(conn, shard_key, &persons, self.sample)
            })?;
            Ok(CohortPreview {
                count,
                criteria: explanation.leaves.into_iter().map(criterion).collect(),
                as_of: self.as_of,
                duration_ms: duration.as_secs_f64() * 1e3,
                sample,
            })
        })
    }
}

fn criterion(leaf: LeafCount) -> CriterionCount {
    CriterionCount {
        path: leaf.path,
        count: leaf.persons as i64,
    }
}

fn invalid(error: FilterError) -> Error {
    Error::filter("filters", error)
}
