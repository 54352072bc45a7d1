//! Reads the segments of a name: the days and columns that a block needs, unpacked by several processors while the next
//! segments are read.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::thread::{self, ScopedJoinHandle};

use cohorts_engine::EventBlock;
use cohorts_store::events;
use cohorts_store::segments::{self, Segment, SegmentPlace, SegmentSize};
use rayon::prelude::*;

use super::super::events::DayPartition;
use super::super::read::ReadTx;
use super::super::{IndexError, IndexResult};
use super::format::{self, Unreadable};
use super::{BYTES_READ, LONG_TAIL};

/// The bytes of packed segments that are read at once, about.
const CHUNK_BYTES: i64 = 16 << 20;

/// The days of a name as they are stored.
pub struct StoredDays {
    /// The last sequence number that the segments contain.
    pub through_seq: i64,
    pub days: BTreeMap<i64, DayPartition>,
    /// Days that must be read from rows, because a segment is damaged or leaves out a property.
    pub unreadable: BTreeSet<i64>,
    /// Days with a damaged segment.
    pub damaged: BTreeSet<i64>,
}

/// What to read from segments.
pub struct StoredRange<'a> {
    pub name: &'a str,
    pub from_day: i64,
    /// The first day after the range; `None` is no end.
    pub until_day: Option<i64>,
    pub columns: &'a [String],
}

/// A day, and the block of one of its segments.
type UnpackedSegment = (i64, Result<EventBlock, Unreadable>);

/// The segments of a range, each block mapped by `map`; `None` if the project has none, or if many events up to `seq` are
/// not in them.
pub fn read_days(
    tx: &ReadTx<'_>,
    seq: i64,
    range: &StoredRange<'_>,
    map: impl Fn(EventBlock) -> EventBlock + Sync,
) -> IndexResult<Option<StoredDays>> {
    let shard_key = tx.shard_key();
    let through_seq = tx
        .with_conn(|conn| segments::head(conn, shard_key))?
        .through_seq;
    if through_seq <= 0 || through_seq > seq {
        return Ok(None);
    }
    let tail = (through_seq, seq);
    if tx.with_conn(|conn| events::are_more_between(conn, shard_key, tail, LONG_TAIL))? {
        return Ok(None);
    }
    let StoredRange {
        name,
        from_day,
        until_day,
        ..
    } = *range;
    let sizes = tx.with_conn(|conn| segments::sizes(conn, shard_key, name, from_day, until_day))?;
    let unpacked = unpacked_segments(tx, range, &sizes, map)?;
    let (mut days, mut unreadable, mut damaged) =
        (BTreeMap::new(), BTreeSet::new(), BTreeSet::new());
    for (day, block) in unpacked {
        match block {
            Ok(block) => days.entry(day).or_insert_with(Vec::new).push(block),
            Err(cause) => {
                unreadable.insert(day);
                if cause == Unreadable::Damaged {
                    log::warn!(
                        "a segment of event {name:?}, day {day}, project {} is damaged; it is written again",
                        tx.project.0
                    );
                    damaged.insert(day);
                }
            }
        }
    }
    days.retain(|day, _| !unreadable.contains(day));
    let days = days.into_par_iter();
    Ok(Some(StoredDays {
        through_seq,
        days: days
            .map(|(day, blocks)| (day, DayPartition::of_parts(blocks)))
            .collect(),
        unreadable,
        damaged,
    }))
}

/// Divides segments into runs of about [`CHUNK_BYTES`].
fn chunks(sizes: &[SegmentSize], has_columns: bool) -> Vec<(SegmentPlace, SegmentPlace)> {
    let (mut chunks, mut first, mut bytes) = (Vec::new(), None, 0);
    for size in sizes {
        bytes += size.data + if has_columns { size.properties } else { 0 };
        let start = *first.get_or_insert(size.place);
        if bytes >= CHUNK_BYTES {
            chunks.push((start, size.place));
            (first, bytes) = (None, 0);
        }
    }
    if let Some((start, last)) = first.zip(sizes.last()) {
        chunks.push((start, last.place));
    }
    chunks
}

fn unpacked_segments(
    tx: &ReadTx<'_>,
    range: &StoredRange<'_>,
    sizes: &[SegmentSize],
    map: impl Fn(EventBlock) -> EventBlock + Sync,
) -> IndexResult<Vec<UnpackedSegment>> {
    let has_columns = !range.columns.is_empty();
    let (shard_key, map) = (tx.shard_key(), &map);
    let unpack = |segments: Vec<Segment>| -> Vec<UnpackedSegment> {
        let segments = segments.into_par_iter();
        let unpack = |segment: Segment| {
            let block = format::unpack(&segment, range.columns).map(map);
            (segment.place.day, block)
        };
        segments.map(unpack).collect()
    };
    let (mut unpacked, mut bytes) = (Vec::new(), 0);
    thread::scope(|scope| {
        let mut running: Option<ScopedJoinHandle<'_, Vec<UnpackedSegment>>> = None;
        let mut finish = |running: ScopedJoinHandle<'_, Vec<UnpackedSegment>>| {
            let part = running.join().map_err(|_| panicked())?;
            let blocks = part.iter().filter_map(|(_, block)| block.as_ref().ok());
            bytes += blocks.map(EventBlock::bytes).sum::<usize>();
            unpacked.extend(part);
            tx.check_memory(bytes)
        };
        for places in chunks(sizes, has_columns) {
            let segments = tx.with_conn(|conn| {
                segments::read(conn, shard_key, range.name, places, has_columns)
            })?;
            let read = segments
                .iter()
                .map(|segment| segment.data.len() + segment.properties.len());
            BYTES_READ.fetch_add(read.sum::<usize>() as u64, Ordering::Relaxed);
            if let Some(running) = running.take() {
                finish(running)?;
            }
            running = Some(scope.spawn(|| unpack(segments)));
        }
        running.map_or(Ok(()), finish)
    })?;
    Ok(unpacked)
}

fn panicked() -> IndexError {
    let cause = anyhow::anyhow!("a thread that unpacks segments panicked");
    IndexError::Store(cause.into())
}
