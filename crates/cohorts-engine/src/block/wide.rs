//! Events of one name with all their properties.
//!
//! A builder adds a column when an event has a new property. The number of columns and their bytes are bounded; a property
//! beyond the bounds has no column, and the result names it.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::fmt;

use roaring::RoaringBitmap;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::column::ColumnBuilder;
use super::events::EventBlock;

/// The most columns of a block.
const MAX_COLUMNS: usize = 256;
/// The most bytes of the distinct values of a column, approximately.
const MAX_COLUMN_BYTES: usize = 16 << 20;
/// The most bytes of a block, approximately.
const MAX_BLOCK_BYTES: usize = 256 << 20;
/// The most properties without a column that are named.
const MAX_LEFT_OUT: usize = 1_024;

/// Properties that some events of a block have, and that have no column.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// The names of the properties.
    pub names: BTreeSet<String>,
    /// Whether there are more of them than names.
    pub has_others: bool,
}

impl LeftOut {
    /// Whether a property without a column may be one of these.
    pub fn may_have(&self, property: &str) -> bool {
        self.has_others || self.names.contains(property)
    }

    fn add(&mut self, property: &str) {
        if self.names.contains(property) {
            return;
        }
        if self.names.len() < MAX_LEFT_OUT {
            self.names.insert(property.to_owned());
        } else {
            self.has_others = true;
        }
    }
}

/// Events of one name with a column for each property, except those that are left out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WideEventBlock {
    /// The events with their columns.
    pub block: EventBlock,
    /// The properties without a column.
    pub left_out: LeftOut,
}

impl WideEventBlock {
    /// Whether the block gives the value of `property` for each event. A property that no event has counts too.
    pub fn has(&self, property: &str) -> bool {
        self.block.columns().contains_key(property) || !self.left_out.may_have(property)
    }

    /// Merges blocks of the same name. A property that one of them leaves out has no column in the result.
    pub fn merged(parts: Vec<WideEventBlock>) -> WideEventBlock {
        let mut keys: Vec<&str> = parts
            .iter()
            .flat_map(|part| part.block.properties())
            .collect();
        keys.sort_unstable();
        keys.dedup();
        let complete = |key: &&&str| parts.iter().all(|part| part.has(key));
        let kept = keys.iter().filter(complete).take(MAX_COLUMNS);
        let kept: BTreeSet<String> = kept.map(|key| (*key).to_owned()).collect();
        let mut left_out = LeftOut::default();
        for part in &parts {
            left_out.has_others |= part.left_out.has_others;
            part.left_out
                .names
                .iter()
                .for_each(|name| left_out.add(name));
        }
        let dropped = keys.iter().filter(|key| !kept.contains(**key));
        dropped.for_each(|key| left_out.add(key));
        let blocks: Vec<EventBlock> = parts.into_iter().map(|part| part.block).collect();
        let blocks: Vec<&EventBlock> = blocks.iter().collect();
        let mut block = EventBlock::merged_of(&blocks);
        block.retain_columns(|key| kept.contains(key));
        WideEventBlock { block, left_out }
    }

    /// Returns the block with each person replaced by `resolve(person)`. If the result is `None`, the events of the person
    /// are removed.
    pub fn resolved(&self, resolve: impl Fn(u32) -> Option<u32>) -> WideEventBlock {
        WideEventBlock {
            block: self.block.resolved(resolve),
            left_out: self.left_out.clone(),
        }
    }

    /// Returns the block without the events of these persons; `None` if it has none of theirs.
    pub fn without(&self, persons: &RoaringBitmap) -> Option<WideEventBlock> {
        let is_left = |ordinal| (!persons.contains(ordinal)).then_some(ordinal);
        let has_some = !self.block.persons().is_disjoint(persons);
        has_some.then(|| self.resolved(is_left))
    }
}

