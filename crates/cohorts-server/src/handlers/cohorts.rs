//! The cohorts resource: create, read, change, list, preview.

use std::time::{Duration, Instant};

use chrono::Utc;
use cohorts_api::types::{
    Cohort, CohortCreate, CohortPreview, PaginatedCohortList, PatchedCohort, UserBasic,
};
use cohorts_api::{
    CohortsApi, CohortsCalculationHistoryRequest, CohortsCalculationHistoryResponse,
    CohortsCreateRequest, CohortsCreateResponse, CohortsDestroyRequest, CohortsDestroyResponse,
    CohortsDuplicateAsStaticCohortRequest, CohortsDuplicateAsStaticCohortResponse,
    CohortsListRequest, CohortsListResponse, CohortsPartialUpdateRequest,
    CohortsPartialUpdateResponse, CohortsPersonsRequest, CohortsPersonsResponse,
    CohortsPreviewRequest, CohortsPreviewResponse, CohortsRetrieveRequest, CohortsRetrieveResponse,
    CohortsUpdateRequest, CohortsUpdateResponse, CohortsUsedInRequest, CohortsUsedInResponse,
    Patch, RawJson, Upload,
};
use cohorts_engine::legacy::rewrite_groups;
use cohorts_engine::{Filter, plan};

use roaring::RoaringBitmap;

use super::{Service, activity, links, members, persons};
use crate::auth::Caller;
use crate::calculation::moment;
use crate::error::Error;
use crate::store::blocks::Snapshot;
use crate::store::calculations;
use crate::store::cohorts::{self, Definition, WithCreator};
use crate::store::keys::Teammate;
use crate::store::{self, CohortId, Conn, JsonText, Place, ProjectId};

mod definition;
mod history;
mod list;
mod messages;
mod references;
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
        let query = request.query;
        let limit = match query.limit {
            limit if limit > 0 => limit,
            _ => DEFAULT_LIMIT,
        };
        let offset = query.offset.max(0);
        let mut wanted = list::wanted(&query)?;
        let search = wanted.search.clone();
        let project = caller.project.id();
        let similar = self.store.similar;
        let read = move |conn: &mut Conn| {
            if query.hide_behavioral_cohorts {
                wanted.hidden = list::behavioral(cohorts::dynamic_definitions(conn, project)?);
            }
            let (rows, count) = cohorts::list(conn, project, &wanted, similar, limit, offset)?;
            Ok((count, shown_all(conn, rows)?))
        };
        let (count, rows) = self.store.snapshot(read).await?;
        let head = &request.http;
        let next = (offset.saturating_add(limit) < count)
            .then(|| links::page(head, limit, offset + limit));
        let previous = (offset > 0).then(|| links::page(head, limit, (offset - limit).max(0)));
        let item = |cohort| list::item(cohort, query.basic, search.as_deref());
        Ok(CohortsListResponse::Status200(PaginatedCohortList {
            count,
            next,
            previous,
            results: rows.into_iter().map(item).collect(),
        }))
    }

    async fn cohorts_create(
        &self,
        caller: Caller,
        request: CohortsCreateRequest,
    ) -> Result<CohortsCreateResponse, Error> {
        let first = First {
            person_ids: request.body.create_static_person_ids.clone(),
            uploads: request.uploads,
        };
        let definition = definition::new(request.body)?;
        let create = move |conn: &mut Conn| create(conn, &caller, definition, &first);
        let created = self.store.transaction(create).await?;
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
        let changed = self
            .change_cohort(caller, id, request.body, request.uploads)
            .await?;
        Ok(CohortsPartialUpdateResponse::Status200(changed))
    }

    async fn cohorts_destroy(
        &self,
        _caller: Caller,
        _request: CohortsDestroyRequest,
    ) -> Result<CohortsDestroyResponse, Error> {
        Ok(CohortsDestroyResponse::Status405)
    }

    async fn cohorts_update(
        &self,
        caller: Caller,
        request: CohortsUpdateRequest,
    ) -> Result<CohortsUpdateResponse, Error> {
        let id = CohortId(request.path.id);
        let changed = self
            .change_cohort(caller, id, request.body, request.uploads)
            .await?;
        Ok(CohortsUpdateResponse::Status200(changed))
    }

    async fn cohorts_duplicate_as_static_cohort(
        &self,
        caller: Caller,
        request: CohortsDuplicateAsStaticCohortRequest,
    ) -> Result<CohortsDuplicateAsStaticCohortResponse, Error> {
        let id = CohortId(request.path.id);
        let copy = move |conn: &mut Conn| copy(conn, &caller, id);
        let copied = self.store.transaction(copy).await?;
        Ok(CohortsDuplicateAsStaticCohortResponse::Status200(copied))
    }

    async fn cohorts_calculation_history(
        &self,
        caller: Caller,
        request: CohortsCalculationHistoryRequest,
    ) -> Result<CohortsCalculationHistoryResponse, Error> {
        let (id, query) = (CohortId(request.path.id), request.query);
        let read = move |conn: &mut Conn| {
            cohorts::find(conn, caller.project.id(), id)?.ok_or(Error::NotFound)?;
            Ok(calculations::history(conn, id, query.limit, query.offset)?)
        };
        let (rows, count) = self.store.snapshot(read).await?;
        let page = history::page(rows, count, query.limit, query.offset);
        Ok(CohortsCalculationHistoryResponse::Status200(page))
    }

    async fn cohorts_used_in(
        &self,
        caller: Caller,
        request: CohortsUsedInRequest,
    ) -> Result<CohortsUsedInResponse, Error> {
        let (project, id) = (caller.project.id(), CohortId(request.path.id));
        let read = move |conn: &mut Conn| {
            cohorts::find(conn, project, id)?.ok_or(Error::NotFound)?;
            references::users(conn, project, id)
        };
        let users = self.store.snapshot(read).await?;
        Ok(CohortsUsedInResponse::Status200(history::usage(users)))
    }

    async fn cohorts_persons(
        &self,
        caller: Caller,
        request: CohortsPersonsRequest,
    ) -> Result<CohortsPersonsResponse, Error> {
        self.members(caller, request).await
    }
}

