//! One person of a batch in memory, and the limit on the size of its properties.

use chrono::{DateTime, Utc};
use cohorts_store::JsonText;
use cohorts_store::persons::Person;
use uuid::Uuid;

use super::item::Item;
use super::person_members::{Members, members_memory, object_text, stored_members};
use crate::index::catalogue::ValueKinds;

/// The most bytes of a person's properties, as the JSON text that the database writes.
pub const MAX_PROPERTIES_BYTES: usize = 512 << 10;

/// A person that the batch may change.
pub struct PersonState {
    /// The row. Its properties are in `properties`.
    person: Person,
    /// Whether the person has a row in the database.
    is_stored: bool,
    /// Whether the row differs from that in the database.
    is_changed: bool,
    properties: Members,
    /// Whether `properties` differ from those in the database.
    has_new_properties: bool,
    /// The approximate length of `properties` as text.
    length: usize,
    /// Properties that the person had, and has no more, or with a value of another kind.
    lost: Vec<Box<str>>,
}

impl PersonState {
    /// A person that the batch creates, without properties. An export has its uuid.
    pub fn new(ordinal: i64, created_at: DateTime<Utc>, uuid: Option<Uuid>) -> Self {
        let mut person = new_person(ordinal, created_at);
        person.uuid = uuid.unwrap_or(person.uuid);
        Self {
            person,
            is_stored: false,
            is_changed: true,
            properties: Members::new(),
            has_new_properties: false,
            length: 2,
            lost: Vec::new(),
        }
    }

    pub fn stored(mut person: Person) -> Self {
        let text = std::mem::take(&mut person.properties.0);
        Self {
            person,
            is_stored: true,
            is_changed: false,
            properties: stored_members(&text).unwrap_or_default(),
            has_new_properties: false,
            length: text.len(),
            lost: Vec::new(),
        }
    }

    pub fn ordinal(&self) -> i64 {
        self.person.ordinal
    }

    pub fn is_identified(&self) -> bool {
        self.person.is_identified
    }

    /// The approximate memory of the person in bytes, with the text that will be written.
    pub fn memory(&self) -> usize {
        size_of::<Self>() + members_memory(&self.properties) + self.length
    }

    /// A person that the batch creates is as old as its first event.
    pub fn saw_event(&mut self, time: DateTime<Utc>) {
        if !self.is_stored {
            self.person.created_at = self.person.created_at.min(time);
        }
    }

    pub fn identify(&mut self) {
        self.is_changed |= !self.person.is_identified;
        self.person.is_identified = true;
    }

    /// Applies the property changes of an item in PostHog's order: `$set_once` for missing properties, then `$set`, then
    /// `$unset`. Returns `false` and changes no property if they would become too long.
    pub fn apply(&mut self, item: &Item) -> bool {
        if !item.changes(&self.properties) {
            return true;
        }
        let mut undo = Vec::new();
        let mut length = self.length;
        let set_once = item.set_once.iter();
        let set_once = set_once.filter(|(name, _)| !self.properties.contains_key(*name));
        let set_once: Vec<_> = set_once.collect();
        for (name, value) in set_once.into_iter().chain(&item.set) {
            let previous = self.properties.insert(name.clone(), value.clone());
            length += member_length(name, value);
            if let Some(previous) = &previous {
                length = length.saturating_sub(member_length(name, previous));
            }
            undo.push((name.clone(), previous));
        }
        for name in &item.unset {
            if let Some((name, previous)) = self.properties.remove_entry(name.as_str()) {
                length = length.saturating_sub(member_length(&name, &previous));
                undo.push((name, Some(previous)));
            }
        }
        // Longer properties of earlier versions may become shorter.
        if length <= MAX_PROPERTIES_BYTES.max(self.length) {
            self.length = length;
            self.is_changed = true;
            self.has_new_properties = true;
            let replaced = undo
                .into_iter()
                .filter_map(|(name, value)| Some((name, value?)));
            self.add_lost(replaced);
            return true;
        }
        for (name, previous) in undo.into_iter().rev() {
            match previous {
                Some(previous) => self.properties.insert(name, previous),
                None => self.properties.remove(&name),
            };
        }
        false
    }

    /// Records properties that the person does not have any more with values of the same kind.
    fn add_lost(&mut self, replaced: impl Iterator<Item = (Box<str>, Box<str>)>) {
        for (name, value) in replaced {
            let current = self
                .properties
                .get(&name)
                .map(|value| ValueKinds::of(value));
            if !current.is_some_and(|current| current.contains(ValueKinds::of(&value))) {
                self.lost.push(name);
            }
        }
    }

    /// The names of all properties that the person has or had.
    pub fn all_names(self) -> impl Iterator<Item = Box<str>> {
        self.properties.into_keys().chain(self.lost)
    }

    /// Properties that the person had, and has no more, or with a value of another kind.
    pub fn take_lost(&mut self) -> Vec<Box<str>> {
        std::mem::take(&mut self.lost)
    }

