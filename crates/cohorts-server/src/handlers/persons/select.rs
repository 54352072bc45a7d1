//! Which people are asked for, and the pages of them.

use std::time::{Duration, Instant};

use chrono::Utc;
use cohorts_api::RequestHead;
use cohorts_api::types::PersonPage;
use cohorts_engine::{Filter, LeafCache, Plan, plan};
use roaring::RoaringBitmap;
use serde_json::Value;

use super::{Answer, show};
use crate::auth::Caller;
use crate::calculation::moment;
use crate::error::Error;
use crate::handlers::Service;
use crate::store::blocks::Snapshot;
use crate::store::order::{Order, Orders, Standing};
use crate::store::persons::{self, Person};
use crate::store::reader::Reader;
use crate::store::{CohortId, Conn, ProjectId, Store, cohorts, members};

const DEFAULT_LIMIT: usize = 100;
const MOST: i64 = 10_000;
/// How long finding the people may take, and any one statement after it.
const READ_LIMIT: Duration = Duration::from_secs(20);

/// Which people are asked for.
pub struct Selection {
    pub project: ProjectId,
    pub whom: Whom,
    pub limit: Option<usize>,
    pub offset: i64,
    pub cursor: Option<Cursor>,
    /// Further criteria that they must meet.
    pub plan: Option<Plan>,
    pub search: Option<String>,
}

pub enum Whom {
    Everyone,
    Members(CohortId),
    DistinctId(String),
}

/// Where a page begins.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Cursor {
    Start,
    Behind(Standing),
}

impl Cursor {
    fn text((created, number): Standing) -> String {
        let mut bytes = created.to_be_bytes().to_vec();
        bytes.extend(number.to_be_bytes());
        hex::encode(bytes)
    }
}

/// The cursor that the parameter holds; without the parameter there is none.
fn cursor(text: Option<&str>) -> Result<Option<Cursor>, Error> {
    let text = match text {
        None => return Ok(None),
        Some("") => return Ok(Some(Cursor::Start)),
        Some(text) => text,
    };
    let mut bytes = [0; 12];
    hex::decode_to_slice(text, &mut bytes)
        .map_err(|_| Error::field("cursor", "It is no cursor that this service gave."))?;
    let [a, b, c, d, e, f, g, h, number @ ..] = bytes;
    let created = i64::from_be_bytes([a, b, c, d, e, f, g, h]);
    Ok(Some(Cursor::Behind((created, u32::from_be_bytes(number)))))
}

/// Zero counts as absent.
fn limit(asked: Option<i64>) -> Option<usize> {
    let limit = asked.filter(|limit| *limit > 0)?.min(MOST);
    usize::try_from(limit).ok()
}

/// What is to be searched for, if anything.
fn term(text: Option<String>) -> Option<String> {
    let term = text?.replace('\0', "").trim().to_owned();
    (!term.is_empty()).then_some(term)
}

/// The criteria in the parameter `properties`: a list of tests of properties, all of which must hold.
fn plan_of(caller: &Caller, properties: Option<&str>) -> Result<Option<Plan>, Error> {
    let Some(text) = properties.filter(|text| !text.trim().is_empty()) else {
        return Ok(None);
    };
    let wrong = |detail: String| Error::field("properties", detail);
    let list: Value =
        serde_json::from_str(text).map_err(|error| wrong(format!("It is no JSON: {error}")))?;
    let Value::Array(mut leaves) = list else {
        return Err(wrong("It must be a list of property filters.".to_owned()));
    };
    if leaves.is_empty() {
        return Ok(None);
    }
    for leaf in leaves.iter_mut().filter_map(Value::as_object_mut) {
        leaf.entry("type").or_insert_with(|| "person".into());
    }
    let tree = serde_json::json!({"properties": {"type": "AND", "values": leaves}});
    let filter = Filter::parse_stored(&tree).map_err(|error| wrong(error.detail))?;
    let now = moment(&caller.project, Utc::now().timestamp_micros())?;
    plan(&filter, &now)
        .map(Some)
        .map_err(|error| wrong(error.detail))
}

/// Numbers of people, as the bitmap that sets of them are.
pub fn set(numbers: impl Iterator<Item = i64>) -> Result<RoaringBitmap, Error> {
    let numbers = numbers.map(|number| u32::try_from(number).map_err(anyhow::Error::from));
    Ok(numbers.collect::<Result<RoaringBitmap, _>>()?)
}

pub fn number_of(person: &Person) -> Result<u32, Error> {
    Ok(u32::try_from(person.number).map_err(anyhow::Error::from)?)
}

/// The people who were found, by where they stand.
pub struct Found {
    pub order: std::sync::Arc<Order>,
    pub positions: RoaringBitmap,
}

impl Found {
    /// Those from a position on.
    fn from(&self, position: u32) -> impl Iterator<Item = Standing> {
        self.positions
            .range(position..)
            .map(|position| self.order.at(position))
    }

    /// Those who are left after what the selection skips.
    pub fn rest(&self, asked: &Selection) -> impl Iterator<Item = Standing> {
        let first = match asked.cursor {
            Some(Cursor::Start) => Some(0),
            Some(Cursor::Behind(standing)) => Some(self.order.behind(standing)),
            None => u32::try_from(asked.offset)
                .ok()
                .and_then(|offset| self.positions.select(offset)),
        };
        first.into_iter().flat_map(|first| self.from(first))
    }
}

