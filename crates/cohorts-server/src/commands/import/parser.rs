//! From lines to items, with the state that the lines of one import share.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::mem::take;

use anyhow::{anyhow, ensure};
use chrono::{DateTime, TimeDelta, Utc};
use cohorts_store::ProjectId;
use uuid::{Builder, Uuid};

use super::formats::{Contents, LineFormat, WireItem};
use crate::commands::output::counted;
use crate::ingest::{Arrival, Item, MAX_ITEM_BYTES, Refusal, Standardized};

/// A time further in the future is an error.
const MAX_AHEAD: TimeDelta = TimeDelta::hours(23);

/// Parses the lines of one import.
pub struct LineParser {
    project: ProjectId,
    /// The first distinct id of each exported person. The person's other ids are linked to it.
    first_ids: HashMap<Uuid, String>,
    /// Digests of the pairs of ids that are linked already. Each link costs time.
    links: HashSet<Uuid>,
    deleted_persons: HashSet<Uuid>,
    /// The number of lines by format, of the current file.
    formats: BTreeMap<LineFormat, u64>,
}

impl LineParser {
    pub fn new(project: ProjectId) -> Self {
        Self {
            project,
            first_ids: HashMap::new(),
            links: HashSet::new(),
            deleted_persons: HashSet::new(),
            formats: BTreeMap::new(),
        }
    }

    /// The items of a line: events, or a person with each of its distinct ids.
    pub fn parse(&mut self, line: &[u8]) -> anyhow::Result<Vec<Item>> {
        let line = std::str::from_utf8(line).map_err(|_| anyhow!("it is not UTF-8"))?;
        ensure!(line.len() <= MAX_ITEM_BYTES, "{}", Refusal::TooLarge);
        let rewritten;
        let (format, contents) = match Contents::read(line) {
            Ok(read) => read,
            Err(error) => {
                rewritten = Standardized::of(line).ok_or(error)?.rewritten();
                Contents::read(&rewritten)?
            }
        };
        let items = match contents {
            Contents::DeletedPerson(person) => {
                self.deleted_persons.insert(person);
                Vec::new()
            }
            Contents::Items(items) => {
                let items = items.into_iter().map(|item| self.item(line, item));
                items.collect::<anyhow::Result<_>>()?
            }
        };
        *self.formats.entry(format).or_default() += 1;
        Ok(items)
    }

    fn item(&mut self, line: &str, wire: WireItem<'_>) -> anyhow::Result<Item> {
        let arrival = Arrival::of_file();
        let uuid = || {
            let key = wire.key.as_deref().unwrap_or(line);
            let identity = format!("{}/{key}", self.project.0);
            let time = wire.time.as_ref().ok().filter(|_| wire.has_fixed_time);
            derived_uuid(&identity, time)
        };
        let item = Item::read(&wire.text, &arrival, uuid);
        let mut item = item.map_err(|refusal| anyhow!("{refusal}"))?;
        let time = wire.time?;
        let latest = arrival.now + MAX_AHEAD;
        ensure!(time <= latest, "its time {time} is in the future");
        item.timestamp = time;
        match (item.exported_person, wire.other_id) {
            (Some(person), _) => self.link_person(person, &mut item),
            (None, Some(other_id)) => self.link(other_id, &mut item),
            (None, None) => {}
        }
        Ok(item)
    }

    /// Links a distinct id of a person to the first one.
    fn link_person(&mut self, person: Uuid, item: &mut Item) {
        let id = &item.distinct_id;
        let first_id = self.first_ids.entry(person).or_insert_with(|| id.clone());
        if first_id != id {
            item.link_to(first_id);
        }
    }

    /// Links two ids of one person at the first event that has both.
    fn link(&mut self, other_id: String, item: &mut Item) {
        let pair = format!("{}\0{other_id}", item.distinct_id);
        if self
            .links
            .insert(Uuid::new_v5(&Uuid::NAMESPACE_OID, pair.as_bytes()))
        {
            item.identify_with(other_id);
        }
    }

    /// The number of persons that were marked as deleted.
    pub fn deleted_persons(&self) -> u64 {
        self.deleted_persons.len() as u64
    }

    /// The formats of the lines so far, such as `format: Mixpanel events (2 lines)`; `None` without lines.
    pub fn format_message(&self) -> Option<String> {
        let formats = self.formats.iter();
        let formats =
            formats.map(|(format, count)| format!("{format} ({})", counted(*count, "line")));
        let formats: Vec<String> = formats.collect();
        (!formats.is_empty()).then(|| format!("format: {}", formats.join(", ")))
    }

    /// Begins a file.
    pub fn start_file(&mut self) {
        take(&mut self.formats);
    }
}

/// The uuid of an event that has none, from its identity. With a time, the first 48 bits are its milliseconds since 1970,
/// as in version 7: new events then follow those that are in the primary key, instead of falling between them.
fn derived_uuid(identity: &str, time: Option<&DateTime<Utc>>) -> Uuid {
    let hash = Uuid::new_v5(&Uuid::NAMESPACE_OID, identity.as_bytes());
    let millis = time.and_then(|time| u64::try_from(time.timestamp_millis()).ok());
    let Some(millis) = millis else {
        return hash;
    };
    let mut bytes = hash.into_bytes();
    bytes[..6].copy_from_slice(&millis.to_be_bytes()[2..]);
    Builder::from_custom_bytes(bytes).into_uuid()
}

#[cfg(test)]
mod tests;
