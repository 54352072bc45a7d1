//! Bounds on the memory that requests take together.
//!
//! Code reserves memory before it allocates it. A budget may have parts, so that one kind of work, or one caller, never
//! takes all of it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use actix_web::rt::time::timeout;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

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
    /// Notified when memory is returned to this budget or to a part of it.
    returned: Notify,
}

/// A part of a [`MemoryBudget`]. Dropping it returns the memory.
///
/// It contains one permit of the budget and one of each budget that contains it.
pub struct Reservation {
    permits: Vec<OwnedSemaphorePermit>,
    budget: MemoryBudget,
}

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
        let returned = Notify::new();
        Self(Arc::new(Node {
            units,
            free,
            whole,
            returned,
        }))
    }

    /// Reserves `bytes`, rounded up to KiB, without waiting. Returns `None` if less is available.
    pub fn reserve(&self, bytes: usize) -> Option<Reservation> {
        let units = u32::try_from(bytes.div_ceil(UNIT)).ok()?;
        let mut permits = Vec::with_capacity(2);
        for node in self.chain() {
            let permit = Arc::clone(&node.free).try_acquire_many_owned(units);
            permits.push(permit.ok()?);
        }
        Some(self.reservation(permits))
    }

    fn reservation(&self, permits: Vec<OwnedSemaphorePermit>) -> Reservation {
        let budget = self.clone();
        Reservation { permits, budget }
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
            Some(self.reservation(permits))
        };
        timeout(wait, reserve).await.ok().flatten()
    }

    /// As [`reserve_within`](Self::reserve_within), but takes none of the memory before all of it is available: other
    /// callers are not delayed, and may be first.
    pub async fn reserve_when_free(&self, bytes: usize, wait: Duration) -> Option<Reservation> {
        if self.chain().any(|node| node.units < bytes.div_ceil(UNIT)) {
            return None;
        }
        let outermost = self.chain().last()?;
        let reserve = async {
            loop {
                // Created first, so that memory that is returned after the attempt is noticed.
                let returned = outermost.returned.notified();
                if let Some(reservation) = self.reserve(bytes) {
                    return reservation;
                }
                returned.await;
            }
        };
        timeout(wait, reserve).await.ok()
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
        Arc::strong_count(&self.0) == 1
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
        let first = self.permits.first();
        first.map_or(0, |permit| permit.num_permits() * UNIT)
    }

    /// Adds `other`, a reservation of the same budget.
    ///
    /// # Panics
    ///
    /// Panics if `other` is from another budget.
    pub fn merge(&mut self, mut other: Self) {
        let is_same = Arc::ptr_eq(&self.budget.0, &other.budget.0);
        assert!(is_same, "reservations of two budgets");
        for (permit, more) in self.permits.iter_mut().zip(other.permits.drain(..)) {
            permit.merge(more);
        }
    }

    /// Returns the memory beyond `bytes`, rounded up to KiB.
    pub fn shrink_to(&mut self, bytes: usize) {
        for permit in &mut self.permits {
            let rest = permit.num_permits().saturating_sub(bytes.div_ceil(UNIT));
            drop(permit.split(rest));
        }
        self.notify();
    }

    fn notify(&self) {
        if let Some(outermost) = self.budget.chain().last() {
            outermost.returned.notify_waiters();
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.permits.clear();
        self.notify();
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

    #[actix_web::test]
    async fn memory_that_a_caller_waits_for_remains_free_for_others() {
        let whole = MemoryBudget::new(10 << 10);
        let (part, other) = (whole.part(8 << 10), whole.part(8 << 10));
        assert!(
            part.reserve_when_free(9 << 10, Duration::MAX)
                .await
                .is_none()
        );
        assert!(
            part.reserve_when_free(8 << 10, Duration::MAX)
                .await
                .is_some()
        );
        let reservation = other.reserve(4 << 10).unwrap();
        let mut waiting = Box::pin(part.reserve_when_free(8 << 10, Duration::MAX));
        assert!(futures::poll!(&mut waiting).is_pending());
        assert!(other.reserve(4 << 10).is_some());
        assert!(futures::poll!(&mut waiting).is_pending());
        drop(reservation);
        assert_eq!(waiting.await.unwrap().bytes(), 8 << 10);
        assert!(part.is_unused() && other.is_unused());
    }
}
