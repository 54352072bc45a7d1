//! Changes of one property of a person. They are captured as events of the person, like those of clients.

use std::sync::Arc;

use chrono::Utc;
use cohorts_api::types::{PersonPropertyToDelete, PersonPropertyValue};
use cohorts_api::{MemoryBudget, RawJson, Reservation};
use cohorts_store::{Conn, Error as StoreError, ShardKey, persons};
use serde_json::Value;
use uuid::Uuid;

use crate::auth::Caller;
use crate::error::Error;
use crate::handlers::{Service, once};
use crate::ingest::{self, Arrival, CommitError, Item, LONGEST_PROPERTY_NAME};

/// The bytes that one byte of an event or a person takes while it is read: a member of six bytes takes a hundred.
const READ_COST: usize = 16;

/// A change of one property.
#[derive(Debug, PartialEq)]
pub struct PropertyChange {
    /// The field of the body that an error names.
    attr: &'static str,
    event: &'static str,
    /// The properties of the event, as JSON text.
    properties: String,
}

impl PropertyChange {
    pub fn set(body: &PersonPropertyValue) -> Result<Self, Error> {
        let value = body.value.as_ref().filter(|value| !value.is_null());
        let value = value.ok_or_else(|| missing("value"))?;
        let key = body.key.as_ref().filter(|key| !key.is_null());
        let key = text("key", key.ok_or_else(|| missing("key"))?)?;
        Ok(Self {
            attr: "value",
            event: "$set",
            properties: format!(r#"{{"$set":{{{key}:{}}}}}"#, value.as_str()),
        })
    }

    pub fn unset(body: &PersonPropertyToDelete) -> Result<Self, Error> {
        let key = body.unset.as_ref().filter(|key| !key.is_null());
        let key = key.ok_or_else(|| Error::Validation {
            attr: Some("$unset".to_owned()),
            code: "required",
            detail: "This field is required.".to_owned(),
        })?;
        let key = text("$unset", key)?;
        Ok(Self {
            attr: "$unset",
            event: "$delete_person_property",
            properties: format!(r#"{{"$unset":[{key}]}}"#),
        })
    }

    /// The event of the change, and the memory that it takes.
    fn item(
        &self,
        conn: &mut Conn,
        shard_key: ShardKey,
        person: Uuid,
        budget: &MemoryBudget,
        event: Uuid,
    ) -> Result<(Item, Reservation), Error> {
        let person = persons::find(conn, shard_key, person)?.ok_or(Error::NotFound)?;
        let mut ids = persons::shown_ids(conn, shard_key, &[person.ordinal])?;
        let ids = ids.remove(&person.ordinal).unwrap_or_default();
        let id = ids.into_iter().next().ok_or(Error::NotFound)?;
        let length = self.properties.len() + person.properties.0.len();
        let memory = budget.reserve(length * READ_COST);
        let mut memory = memory.ok_or(Error::Overloaded)?;
        let mut item = self.read(event)?;
        // Ids in the database are complete; reading one again could cut it.
        item.distinct_id = id;
        if !ingest::has_room_for(person, &item) {
            let detail = "The properties of the person would be longer than 512 KiB. Delete properties, or send a shorter value.";
            return Err(Error::field(self.attr, detail));
        }
        memory.shrink_to(item.memory());
        Ok((item, memory))
    }

    fn read(&self, uuid: Uuid) -> Result<Item, Error> {
        let Self {
            attr,
            event,
            properties,
        } = self;
        let text = format!(r#"{{"event":"{event}","distinct_id":"-","properties":{properties}}}"#);
        let arrival = Arrival {
            now: Utc::now(),
            sent_at: None,
            is_export: false,
        };
        let item = Item::read(&text, &arrival, || uuid);
        let item = item
            .map_err(|refusal| Error::field(attr, format!("The event is refused: {refusal}.")))?;
        if item.dropped > 0 {
            let detail = format!("The name is longer than {LONGEST_PROPERTY_NAME} bytes.");
            return Err(Error::field("key", detail));
        }
        Ok(item)
    }
}

impl Service {
    /// Captures the change. When this returns, the person has it.
    pub(super) async fn change_property(
        &self,
        caller: &Caller,
        person: Uuid,
        change: PropertyChange,
    ) -> Result<(), Error> {
        let (project, budget) = (caller.project.id(), self.memory.events.clone());
        // Each attempt of a request sends the same event, so it is stored once.
        let event = once::current().map_or_else(Uuid::now_v7, |attempt| attempt.request);
        let read =
            move |conn: &mut Conn| change.item(conn, project.shard_key(), person, &budget, event);
        let (item, memory) = self.snapshot(project, read).await?;
        let commit = self
            .group_commit
            .commit(project, vec![item], Arc::new(memory));
        commit.await.map_err(|cause| match cause {
            CommitError::Store(StoreError::ProjectGone) => Error::ProjectNotFound,
            cause => cause.into(),
        })
    }
}

/// PostHog's error of this operation for a missing field.
fn missing(field: &'static str) -> Error {
    Error::Validation {
        attr: Some(field.to_owned()),
        code: "This field is required.",
        detail: "required".to_owned(),
    }
}

/// The JSON text of a field that must be a string.
fn text(field: &str, value: &RawJson) -> Result<String, Error> {
    match value.parse() {
        Value::String(text) => Ok(Value::String(text).to_string()),
        _ => Err(Error::field(field, "Not a valid string.")),
    }
}
