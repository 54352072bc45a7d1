//! What a plan asks for, and nothing of where it comes from.
//! A source may answer from rows, from stored columns or from memory; it may give more events
//! than were asked for, since times and properties are checked again.

use std::sync::Arc;

use roaring::RoaringBitmap;
use serde::Deserialize;

use crate::block::{EventBlock, PropertyBlock, TimesBlock};
use crate::filter::Filter;
use crate::interrupt::Interrupt;

/// The data of one project. Every criterion asks anew for the blocks it reads, so a source
/// that reads from afar should keep them for the length of a calculation.
pub trait Source: Interrupt {
    /// All persons of the project.
    fn persons(&self) -> Result<Arc<RoaringBitmap>, Self::Error>;

    /// The values of one top-level person property; the key is taken as a whole.
    fn person_property(&self, key: &str) -> Result<Arc<PropertyBlock>, Self::Error>;

    /// When each person was created.
    fn created_at(&self) -> Result<Arc<TimesBlock>, Self::Error>;

    /// The distinct ids, as JSON strings; a person may have many rows.
    fn distinct_ids(&self) -> Result<Arc<PropertyBlock>, Self::Error>;

    /// The events that answer a query, and perhaps others of the same name, each in one of the blocks; or only their
    /// people, where `EventQuery::people` allows it.
    fn events(&self, query: &EventQuery) -> Result<Vec<Arc<EventBlock>>, Self::Error>;

    /// The names of all events there are, and perhaps others.
    fn event_names(&self) -> Result<Vec<String>, Self::Error>;

    /// Another cohort, or nothing where the project has none of that id.
    fn cohort(&self, id: i64) -> Result<Option<Reference>, Self::Error>;

    /// An action, or nothing where the project has none of that id.
    fn action(&self, id: i64) -> Result<Option<Action>, Self::Error>;

    /// Called where the events of several names are held at once, which takes about so many bytes; an error ends the
    /// evaluation: so a source bounds the memory that it may take.
    fn check_memory(&self, _bytes: usize) -> Result<(), Self::Error> {
        Ok(())
    }
}

/// Which events are wanted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EventQuery {
    /// The name, whole and case-sensitive.
    pub event: String,
    /// The earliest instant in microseconds, inclusive; without it the log is read from its
    /// start.
    pub from: Option<i64>,
    /// The latest instant in microseconds, inclusive.
    pub to: i64,
    /// The properties that will be looked at, sorted, each once.
    pub properties: Vec<String>,
    /// Whether of blocks inside the range nothing is wanted but their people, so that one may stand for several,
    /// without their rows.
    pub persons_only: bool,
}

/// What another cohort is known by.
#[derive(Clone, Debug)]
pub enum Reference {
    /// Its stored members.
    Members(Arc<RoaringBitmap>),
    /// Its definition, to be evaluated at the same moment.
    Filter(Filter),
}

/// A named set of events: those that meet any of its steps.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Action {
    /// The alternatives.
    #[serde(default)]
    pub steps: Vec<ActionStep>,
}

/// One alternative of an action: all its parts must hold for the event.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct ActionStep {
    /// The event name; without it any event will do.
    #[serde(default)]
    pub event: Option<String>,
    /// What `$current_url` is compared with, case-sensitive.
    #[serde(default)]
    pub url: Option<String>,
    /// `exact`, `regex`, or anything else for "contains".
    #[serde(default)]
    pub url_matching: Option<String>,
    /// Tests of the event's properties.
    #[serde(default)]
    pub properties: Vec<ActionProperty>,
}

/// One property test of an action step.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct ActionProperty {
    /// The property name.
    pub key: String,
    /// Absent means `exact`.
    #[serde(default)]
    pub operator: Option<String>,
    /// What the property is compared with.
    #[serde(default)]
    pub value: Option<serde_json::Value>,
}
