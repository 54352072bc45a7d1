//! Blocks that are kept beside the rows they were made of, so that a service which starts need not read the rows.
//!
//! Each is compressed and carries a checksum; one that is missing or damaged is read from the rows instead. Whoever
//! writes is the later in the log: what an older view knows never takes the place of what a newer one does.

use std::collections::BTreeMap;
use std::io::{Read, Write};

use cohorts_engine::EventBlock;
use diesel::prelude::*;
use roaring::RoaringBitmap;

use super::schema::{blocks, sealed_logs, sealed_people};
use super::{Conn, Place};
use crate::error::Error;

/// How hard what is kept is compressed: quickly.
const LEVEL: i32 = 1;
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

/// What is known to be sealed of a name's events.
pub fn log(conn: &mut Conn, place: Place, event: &str) -> QueryResult<Option<Sealed>> {
    let found: Option<(i64, i64)> = sealed_logs::table
        .find((place.0, event))
        .select((sealed_logs::head, sealed_logs::from_day))
        .first(conn)
        .optional()?;
    let found = found.filter(|(head, _)| *head != NOTHING);
    Ok(found.map(|(head, from)| Sealed { head, from }))
}

/// The blocks of a name from a day on, or nothing where one of them is damaged.
pub fn days(
    conn: &mut Conn,
    place: Place,
    event: &str,
    from: i64,
) -> QueryResult<Option<BTreeMap<i64, EventBlock>>> {
    let rows: Vec<(i64, Vec<u8>)> = blocks::table
        .filter(blocks::place.eq(place.0).and(blocks::event.eq(event)))
        .filter(blocks::day.ge(from))
        .select((blocks::day, blocks::data))
        .load(conn)?;
    let mut days = BTreeMap::new();
    for (day, data) in rows {
        match unpacked(&data).and_then(|bytes| EventBlock::decode(&bytes)) {
            Some(block) => drop(days.insert(day, block)),
            None => {
                log::warn!(
                    "the block of event {event:?} of day {day} in place {} is damaged",
                    place.0
                );
                return Ok(None);
            }
        }
    }
    Ok(Some(days))
}

/// What a process knows of a name's events and wants to keep.
pub struct Seal<'a> {
    pub event: &'a str,
    pub sealed: Sealed,
    /// The batch since which no event was on a day before those, if that is so.
    pub unmissed: Option<i64>,
    /// What the process knows to be kept; where that is nothing, its days are all of them.
    pub kept: Option<Sealed>,
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
    let row = sealed_logs::table.find((place.0, seal.event));
    diesel::insert_into(sealed_logs::table)
        .values((
            sealed_logs::place.eq(place.0),
            sealed_logs::event.eq(seal.event),
            sealed_logs::head.eq(NOTHING),
            sealed_logs::from_day.eq(i64::MAX),
        ))
        .on_conflict_do_nothing()
        .execute(conn)?;
    let (head, from): (i64, i64) = row
        .select((sealed_logs::head, sealed_logs::from_day))
        .for_update()
        .first(conn)?;
    if seal.kept.is_some_and(|kept| kept != Sealed { head, from }) {
        return Ok(Outcome::Stale);
    }
    let sealed = seal.sealed;
    let answers_for_all = from >= sealed.from || seal.unmissed.is_some_and(|since| since <= head);
    let is_more = head < sealed.head || (head == sealed.head && sealed.from < from);
    if !is_more || !answers_for_all {
        return Ok(Outcome::Refused);
    }
    let own = blocks::table.filter(blocks::place.eq(place.0).and(blocks::event.eq(seal.event)));
    let written: Vec<i64> = seal.days.iter().map(|(day, _)| *day).collect();
    match seal.kept {
        None => diesel::delete(own.filter(blocks::day.ge(sealed.from))).execute(conn)?,
        Some(_) => diesel::delete(own.filter(blocks::day.eq_any(written))).execute(conn)?,
    };
    for (day, data) in seal.days {
        diesel::insert_into(blocks::table)
            .values((
                blocks::place.eq(place.0),
                blocks::event.eq(seal.event),
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
    diesel::update(row)
        .set((
            sealed_logs::head.eq(kept.head),
            sealed_logs::from_day.eq(kept.from),
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

/// Forgets all that is kept of a place, as it is about events that are deleted.
pub fn forget(conn: &mut Conn, place: Place) -> QueryResult<()> {
    diesel::delete(sealed_logs::table.filter(sealed_logs::place.eq(place.0))).execute(conn)?;
    diesel::delete(blocks::table.filter(blocks::place.eq(place.0))).execute(conn)?;
    diesel::delete(sealed_people::table.filter(sealed_people::place.eq(place.0))).execute(conn)?;
    Ok(())
}

/// A block as it is kept.
pub fn pack(block: &EventBlock) -> Result<Vec<u8>, Error> {
    packed(&block.encode())
}

fn packed(bytes: &[u8]) -> Result<Vec<u8>, Error> {
    let pack = || -> std::io::Result<Vec<u8>> {
        let mut encoder = zstd::Encoder::new(Vec::new(), LEVEL)?;
        encoder.include_checksum(true)?;
        encoder.write_all(bytes)?;
        encoder.finish()
    };
    Ok(pack().map_err(anyhow::Error::from)?)
}

/// The bytes that were packed; nothing if these are others.
fn unpacked(data: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let decoder = zstd::Decoder::new(data).ok()?;
    decoder.take(LARGEST).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_comes_back_or_is_known_to_be_damaged() {
        let bytes: Vec<u8> = (0..10_000_u32)
            .flat_map(|number| (number * number).to_le_bytes())
            .collect();
        let packed = packed(&bytes).unwrap();
        assert_eq!(unpacked(&packed), Some(bytes));
        for place in (0..packed.len()).step_by(packed.len() / 50) {
            let mut damaged = packed.clone();
            damaged[place] ^= 0x10;
            assert_eq!(unpacked(&damaged), None, "byte {place}");
        }
        assert_eq!(unpacked(&packed[..packed.len() - 1]), None);
    }
}