/// Collects events of one name with all their properties.
///
/// # Examples
///
/// ```
/// use cohorts_engine::WideEventBuilder;
///
/// let mut builder = WideEventBuilder::new(&["$set"]);
/// builder.push(7, 1_750_260_600_000_000, r#"{"browser": "Safari", "$set": {"plan": "free"}}"#);
/// builder.push(3, 1_750_260_601_000_000, "{}");
/// let events = builder.finish();
/// assert_eq!(events.block.properties().collect::<Vec<_>>(), ["browser"]);
/// assert!(events.has("browser") && events.has("other") && !events.has("$set"));
/// ```
#[derive(Debug)]
pub struct WideEventBuilder {
    rows: Vec<(u32, i64)>,
    columns: HashMap<String, ColumnBuilder>,
    left_out: LeftOut,
    /// Properties that never have a column.
    excluded: &'static [&'static str],
    bytes: usize,
}

/// The memory of a column besides its values, in bytes, approximately.
const COLUMN: usize = 300;

impl WideEventBuilder {
    /// Creates a builder that leaves out the properties `excluded`.
    pub fn new(excluded: &'static [&'static str]) -> WideEventBuilder {
        WideEventBuilder {
            rows: Vec::new(),
            columns: HashMap::new(),
            left_out: LeftOut::default(),
            excluded,
            bytes: size_of::<WideEventBuilder>() + COLUMN,
        }
    }

    /// Adds an event of the person `ordinal` at `time`, in microseconds. Events may come in any order. `properties` is the
    /// text of a JSON object; another text means no properties.
    pub fn push(&mut self, ordinal: u32, time: i64, properties: &str) {
        let row = self.rows.len();
        self.rows.push((ordinal, time));
        self.bytes += size_of::<(u32, i64)>();
        let Ok(Members(members)) = serde_json::from_str(properties) else {
            return;
        };
        for (MemberKey(key), value) in members {
            self.set(row, &key, value.get());
        }
        while self.bytes > MAX_BLOCK_BYTES && self.leave_out_largest() {}
    }

    fn set(&mut self, row: usize, key: &str, value: &str) {
        if let Some(column) = self.columns.get_mut(key) {
            let before = column.bytes();
            column.set_raw(row, value);
            let after = column.bytes();
            self.bytes = self.bytes + after - before;
            if column.value_bytes() > MAX_COLUMN_BYTES {
                self.leave_out(key);
            }
            return;
        }
        let is_excluded = self.columns.len() >= MAX_COLUMNS || self.excluded.contains(&key);
        if is_excluded || self.left_out.may_have(key) {
            self.left_out.add(key);
            return;
        }
        let mut column = ColumnBuilder::default();
        column.set_raw(row, value);
        self.bytes += column.bytes() + key.len() + COLUMN;
        self.columns.insert(key.to_owned(), column);
    }

    /// Leaves out the property that takes most memory. Returns whether there was one.
    pub fn leave_out_largest(&mut self) -> bool {
        let largest = self.columns.iter().max_by_key(|(_, column)| column.bytes());
        let largest = largest.map(|(key, _)| key.clone());
        if let Some(key) = &largest {
            self.leave_out(key);
        }
        largest.is_some()
    }

    fn leave_out(&mut self, key: &str) {
        if let Some(column) = self.columns.remove(key) {
            self.bytes -= column.bytes() + key.len() + COLUMN;
        }
        self.left_out.add(key);
    }

    /// The number of events.
    pub fn rows(&self) -> usize {
        self.rows.len()
    }

    /// The memory that the builder takes, in bytes, approximately.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns the block of all events.
    pub fn finish(self) -> WideEventBlock {
        let rows = self.rows.len();
        let columns = self.columns.into_iter();
        let columns = columns.map(|(key, column)| (key, column.finish_with(rows)));
        WideEventBlock {
            block: EventBlock::sorted(self.rows, columns.collect()),
            left_out: self.left_out,
        }
    }
}

/// The name of a member of a JSON object.
#[derive(Deserialize)]
struct MemberKey<'a>(#[serde(borrow)] Cow<'a, str>);

/// The members of a JSON object, in its order.
struct Members<'a>(Vec<(MemberKey<'a>, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MemberList)
    }
}

struct MemberList;

impl<'de> Visitor<'de> for MemberList {
    type Value = Members<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(Members(members))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::block::EventBlockBuilder;

