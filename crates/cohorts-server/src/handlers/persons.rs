//! The persons resource, and the members of a cohort: one person with its events, a page, or a file with all of them.

use cohorts_api::types::{Done, PersonCohort, PersonCohorts, PersonValue};
use cohorts_api::{
    CohortsPersonsCsvRequest, CohortsPersonsCsvResponse, CohortsPersonsNdjsonRequest,
    CohortsPersonsNdjsonResponse, CohortsPersonsRetrieveRequest, CohortsPersonsRetrieveResponse,
    EventsListRequest, EventsListResponse, PersonsApi, PersonsBulkDeleteCreateRequest,
    PersonsBulkDeleteCreateResponse, PersonsCohortsRetrieveRequest, PersonsCohortsRetrieveResponse,
    PersonsCsvRequest, PersonsCsvResponse, PersonsDeletePropertyCreateRequest,
    PersonsDeletePropertyCreateResponse, PersonsDestroyRequest, PersonsDestroyResponse,
    PersonsListRequest, PersonsListResponse, PersonsNdjsonRequest, PersonsNdjsonResponse,
    PersonsRetrieveRequest, PersonsRetrieveResponse, PersonsUpdatePropertyCreateRequest,
    PersonsUpdatePropertyCreateResponse, PersonsValuesRetrieveRequest,
    PersonsValuesRetrieveResponse, RequestHead,
};
use cohorts_store::members::{self, Membership};
use cohorts_store::{CohortId, Conn, ProjectId, persons};
use uuid::Uuid;

use super::lookup::PersonId;
use super::{Service, present};
use crate::auth::Caller;
use crate::error::Error;
use crate::index::IndexedStore;
use crate::index::look_ups::KnownMembers;
use crate::index::snapshot::ValueOwner;
use crate::ingest;

mod bulk_delete;
mod cursor;
mod delete;
mod events;
mod export;
mod page;
mod property;
mod query;
mod reader;
mod selection;
mod table;
mod unsupported;

use bulk_delete::DoomedIds;
use events::EventsQuery;
use property::PropertyChange;
use query::{PersonParameters, PersonQuery, PersonSource};

/// The parameters of an operation that lists persons. Each operation has a type of its own for them.
macro_rules! parameters {
    ($query:expr) => {
        PersonParameters {
            limit: $query.limit,
            offset: $query.offset,
            cursor: $query.cursor,
            distinct_id: $query.distinct_id,
            email: $query.email,
            properties: $query.properties,
            search: $query.search,
        }
    };
}

impl Service {
    pub(super) async fn members(
        &self,
        caller: Caller,
        request: CohortsPersonsRetrieveRequest,
    ) -> Result<CohortsPersonsRetrieveResponse, Error> {
        let (query, head) = (request.query, &request.http);
        let query = members_of(&caller, request.path.id, head, parameters!(query))?
            .at(query.as_of)?
            .with_total(query.include_total == Some(true));
        let page = self.person_page(query, head).await?;
        Ok(CohortsPersonsRetrieveResponse::Status200(page.into()))
    }

    pub(super) async fn members_as_csv(
        &self,
        caller: Caller,
        request: CohortsPersonsCsvRequest,
    ) -> Result<CohortsPersonsCsvResponse, Error> {
        let (query, head) = (request.query, &request.http);
        let has_mark = query.bom == Some(true);
        let query =
            members_of(&caller, request.path.id, head, parameters!(query))?.at(query.as_of)?;
        let file = self.csv(query, has_mark, head).await?;
        Ok(CohortsPersonsCsvResponse::Status200Csv(file.into()))
    }

    pub(super) async fn members_as_ndjson(
        &self,
        caller: Caller,
        request: CohortsPersonsNdjsonRequest,
    ) -> Result<CohortsPersonsNdjsonResponse, Error> {
        let (query, head) = (request.query, &request.http);
        let query =
            members_of(&caller, request.path.id, head, parameters!(query))?.at(query.as_of)?;
        let file = self.ndjson(query, head).await?;
        Ok(CohortsPersonsNdjsonResponse::Status200Ndjson(file.into()))
    }
}

/// The members of the cohort in the path.
fn members_of(
    caller: &Caller,
    id: i64,
    head: &RequestHead,
    parameters: PersonParameters,
) -> Result<PersonQuery, Error> {
    unsupported::refuse_selections(head)?;
    let source = PersonSource::Members(CohortId(id));
    PersonQuery::new(caller, source).with_parameters(caller, parameters)
}

