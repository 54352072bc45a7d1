//! The order in which people are shown: the one created last first, of those created together the higher number.
//!
//! The order of a project's people is kept in memory, so that a page costs the same at any depth. What is kept is
//! checked by the number of the log's last batch, and brought up to date by the people whom later batches changed.

use std::sync::{Arc, Mutex, MutexGuard};

use chrono::{DateTime, Utc};
use diesel::pg::PgRowByRowLoadingMode;
use diesel::prelude::*;
use quick_cache::Weighter;
use quick_cache::unsync::Cache;
use roaring::RoaringBitmap;

use super::schema::persons;
use super::{Conn, ShardKey, events, tombstones};
use crate::error::Error;

/// What all orders that are kept may take together, in bytes: some thirteen million people.
const BUDGET: u64 = 256 << 20;
/// Orders that are kept, about.
const ORDERS: usize = 1_000;

/// Where a person stands: the microsecond of creation, and the number.
pub type Standing = (i64, u32);

/// The people of a project in the order in which they are shown.
#[derive(Debug, Default)]
pub struct Order {
    people: Vec<Standing>,
    /// Where each number is in `people`; `NOWHERE` if it is nobody's.
    positions: Vec<u32>,
}

const NOWHERE: u32 = u32::MAX;

impl Order {
    /// A number is there once.
    fn new(mut people: Vec<Standing>) -> Self {
        // Most of them are in order already, which this sort makes use of.
        people.sort_by(|one, other| other.cmp(one));
        let length = people.iter().map(|(_, number)| *number as usize + 1).max();
        let mut positions = vec![NOWHERE; length.unwrap_or(0)];
        for (position, (_, number)) in people.iter().enumerate() {
            positions[*number as usize] = position as u32;
        }
        Self { people, positions }
    }

    fn position(&self, number: u32) -> Option<u32> {
        let position = *self.positions.get(number as usize)?;
        (position != NOWHERE).then_some(position)
    }

    /// The order after some people changed and some are gone; nothing if it is the same.
    fn after(&self, changed: Vec<Standing>, gone: &RoaringBitmap) -> Option<Self> {
        let new = changed.into_iter().filter(|(created, number)| {
            let former = self.position(*number);
            former.is_none_or(|position| self.at(position).0 != *created)
        });
        let new: Vec<Standing> = new.collect();
        let moved: RoaringBitmap = new.iter().map(|(_, number)| *number).collect();
        let goes = |number: u32| moved.contains(number) || gone.contains(number);
        if new.is_empty() && !gone.iter().any(|number| self.position(number).is_some()) {
            return None;
        }
        let mut people = self.people.clone();
        people.retain(|(_, number)| !goes(*number));
        people.extend(new);
        Some(Self::new(people))
    }

    /// Everybody, by position.
    pub fn everyone(&self) -> RoaringBitmap {
        let mut all = RoaringBitmap::new();
        all.insert_range(0..self.people.len() as u32);
        all
    }

    /// Where these people stand. Those who are not in the project are nowhere.
    pub fn positions(&self, people: &RoaringBitmap) -> RoaringBitmap {
        let mut bits = vec![0_u8; self.people.len().div_ceil(8)];
        let (mut rest, mut some) = (people.iter(), [0; 1_024]);
        loop {
            // Many at once, since each by itself takes longer.
            let numbers = rest.next_many(&mut some);
            if numbers.is_empty() {
                break;
            }
            for position in numbers.iter().filter_map(|number| self.position(*number)) {
                bits[position as usize / 8] |= 1 << (position % 8);
            }
        }
        RoaringBitmap::from_lsb0_bytes(0, &bits)
    }

    /// Who stands at a position that `positions` gave.
    pub fn at(&self, position: u32) -> Standing {
        self.people[position as usize]
    }

    /// The first position behind somebody, whether or not they are still there.
    pub fn behind(&self, standing: Standing) -> u32 {
        self.people.partition_point(|one| *one >= standing) as u32
    }
}

/// An order, and the last batch of the log that it knows.
type Kept = (i64, Arc<Order>);

/// The orders that are kept, by place.
#[derive(Debug)]
pub struct Orders(Mutex<Cache<ShardKey, Kept, ByMemory>>);