    fn wide(rows: &[(u32, &str)]) -> WideEventBlock {
        let mut builder = WideEventBuilder::new(&["$set"]);
        for (nth, (person, properties)) in rows.iter().enumerate() {
            builder.push(*person, nth as i64 * 1_000, properties);
        }
        builder.finish()
    }

    #[test]
    fn a_wide_block_equals_a_block_with_known_columns() {
        let rows = [
            (3, r#"{"a": "x", "b": 1}"#),
            (1, r#"{"c": null, "a": "y", "a": "z"}"#),
            (2, "no object"),
            (
                1,
                r#"{"b": {"long": 1, "k": [{"c": 1, "b": 2}]}, "$set": {}}"#,
            ),
        ];
        let keys = ["a", "b", "c"].map(str::to_owned);
        let mut builder = EventBlockBuilder::new(&keys);
        builder.push_raw(3, 0, [Some(r#""x""#), Some("1"), None]);
        builder.push_raw(1, 1_000, [Some(r#""z""#), None, None]);
        builder.push_raw(2, 2_000, [None, None, None]);
        // The database sorts the members of objects.
        let object = r#"{"k": [{"b": 2, "c": 1}], "long": 1}"#;
        builder.push_raw(1, 3_000, [None, Some(object), None]);
        let events = wide(&rows);
        let names = |block: &EventBlock| -> BTreeSet<String> {
            block.properties().map(str::to_owned).collect()
        };
        assert_eq!(names(&events.block), BTreeSet::from(keys));
        let parts = [events.block.clone(), builder.finish()];
        let values = |block: &EventBlock, key: &str| -> Vec<_> {
            let column = &block.columns()[key];
            let index = |row| column.codes.code(row).checked_sub(1);
            let value =
                |row| index(row).map(|index| column.dictionary.value(index as usize).to_json());
            (0..block.rows())
                .map(|row| (block.row(row), value(row).map(|value| value.to_string())))
                .collect()
        };
        for key in ["a", "b", "c"] {
            assert_eq!(values(&parts[0], key), values(&parts[1], key), "{key}");
        }
        assert!(!events.has("$set") && events.has("d"));
    }

    #[test]
    fn properties_beyond_the_limits_are_left_out_and_named() {
        let many: Vec<String> = (0..2_000).map(|nth| format!(r#""p{nth}": 1"#)).collect();
        let many = wide(&[(1, &format!("{{{}}}", many.join(",")))]);
        assert_eq!(many.block.properties().count(), MAX_COLUMNS);
        assert!(many.has("p255") && !many.has("p256") && !many.has("p1999") && !many.has("other"));

        let mut builder = WideEventBuilder::new(&[]);
        let before = builder.bytes();
        for nth in 0..20 {
            let text = format!("{nth:02}").repeat(1 << 19);
            builder.push(1, nth, &format!(r#"{{"long": "{text}", "short": 1}}"#));
        }
        assert!(builder.bytes() < 1 << 20);
        assert!(builder.leave_out_largest() && !builder.leave_out_largest());
        assert_eq!(builder.bytes(), before + 20 * size_of::<(u32, i64)>());
        let events = builder.finish();
        assert!(!events.has("long") && !events.has("short") && events.has("other"));
    }

    #[test]
    fn merged_wide_blocks_have_the_columns_that_no_part_leaves_out() {
        let first = wide(&[(1, r#"{"a": 1, "b": "x"}"#), (2, r#"{"b": "y"}"#)]);
        let second = wide(&[(1, r#"{"c": 2, "b": "y", "$set": 1}"#)]);
        let mut third = wide(&[(4, r#"{"a": 3}"#)]);
        third.left_out.names.insert("c".to_owned());
        let merged = WideEventBlock::merged(vec![first.clone(), second, third]);
        assert_eq!(merged.block.rows(), 4);
        assert!(merged.has("a") && merged.has("b") && !merged.has("c") && !merged.has("$set"));
        let blocks = [first.block.clone(), EventBlock::default()].map(Arc::new);
        assert_eq!(EventBlock::merged(&blocks), first.block);
    }
}
