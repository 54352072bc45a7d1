//! The changes resource: the feed of one cohort, or of cohorts of a project, as pages and as streams.

use cohorts_api::types::ChangePage;
use cohorts_api::{
    ChangesApi, CohortsAllChangesRequest, CohortsAllChangesResponse, CohortsAllChangesSseRequest,
    CohortsAllChangesSseResponse, CohortsChangesRequest, CohortsChangesResponse,
    CohortsChangesSseRequest, CohortsChangesSseResponse,
};
use cohorts_store::ProjectId;

use super::Service;
use crate::auth::Caller;
use crate::error::Error;
use crate::feed::Feed;

mod origin;
mod page;
mod stream;

use origin::{FeedSource, FeedStart};
use page::PageLimits;
pub use page::Waited;

impl ChangesApi for Service {
    async fn cohorts_changes(
        &self,
        caller: Caller,
        request: CohortsChangesRequest,
    ) -> Result<CohortsChangesResponse, Error> {
        let (project, query) = (caller.project.id(), request.query);
        let source = FeedSource {
            feed: of_cohort(project, request.path.id),
            start: FeedStart::new(query.cursor, query.from)?,
            is_of_path: true,
        };
        let limits = PageLimits::new(query.limit, query.wait);
        let page = self.change_page(source, limits, &request.http).await?;
        Ok(CohortsChangesResponse::Status200(page.into()))
    }

    async fn cohorts_changes_sse(
        &self,
        caller: Caller,
        request: CohortsChangesSseRequest,
    ) -> Result<CohortsChangesSseResponse, Error> {
        let (project, query) = (caller.project.id(), request.query);
        let source = FeedSource {
            feed: of_cohort(project, request.path.id),
            start: FeedStart::of_stream(request.headers.last_event_id, query.cursor, query.from)?,
            is_of_path: true,
        };
        let stream = self.change_stream(caller, source, &request.http).await?;
        Ok(CohortsChangesSseResponse::Status200EventStream(
            stream.into(),
        ))
    }

    async fn cohorts_all_changes(
        &self,
        caller: Caller,
        request: CohortsAllChangesRequest,
    ) -> Result<CohortsAllChangesResponse, Error> {
        let (project, query) = (caller.project.id(), request.query);
        let source = FeedSource {
            feed: of_cohorts(project, &query.cohort_id)?,
            start: FeedStart::new(query.cursor, query.from)?,
            is_of_path: false,
        };
        let limits = PageLimits::new(query.limit, query.wait);
        let page = self.change_page(source, limits, &request.http).await?;
        Ok(CohortsAllChangesResponse::Status200(page.into()))
    }

    async fn cohorts_all_changes_sse(
        &self,
        caller: Caller,
        request: CohortsAllChangesSseRequest,
    ) -> Result<CohortsAllChangesSseResponse, Error> {
        let (project, query) = (caller.project.id(), request.query);
        let source = FeedSource {
            feed: of_cohorts(project, &query.cohort_id)?,
            start: FeedStart::of_stream(request.headers.last_event_id, query.cursor, query.from)?,
            is_of_path: false,
        };
        let stream = self.change_stream(caller, source, &request.http).await?;
        Ok(CohortsAllChangesSseResponse::Status200EventStream(
            stream.into(),
        ))
    }
}

/// The most cohorts of a feed with named cohorts.
const MAX_COHORTS: usize = 200;

fn of_cohort(project: ProjectId, id: i64) -> Feed {
    Feed::new(project, Some(vec![id]))
}

/// The feed of the cohorts that the parameter `cohort_id` names.
fn of_cohorts(project: ProjectId, texts: &[String]) -> Result<Feed, Error> {
    if texts.len() > MAX_COHORTS {
        return Err(Error::field(
            "cohort_id",
            format!("A feed has at most {MAX_COHORTS} cohorts; omit `cohort_id` for all cohorts."),
        ));
    }
    let ids = texts.iter().map(|text| text.trim().parse());
    let ids = ids.collect::<Result<Vec<i64>, _>>();
    let ids = ids.map_err(|_| Error::field("cohort_id", "A valid integer is required."))?;
    Ok(Feed::new(project, Some(ids).filter(|ids| !ids.is_empty())))
}

/// The frame of a page.
fn frame(cursor: String, has_more: bool) -> ChangePage {
    ChangePage {
        results: Vec::new(),
        cursor,
        has_more,
    }
}
