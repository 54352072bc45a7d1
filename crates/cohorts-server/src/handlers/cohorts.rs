//! The cohorts resource: create, read, change, list, preview.

use std::sync::{Arc, OnceLock};

use cohorts_api::types::{CohortFormOnly, PaginatedCohortList};
use cohorts_api::{
    CohortsApi, CohortsCalculationHistoryRetrieveRequest,
    CohortsCalculationHistoryRetrieveResponse, CohortsCompareRequest, CohortsCompareResponse,
    CohortsCreateRequest, CohortsCreateResponse, CohortsCreateStatus201Headers,
    CohortsDestroyRequest, CohortsDestroyResponse, CohortsDuplicateAsStaticCohortRetrieveRequest,
    CohortsDuplicateAsStaticCohortRetrieveResponse, CohortsExplainCreateRequest,
    CohortsExplainCreateResponse, CohortsExplainRetrieveRequest, CohortsExplainRetrieveResponse,
    CohortsListRequest, CohortsListResponse, CohortsMembershipsRequest, CohortsMembershipsResponse,
    CohortsOverlapRequest, CohortsOverlapResponse, CohortsPartialUpdateRequest,
    CohortsPartialUpdateResponse, CohortsPartialUpdateStatus200Headers, CohortsPersonsCsvRequest,
    CohortsPersonsCsvResponse, CohortsPersonsNdjsonRequest, CohortsPersonsNdjsonResponse,
    CohortsPersonsRetrieveRequest, CohortsPersonsRetrieveResponse, CohortsPreviewRequest,
    CohortsPreviewResponse, CohortsRetrieveRequest, CohortsRetrieveResponse,
    CohortsRetrieveStatus200Headers, CohortsSizesRequest, CohortsSizesResponse,
    CohortsUpdateRequest, CohortsUpdateResponse, CohortsUpdateStatus200Headers,
    CohortsUsedInRetrieveRequest, CohortsUsedInRetrieveResponse,
};
use cohorts_store::{self, CohortId, Conn, ProjectId, cohorts, live};

use super::admission::holding;
use super::lookup::PersonId;
use super::uploads::UploadOptions;
use super::{Service, limit_and_offset, present};
use crate::auth::Caller;
use crate::blocking;
use crate::error::Error;
use crate::shares::ShareOwner;

mod change;
mod compare;
mod create;
mod definition;
mod dry_run;
mod edit;
mod entity_tag;
mod evaluation;
mod explain;
mod history;
mod kinds;
mod lift;
mod list;
mod memberships;
mod overlap;
mod preview;
mod references;
mod sizes;

use create::ListedPersons;
pub use create::static_from_file;
pub(super) use definition::check_fields;
use edit::CohortEdit;
use entity_tag::{EntityTag, TaggedCohort};
use evaluation::EvaluationOwner;
pub use explain::MembershipQuestion;
use lift::MemberComparison;
use memberships::MembershipsQuery;
use preview::Preview;
use sizes::{EvaluatedSizes, Intervals, PastSizes, RecordedSizes};

impl CohortsApi for Service {
    async fn cohorts_list(
        &self,
        caller: Caller,
        request: CohortsListRequest,
    ) -> Result<CohortsListResponse, Error> {
        let query = request.query;
        let (limit, offset) = limit_and_offset(query.limit, query.offset);
        let mut conditions = list::conditions(&query)?;
        let project = caller.project.id();
        let name_match = Arc::new(OnceLock::new());
        let rows = list::CohortListRows {
            project,
            is_basic: query.basic,
            name_match: Arc::clone(&name_match),
        };
        let has_trigrams = self.store.has_trigrams;
        let read = move |conn: &mut Conn| {
            if query.hide_behavioral_cohorts {
                conditions.hidden = list::behavioral(conn, project)?;
            }
            let (page, matching) =
                cohorts::list(conn, project, &conditions, has_trigrams, limit, offset)?;
            if conditions.search.is_some() {
                name_match.get_or_init(|| matching);
            }
            Ok(page)
        };
        let links = self.links(&request.http);
        let frame = move |count| {
            let (next, previous) = links.around(limit, offset, count);
            PaginatedCohortList {
                count,
                next,
                previous,
                results: Vec::new(),
            }
        };
        let list = self.list(project, &request.http, rows, read, frame);
        Ok(CohortsListResponse::Status200(list.await?.into()))
    }

