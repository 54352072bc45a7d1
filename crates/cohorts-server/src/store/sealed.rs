//! Blocks that are kept beside the rows they were made of, so that a service which starts need not read the rows.
//!
//! Each is compressed and carries a checksum; one that is missing or damaged is read from the rows instead. Whoever
//! writes is the later in the log: what an older view knows never takes the place of what a newer one does.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cohorts_engine::{EventBlock, PropertyBlock};
use diesel::prelude::*;
use rayon::prelude::*;
use roaring::RoaringBitmap;
use zstd::bulk::{Compressor, Decompressor};
use zstd::zstd_safe;

use super::schema::{blocks, sealed_logs, sealed_people, sealed_properties};
use super::{Conn, Place};
use crate::error::Error;

/// The bytes of blocks of events that were read, by this process.
pub static READ: AtomicU64 = AtomicU64::new(0);

/// How hard what is kept is compressed: quickly.
const LEVEL: i32 = 1;
/// So many bytes are packed and unpacked by themselves, several at once.
const FRAME: usize = 1 << 20;
/// What one block, or everybody, may unpack to, in bytes.
const LARGEST: u64 = 1 << 30;

/// What the blocks of a name hold: all events of batches up to `head`, from a day on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sealed {
    pub head: i64,
    pub from: i64,
}

/// The head of a name that somebody begins to seal.
const NOTHING: i64 = -1;

/// Longer names of columns, or of a property, are no key of a table.
const LONGEST_KEY: usize = 1_000;

/// A log as it is kept: the events of a name, with columns for some of their properties.
pub struct LogKey {
    pub event: String,
    properties: String,
}

impl LogKey {
    /// As it stands in the tables.
    pub fn stored(event: &str, properties: &str) -> LogKey {
        LogKey {
            event: event.to_owned(),
            properties: properties.to_owned(),
        }
    }

    /// Nothing where it is too long to be kept.
    pub fn new(event: &str, properties: &[String]) -> Option<LogKey> {
        let properties = match properties {
            [] => String::new(),
            properties => serde_json::json!(properties).to_string(),
        };
        (properties.len() <= LONGEST_KEY).then(|| LogKey::stored(event, &properties))
    }
}

/// What is known to be sealed of a log, and of how many days there are blocks.
pub fn log(conn: &mut Conn, place: Place, key: &LogKey) -> QueryResult<Option<(Sealed, i64)>> {
    let found: Option<(i64, i64, i64)> = sealed_logs::table
        .find((place.0, &key.event, &key.properties))
        .select((sealed_logs::head, sealed_logs::from_day, sealed_logs::days))
        .first(conn)
        .optional()?;
    let found = found.filter(|(head, ..)| *head != NOTHING);
    Ok(found.map(|(head, from, days)| (Sealed { head, from }, days)))
}

/// The days from one on that a log has blocks of, or nothing where these are not as many as there should be.
pub fn days(
    conn: &mut Conn,
    place: Place,
    key: &LogKey,
    kept: i64,
    from: i64,
) -> QueryResult<Option<Vec<i64>>> {
    let own = of_log(place.0, &key.event, &key.properties);
    let mut days: Vec<i64> = own.select(blocks::day).order(blocks::day).load(conn)?;
    if days.len() as i64 != kept {
        log::warn!(
            "of event {:?} in place {} {} blocks are there, and {kept} should be; they are made anew",
            key.event,
            place.0,
            days.len()
        );
        return Ok(None);
    }
    days.retain(|day| *day >= from);
    Ok(Some(days))
}

/// The blocks of a log.
#[diesel::dsl::auto_type]
fn of_log<'a>(place: i64, event: &'a str, properties: &'a str) -> _ {
    blocks::table
        .filter(blocks::place.eq(place))
        .filter(blocks::event.eq(event))
        .filter(blocks::properties.eq(properties))
}

/// A day, and the blocks of its events.
pub type KeptDay = (i64, Vec<EventBlock>);

/// The blocks of a log of some days, or nothing where one of them is damaged.
pub fn blocks(
    conn: &mut Conn,
    place: Place,
    key: &LogKey,
    days: &[i64],
) -> QueryResult<Option<Vec<KeptDay>>> {
    let rows: Vec<(i64, Vec<u8>)> = of_log(place.0, &key.event, &key.properties)
        .filter(blocks::day.eq_any(days))
        .select((blocks::day, blocks::data))
        .load(conn)?;
    let bytes: usize = rows.iter().map(|(_, data)| data.len()).sum();
    READ.fetch_add(bytes as u64, Ordering::Relaxed);
    let decoded = rows.par_iter().map(|(day, data)| {
        let blocks = unpacked(data).and_then(|bytes| EventBlock::decode_all(&bytes));
        if blocks.is_none() {
            log::warn!(
                "what is kept of event {:?} of day {day} in place {} is damaged, and is made anew",
                key.event,
                place.0
            );
        }
        Some((*day, blocks?))
    });
    Ok(decoded.collect())
}

