//! A segment as bytes: the persons and times, and the properties with a directory at the head.
//!
//! Each column is packed by itself, so a reader unpacks only those that it needs.

use cohorts_engine::{EventBlock, LeftOut, WideEventBlock};
use cohorts_store::segments::{Segment, SegmentPlace};
use cohorts_store::{Error, frames};
use serde::{Deserialize, Serialize};

/// The columns of a segment, in the order of their bytes, and the properties without one.
#[derive(Deserialize, Serialize)]
struct Directory {
    /// The name of each column, and the number of its bytes.
    columns: Vec<(String, usize)>,
    left_out: Vec<String>,
    has_others: bool,
}

/// Why a segment does not give the requested columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    Damaged,
    /// It leaves out one of them.
    LeftOut,
}

/// Packs a block.
pub fn pack(wide: &WideEventBlock, place: SegmentPlace) -> Result<Segment, Error> {
    let block = &wide.block;
    let mut names: Vec<&str> = block.properties().collect();
    names.sort_unstable();
    let (mut columns, mut packed) = (Vec::new(), Vec::new());
    for name in names {
        let column = block.encode_column(name).unwrap_or_default();
        let column = frames::pack(&column)?;
        columns.push((name.to_owned(), column.len()));
        packed.extend(column);
    }
    let directory = Directory {
        columns,
        left_out: wide.left_out.names.iter().cloned().collect(),
        has_others: wide.left_out.has_others,
    };
    let directory = serde_json::to_vec(&directory).map_err(anyhow::Error::from)?;
    let directory = frames::pack(&directory)?;
    let mut properties = (directory.len() as u64).to_le_bytes().to_vec();
    properties.extend(directory);
    properties.extend(packed);
    Ok(Segment {
        place,
        row_count: block.rows() as i64,
        data: frames::pack(&block.encode_rows())?,
        properties,
    })
}

/// The directory, and the bytes of the columns.
fn split(properties: &[u8]) -> Option<(Directory, &[u8])> {
    let (length, rest) = properties.split_first_chunk::<8>()?;
    let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
    let (directory, columns) = rest.split_at_checked(length)?;
    let directory = serde_json::from_slice(&frames::unpack(directory)?).ok()?;
    Some((directory, columns))
}

/// The persons and times.
pub fn rows(segment: &Segment) -> Option<EventBlock> {
    let block = EventBlock::decode_rows(&frames::unpack(&segment.data)?)?;
    (block.rows() as i64 == segment.row_count).then_some(block)
}

fn add_columns(
    block: &mut EventBlock,
    directory: &Directory,
    mut bytes: &[u8],
    is_wanted: impl Fn(&String) -> bool,
) -> Option<()> {
    for (name, length) in &directory.columns {
        let column = bytes.split_off(..*length)?;
        if is_wanted(name) {
            block.decode_column(name, &frames::unpack(column)?)?;
        }
    }
    bytes.is_empty().then_some(())
}

/// The events of a segment with these columns.
pub fn unpack(segment: &Segment, columns: &[String]) -> Result<EventBlock, Unreadable> {
    let mut block = rows(segment).ok_or(Unreadable::Damaged)?;
    if columns.is_empty() {
        return Ok(block);
    }
    let (directory, bytes) = split(&segment.properties).ok_or(Unreadable::Damaged)?;
    let has = |name: &String| directory.columns.iter().any(|(column, _)| column == name);
    let may_miss = |name: &&String| directory.has_others || directory.left_out.contains(name);
    if columns.iter().filter(may_miss).any(|name| !has(name)) {
        return Err(Unreadable::LeftOut);
    }
    add_columns(&mut block, &directory, bytes, |name| columns.contains(name))
        .ok_or(Unreadable::Damaged)?;
    Ok(block)
}

