//! The people of a batch while its items are read one after the other: who an item is of, what it tells of them, and
//! who turns out to be one with somebody else.
//!
//! Nothing is read or written here. The log's head is locked meanwhile, so nobody else changes these people.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::item::Item;
use cohorts_store::JsonText;
use cohorts_store::persons::{Owner, Person};

/// The longest JSON text of somebody's properties.
const LONGEST_PROPERTIES: usize = 1 << 20;

/// Somebody the batch tells of.
struct Someone {
    person: Person,
    /// As they stand in the database; nothing if they are new.
    before: Option<Person>,
    properties: Map<String, Value>,
    /// The length of their properties as text, about.
    length: usize,
}

impl Someone {
    fn of(person: Person, before: Option<Person>) -> Self {
        let properties = match person.properties.parse() {
            Value::Object(properties) => properties,
            _ => Map::new(),
        };
        Self {
            length: person.properties.0.len(),
            person,
            before,
            properties,
        }
    }

    /// Applies what an item tells, as PostHog does: what is set once if it is not there, then what is set, then what is
    /// taken away. False, and nothing is changed, where that would be more than may be.
    fn apply(&mut self, item: &Item) -> bool {
        let mut undo = Vec::new();
        let mut length = self.length;
        let once = item.set_once.iter();
        let once = once.filter(|(name, _)| !self.properties.contains_key(*name));
        let once: Vec<_> = once.collect();
        for (name, value) in once.into_iter().chain(&item.set) {
            let former = self.properties.insert(name.clone(), value.clone());
            let before = former
                .as_ref()
                .map_or(0, |former| member_length(name, former));
            length = (length + member_length(name, value)).saturating_sub(before);
            undo.push((name, former));
        }
        for name in &item.unset {
            if let Some(former) = self.properties.swap_remove(name) {
                length = length.saturating_sub(member_length(name, &former));
                undo.push((name, Some(former)));
            }
        }
        let fits = length <= LONGEST_PROPERTIES.max(self.length);
        if fits {
            self.length = length;
            return true;
        }
        for (name, former) in undo.into_iter().rev() {
            match former {
                Some(former) => drop(self.properties.insert(name.clone(), former)),
                None => drop(self.properties.swap_remove(name)),
            }
        }
        false
    }

    /// As they are to be written.
    fn after(mut self) -> Person {
        let properties = Value::Object(self.properties);
        if self.person.properties.parse() != properties {
            self.person.properties = JsonText::of(&properties);
        }
        self.person
    }
}

/// The length of a property as the database writes it, about: it writes all digits of a number.
fn member_length(name: &str, value: &Value) -> usize {
    name.len() + 4 + value_length(value)
}

fn value_length(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len() + 2,
        Value::Array(list) => list.iter().map(|one| value_length(one) + 2).sum(),
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

/// Somebody of whom nothing is known but when they were seen first.
pub fn new_person(ordinal: i64, created_at: DateTime<Utc>) -> Person {
    Person {
        ordinal,
        uuid: Uuid::now_v7(),
        properties: JsonText("{}".to_owned()),
        is_identified: false,
        created_at,
    }
}

/// What was asked for and not done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Denied {
    /// Merges of somebody who is known to be somebody else.
    pub merges: u64,
    /// Properties of people who would have more of them than may be.
    pub properties: u64,
}

impl Denied {
    pub fn add(&mut self, other: Self) {
        self.merges += other.merges;
        self.properties += other.properties;
    }
}

/// There are fewer free numbers than new people.
#[derive(Debug)]
pub struct NoOrdinal;

/// An item and its ids, by their places among those of the batch.
#[derive(Clone, Copy)]
pub struct Placed<'a> {
    pub item: &'a Item,
    pub id: usize,
    pub other_id: Option<usize>,
}

