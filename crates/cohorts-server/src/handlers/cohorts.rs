//! The cohorts resource: create, read, change, list, preview.

use std::time::{Duration, Instant};

use chrono::Utc;
use cohorts_api::types::{
    Cohort, CohortCreate, CohortPreview, PaginatedCohortList, PatchedCohort, UserBasic,
};
use cohorts_api::{
    CohortsApi, CohortsCreateRequest, CohortsCreateResponse, CohortsDestroyRequest,
    CohortsDestroyResponse, CohortsDuplicateAsStaticCohortRequest,
    CohortsDuplicateAsStaticCohortResponse, CohortsListRequest, CohortsListResponse,
    CohortsPartialUpdateRequest, CohortsPartialUpdateResponse, CohortsPersonsRequest,
    CohortsPersonsResponse, CohortsPreviewRequest, CohortsPreviewResponse, CohortsRetrieveRequest,
    CohortsRetrieveResponse, Patch, RawJson,
};
use cohorts_engine::filter::has_criteria;
use cohorts_engine::legacy::{complete_groups, rewrite_groups};
use cohorts_engine::{Filter, plan};

use super::{Service, activity, links, persons};
use crate::auth::Caller;
use crate::calculation::moment;
use crate::error::Error;
use crate::store::blocks::Snapshot;
use crate::store::cohorts::{self, Definition, WithCreator};
use crate::store::keys::Teammate;
use crate::store::{CohortId, Conn, JsonText, ProjectId};

mod messages;
mod types;

const DEFAULT_LIMIT: i64 = 100;
/// How long a preview may read data.
const PREVIEW_LIMIT: Duration = Duration::from_secs(20);

impl CohortsApi for Service {
    async fn cohorts_list(
        &self,
        caller: Caller,
        request: CohortsListRequest,
    ) -> Result<CohortsListResponse, Error> {
        let limit = match request.query.limit {
            limit if limit > 0 => limit,
            _ => DEFAULT_LIMIT,
        };
        let offset = request.query.offset.max(0);
        let project = caller.project.id();
        let read = move |conn: &mut Conn| {
            let count = cohorts::count(conn, project)?;
            let rows = cohorts::list(conn, project, limit, offset)?;
            Ok((count, shown_all(conn, rows)?))
        };
        let (count, results) = self.store.snapshot(read).await?;
        let head = &request.http;
        let next = (offset.saturating_add(limit) < count)
            .then(|| links::page(head, limit, offset + limit));
        let previous = (offset > 0).then(|| links::page(head, limit, (offset - limit).max(0)));
        Ok(CohortsListResponse::Status200(PaginatedCohortList {
            count,
            next,
            previous,
            results,
        }))
    }

    async fn cohorts_create(
        &self,
        caller: Caller,
        request: CohortsCreateRequest,
    ) -> Result<CohortsCreateResponse, Error> {
        let definition = new_definition(request.body)?;
        let created = self
            .store
            .transaction(move |conn| create(conn, &caller, definition))
            .await?;
        self.waker.wake();
        Ok(CohortsCreateResponse::Status201(created))
    }

    async fn cohorts_preview(
        &self,
        caller: Caller,
        request: CohortsPreviewRequest,
    ) -> Result<CohortsPreviewResponse, Error> {
        if request.body.sample > 0 {
            caller.require("person:read")?;
        }
        let wrong = |error| Error::filter("filters", error);
        let filter = Filter::parse(&request.body.filters.parse()).map_err(wrong)?;
        let as_of = request.body.as_of.unwrap_or_else(Utc::now);
        let moment = moment(&caller.project, as_of.timestamp_micros())?;
        let plan = plan(&filter, &moment).map_err(wrong)?;
        let project = caller.project.id();
        let read = move |conn: &mut Conn| {
            let begun = Instant::now();
            Snapshot::read(conn, project, PREVIEW_LIMIT, |snapshot| {
                let members = plan.evaluate(snapshot)?;
                let took = begun.elapsed();
                let sample = snapshot.ask(|conn| {
                    persons::page(conn, project.place(), &members, request.body.sample, 0)
                })?;
                Ok((members.len(), took, sample))
            })
        };
        let (count, took, sample) = self.store.read(read).await?;
        Ok(CohortsPreviewResponse::Status200(CohortPreview {
            count: count as i64,
            as_of,
            duration_ms: took.as_secs_f64() * 1e3,
            sample,
        }))
    }

