//! The minimum rate at which a body must arrive, and its time limit.

use std::cell::Cell;
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use actix_web::rt::time::{Instant, timeout};

use super::super::Rejection;

/// Bytes per second.
const MINIMUM_RATE: u32 = 8 << 10;
/// The time in which a body need not have the minimum rate.
const GRACE: Duration = Duration::from_secs(10);
/// The same, while the memory for bodies is scarce.
const SHORT_GRACE: Duration = Duration::from_secs(2);
/// How often the scarcity is checked.
const TICK: Duration = Duration::from_secs(1);
/// Time limit of a body without files.
pub(super) const BODY_TIMEOUT: Duration = Duration::from_secs(60);
/// Time limit of a file.
const FILE_TIMEOUT: Duration = Duration::from_secs(900);

/// The progress of a body.
pub(crate) struct Pace {
    start: Instant,
    limit: Duration,
    received: Rc<Cell<usize>>,
    /// The bytes that had arrived at the start.
    before: usize,
}

impl Pace {
    pub(crate) fn new() -> Self {
        Self {
            start: Instant::now(),
            limit: BODY_TIMEOUT,
            received: Rc::default(),
            before: 0,
        }
    }

    /// The bytes that have arrived. The stream of the body counts them.
    pub(super) fn counter(&self) -> Rc<Cell<usize>> {
        Rc::clone(&self.received)
    }

    /// Starts the time of a file. The time before it does not count.
    pub(crate) fn start_file(&mut self) {
        self.start = Instant::now();
        self.limit = FILE_TIMEOUT;
        self.before = self.received.get();
    }

    /// Waits for more of the body, as long as it has the minimum rate.
    pub(crate) async fn wait<T>(
        &self,
        is_scarce: impl Fn() -> bool,
        more: impl Future<Output = T>,
    ) -> Result<T, Rejection> {
        let mut more = std::pin::pin!(more);
        loop {
            let rest = self.deadline(is_scarce()) - Instant::now();
            if let Ok(more) = timeout(rest.min(TICK), &mut more).await {
                return Ok(more);
            }
            if self.deadline(is_scarce()) <= Instant::now() {
                return Err(Rejection::Timeout);
            }
        }
    }

    fn deadline(&self, is_scarce: bool) -> Instant {
        let grace = if is_scarce { SHORT_GRACE } else { GRACE };
        let arrived = self.received.get() - self.before;
        let earned = Duration::from_secs_f64(arrived as f64 / f64::from(MINIMUM_RATE));
        self.start + (grace + earned).min(self.limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[actix_web::test]
    async fn each_byte_earns_time_up_to_the_limit() {
        let mut pace = Pace::new();
        let time = |pace: &Pace, is_scarce| (pace.deadline(is_scarce) - pace.start).as_secs();
        assert_eq!((time(&pace, false), time(&pace, true)), (10, 2));
        pace.counter().set(80 << 10);
        assert_eq!((time(&pace, false), time(&pace, true)), (20, 12));
        pace.counter().set(8 << 20);
        assert_eq!((time(&pace, false), time(&pace, true)), (60, 60));
        pace.start_file();
        assert_eq!(time(&pace, false), 10);
        pace.counter().set(72 << 20);
        assert_eq!(time(&pace, false), 900);
    }

    #[actix_web::test]
    async fn a_body_that_does_not_progress_is_rejected() {
        let pace = Pace {
            limit: Duration::ZERO,
            ..Pace::new()
        };
        let silent = std::future::pending::<()>();
        assert_eq!(pace.wait(|| false, silent).await, Err(Rejection::Timeout));
        assert_eq!(pace.wait(|| false, async { 7 }).await, Ok(7));
    }
}
