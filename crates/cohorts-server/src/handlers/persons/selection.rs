//! The persons of a request that are not read yet. They are selected once, and read some at a time.
//!
//! Between two readings, persons may be deleted or merged. A deleted person is left out. A merged person is left out if
//! the survivor is selected too; otherwise the survivor takes the place, once.

use std::collections::VecDeque;

use cohorts_api::types::Person;
use cohorts_store::{Conn, ShardKey, events, persons, tombstones};
use roaring::RoaringBitmap;

use super::query::PersonQuery;
use crate::error::Error;
use crate::handlers::present;
use crate::index::ranking::{PlacedPerson, RankKey, RankPlace, RankedPersons};

/// Persons that the first piece asks for. Each further piece asks for twice the persons that the last one had room for.
const FIRST_PERSONS: usize = 250;
const MIN_PERSONS: usize = 8;
/// The most persons of a piece, because their ids take memory too.
const MAX_PERSONS: usize = 500;

/// The persons that are selected, and a position in them.
pub struct Selection {
    persons: RankedPersons,
    /// The log head of the selection, once it was needed.
    seq: Option<i64>,
    first: Option<RankPlace>,
    limit: usize,
    position: Position,
}

struct Position {
    /// The next persons.
    upcoming: VecDeque<PlacedPerson>,
    /// The place behind them; `None` at the end.
    next: Option<RankPlace>,
    /// Persons until the limit.
    left: usize,
    /// Survivors of merges that come next.
    survivors: VecDeque<u32>,
    seen_survivors: RoaringBitmap,
    /// The persons that the next piece asks for.
    candidates: usize,
    last: Option<RankKey>,
}

/// What one piece has room for.
#[derive(Clone, Copy)]
pub struct Room {
    pub bytes: usize,
    pub persons: usize,
}

/// The result of reading a piece.
pub enum Reading {
    Persons(Vec<Person>),
    /// The properties of the next person are larger than the room.
    TooLarge(usize),
}

impl Selection {
    pub fn new(persons: RankedPersons, query: &PersonQuery, limit: usize) -> Self {
        let first = query.first_place(&persons);
        Self {
            persons,
            seq: None,
            first,
            limit,
            position: Position::new(first, limit),
        }
    }

    /// Begins with the first person again.
    pub fn rewind(&mut self) {
        self.position = Position::new(self.first, self.limit);
    }

    pub fn is_done(&self) -> bool {
        let position = &self.position;
        position.left == 0 || !self.has_more()
    }

    /// Whether persons follow.
    pub fn has_more(&self) -> bool {
        let position = &self.position;
        !position.survivors.is_empty() || !position.upcoming.is_empty() || position.next.is_some()
    }

    /// The number of selected persons, on all pages.
    pub fn count(&self) -> u64 {
        self.persons.count()
    }

    /// The position of the last person that was read.
    pub fn last(&self) -> Option<RankKey> {
        self.position.last
    }

    /// Remembers the state of the data, in the transaction that made the selection.
    pub fn remember_seq(&mut self, conn: &mut Conn, shard_key: ShardKey) -> Result<(), Error> {
        self.seq = Some(events::log_head(conn, shard_key)?);
        Ok(())
    }

    /// Reads as many of the next persons as there is room for.
    pub fn read(
        &mut self,
        conn: &mut Conn,
        shard_key: ShardKey,
        room: Room,
    ) -> Result<Reading, Error> {
        self.find_upcoming(conn, room.persons)?;
        let candidates = self.candidates(room.persons);
        let ordinals: Vec<i64> = candidates.iter().copied().map(i64::from).collect();
        let rows = persons::first_within(conn, shard_key, &ordinals, room.bytes)?;
        let taken = match rows.last() {
            Some(last) => ordinals.iter().position(|ordinal| *ordinal == last.ordinal),
            None => {
                if let Some(size) = first_size(conn, shard_key, &ordinals)? {
                    return Ok(Reading::TooLarge(size));
                }
                None
            }
        };
        let taken = taken.map_or(candidates.len(), |last| last + 1);
        let found: RoaringBitmap = rows.iter().map(|row| row.ordinal as u32).collect();
        self.advance(taken, rows.len());
        let missing = candidates[..taken].iter().copied();
        let missing: Vec<u32> = missing
            .filter(|ordinal| !found.contains(*ordinal))
            .collect();
        self.follow_merges(conn, shard_key, &missing)?;
        let persons = present::persons(conn, shard_key, rows)?;
        Ok(Reading::Persons(persons))
    }

    /// Finds the persons of the next piece, and one more, which tells whether persons follow.
    fn find_upcoming(&mut self, conn: &mut Conn, most: usize) -> Result<(), Error> {
        let position = &mut self.position;
        let missing = (position.most(most) + 1).saturating_sub(position.upcoming.len());
        if let Some(next) = position.next
            && missing > 0
        {
            let found = self.persons.next(conn, next, missing)?;
            let last = found.last().filter(|_| found.len() == missing);
            position.next = last.map(|person| person.after);
            position.upcoming.extend(found);
        }
        Ok(())
    }

    /// The ordinals of the next persons.
    fn candidates(&self, most: usize) -> Vec<u32> {
        let position = &self.position;
        let survivors = position.survivors.iter().copied();
        let ordinals = position.upcoming.iter().map(|person| person.key.ordinal);
        survivors
            .chain(ordinals)
            .take(position.most(most))
            .collect()
    }

    /// Moves the position behind `taken` candidates; `found` of them are persons.
    fn advance(&mut self, taken: usize, found: usize) {
        let position = &mut self.position;
        let survivors = taken.min(position.survivors.len());
        position.survivors.drain(..survivors);
        let mut persons = position.upcoming.drain(..taken - survivors);
        if let Some(person) = persons.next_back() {
            position.last = Some(person.key);
        }
        position.left -= found;
        position.candidates = (taken * 2).clamp(MIN_PERSONS, MAX_PERSONS);
    }

    /// Adds the survivors of persons that were merged since the selection.
    fn follow_merges(
        &mut self,
        conn: &mut Conn,
        shard_key: ShardKey,
        missing: &[u32],
    ) -> Result<(), Error> {
        let Some(seq) = self.seq.filter(|_| !missing.is_empty()) else {
            return Ok(());
        };
        let tombstones = tombstones::since(conn, shard_key, seq)?;
        for ordinal in missing {
            let survivor = tombstones.resolve(*ordinal);
            if let Some(survivor) = survivor.filter(|survivor| survivor != ordinal)
                && !self.persons.contains(survivor)
                && self.position.seen_survivors.insert(survivor)
            {
                self.position.survivors.push_back(survivor);
            }
        }
        Ok(())
    }
}

impl Position {
    fn new(next: Option<RankPlace>, left: usize) -> Self {
        Self {
            upcoming: VecDeque::new(),
            next,
            left,
            survivors: VecDeque::new(),
            seen_survivors: RoaringBitmap::new(),
            candidates: FIRST_PERSONS,
            last: None,
        }
    }

    /// The persons of the next piece, if there is room for `room` persons.
    fn most(&self, room: usize) -> usize {
        room.min(self.candidates).min(self.left)
    }
}

/// The size of the first of these persons that exists.
fn first_size(
    conn: &mut Conn,
    shard_key: ShardKey,
    ordinals: &[i64],
) -> Result<Option<usize>, Error> {
    let sizes = persons::sizes(conn, shard_key, ordinals)?;
    let first = ordinals
        .iter()
        .find_map(|ordinal| sizes.iter().find(|size| size.id == *ordinal));
    Ok(first.map(|size| size.bytes))
}
