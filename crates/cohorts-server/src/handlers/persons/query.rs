//! The persons that a request reads: source, criteria, and page. One transaction selects and ranks them, and reads the
//! first of them.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use cohorts_engine::{Filter, LeafCache, Plan, plan, stored_name};
use cohorts_store::{CohortId, Conn, ProjectId, changes, cohorts, members, persons};
use roaring::RoaringBitmap;
use serde_json::Value;

use super::cursor::Cursor;
use crate::auth::Caller;
use crate::calculation::moment;
use crate::error::Error;
use crate::handlers::lookup;
use crate::index::IndexedStore;
use crate::index::ranking::{RankPlace, RankedPersons};
use crate::index::read::{Limits, ReadTx};
use crate::index::references::CheckedCohorts;

/// The most persons on a page.
const MAX_LIMIT: i64 = 10_000;
/// How long the search for persons may take, and each statement after it.
const READ_LIMIT: Duration = Duration::from_secs(20);

/// The persons that a request reads.
pub struct PersonQuery {
    pub project: ProjectId,
    source: PersonSource,
    /// The time in the past at which the members are read; `None` for now.
    as_of: Option<DateTime<Utc>>,
    distinct_id: Option<String>,
    email: Option<String>,
    /// Whether the page has the number of all persons.
    pub has_total: bool,
    pub limit: Option<usize>,
    pub offset: i64,
    pub cursor: Option<Cursor>,
    /// Criteria of the parameter `properties`.
    plan: Option<Plan>,
    search: Option<String>,
}

/// The parameters that all lists and files of persons have.
pub struct PersonParameters {
    pub limit: Option<i64>,
    pub offset: i64,
    pub cursor: Option<String>,
    pub distinct_id: Option<String>,
    pub email: Option<String>,
    pub properties: Option<String>,
    pub search: Option<String>,
}

/// The persons before any criteria.
pub enum PersonSource {
    Project,
    /// The members of the cohort in the path.
    Members(CohortId),
    /// The members of the cohort of the parameter `cohort`.
    MembersOf(CohortId),
}

impl PersonQuery {
    /// All persons of `source`, without a limit.
    pub fn new(caller: &Caller, source: PersonSource) -> Self {
        Self {
            project: caller.project.id(),
            source,
            as_of: None,
            distinct_id: None,
            email: None,
            has_total: false,
            limit: None,
            offset: 0,
            cursor: None,
            plan: None,
            search: None,
        }
    }

    /// Narrows the persons to those that the parameters select.
    pub fn with_parameters(
        self,
        caller: &Caller,
        parameters: PersonParameters,
    ) -> Result<Self, Error> {
        let distinct_id = parameters.distinct_id;
        Ok(Self {
            limit: limit(parameters.limit),
            offset: parameters.offset,
            cursor: Cursor::parse(parameters.cursor.as_deref())?,
            distinct_id: distinct_id.map(|id| stored_name(&id).into_owned()),
            email: parameters.email,
            plan: properties_plan(caller, parameters.properties.as_deref())?,
            search: search_term(parameters.search),
            ..self
        })
    }

    /// Reads the members as published at a time of the past.
    pub fn at(self, as_of: Option<DateTime<Utc>>) -> Result<Self, Error> {
        if as_of.is_some_and(|time| time > Utc::now()) {
            return Err(Error::field("as_of", "Must not be in the future."));
        }
        Ok(Self { as_of, ..self })
    }

    pub fn with_total(self, has_total: bool) -> Self {
        Self { has_total, ..self }
    }

    /// The place at which the page begins; `None` if it is empty.
    pub fn first_place(&self, persons: &RankedPersons) -> Option<RankPlace> {
        match self.cursor {
            Some(Cursor::Start) => Some(persons.start()),
            Some(Cursor::After(key)) => Some(persons.place_after(key)),
            None => persons.place_at(u64::try_from(self.offset).ok()?),
        }
    }

    /// Runs `read` with the selected persons, in the transaction that selected them.
    pub fn run<T>(
        &self,
        conn: &mut Conn,
        store: &IndexedStore,
        read: impl FnOnce(&mut Conn, RankedPersons) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let Some(plan) = &self.plan else {
            return ReadTx::run(conn, self.project, limits(), |tx| {
                self.select(&tx, None, store, read)
            });
        };
        store.read_for_request(conn, self.project, plan, |snapshot| {
            snapshot
                .check_references(plan, &mut CheckedCohorts::default())
                .map_err(|cause| Error::reference("properties", cause))?;
            let matches = snapshot.evaluate(plan, &LeafCache::default())?;
            self.select(snapshot.tx(), Some(matches), store, read)
        })
    }

    /// Runs `read` in a transaction of its own, for persons that were selected before.
    pub fn run_again<T>(
        &self,
        conn: &mut Conn,
        read: impl FnOnce(&mut Conn) -> Result<T, Error>,
    ) -> Result<T, Error> {
        ReadTx::run(conn, self.project, limits(), |tx| {
            tx.try_with_conn_for(READ_LIMIT, read)
        })
    }

