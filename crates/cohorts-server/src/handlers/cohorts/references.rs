//! References between cohorts: the criteria or the query of one refer to the members of another.
//!
//! A request reads the references of a project once, and parses each filter once.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use cohorts_store::definition::Definition;
use cohorts_store::{CohortId, Conn, JsonText, ProjectId, cohorts, queue};

use crate::error::Error;

/// Names that an error message lists; the others are counted.
const LISTED_NAMES: usize = 5;

/// The cohorts of a project that refer to others, and those that they refer to.
pub struct References {
    project: ProjectId,
    cohorts: HashMap<i64, ReferringDefinition>,
    /// Whether the cohorts were read for the present step of the request.
    is_read: bool,
}

/// A definition with the ids of the cohorts that it refers to.
struct ReferringDefinition {
    definition: Definition,
    references: Vec<i64>,
}

impl From<Definition> for ReferringDefinition {
    fn from(definition: Definition) -> Self {
        Self {
            references: definition.cohort_references().into_iter().collect(),
            definition,
        }
    }
}

impl References {
    /// Reads nothing before the references are needed.
    pub fn new(project: ProjectId) -> Self {
        Self {
            project,
            cohorts: HashMap::new(),
            is_read: false,
        }
    }

    /// Parses the filters before the project is locked. After that, only those that were changed meanwhile are parsed.
    pub fn parse_ahead(&mut self, conn: &mut Conn) -> Result<(), Error> {
        self.read(conn)?;
        self.is_read = false;
        Ok(())
    }

    fn read(&mut self, conn: &mut Conn) -> Result<(), Error> {
        if self.is_read {
            return Ok(());
        }
        let mut earlier = std::mem::take(&mut self.cohorts);
        for (id, definition) in cohorts::referring_definitions(conn, self.project)? {
            let same = earlier.remove(&id);
            let same = same.filter(|earlier| earlier.definition == definition);
            self.cohorts
                .insert(id, same.unwrap_or_else(|| definition.into()));
        }
        self.is_read = true;
        Ok(())
    }

    /// Refuses criteria that refer to a cohort that does not exist, or form a loop of references.
    pub fn check(
        &mut self,
        conn: &mut Conn,
        id: CohortId,
        definition: &Definition,
    ) -> Result<(), Error> {
        let direct = definition.cohort_references();
        if direct.is_empty() {
            return Ok(());
        }
        self.read(conn)?;
        self.cohorts.insert(id.0, definition.clone().into());
        let reachable = self.reachable(conn, direct)?;
        let mut graph = BTreeMap::new();
        for id in reachable.into_iter().chain([id.0]) {
            let cohort = self.cohorts.get(&id);
            let cohort = cohort.ok_or_else(|| Error::whole("Invalid Cohort ID in filter"))?;
            graph.insert(id, cohort.references.as_slice());
        }
        if has_loop(&graph) {
            return Err(in_a_loop());
        }
        Ok(())
    }

    /// Refuses a loop through a new cohort: an earlier cohort may refer to its id already, because the creation of a cohort
    /// may refer to cohorts that do not exist.
    pub fn check_new(
        &mut self,
        conn: &mut Conn,
        id: CohortId,
        definition: &Definition,
    ) -> Result<(), Error> {
        let direct = definition.cohort_references();
        if !direct.is_empty() && self.reachable(conn, direct)?.contains(&id.0) {
            return Err(in_a_loop());
        }
        Ok(())
    }

    /// The definitions of all existing cohorts that `direct` are or refer to, directly or through other cohorts, by id.
    pub fn definitions(
        &mut self,
        conn: &mut Conn,
        direct: BTreeSet<i64>,
    ) -> Result<BTreeMap<i64, &Definition>, Error> {
        let reachable = self.reachable(conn, direct)?;
        let definition = |id| Some((id, &self.cohorts.get(&id)?.definition));
        Ok(reachable.into_iter().filter_map(definition).collect())
    }

    /// Returns `ids` and the ids of all cohorts that these refer to at any distance. The existing ones are in
    /// `self.cohorts` then.
    fn reachable(&mut self, conn: &mut Conn, ids: BTreeSet<i64>) -> Result<BTreeSet<i64>, Error> {
        self.read(conn)?;
        let mut reachable = BTreeSet::new();
        let mut next: Vec<i64> = ids.into_iter().collect();
        while !next.is_empty() {
            // Cohorts without references are not read with the others.
            let mut others = Vec::new();
            while let Some(id) = next.pop() {
                if !reachable.insert(id) {
                    continue;
                }
                match self.cohorts.get(&id) {
                    Some(cohort) => next.extend(&cohort.references),
                    None => others.push(id),
                }
            }
            for (id, definition) in cohorts::definitions(conn, self.project, &others)? {
                let cohort = ReferringDefinition::from(definition);
                next.extend(&cohort.references);
                self.cohorts.insert(id, cohort);
            }
        }
        Ok(reachable)
    }

