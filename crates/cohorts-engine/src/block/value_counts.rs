//! How often each value of a property occurs.

use std::collections::HashMap;

use roaring::RoaringBitmap;

use super::codes::index_of;
use super::events::EventBlock;
use super::property::PropertyBlock;
use crate::interrupt::{Interrupt, Meter};
use crate::lift::Groups;
use crate::predicate::folded;
use crate::value::{Stored, text};

/// The numbers of persons or events by the text of their value.
///
/// Empty texts and long values are not counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ValueCounts {
    /// In lower case.
    prefix: String,
    max_bytes: usize,
    counts: HashMap<Box<str>, u64>,
    bytes: usize,
}

/// The values of a property that are counted for a list. If it has more, none is listed.
pub const MAX_LISTED_VALUES: usize = 10_000;
/// The most bytes of a value that is counted for a list.
pub const MAX_LISTED_BYTES: usize = 4_096;
/// The memory of an entry, besides its text.
const ENTRY_BYTES: usize = 48;

impl ValueCounts {
    /// Counts values of at most `max_bytes` bytes that begin with `prefix`, in any case of letters.
    pub fn new(prefix: &str, max_bytes: usize) -> ValueCounts {
        ValueCounts {
            prefix: folded::lower(prefix),
            max_bytes,
            ..ValueCounts::default()
        }
    }

    /// The same selection without counts.
    pub fn empty(&self) -> ValueCounts {
        ValueCounts::new(&self.prefix, self.max_bytes)
    }

    #[inline]
    fn is_counted(&self, value: &str) -> bool {
        !value.is_empty()
            && value.len() <= self.max_bytes
            && folded::starts_with(value, &self.prefix)
    }

    fn add(&mut self, value: &str, count: u64) {
        if count > 0 && self.is_counted(value) {
            self.add_counted(value, count);
        }
    }

    /// As [`Self::add`], for a value that is counted.
    fn add_counted(&mut self, value: &str, count: u64) {
        if let Some(current) = self.counts.get_mut(value) {
            *current += count;
        } else {
            self.bytes += value.len() + ENTRY_BYTES;
            self.counts.insert(value.into(), count);
        }
    }

    /// Adds other counts.
    pub fn merge(&mut self, other: &ValueCounts) {
        for (value, count) in &other.counts {
            self.add(value, *count);
        }
    }

    /// The number of different values.
    pub fn len(&self) -> usize {
        self.counts.len()
    }

    /// Whether there is no value.
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// The memory that the counts take, in bytes, approximately.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The most common values, the most common first; values with the same count are sorted.
    pub fn most_common(&self, limit: usize) -> Vec<(&str, u64)> {
        let counts = self.counts.iter().map(|(value, count)| (&**value, *count));
        let mut counts: Vec<(&str, u64)> = counts.collect();
        let order = |one: &(&str, u64), other: &(&str, u64)| {
            other.1.cmp(&one.1).then_with(|| one.0.cmp(other.0))
        };
        if limit < counts.len() {
            counts.select_nth_unstable_by(limit, order);
            counts.truncate(limit);
        }
        counts.sort_unstable_by(order);
        counts
    }
}

impl PropertyBlock {
    /// Whether a few persons of the groups show that there are more than `most` texts of values that are counted. If not,
    /// there may still be more.
    pub(crate) fn shows_more<I: Interrupt>(
        &self,
        groups: &Groups,
        is_counted: impl Fn(&str) -> bool,
        most: usize,
        meter: &Meter<I>,
    ) -> Result<bool, I::Error> {
        let mut shows_more = false;
        self.for_each_part(groups, &mut |part, groups| {
            shows_more = shows_more || part.shows_more(groups, &is_counted, most, meter)?;
            Ok(())
        })?;
        Ok(shows_more)
    }

    /// Adds the numbers of `persons` with each value. Returns false, and may have counted none, if there are more than `most`
    /// values then.
    ///
    /// # Errors
    ///
    /// Returns the error of `interrupt` if the evaluation ends early.
    pub fn count_values<I: Interrupt>(
        &self,
        persons: &RoaringBitmap,
        interrupt: &I,
        counts: &mut ValueCounts,
        most: usize,
    ) -> Result<bool, I::Error> {
        let groups = Groups {
            inside: persons.clone(),
            outside: RoaringBitmap::new(),
        };
        let (selection, meter) = (counts.empty(), Meter::new(interrupt));
        let is_counted = |text: &str| selection.is_counted(text);
        if self.shows_more(&groups, is_counted, most, &meter)? {
            return Ok(false);
        }
        let is_wanted = |value: Stored<'_>| selection.is_counted(&text(value));
        self.count_groups(&groups, &is_wanted, &meter, &mut |value, of_value| {
            if counts.len() <= most {
                counts.add_counted(&text(value), of_value.inside);
            }
        })?;
        Ok(counts.len() <= most)
    }
}

