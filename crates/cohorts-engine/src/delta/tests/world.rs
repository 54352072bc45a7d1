//! A project with a history, and cohorts that follow it by delta evaluation.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::convert::Infallible;
use std::sync::Arc;

use jiff::Timestamp;
use roaring::RoaringBitmap;
use serde_json::{Value, json};

use crate::cases::{Event, Person, answer, day_blocks};
use crate::delta::{
    ChangeSource, Changes, DateQuery, Definition, Definitions, EvaluationState, FullReason,
    LogSpan, Needs, Pass, Position, Settings, VersionSpan, lookup,
};
use crate::eval::tests::naive::{self, NaiveEvent, NaivePerson, Population};
use crate::{
    Action, EventBlock, EventQuery, Filter, Interrupt, LeafCache, PropertyBlock,
    PropertyBlockBuilder, Reference, Source, TimeSpan, TimesBlock, plan_query,
};

use super::settings;

/// Writes of one kind: sequence numbers and persons.
type Writes = Vec<(i64, u32)>;

type Blocks = Vec<Arc<EventBlock>>;

/// A project with its log, so that changes between any two positions are known.
#[derive(Clone, Default)]
pub struct World {
    pub seq: i64,
    pub persons: BTreeMap<u32, Person>,
    /// Merged persons, and distinct ids without a person that were added to one.
    redirects: BTreeMap<u32, u32>,
    /// Events with their sequence numbers. An event keeps its ordinal.
    events: Vec<(i64, Event)>,
    identities: Writes,
    distinct_ids: Writes,
    changes: Writes,
    /// All versions of the members of static cohorts.
    pub lists: BTreeMap<i64, Vec<RoaringBitmap>>,
    /// The filters and queries of dynamic cohorts.
    pub dynamic: BTreeMap<i64, Value>,
    pub actions: BTreeMap<i64, Value>,
    /// The blocks of events since the last write, by name and properties.
    blocks: RefCell<HashMap<(String, Vec<String>), Blocks>>,
    /// Whether the persons with a date cannot be identified.
    pub hides_dates: bool,
    /// The names that were looked up.
    pub lookups: RefCell<Vec<String>>,
}

impl World {
    /// Persons with these properties and the ordinals from zero.
    pub fn of(properties: &[Value]) -> World {
        let mut world = World::default();
        for (ordinal, properties) in (0..).zip(properties) {
            world.create(ordinal, properties.clone());
        }
        world
    }

    fn write(&mut self) -> i64 {
        self.blocks.get_mut().clear();
        self.seq += 1;
        self.seq
    }

    /// Creates a person. Earlier events of the ordinal become events of the person.
    pub fn create(&mut self, ordinal: u32, properties: Value) {
        let seq = self.write();
        self.identities.push((seq, ordinal));
        self.persons.insert(
            ordinal,
            Person {
                distinct_ids: vec![format!("id{ordinal}")],
                properties,
                created_at: 0,
            },
        );
    }

    pub fn event(&mut self, ordinal: u32, name: &str, time: i64, properties: Value) {
        let seq = self.write();
        let event = Event {
            name: name.to_owned(),
            person: ordinal,
            time,
            properties,
        };
        self.events.push((seq, event));
    }

    pub fn change(&mut self, ordinal: u32, change: impl FnOnce(&mut Person)) {
        let seq = self.write();
        self.changes.push((seq, ordinal));
        self.persons.get_mut(&ordinal).map(change);
    }

    /// Moves the distinct ids and the events of `loser` to `survivor`.
    pub fn merge(&mut self, survivor: u32, loser: u32) {
        let seq = self.write();
        self.identities.extend([(seq, survivor), (seq, loser)]);
        let merged = self.persons.remove(&loser).unwrap();
        let ids = &mut self.persons.get_mut(&survivor).unwrap().distinct_ids;
        ids.extend(merged.distinct_ids);
        self.redirects.insert(loser, survivor);
        for versions in self.lists.values_mut() {
            let mut members = versions.last().unwrap().clone();
            if members.remove(loser) {
                members.insert(survivor);
                versions.push(members);
            }
        }
    }

    pub fn delete(&mut self, ordinal: u32) {
        let seq = self.write();
        self.identities.push((seq, ordinal));
        self.persons.remove(&ordinal);
        let redirects = self.redirects.clone();
        self.events
            .retain(|(_, event)| resolved(&redirects, event.person) != ordinal);
    }

