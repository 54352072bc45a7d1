//! The cohorts of many persons in one request.

use std::sync::Arc;

use cohorts_api::types::{Memberships, MembershipsRequest, PersonMemberships};
use cohorts_engine::stored_name;
use cohorts_store::members::{self, PublishedCohort};
use cohorts_store::{Conn, ProjectId, ShardKey, persons};
use roaring::RoaringBitmap;
use uuid::Uuid;

use crate::error::Error;
use crate::handlers::lookup;
use crate::index::IndexedStore;
use crate::index::look_ups::KnownMembers;

/// The most ids of persons in a request.
const MAX_IDS: usize = 1_000;
/// The most cohorts that a request names.
const MAX_COHORTS: usize = 100;
/// Cohorts with members in memory at the same time.
const COHORTS_AT_ONCE: usize = 64;

/// The ids that a request names persons by.
enum AskedIds {
    DistinctIds(Vec<String>),
    /// `None` is a text that is not a UUID, so no person has it.
    Uuids(Vec<Option<Uuid>>),
}

impl AskedIds {
    fn new(body: &mut MembershipsRequest) -> Result<Self, Error> {
        let at_most = |attr: &str, count: usize| {
            let detail = format!("At most {MAX_IDS} IDs are allowed, and these are {count}.");
            match count {
                0..=MAX_IDS => Ok(()),
                _ => Err(Error::field(attr, detail)),
            }
        };
        match (body.distinct_ids.take(), body.person_ids.take()) {
            (Some(_), Some(_)) => Err(Error::field(
                "distinct_ids",
                "Send `person_ids` or `distinct_ids`, not both.",
            )),
            (None, None) => Err(Error::field("distinct_ids", "This field is required.")),
            (Some(ids), None) => {
                at_most("distinct_ids", ids.len())?;
                Ok(Self::DistinctIds(ids))
            }
            (None, Some(ids)) => {
                at_most("person_ids", ids.len())?;
                let uuids = ids.iter().map(|id| Uuid::parse_str(id).ok());
                Ok(Self::Uuids(uuids.collect()))
            }
        }
    }

    /// For each id its person, as ordinal and uuid.
    fn persons(
        &self,
        conn: &mut Conn,
        shard_key: ShardKey,
    ) -> Result<Vec<Option<(i64, Uuid)>>, Error> {
        match self {
            Self::DistinctIds(ids) => {
                let names: Vec<_> = ids.iter().map(|id| stored_name(id)).collect();
                let texts: Vec<&str> = names.iter().map(|name| &**name).collect();
                let persons = persons::persons_by_id(conn, shard_key, &texts)?;
                Ok(texts
                    .iter()
                    .map(|text| persons.get(*text).copied())
                    .collect())
            }
            Self::Uuids(uuids) => {
                let known: Vec<Uuid> = uuids.iter().flatten().copied().collect();
                let ordinals = persons::ordinals_by_uuid(conn, shard_key, &known)?;
                let person = |uuid: Uuid| Some((*ordinals.get(&uuid)?, uuid));
                Ok(uuids.iter().map(|uuid| uuid.and_then(&person)).collect())
            }
        }
    }

    /// The entries of the response, without cohorts.
    fn entries(self, persons: &[Option<(i64, Uuid)>]) -> Vec<PersonMemberships> {
        let texts: Vec<Option<String>> = match self {
            Self::DistinctIds(ids) => ids.into_iter().map(Some).collect(),
            Self::Uuids(uuids) => vec![None; uuids.len()],
        };
        let entries = texts.into_iter().zip(persons);
        let entry = |(distinct_id, person): (_, &Option<(i64, Uuid)>)| PersonMemberships {
            distinct_id,
            person_id: person.map(|(_, uuid)| uuid),
            cohort_ids: Vec::new(),
        };
        entries.map(entry).collect()
    }
}

/// A request for the cohorts of persons.
pub struct MembershipsQuery {
    project: ProjectId,
    ids: AskedIds,
    /// `None` is all cohorts.
    cohorts: Option<Vec<i64>>,
}

impl MembershipsQuery {
    pub fn new(project: ProjectId, mut body: MembershipsRequest) -> Result<Self, Error> {
        if let Some(cohorts) = &body.cohort_ids {
            check_count(cohorts)?;
        }
        Ok(Self {
            project,
            ids: AskedIds::new(&mut body)?,
            cohorts: body.cohort_ids,
        })
    }