impl Service {
    async fn change_cohort(
        &self,
        caller: Caller,
        id: CohortId,
        body: PatchedCohort,
        uploads: Vec<Upload>,
    ) -> Result<Cohort, Error> {
        let change = move |conn: &mut Conn| change(conn, &caller, id, body, &uploads);
        let changed = self.store.transaction(change).await?;
        self.waker.wake();
        Ok(changed)
    }
}

/// Makes a static cohort of the members that a dynamic one has now.
fn copy(conn: &mut Conn, caller: &Caller, id: CohortId) -> Result<Cohort, Error> {
    let project = caller.project.id();
    let (source, _) = cohorts::find(conn, project, id)?.ok_or(Error::NotFound)?;
    if source.definition.is_static {
        return Err(Error::whole(
            "Cannot duplicate a static cohort as a static cohort.",
        ));
    }
    let name = source
        .definition
        .name
        .unwrap_or("Untitled cohort".to_owned());
    let definition = definition::new(CohortCreate {
        name: Some(format!("{name} (static copy)")),
        is_static: Some(true),
        ..CohortCreate::default()
    })?;
    let made = cohorts::create(conn, project, &caller.teammate, &definition)?;
    activity::created(conn, caller, made.id(), &definition)?;
    let found = store::members::read(conn, project.place(), id, source.member_version)?;
    members::edit(conn, &made, |_| found)?;
    find(conn, project, made.id())
}

/// Whom a new static cohort is filled with.
struct First {
    person_ids: Vec<String>,
    uploads: Vec<Upload>,
}

impl First {
    /// Nothing where no members are listed.
    fn members(
        &self,
        conn: &mut Conn,
        place: Place,
        is_static: bool,
    ) -> Result<Option<RoaringBitmap>, Error> {
        if !is_static {
            return self.uploads.first().map_or(Ok(None), |_| Err(no_list()));
        }
        let uploaded = members::uploaded(conn, place, &self.uploads)?;
        if uploaded.is_none() && self.person_ids.is_empty() {
            return Ok(None);
        }
        let ids = self.person_ids.iter().map(String::as_str);
        let known = members::known(conn, place, ids)?;
        Ok(Some(known | uploaded.unwrap_or_default()))
    }
}

fn no_list() -> Error {
    Error::field("csv", "A CSV file can only be uploaded to a static cohort.")
}

fn create(
    conn: &mut Conn,
    caller: &Caller,
    mut definition: Definition,
    first: &First,
) -> Result<Cohort, Error> {
    let project = caller.project.id();
    types::check(conn, project, &definition)?;
    let listed = first.members(conn, project.place(), definition.is_static)?;
    definition.cohort_type = types::stored(conn, project, &definition)?;
    let cohort = cohorts::create(conn, project, &caller.teammate, &definition)?;
    activity::created(conn, caller, cohort.id(), &definition)?;
    if definition.is_static && (listed.is_some() || !definition.has_criteria()) {
        members::edit(conn, &cohort, |_| listed.unwrap_or_default())?;
    } else if definition.deleted {
        // It is calculated when it is restored.
    } else if definition.is_static {
        cohorts::request_snapshot(conn, cohort.id())?;
    } else {
        cohorts::request_calculation(conn, cohort.id())?;
    }
    find(conn, project, cohort.id())
}

fn change(
    conn: &mut Conn,
    caller: &Caller,
    id: CohortId,
    body: PatchedCohort,
    uploads: &[Upload],
) -> Result<Cohort, Error> {
    let project = caller.project.id();
    let row = cohorts::lock(conn, project, id)?.ok_or(Error::NotFound)?;
    let retyped = !matches!(body.cohort_type, Patch::Absent);
    let refiltered = matches!(body.filters, Patch::Value(_));
    let mut definition = definition::changed(&row.definition, body)?;
    if retyped {
        types::check(conn, project, &definition)?;
    }
    if refiltered && definition.is_static {
        definition::check_frozen(&row.definition, &definition)?;
    }
    if definition.deleted && !row.definition.deleted {
        references::check_unused(conn, project, id)?;
    }
    references::check(conn, project, id, &definition)?;
    if !uploads.is_empty() && !definition.is_static {
        return Err(no_list());
    }
    if let Some(found) = members::uploaded(conn, project.place(), uploads)? {
        members::edit(conn, &row, |members| members | found)?;
        activity::persons_edited(conn, caller, id, "persons_added_manually")?;
    }
    if refiltered {
        definition.cohort_type = types::stored(conn, project, &definition)?;
    }
    if definition != row.definition {
        cohorts::update(conn, id, &definition)?;
        activity::changed(conn, caller, id, &row.definition, &definition)?;
    }
    let turned_static = definition.is_static && !row.definition.is_static;
    if definition.deleted || turned_static {
        // Whoever calculates it now writes nothing more.
        calculations::next_attempt(conn, id)?;
        cohorts::cancel_calculation(conn, id)?;
    } else if !definition.is_static {
        cohorts::request_calculation(conn, id)?;
    } else if row.definition.deleted && row.last_calculation.is_none() {
        // It was deleted before it was ever filled.
        cohorts::request_snapshot(conn, id)?;
    }
    find(conn, project, id)
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
    let failures = calculations::last_failures(conn, &ids)?;
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
