//! Deletes many persons in one request, some of them at a time.

use std::borrow::Cow;

use cohorts_api::types::{PersonNotDeleted, PersonsDeleted, PersonsToDelete};
use cohorts_engine::stored_name;
use cohorts_store::idempotency::RequestAttempt;
use cohorts_store::{Conn, ShardKey, persons};
use uuid::Uuid;

use super::delete::{self, DoomedPerson, PERSONS_AT_ONCE};
use super::unsupported;
use crate::auth::Caller;
use crate::error::Error;
use crate::handlers::{Service, once};
use crate::ingest;

/// The most ids of a request.
const MAX_IDS: usize = 1_000;

/// The ids of the persons to delete.
#[derive(Debug, PartialEq)]
pub enum DoomedIds {
    Uuids(Vec<String>),
    DistinctIds(Vec<String>),
}

impl DoomedIds {
    /// Reads the body. An empty list counts as absent, as in PostHog.
    pub fn new(body: PersonsToDelete) -> Result<Self, Error> {
        unsupported::refuse_bulk_options([
            ("delete_events", body.delete_events),
            ("delete_recordings", body.delete_recordings),
            ("keep_person", body.keep_person),
        ])?;
        let sent = |ids: Option<Vec<String>>| ids.filter(|ids| !ids.is_empty());
        match (sent(body.distinct_ids), sent(body.ids)) {
            (Some(_), Some(_)) => Err(Error::whole(
                "You must provide either distinct_ids or ids, not both",
            )),
            (None, None) => Err(Error::whole(
                "You need to specify either distinct_ids or ids",
            )),
            (Some(ids), None) if ids.len() > MAX_IDS => Err(Error::whole(
                "You can only pass 1000 distinct_ids in one call",
            )),
            (None, Some(ids)) if ids.len() > MAX_IDS => {
                Err(Error::whole("You can only pass 1000 ids in one call"))
            }
            (Some(ids), None) => Ok(Self::DistinctIds(ids)),
            (None, Some(ids)) => Ok(Self::Uuids(ids)),
        }
    }

    /// The persons with these ids. Malformed and unknown ids are ignored.
    fn persons(&self, conn: &mut Conn, shard_key: ShardKey) -> Result<Vec<DoomedPerson>, Error> {
        let pairs: Vec<(Uuid, i64)> = match self {
            Self::Uuids(ids) => {
                let uuids = ids.iter().filter_map(|id| id.parse().ok());
                let uuids: Vec<Uuid> = uuids.collect();
                let ordinals = persons::ordinals_by_uuid(conn, shard_key, &uuids)?;
                ordinals.into_iter().collect()
            }
            Self::DistinctIds(ids) => {
                let ids: Vec<Cow<str>> = ids.iter().map(|id| stored_name(id)).collect();
                let ids: Vec<&str> = ids.iter().map(Cow::as_ref).collect();
                let persons = persons::persons_by_id(conn, shard_key, &ids)?;
                let pairs = persons.into_values();
                pairs.map(|(ordinal, uuid)| (uuid, ordinal)).collect()
            }
        };
        let doomed = |(uuid, ordinal)| DoomedPerson { uuid, ordinal };
        let mut persons: Vec<DoomedPerson> = pairs.into_iter().map(doomed).collect();
        persons.sort_unstable_by_key(|person| person.ordinal);
        // A person may have several of the ids.
        persons.dedup_by_key(|person| person.ordinal);
        Ok(persons)
    }
}

impl Service {
    /// Deletes the persons with these ids. Each part has a connection and transactions of its own. The last one marks the
    /// `Idempotency-Key`, so a retry after an interruption deletes the rest.
    pub(super) async fn delete_persons(
        &self,
        caller: Caller,
        ids: DoomedIds,
    ) -> Result<PersonsDeleted, Error> {
        let project = caller.project.id();
        let find = move |conn: &mut Conn| ids.persons(conn, project.shard_key());
        let doomed = self.snapshot(project, find).await?;
        let mut response = PersonsDeleted {
            persons_found: doomed.len() as i64,
            persons_deleted: 0,
            events_queued_for_deletion: false,
            recordings_queued_for_deletion: false,
            deletion_errors: Vec::new(),
        };
        let mut parts = doomed.chunks(PERSONS_AT_ONCE).peekable();
        while let Some(part) = parts.next() {
            let attempt = once::current().filter(|_| parts.peek().is_none());
            let deleted = self.delete_part(caller.clone(), part.to_vec(), attempt);
            match deleted.await {
                Ok(deleted) => response.persons_deleted += deleted as i64,
                // The request had no effect yet.
                Err(cause) if response.persons_deleted == 0 => return Err(cause),
                Err(cause) => {
                    log::error!("{} persons were not deleted: {cause}", part.len());
                    let failed = part.iter().map(|person| PersonNotDeleted {
                        person_uuid: person.uuid,
                    });
                    response.deletion_errors.extend(failed);
                }
            }
        }
        Ok(response)
    }

    async fn delete_part(
        &self,
        caller: Caller,
        part: Vec<DoomedPerson>,
        attempt: Option<RequestAttempt>,
    ) -> Result<usize, Error> {
        let project = caller.project.id();
        let delete = move |conn: &mut Conn| {
            ingest::retried(Error::is_transient, || {
                delete::delete_all(conn, &caller, &part, attempt.as_ref())
            })
        };
        self.write(project, delete).await
    }
}