    /// Adds a distinct id to a person. Events of `anonymous` were sent under the id.
    pub fn alias(&mut self, ordinal: u32, anonymous: u32) {
        let seq = self.write();
        self.distinct_ids.push((seq, ordinal));
        self.redirects.insert(anonymous, ordinal);
        let person = self.persons.get_mut(&ordinal).unwrap();
        person.distinct_ids.push(format!("id{anonymous}"));
    }

    pub fn upload(&mut self, id: i64, members: impl IntoIterator<Item = u32>) {
        let versions = self.lists.entry(id).or_default();
        versions.push(members.into_iter().collect());
    }

    /// Deletes all events before an instant.
    pub fn delete_events_before(&mut self, instant: i64) {
        self.blocks.get_mut().clear();
        self.events.retain(|(_, event)| event.time >= instant);
    }

    /// All events, with the persons that have them now.
    fn resolved_events(&self) -> Vec<Event> {
        let events = self.events.iter().map(|(_, event)| Event {
            person: resolved(&self.redirects, event.person),
            ..event.clone()
        });
        events.collect()
    }

    fn written(writes: &Writes, span: LogSpan) -> RoaringBitmap {
        let inside = |seq: i64| span.after < seq && seq <= span.through;
        let writes = writes.iter().filter(|(seq, _)| inside(*seq));
        writes.map(|(_, person)| *person).collect()
    }

    fn looked_up(&self, lookup: String) {
        self.lookups.borrow_mut().push(lookup);
    }

    /// The members by the naive evaluator.
    pub fn naive_members(&self, filter: &Value, now: i64, zone: &str) -> RoaringBitmap {
        let ordinals = Vec::from_iter(self.persons.keys().copied());
        let position = |ordinal: u32| ordinals.binary_search(&ordinal).ok();
        let events = self.resolved_events().into_iter().filter_map(|event| {
            Some(NaiveEvent {
                name: event.name,
                person: position(event.person)?,
                time: event.time,
                properties: event.properties,
            })
        });
        let lists = self.lists.iter().map(|(id, versions)| {
            let members = versions.last().unwrap().iter();
            (*id, members.filter_map(position).collect())
        });
        // The naive evaluator has no queries.
        let at = settings(zone).moment(now).unwrap();
        let queries = self.dynamic.iter().filter(|(_, query)| is_query(query));
        let queries = queries.map(|(id, query)| {
            let Ok(members) = plan_query(query, &at).unwrap().evaluate(self);
            (*id, members.iter().filter_map(position).collect())
        });
        let filters = self.dynamic.iter().filter(|(_, filter)| !is_query(filter));
        let population = Population {
            persons: self.persons.values().map(naive_person).collect(),
            events: events.collect(),
            lists: lists.chain(queries).collect(),
            filters: filters
                .map(|(id, filter)| (*id, for_naive(filter)))
                .collect(),
            actions: self.actions.clone(),
        };
        let members = naive::members(&population, &for_naive(filter), now, zone);
        members
            .into_iter()
            .map(|position| ordinals[position])
            .collect()
    }
}

fn resolved(redirects: &BTreeMap<u32, u32>, ordinal: u32) -> u32 {
    let mut ordinal = ordinal;
    while let Some(next) = redirects.get(&ordinal) {
        ordinal = *next;
    }
    ordinal
}

fn is_query(definition: &Value) -> bool {
    definition.get("kind").is_some()
}

/// A person with the creation time and the distinct ids as properties.
fn naive_person(person: &Person) -> NaivePerson {
    let mut properties = json!({});
    for (key, value) in person.properties.as_object().into_iter().flatten() {
        properties[key] = value.clone();
    }
    let created_at = Timestamp::from_microsecond(person.created_at).unwrap();
    properties["$created_at"] = json!(created_at.to_string());
    for id in &person.distinct_ids {
        properties[format!("$id {id}")] = json!(true);
    }
    NaivePerson { properties }
}

/// A filter in which creation times and distinct ids are properties.
fn for_naive(filter: &Value) -> Value {
    match filter {
        Value::Object(leaf) if leaf.get("type") == Some(&json!("person_metadata")) => {
            let mut leaf = leaf.clone();
            leaf["type"] = json!("person");
            leaf["key"] = json!("$created_at");
            Value::Object(leaf)
        }
        Value::Object(leaf) if leaf.get("key") == Some(&json!("distinct_id")) => {
            let mut leaf = leaf.clone();
            leaf["key"] = json!(format!("$id {}", leaf["value"].as_str().unwrap()));
            leaf["operator"] = json!("is_set");
            Value::Object(leaf)
        }
        Value::Object(members) => {
            let members = members.iter();
            members
                .map(|(key, value)| (key.clone(), for_naive(value)))
                .collect()
        }
        Value::Array(items) => items.iter().map(for_naive).collect(),
        other => other.clone(),
    }
}

