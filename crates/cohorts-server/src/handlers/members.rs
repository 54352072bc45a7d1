//! The members of static cohorts: persons are added or removed in one transaction with the count; uploads are listed.

use cohorts_api::types::{Done, PersonToRemove, PersonsToAdd, Upload, UploadPage};
use cohorts_api::{
    CohortsAddPersonsToStaticCohortPartialUpdateRequest,
    CohortsAddPersonsToStaticCohortPartialUpdateResponse,
    CohortsRemovePersonFromStaticCohortPartialUpdateRequest,
    CohortsRemovePersonFromStaticCohortPartialUpdateResponse, CohortsUploadRequest,
    CohortsUploadResponse, CohortsUploadsRequest, CohortsUploadsResponse, MembersApi, RawJson,
};
use cohorts_store::changes::{self, Cause, StaticCohort};
use cohorts_store::pages::RowSize;
use cohorts_store::{CohortId, Conn, ProjectId, cohorts, members, uploads};
use serde_json::Value;
use uuid::Uuid;

use super::responses::ListRows;
use super::{Service, activity_log, limit_and_offset, lookup, present};
use crate::auth::Caller;
use crate::error::Error;

/// The most persons that one request may add.
const MAX_ADDED_PERSONS: usize = 1_000;

impl MembersApi for Service {
    async fn cohorts_add_persons_to_static_cohort_partial_update(
        &self,
        caller: Caller,
        request: CohortsAddPersonsToStaticCohortPartialUpdateRequest,
    ) -> Result<CohortsAddPersonsToStaticCohortPartialUpdateResponse, Error> {
        let (project, id) = (caller.project.id(), CohortId(request.path.id));
        let add = move |conn: &mut Conn| add(conn, &caller, id, &request.body);
        self.transaction(project, add).await?;
        Ok(CohortsAddPersonsToStaticCohortPartialUpdateResponse::Status200(Done { success: true }))
    }

    async fn cohorts_remove_person_from_static_cohort_partial_update(
        &self,
        caller: Caller,
        request: CohortsRemovePersonFromStaticCohortPartialUpdateRequest,
    ) -> Result<CohortsRemovePersonFromStaticCohortPartialUpdateResponse, Error> {
        let (project, id) = (caller.project.id(), CohortId(request.path.id));
        let remove = move |conn: &mut Conn| remove(conn, &caller, id, &request.body);
        self.transaction(project, remove).await?;
        Ok(
            CohortsRemovePersonFromStaticCohortPartialUpdateResponse::Status200(Done {
                success: true,
            }),
        )
    }

    async fn cohorts_uploads(
        &self,
        caller: Caller,
        request: CohortsUploadsRequest,
    ) -> Result<CohortsUploadsResponse, Error> {
        let (project, id) = (caller.project.id(), CohortId(request.path.id));
        let (limit, offset) = limit_and_offset(request.query.limit, request.query.offset);
        let read = move |conn: &mut Conn| {
            cohorts::find(conn, project, id)?.ok_or(Error::NotFound)?;
            Ok(uploads::page(conn, project, id, limit, offset)?)
        };
        let links = self.links(&request.http);
        let frame = move |count| {
            let (next, previous) = links.around(limit, offset, count);
            UploadPage {
                count,
                next,
                previous,
                results: Vec::new(),
            }
        };
        let list = self.list(project, &request.http, UploadRows(project, id), read, frame);
        Ok(CohortsUploadsResponse::Status200(list.await?.into()))
    }

    async fn cohorts_upload(
        &self,
        caller: Caller,
        request: CohortsUploadRequest,
    ) -> Result<CohortsUploadResponse, Error> {
        let (project, path) = (caller.project.id(), request.path);
        let read = move |conn: &mut Conn| {
            let id = CohortId(path.id);
            cohorts::find(conn, project, id)?.ok_or(Error::NotFound)?;
            uploads::find(conn, project, id, path.upload_id)?.ok_or(Error::NotFound)
        };
        let row = self.snapshot(project, read).await?;
        Ok(CohortsUploadResponse::Status200(present::upload(row)))
    }
}

