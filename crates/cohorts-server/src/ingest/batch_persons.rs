//! The persons of a batch, in memory, while its items are applied in order: who each item belongs to, which properties
//! change, and which persons merge.
//!
//! Pure: this module neither reads nor writes the database. The log head is locked meanwhile, so no other writer changes
//! these persons.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::item::Item;
use cohorts_store::JsonText;
use cohorts_store::persons::{Owner, Person};

/// The most bytes of a person's properties, as JSON text.
const MAX_PROPERTIES_BYTES: usize = 1 << 20;

/// A person that the batch changes.
struct PersonState {
    person: Person,
    /// The row in the database; `None` if the person is new.
    stored: Option<Person>,
    properties: Map<String, Value>,
    /// The approximate length of `properties` as text.
    length: usize,
}

impl PersonState {
    fn new(person: Person, stored: Option<Person>) -> Self {
        let properties = match person.properties.parse() {
            Value::Object(properties) => properties,
            _ => Map::new(),
        };
        Self {
            length: person.properties.0.len(),
            person,
            stored,
            properties,
        }
    }

    /// Applies the property changes of an item in PostHog's order: `$set_once` for missing properties, then `$set`, then
    /// `$unset`. Returns `false` and changes nothing if the properties would become too long.
    fn apply(&mut self, item: &Item) -> bool {
        let mut undo = Vec::new();
        let mut length = self.length;
        let set_once = item.set_once.iter();
        let set_once = set_once.filter(|(name, _)| !self.properties.contains_key(*name));
        let set_once: Vec<_> = set_once.collect();
        for (name, value) in set_once.into_iter().chain(&item.set) {
            let previous = self.properties.insert(name.clone(), value.clone());
            let removed = previous
                .as_ref()
                .map_or(0, |previous| member_length(name, previous));
            length = (length + member_length(name, value)).saturating_sub(removed);
            undo.push((name, previous));
        }
        for name in &item.unset {
            if let Some(previous) = self.properties.swap_remove(name) {
                length = length.saturating_sub(member_length(name, &previous));
                undo.push((name, Some(previous)));
            }
        }
        let fits = length <= MAX_PROPERTIES_BYTES.max(self.length);
        if fits {
            self.length = length;
            return true;
        }
        for (name, previous) in undo.into_iter().rev() {
            match previous {
                Some(previous) => drop(self.properties.insert(name.clone(), previous)),
                None => drop(self.properties.swap_remove(name)),
            }
        }
        false
    }

    /// The row to write.
    fn into_person(mut self) -> Person {
        let properties = Value::Object(self.properties);
        if self.person.properties.parse() != properties {
            self.person.properties = JsonText::of(&properties);
        }
        self.person
    }
}

/// The approximate length of a property as the database writes it, with all digits of numbers.
fn member_length(name: &str, value: &Value) -> usize {
    name.len() + 4 + value_length(value)
}

fn value_length(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len() + 2,
        Value::Array(list) => list.iter().map(|element| value_length(element) + 2).sum(),
        Value::Object(map) => {
            let members = map.iter();
            members
                .map(|(name, value)| member_length(name, value))
                .sum()
        }
        Value::Number(number) => match number.as_f64().filter(|_| number.is_f64()) {
            Some(number) => number.to_string().len(),
            None => 20,
        },
        Value::Null | Value::Bool(_) => 5,
    }
}

/// A person without properties.
pub fn new_person(ordinal: i64, created_at: DateTime<Utc>) -> Person {
    Person {
        ordinal,
        uuid: Uuid::now_v7(),
        properties: JsonText("{}".to_owned()),
        is_identified: false,
        created_at,
    }
}

/// Changes that the items of a batch request and that were not made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Denied {
    /// Merges of a person that is identified as another one.
    pub merges: u64,
    /// Property changes that would exceed the limit of a person.
    pub properties: u64,
}

impl Denied {
    pub fn add(&mut self, other: Self) {
        self.merges += other.merges;
        self.properties += other.properties;
    }
}

/// The batch creates more persons than ordinals were reserved.
#[derive(Debug)]
pub struct OutOfOrdinals;

/// An item, with its distinct ids as positions in the list of the batch's ids.
#[derive(Clone, Copy)]
pub struct BatchItem<'a> {
    pub item: &'a Item,
    pub id: usize,
    pub other_id: Option<usize>,
}

