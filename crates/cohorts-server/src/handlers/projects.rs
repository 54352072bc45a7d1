//! What a key reaches, and for whom it acts.

use cohorts_api::types::{PaginatedProjectList, Project, User};
use cohorts_api::{
    ProjectsApi, ProjectsListRequest, ProjectsListResponse, ProjectsRetrieveRequest,
    ProjectsRetrieveResponse, UsersRetrieveRequest, UsersRetrieveResponse,
};

use super::{Service, rows_of};
use crate::auth::Caller;
use crate::blocking;
use crate::error::Error;
use cohorts_store::{Conn, projects};

impl ProjectsApi for Service {
    async fn projects_list(
        &self,
        caller: Caller,
        request: ProjectsListRequest,
    ) -> Result<ProjectsListResponse, Error> {
        let (limit, offset) = rows_of(request.query.limit, request.query.offset);
        let read = move |conn: &mut Conn| {
            Ok(projects::page(
                conn,
                caller.reached.as_deref(),
                limit,
                offset,
            )?)
        };
        let (rows, count) = blocking::snapshot(&self.store, read).await?;
        let (next, previous) = self.links(&request.http).around(limit, offset, count);
        Ok(ProjectsListResponse::Status200(PaginatedProjectList {
            count,
            next,
            previous,
            results: rows.into_iter().map(shown).collect(),
        }))
    }

    async fn projects_retrieve(
        &self,
        caller: Caller,
        _request: ProjectsRetrieveRequest,
    ) -> Result<ProjectsRetrieveResponse, Error> {
        Ok(ProjectsRetrieveResponse::Status200(shown(caller.project)))
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
            team: shown(caller.project),
        }))
    }
}

fn shown(project: projects::Project) -> Project {
    Project {
        id: project.id,
        name: project.name,
        api_token: project.token,
        timezone: project.time_zone,
        created_at: project.created_at,
    }
}