    async fn cohorts_retrieve(
        &self,
        caller: Caller,
        request: CohortsRetrieveRequest,
    ) -> Result<CohortsRetrieveResponse, Error> {
        let read =
            move |conn: &mut Conn| find(conn, caller.project.id(), CohortId(request.path.id));
        let cohort = self.store.read(read).await?;
        Ok(CohortsRetrieveResponse::Status200(cohort))
    }

    async fn cohorts_partial_update(
        &self,
        caller: Caller,
        request: CohortsPartialUpdateRequest,
    ) -> Result<CohortsPartialUpdateResponse, Error> {
        let id = CohortId(request.path.id);
        let change = move |conn: &mut Conn| change(conn, &caller, id, request.body);
        let cohort = self.store.transaction(change).await?;
        self.waker.wake();
        Ok(CohortsPartialUpdateResponse::Status200(cohort))
    }

    async fn cohorts_destroy(
        &self,
        _caller: Caller,
        _request: CohortsDestroyRequest,
    ) -> Result<CohortsDestroyResponse, Error> {
        Ok(CohortsDestroyResponse::Status405)
    }

    async fn cohorts_duplicate_as_static_cohort(
        &self,
        _caller: Caller,
        _request: CohortsDuplicateAsStaticCohortRequest,
    ) -> Result<CohortsDuplicateAsStaticCohortResponse, Error> {
        Err(Error::NotImplemented)
    }

    async fn cohorts_persons(
        &self,
        caller: Caller,
        request: CohortsPersonsRequest,
    ) -> Result<CohortsPersonsResponse, Error> {
        self.members(caller, request).await
    }
}

fn create(conn: &mut Conn, caller: &Caller, mut definition: Definition) -> Result<Cohort, Error> {
    let project = caller.project.id();
    types::check(conn, project, &definition)?;
    definition.cohort_type = types::stored(conn, project, &definition)?;
    let cohort = cohorts::create(conn, project, &caller.teammate, &definition)?;
    activity::created(conn, caller, cohort.id(), &definition)?;
    if definition.deleted {
        return find(conn, project, cohort.id());
    }
    if !definition.is_static {
        cohorts::request_calculation(conn, cohort.id())?;
    } else if definition
        .filters
        .as_ref()
        .is_some_and(|filters| has_criteria(&filters.parse()))
    {
        cohorts::request_snapshot(conn, cohort.id())?;
    } else {
        cohorts::settle_empty(conn, cohort.id())?;
    }
    find(conn, project, cohort.id())
}

fn change(
    conn: &mut Conn,
    caller: &Caller,
    id: CohortId,
    body: PatchedCohort,
) -> Result<Cohort, Error> {
    let project = caller.project.id();
    let row = cohorts::lock(conn, project, id)?.ok_or(Error::NotFound)?;
    let retyped = !matches!(body.cohort_type, Patch::Absent);
    let refiltered = matches!(body.filters, Patch::Value(_));
    let mut definition = changed_definition(&row.definition, body)?;
    if retyped {
        types::check(conn, project, &definition)?;
    }
    if refiltered {
        definition.cohort_type = types::stored(conn, project, &definition)?;
    }
    if definition != row.definition {
        cohorts::update(conn, id, &definition)?;
        activity::changed(conn, caller, id, &row.definition, &definition)?;
    }
    if definition.deleted {
        cohorts::cancel_calculation(conn, id)?;
    } else if !definition.is_static {
        cohorts::request_calculation(conn, id)?;
    }
    find(conn, project, id)
}

fn new_definition(body: CohortCreate) -> Result<Definition, Error> {
    let is_static = body.is_static.unwrap_or(false);
    let filters = match body.filters {
        None => None,
        Some(filters) => read_filters(&filters, is_static)?,
    };
    if let Some(query) = body.query {
        return Err(refuse_query(&query));
    }
    let groups = match body.groups {
        None => JsonText("[]".to_owned()),
        Some(groups) => {
            let complete = complete_groups(&groups.parse());
            JsonText::of(&complete.map_err(|error| Error::field("groups", error.detail))?)
        }
    };
    Ok(Definition {
        name: body.name,
        description: body.description.unwrap_or_default(),
        groups,
        filters,
        query: None,
        deleted: body.deleted.unwrap_or(false),
        is_static,
        cohort_type: body.cohort_type.filter(|text| !text.is_empty()),
    })
}

