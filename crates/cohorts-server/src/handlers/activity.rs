//! The activity resource: pages of the activity log.

use cohorts_api::types::ActivityPage;
use cohorts_api::{
    ActivityApi, CohortsActivityRequest, CohortsActivityResponse, CohortsAllActivityRequest,
    CohortsAllActivityResponse, RequestHead,
};
use cohorts_store::{CohortId, Conn, activity, cohorts};

use super::{Service, present};
use crate::auth::Caller;
use crate::error::Error;

impl ActivityApi for Service {
    async fn cohorts_all_activity(
        &self,
        caller: Caller,
        request: CohortsAllActivityRequest,
    ) -> Result<CohortsAllActivityResponse, Error> {
        let (limit, page) = (request.query.limit, request.query.page);
        let response = self.activity_page(caller, None, limit, page, &request.http);
        let response = response.await?.ok_or(Error::NotFound)?;
        Ok(CohortsAllActivityResponse::Status200(response))
    }

    async fn cohorts_activity(
        &self,
        caller: Caller,
        request: CohortsActivityRequest,
    ) -> Result<CohortsActivityResponse, Error> {
        let (limit, page) = (request.query.limit, request.query.page);
        let cohort = Some(CohortId(request.path.id));
        let response = self.activity_page(caller, cohort, limit, page, &request.http);
        Ok(match response.await? {
            Some(response) => CohortsActivityResponse::Status200(response),
            None => CohortsActivityResponse::Status404,
        })
    }
}

impl Service {
    /// A page of the entries of one cohort, or of all cohorts; `None` if the cohort does not exist.
    async fn activity_page(
        &self,
        caller: Caller,
        cohort: Option<CohortId>,
        limit: i64,
        page: i64,
        head: &RequestHead,
    ) -> Result<Option<ActivityPage>, Error> {
        let project = caller.project.id();
        let offset = limit.saturating_mul(page - 1);
        let read = move |conn: &mut Conn| {
            if let Some(cohort) = cohort
                && cohorts::find(conn, project, cohort)?.is_none()
            {
                return Ok(None);
            }
            Ok(Some(activity::page(conn, project, cohort, limit, offset)?))
        };
        let Some((rows, total_count)) = self.snapshot(project, read).await? else {
            return Ok(None);
        };
        let links = self.links(head);
        let link =
            |page: i64| links.with(&[("page", page.to_string()), ("limit", limit.to_string())]);
        Ok(Some(ActivityPage {
            next: (offset.saturating_add(limit) < total_count).then(|| link(page + 1)),
            previous: (page > 1).then(|| link(page - 1)),
            total_count,
            results: rows.into_iter().map(present::activity_entry).collect(),
        }))
    }
}
