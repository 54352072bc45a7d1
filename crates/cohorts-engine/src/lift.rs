//! What is more or less common among some persons, the group inside, than among others, the group
//! outside.
//!
//! The numbers are counted in the blocks of a [`Source`], and are exact. Numbers of disjoint parts
//! of the persons add up, so a caller may count in ranges of persons.

use std::cmp::Reverse;
use std::collections::HashMap;

use roaring::{MultiOps, RoaringBitmap};

use crate::block::{MAX_LISTED_BYTES, MAX_LISTED_VALUES};
use crate::interrupt::Meter;
use crate::source::{EventQuery, Source};
use crate::value::{Stored, text};

/// The memory of a counted value besides its text, in bytes, about.
const VALUE_BYTES: usize = 64;
/// The blocks with one check for an interruption.
const BLOCKS_AT_ONCE: usize = 16;

/// Two groups of persons. No person is in both.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Groups {
    /// The persons in question.
    pub inside: RoaringBitmap,
    /// The persons to compare them with.
    pub outside: RoaringBitmap,
}

impl Groups {
    /// The numbers of persons.
    pub fn sizes(&self) -> GroupCounts {
        GroupCounts {
            inside: self.inside.len(),
            outside: self.outside.len(),
        }
    }

    /// Whether a person is in one of the groups.
    pub(crate) fn contains(&self, ordinal: u32) -> bool {
        self.inside.contains(ordinal) || self.outside.contains(ordinal)
    }

    /// The number of persons of each group that `persons` contains.
    pub(crate) fn count(&self, persons: &RoaringBitmap) -> GroupCounts {
        GroupCounts {
            inside: self.inside.intersection_len(persons),
            outside: self.outside.intersection_len(persons),
        }
    }

    /// Both groups, changed in the same way.
    pub(crate) fn map(&self, change: impl Fn(&RoaringBitmap) -> RoaringBitmap) -> Groups {
        Groups {
            inside: change(&self.inside),
            outside: change(&self.outside),
        }
    }
}

/// The number of persons of each group that have something in common.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupCounts {
    /// Persons of the group inside.
    pub inside: u64,
    /// Persons of the group outside.
    pub outside: u64,
}

impl GroupCounts {
    /// Adds the numbers of other persons.
    pub fn add(&mut self, other: GroupCounts) {
        self.inside += other.inside;
        self.outside += other.outside;
    }

    pub(crate) fn is_zero(self) -> bool {
        self == GroupCounts::default()
    }

    /// The share of `of` inside, divided by the share outside; `None` if the share outside is zero.
    pub fn lift(self, of: GroupCounts) -> Option<f64> {
        let (inside, outside) = self.products(of);
        (outside > 0).then(|| inside as f64 / outside as f64)
    }

    /// The shares inside and outside, both multiplied by the sizes of both groups.
    fn products(self, of: GroupCounts) -> (u128, u128) {
        let product = |count: u64, size: u64| u128::from(count) * u128::from(size);
        (
            product(self.inside, of.outside),
            product(self.outside, of.inside),
        )
    }

    /// How much the shares differ. Differences of numbers of the same two groups can be compared.
    pub fn difference(self, of: GroupCounts) -> Difference {
        let (inside, outside) = self.products(of);
        Difference {
            size: inside.abs_diff(outside),
            is_more: inside > outside,
        }
    }
}

/// The difference between the shares of two groups. If two are equally large, that with the larger
/// share inside is greater.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Difference {
    size: u128,
    is_more: bool,
}

impl Difference {
    /// Whether the shares are equal.
    pub fn is_zero(self) -> bool {
        self.size == 0
    }
}

/// The names with different shares: the greatest difference first, equal ones by name, and at most
/// `limit`.
pub fn best(
    counted: impl IntoIterator<Item = (String, GroupCounts)>,
    of: GroupCounts,
    limit: usize,
) -> Vec<(String, GroupCounts)> {
    let counted = counted.into_iter().map(|(name, counts)| {
        let difference = Reverse(counts.difference(of));
        (difference, name, counts)
    });
    let differs = |entry: &(Reverse<Difference>, String, GroupCounts)| !entry.0.0.is_zero();
    let mut entries: Vec<_> = counted.filter(differs).collect();
    entries.sort_unstable_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
    entries.truncate(limit);
    let entries = entries.into_iter();
    entries.map(|(_, name, counts)| (name, counts)).collect()
}

