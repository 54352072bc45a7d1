//! What is more or less common among the members of a cohort than among other persons.
//!
//! Members are those of the last calculation. The numbers come from the index, as of the same transaction.

use std::collections::{BTreeSet, HashMap};

use cohorts_api::types::{
    CohortCompareRequest, ComparedEvent, ComparedPersons, ComparedProperty, ComparedValue,
};
use cohorts_engine::Source;
use cohorts_engine::lift::{Difference, GroupCounts, GroupValueCounts, Groups, best};
use cohorts_store::members::{self, PublishedCohort};
use cohorts_store::{Conn, ProjectId, persons};
use roaring::RoaringBitmap;

use crate::error::Error;
use crate::index::snapshot::Snapshot;
use crate::index::stop::StopFlag;
use crate::index::{IndexResult, IndexedStore};

/// The most properties of a request, and of a response without `keys`.
const MAX_KEYS: usize = 50;
/// The most bytes of the name of a property.
const MAX_KEY_BYTES: usize = 1_000;
/// Persons of each group that decide which properties are compared without `keys`.
const SAMPLE: u32 = 1_000;
/// The values of a property in the response.
const SHOWN_VALUES: usize = 20;
/// The events in the response.
const SHOWN_EVENTS: usize = 100;

/// A comparison of the members of a cohort with other persons.
#[derive(Clone)]
pub struct MemberComparison {
    project: ProjectId,
    cohort: i64,
    /// `None` is all persons.
    with: Option<i64>,
    /// `None` is the most frequent properties.
    keys: Option<Vec<String>>,
}

/// The numbers of persons that a response is made of.
struct Counted {
    sizes: GroupCounts,
    properties: Vec<(String, GroupValueCounts)>,
    /// The events that persons of the groups have.
    events: HashMap<String, GroupCounts>,
}

impl MemberComparison {
    pub fn new(project: ProjectId, cohort: i64, body: CohortCompareRequest) -> Result<Self, Error> {
        Ok(Self {
            project,
            cohort,
            with: body.with,
            keys: body.keys.map(checked_keys).transpose()?,
        })
    }

    /// Counts until `stop` is set.
    pub fn read(
        self,
        conn: &mut Conn,
        store: &IndexedStore,
        stop: &StopFlag,
    ) -> Result<ComparedPersons, Error> {
        let work = |snapshot: &Snapshot<'_, '_>| self.count(&snapshot.with_stop(stop), store);
        let load = || {
            let (query, store) = (self.clone(), store.clone());
            move |snapshot: &Snapshot<'_, '_>| query.count(snapshot, &store).map(drop)
        };
        let counted = store.read_for_request_with(conn, self.project, work, load)?;
        Ok(counted.presented())
    }

    fn count(&self, snapshot: &Snapshot<'_, '_>, store: &IndexedStore) -> Result<Counted, Error> {
        let groups = self.groups(snapshot, store)?;
        let keys = match &self.keys {
            Some(keys) => keys.clone(),
            None => frequent_keys(snapshot, &groups)?,
        };
        let values = snapshot.compare_values(&keys, &groups)?;
        Ok(Counted {
            sizes: groups.sizes(),
            properties: keys.into_iter().zip(values).collect(),
            events: counted_events(snapshot, &groups)?,
        })
    }

    /// The members, and the persons to compare them with.
    fn groups(&self, snapshot: &Snapshot<'_, '_>, store: &IndexedStore) -> Result<Groups, Error> {
        let published = (snapshot.tx()).with_conn(|conn| members::published(conn, self.project))?;
        let find = |id: i64| published.iter().find(|cohort| cohort.id == id);
        let cohort = find(self.cohort).ok_or(Error::NotFound)?;
        let other = self.with.map(|id| find(id).ok_or_else(|| unknown(id)));
        let cohorts: Vec<PublishedCohort> = [cohort]
            .into_iter()
            .chain(other.transpose()?)
            .cloned()
            .collect();
        let shard_key = self.project.shard_key();
        let cache = &store.caches.members;
        let members = (snapshot.tx()).with_conn(|conn| cache.get(conn, shard_key, &cohorts))?;
        let persons = snapshot.persons()?;
        // A person who was merged since the last calculation is no person of the project.
        let members: Vec<RoaringBitmap> = members.iter().map(|some| &**some & &*persons).collect();
        let everyone = || RoaringBitmap::clone(&persons);
        let mut members = members.into_iter();
        let inside = members.next().unwrap_or_default();
        let outside = members.next().unwrap_or_else(everyone) - &inside;
        Ok(Groups { inside, outside })
    }
}

