//! The threads on which large evaluations run in parallel.

use std::cell::Cell;

use rayon::ThreadPool;

thread_local! {
    static POOL: Cell<Option<&'static ThreadPool>> = const { Cell::new(None) };
}

/// Makes evaluations that the current thread begins use `pool` from now on, instead of the global pool. Blocks are still
/// built on the global pool, because other evaluations may wait for them.
pub fn use_pool(pool: &'static ThreadPool) {
    POOL.set(Some(pool));
}

/// Runs parallel work on the pool of the current thread.
pub fn run<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    match POOL.get() {
        Some(pool) => pool.install(work),
        None => work(),
    }
}
