//! When threads look into the database for work that no signal of this process tells them of.
//!
//! Other processes request work too, and some work is due at a time. While hints of other processes arrive, a thread looks
//! every five seconds, at each due time, and soon after each write or hint; otherwise it looks again and again. So an idle
//! service sends few statements.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use parking_lot::Mutex;

/// The pause between two looks while hints arrive and nothing is written.
const IDLE: Duration = Duration::from_secs(5);
/// Rows are due after their time, not at it.
const MARGIN: TimeDelta = TimeDelta::milliseconds(1);

/// The looks of all kinds. Clones share them.
#[derive(Clone)]
pub struct Looks {
    /// For waiting cohorts.
    pub calculations: LookTimes,
    /// For due cohorts, and for counts of cohorts.
    pub upkeep: LookTimes,
    /// For webhooks with changes.
    pub webhooks: LookTimes,
    has_hints: Arc<AtomicBool>,
}

impl Default for Looks {
    fn default() -> Self {
        let has_hints = Arc::default();
        let times = |busy| LookTimes::new(Duration::from_millis(busy), &has_hints);
        Self {
            calculations: times(1_000),
            upkeep: times(1_000),
            webhooks: times(500),
            has_hints,
        }
    }
}

impl Looks {
    /// Something was written: by this process, or by another one that has sent a hint.
    pub fn soon(&self) {
        for times in [&self.calculations, &self.upkeep, &self.webhooks] {
            times.soon();
        }
    }

    /// Whether hints of other processes arrive from now on.
    pub fn set_hints(&self, arrive: bool) {
        if self.has_hints.swap(arrive, Ordering::Relaxed) && !arrive {
            self.soon();
        }
    }
}

/// The times of the looks of one kind, which some threads share. Clones share them.
#[derive(Clone)]
pub struct LookTimes {
    state: Arc<Mutex<LookState>>,
    has_hints: Arc<AtomicBool>,
    /// The pause between two looks without hints, and the shortest pause with hints.
    busy: Duration,
}

struct LookState {
    /// `None` before the first look.
    last: Option<Instant>,
    next: Instant,
}

impl LookTimes {
    fn new(busy: Duration, has_hints: &Arc<AtomicBool>) -> Self {
        let state = LookState {
            last: None,
            next: Instant::now(),
        };
        Self {
            state: Arc::new(Mutex::new(state)),
            has_hints: Arc::clone(has_hints),
            busy,
        }
    }

    /// Takes the look that is due now, for one thread only. Returns false if none is due.
    pub fn take(&self) -> bool {
        self.take_at(Instant::now())
    }

    fn take_at(&self, now: Instant) -> bool {
        let mut state = self.state.lock();
        if now < state.next {
            return false;
        }
        let has_hints = self.has_hints.load(Ordering::Relaxed);
        state.last = Some(now);
        state.next = now + if has_hints { IDLE } else { self.busy };
        true
    }

    /// The time until the next look, at most `limit`.
    pub fn pause(&self, limit: Duration) -> Duration {
        let next = self.state.lock().next;
        next.saturating_duration_since(Instant::now()).min(limit)
    }

    /// Lets the next look be now: another thread may find work too.
    pub fn now(&self) {
        self.state.lock().next = Instant::now();
    }

    /// Lets the next look be soon, at least the shortest pause after the last one.
    pub fn soon(&self) {
        self.at(Instant::now());
    }

    /// Lets the next look be at a time at which work is due, or soon if the time is over.
    pub fn due(&self, time: DateTime<Utc>) {
        let pause = (time + MARGIN - Utc::now()).to_std();
        self.at(Instant::now() + pause.unwrap_or_default().min(IDLE));
    }

    fn at(&self, time: Instant) {
        let mut state = self.state.lock();
        let earliest = state.last.map_or(time, |last| last + self.busy);
        state.next = state.next.min(time.max(earliest));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUSY: Duration = Duration::from_secs(1);

    fn looks(has_hints: bool) -> (Looks, LookTimes, Instant) {
        let looks = Looks::default();
        looks.set_hints(has_hints);
        let (times, start) = (looks.calculations.clone(), Instant::now() + IDLE);
        assert!(times.take_at(start));
        (looks, times, start)
    }

    #[test]
    fn looks_are_rare_while_hints_arrive() {
        let (looks, times, start) = looks(true);
        assert!(!times.take_at(start + IDLE - BUSY));
        assert!(times.take_at(start + IDLE));
        assert!(!times.take_at(start + IDLE), "another thread has taken it");
        looks.set_hints(false);
        assert!(times.take_at(start + IDLE + BUSY), "hints end");
        assert!(times.take_at(start + IDLE + BUSY * 2), "no hints");
    }

    #[test]
    fn a_write_brings_the_next_look_forward_and_many_writes_do_not_make_it_frequent() {
        let (looks, times, start) = looks(true);
        for _ in 0..3 {
            looks.soon();
            assert!(!times.take_at(start + BUSY / 2));
        }
        assert!(times.take_at(start + BUSY));
        times.now();
        assert!(times.take_at(start + BUSY));
    }

    #[test]
    fn a_look_is_taken_when_work_is_due() {
        let (_, times, start) = looks(true);
        times.at(start + BUSY * 3);
        times.at(start + BUSY * 4);
        assert!(!times.take_at(start + BUSY * 2));
        assert!(times.take_at(start + BUSY * 3));
        times.at(start);
        assert!(!times.take_at(start + BUSY * 3), "work that is late");
        assert!(times.take_at(start + BUSY * 4));
    }

    #[test]
    fn a_time_of_the_database_is_a_time_of_a_look() {
        let looks = Looks::default();
        let (times, before) = (looks.webhooks, Instant::now());
        times.state.lock().next = before + IDLE * 2;
        times.due(Utc::now() + TimeDelta::seconds(3));
        let next = times.state.lock().next;
        let due = Duration::from_secs(3);
        assert!(next >= before + due && next <= Instant::now() + due + IDLE / 10);
        times.due(DateTime::UNIX_EPOCH);
        assert!(times.take());
    }
}