impl Selection {
    /// All of them, without a page or further conditions.
    pub fn new(caller: &Caller, whom: Whom) -> Self {
        Self {
            project: caller.project.id(),
            whom,
            limit: None,
            offset: 0,
            cursor: None,
            plan: None,
            search: None,
        }
    }

    pub fn page(
        self,
        limit: Option<i64>,
        offset: i64,
        cursor: Option<&str>,
    ) -> Result<Self, Error> {
        Ok(Self {
            limit: self::limit(limit),
            offset,
            cursor: self::cursor(cursor)?,
            ..self
        })
    }

    pub fn narrowed(
        self,
        caller: &Caller,
        properties: Option<&str>,
        search: Option<String>,
    ) -> Result<Self, Error> {
        Ok(Self {
            plan: plan_of(caller, properties)?,
            search: term(search),
            ..self
        })
    }

    /// Goes on with those who are asked for, all of it under one snapshot.
    pub fn find<T>(
        &self,
        conn: &mut Conn,
        store: &Store,
        then: impl FnOnce(&mut Conn, Found) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let Some(plan) = &self.plan else {
            let deadline = Instant::now() + READ_LIMIT;
            return Reader::read(conn, self.project, deadline, |reader| {
                self.found(&reader, None, &store.orders, then)
            });
        };
        Snapshot::read(conn, &store.views, self.project, READ_LIMIT, |snapshot| {
            let meeting = snapshot.evaluate(plan, &LeafCache::default())?;
            self.found(snapshot.reader(), Some(meeting), &store.orders, then)
        })
    }

    fn found<T>(
        &self,
        reader: &Reader,
        meeting: Option<RoaringBitmap>,
        orders: &Orders,
        then: impl FnOnce(&mut Conn, Found) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let place = self.project.place();
        let mut people = reader.ask(|conn| self.people(conn))?;
        if let Some(meeting) = meeting {
            narrow(&mut people, meeting);
        }
        if let Some(term) = &self.search {
            let found = reader.ask(|conn| Ok(persons::search(conn, place, term)?))?;
            narrow(&mut people, set(found.into_iter())?);
        }
        reader.ask_within(READ_LIMIT, |conn| {
            let order = orders.of(conn, place)?;
            let positions = match people {
                Some(people) => order.positions(&people),
                None => order.everyone(),
            };
            then(conn, Found { order, positions })
        })
    }

    /// Those among whom the search is; nothing stands for everybody.
    fn people(&self, conn: &mut Conn) -> Result<Option<RoaringBitmap>, Error> {
        let place = self.project.place();
        match &self.whom {
            Whom::Everyone => Ok(None),
            Whom::DistinctId(id) if id.contains('\0') => Ok(Some(RoaringBitmap::new())),
            Whom::DistinctId(id) => {
                let found = persons::numbers_of(conn, place, &[id])?;
                Ok(Some(set(found.into_values())?))
            }
            Whom::Members(id) => {
                let found = cohorts::find(conn, self.project, *id)?;
                let (cohort, _) = found.ok_or(Error::NotFound)?;
                let members = members::read(conn, place, *id, cohort.member_version)?;
                Ok(Some(members))
            }
        }
    }
}

fn narrow(people: &mut Option<RoaringBitmap>, by: RoaringBitmap) {
    *people = Some(match people.take() {
        Some(people) => people & by,
        None => by,
    });
}

impl Service {
    pub(super) async fn page(&self, asked: Selection, head: &RequestHead) -> Result<Answer, Error> {
        let limit = asked.limit.unwrap_or(DEFAULT_LIMIT);
        let (offset, by_cursor) = (asked.offset, asked.cursor.is_some());
        let store = self.store.clone();
        let read = move |conn: &mut Conn| {
            asked.find(conn, &store, |conn, found| {
                // One more tells whether there is another page.
                let mut standings: Vec<Standing> = found.rest(&asked).take(limit + 1).collect();
                let more = standings.len() > limit;
                standings.truncate(limit);
                let numbers: Vec<i64> = standings.iter().map(|one| one.1.into()).collect();
                let people = show::of_numbers(conn, asked.project.place(), &numbers)?;
                Ok((people, standings.last().copied(), standings.len(), more))
            })
        };
        let (results, last, length, more) = self.store.read(read).await?;
        let links = self.links(head);
        let (next, previous) = if by_cursor {
            let behind = last.filter(|_| more).map(Cursor::text);
            (behind.map(|cursor| links.with(&[("cursor", cursor)])), None)
        } else {
            let limit = limit as i64;
            let to = |offset: i64| links.with(&[("offset", offset.to_string())]);
            let full = length as i64 >= limit;
            (
                full.then(|| to(offset.saturating_add(limit))),
                (offset >= limit).then(|| to(offset - limit)),
            )
        };
        Ok(Answer::Page(PersonPage {
            results,
            next,
            previous,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_was_written_and_nothing_else_is() {
        for standing in [(0, 0), (-5, 7), (i64::MAX, u32::MAX)] {
            let text = Cursor::text(standing);
            assert_eq!(cursor(Some(&text)).unwrap(), Some(Cursor::Behind(standing)));
        }
        assert_eq!(cursor(None).unwrap(), None);
        assert_eq!(cursor(Some("")).unwrap(), Some(Cursor::Start));
        for wrong in ["x", "00", "é", "000000000000000000000000ff"] {
            assert!(cursor(Some(wrong)).is_err(), "{wrong}");
        }
    }
}
