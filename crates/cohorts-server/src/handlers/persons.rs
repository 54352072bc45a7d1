//! The persons resource, and the members of a cohort: one person, a page, or a file with all of them.

use actix_web::HttpResponse;
use cohorts_api::types::{Done, PersonCohort, PersonCohorts};
use cohorts_api::{
    CohortsPersonsRetrieveRequest, CohortsPersonsRetrieveResponse, PersonsApi,
    PersonsBulkDeleteCreateRequest, PersonsBulkDeleteCreateResponse, PersonsCohortsRetrieveQuery,
    PersonsCohortsRetrieveRequest, PersonsCohortsRetrieveResponse,
    PersonsDeletePropertyCreateRequest, PersonsDeletePropertyCreateResponse, PersonsDestroyRequest,
    PersonsDestroyResponse, PersonsListRequest, PersonsListResponse, PersonsRetrieveRequest,
    PersonsRetrieveResponse, PersonsUpdatePropertyCreateRequest,
    PersonsUpdatePropertyCreateResponse, PersonsValuesRetrieveRequest,
    PersonsValuesRetrieveResponse,
};
use cohorts_engine::stored_name;
use cohorts_store::{CohortId, Conn, ShardKey, members, persons};
use uuid::Uuid;

use super::{Service, present};
use crate::auth::Caller;
use crate::error::Error;
use crate::ingest;

mod bulk_delete;
mod cursor;
mod delete;
mod export;
mod page;
mod property;
mod query;
mod reader;
mod selection;
mod table;
mod unsupported;
mod values;

use bulk_delete::DoomedIds;
use export::ExportFormat;
use property::PropertyChange;
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
        request: CohortsPersonsRetrieveRequest,
    ) -> Result<CohortsPersonsRetrieveResponse, Error> {
        unsupported::refuse_selections(&request.http)?;
        let parameters = request.query;
        let source = PersonSource::Members(CohortId(request.path.id));
        let query = PersonQuery::new(&caller, source)
            .with_page(
                parameters.limit,
                parameters.offset,
                parameters.cursor.as_deref(),
            )?
            .with_total(parameters.include_total == Some(true))
            .with_identity(parameters.distinct_id, parameters.email)
            .with_criteria(&caller, parameters.properties.as_deref(), parameters.search)?;
        let format = ExportFormat {
            name: parameters.format.as_deref(),
            has_mark: parameters.bom.unwrap_or_default(),
        };
        let list = self.persons(query, format, &request.http);
        Ok(match list.await? {
            PersonList::Page(page) => CohortsPersonsRetrieveResponse::Status200(page.into()),
            PersonList::Csv(file) => CohortsPersonsRetrieveResponse::Status200Csv(file.into()),
            PersonList::Ndjson(file) => {
                CohortsPersonsRetrieveResponse::Status200Ndjson(file.into())
            }
        })
    }
}

