//! Builds segments from events, and writes them with the head of the segments in one transaction.

use std::collections::{BTreeMap, HashMap};

use cohorts_engine::WideEventBuilder;
use cohorts_store::segments::{self, Segment, SegmentPlace};
use cohorts_store::{Conn, Error, ProjectId, ShardKey, events, scan, tombstones, transaction};
use rayon::prelude::*;
use roaring::RoaringBitmap;

use super::super::events::{MAX_SEGMENT_ROWS, day_of};
use super::super::read::RetentionState;
use super::{EXCLUDED, format};

/// The most rows of a step over the log.
const STEP_ROWS: usize = if cfg!(test) { 1 << 10 } else { 1 << 16 };

/// Collects events by name and day.
#[derive(Default)]
pub struct SegmentBuilder {
    names: HashMap<String, BTreeMap<i64, WideEventBuilder>>,
    /// Segments of the largest size, packed. Their places have no sequence number yet.
    packed: Vec<(String, Segment)>,
    bytes: usize,
}

impl SegmentBuilder {
    /// Adds an event with the ordinal under which it was written.
    pub fn add(
        &mut self,
        name: &str,
        ordinal: u32,
        time: i64,
        properties: &str,
    ) -> Result<(), Error> {
        if !self.names.contains_key(name) {
            self.names.insert(name.to_owned(), BTreeMap::new());
        }
        let Some(days) = self.names.get_mut(name) else {
            return Ok(());
        };
        let day = day_of(time);
        let mut added = 0;
        let builder = days.entry(day).or_insert_with(|| {
            let builder = WideEventBuilder::new(EXCLUDED);
            added += builder.bytes();
            builder
        });
        let before = builder.bytes();
        builder.push(ordinal, time, properties);
        let after = builder.bytes();
        self.bytes = self.bytes + added + after - before;
        if builder.rows() >= MAX_SEGMENT_ROWS
            && let Some(builder) = days.remove(&day)
        {
            self.bytes -= builder.bytes();
            let segment = pack(builder, day)?;
            self.bytes += segment.data.len() + segment.properties.len();
            self.packed.push((name.to_owned(), segment));
        }
        Ok(())
    }

    /// The memory of all events, in bytes, approximately.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Leaves out the largest properties until the rest takes `max_bytes`, or until no property is left.
    fn shrink(&mut self, max_bytes: usize) {
        while self.bytes > max_bytes {
            let builders = self.names.values_mut().flat_map(BTreeMap::values_mut);
            let Some(largest) = builders.max_by_key(|builder| builder.bytes()) else {
                return;
            };
            let before = largest.bytes();
            if !largest.leave_out_largest() {
                return;
            }
            self.bytes -= before - largest.bytes();
        }
    }

    /// The segments of all events but those of `deleted` persons, for a span of the log that ends at `seq`, in the order of
    /// their keys.
    pub fn finish(
        self,
        seq: i64,
        deleted: &RoaringBitmap,
    ) -> Result<Vec<(String, Segment)>, Error> {
        let builders = self.names.into_iter().flat_map(|(name, days)| {
            let days = days.into_iter();
            days.map(move |(day, builder)| (name.clone(), day, builder))
        });
        let builders: Vec<(String, i64, WideEventBuilder)> = builders.collect();
        let last = builders
            .into_par_iter()
            .map(|(name, day, builder)| Ok((name, pack(builder, day)?)));
        let last: Result<Vec<(String, Segment)>, Error> = last.collect();
        let mut segments = self.packed;
        segments.extend(last?);
        let segments = segments.into_par_iter().filter_map(|(name, segment)| {
            let segment = without(segment, deleted).transpose()?;
            Some(segment.map(|segment| (name, segment)))
        });
        let mut segments = segments.collect::<Result<Vec<(String, Segment)>, Error>>()?;
        segments.sort_by(|(first, one), (second, other)| {
            (first, one.place.day).cmp(&(second, other.place.day))
        });
        let mut previous: Option<(String, i64, i64)> = None;
        for (name, segment) in &mut segments {
            let day = segment.place.day;
            let part = match &previous {
                Some((last, last_day, part)) if last == name && *last_day == day => part + 1,
                _ => 0,
            };
            segment.place = SegmentPlace { day, seq, part };
            previous = Some((name.clone(), day, part));
        }
        Ok(segments)
    }
}

fn pack(builder: WideEventBuilder, day: i64) -> Result<Segment, Error> {
    let place = SegmentPlace {
        day,
        seq: 0,
        part: 0,
    };
    format::pack(&builder.finish(), place)
}

/// A segment without the events of these persons; `None` if no event is left.
fn without(segment: Segment, persons: &RoaringBitmap) -> Result<Option<Segment>, Error> {
    if persons.is_empty() {
        return Ok(Some(segment));
    }
    let wide = format::unpack_all(&segment);
    let wide = wide.ok_or_else(|| Error::Corrupt("a segment in memory".to_owned()))?;
    let Some(rest) = wide.without(persons) else {
        return Ok(Some(segment));
    };
    let is_empty = rest.block.rows() == 0;
    (!is_empty)
        .then(|| format::pack(&rest, segment.place))
        .transpose()
}

