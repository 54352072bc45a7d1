//! The events of one name in memory: immutable segments per UTC day, compacted by size.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use cohorts_engine::{EventBlock, EventBlockBuilder};
use cohorts_store::scan::{DAY_MICROS, EventRow};
use cohorts_store::tombstones::Tombstones;
use parking_lot::Mutex;

use super::cache::{Cache, Cached};
use super::project::STEP_ROWS;

/// The most rows of a segment. It is smaller in tests, so that their days have several segments.
pub const MAX_SEGMENT_ROWS: usize = if cfg!(test) { 1 << 10 } else { 1 << 17 };

/// Numbers of days that a rollup covers, the largest first. A rollup begins at a multiple of its number of days.
const ROLLUP_DAYS: [i64; 2] = [16, 4];

/// Event indexes by the name of the events and the properties that they have columns for.
pub type EventIndexes = Cache<(String, Vec<String>), EventIndex>;
pub type CachedEvents = Cached<(String, Vec<String>), EventIndex>;

/// The events of one name, from a day on.
pub struct EventIndex {
    /// The first UTC day that was read, counted from 1970; the log may have earlier events.
    pub from_day: i64,
    pub days: BTreeMap<i64, DayPartition>,
    /// The persons of several days, by the first day and the number of days; built on first use.
    rollups: Mutex<BTreeMap<(i64, i64), Arc<EventBlock>>>,
}

/// The segments of a UTC day. Each event is in one of them.
///
/// A segment has at least twice the rows of the next one, unless both together exceed [`MAX_SEGMENT_ROWS`]. So there are
/// few segments, and a row is copied a few times, whatever the number of rows.
#[derive(Clone, Default)]
pub struct DayPartition {
    segments: Vec<Arc<EventBlock>>,
}

impl From<Vec<EventBlock>> for DayPartition {
    fn from(segments: Vec<EventBlock>) -> Self {
        Self {
            segments: segments.into_iter().map(Arc::new).collect(),
        }
    }
}

impl DayPartition {
    pub fn segments(&self) -> &[Arc<EventBlock>] {
        &self.segments
    }

    /// A day of stored segments. Small ones are merged.
    pub fn of_parts(mut parts: Vec<EventBlock>) -> Self {
        parts.sort_by_key(|part| Reverse(part.rows()));
        let small = parts.partition_point(|part| part.rows() > MAX_SEGMENT_ROWS / 8);
        let mut segments: Vec<EventBlock> = parts.drain(..small).collect();
        let (mut group, mut rows): (Vec<&EventBlock>, usize) = (Vec::new(), 0);
        for part in &parts {
            if rows + part.rows() > MAX_SEGMENT_ROWS {
                segments.push(EventBlock::merged_of(&group));
                (group, rows) = (Vec::new(), 0);
            }
            group.push(part);
            rows += part.rows();
        }
        if !group.is_empty() {
            segments.push(EventBlock::merged_of(&group));
        }
        Self::from(segments)
    }

    /// Adds a segment, and compacts those before it that are less than twice as large.
    fn add(&mut self, segment: EventBlock) {
        let mut last = Arc::new(segment);
        let must_merge = |previous: &Arc<EventBlock>, last: &EventBlock| {
            let (previous, rows) = (previous.rows(), last.rows());
            previous < 2 * rows && previous + rows <= MAX_SEGMENT_ROWS
        };
        while let Some(previous) = self.segments.pop_if(|previous| must_merge(previous, &last)) {
            last = Arc::new(EventBlock::merged(&[previous, last]));
        }
        self.segments.push(last);
    }
}

/// Blocks of a range of days, and whether a rollup was built for them.
pub struct PersonBlocks {
    pub blocks: Vec<Arc<EventBlock>>,
    pub has_new_rollup: bool,
}

impl EventIndex {
    /// The index of `days` from `from_day` on.
    pub fn new(from_day: i64, days: BTreeMap<i64, DayPartition>) -> Self {
        Self {
            from_day,
            days,
            rollups: Mutex::default(),
        }
    }

    /// A copy to be changed.
    pub fn successor(&self) -> Self {
        Self {
            from_day: self.from_day,
            days: self.days.clone(),
            rollups: Mutex::new(self.rollups.lock().clone()),
        }
    }

    /// The segments of the days from `first` to `last`.
    pub fn between(&self, first: i64, last: i64) -> Vec<Arc<EventBlock>> {
        if first > last {
            return Vec::new();
        }
        let days = self.days.range(first..=last);
        days.flat_map(|(_, day)| day.segments()).cloned().collect()
    }

    /// As [`Self::between`], with rollups, which have persons only, in place of whole days inside the range.
    pub fn persons_between(&self, first: i64, last: i64) -> PersonBlocks {
        let rollups = self.rollups.lock().len();
        let mut blocks = self.between(first, first.min(last));
        let mut next = first.saturating_add(1);
        while next < last
            && let Some((day, partition)) = self.days.range(next..last).next()
        {
            let candidates = ROLLUP_DAYS.map(|count| (day.div_euclid(count) * count, count));
            let fits = |(start, count): &(i64, i64)| next <= *start && start + count <= last;
            match candidates.into_iter().find(fits) {
                Some((start, count)) => {
                    blocks.push(self.rollup(start, count));
                    next = start + count;
                }
                None => {
                    blocks.extend_from_slice(partition.segments());
                    next = day + 1;
                }
            }
        }
        blocks.extend(self.between(last.max(first.saturating_add(1)), last));
        PersonBlocks {
            blocks,
            has_new_rollup: self.rollups.lock().len() > rollups,
        }
    }

