//! People, as callers see them: one by one, in pages, or all at once as a file.

use cohorts_api::types::{PersonCohort, PersonCohorts};
use cohorts_api::{
    CohortsPersonsRequest, CohortsPersonsResponse, PersonsApi, PersonsCohortsRequest,
    PersonsCohortsResponse, PersonsDestroyRequest, PersonsDestroyResponse, PersonsListRequest,
    PersonsListResponse, PersonsRetrieveRequest, PersonsRetrieveResponse,
};
use uuid::Uuid;

use super::{Service, activity};
use crate::auth::Caller;
use crate::blocking;
use crate::error::Error;
use crate::ingest;
use cohorts_store::{CohortId, Conn, ShardKey};
use cohorts_store::{cohorts, events, members, persons, projects, segments, tombstones};

mod export;
mod select;
mod show;
mod table;

use select::{Selection, Whom};
pub(super) use select::{ordinal_of, set};
pub(super) use show::first as first_of;

/// The people asked for, in the form that the caller takes.
enum Answer {
    Page(cohorts_api::types::PersonPage),
    Csv(actix_web::HttpResponse),
    Ndjson(actix_web::HttpResponse),
}

impl Service {
    pub(super) async fn members(
        &self,
        caller: Caller,
        request: CohortsPersonsRequest,
    ) -> Result<CohortsPersonsResponse, Error> {
        let query = request.query;
        let whom = Whom::Members(CohortId(request.path.id));
        let asked = Selection::new(&caller, whom)
            .page(query.limit, query.offset, query.cursor.as_deref())?
            .narrowed(&caller, query.properties.as_deref(), query.search)?;
        let answer = self.people(asked, query.format.as_deref(), &request.http);
        Ok(match answer.await? {
            Answer::Page(page) => CohortsPersonsResponse::Status200(page),
            Answer::Csv(file) => CohortsPersonsResponse::Status200Csv(file),
            Answer::Ndjson(file) => CohortsPersonsResponse::Status200Ndjson(file),
        })
    }
}

impl PersonsApi for Service {
    async fn persons_list(
        &self,
        caller: Caller,
        request: PersonsListRequest,
    ) -> Result<PersonsListResponse, Error> {
        let query = request.query;
        let whom = query.distinct_id.map_or(Whom::Everyone, Whom::DistinctId);
        let asked = Selection::new(&caller, whom)
            .page(query.limit, query.offset, query.cursor.as_deref())?
            .narrowed(&caller, query.properties.as_deref(), query.search)?;
        let answer = self.people(asked, query.format.as_deref(), &request.http);
        Ok(match answer.await? {
            Answer::Page(page) => PersonsListResponse::Status200(page),
            Answer::Csv(file) => PersonsListResponse::Status200Csv(file),
            Answer::Ndjson(file) => PersonsListResponse::Status200Ndjson(file),
        })
    }

    async fn persons_retrieve(
        &self,
        caller: Caller,
        request: PersonsRetrieveRequest,
    ) -> Result<PersonsRetrieveResponse, Error> {
        let uuid = person_id(&request.path.uuid)?;
        let read = move |conn: &mut Conn| {
            let shard_key = caller.project.id().shard_key();
            let person = persons::find(conn, shard_key, uuid)?.ok_or(Error::NotFound)?;
            Ok(show::all(conn, shard_key, vec![person])?)
        };
        let shown = blocking::snapshot(&self.store, read).await?.pop();
        Ok(PersonsRetrieveResponse::Status200(
            shown.ok_or(Error::NotFound)?,
        ))
    }

    async fn persons_destroy(
        &self,
        caller: Caller,
        request: PersonsDestroyRequest,
    ) -> Result<PersonsDestroyResponse, Error> {
        let uuid = person_id(&request.path.uuid)?;
        let forget = move |conn: &mut Conn| {
            ingest::retried(Error::is_transient, || forget(conn, &caller, uuid))
        };
        blocking::read(&self.store, forget).await?;
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
        let found = blocking::read(&self.store, read)
            .await?
            .ok_or(Error::NotFound)?;
        let shown = found.into_iter().map(|one| PersonCohort {
            id: one.id,
            name: one.name,
            count: one.count,
        });
        let results = shown.collect();
        Ok(PersonsCohortsResponse::Status200(PersonCohorts { results }))
    }
}

/// What is no uuid is nobody's.
fn person_id(text: &str) -> Result<Uuid, Error> {
    Uuid::parse_str(text).map_err(|_| Error::NotFound)
}

/// Removes all that there is of a person.
///
/// The events that are there go first, which may take its time and locks nothing else; all the rest, and the events
/// that came meanwhile, go in one transaction.
fn forget(conn: &mut Conn, caller: &Caller, uuid: Uuid) -> Result<(), Error> {
    let shard_key = caller.project.id().shard_key();
    let person = persons::find(conn, shard_key, uuid)?.ok_or(Error::NotFound)?;
    let seen = events::log_head(conn, shard_key)?;
    let known = tombstones::with_merged(conn, shard_key, person.ordinal)?;
    events::delete_of_persons(conn, shard_key, &known, 0)?;
    cohorts_store::transaction(conn, |conn| {
        projects::lock(conn, caller.project.id())?;
        let cohorts = cohorts::lock_all(conn, caller.project.id())?;
        let seq = events::begin_write(conn, shard_key)?;
        let person = match persons::find(conn, shard_key, uuid)? {
            Some(person) => person,
            // Merged meanwhile: what is known of them is now known of somebody else, who is the same.
            None => survivor(conn, shard_key, ordinal_of(&person)?)?.ok_or(Error::NotFound)?,
        };
        leave(conn, caller, &cohorts, ordinal_of(&person)?)?;
        events::delete_of_persons(conn, shard_key, &known, seen)?;
        let mut merged = tombstones::with_merged(conn, shard_key, person.ordinal)?;
        merged.retain(|ordinal| !known.contains(ordinal));
        events::delete_of_persons(conn, shard_key, &merged, 0)?;
        persons::delete(conn, shard_key, seq, person.ordinal)?;
        Ok(segments::drop_all(conn, shard_key)?)
    })
}

fn survivor(
    conn: &mut Conn,
    shard_key: ShardKey,
    ordinal: u32,
) -> Result<Option<persons::Person>, Error> {
    let owner = tombstones::all(conn, shard_key)?.resolve(ordinal);
    let owner: Vec<i64> = owner.map(i64::from).into_iter().collect();
    Ok(persons::by_ordinals(conn, shard_key, &owner)?.pop())
}

/// Takes a person out of all cohorts. That of a list is written down, like any change of it.
fn leave(
    conn: &mut Conn,
    caller: &Caller,
    cohorts: &[cohorts::LockedCohort],
    person: u32,
) -> Result<(), Error> {
    let shard_key = caller.project.id().shard_key();
    let left = members::remove_everywhere(conn, shard_key, cohorts, person)?;
    cohorts::decrement_counts(conn, &left)?;
    let lists = cohorts.iter().filter(|one| one.is_static);
    for list in lists.filter(|one| left.contains(&one.id)) {
        let id = CohortId(list.id);
        activity::persons_edited(conn, caller, id, "person_removed_manually")?;
    }
    Ok(())
}
