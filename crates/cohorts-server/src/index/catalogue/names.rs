//! The names of events and properties of a project, in memory.

use std::collections::{BTreeMap, BTreeSet};

use cohorts_store::definitions::CatalogueEntry;

use super::evidence::Evidence;
use super::kinds::ValueKinds;

/// The most names of events and properties of a project together.
pub const MAX_NAMES: usize = if cfg!(test) { 50 } else { 10_000 };
/// The most pairs of an event and a property that it has.
pub const MAX_PAIRS: usize = if cfg!(test) { 100 } else { 100_000 };

/// The properties of an event or of persons.
pub type PropertyKinds = BTreeMap<Box<str>, ValueKinds>;

/// All names of a project, with the kinds of the values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CatalogueNames {
    events: BTreeMap<Box<str>, PropertyKinds>,
    persons: PropertyKinds,
    /// The properties of all events together.
    of_events: PropertyKinds,
    pairs: usize,
}

/// The changes of a catalogue by new evidence.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Additions {
    /// New definitions, and those with other kinds of values.
    pub changed: Vec<(CatalogueEntry, i16)>,
    /// Whether a name was left out because there are too many.
    pub is_full: bool,
}

impl CatalogueNames {
    pub fn new(rows: Vec<(CatalogueEntry, i16)>) -> Self {
        let mut names = Self::default();
        for (definition, bits) in rows {
            names.set(definition, ValueKinds(bits as u8));
        }
        names
    }

    fn set(&mut self, definition: CatalogueEntry, kinds: ValueKinds) {
        match definition {
            CatalogueEntry::Event(event) => {
                self.events.entry(event.into()).or_default();
            }
            CatalogueEntry::EventProperty(event, name) => {
                let properties = self.events.entry(event.into()).or_default();
                let before = properties.insert(name.as_str().into(), kinds);
                self.pairs += usize::from(before.is_none());
                self.of_events.entry(name.into()).or_default().add(kinds);
            }
            CatalogueEntry::PersonProperty(name) => {
                self.persons.insert(name.into(), kinds);
            }
        }
    }

    /// The names of events, sorted.
    pub fn events(&self) -> impl Iterator<Item = &str> {
        self.events.keys().map(|event| &**event)
    }

    /// The properties of all events.
    pub fn event_properties(&self) -> &PropertyKinds {
        &self.of_events
    }

    /// The properties of one event; `None` if the event is unknown.
    pub fn properties_of(&self, event: &str) -> Option<&PropertyKinds> {
        self.events.get(event)
    }

    /// The properties of persons.
    pub fn person_properties(&self) -> &PropertyKinds {
        &self.persons
    }

    /// The number of names.
    pub fn len(&self) -> usize {
        self.events.len() + self.of_events.len() + self.persons.len()
    }

    /// Whether further names may be left out.
    pub fn has_room(&self) -> bool {
        self.len() < MAX_NAMES && self.pairs < MAX_PAIRS
    }

    /// Adds the names and the kinds that are new in `evidence`, as far as there is room.
    pub fn add(&mut self, evidence: Evidence) -> Additions {
        let mut additions = Additions {
            is_full: evidence.leaves_out,
            ..Additions::default()
        };
        for (event, properties) in evidence.events {
            if !self.events.contains_key(event.as_str()) {
                self.try_set(
                    CatalogueEntry::Event(event.clone()),
                    ValueKinds::NONE,
                    &mut additions,
                );
            }
            if !self.events.contains_key(event.as_str()) {
                continue;
            }
            for (name, kinds) in properties {
                let known = self.events.get(event.as_str());
                let known = known.and_then(|properties| properties.get(name.as_str()).copied());
                let definition = CatalogueEntry::EventProperty(event.clone(), name);
                self.widen(definition, known, kinds, &mut additions);
            }
        }
        for (name, kinds) in evidence.persons {
            let known = self.persons.get(name.as_str()).copied();
            self.widen(
                CatalogueEntry::PersonProperty(name),
                known,
                kinds,
                &mut additions,
            );
        }
        additions
    }

    fn widen(
        &mut self,
        definition: CatalogueEntry,
        known: Option<ValueKinds>,
        kinds: ValueKinds,
        additions: &mut Additions,
    ) {
        let Some(known) = known else {
            return self.try_set(definition, kinds, additions);
        };
        if !known.contains(kinds) {
            let kinds = known.with(kinds);
            additions.changed.push((definition.clone(), kinds.bits()));
            self.set(definition, kinds);
        }
    }