fn changed_definition(before: &Definition, body: PatchedCohort) -> Result<Definition, Error> {
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
        after.groups = JsonText::of(&groups);
    }
    if let Some(deleted) = body.deleted.value() {
        after.deleted = deleted;
    }
    if let Some(is_static) = body.is_static.value() {
        after.is_static = is_static;
    }
    match body.filters {
        Patch::Absent => {}
        Patch::Null if after.is_static => after.filters = None,
        Patch::Null => {
            Filter::parse(&serde_json::Value::Null)
                .map_err(|error| Error::filter("filters", error))?;
        }
        Patch::Value(filters) => after.filters = read_filters(&filters, after.is_static)?,
    }
    if let Patch::Value(query) = body.query {
        return Err(refuse_query(&query));
    }
    if let Some(cohort_type) = body.cohort_type.change() {
        after.cohort_type = cohort_type.filter(|text| !text.is_empty());
    }
    Ok(after)
}

/// The filters to store. A static cohort may have none: then whatever was sent in their place is not looked at.
fn read_filters(filters: &RawJson, is_static: bool) -> Result<Option<JsonText>, Error> {
    let value = filters.parse();
    if is_static && !has_criteria(&value) {
        return Ok(None);
    }
    let normalised = Filter::normalised(&value).map_err(|error| Error::filter("filters", error))?;
    Ok(Some(JsonText::of(&normalised)))
}

fn refuse_query(query: &RawJson) -> Error {
    let kind = query.parse()["kind"].clone();
    Error::field(
        "query",
        match kind.as_str() {
            Some("ActorsQuery" | "HogQLQuery") => {
                "Queries are not offered by this version; use filters.".to_owned()
            }
            other => format!(
                "Query must be an ActorsQuery or HogQLQuery. Got: {}",
                other.unwrap_or("None")
            ),
        },
    )
}

/// A cohort of the project as callers see it.
fn find(conn: &mut Conn, project: ProjectId, id: CohortId) -> Result<Cohort, Error> {
    let row = cohorts::find(conn, project, id)?.ok_or(Error::NotFound)?;
    let mut shown = shown_all(conn, vec![row])?;
    shown.pop().ok_or(Error::NotFound)
}

/// Cohorts as callers see them; the number of statements does not grow with that of the rows.
fn shown_all(conn: &mut Conn, rows: Vec<WithCreator>) -> Result<Vec<Cohort>, Error> {
    let ids: Vec<i64> = rows.iter().map(|(cohort, _)| cohort.id).collect();
    let failures = cohorts::last_failures(conn, &ids)?;
    let shown = rows.into_iter().map(|row| {
        let failure = failures.get(&row.0.id);
        shown(row, failure.and_then(messages::of_failure))
    });
    Ok(shown.collect())
}

fn shown((row, creator): WithCreator, last_error_message: Option<String>) -> Cohort {
    let definition = row.definition;
    // What is stored was read before, so only a hand in the database can make this fail.
    let criteria = definition
        .criteria()
        .unwrap_or_else(|_| JsonText("{\"properties\":{}}".to_owned()));
    let groups = match definition.groups.0.as_str() {
        "[]" => definition.groups,
        _ => JsonText::of(&rewrite_groups(&definition.groups.parse())),
    };
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
        last_backfill_person_properties_at: None,
        errors_calculating: row.errors_calculating,
        last_error_message,
        count: row.count,
        is_static: definition.is_static,
        cohort_type: definition.cohort_type.and_then(|text| text.parse().ok()),
        experiment_set: Vec::new(),
    }
}

fn user(teammate: Teammate) -> UserBasic {
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
pub(super) fn raw(text: JsonText) -> RawJson {
    RawJson::from_string(text.0).unwrap_or_else(|_| RawJson::from(&serde_json::Value::Null))
}
