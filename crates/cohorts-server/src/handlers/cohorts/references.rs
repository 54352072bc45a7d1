//! References between cohorts: the criteria of one refer to the members of another.

use std::collections::{BTreeMap, BTreeSet};

use cohorts_engine::Filter;
use cohorts_store::definition::Definition;
use cohorts_store::{CohortId, Conn, ProjectId, cohorts, queue};

use crate::error::Error;

/// Names that an error message lists; the others are counted.
const LISTED_NAMES: usize = 5;

/// Refuses criteria that refer to a cohort that does not exist, or form a loop of references.
pub fn check(
    conn: &mut Conn,
    project: ProjectId,
    id: CohortId,
    definition: &Definition,
) -> Result<(), Error> {
    let reachable = reachable_from(conn, project, references(definition))?;
    let mut graph: BTreeMap<i64, BTreeSet<i64>> = reachable
        .iter()
        .map(|(id, definition)| (*id, references(definition)))
        .collect();
    graph.insert(id.0, references(definition));
    if graph.values().flatten().any(|id| !graph.contains_key(id)) {
        return Err(Error::whole("Invalid Cohort ID in filter"));
    }
    if has_loop(graph) {
        return Err(Error::whole(
            "Cohorts cannot reference other cohorts in a loop.",
        ));
    }
    Ok(())
}

/// Refuses a query that reads the members of a cohort that does not exist.
pub fn check_query(conn: &mut Conn, project: ProjectId, cohorts: &[i64]) -> Result<(), Error> {
    let definitions = cohorts::definitions(conn, project, cohorts)?;
    match cohorts.iter().find(|id| !definitions.contains_key(id)) {
        None => Ok(()),
        Some(id) => {
            let detail = format!("query: there is no cohort {id} in this project");
            Err(Error::field("query", detail))
        }
    }
}

/// All existing cohorts that a filter refers to, directly or through other cohorts, by id.
pub fn reachable(
    conn: &mut Conn,
    project: ProjectId,
    filter: &Filter,
) -> Result<BTreeMap<i64, Definition>, Error> {
    let references = filter.cohort_references().into_iter().collect();
    reachable_from(conn, project, references)
}

/// Runs one statement for each step of distance.
fn reachable_from(
    conn: &mut Conn,
    project: ProjectId,
    ids: BTreeSet<i64>,
) -> Result<BTreeMap<i64, Definition>, Error> {
    let mut reachable = BTreeMap::new();
    let mut visited = BTreeSet::new();
    let mut next = ids;
    while !next.is_empty() {
        visited.extend(next.iter().copied());
        let ids: Vec<i64> = next.into_iter().collect();
        let definitions = cohorts::definitions(conn, project, &ids)?;
        let referenced: BTreeSet<i64> = definitions.values().flat_map(references).collect();
        next = referenced.difference(&visited).copied().collect();
        reachable.extend(definitions);
    }
    Ok(reachable)
}

/// Requests the calculation of a dynamic cohort, and of the dynamic cohorts that it is calculated with: those that it
/// depends on and those that depend on it, at any distance.
pub fn request_calculations(
    conn: &mut Conn,
    project: ProjectId,
    id: CohortId,
    definition: &Definition,
) -> Result<(), Error> {
    let dependencies = reachable_from(conn, project, references(definition))?.into_iter();
    let mut ids: BTreeSet<i64> = dependencies
        .filter(|(_, definition)| !definition.is_static && !definition.deleted)
        .map(|(id, _)| id)
        .collect();
    ids.extend(dependents(conn, project, id)?);
    Ok(queue::request_calculations(conn, &Vec::from_iter(ids))?)
}

/// The cohort and the dynamic cohorts that depend on it.
fn dependents(conn: &mut Conn, project: ProjectId, id: CohortId) -> Result<BTreeSet<i64>, Error> {
    let candidates = cohorts::referring_definitions(conn, project)?;
    let mut dependents = BTreeSet::from([id.0]);
    loop {
        let next: Vec<i64> = candidates
            .iter()
            .filter(|(id, definition)| {
                !dependents.contains(id) && !references(definition).is_disjoint(&dependents)
            })
            .map(|(id, _)| *id)
            .collect();
        if next.is_empty() {
            return Ok(dependents);
        }
        dependents.extend(next);
    }
}

pub fn has_references(definition: &Definition) -> bool {
    !references(definition).is_empty()
}

/// The cohorts that the criteria refer to. The criteria of a static cohort are not evaluated again, so they do not count.
fn references(definition: &Definition) -> BTreeSet<i64> {
    match definition.filter() {
        Ok(filter) if !definition.is_static => filter.cohort_references().into_iter().collect(),
        _ => BTreeSet::new(),
    }
}

/// Removes cohorts without references to remaining ones until none is left, or until only loops are left.
fn has_loop(mut graph: BTreeMap<i64, BTreeSet<i64>>) -> bool {
    while !graph.is_empty() {
        let ids: BTreeSet<i64> = graph.keys().copied().collect();
        graph.retain(|_, references| !references.is_disjoint(&ids));
        if graph.len() == ids.len() {
            return true;
        }
    }
    false
}

/// The live cohorts of the project that refer to this one: id and name.
pub fn referring_cohorts(
    conn: &mut Conn,
    project: ProjectId,
    id: CohortId,
) -> Result<Vec<(i64, String)>, Error> {
    let candidates = cohorts::referring(conn, project)?;
    let referring = candidates.into_iter().filter(|cohort| {
        let filter = Filter::parse_stored(&cohort.filters.parse());
        cohort.id != id.0 && filter.is_ok_and(|filter| filter.cohort_references().contains(&id.0))
    });
    let named = referring.map(|cohort| {
        let name = cohort.name.filter(|name| !name.is_empty());
        (cohort.id, name.unwrap_or("Unnamed".to_owned()))
    });
    Ok(named.collect())
}

/// Refuses to delete a cohort that other cohorts refer to.
pub fn check_unused(conn: &mut Conn, project: ProjectId, id: CohortId) -> Result<(), Error> {
    let referring = referring_cohorts(conn, project, id)?;
    if referring.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = referring
        .iter()
        .take(LISTED_NAMES)
        .map(|(_, name)| name.as_str())
        .collect();
    let more = match referring.len().saturating_sub(LISTED_NAMES) {
        0 => String::new(),
        more => format!(", and {more} more"),
    };
    Err(Error::whole(format!(
        "This cohort is used as criteria in {} other cohort(s): {}{more}. Remove it from their criteria first.",
        referring.len(),
        names.join(", ")
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(edges: &[(i64, &[i64])]) -> BTreeMap<i64, BTreeSet<i64>> {
        edges
            .iter()
            .map(|(id, references)| (*id, references.iter().copied().collect()))
            .collect()
    }

    #[test]
    fn a_diamond_is_not_a_loop_and_a_self_reference_is() {
        let diamond = graph(&[(1, &[2, 3]), (2, &[4]), (3, &[4]), (4, &[])]);
        assert!(!has_loop(diamond));
        assert!(has_loop(graph(&[(1, &[1])])));
        assert!(has_loop(graph(&[(1, &[2]), (2, &[3]), (3, &[2])])));
        assert!(!has_loop(graph(&[])));
    }
}
