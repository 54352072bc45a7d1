//! The events of one name as columns.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use jiff::tz::TimeZone;
use rayon::prelude::*;
use roaring::{MultiOps, RoaringBitmap};
use serde_json::Value;

use super::bitmap::{from_sorted, from_sorted_iter, intersection};
use super::column::{Column, ColumnBuilder, RowMatches, RowValues};
use super::derived::{Derived, seek};
use super::times::{TimeSpan, Times};
use crate::interrupt::{Interrupt, Meter};
use crate::predicate::Predicate;

/// Events of one name, sorted by person and time.
///
/// A source may split the events of a name into blocks in any way, with each event in exactly one
/// block. Blocks of short periods are best: if a block is entirely inside a range of time, the
/// evaluation often needs only its persons.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EventBlock {
    /// The person of each event.
    ordinals: Vec<u32>,
    times: Times,
    persons: RoaringBitmap,
    span: TimeSpan,
    columns: HashMap<String, Column>,
    /// The rows by time.
    by_time: Derived<Vec<u32>>,
}

impl EventBlock {
    /// The number of events. It is 0 in the blocks of [`EventBlock::persons_of`].
    #[inline]
    pub fn rows(&self) -> usize {
        self.ordinals.len()
    }

    /// The persons with an event.
    #[inline]
    pub fn persons(&self) -> &RoaringBitmap {
        &self.persons
    }

    /// The first and the last instant of the events.
    #[inline]
    pub fn span(&self) -> TimeSpan {
        self.span
    }

    /// The names of the properties that have a column, in any order.
    pub fn properties(&self) -> impl Iterator<Item = &str> {
        self.columns.keys().map(String::as_str)
    }

    /// The memory that the block takes, in bytes, approximately.
    pub fn bytes(&self) -> usize {
        let columns = self.columns.values().map(Column::bytes).sum::<usize>();
        let rows = self.ordinals.len() * size_of::<u32>() + self.times.bytes();
        let by_time = self.by_time.get().map_or(0, |rows| size_of_val(&rows[..]));
        rows + self.persons.serialized_size() + columns + by_time + size_of::<EventBlock>()
    }

    pub(super) fn columns(&self) -> &HashMap<String, Column> {
        &self.columns
    }

    /// The person of each event, in rising order.
    #[inline]
    pub(crate) fn ordinals(&self) -> &[u32] {
        &self.ordinals
    }

    pub(super) fn times(&self) -> &Times {
        &self.times
    }

    /// The number of rows with a person below `ordinal`.
    pub(crate) fn rows_before(&self, ordinal: usize) -> usize {
        self.ordinals
            .partition_point(|person| (*person as usize) < ordinal)
    }

    /// The person and the time of a row.
    #[inline]
    pub(crate) fn row(&self, row: usize) -> (u32, i64) {
        (self.ordinals[row], self.times.at(row))
    }