/// The numbers of persons with each value of one property.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GroupValueCounts {
    /// The persons with any value.
    pub with_value: GroupCounts,
    /// The persons with each value, as text.
    values: HashMap<String, GroupCounts>,
    has_too_many: bool,
}

impl GroupValueCounts {
    /// The persons with each value, as text; `None` if there are more than [`MAX_LISTED_VALUES`].
    pub fn values(self) -> Option<HashMap<String, GroupCounts>> {
        (!self.has_too_many).then_some(self.values)
    }

    /// Adds the numbers of other persons.
    pub fn add(&mut self, other: GroupValueCounts) {
        self.with_value.add(other.with_value);
        self.has_too_many |= other.has_too_many;
        for (value, counts) in other.values {
            self.add_text(&value, counts);
        }
        self.limit();
    }

    fn add_value(&mut self, value: Stored<'_>, counts: GroupCounts) {
        let text = text(value);
        if is_listed(&text) {
            self.add_text(&text, counts);
            self.limit();
        }
    }

    fn add_text(&mut self, text: &str, counts: GroupCounts) {
        match self.values.get_mut(text) {
            Some(known) => known.add(counts),
            None if self.has_too_many => {}
            None => {
                self.values.insert(text.to_owned(), counts);
            }
        }
    }

    fn limit(&mut self) {
        self.has_too_many |= self.values.len() > MAX_LISTED_VALUES;
        if self.has_too_many {
            self.values = HashMap::new();
        }
    }

    fn bytes(&self) -> usize {
        self.values
            .keys()
            .map(|text| text.len() + VALUE_BYTES)
            .sum()
    }
}

/// Counts the persons of the groups with each value of the property `key`.
///
/// # Errors
///
/// Returns the error of `source` if data cannot be read, or if the evaluation is interrupted.
pub fn count_values<S: Source>(
    source: &S,
    groups: &Groups,
    key: &str,
) -> Result<GroupValueCounts, S::Error> {
    let (block, meter) = (source.person_property(key)?, Meter::new(source));
    let mut counted = GroupValueCounts {
        with_value: block.count_present(groups),
        has_too_many: block.shows_more(groups, is_listed, MAX_LISTED_VALUES, &meter)?,
        ..GroupValueCounts::default()
    };
    if !counted.has_too_many {
        block.count_groups(groups, &|_| true, &meter, &mut |value, counts| {
            if !counted.has_too_many {
                counted.add_value(value, counts);
            }
        })?;
    }
    source.check_memory(counted.bytes())?;
    Ok(counted)
}

fn is_listed(text: &str) -> bool {
    !text.is_empty() && text.len() <= MAX_LISTED_BYTES
}

/// Counts the persons of the groups with an event of a name, at any time.
///
/// # Errors
///
/// Returns the error of `source` if data cannot be read, or if the evaluation is interrupted.
pub fn count_event<S: Source>(
    source: &S,
    groups: &Groups,
    event: &str,
) -> Result<GroupCounts, S::Error> {
    let blocks = source.events(&EventQuery {
        event: event.to_owned(),
        from: None,
        to: i64::MAX,
        properties: Vec::new(),
        persons_only: true,
    })?;
    let mut persons = RoaringBitmap::new();
    for blocks in blocks.chunks(BLOCKS_AT_ONCE) {
        source.interrupt()?;
        persons |= blocks.iter().map(|block| block.persons()).union();
    }
    Ok(groups.count(&persons))
}

#[cfg(test)]
mod tests {

    use proptest::collection::vec;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::cases::{Event, Person, Project};
    use crate::{PropertyBlock, PropertyBlockBuilder};

    fn counts(inside: u64, outside: u64) -> GroupCounts {
        GroupCounts { inside, outside }
    }

    #[test]
    fn lift_is_the_quotient_of_the_shares() {
        let of = counts(10, 40);
        assert_eq!(counts(5, 4).lift(of), Some(5.0));
        assert_eq!(counts(0, 4).lift(of), Some(0.0));
        assert_eq!(counts(3, 0).lift(of), None);
        assert_eq!(counts(0, 0).lift(counts(0, 5)), None);
        assert!(counts(5, 20).difference(of).is_zero());
        // No group is more than an empty one.
        assert!(counts(7, 0).difference(counts(7, 0)).is_zero());
    }

