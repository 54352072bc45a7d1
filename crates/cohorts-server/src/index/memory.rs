//! The memory that running reads take besides the index, under the same budget.
//!
//! A read reserves memory before it takes it, and releases it when it ends. If the reservations of all reads would exceed
//! the budget, the read fails with `OverBudget`, and its plan is evaluated for ranges of persons.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The memory of everything that shares the budget with the index, in bytes.
#[derive(Debug, Default)]
pub struct MemoryUse {
    /// Blocks that are being loaded, and are not in the index yet.
    loading: AtomicU64,
    /// Blocks and results that evaluations keep. The blocks are usually in the index too.
    held: AtomicU64,
    pub distinct_ids: AtomicU64,
    /// The members of cohorts.
    pub members: AtomicU64,
}

impl MemoryUse {
    /// The memory to leave free in the index: that of other caches and of blocks that are being loaded.
    pub fn besides_index(&self) -> u64 {
        let parts = [&self.loading, &self.distinct_ids, &self.members];
        parts.iter().map(|part| part.load(Ordering::Relaxed)).sum()
    }

    fn reserved(&self) -> u64 {
        self.loading.load(Ordering::Relaxed) + self.held.load(Ordering::Relaxed)
    }
}

/// The memory that one read has reserved. Dropping it releases the memory.
#[derive(Debug)]
pub struct Reservation {
    memory: Arc<MemoryUse>,
    loading: Cell<u64>,
    held: Cell<u64>,
}

impl Reservation {
    pub fn new(memory: &Arc<MemoryUse>) -> Self {
        Self {
            memory: Arc::clone(memory),
            loading: Cell::default(),
            held: Cell::default(),
        }
    }

    /// Reserves `bytes` for a block that is being loaded, in place of the last such reservation. Returns whether all
    /// reservations fit into `limit`.
    pub fn set_loading(&self, bytes: u64, limit: u64) -> bool {
        self.set(&self.loading, &self.memory.loading, bytes, limit)
    }

    /// Reserves `bytes` for what an evaluation keeps, at least as much as before. Returns whether all reservations fit
    /// into `limit`.
    pub fn hold(&self, bytes: u64, limit: u64) -> bool {
        let bytes = bytes.max(self.held.get());
        self.set(&self.held, &self.memory.held, bytes, limit)
    }

    fn set(&self, own: &Cell<u64>, all: &AtomicU64, bytes: u64, limit: u64) -> bool {
        let before = own.replace(bytes);
        all.fetch_add(bytes.wrapping_sub(before), Ordering::Relaxed);
        if bytes <= before || self.memory.reserved() <= limit {
            return true;
        }
        own.set(before);
        all.fetch_sub(bytes.wrapping_sub(before), Ordering::Relaxed);
        false
    }

    /// Releases the memory of a loaded block, which the index counts from now on.
    pub fn release_loading(&self) {
        self.set_loading(0, 0);
    }

    pub fn release(&self) {
        self.release_loading();
        self.set(&self.held, &self.memory.held, 0, 0);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.release();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reservations_of_all_reads_share_a_limit() {
        let memory = Arc::default();
        let (first, second) = (Reservation::new(&memory), Reservation::new(&memory));
        assert!(first.hold(60, 100) && second.set_loading(40, 100));
        assert!(!second.set_loading(41, 100) && !first.hold(61, 100));
        assert_eq!((memory.reserved(), memory.besides_index()), (100, 40));
        // Less than before always fits, and an evaluation keeps its largest reservation.
        assert!(second.set_loading(30, 10) && first.hold(5, 10));
        assert_eq!(memory.reserved(), 90);
        second.release_loading();
        assert!(second.hold(40, 100));
        drop(first);
        assert_eq!(memory.reserved(), 40);
        drop(second);
        assert_eq!(memory.reserved(), 0);
    }
}
