//! The rows of one person, for the explanation of a membership.
//!
//! They are read from the database, so an explanation neither loads nor waits for columns of all persons.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use chrono::Utc;
use cohorts_engine::explain::{EventRows, PersonEvent, PersonRows};
use cohorts_engine::{Action, Interrupt, Reference};
use cohorts_store::person_events::{self, PersonScan};
use cohorts_store::persons::Person;
use cohorts_store::scan::{self, DAY_MICROS, PersonRange};
use cohorts_store::{CohortId, cohorts, members, projects, tombstones};
use roaring::RoaringBitmap;
use serde_json::Value;
use serde_json::value::RawValue;

use super::actions::{self, ActionCache};
use super::read::ReadTx;
use super::{IndexError, IndexResult};

/// The most events of a person that an explanation reads.
pub const MAX_EVENTS: usize = 100_000;
/// The most bytes of their properties.
pub const MAX_BYTES: usize = 64 << 20;

/// Reads the rows of one person in a transaction.
pub struct OnePersonReader<'a> {
    tx: ReadTx<'a>,
    ordinal: u32,
    /// In microseconds since 1970.
    created_at: i64,
    properties: HashMap<String, Box<RawValue>>,
    /// The ordinals under which the person's events were written.
    ordinals: Vec<i64>,
    /// Earlier events are deleted or will be, in microseconds since 1970.
    oldest_event: i64,
    cohorts: RefCell<HashMap<i64, Option<Reference>>>,
    actions: ActionCache,
}

impl<'a> OnePersonReader<'a> {
    /// A reader for the person of a row that the transaction has read.
    pub fn new(tx: ReadTx<'a>, person: &Person) -> IndexResult<Self> {
        let shard_key = tx.shard_key();
        let ordinals =
            tx.with_conn(|conn| tombstones::with_merged(conn, shard_key, &[person.ordinal]))?;
        let oldest = projects::oldest_event(tx.retention()?.days, Utc::now());
        let ordinal = u32::try_from(person.ordinal).map_err(anyhow::Error::from);
        Ok(Self {
            ordinal: ordinal.map_err(cohorts_store::Error::from)?,
            created_at: person.created_at.timestamp_micros(),
            properties: serde_json::from_str(&person.properties.0).unwrap_or_default(),
            ordinals,
            oldest_event: oldest.map_or(i64::MIN, |oldest| oldest.timestamp_micros()),
            cohorts: RefCell::default(),
            actions: ActionCache::default(),
            tx,
        })
    }

    fn read_cohort(&self, id: i64) -> IndexResult<Option<Reference>> {
        let project = self.tx.project;
        self.tx.with_conn(|conn| {
            let Some((cohort, _)) = cohorts::find(conn, project, CohortId(id))? else {
                return Ok(None);
            };
            if !cohort.definition.is_static {
                // Criteria that cannot be parsed cannot be calculated, so the cohort has no members to refer to.
                let rule = cohort.definition.rule().ok();
                return Ok(rule.map(Reference::from));
            }
            let (shard_key, version) = (project.shard_key(), cohort.member_version);
            let is_member = members::contains(conn, shard_key, cohort.id(), version, self.ordinal)?;
            let members: RoaringBitmap = is_member.then_some(self.ordinal).into_iter().collect();
            Ok::<_, IndexError>(Some(Reference::Members(Arc::new(members))))
        })
    }
}

impl Interrupt for OnePersonReader<'_> {
    type Error = IndexError;

    fn interrupt(&self) -> IndexResult<()> {
        self.tx.check_time()
    }
}

impl PersonRows for OnePersonReader<'_> {
    fn ordinal(&self) -> u32 {
        self.ordinal
    }

    fn created_at(&self) -> i64 {
        self.created_at
    }

    fn property(&self, key: &str) -> IndexResult<Option<Value>> {
        let value = self.properties.get(key);
        Ok(value.and_then(|value| serde_json::from_str(value.get()).ok()))
    }

    fn distinct_ids(&self) -> IndexResult<Vec<String>> {
        let range = PersonRange {
            ordinals: self.ordinal..=self.ordinal,
            merged: Vec::new(),
        };
        let mut ids = Vec::new();
        self.tx.with_conn(|conn| {
            scan::distinct_ids(conn, self.tx.shard_key(), &range, |_, id| {
                ids.push(id);
                Ok::<_, IndexError>(())
            })
        })?;
        ids.sort_unstable();
        Ok(ids)
    }

    fn events(&self, rows: &EventRows) -> IndexResult<Vec<PersonEvent>> {
        let from = rows.from.max(self.oldest_event);
        let scan = PersonScan {
            ordinals: &self.ordinals,
            names: rows
                .names
                .as_ref()
                .map(|names| names.iter().cloned().collect()),
            from: scan::start_of_day(from.div_euclid(DAY_MICROS)),
            properties: rows.properties.iter().cloned().collect(),
        };
        let (mut events, mut bytes) = (Vec::new(), 0);
        self.tx.with_conn(|conn| {
            person_events::of_person(conn, self.tx.shard_key(), &scan, |event| {
                let time = event.timestamp.timestamp_micros();
                if time < from {
                    return Ok(());
                }
                bytes += event
                    .properties
                    .iter()
                    .flatten()
                    .map(String::len)
                    .sum::<usize>();
                if events.len() == MAX_EVENTS || bytes > MAX_BYTES {
                    return Err(IndexError::TooManyEvents);
                }
                events.push(PersonEvent {
                    uuid: event.uuid.as_u128(),
                    name: event.event,
                    time,
                    properties: event.properties,
                });
                Ok(())
            })
        })?;
        Ok(events)
    }

    fn cohort(&self, id: i64) -> IndexResult<Option<Reference>> {
        if let Some(reference) = self.cohorts.borrow().get(&id) {
            return Ok(reference.clone());
        }
        let reference = self.read_cohort(id)?;
        self.cohorts.borrow_mut().insert(id, reference.clone());
        Ok(reference)
    }

    fn action(&self, id: i64) -> IndexResult<Option<Action>> {
        let project = self.tx.project;
        let read = || self.tx.with_conn(|conn| actions::read(conn, project, id));
        self.actions.get(id, read)
    }
}