    /// Evaluates `predicate` for `property` of each event. A property without a column counts as
    /// missing.
    pub(crate) fn matches<I: Interrupt>(
        &self,
        property: &str,
        predicate: &Predicate,
        meter: &Meter<I>,
    ) -> Result<RowMatches<'_>, I::Error> {
        match self.columns.get(property) {
            Some(column) => column.matches(predicate, meter),
            None => Ok(RowMatches::constant(predicate.matches_missing())),
        }
    }

    /// The values of `property`; `None` if it has no column.
    pub(crate) fn values(&self, property: &str) -> Option<RowValues<'_>> {
        self.columns.get(property).map(RowValues)
    }

    /// Removes the columns for which `is_kept` does not hold.
    pub(super) fn retain_columns(&mut self, is_kept: impl Fn(&str) -> bool) {
        self.columns.retain(|key, _| is_kept(key));
    }

    pub(super) fn insert_column(&mut self, property: String, column: Column) {
        self.columns.insert(property, column);
    }

    /// The persons with an event in `span`. A block without rows counts with its whole time span.
    /// The first call for a part of the block sorts its rows by time.
    pub(crate) fn persons_between<I: Interrupt>(
        &self,
        span: TimeSpan,
        meter: &Meter<I>,
    ) -> Result<RoaringBitmap, I::Error> {
        meter.spend(100)?;
        if !self.span.overlaps(span) {
            return Ok(RoaringBitmap::new());
        }
        if span.contains(self.span) || self.rows() == 0 {
            return Ok(self.persons.clone());
        }
        let rows = self.by_time(meter)?;
        let time = |row: &u32| self.times.at(*row as usize);
        let rows = &rows[rows.partition_point(|row| time(row) < span.first)..];
        let rows = &rows[..seek(rows, |row| time(row) <= span.last)];
        meter.spend(rows.len() as u64)?;
        Ok(rows
            .iter()
            .map(|row| self.ordinals[*row as usize])
            .collect())
    }

    /// The time of the first event from `instant` on. The first call may sort the rows by time.
    pub(crate) fn first_from<I: Interrupt>(
        &self,
        instant: i64,
        meter: &Meter<I>,
    ) -> Result<Option<i64>, I::Error> {
        if instant <= self.span.first {
            return Ok((self.span.first <= self.span.last).then_some(self.span.first));
        }
        if instant > self.span.last {
            return Ok(None);
        }
        let rows = self.by_time(meter)?;
        let start = rows.partition_point(|row| self.times.at(*row as usize) < instant);
        let first = rows.get(start);
        Ok(first.map(|row| self.times.at(*row as usize)))
    }

    fn by_time<I: Interrupt>(&self, meter: &Meter<I>) -> Result<&[u32], I::Error> {
        let rows = self.by_time.get_or_make(|| {
            meter.spend(self.rows() as u64)?;
            let mut rows: Vec<u32> = (0..self.rows() as u32).collect();
            rows.par_sort_unstable_by_key(|row| self.times.at(*row as usize));
            Ok(rows)
        })?;
        Ok(rows)
    }

    /// The persons with an event with a date in `span` as `property`. Dates without an offset are
    /// local to `time_zone`. The first call sorts the dates.
    pub(crate) fn persons_with_dates<I: Interrupt>(
        &self,
        property: &str,
        span: TimeSpan,
        time_zone: &TimeZone,
        meter: &Meter<I>,
    ) -> Result<RoaringBitmap, I::Error> {
        let Some(column) = self.columns.get(property) else {
            return Ok(RoaringBitmap::new());
        };
        let rows = column.rows_with_dates(span, time_zone, meter)?;
        let persons = rows.iter().map(|row| self.ordinals[*row as usize]);
        Ok(from_sorted_iter(persons))
    }

    /// The first date from `instant` on that an event has as `property`.
    pub(crate) fn first_date_from<I: Interrupt>(
        &self,
        property: &str,
        instant: i64,
        time_zone: &TimeZone,
        meter: &Meter<I>,
    ) -> Result<Option<i64>, I::Error> {
        match self.columns.get(property) {
            Some(column) => column.first_date_from(instant, time_zone, meter),
            None => Ok(None),
        }
    }

    /// Returns the events of `persons` only. The cost depends on the number of these persons and
    /// of their events.
    pub(crate) fn narrowed(&self, persons: &RoaringBitmap) -> EventBlock {
        let persons = intersection(&self.persons, persons);
        if persons.is_empty() {
            return EventBlock::default();
        }
        if self.rows() == 0 {
            return EventBlock {
                persons,
                span: self.span,
                ..EventBlock::default()
            };
        }
        let rows = self.rows_of(&persons);
        let columns = self.columns.iter();
        let columns = columns.map(|(key, column)| (key.clone(), column.taken(&rows)));
        let columns = columns.collect();
        let (ordinals, times) = rows.iter().map(|row| self.row(*row as usize)).unzip();
        EventBlock::new(ordinals, Times::new(times), columns)
    }

    /// As [`EventBlock::narrowed`], without rows.
    pub(crate) fn narrowed_to_persons(&self, persons: &RoaringBitmap) -> EventBlock {
        EventBlock {
            persons: intersection(&self.persons, persons),
            span: self.span,
            ..EventBlock::default()
        }
    }

    /// The rows of `persons`.
    fn rows_of(&self, persons: &RoaringBitmap) -> Vec<u32> {
        let (mut rows, mut start) = (Vec::new(), 0);
        for person in persons {
            start += seek(&self.ordinals[start..], |ordinal| *ordinal < person);
            while self.ordinals.get(start) == Some(&person) {
                rows.push(start as u32);
                start += 1;
            }
        }
        rows
    }

    /// Combines the persons and the time span of `blocks`, without the events.
    pub fn persons_of(blocks: &[Arc<EventBlock>]) -> EventBlock {
        let spans = blocks.iter().map(|block| block.span);
        EventBlock {
            persons: blocks.iter().map(|block| &block.persons).union(),
            span: spans.fold(TimeSpan::EMPTY, TimeSpan::union),
            ..EventBlock::default()
        }
    }

    /// Merges blocks of the same name. The result has the columns of all blocks.
    pub fn merged(blocks: &[Arc<EventBlock>]) -> EventBlock {
        let blocks: Vec<&EventBlock> = blocks.iter().map(|block| &**block).collect();
        EventBlock::merged_of(&blocks)
    }

    /// As [`EventBlock::merged`].
    pub fn merged_of(blocks: &[&EventBlock]) -> EventBlock {
        match blocks {
            [] => EventBlock::default(),
            [block] => EventBlock::clone(block),
            blocks => {
                let rows = blocks
                    .iter()
                    .flat_map(|block| (0..block.rows()).map(|row| block.row(row)));
                let keys: HashSet<&String> = blocks
                    .iter()
                    .flat_map(|block| block.columns.keys())
                    .collect();
                let column = |key: &String| {
                    let parts = blocks.iter();
                    let parts = parts.map(|block| (block.columns.get(key), block.rows()));
                    (key.clone(), Column::concat(&parts.collect::<Vec<_>>()))
                };
                EventBlock::sorted(rows.collect(), keys.into_iter().map(column).collect())
            }
        }
    }

    /// Returns the block with each person replaced by `resolve(person)`. If the result is `None`,
    /// the events of the person are removed.
    pub fn resolved(&self, resolve: impl Fn(u32) -> Option<u32>) -> EventBlock {
        let ordinals = self.ordinals.iter().map(|ordinal| resolve(*ordinal));
        self.with_ordinals(&ordinals.collect::<Vec<_>>())
    }

    fn with_ordinals(&self, ordinals: &[Option<u32>]) -> EventBlock {
        let rows: Vec<u32> = (0..self.rows() as u32)
            .filter(|row| ordinals[*row as usize].is_some())
            .collect();
        self.take(&rows, |row| {
            (ordinals[row].unwrap_or_default(), self.times.at(row))
        })
    }

    /// Returns the block without the events before `oldest`, in microseconds.
    pub fn since(&self, oldest: i64) -> EventBlock {
        let rows: Vec<u32> = (0..self.rows() as u32)
            .filter(|row| self.times.at(*row as usize) >= oldest)
            .collect();
        self.take(&rows, |row| self.row(row))
    }

    /// The rows `rows`, with their persons and times from `row_at`.
    fn take(&self, rows: &[u32], row_at: impl Fn(usize) -> (u32, i64)) -> EventBlock {
        let columns = self.columns.iter().map(|(key, column)| {
            let mut column = column.clone();
            column.reorder(rows);
            (key.clone(), column.compact())
        });
        let rows = rows.iter().map(|row| row_at(*row as usize));
        EventBlock::sorted(rows.collect(), columns.collect())
    }

    /// From rows in any order, and columns in the same order.
    pub(super) fn sorted(
        mut rows: Vec<(u32, i64)>,
        mut columns: HashMap<String, Column>,
    ) -> EventBlock {
        if !rows.is_sorted() {
            let mut order: Vec<u32> = (0..rows.len() as u32).collect();
            order.sort_by_key(|row| rows[*row as usize]);
            rows = order.iter().map(|row| rows[*row as usize]).collect();
            columns
                .values_mut()
                .for_each(|column| column.reorder(&order));
        }
        let ordinals: Vec<u32> = rows.iter().map(|(ordinal, _)| *ordinal).collect();
        let times: Vec<i64> = rows.iter().map(|(_, time)| *time).collect();
        EventBlock::new(ordinals, Times::new(times), columns)
    }

    /// From rows that are sorted by person and time.
    pub(super) fn new(
        ordinals: Vec<u32>,
        times: Times,
        columns: HashMap<String, Column>,
    ) -> EventBlock {
        EventBlock {
            persons: from_sorted(&ordinals),
            span: times.span(),
            ordinals,
            times,
            columns,
            by_time: Derived::default(),
        }
    }
}

