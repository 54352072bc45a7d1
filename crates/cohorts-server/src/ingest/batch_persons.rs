//! The persons of a batch, in memory, while its items are applied in order: who each item belongs to, which properties
//! change, and which persons merge.
//!
//! Pure: this module neither reads nor writes the database. The log head is locked meanwhile, so no other writer changes
//! these persons.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};

use uuid::Uuid;

use super::item::Item;
use super::person_state::{PersonChange, PersonState};
use cohorts_store::events::EventKey;
use cohorts_store::persons::{MAX_IDS, Owner, Person};

/// If the merged person has more than this many distinct ids above those of the survivor, the ids of the survivor move
/// instead. Otherwise the survivor keeps its ordinal, which the members of cohorts contain.
const FEW_IDS: u64 = 64;

/// Changes that the items of a batch request and that were not made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Denied {
    /// Merges of a person that is identified as another one.
    pub merges: u64,
    /// Property changes that would exceed the limit of a person.
    pub properties: u64,
    /// Merges and new distinct ids that would exceed [`MAX_IDS`] of a person.
    pub distinct_ids: u64,
}

impl Denied {
    pub fn add(&mut self, other: Self) {
        self.merges += other.merges;
        self.properties += other.properties;
        self.distinct_ids += other.distinct_ids;
    }
}

/// The batch creates more persons than ordinals were reserved.
#[derive(Debug)]
pub struct OutOfOrdinals;

