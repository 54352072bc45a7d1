//! Which people are asked for, and the pages of them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::Utc;
use cohorts_api::RequestHead;
use cohorts_api::types::PersonPage;
use cohorts_engine::{Filter, LeafCache, Plan, plan};
use cohorts_store::persons::{self, Person};
use cohorts_store::{CohortId, Conn, ProjectId, cohorts, members};
use roaring::RoaringBitmap;
use serde_json::Value;

use super::{Answer, show};
use crate::auth::Caller;
use crate::blocking;
use crate::calculation::moment;
use crate::error::Error;
use crate::handlers::Service;
use crate::index::IndexedStore;
use crate::index::ranking::{RankKey, Ranking, RankingCache};
use crate::index::read::{Limits, ReadTx};
use crate::index::snapshot::Snapshot;

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
    After(RankKey),
}

impl Cursor {
    fn text(key: RankKey) -> String {
        let mut bytes = key.created_at.to_be_bytes().to_vec();
        bytes.extend(key.ordinal.to_be_bytes());
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
    let [a, b, c, d, e, f, g, h, ordinal @ ..] = bytes;
    Ok(Some(Cursor::After(RankKey {
        created_at: i64::from_be_bytes([a, b, c, d, e, f, g, h]),
        ordinal: u32::from_be_bytes(ordinal),
    })))
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
pub fn set(ordinals: impl Iterator<Item = i64>) -> Result<RoaringBitmap, Error> {
    let ordinals = ordinals.map(|ordinal| u32::try_from(ordinal).map_err(anyhow::Error::from));
    Ok(ordinals.collect::<Result<RoaringBitmap, _>>()?)
}

pub fn ordinal_of(person: &Person) -> Result<u32, Error> {
    Ok(u32::try_from(person.ordinal).map_err(anyhow::Error::from)?)
}

/// The selected persons, by their ranks.
pub struct SelectedPersons {
    pub ranking: Arc<Ranking>,
    pub ranks: RoaringBitmap,
}

impl SelectedPersons {
    /// The persons from a rank on.
    fn from_rank(&self, rank: u32) -> impl Iterator<Item = RankKey> {
        self.ranks
            .range(rank..)
            .map(|rank| self.ranking.key_at(rank))
    }

    /// The persons from the beginning of the selected page on.
    pub fn page(&self, selection: &Selection) -> impl Iterator<Item = RankKey> {
        let first = match selection.cursor {
            Some(Cursor::Start) => Some(0),
            Some(Cursor::After(key)) => Some(self.ranking.after(key)),
            None => u32::try_from(selection.offset)
                .ok()
                .and_then(|offset| self.ranks.select(offset)),
        };
        first.into_iter().flat_map(|first| self.from_rank(first))
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

    /// Runs `then` on the selected persons. Everything sees the data of one instant.
    pub fn find<T>(
        &self,
        conn: &mut Conn,
        store: &IndexedStore,
        then: impl FnOnce(&mut Conn, SelectedPersons) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let caches = &store.caches;
        let Some(plan) = &self.plan else {
            let limits = Limits {
                deadline: Instant::now() + READ_LIMIT,
                memory: u64::MAX,
            };
            return ReadTx::run(conn, self.project, limits, |tx| {
                self.select(&tx, None, &caches.rankings, then)
            });
        };
        Snapshot::read(conn, &caches.index, self.project, READ_LIMIT, |snapshot| {
            let matching = snapshot.evaluate(plan, &LeafCache::default())?;
            self.select(snapshot.tx(), Some(matching), &caches.rankings, then)
        })
    }

    fn select<T>(
        &self,
        tx: &ReadTx<'_>,
        matching: Option<RoaringBitmap>,
        rankings: &RankingCache,
        then: impl FnOnce(&mut Conn, SelectedPersons) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let shard_key = self.project.shard_key();
        let mut persons = tx.try_with_conn(|conn| self.source(conn))?;
        if let Some(matching) = matching {
            narrow(&mut persons, matching);
        }
        if let Some(term) = &self.search {
            let matching = tx.with_conn(|conn| persons::search(conn, shard_key, term))?;
            narrow(&mut persons, set(matching.into_iter())?);
        }
        tx.try_with_conn_for(READ_LIMIT, |conn| {
            let ranking = rankings.get(conn, shard_key)?;
            let ranks = match persons {
                Some(persons) => ranking.ranks(&persons),
                None => ranking.all(),
            };
            then(conn, SelectedPersons { ranking, ranks })
        })
    }

    /// The persons to select from; `None` is all persons of the project.
    fn source(&self, conn: &mut Conn) -> Result<Option<RoaringBitmap>, Error> {
        let shard_key = self.project.shard_key();
        match &self.whom {
            Whom::Everyone => Ok(None),
            Whom::DistinctId(id) if id.contains('\0') => Ok(Some(RoaringBitmap::new())),
            Whom::DistinctId(id) => {
                let ordinals = persons::ordinals_by_id(conn, shard_key, &[id])?;
                Ok(Some(set(ordinals.into_values())?))
            }
            Whom::Members(id) => {
                let found = cohorts::find(conn, self.project, *id)?;
                let (cohort, _) = found.ok_or(Error::NotFound)?;
                let members = members::read(conn, shard_key, *id, cohort.member_version)?;
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
    pub(super) async fn page(
        &self,
        selection: Selection,
        head: &RequestHead,
    ) -> Result<Answer, Error> {
        let limit = selection.limit.unwrap_or(DEFAULT_LIMIT);
        let (offset, by_cursor) = (selection.offset, selection.cursor.is_some());
        let store = self.store.clone();
        let read = move |conn: &mut Conn| {
            selection.find(conn, &store, |conn, selected| {
                // One more key than the limit shows whether there is another page.
                let mut keys: Vec<RankKey> = selected.page(&selection).take(limit + 1).collect();
                let more = keys.len() > limit;
                keys.truncate(limit);
                let ordinals: Vec<i64> = keys.iter().map(|key| key.ordinal.into()).collect();
                let shard_key = selection.project.shard_key();
                let persons = show::by_ordinals(conn, shard_key, &ordinals)?;
                Ok((persons, keys.last().copied(), keys.len(), more))
            })
        };
        let (results, last, length, more) = blocking::read(&self.store, read).await?;
        let links = self.links(head);
        let (next, previous) = if by_cursor {
            let after = last.filter(|_| more).map(Cursor::text);
            (after.map(|cursor| links.with(&[("cursor", cursor)])), None)
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
        for (created_at, ordinal) in [(0, 0), (-5, 7), (i64::MAX, u32::MAX)] {
            let key = RankKey {
                created_at,
                ordinal,
            };
            let text = Cursor::text(key);
            assert_eq!(cursor(Some(&text)).unwrap(), Some(Cursor::After(key)));
        }
        assert_eq!(cursor(None).unwrap(), None);
        assert_eq!(cursor(Some("")).unwrap(), Some(Cursor::Start));
        for wrong in ["x", "00", "é", "000000000000000000000000ff"] {
            assert!(cursor(Some(wrong)).is_err(), "{wrong}");
        }
    }
}
