//! A thread with regular work that another thread takes over if it does not get on.
//!
//! A statement on a worker of Citus that does not respond may not end before the worker returns. Work for other workers must
//! not wait for it.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::TICK;

/// One run of the work.
type Run = Box<dyn FnMut() + Send>;

/// Work that one thread does at a time, after each signal and at each tick. Clones share it.
#[derive(Clone)]
pub struct Replaceable {
    name: &'static str,
    /// Begins the work of a new thread.
    begin: Arc<dyn Fn() -> Run + Send + Sync>,
    signals: Arc<Mutex<Receiver<()>>>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// The number of threads that were replaced. A thread with a smaller number ends after its run.
    generation: u64,
    /// The start of the present run.
    run_since: Option<Instant>,
}

impl Replaceable {
    pub fn new(
        name: &'static str,
        signals: Receiver<()>,
        begin: impl Fn() -> Run + Send + Sync + 'static,
    ) -> Self {
        Self {
            name,
            begin: Arc::new(begin),
            signals: Arc::new(Mutex::new(signals)),
            state: Arc::default(),
        }
    }

    /// Starts the thread.
    pub fn start(&self) -> std::io::Result<JoinHandle<()>> {
        let generation = self.state.lock().generation;
        let work = self.clone();
        let thread = thread::Builder::new().name(self.name.to_owned());
        thread.spawn(move || work.run(generation))
    }

    /// Starts another thread if the present run has lasted for at least `limit`.
    pub fn replace_after(&self, limit: Duration) -> std::io::Result<()> {
        {
            let mut state = self.state.lock();
            if (state.run_since).is_none_or(|time| time.elapsed() < limit) {
                return Ok(());
            }
            state.generation += 1;
            state.run_since = None;
        }
        log::warn!(
            "{} does not get on, and another thread takes over",
            self.name
        );
        self.start().map(drop)
    }

    fn run(&self, generation: u64) {
        let mut run = (self.begin)();
        while self.state.lock().generation == generation {
            let signal = self.signals.lock().recv_timeout(TICK);
            if signal == Err(RecvTimeoutError::Disconnected) {
                return;
            }
            self.state.lock().run_since = Some(Instant::now());
            run();
            let mut state = self.state.lock();
            if state.generation == generation {
                state.run_since = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn another_thread_takes_over_from_one_that_does_not_get_on() {
        let (sender, signals) = mpsc::sync_channel(1);
        let (entered, entries) = mpsc::channel();
        let (release, released) = mpsc::channel::<()>();
        let released = Arc::new(Mutex::new(released));
        let is_first = Arc::new(AtomicBool::new(true));
        let work = Replaceable::new("test", signals, move || {
            let is_stuck = is_first.swap(false, Ordering::Relaxed);
            let (entered, released) = (entered.clone(), Arc::clone(&released));
            Box::new(move || {
                entered.send(is_stuck).unwrap();
                if is_stuck {
                    released.lock().recv().unwrap();
                }
            })
        });
        let first = work.start().unwrap();
        assert!(entries.recv().unwrap());
        work.replace_after(Duration::from_secs(3_600)).unwrap();
        work.replace_after(Duration::ZERO).unwrap();
        assert!(!entries.recv().unwrap());
        release.send(()).unwrap();
        first.join().unwrap();
        drop(sender);
    }
}
