//! The type of a cohort: what a caller may say it is, and what is stored.

use cohorts_engine::kind::{Kind, Referenced, is_realtime_capable, required_kind};

use crate::error::Error;
use crate::store::cohorts::{self, Definition};
use crate::store::{CohortId, Conn, ProjectId};

/// A type that is given must be the one that the criteria need.
pub fn check(conn: &mut Conn, project: ProjectId, definition: &Definition) -> Result<(), Error> {
    let Some(given) = &definition.cohort_type else {
        return Ok(());
    };
    let needed = match definition.is_static {
        true => Some(Kind::Static),
        false => needed(conn, project, definition)?,
    };
    let needed = needed
        .ok_or_else(|| Error::field("cohort_type", "Invalid cohort type for the given filters"))?;
    if given == needed.as_str() {
        return Ok(());
    }
    let needed = needed.as_str();
    Err(Error::field(
        "cohort_type",
        format!("Cohort type '{given}' does not match the filters. Expected type: '{needed}'"),
    ))
}

/// The type to store when the criteria of a dynamic cohort are set: `realtime` if it can be kept up to date event by
/// event, else none. That of a static cohort, and of one without criteria, stays.
pub fn stored(
    conn: &mut Conn,
    project: ProjectId,
    definition: &Definition,
) -> Result<Option<String>, Error> {
    if definition.is_static || !definition.has_criteria() {
        return Ok(definition.cohort_type.clone());
    }
    let Ok(filter) = definition.filter() else {
        return Ok(None);
    };
    let mut types = std::collections::HashMap::new();
    for id in filter.cohort_references() {
        let cohort = cohorts::find(conn, project, CohortId(id))?;
        types.insert(
            id,
            cohort.and_then(|(cohort, _)| cohort.definition.cohort_type),
        );
    }
    let is_realtime = |id: i64| {
        types
            .get(&id)
            .is_some_and(|found| found.as_deref() == Some("realtime"))
    };
    Ok(is_realtime_capable(&filter, is_realtime, |_| false).then(|| "realtime".to_owned()))
}

fn needed(
    conn: &mut Conn,
    project: ProjectId,
    definition: &Definition,
) -> Result<Option<Kind>, Error> {
    let Ok(filter) = definition.filter() else {
        return Ok(None);
    };
    let mut failed = None;
    let kind = required_kind(&filter, |id| {
        let found = cohorts::find(conn, project, CohortId(id));
        let (cohort, _) = found.map_err(|cause| failed = Some(cause)).ok()??;
        if cohort.definition.is_static {
            return Some(Referenced::Kind(Kind::Static));
        }
        cohort.definition.filter().ok().map(Referenced::Filter)
    });
    match failed {
        Some(cause) => Err(cause.into()),
        None => Ok(kind),
    }
}
