//! The rows of one person as the source of an evaluation.
//!
//! Events are read together when the first criterion asks for them: of all names, times and
//! properties that the definition reads. If an evaluation asks for more, they are read again.

use std::cell::{Ref, RefCell};
use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use jiff::Timestamp;
use roaring::RoaringBitmap;
use serde_json::Value;

use super::FoundEvents;
use crate::block::{
    EventBlock, EventBlockBuilder, PropertyBlock, PropertyBlockBuilder, TimesBlock,
};
use crate::delta::PlannedSlots;
use crate::interrupt::Interrupt;
use crate::plan::Names;
use crate::source::{Action, EventQuery, Reference, Source};

/// The time by which the earliest event may lie before the first window, in microseconds: windows
/// of later moments may begin earlier, at the end of a month or of summer time.
const MARGIN: i64 = 2 * 86_400_000_000;

/// The data of one person, and the definitions of the project.
///
/// # Errors
///
/// All methods return [`Interrupt::Error`] if the data cannot be read.
pub trait PersonRows: Interrupt {
    /// Returns the ordinal of the person.
    fn ordinal(&self) -> u32;

    /// Returns the instant of creation, in microseconds since the Unix epoch.
    fn created_at(&self) -> i64;

    /// Returns the value of a top-level property; null counts as a missing value.
    fn property(&self, key: &str) -> Result<Option<Value>, Self::Error>;

    /// Returns all distinct ids.
    fn distinct_ids(&self) -> Result<Vec<String>, Self::Error>;

    /// Returns the events of the person that `rows` names, in any order.
    fn events(&self, rows: &EventRows) -> Result<Vec<PersonEvent>, Self::Error>;

    /// Returns the cohort `id`, or `None` if the project has no such cohort. The members of a static
    /// cohort may be restricted to the person.
    fn cohort(&self, id: i64) -> Result<Option<Reference>, Self::Error>;

    /// Returns the action `id`, or `None` if the project has no such action.
    fn action(&self, id: i64) -> Result<Option<Action>, Self::Error>;
}

/// Which events of a person to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventRows {
    /// The names; `None` means every name.
    pub names: Option<BTreeSet<String>>,
    /// The earliest instant, in microseconds since the Unix epoch.
    pub from: i64,
    /// The properties to return, in this order.
    pub properties: BTreeSet<String>,
}

/// An event of a person.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PersonEvent {
    /// The uuid as a number.
    pub uuid: u128,
    /// The name.
    pub name: String,
    /// The instant, in microseconds since the Unix epoch.
    pub time: i64,
    /// The values of the requested properties as JSON text, in the order of the request.
    pub properties: Vec<Option<String>>,
}

/// A block is identified by its name and its properties.
type BlockKey = (String, Vec<String>);

/// The source of an evaluation for one person.
pub struct PersonSource<R> {
    rows: R,
    persons: Arc<RoaringBitmap>,
    /// What the loaded events are; before the first event is read, what to load.
    loaded: RefCell<EventRows>,
    /// The events by name, in the order of time; `None` before the first event is read.
    events: RefCell<Option<HashMap<String, Vec<PersonEvent>>>>,
    blocks: RefCell<HashMap<BlockKey, Arc<EventBlock>>>,
}

impl<R: PersonRows> PersonSource<R> {
    /// Creates a source from the rows of a person.
    pub fn new(rows: R) -> PersonSource<R> {
        PersonSource {
            persons: Arc::new(RoaringBitmap::from_iter([rows.ordinal()])),
            rows,
            loaded: RefCell::new(EventRows {
                names: Some(BTreeSet::new()),
                from: i64::MAX,
                properties: BTreeSet::new(),
            }),
            events: RefCell::default(),
            blocks: RefCell::default(),
        }
    }

    /// The rows.
    pub fn rows(&self) -> &R {
        &self.rows
    }

    /// Announces the events that a definition reads.
    pub(super) fn expect_events(&self, slots: &PlannedSlots) {
        *self.loaded.borrow_mut() = EventRows {
            names: slots.names.clone(),
            from: slots.earliest.saturating_sub(MARGIN),
            properties: slots.properties.clone(),
        };
    }