    /// Requests the calculation of a dynamic cohort, and of the dynamic cohorts that it is calculated with: those that it
    /// depends on and those that depend on it, at any distance.
    pub fn request_calculations(
        &mut self,
        conn: &mut Conn,
        id: CohortId,
        definition: &Definition,
    ) -> Result<(), Error> {
        let mut ids = self.reachable(conn, definition.cohort_references())?;
        ids.retain(|id| self.cohorts.get(id).is_some_and(is_live_and_dynamic));
        ids.extend(self.dependents(id));
        Ok(queue::request_calculations(conn, &Vec::from_iter(ids))?)
    }

    /// The cohort and the live dynamic cohorts that depend on it, at any distance.
    fn dependents(&self, id: CohortId) -> BTreeSet<i64> {
        let mut referring: HashMap<i64, Vec<i64>> = HashMap::new();
        let live = self
            .cohorts
            .iter()
            .filter(|(_, cohort)| is_live_and_dynamic(cohort));
        for (id, cohort) in live {
            for reference in &cohort.references {
                referring.entry(*reference).or_default().push(*id);
            }
        }
        let mut dependents = BTreeSet::new();
        let mut next = vec![id.0];
        while let Some(id) = next.pop() {
            if dependents.insert(id) {
                next.extend(referring.get(&id).into_iter().flatten());
            }
        }
        dependents
    }
}

fn in_a_loop() -> Error {
    Error::whole("Cohorts cannot reference other cohorts in a loop.")
}