/// The uploads of a cohort.
struct UploadRows(ProjectId, CohortId);

impl ListRows for UploadRows {
    type Row = Upload;

    fn sizes(&self, conn: &mut Conn, ids: &[i64]) -> Result<Vec<RowSize>, Error> {
        Ok(uploads::sizes(conn, self.0, self.1, ids)?)
    }

    fn rows(&self, conn: &mut Conn, ids: &[i64]) -> Result<Vec<Upload>, Error> {
        let rows = uploads::by_ids(conn, self.0, self.1, ids)?;
        Ok(rows.into_iter().map(present::upload).collect())
    }
}

fn add(conn: &mut Conn, caller: &Caller, id: CohortId, body: &PersonsToAdd) -> Result<(), Error> {
    let cohort = cohorts::lock(conn, caller.project.id(), id)?.ok_or(Error::NotFound)?;
    if !cohort.definition.is_static {
        return Err(Error::whole("Can only add users to static cohorts"));
    }
    let ids = ids_to_add(body)?;
    let ids = ids.iter().filter_map(Value::as_str);
    let persons = lookup::persons_with_uuids(conn, caller.project.id().shard_key(), ids)?;
    if persons.is_empty() {
        return Err(Error::whole("No valid users to add to cohort"));
    }
    let change = |members| Ok(members | persons);
    changes::edit(conn, &StaticCohort::from(&cohort), Cause::Manual, change)?;
    activity_log::persons_edited(conn, caller, id, "persons_added_manually")
}

fn ids_to_add(body: &PersonsToAdd) -> Result<Vec<Value>, Error> {
    let ids = body.person_ids.as_ref();
    let Value::Array(ids) = ids.map_or(Value::Null, RawJson::parse) else {
        return Err(Error::whole("person_ids must be a list"));
    };
    if ids.is_empty() {
        return Err(Error::whole("person_ids cannot be empty"));
    }
    if ids.len() > MAX_ADDED_PERSONS {
        return Err(Error::whole("List size exceeds limit"));
    }
    Ok(ids)
}

fn remove(
    conn: &mut Conn,
    caller: &Caller,
    id: CohortId,
    body: &PersonToRemove,
) -> Result<(), Error> {
    let shard_key = caller.project.id().shard_key();
    let cohort = cohorts::lock(conn, caller.project.id(), id)?.ok_or(Error::NotFound)?;
    if !cohort.definition.is_static {
        return Err(Error::whole("Can only remove users from static cohorts"));
    }
    let uuid = uuid_to_remove(body)?;
    let person = lookup::persons_with_uuids(conn, shard_key, [uuid.as_str()])?;
    if person.is_empty() {
        return Err(Error::PersonNotFound);
    }
    let members = members::read(conn, shard_key, id, cohort.member_version)?;
    if members.is_disjoint(&person) {
        return Ok(());
    }
    let change = |members| Ok(members - person);
    changes::edit(conn, &StaticCohort::from(&cohort), Cause::Manual, change)?;
    activity_log::persons_edited(conn, caller, id, "person_removed_manually")
}

fn uuid_to_remove(body: &PersonToRemove) -> Result<String, Error> {
    let id = body.person_id.as_ref();
    let uuid = match id.map_or(Value::Null, RawJson::parse) {
        id if is_falsy(&id) => return Err(Error::whole("person_id is required")),
        Value::String(uuid) => uuid,
        _ => return Err(Error::whole("person_id must be a string")),
    };
    if uuid.parse::<Uuid>().is_err() {
        return Err(Error::whole("person_id must be a valid UUID"));
    }
    Ok(uuid)
}

/// Whether Python, and therefore PostHog, treats the value as false.
fn is_falsy(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Bool(true) => false,
    }
}
