//! The type of a cohort: what a caller may say it is, and what is stored.

use cohorts_engine::kind::{Kind, ReferencedCohort, is_realtime_capable, required_kind};

use super::references;
use crate::error::Error;
use cohorts_store::cohorts;
use cohorts_store::definition::Definition;
use cohorts_store::{Conn, ProjectId, actions};

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
    let references: Vec<i64> = filter.cohort_references().into_iter().collect();
    let found = cohorts::definitions(conn, project, &references)?;
    let is_realtime = |id: i64| {
        found
            .get(&id)
            .is_some_and(|found| found.cohort_type.as_deref() == Some("realtime"))
    };
    let actions: Vec<i64> = filter.action_ids().into_iter().collect();
    let known = actions::live(conn, project, &actions)?;
    let capable = is_realtime_capable(&filter, is_realtime, |id| known.contains(&id));
    Ok(capable.then(|| "realtime".to_owned()))
}

fn needed(
    conn: &mut Conn,
    project: ProjectId,
    definition: &Definition,
) -> Result<Option<Kind>, Error> {
    let Ok(filter) = definition.filter() else {
        return Ok(None);
    };
    let found = references::reached(conn, project, &filter)?;
    Ok(required_kind(&filter, |id| {
        let referenced = found.get(&id)?;
        match referenced.is_static {
            true => Some(ReferencedCohort::Kind(Kind::Static)),
            false => referenced
                .filter()
                .ok()
                .cloned()
                .map(ReferencedCohort::Filter),
        }
    }))
}
