//! The cohorts resource: create, read, change, list, preview.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::Utc;
use cohorts_api::types::{
    Cohort, CohortPreview, CriterionCount, PaginatedCohortList, PatchedCohort,
};
use cohorts_api::{
    CohortsApi, CohortsCalculationHistoryRequest, CohortsCalculationHistoryResponse,
    CohortsCreateRequest, CohortsCreateResponse, CohortsDestroyRequest, CohortsDestroyResponse,
    CohortsDuplicateAsStaticCohortRequest, CohortsDuplicateAsStaticCohortResponse,
    CohortsListRequest, CohortsListResponse, CohortsPartialUpdateRequest,
    CohortsPartialUpdateResponse, CohortsPersonsRequest, CohortsPersonsResponse,
    CohortsPreviewRequest, CohortsPreviewResponse, CohortsRetrieveRequest, CohortsRetrieveResponse,
    CohortsUpdateRequest, CohortsUpdateResponse, CohortsUsedInRequest, CohortsUsedInResponse,
    Patch, UploadedFile,
};
use cohorts_engine::{Filter, plan};

use super::uploads::Options;
use super::{Service, persons, rows_of, turn};
use crate::auth::Caller;
use crate::blocking;
use crate::calculation::moment;
use crate::error::Error;
use crate::index::snapshot::Snapshot;
use cohorts_store::{self, CohortId, Conn, cohorts};

mod change;
mod create;
mod definition;
mod history;
mod list;
mod messages;
mod references;
mod show;
mod types;

use create::First;
pub(super) use definition::judge;
pub(super) use show::{raw, user};

/// How long a preview may read data.
const PREVIEW_LIMIT: Duration = Duration::from_secs(20);

impl CohortsApi for Service {
    async fn cohorts_list(
        &self,
        caller: Caller,
        request: CohortsListRequest,
    ) -> Result<CohortsListResponse, Error> {
        let query = request.query;
        let (limit, offset) = rows_of(query.limit, query.offset);
        let mut wanted = list::wanted(&query)?;
        let search = wanted.search.clone();
        let project = caller.project.id();
        let similar = self.store.has_trigrams;
        let read = move |conn: &mut Conn| {
            if query.hide_behavioral_cohorts {
                wanted.hidden = list::behavioral(cohorts::dynamic_definitions(conn, project)?);
            }
            Ok(cohorts::list(
                conn, project, &wanted, similar, limit, offset,
            )?)
        };
        // What is hidden may be a moment older than the rows, and their count a moment younger.
        let (rows, count) = blocking::read(&self.store, read).await?;
        let (next, previous) = self.links(&request.http).around(limit, offset, count);
        let item = |row| list::item(show::one(row), query.basic, search.as_deref());
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
        let mut body = request.body;
        let person_ids = std::mem::take(&mut body.create_static_person_ids);
        let options = Options {
            create_people: body.create_people == Some(true),
            replace_members: body.replace_members == Some(true),
        };
        let definition = definition::new(body)?;
        if !request.uploads.is_empty() {
            let (caller, definition) = (caller.clone(), definition.clone());
            let check = move |conn: &mut Conn| create::check(conn, &caller, &definition);
            blocking::read(&self.store, check).await?;
        }
        let named = self.named(caller.project.id(), request.uploads, options);
        let first = First {
            person_ids,
            named: named.await?,
        };
        let create = move |conn: &mut Conn| create::create(conn, &caller, definition, first);
        let created = blocking::transaction(&self.store, create).await?;
        self.signal.notify();
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
        let project = caller.project.id();
        let caches = Arc::clone(&self.store.caches);
        let read = move |conn: &mut Conn| {
            let begun = Instant::now();
            let plan = plan(&filter, &moment).map_err(wrong)?;
            Snapshot::read(conn, &caches.index, project, PREVIEW_LIMIT, |snapshot| {
                let explanation = snapshot.explain(&plan)?;
                let members = explanation.members;
                let duration = begun.elapsed();
                let sample = snapshot.tx().with_conn(|conn| {
                    let ranking = caches.rankings.get(conn, project.shard_key())?;
                    persons::first_of(
                        conn,
                        &ranking,
                        project.shard_key(),
                        &members,
                        request.body.sample,
                    )
                })?;
                Ok::<_, Error>((members.len(), explanation.leaves, duration, sample))
            })
        };
        let _turn = turn(&self.previews).await?;
        let (count, leaves, duration, sample) = blocking::read(&self.store, read).await?;
        Ok(CohortsPreviewResponse::Status200(CohortPreview {
            count: count as i64,
            criteria: leaves
                .into_iter()
                .map(|leaf| CriterionCount {
                    path: leaf.path,
                    count: leaf.persons as i64,
                })
                .collect(),
            as_of,
            duration_ms: duration.as_secs_f64() * 1e3,
            sample,
        }))
    }

    async fn cohorts_retrieve(
        &self,
        caller: Caller,
        request: CohortsRetrieveRequest,
    ) -> Result<CohortsRetrieveResponse, Error> {
        let read =
            move |conn: &mut Conn| show::find(conn, caller.project.id(), CohortId(request.path.id));
        let cohort = blocking::read(&self.store, read).await?;
        Ok(CohortsRetrieveResponse::Status200(cohort))
    }

    async fn cohorts_partial_update(
        &self,
        caller: Caller,
        request: CohortsPartialUpdateRequest,
    ) -> Result<CohortsPartialUpdateResponse, Error> {
        let id = CohortId(request.path.id);
        let changed = self
            .change(caller, id, request.body, request.uploads)
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
            .change(caller, id, request.body, request.uploads)
            .await?;
        Ok(CohortsUpdateResponse::Status200(changed))
    }

    async fn cohorts_duplicate_as_static_cohort(
        &self,
        caller: Caller,
        request: CohortsDuplicateAsStaticCohortRequest,
    ) -> Result<CohortsDuplicateAsStaticCohortResponse, Error> {
        let id = CohortId(request.path.id);
        let copy = move |conn: &mut Conn| create::copy(conn, &caller, id);
        let copied = blocking::transaction(&self.store, copy).await?;
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
            Ok(cohorts_store::history::page(
                conn,
                id,
                query.limit,
                query.offset,
            )?)
        };
        let (rows, count) = blocking::snapshot(&self.store, read).await?;
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
        let users = blocking::snapshot(&self.store, read).await?;
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
    async fn change(
        &self,
        caller: Caller,
        id: CohortId,
        body: PatchedCohort,
        files: Vec<UploadedFile>,
    ) -> Result<Cohort, Error> {
        let options = Options {
            create_people: matches!(body.create_people, Patch::Value(true)),
            replace_members: matches!(body.replace_members, Patch::Value(true)),
        };
        let mut named = None;
        if !files.is_empty() {
            let (caller, body) = (caller.clone(), body.clone());
            let project = caller.project.id();
            let check = move |conn: &mut Conn| change::check(conn, &caller, id, body);
            blocking::read(&self.store, check).await?;
            named = self.named(project, files, options).await?;
        }
        let change = move |conn: &mut Conn| change::change(conn, &caller, id, body, named);
        let changed = blocking::transaction(&self.store, change).await?;
        self.signal.notify();
        Ok(changed)
    }
}