    async fn cohorts_create(
        &self,
        caller: Caller,
        request: CohortsCreateRequest,
    ) -> Result<CohortsCreateResponse, Error> {
        let project = caller.project.id();
        let mut body = request.body;
        let person_ids = body.create_static_person_ids.take().unwrap_or_default();
        let options = upload_options(request.form);
        let definition = blocking::compute(move || definition::new(body)).await?;
        if !request.uploads.is_empty() {
            let (caller, definition) = (caller.clone(), definition.clone());
            let check = move |conn: &mut Conn| create::check(conn, &caller, &definition);
            self.read(project, check).await?;
        }
        let upload = self.read_upload(project, request.uploads, options);
        let listed = ListedPersons {
            person_ids,
            upload: upload.await?,
        };
        let create = move |conn: &mut Conn| create::create(conn, &caller, definition, listed);
        let created = self.transaction(project, create).await?;
        self.signal.notify();
        let headers = CohortsCreateStatus201Headers {
            e_tag: created.tag.to_string(),
        };
        Ok(CohortsCreateResponse::Status201(created.cohort, headers))
    }

    async fn cohorts_preview(
        &self,
        caller: Caller,
        request: CohortsPreviewRequest,
    ) -> Result<CohortsPreviewResponse, Error> {
        let (owner, body) = (EvaluationOwner::from(&caller), request.body);
        let preview = blocking::compute(move || Preview::new(&caller, &body)).await?;
        let read = move |conn: &mut Conn, store: &_, stop: &_| preview.read(conn, store, stop);
        let preview = self.evaluate(owner, &request.http, read).await?;
        Ok(CohortsPreviewResponse::Status200(preview))
    }

    async fn cohorts_compare(
        &self,
        caller: Caller,
        request: CohortsCompareRequest,
    ) -> Result<CohortsCompareResponse, Error> {
        let id = request.path.id;
        let comparison = MemberComparison::new(caller.project.id(), id, request.body)?;
        let read = move |conn: &mut Conn, store: &_, stop: &_| comparison.read(conn, store, stop);
        let owner = EvaluationOwner::from(&caller);
        let compared = self.evaluate(owner, &request.http, read).await?;
        Ok(CohortsCompareResponse::Status200(compared))
    }

    async fn cohorts_explain_create(
        &self,
        caller: Caller,
        request: CohortsExplainCreateRequest,
    ) -> Result<CohortsExplainCreateResponse, Error> {
        let (project, body) = (caller.project, request.body);
        let id = project.id();
        let question = move || MembershipQuestion::of_unsaved(project, body);
        let question = blocking::compute(question).await?;
        let explanation = self.read(id, move |conn| question.read(conn)).await?;
        Ok(CohortsExplainCreateResponse::Status200(explanation))
    }

    async fn cohorts_explain_retrieve(
        &self,
        caller: Caller,
        request: CohortsExplainRetrieveRequest,
    ) -> Result<CohortsExplainRetrieveResponse, Error> {
        let (project, query) = (caller.project.id(), request.query);
        let person = PersonId::new(query.person_id, query.distinct_id)?;
        let cohort = CohortId(request.path.id);
        let question = MembershipQuestion::of_saved(caller.project, cohort, person);
        let explanation = self.read(project, move |conn| question.read(conn)).await?;
        Ok(CohortsExplainRetrieveResponse::Status200(explanation))
    }

