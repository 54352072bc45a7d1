//! The memory in which one body is decoded.
//!
//! Small bodies are decoded at once, within few bytes. A body that needs more is decoded again in its turn: one body at a
//! time, so that its memory becomes free when earlier requests are committed. The turns are fair to projects and peers, and
//! the large bodies never take all of the memory.

use std::time::Duration;

use cohorts_api::{MemoryBudget, Reservation};
use tokio::runtime::Handle;

use crate::error::Error;
use crate::handlers::RequestMemory;

/// The part of the memory of events that one body takes without a turn.
const SMALL_PART: usize = 32;
/// How long a body in its turn waits for memory.
const WAIT: Duration = Duration::from_secs(20);

/// The memory of one body while it is decoded.
pub struct DecodingMemory {
    /// A budget of this body alone.
    budget: MemoryBudget,
    wait: Duration,
}

impl DecodingMemory {
    /// Few bytes, which are reserved without waiting.
    pub fn small(memory: &RequestMemory) -> Self {
        let events = &memory.events;
        Self::new(events.part(events.capacity() / SMALL_PART), Duration::ZERO)
    }

    /// The memory for large bodies. Only one body at a time may have it, on a thread that may block.
    pub fn in_turn(memory: &RequestMemory) -> Self {
        let large = &memory.large_events;
        Self::new(large.part(large.capacity()), WAIT)
    }

    pub fn new(budget: MemoryBudget, wait: Duration) -> Self {
        Self { budget, wait }
    }

    /// Reserves memory before it is allocated.
    ///
    /// # Errors
    ///
    /// Fails with [`Error::TooManyEvents`] if the body would have more than this memory.
    pub fn reserve(&self, bytes: usize) -> Result<Reservation, Error> {
        if self.budget.used() + bytes > self.budget.capacity() {
            return Err(Error::TooManyEvents);
        }
        if let Some(reservation) = self.budget.reserve(bytes) {
            return Ok(reservation);
        }
        if self.wait.is_zero() {
            return Err(Error::Overloaded);
        }
        let waiting = self.budget.reserve_when_free(bytes, self.wait);
        Handle::current().block_on(waiting).ok_or(Error::Overloaded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_needs_a_turn_for_more_than_a_small_part() {
        let memory = RequestMemory::new(256 << 20);
        let small = DecodingMemory::small(&memory);
        let held = small.reserve(3 << 20).unwrap();
        assert!(small.reserve(1 << 20).is_ok());
        assert!(matches!(small.reserve(2 << 20), Err(Error::TooManyEvents)));
        assert!(DecodingMemory::small(&memory).reserve(2 << 20).is_ok());
        drop(held);
        let large = DecodingMemory::in_turn(&memory);
        let held = large.reserve(96 << 20).unwrap();
        assert!(matches!(large.reserve(1), Err(Error::TooManyEvents)));
        // The others keep a part of the memory.
        assert!(DecodingMemory::small(&memory).reserve(3 << 20).is_ok());
        drop(held);
    }

    #[actix_web::test]
    async fn a_body_in_its_turn_waits_until_earlier_ones_are_committed() {
        let memory = RequestMemory::new(256 << 20);
        let earlier = DecodingMemory::in_turn(&memory).reserve(60 << 20).unwrap();
        let next = DecodingMemory::in_turn(&memory);
        let next = actix_web::web::block(move || next.reserve(60 << 20).map(drop));
        let release = async { drop(earlier) };
        let (next, ()) = futures::join!(next, release);
        next.unwrap().unwrap();
    }
}
