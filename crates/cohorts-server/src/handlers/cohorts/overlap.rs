//! The numbers of members that cohorts have in common.

use std::time::Duration;

use cohorts_api::types::CohortOverlap;
use cohorts_engine::overlap::common_counts;
use cohorts_store::{Conn, ProjectId, scan};
use roaring::RoaringBitmap;

use super::memberships;
use crate::error::Error;
use crate::index::IndexedStore;

/// The time for each statement.
const TIME_LIMIT: Duration = Duration::from_secs(20);

/// Counts the common members of cohorts, all as of the same moment.
pub fn read(
    conn: &mut Conn,
    store: &IndexedStore,
    project: ProjectId,
    ids: &[i64],
) -> Result<CohortOverlap, Error> {
    let (cohorts, members) = cohorts_store::snapshot(conn, |conn| {
        scan::set_statement_timeout(conn, TIME_LIMIT)?;
        let cohorts = memberships::cohorts(conn, project, Some(ids.to_vec()))?;
        let members = store
            .caches
            .members
            .get(conn, project.shard_key(), &cohorts)?;
        Ok::<_, Error>((cohorts, members))
    })?;
    let place = |id: &i64| cohorts.binary_search_by_key(id, |cohort| cohort.id).ok();
    let asked = ids.iter().filter_map(place).map(|nth| &*members[nth]);
    let asked: Vec<&RoaringBitmap> = asked.collect();
    let counts = common_counts(&asked).into_iter();
    let signed = |counts: Vec<u64>| counts.into_iter().map(|count| count as i64).collect();
    Ok(CohortOverlap {
        counts: asked.iter().map(|members| members.len() as i64).collect(),
        intersections: counts.map(signed).collect(),
    })
}