impl EventBlock {
    /// Adds the numbers of events with each value of `property`.
    pub fn count_values(&self, property: &str, counts: &mut ValueCounts) {
        let Some(column) = self.columns().get(property) else {
            return;
        };
        let mut numbers = vec![0; column.dictionary.len()];
        for index in column.codes.iter().filter_map(index_of) {
            numbers[index] += 1;
        }
        for (value, number) in column.dictionary.iter().zip(numbers) {
            counts.add(&text(value), number);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cases::Project;
    use crate::{EventBlockBuilder, PropertyBlockBuilder};

    #[test]
    fn values_of_persons_are_counted_by_their_text() {
        let mut block = PropertyBlockBuilder::new();
        for (person, value) in [
            json!("pro"),
            json!("Pro 2"),
            json!(7),
            json!("7"),
            json!(""),
        ]
        .iter()
        .enumerate()
        {
            block.push(person as u32, value);
        }
        block.push(5, &json!("x".repeat(11)));
        block.push(6, &json!("pro"));
        let block = block.finish();
        let (all, project) = ((0..7).collect(), Project::default());
        let mut counts = ValueCounts::new("", 10);
        assert!(block.count_values(&all, &project, &mut counts, 3).unwrap());
        assert_eq!(counts.most_common(9), [("7", 2), ("pro", 2), ("Pro 2", 1)]);
        assert_eq!(counts.most_common(1), [("7", 2)]);
        let mut counts = ValueCounts::new("PRO", 10);
        let some = (1..7).collect();
        assert!(!block.count_values(&some, &project, &mut counts, 1).unwrap());
        assert_eq!(counts.most_common(9), [("Pro 2", 1), ("pro", 1)]);
    }

    #[test]
    fn only_values_with_the_prefix_are_counted_among_many() {
        let mut block = PropertyBlockBuilder::new();
        for person in 0..2_000_u32 {
            block.push(person, &json!(format!("V{}", person % 1_000)));
        }
        let (block, project) = (block.finish(), Project::default());
        let mut counts = ValueCounts::new("v99", 10);
        block
            .count_values(&(0..1_995).collect(), &project, &mut counts, usize::MAX)
            .unwrap();
        let of_persons = |value: u32| (0..1_995).filter(|person| person % 1_000 == value).count();
        let values = std::iter::once(99).chain(990..1_000);
        let expected = values.map(|value| (format!("V{value}"), of_persons(value) as u64));
        let mut expected: Vec<_> = expected.collect();
        expected.sort_by(|one, other| other.1.cmp(&one.1).then_with(|| one.0.cmp(&other.0)));
        let counted = counts.most_common(99).into_iter();
        let counted: Vec<_> = counted
            .map(|(value, count)| (value.to_owned(), count))
            .collect();
        assert_eq!(counted, expected);
    }

    #[test]
    fn a_prefix_is_the_beginning_of_a_value_in_any_case_of_letters() {
        let is_counted = |value, prefix| ValueCounts::new(prefix, 99).is_counted(value);
        // A capital sigma is a final one only at the end of a word.
        for prefix in ["ΟΔΥΣ", "Οδυσ", "οδυσσ", "ο", ""] {
            assert!(is_counted("ΟΔΥΣΣΕΥΣ", prefix), "{prefix}");
        }
        assert!(is_counted("Äb", "äB") && is_counted("\u{212a}x", "KX"));
        assert!(!is_counted("ΟΔΥ", "ΟΔΥΣ") && !is_counted("Ab", "Äb") && !is_counted("a", "B"));
    }

    #[test]
    fn values_of_events_are_counted_once_per_event() {
        let mut block = EventBlockBuilder::new(&["plan".to_owned()]);
        for (person, value) in [
            (0, json!("a")),
            (0, json!("a")),
            (1, json!(["b"])),
            (2, json!(null)),
        ] {
            block.push(person, 0, &json!({"plan": value}));
        }
        let block = block.finish();
        let mut counts = ValueCounts::new("", 100);
        block.count_values("plan", &mut counts);
        block.count_values("other", &mut counts);
        let mut total = counts.empty();
        total.merge(&counts);
        total.merge(&counts);
        assert_eq!(total.most_common(9), [("a", 4), (r#"["b"]"#, 2)]);
        assert!(total.bytes() > 0 && !total.is_empty());
    }
}
