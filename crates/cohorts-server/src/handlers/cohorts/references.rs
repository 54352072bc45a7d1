//! Cohorts that name one another in their criteria.

use std::collections::{BTreeMap, BTreeSet};

use chrono::Utc;
use cohorts_engine::{Filter, Moment, plan_query};

use crate::error::Error;
use cohorts_store::cohorts;
use cohorts_store::definition::Definition;
use cohorts_store::{CohortId, Conn, ProjectId};

/// Names that are listed in a refusal; the others are counted.
const NAMED: usize = 5;

/// Refuses criteria that lead to a cohort which is not there, or back to where they started.
pub fn check(
    conn: &mut Conn,
    project: ProjectId,
    id: CohortId,
    definition: &Definition,
) -> Result<(), Error> {
    let found = reached_from(conn, project, named(definition))?;
    let mut graph: BTreeMap<i64, BTreeSet<i64>> = found
        .iter()
        .map(|(id, definition)| (*id, named(definition)))
        .collect();
    graph.insert(id.0, named(definition));
    if graph.values().flatten().any(|id| !graph.contains_key(id)) {
        return Err(Error::whole("Invalid Cohort ID in filter"));
    }
    match has_loop(graph) {
        true => Err(Error::whole(
            "Cohorts cannot reference other cohorts in a loop.",
        )),
        false => Ok(()),
    }
}

/// Refuses a query that asks for the members of a cohort which is not there.
pub fn check_query(
    conn: &mut Conn,
    project: ProjectId,
    definition: &Definition,
) -> Result<(), Error> {
    let Some(query) = &definition.query else {
        return Ok(());
    };
    let now = Moment::utc(Utc::now().timestamp_micros());
    let plan = plan_query(&query.parse(), &now).map_err(|error| Error::filter("query", error))?;
    let ids: Vec<i64> = plan.cohort_references().into_iter().collect();
    let found = cohorts::definitions(conn, project, &ids)?;
    match ids.iter().find(|id| !found.contains_key(id)) {
        None => Ok(()),
        Some(id) => {
            let detail = format!("query: there is no cohort {id} in this project");
            Err(Error::field("query", detail))
        }
    }
}

/// All cohorts that a filter leads to, by number; those that are not there are missing.
pub fn reached(
    conn: &mut Conn,
    project: ProjectId,
    filter: &Filter,
) -> Result<BTreeMap<i64, Definition>, Error> {
    reached_from(
        conn,
        project,
        filter.cohort_references().into_iter().collect(),
    )
}

/// One statement for each step away, however many cohorts are there.
fn reached_from(
    conn: &mut Conn,
    project: ProjectId,
    first: BTreeSet<i64>,
) -> Result<BTreeMap<i64, Definition>, Error> {
    let mut reached = BTreeMap::new();
    let mut asked = BTreeSet::new();
    let mut next = first;
    while !next.is_empty() {
        asked.extend(next.iter().copied());
        let ids: Vec<i64> = next.into_iter().collect();
        let found = cohorts::definitions(conn, project, &ids)?;
        let named: BTreeSet<i64> = found.values().flat_map(named).collect();
        next = named.difference(&asked).copied().collect();
        reached.extend(found);
    }
    Ok(reached)
}

/// The dynamic cohorts that a dynamic one builds on and those that build on it, at any distance, by number: what is
/// calculated with it.
pub fn related(
    conn: &mut Conn,
    project: ProjectId,
    id: CohortId,
    definition: &Definition,
) -> Result<BTreeSet<i64>, Error> {
    let below = reached_from(conn, project, named(definition))?;
    let below = below.into_iter().filter(|(_, one)| is_calculated(one));
    let mut related: BTreeSet<i64> = below.map(|(id, _)| id).collect();
    let all = cohorts::referring_definitions(conn, project)?;
    let mut above = BTreeSet::from([id.0]);
    loop {
        let builds = |(_, one): &&(i64, Definition)| named(one).iter().any(|id| above.contains(id));
        let found = all.iter().filter(builds).map(|(id, _)| *id);
        let more: Vec<i64> = found.filter(|id| !above.contains(id)).collect();
        if more.is_empty() {
            break;
        }
        above.extend(more);
    }
    related.extend(above);
    related.remove(&id.0);
    Ok(related)
}

pub fn names_any(definition: &Definition) -> bool {
    !named(definition).is_empty()
}

fn is_calculated(definition: &Definition) -> bool {
    !definition.is_static && !definition.deleted
}

/// The cohorts that a definition names. The criteria of a static cohort no longer count.
fn named(definition: &Definition) -> BTreeSet<i64> {
    if definition.is_static {
        return BTreeSet::new();
    }
    let filter = definition.filter();
    filter.map_or_else(
        |_| BTreeSet::new(),
        |filter| filter.cohort_references().into_iter().collect(),
    )
}

/// Takes away, again and again, what names nothing that is left.
fn has_loop(mut graph: BTreeMap<i64, BTreeSet<i64>>) -> bool {
    while !graph.is_empty() {
        let left: BTreeSet<i64> = graph.keys().copied().collect();
        graph.retain(|_, named| named.iter().any(|id| left.contains(id)));
        if graph.len() == left.len() {
            return true;
        }
    }
    false
}

/// The live cohorts of the project that name this one in their filters, by number.
pub fn users(
    conn: &mut Conn,
    project: ProjectId,
    id: CohortId,
) -> Result<Vec<(i64, String)>, Error> {
    let candidates = cohorts::referring(conn, project)?;
    let names = candidates.into_iter().filter(|cohort| {
        let filter = Filter::parse_stored(&cohort.filters.parse());
        cohort.id != id.0 && filter.is_ok_and(|filter| filter.cohort_references().contains(&id.0))
    });
    let shown = |name: Option<String>| {
        name.filter(|name| !name.is_empty())
            .unwrap_or("Unnamed".to_owned())
    };
    Ok(names
        .map(|cohort| (cohort.id, shown(cohort.name)))
        .collect())
}

/// Refuses to delete a cohort that others build on.
pub fn check_unused(conn: &mut Conn, project: ProjectId, id: CohortId) -> Result<(), Error> {
    let users = users(conn, project, id)?;
    if users.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = users
        .iter()
        .take(NAMED)
        .map(|(_, name)| name.as_str())
        .collect();
    let more = match users.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(", and {more} more"),
    };
    Err(Error::whole(format!(
        "This cohort is used as criteria in {} other cohort(s): {}{more}. Remove it from their criteria first.",
        users.len(),
        names.join(", ")
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(edges: &[(i64, &[i64])]) -> BTreeMap<i64, BTreeSet<i64>> {
        edges
            .iter()
            .map(|(id, named)| (*id, named.iter().copied().collect()))
            .collect()
    }

    #[test]
    fn a_diamond_is_no_loop_and_a_self_reference_is() {
        let diamond = graph(&[(1, &[2, 3]), (2, &[4]), (3, &[4]), (4, &[])]);
        assert!(!has_loop(diamond));
        assert!(has_loop(graph(&[(1, &[1])])));
        assert!(has_loop(graph(&[(1, &[2]), (2, &[3]), (3, &[2])])));
        assert!(!has_loop(graph(&[])));
    }
}