fn is_live_and_dynamic(cohort: &ReferringDefinition) -> bool {
    !cohort.definition.is_static && !cohort.definition.deleted
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

/// Removes cohorts without references to remaining ones until none is left, or until only loops are left.
fn has_loop(graph: &BTreeMap<i64, &[i64]>) -> bool {
    let mut referring: HashMap<i64, Vec<i64>> = HashMap::new();
    let mut unresolved: HashMap<i64, usize> = HashMap::new();
    for (id, references) in graph {
        unresolved.insert(*id, references.len());
        for reference in *references {
            referring.entry(*reference).or_default().push(*id);
        }
    }
    let without = graph.iter().filter(|(_, references)| references.is_empty());
    let mut removable: Vec<i64> = without.map(|(id, _)| *id).collect();
    let mut removed = 0;
    while let Some(id) = removable.pop() {
        removed += 1;
        for other in referring.get(&id).into_iter().flatten() {
            if let Some(count) = unresolved.get_mut(other) {
                *count -= 1;
                if *count == 0 {
                    removable.push(*other);
                }
            }
        }
    }
    removed < graph.len()
}

/// The live cohorts of the project that refer to this one: id and name.
pub fn referring_cohorts(
    conn: &mut Conn,
    project: ProjectId,
    id: CohortId,
) -> Result<Vec<(i64, String)>, Error> {
    let candidates = cohorts::referring(conn, project)?.into_iter();
    let referring =
        candidates.filter(|(other, definition)| *other != id.0 && refers(definition, id));
    let named = referring.map(|(other, definition)| {
        let name = definition.into_row().name.filter(|name| !name.is_empty());
        (other, name.unwrap_or("Unnamed".to_owned()))
    });
    Ok(named.collect())
}

/// Whether the criteria of a cohort, or the query of a dynamic one, refer to the cohort `id`.
fn refers(definition: &Definition, id: CohortId) -> bool {
    // Most texts do not contain the number, so they are not parsed.
    let number = id.0.to_string();
    let names = |text: Option<&JsonText>| text.is_some_and(|text| text.0.contains(&number));
    let in_filters = || {
        let filter = definition.filter();
        filter.is_ok_and(|filter| filter.cohort_references().contains(&id.0))
    };
    (names(definition.filters()) && in_filters())
        || (names(definition.query.as_ref()) && definition.cohort_references().contains(&id.0))
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
    use cohorts_store::testing::TestDatabase;
    use cohorts_store::{Store, keys, projects};
    use serde_json::json;

    use super::*;

    #[test]
    fn a_diamond_is_not_a_loop_and_a_self_reference_is() {
        let has_loop = |edges: &[(i64, &[i64])]| has_loop(&edges.iter().copied().collect());
        assert!(!has_loop(&[(1, &[2, 3]), (2, &[4]), (3, &[4]), (4, &[])]));
        assert!(has_loop(&[(1, &[1])]));
        assert!(has_loop(&[(1, &[2]), (2, &[3]), (3, &[2])]));
        assert!(!has_loop(&[]));
    }

    /// Criteria that refer to a cohort, or that refer to none.
    fn criteria(reference: Option<i64>) -> JsonText {
        let leaf = match reference {
            Some(id) => json!({"type": "cohort", "key": "id", "value": id}),
            None => json!({"type": "person", "key": "plan", "operator": "exact", "value": "pro"}),
        };
        JsonText::of(&json!({"properties": {"type": "OR", "values": [leaf]}}))
    }

    fn definition(reference: Option<i64>) -> Definition {
        let mut definition = Definition::default();
        definition.set_filters(Some(criteria(reference)));
        definition
    }

    /// Creates a chain of cohorts. Each refers to the one before. Returns their ids.
    fn create_chain(conn: &mut Conn, project: ProjectId, length: usize) -> Vec<i64> {
        let owner = keys::teammate(conn, "a@x.io", "").unwrap();
        let mut ids: Vec<i64> = Vec::new();
        for _ in 0..length {
            let definition = definition(ids.last().copied());
            let created = cohorts::create(conn, project, &owner, &definition).unwrap();
            ids.push(created.id);
        }
        ids
    }

    fn open(database: &TestDatabase) -> (Store, ProjectId) {
        let store = database.open();
        let conn = &mut *store.connection().unwrap();
        let project = projects::create(conn, "P", "UTC", "phc_x").unwrap().id();
        (store.clone(), project)
    }

    #[test]
    fn the_statements_of_a_check_do_not_depend_on_the_length_of_a_chain() {
        let database = TestDatabase::create();
        let (store, project) = open(&database);
        let conn = &mut *store.connection().unwrap();
        let statements = |conn: &mut Conn, length: usize| {
            let ids = create_chain(conn, project, length);
            let (first, last) = (CohortId(ids[0]), CohortId(ids[length - 1]));
            let before = store.statements.get();
            let mut references = References::new(project);
            references.parse_ahead(conn).unwrap();
            let changed = definition(Some(ids[length - 2]));
            references.check(conn, last, &changed).unwrap();
            references
                .request_calculations(conn, last, &changed)
                .unwrap();
            let statements = store.statements.get() - before;
            // A loop over the whole chain.
            let looping = definition(Some(last.0));
            let refusal = references.check(conn, first, &looping).unwrap_err();
            assert!(refusal.to_string().contains("in a loop"), "{refusal}");
            statements
        };
        assert_eq!(statements(conn, 3), statements(conn, 60));
    }

    #[test]
    fn a_filter_that_was_changed_after_it_was_parsed_is_parsed_again() {
        let database = TestDatabase::create();
        let (store, project) = open(&database);
        let conn = &mut *store.connection().unwrap();
        let ids = create_chain(conn, project, 4);
        let mut references = References::new(project);
        references.parse_ahead(conn).unwrap();
        // Another request lets the last cohort refer to the first one, and the third to none.
        cohorts::update(conn, CohortId(ids[3]), &definition(Some(ids[0]))).unwrap();
        cohorts::update(conn, CohortId(ids[2]), &definition(None)).unwrap();
        references.read(conn).unwrap();
        assert_eq!(references.cohorts[&ids[3]].references, [ids[0]]);
        assert_eq!(references.cohorts[&ids[1]].references, [ids[0]]);
        assert!(!references.cohorts.contains_key(&ids[2]));
    }

    #[test]
    fn dependencies_and_dependents_at_any_distance_are_calculated_with_a_cohort() {
        let database = TestDatabase::create();
        let (store, project) = open(&database);
        let conn = &mut *store.connection().unwrap();
        let ids = create_chain(conn, project, 5);
        let unrelated = create_chain(conn, project, 2);
        let mut deleted = definition(Some(ids[2]));
        deleted.deleted = true;
        let owner = keys::teammate(conn, "a@x.io", "").unwrap();
        let deleted = cohorts::create(conn, project, &owner, &deleted).unwrap().id;
        let mut references = References::new(project);
        let middle = definition(Some(ids[1]));
        references
            .request_calculations(conn, CohortId(ids[2]), &middle)
            .unwrap();
        let mut is_requested = |id: i64| {
            let (row, _) = cohorts::find(conn, project, CohortId(id)).unwrap().unwrap();
            row.is_calculating
        };
        assert!(ids.iter().all(|id| is_requested(*id)));
        assert!(
            !unrelated
                .iter()
                .chain([&deleted])
                .any(|id| is_requested(*id))
        );
    }
}
