//! The projects that a key may access, and the teammate that it acts for.

use cohorts_api::types::{PaginatedProjectList, User};
use cohorts_api::{
    ProjectsApi, ProjectsListRequest, ProjectsListResponse, ProjectsRetrieveRequest,
    ProjectsRetrieveResponse, UsersRetrieveRequest, UsersRetrieveResponse,
};
use cohorts_store::{Conn, projects};

use super::{Service, limit_and_offset, present};
use crate::auth::Caller;
use crate::error::Error;

impl ProjectsApi for Service {
    async fn projects_list(
        &self,
        caller: Caller,
        request: ProjectsListRequest,
    ) -> Result<ProjectsListResponse, Error> {
        let (limit, offset) = limit_and_offset(request.query.limit, request.query.offset);
        let project = caller.project.id();
        let read = move |conn: &mut Conn| {
            let rows = projects::page(conn, caller.projects.as_deref(), limit, offset)?;
            Ok(rows)
        };
        let (rows, count) = self.snapshot(project, read).await?;
        let (next, previous) = self.links(&request.http).around(limit, offset, count);
        Ok(ProjectsListResponse::Status200(PaginatedProjectList {
            count,
            next,
            previous,
            results: rows.into_iter().map(present::project).collect(),
        }))
    }

    async fn projects_retrieve(
        &self,
        caller: Caller,
        _request: ProjectsRetrieveRequest,
    ) -> Result<ProjectsRetrieveResponse, Error> {
        let project = present::project(caller.project);
        Ok(ProjectsRetrieveResponse::Status200(project))
    }

    async fn users_retrieve(
        &self,
        caller: Caller,
        _request: UsersRetrieveRequest,
    ) -> Result<UsersRetrieveResponse, Error> {
        let teammate = caller.teammate;
        Ok(UsersRetrieveResponse::Status200(User {
            id: teammate.id,
            uuid: teammate.uuid,
            distinct_id: Some(teammate.uuid.to_string()),
            first_name: teammate.first_name,
            last_name: String::new(),
            email: teammate.email,
            is_email_verified: None,
            date_joined: teammate.created_at,
            team: present::project(caller.project),
        }))
    }
}