    /// Adds the person `merged`. Where both have a property, the value of `self` remains. Returns `false` and changes no
    /// property if they would become too long.
    pub fn absorb(&mut self, merged: Self) -> bool {
        let created_at = merged.person.created_at.min(self.person.created_at);
        self.is_changed |= created_at != self.person.created_at;
        self.person.created_at = created_at;
        if merged.person.is_identified {
            self.identify();
        }
        let (mut missing, replaced): (Members, Members) = (merged.properties.into_iter())
            .partition(|(name, _)| !self.properties.contains_key(name));
        self.lost.extend(merged.lost);
        self.add_lost(replaced.into_iter());
        let lengths = missing
            .iter()
            .map(|(name, value)| member_length(name, value));
        let length = self.length + lengths.sum::<usize>();
        if missing.is_empty() {
            return true;
        }
        if length > MAX_PROPERTIES_BYTES {
            self.lost.extend(missing.into_keys());
            return false;
        }
        self.length = length;
        self.is_changed = true;
        self.has_new_properties = true;
        self.properties.append(&mut missing);
        true
    }

    pub fn uuid(&self) -> Uuid {
        self.person.uuid
    }

    /// Makes `ordinal` the row of the person. It is a row of the database. With a uuid, the person also gets that one.
    pub fn move_to(&mut self, ordinal: i64, uuid: Option<Uuid>) {
        self.person.ordinal = ordinal;
        self.person.uuid = uuid.unwrap_or(self.person.uuid);
        self.is_stored = true;
        self.is_changed = true;
    }

    /// The row to write; `None` if it is the same as in the database.
    pub fn into_change(mut self) -> Option<PersonChange> {
        if !self.is_changed {
            return None;
        }
        self.person.properties = JsonText(object_text(&self.properties));
        Some(if self.is_stored {
            PersonChange::Update(self.person)
        } else {
            PersonChange::Create(self.person)
        })
    }
}

/// A row to write.
pub enum PersonChange {
    Create(Person),
    Update(Person),
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

/// The approximate length of a property as the database writes it, with a space after each colon and comma.
fn member_length(name: &str, value: &str) -> usize {
    let is_unspaced = |pair: &&[u8]| matches!(pair[0], b',' | b':') && pair[1] != b' ';
    let spaces = match value.as_bytes() {
        [b'[' | b'{', ..] => value.as_bytes().windows(2).filter(is_unspaced).count(),
        _ => 0,
    };
    name.len() + 6 + value.len() + spaces
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::Arrival;

    fn stored(properties: &str) -> PersonState {
        let mut person = new_person(1, Utc::now());
        person.properties = JsonText(properties.to_owned());
        PersonState::stored(person)
    }

    fn item(properties: &str) -> Item {
        let text = format!(r#"{{"event":"x","distinct_id":"a","properties":{properties}}}"#);
        Item::read(&text, &Arrival::of_file(), Uuid::now_v7).unwrap()
    }

    fn written(state: PersonState) -> Option<String> {
        match state.into_change()? {
            PersonChange::Create(person) | PersonChange::Update(person) => {
                Some(person.properties.0)
            }
        }
    }

    #[test]
    fn equal_values_change_no_row() {
        let properties = r#"{"a": {"b": 1, "cc": [1, 2]}, "n": 1.5}"#;
        let mut state = stored(properties);
        assert!(state.apply(&item(r#"{"$set":{"a":{"cc":[1,2],"b":1},"n":1.50}}"#)));
        assert_eq!(written(state), None);
        let mut state = stored(properties);
        assert!(state.apply(&item(r#"{"$set":{"n":2},"$unset":["a"]}"#)));
        assert_eq!(written(state).as_deref(), Some(r#"{"n":2}"#));
    }

    #[test]
    fn longer_properties_of_earlier_versions_may_become_shorter_only() {
        let long = "x".repeat(MAX_PROPERTIES_BYTES + 1_000);
        let properties = format!(r#"{{"long": "{long}", "a": "1234"}}"#);
        let mut state = stored(&properties);
        assert!(!state.apply(&item(r#"{"$set":{"b":1}}"#)));
        assert!(state.apply(&item(r#"{"$set":{"a":"12"}}"#)));
        assert!(state.apply(&item(r#"{"$set":{"b":1},"$unset":["long"]}"#)));
        assert_eq!(written(state).as_deref(), Some(r#"{"a":"12","b":1}"#));
    }

    #[test]
    fn merged_properties_beyond_the_limit_are_not_added() {
        let half = "x".repeat(MAX_PROPERTIES_BYTES / 2);
        let mut state = stored(&format!(r#"{{"a": "{half}"}}"#));
        assert!(!state.absorb(stored(&format!(r#"{{"b": "{half}", "c": 1}}"#))));
        assert!(state.absorb(stored(r#"{"a": 1, "d": 2}"#)));
        let names = [format!(r#"{{"a":"{half}","d":2}}"#)];
        assert_eq!(written(state).as_ref(), names.first());
    }
}