    /// The persons of `count` days, from those of smaller rollups if there are any.
    fn rollup(&self, start: i64, count: i64) -> Arc<EventBlock> {
        if let Some(rollup) = self.rollups.lock().get(&(start, count)) {
            return Arc::clone(rollup);
        }
        let parts = match ROLLUP_DAYS.into_iter().find(|smaller| *smaller < count) {
            None => self.between(start, start + count - 1),
            Some(smaller) => (start..start + count)
                .step_by(smaller as usize)
                .map(|start| self.rollup(start, smaller))
                .collect(),
        };
        let rollup = Arc::new(EventBlock::persons_of(&parts));
        let mut rollups = self.rollups.lock();
        rollups.insert((start, count), Arc::clone(&rollup));
        rollup
    }

    /// Drops the rollups that contain a changed day.
    fn drop_rollups(&mut self, day: i64) {
        for count in ROLLUP_DAYS {
            let start = day.div_euclid(count) * count;
            self.rollups.get_mut().remove(&(start, count));
        }
    }

    pub fn segments(&self) -> impl Iterator<Item = &Arc<EventBlock>> {
        self.days.values().flat_map(DayPartition::segments)
    }

    /// The memory of the index, in bytes.
    pub fn bytes(&self) -> usize {
        let rollups = self.rollups.lock();
        let blocks = self.segments().chain(rollups.values());
        blocks.map(|block| block.bytes()).sum()
    }

    /// Moves the events of retired ordinals to the survivors. `later` are the new tombstones, `tombstones` all of them.
    pub fn resolve(&mut self, later: &Tombstones, tombstones: &Tombstones) {
        if later.retired.is_empty() {
            return;
        }
        let mut changed = Vec::new();
        for (number, day) in &mut self.days {
            for segment in &mut day.segments {
                if !segment.persons().is_disjoint(&later.retired) {
                    *segment = Arc::new(segment.resolved(|ordinal| tombstones.resolve(ordinal)));
                    changed.push(*number);
                }
            }
        }
        for day in changed {
            self.drop_rollups(day);
        }
    }

    fn add_segments(&mut self, builders: BTreeMap<i64, EventBlockBuilder>) {
        for (day, builder) in builders {
            self.days.entry(day).or_default().add(builder.finish());
            self.drop_rollups(day);
        }
    }
}

/// Adds later events to an index, [`STEP_ROWS`] at a time.
pub struct EventAdder<'a> {
    index: EventIndex,
    columns: &'a [String],
    /// The position of each column in the properties of a row.
    positions: Vec<Option<usize>>,
    builders: BTreeMap<i64, EventBlockBuilder>,
    rows: usize,
}

impl<'a> EventAdder<'a> {
    /// Adds to an index with the columns `columns`. `keys` are the properties of the rows.
    pub fn new(index: EventIndex, columns: &'a [String], keys: &[String]) -> Self {
        let position = |column| keys.iter().position(|key| key == column);
        Self {
            index,
            columns,
            positions: columns.iter().map(position).collect(),
            builders: BTreeMap::new(),
            rows: 0,
        }
    }

    /// Adds an event of `person`, who has it now; `None` if no person has it any more.
    pub fn add(&mut self, event: &EventRow, person: Option<u32>) {
        let day = day_of(event.time);
        let Some(person) = person.filter(|_| day >= self.index.from_day) else {
            return;
        };
        let new_builder = || EventBlockBuilder::new(self.columns);
        let builder = self.builders.entry(day).or_insert_with(new_builder);
        let properties = self.positions.iter();
        builder.push_raw(
            person,
            event.time,
            properties.map(|nth| event.properties[(*nth)?].as_deref()),
        );
        self.rows += 1;
        if self.rows.is_multiple_of(STEP_ROWS) {
            self.index.add_segments(std::mem::take(&mut self.builders));
        }
    }

    /// The memory of the index and of the added events, in bytes.
    pub fn bytes(&self) -> usize {
        let added = self.builders.values().map(EventBlockBuilder::bytes);
        self.index.bytes() + added.sum::<usize>()
    }

    /// The index with the added events.
    pub fn finish(mut self) -> EventIndex {
        self.index.add_segments(self.builders);
        self.index
    }
}

/// The UTC day of an instant in microseconds, counted from 1970.
pub fn day_of(time: i64) -> i64 {
    time.div_euclid(DAY_MICROS)
}

#[cfg(test)]
mod tests {
    use roaring::RoaringBitmap;

    use super::*;

    fn segment(events: usize, time: i64) -> EventBlock {
        let mut builder = EventBlockBuilder::new(&[]);
        (0..events).for_each(|nth| builder.push_raw(nth as u32, time, []));
        builder.finish()
    }

