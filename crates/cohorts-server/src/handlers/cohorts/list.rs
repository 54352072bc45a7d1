//! The conditions of the list of cohorts, and its items.

use std::collections::HashSet;

use cohorts_api::types::{Cohort, CohortListItem, CohortListItemSearchMatchType, CohortsListType};
use cohorts_api::{CohortsListQuery, RawJson};
use cohorts_store::cohorts::CohortFilter;
use cohorts_store::definition::Definition;
use serde_json::Value;

use crate::error::Error;

/// The longest search term, in characters.
const LONGEST_SEARCH: usize = 200;

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

/// The dynamic cohorts with a behavioral criterion, and those that depend on one of them.
pub fn behavioral(definitions: Vec<(i64, Definition)>) -> Vec<i64> {
    let filters = definitions
        .into_iter()
        .filter_map(|(id, definition)| Some((id, definition.filter().ok()?.clone())));
    let (behavioral, mut others): (Vec<_>, Vec<_>) =
        filters.partition(|(_, filter)| filter.has_behavioral());
    let mut ids: HashSet<i64> = behavioral.into_iter().map(|(id, _)| id).collect();
    loop {
        let before = ids.len();
        others.retain(|(id, filter)| {
            let references = filter.cohort_references();
            let depends = references.iter().any(|reference| ids.contains(reference));
            !(depends && ids.insert(*id))
        });
        if ids.len() == before {
            return ids.into_iter().collect();
        }
    }
}

/// An item of the list. Basic items have no definition; items of a search have the type of their match.
pub fn item(cohort: Cohort, basic: bool, search: Option<&str>) -> CohortListItem {
    let search_match_type = search.map(|term| {
        let name = cohort.name.as_deref().unwrap_or_default().to_lowercase();
        if name.contains(&term.to_lowercase()) {
            CohortListItemSearchMatchType::Exact
        } else {
            CohortListItemSearchMatchType::Similar
        }
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
        cohort_type: cohort
            .cohort_type
            .and_then(|kind| kind.to_string().parse().ok()),
        search_match_type,
        experiment_set: cohort.experiment_set,
    }
}
