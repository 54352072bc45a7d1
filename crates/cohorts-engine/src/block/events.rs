//! Events of one name as columns.

use std::collections::HashMap;
use std::sync::Arc;

use roaring::{MultiOps, RoaringBitmap};
use serde_json::Value;

use super::bitmap_of;
use super::column::{Column, ColumnBuilder, RowMatches};
use crate::interrupt::{Interrupt, Meter};
use crate::predicate::Predicate;

/// Events of one name, sorted by person and time, and who did them.
///
/// A log is cut into blocks in any way, each event in one of them; cut by time, more of them are whole in a range.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EventBlock {
    ordinals: Vec<u32>,
    times: Times,
    persons: RoaringBitmap,
    span: TimeSpan,
    properties: HashMap<String, Column>,
}

/// The first and the last instant of some events, in microseconds since the Unix epoch.
///
/// Without events, `first` is greater than `last`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeSpan {
    /// The first instant.
    pub first: i64,
    /// The last instant.
    pub last: i64,
}

impl TimeSpan {
    const EMPTY: TimeSpan = TimeSpan {
        first: i64::MAX,
        last: i64::MIN,
    };

    /// The span of the events of both.
    fn union(self, other: TimeSpan) -> TimeSpan {
        TimeSpan {
            first: self.first.min(other.first),
            last: self.last.max(other.last),
        }
    }
}

impl Default for TimeSpan {
    fn default() -> TimeSpan {
        TimeSpan::EMPTY
    }
}

/// Instants in microseconds; half as large where all are whole milliseconds of a few weeks.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Times {
    Millis { base: i64, offsets: Vec<u32> },
    Micros(Vec<i64>),
}

impl Default for Times {
    fn default() -> Times {
        Times::Micros(Vec::new())
    }
}

impl Times {
    fn new(times: Vec<i64>) -> Times {
        let base = times.iter().copied().min().unwrap_or_default();
        let offset = |time: &i64| {
            let micros = time.checked_sub(base)?;
            (micros % 1_000 == 0).then_some(())?;
            u32::try_from(micros / 1_000).ok()
        };
        match times.iter().map(offset).collect() {
            Some(offsets) => Times::Millis { base, offsets },
            None => Times::Micros(times),
        }
    }

    fn at(&self, row: usize) -> i64 {
        match self {
            Times::Millis { base, offsets } => base + i64::from(offsets[row]) * 1_000,
            Times::Micros(times) => times[row],
        }
    }

    pub fn len(&self) -> usize {
        match self {
            Times::Millis { offsets, .. } => offsets.len(),
            Times::Micros(times) => times.len(),
        }
    }

    fn span(&self) -> TimeSpan {
        let (first, last) = match self {
            Times::Millis { base, offsets } => {
                let at = |offset: &u32| base + i64::from(*offset) * 1_000;
                (offsets.iter().min().map(at), offsets.iter().max().map(at))
            }
            Times::Micros(times) => (times.iter().min().copied(), times.iter().max().copied()),
        };
        TimeSpan {
            first: first.unwrap_or(TimeSpan::EMPTY.first),
            last: last.unwrap_or(TimeSpan::EMPTY.last),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Times::Millis { offsets, .. } => offsets.len() * size_of::<u32>(),
            Times::Micros(times) => times.len() * size_of::<i64>(),
        }
    }
}

impl EventBlock {
    /// How many events the block holds.
    pub fn rows(&self) -> usize {
        self.ordinals.len()
    }

    /// Who did any of them.
    pub fn persons(&self) -> &RoaringBitmap {
        &self.persons
    }

    /// The first and the last instant.
    pub fn span(&self) -> TimeSpan {
        self.span
    }

    /// The properties that it has columns for.
    pub fn properties(&self) -> impl Iterator<Item = &str> {
        self.properties.keys().map(String::as_str)
    }

    /// About how much memory it takes.
    pub fn bytes(&self) -> usize {
        let columns = self.properties.values().map(Column::bytes).sum::<usize>();
        let rows = self.ordinals.len() * size_of::<u32>() + self.times.bytes();
        rows + self.persons.serialized_size() + columns + size_of::<EventBlock>()
    }

    pub(super) fn columns(&self) -> &HashMap<String, Column> {
        &self.properties
    }

    pub(crate) fn ordinals(&self) -> &[u32] {
        &self.ordinals
    }

    pub(super) fn times(&self) -> &Times {
        &self.times
    }

    /// How many rows are of people below a number.
    pub(crate) fn rows_before(&self, number: usize) -> usize {
        self.ordinals
            .partition_point(|person| (*person as usize) < number)
    }

    pub(crate) fn row(&self, row: usize) -> (u32, i64) {
        (self.ordinals[row], self.times.at(row))
    }