/// Ids are named by their places among those of the batch.
pub struct People {
    owners: Vec<Option<Owner>>,
    /// Numbers that nobody has yet.
    free: VecDeque<i64>,
    /// Those of them that somebody got in this batch.
    taken: HashSet<i64>,
    someone: HashMap<i64, Someone>,
    /// Ids that nobody had, and whose they are.
    new_ids: BTreeMap<usize, i64>,
    /// Numbers of this batch that are nobody's any longer, and whose they have become.
    merged: HashMap<i64, i64>,
    denied: Denied,
}

/// What is to be written.
pub struct Written {
    /// By rising number, like those who are changed.
    pub new: Vec<Person>,
    pub changed: Vec<Person>,
    pub new_ids: BTreeMap<usize, i64>,
    /// Who was in the database and is merged into somebody else, by rising number.
    pub merged: Vec<(i64, i64)>,
    /// The person of each id.
    pub owners: Vec<Option<i64>>,
    pub free: VecDeque<i64>,
    pub denied: Denied,
}

impl People {
    pub fn new(owners: Vec<Option<Owner>>, free: VecDeque<i64>) -> Self {
        Self {
            owners,
            free,
            taken: HashSet::new(),
            someone: HashMap::new(),
            new_ids: BTreeMap::new(),
            merged: HashMap::new(),
            denied: Denied::default(),
        }
    }