/// The events of a segment with all its columns; `None` if it is damaged.
pub fn unpack_all(segment: &Segment) -> Option<WideEventBlock> {
    let mut block = rows(segment)?;
    let (directory, bytes) = split(&segment.properties)?;
    add_columns(&mut block, &directory, bytes, |_| true)?;
    let left_out = LeftOut {
        names: directory.left_out.into_iter().collect(),
        has_others: directory.has_others,
    };
    Some(WideEventBlock { block, left_out })
}

#[cfg(test)]
mod tests {
    use cohorts_engine::WideEventBuilder;

    use super::*;

    fn segment(events: u32) -> Segment {
        let mut builder = WideEventBuilder::new(&["$set"]);
        for nth in 0..events {
            let text = format!(r#"{{"a": {nth}, "b": "v{}", "$set": {{}}}}"#, nth % 3);
            builder.push(nth % 7, i64::from(nth) * 1_000, &text);
        }
        let place = SegmentPlace {
            day: 0,
            seq: 1,
            part: 0,
        };
        pack(&builder.finish(), place).unwrap()
    }

    #[test]
    fn a_segment_gives_the_requested_columns_or_says_why_not() {
        let segment = segment(100);
        let columns = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            let block = unpack(&segment, &names)?;
            let mut names: Vec<String> = block.properties().map(str::to_owned).collect();
            names.sort_unstable();
            Ok::<_, Unreadable>((block.rows(), names.join(" ")))
        };
        assert_eq!(columns(&[]), Ok((100, String::new())));
        assert_eq!(columns(&["b", "other"]), Ok((100, "b".to_owned())));
        assert_eq!(columns(&["a", "b"]), Ok((100, "a b".to_owned())));
        assert_eq!(columns(&["a", "$set"]), Err(Unreadable::LeftOut));
        let all = unpack_all(&segment).unwrap();
        assert_eq!(
            pack(&all, segment.place).unwrap().properties,
            segment.properties
        );
    }

    #[test]
    fn damaged_bytes_are_detected() {
        let segment = segment(100);
        let columns = ["a".to_owned(), "b".to_owned()];
        let is_damaged = |segment: &Segment| {
            unpack(segment, &columns) == Err(Unreadable::Damaged) && unpack_all(segment).is_none()
        };
        for position in 0..segment.properties.len() {
            let mut damaged = segment.clone();
            damaged.properties[position] ^= 0x55;
            assert!(is_damaged(&damaged), "byte {position} of the properties");
        }
        for position in 0..segment.data.len() {
            let mut damaged = segment.clone();
            damaged.data[position] ^= 0x55;
            assert!(is_damaged(&damaged), "byte {position} of the data");
        }
        let mut short = segment.clone();
        short.properties.pop();
        let mut other = segment.clone();
        other.row_count += 1;
        assert!(is_damaged(&short) && is_damaged(&other));
    }

    /// The state of a typical event: a page view with five properties, under an ordinal of many persons.
    #[test]
    fn an_event_takes_few_bytes() {
        let mut builder = WideEventBuilder::new(&[]);
        let events = 20_000_u32;
        for nth in 0..events {
            let hash = nth.wrapping_mul(2_654_435_761);
            let text = format!(
                r#"{{"$current_url": "https://example.com/page/{}", "$browser": "b{}", "$os": "os{}", "amount": {}, "source": "s{}"}}"#,
                hash % 500,
                hash % 5,
                hash % 4,
                hash % 1_000,
                hash % 8
            );
            builder.push(
                hash % 1_000_000,
                i64::from(hash % 86_400_000) * 1_000,
                &text,
            );
        }
        let place = SegmentPlace {
            day: 0,
            seq: 1,
            part: 0,
        };
        let segment = pack(&builder.finish(), place).unwrap();
        let per_event = |bytes: usize| bytes as f64 / f64::from(events);
        let sizes = [segment.data.len(), segment.properties.len()].map(per_event);
        assert!(
            sizes[0] < 2.8 && sizes[1] < 2.9,
            "{sizes:?} bytes of person and time, and of properties"
        );
    }
}
