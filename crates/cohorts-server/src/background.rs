//! The threads that work in the background: some calculate, one does the upkeep.

mod replaceable;

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender, TryRecvError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use cohorts_store::Lane;

use crate::calculation::{Calculator, Leases, LivePasses, Turns};
use crate::upkeep::{HistoryLimits, Upkeep, WorkerWatch};
use replaceable::Replaceable;

/// The fewest and the most threads that calculate. With two, a long calculation does not stop all others.
const MIN_WORKERS: usize = 2;
const MAX_WORKERS: usize = 4;
/// The threads that make passes. With two, a long pass of a project does not stop those of all others.
const PASS_THREADS: usize = 2;
/// How often hints of other processes are read.
const LEASE_TICK: Duration = Duration::from_millis(25);
/// How often a thread asks whether it is to look for work, without a signal.
const TICK: Duration = Duration::from_secs(1);
/// A run of the upkeep that takes longer during an outage of a worker of Citus waits for that worker.
const STUCK: Duration = Duration::from_secs(30);

/// Wakes the workers, if there are any.
#[derive(Clone, Default)]
pub struct WorkerSignal(Vec<SyncSender<()>>);

impl WorkerSignal {
    /// Makes the workers look for waiting cohorts. Never blocks: a busy worker looks again when it is done.
    pub fn notify(&self) {
        for sender in &self.0 {
            // A full channel means that the worker has a signal already.
            let _ = sender.try_send(());
        }
    }
}

/// The background threads. They end when all [`WorkerSignal`]s are gone.
pub struct Workers {
    threads: Vec<JoinHandle<()>>,
    passes: Arc<LivePasses>,
}

impl Workers {
    pub fn start(
        calculator: &Calculator,
        limits: HistoryLimits,
    ) -> std::io::Result<(Self, WorkerSignal)> {
        let calculator = &Calculator {
            store: calculator.store.in_lane(Lane::Background),
            ..calculator.clone()
        };
        let (mut threads, mut senders) = (Vec::new(), Vec::new());
        let mut start = |name: &str, work: Box<dyn FnOnce(Receiver<()>) + Send>| {
            let (sender, signals) = mpsc::sync_channel(1);
            senders.push(sender);
            let thread = thread::Builder::new().name(name.to_owned());
            threads.push(thread.spawn(move || work(signals))?);
            std::io::Result::Ok(())
        };
        let count = thread::available_parallelism().map_or(1, usize::from);
        let count = count.clamp(MIN_WORKERS, MAX_WORKERS);
        let turns = Turns::new(count);
        for _ in 0..count {
            let (calculator, turns) = (calculator.clone(), turns.clone());
            start(
                "calculation",
                Box::new(move |signals| calculate(&calculator, &turns, &signals)),
            )?;
        }
        let (sender, signals) = mpsc::sync_channel(1);
        let upkeep = upkeep(calculator, limits, signals);
        threads.push(upkeep.start()?);
        senders.push(sender);
        let (sender, signals) = mpsc::sync_channel(1);
        threads.push(watch(calculator, upkeep, signals)?);
        senders.push(sender);
        let passes = Arc::new(LivePasses::new(&calculator.store, &calculator.metrics));
        passes.signal().open();
        for _ in 0..PASS_THREADS {
            let (passes, delay) = (Arc::clone(&passes), calculator.freshness);
            let delay = delay.to_std().unwrap_or_default();
            let thread = thread::Builder::new().name("passes".to_owned());
            threads.push(thread.spawn(move || passes.run(delay))?);
        }
        let (sender, signals) = mpsc::sync_channel(1);
        threads.push(keep_leases(&passes, signals)?);
        senders.push(sender);
        Ok((Self { threads, passes }, WorkerSignal(senders)))
    }

    /// Waits until the running calculations have ended. All signals must be gone, or about to go.
    pub fn join(self) {
        for thread in self.threads {
            if thread.join().is_err() {
                log::error!("a background thread had panicked");
            }
        }
        self.passes.release();
    }
}

/// Keeps the leases of live projects. When the service ends, the passes end too.
fn keep_leases(passes: &Arc<LivePasses>, signals: Receiver<()>) -> std::io::Result<JoinHandle<()>> {
    let (mut leases, writes) = (Leases::new(passes), passes.signal());
    let work = move || {
        while signals.recv_timeout(LEASE_TICK) != Err(RecvTimeoutError::Disconnected) {
            leases.tick();
        }
        writes.close();
    };
    let thread = thread::Builder::new().name("leases".to_owned());
    thread.spawn(work)
}

fn upkeep(calculator: &Calculator, limits: HistoryLimits, signals: Receiver<()>) -> Replaceable {
    let calculator = calculator.clone();
    Replaceable::new("upkeep", signals, move || {
        let mut upkeep = Upkeep::new(&calculator, limits);
        Box::new(move || upkeep.run())
    })
}

/// Watches the workers of Citus, and replaces the thread of the upkeep if it waits for one of them.
fn watch(
    calculator: &Calculator,
    upkeep: Replaceable,
    signals: Receiver<()>,
) -> std::io::Result<JoinHandle<()>> {
    let store = calculator.store.clone();
    let mut watch = WorkerWatch::new(&store, &calculator.metrics);
    let work = move || {
        while signals.recv_timeout(TICK) != Err(RecvTimeoutError::Disconnected) {
            watch.run();
            if store.outages.has_silent()
                && let Err(cause) = upkeep.replace_after(STUCK)
            {
                log::warn!("the upkeep waits for a worker: {cause}");
            }
        }
    };
    let thread = thread::Builder::new().name("worker-watch".to_owned());
    thread.spawn(work)
}

/// Calculates waiting cohorts after each signal, and when the next look of all threads together is due.
fn calculate(calculator: &Calculator, turns: &Turns, signals: &Receiver<()>) {
    let looks = &calculator.store.signals.looks;
    loop {
        match signals.recv_timeout(looks.calculations.pause(TICK)) {
            Ok(()) => {}
            Err(RecvTimeoutError::Timeout) if looks.calculations.take() => {}
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => return,
        }
        // The service stops between two calculations, not after all of them.
        while signals.try_recv() != Err(TryRecvError::Disconnected) {
            match calculator.run_next(turns) {
                Ok(true) => {
                    // Other threads may find more, and the upkeep counts the cohorts.
                    looks.calculations.now();
                    looks.upkeep.soon();
                }
                Ok(false) => break,
                Err(cause) => {
                    log::warn!("calculation failed, will retry: {cause}");
                    break;
                }
            }
        }
    }
}