/// The persons of a batch. Ids are positions in the list of the batch's ids.
pub struct BatchPersons {
    owners: Vec<Option<Owner>>,
    /// Reserved ordinals without a person.
    free: VecDeque<i64>,
    /// Reserved ordinals that this batch has assigned.
    assigned: HashSet<i64>,
    states: HashMap<i64, PersonState>,
    /// Ids that had no owner before the batch, with the ordinals of their owners.
    new_ids: BTreeMap<usize, i64>,
    /// Ordinals that this batch merged into others.
    redirects: HashMap<i64, i64>,
    denied: Denied,
}

/// The rows to write for a batch.
pub struct PersonChanges {
    /// New persons, by ascending ordinal.
    pub new: Vec<Person>,
    /// Changed persons, by ascending ordinal.
    pub changed: Vec<Person>,
    pub new_ids: BTreeMap<usize, i64>,
    /// Merged persons that existed before the batch, each with its survivor, by ascending ordinal.
    pub merged: Vec<(i64, i64)>,
    /// The person of each id.
    pub owners: Vec<Option<i64>>,
    /// Reserved ordinals that were not assigned.
    pub free: VecDeque<i64>,
    pub denied: Denied,
}

impl BatchPersons {
    pub fn new(owners: Vec<Option<Owner>>, free: VecDeque<i64>) -> Self {
        Self {
            owners,
            free,
            assigned: HashSet::new(),
            states: HashMap::new(),
            new_ids: BTreeMap::new(),
            redirects: HashMap::new(),
            denied: Denied::default(),
        }
    }

