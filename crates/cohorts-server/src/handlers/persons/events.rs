//! The latest events of one person, in pages.
//!
//! A page begins after the position of an event, and not at its time as in PostHog's API, so events with equal times are
//! neither lost nor repeated.

use std::collections::BTreeMap;
use std::ops::{ControlFlow, RangeInclusive};
use std::time::{Duration, Instant};

use chrono::{DateTime, Datelike, TimeDelta, Utc};
use cohorts_api::types::{PersonEvent, PersonEventPage, PersonOfEvent};
use cohorts_api::{EventsListQuery, RawJson};
use cohorts_engine::stored_name;
use cohorts_store::latest_events::{EventPosition, LatestEvent, LatestReader, LatestScan};
use cohorts_store::persons::{self, Person};
use cohorts_store::{Conn, ProjectId, projects, scan, tombstones};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::super::lookup::PersonId;
use crate::error::Error;
use crate::handlers::links::Links;
use crate::handlers::present::raw;
use crate::index::read::{Limits, ReadTx};

/// The time for one page.
const TIME_LIMIT: Duration = Duration::from_secs(10);
/// After this time, a page ends with the day that was read last.
const SEARCH_LIMIT: Duration = Duration::from_secs(1);
/// The most events on a page. An event has up to 1 MiB.
const MAX_LIMIT: i64 = 100;
/// The most bytes of properties on a page with several events.
const MAX_PAGE_BYTES: usize = 4 << 20;
/// The years of events. Postgres has no date before 4713 BC.
const YEARS: RangeInclusive<i32> = 0..=9_999;
/// The properties of a person that come with each event, as in PostHog's API.
const SHOWN_PROPERTIES: [&str; 3] = ["email", "name", "username"];

/// The events that a request selects.
pub struct EventsQuery {
    project: ProjectId,
    person: PersonId,
    name: Option<String>,
    after: Option<DateTime<Utc>>,
    before: EventPosition,
    limit: usize,
}

/// The events of a page, and the position after which the next page begins.
pub struct EventsPage {
    person: PersonOfEvent,
    rows: Vec<LatestEvent>,
    next: Option<EventPosition>,
}

impl EventsQuery {
    pub fn new(project: ProjectId, query: EventsListQuery) -> Result<Self, Error> {
        let name = query.event.filter(|name| !name.is_empty());
        let before = query.before.unwrap_or(DateTime::<Utc>::MAX_UTC);
        let before = EventPosition::at(before);
        let cursor = query.cursor.filter(|text| !text.is_empty());
        let cursor = cursor.map(|text| parse_cursor(&text)).transpose()?;
        Ok(Self {
            project,
            person: PersonId::new(query.person_id, query.distinct_id)?,
            name: name.map(|name| stored_name(&name).into_owned()),
            after: query.after,
            before: cursor.map_or(before, |cursor| cursor.min(before)),
            limit: usize::try_from(query.limit.min(MAX_LIMIT)).unwrap_or(1),
        })
    }

    /// Reads the page in one transaction.
    pub fn read(&self, conn: &mut Conn) -> Result<EventsPage, Error> {
        let start = Instant::now();
        let limits = Limits {
            deadline: start + TIME_LIMIT,
            memory: u64::MAX,
        };
        ReadTx::run(conn, self.project, limits, |tx| {
            let shard_key = self.project.shard_key();
            let person = tx.try_with_conn(|conn| self.person.row(conn, shard_key))?;
            let mut reader = LatestReader::new(self.scan(&tx, &person)?);
            let person = shown(&tx, &person)?;
            let mut page = DraftPage::new(self.limit, size(&person.properties));
            // One event more tells whether there is another page.
            while tx
                .with_conn(|conn| {
                    let limit = self.limit + 1 - page.rows.len();
                    reader.read_days(conn, shard_key, limit, |event| page.add(event))
                })?
                .is_continue()
            {
                if start.elapsed() >= SEARCH_LIMIT {
                    page.interrupted_at = Some(reader.position());
                    break;
                }
            }
            Ok(EventsPage {
                person,
                next: page.next(),
                rows: page.rows,
            })
        })
    }

    fn scan(&self, tx: &ReadTx<'_>, person: &Person) -> Result<LatestScan, Error> {
        let shard_key = tx.shard_key();
        let ordinals =
            tx.with_conn(|conn| tombstones::with_merged(conn, shard_key, &[person.ordinal]))?;
        let after = self.after.map(|after| after + TimeDelta::microseconds(1));
        let oldest = projects::oldest_event(tx.retention()?.days, Utc::now());
        let from = after.max(oldest);
        let first = scan::start_of_day(i64::MIN);
        Ok(LatestScan {
            ordinals,
            name: self.name.clone(),
            from: from.map_or(first, |from| from.max(first)),
            before: self.before,
        })
    }
}

/// A page that is being read.
struct DraftPage {
    limit: usize,
    rows: Vec<LatestEvent>,
    bytes: usize,
    /// The bytes that the person takes in each event.
    person_bytes: usize,
    has_more: bool,
    /// The position that an interrupted search has reached.
    interrupted_at: Option<EventPosition>,
}

impl DraftPage {
    fn new(limit: usize, person_bytes: usize) -> Self {
        Self {
            limit,
            rows: Vec::new(),
            bytes: 0,
            person_bytes,
            has_more: false,
            interrupted_at: None,
        }
    }

