//! Blocks that are kept beside the rows they were made of, so that a service which starts need not read the rows.
//!
//! Each is compressed and carries a checksum; one that is missing or damaged is read from the rows instead. Whoever
//! writes is the later in the log: what an older view knows never takes the place of what a newer one does.

use std::collections::BTreeMap;
use std::io::{Read, Write};

use cohorts_engine::EventBlock;
use diesel::prelude::*;
use diesel::upsert::excluded;
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

/// Keeps days of a name's events that were read or have changed, and with them that all of it is known up to a batch, in
/// one transaction. Earlier days that are sealed already stay so, if the events since that batch are known to have
/// `unmissed` none of them. Nothing is kept where another has sealed what this one cannot answer for.
pub fn seal_log(
    conn: &mut Conn,
    place: Place,
    event: &str,
    sealed: Sealed,
    unmissed: Option<i64>,
    changed: &BTreeMap<i64, &EventBlock>,
) -> Result<bool, Error> {
    let row = sealed_logs::table.find((place.0, event));
    diesel::insert_into(sealed_logs::table)
        .values((
            sealed_logs::place.eq(place.0),
            sealed_logs::event.eq(event),
            sealed_logs::head.eq(NOTHING),
            sealed_logs::from_day.eq(i64::MAX),
        ))
        .on_conflict_do_nothing()
        .execute(conn)?;
    let known: (i64, i64) = row
        .select((sealed_logs::head, sealed_logs::from_day))
        .for_update()
        .first(conn)?;
    let (head, from) = known;
    let answers_for_all = from >= sealed.from || unmissed.is_some_and(|since| since <= head);
    let is_more = head < sealed.head || (head == sealed.head && sealed.from < from);
    if !is_more || !answers_for_all {
        return Ok(false);
    }
    for (day, block) in changed {
        diesel::insert_into(blocks::table)
            .values((
                blocks::place.eq(place.0),
                blocks::event.eq(event),
                blocks::day.eq(day),
                blocks::head.eq(sealed.head),
                blocks::data.eq(packed(&block.encode())?),
            ))
            .on_conflict((blocks::place, blocks::event, blocks::day))
            .do_update()
            .set((
                blocks::head.eq(excluded(blocks::head)),
                blocks::data.eq(excluded(blocks::data)),
            ))
            .execute(conn)?;
    }
    diesel::update(row)
        .set((
            sealed_logs::head.eq(sealed.head),
            sealed_logs::from_day.eq(sealed.from.min(from)),
        ))
        .execute(conn)?;
    Ok(true)
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

/// Forgets the days before one, whose events are not kept any longer.
pub fn forget_before(conn: &mut Conn, place: Place, day: i64) -> QueryResult<usize> {
    let old = blocks::table.filter(blocks::place.eq(place.0).and(blocks::day.lt(day)));
    diesel::delete(old).execute(conn)
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
