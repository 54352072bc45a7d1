//! Rewrites segments: small ones of a day are merged, damaged ones are built again from rows, and events of deleted persons
//! are removed.
//!
//! All of it happens under the lock on the head, which writers take too.

use cohorts_engine::WideEventBlock;
use cohorts_store::segments::{self, Segment, SegmentPlace, SegmentSize};
use cohorts_store::{Conn, Error, ProjectId, ShardKey, scan, transaction};
use rayon::prelude::*;
use roaring::RoaringBitmap;

use super::super::events::MAX_SEGMENT_ROWS;
use super::format;
use super::writer::SegmentBuilder;

/// Small segments of a day, from which on they are merged.
pub const CROWD: i64 = 8;
/// The rows of a small segment.
pub const SMALL_ROWS: i64 = MAX_SEGMENT_ROWS as i64 / 2;
/// The most bytes of packed segments that are merged.
const MAX_MERGED_BYTES: i64 = 64 << 20;

/// The segments to merge: the smallest ones, up to the first one that has twice the rows of all smaller ones.
fn small_segments(mut sizes: Vec<SegmentSize>) -> Vec<SegmentSize> {
    sizes.sort_by_key(|size| (size.row_count, size.place));
    let (mut rows, mut bytes, mut count) = (0, 0, 0);
    for size in &sizes {
        let size_bytes = size.data + size.properties;
        let fits = rows + size.row_count <= MAX_SEGMENT_ROWS as i64
            && bytes + size_bytes <= MAX_MERGED_BYTES;
        if !fits || (count > 0 && size.row_count >= 2 * rows) {
            break;
        }
        (rows, bytes, count) = (rows + size.row_count, bytes + size_bytes, count + 1);
    }
    sizes.truncate(count);
    sizes
}

/// Merges the small segments of a name and day. Returns whether there were several.
pub fn compact(conn: &mut Conn, project: ProjectId, event: &str, day: i64) -> Result<bool, Error> {
    let shard_key = project.shard_key();
    let merged = transaction(conn, |conn| {
        segments::lock_head(conn, shard_key)?;
        let sizes = segments::sizes(conn, shard_key, event, day, Some(day + 1))?;
        let last = sizes
            .iter()
            .map(|size| (size.place.seq, size.place.part))
            .max();
        let last_part = sizes.iter().map(|size| size.place.part).max();
        let small = small_segments(sizes);
        let (Some((seq, _)), Some(part), true) = (last, last_part, small.len() > 1) else {
            return Ok(Some(false));
        };
        let places: Vec<SegmentPlace> = small.iter().map(|size| size.place).collect();
        let Some(blocks) = unpack_all(conn, shard_key, event, &places)? else {
            return Ok(None);
        };
        let place = SegmentPlace {
            day,
            seq,
            part: part + 1,
        };
        let segment = format::pack(&WideEventBlock::merged(blocks), place)?;
        for place in places {
            segments::delete(conn, shard_key, event, place)?;
        }
        segments::insert(conn, shard_key, &[(event.to_owned(), segment)])?;
        Ok::<_, Error>(Some(true))
    })?;
    match merged {
        Some(is_merged) => Ok(is_merged),
        None => rewrite_from_rows(conn, project, event, day).map(|()| true),
    }
}

/// The events of some segments; `None` if one is damaged.
fn unpack_all(
    conn: &mut Conn,
    shard_key: ShardKey,
    event: &str,
    places: &[SegmentPlace],
) -> Result<Option<Vec<WideEventBlock>>, Error> {
    let mut segments: Vec<Segment> = Vec::new();
    for place in places {
        segments.extend(segments::read(
            conn,
            shard_key,
            event,
            (*place, *place),
            true,
        )?);
    }
    Ok(segments.par_iter().map(format::unpack_all).collect())
}

/// Builds the segments of a name and day again from rows.
pub fn rewrite_from_rows(
    conn: &mut Conn,
    project: ProjectId,
    event: &str,
    day: i64,
) -> Result<(), Error> {
    let shard_key = project.shard_key();
    transaction(conn, |conn| {
        let through = segments::lock_head(conn, shard_key)?.through_seq;
        for size in segments::sizes(conn, shard_key, event, day, Some(day + 1))? {
            segments::delete(conn, shard_key, event, size.place)?;
        }
        if through == 0 {
            return Ok(());
        }
        let mut builder = SegmentBuilder::default();
        scan::whole_events_of_day(conn, shard_key, event, day, through, |row| {
            builder.add(&row.name, row.ordinal, row.time, &row.properties)
        })?;
        segments::insert(
            conn,
            shard_key,
            &builder.finish(through, &RoaringBitmap::new())?,
        )
    })
}

/// Removes the events of these ordinals from the segments of a name and day.
///
/// # Errors
///
/// Fails if the database fails. It may be repeated.
pub fn rewrite_without(
    conn: &mut Conn,
    project: ProjectId,
    event: &str,
    day: i64,
    ordinals: &RoaringBitmap,
) -> Result<(), Error> {
    let shard_key = project.shard_key();
    let is_intact = transaction(conn, |conn| {
        segments::lock_head(conn, shard_key)?;
        for size in segments::sizes(conn, shard_key, event, day, Some(day + 1))? {
            let place = size.place;
            let Some(blocks) = unpack_all(conn, shard_key, event, &[place])? else {
                return Ok(false);
            };
            for wide in blocks {
                let Some(rest) = wide.without(ordinals) else {
                    continue;
                };
                segments::delete(conn, shard_key, event, place)?;
                if rest.block.rows() > 0 {
                    let segment = (event.to_owned(), format::pack(&rest, place)?);
                    segments::insert(conn, shard_key, &[segment])?;
                }
            }
        }
        Ok::<_, Error>(true)
    })?;
    // The rows of the events are deleted before.
    if is_intact {
        Ok(())
    } else {
        rewrite_from_rows(conn, project, event, day)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_merged_while_the_next_one_is_not_much_larger() {
        let size = |(nth, rows): (usize, &i64)| SegmentSize {
            place: SegmentPlace {
                day: 0,
                seq: nth as i64,
                part: 0,
            },
            row_count: *rows,
            data: 10,
            properties: 10,
        };
        let merged = |rows: &[i64]| -> Vec<i64> {
            let small = small_segments(rows.iter().enumerate().map(size).collect());
            small.iter().map(|size| size.row_count).collect()
        };
        assert_eq!(merged(&[5, 100, 5, 7, 6]), [5, 5, 6, 7]);
        assert_eq!(merged(&[1, 2, 4, 8]), [1]);
        let max = MAX_SEGMENT_ROWS as i64;
        assert_eq!(merged(&[max / 2, max / 2, 1, max]), [1]);
        assert_eq!(merged(&[max / 2, max / 2, max / 2]), [max / 2, max / 2]);
    }
}
