//! Counts the members that a filter would have, and compares them with a cohort, without storing one.

use std::time::Instant;

use chrono::{DateTime, Utc};
use cohorts_api::types::{CohortPreview, CohortPreviewRequest, CriterionCount, Person};
use cohorts_engine::filter::read_json;
use cohorts_engine::{Filter, FilterError, LeafCount, Moment, plan};
use cohorts_store::{CohortId, Conn, ProjectId};
use roaring::RoaringBitmap;

use super::compare::{self, MemberDifference};
use crate::auth::Caller;
use crate::calculation::moment;
use crate::error::Error;
use crate::handlers::present;
use crate::index::IndexedStore;
use crate::index::ranking::RankedPersons;
use crate::index::references::CheckedCohorts;
use crate::index::snapshot::Snapshot;
use crate::index::stop::StopFlag;

pub struct Preview {
    project: ProjectId,
    filter: Filter,
    as_of: DateTime<Utc>,
    moment: Moment,
    /// The number of members to show.
    sample: i64,
    compare_to: Option<CohortId>,
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
            compare_to: body.compare_to.map(CohortId),
        })
    }

    /// Evaluates the filter until `stop` is set.
    pub fn read(
        &self,
        conn: &mut Conn,
        store: &IndexedStore,
        stop: &StopFlag,
    ) -> Result<CohortPreview, Error> {
        let start = Instant::now();
        let plan = plan(&self.filter, &self.moment).map_err(invalid)?;
        store.read_for_request(conn, self.project, &plan, |snapshot| {
            let snapshot = &snapshot.with_stop(stop);
            snapshot
                .check_references(&plan, &mut CheckedCohorts::default())
                .map_err(|cause| Error::reference("filters", cause))?;
            let explanation = snapshot.explain(&plan)?;
            let members = explanation.members;
            let compared = match self.compare_to {
                Some(id) => {
                    let others = compare::members_of(snapshot, id, &self.moment)?;
                    Some(MemberDifference::between(&others, &members))
                }
                None => None,
            };
            let duration = start.elapsed();
            let count = members.len() as i64;
            let counts = compared.as_ref().map(MemberDifference::counts);
            let (entering, leaving) = compared
                .map(|compared| (compared.entering, compared.leaving))
                .unzip();
            let sample_of = |persons: Option<RoaringBitmap>| {
                persons.map(|persons| self.sample(snapshot, store, persons))
            };
            Ok(CohortPreview {
                count,
                criteria: explanation.leaves.into_iter().map(criterion).collect(),
                as_of: self.as_of,
                duration_ms: duration.as_secs_f64() * 1e3,
                sample: self.sample(snapshot, store, members)?,
                compared: counts,
                entering_sample: sample_of(entering).transpose()?,
                leaving_sample: sample_of(leaving).transpose()?,
            })
        })
    }

    /// The newest of some persons.
    fn sample(
        &self,
        snapshot: &Snapshot<'_, '_>,
        store: &IndexedStore,
        persons: RoaringBitmap,
    ) -> Result<Vec<Person>, Error> {
        if self.sample == 0 || persons.is_empty() {
            return Ok(Vec::new());
        }
        let shard_key = self.project.shard_key();
        Ok(snapshot.tx().with_conn(|conn| {
            let ranking = store.ranking_for_request(conn, self.project)?;
            let persons = RankedPersons::new(&store.caches, ranking, Some(persons));
            present::first_persons(conn, shard_key, &persons, self.sample)
        })?)
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