/// What a process knows of a log and wants to keep.
pub struct Seal<'a> {
    pub key: &'a LogKey,
    pub sealed: Sealed,
    /// The batch since which no event was on a day before those, if that is so.
    pub unmissed: Option<i64>,
    /// What the process knows to be kept; where that is nothing, its days are all of them.
    pub kept: Option<Sealed>,
    /// Whether a block is damaged, so that what is kept is to be written anew.
    pub is_damaged: bool,
    /// Packed days that are not kept as they are.
    pub days: &'a [(i64, Vec<u8>)],
}

/// What became of a seal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// This is kept now.
    Done(Sealed),
    /// Another has sealed what this one cannot answer for.
    Refused,
    /// It is not kept any longer what the process takes to be kept: all days are to be written.
    Stale,
}

/// Keeps days of a name's events, and that all of them are known up to a batch, in the transaction that it runs in.
/// Earlier days that are kept already stay so where the seal has missed none of their events.
pub fn seal_log(conn: &mut Conn, place: Place, seal: &Seal) -> QueryResult<Outcome> {
    let key = seal.key;
    let row = sealed_logs::table.find((place.0, &key.event, &key.properties));
    diesel::insert_into(sealed_logs::table)
        .values((
            sealed_logs::place.eq(place.0),
            sealed_logs::event.eq(&key.event),
            sealed_logs::properties.eq(&key.properties),
            sealed_logs::head.eq(NOTHING),
            sealed_logs::from_day.eq(i64::MAX),
        ))
        .on_conflict_do_nothing()
        .execute(conn)?;
    let (head, from, kept_days): (i64, i64, i64) = row
        .select((sealed_logs::head, sealed_logs::from_day, sealed_logs::days))
        .for_update()
        .first(conn)?;
    if seal.kept.is_some_and(|kept| kept != Sealed { head, from }) {
        return Ok(Outcome::Stale);
    }
    let own = of_log(place.0, &key.event, &key.properties);
    // What is damaged, or lacks a block, is not built upon.
    let there: i64 = own.count().get_result(conn)?;
    let is_whole = there == kept_days && !seal.is_damaged;
    if seal.kept.is_some() && !is_whole {
        return Ok(Outcome::Stale);
    }
    let sealed = seal.sealed;
    let (head, from) = match is_whole {
        true => (head, from),
        false => {
            diesel::delete(own).execute(conn)?;
            (NOTHING, i64::MAX)
        }
    };
    let answers_for_all = from >= sealed.from || seal.unmissed.is_some_and(|since| since <= head);
    let is_more = head < sealed.head || (head == sealed.head && sealed.from < from);
    if !is_more || !answers_for_all {
        return Ok(Outcome::Refused);
    }
    let written: Vec<i64> = seal.days.iter().map(|(day, _)| *day).collect();
    match seal.kept {
        None => diesel::delete(own.filter(blocks::day.ge(sealed.from))).execute(conn)?,
        Some(_) => diesel::delete(own.filter(blocks::day.eq_any(written))).execute(conn)?,
    };
    for (day, data) in seal.days {
        diesel::insert_into(blocks::table)
            .values((
                blocks::place.eq(place.0),
                blocks::event.eq(&key.event),
                blocks::properties.eq(&key.properties),
                blocks::day.eq(day),
                blocks::head.eq(sealed.head),
                blocks::data.eq(data),
            ))
            .execute(conn)?;
    }
    let kept = Sealed {
        head: sealed.head,
        from: sealed.from.min(from),
    };
    let days: i64 = own.count().get_result(conn)?;
    diesel::update(row)
        .set((
            sealed_logs::head.eq(kept.head),
            sealed_logs::from_day.eq(kept.from),
            sealed_logs::days.eq(days),
        ))
        .execute(conn)?;
    Ok(Outcome::Done(kept))
}

