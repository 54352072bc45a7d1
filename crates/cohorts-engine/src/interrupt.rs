//! Stopping an evaluation that takes too long.
//!
//! The engine has no clock. It counts its work and calls [`Interrupt::interrupt`] every few
//! milliseconds; the caller decides there whether the evaluation continues.

use std::cell::Cell;

/// A point at which the caller may stop an evaluation.
pub trait Interrupt {
    /// The reason why an evaluation ends early.
    type Error;

    /// Returns an error if the evaluation must end. The engine calls it every few milliseconds
    /// of work on one thread.
    ///
    /// # Errors
    ///
    /// An error ends the evaluation, which returns the same error. The default never fails.
    fn interrupt(&self) -> Result<(), Self::Error> {
        Ok(())
    }
}

/// Counts work, in units of about ten nanoseconds, and interrupts when a step is complete.
pub(crate) struct Meter<'a, I> {
    interrupt: &'a I,
    spent: Cell<u64>,
}

impl<'a, I: Interrupt> Meter<'a, I> {
    /// The work between two interrupts.
    const STEP: u64 = 200_000;

    pub fn new(interrupt: &'a I) -> Meter<'a, I> {
        Meter {
            interrupt,
            spent: Cell::new(0),
        }
    }

    /// Adds `work`, and interrupts if a step is complete.
    #[inline]
    pub fn spend(&self, work: u64) -> Result<(), I::Error> {
        let spent = self.spent.get() + work;
        if spent < Self::STEP {
            self.spent.set(spent);
            return Ok(());
        }
        self.spent.set(0);
        self.interrupt.interrupt()
    }
}
