//! The definition of a cohort from what callers send. The filters are parsed once and the query is planned once.

use std::collections::HashMap;

use chrono::Utc;
use cohorts_api::types::{CohortCreate, PatchedCohort};
use cohorts_api::{Patch, RawJson};
use cohorts_engine::filter::{check_test_accounts, has_criteria, read_json};
use cohorts_engine::legacy::{complete_groups, rewrite_groups};
use cohorts_engine::plan::QUERY_KINDS;
use cohorts_engine::{Filter, FilterError, Moment, plan_query};
use cohorts_store::JsonText;
use cohorts_store::definition::{Definition, ParsedFilters};
use serde_json::Value;

use crate::error::Error;

/// A valid definition, before its references to other cohorts are checked.
#[derive(Clone)]
pub struct CheckedDefinition {
    pub definition: Definition,
    /// The cohorts that a query in the request reads; `None` if the request has no query.
    pub query_cohorts: Option<Vec<i64>>,
}

/// Refuses a change of the criteria of a static cohort, because they were evaluated once, when it was filled.
pub fn check_frozen(before: &Definition, after: &Definition) -> Result<(), Error> {
    let value = |definition: &Definition| definition.filters().map(JsonText::parse);
    if value(before) == value(after) || !(before.has_criteria() || after.has_criteria()) {
        return Ok(());
    }
    Err(Error::whole(
        "Editing the criteria of a static cohort is not supported yet. Create a new cohort instead.",
    ))
}

/// Refuses an upload to a dynamic cohort.
pub fn check_accepts_upload(definition: &Definition) -> Result<(), Error> {
    if definition.is_static {
        return Ok(());
    }
    let detail = "A CSV file can only be uploaded to a static cohort.";
    Err(Error::field("csv", detail))
}

/// Checks the fields that precede a rejected one, a JSON object, because the first invalid field is reported. The body
/// may be that of another resource, which has no such fields.
pub fn check_fields(before: &str) -> Result<(), Error> {
    let fields: HashMap<&str, RawJson> = serde_json::from_str(before).unwrap_or_default();
    if let Some(groups) = fields.get("groups") {
        complete_groups(&read_groups(groups)?).map_err(invalid_groups)?;
    }
    let is_static = fields
        .get("is_static")
        .is_some_and(|flag| flag.as_str() == "true");
    let query = fields.get("query").filter(|query| !query.is_null());
    if let Some(filters) = fields.get("filters") {
        read_filters(filters, is_static || query.is_some())?;
    }
    query.map_or(Ok(()), |query| read_query(query).map(drop))
}

/// The definition of a new cohort.
pub fn new(body: CohortCreate) -> Result<CheckedDefinition, Error> {
    let is_static = body.is_static.unwrap_or(false);
    let groups = match body.groups {
        None => JsonText("[]".to_owned()),
        Some(groups) => {
            let complete = complete_groups(&read_groups(&groups)?);
            JsonText::of(&complete.map_err(invalid_groups)?)
        }
    };
    let filters = match body.filters {
        None => None,
        Some(filters) => read_filters(&filters, is_static || body.query.is_some())?,
    };
    let query = body.query.as_ref().map(read_query).transpose()?;
    let (query, query_cohorts) = query.unzip();
    let mut definition = Definition::default();
    definition.name = body.name;
    definition.description = body.description.unwrap_or_default();
    definition.query = query;
    definition.deleted = body.deleted.unwrap_or(false);
    definition.is_static = is_static;
    definition.cohort_type = body.cohort_type.filter(|text| !text.is_empty());
    definition.set_groups(groups);
    definition.set_parsed_filters(filters);
    let has_criteria = definition.has_criteria() || (!is_static && !is_by_query(&definition));
    if definition.query.is_some() && has_criteria {
        return Err(query_and_filters());
    }
    Ok(CheckedDefinition {
        definition,
        query_cohorts,
    })
}

fn is_by_query(definition: &Definition) -> bool {
    definition.live_query().is_some()
}

pub fn query_and_filters() -> Error {
    Error::whole("Cannot set both query and filters at the same time.")
}

/// The definition of a cohort after a change. Absent fields keep their values.
pub fn changed(before: &Definition, body: PatchedCohort) -> Result<CheckedDefinition, Error> {
    let mut after = before.clone();
    if let Some(name) = body.name.change() {
        after.name = name;
    }
    if let Some(description) = body.description.value() {
        after.description = description;
    }
    if let Some(groups) = body.groups.value() {
        let groups = rewrite_groups(&read_groups(&groups)?);
        complete_groups(&groups).map_err(invalid_groups)?;
        after.set_groups(JsonText::of(&groups));
    }
    if let Some(deleted) = body.deleted.value() {
        after.deleted = deleted;
    }
    if let Some(is_static) = body.is_static.value() {
        after.is_static = is_static;
    }
    let sends_groups = after.groups() != before.groups() && after.groups().0 != "[]";
    let has_query = match &body.query {
        Patch::Absent => is_by_query(&after),
        Patch::Null => false,
        Patch::Value(_) => true,
    };
    let sends_filters = change_filters(&mut after, body.filters, has_query)?;
    let query_cohorts = change_query(&mut after, body.query)?;
    let sends_criteria = sends_filters || sends_groups;
    if !after.is_static {
        replace_definition(&mut after, sends_criteria, query_cohorts.is_some())?;
    }
    if let Some(cohort_type) = body.cohort_type.change() {
        after.cohort_type = cohort_type.filter(|text| !text.is_empty());
    }
    Ok(CheckedDefinition {
        definition: after,
        query_cohorts,
    })
}

