//! How much memory requests that are handed on as they came may take together.

use std::fmt;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What is counted at once, in bytes.
const UNIT: usize = 1 << 10;

/// Memory that is lent. Set by `app_data(web::Data::new(Budget::of(..)))`; without it there is no limit.
#[derive(Debug, Clone)]
pub struct Budget(Arc<Semaphore>);

/// Memory that was lent, given back when it is dropped.
pub struct Lent(OwnedSemaphorePermit);

impl fmt::Debug for Lent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.num_permits() * UNIT)
    }
}

impl Budget {
    /// So many bytes in all.
    pub fn of(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new(bytes / UNIT)))
    }

    /// Lends at least so many bytes, or nothing where not as many are left.
    pub fn lend(&self, bytes: usize) -> Option<Lent> {
        let units = u32::try_from(bytes.div_ceil(UNIT)).ok()?;
        let permit = Arc::clone(&self.0).try_acquire_many_owned(units);
        permit.ok().map(Lent)
    }
}

impl Lent {
    /// Gives both back together.
    pub fn and(&mut self, other: Self) {
        self.0.merge(other.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lent_comes_back() {
        let budget = Budget::of(10 << 10);
        let mut lent = budget.lend(8 << 10).unwrap();
        assert!(budget.lend(3 << 10).is_none());
        lent.and(budget.lend(1).unwrap());
        assert!(budget.lend(2 << 10).is_none());
        drop(lent);
        assert!(budget.lend(10 << 10).is_some());
    }
}
