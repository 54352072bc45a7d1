//! The columns that live cohorts read. Properties of persons among them are stored in checkpoints; the columns of an event
//! are loaded together.
//!
//! They are found in the definitions of all cohorts that are dynamic and not deleted, and in the actions that these
//! name. Older cohorts come first, so a limit never takes a column from an older cohort. A property that is not
//! stored is loaded from the rows.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::Utc;
use cohorts_engine::delta::Definition as Rule;
use cohorts_engine::reads::EventRead;
use cohorts_engine::{Action, Moment, Reads, plan_query};
use cohorts_store::outages::Outages;
use cohorts_store::{Conn, Error, ProjectId, cohorts, projects};
use parking_lot::Mutex;

use super::{actions, columns};

/// The most person properties, and the most names of events, with live columns.
const MAX_NAMES: usize = 1_000;
/// The most bytes of the names of the columns of an event.
const MAX_COLUMN_BYTES: usize = 1_000;
/// Definitions that are parsed together.
const CHUNK: usize = 16;
/// Bytes of definitions that are parsed; those of younger cohorts are ignored.
const MAX_DEFINITIONS: usize = 64 << 20;
/// The time after which the definitions are read again.
const REFRESH_EVERY: Duration = Duration::from_secs(60);

/// The columns that the live cohorts of a project read.
#[derive(Debug, Default, PartialEq)]
pub struct LiveColumns {
    properties: HashSet<String>,
    /// The properties of events by name, sorted.
    events: HashMap<String, Vec<String>>,
    /// The properties of events of every name, sorted; `None` if no cohort reads every name.
    every_event: Option<Vec<String>>,
}

impl LiveColumns {
    /// Reads the definitions of a project's live cohorts.
    pub fn read(conn: &mut Conn, project: ProjectId) -> Result<Self, Error> {
        let mut live = Self::default();
        let mut ids = cohorts::dynamic(conn, project)?;
        ids.sort_unstable();
        let mut bytes = 0;
        for ids in ids.chunks(CHUNK) {
            let definitions = cohorts::definitions(conn, project, ids)?;
            for definition in ids.iter().filter_map(|id| definitions.get(id)) {
                let texts = [definition.filters(), definition.query.as_ref()];
                let texts = texts.into_iter().flatten().map(|text| text.0.len());
                bytes += texts.sum::<usize>() + definition.groups().0.len();
                if bytes > MAX_DEFINITIONS {
                    return Ok(live);
                }
                match definition.rule() {
                    Ok(Rule::Filter(filter)) => {
                        live.add(Reads::of(&filter, |id| action(conn, project, id))?);
                    }
                    Ok(Rule::Query(query)) => {
                        // The moment changes no column.
                        let now = Moment::utc(Utc::now().timestamp_micros());
                        if let Ok(plan) = plan_query(&query, &now) {
                            live.add(Reads::of_query(&plan));
                        }
                    }
                    Err(_) => {}
                }
            }
        }
        Ok(live)
    }

    fn add(&mut self, reads: Reads) {
        for key in reads.properties {
            if self.properties.len() < MAX_NAMES {
                self.properties.insert(key);
            }
        }
        for EventRead { event, properties } in reads.events {
            let columns = match &event {
                None => self.every_event.get_or_insert_default(),
                Some(name) if self.events.len() < MAX_NAMES || self.events.contains_key(name) => {
                    self.events.entry(name.clone()).or_default()
                }
                Some(_) => continue,
            };
            add_columns(columns, &properties);
        }
    }

    /// The memory of the names, in bytes, approximately.
    pub fn bytes(&self) -> usize {
        let names = |names: &[String]| names.iter().map(|name| name.len() + 64).sum::<usize>();
        let events = self.events.iter();
        let events = events.map(|(name, columns)| name.len() + 64 + names(columns));
        let properties = self.properties.iter().map(|name| name.len() + 64);
        properties.sum::<usize>()
            + events.sum::<usize>()
            + self.every_event.as_deref().map_or(0, names)
    }

    /// Whether a property of persons is stored.
    pub fn has_property(&self, key: &str) -> bool {
        self.properties.contains(key)
    }

    /// The columns of the events of a name that are loaded together, sorted; `None` if no live cohort reads them.
    pub fn columns(&self, event: &str) -> Option<Vec<String>> {
        let own = self.events.get(event);
        if own.is_none() && self.every_event.is_none() {
            return None;
        }
        let mut columns = own.cloned().unwrap_or_default();
        if let Some(every) = &self.every_event {
            add_columns(&mut columns, every);
        }
        Some(columns)
    }

    /// The columns of an event that are loaded together, if they contain all `properties`, else `properties`. Events without
    /// columns are loaded by themselves, because most evaluations read no property.
    pub fn columns_for(&self, event: &str, properties: &[String]) -> Vec<String> {
        let contains_all =
            |columns: &Vec<String>| properties.iter().all(|key| columns.contains(key));
        let columns = self.columns(event).filter(contains_all);
        match columns {
            Some(columns) if !properties.is_empty() => columns,
            _ => properties.to_vec(),
        }
    }
}

