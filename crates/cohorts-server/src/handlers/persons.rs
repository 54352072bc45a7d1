//! The persons resource, and the members of a cohort: one person, a page, or a file with all of them.

use actix_web::HttpResponse;
use cohorts_api::types::{PersonCohort, PersonCohorts};
use cohorts_api::{
    CohortsPersonsRequest, CohortsPersonsResponse, PersonsApi, PersonsCohortsRequest,
    PersonsCohortsResponse, PersonsDestroyRequest, PersonsDestroyResponse, PersonsListRequest,
    PersonsListResponse, PersonsRetrieveRequest, PersonsRetrieveResponse,
};
use cohorts_store::{CohortId, Conn, members, persons};
use uuid::Uuid;

use super::{Service, present};
use crate::auth::Caller;
use crate::error::Error;
use crate::ingest;

mod cursor;
mod delete;
mod export;
mod page;
mod query;
mod reader;
mod selection;
mod table;

use export::ExportFormat;
use query::{PersonQuery, PersonSource};

/// Persons in the format that the caller accepts.
enum PersonList {
    Page(HttpResponse),
    Csv(HttpResponse),
    Ndjson(HttpResponse),
}

impl Service {
    pub(super) async fn members(
        &self,
        caller: Caller,
        request: CohortsPersonsRequest,
    ) -> Result<CohortsPersonsResponse, Error> {
        let parameters = request.query;
        let source = PersonSource::Members(CohortId(request.path.id));
        let query = PersonQuery::new(&caller, source)
            .with_page(
                parameters.limit,
                parameters.offset,
                parameters.cursor.as_deref(),
            )?
            .with_criteria(&caller, parameters.properties.as_deref(), parameters.search)?;
        let format = ExportFormat {
            name: parameters.format.as_deref(),
            has_mark: parameters.bom.unwrap_or_default(),
        };
        let list = self.persons(query, format, &request.http);
        Ok(match list.await? {
            PersonList::Page(page) => CohortsPersonsResponse::Status200(page),
            PersonList::Csv(file) => CohortsPersonsResponse::Status200Csv(file),
            PersonList::Ndjson(file) => CohortsPersonsResponse::Status200Ndjson(file),
        })
    }
}

impl PersonsApi for Service {
    async fn persons_list(
        &self,
        caller: Caller,
        request: PersonsListRequest,
    ) -> Result<PersonsListResponse, Error> {
        let parameters = request.query;
        let source = match parameters.distinct_id {
            Some(id) => PersonSource::DistinctId(id),
            None => PersonSource::Project,
        };
        let query = PersonQuery::new(&caller, source)
            .with_page(
                parameters.limit,
                parameters.offset,
                parameters.cursor.as_deref(),
            )?
            .with_criteria(&caller, parameters.properties.as_deref(), parameters.search)?;
        let format = ExportFormat {
            name: parameters.format.as_deref(),
            has_mark: parameters.bom.unwrap_or_default(),
        };
        let list = self.persons(query, format, &request.http);
        Ok(match list.await? {
            PersonList::Page(page) => PersonsListResponse::Status200(page),
            PersonList::Csv(file) => PersonsListResponse::Status200Csv(file),
            PersonList::Ndjson(file) => PersonsListResponse::Status200Ndjson(file),
        })
    }

    async fn persons_retrieve(
        &self,
        caller: Caller,
        request: PersonsRetrieveRequest,
    ) -> Result<PersonsRetrieveResponse, Error> {
        let (project, uuid) = (caller.project.id(), path_uuid(&request.path.uuid)?);
        let read = move |conn: &mut Conn| {
            let shard_key = project.shard_key();
            let row = persons::find(conn, shard_key, uuid)?.ok_or(Error::NotFound)?;
            Ok(present::persons(conn, shard_key, vec![row])?.pop())
        };
        let person = self.snapshot(project, read).await?;
        let person = person.ok_or(Error::NotFound)?;
        Ok(PersonsRetrieveResponse::Status200(person))
    }

    async fn persons_destroy(
        &self,
        caller: Caller,
        request: PersonsDestroyRequest,
    ) -> Result<PersonsDestroyResponse, Error> {
        let (project, uuid) = (caller.project.id(), path_uuid(&request.path.uuid)?);
        let delete = move |conn: &mut Conn| {
            ingest::retried(Error::is_transient, || delete::delete(conn, &caller, uuid))
        };
        self.read(project, delete).await?;
        Ok(PersonsDestroyResponse::Status204)
    }

    async fn persons_cohorts(
        &self,
        caller: Caller,
        request: PersonsCohortsRequest,
    ) -> Result<PersonsCohortsResponse, Error> {
        let uuid = Uuid::parse_str(&request.query.person_id)
            .map_err(|_| Error::field("person_id", "Must be a valid UUID."))?;
        let project = caller.project.id();
        let read = move |conn: &mut Conn| Ok(members::memberships(conn, project, uuid)?);
        let cohorts = self.read(project, read).await?;
        let cohorts = cohorts.ok_or(Error::NotFound)?.into_iter();
        let results = cohorts.map(|cohort| PersonCohort {
            id: cohort.id,
            name: cohort.name,
            count: cohort.count,
        });
        Ok(PersonsCohortsResponse::Status200(PersonCohorts {
            results: results.collect(),
        }))
    }
}

/// A malformed UUID in a path is a person that does not exist.
fn path_uuid(text: &str) -> Result<Uuid, Error> {
    Uuid::parse_str(text).map_err(|_| Error::NotFound)
}
