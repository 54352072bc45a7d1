//! The activity resource: pages of the activity log.

use actix_web::HttpResponse;
use cohorts_api::types::{ActivityEntry, ActivityPage};
use cohorts_api::{
    ActivityApi, CohortsActivityRetrieveRequest, CohortsActivityRetrieveResponse,
    CohortsAllActivityRetrieveRequest, CohortsAllActivityRetrieveResponse, RequestHead,
};
use cohorts_store::pages::{PageIds, RowSize};
use cohorts_store::{CohortId, Conn, ProjectId, activity, cohorts};

use super::responses::ListRows;
use super::{MAX_LIMIT, Service, present};
use crate::auth::Caller;
use crate::error::Error;

impl ActivityApi for Service {
    async fn cohorts_all_activity_retrieve(
        &self,
        caller: Caller,
        request: CohortsAllActivityRetrieveRequest,
    ) -> Result<CohortsAllActivityRetrieveResponse, Error> {
        let (limit, page) = (request.query.limit, request.query.page);
        let project = caller.project.id();
        let read = move |conn: &mut Conn, limit, offset| {
            Ok(activity::page(conn, project, None, limit, offset)?)
        };
        let rows = ActivityRows(project);
        let response = self.activity_page(project, rows, read, limit, page, &request.http);
        Ok(CohortsAllActivityRetrieveResponse::Status200(
            response.await?.into(),
        ))
    }

    async fn cohorts_activity_retrieve(
        &self,
        caller: Caller,
        request: CohortsActivityRetrieveRequest,
    ) -> Result<CohortsActivityRetrieveResponse, Error> {
        let (limit, page) = (request.query.limit, request.query.page);
        let (project, cohort) = (caller.project.id(), CohortId(request.path.id));
        let read = move |conn: &mut Conn, limit, offset| {
            cohorts::find(conn, project, cohort)?.ok_or(Error::NotFound)?;
            Ok(activity::page(conn, project, Some(cohort), limit, offset)?)
        };
        let rows = ActivityRows(project);
        let response = self.activity_page(project, rows, read, limit, page, &request.http);
        Ok(match response.await {
            Ok(response) => CohortsActivityRetrieveResponse::Status200(response.into()),
            // This operation has a 404 without a body.
            Err(Error::NotFound) => CohortsActivityRetrieveResponse::Status404,
            Err(cause) => return Err(cause),
        })
    }
}

impl Service {
    /// A page of entries. `read` returns their ids for a limit and an offset.
    pub(super) async fn activity_page(
        &self,
        project: ProjectId,
        rows: impl ListRows<Row = ActivityEntry>,
        read: impl FnOnce(&mut Conn, i64, i64) -> Result<PageIds, Error> + Send + 'static,
        limit: i64,
        page: i64,
        head: &RequestHead,
    ) -> Result<HttpResponse, Error> {
        let limit = limit.min(MAX_LIMIT);
        let offset = limit.saturating_mul(page - 1);
        let links = self.links(head);
        let frame = move |total_count| {
            let link =
                |page: i64| links.with(&[("page", page.to_string()), ("limit", limit.to_string())]);
            ActivityPage {
                next: (offset.saturating_add(limit) < total_count).then(|| link(page + 1)),
                previous: (page > 1).then(|| link(page - 1)),
                total_count,
                results: Vec::new(),
            }
        };
        let ids = move |conn: &mut Conn| read(conn, limit, offset);
        self.list(project, head, rows, ids, frame).await
    }
}

/// The entries of a project.
struct ActivityRows(ProjectId);

impl ListRows for ActivityRows {
    type Row = ActivityEntry;

    fn sizes(&self, conn: &mut Conn, ids: &[i64]) -> Result<Vec<RowSize>, Error> {
        Ok(activity::sizes(conn, self.0, ids)?)
    }

    fn rows(&self, conn: &mut Conn, ids: &[i64]) -> Result<Vec<ActivityEntry>, Error> {
        let rows = activity::by_ids(conn, self.0, ids)?;
        Ok(rows.into_iter().map(present::activity_entry).collect())
    }
}
