//! Numbers that are nobody's any longer: of people who were deleted, or merged into somebody else. Neither is ever
//! given out again. Each has the batch of the log that says so, by which whoever read the log before learns of it.
//!
//! What stands under the number of somebody merged, such as events, is not rewritten: readers follow the number to
//! whoever has it now.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use diesel::prelude::*;
use roaring::RoaringBitmap;

use super::schema::forgotten_persons;
use super::{Conn, Place};

/// Writes down that somebody was deleted.
pub fn record(conn: &mut Conn, place: Place, number: i64, batch: i64) -> QueryResult<()> {
    insert(conn, place, batch, &[(number, None)])
}

/// Writes down that the first of each pair was merged into the second.
pub fn record_merged(
    conn: &mut Conn,
    place: Place,
    batch: i64,
    merged: &[(i64, i64)],
) -> QueryResult<()> {
    let rows = merged.iter().map(|(from, into)| (*from, Some(*into)));
    insert(conn, place, batch, &rows.collect::<Vec<_>>())
}

fn insert(
    conn: &mut Conn,
    place: Place,
    batch: i64,
    rows: &[(i64, Option<i64>)],
) -> QueryResult<()> {
    let rows: Vec<_> = rows
        .iter()
        .map(|(number, into)| {
            (
                forgotten_persons::place.eq(place.0),
                forgotten_persons::number.eq(number),
                forgotten_persons::batch.eq(batch),
                forgotten_persons::into_number.eq(into),
            )
        })
        .collect();
    for some in rows.chunks(super::ROWS) {
        diesel::insert_into(forgotten_persons::table)
            .values(some)
            .execute(conn)?;
    }
    Ok(())
}

/// Numbers that are nobody's any longer, and whose those of merged people are.
#[derive(Debug, Default)]
pub struct Forgotten {
    pub gone: RoaringBitmap,
    into: HashMap<u32, u32>,
}

impl Forgotten {
    fn new(rows: Vec<(i64, Option<i64>)>) -> Self {
        let mut forgotten = Self::default();
        for (number, into) in rows {
            let Ok(number) = u32::try_from(number) else {
                continue;
            };
            forgotten.gone.insert(number);
            if let Some(Ok(into)) = into.map(u32::try_from) {
                forgotten.into.insert(number, into);
            }
        }
        forgotten
    }

    /// The same with what became of more numbers.
    pub fn with(&self, more: &Forgotten) -> Self {
        let mut into = self.into.clone();
        into.extend(&more.into);
        Self {
            gone: &self.gone | &more.gone,
            into,
        }
    }

    /// Whether somebody was deleted, and not only merged.
    pub fn has_deleted(&self) -> bool {
        self.gone.len() > self.into.len() as u64
    }

    /// Whose the number is now: nobody's where the person was deleted, or was merged into somebody who was.
    pub fn owner(&self, mut number: u32) -> Option<u32> {
        while self.gone.contains(number) {
            number = *self.into.get(&number)?;
        }
        Some(number)
    }

    /// Numbers that are somebody else's now, who is one of these people.
    pub fn numbers_of(&self, people: RangeInclusive<u32>) -> Vec<u32> {
        let merged = self.into.keys().copied();
        let theirs = |number: &u32| {
            self.owner(*number)
                .is_some_and(|owner| people.contains(&owner))
        };
        merged.filter(theirs).collect()
    }

    /// The same people by the numbers they have now, without those who were deleted.
    pub fn followed(&self, people: &RoaringBitmap) -> RoaringBitmap {
        let gone = people & &self.gone;
        let owners: RoaringBitmap = gone
            .iter()
            .filter_map(|number| self.owner(number))
            .collect();
        (people - gone) | owners
    }
}

/// What became of all numbers that are nobody's.
pub fn all(conn: &mut Conn, place: Place) -> QueryResult<Forgotten> {
    since(conn, place, -1)
}

/// What became of numbers in batches after that one.
pub fn since(conn: &mut Conn, place: Place, batch: i64) -> QueryResult<Forgotten> {
    let rows = forgotten_persons::table
        .filter(forgotten_persons::place.eq(place.0))
        .filter(forgotten_persons::batch.gt(batch))
        .select((forgotten_persons::number, forgotten_persons::into_number))
        .load(conn)?;
    Ok(Forgotten::new(rows))
}

/// The number and all those that were merged into it, by however many steps.
pub fn with_merged(conn: &mut Conn, place: Place, number: i64) -> QueryResult<Vec<i64>> {
    let mut all = vec![number];
    let mut last = all.clone();
    while !last.is_empty() {
        last = forgotten_persons::table
            .filter(forgotten_persons::place.eq(place.0))
            .filter(forgotten_persons::into_number.eq_any(&last))
            .select(forgotten_persons::number)
            .load(conn)?;
        all.extend(&last);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_followed_through_every_merge_to_its_end() {
        let forgotten = Forgotten::new(vec![(1, Some(2)), (2, Some(3)), (5, Some(6)), (6, None)]);
        let owners: Vec<_> = (1..8).map(|number| forgotten.owner(number)).collect();
        let three = Some(3);
        assert_eq!(owners, [three, three, three, Some(4), None, None, Some(7)]);
        assert!(forgotten.has_deleted() && !Forgotten::new(vec![(1, Some(2))]).has_deleted());
        let people = RoaringBitmap::from_iter([1, 4, 5, 6]);
        let followed: Vec<u32> = forgotten.followed(&people).iter().collect();
        assert_eq!(followed, [3, 4]);
    }
}