/// Everybody, and as of which batch; nothing where it is missing or damaged.
pub fn people(conn: &mut Conn, place: Place) -> QueryResult<Option<(i64, RoaringBitmap)>> {
    let found: Option<(i64, Vec<u8>)> = sealed_people::table
        .find(place.0)
        .select((sealed_people::head, sealed_people::data))
        .first(conn)
        .optional()?;
    Ok(found.and_then(|(head, data)| {
        let people =
            unpacked(&data).and_then(|bytes| RoaringBitmap::deserialize_from(&*bytes).ok());
        if people.is_none() {
            log::warn!("the people of place {} that were kept are damaged", place.0);
        }
        Some((head, people?))
    }))
}

/// Keeps everybody as of a batch, unless they are kept as of a later one.
pub fn seal_people(
    conn: &mut Conn,
    place: Place,
    head: i64,
    people: &RoaringBitmap,
) -> Result<(), Error> {
    let kept: Option<i64> = sealed_people::table
        .find(place.0)
        .select(sealed_people::head)
        .first(conn)
        .optional()?;
    if kept.is_some_and(|kept| kept >= head) {
        return Ok(());
    }
    let mut bytes = Vec::new();
    people
        .serialize_into(&mut bytes)
        .map_err(anyhow::Error::from)?;
    let data = packed(&bytes)?;
    let row = (
        sealed_people::place.eq(place.0),
        sealed_people::head.eq(head),
        sealed_people::data.eq(&data),
    );
    let new = diesel::insert_into(sealed_people::table)
        .values(row)
        .on_conflict_do_nothing()
        .execute(conn)?;
    if new == 0 {
        let former = sealed_people::table
            .find(place.0)
            .filter(sealed_people::head.lt(head));
        diesel::update(former)
            .set((sealed_people::head.eq(head), sealed_people::data.eq(&data)))
            .execute(conn)?;
    }
    Ok(())
}

/// A property as of a batch; nothing where it is damaged.
pub type SealedProperty = (i64, Option<PropertyBlock>);

/// What is kept of a property of people.
pub fn property(conn: &mut Conn, place: Place, key: &str) -> QueryResult<Option<SealedProperty>> {
    let found: Option<(i64, Vec<u8>)> = sealed_properties::table
        .find((place.0, key))
        .select((sealed_properties::head, sealed_properties::data))
        .first(conn)
        .optional()?;
    Ok(found.map(|(head, data)| {
        let block = unpacked(&data).and_then(|bytes| PropertyBlock::decode(&bytes));
        if block.is_none() {
            log::warn!(
                "property {key:?} of people in place {} is damaged, and is made anew",
                place.0
            );
        }
        (head, block)
    }))
}

/// As of which batch a property is kept.
pub fn property_head(conn: &mut Conn, place: Place, key: &str) -> QueryResult<Option<i64>> {
    let row = sealed_properties::table.find((place.0, key));
    row.select(sealed_properties::head).first(conn).optional()
}

/// Keeps a property of people as of a batch, unless it is kept as of a later one.
pub fn seal_property(
    conn: &mut Conn,
    place: Place,
    key: &str,
    head: i64,
    block: &PropertyBlock,
) -> Result<(), Error> {
    if key.len() > LONGEST_KEY {
        return Ok(());
    }
    let kept = property_head(conn, place, key)?;
    if kept.is_some_and(|kept| kept > head) {
        return Ok(());
    }
    let data = packed(&block.encode())?;
    diesel::insert_into(sealed_properties::table)
        .values((
            sealed_properties::place.eq(place.0),
            sealed_properties::key.eq(key),
            sealed_properties::head.eq(head),
            sealed_properties::data.eq(&data),
        ))
        .on_conflict((sealed_properties::place, sealed_properties::key))
        .do_update()
        .set((
            sealed_properties::head.eq(head),
            sealed_properties::data.eq(&data),
        ))
        .execute(conn)?;
    Ok(())
}

/// Forgets all that is kept of a place, as it is about events that are deleted.
pub fn forget(conn: &mut Conn, place: Place) -> QueryResult<()> {
    diesel::delete(sealed_logs::table.filter(sealed_logs::place.eq(place.0))).execute(conn)?;
    diesel::delete(blocks::table.filter(blocks::place.eq(place.0))).execute(conn)?;
    diesel::delete(sealed_people::table.filter(sealed_people::place.eq(place.0))).execute(conn)?;
    let properties = sealed_properties::table.filter(sealed_properties::place.eq(place.0));
    diesel::delete(properties).execute(conn)?;
    Ok(())
}