/// The persons that were deleted after a sequence number.
fn deleted_since(conn: &mut Conn, shard_key: ShardKey, seq: i64) -> Result<RoaringBitmap, Error> {
    let tombstones = tombstones::between(conn, shard_key, (seq, i64::MAX))?;
    let retired = tombstones.retired.iter();
    Ok(retired
        .filter(|ordinal| tombstones.resolve(*ordinal).is_none())
        .collect())
}

/// The outcome of a write of segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentWrite {
    Written,
    /// Another writer was first, or a person was deleted meanwhile. The events are discarded, and the writer continues at the
    /// head.
    Overtaken,
    /// The project has no segments any more, because its retention has changed or it is deleted.
    Ended,
}

/// Writes segments from a sequence number of the log on. The events come from rows, or from an import that has them in
/// memory.
pub struct SegmentWriter {
    project: ProjectId,
    retention: RetentionState,
    /// The head that the segments extend.
    base: i64,
    /// All events up to this sequence number are in the builder or in a segment.
    through: i64,
    builder: SegmentBuilder,
    max_bytes: usize,
}

impl SegmentWriter {
    /// A writer that continues at the head; `None` if the project deletes old events or does not exist.
    pub fn begin(
        conn: &mut Conn,
        project: ProjectId,
        max_bytes: usize,
    ) -> Result<Option<Self>, Error> {
        let retention = RetentionState::of(conn, project)?;
        let Some(retention) = retention.filter(|retention| retention.days.is_none()) else {
            return Ok(None);
        };
        let base = segments::head(conn, project.shard_key())?.through_seq;
        Ok(Some(Self {
            project,
            retention,
            base,
            through: base,
            builder: SegmentBuilder::default(),
            max_bytes,
        }))
    }

    /// The last sequence number that the writer has.
    pub fn through(&self) -> i64 {
        self.through
    }

    /// Whether the events have reached the memory limit, and must be written.
    pub fn is_full(&self) -> bool {
        self.builder.bytes() >= self.max_bytes
    }

    /// Adds all events of the next write of the log: their name, ordinal, time and properties.
    pub fn add_write<'a>(
        &mut self,
        events: impl IntoIterator<Item = (&'a str, u32, i64, &'a str)>,
    ) -> Result<(), Error> {
        for (name, ordinal, time, properties) in events {
            self.builder.add(name, ordinal, time, properties)?;
        }
        self.through += 1;
        Ok(())
    }

    /// Adds the rows up to sequence number `through`, until the writer is full. Returns whether it has all of them.
    pub fn add_rows(&mut self, conn: &mut Conn, through: i64) -> Result<bool, Error> {
        let shard_key = self.project.shard_key();
        while self.through < through {
            if self.is_full() {
                return Ok(false);
            }
            let span = (self.through, through);
            let end = scan::step_end(conn, shard_key, span, STEP_ROWS)?;
            let (builder, max_bytes) = (&mut self.builder, self.max_bytes);
            scan::whole_events(conn, shard_key, (self.through, end), |event| {
                builder.add(&event.name, event.ordinal, event.time, &event.properties)?;
                // One write of the log cannot be divided.
                if builder.bytes() > 2 * max_bytes {
                    builder.shrink(max_bytes);
                }
                Ok::<_, Error>(())
            })?;
            self.through = end;
        }
        Ok(true)
    }

    /// Writes the segments and the head. After an error, the events are discarded, and the writer continues at its last head.
    ///
    /// Persons that were deleted since the head may be erased from all segments already, so their events are not written.
    pub fn write(&mut self, conn: &mut Conn) -> Result<SegmentWrite, Error> {
        let shard_key = self.project.shard_key();
        let through = std::mem::replace(&mut self.through, self.base);
        let deleted = deleted_since(conn, shard_key, self.base)?;
        let segments = std::mem::take(&mut self.builder).finish(through, &deleted)?;
        let (outcome, head) = transaction(conn, |conn| {
            let head = segments::lock_head(conn, shard_key)?.through_seq;
            if RetentionState::of(conn, self.project)? != Some(self.retention) {
                return Ok((SegmentWrite::Ended, head));
            }
            if head != self.base || deleted_since(conn, shard_key, head)? != deleted {
                return Ok((SegmentWrite::Overtaken, head));
            }
            segments::insert(conn, shard_key, &segments)?;
            segments::set_head(conn, shard_key, through)?;
            Ok::<_, Error>((SegmentWrite::Written, through))
        })?;
        (self.base, self.through) = (head, head);
        Ok(outcome)
    }

    /// Whether segments are due: many events are beyond the head.
    pub fn is_due(conn: &mut Conn, project: ProjectId) -> Result<bool, Error> {
        let shard_key = project.shard_key();
        let span = (
            segments::head(conn, shard_key)?.through_seq,
            events::log_head(conn, shard_key)?,
        );
        Ok(span.0 < span.1
            && events::are_more_between(conn, shard_key, span, super::MIN_EVENTS - 1)?)
    }
}