impl PersonsApi for Service {
    async fn persons_list(
        &self,
        caller: Caller,
        request: PersonsListRequest,
    ) -> Result<PersonsListResponse, Error> {
        unsupported::refuse_selections(&request.http)?;
        let parameters = request.query;
        let source = match parameters.cohort {
            Some(id) => {
                caller.require("cohort:read")?;
                PersonSource::MembersOf(CohortId(id))
            }
            None => PersonSource::Project,
        };
        let query = PersonQuery::new(&caller, source)
            .with_page(
                parameters.limit,
                parameters.offset,
                parameters.cursor.as_deref(),
            )?
            .with_total(parameters.include_total == Some(true))
            .with_identity(parameters.distinct_id, parameters.email)
            .with_criteria(&caller, parameters.properties.as_deref(), parameters.search)?;
        let format = ExportFormat {
            name: parameters.format.as_deref(),
            has_mark: parameters.bom.unwrap_or_default(),
        };
        let list = self.persons(query, format, &request.http);
        Ok(match list.await? {
            PersonList::Page(page) => PersonsListResponse::Status200(page.into()),
            PersonList::Csv(file) => PersonsListResponse::Status200Csv(file.into()),
            PersonList::Ndjson(file) => PersonsListResponse::Status200Ndjson(file.into()),
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
        unsupported::refuse_deletions(&request.http)?;
        let (project, uuid) = (caller.project.id(), path_uuid(&request.path.uuid)?);
        let delete = move |conn: &mut Conn| {
            ingest::retried(Error::is_transient, || delete::delete(conn, &caller, uuid))
        };
        self.read(project, delete).await?;
        Ok(PersonsDestroyResponse::Status204)
    }

    async fn persons_cohorts_retrieve(
        &self,
        caller: Caller,
        request: PersonsCohortsRetrieveRequest,
    ) -> Result<PersonsCohortsRetrieveResponse, Error> {
        let (project, person) = (caller.project.id(), PersonId::new(request.query)?);
        let read = move |conn: &mut Conn| {
            let uuid = match person {
                PersonId::Uuid(uuid) => uuid,
                PersonId::DistinctId(id) => uuid_of(conn, project.shard_key(), &id)?,
            };
            Ok(members::memberships(conn, project, uuid)?)
        };
        let cohorts = self.snapshot(project, read).await?;
        let cohorts = cohorts.ok_or(Error::NotFound)?.into_iter();
        let results = cohorts.map(|cohort| PersonCohort {
            id: cohort.id,
            name: cohort.name,
            count: cohort.count,
        });
        Ok(PersonsCohortsRetrieveResponse::Status200(PersonCohorts {
            results: results.collect(),
        }))
    }

    async fn persons_values_retrieve(
        &self,
        caller: Caller,
        request: PersonsValuesRetrieveRequest,
    ) -> Result<PersonsValuesRetrieveResponse, Error> {
        let (project, query) = (caller.project.id(), request.query);
        let (key, term) = (
            query.key.unwrap_or_default(),
            query.value.unwrap_or_default(),
        );
        let values = self.property_values(project, key, term).await?;
        Ok(PersonsValuesRetrieveResponse::Status200(values))
    }

    async fn persons_update_property_create(
        &self,
        caller: Caller,
        request: PersonsUpdatePropertyCreateRequest,
    ) -> Result<PersonsUpdatePropertyCreateResponse, Error> {
        let change = PropertyChange::set(&request.body)?;
        let uuid = path_uuid(&request.path.uuid)?;
        self.change_property(&caller, uuid, change).await?;
        Ok(PersonsUpdatePropertyCreateResponse::Status202)
    }

    async fn persons_delete_property_create(
        &self,
        caller: Caller,
        request: PersonsDeletePropertyCreateRequest,
    ) -> Result<PersonsDeletePropertyCreateResponse, Error> {
        let change = PropertyChange::unset(&request.body)?;
        let uuid = path_uuid(&request.path.uuid)?;
        self.change_property(&caller, uuid, change).await?;
        Ok(PersonsDeletePropertyCreateResponse::Status201(Done {
            success: true,
        }))
    }

    async fn persons_bulk_delete_create(
        &self,
        caller: Caller,
        request: PersonsBulkDeleteCreateRequest,
    ) -> Result<PersonsBulkDeleteCreateResponse, Error> {
        unsupported::refuse_bulk_deletions(&request.http)?;
        let ids = DoomedIds::new(request.body)?;
        let response = self.delete_persons(caller, ids).await?;
        Ok(PersonsBulkDeleteCreateResponse::Status202(response))
    }
}

/// How a request names a person.
enum PersonId {
    Uuid(Uuid),
    DistinctId(String),
}

impl PersonId {
    fn new(query: PersonsCohortsRetrieveQuery) -> Result<Self, Error> {
        match (query.person_id, query.distinct_id) {
            (Some(_), Some(_)) => Err(Error::field(
                "distinct_id",
                "Send `person_id` or `distinct_id`, not both.",
            )),
            (None, Some(id)) => Ok(Self::DistinctId(stored_name(&id).into_owned())),
            (Some(id), None) => Uuid::parse_str(&id)
                .map(Self::Uuid)
                .map_err(|_| Error::field("person_id", "Must be a valid UUID.")),
            (None, None) => Err(Error::field("person_id", "This field is required.")),
        }
    }
}

/// The uuid of the person with a distinct id.
fn uuid_of(conn: &mut Conn, shard_key: ShardKey, distinct_id: &str) -> Result<Uuid, Error> {
    let ordinals = persons::ordinals_by_id(conn, shard_key, &[distinct_id])?;
    let ordinals: Vec<i64> = ordinals.into_values().collect();
    let uuids = persons::uuids_by_ordinal(conn, shard_key, &ordinals)?;
    uuids.into_values().next().ok_or(Error::NotFound)
}

/// A malformed UUID in a path is a person that does not exist.
fn path_uuid(text: &str) -> Result<Uuid, Error> {
    Uuid::parse_str(text).map_err(|_| Error::NotFound)
}