impl Interrupt for World {
    type Error = Infallible;
}

impl Source for World {
    fn persons(&self) -> Result<Arc<RoaringBitmap>, Infallible> {
        Ok(Arc::new(self.persons.keys().copied().collect()))
    }

    fn person_property(&self, key: &str) -> Result<Arc<PropertyBlock>, Infallible> {
        let mut block = PropertyBlockBuilder::new();
        for (ordinal, person) in &self.persons {
            block.push(*ordinal, &person.properties[key]);
        }
        Ok(Arc::new(block.finish()))
    }

    fn created_at(&self) -> Result<Arc<TimesBlock>, Infallible> {
        let rows = self.persons.iter();
        let rows = rows.map(|(ordinal, person)| (*ordinal, person.created_at));
        Ok(Arc::new(TimesBlock::new(rows)))
    }

    fn distinct_ids(&self) -> Result<Arc<PropertyBlock>, Infallible> {
        let mut block = PropertyBlockBuilder::new();
        for (ordinal, person) in &self.persons {
            for id in &person.distinct_ids {
                block.push(*ordinal, &json!(id));
            }
        }
        Ok(Arc::new(block.finish()))
    }

    fn events(&self, query: &EventQuery) -> Result<Vec<Arc<EventBlock>>, Infallible> {
        let mut blocks = self.blocks.borrow_mut();
        let key = (query.event.clone(), query.properties.clone());
        let make = || day_blocks(&self.resolved_events(), &query.event, &query.properties);
        let blocks = blocks.entry(key).or_insert_with(make);
        Ok(answer(blocks.clone(), query))
    }

    fn event_names(&self) -> Result<Vec<String>, Infallible> {
        let names = self.events.iter().map(|(_, event)| event.name.clone());
        Ok(BTreeSet::from_iter(names).into_iter().collect())
    }

    fn cohort(&self, id: i64) -> Result<Option<Reference>, Infallible> {
        if let Some(versions) = self.lists.get(&id) {
            let members = Arc::new(versions.last().unwrap().clone());
            return Ok(Some(Reference::Members(members)));
        }
        let definition = self.dynamic.get(&id);
        Ok(definition.map(|definition| match is_query(definition) {
            true => Reference::Query(definition.clone()),
            false => Reference::Filter(Filter::parse(definition).unwrap()),
        }))
    }

    fn action(&self, id: i64) -> Result<Option<Action>, Infallible> {
        let steps = self.actions.get(&id);
        Ok(steps.map(|steps| Action::parse(steps).unwrap()))
    }
}

impl ChangeSource for World {
    fn performers(
        &self,
        span: LogSpan,
        names: Option<&BTreeSet<String>>,
    ) -> Result<BTreeMap<String, RoaringBitmap>, Infallible> {
        self.looked_up(format!("performers {names:?}"));
        let mut performers: BTreeMap<String, RoaringBitmap> = BTreeMap::new();
        for ((seq, _), event) in self.events.iter().zip(self.resolved_events()) {
            let is_named = names.is_none_or(|names| names.contains(&event.name));
            if span.after < *seq && *seq <= span.through && is_named {
                performers
                    .entry(event.name)
                    .or_default()
                    .insert(event.person);
            }
        }
        Ok(performers)
    }

    fn changed_identities(&self, span: LogSpan) -> Result<RoaringBitmap, Infallible> {
        Ok(World::written(&self.identities, span))
    }

    fn changed_distinct_ids(&self, span: LogSpan) -> Result<RoaringBitmap, Infallible> {
        Ok(World::written(&self.distinct_ids, span))
    }

    fn changed_persons(&self, span: LogSpan) -> Result<RoaringBitmap, Infallible> {
        self.looked_up("changed persons".to_owned());
        Ok(World::written(&self.changes, span))
    }

    fn members_version(&self, id: i64) -> Result<i64, Infallible> {
        Ok(self.lists[&id].len() as i64)
    }

    fn changed_members(
        &self,
        id: i64,
        versions: VersionSpan,
    ) -> Result<Option<RoaringBitmap>, Infallible> {
        let version = |number: i64| &self.lists[&id][number as usize - 1];
        Ok(Some(version(versions.then) ^ version(versions.now)))
    }

    fn persons_between(
        &self,
        event: &str,
        spans: &[TimeSpan],
    ) -> Result<Vec<RoaringBitmap>, Infallible> {
        self.looked_up(format!("times of {event}"));
        lookup::persons_between(self, event, spans)
    }

