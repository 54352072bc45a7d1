//! A bound on the memory that raw bodies take together.

use std::fmt;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes per permit of the semaphore.
const UNIT: usize = 1 << 10;

/// Memory that requests share. Set it with `app_data(web::Data::new(MemoryBudget::new(..)))`; without it there is no bound.
#[derive(Debug, Clone)]
pub struct MemoryBudget(Arc<Semaphore>);

/// A part of a [`MemoryBudget`]. Dropping it returns the memory.
pub struct Reservation(OwnedSemaphorePermit);

impl fmt::Debug for Reservation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.num_permits() * UNIT)
    }
}

impl MemoryBudget {
    /// A budget of `bytes`, rounded down to KiB.
    pub fn new(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new(bytes / UNIT)))
    }

    /// Reserves `bytes`, rounded up to KiB, without waiting. Returns `None` if less is available.
    pub fn reserve(&self, bytes: usize) -> Option<Reservation> {
        let units = u32::try_from(bytes.div_ceil(UNIT)).ok()?;
        let permit = Arc::clone(&self.0).try_acquire_many_owned(units);
        permit.ok().map(Reservation)
    }
}

impl Reservation {
    /// Adds `other`, a reservation of the same budget.
    ///
    /// # Panics
    ///
    /// Panics if `other` is from another budget.
    pub fn merge(&mut self, other: Self) {
        self.0.merge(other.0);
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
        drop(reservation);
        assert!(budget.reserve(10 << 10).is_some());
    }
}