fn unknown(id: i64) -> Error {
    Error::field(
        "with",
        format!("The project has no cohort with the ID {id}."),
    )
}

/// The keys of a request, each once.
fn checked_keys(keys: Vec<String>) -> Result<Vec<String>, Error> {
    let count = keys.len();
    if count > MAX_KEYS {
        let detail = format!("At most {MAX_KEYS} keys are allowed, and these are {count}.");
        return Err(Error::field("keys", detail));
    }
    for (nth, key) in keys.iter().enumerate() {
        let bytes = key.len();
        if bytes > MAX_KEY_BYTES {
            let detail = format!(
                "keys[{nth}] has {bytes} bytes; the name of a property may have {MAX_KEY_BYTES} at most."
            );
            return Err(Error::field("keys", detail));
        }
    }
    let keys: BTreeSet<String> = keys.into_iter().collect();
    Ok(keys.into_iter().collect())
}

/// The properties that most persons of a sample of both groups have.
fn frequent_keys(snapshot: &Snapshot<'_, '_>, groups: &Groups) -> IndexResult<Vec<String>> {
    let samples = [&groups.inside, &groups.outside].map(sample);
    let ordinals: Vec<i64> = samples.into_iter().flatten().collect();
    let tx = snapshot.tx();
    tx.with_conn(|conn| persons::property_names(conn, tx.shard_key(), &ordinals, MAX_KEYS))
}

/// Some persons at equal distances in the order of creation, or all.
fn sample(persons: &RoaringBitmap) -> Vec<i64> {
    let (count, size) = (persons.len(), persons.len().min(u64::from(SAMPLE)));
    let ranks = (0..size).map(|nth| u32::try_from(nth * count / size).unwrap_or(u32::MAX));
    let ordinals = ranks.filter_map(|rank| persons.select(rank));
    ordinals.map(i64::from).collect()
}

fn counted_events(
    snapshot: &Snapshot<'_, '_>,
    groups: &Groups,
) -> IndexResult<HashMap<String, GroupCounts>> {
    let mut events = HashMap::new();
    for name in snapshot.event_names()? {
        let counts = snapshot.count_event(&name, groups)?;
        if counts != GroupCounts::default() {
            events.insert(name, counts);
        }
    }
    Ok(events)
}

impl Counted {
    fn presented(self) -> ComparedPersons {
        let of = self.sizes;
        let event_names = self.events.len() as i64;
        let events = best(self.events, of, SHOWN_EVENTS).into_iter();
        let events = events.map(|(event, counts)| ComparedEvent {
            event,
            inside: counts.inside as i64,
            outside: counts.outside as i64,
            lift: counts.lift(of),
        });
        ComparedPersons {
            inside: of.inside as i64,
            outside: of.outside as i64,
            properties: presented_properties(self.properties, of),
            events: events.collect(),
            event_names,
        }
    }
}

/// The properties, that with the largest difference first, and equal ones by name.
fn presented_properties(
    counted: Vec<(String, GroupValueCounts)>,
    of: GroupCounts,
) -> Vec<ComparedProperty> {
    let presented = counted
        .into_iter()
        .map(|(key, counted)| property(key, counted, of));
    let mut properties: Vec<(Difference, ComparedProperty)> = presented.collect();
    properties.sort_by(|(a, first), (b, second)| b.cmp(a).then_with(|| first.key.cmp(&second.key)));
    properties
        .into_iter()
        .map(|(_, property)| property)
        .collect()
}

/// A property, and its largest difference.
fn property(
    key: String,
    counted: GroupValueCounts,
    of: GroupCounts,
) -> (Difference, ComparedProperty) {
    let with_value = counted.with_value;
    let values = counted.values();
    let values_count = values.as_ref().map(|values| values.len() as i64);
    let values = best(values.unwrap_or_default(), of, SHOWN_VALUES);
    let differences = values.iter().map(|(_, counts)| counts.difference(of));
    let largest = differences.chain([with_value.difference(of)]).max();
    let values = values.into_iter().map(|(value, counts)| ComparedValue {
        value,
        inside: counts.inside as i64,
        outside: counts.outside as i64,
        lift: counts.lift(of),
    });
    let property = ComparedProperty {
        key,
        inside: with_value.inside as i64,
        outside: with_value.outside as i64,
        lift: with_value.lift(of),
        values_count,
        values: values.collect(),
    };
    (largest.unwrap_or_default(), property)
}