/// Keeps one definition of a dynamic cohort: a query replaces the criteria, and criteria replace the query.
fn replace_definition(
    definition: &mut Definition,
    sends_criteria: bool,
    sends_query: bool,
) -> Result<(), Error> {
    match (sends_criteria, sends_query) {
        (true, true) => return Err(query_and_filters()),
        (true, false) => definition.query = None,
        (false, true) => {
            definition.set_filters(None);
            definition.set_groups(JsonText("[]".to_owned()));
        }
        (false, false) => {}
    }
    Ok(())
}

/// Returns whether the new filters have criteria.
fn change_filters(
    definition: &mut Definition,
    filters: Patch<RawJson>,
    has_query: bool,
) -> Result<bool, Error> {
    match filters {
        Patch::Absent => {}
        Patch::Null if definition.is_static || has_query => definition.set_filters(None),
        Patch::Null => {
            Filter::parse(&Value::Null).map_err(invalid_filters)?;
        }
        Patch::Value(filters) => {
            let filters = read_filters(&filters, definition.is_static || has_query)?;
            definition.set_parsed_filters(filters);
            return Ok(definition.has_criteria());
        }
    }
    Ok(false)
}

/// Returns the cohorts that a new query reads.
fn change_query(
    definition: &mut Definition,
    query: Patch<RawJson>,
) -> Result<Option<Vec<i64>>, Error> {
    match query {
        Patch::Absent => Ok(None),
        Patch::Null => {
            definition.query = None;
            Ok(None)
        }
        Patch::Value(query) => {
            let (query, cohorts) = read_query(&query)?;
            definition.query = Some(query);
            Ok(Some(cohorts))
        }
    }
}

/// The filters to store. A static cohort and a cohort by query need no criteria: a tree without criteria is then stored as
/// it was sent, and any other value counts as absent.
fn read_filters(filters: &RawJson, may_be_absent: bool) -> Result<Option<ParsedFilters>, Error> {
    let value = read_json(filters.as_str(), "properties").map_err(invalid_filters)?;
    if may_be_absent && !has_criteria(&value) {
        check_test_accounts(&value).map_err(invalid_filters)?;
        let filter = Filter::parse_stored(&value).ok();
        let filter = filter.filter(|_| value["properties"]["values"].is_array());
        return Ok(filter.map(|filter| ParsedFilters {
            json: JsonText::of(&value),
            filter,
        }));
    }
    let (filter, normalised) = Filter::parse_and_normalise(&value).map_err(invalid_filters)?;
    Ok(Some(ParsedFilters {
        json: JsonText::of(&normalised),
        filter,
    }))
}

/// The query to store and the cohorts that it reads. Fails if the query cannot be calculated.
fn read_query(query: &RawJson) -> Result<(JsonText, Vec<i64>), Error> {
    let value = query_value(query)?;
    // The time zone changes the members, and not whether there is a plan.
    let now = Moment::utc(Utc::now().timestamp_micros());
    let plan = plan_query(&value, &now).map_err(|error| Error::filter("query", error))?;
    let cohorts = plan.cohort_references().into_iter().collect();
    Ok((JsonText::of(&value), cohorts))
}

/// A query that is an object of a supported kind.
pub fn query_value(query: &RawJson) -> Result<Value, Error> {
    let value =
        read_json(query.as_str(), "query").map_err(|error| Error::filter("query", error))?;
    let kind = value["kind"].as_str();
    if !value.is_object() {
        return Err(Error::field("query", "Query must be a dictionary."));
    }
    if !kind.is_some_and(|kind| QUERY_KINDS.contains(&kind)) {
        let kind = kind.unwrap_or("None");
        let detail = format!("Query must be an ActorsQuery or HogQLQuery. Got: {kind}");
        return Err(Error::field("query", detail));
    }
    Ok(value)
}

fn read_groups(groups: &RawJson) -> Result<Value, Error> {
    read_json(groups.as_str(), "groups").map_err(invalid_groups)
}

fn invalid_filters(error: FilterError) -> Error {
    Error::filter("filters", error)
}

fn invalid_groups(error: FilterError) -> Error {
    Error::field("groups", error.detail)
}