/// Collects events of one name.
///
/// # Examples
///
/// ```
/// use cohorts_engine::EventBlockBuilder;
///
/// let mut builder = EventBlockBuilder::new(&["browser".to_owned()]);
/// builder.push_raw(7, 1_750_260_600_000_000, [Some(r#""Safari""#)]);
/// builder.push_raw(3, 1_750_260_601_000_000, [None]);
/// let block = builder.finish();
/// assert_eq!((block.rows(), block.span().last), (2, 1_750_260_601_000_000));
/// ```
#[derive(Debug)]
pub struct EventBlockBuilder {
    rows: Vec<(u32, i64)>,
    columns: Vec<(String, ColumnBuilder)>,
}

impl EventBlockBuilder {
    /// Creates a builder with a column for each of `properties`.
    pub fn new(properties: &[String]) -> EventBlockBuilder {
        let column = |key: &String| (key.clone(), ColumnBuilder::default());
        EventBlockBuilder {
            rows: Vec::new(),
            columns: properties.iter().map(column).collect(),
        }
    }

    /// Adds an event of the person `ordinal` at `time`, in microseconds. Events may come in any
    /// order. `properties` is a JSON object; properties without a column are ignored.
    pub fn push(&mut self, ordinal: u32, time: i64, properties: &Value) {
        self.rows.push((ordinal, time));
        for (key, column) in &mut self.columns {
            column.push(properties.get(key.as_str()));
        }
    }

    /// Adds an event like [`EventBlockBuilder::push`], with the properties as JSON text in the
    /// order of the columns. `None`, an early end of `properties`, and text that is not JSON mean
    /// missing values.
    pub fn push_raw<'a>(
        &mut self,
        ordinal: u32,
        time: i64,
        properties: impl IntoIterator<Item = Option<&'a str>>,
    ) {
        self.rows.push((ordinal, time));
        let mut properties = properties.into_iter();
        for (_, column) in &mut self.columns {
            column.push_raw(properties.next().flatten());
        }
    }

    /// The memory that the builder takes, in bytes, approximately.
    pub fn bytes(&self) -> usize {
        let columns = self.columns.iter().map(|(_, column)| column.bytes());
        size_of_val(self.rows.as_slice()) + columns.sum::<usize>()
    }

    /// Returns the block of all events.
    pub fn finish(self) -> EventBlock {
        let columns = self.columns.into_iter();
        EventBlock::sorted(
            self.rows,
            columns
                .map(|(key, builder)| (key, builder.finish()))
                .collect(),
        )
    }
}
