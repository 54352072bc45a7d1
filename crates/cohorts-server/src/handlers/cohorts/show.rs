//! From rows to cohorts as callers see them.

use cohorts_api::RawJson;
use cohorts_api::types::{Cohort, UserBasic};
use cohorts_engine::legacy::rewrite_groups;

use super::messages;
use crate::error::Error;
use cohorts_store::cohorts::{self, CohortWithCreator};
use cohorts_store::keys::Teammate;
use cohorts_store::{CohortId, Conn, JsonText, ProjectId};

/// A cohort of the project as callers see it.
pub fn find(conn: &mut Conn, project: ProjectId, id: CohortId) -> Result<Cohort, Error> {
    let row = cohorts::find(conn, project, id)?;
    row.map(one).ok_or(Error::NotFound)
}

pub fn one((row, creator): CohortWithCreator) -> Cohort {
    let last_error_message = messages::of_failure(&row);
    let definition = row.definition;
    // What is stored was read before, so only a hand in the database can make this fail.
    let criteria = match definition.criteria() {
        Ok(criteria) => criteria.into_owned(),
        Err(_) => JsonText("{\"properties\":{}}".to_owned()),
    };
    let groups = match definition.groups() {
        JsonText(text) if text == "[]" => JsonText(text.clone()),
        groups => JsonText::of(&rewrite_groups(&groups.parse())),
    };
    let definition = definition.into_row();
    Cohort {
        id: row.id,
        name: definition.name,
        description: definition.description,
        groups: raw(groups),
        deleted: definition.deleted,
        filters: raw(criteria),
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
        last_error_code: row.last_error_code,
        count: row.count,
        is_static: definition.is_static,
        cohort_type: definition.cohort_type.and_then(|text| text.parse().ok()),
        experiment_set: Vec::new(),
        upload: None,
    }
}

pub fn user(teammate: Teammate) -> UserBasic {
    UserBasic {
        id: teammate.id,
        uuid: teammate.uuid,
        distinct_id: Some(teammate.uuid.to_string()),
        first_name: teammate.first_name,
        last_name: String::new(),
        email: teammate.email,
        is_email_verified: None,
        hedgehog_config: None,
        role_at_organization: None,
    }
}

/// A column of JSON as a part of an answer.
pub fn raw(text: JsonText) -> RawJson {
    RawJson::trusted(text.0)
}