    /// Adds a new definition if there is room.
    fn try_set(
        &mut self,
        definition: CatalogueEntry,
        kinds: ValueKinds,
        additions: &mut Additions,
    ) {
        if !self.has_room() {
            additions.is_full = true;
            return;
        }
        additions.changed.push((definition.clone(), kinds.bits()));
        self.set(definition, kinds);
    }

    /// Replaces the kinds of the values of definitions, and removes those with `None`.
    pub fn replace(&mut self, definitions: &[(CatalogueEntry, Option<ValueKinds>)]) {
        for (definition, kinds) in definitions {
            match (definition, kinds) {
                (definition, Some(kinds)) => self.set(definition.clone(), *kinds),
                (CatalogueEntry::Event(event), None) => {
                    self.events.remove(event.as_str());
                }
                (CatalogueEntry::EventProperty(event, name), None) => {
                    if let Some(properties) = self.events.get_mut(event.as_str()) {
                        properties.remove(name.as_str());
                    }
                }
                (CatalogueEntry::PersonProperty(name), None) => {
                    self.persons.remove(name.as_str());
                }
            }
        }
        self.of_events = PropertyKinds::new();
        for (name, kinds) in self.events.values().flatten() {
            self.of_events.entry(name.clone()).or_default().add(*kinds);
        }
        self.pairs = self.events.values().map(BTreeMap::len).sum();
    }

    /// The definitions with a row, among those that checks name.
    pub fn known<'a>(
        &self,
        checks: impl Iterator<Item = &'a CatalogueEntry>,
    ) -> BTreeSet<CatalogueEntry> {
        let mut known = BTreeSet::new();
        for definition in checks {
            match definition {
                CatalogueEntry::Event(event) if self.events.contains_key(event.as_str()) => {
                    known.insert(definition.clone());
                }
                CatalogueEntry::EventProperty(event, name) => {
                    let properties = self.events.get(event.as_str());
                    let keys = properties.into_iter().flat_map(BTreeMap::keys);
                    let keys = keys.map(|key| &**key);
                    let keys = keys.filter(|key| name.is_empty() || *key == name.as_str());
                    let pair =
                        |key: &str| CatalogueEntry::EventProperty(event.clone(), key.to_owned());
                    known.extend(keys.map(pair));
                }
                CatalogueEntry::PersonProperty(name)
                    if self.persons.contains_key(name.as_str()) =>
                {
                    known.insert(definition.clone());
                }
                _ => {}
            }
        }
        known
    }

    /// The kinds of the values of a definition.
    pub fn kinds(&self, definition: &CatalogueEntry) -> Option<ValueKinds> {
        match definition {
            CatalogueEntry::Event(event) => self
                .events
                .contains_key(event.as_str())
                .then_some(ValueKinds::NONE),
            CatalogueEntry::EventProperty(event, name) => {
                self.events.get(event.as_str())?.get(name.as_str()).copied()
            }
            CatalogueEntry::PersonProperty(name) => self.persons.get(name.as_str()).copied(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evidence(event: &str, properties: &str) -> Evidence {
        let mut evidence = Evidence::default();
        evidence.add_event(event, properties, &CatalogueNames::default());
        evidence
    }

    #[test]
    fn only_new_names_and_kinds_are_changes() {
        let mut names = CatalogueNames::default();
        let additions = names.add(evidence("paid", r#"{"amount": 1, "$set": {"a": 1}}"#));
        let pair = || CatalogueEntry::EventProperty("paid".to_owned(), "amount".to_owned());
        let event = CatalogueEntry::Event("paid".to_owned());
        let numeric = ValueKinds::of("1").bits();
        assert_eq!(additions.changed, [(event, 0), (pair(), numeric)]);
        assert_eq!(
            names.add(evidence("paid", r#"{"amount": 2}"#)),
            Additions::default()
        );
        let additions = names.add(evidence("paid", r#"{"amount": "x"}"#));
        let both = numeric | ValueKinds::of(r#""x""#).bits();
        assert_eq!(additions.changed, [(pair(), both)]);
        assert_eq!(names, CatalogueNames::new(vec![(pair(), both)]));
        names.replace(&[(pair(), None)]);
        assert_eq!((names.len(), names.event_properties().len()), (1, 0));
    }

    #[test]
    fn names_beyond_the_limit_are_left_out_and_reported() {
        let mut names = CatalogueNames::default();
        for number in 0..MAX_NAMES + 10 {
            let additions = names.add(evidence(&format!("e{number}"), "{}"));
            assert_eq!(additions.is_full, number >= MAX_NAMES, "{number}");
        }
        assert_eq!(names.len(), MAX_NAMES);
        assert!(!names.has_room());
        names.replace(&[(CatalogueEntry::Event("e0".to_owned()), None)]);
        assert!(names.has_room());
    }
}