#[derive(Clone, Debug)]
struct ByMemory;

impl Weighter<ShardKey, Kept> for ByMemory {
    fn weight(&self, _: &ShardKey, (_, order): &Kept) -> u64 {
        let people = order.people.len() * size_of::<Standing>();
        (people + order.positions.len() * size_of::<u32>()).max(1) as u64
    }
}

impl Default for Orders {
    fn default() -> Self {
        Self(Mutex::new(Cache::with_weighter(ORDERS, BUDGET, ByMemory)))
    }
}

impl Orders {
    /// The order of the people whom the connection sees, at least: the kept one may know of later ones.
    pub fn of(&self, conn: &mut Conn, place: ShardKey) -> Result<Arc<Order>, Error> {
        let head = events::log_head(conn, place)?;
        let kept = self.kept().get(&place).cloned();
        let order = match kept {
            Some((known, order)) if known >= head => return Ok(order),
            Some((known, order)) => {
                let changed = standings(conn, place, known)?;
                let gone = tombstones::since(conn, place, known)?.gone;
                order.after(changed, &gone).map_or(order, Arc::new)
            }
            None => Arc::new(Order::new(standings(conn, place, -1)?)),
        };
        self.kept().insert(place, (head, Arc::clone(&order)));
        Ok(order)
    }

    fn kept(&self) -> MutexGuard<'_, Cache<ShardKey, Kept, ByMemory>> {
        self.0
            .lock()
            .expect("nothing panics while it holds the orders")
    }
}

/// The people who were made or changed in batches after that one.
fn standings(conn: &mut Conn, place: ShardKey, since: i64) -> Result<Vec<Standing>, Error> {
    let rows = persons::table
        .filter(persons::place.eq(place.0).and(persons::seq.gt(since)))
        .select((persons::created_at, persons::number))
        .load_iter::<(DateTime<Utc>, i64), PgRowByRowLoadingMode>(conn)?;
    rows.map(|row| {
        let (created, number) = row?;
        let number = u32::try_from(number).map_err(anyhow::Error::from)?;
        Ok((created.timestamp_micros(), number))
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(order: &Order, positions: &RoaringBitmap) -> Vec<u32> {
        positions.iter().map(|at| order.at(at).1).collect()
    }

    #[test]
    fn an_order_of_many_people_is_kept() {
        let orders = Orders::default();
        let people = (0..8_000_000).map(|number| (0, number)).collect();
        let order = Arc::new(Order::new(people));
        orders.kept().insert(ShardKey(1), (1, order));
        assert!(orders.kept().get(&ShardKey(1)).is_some());
    }

    #[test]
    fn people_stand_by_creation_and_then_by_number_both_falling() {
        let order = Order::new(vec![(10, 0), (30, 1), (30, 4), (20, 2)]);
        assert_eq!(numbers(&order, &order.everyone()), [4, 1, 2, 0]);
        let some = RoaringBitmap::from_iter([0, 1, 3, 99]);
        assert_eq!(numbers(&order, &order.positions(&some)), [1, 0]);
    }

    #[test]
    fn behind_somebody_stand_those_who_are_shown_later() {
        let order = Order::new(vec![(10, 0), (30, 1), (20, 2)]);
        assert_eq!(order.behind((30, 1)), 1);
        assert_eq!(order.behind((25, 9)), 1, "somebody who is gone");
        assert_eq!(order.behind((10, 0)), 3);
        assert_eq!(order.behind((99, 0)), 0);
    }

    #[test]
    fn an_order_brought_up_to_date_is_the_one_made_anew() {
        let before = Order::new(vec![(10, 0), (30, 1), (20, 2)]);
        let gone = RoaringBitmap::from_iter([1]);
        let after = before.after(vec![(5, 2), (40, 3), (10, 0)], &gone).unwrap();
        assert_eq!(numbers(&after, &after.everyone()), [3, 0, 2]);
        assert_eq!(after.position(1), None);
        let nobody = RoaringBitmap::new();
        assert!(before.after(vec![(30, 1)], &nobody).is_none());
        assert!(after.after(Vec::new(), &gone).is_none());
    }
}
