//! The members that a cohort would gain and lose, by the evaluation of two definitions for the same moment.

use cohorts_api::types::CohortComparison;
use cohorts_engine::{FilterError, LeafCache, Moment, Plan, plan_query};
use cohorts_store::cohorts::{self, Cohort};
use cohorts_store::{CohortId, members};
use roaring::RoaringBitmap;

use crate::error::Error;
use crate::index::references::CheckedCohorts;
use crate::index::snapshot::Snapshot;

/// The difference between two sets of members.
pub struct MemberDifference {
    pub entering: RoaringBitmap,
    pub leaving: RoaringBitmap,
    staying: u64,
}

impl MemberDifference {
    pub fn between(before: &RoaringBitmap, after: &RoaringBitmap) -> Self {
        Self {
            entering: after - before,
            leaving: before - after,
            staying: before.intersection_len(after),
        }
    }

    pub fn counts(&self) -> CohortComparison {
        CohortComparison {
            entering: self.entering.len() as i64,
            leaving: self.leaving.len() as i64,
            staying: self.staying as i64,
        }
    }
}

/// The members of the cohort in the field `compare_to`, as they would be at a moment.
pub fn members_of(
    snapshot: &Snapshot<'_, '_>,
    id: CohortId,
    at: &Moment,
) -> Result<RoaringBitmap, Error> {
    let project = snapshot.tx().project;
    let row = snapshot
        .tx()
        .with_conn(|conn| cohorts::find(conn, project, id))?;
    let Some((cohort, _)) = row else {
        let detail = format!("The project has no cohort with the ID {}.", id.0);
        return Err(Error::field("compare_to", detail));
    };
    members_at(snapshot, &cohort, at, "compare_to")
}

/// The members of a cohort as they would be at a moment: a static cohort has its stored members. `attr` is the field of the
/// request that names the cohort.
pub fn members_at(
    snapshot: &Snapshot<'_, '_>,
    cohort: &Cohort,
    at: &Moment,
    attr: &str,
) -> Result<RoaringBitmap, Error> {
    if cohort.definition.is_static {
        return stored(snapshot, cohort);
    }
    let invalid = |error: FilterError| Error::filter(attr, error);
    let rule = cohort.definition.rule().map_err(invalid)?;
    evaluated(snapshot, &rule.plan(at).map_err(invalid)?, attr)
}

/// The members that the query of a static cohort selects at a moment.
pub fn members_by_query(
    snapshot: &Snapshot<'_, '_>,
    cohort: &Cohort,
    at: &Moment,
) -> Result<RoaringBitmap, Error> {
    let Some(query) = &cohort.definition.query else {
        return Ok(RoaringBitmap::new());
    };
    let plan = plan_query(&query.parse(), at).map_err(|error| Error::filter("query", error))?;
    evaluated(snapshot, &plan, "query")
}

/// The stored members.
pub fn stored(snapshot: &Snapshot<'_, '_>, cohort: &Cohort) -> Result<RoaringBitmap, Error> {
    let (shard_key, version) = (cohort.project().shard_key(), cohort.member_version);
    let read = |conn: &mut _| members::read(conn, shard_key, cohort.id(), version);
    Ok(snapshot.tx().with_conn(read)?)
}

fn evaluated(snapshot: &Snapshot<'_, '_>, plan: &Plan, attr: &str) -> Result<RoaringBitmap, Error> {
    snapshot
        .check_references(plan, &mut CheckedCohorts::default())
        .map_err(|cause| Error::reference(attr, cause))?;
    Ok(snapshot.evaluate(plan, &LeafCache::default())?)
}
