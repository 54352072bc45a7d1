//! The data that a plan reads.
//!
//! A [`Source`] answers with blocks, and the engine does not know where these come from: rows,
//! stored segments or memory. A source may return more events than a query names, because the
//! evaluation checks times and properties again. It must never return fewer.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use roaring::RoaringBitmap;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::FilterError;
use crate::block::{EventBlock, PropertyBlock, TimeSpan, TimesBlock};
use crate::filter::Filter;
use crate::interrupt::Interrupt;
use crate::plan::{Plan, plan, plan_query};
use crate::window::Moment;

/// The data of one project.
///
/// Persons are known by their ordinals: dense `u32` numbers, unique within the project. All
/// instants are microseconds since the Unix epoch, UTC.
///
/// Each leaf of a plan requests the blocks that it reads, so several leaves may request the same
/// block. A source with slow reads should cache its blocks for the length of a calculation.
///
/// The documentation of the [crate] has an example.
///
/// # Errors
///
/// All methods return [`Interrupt::Error`] if the data cannot be read. The evaluation then ends
/// with this error.
pub trait Source: Interrupt {
    /// Returns the ordinals of all persons of the project. The evaluation ignores all other
    /// ordinals.
    fn persons(&self) -> Result<Arc<RoaringBitmap>, Self::Error>;

    /// Returns the values of the top-level person property `key`. A dot in `key` has no special
    /// meaning.
    fn person_property(&self, key: &str) -> Result<Arc<PropertyBlock>, Self::Error>;

    /// Returns the creation time of each person.
    fn created_at(&self) -> Result<Arc<TimesBlock>, Self::Error>;

    /// Returns the distinct ids as JSON strings. A person may have several.
    fn distinct_ids(&self) -> Result<Arc<PropertyBlock>, Self::Error>;

    /// Returns the events that `query` names, split into blocks in any way: each event is in
    /// exactly one block. The blocks may contain other events of the same name. With
    /// [`EventQuery::persons_only`], some blocks may consist of persons without rows.
    fn events(&self, query: &EventQuery) -> Result<Vec<Arc<EventBlock>>, Self::Error>;

    /// Returns the names of all events of the project. Names without events are allowed.
    fn event_names(&self) -> Result<Vec<String>, Self::Error>;

    /// Returns the cohort `id`, or `None` if the project has no such cohort.
    fn cohort(&self, id: i64) -> Result<Option<Reference>, Self::Error>;

    /// Returns the action `id`, or `None` if the project has no such action.
    fn action(&self, id: i64) -> Result<Option<Action>, Self::Error>;

    /// Announces what the evaluation of a plan may read, so that the source can read it together.
    /// The default does nothing.
    fn expect(&self, _reads: PlannedReads) {}

    /// Checks that the evaluation may keep about `bytes` bytes in memory: blocks of several event
    /// names, rows of a query, or results of leaves and of other cohorts. The default has no limit.
    fn check_memory(&self, _bytes: usize) -> Result<(), Self::Error> {
        Ok(())
    }
}

/// What a plan may read of properties and events, except by its actions, queries and other cohorts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlannedReads {
    /// The properties of persons.
    pub properties: BTreeSet<String>,
    /// The earliest instant of events in microseconds, by name and properties of the events. The
    /// properties are sorted.
    pub events: HashMap<(String, Vec<String>), i64>,
}

/// A query for the events of one name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EventQuery {
    /// The name of the event, case-sensitive.
    pub event: String,
    /// The earliest instant in microseconds, inclusive. `None` means the start of the event log.
    pub from: Option<i64>,
    /// The latest instant in microseconds, inclusive.
    pub to: i64,
    /// The properties that need a column, sorted and without duplicates.
    pub properties: Vec<String>,
    /// Whether blocks inside the range need only their persons. A source may then combine such
    /// blocks with [`EventBlock::persons_of`].
    pub persons_only: bool,
}

impl EventQuery {
    /// Whether all instants of `span` are in the range.
    pub(crate) fn contains(&self, span: TimeSpan) -> bool {
        self.from.is_none_or(|from| from <= span.first) && span.last <= self.to
    }
}

/// Another cohort that a filter refers to.
#[derive(Clone, Debug)]
pub enum Reference {
    /// The stored members of a static cohort.
    Members(Arc<RoaringBitmap>),
    /// The filter of a dynamic cohort. It is evaluated at the same moment.
    Filter(Filter),
    /// The query of a dynamic cohort, as [`plan_query`] takes it. It is evaluated at the same moment.
    Query(Value),
}

impl Reference {
    /// Makes a plan of a dynamic cohort for the moment `at`; `None` for a static cohort.
    ///
    /// # Errors
    ///
    /// Fails like [`plan`](plan()) or [`plan_query`].
    pub fn plan(&self, at: &Moment) -> Option<Result<Plan, FilterError>> {
        match self {
            Reference::Members(_) => None,
            Reference::Filter(filter) => Some(plan(filter, at)),
            Reference::Query(query) => Some(plan_query(query, at)),
        }
    }
}

/// A named set of events. An event belongs to an action if it matches any of the steps.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct Action {
    /// The steps. An action without steps has no events.
    #[serde(default)]
    pub steps: Vec<ActionStep>,
}

/// One step of an action. An event matches if it meets all conditions of the step.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct ActionStep {
    /// The name of the event. `None` matches every name.
    #[serde(default)]
    pub event: Option<String>,
    /// The value to compare with `$current_url`, case-sensitive.
    #[serde(default)]
    pub url: Option<String>,
    /// `exact` or `regex`. Every other value, and `None`, means "contains".
    #[serde(default)]
    pub url_matching: Option<String>,
    /// The conditions on properties of the event.
    #[serde(default)]
    pub properties: Vec<ActionProperty>,
}

/// One condition of an action step on an event property.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct ActionProperty {
    /// The name of the property.
    pub key: String,
    /// The operator. `None` means `exact`.
    #[serde(default)]
    pub operator: Option<String>,
    /// The value to compare the property with.
    #[serde(default)]
    pub value: Option<Value>,
}