    /// The numbers of people whom the items tell something of: they must be added before the items are.
    pub fn described(&self, items: &[Placed<'_>]) -> Vec<i64> {
        let tells = items.iter().filter(|placed| placed.item.tells_of_person());
        let ids = tells.flat_map(|placed| [Some(placed.id), placed.other_id]);
        let owners = ids.flatten().filter_map(|id| self.owners[id]);
        let people = owners.filter(|owner| owner.is_person);
        let ordinals: HashSet<i64> = people.map(|owner| owner.ordinal).collect();
        ordinals.into_iter().collect()
    }

    pub fn add(&mut self, people: Vec<Person>) {
        for person in people {
            let before = Some(person.clone());
            self.someone
                .insert(person.ordinal, Someone::of(person, before));
        }
    }

    /// Takes in an item, and gives the number that it stands under.
    pub fn take(&mut self, placed: &Placed<'_>) -> Result<i64, NoOrdinal> {
        let Placed { item, id, other_id } = *placed;
        if item.is_personless {
            return match self.owner(id) {
                Some(owner) => Ok(owner.ordinal),
                None => self.ordinal_for(id, false),
            };
        }
        let other = other_id.and_then(|other| self.owner(other));
        // An id that nobody has, or nobody yet, goes to whoever has the other.
        let ordinal = match (self.owner(id), other) {
            (None, Some(other)) if other.is_person => {
                self.give(id, other.ordinal);
                other.ordinal
            }
            (Some(own), Some(other)) if !own.is_person && other.is_person => {
                self.merge(own.ordinal, other.ordinal);
                other.ordinal
            }
            (Some(own), _) => own.ordinal,
            (None, _) => self.ordinal_for(id, true)?,
        };
        self.be(id, ordinal, item.timestamp);
        if let Some(other) = other_id {
            self.link(ordinal, other, item);
        }
        if item.tells_of_person() {
            self.tell(ordinal, item);
        }
        Ok(ordinal)
    }

    fn owner(&self, id: usize) -> Option<Owner> {
        let told = self.owners[id]?;
        let ordinal = self.resolve(told.ordinal);
        let is_person =
            told.is_person || ordinal != told.ordinal || self.someone.contains_key(&ordinal);
        Some(Owner { ordinal, is_person })
    }

    fn ordinal_for(&mut self, id: usize, is_person: bool) -> Result<i64, NoOrdinal> {
        let ordinal = self.free.pop_front().ok_or(NoOrdinal)?;
        self.taken.insert(ordinal);
        self.owners[id] = Some(Owner { ordinal, is_person });
        self.new_ids.insert(id, ordinal);
        Ok(ordinal)
    }

    fn give(&mut self, id: usize, ordinal: i64) {
        let is_person = true;
        self.owners[id] = Some(Owner { ordinal, is_person });
        self.new_ids.insert(id, ordinal);
    }

    /// There is a person of that number from now on.
    fn be(&mut self, id: usize, ordinal: i64, seen: DateTime<Utc>) {
        let was_person = self.owners[id].is_some_and(|owner| owner.is_person);
        let was = was_person && !self.new_ids.contains_key(&id);
        self.owners[id] = Some(Owner {
            ordinal,
            is_person: true,
        });
        if let Some(someone) = self.someone.get_mut(&ordinal) {
            if someone.before.is_none() {
                someone.person.created_at = someone.person.created_at.min(seen);
            }
        } else if !was {
            let person = new_person(ordinal, seen);
            self.someone.insert(ordinal, Someone::of(person, None));
        }
    }

    /// The other id is of the same person.
    fn link(&mut self, ordinal: i64, id: usize, item: &Item) {
        match self.owner(id) {
            None => self.give(id, ordinal),
            Some(other) if other.ordinal == ordinal => {}
            Some(other) => {
                let theirs = self.someone.get(&other.ordinal);
                let is_identified = theirs.is_some_and(|someone| someone.person.is_identified);
                match is_identified && !item.merges_by_force() {
                    true => self.denied.merges += 1,
                    false => self.merge(other.ordinal, ordinal),
                }
            }
        }
    }

    /// Somebody becomes one with somebody else, whose properties win.
    fn merge(&mut self, from: i64, into: i64) {
        self.merged.insert(from, into);
        let Some(former) = self.someone.remove(&from) else {
            return;
        };
        let Some(someone) = self.someone.get_mut(&into) else {
            return;
        };
        let created_at = &mut someone.person.created_at;
        *created_at = former.person.created_at.min(*created_at);
        someone.person.is_identified |= former.person.is_identified;
        let mut properties = former.properties;
        properties.extend(someone.properties.clone());
        let length = properties.iter();
        let length: usize = length.map(|(name, value)| member_length(name, value)).sum();
        match length <= LONGEST_PROPERTIES {
            true => (someone.properties, someone.length) = (properties, length),
            false => self.denied.properties += 1,
        }
    }

    fn tell(&mut self, ordinal: i64, item: &Item) {
        let Some(someone) = self.someone.get_mut(&ordinal) else {
            return;
        };
        someone.person.is_identified |= item.identifies();
        if item.changes(&someone.properties) && !someone.apply(item) {
            self.denied.properties += 1;
        }
    }

    /// Whose a number is after the batch.
    pub fn resolve(&self, mut ordinal: i64) -> i64 {
        while let Some(into) = self.merged.get(&ordinal) {
            ordinal = *into;
        }
        ordinal
    }

    /// Whether somebody who was there before the batch became one with somebody else.
    pub fn merges_existing(&self) -> bool {
        self.merged
            .keys()
            .any(|ordinal| !self.taken.contains(ordinal))
    }

    pub fn written(self) -> Written {
        let owner = |id| self.owner(id).filter(|owner| owner.is_person);
        let owners = (0..self.owners.len()).map(|id| Some(owner(id)?.ordinal));
        let owners = owners.collect();
        let new_ids = self.new_ids.iter();
        let new_ids = new_ids.map(|(id, ordinal)| (*id, self.resolve(*ordinal)));
        let new_ids = new_ids.collect();
        let before = self.merged.keys().filter(|from| !self.taken.contains(from));
        let mut merged: Vec<(i64, i64)> = before.map(|from| (*from, self.resolve(*from))).collect();
        merged.sort_unstable();
        let mut written = Written {
            new: Vec::new(),
            changed: Vec::new(),
            new_ids,
            merged,
            owners,
            free: self.free,
            denied: self.denied,
        };
        let mut people: Vec<Someone> = self.someone.into_values().collect();
        people.sort_unstable_by_key(|someone| someone.person.ordinal);
        for mut someone in people {
            let before = someone.before.take();
            let after = someone.after();
            match before {
                None => written.new.push(after),
                Some(before) if before != after => written.changed.push(after),
                Some(_) => {}
            }
        }
        written
    }
}