    async fn cohorts_memberships(
        &self,
        caller: Caller,
        request: CohortsMembershipsRequest,
    ) -> Result<CohortsMembershipsResponse, Error> {
        let project = caller.project.id();
        let query = MembershipsQuery::new(project, request.body)?;
        let store = self.store.clone();
        let known = store.known_members(project);
        let is_known = known.is_some();
        let read = move |conn: &mut Conn| query.read(conn, &store, known);
        // With known members, only the persons are read.
        let memberships = if is_known {
            self.read(project, read).await?
        } else {
            self.snapshot(project, read).await?
        };
        Ok(CohortsMembershipsResponse::Status200(memberships))
    }

    async fn cohorts_overlap(
        &self,
        caller: Caller,
        request: CohortsOverlapRequest,
    ) -> Result<CohortsOverlapResponse, Error> {
        let (project, ids) = (caller.project.id(), request.body.cohort_ids);
        memberships::check_count(&ids)?;
        let store = self.store.clone();
        let owner = ShareOwner::Project(project);
        let permit = self.shares.previews.acquire(owner).await?;
        let read = move |conn: &mut Conn| overlap::read(conn, &store, project, &ids);
        let overlap = self.read(project, holding(permit, read)).await?;
        Ok(CohortsOverlapResponse::Status200(overlap))
    }

    async fn cohorts_retrieve(
        &self,
        caller: Caller,
        request: CohortsRetrieveRequest,
    ) -> Result<CohortsRetrieveResponse, Error> {
        let (project, id) = (caller.project.id(), CohortId(request.path.id));
        let read = move |conn: &mut Conn| find(conn, project, id);
        let found = self.read(project, read).await?;
        let headers = CohortsRetrieveStatus200Headers {
            e_tag: found.tag.to_string(),
        };
        Ok(CohortsRetrieveResponse::Status200(found.cohort, headers))
    }

    async fn cohorts_partial_update(
        &self,
        caller: Caller,
        request: CohortsPartialUpdateRequest,
    ) -> Result<CohortsPartialUpdateResponse, Error> {
        let edit = CohortEdit {
            id: CohortId(request.path.id),
            is_dry_run: request.query.dry_run == Some(true),
            body: request.body,
            files: request.uploads,
            options: upload_options(request.form),
        };
        let changed = self.edit_cohort(caller, &request.http, edit).await?;
        let headers = CohortsPartialUpdateStatus200Headers {
            e_tag: changed.tag.to_string(),
        };
        Ok(CohortsPartialUpdateResponse::Status200(
            changed.cohort,
            headers,
        ))
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
        let edit = CohortEdit {
            id: CohortId(request.path.id),
            is_dry_run: request.query.dry_run == Some(true),
            body: request.body,
            files: request.uploads,
            options: upload_options(request.form),
        };
        let changed = self.edit_cohort(caller, &request.http, edit).await?;
        let headers = CohortsUpdateStatus200Headers {
            e_tag: changed.tag.to_string(),
        };
        Ok(CohortsUpdateResponse::Status200(changed.cohort, headers))
    }

    async fn cohorts_duplicate_as_static_cohort_retrieve(
        &self,
        caller: Caller,
        request: CohortsDuplicateAsStaticCohortRetrieveRequest,
    ) -> Result<CohortsDuplicateAsStaticCohortRetrieveResponse, Error> {
        let (project, id) = (caller.project.id(), CohortId(request.path.id));
        let copy = move |conn: &mut Conn| create::copy(conn, &caller, id);
        let cohort = self.transaction(project, copy).await?;
        Ok(CohortsDuplicateAsStaticCohortRetrieveResponse::Status200(
            cohort,
        ))
    }