    #[test]
    fn the_largest_difference_in_either_direction_comes_first() {
        let of = counts(10, 100);
        let entries = [
            ("equal", counts(1, 10)),
            ("more", counts(5, 20)),
            ("b", counts(2, 10)),
            ("less", counts(2, 50)),
            ("a", counts(2, 10)),
            ("only inside", counts(4, 0)),
        ];
        let entries = entries.map(|(name, counts)| (name.to_owned(), counts));
        let order = |limit| -> Vec<String> {
            let best = best(entries.clone(), of, limit);
            best.into_iter().map(|(name, _)| name).collect()
        };
        assert_eq!(order(9), ["only inside", "more", "less", "a", "b"]);
        assert_eq!(order(2), ["only inside", "more"]);
        let huge = counts(u64::MAX, 1);
        let best = best([("x".to_owned(), huge)], counts(u64::MAX, u64::MAX), 1);
        assert_eq!(best.len(), 1, "no overflow");
    }

    fn value() -> impl Strategy<Value = Value> {
        prop_oneof![
            Just(Value::Null),
            Just(json!("")),
            Just(json!("x".repeat(MAX_LISTED_BYTES + 1))),
            Just(json!(true)),
            Just(json!([1, "a"])),
            (0..4_i64).prop_map(Value::from),
            (0..4_i64).prop_map(|number| json!(number.to_string())),
            (0..600_i64).prop_map(|number| json!(format!("v{number}"))),
        ]
    }

    /// Counts with the properties alone.
    fn expected(values: &[Value], groups: &Groups) -> GroupValueCounts {
        let mut expected = GroupValueCounts::default();
        for (ordinal, value) in (0..).zip(values).filter(|(_, value)| !value.is_null()) {
            let one = groups.count(&RoaringBitmap::from([ordinal]));
            expected.with_value.add(one);
            let text = text(value).into_owned();
            if !one.is_zero() && !text.is_empty() && text.len() <= MAX_LISTED_BYTES {
                expected.values.entry(text).or_default().add(one);
            }
        }
        expected
    }

    fn groups_of(places: &[u8]) -> Groups {
        let persons = |place: u8| {
            let persons = (0..).zip(places).filter(|(_, other)| **other == place);
            persons.map(|(ordinal, _)| ordinal).collect()
        };
        Groups {
            inside: persons(0),
            outside: persons(1),
        }
    }

    /// A block in parts of 64 persons, in which the persons at multiples of three have changed.
    fn block(before: &[Value], after: &[Value]) -> crate::PropertyBlock {
        let mut all = PropertyBlockBuilder::with_parts(6);
        let mut changes = PropertyBlockBuilder::new();
        let mut changed = RoaringBitmap::new();
        for (ordinal, (before, after)) in (0..).zip(before.iter().zip(after)) {
            if ordinal % 3 == 0 {
                all.push(ordinal, before);
                changes.push(ordinal, after);
                changed.insert(ordinal);
            } else {
                all.push(ordinal, after);
            }
        }
        all.finish().with_changes(&changed, changes.finish())
    }

    proptest! {
        #[test]
        fn values_of_parts_and_layers_are_counted(
            (before, after, places) in (1..500_usize).prop_flat_map(|persons| {
                (vec(value(), persons), vec(value(), persons), vec(0..3_u8, persons))
            }),
        ) {
            let groups = groups_of(&places);
            let project = Project::default();
            let mut counted = GroupValueCounts::default();
            let meter = Meter::new(&project);
            let block = block(&before, &after);
            counted.with_value = block.count_present(&groups);
            let count = |value: Stored<'_>, counts| counted.add_value(value, counts);
            let Ok(()) = block.count_groups(&groups, &|_| true, &meter, &mut { count });
            prop_assert_eq!(counted, expected(&after, &groups));
        }
    }

    fn with_values(values: impl Iterator<Item = Value>) -> Project {
        let persons = values.map(|value| Person {
            properties: json!({"p": value}),
            ..Person::default()
        });
        Project {
            persons: persons.collect(),
            ..Project::default()
        }
    }