/// An item, with its distinct ids as positions in the list of the batch's ids.
#[derive(Clone, Copy)]
pub struct BatchItem<'a> {
    /// The position of the item in the batch.
    pub position: usize,
    pub item: &'a Item,
    /// What identifies the event of the item.
    pub key: EventKey,
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
    /// The uuids of loaded persons that this batch merged into others, by ordinal.
    merged_uuids: HashMap<i64, Uuid>,
    /// The number of distinct ids of each ordinal that the batch may give more ids.
    id_counts: HashMap<i64, u64>,
    /// The ordinals of the persons that have a uuid of an exported person.
    exported: HashMap<Uuid, i64>,
    /// For each survivor that is written under the ordinal of a merged person: that ordinal.
    moved: HashMap<i64, i64>,
    denied: Denied,
    /// Properties of persons that were merged into others without them.
    lost: BTreeSet<String>,
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
    /// Survivors that existed before the batch and get the ordinal of a merged person: their old and their new ordinals.
    pub moved: Vec<(i64, i64)>,
    /// The person of each id.
    pub owners: Vec<Option<i64>>,
    /// Reserved ordinals that were not assigned.
    pub free: VecDeque<i64>,
    pub denied: Denied,
    /// Properties that persons do not have any more, or with values of another kind.
    pub lost: BTreeSet<String>,
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
            merged_uuids: HashMap::new(),
            id_counts: HashMap::new(),
            exported: HashMap::new(),
            moved: HashMap::new(),
            denied: Denied::default(),
            lost: BTreeSet::new(),
        }
    }

    /// The stored persons that an item may change. They must be loaded before the item is applied.
    pub fn to_load(&self, entry: &BatchItem<'_>) -> impl Iterator<Item = i64> {
        let is_changing = entry.item.describes_person();
        let ids = [Some(entry.id), entry.other_id].into_iter().flatten();
        let owners = ids.filter_map(|id| self.owners[id]);
        owners
            .filter(move |owner| is_changing && owner.is_person)
            .map(|owner| owner.ordinal)
            .chain(self.exported_ordinal(entry.item))
    }

    /// The person that an item may change, if there is one and no other.
    pub fn only_to_load(&self, entry: &BatchItem<'_>) -> Option<i64> {
        let mut ordinals = self.to_load(entry);
        ordinals.next().filter(|_| ordinals.next().is_none())
    }

    /// Whether the stored person is loaded.
    pub fn is_loaded(&self, ordinal: i64) -> bool {
        self.states.contains_key(&ordinal)
    }

    /// The ordinals that the items may give more distinct ids. Their ids must be counted before the items are applied.
    pub fn to_count(&self, items: &[BatchItem<'_>]) -> Vec<i64> {
        let linking = items.iter().filter(|entry| entry.other_id.is_some());
        let ids = linking.flat_map(|entry| [Some(entry.id), entry.other_id]);
        let owners = ids.flatten().filter_map(|id| self.owners[id]);
        let exported = items.iter();
        let exported = exported.filter_map(|entry| self.exported_ordinal(entry.item));
        let ordinals = owners.map(|owner| owner.ordinal).chain(exported);
        let ordinals: HashSet<i64> = ordinals.collect();
        ordinals.into_iter().collect()
    }

    /// Takes the ordinals of the persons that have a uuid of an exported person, before persons are loaded.
    pub fn set_exported(&mut self, ordinals: HashMap<Uuid, i64>) {
        self.exported = ordinals;
    }

    /// The ordinal of the person with the uuid of the exported person.
    fn exported_ordinal(&self, item: &Item) -> Option<i64> {
        self.exported.get(&item.exported_person?).copied()
    }

    /// Takes a stored person, and returns the memory that it needs.
    pub fn load(&mut self, person: Person) -> usize {
        let state = PersonState::stored(person);
        let memory = state.memory();
        self.states.insert(state.ordinal(), state);
        memory
    }

    /// Takes the numbers of distinct ids that ordinals have in the database.
    pub fn set_id_counts(&mut self, counts: HashMap<i64, u64>) {
        self.id_counts = counts;
    }

    fn id_count(&self, ordinal: i64) -> u64 {
        self.id_counts.get(&ordinal).copied().unwrap_or(0)
    }

    /// Whether the person may get `added` more distinct ids. If not, the change is counted as denied.
    fn has_room(&mut self, ordinal: i64, added: u64) -> bool {
        let has_room = self.id_count(ordinal) + added <= MAX_IDS;
        self.denied.distinct_ids += u64::from(!has_room);
        has_room
    }

    /// Applies an item, and returns the ordinal of its person.
    pub fn apply(&mut self, entry: &BatchItem<'_>) -> Result<i64, OutOfOrdinals> {
        let BatchItem {
            item, id, other_id, ..
        } = *entry;
        if item.is_personless {
            return match self.owner(id) {
                Some(owner) => Ok(owner.ordinal),
                None => self.assign_new_ordinal(id, false),
            };
        }
        let ordinal = match self.person_of_other(id, self.other_person(item, other_id)) {
            Some(ordinal) => ordinal,
            None => match self.owner(id) {
                Some(owner) => owner.ordinal,
                None => self.assign_new_ordinal(id, true)?,
            },
        };
        self.ensure_person(id, ordinal, item);
        if let Some(other) = other_id {
            self.link_other_id(ordinal, other, item);
        }
        if item.describes_person() {
            self.update_person(ordinal, item);
        }
        Ok(ordinal)
    }

    /// The person of the other id, or that with the uuid of the exported person.
    fn other_person(&self, item: &Item, other_id: Option<usize>) -> Option<Owner> {
        let other = other_id.and_then(|id| self.owner(id));
        other.filter(|other| other.is_person).or_else(|| {
            let ordinal = self.resolve(self.exported_ordinal(item)?);
            Some(Owner {
                ordinal,
                is_person: true,
            })
        })
    }

    /// Assigns an id without a person to the other person, and returns the person; `None` if the id has a person or
    /// there is no other.
    fn person_of_other(&mut self, id: usize, other: Option<Owner>) -> Option<i64> {
        let other = other?;
        match self.owner(id) {
            None => self.has_room(other.ordinal, 1).then(|| {
                self.assign(id, other.ordinal);
                other.ordinal
            }),
            Some(owner) if !owner.is_person => {
                let added = self.id_count(owner.ordinal);
                self.has_room(other.ordinal, added).then(|| {
                    self.merge(owner.ordinal, other.ordinal);
                    other.ordinal
                })
            }
            Some(_) => None,
        }
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
        self.id_counts.insert(ordinal, 1);
        Ok(ordinal)
    }

    /// Assigns an id without an owner to a person.
    fn assign(&mut self, id: usize, ordinal: i64) {
        let is_person = true;
        self.owners[id] = Some(Owner { ordinal, is_person });
        self.new_ids.insert(id, ordinal);
        *self.id_counts.entry(ordinal).or_default() += 1;
    }

    /// Creates the person of `id` if only its ordinal exists. A new person is created at its first event. An exported
    /// person has its uuid, unless another person has it.
    fn ensure_person(&mut self, id: usize, ordinal: i64, item: &Item) {
        let was_person = self.owners[id].is_some_and(|owner| owner.is_person);
        let is_stored = was_person && !self.new_ids.contains_key(&id);
        self.owners[id] = Some(Owner {
            ordinal,
            is_person: true,
        });
        if let Some(state) = self.states.get_mut(&ordinal) {
            state.saw_event(item.timestamp);
        } else if !is_stored {
            let uuid = item.exported_person;
            let uuid = uuid.filter(|uuid| !self.exported.contains_key(uuid));
            self.exported.extend(uuid.map(|uuid| (uuid, ordinal)));
            let state = PersonState::new(ordinal, item.timestamp, uuid);
            self.states.insert(ordinal, state);
        }
    }

    /// Makes `id` another distinct id of the person: assigns it, or merges its owner.
    fn link_other_id(&mut self, ordinal: i64, id: usize, item: &Item) {
        match self.owner(id) {
            None => {
                if self.has_room(ordinal, 1) {
                    self.assign(id, ordinal);
                }
            }
            Some(other) if other.ordinal == ordinal => {}
            Some(other) => {
                let state = self.states.get(&other.ordinal);
                let is_identified = state.is_some_and(PersonState::is_identified);
                if is_identified && !item.forces_merge() {
                    self.denied.merges += 1;
                } else if self.has_room(ordinal, self.id_count(other.ordinal)) {
                    self.merge(other.ordinal, ordinal);
                }
            }
        }
    }

    /// Merges person `from` into person `into`.
    fn merge(&mut self, from: i64, into: i64) {
        self.redirects.insert(from, into);
        *self.id_counts.entry(into).or_default() += self.id_count(from);
        let Some(merged) = self.states.remove(&from) else {
            return;
        };
        self.merged_uuids.insert(from, merged.uuid());
        let Some(survivor) = self.states.get_mut(&into) else {
            self.lost.extend(merged.all_names().map(String::from));
            return;
        };
        if !survivor.absorb(merged) {
            self.denied.properties += 1;
        }
    }

    fn update_person(&mut self, ordinal: i64, item: &Item) {
        let Some(state) = self.states.get_mut(&ordinal) else {
            return;
        };
        if item.identifies() {
            state.identify();
        }
        if !state.apply(item) {
            self.denied.properties += 1;
        }
    }

    /// The ordinal of the person that `ordinal` was merged into, or `ordinal` itself.
    fn resolve(&self, mut ordinal: i64) -> i64 {
        while let Some(into) = self.redirects.get(&ordinal) {
            ordinal = *into;
        }
        ordinal
    }

    /// The ordinal under which the rows of the person of `ordinal` are written, after [`Self::choose_ordinals`].
    pub fn written_ordinal(&self, ordinal: i64) -> i64 {
        let survivor = self.resolve(ordinal);
        *self.moved.get(&survivor).unwrap_or(&survivor)
    }

    /// Whether the batch merges a person that existed before it.
    pub fn merges_existing(&self) -> bool {
        self.redirects
            .keys()
            .any(|ordinal| !self.assigned.contains(ordinal))
    }

    /// The ordinals of persons that existed before the batch and were merged.
    fn merged_existing(&self) -> impl Iterator<Item = i64> {
        let merged = self.redirects.keys().copied();
        merged.filter(|ordinal| !self.assigned.contains(ordinal))
    }

    /// Decides the ordinal of each survivor, so that few distinct ids move. The survivor keeps its uuid, but its row gets
    /// the ordinal of the merged person with the most ids if that has many more. `stored` has the numbers of ids before
    /// the batch.
    ///
    /// A survivor that the batch creates gets the uuid of the merged person too: no reader knows its own uuid, and members of
    /// cohorts under the ordinal remain the same persons. An exported person keeps its uuid, and so its own ordinal.
    pub fn choose_ordinals(&mut self, stored: &HashMap<i64, u64>) {
        let count = |ordinal| stored.get(&ordinal).copied().unwrap_or(0);
        let mut largest: BTreeMap<i64, i64> = BTreeMap::new();
        for ordinal in self.merged_existing() {
            let current = largest.entry(self.resolve(ordinal)).or_insert(ordinal);
            if (count(ordinal), *current) > (count(*current), ordinal) {
                *current = ordinal;
            }
        }
        for (survivor, largest) in largest {
            let is_worthwhile = count(largest) > count(survivor) + FEW_IDS;
            let is_new = self.assigned.contains(&survivor);
            if is_worthwhile
                && !(is_new && self.is_exported(survivor))
                && let Some(state) = self.states.get_mut(&survivor)
            {
                let uuid = self.merged_uuids.get(&largest).filter(|_| is_new);
                state.move_to(largest, uuid.copied());
                self.moved.insert(survivor, largest);
            }
        }
    }

    /// Whether a person that the batch creates has the uuid of an exported person.
    fn is_exported(&self, ordinal: i64) -> bool {
        self.exported.values().any(|exported| *exported == ordinal)
    }

    /// The rows to write, after [`Self::choose_ordinals`].
    pub fn into_changes(self) -> PersonChanges {
        let owner = |id| self.owner(id).filter(|owner| owner.is_person);
        let owners = (0..self.owners.len())
            .map(|id| Some(self.written_ordinal(owner(id)?.ordinal)))
            .collect();
        let new_ids = self.new_ids.iter();
        let new_ids = new_ids
            .map(|(id, ordinal)| (*id, self.written_ordinal(*ordinal)))
            .collect();
        let moved = self.moved.iter().map(|(from, into)| (*from, *into));
        let moved = moved.filter(|(from, _)| !self.assigned.contains(from));
        let moved: Vec<(i64, i64)> = moved.collect();
        let retired = self
            .merged_existing()
            .chain(moved.iter().map(|(from, _)| *from));
        let mut merged: Vec<(i64, i64)> = retired
            .map(|ordinal| (ordinal, self.written_ordinal(ordinal)))
            .filter(|(from, into)| from != into)
            .collect();
        merged.sort_unstable();
        let mut changes = PersonChanges {
            new: Vec::new(),
            changed: Vec::new(),
            new_ids,
            merged,
            moved,
            owners,
            free: self.free,
            denied: self.denied,
            lost: self.lost,
        };
        let mut states: Vec<PersonState> = self.states.into_values().collect();
        states.sort_unstable_by_key(PersonState::ordinal);
        let lost = states.iter_mut().flat_map(PersonState::take_lost);
        changes.lost.extend(lost.map(String::from));
        for change in states.into_iter().filter_map(PersonState::into_change) {
            match change {
                PersonChange::Create(person) => changes.new.push(person),
                PersonChange::Update(person) => changes.changed.push(person),
            }
        }
        changes
    }
}