    async fn cohorts_calculation_history_retrieve(
        &self,
        caller: Caller,
        request: CohortsCalculationHistoryRetrieveRequest,
    ) -> Result<CohortsCalculationHistoryRetrieveResponse, Error> {
        let (project, id) = (caller.project.id(), CohortId(request.path.id));
        let (limit, offset) = limit_and_offset(request.query.limit, request.query.offset);
        let read = move |conn: &mut Conn| {
            cohorts::find(conn, project, id)?.ok_or(Error::NotFound)?;
            Ok(cohorts_store::history::page(
                conn, project, id, limit, offset,
            )?)
        };
        let frame = move |count| history::page(count, limit, offset);
        let list = self.list(
            project,
            &request.http,
            history::HistoryRows(project, id),
            read,
            frame,
        );
        Ok(CohortsCalculationHistoryRetrieveResponse::Status200(
            list.await?.into(),
        ))
    }

    async fn cohorts_used_in_retrieve(
        &self,
        caller: Caller,
        request: CohortsUsedInRetrieveRequest,
    ) -> Result<CohortsUsedInRetrieveResponse, Error> {
        let (project, id) = (caller.project.id(), CohortId(request.path.id));
        let read = move |conn: &mut Conn| {
            cohorts::find(conn, project, id)?.ok_or(Error::NotFound)?;
            references::referring_cohorts(conn, project, id)
        };
        let cohorts = self.snapshot(project, read).await?;
        Ok(CohortsUsedInRetrieveResponse::Status200(history::usage(
            cohorts,
        )))
    }

    async fn cohorts_sizes(
        &self,
        caller: Caller,
        request: CohortsSizesRequest,
    ) -> Result<CohortsSizesResponse, Error> {
        let (project, id) = (caller.project.id(), CohortId(request.path.id));
        let intervals = Intervals::new(&caller.project, &request.query)?;
        let read = move |conn: &mut Conn| RecordedSizes::read(conn, project, id, intervals);
        let recorded = self.snapshot(project, read).await?;
        let evaluated = match recorded.past(&caller.project)? {
            Some(past) => self.evaluate_past(project, past).await?,
            None => EvaluatedSizes::default(),
        };
        Ok(CohortsSizesResponse::Status200(recorded.with(evaluated)))
    }

    async fn cohorts_persons_retrieve(
        &self,
        caller: Caller,
        request: CohortsPersonsRetrieveRequest,
    ) -> Result<CohortsPersonsRetrieveResponse, Error> {
        self.members(caller, request).await
    }

    async fn cohorts_persons_csv(
        &self,
        caller: Caller,
        request: CohortsPersonsCsvRequest,
    ) -> Result<CohortsPersonsCsvResponse, Error> {
        self.members_as_csv(caller, request).await
    }

    async fn cohorts_persons_ndjson(
        &self,
        caller: Caller,
        request: CohortsPersonsNdjsonRequest,
    ) -> Result<CohortsPersonsNdjsonResponse, Error> {
        self.members_as_ndjson(caller, request).await
    }
}

/// The options of a file, which only forms have.
fn upload_options(form: Option<CohortFormOnly>) -> UploadOptions {
    let form = form.unwrap_or_default();
    UploadOptions {
        create_persons: form.create_people == Some(true),
        replace_members: form.replace_members == Some(true),
        allow_empty: form.allow_empty == Some(true),
    }
}

/// A cohort of the project as responses show it.
fn find(conn: &mut Conn, project: ProjectId, id: CohortId) -> Result<TaggedCohort, Error> {
    let mut row = cohorts::find(conn, project, id)?;
    live::set_times(conn, project, row.iter_mut().map(|(cohort, _)| cohort))?;
    let row = row.ok_or(Error::NotFound)?;
    let tag = EntityTag(row.0.definition_number);
    let cohort = present::cohort(row);
    Ok(TaggedCohort { cohort, tag })
}

impl Service {
    async fn evaluate_past(
        &self,
        project: ProjectId,
        past: PastSizes,
    ) -> Result<EvaluatedSizes, Error> {
        let store = self.store.clone();
        let owner = ShareOwner::Project(project);
        let permit = self.shares.previews.acquire(owner).await?;
        let read = holding(permit, move |conn| past.evaluate(conn, &store));
        self.read(project, read).await
    }
}