    /// The events by name, which are loaded unless they are there.
    fn events_with(
        &self,
        query: &EventRows,
    ) -> Result<Ref<'_, HashMap<String, Vec<PersonEvent>>>, R::Error> {
        let has_all = self.events.borrow().is_some() && self.loaded.borrow().contains(query);
        if !has_all {
            let all = self.loaded.borrow().with(query);
            let mut by_name: HashMap<String, Vec<PersonEvent>> = HashMap::new();
            for event in self.rows.events(&all)? {
                by_name.entry(event.name.clone()).or_default().push(event);
            }
            for events in by_name.values_mut() {
                events.sort_by_key(|event| event.time);
            }
            self.blocks.borrow_mut().clear();
            *self.loaded.borrow_mut() = all;
            *self.events.borrow_mut() = Some(by_name);
        }
        Ok(Ref::map(self.events.borrow(), |events| {
            static NONE: std::sync::OnceLock<HashMap<String, Vec<PersonEvent>>> =
                std::sync::OnceLock::new();
            events
                .as_ref()
                .unwrap_or_else(|| NONE.get_or_init(HashMap::new))
        }))
    }

    /// The evidence of rows, which are those of the blocks of this source.
    pub(super) fn evidence(
        &self,
        rows: &[(String, Vec<usize>)],
        shown: usize,
    ) -> Result<FoundEvents, R::Error> {
        let names = rows.iter().map(|(name, _)| name.clone());
        let by_name = self.events_with(&EventRows {
            names: Some(names.collect()),
            from: i64::MAX,
            properties: BTreeSet::new(),
        })?;
        let mut events: Vec<&PersonEvent> = Vec::new();
        for (name, rows) in rows {
            let named = by_name.get(name).map_or(&[][..], Vec::as_slice);
            events.extend(rows.iter().filter_map(|row| named.get(*row)));
        }
        events.sort_by_key(|event| Reverse((event.time, event.uuid)));
        let shown_event = |event: &&PersonEvent| PersonEvent {
            properties: Vec::new(),
            ..(*event).clone()
        };
        Ok(FoundEvents {
            count: events.len(),
            first_at: events.last().map(|event| event.time),
            last_at: events.first().map(|event| event.time),
            events: events.iter().take(shown).map(shown_event).collect(),
        })
    }

    pub(super) fn value(&self, key: &str) -> Result<Option<Value>, R::Error> {
        self.rows.property(key)
    }

    /// The first distinct ids, as a list.
    pub(super) fn first_ids(&self, shown: usize) -> Result<Value, R::Error> {
        let ids = self.rows.distinct_ids()?.into_iter();
        Ok(ids.take(shown).map(Value::String).collect())
    }

    pub(super) fn created_at_text(&self) -> Value {
        let created = Timestamp::from_microsecond(self.rows.created_at());
        created.map_or(Value::Null, |created| created.to_string().into())
    }

    fn ordinal(&self) -> u32 {
        self.rows.ordinal()
    }
}

impl EventRows {
    /// Whether the events of `other` are among these.
    fn contains(&self, other: &EventRows) -> bool {
        let has_names = match (&self.names, &other.names) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(names), Some(others)) => others.is_subset(names),
        };
        has_names && self.from <= other.from && other.properties.is_subset(&self.properties)
    }

    /// The events of both.
    fn with(&self, other: &EventRows) -> EventRows {
        let names: Names = match (&self.names, &other.names) {
            (Some(names), Some(others)) => Some(names | others),
            _ => None,
        };
        EventRows {
            names,
            from: self.from.min(other.from),
            properties: &self.properties | &other.properties,
        }
    }
}

impl<R: PersonRows> Interrupt for PersonSource<R> {
    type Error = R::Error;

    fn interrupt(&self) -> Result<(), R::Error> {
        self.rows.interrupt()
    }
}

impl<R: PersonRows> Source for PersonSource<R> {
    fn persons(&self) -> Result<Arc<RoaringBitmap>, R::Error> {
        Ok(Arc::clone(&self.persons))
    }

    fn person_property(&self, key: &str) -> Result<Arc<PropertyBlock>, R::Error> {
        let mut block = PropertyBlockBuilder::new();
        if let Some(value) = self.rows.property(key)? {
            block.push(self.ordinal(), &value);
        }
        Ok(Arc::new(block.finish()))
    }

    fn created_at(&self) -> Result<Arc<TimesBlock>, R::Error> {
        let row = (self.ordinal(), self.rows.created_at());
        Ok(Arc::new(TimesBlock::new([row])))
    }

    fn distinct_ids(&self) -> Result<Arc<PropertyBlock>, R::Error> {
        let mut block = PropertyBlockBuilder::new();
        for id in self.rows.distinct_ids()? {
            block.push(self.ordinal(), &Value::String(id));
        }
        Ok(Arc::new(block.finish()))
    }

    fn events(&self, query: &EventQuery) -> Result<Vec<Arc<EventBlock>>, R::Error> {
        let all = self.events_with(&EventRows {
            names: Some(BTreeSet::from([query.event.clone()])),
            from: query.from.unwrap_or(i64::MIN),
            properties: query.properties.iter().cloned().collect(),
        })?;
        let key = (query.event.clone(), query.properties.clone());
        if let Some(block) = self.blocks.borrow().get(&key) {
            return Ok(vec![Arc::clone(block)]);
        }
        let loaded: Vec<String> = self.loaded.borrow().properties.iter().cloned().collect();
        let columns = query
            .properties
            .iter()
            .map(|key| loaded.binary_search(key).ok());
        let columns: Vec<Option<usize>> = columns.collect();
        let mut block = EventBlockBuilder::new(&query.properties);
        for event in all.get(&query.event).into_iter().flatten() {
            let value = |column: &Option<usize>| event.properties.get((*column)?)?.as_deref();
            block.push_raw(self.ordinal(), event.time, columns.iter().map(value));
        }
        let block = Arc::new(block.finish());
        self.blocks.borrow_mut().insert(key, Arc::clone(&block));
        Ok(vec![block])
    }

    fn event_names(&self) -> Result<Vec<String>, R::Error> {
        let from = self.loaded.borrow().from;
        let all = self.events_with(&EventRows {
            names: None,
            from,
            properties: BTreeSet::new(),
        })?;
        let mut names: Vec<String> = all.keys().cloned().collect();
        names.sort_unstable();
        Ok(names)
    }

    fn cohort(&self, id: i64) -> Result<Option<Reference>, R::Error> {
        self.rows.cohort(id)
    }

    fn action(&self, id: i64) -> Result<Option<Action>, R::Error> {
        self.rows.action(id)
    }
}
