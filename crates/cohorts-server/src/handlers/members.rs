//! Who is in a static cohort: people added, removed and copied, each in one transaction with the count.

use cohorts_api::types::{Done, PersonToRemove, PersonsToAdd, UploadPage};
use cohorts_api::{
    CohortsAddPersonsToStaticCohortRequest, CohortsAddPersonsToStaticCohortResponse,
    CohortsRemovePersonFromStaticCohortRequest, CohortsRemovePersonFromStaticCohortResponse,
    CohortsUploadRequest, CohortsUploadResponse, CohortsUploadsRequest, CohortsUploadsResponse,
    MembersApi,
};
use roaring::RoaringBitmap;
use serde_json::Value;
use uuid::Uuid;

use super::persons::set;
use super::{Service, activity, uploads};
use crate::auth::Caller;
use crate::blocking;
use crate::error::Error;
use cohorts_store::cohorts;
use cohorts_store::members::StaticCohort;
use cohorts_store::{CohortId, Conn, ShardKey, members, persons};

/// People that one request may add.
const MOST: usize = 1_000;

impl MembersApi for Service {
    async fn cohorts_add_persons_to_static_cohort(
        &self,
        caller: Caller,
        request: CohortsAddPersonsToStaticCohortRequest,
    ) -> Result<CohortsAddPersonsToStaticCohortResponse, Error> {
        let id = CohortId(request.path.id);
        let add = move |conn: &mut Conn| add(conn, &caller, id, &request.body);
        blocking::transaction(&self.store, add).await?;
        Ok(CohortsAddPersonsToStaticCohortResponse::Status200(Done {
            success: true,
        }))
    }

    async fn cohorts_remove_person_from_static_cohort(
        &self,
        caller: Caller,
        request: CohortsRemovePersonFromStaticCohortRequest,
    ) -> Result<CohortsRemovePersonFromStaticCohortResponse, Error> {
        let id = CohortId(request.path.id);
        let remove = move |conn: &mut Conn| remove(conn, &caller, id, &request.body);
        blocking::transaction(&self.store, remove).await?;
        Ok(CohortsRemovePersonFromStaticCohortResponse::Status200(
            Done { success: true },
        ))
    }

    async fn cohorts_uploads(
        &self,
        caller: Caller,
        request: CohortsUploadsRequest,
    ) -> Result<CohortsUploadsResponse, Error> {
        let (project, id) = (caller.project.id(), CohortId(request.path.id));
        let (limit, offset) = (request.query.limit, request.query.offset);
        let links = self.links(&request.http);
        let read = move |conn: &mut Conn| {
            cohorts::find(conn, project, id)?.ok_or(Error::NotFound)?;
            Ok(cohorts_store::uploads::page(conn, id, limit, offset)?)
        };
        let (rows, count) = blocking::snapshot(&self.store, read).await?;
        let (next, previous) = links.around(limit, offset, count);
        Ok(CohortsUploadsResponse::Status200(UploadPage {
            count,
            next,
            previous,
            results: rows.into_iter().map(uploads::shown).collect(),
        }))
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
            cohorts_store::uploads::find(conn, id, path.upload_id)?.ok_or(Error::NotFound)
        };
        let found = blocking::snapshot(&self.store, read).await?;
        Ok(CohortsUploadResponse::Status200(uploads::shown(found)))
    }
}

fn add(conn: &mut Conn, caller: &Caller, id: CohortId, body: &PersonsToAdd) -> Result<(), Error> {
    let refuse = |detail: &str| Err(Error::whole(detail));
    let cohort = cohorts::lock(conn, caller.project.id(), id)?.ok_or(Error::NotFound)?;
    if !cohort.definition.is_static {
        return refuse("Can only add users to static cohorts");
    }
    let sent = body
        .person_ids
        .as_ref()
        .map_or(Value::Null, |ids| ids.parse());
    let Value::Array(ids) = sent else {
        return refuse("person_ids must be a list");
    };
    if ids.is_empty() {
        return refuse("person_ids cannot be empty");
    }
    if ids.len() > MOST {
        return refuse("List size exceeds limit");
    }
    let found = known(
        conn,
        caller.project.id().shard_key(),
        ids.iter().filter_map(Value::as_str),
    )?;
    if found.is_empty() {
        return refuse("No valid users to add to cohort");
    }
    members::edit(conn, &StaticCohort::from(&cohort), |members| {
        Ok(members | found)
    })?;
    activity::persons_edited(conn, caller, id, "persons_added_manually")
}

fn remove(
    conn: &mut Conn,
    caller: &Caller,
    id: CohortId,
    body: &PersonToRemove,
) -> Result<(), Error> {
    let refuse = |detail: &str| Err(Error::whole(detail));
    let cohort = cohorts::lock(conn, caller.project.id(), id)?.ok_or(Error::NotFound)?;
    if !cohort.definition.is_static {
        return refuse("Can only remove users from static cohorts");
    }
    let sent = body.person_id.as_ref().map_or(Value::Null, |id| id.parse());
    let text = match &sent {
        sent if is_blank(sent) => return refuse("person_id is required"),
        Value::String(text) => text,
        _ => return refuse("person_id must be a string"),
    };
    if text.parse::<Uuid>().is_err() {
        return refuse("person_id must be a valid UUID");
    }
    let found = known(
        conn,
        caller.project.id().shard_key(),
        [text.as_str()].into_iter(),
    )?;
    if found.is_empty() {
        return Err(Error::NoSuchPerson);
    }
    let before = members::read(
        conn,
        cohort.project().shard_key(),
        id,
        cohort.member_version,
    )?;
    if before.is_disjoint(&found) {
        return Ok(());
    }
    members::edit(conn, &StaticCohort::from(&cohort), |members| {
        Ok(members - found)
    })?;
    activity::persons_edited(conn, caller, id, "person_removed_manually")
}

/// What Python takes for false.
fn is_blank(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Bool(true) => false,
    }
}

/// The numbers of those people who are in the project. What is no uuid is nobody's.
pub(super) fn known<'a>(
    conn: &mut Conn,
    shard_key: ShardKey,
    ids: impl Iterator<Item = &'a str>,
) -> Result<RoaringBitmap, Error> {
    let uuids: Vec<Uuid> = ids.filter_map(|id| id.parse().ok()).collect();
    set(persons::ordinals_by_uuid(conn, shard_key, &uuids)?.into_values())
}