    fn select<T>(
        &self,
        tx: &ReadTx<'_>,
        matches: Option<RoaringBitmap>,
        store: &IndexedStore,
        read: impl FnOnce(&mut Conn, RankedPersons) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let shard_key = self.project.shard_key();
        let mut persons = tx.try_with_conn(|conn| self.source_persons(conn))?;
        if let Some(matches) = matches {
            intersect(&mut persons, matches);
        }
        if let Some(term) = &self.search {
            let matches = tx.with_conn(|conn| persons::search(conn, shard_key, term))?;
            intersect(&mut persons, lookup::ordinal_set(matches)?);
        }
        tx.try_with_conn_for(READ_LIMIT, |conn| {
            let ranking = store.ranking_for_request(conn, self.project)?;
            read(conn, RankedPersons::new(&store.caches, ranking, persons))
        })
    }

    /// The persons to select from; `None` is all persons of the project.
    fn source_persons(&self, conn: &mut Conn) -> Result<Option<RoaringBitmap>, Error> {
        let mut persons = match self.source {
            PersonSource::Project => None,
            PersonSource::Members(id) => Some(self.members(conn, id)?.ok_or(Error::NotFound)?),
            PersonSource::MembersOf(id) => {
                let members = self.members(conn, id)?;
                Some(members.ok_or_else(|| unknown_cohort(id))?)
            }
        };
        let shard_key = self.project.shard_key();
        if let Some(id) = &self.distinct_id {
            let ordinals = persons::ordinals_by_id(conn, shard_key, &[id])?;
            intersect(&mut persons, lookup::ordinal_set(ordinals.into_values())?);
        }
        if let Some(email) = &self.email {
            let ordinals = match storable(email) {
                Some(email) => persons::ordinals_by_email(conn, shard_key, &[email])?,
                None => Vec::new(),
            };
            let ordinals = ordinals.into_iter().map(|(_, ordinal)| ordinal);
            intersect(&mut persons, lookup::ordinal_set(ordinals)?);
        }
        Ok(persons)
    }

    /// The members of a cohort; `None` if the project has no such cohort.
    fn members(&self, conn: &mut Conn, id: CohortId) -> Result<Option<RoaringBitmap>, Error> {
        let Some((cohort, _)) = cohorts::find(conn, self.project, id)? else {
            return Ok(None);
        };
        let members = match self.as_of {
            Some(time) => {
                let members = changes::persons_as_of(conn, self.project, id, time)?;
                members.ok_or(Error::AsOfExpired)?
            }
            None => {
                let version = cohort.member_version;
                members::read(conn, self.project.shard_key(), id, version)?
            }
        };
        Ok(Some(members))
    }
}

fn unknown_cohort(id: CohortId) -> Error {
    let detail = format!("The project has no cohort with the ID {}.", id.0);
    Error::field("cohort", detail)
}

/// The text, unless it contains NUL: then the database cannot have it.
fn storable(text: &str) -> Option<&str> {
    (!text.contains('\0')).then_some(text)
}

/// The time for one reading of persons.
pub fn limits() -> Limits {
    Limits {
        deadline: Instant::now() + READ_LIMIT,
        memory: u64::MAX,
    }
}

fn intersect(persons: &mut Option<RoaringBitmap>, matches: RoaringBitmap) {
    *persons = Some(match persons.take() {
        Some(persons) => persons & matches,
        None => matches,
    });
}

/// The parameter `limit`; zero counts as absent.
fn limit(limit: Option<i64>) -> Option<usize> {
    let limit = limit.filter(|limit| *limit > 0)?.min(MAX_LIMIT);
    usize::try_from(limit).ok()
}

/// The parameter `search`; blank text counts as absent.
fn search_term(text: Option<String>) -> Option<String> {
    let term = text?.replace('\0', "").trim().to_owned();
    (!term.is_empty()).then_some(term)
}

/// The plan of the parameter `properties`: a list of property filters that must all match.
fn properties_plan(caller: &Caller, properties: Option<&str>) -> Result<Option<Plan>, Error> {
    let Some(text) = properties.filter(|text| !text.trim().is_empty()) else {
        return Ok(None);
    };
    let invalid = |detail: String| Error::field("properties", detail);
    let leaves = property_leaves(text).map_err(invalid)?;
    if leaves.is_empty() {
        return Ok(None);
    }
    let tree = serde_json::json!({"properties": {"type": "AND", "values": leaves}});
    let filter = Filter::parse_stored(&tree).map_err(|error| invalid(error.detail))?;
    let now = moment(&caller.project, Utc::now().timestamp_micros())?;
    let plan = plan(&filter, &now).map_err(|error| invalid(error.detail))?;
    Ok(Some(plan))
}

/// The leaves of the list; leaves without a type are person properties.
fn property_leaves(text: &str) -> Result<Vec<Value>, String> {
    let list = serde_json::from_str(text).map_err(|error| format!("Not valid JSON: {error}"))?;
    let Value::Array(mut leaves) = list else {
        return Err("Must be a list of property filters.".to_owned());
    };
    for leaf in leaves.iter_mut().filter_map(Value::as_object_mut) {
        leaf.entry("type").or_insert_with(|| "person".into());
    }
    Ok(leaves)
}