/// Adds `properties` to sorted columns, as far as their names are short enough together.
fn add_columns(columns: &mut Vec<String>, properties: &[String]) {
    let mut bytes: usize = columns.iter().map(String::len).sum();
    for key in properties {
        if let Err(place) = columns.binary_search(key)
            && bytes + key.len() <= MAX_COLUMN_BYTES
        {
            bytes += key.len();
            columns.insert(place, key.clone());
        }
    }
}

fn action(conn: &mut Conn, project: ProjectId, id: i64) -> Result<Option<Action>, Error> {
    Ok(actions::read(conn, project, id)?.map(|parsed| parsed.action))
}

/// The live columns of a project, shared by an index and its successors.
#[derive(Debug, Default)]
pub struct SharedLiveColumns(Mutex<LiveState>);

#[derive(Debug, Default)]
struct LiveState {
    columns: Arc<LiveColumns>,
    read_at: Option<Instant>,
    /// The events with columns that together exceed the memory limit.
    too_large: BTreeSet<String>,
}

impl SharedLiveColumns {
    /// The columns as of the last read.
    pub fn columns(&self) -> Arc<LiveColumns> {
        Arc::clone(&self.0.lock().columns)
    }

    /// The columns to load in order to read `properties` of an event.
    pub fn columns_for(&self, event: &str, properties: &[String]) -> Vec<String> {
        let state = self.0.lock();
        if state.too_large.contains(event) {
            return properties.to_vec();
        }
        state.columns.columns_for(event, properties)
    }

    /// Records that all columns of an event exceed the memory limit, so that they are loaded by need.
    pub fn set_too_large(&self, event: &str) {
        let mut state = self.0.lock();
        if state.too_large.len() < MAX_NAMES {
            state.too_large.insert(event.to_owned());
        }
    }

    /// Reads the definitions if the last read is some time ago, and returns the columns.
    pub fn refresh(&self, conn: &mut Conn, project: ProjectId) -> Result<Arc<LiveColumns>, Error> {
        let is_recent = |read_at: Instant| read_at.elapsed() < REFRESH_EVERY;
        if !self.0.lock().read_at.is_some_and(is_recent) {
            let columns = LiveColumns::read(conn, project)?;
            let mut state = self.0.lock();
            if *state.columns != columns {
                state.columns = Arc::new(columns);
                state.too_large.clear();
            }
            state.read_at = Some(Instant::now());
        }
        Ok(self.columns())
    }
}

/// Drops the stored columns of all projects that no live cohort reads.
pub fn drop_unread_columns(conn: &mut Conn, outages: &Outages) -> Result<(), Error> {
    for project in projects::all(conn)? {
        if outages.affect(project) {
            continue;
        }
        let properties = columns::with_checkpoints(conn, project)?;
        if !properties.is_empty() {
            let live = LiveColumns::read(conn, project)?;
            columns::drop_unread(conn, project, properties, &live)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(event: Option<&str>, properties: &[&str]) -> EventRead {
        EventRead {
            event: event.map(str::to_owned),
            properties: texts(properties),
        }
    }

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    fn live(events: Vec<EventRead>) -> LiveColumns {
        let mut live = LiveColumns::default();
        live.add(Reads {
            properties: texts(&["plan"]),
            events,
        });
        live
    }

    #[test]
    fn columns_are_those_of_the_name_and_of_every_name() {
        let own = live(vec![
            read(Some("x"), &["c", "a"]),
            read(Some("x"), &["a", "b"]),
        ]);
        assert_eq!(own.columns("x"), Some(texts(&["a", "b", "c"])));
        assert_eq!(own.columns("y"), None);
        assert!(own.has_property("plan") && !own.has_property("a"));
        let columns_for = |properties: &[&str]| own.columns_for("x", &texts(properties));
        assert_eq!(columns_for(&["b"]), texts(&["a", "b", "c"]));
        assert_eq!(columns_for(&["b", "d"]), texts(&["b", "d"]));
        assert_eq!(columns_for(&[]), texts(&[]));

        let every = live(vec![read(Some("x"), &["a"]), read(None, &["z"])]);
        assert_eq!(every.columns("x"), Some(texts(&["a", "z"])));
        assert_eq!(every.columns("y"), Some(texts(&["z"])));
        assert!(every.bytes() > 0);
    }

    #[test]
    fn stored_columns_are_limited_and_older_cohorts_come_first() {
        let long: Vec<String> = (0..3).map(|nth| format!("{nth}").repeat(400)).collect();
        let mut live = LiveColumns::default();
        for key in &long {
            live.add(Reads {
                properties: Vec::new(),
                events: vec![read(Some("x"), &[key])],
            });
        }
        live.add(Reads {
            properties: (0..2_000).map(|nth| format!("p{nth}")).collect(),
            events: (0..2_000)
                .map(|nth| read(Some(&format!("e{nth}")), &["a"]))
                .collect(),
        });
        assert_eq!(live.columns("x").unwrap(), long[..2]);
        assert!(live.has_property("p999") && !live.has_property("p1000"));
        assert_eq!(live.columns("e998"), Some(texts(&["a"])));
        assert_eq!(live.columns("e999"), None);
    }
}