    /// The ordinals of stored persons that the items may change. They must be loaded before the items are applied.
    pub fn ordinals_to_load(&self, items: &[BatchItem<'_>]) -> Vec<i64> {
        let changing = items.iter().filter(|entry| entry.item.describes_person());
        let ids = changing.flat_map(|entry| [Some(entry.id), entry.other_id]);
        let owners = ids.flatten().filter_map(|id| self.owners[id]);
        let persons = owners.filter(|owner| owner.is_person);
        let ordinals: HashSet<i64> = persons.map(|owner| owner.ordinal).collect();
        ordinals.into_iter().collect()
    }

    pub fn load(&mut self, persons: Vec<Person>) {
        for person in persons {
            let stored = Some(person.clone());
            self.states
                .insert(person.ordinal, PersonState::new(person, stored));
        }
    }

    /// Applies an item, and returns the ordinal of its person.
    pub fn apply(&mut self, entry: &BatchItem<'_>) -> Result<i64, OutOfOrdinals> {
        let BatchItem { item, id, other_id } = *entry;
        if item.is_personless {
            return match self.owner(id) {
                Some(owner) => Ok(owner.ordinal),
                None => self.assign_new_ordinal(id, false),
            };
        }
        let other = other_id.and_then(|other| self.owner(other));
        // An id without a person is assigned to the person of the other id.
        let ordinal = match (self.owner(id), other) {
            (None, Some(other)) if other.is_person => {
                self.assign(id, other.ordinal);
                other.ordinal
            }
            (Some(owner), Some(other)) if !owner.is_person && other.is_person => {
                self.merge(owner.ordinal, other.ordinal);
                other.ordinal
            }
            (Some(owner), _) => owner.ordinal,
            (None, _) => self.assign_new_ordinal(id, true)?,
        };
        self.ensure_person(id, ordinal, item.timestamp);
        if let Some(other) = other_id {
            self.link_other_id(ordinal, other, item);
        }
        if item.describes_person() {
            self.update_person(ordinal, item);
        }
        Ok(ordinal)
    }

    fn owner(&self, id: usize) -> Option<Owner> {
        let recorded = self.owners[id]?;
        let ordinal = self.resolve(recorded.ordinal);
        let is_merged = ordinal != recorded.ordinal;
        let is_person = recorded.is_person || is_merged || self.states.contains_key(&ordinal);
        Some(Owner { ordinal, is_person })
    }

    fn assign_new_ordinal(&mut self, id: usize, is_person: bool) -> Result<i64, OutOfOrdinals> {
        let ordinal = self.free.pop_front().ok_or(OutOfOrdinals)?;
        self.assigned.insert(ordinal);
        self.owners[id] = Some(Owner { ordinal, is_person });
        self.new_ids.insert(id, ordinal);
        Ok(ordinal)
    }

    /// Assigns an id without an owner to a person.
    fn assign(&mut self, id: usize, ordinal: i64) {
        let is_person = true;
        self.owners[id] = Some(Owner { ordinal, is_person });
        self.new_ids.insert(id, ordinal);
    }

    /// Creates the person of `id` if only its ordinal exists. A new person is created at its first event.
    fn ensure_person(&mut self, id: usize, ordinal: i64, timestamp: DateTime<Utc>) {
        let was_person = self.owners[id].is_some_and(|owner| owner.is_person);
        let is_stored = was_person && !self.new_ids.contains_key(&id);
        self.owners[id] = Some(Owner {
            ordinal,
            is_person: true,
        });
        if let Some(state) = self.states.get_mut(&ordinal) {
            if state.stored.is_none() {
                state.person.created_at = state.person.created_at.min(timestamp);
            }
        } else if !is_stored {
            let person = new_person(ordinal, timestamp);
            self.states.insert(ordinal, PersonState::new(person, None));
        }
    }

    /// Makes `id` another distinct id of the person: assigns it, or merges its owner.
    fn link_other_id(&mut self, ordinal: i64, id: usize, item: &Item) {
        match self.owner(id) {
            None => self.assign(id, ordinal),
            Some(other) if other.ordinal == ordinal => {}
            Some(other) => {
                let state = self.states.get(&other.ordinal);
                let is_identified = state.is_some_and(|state| state.person.is_identified);
                if is_identified && !item.forces_merge() {
                    self.denied.merges += 1;
                } else {
                    self.merge(other.ordinal, ordinal);
                }
            }
        }
    }

    /// Merges person `from` into person `into`. Where both have a property, the value of `into` remains.
    fn merge(&mut self, from: i64, into: i64) {
        self.redirects.insert(from, into);
        let Some(merged) = self.states.remove(&from) else {
            return;
        };
        let Some(survivor) = self.states.get_mut(&into) else {
            return;
        };
        let created_at = &mut survivor.person.created_at;
        *created_at = merged.person.created_at.min(*created_at);
        survivor.person.is_identified |= merged.person.is_identified;
        let mut properties = merged.properties;
        properties.extend(survivor.properties.clone());
        let length = properties.iter();
        let length: usize = length.map(|(name, value)| member_length(name, value)).sum();
        if length <= MAX_PROPERTIES_BYTES {
            (survivor.properties, survivor.length) = (properties, length);
        } else {
            self.denied.properties += 1;
        }
    }

    fn update_person(&mut self, ordinal: i64, item: &Item) {
        let Some(state) = self.states.get_mut(&ordinal) else {
            return;
        };
        state.person.is_identified |= item.identifies();
        if item.changes(&state.properties) && !state.apply(item) {
            self.denied.properties += 1;
        }
    }

    /// The ordinal of the person that `ordinal` was merged into, or `ordinal` itself.
    pub fn resolve(&self, mut ordinal: i64) -> i64 {
        while let Some(into) = self.redirects.get(&ordinal) {
            ordinal = *into;
        }
        ordinal
    }

    /// Whether the batch merges a person that existed before it.
    pub fn merges_existing(&self) -> bool {
        self.redirects
            .keys()
            .any(|ordinal| !self.assigned.contains(ordinal))
    }

    pub fn into_changes(self) -> PersonChanges {
        let owner = |id| self.owner(id).filter(|owner| owner.is_person);
        let owners = (0..self.owners.len()).map(|id| Some(owner(id)?.ordinal));
        let owners = owners.collect();
        let new_ids = self.new_ids.iter();
        let new_ids = new_ids.map(|(id, ordinal)| (*id, self.resolve(*ordinal)));
        let new_ids = new_ids.collect();
        let redirected = self.redirects.keys();
        let existing = redirected.filter(|from| !self.assigned.contains(from));
        let merged = existing.map(|from| (*from, self.resolve(*from)));
        let mut merged: Vec<(i64, i64)> = merged.collect();
        merged.sort_unstable();
        let mut changes = PersonChanges {
            new: Vec::new(),
            changed: Vec::new(),
            new_ids,
            merged,
            owners,
            free: self.free,
            denied: self.denied,
        };
        let mut states: Vec<PersonState> = self.states.into_values().collect();
        states.sort_unstable_by_key(|state| state.person.ordinal);
        for mut state in states {
            let stored = state.stored.take();
            let person = state.into_person();
            match stored {
                None => changes.new.push(person),
                Some(stored) if stored != person => changes.changed.push(person),
                Some(_) => {}
            }
        }
        changes
    }
}