    fn rows(segments: &[Arc<EventBlock>]) -> Vec<usize> {
        segments.iter().map(|segment| segment.rows()).collect()
    }

    fn persons(blocks: &[Arc<EventBlock>]) -> RoaringBitmap {
        blocks
            .iter()
            .fold(RoaringBitmap::new(), |all, block| all | block.persons())
    }

    #[test]
    fn an_added_segment_is_merged_with_those_that_are_not_twice_as_large() {
        let mut day = DayPartition::default();
        for nth in 0..300 {
            day.add(segment(3, nth));
        }
        let sizes = rows(day.segments());
        assert_eq!(sizes.iter().sum::<usize>(), 900);
        assert!(
            sizes.windows(2).all(|pair| pair[0] >= 2 * pair[1]),
            "{sizes:?}"
        );
        let parts = day.segments().iter().map(|part| EventBlock::clone(part));
        let merged = DayPartition::of_parts(parts.collect());
        assert!(merged.segments().len() < sizes.len());
        assert_eq!(rows(merged.segments()).iter().sum::<usize>(), 900);
        let blocks = merged.segments().iter().map(|block| block.span());
        let span = blocks.reduce(|all, span| cohorts_engine::TimeSpan {
            first: all.first.min(span.first),
            last: all.last.max(span.last),
        });
        let span = span.unwrap();
        assert_eq!((span.first, span.last), (0, 299));
    }

    #[test]
    fn segments_of_the_largest_size_are_not_merged() {
        const MAX: usize = MAX_SEGMENT_ROWS;
        let mut day = DayPartition::from(vec![segment(MAX - 10, 1)]);
        let first = Arc::clone(&day.segments()[0]);
        day.add(segment(MAX / 2 + 1, 2));
        day.add(segment(MAX / 2, 3));
        assert_eq!(rows(day.segments()), [MAX - 10, MAX / 2 + 1, MAX / 2]);
        assert!(Arc::ptr_eq(&first, &day.segments()[0]));
        day.add(segment(7, 4));
        day.add(segment(1, 5));
        assert_eq!(rows(day.segments()).len(), 5);
        let sizes = [7, MAX / 8 + 1, 9, MAX - 10]
            .into_iter()
            .chain([MAX / 8; 9]);
        let parts = sizes.map(|events| segment(events, 1)).collect();
        let expected = [MAX - 10, MAX / 8 + 1, MAX, MAX / 8 + 16];
        assert_eq!(rows(DayPartition::of_parts(parts).segments()), expected);
    }

    /// One event on most days from -40 to 69 and one far away; the person's ordinal is the day plus 50.
    fn index() -> EventIndex {
        let mut index = EventIndex::new(i64::MIN, BTreeMap::new());
        for day in (-40..70).filter(|day| day % 7 != 3).chain([100_000]) {
            add(&mut index, day, (day + 50) as u32);
        }
        index
    }

    fn add(index: &mut EventIndex, day: i64, person: u32) {
        let event = EventRow {
            ordinal: person,
            name: "x".to_owned(),
            time: day * DAY_MICROS + 5,
            properties: Vec::new(),
        };
        let mut adder = EventAdder::new(index.successor(), &[], &[]);
        adder.add(&event, Some(person));
        *index = adder.finish();
    }

    fn assert_rollups_equal_segments(index: &EventIndex) {
        for first in -42..72 {
            for last in first - 1..72 {
                let with_rollups = persons(&index.persons_between(first, last).blocks);
                let without = persons(&index.between(first, last));
                assert_eq!(with_rollups, without, "{first} {last}");
            }
        }
    }

    #[test]
    fn rollups_have_the_persons_of_their_days_for_any_range() {
        let index = index();
        assert_rollups_equal_segments(&index);
        assert!(!index.successor().persons_between(-40, 70).has_new_rollup);
        assert!(index.persons_between(99_990, 100_100).has_new_rollup);
        let all = || index.persons_between(i64::MIN, i64::MAX);
        assert_eq!((all().blocks.len(), all().has_new_rollup), (9, false));
        // The first and the last day keep their rows.
        let blocks = index.persons_between(-37, 65).blocks;
        assert_eq!((blocks[0].rows(), blocks[blocks.len() - 1].rows()), (1, 1));
    }

    #[test]
    fn rollups_follow_added_events_and_retired_persons() {
        let index = index();
        assert_rollups_equal_segments(&index);
        let mut next = index.successor();
        let has = |index: &EventIndex, person| {
            persons(&index.persons_between(-40, 70).blocks).contains(person)
        };
        add(&mut next, 17, 7_000);
        assert!(has(&next, 7_000) && has(&next, 57));
        assert_rollups_equal_segments(&next);
        let mut tombstones = Tombstones::default();
        tombstones.retired.insert(57);
        next.resolve(&tombstones, &tombstones);
        assert!(!has(&next, 57) && has(&index, 57) && !has(&index, 7_000));
        assert_rollups_equal_segments(&next);
        assert_rollups_equal_segments(&index);
    }
}