    /// Adds an event, unless the page is full.
    fn add(&mut self, event: LatestEvent) -> ControlFlow<()> {
        self.bytes += event.properties.0.len() + self.person_bytes;
        let is_too_large = self.bytes > MAX_PAGE_BYTES && !self.rows.is_empty();
        if is_too_large || self.rows.len() == self.limit {
            self.has_more = true;
            return ControlFlow::Break(());
        }
        self.rows.push(event);
        ControlFlow::Continue(())
    }

    fn next(&self) -> Option<EventPosition> {
        let last = self.rows.last().filter(|_| self.has_more);
        last.map(LatestEvent::position).or(self.interrupted_at)
    }
}

impl EventsPage {
    pub fn present(self, links: &Links) -> PersonEventPage {
        let person = self.person;
        let event = |row: LatestEvent| PersonEvent {
            id: row.uuid,
            distinct_id: row.distinct_id,
            properties: raw(row.properties),
            event: row.event,
            timestamp: row.timestamp,
            person: person.clone(),
        };
        PersonEventPage {
            next: (self.next).map(|next| links.with(&[("cursor", cursor(next))])),
            results: self.rows.into_iter().map(event).collect(),
        }
    }
}

fn shown(tx: &ReadTx<'_>, person: &Person) -> Result<PersonOfEvent, Error> {
    let shard_key = tx.shard_key();
    let ids = tx.with_conn(|conn| persons::shown_ids(conn, shard_key, &[person.ordinal]))?;
    let ids = ids.into_values().flatten();
    let properties: BTreeMap<&str, &RawValue> =
        serde_json::from_str(&person.properties.0).unwrap_or_default();
    let shown = SHOWN_PROPERTIES.map(|name| Some((name, *properties.get(name)?)));
    let shown: BTreeMap<&str, &RawValue> = shown.into_iter().flatten().collect();
    let shown = serde_json::to_string(&shown).map_err(anyhow::Error::from)?;
    Ok(PersonOfEvent {
        is_identified: person.is_identified,
        distinct_ids: ids.take(1).collect(),
        properties: RawJson::trusted(shown),
    })
}

fn size(properties: &RawJson) -> usize {
    properties.as_str().len()
}

/// The cursor after an event, as text.
fn cursor(position: EventPosition) -> String {
    let mut bytes = position.timestamp.timestamp_micros().to_be_bytes().to_vec();
    bytes.extend(position.uuid.as_bytes());
    bytes.extend(position.identity.to_be_bytes());
    hex::encode(bytes)
}

fn parse_cursor(text: &str) -> Result<EventPosition, Error> {
    let invalid = || Error::field("cursor", "The cursor is not valid.");
    let mut bytes = [0; 32];
    hex::decode_to_slice(text, &mut bytes).map_err(|_| invalid())?;
    let (time, rest) = bytes.split_first_chunk().ok_or_else(invalid)?;
    let (uuid, identity) = rest.split_first_chunk().ok_or_else(invalid)?;
    let identity = identity.first_chunk().ok_or_else(invalid)?;
    let time = DateTime::from_timestamp_micros(i64::from_be_bytes(*time));
    let time = time.filter(|time| YEARS.contains(&time.year()));
    Ok(EventPosition {
        timestamp: time.ok_or_else(invalid)?,
        uuid: Uuid::from_bytes(*uuid),
        identity: i64::from_be_bytes(*identity),
    })
}

#[cfg(test)]
mod tests {
    use cohorts_store::JsonText;

    use super::*;

    fn position(micros: i64) -> EventPosition {
        EventPosition {
            timestamp: DateTime::from_timestamp_micros(micros).unwrap(),
            uuid: Uuid::from_u128(7),
            identity: -3,
        }
    }

    fn event(bytes: usize) -> LatestEvent {
        LatestEvent {
            uuid: Uuid::from_u128(7),
            identity: -3,
            timestamp: DateTime::UNIX_EPOCH,
            event: "x".to_owned(),
            distinct_id: "a".to_owned(),
            properties: JsonText("a".repeat(bytes)),
        }
    }

    #[test]
    fn a_position_is_parsed_as_it_was_written() {
        for micros in [-62_135_596_800_000_000, -1, 0, 253_402_300_799_999_999] {
            let position = position(micros);
            assert_eq!(parse_cursor(&cursor(position)).unwrap(), position);
        }
        let latest = "7fffffffffffffff".repeat(4);
        // 4714 BC.
        let before_dates = format!("fd0f7cc1411fa000{}", "f".repeat(48));
        for text in ["x", "00", &latest, &before_dates, &"é".repeat(32)] {
            assert!(parse_cursor(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_page_ends_at_its_limit_of_events_or_of_bytes() {
        let mut page = DraftPage::new(2, 10);
        assert!(page.add(event(1)).is_continue() && page.add(event(1)).is_continue());
        assert_eq!(page.next(), None);
        assert!(page.add(event(1)).is_break());
        assert_eq!((page.rows.len(), page.next()), (2, Some(position(0))));
        // The first event is on the page, whatever its size.
        let mut page = DraftPage::new(9, 10);
        assert!(page.add(event(MAX_PAGE_BYTES)).is_continue());
        assert!(page.add(event(1)).is_break());
        assert_eq!((page.rows.len(), page.next()), (1, Some(position(0))));
        // An interrupted search goes on after the last day that was read.
        let mut page = DraftPage::new(9, 10);
        page.interrupted_at = Some(position(7));
        assert_eq!(page.next(), Some(position(7)));
        // The person counts with each event.
        let mut page = DraftPage::new(9, MAX_PAGE_BYTES / 2);
        assert!(page.add(event(0)).is_continue() && page.add(event(0)).is_continue());
        assert!(page.add(event(0)).is_break());
    }
}
