//! Cohorts as responses show them.

use cohorts_api::types::{Cohort, CohortConditionTypeFlags};
use cohorts_engine::condition_type::ConditionFlags;
use cohorts_engine::legacy::rewrite_groups;
use cohorts_store::JsonText;
use cohorts_store::cohorts::{self, CohortWithCreator};
use cohorts_store::definition::Definition;

use super::{raw, user};
use crate::logging;

pub fn cohort((row, creator): CohortWithCreator) -> Cohort {
    let last_error_message = failure_message(&row);
    let (filters, groups) = (filters(&row.definition), groups(&row.definition));
    let condition_type = row.definition.condition_flags().map(condition_type);
    let definition = row.definition.into_row();
    Cohort {
        id: row.id,
        name: definition.name,
        description: definition.description,
        groups: raw(groups),
        deleted: definition.deleted,
        filters: raw(filters),
        query: definition.query.map(raw),
        version: row.version,
        pending_version: row.pending_version,
        is_calculating: row.is_calculating,
        created_by: creator.map(user),
        created_at: Some(row.created_at),
        last_calculation: row.last_calculation,
        next_calculation: row
            .due_at
            .filter(|_| !row.is_calculating && !definition.deleted),
        last_backfill_person_properties_at: None,
        errors_calculating: row.errors_calculating,
        last_error_message,
        last_error_code: row.last_error_code.map(Into::into),
        count: row.count,
        is_static: definition.is_static,
        cohort_type: definition.cohort_type.map(Into::into),
        condition_type,
        experiment_set: Vec::new(),
        search_match_type: None,
        upload: None,
        compared: None,
    }
}

fn condition_type(flags: ConditionFlags) -> CohortConditionTypeFlags {
    CohortConditionTypeFlags {
        person_properties: flags.person_properties,
        behavioral: flags.behavioral,
        lifecycle: flags.lifecycle,
        cohorts: flags.cohorts,
    }
}

fn filters(definition: &Definition) -> JsonText {
    match definition.criteria() {
        Ok(criteria) => criteria.into_owned(),
        // Stored groups were validated, so only a row that was edited in the database gets here.
        Err(_) => JsonText("{\"properties\":{}}".to_owned()),
    }
}

fn groups(definition: &Definition) -> JsonText {
    match definition.groups() {
        JsonText(text) if text == "[]" => JsonText(text.clone()),
        groups => JsonText::of(&rewrite_groups(&groups.parse())),
    }
}

/// A sentence about the last failed calculation. For invalid criteria it contains the detail.
fn failure_message(row: &cohorts::Cohort) -> Option<String> {
    let detail = logging::detail(row.last_error.as_deref().unwrap_or_default());
    let text = match row.last_error_code.as_deref()? {
        "capacity" => "The system was busy. The calculation will be retried automatically.",
        "interrupted" => "The calculation was interrupted. It will be retried automatically.",
        "timeout" => {
            "The calculation is taking too long. Narrow the criteria, for example with a shorter time window."
        }
        "memory_limit" => "The calculation needs too much memory. Narrow the criteria.",
        "invalid_regex" => {
            return Some(format!(
                "The cohort contains an invalid regular expression. Please review the criteria: {detail}"
            ));
        }
        "validation_error" | "no_properties" => {
            return Some(format!(
                "The criteria cannot be calculated. Please review them: {detail}"
            ));
        }
        _ => "The calculation failed. Please review the criteria.",
    };
    Some(text.to_owned())
}
