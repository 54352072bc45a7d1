//! Bounds on the memory that requests take together.
//!
//! Code reserves memory before it allocates it. A budget may have parts, so that one kind of work, or one caller, never
//! takes all of it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use actix_web::rt::time::timeout;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes per permit of the semaphore.
const UNIT: usize = 1 << 10;

/// Memory that requests share.
///
/// Clones share everything.
#[derive(Debug, Clone)]
pub struct MemoryBudget(Arc<Node>);

#[derive(Debug)]
struct Node {
    units: usize,
    free: Arc<Semaphore>,
    whole: Option<MemoryBudget>,
}

/// A part of a [`MemoryBudget`]. Dropping it returns the memory.
///
/// It contains one permit of the budget and one of each budget that contains it.
pub struct Reservation(Vec<OwnedSemaphorePermit>);

impl fmt::Debug for Reservation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.bytes())
    }
}

impl MemoryBudget {
    /// A budget of `bytes`, rounded down to KiB.
    pub fn new(bytes: usize) -> Self {
        Self::within(None, bytes)
    }

    /// A budget of `bytes` inside of this one: its reservations count in both.
    ///
    /// The parts of a budget may be larger together than the budget itself.
    pub fn part(&self, bytes: usize) -> Self {
        Self::within(Some(self.clone()), bytes)
    }

    fn within(whole: Option<Self>, bytes: usize) -> Self {
        let units = (bytes / UNIT).min(Semaphore::MAX_PERMITS);
        let free = Arc::new(Semaphore::new(units));
        Self(Arc::new(Node { units, free, whole }))
    }

    /// Reserves `bytes`, rounded up to KiB, without waiting. Returns `None` if less is available.
    pub fn reserve(&self, bytes: usize) -> Option<Reservation> {
        let units = u32::try_from(bytes.div_ceil(UNIT)).ok()?;
        let mut permits = Vec::with_capacity(2);
        for node in self.chain() {
            let permit = Arc::clone(&node.free).try_acquire_many_owned(units);
            permits.push(permit.ok()?);
        }
        Some(Reservation(permits))
    }

    /// Reserves `bytes`, rounded up to KiB, and waits up to `wait` for them, in the order of the callers.
    ///
    /// Returns `None` if they do not become available in that time, or exceed the budget.
    pub async fn reserve_within(&self, bytes: usize, wait: Duration) -> Option<Reservation> {
        let units = u32::try_from(bytes.div_ceil(UNIT)).ok()?;
        if self.chain().any(|node| node.units < bytes.div_ceil(UNIT)) {
            return None;
        }
        let reserve = async {
            let mut permits = Vec::with_capacity(2);
            for node in self.chain() {
                let permit = Arc::clone(&node.free).acquire_many_owned(units).await;
                permits.push(permit.ok()?);
            }
            Some(Reservation(permits))
        };
        timeout(wait, reserve).await.ok().flatten()
    }

    /// The size in bytes.
    pub fn capacity(&self) -> usize {
        self.0.units * UNIT
    }

    /// Whether more than half of the memory is reserved.
    pub fn is_scarce(&self) -> bool {
        self.used() > self.capacity() / 2
    }

    /// Whether this is the only clone and nothing is reserved, so that dropping it loses no count.
    pub fn is_unused(&self) -> bool {
        Arc::strong_count(&self.0) == 1 && self.used() == 0
    }

    /// The reserved bytes, with those of all parts.
    pub fn used(&self) -> usize {
        (self.0.units - self.0.free.available_permits()) * UNIT
    }

    /// This budget, the budget that contains it, and so on.
    fn chain(&self) -> impl Iterator<Item = &Node> {
        std::iter::successors(Some(&*self.0), |node| Some(&*node.whole.as_ref()?.0))
    }
}

impl Reservation {
    /// The reserved bytes.
    pub fn bytes(&self) -> usize {
        self.0
            .first()
            .map_or(0, |permit| permit.num_permits() * UNIT)
    }

    /// Adds `other`, a reservation of the same budget.
    ///
    /// # Panics
    ///
    /// Panics if `other` is from another budget.
    pub fn merge(&mut self, other: Self) {
        assert_eq!(self.0.len(), other.0.len(), "reservations of two budgets");
        for (permit, more) in self.0.iter_mut().zip(other.0) {
            permit.merge(more);
        }
    }

    /// Returns the memory beyond `bytes`, rounded up to KiB.
    pub fn shrink_to(&mut self, bytes: usize) {
        for permit in &mut self.0 {
            let rest = permit.num_permits().saturating_sub(bytes.div_ceil(UNIT));
            drop(permit.split(rest));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropped_reservation_returns_its_memory() {
        let budget = MemoryBudget::new(10 << 10);
        let mut reservation = budget.reserve(8 << 10).unwrap();
        assert!(budget.reserve(3 << 10).is_none());
        reservation.merge(budget.reserve(1).unwrap());
        assert!(budget.reserve(2 << 10).is_none());
        assert_eq!((reservation.bytes(), budget.used()), (9 << 10, 9 << 10));
        reservation.shrink_to(1 << 10);
        assert_eq!((reservation.bytes(), budget.used()), (1 << 10, 1 << 10));
        drop(reservation);
        assert!(budget.reserve(10 << 10).is_some());
    }

    #[test]
    fn part_is_bounded_by_itself_and_by_the_whole() {
        let whole = MemoryBudget::new(10 << 10);
        let (first, second) = (whole.part(8 << 10), whole.part(8 << 10));
        assert!(first.reserve(9 << 10).is_none());
        let reservation = first.reserve(8 << 10).unwrap();
        assert!(second.reserve(3 << 10).is_none());
        assert_eq!((whole.used(), second.used()), (8 << 10, 0));
        drop(reservation);
        assert!(second.reserve(3 << 10).is_some());
        assert_eq!(whole.used(), 0);
    }

    #[actix_web::test]
    async fn waiting_caller_receives_memory_that_is_returned() {
        let budget = MemoryBudget::new(10 << 10);
        let reservation = budget.reserve(8 << 10).unwrap();
        assert!(
            budget
                .reserve_within(11 << 10, Duration::MAX)
                .await
                .is_none()
        );
        assert!(
            budget
                .reserve_within(3 << 10, Duration::ZERO)
                .await
                .is_none()
        );
        let release = async { drop(reservation) };
        let (waiting, ()) = futures::join!(budget.reserve_within(9 << 10, Duration::MAX), release);
        assert_eq!(waiting.unwrap().bytes(), 9 << 10);
    }
}