#[cfg(test)]
mod tests {
    use chrono::Utc;
    use cohorts_store::JsonText;

    use super::*;
    use crate::ingest::Arrival;
    use crate::ingest::person_state::new_person;

    const IDS: [&str; 3] = ["one", "two", "three"];

    fn item(event: &str, id: usize, other: usize) -> Item {
        let text = format!(
            r#"{{"event": "{event}", "distinct_id": "{}", "properties": {{"alias": "{}"}}}}"#,
            IDS[id], IDS[other]
        );
        Item::read(&text, &Arrival::of_file(), Uuid::now_v7).unwrap()
    }

    /// Persons 1 and 2 own the first two ids. They have these numbers of ids, and their ordinal as a property.
    struct Batch {
        persons: BatchPersons,
        counts: HashMap<i64, u64>,
        uuids: Vec<Uuid>,
    }

    impl Batch {
        fn new(counts: [u64; 2]) -> Self {
            let owner = |ordinal| {
                let is_person = true;
                Some(Owner { ordinal, is_person })
            };
            let mut persons = BatchPersons::new(vec![owner(1), owner(2), None], [7, 8].into());
            let stored = [1, 2].map(|ordinal| Person {
                properties: JsonText(format!(r#"{{"of": {ordinal}, "p{ordinal}": 0}}"#)),
                ..new_person(ordinal, Utc::now())
            });
            let uuids = stored.iter().map(|person| person.uuid).collect();
            for person in stored {
                persons.load(person);
            }
            let counts: HashMap<i64, u64> = [1, 2].into_iter().zip(counts).collect();
            persons.set_id_counts(counts.clone());
            Self {
                persons,
                counts,
                uuids,
            }
        }

        fn apply(&mut self, event: &str, id: usize, other: usize) -> i64 {
            let item = item(event, id, other);
            let entry = BatchItem {
                position: 0,
                item: &item,
                key: EventKey::new(item.uuid, &item.event, &item.distinct_id),
                id,
                other_id: Some(other),
            };
            self.persons.apply(&entry).unwrap()
        }

        fn changes(mut self) -> PersonChanges {
            self.persons.choose_ordinals(&self.counts);
            self.persons.into_changes()
        }
    }

    #[test]
    fn survivor_with_few_ids_gets_the_ordinal_of_a_person_with_many() {
        let mut batch = Batch::new([3, 20_000]);
        let ordinal = batch.apply("$merge_dangerously", 0, 1);
        batch.apply("$create_alias", 0, 2);
        let uuid = batch.uuids[0];
        batch.persons.choose_ordinals(&batch.counts);
        assert_eq!(batch.persons.written_ordinal(ordinal), 2);
        let changes = batch.persons.into_changes();
        // The ids of the survivor move. Its uuid and its values remain.
        assert_eq!(changes.merged, [(1, 2)]);
        assert_eq!(changes.moved, [(1, 2)]);
        assert_eq!(changes.owners, [Some(2); 3]);
        assert_eq!(changes.new_ids, BTreeMap::from([(2, 2)]));
        let [person] = &changes.changed[..] else {
            panic!("{:?}", changes.changed);
        };
        assert_eq!((person.ordinal, person.uuid), (2, uuid));
        assert_eq!(person.properties.0, r#"{"of":1,"p1":0,"p2":0}"#);
        assert!(changes.new.is_empty());
    }

    #[test]
    fn survivor_keeps_its_ordinal_if_about_as_many_ids_move() {
        for counts in [[1, 1], [1, 60], [20_000, 3]] {
            let mut batch = Batch::new(counts);
            let uuid = batch.uuids[0];
            batch.apply("$create_alias", 0, 1);
            let changes = batch.changes();
            assert_eq!(changes.merged, [(2, 1)], "{counts:?}");
            assert_eq!(changes.owners, [Some(1), Some(1), None]);
            let changed: Vec<_> = changes.changed.iter().collect();
            assert_eq!(changed.len(), 1);
            assert_eq!((changed[0].ordinal, changed[0].uuid), (1, uuid));
        }
    }

    #[test]
    fn new_survivor_is_written_under_the_ordinal_of_a_person_with_many_ids() {
        let mut batch = Batch::new([1, 20_000]);
        let uuid = batch.uuids[1];
        // The id gets a person of its own first, because the item has no second id.
        let own = item("x", 2, 2);
        let entry = BatchItem {
            position: 0,
            item: &own,
            key: EventKey::new(own.uuid, &own.event, &own.distinct_id),
            id: 2,
            other_id: None,
        };
        assert_eq!(batch.persons.apply(&entry).unwrap(), 7);
        batch.apply("$merge_dangerously", 2, 1);
        let changes = batch.changes();
        assert_eq!((changes.merged.len(), changes.new.len()), (0, 0));
        assert!(changes.moved.is_empty());
        assert_eq!(changes.changed[0].uuid, uuid);
        assert_eq!(changes.owners, [Some(1), Some(2), Some(2)]);
        let changed: Vec<i64> = changes
            .changed
            .iter()
            .map(|person| person.ordinal)
            .collect();
        assert_eq!(changed, [2]);
    }

    #[test]
    fn person_at_the_limit_gets_no_more_distinct_ids() {
        let mut batch = Batch::new([MAX_IDS, 1]);
        // A new id gets a person of its own, and both persons remain.
        assert_eq!(batch.apply("$identify", 2, 0), 7);
        assert_eq!(batch.apply("$merge_dangerously", 0, 1), 1);
        assert_eq!(batch.apply("$merge_dangerously", 1, 0), 2);
        let changes = batch.changes();
        assert!(changes.denied.distinct_ids >= 2);
        assert_eq!(changes.owners, [Some(1), Some(2), Some(7)]);
        assert!(changes.merged.is_empty());

        let mut batch = Batch::new([MAX_IDS - 1, 1]);
        batch.apply("$merge_dangerously", 0, 1);
        let changes = batch.changes();
        assert_eq!(changes.merged, [(2, 1)]);
        assert_eq!(changes.denied, Denied::default());
    }
}