/// The persons of the project, or those of the parameter `cohort`.
fn persons_of(
    caller: &Caller,
    cohort: Option<i64>,
    head: &RequestHead,
    parameters: PersonParameters,
) -> Result<PersonQuery, Error> {
    unsupported::refuse_selections(head)?;
    let source = match cohort {
        Some(id) => PersonSource::MembersOf(CohortId(id)),
        None => PersonSource::Project,
    };
    PersonQuery::new(caller, source).with_parameters(caller, parameters)
}

impl Service {
    /// The ordinal of a person. `members` are those of the project, and were read before.
    async fn ordinal(
        &self,
        project: ProjectId,
        members: &KnownMembers,
        person: PersonId,
    ) -> Result<u32, Error> {
        if let Some(ordinal) = self.known_persons.get(project, members, &person) {
            return Ok(ordinal);
        }
        let id = person.clone();
        let find = move |conn: &mut Conn| id.ordinal(conn, project.shard_key());
        let ordinal = self.read(project, find).await?;
        self.known_persons.keep(project, members, person, ordinal);
        Ok(ordinal)
    }
}

impl PersonsApi for Service {
    async fn persons_list(
        &self,
        caller: Caller,
        request: PersonsListRequest,
    ) -> Result<PersonsListResponse, Error> {
        let (query, head) = (request.query, &request.http);
        let query = persons_of(&caller, query.cohort, head, parameters!(query))?
            .with_total(query.include_total == Some(true));
        let page = self.person_page(query, head).await?;
        Ok(PersonsListResponse::Status200(page.into()))
    }

    async fn persons_csv(
        &self,
        caller: Caller,
        request: PersonsCsvRequest,
    ) -> Result<PersonsCsvResponse, Error> {
        let (query, head) = (request.query, &request.http);
        let has_mark = query.bom == Some(true);
        let query = persons_of(&caller, query.cohort, head, parameters!(query))?;
        let file = self.csv(query, has_mark, head).await?;
        Ok(PersonsCsvResponse::Status200Csv(file.into()))
    }

    async fn persons_ndjson(
        &self,
        caller: Caller,
        request: PersonsNdjsonRequest,
    ) -> Result<PersonsNdjsonResponse, Error> {
        let (query, head) = (request.query, &request.http);
        let query = persons_of(&caller, query.cohort, head, parameters!(query))?;
        let file = self.ndjson(query, head).await?;
        Ok(PersonsNdjsonResponse::Status200Ndjson(file.into()))
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
        self.write(project, delete).await?;
        Ok(PersonsDestroyResponse::Status204)
    }

    async fn persons_cohorts_retrieve(
        &self,
        caller: Caller,
        request: PersonsCohortsRetrieveRequest,
    ) -> Result<PersonsCohortsRetrieveResponse, Error> {
        let query = request.query;
        let person = PersonId::new(query.person_id, query.distinct_id)?;
        let project = caller.project.id();
        let cohorts = match self.store.known_members(project) {
            Some(members) => members.of(self.ordinal(project, &members, person).await?),
            None => {
                let store = self.store.clone();
                let read = move |conn: &mut Conn| cohorts_of(conn, &store, project, &person);
                self.snapshot(project, read).await?
            }
        };
        let cohorts = cohorts.into_iter();
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
        let (key, prefix) = (query.key, query.value);
        let values = self
            .common_values(project, ValueOwner::Persons, key, prefix)
            .await?;
        let values = values.into_iter();
        let values = values.map(|(name, count)| PersonValue { name, count });
        Ok(PersonsValuesRetrieveResponse::Status200(values.collect()))
    }

    async fn events_list(
        &self,
        caller: Caller,
        request: EventsListRequest,
    ) -> Result<EventsListResponse, Error> {
        unsupported::refuse_event_selections(&request.http)?;
        let project = caller.project.id();
        let query = EventsQuery::new(project, request.query)?;
        let rows = self.read(project, move |conn| query.read(conn)).await?;
        let page = rows.present(&self.links(&request.http));
        Ok(EventsListResponse::Status200(page))
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

/// The cohorts of a person, which are kept in memory for the next look-ups of the project.
fn cohorts_of(
    conn: &mut Conn,
    store: &IndexedStore,
    project: ProjectId,
    person: &PersonId,
) -> Result<Vec<Membership>, Error> {
    if let Some(members) = store.read_members(conn, project)? {
        return Ok(members.of(person.ordinal(conn, project.shard_key())?));
    }
    let uuid = person.uuid(conn, project.shard_key())?;
    members::memberships(conn, project, uuid)?.ok_or(Error::NotFound)
}

/// A malformed UUID in a path is a person that does not exist.
fn path_uuid(text: &str) -> Result<Uuid, Error> {
    Uuid::parse_str(text).map_err(|_| Error::NotFound)
}
