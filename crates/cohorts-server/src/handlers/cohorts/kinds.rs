//! The type of a cohort: the check of a type that a caller sends, and the type that is stored.

use cohorts_engine::Filter;
use cohorts_engine::kind::{Kind, ReferencedCohort, is_realtime_capable, required_kind};
use cohorts_store::definition::Definition;
use cohorts_store::{Conn, ProjectId, actions, cohorts};

use super::references::References;
use crate::error::Error;

/// Refuses a type other than the one that the criteria or the query need.
pub fn check(
    conn: &mut Conn,
    references: &mut References,
    definition: &Definition,
) -> Result<(), Error> {
    let Some(cohort_type) = &definition.cohort_type else {
        return Ok(());
    };
    let required = if definition.is_static {
        Some(Kind::Static)
    } else {
        required(conn, references, definition)?
    };
    let required = required
        .ok_or_else(|| Error::field("cohort_type", "Invalid cohort type for the given filters"))?
        .as_str();
    if cohort_type == required {
        return Ok(());
    }
    Err(Error::field(
        "cohort_type",
        format!(
            "Cohort type '{cohort_type}' does not match the filters. Expected type: '{required}'"
        ),
    ))
}

/// The type to store when the criteria or the query of a dynamic cohort are set: `analytical` for a query, `realtime` if
/// the criteria can be updated event by event, otherwise none. A static cohort, and one that selects no members, keeps
/// its type.
pub fn stored(
    conn: &mut Conn,
    project: ProjectId,
    definition: &Definition,
) -> Result<Option<String>, Error> {
    if definition.live_query().is_some() {
        return Ok(Some(Kind::Analytical.as_str().to_owned()));
    }
    if definition.is_static || !definition.has_criteria() {
        return Ok(definition.cohort_type.clone());
    }
    match definition.filter() {
        Ok(filter) if is_realtime(conn, project, filter)? => Ok(Some("realtime".to_owned())),
        _ => Ok(None),
    }
}

fn is_realtime(conn: &mut Conn, project: ProjectId, filter: &Filter) -> Result<bool, Error> {
    let cohorts = cohorts::definitions(conn, project, &filter.cohort_references())?;
    let is_realtime = |id: i64| {
        let definition = cohorts.get(&id);
        definition.is_some_and(|definition| definition.cohort_type.as_deref() == Some("realtime"))
    };
    let actions: Vec<i64> = filter.action_ids().into_iter().collect();
    let actions = actions::live(conn, project, &actions)?;
    Ok(is_realtime_capable(filter, is_realtime, |id| {
        actions.contains(&id)
    }))
}

fn required(
    conn: &mut Conn,
    references: &mut References,
    definition: &Definition,
) -> Result<Option<Kind>, Error> {
    if definition.live_query().is_some() {
        return Ok(Some(Kind::Analytical));
    }
    let Ok(filter) = definition.filter() else {
        return Ok(None);
    };
    let direct = filter.cohort_references().into_iter().collect();
    let cohorts = references.definitions(conn, direct)?;
    Ok(required_kind(filter, |id| {
        let definition = cohorts.get(&id)?;
        if definition.is_static {
            Some(ReferencedCohort::Kind(Kind::Static))
        } else if definition.live_query().is_some() {
            Some(ReferencedCohort::Kind(Kind::Analytical))
        } else {
            definition
                .filter()
                .ok()
                .cloned()
                .map(ReferencedCohort::Filter)
        }
    }))
}
