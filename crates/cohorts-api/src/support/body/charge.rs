//! The memory of one body, which is reserved before it is allocated.

use std::time::Duration;

use super::super::memory::{MemoryBudget, Reservation};
use super::super::{Rejection, SMALL_BODY};

/// Bytes that a request takes in addition to its body.
const OVERHEAD: usize = 4 << 10;
/// Bytes of the first reservation for a body. Each further one doubles the body's size.
const MIN_STEP: usize = 1 << 10;
/// How long a small body waits for memory. Large ones do not wait, because their memory is shared by fewer callers.
const WAIT: Duration = Duration::from_secs(2);

/// The budgets from which the memory of a body is reserved. `None` is no bound.
#[derive(Debug, Clone, Default)]
pub struct BodyMemory {
    /// For the first 64 KiB of each body.
    pub small: Option<MemoryBudget>,
    /// For the rest of larger bodies, and the share of one caller.
    pub large: Option<MemoryBudget>,
    /// For the values that are parsed from a larger body with fields.
    pub parsing: Option<MemoryBudget>,
}

/// The memory of a body. Dropping it returns the memory.
#[derive(Debug, Default)]
pub struct BodyReservation(Vec<Reservation>);

/// The growing memory of a body that arrives.
#[derive(Default)]
pub(crate) struct BodyCharge {
    pub(super) memory: BodyMemory,
    held: BodyReservation,
    /// The bytes of the body for which memory is reserved.
    reserved: usize,
    has_overhead: bool,
}

impl BodyCharge {
    pub(crate) fn new(memory: BodyMemory) -> Self {
        Self {
            memory,
            ..Self::default()
        }
    }

    /// Whether unfinished bodies should end soon.
    pub(crate) fn is_scarce(&self) -> bool {
        self.memory
            .small
            .as_ref()
            .is_some_and(MemoryBudget::is_scarce)
    }

    /// Reserves memory for a body of `length` bytes, and some more for what follows, up to the `declared` length.
    /// Returns the bytes that are reserved.
    pub(crate) async fn grow(
        &mut self,
        length: usize,
        declared: Option<usize>,
    ) -> Result<usize, Rejection> {
        if length <= self.reserved {
            return Ok(self.reserved);
        }
        let ahead = length.max(2 * self.reserved).max(MIN_STEP);
        let next = declared.map_or(ahead, |declared| ahead.min(declared).max(length));
        let small = next.min(SMALL_BODY) - self.reserved.min(SMALL_BODY);
        let large = next.saturating_sub(SMALL_BODY) - self.reserved.saturating_sub(SMALL_BODY);
        self.reserve_small(small).await?;
        self.reserve_large(large)?;
        self.reserved = next;
        Ok(next)
    }

    /// The memory that is reserved.
    pub(crate) fn into_reservation(self) -> BodyReservation {
        self.held
    }

    /// Reserves the memory that a request takes before its body arrives.
    pub(crate) async fn start(&mut self) -> Result<(), Rejection> {
        if !self.has_overhead {
            self.reserve_small(OVERHEAD).await?;
            self.has_overhead = true;
        }
        Ok(())
    }

    async fn reserve_small(&mut self, bytes: usize) -> Result<(), Rejection> {
        let Some(budget) = self.memory.small.as_ref().filter(|_| bytes > 0) else {
            return Ok(());
        };
        let reservation = match budget.reserve(bytes) {
            Some(reservation) => Some(reservation),
            None => budget.reserve_within(bytes, WAIT).await,
        };
        let reservation = reservation.ok_or(Rejection::Overloaded)?;
        self.held.0.push(reservation);
        Ok(())
    }

    fn reserve_large(&mut self, bytes: usize) -> Result<(), Rejection> {
        let Some(budget) = self.memory.large.as_ref().filter(|_| bytes > 0) else {
            return Ok(());
        };
        let reservation = budget.reserve(bytes).ok_or(Rejection::LargeBodies)?;
        self.held.0.push(reservation);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory() -> BodyMemory {
        let whole = MemoryBudget::new(1 << 20);
        BodyMemory {
            small: Some(whole.clone()),
            large: Some(whole.part(256 << 10)),
            parsing: None,
        }
    }

    #[actix_web::test]
    async fn only_the_rest_of_a_large_body_is_charged_to_the_share_of_its_caller() {
        let memory = memory();
        let used = |budget: &Option<MemoryBudget>| budget.as_ref().map_or(0, MemoryBudget::used);
        let mut charge = BodyCharge::new(memory.clone());
        charge.start().await.unwrap();
        assert_eq!(used(&memory.small), 4 << 10);
        assert_eq!(charge.grow(10, None).await, Ok(1 << 10));
        assert_eq!(charge.grow(64 << 10, None).await, Ok(64 << 10));
        assert_eq!((used(&memory.small), used(&memory.large)), (68 << 10, 0));
        assert_eq!(charge.grow(65 << 10, None).await, Ok(128 << 10));
        assert_eq!(used(&memory.large), 64 << 10);
        let declared = Some(321 << 10);
        assert_eq!(
            charge.grow(300 << 10, declared).await,
            Ok(300 << 10),
            "no more than twice the length, nor more than declared"
        );
        let too_much = charge.grow(321 << 10, declared).await;
        assert_eq!(too_much, Err(Rejection::LargeBodies));
        // The share of a caller with large bodies does not bound its small ones.
        let mut other = BodyCharge::new(memory.clone());
        assert_eq!(other.grow(64 << 10, None).await, Ok(64 << 10));
        drop((charge, other));
        assert_eq!((used(&memory.small), used(&memory.large)), (0, 0));
    }
}
