//! The priority of threads: questions about cohorts yield to writes and live cohorts.

use std::cell::Cell;

/// How much lower the priority of a question is than that of other work, as a Unix "nice" value. If both need a core, the
/// question gets about a tenth of it.
pub const NICENESS: i32 = 10;

thread_local! {
    static IS_LOW: Cell<bool> = const { Cell::new(false) };
}

/// Lowers the priority of the current thread for good: a process without privileges cannot raise it again.
///
/// On Linux, the nice value belongs to the thread. Elsewhere it belongs to the process, so it stays as it is.
pub fn lower() {
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
