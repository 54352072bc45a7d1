//! From what callers send to the definition of a cohort.

use std::collections::HashMap;

use chrono::Utc;
use cohorts_api::types::{CohortCreate, PatchedCohort};
use cohorts_api::{Patch, RawJson};
use cohorts_engine::filter::has_criteria;
use cohorts_engine::legacy::{complete_groups, rewrite_groups};
use cohorts_engine::plan::QUERY_KINDS;
use cohorts_engine::{Filter, Moment, plan_query};

use crate::error::Error;
use cohorts_store::JsonText;
use cohorts_store::definition::Definition;

/// The criteria of a static cohort were used once, when it was filled.
pub fn check_frozen(before: &Definition, after: &Definition) -> Result<(), Error> {
    let value = |definition: &Definition| definition.filters().map(JsonText::parse);
    if value(before) == value(after) || !(before.has_criteria() || after.has_criteria()) {
        return Ok(());
    }
    Err(Error::whole(
        "Editing the criteria of a static cohort is not supported yet. Create a new cohort instead.",
    ))
}

/// Only the members of a static cohort are a list.
pub fn check_takes_list(definition: &Definition) -> Result<(), Error> {
    match definition.is_static {
        true => Ok(()),
        false => Err(Error::field(
            "csv",
            "A CSV file can only be uploaded to a static cohort.",
        )),
    }
}

/// Judges the fields that come before one that is refused, as a JSON object: the first that breaks a rule counts,
/// also where it is a rule of ours. The body may be of another kind, which then has no such fields.
pub fn judge(before: &str) -> Result<(), Error> {
    let sent: HashMap<&str, RawJson> = serde_json::from_str(before).unwrap_or_default();
    if let Some(groups) = sent.get("groups") {
        complete_groups(&groups.parse()).map_err(|error| Error::field("groups", error.detail))?;
    }
    // Whether it is static comes later in the order, so only what is sent before can tell.
    let is_static = sent
        .get("is_static")
        .is_some_and(|flag| flag.as_str() == "true");
    if let Some(filters) = sent.get("filters") {
        read_filters(filters, is_static)?;
    }
    match sent.get("query") {
        Some(query) if !query.is_null() => read_query(query).map(drop),
        _ => Ok(()),
    }
}

/// What a new cohort is given.
pub fn new(body: CohortCreate) -> Result<Definition, Error> {
    let is_static = body.is_static.unwrap_or(false);
    let groups = match body.groups {
        None => JsonText("[]".to_owned()),
        Some(groups) => {
            let complete = complete_groups(&groups.parse());
            JsonText::of(&complete.map_err(|error| Error::field("groups", error.detail))?)
        }
    };
    let filters = match body.filters {
        None => None,
        Some(filters) => read_filters(&filters, is_static)?,
    };
    let query = body.query.as_ref().map(read_query).transpose()?;
    if query.is_some() {
        check_query_fits(filters.as_ref(), is_static)?;
    }
    let mut definition = Definition::default();
    definition.name = body.name;
    definition.description = body.description.unwrap_or_default();
    definition.query = query;
    definition.deleted = body.deleted.unwrap_or(false);
    definition.is_static = is_static;
    definition.cohort_type = body.cohort_type.filter(|text| !text.is_empty());
    definition.set_groups(groups);
    definition.set_filters(filters);
    Ok(definition)
}

/// What a cohort is after a change: what was not sent stays.
pub fn changed(before: &Definition, body: PatchedCohort) -> Result<Definition, Error> {
    let mut after = before.clone();
    if let Some(name) = body.name.change() {
        after.name = name;
    }
    if let Some(description) = body.description.value() {
        after.description = description;
    }
    if let Some(groups) = body.groups.value() {
        let groups = rewrite_groups(&groups.parse());
        complete_groups(&groups).map_err(|error| Error::field("groups", error.detail))?;
        after.set_groups(JsonText::of(&groups));
    }
    if let Some(deleted) = body.deleted.value() {
        after.deleted = deleted;
    }
    if let Some(is_static) = body.is_static.value() {
        after.is_static = is_static;
    }
    match body.filters {
        Patch::Absent => {}
        Patch::Null if after.is_static => after.set_filters(None),
        Patch::Null => {
            Filter::parse(&serde_json::Value::Null)
                .map_err(|error| Error::filter("filters", error))?;
        }
        Patch::Value(filters) => {
            let filters = read_filters(&filters, after.is_static)?;
            after.set_filters(filters);
        }
    }
    match body.query {
        Patch::Absent => {}
        Patch::Null => after.query = None,
        Patch::Value(query) => after.query = Some(read_query(&query)?),
    }
    if let Some(cohort_type) = body.cohort_type.change() {
        after.cohort_type = cohort_type.filter(|text| !text.is_empty());
    }
    Ok(after)
}

/// The filters to store. A static cohort may have none: then a tree without criteria is stored as it was sent, and
/// whatever else was sent in its place is not looked at.
fn read_filters(filters: &RawJson, is_static: bool) -> Result<Option<JsonText>, Error> {
    let value = filters.parse();
    if is_static && !has_criteria(&value) {
        let is_tree =
            Filter::parse_stored(&value).is_ok() && value["properties"]["values"].is_array();
        return Ok(is_tree.then(|| JsonText::of(&value)));
    }
    let normalised = Filter::normalised(&value).map_err(|error| Error::filter("filters", error))?;
    Ok(Some(JsonText::of(&normalised)))
}

/// Whether a new cohort can have a query, in the order in which PostHog looks.
fn check_query_fits(filters: Option<&JsonText>, is_static: bool) -> Result<(), Error> {
    if filters.is_some_and(|filters| has_criteria(&filters.parse())) {
        return Err(Error::whole(
            "Cannot set both query and filters at the same time.",
        ));
    }
    match is_static {
        true => Ok(()),
        false => Err(Error::whole(
            "Cannot create a dynamic cohort with a query. Set is_static to true.",
        )),
    }
}

/// The query to store, which is one that can be calculated.
fn read_query(query: &RawJson) -> Result<JsonText, Error> {
    let value = query.parse();
    let kind = value["kind"].as_str();
    if !value.is_object() {
        return Err(Error::field("query", "Query must be a dictionary."));
    }
    if !kind.is_some_and(|kind| QUERY_KINDS.contains(&kind)) {
        let kind = kind.unwrap_or("None");
        let detail = format!("Query must be an ActorsQuery or HogQLQuery. Got: {kind}");
        return Err(Error::field("query", detail));
    }
    // In which zone matters for its answer alone.
    let now = Moment::utc(Utc::now().timestamp_micros());
    plan_query(&value, &now).map_err(|error| Error::filter("query", error))?;
    Ok(JsonText::of(&value))
}