    fn persons_with_dates(
        &self,
        query: &DateQuery,
    ) -> Result<Option<Vec<RoaringBitmap>>, Infallible> {
        let Ok(found) = lookup::persons_with_dates(self, query);
        Ok((!self.hides_dates).then_some(found))
    }
}

/// A cohort that follows a world.
#[derive(Clone)]
pub struct Follower {
    pub definition: Definition,
    pub members: RoaringBitmap,
    pub state: EvaluationState,
    pub next_change: i64,
}

/// What a pass did for a cohort.
pub type Outcome = Result<RoaringBitmap, FullReason>;

impl Follower {
    /// A cohort with members by full evaluation.
    pub fn new(world: &World, filter: &Value, settings: &Settings, now: i64) -> Follower {
        let definition = Definition::Filter(Filter::parse(filter).unwrap());
        Follower::of(world, definition, settings, now)
    }

    pub fn of(world: &World, definition: Definition, settings: &Settings, now: i64) -> Follower {
        let at = settings.moment(now).unwrap();
        let Ok(definitions) = Definitions::read(definition.clone(), world, &at);
        let Ok(members) = definition.plan(&at).unwrap().evaluate(world);
        let position = Position {
            now,
            seq: world.seq,
        };
        let Ok(next_change) = definitions.next_change(world, &at);
        Follower {
            definition,
            members,
            state: definitions.state(position, settings),
            next_change,
        }
    }

    /// Advances the cohort, checks it against a full evaluation, and returns the touched persons.
    #[track_caller]
    pub fn pass(&mut self, world: &World, settings: &Settings, clock: i64) -> Outcome {
        advance(world, &mut [self], settings, clock, false).remove(0)
    }

    /// The touched persons of a pass that needs no full evaluation.
    #[track_caller]
    pub fn touched(&mut self, world: &World, settings: &Settings, clock: i64) -> Vec<u32> {
        let touched = self.pass(world, settings, clock).unwrap();
        touched.iter().collect()
    }
}

/// Advances cohorts of one position together, and checks them against full evaluations.
#[track_caller]
pub fn advance(
    world: &World,
    cohorts: &mut [&mut Follower],
    settings: &Settings,
    clock: i64,
    uses_next_change: bool,
) -> Vec<Outcome> {
    let from = cohorts[0].state.position;
    let to = from.advanced(clock, world.seq);
    let at = settings.moment(to.now).unwrap();
    let mut pass = Pass::new(world, from, to, settings);
    let mut needs: Vec<(Definitions, Needs)> = Vec::new();
    for cohort in cohorts.iter() {
        let Ok(definitions) = Definitions::read(cohort.definition.clone(), world, &at);
        let next_change = uses_next_change.then_some(cohort.next_change);
        let need = pass.add(&definitions, Some(&cohort.state), next_change);
        needs.push((definitions, need));
    }
    let Ok(changes) = pass.find();
    let outcomes = evaluate(world, cohorts, &needs, &changes);
    for (cohort, (definitions, needs)) in cohorts.iter_mut().zip(&needs) {
        let Ok(full) = definitions.plan(&at).unwrap().evaluate(world);
        assert_eq!(cohort.members, full, "{:?}", cohort.definition);
        cohort.state = needs.state().clone();
        let Ok(next_change) = definitions.next_change(world, &at);
        assert!(next_change > to.now);
        cohort.next_change = next_change;
    }
    outcomes
}

/// Evaluates all cohorts for the persons that any of them needs.
fn evaluate(
    world: &World,
    cohorts: &mut [&mut Follower],
    needs: &[(Definitions, Needs)],
    changes: &Changes,
) -> Vec<Outcome> {
    let touched: Vec<Outcome> = needs
        .iter()
        .map(|(_, needs)| changes.touched(needs))
        .collect();
    let plans: Vec<_> = needs
        .iter()
        .map(|(definitions, needs)| {
            let settings = &needs.state().settings;
            let at = settings.moment(needs.state().position.now).unwrap();
            definitions.plan(&at).unwrap()
        })
        .collect();
    let all = touched
        .iter()
        .flatten()
        .fold(RoaringBitmap::new(), |all, one| all | one);
    let cache = LeafCache::within(&plans, all);
    for ((cohort, plan), touched) in cohorts.iter_mut().zip(&plans).zip(&touched) {
        match touched {
            Ok(touched) => {
                let Ok(advance) = plan.advance(&cohort.members, touched, world, &cache);
                advance.apply(&mut cohort.members);
            }
            Err(_) => {
                let Ok(members) = plan.evaluate(world);
                cohort.members = members;
            }
        }
    }
    touched
}
