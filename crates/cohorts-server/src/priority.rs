//! The priority of threads: questions about cohorts yield to writes and live cohorts.

use std::cell::Cell;
use std::sync::LazyLock;
use std::thread;

use rayon::{ThreadPool, ThreadPoolBuilder};

/// How much lower the priority of a question is than that of other work, as a Unix "nice" value. If both need a core, the
/// question gets about a tenth of it.
pub const NICENESS: i32 = 10;

/// The threads on which questions evaluate in parallel; `None` if they cannot be started.
static PARALLEL: LazyLock<Option<ThreadPool>> = LazyLock::new(|| {
    let pool = ThreadPoolBuilder::new().thread_name(|nth| format!("questions-{nth}"));
    let pool = pool.start_handler(|_| make_low());
    pool.build()
        .inspect_err(|cause| {
            log::warn!("questions evaluate with the priority of other work: {cause}")
        })
        .ok()
});

thread_local! {
    static IS_LOW: Cell<bool> = const { Cell::new(false) };
}

/// Lowers the priority of the current thread, and of its parallel evaluations, for good: a process without privileges
/// cannot raise it again.
///
/// On Linux, the nice value belongs to the thread. Elsewhere it belongs to the process, so it stays as it is.
pub fn lower() {
    // A thread inherits the priority of the thread that starts it, so the threads of both pools must start before. Other
    // work needs the global pool, and a pool with a low start would be twice as low.
    rayon::current_num_threads();
    if let Some(pool) = &*PARALLEL {
        cohorts_engine::parallel::use_pool(pool);
    }
    make_low();
}

fn make_low() {
    IS_LOW.set(true);
    if cfg!(target_os = "linux")
        && let Err(cause) = rustix::process::nice(NICENESS)
    {
        log::warn!("a question runs with the priority of other work: {cause}");
    }
}

/// Whether the current thread has a low priority, so that others should not wait for a lock that it holds.
pub fn is_low() -> bool {
    IS_LOW.get()
}

/// Starts a thread with the priority of other work, also from a thread with a low priority. If it cannot start, `work` is
/// dropped.
pub fn spawn_normal(name: &'static str, work: impl FnOnce() + Send + 'static) {
    let start = move || {
        if let Err(cause) = thread::Builder::new().name(name.to_owned()).spawn(work) {
            log::warn!("the thread \"{name}\" cannot start: {cause}");
        }
    };
    if is_low() {
        // The threads of the global pool have the priority that the new thread inherits.
        rayon::spawn(start);
    } else {
        start();
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::sync::mpsc;

    use rustix::process::getpriority_process;

    use super::*;

    fn niceness() -> i32 {
        getpriority_process(None).unwrap()
    }

    /// The result of `look` on a thread with a low priority.
    fn on_low_thread<T: Send>(look: impl FnOnce() -> T + Send) -> T {
        let low = || {
            lower();
            look()
        };
        thread::scope(|scope| scope.spawn(low).join().unwrap())
    }

    #[test]
    fn only_the_parallel_work_of_the_engine_has_the_low_priority() {
        let low = (niceness() + NICENESS).min(19);
        let (own, shared, of_engine) = on_low_thread(|| {
            let of_engine = cohorts_engine::parallel::run(niceness);
            (niceness(), rayon::broadcast(|_| niceness()), of_engine)
        });
        assert_eq!((own, of_engine), (low, low));
        assert!(
            shared.iter().all(|shared| *shared == niceness()),
            "{shared:?}"
        );
        assert_eq!(cohorts_engine::parallel::run(niceness), niceness());
    }

    #[test]
    fn a_thread_with_a_low_priority_can_start_one_without() {
        let (sender, receiver) = mpsc::channel();
        let spawn = |sender: mpsc::Sender<_>| {
            let look = move || sender.send((niceness(), is_low())).unwrap();
            spawn_normal("a test", look);
        };
        spawn(sender.clone());
        on_low_thread(|| spawn(sender));
        let looks: Vec<_> = receiver.iter().collect();
        assert_eq!(looks, [(niceness(), false), (niceness(), false)]);
    }
}