    /// Reads in the transaction of the caller, which needs none if the members are known.
    pub fn read(
        self,
        conn: &mut Conn,
        store: &IndexedStore,
        known: Option<Arc<KnownMembers>>,
    ) -> Result<Memberships, Error> {
        let shard_key = self.project.shard_key();
        let known = match known {
            Some(known) => Some(known),
            None => store.read_members(conn, self.project)?,
        };
        let persons = self.ids.persons(conn, shard_key)?;
        let ordinals = persons.iter().flatten().map(|(ordinal, _)| *ordinal);
        let asked = lookup::ordinal_set(ordinals)?;
        let of_persons = match known {
            Some(known) => of_known(&known, self.cohorts, asked)?,
            None => {
                let cohorts = cohorts(conn, self.project, self.cohorts)?;
                cohorts_of(conn, store, shard_key, &cohorts, asked)?
            }
        };
        let mut results = self.ids.entries(&persons);
        for (entry, person) in results.iter_mut().zip(&persons) {
            let cohorts = person.and_then(|(ordinal, _)| of_persons.get(ordinal));
            entry.cohort_ids = cohorts.unwrap_or_default().to_vec();
        }
        Ok(Memberships { results })
    }
}

/// The cohorts of each asked person, in the order in which they were added.
struct CohortsOfPersons {
    asked: RoaringBitmap,
    /// The persons and their cohorts, sorted by person.
    persons: Vec<(u32, Vec<i64>)>,
}

impl CohortsOfPersons {
    fn none(asked: RoaringBitmap) -> Self {
        let persons = asked.iter().map(|person| (person, Vec::new()));
        Self {
            persons: persons.collect(),
            asked,
        }
    }

    fn add(&mut self, cohort: i64, members: &RoaringBitmap) {
        let mut persons = self.persons.iter_mut();
        for found in members & &self.asked {
            if let Some((_, cohorts)) = persons.find(|(person, _)| *person == found) {
                cohorts.push(cohort);
            }
        }
    }

    fn get(&self, ordinal: i64) -> Option<&[i64]> {
        let key = |(person, _): &(u32, Vec<i64>)| i64::from(*person);
        let nth = self.persons.binary_search_by_key(&ordinal, key).ok()?;
        Some(&self.persons[nth].1)
    }
}

/// The cohorts of each person, in rising order, from members in memory.
fn of_known(
    known: &KnownMembers,
    ids: Option<Vec<i64>>,
    asked: RoaringBitmap,
) -> Result<CohortsOfPersons, Error> {
    let all = known.all().map(|(cohort, _)| cohort.clone());
    let chosen = chosen(all.collect(), ids)?;
    let is_chosen = |cohort: &PublishedCohort| {
        let found = chosen.binary_search_by_key(&cohort.id, |chosen| chosen.id);
        found.is_ok()
    };
    let mut of_persons = CohortsOfPersons::none(asked);
    for (cohort, members) in known.all().filter(|(cohort, _)| is_chosen(cohort)) {
        of_persons.add(cohort.id, members);
    }
    Ok(of_persons)
}

/// The cohorts of each person, in rising order.
fn cohorts_of(
    conn: &mut Conn,
    store: &IndexedStore,
    shard_key: ShardKey,
    cohorts: &[PublishedCohort],
    asked: RoaringBitmap,
) -> Result<CohortsOfPersons, Error> {
    let mut of_persons = CohortsOfPersons::none(asked);
    for part in cohorts.chunks(COHORTS_AT_ONCE) {
        let members = store.caches.members.get(conn, shard_key, part)?;
        for (cohort, members) in part.iter().zip(members) {
            of_persons.add(cohort.id, &members);
        }
    }
    Ok(of_persons)
}

/// Fails if a request names too many cohorts.
pub fn check_count(cohorts: &[i64]) -> Result<(), Error> {
    match cohorts.len() {
        0..=MAX_COHORTS => Ok(()),
        count => Err(Error::field(
            "cohort_ids",
            format!("At most {MAX_COHORTS} cohorts are allowed, and these are {count}."),
        )),
    }
}

/// The cohorts with these ids, or all, sorted by id.
pub fn cohorts(
    conn: &mut Conn,
    project: ProjectId,
    ids: Option<Vec<i64>>,
) -> Result<Vec<PublishedCohort>, Error> {
    chosen(members::published(conn, project)?, ids)
}

/// Those of the cohorts that a request names. Fails if there is no such cohort.
fn chosen(
    mut cohorts: Vec<PublishedCohort>,
    ids: Option<Vec<i64>>,
) -> Result<Vec<PublishedCohort>, Error> {
    if let Some(mut ids) = ids {
        ids.sort_unstable();
        ids.dedup();
        cohorts.retain(|cohort| ids.binary_search(&cohort.id).is_ok());
        let is_found = |id: &&i64| cohorts.iter().any(|cohort| cohort.id == **id);
        if let Some(unknown) = ids.iter().find(|id| !is_found(id)) {
            let detail = format!("The project has no cohort with the ID {unknown}.");
            return Err(Error::field("cohort_ids", detail));
        }
    }
    Ok(cohorts)
}