    #[test]
    fn too_many_values_are_not_listed_and_their_persons_are_counted() {
        let groups = |persons: std::ops::Range<u32>| Groups {
            inside: persons.collect(),
            outside: RoaringBitmap::new(),
        };
        let most = MAX_LISTED_VALUES as u32;
        let project = with_values((0..=most).map(|number| json!(format!("v{number}"))));
        let Ok(all) = count_values(&project, &groups(0..most + 1), "p");
        assert_eq!(all.with_value, counts(u64::from(most) + 1, 0));
        assert_eq!(all.values(), None);
        let Ok(mut first) = count_values(&project, &groups(0..most), "p");
        let Ok(last) = count_values(&project, &groups(most..most + 1), "p");
        assert_eq!(
            first.clone().values().map(|values| values.len()),
            Some(MAX_LISTED_VALUES)
        );
        first.add(last.clone());
        assert_eq!(first.clone().values(), None);
        first.add(last);
        assert_eq!(first.values(), None, "a later part adds none");
    }

    #[test]
    fn a_few_persons_of_the_groups_show_too_many_values() {
        let most = MAX_LISTED_VALUES as u32;
        let groups = |inside: std::ops::Range<u32>, outside: std::ops::Range<u32>| Groups {
            inside: inside.collect(),
            outside: outside.collect(),
        };
        let values = (0..3 * most).map(|number| json!(format!("v{}", number / 2)));
        let project = with_values(values);
        let Ok(block) = project.person_property("p");
        let meter = Meter::new(&project);
        let shows_more = |block: &PropertyBlock, groups: &Groups| {
            let Ok(shows) = block.shows_more(groups, is_listed, MAX_LISTED_VALUES, &meter);
            shows
        };
        let shows = |groups: Groups| shows_more(&block, &groups);
        assert!(!shows(groups(0..most, most..2 * most)));
        assert!(shows(groups(0..most, most..2 * most + 1)));
        assert!(!shows(groups(2 * most..3 * most, 0..most)));
        assert!(!shows(groups(0..0, 0..0)));
        let changed: RoaringBitmap = (0..10).collect();
        let block = block.with_changes(&changed, PropertyBlockBuilder::new().finish());
        let all = groups(0..most, most..2 * most + 1);
        assert!(!shows_more(&block, &all), "a changed person shows nothing");
        let Ok(counted) = count_values(&project, &groups(0..3 * most, 0..0), "p");
        assert_eq!(counted.with_value, counts(u64::from(3 * most), 0));
        assert_eq!(counted.values(), None);
    }

    #[test]
    fn numbers_show_too_many_values_and_other_spellings_add_none() {
        let most = MAX_LISTED_VALUES as u32;
        let all = Groups {
            inside: (0..4 * most).collect(),
            ..Groups::default()
        };
        let shows_more = |values: Vec<Value>| {
            let project = with_values(values.into_iter());
            let Ok(block) = project.person_property("p");
            let meter = Meter::new(&project);
            let Ok(shows) = block.shows_more(&all, is_listed, MAX_LISTED_VALUES, &meter);
            let Ok(counted) = count_values(&project, &all, "p");
            (shows, counted.values().map(|values| values.len()))
        };
        let numbers = |count| (0..count).map(|number| json!(number));
        assert_eq!(shows_more(numbers(most + 1).collect()), (true, None));
        let lists = (0..=most).map(|number| json!([[number]]));
        assert_eq!(shows_more(lists.collect()), (true, None));
        // Each number also as a text and as another double.
        let spellings = numbers(most).flat_map(|number| {
            let double = json!(number.as_f64());
            [json!(number.to_string()), number, double]
        });
        let found = shows_more(spellings.collect());
        assert_eq!(found, (false, Some(MAX_LISTED_VALUES)));
    }

    #[test]
    fn persons_with_an_event_count_once() {
        let event = |name: &str, person, time| Event {
            name: name.to_owned(),
            person,
            time,
            properties: json!({}),
        };
        let project = Project {
            events: vec![
                event("a", 0, i64::MIN / 4),
                event("a", 0, 5),
                event("a", 2, i64::MAX / 4),
                event("b", 1, 5),
            ],
            ..with_values((0..4).map(|_| Value::Null))
        };
        let groups = groups_of(&[0, 0, 1, 1]);
        let count = |name| {
            let Ok(counts) = count_event(&project, &groups, name);
            counts
        };
        assert_eq!(count("a"), counts(1, 1));
        assert_eq!(count("b"), counts(1, 0));
        assert_eq!(count("c"), counts(0, 0));
    }
}