/// The blocks of a day as they are kept, each packed by itself.
pub fn pack(blocks: &[Arc<EventBlock>]) -> Result<Vec<u8>, Error> {
    let (mut data, mut size) = (Vec::new(), 0);
    for piece in EventBlock::encode_all(blocks) {
        size += piece.len();
        fits(size)?;
        data.extend(packed(&piece)?);
    }
    Ok(data)
}

/// What does not unpack again is not kept.
fn fits(size: usize) -> Result<(), Error> {
    match (size as u64) < LARGEST {
        true => Ok(()),
        false => Err(anyhow::anyhow!("{size} bytes are too many to be kept").into()),
    }
}

fn packed(bytes: &[u8]) -> Result<Vec<u8>, Error> {
    fits(bytes.len())?;
    let pack = |part: &[u8]| {
        let mut compressor = Compressor::new(LEVEL)?;
        compressor.include_checksum(true)?;
        compressor.compress(part)
    };
    let frames: std::io::Result<Vec<Vec<u8>>> = bytes.par_chunks(FRAME).map(pack).collect();
    Ok(frames.map_err(anyhow::Error::from)?.concat())
}

/// The bytes that were packed, or the first of them where whole frames are missing, which whoever decodes them finds
/// out; nothing if these are others.
fn unpacked(data: &[u8]) -> Option<Vec<u8>> {
    let frames = frames(data)?;
    let sizes: Option<Vec<u64>> = frames.iter().map(|(_, size)| *size).collect();
    let Some(sizes) = sizes else {
        return unpacked_as_stream(data);
    };
    let all = sizes
        .iter()
        .try_fold(0_u64, |all, size| all.checked_add(*size));
    let mut bytes = vec![0; usize::try_from(all.filter(|all| *all < LARGEST)?).ok()?];
    let (mut rest, mut parts) = (bytes.as_mut_slice(), Vec::new());
    for ((frame, _), size) in frames.iter().zip(sizes) {
        let (part, after) = rest.split_at_mut(size as usize);
        parts.push((*frame, part));
        rest = after;
    }
    let unpack = |(frame, part): (&[u8], &mut [u8])| {
        let unpacked = Decompressor::new()?.decompress_to_buffer(frame, part)?;
        Ok(unpacked == part.len())
    };
    let done: std::io::Result<Vec<bool>> = parts.into_par_iter().map(unpack).collect();
    done.ok()?.into_iter().all(|whole| whole).then_some(bytes)
}

/// The frames that follow one another in what is packed, and what each unpacks to where it says so.
fn frames(mut data: &[u8]) -> Option<Vec<(&[u8], Option<u64>)>> {
    let mut frames = Vec::new();
    while !data.is_empty() {
        let size = zstd_safe::find_frame_compressed_size(data).ok()?;
        let (frame, rest) = data.split_at_checked(size)?;
        frames.push((frame, zstd_safe::get_frame_content_size(frame).ok()?));
        data = rest;
    }
    Some(frames)
}

/// What a former version packed did not say how large it is.
fn unpacked_as_stream(data: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let decoder = zstd::Decoder::new(data).ok()?;
    decoder.take(LARGEST).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn what_is_packed_comes_back_or_is_known_to_be_damaged() {
        for numbers in [0, 10_000, 600_000_u32] {
            let bytes: Vec<u8> = (0..numbers)
                .flat_map(|number| number.wrapping_mul(number).to_le_bytes())
                .collect();
            let packed = packed(&bytes).unwrap();
            assert_eq!(unpacked(&packed).as_ref(), Some(&bytes));
            for place in (0..packed.len()).step_by(packed.len() / 50 + 1) {
                let mut damaged = packed.clone();
                damaged[place] ^= 0x10;
                assert_eq!(unpacked(&damaged), None, "byte {place}");
            }
            if numbers > 0 {
                assert_eq!(unpacked(&packed[..packed.len() - 1]), None);
                let first = zstd_safe::find_frame_compressed_size(&packed).unwrap();
                let some = unpacked(&packed[..first]).unwrap();
                assert!(some.len() <= FRAME && bytes.starts_with(&some));
            }
        }
    }

    #[test]
    fn what_a_former_version_packed_is_read() {
        let bytes: Vec<u8> = (0..=255).cycle().take(3_000_000).collect();
        let mut encoder = zstd::Encoder::new(Vec::new(), LEVEL).unwrap();
        encoder.include_checksum(true).unwrap();
        encoder.write_all(&bytes).unwrap();
        let mut packed = encoder.finish().unwrap();
        assert_eq!(unpacked(&packed), Some(bytes));
        packed.pop();
        assert_eq!(unpacked(&packed), None);
    }
}
