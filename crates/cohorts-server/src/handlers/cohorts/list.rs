//! The conditions of the list of cohorts, and its items.

use std::collections::HashSet;
use std::sync::{Arc, OnceLock};

use cohorts_api::types::{Cohort, CohortListItem, CohortListItemSearchMatchType, CohortsListType};
use cohorts_api::{CohortsListQuery, RawJson};
use cohorts_store::cohorts::{self, CohortFilter, NameMatch};
use cohorts_store::pages::RowSize;
use cohorts_store::{Conn, ProjectId, live};
use serde_json::Value;

use crate::error::Error;
use crate::handlers::present;
use crate::handlers::responses::{ListRows, PIECE_BYTES, fitting};

/// The longest search term, in characters.
const LONGEST_SEARCH: usize = 200;
/// The most definitions that are read at once.
const DEFINITIONS: usize = 100;

/// The conditions in the query of a request.
pub fn conditions(query: &CohortsListQuery) -> Result<CohortFilter, Error> {
    let search = query.search.as_deref().unwrap_or_default();
    if search.chars().count() > LONGEST_SEARCH {
        let detail = format!("Search query must be {LONGEST_SEARCH} characters or fewer.");
        return Err(Error::field("search", detail));
    }
    let search = search.replace('\0', "");
    let search = search.trim();
    Ok(CohortFilter {
        is_static: query
            .type_
            .as_ref()
            .map(|kind| *kind == CohortsListType::Static),
        created_by: query.created_by_id,
        search: (!search.is_empty()).then(|| search.to_owned()),
        hidden: Vec::new(),
    })
}

/// What a dynamic cohort depends on.
struct Dependencies {
    id: i64,
    is_behavioral: bool,
    cohorts: Vec<i64>,
}

/// The dynamic cohorts with a behavioral criterion or a query, and those that depend on one of them.
pub fn behavioral(conn: &mut Conn, project: ProjectId) -> Result<Vec<i64>, Error> {
    let (behavioral, mut others): (Vec<_>, Vec<_>) = dependencies(conn, project)?
        .into_iter()
        .partition(|cohort| cohort.is_behavioral);
    let mut ids: HashSet<i64> = behavioral.iter().map(|cohort| cohort.id).collect();
    loop {
        let before = ids.len();
        others.retain(|cohort| {
            let depends = cohort.cohorts.iter().any(|id| ids.contains(id));
            !(depends && ids.insert(cohort.id))
        });
        if ids.len() == before {
            return Ok(ids.into_iter().collect());
        }
    }
}

/// The dependencies of the project's dynamic cohorts. Their definitions are read some at a time.
fn dependencies(conn: &mut Conn, project: ProjectId) -> Result<Vec<Dependencies>, Error> {
    let ids = cohorts::dynamic(conn, project)?;
    let (mut rest, mut all) = (ids.as_slice(), Vec::with_capacity(ids.len()));
    while !rest.is_empty() {
        let candidates = &rest[..DEFINITIONS.min(rest.len())];
        let sizes = cohorts::sizes(conn, project, candidates)?;
        let taken = fitting(candidates, &sizes, PIECE_BYTES).max(1);
        let (next, later) = rest.split_at(taken);
        for (id, definition) in cohorts::definitions(conn, project, next)? {
            if definition.live_query().is_some() {
                all.push(Dependencies {
                    id,
                    is_behavioral: true,
                    cohorts: Vec::new(),
                });
            } else if let Ok(filter) = definition.filter() {
                all.push(Dependencies {
                    id,
                    is_behavioral: filter.has_behavioral(),
                    cohorts: filter.cohort_references().into_iter().collect(),
                });
            }
        }
        rest = later;
    }
    Ok(all)
}

/// The cohorts of a list.
pub struct CohortListRows {
    pub project: ProjectId,
    pub is_basic: bool,
    /// How the names match the search; empty without a search. It is known when the page is read.
    pub name_match: Arc<OnceLock<NameMatch>>,
}

impl ListRows for CohortListRows {
    type Row = CohortListItem;

    fn sizes(&self, conn: &mut Conn, ids: &[i64]) -> Result<Vec<RowSize>, Error> {
        Ok(cohorts::sizes(conn, self.project, ids)?)
    }

    fn rows(&self, conn: &mut Conn, ids: &[i64]) -> Result<Vec<CohortListItem>, Error> {
        let mut rows = cohorts::by_ids(conn, self.project, ids)?;
        let cohorts = rows.iter_mut().map(|(cohort, _)| cohort);
        live::set_times(conn, self.project, cohorts)?;
        let rows = rows.into_iter();
        let name_match = self.name_match.get().copied();
        Ok(rows
            .map(|row| item(present::cohort(row), self.is_basic, name_match))
            .collect())
    }
}

/// An item of the list. Basic items have no definition; items of a search have the type of their match.
fn item(cohort: Cohort, basic: bool, name_match: Option<NameMatch>) -> CohortListItem {
    let search_match_type = name_match.map(|matching| match matching {
        NameMatch::Exact => CohortListItemSearchMatchType::Exact,
        NameMatch::Similar => CohortListItemSearchMatchType::Similar,
    });
    // `None` would omit the field; the list shows `null`.
    let query = cohort.query.unwrap_or_else(|| RawJson::from(&Value::Null));
    CohortListItem {
        id: cohort.id,
        name: cohort.name,
        description: cohort.description,
        groups: (!basic).then_some(cohort.groups),
        deleted: cohort.deleted,
        filters: (!basic).then_some(cohort.filters),
        query: (!basic).then_some(query),
        version: cohort.version,
        pending_version: cohort.pending_version,
        is_calculating: cohort.is_calculating,
        created_by: cohort.created_by,
        created_at: cohort.created_at,
        last_calculation: cohort.last_calculation,
        next_calculation: cohort.next_calculation,
        last_backfill_person_properties_at: cohort.last_backfill_person_properties_at,
        errors_calculating: cohort.errors_calculating,
        last_error_message: cohort.last_error_message,
        last_error_code: cohort.last_error_code,
        count: cohort.count,
        is_static: cohort.is_static,
        cohort_type: cohort.cohort_type,
        condition_type: cohort.condition_type,
        experiment_set: cohort.experiment_set,
        search_match_type,
    }
}