    /// Whether each event has a property for which the predicate holds.
    pub(crate) fn answers<I: Interrupt>(
        &self,
        property: &str,
        predicate: &Predicate,
        meter: &Meter<I>,
    ) -> Result<RowMatches<'_>, I::Error> {
        match self.properties.get(property) {
            Some(column) => column.answers(predicate, meter),
            None => Ok(RowMatches::constant(predicate.matches_missing())),
        }
    }

    /// The people of several blocks and the time of their events, without the events.
    pub fn persons_of(blocks: &[Arc<EventBlock>]) -> EventBlock {
        let spans = blocks.iter().map(|block| block.span);
        EventBlock {
            persons: blocks.iter().map(|block| &block.persons).union(),
            span: spans.fold(TimeSpan::EMPTY, TimeSpan::union),
            ..EventBlock::default()
        }
    }

    /// The events of several blocks of the same name, with the columns of the first of them.
    pub fn merged(blocks: &[Arc<EventBlock>]) -> EventBlock {
        match blocks {
            [] => EventBlock::default(),
            [one] => EventBlock::clone(one),
            [one, other] => one.with(other),
            // By halves, since each value is looked up wherever it is merged.
            blocks => {
                let (one, other) = blocks.split_at(blocks.len() / 2);
                EventBlock::merged(one).with(&EventBlock::merged(other))
            }
        }
    }

    fn with(&self, more: &EventBlock) -> EventBlock {
        let own = (0..self.rows()).map(|row| self.row(row));
        let rows = own.chain((0..more.rows()).map(|row| more.row(row)));
        let columns = self.properties.iter().map(|(key, column)| {
            let more = more.properties.get(key).ok_or(more.rows());
            (key.clone(), column.with(more))
        });
        EventBlock::sorted(rows.collect(), columns.collect())
    }

    /// The block with the events of some people under other numbers, or without them.
    pub fn resolved(&self, resolve: impl Fn(u32) -> Option<u32>) -> EventBlock {
        let owners: Vec<Option<u32>> = self
            .ordinals
            .iter()
            .map(|person| resolve(*person))
            .collect();
        let kept: Vec<u32> = (0..self.rows() as u32)
            .filter(|row| owners[*row as usize].is_some())
            .collect();
        self.taken(&kept, |row| {
            (owners[row].unwrap_or_default(), self.times.at(row))
        })
    }

    /// The block without the events before an instant.
    pub fn since(&self, oldest: i64) -> EventBlock {
        let kept: Vec<u32> = (0..self.rows() as u32)
            .filter(|row| self.times.at(*row as usize) >= oldest)
            .collect();
        self.taken(&kept, |row| self.row(row))
    }

    /// Some rows, each as it is told to be.
    fn taken(&self, kept: &[u32], row: impl Fn(usize) -> (u32, i64)) -> EventBlock {
        let rows = kept.iter().map(|kept| row(*kept as usize));
        let columns = self.properties.iter().map(|(key, column)| {
            let mut column = column.clone();
            column.reorder(kept);
            (key.clone(), column.compact())
        });
        EventBlock::sorted(rows.collect(), columns.collect())
    }

    /// Sorts rows that stand in the order of the columns.
    pub(super) fn sorted(
        mut rows: Vec<(u32, i64)>,
        mut properties: HashMap<String, Column>,
    ) -> EventBlock {
        if !rows.is_sorted() {
            let mut order: Vec<u32> = (0..rows.len() as u32).collect();
            order.sort_by_key(|row| rows[*row as usize]);
            rows = order.iter().map(|row| rows[*row as usize]).collect();
            properties
                .values_mut()
                .for_each(|column| column.reorder(&order));
        }
        let ordinals: Vec<u32> = rows.iter().map(|(person, _)| *person).collect();
        let times: Vec<i64> = rows.iter().map(|(_, time)| *time).collect();
        EventBlock::of(ordinals, Times::new(times), properties)
    }

    /// From columns of rows that are sorted.
    pub(super) fn of(
        ordinals: Vec<u32>,
        times: Times,
        properties: HashMap<String, Column>,
    ) -> EventBlock {
        EventBlock {
            persons: bitmap_of(&ordinals),
            span: times.span(),
            ordinals,
            times,
            properties,
        }
    }
}

/// Collects events of one name, in any order.
#[derive(Debug)]
pub struct EventBlockBuilder {
    rows: Vec<(u32, i64)>,
    properties: Vec<(String, ColumnBuilder)>,
}

impl EventBlockBuilder {
    /// An empty block with a column for each of the properties.
    pub fn new(properties: &[String]) -> EventBlockBuilder {
        let column = |key: &String| (key.clone(), ColumnBuilder::default());
        EventBlockBuilder {
            rows: Vec::new(),
            properties: properties.iter().map(column).collect(),
        }
    }

    /// Adds an event with its time in microseconds and its properties, of which only those that
    /// the block has columns for are kept.
    pub fn push(&mut self, person: u32, time: i64, properties: &Value) {
        self.rows.push((person, time));
        for (key, column) in &mut self.properties {
            column.push(properties.get(key.as_str()));
        }
    }

    /// Adds an event whose properties stand as JSON text in the order of the columns; those that
    /// are left out count as missing.
    pub fn push_raw<'a>(
        &mut self,
        person: u32,
        time: i64,
        properties: impl IntoIterator<Item = Option<&'a str>>,
    ) {
        self.rows.push((person, time));
        let mut properties = properties.into_iter();
        for (_, column) in &mut self.properties {
            column.push_raw(properties.next().flatten());
        }
    }

    /// About how much memory it takes so far.
    pub fn bytes(&self) -> usize {
        let columns = self.properties.iter().map(|(_, column)| column.bytes());
        size_of_val(self.rows.as_slice()) + columns.sum::<usize>()
    }

    /// The finished block.
    pub fn finish(self) -> EventBlock {
        let columns = self.properties.into_iter();
        EventBlock::sorted(
            self.rows,
            columns
                .map(|(key, builder)| (key, builder.finish()))
                .collect(),
        )
    }
}
